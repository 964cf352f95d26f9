//! A disk that loses power, is slow, hangs or fails, for `cargo xtask faults`: the operating system's files, with notes on what is not
//! synced. Only in builds with debug assertions, and only if the environment names a folder for orders and notes.
//!
//! Owns that folder: `orders` (what the disk does from now on), `power-cut` (what was not synced is to be lost at the next start),
//! `inode-N` (writes that a file has not synced) and `names` (files made, moved and removed in folders that are not synced). A file is known
//! by its inode: it keeps its notes when it is moved. Never knows what is in a file.

mod names;
mod notes;
mod orders;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use self::names::Names;
use self::notes::Notes;
use super::seam::{Files, Handle, Lock, Space, SystemFiles};

/// The environment's variable.
const VARIABLE: &str = "FULMAR_FAULTY_DISK";

/// The disk of this process, if the environment asks for a faulty one. A power cut that was ordered happens now.
pub(crate) fn of_environment(data: &Path) -> io::Result<Option<Arc<dyn Files>>> {
    let Some(folder) = std::env::var_os(VARIABLE) else { return Ok(None) };
    tracing::warn!(?folder, "the disk is faulty, on purpose");
    let disk = FaultyDisk::open(PathBuf::from(folder), data)?;
    Ok(Some(Arc::new(disk)))
}

/// See the module.
#[derive(Debug)]
pub(crate) struct FaultyDisk {
    folder: PathBuf,
    names: Mutex<Names>,
    files: Mutex<HashMap<u64, Arc<Mutex<Notes>>>>,
}

#[derive(Debug)]
struct FaultyHandle {
    folder: PathBuf,
    system: Arc<dyn Handle>,
    notes: Arc<Mutex<Notes>>,
}

impl FaultyDisk {
    /// Opens the notes; `data` is where the volume is.
    pub(crate) fn open(folder: PathBuf, data: &Path) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        lose_unsynced(&folder, data)?;
        let names = Mutex::new(Names::open(&folder)?);
        Ok(Self { folder, names, files: Mutex::default() })
    }

    fn handle(&self, path: &Path, system: Arc<dyn Handle>, is_new: bool) -> io::Result<Arc<dyn Handle>> {
        let inode = fs::metadata(path)?.ino();
        let mut files = self.files.lock();
        if is_new {
            // The number was somebody else's, who is gone.
            files.remove(&inode);
            Notes::forget(&self.folder, inode)?;
        }
        let notes = if let Some(notes) = files.get(&inode) {
            Arc::clone(notes)
        } else {
            let notes = Arc::new(Mutex::new(Notes::open(&self.folder, inode)?));
            files.insert(inode, Arc::clone(&notes));
            notes
        };
        Ok(Arc::new(FaultyHandle { folder: self.folder.clone(), system, notes }))
    }
}

/// Takes back what was not synced, if a power cut was ordered: names first, so that files are where they were. Half of the cuts lose
/// everything that was not synced, the others any part of it, sector by sector.
fn lose_unsynced(folder: &Path, data: &Path) -> io::Result<()> {
    let order = folder.join("power-cut");
    let seed = match fs::read_to_string(&order) {
        Ok(text) => text.trim().parse().map_err(|_| io::Error::other("power-cut holds no seed"))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut luck = StdRng::seed_from_u64(seed);
    let keeps_parts = luck.random_bool(0.5);
    Names::open(folder)?.take_back(folder)?;
    let mut files = Vec::new();
    collect(data, &mut files)?;
    files.sort();
    let mut lost = 0;
    for (inode, path) in files {
        lost += Notes::open(folder, inode)?.take_back(&path, keeps_parts.then_some(&mut luck))?;
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("inode-") {
            fs::remove_file(entry.path())?;
        }
    }
    tracing::warn!(lost, keeps_parts, "the power was cut: writes that were not synced are lost");
    fs::remove_file(order)
}

/// Every file below a folder, with its inode.
fn collect(folder: &Path, into: &mut Vec<(u64, PathBuf)>) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), into)?;
        } else {
            into.push((entry.metadata()?.ino(), entry.path()));
        }
    }
    Ok(())
}

impl Files for FaultyDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn Handle>> {
        let is_new = create && !path.try_exists()?;
        if is_new {
            self.names.lock().made(path)?;
        }
        let system = SystemFiles.open(path, create)?;
        self.handle(path, system, is_new)
    }

    fn open_read_only(&self, path: &Path) -> io::Result<Arc<dyn Handle>> {
        SystemFiles.open_read_only(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        SystemFiles.exists(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        SystemFiles.list(dir)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        SystemFiles.create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.names.lock().moved(from, to)?;
        SystemFiles.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.names.lock().removed(path)?;
        SystemFiles.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        orders::obey(&self.folder)?;
        SystemFiles.sync_dir(dir)?;
        self.names.lock().synced(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        SystemFiles.lock(path)
    }

    fn space(&self, file: &Path) -> io::Result<Space> {
        SystemFiles.space(file)
    }
}

impl Handle for FaultyHandle {
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        self.system.read_at(into, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut notes = self.notes.lock();
        notes.written(self.system.as_ref(), bytes, at)?;
        self.system.write_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        let until = self.notes.lock().length();
        orders::obey(&self.folder)?;
        self.system.sync()?;
        self.notes.lock().synced(until)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut notes = self.notes.lock();
        notes.cut_or_grown(self.system.as_ref(), length)?;
        self.system.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        self.system.length()
    }

    fn forget_cache(&self) -> io::Result<()> {
        self.system.forget_cache()
    }
}

#[cfg(test)]
mod tests;
