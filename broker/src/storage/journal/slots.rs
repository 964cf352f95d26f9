//! The files of the journal: made once at their full length, then overwritten in place.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::error::{OpenError, io};
use super::super::seam::{Files, Handle};
use super::{ALIGN, Shape};

const MAGIC: &[u8; 4] = b"FJS1";
const FORMAT: u32 = 1;
const HEAD: usize = 64;
/// As [`Shape::check`] has it.
const SLOTS_MIN: u32 = 3;
/// Zeros are written in such pieces when a slot is made.
const PIECE: usize = 1024 * 1024;

/// The folder of the journal in the data folder.
pub(crate) fn folder(dir: &Path) -> PathBuf {
    dir.join("journal")
}

fn path(dir: &Path, index: u32) -> PathBuf {
    folder(dir).join(format!("slot-{index:03}"))
}

/// All slots, open.
#[derive(Debug)]
pub(crate) struct Slots {
    pub(super) shape: Shape,
    pub(super) journal: [u8; 16],
    files: Vec<(PathBuf, Arc<dyn Handle>)>,
}

impl Slots {
    /// Makes all slots anew, written through and synced, and their folder.
    pub(crate) fn prepare(
        files: &dyn Files,
        dir: &Path,
        journal: [u8; 16],
        shape: Shape,
    ) -> Result<(), OpenError> {
        let folder = folder(dir);
        files.create_dir(&folder).map_err(io("make", &folder))?;
        let zeros = vec![0; PIECE];
        for index in 0..shape.slots {
            let path = path(dir, index);
            let file = files.open(&path, true).map_err(io("create", &path))?;
            file.set_len(shape.slot_bytes).map_err(io("set the length of", &path))?;
            let mut at = 0;
            while at < shape.slot_bytes {
                let piece = usize::try_from(shape.slot_bytes - at).unwrap_or(PIECE).min(PIECE);
                file.write_at(&zeros[..piece], at).map_err(io("write", &path))?;
                at += piece as u64;
            }
            file.write_at(&head(&journal, shape, index), 0).map_err(io("write", &path))?;
            file.sync().map_err(io("sync", &path))?;
        }
        files.sync_dir(&folder).map_err(io("sync", &folder))?;
        files.sync_dir(dir).map_err(io("sync", dir))
    }

    /// Opens what is there. The first slot whose head holds tells how many there are and how long they are.
    pub(crate) fn open(
        files: &dyn Files,
        dir: &Path,
        journal: [u8; 16],
        write: bool,
    ) -> Result<Self, OpenError> {
        let mut opened = Vec::new();
        for index in 0..SLOTS_MIN {
            let path = path(dir, index);
            let file = open_one(files, &path, write)?;
            opened.push((path, file));
        }
        let shape = shape_of(&opened, &journal)?;
        for index in SLOTS_MIN..shape.slots {
            let path = path(dir, index);
            let file = open_one(files, &path, write)?;
            opened.push((path, file));
        }
        let slots = Self { shape, journal, files: opened };
        for (path, file) in &slots.files {
            let found = file.length().map_err(io("get the length of", path))?;
            if found != shape.slot_bytes {
                return Err(OpenError::Length { path: path.clone(), found, expected: shape.slot_bytes });
            }
        }
        slots.mend_heads(write)?;
        Ok(slots)
    }

    /// A head says nothing that the other heads, the file's name and the identity do not: a damaged one is written again.
    fn mend_heads(&self, write: bool) -> Result<(), OpenError> {
        for (index, (path, file)) in (0..).zip(&self.files) {
            if check_head(file, path, &self.journal, index, Some(self.shape))?.is_none() {
                tracing::warn!(file = %path.display(), "the slot's head is damaged: the others tell what stood there");
                if write {
                    let head = head(&self.journal, self.shape, index);
                    file.write_at(&head, 0).map_err(io("write", path))?;
                    file.sync().map_err(io("sync", path))?;
                }
            }
        }
        Ok(())
    }

