//! `Control.Attend`: the operator's stream. Decisions come down, and are kept before they are acted on; reports go up.
//!
//! Owns hellos, pages and reports. Never decides anything, and needs no operator to go on with what it was told.

mod pages;
mod reports;
mod session;

use std::pin::Pin;
use std::sync::Arc;

use fulmar_core::broker::Conclusion;
use fulmar_proto::internal::v1::control_server::Control;
use fulmar_proto::internal::v1::{FromBroker, FromOperator};
use futures::Stream;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::{error, info};

pub use self::pages::{Pages, StoredEpochs};
use crate::brokers::Brokers;
use crate::gossip::Gossip;
use crate::replica::Replicas;
use crate::replica::peers::{Peers, Verdict};
use crate::serve::listen::Caller;
use crate::tls::Tls;

/// Messages for the operator that wait for its socket. Beyond it reports wait (and are merged meanwhile).
const OUTBOX_MAX: usize = 16;

/// The tenure that is attended, and how to end its stream.
#[derive(Debug)]
struct Tenure {
    controller_epoch: u64,
    number: u64,
    end: CancellationToken,
}

/// Serves the operator; a handle that can be cloned.
#[derive(Debug, Clone)]
pub struct Attendance {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    replicas: Replicas,
    pages: Pages,
    brokers: Brokers,
    gossip: Arc<Gossip>,
    peers: Peers,
    tls: Tls,
    tenure: Mutex<Option<Tenure>>,
    attached: watch::Sender<bool>,
    /// The operator that spoke last refuses this volume for ever.
    refused: watch::Sender<bool>,
    /// Set when the broker was told to stop.
    stopping: watch::Receiver<bool>,
    verdicts: mpsc::Sender<Verdict>,
}

/// What an attendance is made of.
#[derive(Debug)]
pub struct Parts {
    /// The replicas.
    pub replicas: Replicas,
    /// Pages of the table.
    pub pages: Pages,
    /// The address book.
    pub brokers: Brokers,
    /// For the zone, and the view that goes up.
    pub gossip: Arc<Gossip>,
    /// Of the connections to whom the operator hears.
    pub peers: Peers,
    /// The certificates, of which the operator hears which are in use.
    pub tls: Tls,
    /// Becomes true when the broker was told to stop.
    pub stopping: watch::Receiver<bool>,
    /// Where a verdict over this process goes.
    pub verdicts: mpsc::Sender<Verdict>,
}

impl Attendance {
    /// Nobody attends yet.
    pub fn new(parts: Parts) -> Self {
        let Parts { replicas, pages, brokers, gossip, peers, tls, stopping, verdicts } = parts;
        let (attached, _) = watch::channel(false);
        let (refused, _) = watch::channel(false);
        let tenure = Mutex::new(None);
        Self {
            shared: Arc::new(Shared {
                replicas,
                pages,
                brokers,
                gossip,
                peers,
                tls,
                tenure,
                attached,
                refused,
                stopping,
                verdicts,
            }),
        }
    }

    /// Whether an operator is attached.
    pub fn attached(&self) -> watch::Receiver<bool> {
        self.shared.attached.subscribe()
    }

    /// Whether the operator refuses this volume for ever. It stays as it is while no operator speaks.
    pub fn refused(&self) -> watch::Receiver<bool> {
        self.shared.refused.subscribe()
    }

    /// The operator has said why this volume is refused for ever, or that it is accepted.
    fn heed(&self, why: Option<&str>) {
        let is_refused = why.is_some();
        let has_changed = self.shared.refused.send_if_modified(|before| {
            let is_news = *before != is_refused;
            *before = is_refused;
            is_news
        });
        if let Some(why) = why.filter(|_| has_changed) {
            let volume = self.shared.replicas.me();
            error!(%volume, why, "the operator refuses this volume for ever; give this broker its own, or an empty one");
        } else if has_changed {
            info!("the operator refuses this volume no longer");
        }
    }

    /// Takes the place of an older stream, or is refused by a newer tenure.
    fn take_place(&self, controller_epoch: u64, number: u64, end: CancellationToken) -> Result<(), String> {
        let highest = self.shared.pages.controller_epoch();
        if controller_epoch < highest {
            return Err(format!("controllerEpoch {controller_epoch} is over: {highest} was seen"));
        }
        let mut tenure = self.shared.tenure.lock();
        if let Some(before) = tenure.take_if(|before| before.controller_epoch <= controller_epoch) {
            info!(
                controller_epoch = before.controller_epoch,
                "an operator's stream gives way to a newer one"
            );
            before.end.cancel();
        }
        if let Some(newer) = tenure.as_ref() {
            return Err(format!(
                "controllerEpoch {controller_epoch} is over: {} attends",
                newer.controller_epoch
            ));
        }
        *tenure = Some(Tenure { controller_epoch, number, end });
        self.shared.attached.send_replace(true);
        Ok(())
    }

    /// Whether the place was still this stream's.
    fn leave_place(&self, number: u64) -> bool {
        let mut tenure = self.shared.tenure.lock();
        let was_mine = tenure.take_if(|tenure| tenure.number == number).is_some();
        if was_mine {
            self.shared.attached.send_replace(false);
        }
        was_mine
    }

    async fn conclude(&self, conclusion: Conclusion) {
        // Fails only when the process is ending already.
        let _ending = self.shared.verdicts.send(Verdict(conclusion)).await;
    }
}

#[tonic::async_trait]
impl Control for Attendance {
    type AttendStream = Pin<Box<dyn Stream<Item = Result<FromBroker, Status>> + Send>>;

    async fn attend(
        &self,
        request: Request<Streaming<FromOperator>>,
    ) -> Result<Response<Self::AttendStream>, Status> {
        let is_operator = request.extensions().get::<Caller>().is_some_and(|caller| caller.is_operator);
        if !is_operator {
            return Err(Status::permission_denied(
                "only the operator attends: the certificate names another",
            ));
        }
        let (send, answers) = mpsc::channel(OUTBOX_MAX);
        tokio::spawn(session::run(self.clone(), request.into_inner(), send));
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}
