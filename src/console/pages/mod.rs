//! The dashboard and DevTools: pages made on the server, with one stylesheet and one small script.
//!
//! ```text
//! request ──> auth.rs: who? ──> visit.rs: of which organisation? ──> a page's file ──> layout.rs
//!              else /login                                          asks the ports     HTML
//! ```
//!
//! maud escapes whatever is put into a page; nothing here is ever marked as safe but charts, which are made of numbers.

mod assets;
mod chart;
mod format;
mod layout;
mod login;
mod overview;
mod stream;
mod visit;

use super::routes::Shared;
use axum::Router;
use axum::routing::{get, post};
use std::sync::Arc;

/// What anybody may ask for.
pub(super) fn open() -> Router<Arc<Shared>> {
    Router::new()
        .route("/assets/style.css", get(assets::style))
        .route("/assets/console.js", get(assets::script))
        .route("/assets/icon.svg", get(assets::icon))
        .route("/login", get(login::page).post(login::log_in))
}

/// The pages behind [`require_viewer_of_page`](super::auth::require_viewer_of_page).
pub(super) fn guarded() -> Router<Arc<Shared>> {
    Router::new()
        .route("/logout", post(login::log_out))
        .route("/overview", get(overview::page))
        .route("/overview/feed", get(stream::feed))
}
