//! Compressed batches: kept as they came, read by everybody, looked through before they are acknowledged, and never more in
//! memory than others.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a failed test panics and tells why"
)]

mod support;

use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use fulmar_core::batch::{Batch, Compression, HEADER_BYTES, ProducedBatch, Record};
use fulmar_core::id::ReplicaId;
use fulmar_proto::v1::log_client::LogClient;
use fulmar_proto::v1::produce_response::Outcome;
use fulmar_proto::v1::start::At;
use fulmar_proto::v1::{
    Earliest, Error, ErrorReason, FetchRequest, Message, ProduceRequest, Start, SubscribeRequest,
};
use futures::StreamExt;
use support::http::get;
use support::operator::{CLUSTER, Operator, epoch, key, page};
use support::{Brokers, PATIENCE};

const CODECS: [Compression; 3] = [Compression::Lz4, Compression::Snappy, Compression::Zstd];

/// The `--memory-limit` of tests' brokers.
const MEBIBYTES_MAX: u64 = 256;

/// The first leads the only partition, and all hold it.
async fn brokers(count: usize) -> (Brokers, Vec<Operator>) {
    let brokers = Brokers::start(count);
    let mut operators = Vec::new();
    for ordinal in 0..count {
        operators.push(brokers.operator(ordinal, CLUSTER).await);
    }
    let replicas: Vec<ReplicaId> = operators.iter().map(Operator::replica).collect();
    let page = page(1, &replicas, replicas[0], 1);
    for operator in &operators {
        operator.push(&page, 1).await;
    }
    operators[0].leads(key(0), epoch(1)).await;
    for operator in &operators {
        operator.holds(page.number, 1).await;
    }
    (brokers, operators)
}

fn records(of: &str) -> Vec<Record> {
    let record = |number: usize| Record {
        key: number.is_multiple_of(2).then(|| Bytes::from(format!("key {number}"))),
        value: format!("{of} {number}: the same words again and again").into(),
        headers: Vec::new(),
        timestamp_ms: 1_700_000_000_000,
    };
    (0..50).map(record).collect()
}

fn compressed(records: &[Record], codec: Compression) -> Bytes {
    let batch = ProducedBatch::build_compressed(records, codec, None).unwrap();
    assert_eq!(batch.compression(), codec);
    batch.bytes().clone()
}

async fn produce(brokers: &Brokers, batch: Bytes) -> Result<u64, Error> {
    let mut client = LogClient::new(brokers.channel(0).await).max_encoding_message_size(16 << 20);
    let topic_id = key(0).topic.to_bytes().to_vec().into();
    let request = ProduceRequest { topic_id, partition: 0, batch, correlation_id: 1 };
    let mut answers = client.produce(tokio_stream::once(request)).await.unwrap().into_inner();
    match answers.message().await.unwrap().unwrap().outcome.unwrap() {
        Outcome::BaseOffset(base) => Ok(base),
        Outcome::Error(error) => Err(error),
    }
}

/// The batches as they are stored, from the first record on.
async fn stored(brokers: &Brokers, count: usize) -> Vec<Batch> {
    let mut client = LogClient::new(brokers.channel(0).await).max_decoding_message_size(16 << 20);
    let topic_id = key(0).topic.to_bytes().to_vec().into();
    let request = FetchRequest { topic_id, offset: 1, ..FetchRequest::default() };
    let requests = tokio_stream::once(request).chain(tokio_stream::pending());
    let mut answers = client.fetch(requests).await.unwrap().into_inner();
    let mut found = Vec::new();
    while found.len() < count {
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!(answer.error, None);
        found.extend(answer.batches.into_iter().map(|bytes| Batch::parse(bytes, key(0)).unwrap()));
    }
    found
}

fn from_the_first() -> SubscribeRequest {
    let start = Some(Start { at: Some(At::Earliest(Earliest {})) });
    SubscribeRequest { topics: vec!["events".to_owned()], start, partitions: Vec::new() }
}

async fn subscribed(brokers: &Brokers, ordinal: usize, count: usize) -> Vec<Message> {
    let mut stream = brokers.subscribe(ordinal, &from_the_first()).await;
    let mut found = Vec::new();
    while found.len() < count {
        found.extend(stream.message().await.unwrap().unwrap().messages);
    }
    found
}

/// By HTTP, page for page; offsets and values.
fn pulled(brokers: &Brokers, ordinal: usize, count: usize) -> Vec<(u64, String)> {
    let (mut next, mut found) = (1, Vec::new());
    while found.len() < count {
        let target = format!("/v1/topics/events/messages?offset={next}&max=7&wait=20");
        let answer = get(brokers.ports[ordinal].http, &target).json();
        next = answer["next_offset"].as_u64().unwrap();
        for message in answer["messages"].as_array().unwrap() {
            let value = message["value"].as_str().unwrap().to_owned();
            found.push((message["offset"].as_u64().unwrap(), value));
        }
    }
    found
}

