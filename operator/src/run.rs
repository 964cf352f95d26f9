//! The operator's process: puts the parts together, waits for the Lease, acts while it holds it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use kube::Client;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::clusters::Clusters;
use crate::config::Config;
use crate::context::Context;
use crate::events::Events;
use crate::http::{self, Told};
use crate::lease::{Candidate, Held};
use crate::metrics::Metrics;
use crate::statuses::Statuses;
use crate::watches::{self, Waker, Watches};
use crate::{api, census, lease};

/// How often it is asked whether the caches are filled, before anything is done.
const LISTING: Duration = Duration::from_millis(100);

/// How often states are counted for /metrics: ten thousand Topics take a millisecond.
const COUNTING: Duration = Duration::from_secs(5);

/// It calls every failed request an error; what fails is said where it is handled.
const NEVER_LOGGED: [&str; 1] = ["kube_client::client=off"];

/// Runs until a signal, or until the Lease is lost: then the process ends, and Kubernetes starts another one.
///
/// # Errors
/// What keeps it from starting, or why it lost the Lease.
pub fn run(config: Config) -> anyhow::Result<()> {
    fulmar_logging::install(config.log_format.into(), config.log_level.clone(), &NEVER_LOGGED);
    // Both kube and tonic take the process' provider of cryptography.
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another provider of cryptography is installed"))?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let outcome = runtime.block_on(operate(config));
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn operate(config: Config) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::new());
    let ready = Arc::new(AtomicBool::new(false));
    http::serve(config.http_address, Told { metrics: Arc::clone(&metrics), ready: Arc::clone(&ready) })
        .await?;
    let client = api::client().await.context("cannot find out how to reach the API server")?;
    let mut terminated = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut interrupted = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    let stop = async move {
        tokio::select! { _ = terminated.recv() => {}, _ = interrupted.recv() => {} }
    };
    tokio::pin!(stop);

    // The caches fill while others act: taking over is then a matter of the Lease alone.
    let clusters = Arc::new(Clusters::default());
    let caches = Arc::new(Watches::default());
    let waker: Arc<dyn Waker> = Arc::new(Arc::clone(&clusters));
    let _watches = watches::start(&client, &caches, &config.scopes(), config.read_nodes, &waker);
    let scopes = config.scopes();
    tokio::select! { () = until_listed(&caches, &scopes) => {}, () = &mut stop => return Ok(()) }
    ready.store(true, Ordering::Relaxed);
    tracing::info!(clusters = caches.clusters.len(), topics = caches.topics.len(), "caches are filled");

    let mut held = tokio::select! {
        held = candidate(&config).elected(&client) => held,
        () = &mut stop => return Ok(()),
    };
    let mut writers = JoinSet::new();
    let context = context(config, client, caches, metrics, &mut writers);
    context.metrics.leading.set(1);
    let outcome = act(&clusters, context, &mut held, stop).await;
    // First nobody acts any more, then the Lease is given back.
    clusters.end().await;
    writers.shutdown().await;
    if let Some(lost) = outcome {
        return Err(lost.into());
    }
    held.release().await;
    tracing::info!("stopped");
    Ok(())
}

async fn act(
    clusters: &Arc<Clusters>,
    context: Context,
    held: &mut Held,
    stop: impl Future<Output = ()>,
) -> Option<lease::Lost> {
    let (metrics, watches) = (Arc::clone(&context.metrics), Arc::clone(&context.watches));
    clusters.begin(context);
    let count = async {
        loop {
            metrics.clusters.set(i64::try_from(clusters.len()).unwrap_or(i64::MAX));
            census::take(&watches.clusters, &watches.topics, &metrics);
            tokio::time::sleep(COUNTING).await;
        }
    };
    tokio::select! {
        lost = held.until_lost() => Some(lost),
        () = stop => None,
        () = count => None,
    }
}

/// What writes in the background is one of `writers`.
fn context(
    config: Config,
    client: Client,
    watches: Arc<Watches>,
    metrics: Arc<Metrics>,
    writers: &mut JoinSet<()>,
) -> Context {
    Context {
        statuses: Statuses::start(client.clone(), Arc::clone(&metrics), writers),
        events: Events::start(client.clone(), config.pod_name.clone(), Arc::clone(&metrics), writers),
        client,
        watches,
        metrics,
        config: Arc::new(config),
        since: Instant::now(),
    }
}

async fn until_listed(watches: &Watches, scopes: &[Option<String>]) {
    while !watches.are_listed(scopes) {
        tokio::time::sleep(LISTING).await;
    }
}

fn candidate(config: &Config) -> Candidate {
    Candidate {
        identity: format!("{}_{}", config.pod_name, uuid::Uuid::new_v4()),
        namespace: config.pod_namespace.clone(),
        name: config.lease_name.clone(),
        duration: config.lease_duration(),
        renewal: config.lease_renewal(),
    }
}
