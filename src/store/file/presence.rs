//! `running.lock` in the data directory: every process of a gateway holds it together with the others, so that whoever replaces the database
//! can tell that nobody uses it.

use super::owner::give_to_owner;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

fn open(data_dir: &Path) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(data_dir)?;
    let path = data_dir.join("running.lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
    give_to_owner(&file, &path).map(|()| file)
}

fn taken<T>(outcome: Result<T, TryLockError>) -> io::Result<Option<T>> {
    match outcome {
        Ok(done) => Ok(Some(done)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Says that a gateway uses the data directory, until it is dropped; `None` while somebody has it alone.
///
/// # Errors
/// The system's.
pub fn enter(data_dir: &Path) -> io::Result<Option<File>> {
    let file = open(data_dir)?;
    Ok(taken(file.try_lock_shared())?.map(|()| file))
}

/// Has the data directory alone, until it is dropped; `None` while a gateway uses it.
///
/// # Errors
/// The system's.
pub fn claim(data_dir: &Path) -> io::Result<Option<File>> {
    let file = open(data_dir)?;
    Ok(taken(file.try_lock())?.map(|()| file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_gateways_may_be_there_and_who_wants_it_alone_waits_for_all() {
        let folder = tempfile::tempdir().unwrap();
        let one = enter(folder.path()).unwrap().unwrap();
        let two = enter(folder.path()).unwrap().unwrap();
        drop(one);
        assert!(claim(folder.path()).unwrap().is_none());
        drop(two);
        let alone = claim(folder.path()).unwrap().unwrap();
        assert!(enter(folder.path()).unwrap().is_none());
        drop(alone);
        assert!(enter(folder.path()).unwrap().is_some());
    }
}
