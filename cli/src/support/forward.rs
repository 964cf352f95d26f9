//! A way to a pod's ports from here: `kubectl port-forward`.
//!
//! Owns the process. Not the API server's proxy: that comes from outside of the pod, where a NetworkPolicy may end it, and the log level is
//! told only inside.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Child;

use crate::kubectl::{Kubectl, KubectlError, in_a_line};

/// A pod that does not answer its API server in this time is left out.
const PATIENCE: Duration = Duration::from_secs(20);

/// Ports of a pod on loopback, until it is dropped.
pub(super) struct Forward {
    _kubectl: Child,
    ports: BTreeMap<u16, u16>,
}

impl Forward {
    /// Opens a way to these ports of a pod.
    pub(super) async fn open(
        kubectl: &Kubectl,
        namespace: &str,
        pod: &str,
        ports: &[u16],
    ) -> Result<Self, KubectlError> {
        let pod = format!("pod/{pod}");
        let asked: Vec<String> = ports.iter().map(|port| format!(":{port}")).collect();
        let mut arguments = vec!["--namespace", namespace, "port-forward", "--address=127.0.0.1", &pod];
        arguments.extend(asked.iter().map(String::as_str));
        let mut child = kubectl.spawn(&arguments)?;
        match tokio::time::timeout(PATIENCE, opened(&mut child, ports.len())).await {
            Ok(Ok(ports)) => Ok(Self { _kubectl: child, ports }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(KubectlError::TimedOut(PATIENCE)),
        }
    }

    /// Where a port of the pod is.
    pub(super) fn address(&self, port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.get(&port).copied().unwrap_or(port)).into()
    }
}

/// Reads on until it has told of so many ports.
async fn opened(child: &mut Child, count: usize) -> Result<BTreeMap<u16, u16>, KubectlError> {
    let mut ports = BTreeMap::new();
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    while ports.len() < count {
        let Ok(Some(line)) = lines.next_line().await else {
            let mut said = Vec::new();
            let stderr = child.stderr.take().expect("it is piped");
            // A line or two; what it says is all there is to tell.
            let _short = stderr.take(16 * 1024).read_to_end(&mut said).await;
            return Err(KubectlError::Failed(in_a_line(&said)));
        };
        ports.extend(told(&line));
    }
    // It tells of each connection: nobody reads that, and a pipe that is full would stop it.
    let mut stderr = child.stderr.take().expect("it is piped");
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    tokio::spawn(async move { tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await });
    Ok(ports)
}

/// `Forwarding from 127.0.0.1:40001 -> 8080`, as (8080, 40001).
fn told(line: &str) -> Option<(u16, u16)> {
    let (from, to) = line.strip_prefix("Forwarding from ")?.split_once(" -> ")?;
    Some((to.trim().parse().ok()?, from.rsplit_once(':')?.1.parse().ok()?))
}

#[cfg(test)]
#[path = "forward_tests.rs"]
mod tests;
