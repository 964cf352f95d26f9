//! One message to many subscribers: each has a queue of its own, with memory of its connection's share.

use std::time::Duration;

use fulmar_broker::memory::Budget;
use fulmar_broker::serve::convert::messages_of;
use fulmar_broker::serve::outflow::{self, Answered, Answers, Outflow};
use fulmar_core::batch::Batch;
use fulmar_proto::v1::SubscribeResponse;
use futures::StreamExt as _;
use prost::Message as _;
use tokio::runtime::{Builder, Runtime};

use super::Run;
use super::reading::{TOPIC, stamped};
use super::records::key;

const SUBSCRIBERS: usize = 100;
/// Answers that wait in a subscriber's queue, as in the broker.
const DEPTH: usize = 4;
const BUDGET_BYTES: usize = 32 << 20;

type Subscriber = (Answers<SubscribeResponse>, Answered<SubscribeResponse>);

/// The batch is taken apart for each, waits in its queue, and is encoded when HTTP asks for it.
pub(crate) fn fan_out() -> Run {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime without sockets");
    let all = Budget::new(BUDGET_BYTES);
    let mut subscribers: Vec<Subscriber> = runtime.block_on(async {
        let connection = || Outflow::new(BUDGET_BYTES / SUBSCRIBERS);
        let stream = |_| outflow::stream(DEPTH, all.clone(), Some(connection()), Duration::from_mins(1));
        (0..SUBSCRIBERS).map(stream).collect()
    });
    let batch = stamped(1);
    Box::new(move || {
        deliver(&runtime, &mut subscribers, &batch);
        Box::new((runtime, subscribers))
    })
}

fn deliver(runtime: &Runtime, subscribers: &mut [Subscriber], batch: &Batch) {
    runtime.block_on(async {
        for (queue, _) in subscribers.iter() {
            let room = queue.room(batch.size()).await;
            let messages =
                messages_of(TOPIC, key().partition, batch, batch.base()).expect("it is not compressed");
            let response = SubscribeResponse { messages: messages.collect() };
            queue.send(Ok(response), Some(room)).await.expect("it is read below");
        }
        for (_, answered) in subscribers {
            let response = answered.next().await.expect("one was sent").expect("no error was sent");
            assert!(response.encode_to_vec().len() > batch.count() as usize);
            drop(answered.handed().take());
        }
    });
}
