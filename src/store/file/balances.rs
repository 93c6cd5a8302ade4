//! `balances.json`: what was spent of each account when the ledger on a server was last written or asked, for a start while it is away.

use super::private::replace_private;
use crate::domain::Money;
use crate::domain::budget::Account;
use crate::store::ports::database::StoreError;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

const VERSION: u32 = 1;

/// The file in the data directory, for the database at one place.
pub struct BalancesFile {
    path: PathBuf,
    place: String,
}

/// What was spent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptBalances {
    /// When, in Unix milliseconds: of what ended later, nothing is in it.
    pub at: u64,
    /// Of which accounts how much.
    pub spent: Vec<(Account, Money)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    place: String,
    at: u64,
    /// In pico-dollars.
    spent: Vec<(Account, Money)>,
}

impl BalancesFile {
    /// The file in this directory. Nothing is read or made yet.
    pub fn new(data_dir: &Path, place: String) -> Self {
        Self { path: data_dir.join("balances.json"), place }
    }

    /// Writes it down, so that it outlives the process, though maybe not a power cut: that is as safe as the spool, and quick.
    ///
    /// # Errors
    /// When the file cannot be written; it is then as it was.
    pub fn keep(&self, kept: KeptBalances) -> Result<(), StoreError> {
        let file = File { version: VERSION, place: self.place.clone(), at: kept.at, spent: kept.spent };
        let failed =
            |error: io::Error| StoreError::Unavailable(format!("cannot write {}: {error}", self.path.display()));
        let text = serde_json::to_vec(&file).map_err(|error| failed(error.into()))?;
        replace_private(&self.path, &text).map_err(failed)
    }

    /// What was written down; `None` when nothing was, or for another database.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged.
    pub fn recall(&self) -> Result<Option<KeptBalances>, StoreError> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(StoreError::Unavailable(format!("cannot read {}: {error}", self.path.display())));
            }
        };
        let file: File = serde_json::from_slice(&bytes)
            .map_err(|error| StoreError::Damaged(format!("{} is damaged: {error}", self.path.display())))?;
        let is_ours = file.version == VERSION && file.place == self.place;
        Ok(is_ours.then_some(KeptBalances { at: file.at, spent: file.spent }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::budget::{Payer, Span};

    #[test]
    fn what_is_kept_is_recalled_for_the_same_database_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = BalancesFile::new(folder.path(), "here".to_owned());
        assert_eq!(file.recall().unwrap(), None);
        let account = Account { payer: Payer::User, subject: "o\u{1f}ada".into(), span: Span::Week, from_day: 20_507 };
        let kept = KeptBalances { at: 7, spent: vec![(account, Money::from_picos(i128::MAX))] };
        file.keep(kept.clone()).unwrap();
        assert_eq!(file.recall().unwrap(), Some(kept));
        assert_eq!(BalancesFile::new(folder.path(), "there".to_owned()).recall().unwrap(), None);
        std::fs::write(folder.path().join("balances.json"), "{").unwrap();
        assert!(matches!(file.recall(), Err(StoreError::Damaged(_))));
    }
}
