//! Whose the files of a data directory are: its owner's, also where root has made them. An administrator's `sudo orbyt …` would otherwise leave
//! files behind that the gateway, which runs as another user, cannot open.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::Path;

/// Gives a file that root has made to the owner of its directory. Does nothing for anybody else, and where the system does not let root.
///
/// # Errors
/// The system's.
pub fn give_to_owner(file: &File, path: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let (owner, now) = (fs::metadata(directory(path))?, file.metadata()?);
    // What is somebody's already stays theirs.
    if owner.uid() == 0 || now.uid() != 0 {
        return Ok(());
    }
    match fchown(file, Some(owner.uid()), Some(owner.gid())) {
        // The root of a container that may not.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        done => done,
    }
}

/// The directory of a file.
pub(super) fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{claim, lock, make_for_owner, make_private, write_private};
    use super::*;
    use std::os::unix::fs::chown;

    #[test]
    fn what_root_makes_in_the_directory_of_another_user_is_that_users() {
        let (folder, own) = (tempfile::tempdir().unwrap(), rustix::process::geteuid());
        // Whoever runs this as root can make another user's directory; for all others it is their own.
        let owner = if own.is_root() { 65_534 } else { own.as_raw() };
        if own.is_root() {
            chown(folder.path(), Some(owner), Some(owner)).unwrap();
        }
        let path = |name: &str| folder.path().join(name);
        let owner_of = |name: &str| fs::metadata(path(name)).unwrap().uid();
        write_private(&path("written"), b"x").unwrap();
        assert!(make_for_owner(&path("made"), b"x").unwrap());
        drop(lock(&path("lock")).unwrap());
        drop(claim(folder.path()).unwrap());
        for name in ["written", "made", "lock", "running.lock"] {
            assert_eq!(owner_of(name), owner, "{name}");
        }
        // A backup is whoever makes it, wherever it is put.
        assert!(make_private(&path("backup"), b"x").unwrap());
        assert_eq!(owner_of("backup"), own.as_raw());
    }
}
