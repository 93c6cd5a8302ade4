//! The administrator's API below `/api/v1`: JSON in and out, problem details when it goes wrong.
//!
//! A handler says to its [`Viewer`](super::viewer::Viewer) what it is about to do, and gets on whose behalf it may ask the database. What it
//! changes is written down in the audit log first, and in force on this node when it answers.

mod audit;
mod budgets;
pub(super) mod config;
mod gateway;
mod generation;
mod http;
mod keys;
mod members;
mod openapi;
mod orgs;
mod provider_keys;
mod reports;
mod session;
mod settings;

pub(super) use http::Segments;
pub(super) use keys::PURPOSE;

use super::routes::Shared;
use axum::Router;
use axum::routing::{delete, get, patch, post};
use settings::{models, presets};
use std::sync::Arc;

/// Says of a request that a page of the console makes it, in this process. Nobody can say so from outside.
#[derive(Clone, Copy, Debug)]
pub(super) struct FromPage;

/// The routes that anybody may ask.
pub(super) fn open() -> Router<Arc<Shared>> {
    Router::new()
        .route("/api/v1/session", post(session::begin))
        .route("/api/openapi.json", get(openapi::json))
        .route("/api/docs", get(openapi::page))
}

/// The routes behind [`require_viewer`](super::auth::require_viewer).
pub(super) fn guarded() -> Router<Arc<Shared>> {
    Router::new()
        .route("/api/v1/session", get(session::show).delete(session::end))
        .route("/api/v1/requests", get(reports::requests))
        .route("/api/v1/requests/{id}", get(reports::request))
        .route("/api/v1/usage", get(reports::usage))
        .route("/api/v1/sessions", get(reports::sessions))
        .route("/api/v1/session/password", post(members::change_password))
        .route("/api/v1/keys", get(keys::list).post(keys::create))
        .route("/api/v1/keys/{id}", get(keys::show).patch(keys::change).delete(keys::remove))
        .route("/api/v1/keys/{id}/rotate", post(keys::rotate))
        .route("/api/v1/keys/{id}/revoke", post(keys::revoke))
        .route("/api/v1/orgs", get(orgs::list).post(orgs::create))
        .route("/api/v1/orgs/{org}", get(orgs::show).patch(orgs::rename))
        .route("/api/v1/orgs/{org}/members", get(members::list).post(members::add))
        .route(
            "/api/v1/orgs/{org}/members/{id}",
            get(members::show).merge(patch(members::change)).delete(members::remove),
        )
        .route("/api/v1/orgs/{org}/members/{id}/password", post(members::reset_password))
        .route("/api/v1/projects", get(orgs::list_projects).post(orgs::create_project))
        .route("/api/v1/projects/{id}", get(orgs::show_project).patch(orgs::rename_project))
        .route("/api/v1/provider-keys", get(provider_keys::list).post(provider_keys::add))
        .route("/api/v1/provider-keys/{id}", delete(provider_keys::remove))
        .route("/api/v1/models", get(models::list))
        .route("/api/v1/models/{name}", get(models::show).put(models::set).delete(models::remove))
        .route("/api/v1/presets", get(presets::list))
        .route("/api/v1/presets/{name}", get(presets::show).put(presets::set).delete(presets::remove))
        .route("/api/v1/routing", get(settings::sections))
        .route(
            "/api/v1/routing/{section}",
            get(settings::section).put(settings::set_section).delete(settings::remove_section),
        )
        .route("/api/v1/budgets", get(budgets::list).post(budgets::set))
        .route("/api/v1/budgets/{id}", delete(budgets::remove))
        .route("/api/v1/credits", get(budgets::credits).post(budgets::add_credit))
        .route("/api/v1/generation", get(generation::show))
        .route("/api/v1/health", get(gateway::health))
        .route("/api/v1/accounts", get(gateway::accounts))
        .route("/api/v1/pool", get(gateway::pool))
        .route("/api/v1/pool/{provider}/{name}/enable", post(gateway::enable))
        .route("/api/v1/breakers", get(gateway::breakers))
        .route("/api/v1/cache", get(gateway::cache).delete(gateway::empty_cache))
        .route("/api/v1/config", get(config::show))
        .route("/api/v1/audit", get(audit::list))
        .route("/api/v1/audit/verify", get(audit::verify))
}
