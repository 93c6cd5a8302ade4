//! The way out of the spool: rows in the order in which they were written, of dead processes first, and files that are deleted when the
//! database has taken over what is in them.
//!
//! How much of a file is taken over stands beside it (`.taken`): rows that the database has had for long may be forgotten there, and must not
//! come a second time when the file is read again.

use super::frame::{self, HEADER, Version};
use super::{FileSpool, Segment, remove, segment_path, take_lock};
use crate::domain::{LedgerRow, Payloads};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// So many bytes are read at once; more than the largest frame.
const PIECE: u64 = (frame::MOST_PAYLOADS as u64) + (64 << 10);
/// A file of this process of which everything is taken over is deleted from this size on, or when it is old.
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
    /// Whose it is, when it is a dead process's.
    folder: Option<PathBuf>,
    end: u64,
    /// Nothing is behind it in its file, and nothing will be.
    pub is_last: bool,
    /// Nothing was behind it anywhere when it was read.
    pub is_all: bool,
}

impl Batch {
    /// Whether there is nothing in it, not even damage.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.payloads.is_empty() && self.damaged == 0 && self.tail == 0 && !self.is_last
    }
}

/// How much of a file is taken over.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    offset: u64,
    /// It has had damage.
    damaged: bool,
}

/// The folder of a process that has ended.
struct Left {
    folder: PathBuf,
    segments: Vec<Segment>,
    /// In the first of them.
    place: Place,
    /// Something is wrong with it: it is left alone until folders are looked for the next time.
    is_held_up: bool,
    _lock: File,
}

/// Reads the spools of the data directory out: those of dead processes, then that of this one.
pub struct Drain<'a> {
    own: &'a FileSpool,
    place: Place,
    left: Vec<Left>,
    /// What is wrong with folders of others, each of which is told once.
    troubles: HashMap<PathBuf, String>,
}

impl<'a> Drain<'a> {
    /// Begins with what this process writes.
    pub fn new(own: &'a FileSpool) -> Self {
        Self { own, place: Place::default(), left: Vec::new(), troubles: HashMap::new() }
    }

    /// Takes over the folders of processes that have ended. One that cannot be read keeps none of the others.
    ///
    /// # Errors
    /// When the folder of all of them cannot be read.
    pub fn adopt(&mut self) -> io::Result<usize> {
        let Some(all) = self.own.folder.parent() else { return Ok(0) };
        for left in &mut self.left {
            left.is_held_up = false;
        }
        self.troubles.retain(|folder, _| folder.exists());
        let mut adopted = Vec::new();
        for entry in std::fs::read_dir(all)? {
            let folder = entry?.path();
            let is_known = folder == self.own.folder || self.left.iter().any(|left| left.folder == folder);
            let is_hidden = folder.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if is_known || is_hidden || !folder.is_dir() {
                continue;
            }
            match Left::take(&folder) {
                Ok(left) => {
                    self.troubles.remove(&folder);
                    adopted.extend(left);
                }
                // Its process has emptied it and gone in this moment.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => note(&mut self.troubles, &folder, &error),
            }
        }
        adopted.sort_by(|a, b| a.folder.cmp(&b.folder));
        let count = adopted.len();
        self.left.extend(adopted);
        Ok(count)
    }

    /// Bytes of dead processes that are to be taken over.
    pub fn left_bytes(&self) -> u64 {
        let bytes = |left: &Left| {
            let all: u64 = left.segments.iter().map(|segment| segment.length).sum();
            all.saturating_sub(left.place.offset)
        };
        self.left.iter().map(bytes).sum()
    }

    /// What is wrong with the folder of a dead process, if with any.
    pub fn trouble(&self) -> Option<&str> {
        self.troubles.values().next().map(String::as_str)
    }

