//! Files that only their owner may read, written so that a crash leaves the old or the new one and nothing between.

use super::owner::{directory, give_to_owner};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Replaces a file by one of mode 0600 that is its directory's owner's ([`give_to_owner`]), on disk when it returns. The directory is made with
/// mode 0700 when there is none.
///
/// # Errors
/// The system's; the file is then as it was.
pub fn write_private(path: &Path, contents: &[u8]) -> io::Result<()> {
    put(path, contents, give_to_owner, |temporary| fs::rename(temporary, path))
}

/// As [`write_private`], but in the system's hands only when it returns: it outlives the process, not a power cut.
///
/// # Errors
/// The system's; the file is then as it was.
pub fn replace_private(path: &Path, contents: &[u8]) -> io::Result<()> {
    let directory = directory(path);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let temporary = beside(path, directory);
    let result = write_new(&temporary, contents, give_to_owner, false).and_then(|()| fs::rename(&temporary, path));
    if result.is_err() {
        // As in `put`.
        let _ = fs::remove_file(&temporary);
    }
    result
}

/// Makes a file of mode 0600, unless there is one: that is then left as it is, and the answer is false.
///
/// # Errors
/// The system's.
pub fn make_private(path: &Path, contents: &[u8]) -> io::Result<bool> {
    make(path, contents, |_, _| Ok(()))
}

/// As [`make_private`], and the file is its directory's owner's ([`give_to_owner`]).
///
/// # Errors
/// The system's.
pub fn make_for_owner(path: &Path, contents: &[u8]) -> io::Result<bool> {
    make(path, contents, give_to_owner)
}

fn make(path: &Path, contents: &[u8], give: impl FnOnce(&File, &Path) -> io::Result<()>) -> io::Result<bool> {
    let place = |temporary: &Path| fs::hard_link(temporary, path).and_then(|()| fs::remove_file(temporary));
    match put(path, contents, give, place) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        made => made.map(|()| true),
    }
}

/// Keeps other processes from what is done to the files of a directory until it is dropped. Blocks while another one has it.
///
/// # Errors
/// The system's.
pub fn lock(path: &Path) -> io::Result<File> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory(path))?;
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    give_to_owner(&file, path)?;
    file.lock()?;
    Ok(file)
}

/// As [`lock`], but does not wait: `None` while another process has it.
///
/// # Errors
/// The system's.
pub fn try_lock(path: &Path) -> io::Result<Option<File>> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory(path))?;
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    give_to_owner(&file, path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Writes it beside its place and moves it there.
fn put(
    path: &Path,
    contents: &[u8],
    give: impl FnOnce(&File, &Path) -> io::Result<()>,
    place: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let directory = directory(path);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let temporary = beside(path, directory);
    let result = write_new(&temporary, contents, give, true).and_then(|()| place(&temporary));
    if result.is_err() {
        // What is half written is of no use; that it cannot be removed is not what went wrong.
        let _ = fs::remove_file(&temporary);
    }
    result?;
    // The rename itself is on disk only when the directory is.
    File::open(directory)?.sync_all()
}

fn beside(path: &Path, directory: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    directory.join(name)
}

fn write_new(
    path: &Path,
    contents: &[u8],
    give: impl FnOnce(&File, &Path) -> io::Result<()>,
    on_disk: bool,
) -> io::Result<()> {
    // One left by a crash may have another mode or owner, so it is not written into.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    give(&file, path)?;
    file.write_all(contents)?;
    if on_disk { file.sync_all() } else { Ok(()) }
}
