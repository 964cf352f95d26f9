//! A small disk under real files and the real redb: it fills up, retention makes room in redb's file, and records go there.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fulmar_core::offset::Offset;
use fulmar_core::partition::{Write, WriteSeq};

use super::*;
use crate::storage::Fullness;
use crate::storage::seam::{Files, Handle, Lock, Space, SystemFiles};

const MIB: u64 = 1024 * 1024;
const TOTAL: u64 = 32 * MIB;
const RESERVE: u64 = 8 * MIB;
const BATCH: usize = 60_000;

/// The system's files; what is free is what files in the folder leave of so many bytes.
#[derive(Debug, Clone, Default)]
struct SmallDisk {
    looks: Arc<AtomicU64>,
}

fn taken(folder: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum += if metadata.is_dir() { taken(&entry.path())? } else { blocks(&metadata) };
    }
    Ok(sum)
}

fn blocks(metadata: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(metadata) * 512
}

impl Files for SmallDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn Handle>> {
        SystemFiles.open(path, create)
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
        SystemFiles.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        SystemFiles.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        SystemFiles.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        SystemFiles.lock(path)
    }

    fn space(&self, file: &Path) -> io::Result<Space> {
        let free = TOTAL.saturating_sub(taken(file.parent().unwrap())?);
        self.looks.fetch_add(1, Ordering::SeqCst);
        Ok(Space { total: TOTAL, free, taken: blocks(&std::fs::metadata(file)?) })
    }
}

struct Filling {
    disk: SmallDisk,
    folder: PathBuf,
    running: Running,
    written: u64,
}

impl Filling {
    fn open(folder: &Path) -> Self {
        let disk = SmallDisk::default();
        let config = StorageConfig {
            dir: folder.to_owned(),
            slot_bytes: 256 * 1024,
            unapplied_bytes_max: 1024 * 1024,
            hot_bytes_max: 2 * 1024 * 1024,
            group_bytes_max: 128 * 1024,
            apply_bytes_max: 512 * 1024,
            reserve_bytes_max: RESERVE,
            ..config()
        };
        let (sender, events) = channel();
        let opened = Storage::open_in(Arc::new(disk.clone()), &config, &expectations(), move |event| {
            drop(sender.send(event));
        });
        let (storage, opened) = opened.unwrap();
        let written = opened.replicas.iter().map(|(_, replica)| replica.log_end.0).max().unwrap_or(0);
        Self { disk, folder: folder.to_owned(), running: Running { storage, opened, events }, written }
    }

    /// Two mebibytes, as long as there is room; what is found then is not older than it.
    fn write_some(&mut self) -> Fullness {
        for _ in 0..2 * MIB / BATCH as u64 {
            let batch = batch_of(key(1), self.written, 1, BATCH, term(1));
            self.written += 1;
            let writes = vec![(key(1), WriteSeq(self.written), Write::Append(batch))];
            self.running.storage.write_blocking(writes).unwrap();
        }
        self.look()
    }

    /// Waits until all is applied and swept, and was looked at.
    fn look(&self) -> Fullness {
        settle(&self.running);
        let before = self.disk.looks.load(Ordering::SeqCst);
        eventually("the space is looked at", || self.disk.looks.load(Ordering::SeqCst) > before + 1);
        self.running.storage.fullness()
    }

    fn fill(&mut self) -> u64 {
        let before = self.written;
        while !self.write_some().is_full {
            let taken = taken(&self.folder).unwrap();
            assert!(
                taken < TOTAL - RESERVE / 4,
                "{taken} of {TOTAL} bytes are taken, and there is still room"
            );
        }
        self.written - before
    }

    /// Keeps so many records, the last ones.
    fn retain(&mut self, records: u64) {
        let start = Write::LogStart(Offset(self.written - records));
        let seq = WriteSeq(self.written + 1_000_000);
        self.running.storage.note_high_watermark(key(1), Offset(self.written));
        self.running.storage.write_blocking(vec![(key(1), seq, start)]).unwrap();
        eventually("what was let go is swept", || {
            self.running.storage.log_bytes(key(1)) < (records + 2) * 61_000
        });
    }
}

#[test]
fn a_full_volume_takes_records_again_after_retention_though_its_file_does_not_shrink() {
    let folder = tempfile::tempdir().unwrap();
    let mut filling = Filling::open(folder.path());
    let first = filling.fill();
    assert!(first > 150, "{first} records filled the volume");
    let full = taken(folder.path()).unwrap();
    filling.retain(first / 3);
    assert!(!filling.look().is_full, "{:?}", filling.look());
    // Round and round: more than the whole volume goes through it, and it never takes more of the disk.
    let mut more = 0;
    while more < 2 * first {
        more += filling.fill();
        filling.retain(first / 3);
        assert!(!filling.look().is_full, "after {more} records more: {:?}", filling.look());
    }
    let now = taken(folder.path()).unwrap();
    assert!(now < full + RESERVE / 2, "{full} bytes were taken at first, {now} now");
}

#[test]
fn a_broker_that_starts_on_a_full_volume_learns_what_is_free_in_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut filling = Filling::open(folder.path());
    let first = filling.fill();
    filling.retain(first / 4);
    filling.look();
    filling.running.storage.close().unwrap();
    drop(filling);
    let mut again = Filling::open(folder.path());
    assert!(!again.look().is_full, "{:?}", again.look());
    let more = again.fill();
    assert!(more > first / 3, "{more} records after {first}");
    assert!(taken(folder.path()).unwrap() < TOTAL - RESERVE / 4);
}
