//! Every stored row comes back as it was, and no damaged one panics.

use bytes::Bytes;
use fulmar_core::batch::{Batch, ProducedBatch, Record, Stamp};
use fulmar_core::entry::Entry;
use fulmar_core::id::{Incarnation, Ordinal, PartitionKey, ReplicaId, TopicId};
use fulmar_core::offset::Offset;
use fulmar_core::partition::{Promise, PromiseKind, Write};
use fulmar_core::term::{BootId, Epoch, Process, Session, Term, TermStart, TermVector};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::batches::{self, LogName};
use super::logs::LogRow;
use super::meta::Meta;
use super::{garbage, meta, pages, partition_bytes, partition_of, peers, promises};
use crate::storage::Page;
use crate::storage::journal::Position;
use crate::storage::op::{self, Op};

fn partition() -> impl Strategy<Value = PartitionKey> {
    (any::<u128>(), any::<u32>())
        .prop_map(|(topic, partition)| PartitionKey { topic: TopicId(topic), partition })
}

fn offset() -> impl Strategy<Value = Offset> {
    (0..1u64 << 62).prop_map(Offset)
}

fn process() -> impl Strategy<Value = Process> {
    any::<(u64, u64)>().prop_map(|(session, boot)| Process { session: Session(session), boot: BootId(boot) })
}

fn term() -> impl Strategy<Value = Term> {
    (1..u64::MAX, any::<u64>(), process())
        .prop_map(|(generation, counter, process)| Term { epoch: Epoch { generation, counter }, process })
}

fn vector() -> impl Strategy<Value = TermVector> {
    vec((1..1000u64, 1..1000u64, process()), 0..20).prop_map(|steps| {
        let (mut generation, mut start) = (0, 0);
        let lines = steps.into_iter().map(|(rise, length, process)| {
            generation += rise;
            start += length;
            TermStart {
                term: Term { epoch: Epoch { generation, counter: 0 }, process },
                start: Offset(start),
            }
        });
        TermVector::new(lines.collect()).unwrap()
    })
}

fn entry() -> impl Strategy<Value = Entry> {
    (partition(), 1..7u8, any::<u128>()).prop_map(|(key, size, seed)| {
        let replica = |ordinal: u8| {
            let incarnation = Incarnation(seed ^ u128::from(ordinal));
            ReplicaId { ordinal: Ordinal(ordinal.into()), incarnation }.to_string()
        };
        let set: Vec<String> = (0..size).map(replica).collect();
        let line = format!(
            "{key} epoch=4.{size} leader={} members={}of[{}]",
            replica(0),
            size.div_ceil(2),
            set.join(",")
        );
        line.parse().unwrap()
    })
}

fn promise() -> impl Strategy<Value = Promise> {
    (option::of(entry()), option::of(term()), any::<bool>()).prop_map(|(entry, term, live)| Promise {
        entry,
        term,
        kind: if live { PromiseKind::Live } else { PromiseKind::Tombstone },
    })
}

fn page() -> impl Strategy<Value = Page> {
    (any::<u32>(), any::<u64>(), vec(".{0,40}", 0..10)).prop_map(|(number, revision, lines)| Page {
        number,
        revision,
        lines,
    })
}

fn peer() -> impl Strategy<Value = ReplicaId> {
    (any::<u16>(), any::<u128>())
        .prop_map(|(ordinal, id)| ReplicaId { ordinal: Ordinal(ordinal), incarnation: Incarnation(id) })
}

fn log_row() -> impl Strategy<Value = LogRow> {
    (any::<(u32, u64, bool, bool, u64)>(), (offset(), offset(), offset(), offset()), vector()).prop_map(
        |(
            (number, bytes, uncertain, promised, append_time_ms),
            (start, end, high_watermark, producers_at),
            vector,
        )| LogRow {
            number,
            start,
            end,
            high_watermark,
            bytes,
            uncertain,
            promised,
            append_time_ms,
            producers_at,
            vector,
        },
    )
}

fn batch(key: PartitionKey, base: u64, bytes: usize) -> Batch {
    let record = Record { value: Bytes::from(vec![7; bytes]), ..Record::default() };
    let term = Term { epoch: Epoch { generation: 1, counter: 1 }, process: Process::default() };
    let stamp = Stamp { key, base: Offset(base), term, append_time_ms: 5 };
    ProducedBatch::build(&[record], None).unwrap().stamp(stamp)
}

fn op() -> impl Strategy<Value = Op> {
    let append = (partition(), offset(), 0..300usize)
        .prop_map(|(key, base, bytes)| Op::Write(key, Write::Append(batch(key, base.0, bytes))));
    let reset = (partition(), offset(), vector(), vec(any::<u8>(), 0..50)).prop_map(
        |(key, start, vector, producers)| Op::Write(key, Write::Reset { start, vector, producers }),
    );
    prop_oneof![
        append,
        reset,
        (partition(), offset()).prop_map(|(key, to)| Op::Write(key, Write::Cut { to })),
        (partition(), offset()).prop_map(|(key, to)| Op::Write(key, Write::LogStart(to))),
        (partition(), promise()).prop_map(|(key, promise)| Op::Write(key, Write::Promise(promise))),
        (partition(), any::<bool>()).prop_map(|(key, uncertain)| Op::Write(key, Write::Mark { uncertain })),
        partition().prop_map(|key| Op::Write(key, Write::Release)),
        (partition(), offset()).prop_map(|(key, base)| Op::Write(key, Write::Mend(batch(key, base.0, 9)))),
        page().prop_map(Op::Page),
        any::<u32>().prop_map(Op::DropPage),
        (peer(), process()).prop_map(|(peer, process)| Op::Peer(peer, process)),
    ]
}

