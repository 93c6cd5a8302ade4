//! Who is let in: the holder of the administrator's token, or of a session; and nobody who keeps guessing, or whose browser was made to ask by
//! somebody else's page.

use super::problem::Problem;
use super::routes::Shared;
use super::serve::Peer;
use super::session;
use super::viewer::Viewer;
use crate::config::net::client_address;
use crate::domain::secret::KeyHash;
use axum::body::{Body, to_bytes};
use axum::extract::{Extension, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So many wrong tokens from one address, counted from the first, or wrong passwords for one person from there, are answered with 429 for the
/// rest of this time.
const MOST_FAILURES: u32 = 10;
/// So many wrong passwords for one person, from wherever: more, because others can use them up.
const MOST_FAILURES_OF_ONE: u32 = 30;
/// So many wrong passwords from one address, for whomever: each costs as much work as a right one. More than for one person there, because many
/// may share the address of a proxy.
const MOST_FAILURES_OF_ALL: u32 = 60;
const WINDOW: Duration = Duration::from_secs(60);
/// How many addresses, or people, are remembered.
const MOST_REMEMBERED: usize = 4096;
/// The header that carries the token against forged requests.
pub(super) const CSRF_HEADER: &str = "x-csrf-token";
/// The field of a form that does.
pub(super) const CSRF_FIELD: &str = "csrf";

/// Where a request comes from.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// The client's address: behind a proxy that is trusted, what that says.
    pub address: IpAddr,
    /// Whether the browser speaks TLS, as far as is known: a proxy that is trusted says so.
    pub secure: bool,
    /// Whether the browser says that another site's page has made it ask.
    is_foreign: bool,
}

impl Origin {
    fn of(shared: &Shared, peer: IpAddr, headers: &HeaderMap) -> Self {
        let snapshot = (shared.deps.snapshot)();
        let trusted = &snapshot.server.trusted_proxies;
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let by_proxy = trusted.iter().any(|net| net.contains(peer));
        let secure = by_proxy && text("x-forwarded-proto").is_some_and(|it| it.trim().eq_ignore_ascii_case("https"));
        let host = text("host");
        let same_host = |origin: &str| origin.split_once("://").is_some_and(|(_, rest)| Some(rest) == host);
        let is_foreign = match (text("sec-fetch-site"), text("origin")) {
            (Some(site), _) => !matches!(site, "same-origin" | "none"),
            // Behind a proxy, the host may be another one than the browser knows.
            (None, Some(origin)) => !by_proxy && !same_host(origin),
            (None, None) => false,
        };
        let address = client_address(trusted, Some(peer), headers).unwrap_or(peer);
        Self { address: address.to_canonical(), secure, is_foreign }
    }
}

impl FromRequestParts<Arc<Shared>> for Origin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Problem> {
        let peer = parts.extensions.get::<Peer>().map(|peer| peer.0.ip());
        let peer = peer.ok_or_else(|| Problem::bad_request("The client's address is not known."))?;
        Ok(Self::of(shared, peer, &parts.headers))
    }
}

/// Lets a request pass whose viewer is known, and puts the [`Viewer`] into it; answers 401 to others.
pub(super) async fn require_viewer(
    State(shared): State<Arc<Shared>>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    match admit(&shared, peer.ip(), request).await {
        Ok(request) => answered(&shared, request, next).await,
        Err(problem) => problem.into_response(),
    }
}

/// Whoever watches something may not be allowed to any more after a request that changes something.
async fn answered(shared: &Shared, request: Request, next: Next) -> Response {
    let changes = !is_safe(request.method());
    let response = next.run(request).await;
    if changes {
        shared.changes.send_replace(());
    }
    response
}