    /// The next rows, without taking them out: that is what [`Drain::done`] is for.
    ///
    /// # Errors
    /// When this process's own file cannot be read. What is wrong with another's is told, and keeps nobody else.
    pub fn next_batch(&mut self) -> io::Result<Batch> {
        while let Some(at) = self.left.iter().position(|left| !left.is_held_up) {
            match self.left[at].next_batch() {
                Ok(Some(batch)) => return Ok(batch),
                Ok(None) => {
                    let left = self.left.remove(at);
                    remove(&left.folder);
                    self.troubles.remove(&left.folder);
                }
                Err(error) => self.hold_up(at, &error),
            }
        }
        let first = {
            let inner = self.own.inner.lock();
            let is_alone = inner.segments.len() == 1;
            let is_written = is_alone && inner.file.is_some();
            let is_old = Instant::now() >= inner.old_at;
            inner.segments.front().cloned().map(|segment| (segment, is_alone, is_written, is_old))
        };
        let Some((segment, is_alone, is_written, is_old)) = first else { return Ok(Batch::default()) };
        let is_over = !is_written || is_old || segment.length >= WORTH_DELETING;
        let batch = read(self.place, &self.own.path(segment.number), segment.length, is_over)?;
        Ok(Batch { is_all: is_alone && batch.is_all, ..batch })
    }

    fn hold_up(&mut self, at: usize, error: &io::Error) {
        let left = &mut self.left[at];
        left.is_held_up = true;
        note(&mut self.troubles, &left.folder, error);
    }

    /// The database has taken a batch over: what is not needed any more is deleted. A file with damage is set aside instead.
    ///
    /// # Errors
    /// When a file of this process cannot be deleted; its rows will be read again by the next one.
    pub fn done(&mut self, batch: &Batch) -> io::Result<()> {
        let Some(folder) = &batch.folder else { return self.done_own(batch) };
        if let Some(at) = self.left.iter().position(|left| left.folder == *folder)
            && let Err(error) = self.left[at].done(batch)
        {
            self.hold_up(at, &error);
        }
        Ok(())
    }

    fn done_own(&mut self, batch: &Batch) -> io::Result<()> {
        self.place.offset = batch.end;
        self.place.damaged |= batch.damaged > 0;
        self.own.inner.lock().drained = batch.end.saturating_sub(HEADER.len() as u64);
        if !batch.is_last || !self.take_first(batch.end) {
            mark(&batch.path, batch.end);
            return Ok(());
        }
        tidy(&batch.path, std::mem::take(&mut self.place).damaged)
    }

    /// Forgets the first file of this process, if nothing was added to it since.
    fn take_first(&self, end: u64) -> bool {
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
        let is_done = inner.segments.len() == 1 && inner.segments[0].length == self.place.offset;
        if is_done && !self.place.damaged {
            inner.file = None;
            if let Some(segment) = inner.segments.pop_front() {
                // What stays is read by the next process.
                let _ = tidy(&self.own.path(segment.number), false);
            }
            inner.drained = 0;
            self.place = Place::default();
        }
        drop(inner);
        self.own.close();
    }
}

impl Left {
    /// Takes over a folder; `None` when its process lives, or has left nothing.
    fn take(folder: &Path) -> io::Result<Option<Self>> {
        let Some(lock) = take_lock(folder)? else { return Ok(None) };
        let segments = segments_of(folder)?;
        let Some(first) = segments.first() else {
            remove(folder);
            return Ok(None);
        };
        let place = Place { offset: taken(&segment_path(folder, first.number)), damaged: false };
        Ok(Some(Self { folder: folder.to_owned(), segments, place, is_held_up: false, _lock: lock }))
    }

