//! One broker's stream, kept: dialled, greeted, listened to, and dialled again. Never judges what the broker says.

use std::net::SocketAddr;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use fulmar_core::control::{Disk, Greeting, Input};
use fulmar_core::id::Ordinal;
use fulmar_proto::internal::v1::control_client::ControlClient;
use fulmar_proto::internal::v1::from_broker::Message as Up;
use fulmar_proto::internal::v1::from_operator::Message as Down;
use fulmar_proto::internal::v1::{FromBroker, FromOperator, GossipView, Heartbeat, Links};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};
use tracing::{debug, info};

use crate::convert;
use crate::dial::{Credentials, dial};

/// Messages that wait for one broker. The controller has one page of each number under way, and in one look it may stop the
/// appends of every partition that the broker leads, or release as many: some tens of bytes each. A broker that lets more pile up
/// is greeted anew instead.
pub(crate) const DOWN_MAX: usize = 32_768;
/// Messages handed to the connection; beyond it they wait in the queue above.
const OUTBOX_MAX: usize = 64;
/// The broker judges a silent operator by these.
const HEARTBEAT_EVERY: Duration = Duration::from_millis(250);
/// A hello is answered at once, or the broker is not itself.
const HELLO_MAX: Duration = Duration::from_secs(5);
/// A broker whose connection takes nothing for so long is greeted anew.
const SEND_MAX: Duration = Duration::from_secs(5);
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// A broker that comes up is to be noticed within a second.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// A thousand reports with seven replicas each are some 900 KiB.
const MESSAGE_BYTES_MAX: usize = 8 << 20;

/// Where to dial and what to say first.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Raised when the stream that stands is to end and another to begin.
    pub(crate) number: u64,
    pub(crate) address: SocketAddr,
    pub(crate) greeting: Greeting,
}

/// What a stream brought, with the target's number that it was opened under.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) ordinal: Ordinal,
    pub(crate) number: u64,
    pub(crate) input: Input,
}

/// Keeps a stream to one broker until its engine drops the target.
pub(crate) struct Attendant {
    pub(crate) ordinal: Ordinal,
    pub(crate) credentials: Credentials,
    pub(crate) targets: watch::Receiver<Target>,
    pub(crate) downs: mpsc::Receiver<(u64, Down)>,
    pub(crate) heard: mpsc::Sender<Heard>,
}

/// Why a stream ended.
struct End {
    refused: bool,
    /// It stood: the next dial goes at once, for it tells whether the broker is there.
    stood: bool,
    message: String,
}

/// What a broker's heartbeats on this stream said last.
#[derive(Debug, Default)]
struct Said {
    /// The certificates that it uses.
    worn: String,
    /// Whom it hears by gossip.
    hears: Option<GossipView>,
    /// With whom it is connected.
    links: Option<Links>,
    /// How full its volume is.
    disk: Option<Disk>,
}

impl Said {
    /// A heartbeat carries what mostly is as it was: that becomes news only when it is not.
    fn news(&mut self, ordinal: Ordinal, heartbeat: Heartbeat) -> Vec<Input> {
        let mut inputs = Vec::new();
        if heartbeat.hears != self.hears {
            let alive = heartbeat.hears.as_ref().map(|view| ordinals(&view.alive)).unwrap_or_default();
            inputs.push(Input::Gossip { ordinal, alive });
            self.hears = heartbeat.hears;
        }
        if let Some(links) = heartbeat.links.filter(|links| self.links.as_ref() != Some(links)) {
            inputs.push(Input::Links { ordinal, linked: ordinals(&links.linked) });
            self.links = Some(links);
        }
        let disk = heartbeat.volume.map(convert::disk_from_proto);
        if let Some(disk) = disk.filter(|disk| self.disk.is_none_or(|said| differs(said, *disk))) {
            inputs.push(Input::Disk { ordinal, disk });
            self.disk = Some(disk);
        }
        inputs.push(Input::Heartbeat { ordinal, storage_rounds: heartbeat.storage_rounds });
        if heartbeat.certificates != self.worn {
            self.worn.clone_from(&heartbeat.certificates);
            inputs.push(Input::Certificates { ordinal, worn: heartbeat.certificates });
        }
        inputs
    }
}

