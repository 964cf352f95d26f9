//! Opening a volume: lock, identity, redb, the journal behind it, one sync; then what each replica holds.
//!
//! Owns the order of these steps. Refuses what it cannot prove whole and names the file; marks a replica uncertain where
//! only that replica is concerned.

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use fulmar_core::id::PartitionKey;
use fulmar_core::partition::{Recovered, Write};

use super::applier::{Applied, Applier, Pace};
use super::committer::Committer;
use super::config::{Expectations, StorageConfig};
use super::error::{OpenError, io};
use super::identity::{self, Stored};
use super::journal::{self, Position, Reader, Shape, Slots, Writer};
use super::memory::Memory;
use super::op::{self, Op};
use super::room::Room;
use super::seam::{Files, Lock};
use super::shared::{Shared, Start};
use super::volume::{self, View, Volume};
use super::{Identity, Opened, StorageEvent};

/// The lock of the data folder.
pub(super) const LOCK: &str = "lock";

/// A volume that is open and works.
pub(super) struct Running {
    pub(super) shared: Arc<Shared>,
    pub(super) threads: Vec<JoinHandle<()>>,
    pub(super) opened: Opened,
}

/// Does all of it.
pub(super) fn open(
    config: &StorageConfig,
    files: Arc<dyn Files>,
    expectations: &Expectations,
    events: Box<dyn Fn(StorageEvent) + Send + Sync>,
) -> Result<Running, OpenError> {
    let dir = config.dir.as_path();
    check(config)?;
    files.create_dir(dir).map_err(io("make", dir))?;
    let lock = take_lock(files.as_ref(), dir)?;
    let (identity, was_clean) = begin_session(files.as_ref(), dir, expectations)?;
    let identity = prepare(config, files.as_ref(), identity)?;
    let slots = Slots::open(files.as_ref(), dir, identity.journal, true)?;
    let mut volume = open_volume(config, files.as_ref(), &identity, &slots, was_clean)?;
    slots.sync_all()?;
    let released = volume.applied;
    // Before the journal is replayed: a table that learns of later batches first would forget the earlier ones for good.
    volume::guarded(|| volume.catch_up_producers()).map_err(volume::named(dir))?;
    let end = replay(&slots, &mut volume, config.apply_bytes_max, dir)?;
    check_replicas(&mut volume, end, dir)?;
    let opened = describe(&identity, &volume, replayed_bytes(released, end), dir)?;
    let records = volume::path(dir);
    let space = files.space(&records).map_err(io("ask for the space of", &records))?;
    let room = Room::new(config.reserve_bytes_max, space, volume.held_bytes());
    let writer = Writer::new(slots, end);
    let keeps_copies = !volume.aside.is_empty() || has_earlier_lives(files.as_ref(), dir)?;
    let start = Start {
        files,
        dir: dir.to_owned(),
        memory: Memory::new(&volume.replicas, config.hot_bytes_max),
        permits_max: config.unapplied_bytes_max,
        op_bytes_max: writer.body_bytes_max(),
        database: Arc::clone(&volume.database),
        identity,
        lock,
        fullness: room.fullness(),
        keeps_copies,
    };
    let shared = Arc::new(Shared::new(start, events));
    let threads =
        spawn(config, &shared, writer, (volume, room), released).map_err(io("start a thread for", dir))?;
    Ok(Running { shared, threads, opened })
}

fn check(config: &StorageConfig) -> Result<(), OpenError> {
    Shape { slots: config.slots, slot_bytes: config.slot_bytes }.check()?;
    let sizes = [
        ("unapplied_bytes_max", config.unapplied_bytes_max),
        ("hot_bytes_max", config.hot_bytes_max),
        ("group_bytes_max", config.group_bytes_max),
        ("apply_bytes_max", config.apply_bytes_max),
    ];
    if config.apply_bytes_max > config.unapplied_bytes_max {
        let what =
            "at most unapplied_bytes_max: else writers wait for a transaction that waits for them".to_owned();
        return Err(OpenError::Config { field: "apply_bytes_max", what });
    }
    match sizes.iter().find(|(_, bytes)| !(4096..=1 << 30).contains(bytes)) {
        Some((field, _)) => Err(OpenError::Config { field, what: "from 4 KiB to 1 GiB".to_owned() }),
        None => Ok(()),
    }
}

pub(super) fn take_lock(files: &dyn Files, dir: &Path) -> Result<Box<dyn Lock>, OpenError> {
    let path = dir.join(LOCK);
    files.lock(&path).map_err(io("lock", &path))?.ok_or(OpenError::Locked { path })
}

