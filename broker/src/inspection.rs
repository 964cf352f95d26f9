//! What a volume holds, for programs: the report of [`storage::inspect`](crate::storage::inspect) as JSON.
//!
//! Owns the names of its fields. Never opens a volume.

use fulmar_core::partition::PromiseKind;
use serde_json::{Value, json};

use crate::storage::inspect::{ReplicaReport, VolumeReport};

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
