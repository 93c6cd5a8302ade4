//! Who is asking: the gateway key of a request.

use super::accept::percent_decode;
use super::error::{ApiError, Reason};
use crate::config::keys::{Holder, NoEntry};
use crate::config::snapshot::Snapshot;
use crate::domain::tenancy::Standing;
use http::HeaderMap;
use std::borrow::Cow;

/// Finds the holder of the key in `authorization: Bearer …`, `x-api-key` or `x-goog-api-key`, or in a query's `key`. `now` is Unix
/// milliseconds.
///
/// # Errors
/// 401 that says what is missing.
pub(super) fn authenticate(
    snapshot: &Snapshot,
    headers: &HeaderMap,
    query: Option<&str>,
    now: u64,
) -> Result<Holder, ApiError> {
    let presented = presented_key(headers).map(Cow::Borrowed);
    let Some(presented) = presented.or_else(|| query.and_then(key_of_query)) else {
        return Err(ApiError::new(
            Reason::InvalidApiKey,
            "You did not send a gateway key: send it as `Authorization: Bearer KEY` or `x-api-key: KEY`",
        ));
    };
    snapshot.keys.find(&presented, now).map_err(|reason| match reason {
        NoEntry::Unknown => ApiError::new(
            Reason::InvalidApiKey,
            "The gateway key is not known: check it, or ask the gateway's operator",
        ),
        NoEntry::Void { name, standing } => {
            let why = match standing {
                Standing::Expired => "has expired",
                Standing::Disabled => "is disabled",
                _ => "was revoked",
            };
            ApiError::new(Reason::InvalidApiKey, format!("The gateway key {name:?} {why}: ask the gateway's operator"))
        }
    })
}

fn presented_key(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
    });
    let named = |name| headers.get(name).and_then(|value| value.to_str().ok()).filter(|key| !key.is_empty());
    bearer.filter(|key| !key.is_empty()).or_else(|| named("x-api-key")).or_else(|| named("x-goog-api-key"))
}

/// The key in a query, escapes resolved.
fn key_of_query(query: &str) -> Option<Cow<'_, str>> {
    let key = query.split('&').find_map(|pair| pair.strip_prefix("key=")).filter(|key| !key.is_empty())?;
    Some(percent_decode(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in list {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn a_key_in_a_query_may_be_escaped() {
        assert_eq!(key_of_query("alt=sse&key=a%2Bb").as_deref(), Some("a+b"));
        assert_eq!(key_of_query("key=&alt=sse"), None);
        assert_eq!(key_of_query("monkey=a"), None);
    }

    #[test]
    fn reads_the_headers_and_prefers_the_bearer() {
        assert_eq!(presented_key(&headers(&[("authorization", "Bearer a")])), Some("a"));
        assert_eq!(presented_key(&headers(&[("authorization", "bearer  a ")])), Some("a"));
        assert_eq!(presented_key(&headers(&[("x-api-key", "b")])), Some("b"));
        assert_eq!(presented_key(&headers(&[("authorization", "Bearer a"), ("x-api-key", "b")])), Some("a"));
        assert_eq!(presented_key(&headers(&[("x-goog-api-key", "c"), ("x-api-key", "")])), Some("c"));
        for nothing in [headers(&[]), headers(&[("authorization", "Basic a")]), headers(&[("x-api-key", "")])] {
            assert_eq!(presented_key(&nothing), None);
        }
    }
}