impl End {
    fn new(message: impl Into<String>) -> Self {
        Self { refused: false, stood: true, message: message.into() }
    }
}

impl Attendant {
    /// Runs until the target's sender is gone.
    pub(crate) async fn run(mut self) {
        let backoff = || ExponentialBuilder::new().with_min_delay(BACKOFF_MIN).with_max_delay(BACKOFF_MAX);
        let backoff = || backoff().with_jitter().without_max_times().build();
        let mut delays = backoff();
        loop {
            let target = self.targets.borrow_and_update().clone();
            let mut targets = self.targets.clone();
            let end = tokio::select! {
                end = self.converse(&target) => end,
                changed = targets.wait_for(|other| other.number != target.number) => {
                    if changed.is_err() {
                        return;
                    }
                    delays = backoff();
                    continue;
                }
            };
            debug!(broker = self.ordinal.0, address = %target.address, why = end.message, "no stream");
            if end.stood {
                info!(broker = self.ordinal.0, why = end.message, "the stream to a broker ended");
                delays = backoff();
            }
            self.tell(target.number, Input::Lost { ordinal: self.ordinal, refused: end.refused }).await;
            let pause = if end.stood {
                Duration::ZERO
            } else {
                delays.next().unwrap_or(BACKOFF_MAX).min(BACKOFF_MAX)
            };
            tokio::select! {
                () = sleep(pause) => {}
                changed = targets.wait_for(|other| other.number != target.number) => {
                    if changed.is_err() {
                        return;
                    }
                    delays = backoff();
                }
            }
        }
    }

    async fn tell(&self, number: u64, input: Input) {
        // Fails only when the engine has ended, and then nobody wants to know.
        let _ended = self.heard.send(Heard { ordinal: self.ordinal, number, input }).await;
    }

