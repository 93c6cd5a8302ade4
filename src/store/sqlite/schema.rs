//! The file itself: how it is opened, and its schema.

use super::{BUSY, failed};
use crate::store::file::give_to_owner;
use crate::store::migrations::{Applied, Migration, pending};
use crate::store::ports::database::StoreError;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior, params};
use std::fs::{DirBuilder, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// The steps of the schema.
pub const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "0001_tenancy", sql: include_str!("../../../migrations/sqlite/0001_tenancy.sql") },
    Migration { version: 2, name: "0002_vault", sql: include_str!("../../../migrations/sqlite/0002_vault.sql") },
    Migration { version: 3, name: "0003_own", sql: include_str!("../../../migrations/sqlite/0003_own.sql") },
    Migration { version: 4, name: "0004_audit", sql: include_str!("../../../migrations/sqlite/0004_audit.sql") },
    Migration { version: 5, name: "0005_ledger", sql: include_str!("../../../migrations/sqlite/0005_ledger.sql") },
    Migration { version: 6, name: "0006_people", sql: include_str!("../../../migrations/sqlite/0006_people.sql") },
    Migration { version: 7, name: "0007_money", sql: include_str!("../../../migrations/sqlite/0007_money.sql") },
    Migration { version: 8, name: "0008_payloads", sql: include_str!("../../../migrations/sqlite/0008_payloads.sql") },
    Migration { version: 9, name: "0009_console", sql: include_str!("../../../migrations/sqlite/0009_console.sql") },
    Migration { version: 10, name: "0010_reports", sql: include_str!("../../../migrations/sqlite/0010_reports.sql") },
];

/// How long until a file that others are switching is tried again.
const MOMENT: Duration = Duration::from_millis(10);
/// The size of a page, in bytes.
const PAGE: u32 = 16_384;

/// Opens the file, which only its owner may read, and brings the schema up to date.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    make(path)?;
    let mut connection = Connection::open(path).map_err(|error| failed(path, &error))?;
    settle(&connection, path)?;
    migrate(&mut connection, path)?;
    Ok(connection)
}

/// An empty file of mode 0600 is an empty database; what SQLite puts beside it takes over the mode.
fn make(path: &Path) -> Result<(), StoreError> {
    let refused = |error: std::io::Error| {
        StoreError::Refused(format!(
            "cannot make {}: {error}; set ORBYT_DATA_DIR to a directory of your own",
            path.display()
        ))
    };
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(refused)?;
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => give_to_owner(&file, path).map_err(refused),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(refused(error)),
    }
}

fn settle(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let told = |error| failed(path, &error);
    connection.busy_timeout(BUSY).map_err(told)?;
    // Of a new file, and one that is there already keeps its own. A row of the ledger has one to two kilobytes, of which a page of the usual
    // 4096 bytes holds two and wastes the rest; and each page is written down apart.
    connection.pragma_update(None, "page_size", PAGE).map_err(told)?;
    // SQLite does not wait for others where a new file is switched to WAL, whatever the timeout says.
    let begun = Instant::now();
    while let Err(error) = connection.pragma_update(None, "journal_mode", "WAL") {
        if error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) || begun.elapsed() > BUSY {
            return Err(told(error));
        }
        std::thread::sleep(MOMENT);
    }
    // A revocation must not be undone by a power cut.
    connection.pragma_update(None, "synchronous", "FULL").map_err(told)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(told)?;
    connection.pragma_update(None, "trusted_schema", false).map_err(told)
}

/// The write lock of the file is what keeps two processes from doing this at once.
fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let told = |error| failed(path, &error);
    if pending(&path.display().to_string(), &applied(connection).map_err(told)?, MIGRATIONS)?.is_empty() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(told)?;
    // Another process may have been first.
    let left = pending(&path.display().to_string(), &applied(&transaction).map_err(told)?, MIGRATIONS)?;
    take(&transaction, left).map_err(told)?;
    transaction.commit().map_err(told)
}

