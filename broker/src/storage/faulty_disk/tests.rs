//! The disk that the fault test trusts: it loses what was not synced, all of that, and nothing else.

use std::fs;
use std::path::PathBuf;

use super::*;

struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        Self { dir }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn open(&self) -> FaultyDisk {
        FaultyDisk::open(self.dir.path().join("disk"), &self.data()).unwrap()
    }

    fn order(&self, file: &str, text: &str) {
        fs::write(self.dir.path().join("disk").join(file), text).unwrap();
    }

    /// The next process on it, after a power cut that loses everything.
    fn cut(&self) -> FaultyDisk {
        let loses_all = (0..100).find(|seed| !StdRng::seed_from_u64(*seed).random_bool(0.5)).unwrap();
        self.order("power-cut", &loses_all.to_string());
        self.open()
    }
}

#[test]
fn what_was_not_synced_is_lost_over_several_processes() {
    let disk = Disk::new();
    let files = disk.open();
    let path = disk.data().join("one");
    let file = files.open(&path, true).unwrap();
    files.sync_dir(&disk.data()).unwrap();
    file.write_at(b"synced text", 0).unwrap();
    file.sync().unwrap();
    file.write_at(b"LOST", 0).unwrap();
    drop((file, files));
    // Killed, and started again without a power cut.
    let files = disk.open();
    let file = files.open(&path, false).unwrap();
    file.write_at(b"longer than before", 4).unwrap();
    file.set_len(7).unwrap();
    file.write_at(b"x", 0).unwrap();
    drop((file, files));
    let _files = disk.cut();
    assert_eq!(fs::read(&path).unwrap(), b"synced text");
    let _files = disk.cut();
    assert_eq!(fs::read(&path).unwrap(), b"synced text", "it is lost once");
}

#[test]
fn a_file_whose_folder_is_not_synced_is_gone_and_a_replaced_one_is_back() {
    let disk = Disk::new();
    let files = disk.open();
    let (old, new, other) = (disk.data().join("id"), disk.data().join("id.new"), disk.data().join("other"));
    for (path, text) in [(&old, b"old"), (&new, b"new")] {
        let file = files.open(path, true).unwrap();
        file.write_at(text, 0).unwrap();
        file.sync().unwrap();
    }
    files.sync_dir(&disk.data()).unwrap();
    files.rename(&new, &old).unwrap();
    files.open(&other, true).unwrap().sync().unwrap();
    let files = disk.cut();
    assert_eq!((fs::read(&old).unwrap(), fs::read(&new).unwrap()), (b"old".to_vec(), b"new".to_vec()));
    assert!(!other.exists());
    files.rename(&new, &old).unwrap();
    files.sync_dir(&disk.data()).unwrap();
    let files = disk.cut();
    assert_eq!(fs::read(&old).unwrap(), b"new");
    files.remove(&old).unwrap();
    let _files = disk.cut();
    assert_eq!(fs::read(&old).unwrap(), b"new");
}

#[test]
fn parts_that_stay_are_whole_sectors_of_the_old_or_the_new() {
    let mut mixed = 0;
    for seed in 0..40 {
        let disk = Disk::new();
        let files = disk.open();
        let path = disk.data().join("one");
        let file = files.open(&path, true).unwrap();
        files.sync_dir(&disk.data()).unwrap();
        file.write_at(&[1; 4096], 0).unwrap();
        file.sync().unwrap();
        file.write_at(&[2; 4096], 0).unwrap();
        drop((file, files));
        disk.order("power-cut", &format!("{seed}"));
        let _files = disk.open();
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 4096);
        assert!(bytes.chunks(512).all(|sector| sector == [1; 512] || sector == [2; 512]));
        mixed += u32::from(bytes.contains(&1) && bytes.contains(&2));
    }
    assert!(mixed > 10, "some cuts leave parts");
}

#[test]
fn a_sync_fails_or_waits_as_ordered() {
    let disk = Disk::new();
    let files = disk.open();
    let file = files.open(&disk.data().join("one"), true).unwrap();
    disk.order("orders", "fail\n");
    assert!(file.sync().is_err());
    disk.order("orders", "delay_ms 30\n");
    let began = std::time::Instant::now();
    file.sync().unwrap();
    assert!(began.elapsed() >= std::time::Duration::from_millis(30));
    disk.order("orders", "nonsense\n");
    assert!(file.sync().is_err());
    disk.order("orders", "");
    file.sync().unwrap();
}
