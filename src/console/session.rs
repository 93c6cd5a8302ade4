//! Logging in and out: with address and password, or with the administrator's token. A session is a random cookie of which the database has the
//! hash; the token against forged requests is made of it and needs no place of its own.

use super::auth::{self, Origin};
use super::problem::Problem;
use super::routes::Shared;
use super::viewer::{InSession, Viewer};
use super::{now_ms, random_secret};
use crate::domain::Secret;
use crate::domain::audit::AuditEvent;
use crate::domain::secret::KeyHash;
use crate::store::ports::database::StoreError;
use crate::store::ports::logins::{Holder, LoggedIn, Session};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::time::Duration;

/// What the cookie is called, and what it is called where it goes over TLS alone: by that name browsers take it from this very host and from no
/// other of its domain (`__Host-`, RFC 6265bis).
const COOKIE: &str = "orbyt_session";
const COOKIE_OF_HOST: &str = "__Host-orbyt_session";
/// How long a session lasts, used or not.
const LASTS: Duration = Duration::from_secs(12 * 60 * 60);

/// What somebody logs in with.
pub(super) enum Credentials {
    /// Address and password.
    Password {
        /// The address, as it was typed.
        email: String,
        /// The password.
        password: String,
    },
    /// The administrator's token.
    AdminToken(Secret),
}

/// A session that has begun.
#[derive(Debug)]
pub(super) struct Begun {
    /// For `set-cookie`.
    pub cookie: HeaderValue,
    /// For forms and `x-csrf-token`.
    pub csrf: String,
}

/// Logs somebody in. Takes as long for an address that nobody has as for a wrong password, and says the same.
pub(super) async fn log_in(shared: &Shared, from: &Origin, credentials: Credentials) -> Result<Begun, Problem> {
    auth::not_forged(from)?;
    let holder = match credentials {
        Credentials::AdminToken(token) => {
            Holder::Administrator(auth::admin_token(shared, from.address, token.reveal().as_bytes())?)
        }
        Credentials::Password { email, password } => with_password(shared, from, &email, password).await?,
    };
    let cookie = random_secret("").map_err(|error| {
        log::error!("{error}");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "The system gives no random bytes.")
    })?;
    let now = now_ms();
    let session = Session {
        hash: cookie.hash(),
        address: from.address.to_string(),
        created_at: now,
        expires_at: now.saturating_add(millis(LASTS)),
        holder,
    };
    shared.deps.logins.begin_session(&session).await?;
    note(shared, from, "session.begin", &session, now).await?;
    let value = set_cookie(shared, from, cookie.reveal(), LASTS)?;
    Ok(Begun { cookie: value, csrf: csrf(cookie.reveal()) })
}

/// What the browser calls the session.
fn name(shared: &Shared, from: &Origin) -> &'static str {
    if from.secure || (shared.deps.snapshot)().console.secure_cookies { COOKIE_OF_HOST } else { COOKIE }
}

fn set_cookie(shared: &Shared, from: &Origin, cookie: &str, lasts: Duration) -> Result<HeaderValue, Problem> {
    let name = name(shared, from);
    let secure = if name == COOKIE_OF_HOST { "; Secure" } else { "" };
    let text = format!("{name}={cookie}; HttpOnly; SameSite=Strict; Path=/; Max-Age={}{secure}", lasts.as_secs());
    let mut value = HeaderValue::from_str(&text).map_err(|_| Problem::bad_request("No cookie can be made."))?;
    value.set_sensitive(true);
    Ok(value)
}

async fn with_password(shared: &Shared, from: &Origin, email: &str, password: String) -> Result<Holder, Problem> {
    let email = email.trim().to_ascii_lowercase();
    let now = std::time::Instant::now();
    // Counted before the password is looked at, so that guesses at the same moment count too.
    shared.failures.guess(from.address, &email, now)?;
    let login = shared.deps.logins.login(&email).await?;
    let hash = login.as_ref().map(|login| login.password_hash.clone());
    if !auth::is_password(shared, from.address, &email, password, hash).await? {
        log::warn!("somebody at {} could not log in to the console", from.address);
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "Address or password is wrong."));
    }
    shared.failures.forgive(from.address, &email);
    let login = login.ok_or_else(|| Problem::new(StatusCode::UNAUTHORIZED, "Address or password is wrong."))?;
    Ok(Holder::Person(login.person))
}

