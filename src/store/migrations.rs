//! What is to be done to a database of an older version: forward only, each step once, none of them changed afterwards.

use super::ports::database::StoreError;
use sha2::{Digest, Sha256};

/// One step of a schema.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Counted from 1.
    pub version: i64,
    /// What its file is called.
    pub name: &'static str,
    /// What it does.
    pub sql: &'static str,
}

impl Migration {
    /// What the database remembers it by.
    pub fn fingerprint(&self) -> String {
        hex::encode(Sha256::digest(self.sql.as_bytes()))
    }
}

/// A step that a database says it has taken: its version and its fingerprint.
pub type Applied = (i64, String);

/// The steps that are left to take.
///
/// # Errors
/// A refusal when the database comes from a later version of the program, or when a step was another one then.
pub fn pending(
    place: &str,
    applied: &[Applied],
    known: &'static [Migration],
) -> Result<&'static [Migration], StoreError> {
    if applied.len() > known.len() {
        return Err(StoreError::Refused(format!(
            "{place} is of a later version of orbyt (its schema is {}, this program knows {}): use that version, it cannot be taken back",
            applied.len(),
            known.len()
        )));
    }
    for (migration, (version, fingerprint)) in known.iter().zip(applied) {
        if migration.version != *version || migration.fingerprint() != *fingerprint {
            return Err(StoreError::Refused(format!(
                "{place} was made by another build of orbyt: its step {version} is not this program's {}",
                migration.name
            )));
        }
    }
    Ok(&known[applied.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Migration] =
        &[Migration { version: 1, name: "one", sql: "a" }, Migration { version: 2, name: "two", sql: "b" }];

    fn applied(count: usize) -> Vec<Applied> {
        KNOWN[..count].iter().map(|migration| (migration.version, migration.fingerprint())).collect()
    }

    #[test]
    fn what_is_left_is_what_comes_after_what_was_done() {
        for count in 0..=2 {
            let left = pending("db", &applied(count), KNOWN).unwrap();
            assert_eq!(left.iter().map(|migration| migration.version).collect::<Vec<_>>(), [1, 2][count..]);
        }
    }

    #[test]
    fn a_database_from_the_future_or_of_another_build_is_refused() {
        let mut later = applied(2);
        later.push((3, "x".into()));
        let error = pending("db", &later, KNOWN).unwrap_err();
        assert!(error.to_string().starts_with("db is of a later version of orbyt (its schema is 3"), "{error}");
        let mut other = applied(2);
        other[1].1 = "x".into();
        let error = pending("db", &other, KNOWN).unwrap_err();
        assert!(error.to_string().contains("step 2 is not this program's two"), "{error}");
    }

    #[test]
    fn both_databases_take_the_same_steps() {
        let names = |list: &[Migration]| list.iter().map(|it| (it.version, it.name)).collect::<Vec<_>>();
        let (sqlite, postgres) = (crate::store::sqlite::MIGRATIONS, crate::store::postgres::MIGRATIONS);
        assert_eq!(names(sqlite), names(postgres));
        assert!(sqlite.iter().zip(1..).all(|(migration, version)| migration.version == version));
    }
}
