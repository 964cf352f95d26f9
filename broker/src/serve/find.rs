//! Names that this broker does not know: a topic that was created this second, or while this broker was away, is known by
//! others before. They are asked before a program hears `UNKNOWN_TOPIC`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fulmar_core::control::table::TopicRecord;
use fulmar_core::id::Ordinal;
use fulmar_proto::v1::log_client::LogClient;
use fulmar_proto::v1::{ErrorReason, MetadataRequest};
use tokio::time::{timeout, timeout_at};
use tracing::debug;

use super::error::Failure;
use super::{Door, forward, lookup};

/// Unknown names that are asked about at a time: each asks every broker, and who invents names must not keep them all busy.
pub(super) const ASKING_MAX: usize = 16;
/// How long the answers of other brokers are waited for: they answer from memory.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// A page that another broker has comes here within milliseconds while an operator attends.
const PAGE_MAX: Duration = Duration::from_millis(1500);
/// A newly attended broker that has no page is pushed the first one by then, if there is any.
const FIRST_PAGE_MAX: Duration = Duration::from_secs(1);

/// What another broker says of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Known(Ordinal),
    Unknown,
}

impl Door {
    /// A topic that is served. `is_forwarded`: a broker asks, and judges by itself what this one knows.
    pub(super) async fn find(
        &self,
        name: &str,
        is_forwarded: bool,
        deadline: Instant,
    ) -> Result<Arc<TopicRecord>, Failure> {
        let failure = match self.topic(name) {
            Err(failure) if is_missing(&failure) && !is_forwarded => failure,
            verdict => return verdict,
        };
        let Ok(Ok(_turn)) = timeout(ANSWER_MAX, self.shared.asking.acquire()).await else {
            let message = format!("too many unknown topics are being looked up, {name:?} is one of them");
            return Err(Failure::new(ErrorReason::Busy, message).with("topic", name));
        };
        let told = self.ask_others(name).await;
        let known = told.iter().find_map(|told| match told {
            Told::Known(ordinal) => Some(*ordinal),
            Told::Unknown => None,
        });
        if let Some(ordinal) = known {
            debug!(topic = name, %ordinal, "a topic is known to another broker and not here yet");
            return self.wait_for(name, PAGE_MAX, deadline).await.map_err(|failure| {
                if !is_missing(&failure) {
                    return failure;
                }
                let message =
                    format!("broker {ordinal} knows topic {name:?}, this one has not been told of it yet");
                Failure::new(ErrorReason::NotServing, message).with("topic", name)
            });
        }
        let is_attended = *self.shared.attached.borrow();
        match failure.reason {
            ErrorReason::UnknownTopic if is_attended || !told.is_empty() => Err(failure),
            ErrorReason::UnknownTopic => Err(Failure::new(
                ErrorReason::NotServing,
                format!(
                    "there is no topic {name:?} in the table that this broker kept, and neither an operator nor another \
                     broker is there to tell whether that is still true"
                ),
            )
            .with("topic", name)),
            _ if is_attended => self.wait_for(name, FIRST_PAGE_MAX, deadline).await.map_err(|failure| {
                if self.directory().pages().next().is_some() {
                    return failure;
                }
                let message = format!("there is no topic {name:?}: there are none at all");
                Failure::new(ErrorReason::UnknownTopic, message).with("topic", name)
            }),
            _ => Err(failure),
        }
    }

    /// Until this broker was told which topics there are, or it is certain that there are none.
    pub(super) async fn told_of_topics(&self, deadline: Instant) -> Result<(), Failure> {
        let mut directory = self.shared.directory.clone();
        let told = directory.wait_for(|directory| directory.pages().next().is_some());
        let until = deadline.min(Instant::now() + FIRST_PAGE_MAX).into();
        let is_told = matches!(timeout_at(until, told).await, Ok(Ok(_)));
        if is_told || *self.shared.attached.borrow() {
            return Ok(());
        }
        Err(lookup::not_told())
    }

    /// What the brokers say that answer: a dead one must not keep a program from learning that its topic is not there.
    async fn ask_others(&self, name: &str) -> Vec<Told> {
        let others = self.shared.brokers.all().into_iter().map(|known| known.ordinal);
        let asked = others.filter(|ordinal| *ordinal != self.me()).map(async |ordinal| {
            let asking = async {
                let mut client = LogClient::new(self.shared.channels.to(ordinal).await.ok()?);
                let request = MetadataRequest { topics: vec![name.to_owned()], ..MetadataRequest::default() };
                let answer = client.metadata(forward::marked(request)).await.ok()?.into_inner();
                let topic = answer.topics.into_iter().find(|topic| topic.name == name)?;
                match topic.error.map(|error| error.reason()) {
                    None | Some(ErrorReason::TopicRetained) => Some(Told::Known(ordinal)),
                    Some(ErrorReason::UnknownTopic) => Some(Told::Unknown),
                    // It has no table itself.
                    Some(_) => None,
                }
            };
            timeout(ANSWER_MAX, asking).await.ok().flatten()
        });
        futures::future::join_all(asked).await.into_iter().flatten().collect()
    }

    /// Looks again whenever the table changes.
    async fn wait_for(
        &self,
        name: &str,
        wait_max: Duration,
        deadline: Instant,
    ) -> Result<Arc<TopicRecord>, Failure> {
        let until = deadline.min(Instant::now() + wait_max).into();
        let mut directory = self.shared.directory.clone();
        loop {
            directory.mark_unchanged();
            let verdict = self.topic(name);
            if !verdict.as_ref().is_err_and(is_missing) {
                return verdict;
            }
            if !matches!(timeout_at(until, directory.changed()).await, Ok(Ok(()))) {
                return self.topic(name);
            }
        }
    }
}

/// Whether more may be known elsewhere.
fn is_missing(failure: &Failure) -> bool {
    matches!(failure.reason, ErrorReason::UnknownTopic | ErrorReason::NotServing)
}

/// What a broker that is asked for a topic of ours says if it was not told of it yet: it will be.
pub(super) fn behind(ordinal: Ordinal, failure: Failure) -> Failure {
    if failure.reason != ErrorReason::UnknownTopic {
        return failure;
    }
    let message = format!("broker {ordinal}, which leads, has not been told of the topic yet");
    Failure::new(ErrorReason::NotServing, message)
}
