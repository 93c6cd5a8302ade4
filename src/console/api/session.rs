//! `/api/v1/session`: logging in, who is logged in, logging out.

use super::http::Body;
use crate::console::auth::Origin;
use crate::console::problem::Problem;
use crate::console::routes::Shared;
use crate::console::session::{Begun, Credentials, log_in, log_out};
use crate::console::viewer::Viewer;
use crate::domain::Secret;
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// What somebody logs in with: address and password, or the administrator's token.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LogIn {
    email: Option<String>,
    password: Option<String>,
    admin_token: Option<String>,
}

/// A session that has begun.
#[derive(Serialize, ToSchema)]
pub(super) struct LogInAnswer {
    /// To be sent as `x-csrf-token` with each request that changes something.
    csrf_token: String,
}

/// Who is looking.
#[derive(Serialize, ToSchema)]
pub(super) struct Session {
    /// Whether it is the administrator, who may do everything.
    administrator: bool,
    /// The person's id.
    id: Option<String>,
    /// Their address.
    email: Option<String>,
    /// Their name.
    name: Option<String>,
    /// Where they are a member.
    memberships: Vec<SessionMembership>,
    /// To be sent as `x-csrf-token`; null without a session.
    csrf_token: Option<String>,
}

/// What they are in an organisation.
#[derive(Serialize, ToSchema)]
pub(super) struct SessionMembership {
    /// The organisation's id.
    org: String,
    /// `owner`, `admin`, `member` or `viewer`.
    role: &'static str,
}

/// Log in, with address and password or with the administrator's token.
#[utoipa::path(post, path = "/api/v1/session", tag = "session", request_body = LogIn, responses((status = 201, body = LogInAnswer)))]
pub(super) async fn begin(
    State(shared): State<Arc<Shared>>,
    from: Origin,
    Body(with): Body<LogIn>,
) -> Result<Response, Problem> {
    let credentials = match with {
        LogIn { email: Some(email), password: Some(password), admin_token: None } => {
            Credentials::Password { email, password }
        }
        LogIn { email: None, password: None, admin_token: Some(token) } => Credentials::AdminToken(Secret::new(token)),
        _ => return Err(Problem::invalid("", "Give email and password, or admin_token.")),
    };
    let Begun { cookie, csrf } = log_in(&shared, &from, credentials).await?;
    let answer = Json(LogInAnswer { csrf_token: csrf });
    Ok((StatusCode::CREATED, [(header::SET_COOKIE, cookie)], answer).into_response())
}

/// Who is logged in, and what they may do where.
#[utoipa::path(get, path = "/api/v1/session", tag = "session", responses((status = 200, body = Session)))]
pub(super) async fn show(viewer: Viewer) -> Json<Session> {
    let person = viewer.as_person();
    let membership =
        |it: &crate::domain::tenancy::Membership| SessionMembership { org: it.org.to_string(), role: it.role.name() };
    Json(Session {
        administrator: viewer.is_administrator(),
        id: person.map(|person| person.id.to_string()),
        email: person.map(|person| person.email.clone()),
        name: person.map(|person| person.name.clone()),
        memberships: viewer.memberships().iter().map(membership).collect(),
        csrf_token: viewer.session.as_ref().map(|session| session.csrf.to_string()),
    })
}

/// Log out.
#[utoipa::path(delete, path = "/api/v1/session", tag = "session", responses((status = 204)))]
pub(super) async fn end(State(shared): State<Arc<Shared>>, from: Origin, viewer: Viewer) -> Result<Response, Problem> {
    let forget = log_out(&shared, &from, &viewer).await?;
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, forget)]).into_response())
}
