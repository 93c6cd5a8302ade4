//! Addresses of providers: looked up without blocking and remembered for a while, because Pingora's own peer would look a name up
//! while it blocks the worker, and panic when it is not found.

use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an answer is good for. Providers behind load balancers change addresses, but not by the second.
const FRESH: Duration = Duration::from_secs(30);
/// How long an old answer is better than none.
const USABLE: Duration = Duration::from_secs(3600);

/// By port, then by name, so that a look-up needs no key of its own.
type Known = HashMap<u16, HashMap<String, (Arc<[SocketAddr]>, Instant)>>;

/// Remembered addresses. Only configured hosts are ever looked up, so it does not grow.
#[derive(Default)]
pub(super) struct Dns(ArcSwap<Known>);

impl Dns {
    /// The addresses of a host that need no look-up: its own, or those of a recent one.
    pub(super) fn known(&self, host: &str, port: u16, now: Instant) -> Option<Arc<[SocketAddr]>> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Some(Arc::new([SocketAddr::new(ip, port)]));
        }
        self.remembered(host, port).filter(|(_, at)| now.duration_since(*at) < FRESH).map(|(addresses, _)| addresses)
    }

    /// The addresses of a host from a look-up that is not recent, for when no other comes.
    pub(super) fn stale(&self, host: &str, port: u16, now: Instant) -> Option<Arc<[SocketAddr]>> {
        self.remembered(host, port).filter(|(_, at)| now.duration_since(*at) < USABLE).map(|(addresses, _)| addresses)
    }

    fn remembered(&self, host: &str, port: u16) -> Option<(Arc<[SocketAddr]>, Instant)> {
        self.0.load().get(&port)?.get(host).cloned()
    }

    /// Looks a host's addresses up, IPv4 before IPv6 (a host without working IPv6 is common, one without IPv4 is not).
    ///
    /// # Errors
    /// A text when the name is not found, and was not within the last hour.
    pub(super) async fn look_up(&self, host: &str, port: u16, now: Instant) -> Result<Arc<[SocketAddr]>, String> {
        let found = tokio::net::lookup_host((host, port)).await.map(|found| {
            let mut list: Vec<SocketAddr> = found.collect();
            list.sort_by_key(SocketAddr::is_ipv6);
            list.dedup();
            list
        });
        match (found, self.stale(host, port, now)) {
            (Ok(list), _) if !list.is_empty() => {
                let addresses: Arc<[SocketAddr]> = list.into();
                self.0.rcu(|old| {
                    let mut new = Known::clone(old);
                    new.entry(port).or_default().insert(host.to_owned(), (addresses.clone(), now));
                    new
                });
                Ok(addresses)
            }
            (_, Some(addresses)) => Ok(addresses),
            (Err(error), _) => Err(format!("the name {host} was not found: {error}")),
            (Ok(_), _) => Err(format!("the name {host} has no address")),
        }
    }
}
