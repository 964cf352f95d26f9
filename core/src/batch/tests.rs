//! Claims about batches.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::entry::{Members, ReplicaSet};
use crate::id::{Incarnation, Ordinal, ReplicaId, TopicId};
use crate::term::{BootId, Epoch, Process, Session};

fn key() -> PartitionKey {
    PartitionKey { topic: TopicId(0xaa), partition: 3 }
}

fn stamp() -> Stamp {
    let process = Process { session: Session(2), boot: BootId(0x1122_3344_5566_7788) };
    let term = Term { epoch: Epoch { generation: 7, counter: 3 }, process };
    Stamp { key: key(), base: Offset(42), term, append_time_ms: 1_700_000_000_500 }
}

fn entry() -> Entry {
    let one = ReplicaId { ordinal: Ordinal(0), incarnation: Incarnation(1) };
    let members = Members::One(ReplicaSet::new(vec![one], 1).unwrap());
    let epoch = Epoch { generation: 7, counter: 3 };
    Entry {
        key: key(),
        epoch,
        leader: Some(one),
        members,
        learners: Vec::new(),
        lost: Vec::new(),
        accepted_loss: None,
    }
}

fn any_record() -> impl Strategy<Value = Record> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    let header = ("[a-zé]{0,8}", bytes()).prop_map(|(name, value)| RecordHeader { name, value });
    (proptest::option::of(bytes()), bytes(), proptest::collection::vec(header, 0..4), any::<i64>())
        .prop_map(|(key, value, headers, timestamp_ms)| Record { key, value, headers, timestamp_ms })
}

/// A batch of records that are often alike, as those of one topic are, by any codec.
fn any_produced() -> impl Strategy<Value = (Vec<Record>, ProducedBatch)> {
    let sequence = (1..u128::MAX, any::<u64>())
        .prop_map(|(producer, sequence)| ProducerSequence { producer: ProducerId(producer), sequence });
    let records = (proptest::collection::vec(any_record(), 1..12), 1..20usize)
        .prop_map(|(records, times)| (0..times).flat_map(|_| records.clone()).collect::<Vec<_>>());
    (records, proptest::sample::select(Compression::ALL.to_vec()), proptest::option::of(sequence)).prop_map(
        |(records, compression, sequence)| {
            let produced = ProducedBatch::build_compressed(&records, compression, sequence).unwrap();
            (records, produced)
        },
    )
}

/// Whatever is in the body, under checksums that hold.
fn framed(body: &[u8], compression: Compression, count: u32) -> BytesMut {
    let mut bytes = BytesMut::zeroed(HEADER_BYTES);
    bytes.extend_from_slice(body);
    header::frame(&mut bytes, kind::RECORDS, compression, count, 0, None);
    bytes
}

/// Compressed records, and how long they are said to be.
fn squeezed(plain: &[u8], compression: Compression, said: u32) -> BytesMut {
    let compressed = compression.compress(plain, 0).unwrap();
    framed(&[&said.to_le_bytes(), &compressed[..]].concat(), compression, 1)
}

const CODECS: [Compression; 3] = [Compression::Lz4, Compression::Snappy, Compression::Zstd];

fn sequence() -> ProducerSequence {
    ProducerSequence { producer: ProducerId(0xabc), sequence: 5 }
}

