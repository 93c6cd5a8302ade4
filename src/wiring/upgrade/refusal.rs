//! Who would take the end of the process that was replaced for the end of the service, so that it cannot be replaced: a container, or a systemd that
//! does not hear which process is the main one.

/// The socket of the service manager.
const SOCKET: &str = "NOTIFY_SOCKET";
/// The process that systemd has started (`systemd.exec(5)`).
const STARTED: &str = "SYSTEMD_EXEC_PID";
/// First processes of containers that end with the one that they have started (`docker run --init`, …).
const INITS: [&str; 4] = ["docker-init", "tini", "dumb-init", "catatonit"];

/// Why this process cannot be replaced by another one, if it cannot.
pub(super) fn why() -> Option<&'static str> {
    let pid = std::process::id();
    let parent = rustix::process::getppid().map_or(0, |parent| parent.as_raw_nonzero().get());
    // What cannot be read is no container's: everybody may read it there.
    let first = std::fs::read_to_string("/proc/1/comm").unwrap_or_default();
    let is_contained = pid == 1 || parent == 1 && INITS.contains(&first.trim());
    let is_started_by_systemd = std::env::var(STARTED).is_ok_and(|started| started == pid.to_string());
    refuse(is_contained, is_started_by_systemd, std::env::var_os(SOCKET).is_some())
}

fn refuse(is_contained: bool, is_started_by_systemd: bool, may_notify: bool) -> Option<&'static str> {
    if is_contained {
        return Some("it is the process that a container ends with: start another container instead");
    }
    if is_started_by_systemd && !may_notify {
        return Some(
            "systemd would take its end for the end of the service: set Type=notify (or NotifyAccess=main) in the unit and restart it once",
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_nobody_may_take_the_place_of_says_so() {
        assert_eq!(refuse(false, false, false), None);
        assert_eq!(refuse(false, true, true), None);
        assert!(refuse(true, false, false).unwrap().contains("container"));
        assert!(refuse(false, true, false).unwrap().contains("Type=notify"));
    }
}
