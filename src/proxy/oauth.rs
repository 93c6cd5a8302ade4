//! Access tokens for Google's clouds: bought with an account, kept, and renewed before they run out.
//!
//! ```text
//!           get                  token                  a tenth of its time is left
//!   Empty ───────> on its way ──────────> Kept ─────────────────────────────────────> Kept, the next one on its way
//!     ▲                │ refused            │ out of time: back to "on its way"             │ token    │ refused: tried again later
//!     └────────────────┘                    └───────────────────────────────────────────────┴──────────┘
//! ```
//!
//! Of all requests that need the same account's token at once, one flight serves all, and it goes on when the client that began it
//! hangs up. A refusal is a fault of the provider's key; an endpoint that cannot be reached is a fault of the provider.
//!
//! Sources: RFC 7523 (the signed claim), RFC 6749 (refresh tokens, the forms of answers), Google's "Using OAuth 2.0 for server to
//! server applications".

use crate::config::snapshot::Provider;
use crate::domain::{Clock, Fault, FaultKind, ProviderKey, Secret};
use crate::provider::AuthScheme;
use crate::provider::credential::GoogleAccount;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What the tokens are good for.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// How long a claim is good for; Google takes no more.
const CLAIM: Duration = Duration::from_secs(3600);
/// A token that runs out sooner than this is not used any more: it has to last until the provider has looked at it.
const MARGIN: Duration = Duration::from_secs(30);
/// How long an endpoint may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// When a refused renewal is tried again, while the old token still serves.
const RETRY: Duration = Duration::from_secs(20);
/// How many accounts are kept; clients may bring their own.
const MAX_ACCOUNTS: usize = 1024;
/// The largest answer of an endpoint that is read.
const MAX_ANSWER: usize = 64 * 1024;

/// A token and how long it serves.
#[derive(Clone)]
pub struct Token {
    /// What is sent.
    pub secret: Secret,
    /// When the next one is to be had.
    renew_at: Instant,
    /// When it is not to be used any more.
    ends_at: Instant,
}

type Flight = Shared<BoxFuture<'static, Result<Token, Fault>>>;

#[derive(Default)]
struct Slot {
    kept: Option<Token>,
    flight: Option<Flight>,
}

/// The tokens of all accounts.
#[derive(Default)]
pub(super) struct Tokens {
    slots: Mutex<HashMap<String, Arc<Mutex<Slot>>>>,
}

impl Tokens {
    /// The token that a provider's key buys, where the key is an account; whoever waits for it waits no longer than `limit`.
    ///
    /// # Errors
    /// As [`buy`], and `Timeout`.
    pub(super) async fn of_key(
        &self,
        provider: &Provider,
        key: Option<&ProviderKey>,
        limit: Duration,
    ) -> Result<Option<Secret>, Fault> {
        let Some(key) = key.filter(|_| provider.auth == AuthScheme::Google) else { return Ok(None) };
        if !GoogleAccount::is_meant(key.secret.reveal()) {
            return Ok(None);
        }
        // Rare and large, so it is kept out of the future of every request.
        match Box::pin(tokio::time::timeout(limit, self.get(&key.secret))).await {
            Ok(token) => token.map(Some),
            Err(_) => {
                let silent = "the token endpoint of the provider's key is silent";
                Err(Fault::new(FaultKind::Timeout(Clock::Connect), silent))
            }
        }
    }

    /// The token of an account (its JSON).
    ///
    /// # Errors
    /// As [`buy`].
    async fn get(&self, account: &Secret) -> Result<Secret, Fault> {
        let flight = {
            let slot = self.slot(account);
            let mut held = slot.lock();
            let now = Instant::now();
            let kept = held.kept.clone().filter(|token| now < token.ends_at);
            match kept {
                Some(token) if now < token.renew_at || held.flight.is_some() => return Ok(token.secret),
                Some(token) => {
                    held.flight = Some(take_off(slot.clone(), account.clone()));
                    return Ok(token.secret);
                }
                None => held.flight.get_or_insert_with(|| take_off(slot.clone(), account.clone())).clone(),
            }
        };
        flight.await.map(|token| token.secret)
    }

