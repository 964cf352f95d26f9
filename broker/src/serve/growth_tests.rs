use fulmar_proto::v1::{
    ErrorReason, FetchRequest, ListOffsetsRequest, MetadataRequest, ProduceRequest, PublishRequest,
    SubscribeRequest,
};
use prost::Message as _;

use super::*;

const PUBLISH: &str = "/fulmar.v1.PubSub/Publish";
const PRODUCE: &str = "/fulmar.v1.Log/Produce";
const SUBSCRIBE: &str = "/fulmar.v1.PubSub/Subscribe";

fn walked(path: &str, message: &[u8], piece: usize) -> Result<usize, Failure> {
    let mut walk = Walk::over(shape(path));
    for piece in message.chunks(piece) {
        walk.pass(piece)?;
    }
    walk.end()
}

fn with_headers(count: usize) -> PublishRequest {
    let header = Header { name: "n".to_owned(), value: "v".into() };
    PublishRequest {
        topic: "events".to_owned(),
        key: Some("k".into()),
        value: vec![0x22; 100_000].into(),
        headers: vec![header; count],
        timestamp_ms: Some(-1),
        partition: Some(3),
    }
}

#[test]
fn elements_are_counted_wherever_the_bytes_are_cut_and_too_many_are_refused() {
    let whole = with_headers(RECORD_HEADERS_MAX).encode_to_vec();
    let growth = walked(PUBLISH, &whole, whole.len()).unwrap();
    assert!(growth >= RECORD_HEADERS_MAX * size_of::<Header>(), "{growth}");
    assert!(growth < 64 * 1024, "the value is no part of it: {growth}");
    let more = with_headers(RECORD_HEADERS_MAX + 1).encode_to_vec();
    for piece in [1, 2, 3, 7, 1000, more.len()] {
        assert_eq!(walked(PUBLISH, &whole, piece).unwrap(), growth, "{piece}");
        let refused = walked(PUBLISH, &more, piece).unwrap_err();
        assert_eq!(refused.reason, ErrorReason::InvalidRequest);
        assert!(refused.message.starts_with("headers: at most 256"), "{}", refused.message);
    }
}

#[test]
fn the_largest_requests_that_the_api_allows_are_taken() {
    let name = "a".repeat(TOPIC_NAME_BYTES_MAX);
    let partitions: Vec<u32> = (0..10_000).collect();
    let metadata = MetadataRequest { topics: vec![name.clone(); NAMES_MAX], ..MetadataRequest::default() };
    let subscribe = SubscribeRequest {
        topics: vec![name.clone(); TOPICS_MAX],
        partitions: partitions.clone(),
        start: None,
    };
    let offsets = ListOffsetsRequest { topic: name, partitions, time_ms: Some(i64::MIN) };
    let batch = vec![0; fulmar_core::batch::BATCH_BYTES_MAX].into();
    let id = vec![0; 16];
    let produce = ProduceRequest { topic_id: id.clone().into(), partition: 1, batch, correlation_id: 9 };
    let fetch =
        FetchRequest { topic_id: id.into(), term: vec![0; 32].into(), offset: 1, ..FetchRequest::default() };
    for (path, message) in [
        ("/fulmar.v1.Log/Metadata", metadata.encode_to_vec()),
        (SUBSCRIBE, subscribe.encode_to_vec()),
        ("/fulmar.v1.Log/ListOffsets", offsets.encode_to_vec()),
        (PRODUCE, produce.encode_to_vec()),
        ("/fulmar.v1.Log/Fetch", fetch.encode_to_vec()),
    ] {
        assert!(counted(path, &message).is_some(), "{path} with {} bytes", message.len());
    }
}

#[test]
fn what_means_nothing_is_no_way_to_have_much_kept() {
    let small = ProduceRequest { batch: vec![7; 100].into(), ..ProduceRequest::default() }.encode_to_vec();
    let field = |number: u64, length: usize| {
        let mut field = Vec::new();
        prost::encoding::encode_varint(number << 3 | 2, &mut field);
        prost::encoding::encode_varint(length as u64, &mut field);
        field.resize(field.len() + length, 7);
        field
    };
    let groups = [0x4b, 0x4c].repeat(1 << 20);
    // A field of a later version, a large one, one that comes again, and groups.
    let later = [small.clone(), field(9, 100)].concat();
    assert!(walked(PRODUCE, &later, 64).is_ok());
    for stray in [field(9, 1 << 20), field(3, 1 << 20), groups] {
        for message in [[&stray[..], &small].concat(), [&stray[..], &small, &stray, &small].concat()] {
            let refused = walked(PRODUCE, &message, 4096).unwrap_err();
            assert!(refused.message.contains("not known here or came before"), "{}", refused.message);
        }
    }
}

#[test]
fn what_is_no_protobuf_is_left_to_its_reader() {
    for bytes in [&[7; 4 * 1024][..], &[0xff; 4 * 1024], &[0x22, 0xff], &[]] {
        assert!(walked(PUBLISH, bytes, 100).is_ok());
    }
}

#[test]
fn packed_numbers_count_by_their_bytes() {
    let message = SubscribeRequest { partitions: vec![1; 1000], ..SubscribeRequest::default() };
    let growth = walked(SUBSCRIBE, &message.encode_to_vec(), 10).unwrap();
    assert!((4_000..16_000).contains(&growth), "{growth}");
}
