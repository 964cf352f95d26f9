//! An OpenTelemetry collector that keeps what it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use super::eventually;

/// A span as a collector sees it: ids as hexadecimal digits, times in nanoseconds since 1970.
#[derive(Debug, Clone)]
pub struct Told {
    pub name: String,
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub start: u64,
    pub end: u64,
    pub is_error: bool,
    /// Its own, and those of who told it.
    pub attributes: BTreeMap<String, String>,
}

impl Told {
    pub fn is(&self, name: &str) -> bool {
        self.name == name
    }

    pub fn says(&self, attribute: &str, value: &str) -> bool {
        self.attributes.get(attribute).is_some_and(|said| said == value)
    }
}

#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<Vec<Told>>>);

/// A running one, on loopback.
pub struct Collector {
    pub address: SocketAddr,
    kept: Kept,
}

impl Collector {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (address, kept) = (listener.local_addr().unwrap(), Kept::default());
        let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(kept.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { address, kept }
    }

    /// Waits until it was told so.
    pub async fn told(&self, what: &str, holds: impl Fn(&[Told]) -> bool) -> Vec<Told> {
        let all = || self.kept.0.lock().unwrap().clone();
        eventually(what, async || holds(&all())).await;
        all()
    }
}

#[tonic::async_trait]
impl TraceService for Kept {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut all = self.0.lock().unwrap();
        for of_process in request.into_inner().resource_spans {
            let teller = texts(of_process.resource.unwrap_or_default().attributes);
            for span in of_process.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                let mut attributes = teller.clone();
                attributes.extend(texts(span.attributes));
                all.push(Told {
                    name: span.name,
                    trace: hexadecimal(&span.trace_id),
                    id: hexadecimal(&span.span_id),
                    parent: hexadecimal(&span.parent_span_id),
                    start: span.start_time_unix_nano,
                    end: span.end_time_unix_nano,
                    is_error: span.status.is_some_and(|status| status.code() == StatusCode::Error),
                    attributes,
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes.into_iter().map(|attribute| (attribute.key, text(attribute.value))).collect()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

/// The names of a trace's spans, each once.
pub fn names<'a>(spans: &'a [Told], trace: &str) -> BTreeSet<&'a str> {
    spans.iter().filter(|span| span.trace == trace).map(|span| span.name.as_str()).collect()
}