proptest! {
    #[test]
    fn what_was_built_is_read_back((records, produced) in any_produced()) {
        let batch = produced.clone().stamp(stamp());
        prop_assert_eq!(ProducedBatch::parse(produced.bytes().clone()).unwrap(), produced.clone());
        prop_assert_eq!(Batch::parse(batch.bytes().clone(), key()).unwrap(), batch.clone());
        prop_assert_eq!(batch.records().unwrap().collect::<Vec<_>>(), records.clone());
        prop_assert_eq!(batch.sequence(), produced.sequence());
        let plain = ProducedBatch::build(&records, produced.sequence()).unwrap();
        let base_timestamp_ms = records[0].timestamp_ms;
        let sizes = records.iter().map(|one| record::size(one, base_timestamp_ms));
        prop_assert_eq!(HEADER_BYTES + sizes.sum::<usize>(), plain.size());
        prop_assert_eq!((batch.plain_size(), produced.record_bytes_max()), (plain.size(), plain.record_bytes_max()));
        prop_assert!(batch.size() <= plain.size());
        prop_assert_eq!((batch.base(), batch.term(), batch.append_time_ms()), (Offset(42), stamp().term, stamp().append_time_ms));
        prop_assert_eq!(Batch::announced_size(batch.bytes()), Some(batch.size()));
    }

    #[test]
    fn a_flipped_bit_is_refused((_, produced) in any_produced(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let flip = |bytes: &Bytes| {
            let mut flipped = bytes.to_vec();
            let at = at.index(flipped.len());
            flipped[at] ^= 1 << bit;
            Bytes::from(flipped)
        };
        prop_assert!(ProducedBatch::parse(flip(produced.bytes())).is_err());
        prop_assert!(Batch::parse(flip(produced.stamp(stamp()).bytes()), key()).is_err());
    }

    #[test]
    fn a_batch_cut_short_or_continued_is_refused((_, produced) in any_produced(), at in any::<prop::sample::Index>()) {
        let batch = produced.clone().stamp(stamp());
        for bytes in [produced.bytes(), batch.bytes()] {
            let short = bytes.slice(..at.index(bytes.len()));
            let long = Bytes::from([bytes.as_ref(), b"x"].concat());
            for wrong in [short, long] {
                prop_assert!(ProducedBatch::parse(wrong.clone()).is_err());
                prop_assert!(Batch::parse(wrong, key()).is_err());
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let bytes = Bytes::from(bytes);
        let _ = Batch::announced_size(&bytes);
        prop_assert!(ProducedBatch::parse(bytes.clone()).is_err());
        prop_assert!(Batch::parse(bytes, key()).is_err());
    }

    /// Whoever computes the checksums right still has to frame the records right.
    #[test]
    fn random_records_under_right_checksums_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200), count in 0..20u32, kind in 0..2u8) {
        let mut bytes = BytesMut::zeroed(HEADER_BYTES);
        bytes.extend_from_slice(&body);
        header::frame(&mut bytes, kind, Compression::None, count, 0, None);
        let _ = ProducedBatch::parse(bytes.clone().freeze());
        if count > 0 {
            header::stamp(&mut bytes, &stamp());
            if let Ok(batch) = Batch::parse(bytes.freeze(), key()) {
                prop_assert_eq!(batch.records().unwrap().count(), if kind == 0 { count as usize } else { 0 });
            }
        }
    }

    /// Nor has whoever compresses them right, or not at all, cut short, with a bit flipped, under another length.
    #[test]
    fn spoilt_compressed_records_under_right_checksums_are_refused_and_never_panic(
        (records, produced) in any_produced(),
        spoilt_at in any::<prop::sample::Index>(), bit in 0..8u8, cut in any::<prop::sample::Index>(), said in any::<u16>(),
    ) {
        let codec = produced.compression();
        prop_assume!(codec != Compression::None);
        let body = &produced.bytes()[HEADER_BYTES..];
        let (mut flipped, mut short, mut renamed) = (body.to_vec(), body.to_vec(), body.to_vec());
        flipped[spoilt_at.index(body.len())] ^= 1 << bit;
        short.truncate(cut.index(body.len()));
        renamed[..4].copy_from_slice(&u32::from(said).to_le_bytes());
        for (body, codec) in [(flipped, codec), (short, codec), (renamed, codec)].into_iter().chain(CODECS.map(|codec| (body.to_vec(), codec))) {
            let mut bytes = framed(&body, codec, produced.count());
            let parsed = ProducedBatch::parse(bytes.clone().freeze());
            // Without a checksum of its own a flipped bit may make other records; never fewer or more.
            let Ok(batch) = header::parse(&bytes) else { continue };
            prop_assert_eq!(batch.plain_size <= BATCH_BYTES_MAX, true);
            header::stamp(&mut bytes, &stamp());
            match Batch::parse(bytes.freeze(), key()).unwrap().records() {
                Ok(read) => prop_assert_eq!((parsed.is_ok(), read.count()), (true, records.len())),
                Err(error) => prop_assert_eq!(parsed, Err(error)),
            }
        }
    }
}

#[test]
fn another_partition_s_batch_is_refused() {
    let batch = ProducedBatch::build(&[Record::default()], None).unwrap().stamp(stamp());
    let other = PartitionKey { partition: 4, ..key() };
    assert!(matches!(Batch::parse(batch.bytes().clone(), other), Err(BatchError::LeaderChecksum { .. })));
}

#[test]
fn a_producer_may_not_stamp_and_may_not_open_terms() {
    let batch = ProducedBatch::build(&[Record::default()], None).unwrap().stamp(stamp());
    assert_eq!(ProducedBatch::parse(batch.bytes().clone()), Err(BatchError::Stamped(8)));
    let opening = Batch::opening(&entry(), stamp());
    assert_eq!(ProducedBatch::parse(opening.bytes().clone()), Err(BatchError::Opening));
}

#[test]
fn an_opening_record_carries_its_entry_and_no_record() {
    let opening = Batch::opening(&entry(), stamp());
    let read = Batch::parse(opening.bytes().clone(), key()).unwrap();
    assert!(read.is_opening());
    assert_eq!(read.entry(), Some(entry()));
    assert_eq!((read.count(), read.records().unwrap().count()), (1, 0));
}

#[test]
fn no_records_and_too_many_headers_are_refused_by_name() {
    assert_eq!(ProducedBatch::build(&[], None), Err(BatchError::Count(0)));
    let header = RecordHeader { name: "a".into(), value: Bytes::new() };
    let record = Record { headers: vec![header; RECORD_HEADERS_MAX + 1], ..Record::default() };
    let error = ProducedBatch::build(&[record], None).unwrap_err();
    assert!(error.to_string().contains("more than 256 headers"), "{error}");
}

#[test]
fn each_codec_makes_records_that_are_alike_much_smaller() {
    let record =
        Record { value: Bytes::from_static(b"{\"state\":\"placed\",\"table\":4}"), ..Record::default() };
    let records = vec![record; 1000];
    let plain = ProducedBatch::build(&records, Some(sequence())).unwrap();
    for codec in CODECS {
        let produced = ProducedBatch::build_compressed(&records, codec, Some(sequence())).unwrap();
        assert_eq!(produced.compression(), codec);
        assert!(produced.size() * 5 < plain.size(), "{codec:?}: {} of {}", produced.size(), plain.size());
        assert_eq!(ProducedBatch::bytes_to_parse(produced.bytes()), plain.size());
    }
    assert_eq!(ProducedBatch::bytes_to_parse(plain.bytes()), 0);
}

#[test]
fn what_gets_no_smaller_is_not_compressed() {
    for codec in CODECS {
        let record = Record { value: Bytes::from_static(b"abcdefgh"), ..Record::default() };
        let produced = ProducedBatch::build_compressed(std::slice::from_ref(&record), codec, None).unwrap();
        assert_eq!(produced, ProducedBatch::build(&[record], None).unwrap());
    }
}

#[test]
fn the_largest_record_of_a_compressed_batch_is_known() {
    let record =
        |bytes: usize| Record { value: vec![0; bytes].into(), key: Some("key".into()), ..Record::default() };
    for codec in CODECS {
        let produced = ProducedBatch::build_compressed(&[record(10), record(5000), record(20)], codec, None);
        assert_eq!(ProducedBatch::parse(produced.unwrap().bytes().clone()).unwrap().record_bytes_max(), 5003);
    }
}

#[test]
fn a_bomb_is_refused_by_what_it_says_and_by_what_it_makes() {
    let largest = u32::try_from(BATCH_BYTES_MAX - HEADER_BYTES).unwrap();
    let plain = vec![0; 16 << 20];
    for codec in CODECS {
        let refused = |said| ProducedBatch::parse(squeezed(&plain, codec, said).freeze()).unwrap_err();
        for said in [largest + 1, 64 << 20, u32::MAX] {
            assert_eq!(refused(said), BatchError::PlainSize(said), "{codec:?}");
        }
        for said in [0, 1, largest] {
            assert!(matches!(refused(said), BatchError::Decompress { .. }), "{codec:?}: {said}");
        }
    }
}

#[test]
fn a_batch_is_no_larger_without_compression_than_any_other() {
    let record = |bytes: usize| [Record { value: Bytes::from(vec![0; bytes]), ..Record::default() }];
    for codec in CODECS {
        let error = ProducedBatch::build_compressed(&record(BATCH_BYTES_MAX), codec, None).unwrap_err();
        assert!(matches!(error, BatchError::PlainSize(_) | BatchError::TooLong(_)), "{error}");
        let largest = ProducedBatch::build_compressed(&record(BATCH_BYTES_MAX - 200), codec, None).unwrap();
        assert!(ProducedBatch::parse(largest.bytes().clone()).is_ok());
    }
}

#[test]
fn an_unknown_codec_and_a_compressed_opening_record_are_refused_by_name() {
    let mut bytes = framed(&[0; 20], Compression::Lz4, 1);
    bytes[6] = 9;
    let error = ProducedBatch::parse(bytes.freeze()).unwrap_err();
    assert_eq!(error, BatchError::Compression(9));
    assert!(error.to_string().starts_with("byte 6: compression 9 is unknown"), "{error}");
    let mut opening = BytesMut::from(Batch::opening(&entry(), stamp()).bytes().as_ref());
    opening[6] = 1;
    assert!(matches!(Batch::parse(opening.freeze(), key()), Err(BatchError::Attributes(_))));
    let short = framed(&[0; 3], Compression::Zstd, 1);
    assert!(matches!(ProducedBatch::parse(short.freeze()), Err(BatchError::TooShort(103))));
}

#[test]
fn a_batch_over_the_limit_is_refused_with_the_limit() {
    let record = Record { value: Bytes::from(vec![0; BATCH_BYTES_MAX]), ..Record::default() };
    let error = ProducedBatch::build(&[record], None).unwrap_err();
    assert!(matches!(error, BatchError::TooLong(_)) && error.to_string().contains("8388608"), "{error}");
}

#[test]
fn the_example_of_the_format_page_is_what_the_code_writes() {
    let records = [
        Record {
            key: Some(Bytes::from_static(b"k")),
            value: Bytes::from_static(b"hello"),
            headers: vec![RecordHeader { name: "a".into(), value: Bytes::from_static(b"b") }],
            timestamp_ms: 1_700_000_000_000,
        },
        Record { timestamp_ms: 1_699_999_999_999, ..Record::default() },
    ];
    let producer = "0198a5c2-7b1e-7c3d-9f00-1234567890ab".parse().unwrap();
    let sequence = Some(ProducerSequence { producer, sequence: 5 });
    let batch = ProducedBatch::build(&records, sequence).unwrap().stamp(stamp());
    let page = include_str!("FORMAT.md");
    let (_, rest) = page.split_once("```hex\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let written = batch.bytes().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let on_page: String = example.split_whitespace().collect();
    assert_eq!(on_page, written, "the page should say:\n{}", lines(&written));
    assert_eq!(
        Batch::parse(batch.bytes().clone(), key()).unwrap().records().unwrap().collect::<Vec<_>>(),
        records
    );
}

fn lines(hex: &str) -> String {
    let words: Vec<&str> = (0..hex.len()).step_by(8).map(|at| &hex[at..(at + 8).min(hex.len())]).collect();
    words.chunks(8).map(|line| line.join(" ")).collect::<Vec<_>>().join("\n")
}
