//! What Orbyt is measured against: the smallest proxy that Pingora makes. It passes everything through and does nothing else.

use async_trait::async_trait;
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};
use std::net::SocketAddr;
use std::sync::Arc;

struct Bare {
    upstream: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }
}

/// Serves on one thread until the process ends.
pub fn serve(listen: &str, upstream: SocketAddr) -> ! {
    let mut server = Server::new_with_opt_and_conf(None, ServerConf { threads: 1, ..ServerConf::default() });
    server.bootstrap();
    let mut service = http_proxy_service(&Arc::clone(&server.configuration), Bare { upstream });
    service.add_tcp(listen);
    server.add_service(service);
    server.run_forever()
}
