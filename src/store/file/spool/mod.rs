//! The spool: finished requests on their way into the database, in files that survive the death of the process.
//!
//! ```text
//! append ──> the file that is written ──full──> files that are only read ──> taken over by the database ──> deleted
//!    │                  ▲
//!    └─disk full──> bounded memory                     (when even that is full: counted, and lost)
//! ```
//!
//! Each process has a folder of its own below `spool`, with a file that it holds locked. A folder whose lock is free is a dead process's;
//! whoever takes the lock drains it. A row is one `write(2)`: it is in the system's hands when [`FileSpool::append`] returns, which outlives
//! `kill -9`, though not a power cut.

mod drain;
mod frame;
mod left;
#[cfg(test)]
mod tests;

pub use drain::{Batch, Drain, rows_of};
pub use left::each_row;

use crate::domain::{LedgerRow, Payloads};
use crate::store::ports::ledger::Spool;
use frame::HEADER;
use parking_lot::Mutex;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The folder in the data directory.
pub const FOLDER: &str = "spool";
/// The file that a process holds locked.
const LOCK: &str = "lock";
/// A file of this size is full.
const FULL: u64 = 8 << 20;
/// A file of this age is deleted once the database has what is in it: what it forgets must not be found there any more.
const OLD: Duration = Duration::from_secs(3600);
/// How much may wait in memory while the disk does not take it.
const MEMORY: usize = 16 << 20;
/// How long until the disk is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// How the spool is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpoolState {
    /// Bytes in files that the database has not taken over.
    pub bytes: u64,
    /// Bytes that wait in memory, because the disk does not take them.
    pub waiting: u64,
    /// Rows that were lost because there was no room for them anywhere.
    pub lost: u64,
    /// Why the disk does not take them, while it does not.
    pub failing: Option<Arc<str>>,
}

/// A file that rows stand in.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    number: u64,
    length: u64,
}

/// What all threads share.
struct Inner {
    /// Released when the process ends, however it ends.
    lock: File,
    /// The file that is written; `None` before the first row and after one that is full.
    file: Option<File>,
    /// The files that were not deleted yet, the oldest first; the last one is the one that is written, where there is one.
    segments: VecDeque<Segment>,
    next_number: u64,
    /// Frames that the disk did not take.
    waiting: Vec<u8>,
    lost: u64,
    failing: Option<Arc<str>>,
    again_at: Option<Instant>,
    /// Bytes that the database has taken over, of files that are still there.
    drained: u64,
    /// When the file that is written is old.
    old_at: Instant,
}