/// By TCP.
fn told_by_tcp(brokers: &Brokers, ordinal: usize) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/fulmar_tcp.py");
    let server = brokers.ports[ordinal].tcp.to_string();
    let output = Command::new("python3").args([script, &server, "pull", "events"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A batch of each codec, and the records in all of them, from offset 1 on.
async fn published(brokers: &Brokers) -> (Vec<Bytes>, Vec<Record>) {
    let (mut sent, mut all) = (Vec::new(), Vec::new());
    for codec in Compression::ALL {
        let records = records(codec.name());
        let batch = compressed(&records, codec);
        assert_eq!(produce(brokers, batch.clone()).await, Ok(1 + all.len() as u64));
        sent.push(batch);
        all.extend(records);
    }
    (sent, all)
}

async fn are_stored_as_they_came(brokers: &Brokers, sent: &[Bytes]) {
    for (stored, sent) in stored(brokers, sent.len()).await.iter().zip(sent) {
        assert_eq!(stored.bytes()[HEADER_BYTES..], sent[HEADER_BYTES..], "{:?}", stored.compression());
    }
}

async fn are_read(brokers: &Brokers, ordinal: usize, records: &[Record]) {
    let messages = subscribed(brokers, ordinal, records.len()).await;
    assert_eq!(messages.len(), records.len());
    for ((message, record), offset) in messages.iter().zip(records).zip(1..) {
        assert_eq!((&message.value, &message.key), (&record.value, &record.key));
        assert_eq!((message.offset, message.timestamp_ms), (offset, record.timestamp_ms));
    }
    let values = records.iter().map(|record| String::from_utf8(record.value.to_vec()).unwrap());
    let expected: Vec<(u64, String)> = (1..).zip(values).collect();
    assert_eq!(pulled(brokers, ordinal, records.len()), expected);
    let by_tcp = told_by_tcp(brokers, ordinal);
    let lines: Vec<String> = expected.iter().map(|(offset, value)| format!("0\t{offset}\t{value}")).collect();
    assert!(by_tcp.lines().count() > 1 && lines.join("\n").starts_with(by_tcp.trim_end()), "{by_tcp}");
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_batches_are_stored_as_they_came_and_read_over_every_interface_at_every_broker() {
    let (brokers, _operators) = brokers(2).await;
    let (sent, records) = published(&brokers).await;
    are_stored_as_they_came(&brokers, &sent).await;
    are_read(&brokers, 0, &records).await;
    are_read(&brokers, 1, &records).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_batches_are_read_from_the_disk_after_a_restart() {
    let (mut brokers, operators) = brokers(1).await;
    let (sent, records) = published(&brokers).await;
    drop(operators);
    assert!(brokers.terminate(0).success());
    brokers.spawn(0);
    let operator = brokers.operator(0, CLUSTER).await;
    let me = operator.replica();
    operator.push(&page(1, &[me], me, 2), 2).await;
    operator.leads(key(0), epoch(2)).await;
    are_stored_as_they_came(&brokers, &sent).await;
    are_read(&brokers, 0, &records).await;
}

/// A batch whose checksum holds, whatever its body is.
fn framed(codec: Compression, count: u32, said: u32, body: &[u8]) -> Bytes {
    let mut bytes = vec![0; HEADER_BYTES];
    bytes[4] = 1;
    bytes[6] = match codec {
        Compression::None => 0,
        Compression::Lz4 => 1,
        Compression::Snappy => 2,
        Compression::Zstd => 3,
    };
    bytes[88..92].copy_from_slice(&count.to_le_bytes());
    bytes.extend_from_slice(&said.to_le_bytes());
    bytes.extend_from_slice(body);
    let length = u32::try_from(bytes.len() - 4).unwrap();
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[4..8]), &bytes[64..]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    bytes.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_decompress_to_its_records_is_refused_with_its_reason_and_changes_nothing() {
    let (brokers, _operators) = brokers(1).await;
    let large = vec![Record { value: vec![0; 600_000].into(), ..Record::default() }; 2];
    let over = Record { value: vec![0; (1 << 20) + 1].into(), ..Record::default() };
    for codec in CODECS {
        let good = compressed(&records("x"), codec);
        let said = u32::from_le_bytes(good[100..104].try_into().unwrap());
        let body = &good[104..];
        for (batch, reason, words) in [
            (framed(codec, 50, 64 << 20, body), ErrorReason::CorruptBatch, "67108864 bytes of records"),
            (framed(codec, 50, u32::MAX, body), ErrorReason::CorruptBatch, "at most 8388608"),
            (framed(codec, 50, said - 1, body), ErrorReason::CorruptBatch, "do not decompress"),
            (framed(codec, 50, said + 1, body), ErrorReason::CorruptBatch, "do not decompress"),
            (
                framed(codec, 50, said, &body[..body.len() - 1]),
                ErrorReason::CorruptBatch,
                "do not decompress",
            ),
            (framed(codec, 50, 8 << 20, b"no compressed bytes"), ErrorReason::CorruptBatch, "8388608"),
            (
                framed(codec, 50, 5_000_000, b"no compressed bytes"),
                ErrorReason::CorruptBatch,
                "do not decompress",
            ),
            (framed(codec, 49, said, body), ErrorReason::CorruptBatch, "bytes follow the last record"),
            (framed(codec, 51, said, body), ErrorReason::CorruptBatch, "record 50"),
            (compressed(std::slice::from_ref(&over), codec), ErrorReason::RecordTooLarge, "1048577 bytes"),
        ] {
            let refused = produce(&brokers, batch).await.unwrap_err();
            assert!(refused.reason() == reason && refused.message.contains(words), "{codec:?}: {refused:?}");
        }
        let mut flipped = good.to_vec();
        *flipped.last_mut().unwrap() ^= 1;
        let refused = produce(&brokers, flipped.into()).await.unwrap_err();
        assert!(refused.message.contains("CRC32C"), "{refused:?}");
    }
    let mut unknown = compressed(&records("x"), Compression::Zstd).to_vec();
    unknown[6] = 77;
    let refused = produce(&brokers, unknown.into()).await.unwrap_err();
    assert!(refused.message.contains("byte 6: compression 77 is unknown"), "{refused:?}");
    assert_eq!(produce(&brokers, compressed(&large, Compression::Zstd)).await, Ok(1), "nothing was appended");
}

#[tokio::test(flavor = "multi_thread")]
async fn small_batches_that_make_large_ones_take_no_more_memory_than_those() {
    let (brokers, _operators) = brokers(2).await;
    let record = Record { value: vec![0; 1_000_000].into(), ..Record::default() };
    let batch = compressed(&vec![record; 8], Compression::Zstd);
    assert!(batch.len() < 10_000, "{}", batch.len());
    for _ in 0..BATCHES {
        produce(&brokers, batch.clone()).await.unwrap();
    }
    let readers = futures::future::join_all((0..4).map(|reader| count(&brokers, reader % 2)));
    let mut reading = std::pin::pin!(tokio::time::timeout(PATIENCE, readers));
    let mut resident = 0;
    loop {
        tokio::select! {
            read = &mut reading => {
                read.expect("all is read");
                break;
            }
            () = tokio::time::sleep(Duration::from_millis(5)) => {
                let now = [0, 1].map(|ordinal| brokers.resident_mebibytes(ordinal));
                resident = now.into_iter().fold(resident, u64::max);
            }
        }
    }
    println!("a broker took at most {resident} MiB");
    assert!(resident < MEBIBYTES_MAX, "{resident} MiB");
    let answer = get(brokers.ports[1].http, "/v1/topics/events/messages?offset=1&max=1").json();
    assert_eq!(answer["next_offset"], 2);
}

/// As many as a batch may have: four bytes each, and under a kilobyte in all.
const EMPTY: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_million_empty_records_in_one_small_batch_take_no_more_memory_than_other_batches() {
    let (brokers, _operators) = brokers(2).await;
    let batch = compressed(&vec![Record::default(); EMPTY], Compression::Zstd);
    assert!(batch.len() < 1_000, "{}", batch.len());
    assert_eq!(produce(&brokers, batch.clone()).await, Ok(1));
    let before = [0, 1].map(|ordinal| brokers.peak_mebibytes(ordinal));
    let grown = |of: &str| {
        let now = [0, 1].map(|ordinal| brokers.peak_mebibytes(ordinal) - before[ordinal]);
        println!("{of}: {now:?} MiB more");
        // What the batch is without compression, at most twice, and a few pieces of messages.
        assert!(now.into_iter().all(|grown| grown < 48), "{of}: {now:?} MiB");
    };
    for (ordinal, of) in ["the leader", "another broker"].into_iter().enumerate() {
        let answer = get(brokers.ports[ordinal].http, "/v1/topics/events/messages?offset=1&max=1").json();
        assert_eq!(answer["next_offset"], 2);
        grown(&format!("one message by HTTP of {of}"));
        assert!(told_by_tcp(&brokers, ordinal).lines().count() > 1);
        grown(&format!("a pull by TCP of {of}"));
        let (mut stream, mut next) = (brokers.subscribe(ordinal, &from_the_first()).await, 1);
        while next <= EMPTY as u64 {
            for message in stream.message().await.unwrap().unwrap().messages {
                assert_eq!(message.offset, next);
                next += 1;
            }
        }
        grown(&format!("a subscription at {of}"));
    }
}

/// Eight million bytes each; so few that one answer of [`stored`] would have them all.
const BATCHES: usize = 30;

async fn count(brokers: &Brokers, ordinal: usize) {
    let mut stream = brokers.subscribe(ordinal, &from_the_first()).await;
    let mut left = BATCHES * 8;
    while left > 0 {
        left -= stream.message().await.unwrap().unwrap().messages.len();
    }
}
