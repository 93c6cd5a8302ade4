//! Unix sockets that only their owner may connect to.

use std::fs::Permissions;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// Listens at a path for its owner alone, in the place of whoever did so before.
///
/// # Errors
/// The system's.
pub fn listen_instead(path: &Path) -> io::Result<UnixListener> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let beside = path.with_file_name(name);
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&beside)?;
    // In its place only when nobody else may connect.
    let placed =
        std::fs::set_permissions(&beside, Permissions::from_mode(0o600)).and_then(|()| std::fs::rename(&beside, path));
    if placed.is_err() {
        // It is of no use there; what went wrong is told.
        let _ = std::fs::remove_file(&beside);
    }
    placed.map(|()| listener)
}

/// Whether it is this user who connects, or root.
pub fn is_trusted(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid();
    rustix::net::sockopt::socket_peercred(stream).is_ok_and(|peer| peer.uid == own || peer.uid.is_root())
}
