//! The Secrets of a Cluster, read by name: the operator has no right to list Secrets, so there is no watch to tell.

use std::time::{Duration, Instant};

use fulmar_core::control::{BrokerState, BrokerView};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use crate::api::find;
use crate::certificates::{Certificates, Kept, worn};
use crate::cluster::build::kept;
use crate::cluster::validate::Wanted;
use crate::cluster::{Attendant, ReconcileError};
use crate::pods::BrokerPod;

/// What was read is believed for so long: a Secret that somebody deletes is made anew at the latest then.
const BELIEVED: Duration = Duration::from_secs(50);

/// Both Secrets as they were read last.
pub(super) struct StoredSecrets {
    /// The CA's.
    pub(super) ca: Option<Secret>,
    /// The brokers'.
    pub(super) tls: Option<Secret>,
    read: Instant,
}

impl StoredSecrets {
    /// How long it is still believed.
    pub(super) fn until_read_again(&self) -> Duration {
        BELIEVED.saturating_sub(self.read.elapsed())
    }

    /// Whether what is stored is what is to be used.
    pub(super) fn have(&self, certificates: &Certificates) -> bool {
        let is_stored = |secret: &Option<Secret>, wanted: &Kept| {
            secret.as_ref().is_some_and(|secret| kept(secret).data == wanted.data)
        };
        is_stored(&self.ca, &certificates.ca) && is_stored(&self.tls, &certificates.brokers)
    }
}

impl Attendant {
    /// The certificates of the Cluster: those that are stored, with what is missing or old issued anew.
    pub(super) async fn certificates(&mut self, wanted: &Wanted) -> Result<Certificates, ReconcileError> {
        let believed = self.secrets.take().filter(|stored| stored.read.elapsed() < BELIEVED);
        let stored = if let Some(stored) = believed { stored } else { self.read_secrets(wanted).await? };
        let (ca, tls) = (stored.ca.as_ref().map(kept), stored.tls.as_ref().map(kept));
        self.secrets = Some(stored);
        let acknowledged = tls.as_ref().is_some_and(|tls| self.is_worn(tls, wanted.settings.replicas));
        let in_use = tls.is_some();
        let authority = ca.as_ref().map(|ca| ca.data.clone());
        let certificates = Certificates::current(ca, tls, acknowledged, jiff::Timestamp::now())?;
        if in_use && authority.as_ref() != Some(&certificates.ca.data) {
            let note =
                "the CA was lost or is old: another one takes its place, brokers trust both until all use it";
            self.story.tell(wanted.reference(), false, "CaReplaced", note.to_owned());
        }
        Ok(certificates)
    }

    /// Has kubelet bring the Secret at once to the brokers that use an older one. Not in the pass that wrote it: kubelet hears
    /// of the Secret and of the pod by two watches, and should know the Secret first.
    pub(super) async fn refresh(&mut self, wanted: &Wanted, pods: &[BrokerPod], certificates: &Certificates) {
        let in_place = self.secrets.as_ref().is_some_and(|stored| stored.have(certificates));
        if wanted.settings.paused || !in_place {
            return;
        }
        let (view, namespace) = (self.view(), &wanted.key.namespace);
        self.told.tell(&self.context.client, namespace, &certificates.brokers, pods, view.as_deref()).await;
    }

    /// Whether every broker that is wanted serves, and uses what the Secret keeps.
    fn is_worn(&self, tls: &Kept, wanted: u16) -> bool {
        let (Some(view), worn) = (self.view(), worn(tls)) else { return false };
        let wears = |broker: &&BrokerView| {
            broker.ordinal.0 < wanted && broker.state == BrokerState::Serving && broker.certificates == worn
        };
        view.brokers.iter().filter(wears).count() == usize::from(wanted)
    }

    async fn read_secrets(&self, wanted: &Wanted) -> Result<StoredSecrets, ReconcileError> {
        let api: Api<Secret> = Api::namespaced(self.context.client.clone(), &wanted.key.namespace);
        let ca = find("read the Secret of the CA", api.get(&wanted.key.ca_secret())).await?;
        let tls = find("read the Secret of the brokers", api.get(&wanted.key.tls_secret())).await?;
        Ok(StoredSecrets { ca, tls, read: Instant::now() })
    }
}
