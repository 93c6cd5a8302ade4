//! Addresses: where a provider is, where to listen, which networks are trusted.

use http::{HeaderMap, HeaderValue};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A provider's base URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BaseUrl {
    /// `https`.
    pub tls: bool,
    /// Name or address; an IPv6 address without brackets.
    pub host: String,
    /// Port, the scheme's own when the URL names none.
    pub port: u16,
    /// Path without a trailing slash; empty for the root.
    pub path: String,
    authority: String,
}

impl BaseUrl {
    /// Reads an `http://` or `https://` URL. Slashes at the end of the path are dropped.
    ///
    /// # Errors
    /// A text that says what is wrong. It never repeats the URL, which may carry a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        let tls = match scheme.as_deref() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("must begin with http:// or https://".to_owned()),
        };
        let uri: http::Uri = text.parse().map_err(|_| "is not a URL".to_owned())?;
        let authority = uri.authority().ok_or("has no host")?;
        if authority.as_str().contains('@') {
            return Err("must not carry a user name or password: give the key separately".to_owned());
        }
        if uri.query().is_some() || text.contains('#') {
            return Err("must end with its path, without ? or #".to_owned());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = match authority.as_str().strip_prefix(authority.host()).unwrap_or_default() {
            "" => {
                if tls {
                    443
                } else {
                    80
                }
            }
            port => port.trim_start_matches(':').parse().ok().filter(|port| *port != 0).ok_or("has a bad port")?,
        };
        if host.is_empty() {
            return Err("has no host".to_owned());
        }
        let name = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let authority = if port == if tls { 443 } else { 80 } { name } else { format!("{name}:{port}") };
        Ok(Self { tls, host, port, path: uri.path().trim_end_matches('/').to_owned(), authority })
    }

    /// The path of what stands below it; with `/../` in front, beside the last segment of its own path.
    pub fn path_to(&self, below: &str) -> String {
        match below.strip_prefix("/..") {
            Some(beside) if beside.starts_with('/') => {
                self.path.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned() + beside
            }
            _ => self.path.clone() + below,
        }
    }

    /// What goes into the `host` header: the host, with brackets around an IPv6 address, and the port unless it is the
    /// scheme's own.
    pub fn authority(&self) -> &str {
        &self.authority
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", if self.tls { "https" } else { "http" }, self.authority(), self.path)
    }
}

/// A network in CIDR form: `10.0.0.0/8`, `::1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpNet {
    address: IpAddr,
    prefix: u8,
}

impl IpNet {
    /// Reads an address or a network; `None` when it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.trim().split_once('/') {
            Some((address, prefix)) => (address.parse::<IpAddr>().ok()?, Some(prefix.parse::<u8>().ok()?)),
            None => (text.trim().parse().ok()?, None),
        };
        let widest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(widest);
        (prefix <= widest).then_some(Self { address, prefix })
    }

    /// Whether the address is in the network. An IPv4 address in IPv6 clothes counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address.to_canonical(), address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let shift = 32 - u32::from(self.prefix.min(32));
                u32::from(net).checked_shr(shift) == u32::from(ip).checked_shr(shift)
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let shift = 128 - u32::from(self.prefix);
                u128::from(net).checked_shr(shift) == u128::from(ip).checked_shr(shift)
            }
            _ => false,
        }
    }
}

/// The client's address: the peer's own, or, behind a trusted proxy, the last address in `x-forwarded-for` that is not a trusted
/// proxy itself. Not known when a hop before that one cannot be read: what stands to its left anybody may have written.
pub fn client_address(trusted: &[IpNet], peer: Option<IpAddr>, headers: &HeaderMap) -> Option<IpAddr> {
    let trusted = |address: IpAddr| trusted.iter().any(|net| net.contains(address));
    let peer = peer?;
    if !trusted(peer) {
        return Some(peer);
    }
    let values: Vec<&HeaderValue> =
        headers.get_all("x-forwarded-for").iter().filter(|value| !value.is_empty()).collect();
    for value in values.into_iter().rev() {
        for hop in value.to_str().ok()?.rsplit(',') {
            let address = hop_address(hop.trim())?;
            if !trusted(address) {
                return Some(address);
            }
        }
    }
    Some(peer)
}

/// A hop as proxies write it: an address, some with the port, some in brackets.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let plain = hop.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(hop);
    plain.parse().ok().or_else(|| hop.parse::<std::net::SocketAddr>().ok().map(|address| address.ip()))
}

/// Reads an address to listen on: `127.0.0.1:3001`, `[::]:3001`, `localhost:3001`, or a port alone, which means the
/// loopback address. No name but `localhost` is looked up. `None` when it is none of these.
pub fn listen_address(text: &str) -> Option<SocketAddr> {
    let text = text.trim();
    if let Ok(port) = text.parse::<u16>() {
        return Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    match text.strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().ok()?))),
        None => text.parse().ok(),
    }
}

/// Whether two listeners would want the same port. Port 0 is chosen by the system and never clashes.
pub fn listeners_clash(one: &SocketAddr, other: &SocketAddr) -> bool {
    let everywhere = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && (everywhere || one.ip() == other.ip())
}

