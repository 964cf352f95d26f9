//! A promise as bytes, the same in the journal and in redb.

use fulmar_core::partition::{Promise, PromiseKind};

use super::bytes::{Malformed, Reader, Writer};

pub(super) fn encode(promise: &Promise, into: &mut Writer<'_>) {
    into.u8(match promise.kind {
        PromiseKind::Live => 0,
        PromiseKind::Tombstone => 1,
    });
    into.flag(promise.term.is_some());
    if let Some(term) = promise.term {
        into.term(term);
    }
    into.flag(promise.entry.is_some());
    if let Some(entry) = &promise.entry {
        into.block(entry.to_string().as_bytes());
    }
}

pub(super) fn decode(from: &mut Reader<'_>) -> Result<Promise, Malformed> {
    let kind = match from.u8("promise's kind")? {
        0 => PromiseKind::Live,
        1 => PromiseKind::Tombstone,
        _ => return Err(Malformed { what: "promise's kind" }),
    };
    let term = if from.flag("promise's term")? { Some(from.term()?) } else { None };
    let entry = if from.flag("promise's entry")? {
        let line = from.text("promise's entry")?;
        Some(line.parse().map_err(|_| Malformed { what: "promise's entry" })?)
    } else {
        None
    };
    Ok(Promise { entry, term, kind })
}
