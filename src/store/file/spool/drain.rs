//! The way out of the spool: rows in the order in which they were written, of dead processes first, and files that are deleted when the
//! database has taken over what is in them.

use super::frame::{self, HEADER, Version};
use super::{FileSpool, Segment, remove, segment_path, take_lock};
use crate::domain::{LedgerRow, Payloads};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// So many bytes are read at once; more than the largest frame.
const PIECE: u64 = (frame::MOST_PAYLOADS as u64) + (64 << 10);
/// A file of this process of which everything is taken over is deleted from this size on.
const WORTH_DELETING: u64 = 256 << 10;

/// Rows to be taken over, and where they end.
#[derive(Debug, Default)]
pub struct Batch {
    /// The rows, in the order in which they were written.
    pub rows: Vec<LedgerRow<'static>>,
    /// What requests carried that stands between them.
    pub payloads: Vec<Payloads>,
    /// Bytes that could not be read, between rows.
    pub damaged: u64,
    /// Bytes behind the last row that could not be read: what was being written when its process ended.
    pub tail: u64,
    /// The file.
    pub path: PathBuf,
    end: u64,
    /// Nothing is behind it in its file, and nothing will be.
    pub is_last: bool,
}

impl Batch {
    /// Whether there is nothing in it, not even damage.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.payloads.is_empty() && self.damaged == 0 && self.tail == 0 && !self.is_last
    }
}

/// The folder of a process that has ended.
struct Left {
    folder: PathBuf,
    segments: Vec<Segment>,
    _lock: File,
}

/// Reads the spools of the data directory out: those of dead processes, then that of this one.
pub struct Drain<'a> {
    own: &'a FileSpool,
    left: Vec<Left>,
    /// Bytes of the first file that are taken over.
    offset: u64,
    /// Whether that file has had damage.
    damaged: bool,
}

impl<'a> Drain<'a> {
    /// Begins with what this process writes.
    pub fn new(own: &'a FileSpool) -> Self {
        Self { own, left: Vec::new(), offset: 0, damaged: false }
    }

