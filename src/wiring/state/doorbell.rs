//! `orbyt.sock` in the data directory: whoever has changed the database beside a running gateway rings here, and is answered when the
//! gateway has taken the change over. Without an answer the change is noticed all the same, a moment later.

use super::Follower;
use crate::store::file::listen_instead;
use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;

/// How long whoever rings waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);
const ANSWER: &[u8] = b"ok\n";

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("orbyt.sock")
}

/// What became of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The gateway has taken the change over.
    Yes,
    /// A gateway is there and has not said so.
    NotYet,
    /// There is none.
    Nobody,
}

/// Tells the gateway of this data directory that the database has changed.
pub fn ring(data_dir: &Path) -> Heard {
    let Ok(mut stream) = UnixStream::connect(path(data_dir)) else { return Heard::Nobody };
    let mut answer = Vec::new();
    let read = stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.read_to_end(&mut answer));
    if read.is_ok() && answer == ANSWER { Heard::Yes } else { Heard::NotYet }
}

/// Listens, unless another gateway does so at this place that this one does not take over from. Must be called in a runtime.
pub(super) fn listen(data_dir: &Path, takes_over: bool) -> std::io::Result<UnixListener> {
    let path = path(data_dir);
    // One that nobody answers at was left by a gateway that was killed.
    if !takes_over && UnixStream::connect(&path).is_ok() {
        return Err(ErrorKind::AddrInUse.into());
    }
    let listener = listen_instead(&path)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Answers everybody who rings, for as long as the gateway runs.
pub(super) async fn answer(listener: UnixListener, follower: Arc<Follower>) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        if follower.refresh().await {
            // Whoever rang may have gone.
            let _ = stream.write_all(ANSWER).await;
        }
    }
}
