//! The brokers as processes: this very program again, with its hidden `broker run`, or another `fulmar-broker`.
//!
//! Owns starting, starting again after a death, and stopping them. Never looks inside: the controller does, by the
//! network, as it would in Kubernetes.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::ports::{BrokerPorts, loopback};

/// One that died starts again after this, longer each time it dies young.
const RESTART_AFTER: Duration = Duration::from_secs(1);
const RESTART_AFTER_MAX: Duration = Duration::from_secs(15);

/// Who lived longer did not die of its start.
const YOUNG: Duration = Duration::from_secs(10);

/// A broker closes its volume within its own grace; beyond it something hangs.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
const SHUTDOWN_GRACE: &str = "15s";

/// A laptop's disk need not hold the 192 MiB of journal that a server's does.
const JOURNAL_SLOT: &str = "16Mi";

/// A log file that is larger is put aside, in the place of the one before.
const LOG_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// How often its size is looked at: what a broker says in between comes on top.
const LOG_LOOK_EVERY: Duration = Duration::from_secs(2);

/// How to start one broker.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// A `fulmar-broker`; none: this program.
    pub(crate) program: Option<PathBuf>,
    pub(crate) name: String,
    pub(crate) ordinal: u16,
    pub(crate) ports: BrokerPorts,
    pub(crate) seeds: String,
    pub(crate) volume: PathBuf,
    pub(crate) tls: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) memory_limit: u64,
    /// Separated by commas; empty: none.
    pub(crate) cors_allow_origins: String,
    /// Where spans go.
    pub(crate) otlp_endpoint: Option<String>,
}

/// What happened to a broker.
#[derive(Debug)]
pub(crate) enum Happened {
    /// It runs.
    Started { ordinal: u16, pid: u32 },
    /// It ended by itself, and starts again after a while.
    Died { ordinal: u16, how: String, again_in: Duration },
    /// It cannot be started, and is tried again after a while.
    NotStarted { ordinal: u16, why: String, again_in: Duration },
    /// It was stopped, and stays so.
    Stopped { ordinal: u16 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Run,
    Stop,
    Kill,
}

/// See the module. Dropping it kills what still runs.
#[derive(Debug)]
pub(crate) struct Brokers {
    happened: mpsc::Sender<Happened>,
    running: BTreeMap<u16, (watch::Sender<Order>, JoinHandle<()>)>,
}

impl Brokers {
    pub(crate) fn new(happened: mpsc::Sender<Happened>) -> Self {
        Self { happened, running: BTreeMap::new() }
    }

    /// Starts a broker, unless it is there.
    pub(crate) fn start(&mut self, plan: Plan) {
        let happened = self.happened.clone();
        self.running.entry(plan.ordinal).or_insert_with(|| {
            let (order, orders) = watch::channel(Order::Run);
            (order, tokio::spawn(keep_running(Arc::new(plan), orders, happened)))
        });
    }

    /// Stops the brokers from `ordinal` on, in order; tells when each has stopped.
    pub(crate) fn stop_from(&mut self, ordinal: u16) {
        for (order, _) in self.running.split_off(&ordinal).into_values() {
            order.send_replace(Order::Stop);
        }
    }

    /// Waits until all have ended. To be called again if it was cancelled.
    pub(crate) async fn ended(&mut self) {
        while let Some(mut entry) = self.running.first_entry() {
            let _ = (&mut entry.get_mut().1).await;
            entry.remove();
        }
    }

    /// Tells all to stop, in order.
    pub(crate) fn stop_all(&self) {
        for (order, _) in self.running.values() {
            order.send_replace(Order::Stop);
        }
    }

