//! The pods of brokers. A pod's status is what kubelet told last: one whose process was killed just now, or whose node was lost, says that
//! it is Ready until that is noticed, and has an address where nobody is. So what is waited for here is the process, too.

use anyhow::{Context, Result, ensure};

use crate::brokers::{Brokers, NAME, READY_WITHIN};
use crate::installation::is_ready;
use crate::nodes::{Process, Signal};
use crate::wait;

impl Brokers {
    /// The name of a broker's pod.
    pub fn pod(ordinal: u32) -> String {
        format!("{NAME}-{ordinal}")
    }

    /// A broker's address now; it changes with its pod, and when its node was away.
    pub fn pod_ip(&self, ordinal: u32) -> Result<String> {
        let ip = self.kubectl(&["get", "pod", &Self::pod(ordinal), "-o", "jsonpath={.status.podIP}"])?;
        ensure!(!ip.is_empty(), "{} has no address yet", Self::pod(ordinal));
        Ok(ip)
    }

    /// The node that a broker is on.
    pub fn node(&self, ordinal: u32) -> Result<String> {
        let node = self.kubectl(&["get", "pod", &Self::pod(ordinal), "-o", "jsonpath={.spec.nodeName}"])?;
        ensure!(!node.is_empty(), "{} is on no node yet", Self::pod(ordinal));
        Ok(node)
    }

    /// How many brokers the Cluster asks for.
    pub fn count(&self) -> Result<u32> {
        let count = self.kubectl(&["get", &format!("flc/{NAME}"), "-o", "jsonpath={.spec.replicas}"])?;
        count.parse().with_context(|| format!("the Cluster's replicas are {count:?}"))
    }

    /// A broker's process on its node.
    pub fn process(&self, ordinal: u32) -> Result<Process> {
        self.environment.nodes()?.process(self.environment, self.namespace, &Self::pod(ordinal), "broker")
    }

    /// Kills a broker's process, and waits until its next one is Ready: until kubelet has noticed, the pod says that it is.
    pub fn kill_and_await(&self, ordinal: u32) -> Result<()> {
        let killed = self.process(ordinal)?;
        killed.send(Signal::Kill)?;
        let what = format!("another process of {}", Self::pod(ordinal));
        wait::until_so(&what, READY_WITHIN, || Ok(self.process(ordinal)? != killed))?;
        self.await_pod(ordinal)
    }

    /// Deletes a broker's pod, and waits until the next one is Ready. (`kubectl delete` itself waits for ever if the pod was gone when it
    /// looked, and is back.)
    pub fn replace_pod(&self, ordinal: u32) -> Result<()> {
        let before = self.pod_uid(ordinal)?;
        let pod = Self::pod(ordinal);
        self.kubectl(&["delete", "pod", &pod, "--wait=false", "--ignore-not-found"])?;
        self.await_other_pod(ordinal, &before)
    }

    /// Waits until a broker's pod is another one than `before`, and Ready.
    pub fn await_other_pod(&self, ordinal: u32, before: &str) -> Result<()> {
        wait::until_so(&format!("another {}", Self::pod(ordinal)), READY_WITHIN, || {
            let now = self.pod_uid(ordinal)?;
            Ok(!now.is_empty() && now != before)
        })?;
        self.await_pod(ordinal)
    }

    /// Which pod it is; empty if there is none just now.
    pub fn pod_uid(&self, ordinal: u32) -> Result<String> {
        let uid = ["--ignore-not-found", "-o", "jsonpath={.metadata.uid}"];
        self.kubectl(&[&["get", "pod", &Self::pod(ordinal)], &uid[..]].concat())
    }

    /// Waits until a broker's pod is Ready, and its process runs.
    pub fn await_pod(&self, ordinal: u32) -> Result<()> {
        wait::until(&format!("{} is Ready", Self::pod(ordinal)), READY_WITHIN, || {
            self.check_up(ordinal).map(Some)
        })
    }

    /// Waits until a broker's pod is Ready, and its process runs: of every broker.
    pub fn await_pods(&self) -> Result<()> {
        (0..self.count()?).try_for_each(|ordinal| self.await_pod(ordinal))
    }

    /// An error unless a broker's pod is Ready, is not about to go, and has a process where that can be seen.
    pub(crate) fn check_up(&self, ordinal: u32) -> Result<()> {
        let pod = self.get(&format!("pod/{}", Self::pod(ordinal)))?;
        ensure!(is_ready(&pod), "{} is not Ready", Self::pod(ordinal));
        ensure!(pod["metadata"]["deletionTimestamp"].is_null(), "{} is about to go", Self::pod(ordinal));
        if self.environment.nodes().is_ok() {
            self.process(ordinal)?;
        }
        Ok(())
    }

    /// Waits until a change of the brokers' template, such as `kubectl rollout restart`, has reached every broker, and all are up. What
    /// the Cluster's condition says a moment after the change may be what it said before.
    pub fn await_rolled(&self) -> Result<()> {
        let stateful_set = format!("statefulset/{NAME}");
        wait::until_so("every broker is of the newest template", READY_WITHIN * 2, || {
            let set = self.get(&stateful_set)?;
            let is_seen = set["metadata"]["generation"] == set["status"]["observedGeneration"];
            let newest = &set["status"]["updateRevision"];
            for ordinal in 0..self.count()? {
                let pod = self.get(&format!("pod/{}", Self::pod(ordinal)))?;
                let revision = &pod["metadata"]["labels"]["controller-revision-hash"];
                ensure!(revision == newest, "{} is of template {revision}, not {newest}", Self::pod(ordinal));
            }
            Ok(is_seen)
        })?;
        self.await_pods()
    }
}
