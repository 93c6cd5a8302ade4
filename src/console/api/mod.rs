//! The administrator's API below `/api/v1`: JSON in and out, problem details when it goes wrong.

mod reports;
mod session;

use super::routes::Shared;
use axum::Router;
use axum::routing::{get, post};
use std::sync::Arc;

/// The routes that anybody may ask.
pub(super) fn open() -> Router<Arc<Shared>> {
    Router::new().route("/api/v1/session", post(session::begin))
}

/// The routes behind [`require_viewer`](super::auth::require_viewer).
pub(super) fn guarded() -> Router<Arc<Shared>> {
    Router::new()
        .route("/api/v1/session", get(session::show).delete(session::end))
        .route("/api/v1/requests", get(reports::requests))
        .route("/api/v1/requests/{id}", get(reports::request))
        .route("/api/v1/usage", get(reports::usage))
        .route("/api/v1/sessions", get(reports::sessions))
}
