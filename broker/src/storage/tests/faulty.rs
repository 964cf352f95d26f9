//! Files in memory that forget what was not synced, tear writes, flip bits, fill up, and fail when told to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::storage::seam::{Files, Handle, Lock, Space};

const SECTOR: usize = 512;

#[derive(Debug, Clone)]
enum Unsynced {
    Write(u64, Vec<u8>),
    Length(u64),
}

#[derive(Debug, Default)]
struct Node {
    cached: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Unsynced>,
    /// Writes that the machine died in.
    dying: Vec<Unsynced>,
    /// What was durable after each of the last syncs, newest last.
    history: VecDeque<Vec<u8>>,
}

/// Syncs whose outcome is kept: one commit of redb takes two.
const HISTORY_MAX: usize = 3;

fn apply(bytes: &mut Vec<u8>, change: &Unsynced) {
    match change {
        Unsynced::Write(at, data) => {
            let at = usize::try_from(*at).unwrap();
            if bytes.len() < at + data.len() {
                bytes.resize(at + data.len(), 0);
            }
            bytes[at..at + data.len()].copy_from_slice(data);
        }
        Unsynced::Length(length) => bytes.resize(usize::try_from(*length).unwrap(), 0),
    }
}

/// What a crash does to bytes that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::storage) enum Crash {
    /// kill -9: the page cache lives on.
    Kill,
    /// Power loss, nothing unsynced arrived.
    Drop,
    /// Power loss, some sectors arrived, in any order.
    Tear(u64),
}

/// What goes wrong while it runs.
#[derive(Debug, Default)]
pub(in crate::storage) struct Faults {
    /// Every call from the n-th change on fails.
    pub(in crate::storage) dead_after: Option<u64>,
    pub(in crate::storage) sync_delay: Duration,
    /// Syncs do not return as long as this is set.
    pub(in crate::storage) hang_sync: bool,
    pub(in crate::storage) fail_sync: bool,
    pub(in crate::storage) fail_write: Option<io::ErrorKind>,
    pub(in crate::storage) free_bytes: Option<u64>,
}

#[derive(Debug, Default)]
struct World {
    names: BTreeMap<PathBuf, Arc<Mutex<Node>>>,
    durable_names: BTreeMap<PathBuf, Arc<Mutex<Node>>>,
    locks: BTreeSet<PathBuf>,
    life: u64,
    changes: u64,
    /// Syncs that hang now.
    hanging: u64,
    faults: Faults,
}

#[derive(Debug, Clone, Default)]
pub(in crate::storage) struct FaultyFiles {
    world: Arc<Mutex<World>>,
    /// Held by each change from its beginning to its end, so that a crash comes between changes: one that had begun before and
    /// ended after it would be told of as done.
    power: Arc<RwLock<()>>,
}

#[derive(Debug)]
struct FaultyHandle {
    world: FaultyFiles,
    node: Arc<Mutex<Node>>,
    life: u64,
    writable: bool,
    keeps_history: bool,
}

#[derive(Debug)]
struct FaultyLock(FaultyFiles, PathBuf, u64);

impl Lock for FaultyLock {}

impl Drop for FaultyLock {
    fn drop(&mut self) {
        let mut world = self.0.world.lock();
        if world.life == self.2 {
            world.locks.remove(&self.1);
        }
    }
}

fn dead() -> io::Error {
    io::Error::other("the machine is off")
}

