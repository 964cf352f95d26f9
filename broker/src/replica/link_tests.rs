use fulmar_proto::internal::v1::ReplicaMessage;

use super::*;

fn message(bytes: usize) -> Vec<ReplicaMessage> {
    vec![ReplicaMessage { topic_id: vec![0; bytes].into(), ..ReplicaMessage::default() }]
}

#[tokio::test]
async fn a_read_waits_for_room_and_the_connection_lives() {
    let end = CancellationToken::new();
    let (outbox, mut outgoing) = Outbox::new(2 * BATCH_BYTES_MAX, end.clone());
    assert!(outbox.room().await);
    for _ in 0..2 {
        outbox.put(message(BATCH_BYTES_MAX / 2));
    }
    assert!(!outbox.has_room(0), "another read could be too much");
    let waiting = tokio::spawn({
        let outbox = outbox.clone();
        async move { outbox.room().await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    assert!(outgoing.next().await.is_some());
    assert!(waiting.await.unwrap());
    assert!(outbox.has_room(0) && !end.is_cancelled());
}

#[tokio::test]
async fn who_waits_for_room_hears_of_the_end() {
    let end = CancellationToken::new();
    let (outbox, _outgoing) = Outbox::new(2 * BATCH_BYTES_MAX, end.clone());
    outbox.put(message(2 * BATCH_BYTES_MAX));
    let waiting = tokio::spawn({
        let outbox = outbox.clone();
        async move { outbox.room().await }
    });
    tokio::task::yield_now().await;
    // More than it holds: the peer does not read.
    outbox.put(message(1));
    assert!(end.is_cancelled());
    assert!(!waiting.await.unwrap());
}
