//! What happens to a volume behind a broker's back: bytes flipped, files cut short, folders copied and deleted.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use memchr::memmem;
use rand::rngs::StdRng;
use rand::{Rng, RngExt};

use crate::load::record::Name;
use crate::room::system;

/// A process that makes files faster than they are deleted does not exist here.
const DELETES_MAX: u32 = 1_000;

/// The files that hold records and promises: the journal's slots, which are never removed, and the database.
pub(crate) fn files(data: &Path) -> Result<Vec<PathBuf>> {
    let journal = data.join("journal");
    let mut files = vec![data.join("records.redb")];
    for entry in fs::read_dir(&journal).with_context(|| format!("could not read {}", journal.display()))? {
        let path = entry?.path();
        let is_slot = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("slot-"));
        if is_slot && fs::metadata(&path).is_ok_and(|found| found.len() > 1) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Flips one bit in the part of a file that was written; says where.
pub(crate) fn flip(path: &Path, luck: &mut StdRng) -> Result<String> {
    let open = OpenOptions::new().read(true).write(true).open(path);
    let file = open.with_context(|| format!("could not open {}", path.display()))?;
    let length = file.metadata()?.len();
    let mut page = [0; 4096];
    // Most of a young journal is zeros, where a flip means nothing: a page that holds something is looked for.
    for _ in 0..10_000 {
        let at = luck.random_range(0..length.div_ceil(4096)) * 4096;
        let read = file.read_at(&mut page, at)?;
        if page[..read].iter().all(|byte| *byte == 0) {
            continue;
        }
        let within = luck.random_range(0..read);
        let flipped = page[within] ^ (1 << luck.random_range(0..8));
        file.write_all_at(&[flipped], at + within as u64)?;
        return Ok(format!("{}, byte {}", path.display(), at + within as u64));
    }
    Ok(format!("{} holds nothing", path.display()))
}

/// Flips a bit in the value of so many of these records, wherever the file has them; they are taken from the list. Says where.
pub(crate) fn flip_records(
    path: &Path,
    names: &mut Vec<Name>,
    count: usize,
    luck: &mut StdRng,
) -> Result<Option<String>> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.with_context(|| format!("could not open {}", path.display()))?;
    let content = fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
    let mut flipped = Vec::new();
    let mut unseen = Vec::new();
    while flipped.len() < count {
        let Some(name) = names.pop() else { break };
        let places: Vec<usize> = memmem::find_iter(&content, &name.head()).collect();
        if places.is_empty() {
            unseen.push(name);
        }
        // redb keeps pages that it does not use any more: all copies are flipped, so that one of them is the one that counts.
        let bit = 1 << luck.random_range(0..8);
        for at in &places {
            file.write_all_at(&[content[at + 15] ^ bit], (at + 15) as u64)?;
        }
        if !places.is_empty() {
            flipped.push(format!("{name:?} at {places:?}"));
        }
    }
    names.append(&mut unseen);
    Ok((!flipped.is_empty()).then(|| flipped.join(", ")))
}

/// Cuts a file short by up to a half, or to nothing; says where.
pub(crate) fn truncate(path: &Path, luck: &mut StdRng) -> Result<String> {
    let open = OpenOptions::new().write(true).open(path);
    let file = open.with_context(|| format!("could not open {}", path.display()))?;
    let length = file.metadata()?.len();
    let left = if luck.random_bool(0.1) { 0 } else { length - 1 - luck.next_u64() % (length / 2) };
    file.set_len(left)?;
    Ok(format!("{} from {length} bytes to {left}", path.display()))
}

/// A copy as a backup would have it, in the place of what was there.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    delete(to)?;
    system(&format!("cp -a --sparse=always {} {}", from.display(), to.display()))
}

/// Deletes a folder, if it is there. Who works in it may make a file between the listing and the end: then again.
pub(crate) fn delete(folder: &Path) -> Result<()> {
    let mut tries = 0;
    loop {
        tries += 1;
        match fs::remove_dir_all(folder) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound && !folder.exists() => return Ok(()),
            Err(error)
                if tries < DELETES_MAX
                    && matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::NotFound) => {}
            Err(error) => {
                return Err(error).with_context(|| format!("could not delete {}", folder.display()));
            }
        }
    }
}
