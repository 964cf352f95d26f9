//! Volumes that are lost for good, and pods that are evicted: what people and nodes do to brokers by way of the API server.

use anyhow::{Result, bail};

use crate::brokers::{Brokers, READY_WITHIN};
use crate::environment::Environment;
use crate::nodes::Signal;
use crate::wait;

/// What became of a request for an eviction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eviction {
    /// The pod is told to end.
    Granted,
    /// The `PodDisruptionBudget` does not allow it now.
    Refused,
}

impl Brokers {
    /// Deletes these brokers' claims, and kills them: their volumes are erased. Returns when they have other claims.
    pub fn lose_volumes(&self, ordinals: &[u32]) -> Result<()> {
        let pods: Vec<String> = ordinals.iter().map(|ordinal| Self::pod(*ordinal)).collect();
        let mut claims = Vec::new();
        for pod in &pods {
            let claim = format!("data-{pod}");
            let uid = self.claim_uid(&claim)?;
            claims.push((pod, claim, uid));
        }
        let processes: Vec<_> =
            ordinals.iter().map(|ordinal| self.process(*ordinal)).collect::<Result<_>>()?;
        for (_, claim, _) in &claims {
            self.kubectl(&["delete", "pvc", claim, "--wait=false"])?;
        }
        let mut delete = vec!["delete", "pod", "--wait=false"];
        delete.extend(pods.iter().map(String::as_str));
        self.kubectl(&delete)?;
        for process in processes {
            // It may have ended by itself already.
            let _ = process.send(Signal::Kill);
        }
        for (pod, claim, uid) in &claims {
            wait::until_so(&format!("another {claim}"), READY_WITHIN, || {
                let now = self.claim_uid(claim)?;
                // A pod that was made while the old claim was still going waits for it, and is made anew. Not waited for: kubectl
                // waits for ever if the pod was gone just now, and is back.
                if now == *uid {
                    self.kubectl(&["delete", "pod", pod, "--wait=false", "--ignore-not-found"])?;
                }
                Ok(!now.is_empty() && now != *uid)
            })?;
        }
        Ok(())
    }

    fn claim_uid(&self, claim: &str) -> Result<String> {
        self.kubectl(&["get", "pvc", claim, "--ignore-not-found", "-o", "jsonpath={.metadata.uid}"])
    }

    /// Asks for a broker's eviction, as a drain does.
    pub fn evict(&self, ordinal: u32) -> Result<Eviction> {
        let (pod, namespace) = (Self::pod(ordinal), self.namespace());
        let eviction = format!(
            "{{\"apiVersion\": \"policy/v1\", \"kind\": \"Eviction\", \"metadata\": {{\"name\": \"{pod}\", \"namespace\": \"{namespace}\"}}}}"
        );
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/eviction");
        let file = self.path_of(&format!("eviction-{pod}.json"), &eviction)?;
        match Environment::get()?.kubectl(&["create", "--raw", &path, "-f", &file]) {
            Ok(_) => Ok(Eviction::Granted),
            Err(error) if format!("{error:#}").contains("disruption budget") => Ok(Eviction::Refused),
            Err(error) => bail!("eviction of {pod}: {error:#}"),
        }
    }
}