/// The same for pages: who is not logged in is sent to `/login`, and comes back from there.
pub(super) async fn require_viewer_of_page(
    State(shared): State<Arc<Shared>>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let reads = is_safe(request.method());
    let wanted = request.uri().path_and_query().map_or("/", |it| it.as_str()).to_owned();
    match admit(&shared, peer.ip(), request).await {
        Ok(request) => answered(&shared, request, next).await,
        Err(problem) if reads && problem.status() == StatusCode::UNAUTHORIZED => {
            let back: String = form_urlencoded::byte_serialize(wanted.as_bytes()).collect();
            Redirect::to(&format!("/login?next={back}")).into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

/// Finds out who is looking. A request that changes something and came with a session has to show the session's token, too.
async fn admit(shared: &Shared, peer: IpAddr, request: Request) -> Result<Request, Problem> {
    let from = Origin::of(shared, peer, request.headers());
    let refused = |detail| {
        let challenge = HeaderValue::from_static("Bearer realm=\"orbyt console\"");
        Err(Problem::new(StatusCode::UNAUTHORIZED, detail).header(header::WWW_AUTHENTICATE, challenge))
    };
    let (viewer, mut request) = if let Some(presented) = request.headers().get(header::AUTHORIZATION) {
        let Some(token) = bearer(presented.as_bytes()) else {
            return refused("This needs the admin token: Authorization: Bearer <token>.");
        };
        admin_token(shared, from.address, token)?;
        (Viewer::administrator(from.address, None), request)
    } else {
        let Some(viewer) = session::viewer(shared, &from, request.headers()).await? else {
            return refused("This needs the admin token (Authorization: Bearer <token>) or a login.");
        };
        let request = if is_safe(request.method()) { request } else { with_token(&from, &viewer, request).await? };
        (viewer, request)
    };
    request.extensions_mut().insert(viewer);
    Ok(request)
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// The request, if it shows its session's token: as a header, or as a field of a form, whose body is read for that and put back.
async fn with_token(from: &Origin, viewer: &Viewer, request: Request) -> Result<Request, Problem> {
    not_forged(from)?;
    let expected = viewer.session.as_ref().map_or("", |session| &*session.csrf);
    let forged = || {
        Problem::new(
            StatusCode::FORBIDDEN,
            "The token against forged requests is missing or wrong: send the session's as x-csrf-token, or as the field csrf of a form.",
        )
    };
    let is_right = |token: &[u8]| !expected.is_empty() && KeyHash::of(token) == KeyHash::of(expected.as_bytes());
    if let Some(token) = request.headers().get(CSRF_HEADER) {
        return if is_right(token.as_bytes()) { Ok(request) } else { Err(forged()) };
    }
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("application/x-www-form-urlencoded") {
        return Err(forged());
    }
    let (parts, body) = request.into_parts();
    let too_large = |_| Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "The body is larger than 64 KiB.");
    let bytes = to_bytes(body, super::routes::MOST_BODY).await.map_err(too_large)?;
    let token = form_urlencoded::parse(&bytes).find_map(|(name, value)| (name == CSRF_FIELD).then_some(value));
    if token.is_some_and(|token| is_right(token.as_bytes())) {
        Ok(Request::from_parts(parts, Body::from(bytes)))
    } else {
        Err(forged())
    }
}

/// Refuses what a browser says another site's page has made it ask.
pub(super) fn not_forged(from: &Origin) -> Result<(), Problem> {
    if from.is_foreign {
        return Err(Problem::new(StatusCode::FORBIDDEN, "This was asked for by another site's page."));
    }
    Ok(())
}

/// The hash of the administrator's token, if it is what was presented. The right one passes however many wrong ones came from the same address:
/// behind one proxy a guesser would keep everybody out otherwise, and looking at a token costs next to nothing.
pub(super) fn admin_token(shared: &Shared, address: IpAddr, presented: &[u8]) -> Result<KeyHash, Problem> {
    let refused = |detail| {
        let challenge = HeaderValue::from_static("Bearer realm=\"orbyt console\"");
        Problem::new(StatusCode::UNAUTHORIZED, detail).header(header::WWW_AUTHENTICATE, challenge)
    };
    let Some(expected) = (shared.deps.admin_token)() else {
        return Err(refused(
            "No admin token is set: make one with `orbyt admin reset-token` or set ORBYT_ADMIN_TOKEN.",
        ));
    };
    if KeyHash::of(presented) == expected {
        return Ok(expected);
    }
    shared.failures.wrong_token(address, Instant::now())?;
    Err(refused("This is not the admin token."))
}

/// Whether it is the password that was hashed. The guess was counted; where nobody had time to look, it was none.
pub(super) async fn is_password(
    shared: &Shared,
    address: IpAddr,
    person: &str,
    password: String,
    hash: Option<String>,
) -> Result<bool, Problem> {
    shared.passwords.check(password, hash).await.ok_or_else(|| {
        shared.failures.forgive(address, person);
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Too many are logging in at this moment.")
            .retry_after(Duration::from_secs(1))
    })
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Wrong tokens and passwords. Tokens are counted apart: whoever guesses those keeps nobody from logging in with a password.
#[derive(Default)]
pub(super) struct Failures {
    tokens: Mutex<FailureCounts<IpAddr>>,
    by_address: Mutex<FailureCounts<IpAddr>>,
    by_person: Mutex<FailureCounts<String>>,
    by_both: Mutex<FailureCounts<(IpAddr, String)>>,
}

impl Failures {
    /// Counts a wrong token; refuses to say that it is wrong when there were too many before.
    fn wrong_token(&self, address: IpAddr, now: Instant) -> Result<(), Problem> {
        let mut tokens = self.tokens.lock();
        if let Some(wait) = tokens.closed_for(&source(address), MOST_FAILURES, now) {
            return Err(too_many(wait));
        }
        tokens.count(source(address), now);
        Ok(())
    }

    /// Counts a password before it is looked at, and refuses to look at it when there were too many wrong ones before.
    pub fn guess(&self, address: IpAddr, person: &str, now: Instant) -> Result<(), Problem> {
        let (address, person) = (source(address), counted_as(person));
        let both = (address, person.clone());
        let (mut addresses, mut people, mut pairs) =
            (self.by_address.lock(), self.by_person.lock(), self.by_both.lock());
        let closed = [
            pairs.closed_for(&both, MOST_FAILURES, now),
            people.closed_for(&person, MOST_FAILURES_OF_ONE, now),
            addresses.closed_for(&address, MOST_FAILURES_OF_ALL, now),
        ];
        if let Some(wait) = closed.into_iter().flatten().max() {
            return Err(too_many(wait));
        }
        pairs.count(both, now);
        people.count(person, now);
        addresses.count(address, now);
        Ok(())
    }

    /// It was no guess.
    pub fn forgive(&self, address: IpAddr, person: &str) {
        let (address, person) = (source(address), counted_as(person));
        self.by_both.lock().uncount(&(address, person.clone()));
        self.by_person.lock().uncount(&person);
        self.by_address.lock().uncount(&address);
    }
}

/// Whoever asks chooses what is remembered, but not how much of it: no address of mail is longer (RFC 5321).
fn counted_as(person: &str) -> String {
    person.chars().take(320).collect()
}

fn too_many(wait: Duration) -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "Too many wrong tokens or passwords.").retry_after(wait)
}

/// Counts within a while, with the time as an argument.
struct FailureCounts<K> {
    by_key: HashMap<K, (u32, Instant)>,
}

impl<K> Default for FailureCounts<K> {
    fn default() -> Self {
        Self { by_key: HashMap::new() }
    }
}

impl<K: Hash + Eq + Clone> FailureCounts<K> {
    /// How long this one has to wait, if it has failed so often.
    fn closed_for(&self, key: &K, most: u32, now: Instant) -> Option<Duration> {
        let (count, since) = self.by_key.get(key)?;
        let left = WINDOW.checked_sub(now.duration_since(*since)).filter(|left| !left.is_zero())?;
        (*count >= most).then_some(left)
    }

    fn count(&mut self, key: K, now: Instant) {
        if self.by_key.len() >= MOST_REMEMBERED {
            self.by_key.retain(|_, (_, since)| now.duration_since(*since) < WINDOW);
        }
        if self.by_key.len() >= MOST_REMEMBERED {
            let oldest = self.by_key.iter().min_by_key(|(_, (_, since))| *since).map(|(key, _)| key.clone());
            oldest.and_then(|key| self.by_key.remove(&key));
        }
        let (count, since) = self.by_key.entry(key).or_insert((0, now));
        if now.duration_since(*since) >= WINDOW {
            (*count, *since) = (0, now);
        }
        *count += 1;
    }

    fn uncount(&mut self, key: &K) {
        if let Some((count, _)) = self.by_key.get_mut(key) {
            *count = count.saturating_sub(1);
        }
    }
}

/// What counts as one address: of IPv6 the network, since a single host has all of it.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !(u128::MAX >> 64))),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_door_closes_after_ten_failures_for_the_rest_of_the_minute() {
        let (mut failures, start) = (FailureCounts::default(), Instant::now());
        for second in 0..10 {
            assert_eq!(failures.closed_for(&address("192.0.2.1"), 10, start + Duration::from_secs(second)), None);
            failures.count(address("192.0.2.1"), start + Duration::from_secs(second));
        }
        let later = start + Duration::from_secs(20);
        assert_eq!(failures.closed_for(&address("192.0.2.1"), 10, later), Some(Duration::from_secs(40)));
        assert_eq!(failures.closed_for(&address("192.0.2.2"), 10, later), None);
        assert_eq!(failures.closed_for(&address("192.0.2.1"), 10, start + WINDOW), None);
        failures.count(address("192.0.2.1"), start + WINDOW);
        assert_eq!(failures.closed_for(&address("192.0.2.1"), 10, start + WINDOW), None, "counted anew");
    }

    #[test]
    fn a_guesser_keeps_out_nobody_else_at_the_address_until_there_is_too_much_work() {
        let (failures, here, now) = (Failures::default(), address("192.0.2.1"), Instant::now());
        for _ in 0..MOST_FAILURES {
            assert!(failures.wrong_token(here, now).is_ok());
            assert!(failures.guess(here, "kim", now).is_ok());
        }
        assert!(failures.wrong_token(here, now).is_err() && failures.guess(here, "kim", now).is_err());
        assert!(failures.guess(address("192.0.2.2"), "kim", now).is_ok(), "from elsewhere Kim gets in");
        assert!(failures.guess(here, "ada", now).is_ok(), "and from here others do");
        failures.forgive(here, "ada");
        for person in 0..MOST_FAILURES_OF_ALL - MOST_FAILURES {
            assert!(failures.guess(here, &person.to_string(), now).is_ok());
        }
        assert!(failures.guess(here, "ada", now).is_err(), "each password costs work");
        assert!(failures.guess(here, "ada", now + WINDOW).is_ok());
    }

    #[test]
    fn one_person_is_not_guessed_at_from_everywhere() {
        let (failures, now) = (Failures::default(), Instant::now());
        let from = |host: u32| IpAddr::from(host.to_be_bytes());
        for host in 0..MOST_FAILURES_OF_ONE {
            assert!(failures.guess(from(host), "kim", now).is_ok());
        }
        assert!(failures.guess(from(MOST_FAILURES_OF_ONE), "kim", now).is_err());
        failures.forgive(from(0), "kim");
        assert!(failures.guess(from(MOST_FAILURES_OF_ONE), "kim", now).is_ok());
    }

    #[test]
    fn a_host_cannot_hide_in_its_ipv6_network_or_behind_a_mapped_address() {
        assert_eq!(source(address("2001:db8:1:2:3::4")), source(address("2001:db8:1:2:ffff::1")));
        assert_ne!(source(address("2001:db8:1:2::1")), source(address("2001:db8:1:3::1")));
        assert_eq!(source(address("::ffff:192.0.2.1")), address("192.0.2.1"));
    }

    #[test]
    fn memory_is_bounded_and_the_latest_are_kept() {
        let (mut failures, start) = (FailureCounts::default(), Instant::now());
        let last = MOST_REMEMBERED as u32 + 100;
        for number in 0..=last {
            failures.count(IpAddr::from(number.to_be_bytes()), start + Duration::from_millis(number.into()) / 1000);
        }
        assert_eq!(failures.by_key.len(), MOST_REMEMBERED);
        assert!(!failures.by_key.contains_key(&address("0.0.0.0")));
        assert!(failures.by_key.contains_key(&IpAddr::from(last.to_be_bytes())));
    }

    #[test]
    fn the_scheme_is_read_in_any_case_and_only_this_scheme() {
        assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bEARER  abc "), Some(&b"abc"[..]));
        for wrong in [&b"Basic abc"[..], b"Bearer", b"", b"abc"] {
            assert_eq!(bearer(wrong), None);
        }
    }
}
