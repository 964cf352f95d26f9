//! The gRPC services: reading requests, calling the door, writing answers.

mod admin;
mod fetch;
pub mod fuzzed;
mod log;
mod produce;
mod pubsub;
mod relay;

use std::time::{Duration, Instant};

use axum::Router;
use fulmar_proto::v1::admin_server::AdminServer;
use fulmar_proto::v1::log_server::LogServer;
use fulmar_proto::v1::pub_sub_server::PubSubServer;
use tonic::metadata::MetadataMap;
use tonic::service::{Routes, RoutesBuilder};
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthService;

pub(super) use self::log::NAMES_MAX;
use super::inflow::Received;
use super::listen::Caller;
use super::outflow::Outflow;
use super::{DEADLINE_DEFAULT, DEADLINE_MAX, Door, FORWARDED};
use fulmar_core::batch::BATCH_BYTES_MAX;

/// The largest request of a program: the largest batch and its envelope.
pub const REQUEST_BYTES_MAX: usize = BATCH_BYTES_MAX + 64 * 1024;
/// The largest answer: a piece of about a mebibyte, or one largest batch.
const ANSWER_BYTES_MAX: usize = 2 * BATCH_BYTES_MAX;

/// Adds the services for programs, as they stand on both gRPC ports.
pub fn services(routes: &mut RoutesBuilder, door: &Door) {
    routes
        .add_service(
            PubSubServer::new(door.clone())
                .max_decoding_message_size(REQUEST_BYTES_MAX)
                .max_encoding_message_size(ANSWER_BYTES_MAX),
        )
        .add_service(
            LogServer::new(door.clone())
                .max_decoding_message_size(REQUEST_BYTES_MAX)
                .max_encoding_message_size(ANSWER_BYTES_MAX),
        )
        .add_service(AdminServer::new(door.clone()));
}

/// The port for programs: the services, health and reflection.
pub fn for_programs(door: &Door, health: HealthService) -> Result<Router, tonic_reflection::server::Error> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(fulmar_proto::v1::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let mut routes = Routes::builder();
    services(&mut routes, door);
    routes
        .add_service(HealthServer::new(health))
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?);
    Ok(routes.routes().into_axum_router())
}

/// Whether a broker passed the request on. The mark of anybody else means nothing.
fn is_forwarded<T>(request: &tonic::Request<T>) -> bool {
    let by_broker = request.extensions().get::<Caller>().is_some_and(|caller| caller.is_broker);
    by_broker && request.metadata().contains_key(FORWARDED)
}

/// The connection that a program's stream of answers goes to; brokers' have no share of their own.
fn outflow_of<T>(request: &tonic::Request<T>) -> Option<Outflow> {
    request.extensions().get::<Outflow>().cloned()
}

/// The memory of a request that arrived.
fn received<T>(request: &tonic::Request<T>) -> Received {
    request.extensions().get::<Received>().cloned().unwrap_or_default()
}

/// When a call is over.
fn deadline(metadata: &MetadataMap) -> Instant {
    let asked = metadata.get("grpc-timeout").and_then(|text| text.to_str().ok()).and_then(grpc_timeout);
    Instant::now() + asked.unwrap_or(DEADLINE_DEFAULT).min(DEADLINE_MAX)
}

/// As gRPC writes it: up to eight digits and a unit.
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok().filter(|_| (1..=8).contains(&number.len()))?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        assert_eq!(grpc_timeout("100m"), Some(Duration::from_millis(100)));
        assert_eq!(grpc_timeout("5S"), Some(Duration::from_secs(5)));
        for wrong in ["", "m", "5", "123456789S", "5x", "-1S"] {
            assert_eq!(grpc_timeout(wrong), None, "{wrong}");
        }
    }
}
