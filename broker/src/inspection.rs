//! What a volume holds, for programs: the report of [`storage::inspect`](crate::storage::inspect) as JSON, and what was set aside
//! as lines of it.
//!
//! Owns the names of the fields, and what bytes look like in them.

use std::io::Write;
use std::path::Path;

use fulmar_core::batch::Record;
use fulmar_core::partition::PromiseKind;
use serde_json::{Map, Value, json};

use crate::storage::inspect::{ReplicaReport, SalvageError, Salvaged, VolumeReport, salvage};

/// The whole report, an object.
pub fn json(report: &VolumeReport) -> Value {
    let identity = &report.identity;
    let process = |process: &fulmar_core::term::Process| json!({"session": process.session.to_string(), "boot": process.boot.to_string()});
    json!({
        "cluster_id": identity.cluster.map(|cluster| cluster.to_string()),
        "ordinal": identity.ordinal.0,
        "incarnation": identity.incarnation.to_string(),
        "last_process": identity.processes.last().map(process),
        "stopped_in_order": report.clean,
        "restored": report.restored,
        "unapplied_bytes": report.unapplied_bytes,
        "pages": report.pages.iter().map(|page| json!({
            "number": page.number,
            "revision": page.revision,
            "lines": page.lines.len(),
        })).collect::<Vec<_>>(),
        "peers": report.peers.iter().map(|(peer, last)| json!({
            "replica": peer.to_string(),
            "last_process": process(last),
        })).collect::<Vec<_>>(),
        "replicas": report.replicas.iter().map(replica).collect::<Vec<_>>(),
        "set_aside": report.aside.iter().map(|copy| json!({
            "topic_id": copy.key.topic.to_string(),
            "partition": copy.key.partition,
            "from": copy.from.0,
            "to": copy.to.0,
            "high_watermark": copy.high_watermark.0,
            "bytes": copy.bytes,
        })).collect::<Vec<_>>(),
    })
}

fn replica(report: &ReplicaReport) -> Value {
    let promise = &report.promise;
    let terms = report.vector.starts();
    json!({
        "topic_id": report.key.topic.to_string(),
        "partition": report.key.partition,
        "log_start": report.log_start.0,
        "log_end": report.log_end.0,
        "high_watermark": report.high_watermark.0,
        "bytes": report.bytes,
        "producers": report.producers,
        "may_have_lost": report.uncertain,
        "is_tombstone": promise.kind == PromiseKind::Tombstone,
        "promised_term": promise.term.map(|term| term.to_string()),
        "promised_entry": promise.entry.as_ref().map(ToString::to_string),
        "terms": terms.iter().map(|start| json!({
            "term": start.term.to_string(),
            "from": start.start.0,
        })).collect::<Vec<_>>(),
    })
}

/// Writes every record that was set aside on a volume, an object a line; one that cannot be read is a line too. Gives the counts
/// of records, and of stretches that are damaged.
pub fn write_set_aside(dir: &Path, out: &mut impl Write) -> Result<(u64, u64), SalvageError> {
    let (mut records, mut damaged) = (0, 0);
    salvage(dir, |salvaged| {
        match &salvaged {
            Salvaged::Record { .. } => records += 1,
            Salvaged::Damaged { .. } => damaged += 1,
        }
        writeln!(out, "{}", line(&salvaged))
    })?;
    out.flush()?;
    Ok((records, damaged))
}

fn line(salvaged: &Salvaged) -> Value {
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
    match salvaged {
        Salvaged::Damaged { key, from, to, why } => {
            put("topic_id", json!(key.topic.to_string()));
            put("partition", json!(key.partition));
            put("damaged_from", json!(from.0));
            put("damaged_to", json!(to.0));
            put("why", json!(why));
        }
        Salvaged::Record { key, offset, append_time_ms, record } => {
            put("topic_id", json!(key.topic.to_string()));
            put("partition", json!(key.partition));
            put("offset", json!(offset.0));
            put("append_time_ms", json!(append_time_ms));
            put_record(&mut object, record);
        }
    }
    Value::from(object)
}

fn put_record(object: &mut Map<String, Value>, record: &Record) {
    if let Some(key) = &record.key {
        put_bytes(object, "key", key);
    }
    put_bytes(object, "value", &record.value);
    if !record.headers.is_empty() {
        let headers = record.headers.iter().map(|header| {
            let mut object = Map::new();
            object.insert("name".to_owned(), json!(header.name));
            put_bytes(&mut object, "value", &header.value);
            Value::from(object)
        });
        object.insert("headers".to_owned(), headers.collect());
    }
    object.insert("timestamp_ms".to_owned(), json!(record.timestamp_ms));
}

/// Puts bytes under `name` as a text if they are UTF-8, else under `name_base64`.
pub fn put_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), json!(text)),
        Err(_) => object.insert(format!("{name}_base64"), json!(base64(bytes))),
    };
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group =
            chunk.iter().fold(0u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = ALPHABET[(group >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
#[path = "inspection_tests.rs"]
mod tests;
