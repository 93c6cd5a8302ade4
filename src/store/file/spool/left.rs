//! What stands in the spools of a data directory, read without taking anything out.

use super::drain::segments_of;
use super::frame::{self, HEADER, Version};
use super::{FOLDER, segment_path};
use crate::domain::LedgerRow;
use std::io;
use std::path::Path;

/// Shows every row that can be read, of whichever process, also those that the database has taken over already and that are not deleted yet.
///
/// # Errors
/// When the folder cannot be read. A file that is gone meanwhile was emptied.
pub fn each_row(data_dir: &Path, mut show: impl FnMut(LedgerRow<'static>)) -> io::Result<()> {
    let all = match std::fs::read_dir(data_dir.join(FOLDER)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        all => all?,
    };
    for folder in all {
        let folder = folder?.path();
        if !folder.is_dir() {
            continue;
        }
        let Ok(segments) = segments_of(&folder) else { continue };
        for segment in segments {
            let bytes = match std::fs::read(segment_path(&folder, segment.number)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                bytes => bytes?,
            };
            let Some((header, frames)) = bytes.split_first_chunk::<{ HEADER.len() }>() else { continue };
            let Some(version) = Version::of(header) else { continue };
            frame::read(version, frames, true).rows.into_iter().for_each(&mut show);
        }
    }
    Ok(())
}
