//! Which of several operators acts: a Lease, renewed twice a second.
//!
//! Owns the election and nothing that follows from it. A Lease does not fence: an operator that was paused may believe for
//! a moment that it still holds it. What fences is the partition table's controllerEpoch, raised by compare-and-swap.
//!
//! An API server that asks to wait (429) is asked again all the same: whoever waited would lose the Lease, and an election costs more.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use crate::api::{ApiError, call_within};
use crate::names::{FIELD_MANAGER, OPERATOR};

/// Who stands for election, and where.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The pod's name, and something that a restarted container does not share with its predecessor.
    pub identity: String,
    /// Where the Lease is.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// After so long without renewal others may take over.
    pub duration: Duration,
    /// How often it is renewed, and how often others look whether it was.
    pub renewal: Duration,
}

/// The Lease, held.
#[derive(Debug)]
pub struct Held {
    candidate: Candidate,
    api: Api<Lease>,
    lease: Lease,
    renewed: Instant,
}

/// What was seen of another's Lease: it is over when it has not changed for its duration *by our own clock*; clocks of
/// other machines say nothing.
struct Seen {
    version: Option<String>,
    over_at: Instant,
}

impl Candidate {
    /// The time that one attempt may take: an API server that is slow loses nobody the Lease, and one attempt that fails does not.
    fn attempt_max(&self) -> Duration {
        self.duration / 3
    }

    /// Waits until the Lease is ours.
    pub async fn elected(self, client: &Client) -> Held {
        let api: Api<Lease> = Api::namespaced(client.clone(), &self.namespace);
        let mut seen = Seen { version: None, over_at: Instant::now() };
        let mut told = None;
        loop {
            match self.attempt(&api, &mut seen).await {
                Ok(Attempt::Won(lease)) => {
                    let renewed = Instant::now();
                    tracing::info!(identity = %self.identity, lease = %self.name, "elected");
                    return Held { candidate: self, api, lease: *lease, renewed };
                }
                Ok(Attempt::HeldBy(holder)) => {
                    if told.as_ref() != Some(&holder) {
                        tracing::info!(%holder, lease = %self.name, "waiting: another operator acts");
                        told = Some(holder);
                    }
                }
                Err(error) if error.is_conflict() => {}
                Err(error) => {
                    tracing::warn!(%error, lease = %self.name, "cannot stand for election, trying again");
                }
            }
            tokio::time::sleep(self.pause(&seen)).await;
        }
    }

    /// Until the next look: no longer than the Lease that was seen can hold.
    fn pause(&self, seen: &Seen) -> Duration {
        let left = seen.over_at.saturating_duration_since(Instant::now());
        if left.is_zero() { self.renewal } else { left.min(self.renewal) }
    }

    async fn attempt(&self, api: &Api<Lease>, seen: &mut Seen) -> Result<Attempt, ApiError> {
        let found = match call_within("read the Lease", self.attempt_max(), api.get(&self.name)).await {
            Ok(lease) => lease,
            Err(error) if error.is_not_found() => {
                let (parameters, lease) = (parameters(), self.write(None));
                let created = api.create(&parameters, &lease);
                let lease = call_within("create the Lease", self.attempt_max(), created).await?;
                return Ok(Attempt::Won(Box::new(lease)));
            }
            Err(error) => return Err(error),
        };
        let spec = found.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.unwrap_or_default();
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        if found.metadata.resource_version != seen.version {
            let duration = seconds.map_or(self.duration, Duration::from_secs);
            let version = found.metadata.resource_version.clone();
            *seen = Seen { version, over_at: Instant::now() + duration };
        }
        if !holder.is_empty() && holder != self.identity && Instant::now() < seen.over_at {
            return Ok(Attempt::HeldBy(holder));
        }
        let (parameters, lease) = (parameters(), self.write(Some(&found)));
        let written = api.replace(&self.name, &parameters, &lease);
        call_within("take the Lease", self.attempt_max(), written)
            .await
            .map(|lease| Attempt::Won(Box::new(lease)))
    }

    /// The Lease as ours, over `found`, with its resourceVersion: whoever is slower gets a conflict.
    fn write(&self, found: Option<&Lease>) -> Lease {
        let now = MicroTime(Timestamp::now());
        let before = found.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let ours = before.holder_identity.as_deref() == Some(self.identity.as_str());
        let transitions = before.lease_transitions.unwrap_or_default();
        let metadata = found.map_or_else(
            || ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.namespace.clone()),
                labels: Some([("app.kubernetes.io/name".to_owned(), OPERATOR.to_owned())].into()),
                ..ObjectMeta::default()
            },
            |lease| ObjectMeta { managed_fields: None, ..lease.metadata.clone() },
        );
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(self.duration.as_secs()).unwrap_or(i32::MAX)),
            acquire_time: if ours { before.acquire_time } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(if ours || found.is_none() {
                transitions
            } else {
                transitions.saturating_add(1)
            }),
            ..LeaseSpec::default()
        };
        Lease { metadata, spec: Some(spec) }
    }
}

enum Attempt {
    Won(Box<Lease>),
    HeldBy(String),
}

/// The Lease is no longer ours, or may not be.
#[derive(Debug, thiserror::Error)]
#[error("the Lease {name} was lost: {why}")]
pub struct Lost {
    name: String,
    why: String,
}

impl Held {
    /// Renews until the Lease is lost: somebody else has it, or it could not be renewed in time to be certain.
    pub async fn until_lost(&mut self) -> Lost {
        let name = self.candidate.name.clone();
        loop {
            tokio::time::sleep(self.candidate.renewal).await;
            match self.renew().await {
                Ok(lease) => {
                    self.lease = lease;
                    self.renewed = Instant::now();
                }
                Err(error) if error.is_conflict() || error.is_not_found() => match self.reread().await {
                    Ok(true) => {}
                    Ok(false) => return Lost { name, why: "another operator holds it".to_owned() },
                    Err(error) => tracing::warn!(%error, "cannot read the Lease"),
                },
                Err(error) => tracing::info!(%error, "cannot renew the Lease, trying again"),
            }
            // One attempt's time before others may take it: what is under way must have ended by then.
            if self.renewed.elapsed() + self.candidate.attempt_max() >= self.candidate.duration {
                let why = format!("it was last renewed {} ms ago", self.renewed.elapsed().as_millis());
                return Lost { name, why };
            }
        }
    }

    /// Gives it back, so that another need not wait. What comes of it does not matter.
    pub async fn release(mut self) {
        if let Some(spec) = &mut self.lease.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
        }
        self.lease.metadata.managed_fields = None;
        let parameters = parameters();
        let written = self.api.replace(&self.candidate.name, &parameters, &self.lease);
        if let Err(error) = call_within("release the Lease", self.candidate.attempt_max(), written).await {
            tracing::debug!(%error, "the Lease was not released");
        }
    }

    async fn renew(&self) -> Result<Lease, ApiError> {
        let (parameters, lease) = (parameters(), self.candidate.write(Some(&self.lease)));
        let written = self.api.replace(&self.candidate.name, &parameters, &lease);
        call_within("renew the Lease", self.candidate.attempt_max(), written).await
    }

    /// After a conflict: an earlier renewal of ours may have got through though its answer did not. Whether it is ours.
    async fn reread(&mut self) -> Result<bool, ApiError> {
        let read =
            call_within("read the Lease", self.candidate.attempt_max(), self.api.get(&self.candidate.name))
                .await;
        match read {
            Ok(lease) => {
                let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
                let ours = holder == Some(self.candidate.identity.as_str());
                self.lease = lease;
                Ok(ours)
            }
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn parameters() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
