//! The side of the process that takes over: it was started by the one that serves, which is at the other end of its standard input.

use super::super::listeners::Listener;
use super::message::{LONGEST, Outcome, PROTOCOL, Yours, receive_offer};
use crate::cli::summary::Listening;
use crate::store::file::{hear, say};
use std::fs::File;
use std::io::{self, BufReader};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How long the process before may take for its side.
const PATIENCE: Duration = Duration::from_secs(10);

/// The process that served before.
#[derive(Debug)]
pub struct Predecessor {
    stream: UnixStream,
    /// Its process id.
    pub pid: u32,
    /// Its version.
    pub version: String,
    listeners: Vec<Listener>,
}

impl Predecessor {
    /// Hears what it offers.
    ///
    /// # Errors
    /// A text for the operator: nobody is there, or what it says is not understood.
    pub fn meet() -> Result<Self, String> {
        let lost = |error: io::Error| format!("the process to be replaced cannot be heard: {error}");
        let mut stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().map_err(lost)?);
        // What a program reads by mistake is not meant for it.
        rustix::stdio::dup2_stdin(File::open("/dev/null").map_err(lost)?).map_err(|error| lost(error.into()))?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(lost)?;
        let offer = receive_offer(&mut stream).map_err(lost)?;
        let Some((offer, listeners)) = offer else {
            return Err("--successor is what `orbyt upgrade` starts a process with: use that".to_owned());
        };
        let met = Self { stream, pid: offer.pid, version: offer.version, listeners };
        if offer.protocol == PROTOCOL {
            return Ok(met);
        }
        let message = format!(
            "orbyt {} cannot take over from orbyt {}, which hands over in another way: restart the service",
            env!("CARGO_PKG_VERSION"),
            met.version
        );
        met.failed(&message);
        Err(message)
    }

    /// The sockets that it had, for this process to accept on beside it.
    pub fn take_listeners(&mut self) -> Vec<Listener> {
        std::mem::take(&mut self.listeners)
    }

    /// Tells it why this process does not serve.
    pub fn failed(mut self, why: &str) {
        // Where it cannot be told, it sees that this process has ended.
        let _ = say(&mut self.stream, &Outcome::Failed(why.to_owned()));
    }

    /// Tells it that this process serves, and waits until it accepts no more connections.
    pub fn replace(mut self, listening: &Listening) {
        let addresses = |scheme: &str, at: &[std::net::SocketAddr]| -> Vec<String> {
            at.iter().map(|address| format!("{scheme}://{address}")).collect()
        };
        let mut listens = addresses("http", &listening.gateway);
        listens.extend(addresses("https", &listening.tls));
        listens.extend(addresses("console http", &listening.console));
        let serving = Outcome::Serving { version: env!("CARGO_PKG_VERSION").to_owned(), listens };
        let left =
            say(&mut self.stream, &serving).and_then(|()| hear::<Yours>(&mut BufReader::new(&self.stream), LONGEST));
        match left {
            Ok(Some(Yours { yours: true })) => {
                log::info!("took over from process {} (orbyt {})", self.pid, self.version);
            }
            // Whatever became of it: this process has the sockets, and serves.
            Ok(_) => log::warn!("process {} went before it had handed over", self.pid),
            Err(error) => log::warn!("process {} did not say that it had handed over: {error}", self.pid),
        }
    }
}