/// Before anything else: the volume is ours, and it knows that another process began. Gives whether the last one ended in
/// order.
fn begin_session(
    files: &dyn Files,
    dir: &Path,
    expectations: &Expectations,
) -> Result<(Stored, bool), OpenError> {
    let mut stored = if let Some(stored) = identity::load(files, dir)? {
        stored
    } else {
        refuse_leftovers(files, dir)?;
        Stored::mint(expectations)
    };
    stored.check(&identity::path(dir), expectations)?;
    if stored.restored {
        let cluster = stored.cluster;
        set_aside(files, dir, &stored)?;
        stored = Stored { cluster, ..Stored::mint(expectations) };
    }
    let was_clean = stored.clean;
    stored.clean = false;
    stored.begin_session();
    identity::save(files, dir, &stored)?;
    Ok((stored, was_clean))
}

/// Records without an identity are nobody's, and not ours to overwrite.
fn refuse_leftovers(files: &dyn Files, dir: &Path) -> Result<(), OpenError> {
    for path in [journal::folder(dir), volume::path(dir)] {
        if files.exists(&path).map_err(io("look for", &path))? {
            let why = "there are records beside it, and nothing says whose they are";
            return Err(OpenError::Missing { path: identity::path(dir), why });
        }
    }
    Ok(())
}

/// What the folders begin with that [`set_aside`] makes.
const EARLIER_LIFE: &str = "set-aside-";

fn has_earlier_lives(files: &dyn Files, dir: &Path) -> Result<bool, OpenError> {
    let is_one = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(EARLIER_LIFE))
    };
    Ok(files.list(dir).map_err(io("list", dir))?.iter().any(is_one))
}

/// What a copy of a volume holds belongs to the life that it was copied from. It is moved, not deleted.
fn set_aside(files: &dyn Files, dir: &Path, stored: &Stored) -> Result<(), OpenError> {
    let aside = dir.join(format!("{EARLIER_LIFE}{}", stored.incarnation));
    files.create_dir(&aside).map_err(io("make", &aside))?;
    for path in [journal::folder(dir), volume::path(dir)] {
        if files.exists(&path).map_err(io("look for", &path))? {
            let name = path.file_name().expect("both have names");
            files.rename(&path, &aside.join(name)).map_err(io("set aside", &path))?;
        }
    }
    files.sync_dir(&aside).map_err(io("sync", &aside))?;
    files.sync_dir(dir).map_err(io("sync", dir))
}

/// Makes journal and redb on a new volume. A start that was interrupted here begins anew: nothing can have been
/// acknowledged.
fn prepare(config: &StorageConfig, files: &dyn Files, mut stored: Stored) -> Result<Stored, OpenError> {
    if stored.prepared {
        return Ok(stored);
    }
    let dir = config.dir.as_path();
    let path = volume::path(dir);
    if files.exists(&path).map_err(io("look for", &path))? {
        files.remove(&path).map_err(io("remove", &path))?;
    }
    let shape = Shape { slots: config.slots, slot_bytes: config.slot_bytes };
    Slots::prepare(files, dir, stored.journal, shape)?;
    let file = files.open(&path, true).map_err(io("create", &path))?;
    Volume::create(file, config.cache_bytes, stored.journal).map_err(volume::named(dir))?;
    files.sync_dir(dir).map_err(io("sync", dir))?;
    stored.prepared = true;
    identity::save(files, dir, &stored)?;
    Ok(stored)
}

fn open_volume(
    config: &StorageConfig,
    files: &dyn Files,
    identity: &Stored,
    slots: &Slots,
    was_clean: bool,
) -> Result<Volume, OpenError> {
    let dir = config.dir.as_path();
    let path = volume::path(dir);
    if !files.exists(&path).map_err(io("look for", &path))? {
        let why = "the identity says that this volume has records, and acknowledged ones may be in it";
        return Err(OpenError::Missing { path, why });
    }
    let file = files.open(&path, false).map_err(io("open", &path))?;
    let length = file.length().map_err(io("get the length of", &path))?;
    if length == 0 {
        return Err(OpenError::Length { path, found: 0, expected: 4096 });
    }
    if !was_clean {
        // After a failed sync the cache shows what the disk does not have.
        slots.forget_cache()?;
        file.forget_cache().map_err(io("drop the cache of", &path))?;
    }
    Volume::open(file, config.cache_bytes, identity.journal).map_err(volume::named(dir))
}

