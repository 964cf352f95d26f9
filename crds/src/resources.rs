//! What a broker's container requests and may use.
//!
//! Owns the fields and their rules. Never: how a broker divides its memory.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Requests and limits of a broker's container.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.limits.cpu) || !isQuantity(self.limits.cpu) || !isQuantity(self.requests.cpu) || !quantity(self.limits.cpu).isLessThan(quantity(self.requests.cpu))")
        .message(Message::Expression("'the limit of cpu %s is less than the request %s'.format([self.limits.cpu, self.requests.cpu])".into()))
        .field_path(".limits.cpu"),
    validation = Rule::new("!has(self.limits.memory) || !isQuantity(self.limits.memory) || !isQuantity(self.requests.memory) || !quantity(self.limits.memory).isLessThan(quantity(self.requests.memory))")
        .message(Message::Expression("'the limit of memory %s is less than the request %s'.format([self.limits.memory, self.requests.memory])".into()))
        .field_path(".limits.memory")
)]
pub struct Resources {
    /// What a node must have free to run a broker.
    #[serde(default)]
    pub requests: ResourceRequests,

    /// What a broker may use at most.
    #[serde(default)]
    pub limits: ResourceLimits,
}

/// What a node must have free.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ResourceRequests {
    /// Processor time, in cores or thousandths of one, such as "2" or 250m.
    #[serde(default = "cpu_default")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9]{1,6}([.][0-9]{1,3})?$|^[0-9]{1,9}m$') && quantity(self).isGreaterThan(quantity('0'))")
        .message("must be a positive number of cores in quotes, such as \"2\" or 250m"))]
    pub cpu: String,

    /// Memory: a quantity of bytes of at least 128Mi, such as 512Mi or 2Gi.
    #[serde(default = "memory_default")]
    #[schemars(length(min = 1, max = 24))]
    #[x_kube(validation = Rule::new("self.matches('^[1-9][0-9]{0,17}([kMGTPE]|[KMGTPE]i)?$') && !quantity(self).isLessThan(quantity('128Mi')) && !quantity(self).isGreaterThan(quantity('1Ei'))")
        .message("must be a quantity of bytes from 128Mi to 1Ei, such as 512Mi or 2Gi"))]
    pub memory: String,
}

impl Default for ResourceRequests {
    fn default() -> Self {
        Self { cpu: cpu_default(), memory: memory_default() }
    }
}

/// What a broker may use at most.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ResourceLimits {
    /// Processor time, in cores or thousandths of one, such as "2" or 500m. When it is absent there is no limit, and a
    /// broker uses what its node has to spare. A limit delays heartbeats under load: rather leave it absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9]{1,6}([.][0-9]{1,3})?$|^[0-9]{1,9}m$') && quantity(self).isGreaterThan(quantity('0'))")
        .message("must be a positive number of cores in quotes, such as \"2\" or 500m"))]
    pub cpu: Option<String>,

    /// Memory: a quantity of bytes, such as 512Mi or 2Gi. When it is absent it is what is requested. The broker sizes its
    /// buffers from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 24))]
    #[x_kube(validation = Rule::new("self.matches('^[1-9][0-9]{0,17}([kMGTPE]|[KMGTPE]i)?$') && !quantity(self).isLessThan(quantity('128Mi')) && !quantity(self).isGreaterThan(quantity('1Ei'))")
        .message("must be a quantity of bytes from 128Mi to 1Ei, such as 512Mi or 2Gi"))]
    pub memory: Option<String>,
}

fn cpu_default() -> String {
    "250m".to_owned()
}

fn memory_default() -> String {
    "512Mi".to_owned()
}
