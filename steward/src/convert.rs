//! The stream's protobuf, to and from what the controller knows. What does not parse names its field.

use std::str::FromStr;

use fulmar_core::broker::{PROTOCOL, ProtocolRange};
use fulmar_core::control::table::TopicRecord;
use fulmar_core::control::{Address, Disk, Greeting, HeldPage, Hello, PushedPage};
use fulmar_core::id::{Ordinal, PartitionKey, ReplicaId};
use fulmar_core::offset::Offset;
use fulmar_core::partition::{Promise, PromiseKind, Report};
use fulmar_core::term::{BootId, Epoch, Process, Session, Term};
use fulmar_proto::internal::v1 as proto;
use thiserror::Error;

/// A field of a broker's message that does not hold what it should.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field}: {text:?} is not {wanted}")]
pub(crate) struct Unreadable {
    field: &'static str,
    text: String,
    wanted: &'static str,
}

fn unreadable(field: &'static str, text: &str, wanted: &'static str) -> Unreadable {
    Unreadable { field, text: text.chars().take(80).collect(), wanted }
}

fn parse<T: FromStr>(field: &'static str, text: &str, wanted: &'static str) -> Result<T, Unreadable> {
    text.parse().map_err(|_| unreadable(field, text, wanted))
}

/// Empty is nothing.
fn parse_option<T: FromStr>(
    field: &'static str,
    text: &str,
    wanted: &'static str,
) -> Result<Option<T>, Unreadable> {
    if text.is_empty() { Ok(None) } else { parse(field, text, wanted).map(Some) }
}

fn parse_term(field: &'static str, text: &str) -> Result<Option<Term>, Unreadable> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || unreadable(field, text, "GENERATION.COUNTER/SESSION/BOOT");
    let mut parts = text.split('/');
    let (Some(epoch), Some(session), Some(boot), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(wrong());
    };
    let session = Session(session.parse().map_err(|_| wrong())?);
    let boot = BootId(u64::from_str_radix(boot, 16).map_err(|_| wrong())?);
    Ok(Some(Term { epoch: epoch.parse().map_err(|_| wrong())?, process: Process { session, boot } }))
}

fn parse_replicas(field: &'static str, texts: &[String]) -> Result<Vec<ReplicaId>, Unreadable> {
    texts.iter().map(|text| parse(field, text, "ORDINAL:INCARNATION")).collect()
}

pub(crate) fn hello_to_proto(ordinal: Ordinal, greeting: &Greeting) -> proto::OperatorHello {
    let known = greeting.known.unzip();
    let process = known.1.unwrap_or_default();
    proto::OperatorHello {
        cluster_id: greeting.cluster_id.map(|id| id.to_string()).unwrap_or_default(),
        controller_epoch: greeting.controller_epoch,
        ordinal: ordinal.0.into(),
        protocol: Some(proto::ProtocolRange { minimum: PROTOCOL.min, maximum: PROTOCOL.max }),
        known_incarnation: known.0.map(|incarnation| incarnation.to_string()).unwrap_or_default(),
        known_session: process.session.0,
        known_boot: process.boot.0,
        restored: greeting.restored,
        lost_incarnation: greeting.lost.map(|incarnation| incarnation.to_string()).unwrap_or_default(),
    }
}

/// A broker's hello; an error says why it does not fit, also if no protocol is common.
pub(crate) fn hello_from_proto(hello: &proto::BrokerHello) -> Result<Hello, String> {
    let theirs = hello.protocol.unwrap_or_default();
    let theirs = ProtocolRange { min: theirs.minimum, max: theirs.maximum };
    if PROTOCOL.common(theirs).is_none() {
        return Err(format!(
            "it is version {} and speaks protocols {} to {}, this side speaks {} to {}",
            hello.version, theirs.min, theirs.max, PROTOCOL.min, PROTOCOL.max
        ));
    }
    read_hello(hello).map_err(|error| format!("its hello cannot be read: {error}"))
}