/// Applies what the journal holds behind the applied position; gives its end.
pub(super) fn replay(
    slots: &Slots,
    volume: &mut Volume,
    bytes_max: usize,
    dir: &Path,
) -> Result<Position, OpenError> {
    let mut reader = Reader::new(slots, volume.applied);
    let (mut ops, mut bytes): (Vec<Op>, usize) = (Vec::new(), 0);
    loop {
        let before = reader.position();
        let Some(group) = reader.next()? else { break };
        let decoded = op::decode_all(&group.body).map_err(|malformed| {
            let (path, _, at) = slots.file(before.at);
            let what = format!("group {} of the journal: {}", before.sequence, malformed.what);
            OpenError::Rotten { path: path.to_owned(), at, what }
        })?;
        bytes += decoded.iter().map(Op::weight).sum::<usize>();
        ops.extend(decoded);
        if bytes >= bytes_max {
            volume.apply(&ops, group.end, &[], false).map_err(volume::named(dir))?;
            (ops, bytes) = (Vec::new(), 0);
        }
    }
    let end = reader.position();
    if !ops.is_empty() {
        volume.apply(&ops, end, &[], false).map_err(volume::named(dir))?;
    }
    Ok(end)
}

/// Logs whose rows and values disagree become uncertain. Always ends with a commit: from then on redb stepping back by one
/// finds what it held when it was opened.
fn check_replicas(volume: &mut Volume, end: Position, dir: &Path) -> Result<(), OpenError> {
    let checked = volume::guarded(|| {
        let short = volume.check_ends()?;
        let mark = |key: PartitionKey| Op::Write(key, Write::Mark { uncertain: true });
        let marks: Vec<Op> = short.iter().map(|key| mark(*key)).collect();
        for key in &short {
            tracing::error!(%key, "the log ends before its stored end: records were lost; the replica is uncertain");
        }
        volume.apply(&marks, end, &[], false)
    });
    checked.map_err(volume::named(dir))
}

fn replayed_bytes(from: Position, to: Position) -> u64 {
    to.at.saturating_sub(from.at)
}

/// What the shell is told.
fn describe(stored: &Stored, volume: &Volume, replayed_bytes: u64, dir: &Path) -> Result<Opened, OpenError> {
    let view = View::open(&*volume.database).map_err(volume::named(dir))?;
    let replicas = volume.replicas.iter().map(|(key, replica)| {
        let recovered = Recovered {
            promise: replica.promise.clone(),
            vector: replica.row.vector.clone(),
            log_start: replica.row.start,
            log_end: replica.row.end,
            high_watermark: replica.row.high_watermark,
            append_time_ms: replica.row.append_time_ms,
            producers: replica.producers.encode(),
            uncertain: replica.row.uncertain,
        };
        (*key, recovered)
    });
    let damaged = volume
        .replicas
        .iter()
        .flat_map(|(key, replica)| replica.unnoted.stretches().map(|stretch| (*key, stretch)));
    Ok(Opened {
        identity: public(stored),
        replicas: replicas.collect(),
        pages: view.pages().map_err(volume::named(dir))?,
        peers: view.peers().map_err(volume::named(dir))?,
        replayed_bytes,
        damaged: damaged.collect(),
    })
}

/// What others may know of the identity file.
pub(super) fn public(stored: &Stored) -> Identity {
    Identity {
        cluster: stored.cluster,
        ordinal: stored.ordinal,
        incarnation: stored.incarnation,
        processes: stored.processes.clone(),
    }
}

fn spawn(
    config: &StorageConfig,
    shared: &Arc<Shared>,
    writer: Writer,
    (volume, room): (Volume, Room),
    released: Position,
) -> std::io::Result<Vec<JoinHandle<()>>> {
    let applied = Arc::new(Applied::new(released));
    // Unbounded as such; the permits of what it carries bound it.
    let (to_applier, groups) = mpsc::channel();
    let pace = Pace { bytes_max: config.apply_bytes_max, after: config.apply_after };
    let tables = Applier::new(Arc::clone(shared), volume, Arc::clone(&applied), pace, room);
    let committer = Committer {
        group_bytes_max: config.group_bytes_max.min(writer.body_bytes_max()),
        shared: Arc::clone(shared),
        writer,
        applier: to_applier,
        applied,
    };
    let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
    let second = thread("applier").spawn(move || tables.run(&groups))?;
    let first = thread("journal").spawn(move || committer.run())?;
    Ok(vec![first, second])
}
