//! Errors of the console's API as problem details (RFC 9457).

use crate::store::ports::database::StoreError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::borrow::Cow;
use std::time::Duration;

/// What went wrong, for people and programs. The title is the status's own.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: Cow<'static, str>,
    /// The member of the request that is wrong, as a JSON pointer (`/limits/requests_per_minute`) or the name of a parameter.
    at: Option<Cow<'static, str>>,
    headers: Vec<(header::HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem with this status.
    pub fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, detail: detail.into(), at: None, headers: Vec::new() }
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 422: a member of the request is understood, and is not possible.
    pub fn invalid(at: impl Into<Cow<'static, str>>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { at: Some(at.into()), ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
    }

    /// 404: there is nothing of the kind in the viewer's sight.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("There is no such {what}."))
    }

    /// That names the member which it is about.
    pub fn about(self, at: impl Into<Cow<'static, str>>) -> Self {
        Self { at: Some(at.into()), ..self }
    }

    /// With one more header.
    pub fn header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// With the time after which to come back, in whole seconds rounded up.
    pub fn retry_after(self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.header(header::RETRY_AFTER, seconds.max(1).into())
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The member of the request that it is about, where it is about one.
    pub fn at(&self) -> Option<&str> {
        self.at.as_deref()
    }

    /// What it says to people.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let status = match error {
            StoreError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            StoreError::Conflict(_) => StatusCode::CONFLICT,
            StoreError::Refused(_) | StoreError::Rejected(_) => StatusCode::UNPROCESSABLE_ENTITY,
            StoreError::Damaged(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        // Where it is and why is the operator's to know, and stands in the log.
        if status.is_server_error() || matches!(error, StoreError::Rejected(_)) {
            log::warn!("the console's database: {error}");
        }
        Self::new(status, error.told_to_members().to_owned()).retry_after_if(status)
    }
}

impl Problem {
    fn retry_after_if(self, status: StatusCode) -> Self {
        if status == StatusCode::SERVICE_UNAVAILABLE { self.retry_after(Duration::from_secs(2)) } else { self }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = serde_json::json!({
            "type": "about:blank",
            "title": self.status.canonical_reason(),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let Some(at) = self.at {
            body["at"] = at.into();
        }
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut answer = (self.status, kind, body.to_string()).into_response();
        answer.headers_mut().extend(self.headers.into_iter().map(|(name, value)| (Some(name), value)));
        answer
    }
}
