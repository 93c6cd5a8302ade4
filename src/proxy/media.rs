//! Fetches pictures and documents that a request gives by address, for providers that take none; off unless `[media] fetch_remote`.
//!
//! A client chooses the address, so the gateway must not be led to where the client cannot go itself: only `https` and `http` on
//! their own ports, only addresses that are public, the connection pinned to the address that was checked, no redirects.

use crate::config::snapshot::Media as Rules;
use crate::dialect::chat::{Media, PartKind, Request};
use crate::domain::Fault;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// How long one file may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// How many files one request may have fetched.
const MOST_FILES: usize = 16;

/// Whether a request holds media by address.
pub(super) fn has_remote(request: &Request) -> bool {
    request.messages.iter().flat_map(|message| &message.parts).any(|part| remote(&part.kind).is_some())
}

/// Puts the bytes in the place of every address.
///
/// # Errors
/// `BadRequest` that names the message and says what is wrong with the address.
pub(super) async fn fetch_all(request: &mut Request, rules: &Rules) -> Result<(), Fault> {
    let mut fetched = 0;
    for (at, message) in request.messages.iter_mut().enumerate() {
        for (place, part) in message.parts.iter_mut().enumerate() {
            let Some(url) = remote(&part.kind).map(str::to_owned) else { continue };
            let param = format!("messages[{at}].content[{place}]");
            fetched += 1;
            if fetched > MOST_FILES {
                return Err(Fault::bad_request(param, "the request gives more than 16 files by address"));
            }
            let inline = fetch(&url, rules)
                .await
                .map_err(|why| Fault::bad_request(param, format!("the file was not fetched: {why}")))?;
            replace(&mut part.kind, inline);
        }
    }
    Ok(())
}

fn remote(kind: &PartKind) -> Option<&str> {
    match kind {
        PartKind::Image { source: Media::Url(url), .. }
        | PartKind::File { source: Media::Url(url), .. }
        | PartKind::Audio { source: Media::Url(url) }
        | PartKind::Video { source: Media::Url(url) } => Some(url),
        _ => None,
    }
}

fn replace(kind: &mut PartKind, inline: Media) {
    match kind {
        PartKind::Image { source, .. }
        | PartKind::File { source, .. }
        | PartKind::Audio { source }
        | PartKind::Video { source } => {
            *source = inline;
        }
        PartKind::Text(_) | PartKind::Refusal(_) => {}
    }
}

async fn fetch(url: &str, rules: &Rules) -> Result<Media, String> {
    let url = reqwest::Url::parse(url).map_err(|_| "its address is not a URL".to_owned())?;
    let port = match (url.scheme(), url.port()) {
        ("https", None) => 443,
        ("http", None) => 80,
        ("https" | "http", Some(_)) => return Err("its address names a port".to_owned()),
        _ => return Err("its address is neither https nor http".to_owned()),
    };
    let host = url.host_str().ok_or("its address has no host")?.trim_matches(['[', ']']).to_owned();
    let found =
        tokio::net::lookup_host((host.as_str(), port)).await.map_err(|_| "its host was not found".to_owned())?;
    let addresses: Vec<SocketAddr> = found.collect();
    // One private address among public ones is enough to refuse: the next look-up could lead there.
    if addresses.is_empty() || !addresses.iter().all(|address| is_public(address.ip())) {
        return Err("its host is not on the public internet".to_owned());
    }
    let client = reqwest::Client::builder()
        .timeout(PATIENCE)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .resolve_to_addrs(&host, &addresses)
        .build()
        .map_err(|_| "the gateway cannot make a connection".to_owned())?;
    let mut answer = client.get(url).send().await.map_err(|error| error.without_url().to_string())?;
    if answer.status() != reqwest::StatusCode::OK {
        return Err(format!("its server answered with status {}", answer.status().as_u16()));
    }
    let media_type = answer.headers().get(reqwest::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type =
        media_type.and_then(|value| value.split(';').next()).unwrap_or("application/octet-stream").trim().to_owned();
    let mut bytes = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(|error| error.without_url().to_string())? {
        bytes.extend_from_slice(&piece);
        if bytes.len() as u64 > rules.max_bytes {
            return Err(format!("it is larger than {} bytes (media.max_bytes)", rules.max_bytes));
        }
    }
    Ok(Media::Inline { media_type, data: STANDARD.encode(bytes) })
}

/// Whether an address is one that anybody could reach: not private, not local, not reserved, not a cloud's metadata service.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let benchmark = a == 198 && (b == 18 || b == 19);
    let protocol = a == 192 && b == 0 && c == 0;
    !(v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local()
        || v4.is_broadcast()
        || v4.is_documentation()
        || v4.is_multicast()
        || a == 0
        || a >= 240
        || shared
        || benchmark
        || protocol)
}

fn is_public_v6(v6: Ipv6Addr) -> bool {
    let segments = v6.segments();
    // Only global unicast, without the ranges in it that carry IPv4 addresses (6to4, Teredo) or are for documentation.
    let global = (segments[0] & 0xe000) == 0x2000;
    let carries_v4 = segments[0] == 0x2002 || (segments[0] == 0x2001 && segments[1] == 0);
    let documentation = segments[0] == 0x2001 && segments[1] == 0xdb8;
    global && !carries_v4 && !documentation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_fetched_from() {
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in ["8.8.8.8", "1.1.1.1", "2606:4700::1111"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    #[tokio::test]
    async fn refuses_what_leads_inside() {
        let rules = Rules { fetch_remote: true, max_bytes: 1000 };
        for (url, why) in [
            ("http://127.0.0.1/x.png", "public internet"),
            ("http://[::1]/x.png", "public internet"),
            ("http://localhost/x.png", "public internet"),
            ("http://2130706433/x.png", "public internet"),
            ("http://127.0.0.1:8080/x.png", "port"),
            ("file:///etc/passwd", "neither https nor http"),
            ("ftp://8.8.8.8/x", "neither https nor http"),
            ("nonsense", "not a URL"),
        ] {
            let told = fetch(url, &rules).await.unwrap_err();
            assert!(told.contains(why), "{url}: {told}");
        }
    }
}