fn take(transaction: &Transaction<'_>, steps: &[Migration]) -> rusqlite::Result<()> {
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS schema_migrations (
            version    INTEGER PRIMARY KEY,
            name       TEXT NOT NULL,
            sha256     TEXT NOT NULL,
            applied_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
        ) STRICT",
    )?;
    for step in steps {
        transaction.execute_batch(step.sql)?;
        transaction.execute(
            "INSERT INTO schema_migrations (version, name, sha256) VALUES (?1, ?2, ?3)",
            params![step.version, step.name, step.fingerprint()],
        )?;
    }
    Ok(())
}

pub(super) fn applied(connection: &Connection) -> rusqlite::Result<Vec<Applied>> {
    let is_there = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'schema_migrations')";
    if !connection.query_row(is_there, [], |row| row.get::<_, bool>(0))? {
        return Ok(Vec::new());
    }
    let mut query = connection.prepare("SELECT version, sha256 FROM schema_migrations ORDER BY version")?;
    query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Looks at the file without changing it: how many steps are left to take, or `None` when there is no file yet.
///
/// # Errors
/// When it cannot be read, is damaged, or belongs to a later version.
pub fn check(data_dir: &Path) -> Result<Option<usize>, StoreError> {
    let path = data_dir.join(super::FILE);
    if !path.exists() {
        return Ok(None);
    }
    let told = |error| failed(&path, &error);
    let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(told)?;
    connection.busy_timeout(BUSY).map_err(told)?;
    let left = pending(&path.display().to_string(), &applied(&connection).map_err(told)?, MIGRATIONS)?;
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(told)?;
    if verdict != "ok" {
        return Err(StoreError::Damaged(format!("{} is damaged: {verdict}", path.display())));
    }
    Ok(Some(left.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_new_file_is_its_owners_alone_and_up_to_date() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep").join(super::super::FILE);
        let directory = path.parent().unwrap();
        assert_eq!(check(directory), Ok(None));
        let connection = open(&path).unwrap();
        connection.execute("UPDATE revision SET value = 7", []).unwrap();
        for entry in std::fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
        }
        drop(connection);
        assert_eq!(check(directory), Ok(Some(0)));
        drop(open(&path).unwrap());
    }

    #[test]
    fn a_new_file_has_large_pages_and_one_that_is_there_keeps_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let pages = |name: &str| -> u32 {
            let connection = open(&folder.path().join(name)).unwrap();
            connection.query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap()
        };
        let earlier = Connection::open(folder.path().join("earlier.db")).unwrap();
        earlier.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE one (it INTEGER)").unwrap();
        drop(earlier);
        assert_eq!((pages("new.db"), pages("earlier.db")), (PAGE, 4096));
    }

    #[test]
    fn a_file_from_the_future_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(super::super::FILE);
        let connection = open(&path).unwrap();
        connection
            .execute("INSERT INTO schema_migrations (version, name, sha256) VALUES (99, 'later', 'x')", [])
            .unwrap();
        drop(connection);
        for error in [open(&path).map(|_| ()).unwrap_err(), check(folder.path()).map(|_| ()).unwrap_err()] {
            assert!(
                matches!(&error, StoreError::Refused(message) if message.contains("of a later version")),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_no_database_or_a_broken_one_is_named_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(super::super::FILE);
        std::fs::write(&path, "this is not a database, but it is long enough to be looked at ".repeat(100)).unwrap();
        let before = std::fs::read(&path).unwrap();
        let error = open(&path).map(|_| ()).unwrap_err();
        assert!(matches!(&error, StoreError::Damaged(message) if message.contains("orbyt.db is damaged")), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn two_processes_that_begin_at_once_take_each_step_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(super::super::FILE);
        let begin = || open(&path).map(|_| ());
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..4).map(|_| scope.spawn(begin)).collect();
            assert!(all.into_iter().all(|one| one.join().unwrap() == Ok(())));
        });
    }
}
