//! The way of spans to the collector: a bounded queue, and one task that sends what is in it.
//!
//! Owns what is lost: what a collector does not take, again and again, is counted and let go of.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{SpanExporter as Exporter, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::info;

use super::counts::Cause;
use super::{Collector, Counts, Traces};

/// Spans that wait: 1 to 2 KiB each, so at most 4 MiB of what no share of the memory stands for.
const QUEUE_MAX: usize = 2048;
/// Spans of one call; with the one above OpenTelemetry's own defaults.
const CALL_SPANS_MAX: usize = 512;
/// Spans of a trace come together, and one call is cheaper than four. Nobody looks at a trace sooner.
const GATHER: Duration = Duration::from_secs(1);
/// One call and what the exporter tries again of it: then it is given up, whatever the exporter waits for.
const EXPORT_MAX: Duration = Duration::from_secs(15);
/// A broker that stops sends what it has, if the collector is there. The volume is closed meanwhile.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// What sends spans.
#[derive(Debug)]
pub struct Exporting {
    end: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl Exporting {
    /// Sends what there is, and ends.
    pub async fn end(mut self) {
        self.end.cancel();
        // What the collector does not take by then is lost with the process.
        let _late = timeout(FAREWELL_MAX, &mut self.task).await;
    }
}

/// Begins to send spans of the broker of this name. An error: an environment variable of OpenTelemetry cannot be read.
pub fn start(collector: &Collector, broker: &str, counts: Counts) -> anyhow::Result<(Traces, Exporting)> {
    let mut exporter = Exporter::builder().with_tonic().with_channel(collector.channel()?).build()?;
    exporter.set_resource(&resource(broker));
    let (spans, queue) = mpsc::channel(QUEUE_MAX);
    let end = CancellationToken::new();
    let address = collector.to_string();
    let sender = Sender { exporter, address, counts: counts.clone(), is_failing: false };
    let task = AbortOnDropHandle::new(tokio::spawn(sender.run(queue, end.clone())));
    Ok((Traces::to(spans, counts), Exporting { end, task }))
}

/// Who tells. `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` have the last word, as everywhere.
fn resource(broker: &str) -> Resource {
    let named = std::env::var("OTEL_SERVICE_NAME").ok().filter(|name| !name.is_empty());
    let ours = [
        KeyValue::new("service.name", "fulmar-broker"),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", broker.to_owned()),
    ];
    Resource::builder_empty()
        .with_attributes(ours)
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_detector(Box::new(EnvResourceDetector::new()))
        .with_attributes(named.map(|name| KeyValue::new("service.name", name)))
        .build()
}

struct Sender<E> {
    exporter: E,
    address: String,
    counts: Counts,
    is_failing: bool,
}

impl<E: SpanExporter> Sender<E> {
    async fn run(mut self, mut queue: mpsc::Receiver<SpanData>, end: CancellationToken) {
        let mut spans = Vec::new();
        loop {
            tokio::select! {
                () = end.cancelled() => break,
                count = queue.recv_many(&mut spans, CALL_SPANS_MAX) => if count == 0 { return },
            }
            let until = Instant::now() + GATHER;
            while spans.len() < CALL_SPANS_MAX && !end.is_cancelled() {
                let left = CALL_SPANS_MAX - spans.len();
                let gathered = tokio::select! {
                    () = end.cancelled() => break,
                    gathered = timeout_at(until, queue.recv_many(&mut spans, left)) => gathered,
                };
                if !matches!(gathered, Ok(1..)) {
                    break;
                }
            }
            self.send(std::mem::take(&mut spans)).await;
        }
        queue.close();
        while queue.recv_many(&mut spans, CALL_SPANS_MAX).await > 0 {
            self.send(std::mem::take(&mut spans)).await;
        }
    }

    async fn send(&mut self, spans: Vec<SpanData>) {
        let count = spans.len();
        let sent = timeout(EXPORT_MAX, self.exporter.export(spans)).await;
        match sent.map_err(|_| format!("no answer within {EXPORT_MAX:?}")).and_then(told) {
            Ok(()) => {
                self.counts.exported(count);
                if std::mem::take(&mut self.is_failing) {
                    info!(collector = self.address, "the collector takes spans again");
                }
            }
            Err(reason) => {
                self.counts.dropped(Cause::Collector, count);
                // Said once, counted each time.
                if !std::mem::replace(&mut self.is_failing, true) {
                    info!(
                        collector = self.address,
                        reason, "the collector does not take spans; they are let go of"
                    );
                }
            }
        }
    }
}

fn told(result: OTelSdkResult) -> Result<(), String> {
    result.map_err(|error| error.to_string())
}
