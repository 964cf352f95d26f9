//! The small file that says whose volume this is, which life of it, and who ran on it (`FORMAT.md`).
//!
//! Written twice into one new file, synced, then renamed over the old one: a crash leaves the old or the new, and a
//! flipped bit costs one of the two copies. Out of reach of anything that redb may step back over.

use std::path::{Path, PathBuf};

use fulmar_core::id::{ClusterId, Incarnation, Ordinal};
use fulmar_core::term::{BootId, Process, Session};

use super::bytes::{Malformed, Reader, Writer};
use super::config::Expectations;
use super::error::{OpenError, io};
use super::seam::Files;

/// Its name in the data folder.
pub(super) const FILE: &str = "identity";
/// How many processes are remembered: more restarts than a peer can sleep through, and still one page.
const PROCESSES_MAX: usize = 256;
const MAGIC: &[u8; 8] = b"FULMARID";
const FORMAT: u32 = 1;
/// Length and checksum in front of a copy.
const FRAME: usize = 8;

/// All of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) ordinal: Ordinal,
    pub(super) cluster: Option<ClusterId>,
    pub(super) incarnation: Incarnation,
    /// Random; every group of the journal carries it.
    pub(super) journal: [u8; 16],
    /// Journal and redb were made and synced: from now on they must be there.
    pub(super) prepared: bool,
    /// The last process stopped in order.
    pub(super) clean: bool,
    /// A peer or the operator knows a later session than this volume: it is a restored copy.
    pub(super) restored: bool,
    pub(super) processes: Vec<Process>,
}

impl Stored {
    /// A volume that nothing is known about.
    pub(super) fn mint(expectations: &Expectations) -> Self {
        Self {
            ordinal: expectations.ordinal,
            cluster: expectations.cluster,
            incarnation: Incarnation(uuid::Uuid::new_v4().as_u128()),
            journal: uuid::Uuid::new_v4().into_bytes(),
            prepared: false,
            clean: true,
            restored: false,
            processes: Vec::new(),
        }
    }

    /// Another process begins: the next session, a random boot id.
    pub(super) fn begin_session(&mut self) {
        let session = self.processes.last().map_or(1, |last| last.session.0 + 1);
        let process = Process { session: Session(session), boot: BootId(rand::random()) };
        if self.processes.len() == PROCESSES_MAX {
            self.processes.remove(0);
        }
        self.processes.push(process);
    }

    /// Refuses a volume of another broker or Cluster; adopts the Cluster if it has none.
    pub(super) fn check(&mut self, path: &Path, expectations: &Expectations) -> Result<(), OpenError> {
        let path = path.to_owned();
        if self.ordinal != expectations.ordinal {
            return Err(OpenError::ForeignOrdinal {
                path,
                found: self.ordinal,
                expected: expectations.ordinal,
            });
        }
        match (self.cluster, expectations.cluster) {
            (Some(found), Some(expected)) if found != expected => {
                return Err(OpenError::ForeignCluster { path, found, expected });
            }
            (None, Some(told)) => self.cluster = Some(told),
            _ => {}
        }
        Ok(())
    }

    fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(128 + self.processes.len() * 16);
        let mut into = Writer(&mut body);
        into.bytes(MAGIC).u32(FORMAT).u16(self.ordinal.0).bytes(&self.incarnation.to_bytes());
        into.flag(self.cluster.is_some()).bytes(&self.cluster.map_or([0; 16], ClusterId::to_bytes));
        into.bytes(&self.journal).flag(self.prepared).flag(self.clean).flag(self.restored);
        into.u32(u32::try_from(self.processes.len()).expect("at most 256"));
        for process in &self.processes {
            into.process(*process);
        }
        body
    }

    fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let mut from = Reader::new(body);
        if from.bytes(MAGIC.len(), "magic")? != MAGIC {
            return Err(Malformed { what: "magic" });
        }
        from.u32("format")?;
        let ordinal = Ordinal(from.u16("ordinal")?);
        let incarnation = Incarnation::from_bytes(from.uuid("incarnation")?);
        let told = from.flag("cluster id")?;
        let cluster = ClusterId::from_bytes(from.uuid("cluster id")?);
        let journal = from.uuid("journal id")?;
        let (prepared, clean, restored) =
            (from.flag("prepared")?, from.flag("clean")?, from.flag("restored")?);
        let count = from.u32("processes")? as usize;
        if count > PROCESSES_MAX {
            return Err(Malformed { what: "processes" });
        }
        let processes = (0..count).map(|_| from.process()).collect::<Result<_, _>>()?;
        from.end("end")?;
        let cluster = told.then_some(cluster);
        Ok(Self { ordinal, cluster, incarnation, journal, prepared, clean, restored, processes })
    }
}

/// The file's path.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

/// Reads the file; `None` if there is none.
pub(super) fn load(files: &dyn Files, dir: &Path) -> Result<Option<Stored>, OpenError> {
    let path = path(dir);
    if !files.exists(&path).map_err(io("look for it", &path))? {
        return Ok(None);
    }
    let file = files.open_read_only(&path).map_err(io("open", &path))?;
    let length = usize::try_from(file.length().map_err(io("get its length", &path))?).unwrap_or(usize::MAX);
    // Two full copies are below 10 KiB.
    if length > 64 * 1024 {
        return Err(OpenError::Length { path, found: length as u64, expected: 64 * 1024 });
    }
    let mut bytes = vec![0; length];
    file.read_at(&mut bytes, 0).map_err(io("read", &path))?;
    let (first, second) = bytes.split_at(length / 2);
    parse_copy(first, &path, 0)
        .or_else(|error| parse_copy(second, &path, first.len() as u64).map_err(|_| error))
        .map(Some)
}

pub(super) fn parse_copy(copy: &[u8], path: &Path, at: u64) -> Result<Stored, OpenError> {
    let rotten = |what: &str| OpenError::Rotten { path: path.to_owned(), at, what: what.to_owned() };
    let mut from = Reader::new(copy);
    let short = |_| rotten("the identity is cut short");
    let (length, checksum) = (from.u32("length").map_err(short)?, from.u32("checksum").map_err(short)?);
    let body = from.bytes(length as usize, "body").map_err(short)?;
    if crc32c::crc32c(body) != checksum {
        return Err(rotten("the identity's checksum does not hold, in neither of its copies"));
    }
    let format =
        body.get(MAGIC.len()..MAGIC.len() + 4).map(|four| u32::from_le_bytes(four.try_into().expect("four")));
    if let Some(found) = format.filter(|found| *found > FORMAT) {
        return Err(OpenError::Format { path: path.to_owned(), found, known: FORMAT });
    }
    Stored::decode(body).map_err(|malformed| rotten(malformed.what))
}

/// Replaces the file, synced.
pub(super) fn save(files: &dyn Files, dir: &Path, stored: &Stored) -> Result<(), OpenError> {
    let body = stored.encode();
    let mut copy = Vec::with_capacity(FRAME + body.len());
    Writer(&mut copy)
        .u32(u32::try_from(body.len()).expect("a few KiB"))
        .u32(crc32c::crc32c(&body))
        .bytes(&body);
    let fresh = dir.join("identity.new");
    let file = files.open(&fresh, true).map_err(io("create", &fresh))?;
    let whole = [copy.as_slice(), copy.as_slice()].concat();
    file.set_len(whole.len() as u64).map_err(io("set the length of", &fresh))?;
    file.write_at(&whole, 0).map_err(io("write", &fresh))?;
    file.sync().map_err(io("sync", &fresh))?;
    let path = path(dir);
    files.rename(&fresh, &path).map_err(io("replace", &path))?;
    files.sync_dir(dir).map_err(io("sync", dir))
}