    /// Takes over the folders of processes that have ended.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn adopt(&mut self) -> io::Result<usize> {
        let Some(all) = self.own.folder.parent() else { return Ok(0) };
        let mut adopted = Vec::new();
        for entry in std::fs::read_dir(all)? {
            let folder = entry?.path();
            let is_known = folder == self.own.folder || self.left.iter().any(|left| left.folder == folder);
            let is_hidden = folder.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if is_known || is_hidden || !folder.is_dir() {
                continue;
            }
            let lock = match take_lock(&folder) {
                // Its process has emptied it and gone in this moment.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                lock => lock?,
            };
            let Some(lock) = lock else { continue };
            let segments = segments_of(&folder)?;
            if segments.is_empty() {
                remove(&folder);
            } else {
                adopted.push(Left { folder, segments, _lock: lock });
            }
        }
        adopted.sort_by(|a, b| a.folder.cmp(&b.folder));
        let count = adopted.len();
        if count > 0 && self.left.is_empty() {
            // What was begun of this process's own file is begun again: the database knows the rows.
            (self.offset, self.damaged) = (0, false);
            self.own.inner.lock().drained = 0;
        }
        self.left.extend(adopted);
        Ok(count)
    }

    /// Bytes of dead processes that are to be taken over.
    pub fn left_bytes(&self) -> u64 {
        let all = self.left.iter().flat_map(|left| &left.segments).map(|segment| segment.length).sum::<u64>();
        if self.left.is_empty() { 0 } else { all.saturating_sub(self.offset) }
    }

    /// The next rows, without taking them out: that is what [`Drain::done`] is for.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn next_batch(&mut self) -> io::Result<Batch> {
        match self.left.first() {
            Some(left) => match left.segments.first() {
                Some(segment) => self.read(&segment_path(&left.folder, segment.number), segment.length, true),
                None => Ok(Batch::default()),
            },
            None => {
                let first = {
                    let inner = self.own.inner.lock();
                    let is_written = inner.segments.len() == 1 && inner.file.is_some();
                    inner.segments.front().cloned().map(|segment| (segment, is_written))
                };
                let Some((segment, is_written)) = first else { return Ok(Batch::default()) };
                let is_over = !is_written || segment.length >= WORTH_DELETING;
                self.read(&self.own.path(segment.number), segment.length, is_over)
            }
        }
    }

    fn read(&self, path: &Path, length: u64, is_over: bool) -> io::Result<Batch> {
        let mut file = File::open(path)?;
        let mut header = [0; HEADER.len()];
        let known = file.read_exact(&mut header).ok().and_then(|()| Version::of(&header));
        let Some(version) = known else { return self.unknown(path, length, &header) };
        let begin = self.offset.max(HEADER.len() as u64);
        file.seek(SeekFrom::Start(begin))?;
        let mut bytes = Vec::new();
        let size = length.saturating_sub(begin).min(PIECE);
        file.take(size).read_to_end(&mut bytes)?;
        let is_end = begin + size >= length;
        let read = frame::read(version, &bytes, is_end);
        let end = begin + read.used as u64;
        Ok(Batch {
            rows: read.rows,
            payloads: read.payloads,
            damaged: read.damaged as u64,
            tail: read.tail as u64,
            path: path.to_owned(),
            end,
            is_last: is_end && is_over,
        })
    }

    /// A file that does not begin as this version's do. One of a later version is not touched.
    fn unknown(&self, path: &Path, length: u64, header: &[u8; HEADER.len()]) -> io::Result<Batch> {
        if header[..7] == HEADER[..7] && header[7] != HEADER[7] {
            let why = format!("{} is of another version of orbyt: use that version to empty it", path.display());
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        let short = length <= HEADER.len() as u64;
        let (damaged, tail) = if short { (0, length) } else { (length, 0) };
        Ok(Batch { damaged, tail, path: path.to_owned(), end: length, is_last: true, ..Batch::default() })
    }

    /// The database has taken a batch over: what is not needed any more is deleted. A file with damage is set aside instead.
    ///
    /// # Errors
    /// When a file cannot be deleted; its rows will be read again, and the database knows them.
    pub fn done(&mut self, batch: &Batch) -> io::Result<()> {
        self.offset = batch.end;
        self.damaged |= batch.damaged > 0;
        if self.left.is_empty() {
            self.own.inner.lock().drained = batch.end.saturating_sub(HEADER.len() as u64);
        }
        if !batch.is_last || !self.take_first(batch.end) {
            return Ok(());
        }
        let damaged = std::mem::take(&mut self.damaged);
        self.offset = 0;
        if damaged { std::fs::rename(&batch.path, set_aside(&batch.path)) } else { std::fs::remove_file(&batch.path) }?;
        if self.left.first().is_some_and(|left| left.segments.is_empty()) {
            let left = self.left.remove(0);
            remove(&left.folder);
        }
        Ok(())
    }

    /// Forgets the first file, if nothing was added to it since.
    fn take_first(&mut self, end: u64) -> bool {
        if let Some(left) = self.left.first_mut() {
            left.segments.remove(0);
            return true;
        }
        let mut inner = self.own.inner.lock();
        if inner.segments.front().is_none_or(|first| first.length != end) {
            return false;
        }
        if inner.segments.len() == 1 {
            inner.file = None;
        }
        inner.segments.pop_front();
        inner.drained = 0;
        true
    }

    /// Deletes what this process has written and the database has taken over, however small. For the end of the process.
    pub fn finish(&mut self) {
        let mut inner = self.own.inner.lock();
        let is_done = self.left.is_empty() && inner.segments.len() == 1 && inner.segments[0].length == self.offset;
        if is_done && !self.damaged {
            inner.file = None;
            if let Some(segment) = inner.segments.pop_front() {
                let _ = std::fs::remove_file(self.own.path(segment.number));
            }
            (self.offset, inner.drained) = (0, 0);
        }
        drop(inner);
        self.own.close();
    }
}

/// Where a damaged file is put: beside the folders, so that nobody reads it again and it can be looked at.
fn set_aside(path: &Path) -> PathBuf {
    let folder = path.parent().unwrap_or(path);
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    folder.with_file_name(format!("{}-{}.damaged", name(folder), name(path)))
}

pub(super) fn segments_of(folder: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".spool")).and_then(|number| number.parse().ok());
        if let Some(number) = number {
            segments.push(Segment { number, length: entry.metadata()?.len() });
        }
    }
    segments.sort_by_key(|segment| segment.number);
    Ok(segments)
}

/// The rows among what waited in memory.
pub fn rows_of(waiting: &[u8]) -> Vec<LedgerRow<'static>> {
    frame::read(Version::Current, waiting, true).rows
}
