//! The headless Service: a name for each broker in DNS, and the seeds of gossip.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::cluster::validate::Wanted;
use crate::names::{PORT_GOSSIP, PORT_GRPC, PORT_INTERNAL};

/// The Service.
pub(super) fn build(wanted: &Wanted) -> Service {
    let port = |name: &str, port: i32, protocol: &str, speaks: Option<&str>| ServicePort {
        name: Some(name.to_owned()),
        port,
        target_port: Some(IntOrString::String(name.to_owned())),
        protocol: Some(protocol.to_owned()),
        app_protocol: speaks.map(str::to_owned),
        ..ServicePort::default()
    };
    Service {
        metadata: wanted.key.child_metadata(wanted.key.brokers_service(), &wanted.uid),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            // Brokers find each other before any of them is ready: none becomes ready alone.
            publish_not_ready_addresses: Some(true),
            selector: Some(wanted.key.selector()),
            ports: Some(vec![
                port("grpc", PORT_GRPC, "TCP", Some("kubernetes.io/h2c")),
                // A mesh that wraps it again would break mutual TLS; `tcp` tells it to leave it alone.
                port("internal", PORT_INTERNAL, "TCP", Some("tcp")),
                port("gossip", PORT_GOSSIP, "UDP", None),
            ]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}