impl FaultyFiles {
    pub(in crate::storage) fn set(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.world.lock().faults);
    }

    /// How many syncs hang now.
    pub(in crate::storage) fn hanging(&self) -> u64 {
        self.world.lock().hanging
    }

    /// How many changes were made so far: writes, syncs, lengths, names.
    pub(in crate::storage) fn changes(&self) -> u64 {
        self.world.lock().changes
    }

    /// The process ends here; handles of before are dead, locks are free, no fault is set.
    pub(in crate::storage) fn crash(&self, how: Crash) {
        let _between = self.power.write();
        let mut world = self.world.lock();
        world.life += 1;
        world.locks.clear();
        world.faults = Faults::default();
        world.changes = 0;
        if how != Crash::Kill {
            world.names = world.durable_names.clone();
        }
        let mut chance = StdRng::seed_from_u64(if let Crash::Tear(seed) = how { seed } else { 0 });
        for node in world.names.values() {
            let mut node = node.lock();
            let dying = std::mem::take(&mut node.dying);
            if how == Crash::Kill {
                // What is in the page cache stays there, not synced; of the last write, its beginning.
                for change in dying {
                    let begun = begun(change);
                    apply(&mut node.cached, &begun);
                    node.unsynced.push(begun);
                }
                continue;
            }
            let unsynced = std::mem::take(&mut node.unsynced);
            match how {
                Crash::Kill | Crash::Drop => {}
                Crash::Tear(_) => {
                    for change in unsynced.iter().chain(&dying) {
                        tear(&mut node.durable, change, &mut chance);
                    }
                }
            }
            node.cached = node.durable.clone();
        }
    }

    /// Flips one bit, on the disk and in the cache.
    pub(in crate::storage) fn flip(&self, path: &Path, at: u64, bit: u8) {
        let world = self.world.lock();
        let mut node = world.names[path].lock();
        let at = usize::try_from(at).unwrap();
        node.cached[at] ^= 1 << bit;
        if let Some(byte) = node.durable.get_mut(at) {
            *byte ^= 1 << bit;
        }
    }

    pub(in crate::storage) fn bytes(&self, path: &Path) -> Vec<u8> {
        self.world.lock().names[path].lock().cached.clone()
    }

    pub(in crate::storage) fn replace(&self, path: &Path, bytes: &[u8]) {
        let world = self.world.lock();
        let mut node = world.names[path].lock();
        *node = Node { cached: bytes.to_vec(), durable: bytes.to_vec(), ..Node::default() };
    }

    /// Puts a redb file back to the commit before the one that a start would find now.
    pub(in crate::storage) fn step_back(&self, path: &Path) {
        let older = self.world.lock().names[path].lock().history.front().cloned().unwrap();
        self.replace(path, &older);
    }

    pub(in crate::storage) fn cut_short(&self, path: &Path, length: usize) {
        let world = self.world.lock();
        let mut node = world.names[path].lock();
        node.cached.truncate(length);
        node.durable.truncate(length);
    }

    pub(in crate::storage) fn delete(&self, path: &Path) {
        let mut world = self.world.lock();
        world.names.remove(path);
        world.durable_names.remove(path);
    }

    /// A copy of the whole volume, as a backup would make it.
    pub(in crate::storage) fn backup(&self) -> FaultyFiles {
        let world = self.world.lock();
        let copy = |node: &Arc<Mutex<Node>>| {
            let bytes = node.lock().cached.clone();
            Arc::new(Mutex::new(Node { cached: bytes.clone(), durable: bytes, ..Node::default() }))
        };
        let names: BTreeMap<_, _> =
            world.names.iter().map(|(path, node)| (path.clone(), copy(node))).collect();
        let world = World { durable_names: names.clone(), names, ..World::default() };
        FaultyFiles { world: Arc::new(Mutex::new(world)), ..FaultyFiles::default() }
    }

    pub(in crate::storage) fn paths(&self) -> Vec<PathBuf> {
        self.world.lock().names.keys().cloned().collect()
    }

    /// Counts a change; fails if the machine went off.
    fn change(&self, life: Option<u64>) -> io::Result<()> {
        let mut world = self.world.lock();
        if life.is_some_and(|life| life != world.life) {
            return Err(dead());
        }
        world.changes += 1;
        match world.faults.dead_after {
            Some(limit) if world.changes > limit => Err(dead()),
            _ => Ok(()),
        }
    }

    /// Returns when no sync hangs any more.
    fn hang(&self) {
        if !self.world.lock().faults.hang_sync {
            return;
        }
        self.world.lock().hanging += 1;
        while self.world.lock().faults.hang_sync {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.world.lock().hanging -= 1;
    }

    fn handle(&self, path: &Path, create: bool, writable: bool) -> io::Result<Arc<dyn Handle>> {
        let mut world = self.world.lock();
        if world.faults.dead_after.is_some_and(|limit| world.changes > limit) {
            return Err(dead());
        }
        if create {
            world.names.entry(path.to_owned()).or_default();
        }
        let keeps_history = path.extension().is_some_and(|extension| extension == "redb");
        let node = world.names.get(path).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(FaultyHandle { world: self.clone(), node, life: world.life, writable, keeps_history }))
    }
}

/// A write that was cut off in the middle.
fn begun(change: Unsynced) -> Unsynced {
    match change {
        Unsynced::Write(at, mut data) => {
            data.truncate(data.len() / 2 / SECTOR * SECTOR);
            Unsynced::Write(at, data)
        }
        Unsynced::Length(length) => Unsynced::Length(length),
    }
}

