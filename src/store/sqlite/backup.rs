//! Copies of the database: one that is made while gateways write, and the way back.

use super::schema::{MIGRATIONS, applied};
use super::{BUSY, FILE, failed};
use crate::store::file::give_to_owner;
use crate::store::migrations::pending;
use crate::store::ports::database::StoreError;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What stands in a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Its size in bytes.
    pub bytes: u64,
    /// How many steps of the schema it has.
    pub schema: usize,
    /// API keys, revoked ones too.
    pub keys: u64,
    /// Sealed keys of providers.
    pub sealed: u64,
    /// Requests in the ledger.
    pub requests: u64,
}

/// Copies the database of a data directory into a new file, as it is at one moment; gateways that use it need not wait.
///
/// # Errors
/// When there is no database, when there is such a file already, or when it cannot be written.
pub fn backup(data_dir: &Path, to: &Path) -> Result<Copied, StoreError> {
    let from = data_dir.join(FILE);
    if !from.exists() {
        return Err(StoreError::Refused(format!("there is no database in {}", data_dir.display())));
    }
    if to.exists() {
        return Err(StoreError::Refused(format!("{} is there already: name another file", to.display())));
    }
    let beside = with_ending(to, &format!(".{}.new", std::process::id()));
    let copied = copy(&from, &beside).and_then(|()| look(&beside)).and_then(|copied| {
        // Never over a file that somebody has put there meanwhile.
        fs::hard_link(&beside, to).map_err(|error| cannot_write(to, &error))?;
        Ok(copied)
    });
    // It is the copy's first name, or half of one.
    let _ = fs::remove_file(&beside);
    let copied = copied?;
    on_disk(to).map_err(|error| cannot_write(to, &error))?;
    Ok(copied)
}

/// Looks whether a file is a database of this program or an earlier version of it, and whole.
///
/// # Errors
/// When it is damaged, something else, or of a later version.
pub fn look(path: &Path) -> Result<Copied, StoreError> {
    let told = |error| failed(path, &error);
    let bytes = fs::metadata(path)
        .map_err(|error| StoreError::Refused(format!("cannot read {}: {error}", path.display())))?
        .len();
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(told)?;
    connection.busy_timeout(BUSY).map_err(told)?;
    let steps = applied(&connection).map_err(told)?;
    if steps.is_empty() {
        return Err(StoreError::Refused(format!("{} is no database of orbyt", path.display())));
    }
    pending(&path.display().to_string(), &steps, MIGRATIONS)?;
    let verdict: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(told)?;
    if verdict != "ok" {
        return Err(StoreError::Damaged(format!("{} is damaged: {verdict}", path.display())));
    }
    let count = |table: &str| -> Result<u64, StoreError> {
        let is_there = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1)";
        if !connection.query_row(is_there, [table], |row| row.get::<_, bool>(0)).map_err(told)? {
            return Ok(0);
        }
        let count: i64 =
            connection.query_row(&format!("SELECT COUNT(*) FROM {table}"), [], |row| row.get(0)).map_err(told)?;
        Ok(u64::try_from(count).unwrap_or_default())
    };
    let (keys, sealed, requests) = (count("api_keys")?, count("provider_keys")?, count("requests")?);
    Ok(Copied { bytes, schema: steps.len(), keys, sealed, requests })
}

/// Puts a copy into the place of a data directory's database, which nobody may use meanwhile. The database that was there is kept beside it;
/// gives its new path.
///
/// # Errors
/// When the copy cannot be used or put there; then the database is as it was.
pub fn restore(from: &Path, data_dir: &Path, stamp: &str) -> Result<(Copied, Option<PathBuf>), StoreError> {
    look(from)?;
    let place = data_dir.join(FILE);
    let beside = data_dir.join(format!("{FILE}.{}.new", std::process::id()));
    let copied = copy(from, &beside).and_then(|()| look(&beside)).and_then(|copied| {
        let given = File::open(&beside).and_then(|file| give_to_owner(&file, &beside));
        given.map(|()| copied).map_err(|error| cannot_write(&beside, &error))
    });
    let placed = copied.and_then(|copied| {
        let kept = put_aside(&place, stamp).map_err(|error| cannot_write(&place, &error))?;
        match fs::rename(&beside, &place).and_then(|()| on_disk(&place)) {
            Ok(()) => Ok((copied, kept)),
            Err(error) => {
                if let Some(kept) = &kept {
                    // As it was; what went wrong is told.
                    let _ = fs::rename(kept, &place);
                }
                Err(cannot_write(&place, &error))
            }
        }
    });
    if placed.is_err() {
        // It is of no use.
        let _ = fs::remove_file(&beside);
    }
    placed
}

