//! Listening on a port that one program alone may have.
//!
//! An upgrade hands over the sockets themselves, the console's like the gateway's: a successor does not bind, so it need not share the port by
//! `SO_REUSEPORT`, with which two gateways that were started by mistake would split its connections between them.

use socket2::{Domain, Protocol, Socket, Type};
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 256;

/// Where the sockets come from.
#[derive(Debug)]
pub enum Sharing {
    /// They are made here; a port in use is an error.
    Exclusive,
    /// They are there already, at some of the addresses or at all of them.
    Given(Vec<TcpListener>),
}

impl Sharing {
    /// The socket at this address, made where none was given.
    pub(super) fn socket(&mut self, address: SocketAddr) -> Result<TcpListener, ListenError> {
        if let Self::Given(sockets) = self
            && let Some(at) = sockets.iter().position(|socket| socket.local_addr().is_ok_and(|own| own == address))
        {
            return Ok(sockets.swap_remove(at));
        }
        bind(address)
    }

    /// The same for an address that can be done without.
    pub(super) fn socket_if_free(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let without = |error: &ListenError| log::warn!("DevTools has no address of its own: {}", error.source);
        self.socket(address).inspect_err(without).ok()
    }
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
///
/// # Errors
/// When it cannot be listened on, which the error names.
pub fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let listen = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // Connections of a former process that linger in TIME_WAIT do not count as use.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    listen().map_err(|source| ListenError { address, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any() -> SocketAddr {
        ([127, 0, 0, 1], 0).into()
    }

    #[test]
    fn a_port_in_use_is_an_error_that_names_it_whoever_has_it() {
        let ours = bind(any()).unwrap();
        let foreign = TcpListener::bind(any()).unwrap();
        for taken in [ours.local_addr().unwrap(), foreign.local_addr().unwrap()] {
            let error = bind(taken).unwrap_err();
            assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
            assert!(error.to_string().contains(&format!("{taken}: port {} is in use", taken.port())), "{error}");
        }
    }

    #[test]
    fn a_socket_that_is_given_is_used_and_another_address_is_bound() {
        let given = bind(any()).unwrap();
        let address = given.local_addr().unwrap();
        let mut sharing = Sharing::Given(vec![given]);
        assert_ne!(sharing.socket(any()).unwrap().local_addr().unwrap(), address);
        let used = sharing.socket(address).unwrap();
        assert_eq!(used.local_addr().unwrap(), address);
        assert!(std::net::TcpStream::connect(address).is_ok());
        assert!(sharing.socket(address).is_err(), "it was given once");
    }

    #[test]
    fn an_address_of_another_machine_is_an_error_that_names_it() {
        let address: SocketAddr = ([192, 0, 2, 1], 4000).into();
        let error = bind(address).unwrap_err();
        assert!(error.to_string().starts_with("the console cannot listen on 192.0.2.1:4000: "), "{error}");
    }
}