    /// Forgets the token of an account: the provider did not accept it.
    pub(super) fn forget(&self, account: &Secret) {
        if let Some(slot) = self.slots.lock().get(&account.hash().to_hex()) {
            slot.lock().kept = None;
        }
    }

    fn slot(&self, account: &Secret) -> Arc<Mutex<Slot>> {
        let mut slots = self.slots.lock();
        if slots.len() >= MAX_ACCOUNTS {
            let now = Instant::now();
            slots.retain(|_, slot| slot.lock().kept.as_ref().is_some_and(|token| now < token.ends_at));
            if slots.len() >= MAX_ACCOUNTS {
                slots.clear();
            }
        }
        slots.entry(account.hash().to_hex()).or_default().clone()
    }
}

/// Begins to buy a token; whoever waits for it shares the outcome.
fn take_off(slot: Arc<Mutex<Slot>>, account: Secret) -> Flight {
    let flight = async move {
        let bought = match GoogleAccount::parse(account.reveal()) {
            Ok(account) => buy(&account).await,
            Err(what) => Err(Fault::new(FaultKind::BadCredentials, format!("the provider's key {what}"))),
        };
        let mut slot = slot.lock();
        slot.flight = None;
        match &bought {
            Ok(token) => slot.kept = Some(token.clone()),
            Err(fault) => {
                if let Some(kept) = &mut slot.kept {
                    log::warn!("an access token could not be renewed ahead: {}", fault.kind.name());
                    kept.renew_at = Instant::now() + RETRY;
                }
            }
        }
        bought
    }
    .boxed()
    .shared();
    tokio::spawn(flight.clone());
    flight
}

#[derive(Serialize)]
struct Claim<'a> {
    iss: &'a str,
    scope: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
}

#[derive(Deserialize)]
struct Answer {
    access_token: Option<Secretive>,
    expires_in: Option<u64>,
    error: Option<serde_json::Value>,
    error_description: Option<String>,
}

/// A text that goes straight into a [`Secret`].
#[derive(Deserialize)]
#[serde(transparent)]
struct Secretive(String);

/// Buys a token.
///
/// # Errors
/// `BadCredentials` when the account is refused or cannot sign, `Connect`, `Timeout` or `ServerError` when the endpoint cannot be asked,
/// `Malformed` when its answer is none.
pub async fn buy(account: &GoogleAccount) -> Result<Token, Fault> {
    static HTTP: LazyLock<Option<reqwest::Client>> = LazyLock::new(|| {
        reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none()).build().ok()
    });
    let Some(http) = &*HTTP else { return Err(Fault::new(FaultKind::Internal, "no client for token endpoints")) };
    let form = form(account, SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())?;
    let asked = Instant::now();
    let unreachable = |_| Fault::new(FaultKind::Connect, "the token endpoint of the provider's key cannot be reached");
    let mut answer = http.post(account.token_uri()).form(&form).send().await.map_err(unreachable)?;
    let status = answer.status().as_u16();
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(unreachable)? {
        body.extend_from_slice(&piece);
        if body.len() > MAX_ANSWER {
            return Err(Fault::malformed("the answer of the token endpoint is too large"));
        }
    }
    read(status, &body, asked)
}

/// What is sent to the endpoint.
fn form(account: &GoogleAccount, now: Duration) -> Result<Vec<(&'static str, String)>, Fault> {
    let text = |secret: &Secret| secret.reveal().to_owned();
    match account {
        GoogleAccount::Service { client_email, private_key, private_key_id, token_uri, .. } => {
            let bad =
                |_| Fault::new(FaultKind::BadCredentials, "the private key of the account cannot be used to sign");
            let key = EncodingKey::from_rsa_pem(private_key.reveal().as_bytes()).map_err(bad)?;
            let header = Header { kid: private_key_id.clone(), ..Header::new(Algorithm::RS256) };
            let (iat, exp) = (now.as_secs(), (now + CLAIM).as_secs());
            let claim = Claim { iss: client_email, scope: SCOPE, aud: token_uri, iat, exp };
            let assertion = jsonwebtoken::encode(&header, &claim, &key).map_err(bad)?;
            let grant_type = "urn:ietf:params:oauth:grant-type:jwt-bearer".to_owned();
            Ok(vec![("grant_type", grant_type), ("assertion", assertion)])
        }
        GoogleAccount::User { client_id, client_secret, refresh_token, .. } => Ok(vec![
            ("grant_type", "refresh_token".to_owned()),
            ("client_id", client_id.clone()),
            ("client_secret", text(client_secret)),
            ("refresh_token", text(refresh_token)),
        ]),
    }
}

