use axum::body::Body;
use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::*;

const KIB: usize = 1024;
const SOON: Duration = Duration::from_millis(100);
const NEVER: Duration = Duration::from_hours(1);

fn inflow(all_bytes: usize, share_bytes: usize) -> Inflow {
    let patience = Patience { room: NEVER, arrival: NEVER, arrival_pressed: NEVER };
    Inflow { patience, ..Inflow::new(Budget::new(all_bytes), share_bytes, 64 * KIB) }
}

struct Sent {
    bytes: mpsc::Sender<Result<Bytes, axum::Error>>,
    read: axum::body::BodyDataStream,
    received: Received,
}

fn request(inflow: &Inflow) -> Sent {
    // Batches take no more than their bytes.
    request_of(inflow, "/fulmar.v1.Log/Produce")
}

fn request_of(inflow: &Inflow, path: &str) -> Sent {
    let (bytes, body) = mpsc::channel(16);
    let body = Body::from_stream(ReceiverStream::new(body));
    let (request, received) = inflow.counted(Request::post(path).body(body).unwrap());
    Sent { bytes, read: request.into_body().into_data_stream(), received }
}

fn framed(length: usize) -> Vec<u8> {
    let mut message = vec![0];
    message.extend(u32::try_from(length).unwrap().to_be_bytes());
    message.extend(vec![7; length]);
    message
}

impl Sent {
    async fn send(&self, bytes: &[u8]) {
        self.bytes.send(Ok(Bytes::copy_from_slice(bytes))).await.unwrap();
    }

    /// Reads until nothing more comes.
    async fn arrived(&mut self) -> usize {
        let mut bytes = 0;
        while let Ok(Some(read)) = timeout(Duration::from_millis(1), self.read.next()).await {
            bytes += read.unwrap().len();
        }
        bytes
    }

    async fn failed(&mut self) -> Status {
        loop {
            match self.read.next().await.expect("an error") {
                Ok(_) => {}
                Err(error) => return Status::from_error(Box::new(error)),
            }
        }
    }
}

#[tokio::test]
async fn a_message_holds_memory_from_its_first_byte_until_it_is_answered() {
    let inflow = inflow(64 * KIB, 64 * KIB);
    let mut sent = request(&inflow);
    let message = framed(32 * KIB);
    sent.send(&message[..3]).await;
    assert_eq!((sent.arrived().await, inflow.all.taken_bytes()), (0, 0), "half a header");
    sent.send(&message[3..100]).await;
    assert_eq!((sent.arrived().await, inflow.all.taken_bytes()), (100, 32 * KIB));
    sent.send(&message[100..]).await;
    assert_eq!((sent.arrived().await, inflow.all.taken_bytes()), (message.len() - 100, 32 * KIB));
    sent.received.answered();
    assert_eq!(inflow.all.taken_bytes(), 0, "more is asked for, and none has come");
}

#[tokio::test]
async fn the_next_message_is_passed_on_behind_the_end_of_the_last_one() {
    let inflow = inflow(32 * KIB, 32 * KIB);
    let mut sent = request(&inflow);
    sent.received.answered();
    let two = [framed(32 * KIB), framed(32 * KIB)].concat();
    sent.send(&two).await;
    assert_eq!(sent.arrived().await, two.len());
    drop(sent);
    assert_eq!(inflow.all.taken_bytes(), 0);
}

#[tokio::test]
async fn a_stream_without_memory_waits_and_is_refused_as_too_much() {
    let mut inflow = inflow(64 * KIB, 32 * KIB);
    inflow.patience.room = SOON;
    let (mut first, mut second) = (request(&inflow), request(&inflow));
    first.send(&framed(32 * KIB)[..10]).await;
    assert_eq!(first.arrived().await, 10);
    second.received.answered();
    second.send(&framed(KIB)).await;
    assert_eq!(second.arrived().await, 0, "its connection has no more");
    let mut elsewhere = request(&Inflow { share: Budget::new(32 * KIB), ..inflow.clone() });
    elsewhere.send(&framed(KIB)).await;
    assert_eq!(elsewhere.arrived().await, KIB + HEADER_BYTES, "another connection has");
    let refused = second.failed().await;
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused:?}");
    drop(first);
    let mut third = request(&inflow);
    third.send(&framed(KIB)).await;
    assert_eq!(third.arrived().await, KIB + HEADER_BYTES);
}

#[tokio::test]
async fn a_stream_goes_on_when_memory_is_given_back() {
    let inflow = inflow(64 * KIB, 32 * KIB);
    let (mut first, mut second) = (request(&inflow), request(&inflow));
    first.send(&framed(32 * KIB)[..10]).await;
    assert_eq!(first.arrived().await, 10);
    second.received.answered();
    second.send(&framed(KIB)).await;
    assert_eq!(second.arrived().await, 0);
    drop(first);
    assert_eq!(second.arrived().await, KIB + HEADER_BYTES);
}

