//! Which requests are asked for: the parameters that pages and the API have in common.

use super::problem::Problem;
use crate::domain::RequestId;
use crate::store::ports::ledger::{Cursor, Filter};
use crate::store::ports::reports::SessionCursor;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::IntoParams;

/// The parameters, as they stand in an address. Empty ones do not matter.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// `1h`, `24h`, `7d` or `30d` back from now.
    pub range: Option<String>,
    /// From when on: Unix milliseconds, or a time as in RFC 3339.
    pub from: Option<String>,
    /// Until when.
    pub until: Option<String>,
    /// The model that served or was asked for.
    pub model: Option<String>,
    /// The provider.
    pub provider: Option<String>,
    /// The key's id or name.
    pub key: Option<String>,
    /// The project's id.
    pub project: Option<String>,
    /// The end user.
    pub user: Option<String>,
    /// The session.
    pub session: Option<String>,
    /// The trace.
    pub trace: Option<String>,
    /// `200`, `4xx`, `ok` or `failed`.
    pub status: Option<String>,
    /// A part of a name or an id.
    pub q: Option<String>,
    /// Where the list goes on: the `next_cursor` of the page before.
    #[serde(alias = "cursor")]
    #[param(rename = "cursor")]
    pub before: Option<String>,
    /// The organisation.
    pub org: Option<String>,
    /// What usage is told apart by.
    pub by: Option<String>,
    /// So many at most.
    pub limit: Option<u32>,
}

/// The longest text that is looked for.
const LONGEST: usize = 200;

/// The parameter, unless it is empty.
pub(super) fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().map(str::trim).filter(|text| !text.is_empty())
}

impl Asked {
    /// The filter, at a time in Unix milliseconds; `usual` is the range where none is named.
    ///
    /// # Errors
    /// 422 with the name of the parameter that cannot be understood.
    pub fn filter(&self, now: u64, usual: Option<&str>) -> Result<Filter, Problem> {
        let owned = |text: &Option<String>| given(text).map(str::to_owned);
        let is_dated = given(&self.from).is_some() || given(&self.until).is_some();
        let range = given(&self.range).or(usual.filter(|_| !is_dated));
        let back = match range {
            None | Some("all") => None,
            Some("1h") => Some(1),
            Some("24h") => Some(24),
            Some("7d") => Some(7 * 24),
            Some("30d") => Some(30 * 24),
            Some(_) => return Err(Problem::invalid("range", "This is one of 1h, 24h, 7d, 30d and all.")),
        };
        let time = |name: &'static str, text: &Option<String>| match given(text) {
            None => Ok(None),
            Some(text) => moment(text).map(Some).ok_or_else(|| {
                Problem::invalid(name, "This is a time: Unix milliseconds, or as in 2026-01-31T12:00:00Z.")
            }),
        };
        let (status, failed) = match given(&self.status) {
            None => (None, None),
            Some("failed") => (None, Some(true)),
            Some("ok") => (None, Some(false)),
            Some(text) => (
                Some(statuses(text).ok_or_else(|| {
                    Problem::invalid("status", "This is a status such as 429, a class such as 5xx, ok, or failed.")
                })?),
                None,
            ),
        };
        if given(&self.q).is_some_and(|text| text.len() > LONGEST) {
            return Err(Problem::invalid("q", "This is too long to be looked for."));
        }
        let from = time("from", &self.from)?;
        Ok(Filter {
            from_unix_ms: from.or(back.map(|hours: u64| now.saturating_sub(hours * 3_600_000))),
            until_unix_ms: time("until", &self.until)?,
            project: owned(&self.project),
            key: owned(&self.key),
            user: owned(&self.user),
            model: owned(&self.model),
            provider: owned(&self.provider),
            trace_id: owned(&self.trace),
            session_id: owned(&self.session),
            ended: None,
            status,
            failed,
            text: owned(&self.q),
        })
    }

    /// Where the list goes on.
    ///
    /// # Errors
    /// 422 when that is no place in a list.
    pub fn cursor(&self) -> Result<Option<Cursor>, Problem> {
        let Some(text) = given(&self.before) else { return Ok(None) };
        let read = || {
            let (time, id) = text.split_once('-')?;
            Some(Cursor { arrived_unix_ms: time.parse().ok()?, id: RequestId::parse(id)? })
        };
        read()
            .map(Some)
            .ok_or_else(|| Problem::invalid("before", "This is no place in a list: take it from next_cursor."))
    }

    /// Where the list of sessions goes on.
    ///
    /// # Errors
    /// 422 when that is no place in a list.
    pub fn session_cursor(&self) -> Result<Option<SessionCursor>, Problem> {
        let Some(text) = given(&self.before) else { return Ok(None) };
        let read = || {
            let (time, id) = text.split_once('-')?;
            Some(SessionCursor { last_unix_ms: time.parse().ok()?, id: id.to_owned() })
        };
        read()
            .map(Some)
            .ok_or_else(|| Problem::invalid("before", "This is no place in a list: take it from next_cursor."))
    }

    /// The parameters as they stand in an address, with some changed; without the place in the list unless it is among those.
    pub fn address(&self, path: &str, changes: &[(&str, &str)]) -> String {
        let own = [
            ("range", &self.range),
            ("from", &self.from),
            ("until", &self.until),
            ("model", &self.model),
            ("provider", &self.provider),
            ("key", &self.key),
            ("project", &self.project),
            ("user", &self.user),
            ("session", &self.session),
            ("trace", &self.trace),
            ("status", &self.status),
            ("q", &self.q),
            ("by", &self.by),
            ("org", &self.org),
        ];
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in own {
            if let Some(value) = given(value)
                && !changes.iter().any(|(changed, _)| *changed == name)
            {
                query.append_pair(name, value);
            }
        }
        for (name, value) in changes.iter().filter(|(_, value)| !value.is_empty()) {
            query.append_pair(name, value);
        }
        match query.finish() {
            query if query.is_empty() => path.to_owned(),
            query => format!("{path}?{query}"),
        }
    }
}

