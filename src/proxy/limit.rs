//! The limits that stand in front of everything: all requests together, one address, bad keys, requests in flight.
//!
//! The rates are pingora-limits' sliding estimators: two counters an interval, no lock. They come before authentication, so that a
//! flood of bad keys costs as little as any other flood.

use super::error::{ApiError, Reason};
use crate::config::snapshot::Limits;
use pingora_limits::rate::Rate;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// The counters behind `[limits]`.
pub(super) struct Limiter {
    global: Rate,
    addresses: Rate,
    bad_keys: Rate,
    in_flight: Arc<AtomicUsize>,
}

/// A place among the requests in flight; it is given back when it is dropped, also by a task that panics.
#[derive(Debug)]
pub(super) struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Default for Limiter {
    fn default() -> Self {
        Self {
            global: Rate::new(SECOND),
            addresses: Rate::new(SECOND),
            bad_keys: Rate::new(MINUTE),
            in_flight: Arc::default(),
        }
    }
}

impl Limiter {
    /// Lets a request pass or says why not, one address first, so that its flood does not use up what all share.
    ///
    /// # Errors
    /// 429 with a wait.
    pub(super) fn admit(&self, limits: &Limits, address: Option<IpAddr>) -> Result<(), Limited> {
        if let Some(address) = address.map(client_network) {
            if exceeds(&self.addresses, &address, limits.address_per_second) {
                let message = "too many requests from this address (limits.address_per_second)";
                return Err(Limited { limit: "address", message, wait: SECOND });
            }
            if self.bad_keys.observe(&address, 0) >= clamp(limits.bad_key_per_minute) {
                let message = "too many wrong keys from this address (limits.bad_key_per_minute)";
                return Err(Limited { limit: "bad_key", message, wait: MINUTE });
            }
        }
        if exceeds(&self.global, &"all", limits.global_per_second) {
            let message = "the gateway takes no more requests this second (limits.global_per_second)";
            return Err(Limited { limit: "global", message, wait: SECOND });
        }
        Ok(())
    }

    /// Takes note of a wrong key.
    pub(super) fn bad_key(&self, address: Option<IpAddr>) {
        if let Some(address) = address.map(client_network) {
            self.bad_keys.observe(&address, 1);
        }
    }

    /// Takes a place among the requests in flight.
    ///
    /// # Errors
    /// 429 when `limits.concurrent` are there already.
    pub(super) fn enter(&self, limits: &Limits) -> Result<Seat, Limited> {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let seat = Seat(self.in_flight.clone());
        if limits.concurrent.is_some_and(|most| before >= most as usize) {
            let message = "too many requests in flight (limits.concurrent)";
            return Err(Limited { limit: "concurrent", message, wait: SECOND });
        }
        Ok(seat)
    }
}

/// What counts as one client: an IPv4 address, or the /64 network of an IPv6 one, in which a single machine may have any address.
fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        address => address,
    }
}

/// Whether this event goes beyond the limit of its interval.
fn exceeds<K: std::hash::Hash>(rate: &Rate, key: &K, limit: Option<u32>) -> bool {
    limit.is_some_and(|limit| rate.observe(key, 1) > clamp(limit))
}

fn clamp(limit: u32) -> isize {
    isize::try_from(limit).unwrap_or(isize::MAX)
}

/// A limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limited {
    /// Its name in the metrics.
    pub(super) limit: &'static str,
    message: &'static str,
    wait: Duration,
}

impl From<Limited> for ApiError {
    fn from(limited: Limited) -> Self {
        Self::new(Reason::RateLimited, limited.message).retry_after(limited.wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::OnOutage;

    const OFF: Limits = Limits {
        global_per_second: None,
        address_per_second: None,
        bad_key_per_minute: 3,
        concurrent: None,
        rules: Vec::new(),
        assumed_output_tokens: 1000,
        queue_size: 100,
        queue_wait: None,
        on_outage: OnOutage::Local,
    };

    #[test]
    fn the_global_limit_holds_within_an_interval() {
        let (limiter, limits) = (Limiter::default(), Limits { global_per_second: Some(5), ..OFF });
        let passed = (0..20).filter(|_| limiter.admit(&limits, None).is_ok()).count();
        // The clock may turn to the next interval once while the test runs.
        assert!((5..=10).contains(&passed), "{passed}");
    }

    #[test]
    fn one_address_does_not_use_up_anothers_share() {
        let (limiter, limits) = (Limiter::default(), Limits { address_per_second: Some(2), ..OFF });
        let (a, b) = (Some(IpAddr::from([127, 0, 0, 1])), Some(IpAddr::from([127, 0, 0, 2])));
        for _ in 0..20 {
            let _ = limiter.admit(&limits, a);
        }
        assert!(limiter.admit(&limits, a).is_err());
        assert!(limiter.admit(&limits, b).is_ok());
    }

    #[test]
    fn bad_keys_shut_their_address_out() {
        let (limiter, address) = (Limiter::default(), Some(IpAddr::from([127, 0, 0, 1])));
        for _ in 0..3 {
            assert!(limiter.admit(&OFF, address).is_ok());
            limiter.bad_key(address);
        }
        let refused = limiter.admit(&OFF, address).unwrap_err();
        assert_eq!((refused.limit, refused.wait), ("bad_key", MINUTE));
        assert_eq!(ApiError::from(refused).status, 429);
    }

    #[test]
    fn places_in_flight_come_back() {
        let (limiter, limits) = (Limiter::default(), Limits { concurrent: Some(1), ..OFF });
        let seat = limiter.enter(&limits).unwrap();
        assert!(limiter.enter(&limits).is_err());
        drop(seat);
        assert!(limiter.enter(&limits).is_ok());
    }

    #[test]
    fn a_place_comes_back_from_a_task_that_panics() {
        let (limiter, limits) = (Limiter::default(), Limits { concurrent: Some(1), ..OFF });
        let seat = limiter.enter(&limits).unwrap();
        let panicked = std::thread::spawn(move || {
            let _seat = seat;
            panic!("on purpose");
        });
        assert!(panicked.join().is_err());
        assert!(limiter.enter(&limits).is_ok());
    }

    #[test]
    fn a_network_of_ipv6_addresses_is_one_client() {
        let (limiter, limits) = (Limiter::default(), Limits { address_per_second: Some(2), ..OFF });
        let address = |text: &str| Some(text.parse().unwrap());
        for host in 0..20 {
            let _ = limiter.admit(&limits, address(&format!("2001:db8:1:2::{host}")));
        }
        assert!(limiter.admit(&limits, address("2001:db8:1:2:ffff::1")).is_err());
        assert!(limiter.admit(&limits, address("2001:db8:1:3::1")).is_ok());
        assert_eq!(client_network("::ffff:10.1.2.3".parse().unwrap()), IpAddr::from([10, 1, 2, 3]));
    }
}