fn encoded(ops: &[Op]) -> Vec<u8> {
    let mut body = Vec::new();
    for op in ops {
        op.encode(&mut body);
    }
    body
}

proptest! {
    #[test]
    fn keys_come_back_and_sort_by_partition_and_offset(one in partition(), other in partition(), low in offset(), high in offset()) {
        prop_assert_eq!(partition_of(&partition_bytes(one)), one);
        prop_assert_eq!(partition_bytes(one).cmp(&partition_bytes(other)), one.cmp(&other));
        let log = LogName { key: one, number: 3 };
        prop_assert_eq!(log.at(low).cmp(&log.at(high)), low.cmp(&high));
        prop_assert_eq!(garbage::decode(&garbage::encode(log)), log);
    }

    #[test]
    fn rows_come_back(row in log_row(), promise in promise(), page in page(), peer in peer(), process in process()) {
        prop_assert_eq!(LogRow::decode(&row.encode()).unwrap(), row);
        prop_assert_eq!(promises::decode(&promises::encode(&promise)).unwrap(), promise);
        prop_assert_eq!(pages::decode(page.number, &pages::encode(&page)).unwrap(), page);
        prop_assert_eq!(peers::peer(&peers::key(peer)), peer);
        prop_assert_eq!(peers::decode(&peers::encode(process)).unwrap(), process);
    }

    #[test]
    fn the_position_comes_back(at in any::<u64>(), sequence in any::<u64>(), chain in any::<u32>(), journal in any::<[u8; 16]>()) {
        let applied = Position { at, sequence, chain, synced_through: sequence / 2 };
        let row = Meta { format: meta::FORMAT, journal, replicas: 3, applied };
        prop_assert_eq!(Meta::decode(&row.encode()).unwrap(), row);
    }

    #[test]
    fn operations_come_back_in_order_and_weigh_what_they_take(ops in vec(op(), 0..8)) {
        let body = encoded(&ops);
        prop_assert!(body.len() <= ops.iter().map(Op::weight).sum());
        prop_assert_eq!(op::decode_all(&Bytes::from(body)).unwrap(), ops);
    }

    #[test]
    fn damaged_rows_and_operations_are_errors_not_panics(bytes in vec(any::<u8>(), 0..200), ops in vec(op(), 1..4), at in any::<prop::sample::Index>()) {
        let _ = LogRow::decode(&bytes);
        let _ = (promises::decode(&bytes), pages::decode(1, &bytes), peers::decode(&bytes), Meta::decode(&bytes));
        let _ = batches::split(&bytes);
        let _ = op::decode_all(&Bytes::from(bytes));
        let mut body = encoded(&ops);
        let at = at.index(body.len());
        body[at] ^= 0x10;
        let _ = op::decode_all(&Bytes::from(body));
    }

    #[test]
    fn packed_batches_are_found_by_the_index_and_without_it(sizes in vec(0..400usize, 1..30), broken in any::<bool>(), at in 0..8usize) {
        let key = PartitionKey { topic: TopicId(1), partition: 1 };
        let mut pack = batches::Pack::default();
        let mut all = Vec::new();
        for (base, bytes) in (0u64..).zip(sizes) {
            let batch = batch(key, base, bytes);
            prop_assert!(pack.takes(&batch));
            pack.push(batch.clone());
            all.push(batch);
        }
        let (base, mut value) = pack.value().unwrap();
        prop_assert_eq!(base, Offset(0));
        if broken {
            value[at] ^= 4;
        }
        let ranges = batches::split(&value).unwrap();
        let found: Vec<&[u8]> = ranges.iter().map(|range| &value[range.clone()]).collect();
        let expected: Vec<&[u8]> = all.iter().map(|batch| batch.bytes().as_ref()).collect();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn a_value_stays_below_a_page_of_redb() {
    let key = PartitionKey { topic: TopicId(1), partition: 1 };
    let mut pack = batches::Pack::default();
    let mut base = 0;
    while pack.takes(&batch(key, base, 900)) {
        pack.push(batch(key, base, 900));
        base += 1;
    }
    let (_, value) = pack.value().unwrap();
    assert!((64_000..=batches::VALUE_BYTES_MAX).contains(&value.len()), "{}", value.len());
    assert!(!pack.takes(&batch(key, base, 900)));
    assert!(batches::Pack::default().takes(&batch(key, 0, 1 << 20)), "one large batch goes alone");
}

proptest! {
    #[test]
    fn one_flipped_bit_of_a_row_is_turned_back_and_two_are_refused(
        body in vec(any::<u8>(), 2..300),
        place in any::<proptest::sample::Index>(),
        bit in 0..8u8,
    ) {
        let mut row = super::sealed::seal(b"key", &body);
        let at = place.index(row.len());
        row[at] ^= 1 << bit;
        let opened = super::sealed::open(b"key", &row).unwrap();
        prop_assert_eq!(opened.as_ref(), &body[..]);
        let other = (at + 1) % row.len();
        row[other] ^= 1 << bit;
        prop_assert!(super::sealed::open(b"key", &row).is_err());
    }
}
