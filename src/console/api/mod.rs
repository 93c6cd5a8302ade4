//! The administrator's API below `/api/v1`: JSON in and out, problem details when it goes wrong.

mod session;

use super::routes::Shared;
use axum::Router;
use axum::routing::post;
use std::sync::Arc;

/// The routes that anybody may ask.
pub(super) fn open() -> Router<Arc<Shared>> {
    Router::new().route("/api/v1/session", post(session::begin))
}

/// The routes behind [`require_viewer`](super::auth::require_viewer).
pub(super) fn guarded() -> Router<Arc<Shared>> {
    Router::new().route("/api/v1/session", axum::routing::get(session::show).delete(session::end))
}
