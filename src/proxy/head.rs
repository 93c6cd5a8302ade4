//! The head of an answer in the making. It becomes Pingora's when it is sent: that one looks at each name anew.

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use pingora::http::ResponseHeader;

/// The names of the headers that the gateway gives an answer of its own accord.
pub(super) mod name {
    use http::header::HeaderName;

    pub(in crate::proxy) static AGE: HeaderName = http::header::AGE;
    pub(in crate::proxy) static ATTEMPTS: HeaderName = HeaderName::from_static("x-orbyt-attempts");
    pub(in crate::proxy) static CACHE: HeaderName = HeaderName::from_static("x-cache");
    pub(in crate::proxy) static CACHE_SIMILARITY: HeaderName = HeaderName::from_static("x-cache-similarity");
    pub(in crate::proxy) static CACHE_TTL: HeaderName = HeaderName::from_static("x-cache-ttl");
    pub(in crate::proxy) static DROPPED: HeaderName = HeaderName::from_static("x-orbyt-dropped");
    pub(in crate::proxy) static FALLBACK: HeaderName = HeaderName::from_static("x-orbyt-fallback");
    pub(in crate::proxy) static LIMIT_REQUESTS: HeaderName = HeaderName::from_static("x-ratelimit-limit-requests");
    pub(in crate::proxy) static LIMIT_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-limit-tokens");
    pub(in crate::proxy) static MODEL: HeaderName = HeaderName::from_static("x-model");
    pub(in crate::proxy) static PROVIDER: HeaderName = HeaderName::from_static("x-provider");
    pub(in crate::proxy) static REMAINING_REQUESTS: HeaderName =
        HeaderName::from_static("x-ratelimit-remaining-requests");
    pub(in crate::proxy) static REMAINING_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-remaining-tokens");
    /// Anthropic's name for it.
    pub(in crate::proxy) static REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
    pub(in crate::proxy) static RESET_REQUESTS: HeaderName = HeaderName::from_static("x-ratelimit-reset-requests");
    pub(in crate::proxy) static RESET_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-reset-tokens");
    pub(in crate::proxy) static SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
    pub(in crate::proxy) static TOKEN_COUNT: HeaderName = HeaderName::from_static("x-orbyt-token-count");
    pub(in crate::proxy) static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
}

/// Most answers have no more headers than this.
const USUAL: usize = 24;

/// A status and headers.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    headers: HeaderMap,
}

impl Head {
    /// One without headers; what is no status becomes a 500.
    pub(super) fn new(status: u16) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, headers: HeaderMap::with_capacity(USUAL) }
    }

    /// Puts a header; a value that HTTP cannot carry is left out, with what cannot be shown replaced.
    pub(super) fn put(&mut self, name: &HeaderName, value: &str) {
        let value = HeaderValue::from_str(value).or_else(|_| {
            let shown: String = value.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect();
            HeaderValue::from_str(&shown)
        });
        if let Ok(value) = value {
            self.put_value(name, value);
        }
    }

    /// Puts a header whose value is known to be one.
    pub(super) fn put_value(&mut self, name: &HeaderName, value: HeaderValue) {
        self.headers.insert(name, value);
    }

    /// Puts a header with a number.
    pub(super) fn put_number(&mut self, name: &HeaderName, value: u64) {
        // Shorter than `HeaderValue::from`, which allocates more than it needs.
        self.put(name, itoa::Buffer::new().format(value));
    }

    /// Puts a header that is always the same.
    pub(super) fn put_static(&mut self, name: &HeaderName, value: &'static str) {
        self.put_value(name, HeaderValue::from_static(value));
    }

    /// All of them.
    pub(super) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Takes a header away.
    pub(super) fn remove(&mut self, name: &HeaderName) {
        self.headers.remove(name);
    }
}

impl From<Head> for Box<ResponseHeader> {
    fn from(head: Head) -> Self {
        let (mut parts, ()) = http::Response::new(()).into_parts();
        (parts.status, parts.headers) = (head.status, head.headers);
        Box::new(ResponseHeader::from(parts))
    }
}
