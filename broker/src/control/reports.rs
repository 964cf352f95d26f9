//! Reports as the operator's protobuf has them.

use fulmar_core::id::PartitionKey;
use fulmar_core::partition::{PromiseKind, Report};
use fulmar_proto::internal::v1 as proto;

/// So many reports in one message: some 400 bytes each.
const REPORTS_MAX: usize = 1000;

/// What changed, in messages of bounded size.
pub(super) fn changed(reports: Vec<(PartitionKey, Report)>) -> Vec<proto::Reports> {
    parts(reports)
}

/// The whole answer to an ask, in messages of bounded size. The last one says that it is, and carries the topics that the
/// broker's pages name.
pub(super) fn answer(
    reports: Vec<(PartitionKey, Report)>,
    (request, controller_epoch): (u64, u64),
    topics: &[String],
) -> Vec<proto::Reports> {
    let mut messages = parts(reports);
    for part in topics.chunks(REPORTS_MAX) {
        messages.push(proto::Reports { topics: part.to_vec(), ..proto::Reports::default() });
    }
    if messages.is_empty() {
        messages.push(proto::Reports::default());
    }
    for message in &mut messages {
        (message.request, message.controller_epoch) = (request, controller_epoch);
    }
    if let Some(last) = messages.last_mut() {
        last.complete = true;
    }
    messages
}

fn parts(reports: Vec<(PartitionKey, Report)>) -> Vec<proto::Reports> {
    let all: Vec<proto::ReplicaReport> =
        reports.into_iter().map(|(key, report)| to_proto(key, report)).collect();
    let part = |part: &[proto::ReplicaReport]| proto::Reports {
        reports: part.to_vec(),
        ..proto::Reports::default()
    };
    all.chunks(REPORTS_MAX).map(part).collect()
}

fn to_proto(key: PartitionKey, report: Report) -> proto::ReplicaReport {
    let text = |value: Option<String>| value.unwrap_or_default();
    proto::ReplicaReport {
        partition: key.to_string(),
        entry: text(report.promise.entry.map(|entry| entry.to_string())),
        term: text(report.promise.term.map(|term| term.to_string())),
        tombstone: match report.promise.kind {
            PromiseKind::Live => false,
            PromiseKind::Tombstone => true,
        },
        leading: text(report.leading.map(|term| term.to_string())),
        in_sync: report.in_sync.iter().map(ToString::to_string).collect(),
        caught_up: report.caught_up.iter().map(ToString::to_string).collect(),
        whole: report.whole.iter().map(ToString::to_string).collect(),
        log_start: report.log_start.0,
        log_end: report.log_end.0,
        high_watermark: report.high_watermark.0,
        uncertain: report.uncertain,
        halted: text(report.halted),
        may_have_lost: report.may_have_lost.map(|offset| offset.0),
        set_aside: report.set_aside.map(|(from, to)| proto::OffsetRange { from: from.0, to: to.0 }),
        unreadable: report.unreadable.map(|offset| offset.0),
        irreparable: report.irreparable.map(|offset| offset.0),
        last_term: text(report.last_term.map(|term| term.to_string())),
    }
}
