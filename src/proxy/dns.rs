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

type Known = HashMap<(String, u16), (Arc<[SocketAddr]>, Instant)>;

/// Remembered addresses. Only configured hosts are ever looked up, so it does not grow.
#[derive(Default)]
pub(super) struct Dns(ArcSwap<Known>);

impl Dns {
    /// The addresses of a host, IPv4 before IPv6 (a host without working IPv6 is common, one without IPv4 is not).
    ///
    /// # Errors
    /// A text when the name is not found and never was.
    pub(super) async fn addresses(&self, host: &str, port: u16, now: Instant) -> Result<Arc<[SocketAddr]>, String> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(Arc::new([SocketAddr::new(ip, port)]));
        }
        let key = (host.to_owned(), port);
        let known = self.0.load().get(&key).cloned();
        if let Some((addresses, at)) = &known
            && now.duration_since(*at) < FRESH
        {
            return Ok(addresses.clone());
        }
        let found = tokio::net::lookup_host((host, port)).await.map(|found| {
            let mut list: Vec<SocketAddr> = found.collect();
            list.sort_by_key(SocketAddr::is_ipv6);
            list.dedup();
            list
        });
        match (found, known) {
            (Ok(list), _) if !list.is_empty() => {
                let addresses: Arc<[SocketAddr]> = list.into();
                self.0.rcu(|old| {
                    let mut new = Known::clone(old);
                    new.insert(key.clone(), (addresses.clone(), now));
                    new
                });
                Ok(addresses)
            }
            (_, Some((addresses, at))) if now.duration_since(at) < USABLE => Ok(addresses),
            (Err(error), _) => Err(format!("the name {host} was not found: {error}")),
            (Ok(_), _) => Err(format!("the name {host} has no address")),
        }
    }
}