    /// Where a place in the journal lies.
    pub(crate) fn file(&self, at: u64) -> (&Path, &dyn Handle, u64) {
        let slot = at / self.shape.slot_bytes % u64::from(self.shape.slots);
        let (path, file) = &self.files[usize::try_from(slot).expect("below the number of slots")];
        (path, file.as_ref(), at % self.shape.slot_bytes)
    }

    /// Every slot: its number, path and file.
    pub(super) fn each(&self) -> impl Iterator<Item = (u32, &Path, &dyn Handle)> {
        (0..).zip(&self.files).map(|(index, (path, file))| (index, path.as_path(), file.as_ref()))
    }

    /// Syncs every slot: what is only in the page cache becomes durable before anybody is told of it.
    pub(crate) fn sync_all(&self) -> Result<(), OpenError> {
        self.each().try_for_each(|(_, path, file)| file.sync().map_err(io("sync", path)))
    }

    /// Reads from now on come from the disk.
    pub(crate) fn forget_cache(&self) -> Result<(), OpenError> {
        self.each().try_for_each(|(_, path, file)| file.forget_cache().map_err(io("drop the cache of", path)))
    }
}

fn open_one(files: &dyn Files, path: &Path, write: bool) -> Result<Arc<dyn Handle>, OpenError> {
    if !files.exists(path).map_err(io("look for", path))? {
        let why = "the identity says that this volume has a journal, and acknowledged records may be in it";
        return Err(OpenError::Missing { path: path.to_owned(), why });
    }
    let opened = if write { files.open(path, false) } else { files.open_read_only(path) };
    opened.map_err(io("open", path))
}

fn head(journal: &[u8; 16], shape: Shape, index: u32) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..4].copy_from_slice(MAGIC);
    head[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    head[12..16].copy_from_slice(&index.to_le_bytes());
    head[16..32].copy_from_slice(journal);
    head[32..40].copy_from_slice(&shape.slot_bytes.to_le_bytes());
    head[40..44].copy_from_slice(&shape.slots.to_le_bytes());
    let checksum = crc32c::crc32c(&head[8..]);
    head[4..8].copy_from_slice(&checksum.to_le_bytes());
    head
}

/// How many slots there are and how long they are, as the first head that holds has it.
fn shape_of(slots: &[(PathBuf, Arc<dyn Handle>)], journal: &[u8; 16]) -> Result<Shape, OpenError> {
    for (index, (path, file)) in (0..).zip(slots) {
        if let Some(shape) = check_head(file, path, journal, index, None)? {
            return Ok(shape);
        }
    }
    let what = "no slot's head holds".to_owned();
    Err(OpenError::Rotten { path: slots[0].0.clone(), at: 0, what })
}

/// What a slot's head says; `None` if it does not hold: then it is damaged, and the others tell what stood in it.
fn check_head(
    file: &Arc<dyn Handle>,
    path: &Path,
    journal: &[u8; 16],
    index: u32,
    expected: Option<Shape>,
) -> Result<Option<Shape>, OpenError> {
    let found = file.length().map_err(io("get the length of", path))?;
    if found < ALIGN {
        return Err(OpenError::Length {
            path: path.to_owned(),
            found,
            expected: expected.map_or(ALIGN, |shape| shape.slot_bytes),
        });
    }
    let mut bytes = [0; HEAD];
    file.read_at(&mut bytes, 0).map_err(io("read", path))?;
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let shape = Shape {
        slot_bytes: u64::from_le_bytes(bytes[32..40].try_into().expect("eight bytes")),
        slots: u32_at(40),
    };
    let rotten = |what: &str| OpenError::Rotten { path: path.to_owned(), at: 0, what: what.to_owned() };
    if &bytes[..4] != MAGIC || crc32c::crc32c(&bytes[8..]) != u32_at(4) {
        return Ok(None);
    }
    if u32_at(8) > FORMAT {
        return Err(OpenError::Format { path: path.to_owned(), found: u32_at(8), known: FORMAT });
    }
    if &bytes[16..32] != journal || u32_at(12) != index || expected.is_some_and(|expected| expected != shape)
    {
        return Err(rotten("the slot belongs to another journal, or to another place in this one"));
    }
    shape.check().map_err(|_| rotten("the slot's size or number is out of range"))?;
    Ok(Some(shape))
}
