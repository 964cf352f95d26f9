//! What a volume holds, told without changing it: for people (`fulmar-broker inspect`).

mod aside;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use fulmar_core::id::{PartitionKey, ReplicaId};
use fulmar_core::offset::Offset;
use fulmar_core::partition::Promise;
use fulmar_core::term::{Process, TermVector};
use parking_lot::Mutex;

pub use self::aside::{SalvageError, Salvaged, salvage};
use super::error::{OpenError, io};
use super::journal::Slots;
use super::seam::{Files, Handle, Lock, SystemFiles};
use super::tables::logs::LogRow;
use super::volume::{self, View, Volume};
use super::{Identity, Page, identity, recovery};

/// redb's cache while looking.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// A replica on the volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaReport {
    /// The partition.
    pub key: PartitionKey,
    /// What it promised.
    pub promise: Promise,
    /// Its terms.
    pub vector: TermVector,
    /// The oldest offset.
    pub log_start: Offset,
    /// The end.
    pub log_end: Offset,
    /// The stored high watermark.
    pub high_watermark: Offset,
    /// Bytes of its values in redb.
    pub bytes: u64,
    /// Producers that are remembered.
    pub producers: usize,
    /// May have lost something.
    pub uncertain: bool,
}

/// A copy of records that a person gave up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsideReport {
    /// The partition.
    pub key: PartitionKey,
    /// The first offset.
    pub from: Offset,
    /// Behind the last one.
    pub to: Offset,
    /// What was known to be committed.
    pub high_watermark: Offset,
    /// The terms of the log that it was cut from.
    pub vector: TermVector,
    /// Bytes of its values.
    pub bytes: u64,
}

/// All of a volume. Prints as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeReport {
    /// Whose it is and who ran on it.
    pub identity: Identity,
    /// The last process stopped in order.
    pub clean: bool,
    /// Marked as a restored copy.
    pub restored: bool,
    /// Bytes of the journal that are not in redb yet.
    pub unapplied_bytes: u64,
    /// Its replicas, tombstones included.
    pub replicas: Vec<ReplicaReport>,
    /// What was set aside, because a person gave it up.
    pub aside: Vec<AsideReport>,
    /// The partition table's pages.
    pub pages: Vec<Page>,
    /// The last process seen of each peer.
    pub peers: Vec<(ReplicaId, Process)>,
}

/// Reads a volume that no process has open.
pub fn inspect(dir: &Path) -> Result<VolumeReport, OpenError> {
    inspect_in(&SystemFiles, dir)
}

/// The same on other files than the operating system's.
pub fn inspect_in(files: &dyn Files, dir: &Path) -> Result<VolumeReport, OpenError> {
    let Opened { identity, clean, restored, volume, _lock } = open(files, dir)?;
    let empty = VolumeReport {
        identity,
        clean,
        restored,
        unapplied_bytes: 0,
        replicas: Vec::new(),
        aside: Vec::new(),
        pages: Vec::new(),
        peers: Vec::new(),
    };
    let Some((volume, unapplied_bytes)) = volume else { return Ok(empty) };
    let view = View::open(&*volume.database).map_err(volume::named(dir))?;
    Ok(VolumeReport {
        unapplied_bytes,
        replicas: volume.replicas.iter().map(|(key, replica)| report(*key, replica)).collect(),
        aside: volume.aside.iter().map(|((key, _), row)| aside(*key, row)).collect(),
        pages: view.pages().map_err(volume::named(dir))?,
        peers: view.peers().map_err(volume::named(dir))?,
        ..empty
    })
}

/// A volume that is looked at. Nobody else may open it meanwhile.
struct Opened {
    identity: Identity,
    clean: bool,
    restored: bool,
    /// With what the journal held beyond it, in bytes; nothing if it was never prepared.
    volume: Option<(Volume, u64)>,
    _lock: Box<dyn Lock>,
}

/// Opens a volume without changing it: the journal is replayed in memory.
fn open(files: &dyn Files, dir: &Path) -> Result<Opened, OpenError> {
    let Some(stored) = identity::load(files, dir)? else {
        let why = "this folder holds no volume";
        return Err(OpenError::Missing { path: identity::path(dir), why });
    };
    let lock = recovery::take_lock(files, dir)?;
    let identity = recovery::public(&stored);
    let (clean, restored) = (stored.clean, stored.restored);
    let opened = Opened { identity, clean, restored, volume: None, _lock: lock };
    if !stored.prepared {
        return Ok(opened);
    }
    let slots = Slots::open(files, dir, stored.journal, false)?;
    let path = volume::path(dir);
    let file = files.open_read_only(&path).map_err(io("open", &path))?;
    let overlay = Arc::new(Overlay::new(file).map_err(io("read", &path))?);
    let mut volume = Volume::open(overlay, CACHE_BYTES, stored.journal).map_err(volume::named(dir))?;
    let applied = volume.applied;
    let end = recovery::replay(&slots, &mut volume, CACHE_BYTES / 2, dir)?;
    Ok(Opened { volume: Some((volume, end.at - applied.at)), ..opened })
}

fn report(key: PartitionKey, replica: &volume::Replica) -> ReplicaReport {
    ReplicaReport {
        key,
        promise: replica.promise.clone(),
        vector: replica.row.vector.clone(),
        log_start: replica.row.start,
        log_end: replica.row.end,
        high_watermark: replica.row.high_watermark,
        bytes: replica.row.bytes,
        producers: replica.producers.len(),
        uncertain: replica.row.uncertain,
    }
}

