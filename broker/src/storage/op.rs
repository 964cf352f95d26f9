//! One change of the volume, as the journal orders it, and its bytes there (`FORMAT.md`).

use bytes::Bytes;
use fulmar_core::batch::Batch;
use fulmar_core::entry::Entry;
use fulmar_core::id::{PartitionKey, ReplicaId};
use fulmar_core::partition::Write;
use fulmar_core::term::Process;

use super::Page;
use super::bytes::{Malformed, Reader, Writer};
use super::promise;

/// Bytes of a record besides its payload: length, kind.
const FRAME: usize = 5;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly all are writes of replicas")]
pub(super) enum Op {
    /// What core wants written.
    Write(PartitionKey, Write),
    /// A page of the partition table.
    Page(Page),
    /// A page that is no more.
    DropPage(u32),
    /// The last process seen of a peer.
    Peer(ReplicaId, Process),
}

mod kind {
    pub(super) const APPEND: u8 = 1;
    pub(super) const CUT: u8 = 2;
    pub(super) const RESET: u8 = 3;
    pub(super) const PROMISE: u8 = 4;
    pub(super) const LOG_START: u8 = 5;
    pub(super) const RELEASE: u8 = 6;
    pub(super) const MARK: u8 = 7;
    pub(super) const MEND: u8 = 8;
    pub(super) const PAGE: u8 = 9;
    pub(super) const DROP_PAGE: u8 = 10;
    pub(super) const PEER: u8 = 11;
    pub(super) const SET_ASIDE: u8 = 12;
    pub(super) const FORGET_ASIDE: u8 = 13;
}

/// About the length of an entry's text, from above; writing it out each time that it is weighed would cost more than the rest.
fn entry_weight(entry: &Entry) -> usize {
    const WITHOUT_REPLICAS: usize = 160;
    const REPLICA: usize = 44;
    let members: usize = entry.members.sets().map(|set| set.replicas().len()).sum();
    WITHOUT_REPLICAS + REPLICA * (members + entry.learners.len() + entry.lost.len())
}

impl Op {
    /// Bytes in memory and, closely, in the journal: what bounds are counted in.
    pub(super) fn weight(&self) -> usize {
        const BASE: usize = 64;
        BASE + match self {
            Op::Write(_, Write::Append(batch) | Write::Mend(batch)) => batch.size(),
            Op::Write(_, Write::Reset { vector, producers, .. }) => {
                vector.starts().len() * 40 + producers.len()
            }
            Op::Write(_, Write::Promise(promise)) => 64 + promise.entry.as_ref().map_or(0, entry_weight),
            Op::Write(_, Write::SetAside { producers, .. }) => producers.len(),
            Op::Write(
                _,
                Write::Cut { .. }
                | Write::LogStart(_)
                | Write::Mark { .. }
                | Write::Release
                | Write::ForgetAside,
            )
            | Op::DropPage(_)
            | Op::Peer(..) => 0,
            Op::Page(page) => page.lines.iter().map(|line| line.len() + 4).sum(),
        }
    }

    /// Whether it adds batches, and changes nothing else.
    pub(super) fn adds(&self) -> bool {
        matches!(self, Op::Write(_, Write::Append(_) | Write::Mend(_)))
    }

    /// The partition that it changes, if any.
    pub(super) fn key(&self) -> Option<PartitionKey> {
        match self {
            Op::Write(key, _) => Some(*key),
            Op::Page(_) | Op::DropPage(_) | Op::Peer(..) => None,
        }
    }

    /// Appends its record to the body of a group.
    pub(super) fn encode(&self, body: &mut Vec<u8>) {
        let start = body.len();
        body.extend_from_slice(&[0; FRAME]);
        let kind = self.encode_payload(&mut Writer(body));
        let length = u32::try_from(body.len() - start - FRAME).expect("a group is below 4 GiB");
        body[start..start + 4].copy_from_slice(&length.to_le_bytes());
        body[start + 4] = kind;
    }

    fn encode_payload(&self, into: &mut Writer<'_>) -> u8 {
        if let Some(key) = self.key() {
            into.key(key);
        }
        match self {
            Op::Write(_, write) => encode_write(write, into),
            Op::Page(page) => {
                into.u32(page.number);
                encode_page(page, into);
                kind::PAGE
            }
            Op::DropPage(number) => {
                into.u32(*number);
                kind::DROP_PAGE
            }
            Op::Peer(peer, process) => {
                into.replica(*peer).process(*process);
                kind::PEER
            }
        }
    }
}

