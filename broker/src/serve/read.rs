//! One look at a partition: what is committed from an offset on, or what comes while somebody waits.
//!
//! For programs that ask again and again; who follows has a subscription (`subscribe`).

use std::time::{Duration, Instant};

use fulmar_core::batch::Batch;
use fulmar_core::id::{Ordinal, PartitionKey};
use fulmar_core::offset::Offset;
use fulmar_proto::v1::log_client::LogClient;
use fulmar_proto::v1::{FetchRequest, FetchResponse};
use tokio::time::{sleep, timeout_at};
use tracing::debug;

use super::convert::topic_bytes;
use super::error::Failure;
use super::feed::{Fed, Form};
use super::outflow::{Answers, Held};
use super::{Door, find, forward};
use crate::dial;

/// Between two looks for a leader.
const RETRY_EVERY: Duration = Duration::from_millis(100);

impl Door {
    /// Batches from `from` on, about `bytes_max` of them, and memory for them in this form among the answers of `queue`; the
    /// first may begin before `from`. Waits for them, and for a leader; `None` if nothing came until then, or
    /// this broker stops.
    pub(super) async fn look<T>(
        &self,
        (key, form): (PartitionKey, Form),
        from: Offset,
        bytes_max: usize,
        queue: &Answers<T>,
        until: Instant,
    ) -> Result<Option<(Vec<Batch>, Held)>, Failure> {
        debug!(%key, %from, "a reader waits");
        loop {
            let looked = async {
                match self.leader(key) {
                    Some(leader) if leader == self.shared.replicas.me() => {
                        let mut feed = self.feed(key, from, None, form)?;
                        let (Fed { batches, .. }, held) = feed.next(bytes_max, queue).await?;
                        Ok((batches, held))
                    }
                    Some(leader) => {
                        self.look_there(leader.ordinal, (key, form), from, bytes_max, queue).await
                    }
                    None => Err(self.not_leader(key)),
                }
            };
            let looked = tokio::select! {
                // Who asks again asks another broker.
                () = self.shared.stop.cancelled() => return Ok(None),
                looked = timeout_at(until.into(), looked) => looked,
            };
            match looked {
                Err(_) => return Ok(None),
                Ok(Ok(found)) => return Ok(Some(found)),
                Ok(Err(failure)) if failure.retry_after().is_none() => return Err(failure),
                Ok(Err(failure)) if Instant::now() + RETRY_EVERY >= until => return Err(failure),
                Ok(Err(_)) => sleep(RETRY_EVERY).await,
            }
            // Deleted or retained meanwhile?
            self.topic_of(key.topic)?;
        }
    }

    async fn look_there<T>(
        &self,
        leader: Ordinal,
        (key, form): (PartitionKey, Form),
        from: Offset,
        bytes_max: usize,
        queue: &Answers<T>,
    ) -> Result<(Vec<Batch>, Held), Failure> {
        let request = FetchRequest {
            topic_id: topic_bytes(key.topic),
            partition: key.partition,
            offset: from.0,
            bytes_max: u32::try_from(bytes_max).unwrap_or(u32::MAX),
            ..FetchRequest::default()
        };
        let channel = self.shared.channels.to(leader).await?;
        let mut client = LogClient::new(channel).max_decoding_message_size(dial::MESSAGE_BYTES_MAX);
        // The request stays the only one, and the stream open behind it.
        let requests = futures::StreamExt::chain(tokio_stream::once(request), tokio_stream::pending());
        let answer = async { client.fetch(forward::marked(requests)).await?.into_inner().message().await };
        let FetchResponse { batches, error, .. } = match answer.await {
            Ok(Some(response)) => response,
            Ok(None) => return Err(self.not_leader(key)),
            Err(status) => {
                debug!(%leader, %status, "a leader was not reached for reading");
                self.shared.channels.forget(leader);
                return Err(self.not_leader(key));
            }
        };
        if let Some(error) = &error {
            return Err(find::behind(leader, Failure::from_item(error)));
        }
        let mut batches = batches
            .into_iter()
            .map(|bytes| Batch::parse(bytes, key).map_err(|error| Failure::corrupt(&error)))
            .collect::<Result<Vec<_>, _>>()?;
        batches.truncate(form.together(&batches, bytes_max));
        let held = queue.room(form.size_of_all(&batches)).await;
        Ok((batches, held))
    }
}
