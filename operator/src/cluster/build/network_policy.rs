//! The network policy: ingress only. Programs reach 50051, 8080 and 9001; the port of mutual TLS is for brokers and the operator,
//! gossip for brokers.

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::cluster::build::selector;
use crate::cluster::validate::Wanted;
use crate::names::{LABEL_NAME, OPERATOR, PORT_GOSSIP, PORT_GRPC, PORT_HTTP, PORT_INTERNAL, PORT_TCP};

/// The policy.
pub(super) fn build(wanted: &Wanted) -> NetworkPolicy {
    let programs = NetworkPolicyIngressRule {
        // From anywhere: who may publish is not the network's to decide, and probes come from nodes.
        from: None,
        ports: Some(vec![port(PORT_GRPC, "TCP"), port(PORT_HTTP, "TCP"), port(PORT_TCP, "TCP")]),
    };
    let inside = NetworkPolicyIngressRule {
        from: Some(vec![brokers(wanted), operator(wanted)]),
        ports: Some(vec![port(PORT_INTERNAL, "TCP")]),
    };
    let gossip = NetworkPolicyIngressRule {
        from: Some(vec![brokers(wanted)]),
        ports: Some(vec![port(PORT_GOSSIP, "UDP")]),
    };
    NetworkPolicy {
        metadata: wanted.key.child_metadata(wanted.key.child(), &wanted.uid),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(selector(wanted)),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![programs, inside, gossip]),
            egress: None,
        }),
    }
}

fn brokers(wanted: &Wanted) -> NetworkPolicyPeer {
    NetworkPolicyPeer { pod_selector: Some(selector(wanted)), ..NetworkPolicyPeer::default() }
}

fn operator(wanted: &Wanted) -> NetworkPolicyPeer {
    let labels = |key: &str, value: &str| LabelSelector {
        match_labels: Some([(key.to_owned(), value.to_owned())].into()),
        ..LabelSelector::default()
    };
    NetworkPolicyPeer {
        namespace_selector: Some(labels("kubernetes.io/metadata.name", &wanted.operator_namespace)),
        pod_selector: Some(labels(LABEL_NAME, OPERATOR)),
        ..NetworkPolicyPeer::default()
    }
}

fn port(port: i32, protocol: &str) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(port)),
        protocol: Some(protocol.to_owned()),
        ..NetworkPolicyPort::default()
    }
}
