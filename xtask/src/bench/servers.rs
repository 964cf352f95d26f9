//! Fulmar and its rivals as processes on loopback, each with a folder of its own; they end with the value that holds them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::ports::Block;
use crate::process;

/// Each takes less than a second; a machine that is busy with other builds needs its time.
const START_AT_MOST: Duration = Duration::from_mins(2);

/// A `fulmar dev` with one topic.
pub(super) struct Fulmar<'a> {
    pub(super) program: &'a Path,
    pub(super) replicas: u16,
    pub(super) base: u16,
    pub(super) topic: &'a str,
}

/// One server of NATS, or a cluster of them, with its streams.
pub(super) struct Nats<'a> {
    pub(super) program: &'a Path,
    pub(super) replicas: u16,
    pub(super) base: u16,
    /// `sync_interval`; its default syncs every two minutes.
    pub(super) sync: Option<&'a str>,
}

/// One server that syncs before it answers.
pub(super) struct Redis {
    pub(super) port: u16,
}

/// What runs.
#[derive(Default)]
pub(super) struct Servers {
    children: Vec<Child>,
    ports: Vec<Block>,
    fulmar: String,
    http: String,
    rivals: Vec<String>,
}

impl Drop for Servers {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may have ended by itself; then there is nothing to end.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Servers {
    /// Where `fulmar bench` finds the brokers.
    pub(super) fn fulmar(&self) -> &str {
        &self.fulmar
    }

    /// Where it publishes by HTTP.
    pub(super) fn http(&self) -> &str {
        &self.http
    }

    /// What it is compared with.
    pub(super) fn rivals(&self) -> &[String] {
        &self.rivals
    }

    /// Keeps ports as long as the servers run.
    pub(super) fn keep(&mut self, ports: impl IntoIterator<Item = Block>) {
        self.ports.extend(ports);
    }

    pub(super) fn start_fulmar(&mut self, fulmar: &Fulmar<'_>, folder: &Path) -> Result<()> {
        make(folder)?;
        let file = folder.join("bench.yaml");
        write(&file, &fulmar.resources())?;
        let mut command = bound(fulmar.program);
        command.arg("dev").arg("-f").arg(&file).arg("--data").arg(folder.join("data"));
        command.args(["--port-base", &fulmar.base.to_string()]).stdout(Stdio::piped());
        command.stdin(Stdio::null()).stderr(log(folder)?);
        let mut child = spawn(&mut command)?;
        let stdout = child.stdout.take().context("standard output was asked to be piped")?;
        self.children.push(child);
        // `fulmar dev --help` says what stands where.
        self.fulmar = format!("http://127.0.0.1:{}", fulmar.base);
        self.http = format!("127.0.0.1:{}", fulmar.base + 2);
        // Read on to the end: a process whose output nobody reads stops.
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let until = Instant::now() + START_AT_MOST;
        let mut said = Vec::new();
        while let Ok(line) = lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            if line.starts_with(&format!("ready: {} brokers, 1 topics", fulmar.replicas)) {
                return Ok(());
            }
            said.push(line);
        }
        bail!("fulmar dev is not ready; it said:\n{}", said.join("\n"))
    }

    pub(super) fn start_nats(&mut self, nats: &Nats<'_>, folder: &Path) -> Result<()> {
        make(folder)?;
        for number in 0..nats.replicas {
            let file = folder.join(format!("{number}.conf"));
            write(&file, &nats.settings(number, &folder.join(number.to_string())))?;
            let mut command = bound(nats.program);
            command.arg("--config").arg(&file).stdin(Stdio::null());
            command.stdout(Stdio::null()).stderr(log(folder)?);
            self.children.push(spawn(&mut command)?);
        }
        for number in 0..nats.replicas {
            await_port(nats.base + number, "nats-server")?;
        }
        let sync = nats.sync.unwrap_or("2m");
        let replicas =
            if nats.replicas == 1 { String::new() } else { format!("?replicas={}", nats.replicas) };
        self.rivals.push(format!("nats://127.0.0.1:{}{replicas}#sync_interval={sync}", nats.base));
        Ok(())
    }

    pub(super) fn start_redis(&mut self, redis: &Redis, folder: &Path) -> Result<()> {
        make(folder)?;
        let mut command = bound(&redis_server(folder)?);
        let port = redis.port.to_string();
        command.args(["--bind", "127.0.0.1", "--port", &port, "--daemonize", "no", "--save", ""]);
        command.args(["--appendonly", "yes", "--appendfsync", "always", "--dir"]).arg(folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log(folder)?);
        self.children.push(spawn(&mut command)?);
        await_port(redis.port, "redis-server")?;
        self.rivals.push(format!("redis://127.0.0.1:{port}"));
        Ok(())
    }
}

impl Fulmar<'_> {
    fn resources(&self) -> String {
        let ack_quorum = self.replicas / 2 + 1;
        format!(
            "apiVersion: fulmar.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: bench}}\nspec: {{replicas: {replicas}}}\n\
             ---\napiVersion: fulmar.dev/v1alpha1\nkind: Topic\nmetadata: {{name: {topic}}}\n\
             spec: {{clusterRef: {{name: bench}}, partitions: 1, replicationFactor: {replicas}, ackQuorum: {ack_quorum}}}\n",
            replicas = self.replicas,
            topic = self.topic,
        )
    }
}

impl Nats<'_> {
    fn settings(&self, number: u16, store: &Path) -> String {
        let sync = self.sync.map_or_else(String::new, |sync| format!(", sync_interval: {sync}"));
        let mut settings = format!(
            "listen: 127.0.0.1:{port}\nserver_name: n{number}\njetstream {{store_dir: \"{store}\"{sync}}}\n",
            port = self.base + number,
            store = store.display(),
        );
        if self.replicas > 1 {
            let routes = self.base + 5;
            let others = (0..self.replicas).map(|other| format!("nats://127.0.0.1:{}", routes + other));
            let (own, others) = (routes + number, others.collect::<Vec<_>>().join(", "));
            settings.push_str("cluster {name: bench, listen: \"127.0.0.1:");
            settings.push_str(&own.to_string());
            settings.push_str("\", routes: [");
            settings.push_str(&others);
            settings.push_str("]}\n");
        }
        settings
    }
}

/// Debian's `redis-tools` has the program under another name, and brings no service; it goes by the name that it is called by.
fn redis_server(folder: &Path) -> Result<PathBuf> {
    for name in ["redis-server", "redis-check-rdb"] {
        if let Ok(found) = process::output(Command::new("sh").args(["-c", &format!("command -v {name}")])) {
            let link = folder.join("redis-server");
            symlink(&found, &link).with_context(|| format!("could not make {}", link.display()))?;
            return Ok(link);
        }
    }
    bail!("redis-server is missing (on Debian: apt-get install redis-tools)")
}

/// A command that ends when we do, however that may be, where the system can do that.
fn bound(program: &Path) -> Command {
    if cfg!(target_os = "linux") {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program);
        return command;
    }
    Command::new(program)
}

fn spawn(command: &mut Command) -> Result<Child> {
    command.spawn().with_context(|| format!("could not start {}", process::line(command)))
}

fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("could not write {}", file.display()))
}

fn log(folder: &Path) -> Result<File> {
    let file = folder.join("log");
    File::options()
        .create(true)
        .append(true)
        .open(&file)
        .with_context(|| format!("could not make {}", file.display()))
}

fn await_port(port: u16, program: &str) -> Result<()> {
    let until = Instant::now() + START_AT_MOST;
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        if Instant::now() >= until {
            bail!("{program} does not listen on {port} after {START_AT_MOST:?}");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
