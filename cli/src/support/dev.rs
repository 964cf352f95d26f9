//! What the folder of a `fulmar dev` tells: what was applied, the table, what brokers said, and how large their files are. It may run
//! meanwhile.
//!
//! Never reads volumes, which hold the records, or keys.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::bundle::Bundle;
use crate::exit::Failed;
use crate::kubectl::end;

/// As much as a log of `fulmar dev` grows to before it is put aside.
const LOG_BYTES_MAX: u64 = 8 << 20;
/// The table of ten thousand topics.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// A table has some hundred pages at most, and a folder of volumes a dozen files each.
const ENTRIES_MAX: usize = 4096;

/// Refuses a folder that is not one of `fulmar dev`.
pub(super) fn check(folder: &Path) -> Result<(), Failed> {
    if folder.join("applied.json").is_file() {
        return Ok(());
    }
    let folder = folder.display();
    Err(Failed::Usage(format!(
        "--dev {folder}: it is no folder of a fulmar dev, which has a file applied.json"
    )))
}

/// Gathers everything.
pub(super) fn gather<W: Write>(folder: &Path, bundle: &mut Bundle<W>) -> io::Result<()> {
    let applied = read_end(&folder.join("applied.json"), FILE_BYTES_MAX);
    match applied.and_then(|text| serde_json::from_slice(&text).map_err(io::Error::other)) {
        Ok(objects) => bundle.object("applied.json", objects)?,
        Err(error) => bundle.missing("applied.json", error),
    }
    for (part, bytes_max) in [("table", FILE_BYTES_MAX), ("logs", LOG_BYTES_MAX)] {
        bundle.doing(part);
        for path in listed(&folder.join(part), part, bundle) {
            if path.is_file() {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                bundle.text_or_gap(&format!("{part}/{name}"), read_end(&path, bytes_max))?;
            }
        }
    }
    let mut sizes = Vec::new();
    for volume in listed(&folder.join("brokers"), "brokers", bundle) {
        for path in listed(&volume, "brokers", bundle) {
            let length = fs::metadata(&path).map(|file| file.len()).unwrap_or_default();
            let name = path.strip_prefix(folder).unwrap_or(&path).display();
            sizes.push(format!("{length:>14} {name}\n"));
        }
    }
    bundle.text("volumes.txt", sizes.concat().as_bytes())
}

/// What is in a folder, by name.
fn listed<W: Write>(folder: &Path, name: &str, bundle: &mut Bundle<W>) -> Vec<PathBuf> {
    let read = fs::read_dir(folder).and_then(|entries| {
        let paths = entries.take(ENTRIES_MAX).map(|entry| entry.map(|entry| entry.path()));
        paths.collect::<io::Result<Vec<_>>>()
    });
    let mut paths = read.unwrap_or_else(|error| {
        bundle.missing(name, error);
        Vec::new()
    });
    paths.sort();
    paths
}

/// The end of a file, from the beginning of a line.
fn read_end(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    // One byte more, which tells that there was more.
    file.seek(SeekFrom::Start(length.saturating_sub(bytes_max + 1)))?;
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    Ok(end(bytes, usize::try_from(bytes_max).unwrap_or(usize::MAX)))
}