/// Reads the endpoint's answer to a question asked at `asked`.
fn read(status: u16, body: &[u8], asked: Instant) -> Result<Token, Fault> {
    let answer: Option<Answer> = serde_json::from_slice(body).ok();
    if status >= 400 {
        let word = |answer: &Answer| match answer.error.as_ref()? {
            serde_json::Value::String(word) => Some(word.clone()),
            error => error["status"].as_str().map(str::to_owned),
        };
        let said = answer.as_ref().and_then(word).unwrap_or_else(|| format!("status {status}"));
        let more = answer.and_then(|answer| answer.error_description).map(|more| format!(": {more}"));
        let kind = if status == 429 || status >= 500 { FaultKind::ServerError } else { FaultKind::BadCredentials };
        let message = format!("the token endpoint refused the account ({said}{})", more.unwrap_or_default());
        return Err(Fault { status: Some(status), ..Fault::new(kind, message) });
    }
    let token = answer.and_then(|answer| Some((answer.access_token?, answer.expires_in)));
    let Some((Secretive(token), expires_in)) = token.filter(|(token, _)| !token.0.is_empty()) else {
        return Err(Fault::malformed("the answer of the token endpoint holds no token"));
    };
    let life = Duration::from_secs(expires_in.unwrap_or(3600).min(24 * 3600));
    Ok(Token {
        secret: Secret::new(token),
        renew_at: asked + life.mul_f64(0.9),
        ends_at: asked + life.saturating_sub(MARGIN),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_token_or_a_fault_of_somebodys() {
        let now = Instant::now();
        let kind = |status, body: &str| read(status, body.as_bytes(), now).err().map(|fault| fault.kind);
        let good = read(200, br#"{"access_token": "t", "expires_in": 3600, "token_type": "Bearer"}"#, now).unwrap();
        assert_eq!(good.secret.reveal(), "t");
        assert_eq!(good.ends_at - now, Duration::from_secs(3570));
        assert_eq!(good.renew_at - now, Duration::from_secs(3240));
        let refused = r#"{"error": "invalid_grant", "error_description": "Invalid JWT Signature."}"#;
        assert_eq!(kind(400, refused), Some(FaultKind::BadCredentials));
        let told = read(400, refused.as_bytes(), now).err().unwrap().message;
        assert!(told.contains("invalid_grant: Invalid JWT Signature."), "{told}");
        assert_eq!(kind(401, ""), Some(FaultKind::BadCredentials));
        assert_eq!(kind(503, "<html>"), Some(FaultKind::ServerError));
        assert_eq!(kind(429, "{}"), Some(FaultKind::ServerError));
        assert_eq!(kind(200, "{}"), Some(FaultKind::Malformed));
        assert_eq!(kind(200, r#"{"access_token": ""}"#), Some(FaultKind::Malformed));
        assert_eq!(kind(200, "<html>"), Some(FaultKind::Malformed));
    }

    #[test]
    fn a_short_life_is_not_stretched() {
        let now = Instant::now();
        let token = read(200, br#"{"access_token": "t", "expires_in": 10}"#, now).unwrap();
        assert_eq!(token.ends_at, now, "used for those who wait for it, and then no more");
    }

    #[test]
    fn a_refresh_token_is_sent_as_it_is() {
        let account = GoogleAccount::parse(
            r#"{"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}"#,
        );
        let form = form(&account.unwrap(), Duration::ZERO).unwrap();
        assert!(form.contains(&("refresh_token", "r".to_owned())) && form.contains(&("client_secret", "s".to_owned())));
    }

    #[test]
    fn a_key_that_cannot_sign_is_the_keys_fault() {
        let account = r#"{"type": "service_account", "client_email": "a@b", "private_key": "no PEM"}"#;
        let fault = form(&GoogleAccount::parse(account).unwrap(), Duration::ZERO).unwrap_err();
        assert_eq!(fault.kind, FaultKind::BadCredentials);
    }
}
