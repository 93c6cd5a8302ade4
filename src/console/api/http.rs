//! What the handlers have in common: bodies, parameters, pages, tags of versions.

use crate::console::problem::Problem;
use crate::console::routes::Shared;
use crate::store::ports::database::{Database, StoreError};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::{IntoParams, ToSchema};

/// How many a page has where nobody says.
const PAGE: usize = 100;
/// How many at most.
const LARGEST_PAGE: usize = 1000;

/// A JSON body; what is wrong with it is a problem that says where.
pub(super) struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            let detail = "The body must be JSON: content-type: application/json.";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|error| match error {
            BytesRejection::FailedToBufferBody(_) => {
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "The body cannot be read, or is larger than 64 KiB.")
            }
            _ => Problem::bad_request("The body cannot be read."),
        })?;
        let read = &mut serde_json::Deserializer::from_slice(&bytes);
        let body = T::deserialize(&mut *read).and_then(|body| read.end().map(|()| body));
        body.map(Self).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => Problem::invalid("body", error.to_string()),
            _ => Problem::bad_request(format!("The body is not JSON: {error}")),
        })
    }
}

/// Parameters of the query.
pub(super) struct Params<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = Query::<T>::from_request_parts(parts, state).await;
        read.map(|Query(query)| Self(query)).map_err(|error| Problem::bad_request(error.body_text()))
    }
}

/// The variable parts of the path.
pub(in crate::console) struct Segments<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Segments<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = Path::<T>::from_request_parts(parts, state).await;
        read.map(|Path(path)| Self(path)).map_err(|error| Problem::bad_request(error.body_text()))
    }
}

/// The database; a gateway that keeps nothing has none.
pub(super) fn database(shared: &Shared) -> Result<&Arc<dyn Database>, Problem> {
    let detail = "This gateway keeps nothing: it was started without a database.";
    shared.deps.database.as_ref().ok_or_else(|| Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail))
}

/// Has what was changed taken over before it is said to be changed.
pub(super) async fn in_force(shared: &Shared) {
    if !shared.deps.backstage.take_over().await {
        log::warn!("a change made in the console is in force a moment later: the database does not answer");
    }
}

/// Which part of a list is wanted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// Of this organisation alone, by its id.
    pub org: Option<String>,
    /// How many at most, 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub limit: Option<usize>,
    /// Behind the end of the page that had this as `next_cursor`.
    pub cursor: Option<String>,
}

/// A part of a list.
#[derive(Serialize, ToSchema)]
pub(super) struct Page<T> {
    /// The items.
    pub data: Vec<T>,
    /// What brings the next page as `cursor`; null at the end.
    pub next_cursor: Option<String>,
}

/// How many items a page may have.
pub(super) fn page_size(limit: Option<usize>) -> Result<usize, Problem> {
    match limit.unwrap_or(PAGE) {
        limit @ 1..=LARGEST_PAGE => Ok(limit),
        _ => Err(Problem::invalid("limit", "limit must be 1 to 1000.")),
    }
}

impl<T> Page<T> {
    /// The part that is wanted of all there are. They are told apart, and ordered, by a text.
    pub fn of(mut all: Vec<T>, by: impl Fn(&T) -> String, wanted: &ListParams) -> Result<Self, Problem> {
        let size = page_size(wanted.limit)?;
        all.sort_by_cached_key(&by);
        if let Some(after) = wanted.cursor.as_deref().map(cursor).transpose()? {
            all.retain(|item| by(item) > after);
        }
        let more = all.len() > size;
        all.truncate(size);
        let next_cursor = if more { all.last().map(|last| URL_SAFE_NO_PAD.encode(by(last))) } else { None };
        Ok(Self { data: all, next_cursor })
    }

    /// The same page of something else.
    pub fn map<U>(self, shown: impl FnMut(T) -> U) -> Page<U> {
        Page { data: self.data.into_iter().map(shown).collect(), next_cursor: self.next_cursor }
    }
}

fn cursor(text: &str) -> Result<String, Problem> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    text.ok_or_else(|| Problem::invalid("cursor", "This is no next_cursor of a page."))
}

/// The tag of what is shown as this.
pub(super) fn tag(shown: &impl Serialize) -> String {
    let json = serde_json::to_vec(shown).unwrap_or_default();
    format!("\"{}\"", hex::encode(&Sha256::digest(json)[..12]))
}

/// An answer with the tag of its version.
pub(super) fn tagged(status: StatusCode, shown: impl Serialize) -> Response {
    let tag = HeaderValue::from_str(&tag(&shown)).ok();
    let mut answer = (status, Json(shown)).into_response();
    if let Some(tag) = tag {
        answer.headers_mut().insert(header::ETAG, tag);
    }
    answer
}

/// `if-match`: a change is wanted of this version alone; `if-none-match: *`: of nothing, it is to be new.
pub(super) struct IfMatch {
    wanted: Option<String>,
    is_new: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let header = parts.headers.get(header::IF_MATCH);
        let text = header.map(|value| value.to_str().map(str::to_owned)).transpose();
        let wanted = text.map_err(|_| Problem::bad_request("if-match cannot be read."))?;
        let is_new = parts.headers.get(header::IF_NONE_MATCH).is_some_and(|value| value == "*");
        Ok(Self { wanted, is_new })
    }
}

