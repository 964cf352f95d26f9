//! The last process seen of each peer: one whose list lacks it is a copy. Key: ordinal (2 bytes), incarnation (16), big endian.

use fulmar_core::id::{Incarnation, Ordinal, ReplicaId};
use fulmar_core::term::Process;
use redb::TableDefinition;

use super::super::bytes::{Malformed, Reader, Writer};

pub(crate) type KeyBytes = [u8; 18];
pub(crate) const TABLE: TableDefinition<'static, &'static KeyBytes, &'static [u8]> =
    TableDefinition::new("peers");

pub(crate) fn key(peer: ReplicaId) -> KeyBytes {
    let mut bytes = [0; 18];
    bytes[..2].copy_from_slice(&peer.ordinal.0.to_be_bytes());
    bytes[2..].copy_from_slice(&peer.incarnation.to_bytes());
    bytes
}

pub(crate) fn peer(bytes: &KeyBytes) -> ReplicaId {
    ReplicaId {
        ordinal: Ordinal(u16::from_be_bytes([bytes[0], bytes[1]])),
        incarnation: Incarnation::from_bytes(bytes[2..].try_into().expect("sixteen bytes")),
    }
}

pub(crate) fn encode(process: Process) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16);
    Writer(&mut bytes).process(process);
    bytes
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Process, Malformed> {
    let mut from = Reader::new(bytes);
    let process = from.process()?;
    from.end("peer's end")?;
    Ok(process)
}