/// The spool of this process.
pub struct FileSpool {
    folder: PathBuf,
    most: u64,
    inner: Mutex<Inner>,
}

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl FileSpool {
    /// The spool of this process in the data directory, for files of so many bytes together. `name` tells it from those of other processes.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(data_dir: &Path, name: &str, most: u64) -> io::Result<Self> {
        let folder = data_dir.join(FOLDER).join(name);
        let inner = Inner {
            lock: make(&folder)?,
            file: None,
            segments: VecDeque::new(),
            next_number: 1,
            waiting: Vec::new(),
            lost: 0,
            failing: None,
            again_at: None,
            drained: 0,
            old_at: Instant::now() + OLD,
        };
        Ok(Self { folder, most, inner: Mutex::new(inner) })
    }

    /// How it is.
    pub fn state(&self) -> SpoolState {
        let inner = self.inner.lock();
        let bytes: u64 = inner.segments.iter().map(|segment| segment.length - HEADER.len() as u64).sum();
        SpoolState {
            bytes: bytes.saturating_sub(inner.drained),
            waiting: inner.waiting.len() as u64,
            lost: inner.lost,
            failing: inner.failing.clone(),
        }
    }

    /// Tries again to put on the disk what waits in memory.
    pub fn flush(&self) {
        let mut inner = self.inner.lock();
        let waiting = std::mem::take(&mut inner.waiting);
        if !waiting.is_empty() && !self.put(&mut inner, &waiting) {
            inner.waiting = waiting;
        }
    }

    /// What waits in memory, to be taken over without the disk; put it back with [`FileSpool::keep`] where that fails.
    pub fn take_waiting(&self) -> Vec<u8> {
        std::mem::take(&mut self.inner.lock().waiting)
    }

    /// Puts back what waited in memory.
    pub fn keep(&self, mut waiting: Vec<u8>) {
        let mut inner = self.inner.lock();
        waiting.append(&mut inner.waiting);
        inner.waiting = waiting;
    }

    /// Removes the folder of a process that ends, where nothing is left in it.
    pub fn close(&self) {
        let inner = self.inner.lock();
        if inner.segments.is_empty() && inner.waiting.is_empty() {
            remove(&self.folder);
        }
    }

    fn path(&self, number: u64) -> PathBuf {
        segment_path(&self.folder, number)
    }

    /// Writes frames into the file; what is written in part is taken back.
    fn put(&self, inner: &mut Inner, frames: &[u8]) -> bool {
        match self.try_put(inner, frames) {
            Ok(()) => {
                inner.failing = None;
                inner.again_at = None;
                true
            }
            Err(error) => {
                if inner.failing.is_none() {
                    let why = format!("{} cannot be written: {error}", self.folder.display());
                    log::error!("the ledger's spool in {why}; records wait in memory");
                    inner.failing = Some(why.into());
                }
                inner.again_at = Some(Instant::now() + AGAIN);
                false
            }
        }
    }

    fn try_put(&self, inner: &mut Inner, frames: &[u8]) -> io::Result<()> {
        let total: u64 = inner.segments.iter().map(|segment| segment.length).sum();
        if total.saturating_add(frames.len() as u64) > self.most {
            return Err(io::Error::other(format!("it has the {} bytes that it may have", self.most)));
        }
        if inner.file.is_none() || inner.segments.back().is_none_or(|last| last.length >= FULL) {
            self.begin_file(inner)?;
        }
        let (Some(file), Some(segment)) = (&mut inner.file, inner.segments.back_mut()) else {
            return Err(io::Error::other("there is no file"));
        };
        if let Err(error) = file.write_all(frames) {
            // A part of a frame must not stand in front of the next one. Where even that fails, readers find the next one by its mark.
            if file.set_len(segment.length).is_err() {
                inner.file = None;
            }
            return Err(error);
        }
        segment.length += frames.len() as u64;
        Ok(())
    }

    fn begin_file(&self, inner: &mut Inner) -> io::Result<()> {
        inner.file = None;
        let number = inner.next_number;
        let path = self.path(number);
        let create = || OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path);
        let mut file = match create() {
            // Somebody has tidied up, or this process has, and something ended after that.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                inner.lock = make(&self.folder)?;
                create()?
            }
            created => created?,
        };
        if let Err(error) = file.write_all(HEADER) {
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        inner.next_number += 1;
        inner.old_at = Instant::now() + OLD;
        inner.segments.push_back(Segment { number, length: HEADER.len() as u64 });
        inner.file = Some(file);
        Ok(())
    }
}

impl Spool for FileSpool {
    fn append(&self, row: &LedgerRow<'_>) {
        BUFFER.with_borrow_mut(|buffer| {
            let frame = frame::encode(row, std::mem::take(buffer));
            let mut inner = self.inner.lock();
            let Some(frame) = frame else {
                inner.lost += 1;
                return;
            };
            let may_try = inner.waiting.is_empty() && inner.again_at.is_none_or(|at| Instant::now() >= at);
            if !may_try || !self.put(&mut inner, &frame) {
                if inner.waiting.len() + frame.len() <= MEMORY {
                    inner.waiting.extend_from_slice(&frame);
                } else {
                    inner.lost += 1;
                }
            }
            drop(inner);
            *buffer = frame;
        });
    }

    fn append_payloads(&self, payloads: &Payloads) -> bool {
        let Some(frame) = frame::encode_payloads(payloads) else { return false };
        let mut inner = self.inner.lock();
        let total: u64 = inner.segments.iter().map(|segment| segment.length).sum();
        let has_room = total.saturating_add(frame.len() as u64) <= self.most / 2;
        let is_well = inner.waiting.is_empty() && inner.again_at.is_none();
        has_room && is_well && self.try_put(&mut inner, &frame).is_ok()
    }
}

fn segment_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:010}.spool"))
}

/// Makes the folder of a process, and takes its lock.
fn make(folder: &Path) -> io::Result<File> {
    // Locked before anybody can take it for a dead process's.
    let mut name = std::ffi::OsString::from(".");
    name.push(folder.file_name().unwrap_or_default());
    let hidden = folder.with_file_name(name);
    DirBuilder::new().recursive(true).mode(0o700).create(&hidden)?;
    let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(hidden.join(LOCK))?;
    lock.try_lock().map_err(io::Error::from)?;
    std::fs::rename(&hidden, folder)?;
    Ok(lock)
}

/// Removes a folder in which nothing is left but the lock.
fn remove(folder: &Path) {
    let _ = std::fs::remove_file(folder.join(LOCK));
    // What is not empty stays.
    let _ = std::fs::remove_dir(folder);
}

/// Takes the lock of a folder, when nobody has it.
fn take_lock(folder: &Path) -> io::Result<Option<File>> {
    let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(folder.join(LOCK))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