#[tokio::test]
async fn a_call_without_memory_is_refused_at_once() {
    let inflow = inflow(64 * KIB, 32 * KIB);
    let (mut first, mut second) = (request(&inflow), request(&inflow));
    first.send(&framed(32 * KIB)[..10]).await;
    assert_eq!(first.arrived().await, 10);
    second.send(&framed(KIB)[..10]).await;
    let refused = second.failed().await;
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused:?}");
}

#[tokio::test]
async fn half_a_message_that_does_not_go_on_is_given_up_sooner_if_others_need_its_memory() {
    let idle = Patience { room: NEVER, arrival: SOON, arrival_pressed: NEVER };
    let pressed = Patience { room: NEVER, arrival: NEVER, arrival_pressed: SOON };
    for (length, patience) in [(KIB, idle), (64 * KIB, pressed)] {
        let inflow = Inflow { patience, ..inflow(64 * KIB, 64 * KIB) };
        let mut sent = request(&inflow);
        sent.send(&framed(length)[..100]).await;
        let refused = sent.failed().await;
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused:?}");
        drop(sent);
        assert_eq!(inflow.all.taken_bytes(), 0);
    }
}

#[tokio::test]
async fn a_whole_message_whose_request_does_not_end_is_given_up() {
    let mut inflow = inflow(64 * KIB, 64 * KIB);
    inflow.patience.arrival = SOON;
    let mut sent = request(&inflow);
    sent.send(&framed(KIB)).await;
    assert_eq!(sent.failed().await.code(), tonic::Code::ResourceExhausted);
}

#[tokio::test]
async fn an_answered_request_may_be_silent_for_ever() {
    let mut inflow = inflow(64 * KIB, 64 * KIB);
    inflow.patience.arrival = SOON;
    let mut sent = request(&inflow);
    sent.received.answered();
    sent.send(&framed(KIB)).await;
    assert_eq!(sent.arrived().await, KIB + HEADER_BYTES);
    let silent = timeout(LOOK_EVERY * 2, sent.read.next()).await;
    assert!(silent.is_err(), "{silent:?}");
    assert_eq!(inflow.all.taken_bytes(), 0);
}

#[tokio::test]
async fn a_message_that_says_that_it_is_too_long_is_left_to_its_reader() {
    let inflow = inflow(64 * KIB, 64 * KIB);
    let mut sent = request(&inflow);
    sent.send(&[0, 255, 255, 255, 255]).await;
    assert_eq!(sent.arrived().await, HEADER_BYTES);
    assert_eq!(inflow.all.taken_bytes(), 0);
    drop(sent.bytes);
}

/// A publish with so many headers of two bytes each.
fn with_headers(count: usize) -> Vec<u8> {
    let message = [0x22, 0].repeat(count);
    [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), &message].concat()
}

#[tokio::test]
async fn what_a_message_takes_beyond_its_bytes_is_taken_before_its_last_byte_is_passed_on() {
    let inflow = inflow(64 * KIB, 64 * KIB);
    let mut sent = request_of(&inflow, "/fulmar.v1.PubSub/Publish");
    let message = with_headers(256);
    let (most, last) = message.split_at(message.len() - 1);
    sent.send(most).await;
    assert_eq!((sent.arrived().await, inflow.all.taken_bytes()), (most.len(), KIB));
    sent.send(last).await;
    assert_eq!(sent.arrived().await, 1);
    let taken = inflow.all.taken_bytes();
    assert!(taken >= 256 * size_of::<fulmar_proto::v1::Header>(), "{taken}");
    assert_eq!(sent.received.bytes(), 512);
    drop(sent);
    assert_eq!(inflow.all.taken_bytes(), 0);
}

#[tokio::test]
async fn a_message_that_has_no_memory_to_grow_is_refused_as_too_much() {
    let inflow = inflow(64 * KIB, 64 * KIB);
    let mut first = request(&inflow);
    first.send(&framed(60 * KIB)[..10]).await;
    assert_eq!(first.arrived().await, 10);
    let mut second = request_of(&inflow, "/fulmar.v1.PubSub/Publish");
    second.send(&with_headers(256)).await;
    let refused = second.failed().await;
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused:?}");
}

#[tokio::test]
async fn too_many_elements_and_too_long_requests_are_refused_by_what_they_have_too_much_of() {
    for (path, message, words) in [
        ("/fulmar.v1.PubSub/Publish", with_headers(257), "headers: at most 256"),
        ("/fulmar.v1.Log/Fetch", framed(5 * KIB), "at most 4096"),
        ("/grpc.health.v1.Health/Check", framed(5 * KIB), "at most 4096"),
    ] {
        let inflow = inflow(64 * KIB, 64 * KIB);
        let mut sent = request_of(&inflow, path);
        sent.send(&message).await;
        let refused = sent.failed().await;
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused:?}");
        assert!(refused.message().contains(words), "{refused:?}");
    }
}