fn encode_write(write: &Write, into: &mut Writer<'_>) -> u8 {
    match write {
        Write::Append(batch) => {
            into.bytes(batch.bytes());
            kind::APPEND
        }
        Write::Mend(batch) => {
            into.bytes(batch.bytes());
            kind::MEND
        }
        Write::Cut { to } => {
            into.u64(to.0);
            kind::CUT
        }
        Write::Reset { start, vector, producers } => {
            into.u64(start.0).vector(vector).block(producers);
            kind::RESET
        }
        Write::Promise(promise) => {
            promise::encode(promise, into);
            kind::PROMISE
        }
        Write::LogStart(start) => {
            into.u64(start.0);
            kind::LOG_START
        }
        Write::Mark { uncertain } => {
            into.flag(*uncertain);
            kind::MARK
        }
        Write::Release => kind::RELEASE,
        Write::SetAside { to, producers } => {
            into.u64(to.0).block(producers);
            kind::SET_ASIDE
        }
        Write::ForgetAside => kind::FORGET_ASIDE,
    }
}

/// A page's revision and lines; its number stands in front of it, or is its key.
pub(super) fn encode_page(page: &Page, into: &mut Writer<'_>) {
    into.u64(page.revision).u32(u32::try_from(page.lines.len()).expect("a page has a few thousand lines"));
    for line in &page.lines {
        into.block(line.as_bytes());
    }
}

/// The way back from [`encode_page`].
pub(super) fn decode_page(number: u32, from: &mut Reader<'_>) -> Result<Page, Malformed> {
    let revision = from.u64("page's revision")?;
    let count = from.u32("page's lines")?;
    let lines = (0..count).map(|_| from.text("page's line").map(str::to_owned)).collect::<Result<_, _>>()?;
    Ok(Page { number, revision, lines })
}

/// Takes the body of a group apart.
pub(super) fn decode_all(body: &Bytes) -> Result<Vec<Op>, Malformed> {
    let mut ops = Vec::new();
    let mut at = 0;
    while at < body.len() {
        let mut from = Reader::new(&body[at..]);
        let length = from.u32("record's length")? as usize;
        let kind = from.u8("record's kind")?;
        let end = at.checked_add(FRAME + length).filter(|end| *end <= body.len());
        let end = end.ok_or(Malformed { what: "record's length" })?;
        ops.push(decode(kind, &body.slice(at + FRAME..end))?);
        at = end;
    }
    Ok(ops)
}

fn decode(kind: u8, payload: &Bytes) -> Result<Op, Malformed> {
    let mut from = Reader::new(payload);
    let op = match kind {
        kind::PAGE => {
            let number = from.u32("page's number")?;
            Op::Page(decode_page(number, &mut from)?)
        }
        kind::DROP_PAGE => Op::DropPage(from.u32("page's number")?),
        kind::PEER => Op::Peer(from.replica()?, from.process()?),
        kind::APPEND | kind::MEND => {
            let key = from.key()?;
            let bytes = payload.slice_ref(from.rest());
            let batch = Batch::parse(bytes, key).map_err(|_| Malformed { what: "batch" })?;
            let write = if kind == kind::APPEND { Write::Append(batch) } else { Write::Mend(batch) };
            return Ok(Op::Write(key, write));
        }
        kind::CUT
        | kind::RESET
        | kind::PROMISE
        | kind::LOG_START
        | kind::MARK
        | kind::RELEASE
        | kind::SET_ASIDE
        | kind::FORGET_ASIDE => Op::Write(from.key()?, decode_write(kind, &mut from)?),
        _ => return Err(Malformed { what: "record's kind" }),
    };
    from.end("record's end")?;
    Ok(op)
}

fn decode_write(kind: u8, from: &mut Reader<'_>) -> Result<Write, Malformed> {
    Ok(match kind {
        kind::CUT => Write::Cut { to: from.offset("cut")? },
        kind::RESET => Write::Reset {
            start: from.offset("reset's start")?,
            vector: from.vector()?,
            producers: from.block("reset's producers")?.to_vec(),
        },
        kind::PROMISE => Write::Promise(promise::decode(from)?),
        kind::LOG_START => Write::LogStart(from.offset("log start")?),
        kind::MARK => Write::Mark { uncertain: from.flag("mark")? },
        kind::SET_ASIDE => Write::SetAside {
            to: from.offset("set aside")?,
            producers: from.block("set aside's producers")?.to_vec(),
        },
        kind::FORGET_ASIDE => Write::ForgetAside,
        _ => Write::Release,
    })
}
