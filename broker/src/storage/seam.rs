//! Files behind a small trait, used by the journal, redb and the identity alike: where tests drop what was not synced,
//! tear a write, flip a bit, fill the disk or slow a sync. The real one is the operating system's.
//!
//! Never retries and never interprets: an error goes up as it came.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::StorageBackend;

/// A folder tree.
pub trait Files: Debug + Send + Sync + 'static {
    /// Opens for reading and writing; makes the file if `create` says so and it is not there.
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn Handle>>;
    /// Opens for reading only.
    fn open_read_only(&self, path: &Path) -> io::Result<Arc<dyn Handle>>;
    /// Whether something is there.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// What is in a folder: files and folders.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
    /// Makes a folder and those above it.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Moves within the volume, replacing.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Deletes one file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Syncs the names of a folder.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the lock of that file, held until dropped; `None` if somebody else has it.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>>;
    /// What the volume of this file has, and what the file takes of it.
    fn space(&self, file: &Path) -> io::Result<Space>;
}

/// What a volume has, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// The size of the file system.
    pub total: u64,
    /// What may still be written.
    pub free: u64,
    /// What the file takes: of a file with holes less than its length.
    pub taken: u64,
}

/// One open file.
pub trait Handle: Debug + Send + Sync + 'static {
    /// Fills `into` from `at` on, or fails.
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<()>;
    /// Writes all of it.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Makes what was written durable (data and length).
    fn sync(&self) -> io::Result<()>;
    /// Cuts or grows, with zeros.
    fn set_len(&self, length: u64) -> io::Result<()>;
    /// Its length.
    fn length(&self) -> io::Result<u64>;
    /// Asks the system to forget what it has cached, so that reads come from the disk.
    fn forget_cache(&self) -> io::Result<()>;
}

/// A held lock.
pub trait Lock: Debug + Send + Sync + 'static {}

/// The operating system's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemFiles;

#[derive(Debug)]
struct SystemHandle(File);

#[derive(Debug)]
struct SystemLock {
    _held: File,
}

impl Lock for SystemLock {}

impl Files for SystemFiles {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn Handle>> {
        let file = OpenOptions::new().read(true).write(true).create(create).truncate(false).open(path)?;
        Ok(Arc::new(SystemHandle(file)))
    }

    fn open_read_only(&self, path: &Path) -> io::Result<Arc<dyn Handle>> {
        Ok(Arc::new(SystemHandle(File::open(path)?)))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        std::fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect()
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(SystemLock { _held: file }))),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn space(&self, file: &Path) -> io::Result<Space> {
        let volume = rustix::fs::statvfs(file)?;
        let bytes = |blocks: u64| blocks.saturating_mul(volume.f_frsize);
        // Whatever a file system's blocks are: this field counts 512 bytes.
        let taken = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(file)?).saturating_mul(512);
        Ok(Space { total: bytes(volume.f_blocks), free: bytes(volume.f_bavail), taken })
    }
}

impl Handle for SystemHandle {
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.0, into, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.0, bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    #[cfg(target_os = "linux")]
    fn forget_cache(&self) -> io::Result<()> {
        rustix::fs::fadvise(&self.0, 0, None, rustix::fs::Advice::DontNeed)?;
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    fn forget_cache(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A file as redb wants it. It has no lock of its own: the folder's is held before redb opens anything.
#[derive(Debug)]
pub(super) struct Backend(pub(super) Arc<dyn Handle>);

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(data, offset)
    }
}
