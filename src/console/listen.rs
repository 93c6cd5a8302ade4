//! Listening on a port that one program alone may have, except for the moment in which a new process takes over from an
//! old one.
//!
//! An upgrade hands over the gateway's own listeners, but not this one: old and new process have to listen on the console's
//! port together for a while, for which both sockets need `SO_REUSEPORT`. Set from the beginning, that option would
//! also let two gateways that were started by mistake share the port and split its connections between them. So the socket
//! is bound without it, which fails when anybody else has the port, and gets it afterwards, which lets a successor
//! in; and only a process that was told that it is a successor binds with the option set.

use socket2::{Domain, Protocol, Socket, Type};
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 256;

/// Whether the port may be in use by another process of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// A port in use is an error.
    Exclusive,
    /// This process takes over from one that still listens (`--upgrade`).
    Successor,
}

/// An address that cannot be listened on.
#[derive(Debug)]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// What the kernel said.
    pub source: io::Error,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, source } = self;
        match source.kind() {
            io::ErrorKind::AddrInUse => write!(
                f,
                "the console cannot listen on {address}: port {} is in use by another program (another orbyt?); stop it, or \
                 set ORBYT_CONSOLE_LISTEN or [console] listen to another port",
                address.port()
            ),
            _ => write!(f, "the console cannot listen on {address}: {source}"),
        }
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Listens on an address, ready to be given to tokio.
pub(super) fn bind(address: SocketAddr, sharing: Sharing) -> Result<TcpListener, ListenError> {
    let listen = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // Connections of a former process that linger in TIME_WAIT do not count as use.
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(sharing == Sharing::Successor)?;
        socket.bind(&address.into())?;
        socket.set_reuse_port(true)?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    listen().map_err(|source| ListenError { address, source })
}

/// The same for an address that can be done without.
pub(super) fn bind_if_free(address: SocketAddr, sharing: Sharing) -> Option<TcpListener> {
    bind(address, sharing).inspect_err(|error| log::warn!("DevTools has no address of its own: {}", error.source)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any() -> SocketAddr {
        ([127, 0, 0, 1], 0).into()
    }

    #[test]
    fn a_port_in_use_is_an_error_that_names_it_whoever_has_it() {
        let ours = bind(any(), Sharing::Exclusive).unwrap();
        let foreign = TcpListener::bind(any()).unwrap();
        for taken in [ours.local_addr().unwrap(), foreign.local_addr().unwrap()] {
            let error = bind(taken, Sharing::Exclusive).unwrap_err();
            assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
            assert!(error.to_string().contains(&format!("{taken}: port {} is in use", taken.port())), "{error}");
        }
    }

    #[test]
    fn a_successor_listens_beside_its_predecessor_but_not_beside_a_stranger() {
        let predecessor = bind(any(), Sharing::Exclusive).unwrap();
        let address = predecessor.local_addr().unwrap();
        let successor = bind(address, Sharing::Successor).unwrap();
        drop(predecessor);
        assert_eq!(successor.local_addr().unwrap(), address);
        assert!(std::net::TcpStream::connect(address).is_ok());

        let stranger = TcpListener::bind(any()).unwrap();
        assert!(bind(stranger.local_addr().unwrap(), Sharing::Successor).is_err());
    }

    #[test]
    fn an_address_of_another_machine_is_an_error_that_names_it() {
        let address: SocketAddr = ([192, 0, 2, 1], 4000).into();
        let error = bind(address, Sharing::Exclusive).unwrap_err();
        assert!(error.to_string().starts_with("the console cannot listen on 192.0.2.1:4000: "), "{error}");
    }
}