impl IfMatch {
    /// Refuses a change of something that is shown as this now.
    pub fn check(&self, shown: &impl Serialize) -> Result<(), Problem> {
        if self.is_new {
            let detail = "There is one of that name already.";
            return Err(Problem::new(StatusCode::PRECONDITION_FAILED, detail).about("name"));
        }
        let Some(wanted) = &self.wanted else { return Ok(()) };
        let tag = tag(shown);
        let matches = wanted.split(',').map(str::trim).any(|wanted| wanted == "*" || wanted == tag);
        if matches { Ok(()) } else { Err(changed()) }
    }

    /// Refuses a change of something that is not there, where a version of it was meant.
    pub fn check_nothing(&self) -> Result<(), Problem> {
        if self.wanted.is_some() { Err(changed()) } else { Ok(()) }
    }
}

/// 412: somebody else has changed it.
pub(super) fn changed() -> Problem {
    Problem::new(StatusCode::PRECONDITION_FAILED, "It has changed since you saw it: read it again.")
}

/// What a conflict is about, for people.
pub(super) fn taken(at: &'static str, what: &str) -> impl Fn(StoreError) -> Problem {
    let detail = format!("There is {what} of that name already.");
    move |error| match error {
        StoreError::Conflict(_) => Problem::new(StatusCode::CONFLICT, detail.clone()).about(at),
        error => error.into(),
    }
}

/// A time (Unix milliseconds) as RFC 3339, in UTC.
pub(super) fn time_text(millis: u64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000);
    time.ok().and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| "9999-12-31T23:59:59Z".to_owned())
}

/// A time in RFC 3339 as Unix milliseconds, if it is still to come.
pub(super) fn time_ahead(at: &'static str, text: &str, now: u64) -> Result<u64, Problem> {
    let time = OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| Problem::invalid(at, format!("{at} must be a time such as 2027-01-31T12:00:00Z.")))?;
    let millis = u64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
    if millis > now { Ok(millis) } else { Err(Problem::invalid(at, format!("{at} has passed."))) }
}

/// A name that people can tell from others at a glance.
pub(super) fn checked_name(at: &'static str, name: &str) -> Result<String, Problem> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > 100 || name.chars().any(char::is_control) {
        return Err(Problem::invalid(
            at,
            format!("{at} must have 1 to 100 characters, none of them a control character."),
        ));
    }
    Ok(name.to_owned())
}

/// A text that may be left out, of so many characters at most.
pub(super) fn checked_text(at: &'static str, text: Option<String>) -> Result<Option<String>, Problem> {
    match text {
        Some(text) if text.chars().count() > 500 || text.chars().any(char::is_control) => Err(Problem::invalid(
            at,
            format!("{at} must have at most 500 characters, none of them a control character."),
        )),
        text => Ok(text.filter(|text| !text.trim().is_empty())),
    }
}

/// Tells a member that is null from one that is not there.
pub(super) fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(limit: usize, cursor: Option<String>) -> ListParams {
        ListParams { org: None, limit: Some(limit), cursor }
    }

    #[test]
    fn pages_join_to_the_whole_also_when_an_item_goes() {
        let all = vec!["d", "b", "a", "c"];
        let by = |item: &&str| (*item).to_owned();
        let first = Page::of(all, by, &wanted(2, None)).unwrap();
        assert_eq!(first.data, ["a", "b"]);
        let second = Page::of(vec!["a", "c", "d"], by, &wanted(2, first.next_cursor)).unwrap();
        assert_eq!((second.data, second.next_cursor), (vec!["c", "d"], None));
        assert!(Page::of(vec!["a"], by, &wanted(1, Some("!".to_owned()))).is_err());
        assert!(Page::of(vec!["a"], by, &wanted(0, None)).is_err());
    }

    #[test]
    fn a_change_is_made_to_the_version_that_was_seen() {
        let seen = tag(&"one");
        let of = |header: &str| IfMatch { wanted: Some(header.to_owned()), is_new: false };
        let check = |header: &str, now: &str| of(header).check(&now).is_ok();
        assert!(check(&seen, "one") && check("*", "two") && check(&format!("\"x\", {seen}"), "one"));
        let (any, new) = (IfMatch { wanted: None, is_new: false }, IfMatch { wanted: None, is_new: true });
        assert!(!check(&seen, "two") && any.check(&"two").is_ok() && any.check_nothing().is_ok());
        assert!(new.check(&"two").is_err() && new.check_nothing().is_ok() && of("*").check_nothing().is_err());
    }

    #[test]
    fn times_are_written_and_read_alike() {
        assert_eq!(time_text(1_500), "1970-01-01T00:00:01.5Z");
        assert_eq!(time_ahead("x", "1970-01-01T00:00:01.5Z", 1_000).ok(), Some(1_500));
        assert!(time_ahead("x", "1970-01-01T00:00:01Z", 1_000).is_err() && time_ahead("x", "soon", 0).is_err());
    }
}