fn aside(key: PartitionKey, row: &LogRow) -> AsideReport {
    AsideReport {
        key,
        from: row.start,
        to: row.end,
        high_watermark: row.high_watermark,
        vector: row.vector.clone(),
        bytes: row.bytes,
    }
}

impl fmt::Display for AsideReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, from, to, high_watermark, bytes, .. } = self;
        writeln!(f, "  {key}")?;
        writeln!(f, "    {from} to {to}, committed to {high_watermark} at least, {bytes} bytes")
    }
}

impl fmt::Display for VolumeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identity = &self.identity;
        match identity.cluster {
            Some(cluster) => writeln!(f, "cluster      {cluster}")?,
            None => writeln!(f, "cluster      none yet")?,
        }
        writeln!(f, "broker       {}", identity.ordinal)?;
        writeln!(f, "incarnation  {}", identity.incarnation)?;
        if let Some(last) = identity.processes.last() {
            writeln!(f, "session      {} (boot {})", last.session, last.boot)?;
        }
        let stop = if self.clean { "in order" } else { "by a crash or a kill" };
        writeln!(f, "last stop    {stop}; {} bytes of journal not applied", self.unapplied_bytes)?;
        if self.restored {
            writeln!(f, "restored     this is a copy; the next start makes it a new incarnation")?;
        }
        writeln!(f, "pages        {}", self.pages.len())?;
        for page in &self.pages {
            writeln!(f, "  {} at revision {}, {} lines", page.number, page.revision, page.lines.len())?;
        }
        writeln!(f, "peers seen   {}", self.peers.len())?;
        for (peer, process) in &self.peers {
            writeln!(f, "  {peer} session {} (boot {})", process.session, process.boot)?;
        }
        writeln!(f, "partitions   {}", self.replicas.len())?;
        self.replicas.iter().try_for_each(|replica| replica.fmt(f))?;
        if !self.aside.is_empty() {
            writeln!(f, "set aside    {}", self.aside.len())?;
        }
        self.aside.iter().try_for_each(|copy| copy.fmt(f))
    }
}

impl fmt::Display for ReplicaReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {}", self.key)?;
        let mark = if self.uncertain { ", UNCERTAIN" } else { "" };
        writeln!(
            f,
            "    log {} to {}, committed to {} at least, {} bytes, {} producers{mark}",
            self.log_start, self.log_end, self.high_watermark, self.bytes, self.producers
        )?;
        for line in self.vector.starts() {
            writeln!(f, "    term {} from {}", line.term, line.start)?;
        }
        match (&self.promise.term, &self.promise.entry) {
            (None, None) => writeln!(f, "    promised nothing"),
            (term, entry) => {
                let term = term.map_or_else(|| "no term".to_owned(), |term| term.to_string());
                let entry = entry.as_ref().map_or_else(|| "no entry".to_owned(), ToString::to_string);
                writeln!(f, "    promised {term} ({:?}): {entry}", self.promise.kind)
            }
        }
    }
}

/// A file that is read, with everything that is written kept in memory.
#[derive(Debug)]
struct Overlay {
    below: Arc<dyn Handle>,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    length: u64,
    pages: HashMap<u64, Vec<u8>>,
}

const PAGE: u64 = 4096;

impl Overlay {
    fn new(below: Arc<dyn Handle>) -> io::Result<Self> {
        let length = below.length()?;
        Ok(Self { below, written: Mutex::new(Written { length, pages: HashMap::new() }) })
    }

    fn page(&self, number: u64) -> io::Result<Vec<u8>> {
        let mut page = vec![0; usize::try_from(PAGE).expect("4096")];
        let there = self.below.length()?.saturating_sub(number * PAGE).min(PAGE);
        if there > 0 {
            self.below.read_at(&mut page[..usize::try_from(there).expect("at most 4096")], number * PAGE)?;
        }
        Ok(page)
    }
}

impl Handle for Overlay {
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        let written = self.written.lock();
        if at + into.len() as u64 > written.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (index, byte_run) in pieces(at, into.len()) {
            let page = match written.pages.get(&index) {
                Some(page) => page.clone(),
                None => self.page(index)?,
            };
            let from = usize::try_from((at + byte_run.start as u64) % PAGE).expect("below 4096");
            let length = byte_run.len();
            into[byte_run].copy_from_slice(&page[from..from + length]);
        }
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut written = self.written.lock();
        for (index, byte_run) in pieces(at, bytes.len()) {
            let mut page = match written.pages.remove(&index) {
                Some(page) => page,
                None => self.page(index)?,
            };
            let from = usize::try_from((at + byte_run.start as u64) % PAGE).expect("below 4096");
            page[from..from + byte_run.len()].copy_from_slice(&bytes[byte_run]);
            written.pages.insert(index, page);
        }
        written.length = written.length.max(at + bytes.len() as u64);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut written = self.written.lock();
        // Zeros where it grows: a page of the file below must not shine through again.
        let zeros = vec![0; usize::try_from(PAGE).expect("4096")];
        if length < written.length {
            for index in length.div_ceil(PAGE)..written.length.div_ceil(PAGE) {
                written.pages.insert(index, zeros.clone());
            }
        }
        written.length = length;
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.written.lock().length)
    }

    fn forget_cache(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Which parts of a buffer lie on which page.
fn pieces(at: u64, length: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        (done < length).then(|| {
            let here = at + done as u64;
            let room = usize::try_from(PAGE - here % PAGE).expect("at most 4096");
            let run = done..(done + room).min(length);
            done = run.end;
            (here / PAGE, run)
        })
    })
}
