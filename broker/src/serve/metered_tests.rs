use std::time::Duration;

use futures::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use super::super::outflow;
use super::*;
use crate::memory::Budget;

const KIB: usize = 1024;

/// A body of one answer of so many bytes, and what counts it.
async fn body(bytes: usize) -> (Body, Budget) {
    let all = Budget::new(64 << 20);
    let (answers, answered) = outflow::stream::<Bytes>(1, all.clone(), None, Duration::from_mins(1));
    let held = answers.room(bytes).await;
    answers.send(Ok(vec![7; bytes].into()), Some(held)).await.unwrap();
    let (_, answered, mut extensions) = answered.into_response().into_parts();
    let handed: Handed = extensions.remove().unwrap();
    let mut response = Response::new(Body::from_stream(answered));
    response.extensions_mut().insert(handed);
    (metered(response).into_body(), all)
}

#[tokio::test]
async fn memory_is_given_back_when_the_last_byte_is_gone() {
    let (body, all) = body(1000 * KIB).await;
    assert_eq!(all.taken_bytes(), 1000 * KIB);
    let mut steps: Vec<Bytes> = body.into_data_stream().map(Result::unwrap).collect().await;
    assert_eq!(
        steps.iter().map(Bytes::len).collect::<Vec<_>>(),
        [256 * KIB, 256 * KIB, 256 * KIB, 232 * KIB]
    );
    assert!(steps.iter().all(|step| step.iter().all(|byte| *byte == 7)));
    let last = steps.pop().unwrap();
    drop(steps);
    assert_eq!(all.taken_bytes(), 1000 * KIB, "all of them are one allocation");
    drop(last);
    assert_eq!(all.taken_bytes(), 0);
}

#[tokio::test]
async fn memory_is_given_back_when_the_answer_is_never_written() {
    let (mut body, all) = body(1000 * KIB).await;
    drop(std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await);
    assert_eq!(all.taken_bytes(), 1000 * KIB);
    drop(body);
    assert_eq!(all.taken_bytes(), 0);
}

#[tokio::test]
async fn other_answers_pass() {
    let (sender, stream) = tokio::sync::mpsc::channel::<Result<Bytes, axum::Error>>(1);
    sender.send(Ok(Bytes::from_static(b"ok"))).await.unwrap();
    drop(sender);
    let passed = metered(Response::new(Body::from_stream(ReceiverStream::new(stream)))).into_body();
    assert_eq!(axum::body::to_bytes(passed, 10).await.unwrap(), "ok");
}
