//! What systemd is told of an upgrade: that another process is the service's main one from now on (`sd_notify(3)`, `MAINPID=`). Otherwise it would
//! take the end of the process that was replaced for the end of the service.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The socket of the service manager.
const SOCKET: &str = "NOTIFY_SOCKET";
/// The process that systemd has started (`systemd.exec(5)`).
const STARTED: &str = "SYSTEMD_EXEC_PID";

/// Why this process cannot be replaced by another one, if it cannot.
pub(super) fn refusal() -> Option<&'static str> {
    let pid = std::process::id();
    let is_started_by_systemd = std::env::var(STARTED).is_ok_and(|started| started == pid.to_string());
    refuse(pid, is_started_by_systemd, std::env::var_os(SOCKET).is_some())
}

fn refuse(pid: u32, is_started_by_systemd: bool, may_notify: bool) -> Option<&'static str> {
    if pid == 1 {
        return Some("it is the first process of a container, which ends with it: start another container instead");
    }
    if is_started_by_systemd && !may_notify {
        return Some(
            "systemd would take its end for the end of the service: set Type=notify (or NotifyAccess=main) in the unit and restart it once",
        );
    }
    None
}

/// Tells systemd, where it is there, which process is the service's main one.
pub(super) fn main_process_is(pid: u32) {
    let Some(socket) = std::env::var_os(SOCKET) else { return };
    if let Err(error) = notify(&socket, &format!("MAINPID={pid}\n")) {
        log::error!("systemd cannot be told that process {pid} is the main one: {error}");
    }
}

fn notify(socket: &OsString, text: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
    };
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_nobody_may_take_the_place_of_says_so() {
        assert_eq!(refuse(7, false, false), None);
        assert_eq!(refuse(7, true, true), None);
        assert!(refuse(1, false, false).unwrap().contains("container"));
        assert!(refuse(7, true, false).unwrap().contains("Type=notify"));
    }

    #[test]
    fn the_service_manager_hears_by_a_path_and_by_an_abstract_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("orbyt-test-{}", std::process::id());
        let heard = [
            (path.clone().into_os_string(), UnixDatagram::bind(&path).unwrap()),
            (
                format!("@{name}").into(),
                UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name.as_bytes()).unwrap()).unwrap(),
            ),
        ];
        for (socket, manager) in heard {
            notify(&socket, "MAINPID=7\n").unwrap();
            let mut text = [0; 32];
            let length = manager.recv(&mut text).unwrap();
            assert_eq!(&text[..length], b"MAINPID=7\n");
        }
    }
}
