//! Reading and writing the fixed-width fields of stored values: little endian, lengths in front.

use fulmar_core::id::{Incarnation, Ordinal, PartitionKey, ReplicaId, TopicId};
use fulmar_core::offset::Offset;
use fulmar_core::term::{BootId, Epoch, Process, Session, Term, TermStart, TermVector};

/// Bytes ended early or hold what cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed {
    /// What was being read.
    pub(super) what: &'static str,
}

/// Takes fields off the front of a value.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    pub(super) fn bytes(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let (taken, left) = self.left.split_at_checked(length).ok_or(Malformed { what })?;
        self.left = left;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        Ok(self.bytes(N, what)?.try_into().expect("as many bytes as were asked for"))
    }

    pub(super) fn u8(&mut self, what: &'static str) -> Result<u8, Malformed> {
        Ok(self.array::<1>(what)?[0])
    }

    pub(super) fn flag(&mut self, what: &'static str) -> Result<bool, Malformed> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed { what }),
        }
    }

    pub(super) fn u16(&mut self, what: &'static str) -> Result<u16, Malformed> {
        self.array(what).map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, Malformed> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, Malformed> {
        self.array(what).map(u64::from_le_bytes)
    }

    pub(super) fn uuid(&mut self, what: &'static str) -> Result<[u8; 16], Malformed> {
        self.array(what)
    }

    /// A length and so many bytes.
    pub(super) fn block(&mut self, what: &'static str) -> Result<&'a [u8], Malformed> {
        let length = self.u32(what)? as usize;
        self.bytes(length, what)
    }

    pub(super) fn text(&mut self, what: &'static str) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.block(what)?).map_err(|_| Malformed { what })
    }

    pub(super) fn offset(&mut self, what: &'static str) -> Result<Offset, Malformed> {
        let offset = self.u64(what)?;
        if offset < 1 << 63 { Ok(Offset(offset)) } else { Err(Malformed { what }) }
    }

    pub(super) fn key(&mut self) -> Result<PartitionKey, Malformed> {
        Ok(PartitionKey {
            topic: TopicId::from_bytes(self.uuid("topic id")?),
            partition: self.u32("partition number")?,
        })
    }

    pub(super) fn process(&mut self) -> Result<Process, Malformed> {
        Ok(Process { session: Session(self.u64("session")?), boot: BootId(self.u64("boot id")?) })
    }

    pub(super) fn replica(&mut self) -> Result<ReplicaId, Malformed> {
        Ok(ReplicaId {
            ordinal: Ordinal(self.u16("ordinal")?),
            incarnation: Incarnation::from_bytes(self.uuid("incarnation")?),
        })
    }

    pub(super) fn term(&mut self) -> Result<Term, Malformed> {
        let epoch =
            Epoch { generation: self.u64("term's generation")?, counter: self.u64("term's counter")? };
        Ok(Term { epoch, process: self.process()? })
    }

    pub(super) fn vector(&mut self) -> Result<TermVector, Malformed> {
        let lines = self.u32("term vector's length")? as usize;
        // 40 bytes a line: a wrong length must not reserve memory that the value cannot fill.
        let mut starts = Vec::with_capacity(lines.min(self.left.len() / 40));
        for _ in 0..lines {
            starts.push(TermStart { term: self.term()?, start: self.offset("term's start")? });
        }
        TermVector::new(starts).map_err(|_| Malformed { what: "term vector's order" })
    }

    pub(super) fn rest(self) -> &'a [u8] {
        self.left
    }

    pub(super) fn end(self, what: &'static str) -> Result<(), Malformed> {
        if self.left.is_empty() { Ok(()) } else { Err(Malformed { what }) }
    }
}

/// Puts fields behind each other.
#[derive(Debug)]
pub(super) struct Writer<'a>(pub(super) &'a mut Vec<u8>);

impl Writer<'_> {
    pub(super) fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    pub(super) fn flag(&mut self, value: bool) -> &mut Self {
        self.u8(u8::from(value))
    }

    pub(super) fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn block(&mut self, bytes: &[u8]) -> &mut Self {
        self.u32(u32::try_from(bytes.len()).expect("stored values are below 4 GiB")).bytes(bytes)
    }

    pub(super) fn key(&mut self, key: PartitionKey) -> &mut Self {
        self.bytes(&key.topic.to_bytes()).u32(key.partition)
    }

    pub(super) fn process(&mut self, process: Process) -> &mut Self {
        self.u64(process.session.0).u64(process.boot.0)
    }

    pub(super) fn replica(&mut self, replica: ReplicaId) -> &mut Self {
        self.u16(replica.ordinal.0).bytes(&replica.incarnation.to_bytes())
    }

    pub(super) fn term(&mut self, term: Term) -> &mut Self {
        self.u64(term.epoch.generation).u64(term.epoch.counter).process(term.process)
    }

    pub(super) fn vector(&mut self, vector: &TermVector) -> &mut Self {
        let starts = vector.starts();
        self.u32(u32::try_from(starts.len()).expect("fewer than 2^32 terms"));
        for line in starts {
            self.term(line.term).u64(line.start.0);
        }
        self
    }
}
