use fulmar_core::batch::{ProducedBatch, Record, Stamp};
use proptest::prelude::*;
use prost::Message as _;

use super::*;

fn key() -> PartitionKey {
    PartitionKey { topic: TopicId(7), partition: 3 }
}

fn entry() -> Entry {
    let incarnation = "0198a5c2-7b1e-7c3d-9f00-000000000001";
    format!("{} epoch=2.1 leader=0:{incarnation} members=1of[0:{incarnation}]", key()).parse().unwrap()
}

fn term(session: u64) -> Term {
    Term {
        epoch: Epoch { generation: 2, counter: 1 },
        process: Process { session: Session(session), boot: BootId(9) },
    }
}

fn vector() -> TermVector {
    let line = |session, start| TermStart { term: term(session), start: Offset(start) };
    TermVector::new(vec![line(1, 0), line(2, 10)]).unwrap()
}

fn batch(base: u64) -> Batch {
    let record = Record { value: "hello".into(), ..Record::default() };
    let stamp = Stamp { key: key(), base: Offset(base), term: term(1), append_time_ms: 5 };
    ProducedBatch::build(&[record], None).unwrap().stamp(stamp)
}

fn all() -> Vec<Message> {
    let (term, log_start, log_end) = (term(2), Offset(4), Offset(12));
    let follower = Process { session: Session(3), boot: BootId(4) };
    let epoch = Epoch { generation: 3, counter: 4 };
    vec![
        Message::Fence { entry: entry(), term },
        Message::Promised { term, vector: vector(), log_start, log_end, certain: true },
        Message::Refused { term, promised: Some(term), entry: Some(entry()) },
        Message::Refused { term, promised: None, entry: None },
        Message::Fetch { term, from: log_start, until: log_end },
        Message::Snapshot { term, log_start, vector: vector(), producers: vec![1, 2] },
        Message::Fetched { term, batches: vec![batch(4), batch(5)] },
        Message::Attach {
            entry: entry(),
            term,
            follower,
            vector: vector(),
            log_start,
            log_end,
            counted: Offset(11),
            producers: vec![3],
        },
        Message::Attached { term, log_end },
        Message::Append {
            term,
            from: log_start,
            batches: vec![batch(4)],
            high_watermark: log_end,
            log_start,
        },
        Message::Stored { term, log_end },
        Message::Release { epoch },
        Message::Unreadable { term, offset: Offset(5) },
        Message::Refetch { term, offset: Offset(5) },
        Message::Refetched { term, offset: Offset(4), batches: vec![batch(4), batch(5)] },
        Message::Refetched { term, offset: Offset(4), batches: Vec::new() },
    ]
}

#[test]
fn every_message_comes_back_as_it_was() {
    for message in all() {
        let bytes = to_proto(key(), message.clone()).encode_to_vec();
        let decoded = proto::ReplicaMessage::decode(bytes.as_slice()).unwrap();
        assert_eq!(from_proto(decoded).unwrap(), (key(), message));
    }
}

#[test]
fn a_batch_shares_no_memory_with_what_it_came_in() {
    let fetched = Message::Fetched { term: term(1), batches: vec![batch(4), batch(5)] };
    let append = all().swap_remove(9);
    for message in [fetched, append] {
        let wire = to_proto(key(), message);
        let came: Vec<Bytes> = match &wire.message {
            Some(Kind::Fetched(fetched)) => fetched.batches.clone(),
            Some(Kind::Append(append)) => append.batches.clone(),
            other => panic!("{other:?} has no batches"),
        };
        let (Message::Fetched { batches, .. } | Message::Append { batches, .. }) =
            from_proto(wire).unwrap().1
        else {
            panic!("it became something else");
        };
        assert_eq!(batches.len(), came.len());
        assert!(batches.iter().zip(&came).all(|(batch, came)| batch.bytes().as_ptr() != came.as_ptr()));
    }
}

#[test]
fn a_flipped_bit_in_a_batch_is_refused() {
    let append = &all()[9];
    let mut wire = to_proto(key(), append.clone());
    let Some(Kind::Append(append)) = &mut wire.message else { panic!("an append") };
    let mut bytes = append.batches[0].to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    append.batches[0] = bytes.into();
    assert!(matches!(from_proto(wire), Err(WireError::Batch { .. })));
}

#[test]
fn a_copy_that_is_damaged_itself_or_another_partition_s_is_refused() {
    let refetched = |batch: Batch, partition| {
        let message = Message::Refetched { term: term(1), offset: Offset(4), batches: vec![batch] };
        proto::ReplicaMessage { partition, ..to_proto(key(), message) }
    };
    assert!(from_proto(refetched(batch(4), 3)).is_ok());
    assert!(matches!(from_proto(refetched(batch(4), 4)), Err(WireError::Batch { .. })));
    for at in 0..batch(4).size() {
        let mut wire = refetched(batch(4), 3);
        let Some(Kind::Refetched(copy)) = &mut wire.message else { panic!("a copy") };
        let mut bytes = copy.batches[0].to_vec();
        bytes[at] ^= 4;
        copy.batches[0] = bytes.into();
        assert!(matches!(from_proto(wire), Err(WireError::Batch { .. })), "byte {at}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let good = || to_proto(key(), all().remove(0));
    let wrong = |wire| from_proto(wire).unwrap_err();
    assert_eq!(wrong(proto::ReplicaMessage { term: None, ..good() }), WireError::Field("term"));
    assert_eq!(wrong(proto::ReplicaMessage { message: None, ..good() }), WireError::Field("message"));
    let short = proto::ReplicaMessage { topic_id: Bytes::from_static(b"short"), ..good() };
    assert_eq!(wrong(short), WireError::Field("topic_id"));
}

proptest! {
    #[test]
    fn no_bytes_are_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(message) = proto::ReplicaMessage::decode(bytes.as_slice()) {
            let _either = from_proto(message);
        }
    }
}
