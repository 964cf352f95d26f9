//! The steward of one Cluster: started when its certificates are in place, told what is wished and where brokers are,
//! stopped when the Cluster is gone.
//!
//! Owns the steward's life. Never: what it decides.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fulmar_core::control::{ControlEvent, Desired, View};
use fulmar_core::id::Ordinal;
use fulmar_steward::{Credentials, DocumentName, Ledger, Revision, Sighting, Steward, StewardConfig};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Client;
use tokio::sync::{mpsc, watch};

use crate::certificates::{Certificates, IssueError};
use crate::ledger::KubernetesLedger;
use crate::metrics::Metrics;
use crate::names::{ClusterKey, PORT_GRPC, PORT_INTERNAL};
use crate::pods::BrokerPod;

/// A wish is taken for known to the controller after so long: it takes it up in the order in which it is told, at once.
const TAKEN_UP: Duration = Duration::from_secs(1);

/// A steward at work.
pub struct Stewardship {
    steward: Steward,
    /// What the controller says.
    pub view: watch::Receiver<Arc<View>>,
    /// What is worth an Event.
    pub events: mpsc::Receiver<ControlEvent>,
    desired: Option<Desired>,
    desired_at: Instant,
    sightings: Vec<Sighting>,
    shown: BTreeMap<DocumentName, Revision>,
    /// The CAs that it trusts, and the one that had signed the brokers' certificate.
    trusted: String,
    signer: String,
    owner: Option<OwnerReference>,
    renew_at: Timestamp,
}

impl Stewardship {
    /// Starts a steward, with a certificate of its own.
    ///
    /// # Errors
    /// The certificate cannot be issued.
    pub fn start(
        client: Client,
        key: &ClusterKey,
        certificates: &Certificates,
        owner: Option<OwnerReference>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, IssueError> {
        let identity = certificates.operator(Timestamp::now())?;
        let ledger = KubernetesLedger::new(client, key.clone(), metrics, owner.clone());
        let credentials = Credentials {
            ca: identity.ca.clone().into(),
            certificate: identity.certificate.into(),
            key: identity.key.into(),
        };
        let ledger: Arc<dyn Ledger> = Arc::new(ledger);
        let mut steward = Steward::start(StewardConfig::new(credentials), ledger);
        Ok(Self {
            view: steward.view(),
            events: steward.events(),
            steward,
            desired: None,
            desired_at: Instant::now(),
            sightings: Vec::new(),
            shown: BTreeMap::new(),
            trusted: identity.ca,
            signer: certificates.signer().to_owned(),
            owner,
            renew_at: identity.renew_at,
        })
    }

    /// Whether another one should take its place: its task has ended, its certificate is old, brokers show another CA's, a CA is
    /// trusted no more, or the table is to have another owner (every tenure writes every page anew). While brokers only
    /// begin to trust another CA it goes on with the certificate that they all believe.
    pub fn is_outdated(
        &self,
        certificates: &Certificates,
        owner: Option<&OwnerReference>,
        now: Timestamp,
    ) -> bool {
        self.view.has_changed().is_err()
            || now >= self.renew_at
            || self.signer != certificates.signer()
            || !certificates.trusts_all_of(&self.trusted)
            || self.owner.as_ref() != owner
    }

    /// Tells what is wished, if that is another wish than before.
    pub fn desire(&mut self, desired: Desired) {
        if self.desired.as_ref() != Some(&desired) {
            self.steward.desire(desired.clone());
            self.desired = Some(desired);
            self.desired_at = Instant::now();
        }
    }

    /// How long to wait until the view is one of the last wish; `None`: it is.
    pub fn until_taken_up(&self) -> Option<Duration> {
        TAKEN_UP.checked_sub(self.desired_at.elapsed()).filter(|left| !left.is_zero())
    }

    /// Tells where the brokers are, if that has changed.
    pub fn sight(&mut self, pods: &[BrokerPod]) {
        let sightings: Vec<Sighting> = pods.iter().filter_map(sighting).collect();
        if self.sightings != sightings {
            self.steward.sightings(sightings.clone());
            self.sightings = sightings;
        }
    }

    /// Tells which documents of the table the watch shows, if that has changed.
    pub fn show(&mut self, shown: BTreeMap<DocumentName, Revision>) {
        if self.shown != shown {
            self.steward.shown(shown.clone());
            self.shown = shown;
        }
    }

    /// Ends it; what is under way is given up.
    pub async fn stop(self) {
        self.steward.stop().await;
    }
}

/// A pod without an address cannot be dialled; without a claim it is not known whose volume it has.
fn sighting(pod: &BrokerPod) -> Option<Sighting> {
    let address = pod.address?;
    Some(Sighting {
        ordinal: Ordinal(pod.ordinal),
        internal: SocketAddr::new(address, u16::try_from(PORT_INTERNAL).expect("a port")),
        client: SocketAddr::new(address, u16::try_from(PORT_GRPC).expect("a port")).to_string(),
        zone: pod.zone.clone(),
        volume_uid: pod.volume.clone()?,
        running: pod.running,
    })
}