fn tear(durable: &mut Vec<u8>, change: &Unsynced, luck: &mut StdRng) {
    match change {
        Unsynced::Length(_) => {
            if luck.random_bool(0.5) {
                apply(durable, change);
            }
        }
        Unsynced::Write(at, data) => {
            for (index, sector) in data.chunks(SECTOR).enumerate() {
                if luck.random_bool(0.5) {
                    apply(durable, &Unsynced::Write(at + (index * SECTOR) as u64, sector.to_vec()));
                }
            }
        }
    }
}

impl Files for FaultyFiles {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn Handle>> {
        self.handle(path, create, true)
    }

    fn open_read_only(&self, path: &Path) -> io::Result<Arc<dyn Handle>> {
        self.handle(path, false, false)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let world = self.world.lock();
        Ok(world.names.keys().any(|name| name.starts_with(path)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let world = self.world.lock();
        let below = world.names.keys().filter_map(|name| name.strip_prefix(dir).ok()?.components().next());
        Ok(below.map(|first| dir.join(first)).collect())
    }

    fn create_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let _power = self.power.read();
        self.change(None)?;
        let mut world = self.world.lock();
        let moved: Vec<PathBuf> = world.names.keys().filter(|name| name.starts_with(from)).cloned().collect();
        if moved.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        for name in moved {
            let node = world.names.remove(&name).unwrap();
            let rest = name.strip_prefix(from).unwrap();
            let target = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
            world.names.insert(target, node);
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let _power = self.power.read();
        self.change(None)?;
        self.world.lock().names.remove(path).map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        let _power = self.power.read();
        self.change(None)?;
        let mut world = self.world.lock();
        world.durable_names = world.names.clone();
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let mut world = self.world.lock();
        if !world.locks.insert(path.to_owned()) {
            return Ok(None);
        }
        Ok(Some(Box::new(FaultyLock(self.clone(), path.to_owned(), world.life))))
    }

    fn space(&self, _file: &Path) -> io::Result<Space> {
        let free = self.world.lock().faults.free_bytes.unwrap_or(1 << 40);
        // Redb's file always takes as much: what lies free in it is not this disk's.
        Ok(Space { total: 1 << 40, free, taken: 0 })
    }
}

impl Handle for FaultyHandle {
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        let node = self.node.lock();
        let at = usize::try_from(at).unwrap();
        let from = node.cached.get(at..at + into.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(from);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        assert!(self.writable, "a volume that is inspected is not written");
        let _power = self.world.power.read();
        let died = self.world.change(Some(self.life));
        if let Some(kind) = self.world.world.lock().faults.fail_write {
            return Err(kind.into());
        }
        let alive = self.world.world.lock().life == self.life;
        if alive && (died.is_ok() || self.world.world.lock().faults.dead_after.is_some()) {
            // The write that the machine dies in may arrive, or in part.
            let mut node = self.node.lock();
            let change = Unsynced::Write(at, bytes.to_vec());
            if died.is_ok() {
                apply(&mut node.cached, &change);
                node.unsynced.push(change);
            } else {
                node.dying.push(change);
            }
        }
        died
    }

    fn sync(&self) -> io::Result<()> {
        let _power = self.world.power.read();
        self.world.change(Some(self.life))?;
        let (delay, fails) = {
            let world = self.world.world.lock();
            (world.faults.sync_delay, world.faults.fail_sync)
        };
        std::thread::sleep(delay);
        self.world.hang();
        if fails {
            return Err(io::Error::other("the disk failed to sync"));
        }
        let mut node = self.node.lock();
        let unsynced = std::mem::take(&mut node.unsynced);
        for change in &unsynced {
            apply(&mut node.durable, change);
        }
        if self.keeps_history {
            let durable = node.durable.clone();
            node.history.push_back(durable);
            if node.history.len() > HISTORY_MAX {
                node.history.pop_front();
            }
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        assert!(self.writable, "a volume that is inspected is not written");
        let _power = self.world.power.read();
        self.world.change(Some(self.life))?;
        let mut node = self.node.lock();
        let change = Unsynced::Length(length);
        apply(&mut node.cached, &change);
        node.unsynced.push(change);
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.node.lock().cached.len() as u64)
    }

    fn forget_cache(&self) -> io::Result<()> {
        Ok(())
    }
}