/// A place in the list of requests, as it stands in an address.
pub(super) fn place(cursor: &Cursor) -> String {
    format!("{}-{}", cursor.arrived_unix_ms, cursor.id)
}

/// A place in the list of sessions.
pub(super) fn session_place(last_unix_ms: u64, id: &str) -> String {
    format!("{last_unix_ms}-{id}")
}

fn moment(text: &str) -> Option<u64> {
    if let Ok(millis) = text.parse() {
        return Some(millis);
    }
    // A date alone is its first moment, in UTC; so is a time without a zone, as forms give it.
    let whole = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        16 => format!("{text}:00Z"),
        _ => text.to_owned(),
    };
    let moment = OffsetDateTime::parse(&whole, &Rfc3339).ok()?;
    u64::try_from(moment.unix_timestamp_nanos() / 1_000_000).ok()
}

fn statuses(text: &str) -> Option<(u16, u16)> {
    if let Some(class) = text.strip_suffix("xx") {
        let class: u16 = class.parse().ok().filter(|class| (1..=5).contains(class))?;
        return Some((class * 100, class * 100 + 99));
    }
    text.parse().ok().map(|status| (status, status))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn a_filter_is_what_the_address_says() {
        let asked = Asked { status: some("5xx"), q: some(" a "), model: some(""), ..Asked::default() };
        let filter = asked.filter(10 * 3_600_000, Some("1h")).unwrap();
        assert_eq!((filter.status, filter.text.as_deref(), filter.model), (Some((500, 599)), Some("a"), None));
        assert_eq!(filter.from_unix_ms, Some(9 * 3_600_000));
        let dated = Asked { from: some("2001-09-09T01:46:40Z"), until: some("2001-09-10"), ..Asked::default() };
        let filter = dated.filter(0, Some("1h")).unwrap();
        assert_eq!((filter.from_unix_ms, filter.until_unix_ms), (Some(1_000_000_000_000), Some(1_000_080_000_000)));
        for (wrong, name) in [
            (Asked { range: some("2h"), ..Asked::default() }, "range"),
            (Asked { from: some("yesterday"), ..Asked::default() }, "from"),
            (Asked { status: some("9xx"), ..Asked::default() }, "status"),
            (Asked { q: some(&"x".repeat(201)), ..Asked::default() }, "q"),
        ] {
            assert!(wrong.filter(0, None).is_err(), "{name}");
        }
        assert!(Asked { before: some("x"), ..Asked::default() }.cursor().is_err());
    }

    #[test]
    fn addresses_keep_the_rest_and_forget_the_place() {
        let asked = Asked { model: some("a b&c"), before: some("1-x"), range: some("7d"), ..Asked::default() };
        assert_eq!(asked.address("/x", &[("range", "1h")]), "/x?model=a+b%26c&range=1h");
        assert_eq!(asked.address("/x", &[("model", ""), ("range", "")]), "/x");
    }

    #[test]
    fn a_place_comes_back_as_it_was() {
        let cursor = Cursor { arrived_unix_ms: 7, id: RequestId::of(1, 2) };
        let asked = Asked { before: Some(place(&cursor)), ..Asked::default() };
        assert_eq!(asked.cursor().unwrap(), Some(cursor));
        let asked = Asked { before: Some(session_place(7, "a-b")), ..Asked::default() };
        assert_eq!(asked.session_cursor().unwrap(), Some(SessionCursor { last_unix_ms: 7, id: "a-b".to_owned() }));
    }
}
