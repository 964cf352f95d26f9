//! A way to a pod's ports from here: one `kubectl port-forward`.
//!
//! Owns the process, from its start to its end. Not the API server's proxy: that comes from outside of the pod, where a NetworkPolicy may end it, and the log level is
//! told only inside.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Child;

use crate::kubectl::{Kubectl, KubectlError, in_a_line};

/// Ports of a pod on loopback, until it is closed; dropped, it ends, too, but nobody waits for that.
pub(crate) struct Forward {
    kubectl: Child,
    ports: BTreeMap<u16, u16>,
}

impl Forward {
    /// Opens a way to these ports of `target`, which is `pod/NAME`, or `service/NAME` for any of its pods; `place` are arguments that say
    /// in which namespace. It is up within `patience`, or given up.
    pub(crate) async fn open(
        kubectl: &Kubectl,
        place: &[&str],
        target: &str,
        ports: &[u16],
        patience: Duration,
    ) -> Result<Self, KubectlError> {
        let asked: Vec<String> = ports.iter().map(|port| format!(":{port}")).collect();
        let mut arguments = [place, &["port-forward", "--address=127.0.0.1", target]].concat();
        arguments.extend(asked.iter().map(String::as_str));
        let mut child = kubectl.spawn(&arguments)?;
        let opened = tokio::time::timeout(patience, opened(&mut child, ports.len())).await;
        let failed = match opened {
            Ok(Ok(ports)) => return Ok(Self { kubectl: child, ports }),
            Ok(Err(error)) => error,
            Err(_) => KubectlError::TimedOut(patience),
        };
        let _ended = child.kill().await;
        Err(failed)
    }

    /// Whether kubectl still runs. It ends by itself when it notices that its pod is gone.
    pub(crate) fn lives(&mut self) -> bool {
        matches!(self.kubectl.try_wait(), Ok(None))
    }

    /// Ends kubectl, and waits until it has ended: in a container whose first process looks after no others, it would stay as a zombie.
    pub(crate) async fn close(mut self) {
        let _ended = self.kubectl.kill().await;
    }

    /// Where a port of the pod is.
    pub(crate) fn address(&self, port: u16) -> SocketAddr {
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
