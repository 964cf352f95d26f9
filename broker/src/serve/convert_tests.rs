use fulmar_core::term::Epoch;

use super::*;

fn topic(max_message_bytes: u32) -> TopicRecord {
    TopicRecord {
        id: TopicId(1),
        name: "events".to_owned(),
        partitions: 1,
        replication_factor: 1,
        ack_quorum: 1,
        max_message_bytes,
        retention_ms: None,
        retention_bytes: None,
        retained: false,
        changed: Epoch { generation: 1, counter: 1 },
    }
}

fn request(value: usize) -> proto::PublishRequest {
    proto::PublishRequest { topic: "events".to_owned(), value: vec![0; value].into(), ..Default::default() }
}

#[test]
fn key_value_and_headers_count_together() {
    let mut request = request(90);
    request.key = Some("12345".into());
    request.headers = vec![proto::Header { name: "abc".to_owned(), value: "de".into() }];
    assert!(record_of(request.clone(), &topic(100), 0).is_ok());
    let failure = record_of(request, &topic(99), 0).unwrap_err();
    assert_eq!(failure.reason, ErrorReason::RecordTooLarge);
    assert!(failure.message.contains("100 bytes") && failure.message.contains("99"), "{}", failure.message);
}

#[test]
fn headers_are_bounded_and_named() {
    let header = |name: &str| proto::Header { name: name.to_owned(), value: Bytes::new() };
    let with = |headers| proto::PublishRequest { headers, ..request(1) };
    let many = record_of(with(vec![header("x"); 257]), &topic(1000), 0).unwrap_err();
    assert!(many.message.contains("at most 256"), "{}", many.message);
    let unnamed = record_of(with(vec![header("x"), header("")]), &topic(1000), 0).unwrap_err();
    assert!(unnamed.message.contains("headers[1].name"), "{}", unnamed.message);
}

#[test]
fn each_record_of_a_batch_is_held_against_the_limit() {
    let record = |bytes: usize| Record { value: vec![0; bytes].into(), ..Record::default() };
    let batch = |records: &[Record]| ProducedBatch::build(records, None).unwrap().bytes().clone();
    assert!(batch_of(&batch(&vec![record(90); 10]), &topic(100)).is_ok());
    let failure = batch_of(&batch(&[record(90), record(101)]), &topic(100)).unwrap_err();
    assert_eq!(failure.reason, ErrorReason::RecordTooLarge);
}

#[test]
fn a_term_comes_back_and_other_bytes_are_told() {
    let epoch = Epoch { generation: 1, counter: 2 };
    let term = Term { epoch, process: Process { session: Session(3), boot: BootId(4) } };
    assert_eq!(term_of(&term_bytes(term)).unwrap(), Some(term));
    assert_eq!(term_of(&[]).unwrap(), None);
    for length in [1, 8, 31, 33] {
        assert_eq!(term_of(&vec![0; length]).unwrap_err().reason, ErrorReason::InvalidRequest, "{length}");
    }
}
