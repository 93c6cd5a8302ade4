//! Who may use the console's API: the holder of the admin token, and nobody who keeps guessing.

use super::problem::Problem;
use super::routes::Shared;
use super::serve::Peer;
use crate::domain::secret::KeyHash;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So many wrong tokens from one address, counted from the first, close the door for the rest of this time.
const MOST_FAILURES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);
/// How many addresses are remembered.
const MOST_ADDRESSES: usize = 4096;

/// Lets a request pass that carries the admin token as `Authorization: Bearer …`.
pub(super) async fn require_admin(
    State(shared): State<Arc<Shared>>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    match admit(&shared, peer.ip(), request.headers(), Instant::now()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn admit(shared: &Shared, address: IpAddr, headers: &HeaderMap, now: Instant) -> Result<(), Problem> {
    let refused = |detail| {
        let challenge = HeaderValue::from_static("Bearer realm=\"orbyt console\"");
        Err(Problem::new(StatusCode::UNAUTHORIZED, detail).header(header::WWW_AUTHENTICATE, challenge))
    };
    let Some(presented) = headers.get(header::AUTHORIZATION) else {
        return refused("This needs the admin token: Authorization: Bearer <token>.");
    };
    // Before the token is looked at, so that a guess tells nothing while the door is closed.
    if let Some(wait) = shared.failures.lock().closed_for(address, now) {
        return Err(
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "Too many wrong tokens from this address.").retry_after(wait)
        );
    }
    let Some(expected) = (shared.deps.admin_token)() else {
        return refused("No admin token is set: make one with `orbyt admin reset-token` or set ORBYT_ADMIN_TOKEN.");
    };
    match bearer(presented.as_bytes()) {
        Some(token) if KeyHash::of(token) == expected => Ok(()),
        _ => {
            shared.failures.lock().count(address, now);
            refused("This is not the admin token.")
        }
    }
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Wrong tokens by address.
pub(super) type Failures = Mutex<FailureCounts>;

/// The counts behind [`Failures`], with the time as an argument.
#[derive(Default)]
pub(super) struct FailureCounts {
    by_address: HashMap<IpAddr, (u32, Instant)>,
}

impl FailureCounts {
    /// How long this address has to wait, if it has failed too often.
    fn closed_for(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let (count, since) = self.by_address.get(&source(address))?;
        let left = WINDOW.checked_sub(now.duration_since(*since)).filter(|left| !left.is_zero())?;
        (*count >= MOST_FAILURES).then_some(left)
    }

    fn count(&mut self, address: IpAddr, now: Instant) {
        if self.by_address.len() >= MOST_ADDRESSES {
            self.by_address.retain(|_, (_, since)| now.duration_since(*since) < WINDOW);
        }
        if self.by_address.len() >= MOST_ADDRESSES {
            let oldest = self.by_address.iter().min_by_key(|(_, (_, since))| *since).map(|(address, _)| *address);
            oldest.and_then(|address| self.by_address.remove(&address));
        }
        let (count, since) = self.by_address.entry(source(address)).or_insert((0, now));
        if now.duration_since(*since) >= WINDOW {
            (*count, *since) = (0, now);
        }
        *count += 1;
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
            assert_eq!(failures.closed_for(address("192.0.2.1"), start + Duration::from_secs(second)), None);
            failures.count(address("192.0.2.1"), start + Duration::from_secs(second));
        }
        let later = start + Duration::from_secs(20);
        assert_eq!(failures.closed_for(address("192.0.2.1"), later), Some(Duration::from_secs(40)));
        assert_eq!(failures.closed_for(address("192.0.2.2"), later), None);
        assert_eq!(failures.closed_for(address("192.0.2.1"), start + WINDOW), None);
        failures.count(address("192.0.2.1"), start + WINDOW);
        assert_eq!(failures.closed_for(address("192.0.2.1"), start + WINDOW), None, "counted anew");
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
        let last = MOST_ADDRESSES as u32 + 100;
        for number in 0..=last {
            failures.count(IpAddr::from(number.to_be_bytes()), start + Duration::from_millis(number.into()) / 1000);
        }
        assert_eq!(failures.by_address.len(), MOST_ADDRESSES);
        assert!(!failures.by_address.contains_key(&address("0.0.0.0")));
        assert!(failures.by_address.contains_key(&IpAddr::from(last.to_be_bytes())));
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