/// Ends the session that the viewer is in. Returns what makes the browser forget its cookie.
pub(super) async fn log_out(shared: &Shared, from: &Origin, viewer: &Viewer) -> Result<HeaderValue, Problem> {
    if let Some(session) = &viewer.session {
        shared.deps.logins.end_session(&session.hash).await?;
        if let Some(database) = &shared.deps.database {
            let id = viewer.as_person().map_or("administrator", |person| &*person.id);
            database.append(&viewer.event(now_ms(), "session.end", id, None, &json!({}))).await?;
        }
    }
    set_cookie(shared, from, "", Duration::ZERO)
}

async fn note(shared: &Shared, from: &Origin, action: &str, session: &Session, at: u64) -> Result<(), Problem> {
    let Some(database) = &shared.deps.database else { return Ok(()) };
    let who = match &session.holder {
        Holder::Administrator(_) => "administrator",
        Holder::Person(id) => id,
    };
    let event = AuditEvent {
        at,
        org: None,
        actor: who.to_owned(),
        origin: format!("console, {}", from.address.to_canonical()),
        action: action.to_owned(),
        target: who.to_owned(),
        details: "{}".to_owned(),
    };
    database.append(&event).await?;
    Ok(())
}

/// The viewer of the session whose cookie a request carries; `None` where it carries none that is in force.
pub(super) async fn viewer(shared: &Shared, from: &Origin, headers: &HeaderMap) -> Result<Option<Viewer>, Problem> {
    let Some(cookie) = cookie(headers, name(shared, from)) else { return Ok(None) };
    let inside = InSession { hash: KeyHash::of(cookie.as_bytes()), csrf: csrf(cookie).into() };
    Ok(of(shared, from.address, inside).await?)
}

/// The viewer of a session as it is now; `None` where it is not in force any more.
pub(super) async fn of(shared: &Shared, address: IpAddr, inside: InSession) -> Result<Option<Viewer>, StoreError> {
    let found = shared.deps.logins.session(&inside.hash, now_ms()).await?;
    let Some(LoggedIn { session, person, memberships }) = found else { return Ok(None) };
    Ok(match (session.holder, person) {
        (Holder::Person(_), Some(person)) => Some(Viewer::person(address, inside, person, memberships)),
        (Holder::Administrator(token), None) if (shared.deps.admin_token)() == Some(token) => {
            Some(Viewer::administrator(address, Some(inside)))
        }
        _ => None,
    })
}

fn cookie<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find_map(|(name, value)| (name == wanted && !value.is_empty()).then_some(value))
}

/// The token against forged requests that belongs to a cookie. The cookie cannot be found from it.
fn csrf(cookie: &str) -> String {
    hex::encode(&Sha256::new().chain_update(b"orbyt csrf\0").chain_update(cookie.as_bytes()).finalize()[..16])
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        assert_eq!(cookie(&headers, COOKIE), None);
        headers.append(header::COOKIE, HeaderValue::from_static("a=1; xorbyt_session=2"));
        assert_eq!(cookie(&headers, COOKIE), None);
        headers.append(header::COOKIE, HeaderValue::from_static("b=3;orbyt_session=abc; c"));
        assert_eq!(cookie(&headers, COOKIE), Some("abc"));
        assert_eq!(cookie(&headers, COOKIE_OF_HOST), None, "another host of the domain may have set that one");
        headers.append(header::COOKIE, HeaderValue::from_static("__Host-orbyt_session=def"));
        assert_eq!(cookie(&headers, COOKIE_OF_HOST), Some("def"));
    }

    #[test]
    fn each_session_has_a_token_of_its_own() {
        assert_eq!(csrf("a"), csrf("a"));
        assert_ne!(csrf("a"), csrf("b"));
        assert_eq!(csrf("a").len(), 32);
    }
}
