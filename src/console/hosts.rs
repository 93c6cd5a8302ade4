//! By which names the console answers on the loopback interface. A page of another site can have its own name point to 127.0.0.1 (DNS rebinding)
//! and would be taken by the browser for the console's; such a name is public, so it has a dot, and is not `localhost`.

use super::problem::Problem;
use super::routes::Shared;
use super::serve::{Local, Peer};
use axum::extract::{Extension, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// Refuses what came by the loopback interface and asks for a name that may be anybody's, unless a proxy that is trusted passes it on.
pub(super) async fn own_names_alone(
    State(shared): State<Arc<Shared>>,
    Extension(Peer(peer)): Extension<Peer>,
    Extension(Local(local)): Extension<Local>,
    request: Request,
    next: Next,
) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| request.uri().authority().map(|it| it.as_str()));
    let by_proxy = || (shared.deps.snapshot)().server.trusted_proxies.iter().any(|net| net.contains(peer.ip()));
    if !local.to_canonical().is_loopback() || host.is_none_or(is_own) || by_proxy() {
        return next.run(request).await;
    }
    let detail = "On this machine the console answers by its address or as localhost alone, since anybody's name can be made to point here. \
                  A proxy that passes other names on is to stand in server.trusted_proxies.";
    Problem::new(StatusCode::MISDIRECTED_REQUEST, detail).into_response()
}

/// Whether a browser that shows this host can only have got here on purpose: an address, `localhost`, or a name without a dot, which nobody can
/// have registered.
fn is_own(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => return rest.split(']').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name.parse::<IpAddr>().is_ok() || name.ends_with(".localhost") || !name.contains('.')
}

#[cfg(test)]
mod tests {
    use super::is_own;

    #[test]
    fn an_address_and_a_local_name_are_its_own_and_a_public_name_is_not() {
        let own = [
            "127.0.0.1:4000",
            "127.0.0.1",
            "[::1]:4000",
            "localhost:4000",
            "LOCALHOST.",
            "a.localhost:1",
            "orbyt",
            "192.0.2.1:4000",
        ];
        for host in own {
            assert!(is_own(host), "{host}");
        }
        let others = [
            "evil.example:4000",
            "evil.example.",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "[evil.example]:4000",
            "1.2.3",
        ];
        for host in others {
            assert!(!is_own(host), "{host}");
        }
    }
}
