//! The Service that programs connect to.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::cluster::validate::Wanted;
use crate::names::{PORT_GRPC, PORT_HTTP, PORT_TCP};

/// The Service.
pub(super) fn build(wanted: &Wanted) -> Service {
    let port = |name: &str, port: i32, speaks: &str| ServicePort {
        name: Some(name.to_owned()),
        port,
        target_port: Some(IntOrString::String(name.to_owned())),
        protocol: Some("TCP".to_owned()),
        app_protocol: Some(speaks.to_owned()),
        ..ServicePort::default()
    };
    Service {
        metadata: wanted.key.child_metadata(wanted.key.child(), &wanted.uid),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(wanted.key.selector()),
            ports: Some(vec![
                port("grpc", PORT_GRPC, "kubernetes.io/h2c"),
                port("http", PORT_HTTP, "http"),
                port("tcp", PORT_TCP, "tcp"),
            ]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}
