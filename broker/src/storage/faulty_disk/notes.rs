//! What a file has not synced: each write with the bytes that it replaced, in order.
//!
//! A note: kind (1; 0 write, 1 length) · the file's length before (8) · where, or the new length (8) · bytes before (4) · bytes
//! after (4) · both. The notes are not synced: only the machine's death would lose them, and here only processes die.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rand::RngExt;
use rand::rngs::StdRng;

use crate::storage::seam::Handle;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;
const HEAD: usize = 25;

/// See the module.
#[derive(Debug)]
pub(super) struct Notes {
    file: File,
    length: u64,
}

struct Note {
    is_length: bool,
    length_before: u64,
    at: u64,
    before: Vec<u8>,
    after: Vec<u8>,
}

fn path(folder: &Path, inode: u64) -> PathBuf {
    folder.join(format!("inode-{inode}"))
}

impl Notes {
    /// Those of a file, with what an earlier process has left.
    pub(super) fn open(folder: &Path, inode: u64) -> io::Result<Self> {
        let path = path(folder, inode);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file, length })
    }

    /// There is another file by this number.
    pub(super) fn forget(folder: &Path, inode: u64) -> io::Result<()> {
        match fs::remove_file(path(folder, inode)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// How much is noted, in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// A write is about to happen.
    pub(super) fn written(&mut self, file: &dyn Handle, bytes: &[u8], at: u64) -> io::Result<()> {
        let length_before = file.length()?;
        let present = length_before.saturating_sub(at).min(bytes.len() as u64);
        let mut before = vec![0; usize::try_from(present).expect("at most as long as the write")];
        file.read_at(&mut before, at)?;
        self.note(&Note { is_length: false, length_before, at, before, after: bytes.to_vec() })
    }

    /// The length is about to change.
    pub(super) fn cut_or_grown(&mut self, file: &dyn Handle, length: u64) -> io::Result<()> {
        let length_before = file.length()?;
        let cut = usize::try_from(length_before.saturating_sub(length)).map_err(io::Error::other)?;
        let mut before = vec![0; cut];
        file.read_at(&mut before, length)?;
        self.note(&Note { is_length: true, length_before, at: length, before, after: Vec::new() })
    }

    fn note(&mut self, note: &Note) -> io::Result<()> {
        let size = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(io::Error::other);
        let mut bytes = Vec::with_capacity(HEAD + note.before.len() + note.after.len());
        bytes.push(u8::from(note.is_length));
        bytes.extend(note.length_before.to_le_bytes());
        bytes.extend(note.at.to_le_bytes());
        bytes.extend(size(&note.before)?.to_le_bytes());
        bytes.extend(size(&note.after)?.to_le_bytes());
        bytes.extend(&note.before);
        bytes.extend(&note.after);
        self.file.write_all_at(&bytes, self.length)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// What was noted before this length is synced. What came while it was synced is not.
    pub(super) fn synced(&mut self, until: u64) -> io::Result<()> {
        let rest = self.length.saturating_sub(until);
        let mut kept = vec![0; usize::try_from(rest).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut kept, until.min(self.length))?;
        // A process that dies in between leaves notes that are cut short: none of them was synced.
        self.file.set_len(0)?;
        self.file.write_all_at(&kept, 0)?;
        self.length = rest;
        Ok(())
    }

    fn all(&self) -> io::Result<Vec<Note>> {
        let mut bytes = vec![0; usize::try_from(self.length).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, 0)?;
        let mut rest = bytes.as_slice();
        let mut notes = Vec::new();
        // The last one may have been cut off with its process, before its write began.
        while let Some((head, tail)) = rest.split_at_checked(HEAD) {
            let u64_at = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
            let size =
                |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes")) as usize;
            let Some((before, tail)) = tail.split_at_checked(size(17)) else { break };
            let Some((after, tail)) = tail.split_at_checked(size(21)) else { break };
            notes.push(Note {
                is_length: head[0] == 1,
                length_before: u64_at(1),
                at: u64_at(9),
                before: before.to_vec(),
                after: after.to_vec(),
            });
            rest = tail;
        }
        Ok(notes)
    }

    /// Takes back what was not synced; with luck, parts of it come to stay. Gives how many writes that were.
    pub(super) fn take_back(&self, path: &Path, mut luck: Option<&mut StdRng>) -> io::Result<usize> {
        let notes = self.all()?;
        if notes.is_empty() {
            return Ok(0);
        }
        let file = OpenOptions::new().write(true).open(path)?;
        for note in notes.iter().rev() {
            file.set_len(note.length_before)?;
            file.write_all_at(&note.before, note.at)?;
        }
        for note in &notes {
            let Some(luck) = luck.as_deref_mut() else { break };
            if note.is_length {
                if luck.random_bool(0.5) {
                    file.set_len(note.at)?;
                }
                continue;
            }
            for (index, sector) in note.after.chunks(SECTOR).enumerate() {
                if luck.random_bool(0.5) {
                    file.write_all_at(sector, note.at + (index * SECTOR) as u64)?;
                }
            }
        }
        file.sync_all()?;
        Ok(notes.len())
    }
}
