//! What is said at `upgrade.sock` and between a process and its successor: lines of JSON, the first of which carries sockets.

use super::super::listeners::Listener;
use super::socket_path;
use crate::store::file::{hear, say};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// The version of what is said; a successor that knows another one says so and ends.
pub(super) const PROTOCOL: u32 = 1;
/// How many sockets can be handed over. The kernel takes 253 at once.
pub(super) const MOST_SOCKETS: usize = 128;
/// The longest line.
pub(super) const LONGEST: u64 = 1 << 20;

/// What `orbyt upgrade` asks for.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    /// The program to go on with.
    pub binary: PathBuf,
    /// Whether it is told of the requests in flight until the process has ended.
    #[serde(default)]
    pub wait: bool,
}

/// What `orbyt upgrade` is told.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// A step, for people.
    Step(String),
    /// It is done: the successor serves.
    Done {
        /// The process that leaves.
        leaves: u32,
        /// Its successor.
        serves: u32,
    },
    /// It is not done, and everything is as it was.
    Failed(String),
}

/// What a successor is offered, beside the sockets.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Offer {
    pub(super) protocol: u32,
    pub(super) version: String,
    pub(super) pid: u32,
    /// The sockets' addresses, configured and actual, in the order of the descriptors.
    pub(super) listeners: Vec<(SocketAddr, SocketAddr)>,
}

/// What a successor answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// It serves.
    Serving {
        version: String,
        /// Where, for people.
        listens: Vec<String>,
    },
    /// It does not, for this reason.
    Failed(String),
}

/// The sockets are the successor's alone.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Yours {
    pub(super) yours: bool,
}

/// Writes an offer, with the sockets.
pub(super) fn send_offer(stream: &mut UnixStream, offer: &Offer, listeners: &[Listener]) -> io::Result<()> {
    let mut line = serde_json::to_vec(offer)?;
    line.push(b'\n');
    let sockets: Vec<_> = listeners.iter().map(|one| one.socket.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !sockets.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err(io::Error::other(format!("{} sockets are too many to be handed over", sockets.len())));
    }
    let sent = rustix::net::sendmsg(&*stream, &[IoSlice::new(&line)], &mut ancillary, SendFlags::NOSIGNAL)?;
    stream.write_all(&line[sent..])
}

/// Reads an offer, with the sockets; `None` at the end.
pub(super) fn receive_offer(stream: &mut UnixStream) -> io::Result<Option<(Offer, Vec<Listener>)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut line = vec![0; 64 << 10];
    let read =
        rustix::net::recvmsg(&*stream, &mut [IoSliceMut::new(&mut line)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    line.truncate(read.bytes);
    let rights = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
        _ => None,
    });
    let sockets: Vec<OwnedFd> = rights.flatten().collect();
    if line.is_empty() {
        return Ok(None);
    }
    // Nothing comes behind an offer until it is answered.
    if !line.ends_with(b"\n") {
        BufReader::new(stream.take(LONGEST)).read_until(b'\n', &mut line)?;
    }
    let offer: Offer = serde_json::from_slice(&line)?;
    if offer.listeners.len() != sockets.len() {
        return Err(io::Error::new(ErrorKind::InvalidData, "the sockets are not those that were announced"));
    }
    let listener = |((configured, actual), socket): (&(SocketAddr, SocketAddr), OwnedFd)| Listener {
        configured: *configured,
        actual: *actual,
        socket: TcpListener::from(socket),
    };
    let listeners = offer.listeners.iter().zip(sockets).map(listener).collect();
    Ok(Some((offer, listeners)))
}

/// Orders an upgrade from the gateway of this data directory, and hands on what it tells until it says no more.
///
/// # Errors
/// A text for the operator when nobody takes the order, or the connection breaks.
pub fn ask(data_dir: &Path, order: &Order, mut told: impl FnMut(Told)) -> Result<(), String> {
    let path = socket_path(data_dir);
    let broken = |error: io::Error| match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
            format!("the gateway at {} has been replaced, or has ended, in this moment: try again", path.display())
        }
        _ => format!("the gateway at {} does not answer: {error}", path.display()),
    };
    let mut stream = UnixStream::connect(&path).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            format!(
                "no gateway that can be upgraded runs in {}: nobody listens at upgrade.sock there",
                data_dir.display()
            )
        }
        ErrorKind::PermissionDenied => {
            format!("{} is another user's: run this as the user of the gateway, or as root", path.display())
        }
        _ => broken(error),
    })?;
    say(&mut stream, order).map_err(broken)?;
    let mut lines = BufReader::new(stream);
    while let Some(one) = hear(&mut lines, LONGEST).map_err(broken)? {
        told(one);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_arrives_with_its_sockets() {
        let (mut one, mut other) = UnixStream::pair().unwrap();
        let sockets: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let listener = |socket: TcpListener| {
            let actual = socket.local_addr().unwrap();
            Listener { configured: ([127, 0, 0, 1], 0).into(), actual, socket }
        };
        let listeners: Vec<Listener> = sockets.into_iter().map(listener).collect();
        let addresses: Vec<_> = listeners.iter().map(|one| (one.configured, one.actual)).collect();
        let offer = Offer { protocol: PROTOCOL, version: "1".to_owned(), pid: 7, listeners: addresses.clone() };
        send_offer(&mut one, &offer, &listeners).unwrap();
        drop(listeners);
        let (heard, received) = receive_offer(&mut other).unwrap().unwrap();
        assert_eq!((heard.pid, &heard.listeners), (7, &addresses));
        for listener in received {
            assert_eq!(listener.socket.local_addr().unwrap(), listener.actual);
            assert!(std::net::TcpStream::connect(listener.actual).is_ok());
        }
        drop(one);
        assert!(receive_offer(&mut other).unwrap().is_none());
    }

    #[test]
    fn sockets_that_were_not_announced_are_an_error() {
        let (mut one, mut other) = UnixStream::pair().unwrap();
        let announced = ([127, 0, 0, 1], 1).into();
        let offer =
            Offer { protocol: PROTOCOL, version: "1".to_owned(), pid: 7, listeners: vec![(announced, announced)] };
        send_offer(&mut one, &offer, &[]).unwrap();
        assert!(receive_offer(&mut other).is_err());
    }
}
