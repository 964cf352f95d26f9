//! What network policies let through, judged as Kubernetes' documentation defines them (networking.k8s.io/v1), from the policies and
//! pods as the API server has them.
//!
//! Owns the judgement alone. Nobody enforces policies in the cluster of the tests, so no packet shows it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::{Selector, SelectorExt};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::environment::Environment;

type Labels = BTreeMap<String, String>;

/// One end of a flow.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// A pod.
    Pod(&'a Pod),
    /// A machine that is no pod: a node, the API server, the world.
    Outside,
}

/// To which port, and by which protocol.
#[derive(Clone, Copy, Debug)]
pub struct Port {
    /// Its number.
    pub number: u16,
    /// `TCP` or `UDP`.
    pub protocol: &'static str,
}

/// All policies and namespaces of a cluster at one moment.
#[derive(Debug)]
pub struct Policies {
    policies: Vec<NetworkPolicy>,
    namespaces: BTreeMap<String, Labels>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    fn name(self) -> &'static str {
        match self {
            Self::Ingress => "Ingress",
            Self::Egress => "Egress",
        }
    }
}

/// One rule of either direction: peers and ports.
type Rule<'a> = (Option<&'a Vec<NetworkPolicyPeer>>, Option<&'a Vec<NetworkPolicyPort>>);

impl Policies {
    /// As the API server has them now.
    pub fn get(environment: &Environment) -> Result<Self> {
        let namespaces: Vec<Namespace> = list(environment, &["namespaces"])?;
        let labels = |namespace: Namespace| {
            let metadata = namespace.metadata;
            (metadata.name.unwrap_or_default(), metadata.labels.unwrap_or_default())
        };
        Ok(Self {
            policies: list(environment, &["networkpolicies", "--all-namespaces"])?,
            namespaces: namespaces.into_iter().map(labels).collect(),
        })
    }

    /// The same, with one that is not there, or instead of the one of its name.
    pub fn with(&mut self, policy: NetworkPolicy) {
        let key = |policy: &NetworkPolicy| (policy.metadata.namespace.clone(), policy.metadata.name.clone());
        self.policies.retain(|known| key(known) != key(&policy));
        self.policies.push(policy);
    }

    /// Whether the policies let a connection through: those of its source, and those of its target.
    pub fn allow(&self, from: End<'_>, to: End<'_>, port: Port) -> Result<bool> {
        let leaves = self.one_side(Direction::Egress, from, to, to, port)?;
        Ok(leaves && self.one_side(Direction::Ingress, to, from, to, port)?)
    }

    /// `of`: whose policies; `peer`: the other end; `target`: where the port is.
    fn one_side(
        &self,
        way: Direction,
        of: End<'_>,
        peer: End<'_>,
        target: End<'_>,
        port: Port,
    ) -> Result<bool> {
        let End::Pod(pod) = of else { return Ok(true) };
        let mut is_selected = false;
        for policy in &self.policies {
            let spec = policy.spec.as_ref().context("a policy has a spec")?;
            // The API server writes down what a missing list stands for.
            let types = spec.policy_types.as_ref().context("a stored policy has policyTypes")?;
            let same_namespace = policy.metadata.namespace == pod.metadata.namespace;
            if !same_namespace || !selects(spec.pod_selector.as_ref(), labels(pod))? {
                continue;
            }
            if !types.iter().any(|name| name == way.name()) {
                continue;
            }
            is_selected = true;
            let rules: Vec<Rule<'_>> = match way {
                Direction::Ingress => spec
                    .ingress
                    .iter()
                    .flatten()
                    .map(|rule| (rule.from.as_ref(), rule.ports.as_ref()))
                    .collect(),
                Direction::Egress => {
                    spec.egress.iter().flatten().map(|rule| (rule.to.as_ref(), rule.ports.as_ref())).collect()
                }
            };
            for (peers, ports) in rules {
                if self.any_peer(policy, peers, peer)? && any_port(ports, target, port) {
                    return Ok(true);
                }
            }
        }
        Ok(!is_selected)
    }

    /// No list, or an empty one, is everybody.
    fn any_peer(
        &self,
        policy: &NetworkPolicy,
        peers: Option<&Vec<NetworkPolicyPeer>>,
        end: End<'_>,
    ) -> Result<bool> {
        let Some(peers) = peers.filter(|peers| !peers.is_empty()) else { return Ok(true) };
        for peer in peers {
            ensure!(peer.ip_block.is_none(), "an ipBlock, which is not judged here: {peer:?}");
            let End::Pod(pod) = end else { continue };
            let namespace = pod.metadata.namespace.as_ref().context("a pod has a namespace")?;
            let is_of_namespace = match &peer.namespace_selector {
                None => policy.metadata.namespace.as_ref() == Some(namespace),
                some => {
                    let labels = self.namespaces.get(namespace);
                    selects(some.as_ref(), labels.with_context(|| format!("no namespace {namespace}"))?)?
                }
            };
            // Without a selector of pods: all of those namespaces.
            if is_of_namespace && selects(peer.pod_selector.as_ref(), labels(pod))? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// No list, or an empty one, is every port.
fn any_port(ports: Option<&Vec<NetworkPolicyPort>>, target: End<'_>, asked: Port) -> bool {
    let Some(ports) = ports.filter(|ports| !ports.is_empty()) else { return true };
    for port in ports {
        if port.protocol.as_deref().unwrap_or("TCP") != asked.protocol {
            continue;
        }
        let first = match &port.port {
            None => return true,
            Some(IntOrString::Int(number)) => Some(*number),
            Some(IntOrString::String(name)) => named(target, name, asked.protocol),
        };
        let Some(first) = first else { continue };
        if (first..=port.end_port.unwrap_or(first)).contains(&i32::from(asked.number)) {
            return true;
        }
    }
    false
}

fn named(target: End<'_>, name: &str, protocol: &str) -> Option<i32> {
    let End::Pod(pod) = target else { return None };
    let mut ports =
        pod.spec.as_ref()?.containers.iter().flat_map(|container| container.ports.iter().flatten());
    let fits = ports.find(|port| {
        port.name.as_deref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol
    });
    fits.map(|port| port.container_port)
}

/// No selector, or an empty one, is everything.
pub(crate) fn selects(selector: Option<&LabelSelector>, labels: &Labels) -> Result<bool> {
    let Some(selector) = selector else { return Ok(true) };
    Ok(Selector::try_from(selector.clone())?.matches(labels))
}

fn labels(pod: &Pod) -> &Labels {
    static NONE: Labels = Labels::new();
    pod.metadata.labels.as_ref().unwrap_or(&NONE)
}

/// All objects of a list, as `kubectl get` is asked for them.
pub fn list<T: DeserializeOwned>(environment: &Environment, arguments: &[&str]) -> Result<Vec<T>> {
    let listed = environment.get_json(arguments)?;
    let items = listed["items"].as_array().context("a list")?;
    items.iter().map(|item: &Value| Ok(serde_json::from_value(item.clone())?)).collect()
}