    async fn converse(&mut self, target: &Target) -> End {
        let channel = match dial(target.address, &self.credentials).await {
            Ok(channel) => channel,
            Err(error) => return End { refused: error.refused, stood: false, message: error.message },
        };
        let (send, outbox) = mpsc::channel(OUTBOX_MAX);
        let greeting = self.targets.borrow().greeting.clone();
        let hello = Down::Hello(convert::hello_to_proto(self.ordinal, &greeting));
        if send.try_send(FromOperator { message: Some(hello) }).is_err() {
            return End::new("the outbox was closed before it was used");
        }
        let mut client = ControlClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let mut inbound = match timeout(HELLO_MAX, client.attend(ReceiverStream::new(outbox))).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return self.turned_away(target, &status).await,
            Err(_) => return End { stood: false, ..End::new("the call was not answered in time") },
        };
        let first = match timeout(HELLO_MAX, inbound.message()).await {
            Ok(Ok(Some(FromBroker { message: Some(Up::Hello(hello)) }))) => hello,
            Ok(Ok(_)) => return self.unfit(target, "its first message is not a hello".to_owned()).await,
            Ok(Err(status)) => return self.turned_away(target, &status).await,
            Err(_) => return End { stood: false, ..End::new("no hello came in time") },
        };
        match convert::hello_from_proto(&first) {
            Ok(hello) => self.tell(target.number, Input::Answered { ordinal: self.ordinal, hello }).await,
            Err(why) => return self.unfit(target, why).await,
        }
        self.pass_on(target, &mut inbound, &send).await
    }

    async fn unfit(&self, target: &Target, message: String) -> End {
        self.tell(target.number, Input::Unfit { ordinal: self.ordinal, message: message.clone() }).await;
        End { stood: false, ..End::new(message) }
    }

    /// The broker refuses this operator: people are told why. Anything else is a connection that broke.
    async fn turned_away(&self, target: &Target, status: &tonic::Status) -> End {
        if is_refusal(status) {
            return self.unfit(target, status.message().to_owned()).await;
        }
        End { stood: false, ..End::new(format!("{:?}: {}", status.code(), status.message())) }
    }

    /// Both ways, until something breaks.
    async fn pass_on(
        &mut self,
        target: &Target,
        inbound: &mut Streaming<FromBroker>,
        send: &mpsc::Sender<FromOperator>,
    ) -> End {
        let mut said = Said::default();
        let mut heartbeat = interval(HEARTBEAT_EVERY);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let down = tokio::select! {
                up = inbound.message() => match up {
                    Ok(Some(FromBroker { message: Some(up) })) => match self.read(up, &mut said) {
                        Ok(inputs) => {
                            for input in inputs {
                                self.tell(target.number, input).await;
                            }
                            continue;
                        }
                        Err(why) => return self.unfit(target, why).await,
                    },
                    Ok(Some(_)) => return self.unfit(target, "it sent an empty message".to_owned()).await,
                    Ok(None) => return End::new("the broker ended it"),
                    // A broker that refuses does so each time: the next dial waits, as behind one that does not answer.
                    Err(status) => {
                        return End { stood: !is_refusal(&status), ..self.turned_away(target, &status).await };
                    }
                },
                down = self.downs.recv() => match down {
                    Some((number, down)) if number == target.number => down,
                    Some(_) => continue, // For a stream that is gone.
                    None => return End::new("the steward ended"),
                },
                _ = heartbeat.tick() => Down::Heartbeat(Heartbeat::default()),
            };
            match timeout(SEND_MAX, send.send(FromOperator { message: Some(down) })).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return End::new("the connection broke"),
                Err(_) => return End::new("the broker takes no messages"),
            }
        }
    }

    fn read(&self, up: Up, said: &mut Said) -> Result<Vec<Input>, String> {
        let ordinal = self.ordinal;
        let unreadable = |error: convert::Unreadable| format!("its report cannot be read: {error}");
        let input = match up {
            Up::Hello(_) => return Err("it sent a second hello".to_owned()),
            Up::PageHeld(held) => Input::Held { ordinal, page: convert::held_from_proto(&held) },
            Up::Reports(reports) => Input::Reports {
                ordinal,
                request: reports.request,
                controller_epoch: reports.controller_epoch,
                topics: convert::topics_from_proto(&reports.topics).map_err(unreadable)?,
                complete: reports.complete,
                reports: reports
                    .reports
                    .into_iter()
                    .map(convert::report_from_proto)
                    .collect::<Result<_, _>>()
                    .map_err(unreadable)?,
            },
            Up::Heartbeat(heartbeat) => return Ok(said.news(ordinal, heartbeat)),
            Up::Stopping(_) => Input::Stopping(ordinal),
        };
        Ok(vec![input])
    }
}

/// Whether that is worth telling: one percent up and down again is not.
fn differs(said: Disk, disk: Disk) -> bool {
    (said.is_full, said.total_bytes) != (disk.is_full, disk.total_bytes)
        || said.used_percent.abs_diff(disk.used_percent) > 1
}

/// A number beyond an ordinal's names no broker.
fn ordinals(numbers: &[u32]) -> Vec<Ordinal> {
    numbers.iter().filter_map(|number| u16::try_from(*number).ok()).map(Ordinal).collect()
}

/// Whether the broker will have none of this operator.
fn is_refusal(status: &tonic::Status) -> bool {
    matches!(
        status.code(),
        Code::FailedPrecondition | Code::PermissionDenied | Code::Unauthenticated | Code::Unimplemented
    )
}

#[cfg(test)]
#[path = "attend_tests.rs"]
mod tests;
