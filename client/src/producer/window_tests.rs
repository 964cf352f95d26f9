use std::sync::Arc;
use std::time::Duration;

use fulmar_core::batch::{Compression, ProducerSequence};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::Window;
use crate::error::{Failure, SendError};
use crate::producer::queue::{Entering, Queue};
use crate::producer::{Ack, Delivery};
use crate::record::Record;

/// A window with one batch for each deadline (milliseconds from now), and who waits for them.
fn window(deadlines: &[u64]) -> (Window, Vec<Delivery>) {
    let queue = Queue::new(1000, Duration::ZERO);
    let buffer = Arc::new(Semaphore::new(1000));
    let mut window = Window::new(true, Compression::None);
    let deliver = |deadline: &u64| {
        let permit = Arc::clone(&buffer).try_acquire_owned().unwrap();
        let record = Record::new(deadline.to_string()).into_framed();
        let deadline = Instant::now() + Duration::from_millis(*deadline);
        let delivery = queue.push(Entering { record, bytes: 10, permit, deadline }).unwrap();
        window.push(queue.take().unwrap());
        delivery
    };
    let deliveries = deadlines.iter().map(deliver).collect();
    (window, deliveries)
}

fn refused() -> SendError {
    SendError::Refused(Failure::lost("refused"))
}

fn in_doubt() -> SendError {
    SendError::OutcomeUnknown { timeout: Duration::ZERO, failure: Failure::lost("lost") }
}

fn not_there() -> SendError {
    SendError::TimedOut { timeout: Duration::ZERO, failure: Failure::lost("late") }
}

fn send_all(window: &mut Window) -> Vec<ProducerSequence> {
    std::iter::from_fn(|| window.next_to_send()).map(|to_send| to_send.batch.sequence().unwrap()).collect()
}

fn sequences(sent: &[ProducerSequence]) -> Vec<u64> {
    sent.iter().map(|sent| sent.sequence).collect()
}

#[tokio::test]
async fn what_is_sent_again_is_the_same_in_the_same_order() {
    let (mut window, mut waiting) = window(&[1000, 1000, 1000]);
    let first = send_all(&mut window);
    assert_eq!(sequences(&first), [0, 1, 2]);
    window.answer_front(Ok(Ack { partition: 0, offset: 7 }));
    assert_eq!(waiting.remove(0).await.unwrap().offset, 7);
    window.connection_lost();
    assert_eq!(send_all(&mut window), first[1..]);
}

#[tokio::test]
async fn behind_a_refused_batch_the_rest_begins_anew_under_another_id() {
    let (mut window, mut waiting) = window(&[1000, 1000, 1000]);
    let first = send_all(&mut window);
    window.refused_for_now();
    send_all(&mut window);
    window.fail_front(refused(), &in_doubt());
    assert!(matches!(waiting.remove(0).await, Err(SendError::Refused(_))));
    let again = send_all(&mut window);
    assert_eq!(sequences(&again), [0, 1]);
    assert_ne!(again[0].producer, first[0].producer);
}

#[tokio::test]
async fn behind_a_refused_batch_in_doubt_nothing_that_was_sent_is_sent_again() {
    let (mut window, mut waiting) = window(&[1000, 1000]);
    send_all(&mut window);
    window.connection_lost();
    send_all(&mut window);
    window.fail_front(refused(), &in_doubt());
    assert!(window.is_empty());
    assert!(matches!(waiting.remove(0).await, Err(SendError::Refused(_))));
    assert!(matches!(waiting.remove(0).await, Err(SendError::OutcomeUnknown { .. })));
}

#[tokio::test]
async fn a_late_batch_is_sent_on_for_those_behind_it_until_nobody_waits() {
    let (mut window, mut waiting) = window(&[0, 1000]);
    let first = send_all(&mut window);
    assert!(!window.expire(Instant::now(), &in_doubt(), &not_there()));
    assert!(matches!(waiting.remove(0).await, Err(SendError::OutcomeUnknown { .. })));
    window.connection_lost();
    assert_eq!(send_all(&mut window), first);
    assert!(window.expire(Instant::now() + Duration::from_secs(2), &in_doubt(), &not_there()));
    assert!(window.is_empty());
    assert!(matches!(waiting.remove(0).await, Err(SendError::OutcomeUnknown { .. })));
}

#[tokio::test]
async fn what_was_refused_and_is_late_is_known_not_to_be_there() {
    let (mut window, mut waiting) = window(&[0]);
    send_all(&mut window);
    window.refused_for_now();
    assert!(window.expire(Instant::now(), &in_doubt(), &not_there()));
    assert!(matches!(waiting.remove(0).await, Err(SendError::TimedOut { .. })));
}

#[tokio::test]
async fn a_late_batch_that_is_sent_on_is_not_called_absent() {
    let (mut window, mut waiting) = window(&[0, 0, 1000]);
    window.next_to_send().unwrap();
    window.connection_lost();
    assert!(!window.expire(Instant::now(), &in_doubt(), &not_there()));
    // The second one was never sent; but it will be, for the third one needs its sequence.
    assert_eq!(sequences(&send_all(&mut window)), [0, 1, 2]);
    assert!(matches!(waiting.remove(0).await, Err(SendError::OutcomeUnknown { .. })));
    assert!(matches!(waiting.remove(0).await, Err(SendError::OutcomeUnknown { .. })));
}

#[tokio::test]
async fn late_batches_of_a_window_that_was_not_sent_leave_with_their_sequences() {
    let (mut window, mut waiting) = window(&[0, 1000]);
    assert!(!window.expire(Instant::now(), &in_doubt(), &not_there()));
    assert!(matches!(waiting.remove(0).await, Err(SendError::TimedOut { .. })));
    assert_eq!(sequences(&send_all(&mut window)), [0]);
}

#[tokio::test]
async fn what_was_sent_behind_a_refused_batch_in_doubt_is_in_doubt_too() {
    let (mut window, mut waiting) = window(&[0, 0]);
    window.next_to_send().unwrap();
    window.connection_lost();
    send_all(&mut window);
    window.refused_for_now();
    assert!(window.expire(Instant::now(), &in_doubt(), &not_there()));
    assert!(matches!(waiting.remove(1).await, Err(SendError::OutcomeUnknown { .. })));
}