    /// `None` when nothing is left.
    fn next_batch(&mut self) -> io::Result<Option<Batch>> {
        while let Some(segment) = self.segments.first() {
            match read(self.place, &segment_path(&self.folder, segment.number), segment.length, true) {
                Ok(batch) => return Ok(Some(Batch { folder: Some(self.folder.clone()), is_all: false, ..batch })),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    log::error!("somebody has deleted a file of {}, and what was in it", self.folder.display());
                    self.go_on();
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn done(&mut self, batch: &Batch) -> io::Result<()> {
        self.place.offset = batch.end;
        self.place.damaged |= batch.damaged > 0;
        if !batch.is_last {
            mark(&batch.path, batch.end);
            return Ok(());
        }
        // Where that fails the file stays the first, and nothing is left to be read of it.
        tidy(&batch.path, self.place.damaged).inspect_err(|_| mark(&batch.path, batch.end))?;
        self.go_on();
        Ok(())
    }

    /// The first file is gone.
    fn go_on(&mut self) {
        let gone = self.segments.remove(0);
        let _ = std::fs::remove_file(segment_path(&self.folder, gone.number).with_extension(TAKEN));
        let first = self.segments.first().map(|segment| segment_path(&self.folder, segment.number));
        self.place = Place { offset: first.map_or(0, |path| taken(&path)), damaged: false };
    }
}

/// Tells once what is wrong with a folder.
fn note(troubles: &mut HashMap<PathBuf, String>, folder: &Path, error: &io::Error) {
    let why = format!("what an ended process has left in {} waits there: {error}", folder.display());
    if troubles.get(folder) != Some(&why) {
        log::error!("{why}");
        troubles.insert(folder.to_owned(), why);
    }
}

fn read(place: Place, path: &Path, length: u64, is_over: bool) -> io::Result<Batch> {
    let mut file = File::open(path)?;
    let mut header = [0; HEADER.len()];
    let known = file.read_exact(&mut header).ok().and_then(|()| Version::of(&header));
    let Some(version) = known else { return unknown(place, path, length, &header) };
    let begin = place.offset.max(HEADER.len() as u64);
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
        folder: None,
        end,
        is_last: is_end && is_over,
        is_all: is_end,
    })
}

/// A file that does not begin as this version's do. One of a later version is not touched.
fn unknown(place: Place, path: &Path, length: u64, header: &[u8; HEADER.len()]) -> io::Result<Batch> {
    if header[..7] == HEADER[..7] && header[7] != HEADER[7] {
        let why = format!("{} is of another version of orbyt: use that version to empty it", path.display());
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    // Counted once.
    let bytes = length.saturating_sub(place.offset);
    let short = length <= HEADER.len() as u64;
    let (damaged, tail) = if short { (0, bytes) } else { (bytes, 0) };
    Ok(Batch { damaged, tail, path: path.to_owned(), end: length, is_last: true, ..Batch::default() })
}

/// Deletes a file that is taken over, or sets it aside.
fn tidy(path: &Path, damaged: bool) -> io::Result<()> {
    let gone = if damaged { std::fs::rename(path, set_aside(path)) } else { std::fs::remove_file(path) };
    match gone {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Of no meaning any more, and rarely there.
    let _ = std::fs::remove_file(path.with_extension(TAKEN));
    Ok(())
}

/// What stands beside a file, how much of it is taken over.
const TAKEN: &str = "taken";
/// So many digits, always: it is written over in one piece.
const DIGITS: usize = 20;

/// Takes down how much of a file is taken over. Where that fails it is read again, and the database knows the rows.
fn mark(path: &Path, offset: u64) {
    let text = format!("{offset:0DIGITS$}\n");
    let path = path.with_extension(TAKEN);
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    if let Err(error) = file.and_then(|mut file| file.write_all(text.as_bytes())) {
        log::debug!("{}: {error}", path.display());
    }
}

/// How much of a file is taken over.
fn taken(path: &Path) -> u64 {
    let text = std::fs::read_to_string(path.with_extension(TAKEN)).unwrap_or_default();
    text.strip_suffix('\n').filter(|digits| digits.len() == DIGITS).and_then(|digits| digits.parse().ok()).unwrap_or(0)
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
