//! A stop in order: not ready, leaders handed over, programs' connections ended, the volume closed.

use std::time::{Duration, Instant};

use fulmar_core::id::PartitionKey;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::replica::Command;
use crate::serve::http::Phase;
use crate::startup::Broker;

/// Leaders are moved within about a second; who waits longer has no operator.
const HANDOVER_MAX: Duration = Duration::from_secs(3);
/// Followers answer within milliseconds; those that have not by then stop too, and nothing is gained by waiting for them.
const SETTLE_MAX: Duration = Duration::from_secs(3);
/// Programs' calls under way are given so long to end; streams are asked to go elsewhere.
const DRAIN_MAX: Duration = Duration::from_secs(3);
/// What is kept back of the grace for closing the volume.
const CLOSE_RESERVE: Duration = Duration::from_secs(10);
/// So many partitions are named in the log; the rest is counted.
const NAMED_MAX: usize = 10;
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Stops within the grace; the volume is closed in any case.
pub(crate) async fn stop(mut broker: Broker, grace: Duration) -> Result<(), String> {
    let began = Instant::now();
    let until = began + grace.saturating_sub(CLOSE_RESERVE).max(grace / 2);
    info!(leading = leading(&broker).len(), "the broker was told to stop");
    broker.phase.send_replace(Phase::Stopping);
    broker.stopping.send_replace(true);
    hand_over(&broker, until).await;
    let left = leading(&broker);
    for key in left.iter().take(NAMED_MAX) {
        warn!(partition = %key, "nobody took over the partition: it waits for this broker to come back");
    }
    if let Some(more) = left.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
        warn!(more, "nobody took over other partitions either");
    }
    for key in left {
        // Fails only when the actor has ended.
        let _ended = broker.replicas.send(Command::StopAppends(key)).await;
    }
    settle(&broker, until).await;
    broker.stop_clients.cancel();
    let servers = futures::future::join_all(broker.clients.iter_mut());
    if timeout(DRAIN_MAX, servers).await.is_err() {
        info!("connections of programs that did not end are cut");
    }
    broker.stop_internal.cancel();
    broker.tasks.clear();
    broker.internal.abort();
    let storage = broker.replicas.storage().clone();
    broker.actor.abort();
    let telling = async {
        if let Some(exporting) = broker.exporting.take() {
            exporting.end().await;
        }
    };
    let (closing, ()) = tokio::join!(tokio::task::spawn_blocking(move || storage.close()), telling);
    let closed = closing.map_err(|error| error.to_string())?;
    closed.map_err(|error| error.to_string())?;
    info!(took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX), "the broker has stopped");
    Ok(())
}

fn leading(broker: &Broker) -> Vec<PartitionKey> {
    let states = broker.replicas.states().all();
    states.into_iter().filter(|(_, state)| state.serving.is_some()).map(|(key, _)| key).collect()
}

/// The operator, if one attends, moves the leaders away.
async fn hand_over(broker: &Broker, until: Instant) {
    let until = until.min(Instant::now() + HANDOVER_MAX);
    while *broker.attached.borrow() && !leading(broker).is_empty() && Instant::now() < until {
        sleep(LOOK_EVERY).await;
    }
}

/// What is still led here takes nothing any more; what was taken is committed, or its producers learn that nobody knows.
async fn settle(broker: &Broker, until: Instant) {
    let until = until.min(Instant::now() + SETTLE_MAX);
    let is_settled = || {
        let states = broker.replicas.states().all();
        states.iter().all(|(_, state)| state.serving.is_none() || state.high_watermark >= state.log_end)
    };
    while !is_settled() && Instant::now() < until {
        sleep(LOOK_EVERY).await;
    }
}
