//! For the fuzzer (`fuzz/`): what a disk gives back. Checksums stand in front of most of it; these parsers get any bytes.

use std::path::Path;

use bytes::Bytes;
use fulmar_core::batch::{ProducedBatch, Record, Stamp};
use fulmar_core::entry::Entry;
use fulmar_core::id::{PartitionKey, TopicId};
use fulmar_core::offset::Offset;
use fulmar_core::partition::{Promise, PromiseKind, Write};
use fulmar_core::term::{BootId, Epoch, Process, Session, Term, TermStart, TermVector};

use super::journal::{self, Position};
use super::op::{self, Op};
use super::tables::logs::LogRow;
use super::tables::meta::{self, Meta};
use super::tables::{batches, pages, peers, promises, sealed};
use super::{Page, identity};

const JOURNAL: [u8; 16] = [3; 16];

/// The first byte says which kind it is.
pub fn stored(bytes: &[u8]) {
    let Some((kind, body)) = bytes.split_first() else { return };
    match kind % 9 {
        0 => ops(body),
        1 => row(body, LogRow::decode, LogRow::encode),
        2 => row(body, Meta::decode, Meta::encode),
        3 => row(body, promises::decode, promises::encode),
        4 => row(body, |bytes| pages::decode(1, bytes), pages::encode),
        5 => row(body, peers::decode, |process| peers::encode(*process)),
        6 => value(body),
        7 => {
            let _ = sealed::open(b"key", body);
            let _ = identity::parse_copy(body, Path::new("identity"), 0);
        }
        _ => journal::group::fuzzed(body, &JOURNAL, &Position::START),
    }
}

/// What is read is written and read again as the same.
fn row<T: PartialEq + std::fmt::Debug, E: std::fmt::Debug>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, E>,
    encode: impl Fn(&T) -> Vec<u8>,
) {
    if let Ok(row) = decode(bytes) {
        assert_eq!(decode(&encode(&row)).expect("it was just written"), row);
    }
}

fn ops(body: &[u8]) {
    row(body, |bytes| op::decode_all(&Bytes::copy_from_slice(bytes)), |ops| encoded(ops));
}

fn encoded(ops: &[Op]) -> Vec<u8> {
    let mut body = Vec::new();
    for op in ops {
        op.encode(&mut body);
    }
    body
}

fn value(bytes: &[u8]) {
    let Some(ranges) = batches::split(bytes) else { return };
    let mut at = 0;
    for range in ranges {
        assert!(at <= range.start && range.start <= range.end && range.end <= bytes.len());
        at = range.end;
    }
}

/// Of each kind one that holds.
pub fn examples() -> Vec<Vec<u8>> {
    let key = PartitionKey { topic: TopicId(7), partition: 3 };
    let process = Process { session: Session(1), boot: BootId(9) };
    let term = Term { epoch: Epoch { generation: 2, counter: 1 }, process };
    let stamp = Stamp { key, base: Offset(4), term, append_time_ms: 5 };
    let record = Record { value: Bytes::from_static(b"value"), ..Record::default() };
    let batch = ProducedBatch::build(&[record], None).expect("a small batch").stamp(stamp);
    let vector = TermVector::new(vec![TermStart { term, start: Offset(4) }]).expect("one term");
    let id = "0198a5c2-7b1e-7c3d-9f00-000000000001";
    let entry: Entry =
        format!("{key} epoch=2.1 leader=0:{id} members=1of[0:{id}]").parse().expect("an entry");
    let promise = Promise { entry: Some(entry), term: Some(term), kind: PromiseKind::Live };
    let page = Page { number: 1, revision: 2, lines: vec!["format 1".to_owned()] };
    let writes = [
        Write::Append(batch.clone()),
        Write::Cut { to: Offset(4) },
        Write::Reset { start: Offset(4), vector: vector.clone(), producers: vec![1] },
        Write::SetAside { to: Offset(4), producers: vec![1] },
        Write::Promise(promise.clone()),
        Write::Mark { uncertain: true },
    ];
    let mut ops: Vec<Op> = writes.into_iter().map(|write| Op::Write(key, write)).collect();
    ops.extend([Op::Page(page.clone()), Op::DropPage(1)]);
    let body = encoded(&ops);
    let meta = Meta { format: meta::FORMAT, journal: JOURNAL, replicas: 1, applied: Position::START };
    let mut pack = batches::Pack::default();
    pack.push(batch);
    let value = pack.value().expect("it has a batch").1;
    let kinds = [
        body.clone(),
        LogRow { vector, ..LogRow::default() }.encode(),
        meta.encode(),
        promises::encode(&promise),
        pages::encode(&page),
        peers::encode(process),
        value,
        sealed::seal(b"key", b"body"),
        journal::group::sealed(&body, &JOURNAL, &Position::START),
    ];
    kinds.into_iter().zip(0..).map(|(bytes, kind)| [vec![kind], bytes].concat()).collect()
}
