//! What is to be sent to the webhook, one file a message, and which alerts are active: in `alerts` below the data directory, so that a
//! restart neither loses a message nor forgets to tell the end of an alert. One process at a time has it.

use crate::store::file::{try_lock, write_private};
use crate::telemetry::alerts::Alert;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

const FOLDER: &str = "alerts";
const ACTIVE: &str = "active.json";
const ENDING: &str = ".message";
/// How many messages wait at most; then the oldest goes.
const ROOM: usize = 1_000;

/// The outbox of a data directory.
#[derive(Debug)]
pub(super) struct Outbox {
    folder: PathBuf,
    _lock: File,
}

/// A message that waits.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    /// When it was written, in Unix milliseconds.
    pub at: u64,
    /// Its text.
    pub text: Vec<u8>,
    path: PathBuf,
}

impl Outbox {
    /// Opens it, unless another process has it.
    pub fn open(data_dir: &Path) -> io::Result<Option<Self>> {
        let folder = data_dir.join(FOLDER);
        Ok(try_lock(&folder.join("lock"))?.map(|lock| Self { folder, _lock: lock }))
    }

    /// The alerts that were active when they were last written down.
    pub fn active(&self) -> Vec<Alert> {
        let path = self.folder.join(ACTIVE);
        let Ok(text) = fs::read(&path) else { return Vec::new() };
        serde_json::from_slice(&text).unwrap_or_else(|error| {
            log::warn!("{} cannot be read, and is begun anew: {error}", path.display());
            Vec::new()
        })
    }

    /// Writes down which alerts are active.
    pub fn keep_active(&self, active: &[Alert]) -> io::Result<()> {
        write_private(&self.folder.join(ACTIVE), &serde_json::to_vec(active)?)
    }

    /// Puts a message behind the others.
    pub fn put(&self, now: u64, id: &str, text: &str) -> io::Result<()> {
        let waiting = self.paths()?;
        if waiting.len() >= ROOM
            && let Some(oldest) = waiting.first()
        {
            log::error!("{ROOM} alerts wait for the webhook: the oldest is dropped");
            fs::remove_file(oldest)?;
        }
        // Two of one moment keep their order by the number of those before them.
        let number = waiting.len();
        write_private(&self.folder.join(format!("{now:013}-{number:04}-{id}{ENDING}")), text.as_bytes())
    }

    /// The message that has waited longest.
    pub fn first(&self) -> io::Result<Option<Waiting>> {
        let Some(path) = self.paths()?.into_iter().next() else { return Ok(None) };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let at = name.split('-').next().and_then(|at| at.parse().ok()).unwrap_or_default();
        Ok(Some(Waiting { at, text: fs::read(&path)?, path }))
    }

    /// A message need not be sent any more.
    pub fn done(&self, message: &Waiting) -> io::Result<()> {
        fs::remove_file(&message.path)
    }

    fn paths(&self) -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with(ENDING) {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::alerts::{Kind, Severity};

    #[test]
    fn messages_come_in_their_order_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(folder.path()).unwrap().unwrap();
        assert!(Outbox::open(folder.path()).unwrap().is_none(), "another process has it");
        for (now, id) in [(5, "b"), (5, "a"), (7, "c")] {
            outbox.put(now, id, id).unwrap();
        }
        let [subject, message] = ["s", "m"].map(str::to_owned);
        let alert = Alert { kind: Kind::Store, subject, message, severity: Severity::Critical, org: None, since: 1 };
        outbox.keep_active(std::slice::from_ref(&alert)).unwrap();
        drop(outbox);
        let outbox = Outbox::open(folder.path()).unwrap().unwrap();
        assert_eq!(outbox.active(), [alert]);
        let mut texts = Vec::new();
        while let Some(message) = outbox.first().unwrap() {
            texts.push((message.at, String::from_utf8(message.text.clone()).unwrap()));
            outbox.done(&message).unwrap();
        }
        assert_eq!(texts, [(5, "b".to_owned()), (5, "a".to_owned()), (7, "c".to_owned())]);
    }

    #[test]
    fn there_is_an_end_to_what_waits_and_the_oldest_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(folder.path()).unwrap().unwrap();
        for number in 0..ROOM {
            fs::write(outbox.folder.join(format!("{number:013}-0000-x{ENDING}")), "old").unwrap();
        }
        outbox.put(1_000_000, "new", "new").unwrap();
        assert_eq!((outbox.paths().unwrap().len(), outbox.first().unwrap().unwrap().at), (ROOM, 1));
    }

    #[test]
    fn a_damaged_list_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(folder.path()).unwrap().unwrap();
        fs::write(outbox.folder.join(ACTIVE), "{").unwrap();
        assert!(outbox.active().is_empty());
    }
}