fn read_hello(hello: &proto::BrokerHello) -> Result<Hello, Unreadable> {
    let ordinal = u16::try_from(hello.ordinal)
        .map_err(|_| unreadable("ordinal", &hello.ordinal.to_string(), "below 65536"))?;
    let incarnation = parse("incarnation", &hello.incarnation, "a UUID")?;
    let process = |process: &proto::ProcessId| Process {
        session: Session(process.session),
        boot: BootId(process.boot),
    };
    Ok(Hello {
        cluster_id: parse_option("cluster_id", &hello.cluster_id, "a UUID")?,
        replica: ReplicaId { ordinal: Ordinal(ordinal), incarnation },
        processes: hello.processes.iter().map(process).collect(),
        controller_epoch: hello.controller_epoch,
        pages: hello.pages.iter().map(held_from_proto).collect(),
        has_replicas: hello.has_replicas,
        version: hello.version.clone(),
        nothing_aside: hello.nothing_aside,
    })
}

pub(crate) fn held_from_proto(held: &proto::PageHeld) -> HeldPage {
    HeldPage { number: held.number, controller_epoch: held.controller_epoch, revision: held.revision }
}

/// Whatever a broker says of its volume can be read: a size of nothing is full.
pub(crate) fn disk_from_proto(volume: proto::Volume) -> Disk {
    let proto::Volume { total_bytes, available_bytes, is_full } = volume;
    let used = u128::from(total_bytes.saturating_sub(available_bytes)) * 100;
    let used_percent = used.checked_div(total_bytes.into()).unwrap_or(100);
    Disk { total_bytes, used_percent: u8::try_from(used_percent).unwrap_or(100), is_full }
}

pub(crate) fn page_to_proto(page: &PushedPage) -> proto::Page {
    proto::Page {
        number: page.number,
        revision: page.revision,
        controller_epoch: page.controller_epoch,
        lines: page.lines.to_vec(),
    }
}

pub(crate) fn addresses_to_proto(book: &[Address]) -> proto::AddressBook {
    let brokers = book.iter().map(|address| proto::BrokerAddress {
        ordinal: address.ordinal.0.into(),
        internal: address.internal.to_string(),
        client: address.client.clone(),
        zone: address.zone.clone().unwrap_or_default(),
    });
    proto::AddressBook { brokers: brokers.collect() }
}

pub(crate) fn release_to_proto(key: PartitionKey, epoch: Epoch) -> proto::Release {
    proto::Release { partition: key.to_string(), epoch: epoch.to_string() }
}

pub(crate) fn report_from_proto(report: proto::ReplicaReport) -> Result<(PartitionKey, Report), Unreadable> {
    let key = parse("partition", &report.partition, "TOPIC/PARTITION")?;
    let kind = if report.tombstone { PromiseKind::Tombstone } else { PromiseKind::Live };
    let entry = parse_option("entry", &report.entry, "an entry in its text form")?;
    let report = Report {
        promise: Promise { entry, term: parse_term("term", &report.term)?, kind },
        leading: parse_term("leading", &report.leading)?,
        in_sync: parse_replicas("in_sync", &report.in_sync)?,
        caught_up: parse_replicas("caught_up", &report.caught_up)?,
        whole: parse_replicas("whole", &report.whole)?,
        log_start: Offset(report.log_start),
        log_end: Offset(report.log_end),
        high_watermark: Offset(report.high_watermark),
        last_term: parse_term("last_term", &report.last_term)?,
        uncertain: report.uncertain,
        may_have_lost: report.may_have_lost.map(Offset),
        set_aside: report.set_aside.map(|range| (Offset(range.from), Offset(range.to))),
        unreadable: report.unreadable.map(Offset),
        irreparable: report.irreparable.map(Offset),
        halted: (!report.halted.is_empty()).then_some(report.halted),
    };
    Ok((key, report))
}

pub(crate) fn topics_from_proto(topics: &[String]) -> Result<Vec<TopicRecord>, Unreadable> {
    topics.iter().map(|line| parse("topics", line, "a topic's line")).collect()
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