/// Whether listeners at `old` are what `new` asks for; port 0 leaves the port to the system, so any will do.
pub(super) fn same_places(old: &[SocketAddr], new: &[SocketAddr]) -> bool {
    let same =
        |(old, new): (&SocketAddr, &SocketAddr)| old.ip() == new.ip() && (new.port() == 0 || old.port() == new.port());
    old.len() == new.len() && old.iter().zip(new).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_below_a_base_url_and_beside_it() {
        for (base, below, path) in [
            ("http://h/v1", "/completions", "/v1/completions"),
            ("http://h", "/completions", "/completions"),
            ("http://h/v1", "/../beta/completions", "/beta/completions"),
            ("http://h/a/v1", "/../beta/completions", "/a/beta/completions"),
            ("http://h", "/../beta/completions", "/beta/completions"),
            ("http://h/v1", "/..x", "/v1/..x"),
        ] {
            assert_eq!(BaseUrl::parse(base).unwrap().path_to(below), path, "{base} {below}");
        }
    }

    #[test]
    fn base_urls_are_taken_apart_and_put_together() {
        for (text, tls, host, port, path, shown) in [
            ("https://api.example/v1", true, "api.example", 443, "/v1", "https://api.example/v1"),
            ("http://h:8080/v1//", false, "h", 8080, "/v1", "http://h:8080/v1"),
            ("http://[::1]:80", false, "::1", 80, "", "http://[::1]"),
            (" https://h:8443/ ", true, "h", 8443, "", "https://h:8443"),
        ] {
            let base = BaseUrl::parse(text).unwrap();
            assert_eq!((base.tls, &*base.host, base.port, &*base.path), (tls, host, port, path), "{text}");
            assert_eq!(base.to_string(), shown);
        }
    }

    #[test]
    fn bad_urls_are_refused_without_being_repeated() {
        for text in [
            "",
            "h/v1",
            "ftp://h",
            "http://",
            "http://user:canary@h/",
            "http://h/?key=canary",
            "http://h:99999",
            "http://h:0",
            "http://h/#x",
        ] {
            let message = BaseUrl::parse(text).unwrap_err();
            assert!(!message.contains("canary"), "{message}");
        }
    }

    #[test]
    fn networks_contain_their_addresses() {
        let inside = |net: &str, ip: &str| IpNet::parse(net).unwrap().contains(ip.parse().unwrap());
        assert!(inside("10.0.0.0/8", "10.1.2.3") && !inside("10.0.0.0/8", "11.0.0.1"));
        assert!(inside("10.0.0.1", "10.0.0.1") && !inside("10.0.0.1", "10.0.0.2"));
        assert!(inside("0.0.0.0/0", "8.8.8.8") && !inside("0.0.0.0/0", "::1"));
        assert!(inside("fd00::/8", "fd12::1") && !inside("fd00::/8", "fe80::1") && inside("::/0", "::1"));
        assert!(inside("127.0.0.1", "::ffff:127.0.0.1"));
        for bad in ["", "10.0.0.0/33", "::/129", "host/8", "10.0.0.0/"] {
            assert_eq!(IpNet::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn listeners_are_read_and_compared() {
        let read = |text: &str| listen_address(text).map(|address| address.to_string());
        assert_eq!(read("3001").as_deref(), Some("127.0.0.1:3001"));
        assert_eq!(read("localhost:1").as_deref(), Some("127.0.0.1:1"));
        assert_eq!(read("[::]:1").as_deref(), Some("[::]:1"));
        assert_eq!(read("example.com:1"), None);
        let clash = |one, other| listeners_clash(&listen_address(one).unwrap(), &listen_address(other).unwrap());
        assert!(clash("3001", "0.0.0.0:3001") && clash("3001", "localhost:3001"));
        assert!(!clash("3001", "3002") && !clash("0", "0") && !clash("127.0.0.1:1", "127.0.0.2:1"));
    }

    #[test]
    fn a_hop_that_cannot_be_read_hides_what_stands_before_it() {
        let proxies = ["10.0.0.0/8", "2001:db8::/32"].map(|net| IpNet::parse(net).unwrap());
        let from = |peer: &str, hops: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for hop in hops {
                headers.append("x-forwarded-for", HeaderValue::from_static(hop));
            }
            client_address(&proxies, peer.parse().ok(), &headers).map(|address| address.to_string())
        };
        for (hops, expected) in [
            (&["192.0.2.1"][..], Some("192.0.2.1")),
            (&["198.51.100.9, 192.0.2.1, 10.0.0.2"], Some("192.0.2.1")),
            (&["198.51.100.9", "192.0.2.1:443, 10.0.0.2"], Some("192.0.2.1")),
            (&["[2001:db9::1]"], Some("2001:db9::1")),
            (&["[2001:db9::1]:443, [2001:db8::1]"], Some("2001:db9::1")),
            (&["10.0.0.3"], Some("10.0.0.1")),
            (&[], Some("10.0.0.1")),
            // The proxy wrote what it saw, and what it saw was no address.
            (&["192.0.2.1, unknown"], None),
            (&["192.0.2.1, 192.0.2.300, 10.0.0.2"], None),
            (&["192.0.2.1", "_hidden"], None),
            (&["192.0.2.1, "], None),
        ] {
            assert_eq!(from("10.0.0.1", hops).as_deref(), expected, "{hops:?}");
        }
        assert_eq!(from("192.0.2.7", &["192.0.2.1, unknown"]).as_deref(), Some("192.0.2.7"), "nobody asked it");
    }
}
