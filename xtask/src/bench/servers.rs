//! Fulmar and its rivals as processes on loopback, each with a folder of its own; they end with the value that holds them.

use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::background::{self, Dev, Running, START_AT_MOST, bound, log, make, write};
use crate::ports::Block;
use crate::process;
use crate::workspace::Measured;

/// A `fulmar dev` with one topic.
pub(super) struct Fulmar<'a> {
    pub(super) programs: &'a Measured,
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
    fulmars: Vec<Dev>,
    rivals_running: Vec<Running>,
    ports: Vec<Block>,
    fulmar: String,
    http: String,
    rivals: Vec<String>,
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
        let mut dev = Dev::start(fulmar.programs, &fulmar.resources(), folder, fulmar.base)?;
        dev.line(&format!("ready: {} brokers, 1 topics", fulmar.replicas))?;
        self.fulmars.push(dev);
        // `fulmar dev --help` says what stands where.
        self.fulmar = format!("http://127.0.0.1:{}", fulmar.base);
        self.http = format!("127.0.0.1:{}", fulmar.base + 2);
        Ok(())
    }

    pub(super) fn start_nats(&mut self, nats: &Nats<'_>, folder: &Path) -> Result<()> {
        make(folder)?;
        for number in 0..nats.replicas {
            let file = folder.join(format!("{number}.conf"));
            write(&file, &nats.settings(number, &folder.join(number.to_string())))?;
            let mut command = bound(nats.program);
            command.arg("--config").arg(&file).stdout(Stdio::null()).stderr(log(folder)?);
            self.rivals_running.push(background::start(&mut command)?);
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
        command.stdout(Stdio::null()).stderr(log(folder)?);
        self.rivals_running.push(background::start(&mut command)?);
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
