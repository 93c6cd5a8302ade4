//! The sockets that the gateway and its console listen on: bound before anything starts, or taken over from the process before.
//!
//! They stay here beside those who accept on them, so that they can be handed to a successor. All of a socket's copies are one queue in the
//! kernel: a connection that comes in while two processes have it goes to either, and to the other one when the first is gone.

use parking_lot::Mutex;
use pingora::server::{Fds, ListenFds};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::sync::Arc;

/// A socket that listens.
#[derive(Debug)]
pub struct Listener {
    /// The address as it is configured; its port may be 0.
    pub configured: SocketAddr,
    /// The address that it has.
    pub actual: SocketAddr,
    /// The socket.
    pub socket: TcpListener,
}

/// The sockets of a gateway.
#[derive(Debug, Default)]
pub struct Listeners {
    /// Those of the process before which nobody has asked for yet.
    offered: Vec<Listener>,
    open: Vec<Listener>,
}

impl Listeners {
    /// With what the process before has handed over.
    pub fn inherited(offered: Vec<Listener>) -> Self {
        Self { offered, open: Vec::new() }
    }

    /// Listens at this address: with the socket of the process before where it had one there, else with one of `bind`. Gives the address with
    /// the port that it has.
    ///
    /// # Errors
    /// Those of `bind`, and the system's.
    pub fn open(
        &mut self,
        configured: SocketAddr,
        bind: impl FnOnce(SocketAddr) -> Result<TcpListener, String>,
    ) -> Result<SocketAddr, String> {
        let told = |error: io::Error| format!("cannot listen on {configured}: {error}");
        let is_it = |one: &Listener| one.configured == configured || one.actual == configured;
        let listener = match self.offered.iter().position(is_it) {
            Some(at) => Listener { configured, ..self.offered.remove(at) },
            None => {
                let socket = bind(configured)?;
                Listener { configured, actual: socket.local_addr().map_err(told)?, socket }
            }
        };
        listener.socket.set_nonblocking(true).map_err(told)?;
        let actual = listener.actual;
        self.open.push(listener);
        Ok(actual)
    }

    /// Nobody will ask for the rest of what the process before had: once that has ended, nobody listens there.
    pub fn close_rest(&mut self) {
        self.offered.clear();
    }

    /// Copies of the sockets at these addresses.
    ///
    /// # Errors
    /// The system's, when it has no descriptors left.
    pub fn copies(&self, at: &[SocketAddr]) -> io::Result<Vec<TcpListener>> {
        self.open.iter().filter(|one| at.contains(&one.actual)).map(|one| one.socket.try_clone()).collect()
    }

    /// Copies of the sockets at these addresses, as Pingora takes them.
    ///
    /// # Errors
    /// The system's, when it has no descriptors left.
    pub fn for_pingora(&self, at: &[SocketAddr]) -> io::Result<ListenFds> {
        let mut table = Fds::new();
        for one in self.open.iter().filter(|one| at.contains(&one.actual)) {
            table.add(one.actual.to_string(), one.socket.try_clone()?.into_raw_fd());
        }
        Ok(Arc::new(Mutex::new(table)))
    }

    /// All of them, to be handed over.
    pub fn all(&self) -> &[Listener] {
        &self.open
    }

    /// Lets go of them: whoever accepts on copies goes on with these.
    pub fn close(&mut self) {
        self.open.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any() -> SocketAddr {
        ([127, 0, 0, 1], 0).into()
    }

    fn bind(at: SocketAddr) -> Result<TcpListener, String> {
        TcpListener::bind(at).map_err(|error| error.to_string())
    }

    #[test]
    fn what_was_handed_over_is_used_by_its_configured_and_by_its_real_address() {
        let mut before = Listeners::default();
        let (one, two) = (before.open(any(), bind).unwrap(), before.open(any(), bind).unwrap());
        assert_ne!(one, two);
        let copy = |one: &Listener| Listener { socket: one.socket.try_clone().unwrap(), ..*one };
        let mut after = Listeners::inherited(before.all().iter().map(copy).collect());
        before.close();
        assert_eq!(after.open(two, bind).unwrap(), two, "named as it is");
        assert_eq!(after.open(any(), bind).unwrap(), one, "left to the system");
        let third = after.open(any(), bind).unwrap();
        assert!(third != one && third != two);
        assert!(std::net::TcpStream::connect(one).is_ok());
    }

    #[test]
    fn what_nobody_asks_for_is_closed() {
        let mut before = Listeners::default();
        let address = before.open(any(), bind).unwrap();
        let mut after = Listeners::inherited(std::mem::take(&mut before.open));
        after.close_rest();
        assert!(std::net::TcpStream::connect(address).is_err());
    }
}
