//! What brokers and the operator say of themselves: metrics, readiness, log level; and the Cluster as each broker sees it.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use fulmar_client::Client;
use fulmar_logging::loopback;

use super::bundle::Bundle;
use crate::exit::Failed;
use crate::forward::Forward;
use crate::kubectl::Kubectl;
use crate::{status, topic};

const HTTP: u16 = 8080;
const GRPC: u16 = 50051;

/// No series is made for a topic or a client, so metrics are some 100 KiB.
const METRICS_BYTES_MAX: u64 = 8 << 20;
/// Each answer comes from memory; a broker that is stuck should not hold up the others for long.
const PATIENCE: Duration = Duration::from_secs(15);

/// A pod that does not answer its API server in this time is left out.
const FORWARD_WITHIN: Duration = Duration::from_secs(20);

/// What a broker answers on its HTTP port.
const OF_BROKER: [(&str, &str); 3] =
    [("/metrics", "metrics"), ("/readyz", "readyz"), ("/log-level", "log-level")];

/// Asks a broker for all that it tells.
pub(super) async fn ask_broker<W: Write>(
    kubectl: &Kubectl,
    namespace: &str,
    pod: &str,
    bundle: &mut Bundle<W>,
) -> io::Result<()> {
    let folder = format!("namespace/brokers/{pod}");
    let Some(forward) = opened(kubectl, namespace, pod, &[HTTP, GRPC], &folder, bundle).await else {
        return Ok(());
    };
    let told = over_http(forward.address(HTTP), &folder, bundle).await;
    bundle.doing(format!("the Cluster as {pod} sees it"));
    let views = views(forward.address(GRPC)).await;
    forward.close().await;
    told?;
    match views {
        Ok((cluster, topics)) => {
            bundle.text(&format!("{folder}/cluster-status.txt"), cluster.as_bytes())?;
            bundle.text(&format!("{folder}/topic-list.txt"), topics.as_bytes())
        }
        Err(error) => {
            bundle.missing(format!("{folder}/cluster-status.txt"), error);
            Ok(())
        }
    }
}

/// Asks an operator.
pub(super) async fn ask_operator<W: Write>(
    kubectl: &Kubectl,
    namespace: &str,
    pod: &str,
    bundle: &mut Bundle<W>,
) -> io::Result<()> {
    let folder = format!("operator/{pod}");
    match opened(kubectl, namespace, pod, &[HTTP], &folder, bundle).await {
        Some(forward) => {
            let told = over_http(forward.address(HTTP), &folder, bundle).await;
            forward.close().await;
            told
        }
        None => Ok(()),
    }
}

async fn opened<W: Write>(
    kubectl: &Kubectl,
    namespace: &str,
    pod: &str,
    ports: &[u16],
    folder: &str,
    bundle: &mut Bundle<W>,
) -> Option<Forward> {
    bundle.doing(format!("metrics of {pod}"));
    let (place, target) = (["--namespace", namespace], format!("pod/{pod}"));
    let opened = Forward::open(kubectl, &place, &target, ports, FORWARD_WITHIN).await;
    opened.map_err(|error| bundle.missing(folder, format!("kubectl port-forward: {error}"))).ok()
}

async fn over_http<W: Write>(address: SocketAddr, folder: &str, bundle: &mut Bundle<W>) -> io::Result<()> {
    for (path, file) in OF_BROKER {
        let asked = move || loopback::exchange(address, ("GET", path), "", METRICS_BYTES_MAX, PATIENCE);
        let answer = tokio::task::spawn_blocking(asked).await.map_err(io::Error::other)?;
        // A broker that is not ready says why, with a status of its own.
        let text = answer.and_then(|answer| match answer.status {
            200 => Ok(answer.body),
            503 if path == "/readyz" => Ok(answer.body),
            status => Err(io::Error::other(format!("{status}: {}", answer.body.trim_end()))),
        });
        bundle.text_or_gap(&format!("{folder}/{file}.txt"), text)?;
    }
    Ok(())
}

/// `fulmar cluster status` and `fulmar topic list`, of this broker.
async fn views(address: SocketAddr) -> Result<(String, String), Failed> {
    let server = format!("http://{address}");
    let client = Client::builder().server(&server).request_timeout(PATIENCE).connect().await?;
    let admin = client.admin();
    let cluster = admin.describe_cluster().await?;
    let topics = admin.topics().await?;
    Ok((status::as_table(&cluster) + "\n", topic::as_table(topics) + "\n"))
}