    /// For somebody who cannot wait.
    pub(crate) fn kill_all(&self) {
        for (order, _) in self.running.values() {
            order.send_replace(Order::Kill);
        }
    }
}

/// Keeps one broker running until it is told to stop.
async fn keep_running(plan: Arc<Plan>, mut orders: watch::Receiver<Order>, happened: mpsc::Sender<Happened>) {
    let ordinal = plan.ordinal;
    let mut pause = RESTART_AFTER;
    loop {
        let started = Instant::now();
        let ended = match spawn(&plan) {
            Ok((child, stdin)) => {
                let _ = happened.send(Happened::Started { ordinal, pid: child.id().unwrap_or(0) }).await;
                let status = tokio::select! {
                    status = run(child, &mut orders) => status,
                    never = bound_log(&plan.log) => match never {},
                };
                drop(stdin);
                Some(status)
            }
            Err(error) => {
                let why = error.to_string();
                let _ = happened.send(Happened::NotStarted { ordinal, why, again_in: pause }).await;
                None
            }
        };
        if *orders.borrow() != Order::Run {
            let _ = happened.send(Happened::Stopped { ordinal }).await;
            return;
        }
        pause = if started.elapsed() < YOUNG { pause } else { RESTART_AFTER };
        if let Some(status) = ended {
            let how = obituary(&plan.log, status.as_ref());
            let _ = happened.send(Happened::Died { ordinal, how, again_in: pause }).await;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = told(&mut orders, &[Order::Stop, Order::Kill]) => {
                let _ = happened.send(Happened::Stopped { ordinal }).await;
                return;
            }
        }
        pause = (pause * 2).min(RESTART_AFTER_MAX);
    }
}

/// Waits until one of these is ordered.
async fn told(orders: &mut watch::Receiver<Order>, wanted: &[Order]) {
    if orders.wait_for(|order| wanted.contains(order)).await.is_err() {
        // Whoever gives orders has gone, and kills by dropping this task.
        std::future::pending::<()>().await;
    }
}

/// Waits for a broker's end: its own, or one that was ordered.
async fn run(mut child: Child, orders: &mut watch::Receiver<Order>) -> io::Result<ExitStatus> {
    let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    tokio::select! {
        status = child.wait() => return status,
        () = told(orders, &[Order::Stop, Order::Kill]) => {}
    }
    if let Some(pid) = pid {
        // It may be gone already; waiting for it says so.
        let _ = kill_process(pid, Signal::TERM);
    }
    tokio::select! {
        status = tokio::time::timeout(STOP_TIMEOUT, child.wait()) => if let Ok(status) = status { return status; },
        () = told(orders, &[Order::Kill]) => {}
    }
    child.kill().await?;
    child.wait().await
}

/// Starts the process. It stops by itself when its standard input ends: with this process, whatever kills it.
fn spawn(plan: &Plan) -> io::Result<(Child, Option<ChildStdin>)> {
    let ports = plan.ports;
    let log = open_log(&plan.log)?;
    let mut command = if let Some(program) = &plan.program {
        Command::new(program)
    } else {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["broker", "run"]);
        command
    };
    command
        .args(["--stop-with-stdin", "--name", &plan.name])
        .arg("--data")
        .arg(&plan.volume)
        .arg("--tls")
        .arg(&plan.tls)
        .args(["--grpc-address", &loopback(ports.grpc).to_string()])
        .args(["--http-address", &loopback(ports.http).to_string()])
        .args(["--tcp-address", &loopback(ports.tcp).to_string()])
        .args(["--internal-address", &loopback(ports.internal).to_string()])
        .args(["--gossip-address", &loopback(ports.gossip).to_string()])
        .args(["--advertise-host", "127.0.0.1", "--seeds", &plan.seeds])
        .args(["--memory-limit", &plan.memory_limit.to_string()])
        .args(["--journal-slot-size", JOURNAL_SLOT, "--shutdown-grace", SHUTDOWN_GRACE])
        .args(["--log-format", "text"])
        // The log is a file.
        .env("NO_COLOR", "1")
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        // Ctrl-C is for this process alone, which stops them in order.
        .process_group(0)
        .kill_on_drop(true);
    if !plan.cors_allow_origins.is_empty() {
        command.args(["--cors-allow-origins", &plan.cors_allow_origins]);
    }
    // The manifest alone says where spans go.
    command.env_remove("FULMAR_OTLP_ENDPOINT");
    if let Some(endpoint) = &plan.otlp_endpoint {
        command.args(["--otlp-endpoint", endpoint]);
    }
    let mut child = command.spawn()?;
    let stdin = child.stdin.take();
    Ok((child, stdin))
}

fn open_log(path: &Path) -> io::Result<File> {
    put_aside(path)?;
    OpenOptions::new().create(true).append(true).open(path)
}

/// Keeps the log of a running broker bounded.
async fn bound_log(path: &Path) -> Infallible {
    loop {
        tokio::time::sleep(LOG_LOOK_EVERY).await;
        // A log that cannot be cut is no reason to stop a broker; the next look tries again.
        let _ = put_aside(path);
    }
}

/// Copied and emptied, not renamed: who writes it appends to the same file, wherever its end is.
fn put_aside(path: &Path) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|file| file.len() > LOG_BYTES_MAX) {
        fs::copy(path, path.with_extension("log.old"))?;
        OpenOptions::new().write(true).open(path)?.set_len(0)?;
    }
    Ok(())
}

/// How it ended, and its last words.
fn obituary(log: &Path, status: Result<&ExitStatus, &io::Error>) -> String {
    use std::os::unix::process::ExitStatusExt;
    let how = match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("ended with code {code}"),
            (None, Some(signal)) => format!("was killed by signal {signal}"),
            (None, None) => "ended".to_owned(),
        },
        Err(error) => format!("is lost: {error}"),
    };
    let is_failure = status.is_ok_and(|status| status.code().is_some_and(|code| code != 0));
    match last_line(log).filter(|_| is_failure) {
        Some(line) => format!("{how}: {line}"),
        None => how,
    }
}

fn last_line(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let size = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(2048))).ok()?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).ok()?;
    let tail = String::from_utf8_lossy(&tail).into_owned();
    tail.lines().rev().find(|line| !line.trim().is_empty()).map(|line| line.trim().to_owned())
}

#[cfg(test)]
#[path = "brokers_tests.rs"]
mod tests;