/// Moves the database away, with what SQLite has put beside it.
fn put_aside(place: &Path, stamp: &str) -> io::Result<Option<PathBuf>> {
    if !place.exists() {
        return Ok(None);
    }
    // What stands in its log goes into it, if it can; a damaged one is kept as it is, log and all.
    let folded = Connection::open_with_flags(place, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .and_then(|connection| connection.pragma_update(None, "wal_checkpoint", "TRUNCATE"));
    if let Err(error) = folded {
        log::debug!("{} is put aside as it is: {error}", place.display());
    }
    let kept = with_ending(place, &format!(".before-{stamp}"));
    fs::rename(place, &kept)?;
    for ending in ["-wal", "-shm"] {
        match fs::rename(with_ending(place, ending), with_ending(&kept, ending)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(Some(kept))
}

/// Copies a database into a file that there is not, as one file without a log beside it.
fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    match fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(cannot_write(to, &error)),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(|error| cannot_write(to, &error))?;
    let read = |error| failed(from, &error);
    let written = |error| failed(to, &error);
    let source = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(read)?;
    source.busy_timeout(BUSY).map_err(read)?;
    let mut target = Connection::open(to).map_err(written)?;
    {
        let backup = Backup::new(&source, &mut target).map_err(read)?;
        let begun = Instant::now();
        // All at once: it is one read of the log, which holds up nobody, and a copy in parts would begin anew with each write in between.
        while backup.step(-1).map_err(read)? != StepResult::Done {
            if begun.elapsed() > BUSY {
                return Err(StoreError::Unavailable(format!("{} is locked by another program", from.display())));
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
    target.pragma_update(None, "journal_mode", "DELETE").map_err(written)
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn cannot_write(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Refused(format!("cannot write {}: {error}", path.display()))
}

/// Has the system put a file and its name on the disk.
fn on_disk(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::super::schema;
    use super::*;

    #[test]
    fn what_comes_back_is_what_was_there_and_what_was_replaced_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let connection = schema::open(&data.join(FILE)).unwrap();
        connection.execute("UPDATE revision SET value = 7", []).unwrap();
        let file = folder.path().join("backup.db");
        let copied = backup(&data, &file).unwrap();
        assert_eq!((copied.schema, copied.keys), (MIGRATIONS.len(), 0));
        assert_eq!(look(&file).unwrap(), copied);
        let error = backup(&data, &file).unwrap_err();
        assert!(error.to_string().contains("is there already"), "{error}");
        connection.execute("UPDATE revision SET value = 8", []).unwrap();
        drop(connection);
        let (_, kept) = restore(&file, &data, "x").unwrap();
        let value = |path: &Path| -> i64 {
            Connection::open(path).unwrap().query_row("SELECT value FROM revision", [], |row| row.get(0)).unwrap()
        };
        assert_eq!((value(&data.join(FILE)), value(&kept.unwrap())), (7, 8));
    }

    #[test]
    fn what_is_no_copy_of_this_or_an_earlier_version_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        drop(schema::open(&data.join(FILE)).unwrap());
        let before = fs::read(data.join(FILE)).unwrap();
        let (text, other, later, cut) = (
            folder.path().join("text"),
            folder.path().join("other"),
            folder.path().join("later"),
            folder.path().join("cut"),
        );
        fs::write(&text, "no database, but long enough to be looked at ".repeat(100)).unwrap();
        Connection::open(&other).unwrap().execute("CREATE TABLE t (x)", []).unwrap();
        backup(&data, &later).unwrap();
        let add = "INSERT INTO schema_migrations (version, name, sha256) VALUES (99, 'later', 'x')";
        fs::copy(&later, &cut).unwrap();
        Connection::open(&later).unwrap().execute(add, []).unwrap();
        let size = fs::metadata(&cut).unwrap().len();
        OpenOptions::new().write(true).open(&cut).unwrap().set_len(size / 2).unwrap();
        for (file, says) in [
            (&text, "is damaged"),
            (&other, "is no database of orbyt"),
            (&later, "of a later version"),
            (&cut, "damaged"),
            (&folder.path().join("none"), "cannot read"),
        ] {
            let error = restore(file, &data, "x").unwrap_err().to_string();
            assert!(error.contains(says), "{says}: {error}");
            assert_eq!(fs::read(data.join(FILE)).unwrap(), before);
        }
        assert!(
            fs::read_dir(&data).unwrap().all(|entry| !entry.unwrap().path().to_string_lossy().contains(".before-"))
        );
    }
}
