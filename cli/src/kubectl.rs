//! Kubernetes, through the caller's own `kubectl`.
//!
//! Owns how it is called, which namespace is meant, and what bounds a call. A program of the caller's and no library: it knows the ways into a cluster that the
//! caller has (plugins for credentials, proxies, contexts), acts with the caller's rights and no others, and costs this binary nothing.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

/// A list of ten thousand Topics takes an API server some seconds; one that does not answer is not waited for.
const PATIENCE: Duration = Duration::from_mins(1);
/// What kubectl has to say of a failure, in the words of the API server: a few lines.
const SAID_BYTES_MAX: u64 = 16 * 1024;

/// The flags by which Kubernetes is asked: those of kubectl itself, and which one it is.
#[derive(Debug, Clone, Args)]
pub(crate) struct Kubectl {
    /// The namespace [default: that of the context]
    #[arg(short, long, global = true, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) namespace: Option<String>,
    /// The context of the kubeconfig [default: the current one]
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,
    /// The kubeconfig [default: as kubectl finds it]
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The kubectl that is run, with your kubeconfig and your rights
    #[arg(
        id = "kubectl",
        long = "kubectl",
        global = true,
        value_name = "PROGRAM",
        env = "FULMAR_KUBECTL",
        default_value = "kubectl"
    )]
    program: PathBuf,
}

/// What is made of output that is longer than is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    /// Half of a JSON document is none: it is refused.
    Whole(usize),
    /// Of a log the newest lines are kept.
    End(usize),
}

/// Why kubectl gave nothing.
#[derive(Debug, Error)]
pub(crate) enum KubectlError {
    #[error("{} cannot be run: {error}; --kubectl says which kubectl it is", program.display())]
    Missing { program: PathBuf, error: std::io::Error },
    #[error("kubectl did not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    #[error("it has more than {0} bytes")]
    TooLarge(usize),
    #[error("{0}")]
    Failed(String),
}

impl KubectlError {
    /// Whether it is the API server's word that there is no object of this name; `resource` as there, in the plural.
    pub(crate) fn is_not_found(&self, resource: &str, name: &str) -> bool {
        matches!(self, Self::Failed(said) if said.contains(&format!("{resource} {name:?} not found")))
    }
}

impl Kubectl {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(context) = &self.context {
            command.arg(format!("--context={context}"));
        }
        if let Some(kubeconfig) = &self.kubeconfig {
            command.arg("--kubeconfig").arg(kubeconfig);
        }
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
    }

    /// The namespace as arguments; none, and kubectl takes that of the context.
    pub(crate) fn place(&self) -> Vec<&str> {
        self.namespace.iter().flat_map(|namespace| ["--namespace", namespace]).collect()
    }

    /// Starts it, with both outputs piped; dropped, it is killed.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Result<Child, KubectlError> {
        self.command(arguments)
            .spawn()
            .map_err(|error| KubectlError::Missing { program: self.program.clone(), error })
    }

    /// Runs it to its end and gives what it printed.
    pub(crate) async fn run(&self, arguments: &[&str], bound: Bound) -> Result<Vec<u8>, KubectlError> {
        let mut child = self.spawn(arguments)?;
        let stdout = child.stdout.take().expect("it is piped");
        let mut stderr = child.stderr.take().expect("it is piped").take(SAID_BYTES_MAX);
        let mut said = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, async {
            let (printed, _) = tokio::join!(read(stdout, bound), stderr.read_to_end(&mut said));
            // Whoever reads no further must not wait for who still writes.
            let status = if printed.is_ok() { child.wait().await.ok() } else { None };
            (printed, status)
        });
        let (printed, status) = ended.await.map_err(|_| KubectlError::TimedOut(PATIENCE))?;
        let printed = printed?;
        match status {
            Some(status) if status.success() => Ok(printed),
            _ => Err(KubectlError::Failed(in_a_line(&said))),
        }
    }
}

async fn read(mut output: impl AsyncRead + Unpin, bound: Bound) -> Result<Vec<u8>, KubectlError> {
    let mut bytes = Vec::new();
    let failed = |error: std::io::Error| KubectlError::Failed(error.to_string());
    match bound {
        Bound::Whole(max) => {
            let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
            output.take(limit).read_to_end(&mut bytes).await.map_err(failed)?;
            if bytes.len() > max { Err(KubectlError::TooLarge(max)) } else { Ok(bytes) }
        }
        Bound::End(max) => {
            let mut chunk = vec![0; 64 * 1024];
            loop {
                let length = output.read(&mut chunk).await.map_err(failed)?;
                if length == 0 {
                    return Ok(end(bytes, max));
                }
                bytes.extend_from_slice(&chunk[..length]);
                // Twice as much before it is moved: moving costs as much as reading then, and no more. One byte too many stays, by which
                // it is known in the end that the first line is half of one.
                if bytes.len() > 2 * max {
                    bytes.drain(..bytes.len() - max - 1);
                }
            }
        }
    }
}

/// The last `max` bytes at most, from the beginning of a line.
pub(crate) fn end(mut bytes: Vec<u8>, max: usize) -> Vec<u8> {
    if bytes.len() > max {
        bytes.drain(..bytes.len() - max);
        let line = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        bytes.drain(..line);
    }
    bytes
}

/// What kubectl said, in one line.
pub(crate) fn in_a_line(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() { "kubectl failed and said nothing".to_owned() } else { lines.join("; ") }
}

#[cfg(test)]
#[path = "kubectl_tests.rs"]
pub(crate) mod tests;
