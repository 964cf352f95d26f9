//! One broker by itself: a `fulmar dev` whose only broker is watched through `/proc`.

use std::fs;
use std::io::{BufWriter, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::background::{Dev, START_AT_MOST};
use crate::ports::Block;
use crate::process;
use crate::workspace::Measured;

/// Values of every record.
pub(crate) const VALUE_BYTES: usize = 1024;

/// The topic of each measurement but that of many partitions.
const TOPIC: &str = "footprint";

/// So many lines are made, and written at a time.
const LINES: u64 = 256;

/// A broker that does not answer for so long is gone.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Of a broker's metrics, which are far less.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Between two looks at a broker that starts, and at one that works.
const LOOK_START: Duration = Duration::from_millis(1);
const LOOK_WORK: Duration = Duration::from_millis(50);

/// A disk is at rest that was not written to for so long: the applier writes every five seconds at the latest.
const REST: Duration = Duration::from_secs(8);

/// What is kept in a table file goes on being written for as long as there is much to apply.
const REST_WITHIN: Duration = Duration::from_mins(5);

/// What it is to be.
#[derive(Default)]
pub(crate) struct Resources<'a> {
    /// Topics of so many partitions; the first one is what is published to.
    pub(crate) partitions: &'a [u32],
    /// More of the Cluster's spec.
    pub(crate) cluster: &'a str,
    /// More of the spec of each Topic.
    pub(crate) topic: &'a str,
}

impl Resources<'_> {
    fn yaml(&self) -> String {
        let Self { cluster, topic: more, .. } = self;
        let mut yaml = format!(
            "apiVersion: fulmar.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: alone}}\nspec: {{replicas: 1{cluster}}}\n"
        );
        for (partitions, number) in self.partitions.iter().zip(0..) {
            yaml.push_str(&topic(number, *partitions, more));
        }
        yaml
    }
}

/// How much is published.
#[derive(Clone, Copy)]
pub(crate) enum Much {
    /// So many records.
    Records(u64),
    /// All that goes until then.
    Until(Instant),
}

impl Much {
    fn is_reached(self, records: u64) -> bool {
        match self {
            Self::Records(all) => records >= all,
            Self::Until(end) => Instant::now() >= end,
        }
    }
}

/// See the module.
pub(crate) struct Broker<'a> {
    programs: &'a Measured,
    dev: Dev,
    ports: Block,
    process: u32,
}

/// How a broker came back.
pub(crate) struct Back {
    /// From the start of its process until it accepts connections.
    pub(crate) listening: Duration,
    /// Until it has acknowledged a record.
    pub(crate) serving: Duration,
}

impl<'a> Broker<'a> {
    /// Starts one that is ready.
    pub(crate) fn start(programs: &'a Measured, folder: &Path, resources: &Resources<'_>) -> Result<Self> {
        let ports = Block::take();
        let mut dev = Dev::start(programs, &resources.yaml(), folder, ports.base)?;
        let process = process_of(&dev.line(RUNS)?)?;
        dev.line(&format!("ready: 1 brokers, {} topics", resources.partitions.len()))?;
        Ok(Self { programs, dev, ports, process })
    }

    /// Its process.
    pub(crate) fn process(&self) -> u32 {
        self.process
    }

    /// Where it takes records by HTTP.
    pub(crate) fn http(&self) -> Http {
        Http { port: self.ports.base + 2 }
    }

    /// The resident set: what counts for a memory limit, its program's own pages too.
    pub(crate) fn memory_bytes(&self) -> Result<u64> {
        let status = self.of_proc("status")?;
        let kibibytes = number_of(&status, "VmRSS:").context("its status has no VmRSS")?;
        Ok(kibibytes * 1024)
    }

    /// What its process has written to files since it started, as soon as nothing more comes; some bytes for each answer to a program
    /// are among them. (What the system has to write for that is a matter of its file system, and `write_bytes` of a kernel whose page
    /// cache has large pages counts all of one for each byte in it.)
    pub(crate) fn written_bytes(&self) -> Result<u64> {
        let started = Instant::now();
        let (mut written, mut since) = (self.written_now()?, Instant::now());
        while since.elapsed() < REST && started.elapsed() < REST_WITHIN {
            thread::sleep(LOOK_WORK);
            let now = self.written_now()?;
            if now != written {
                (written, since) = (now, Instant::now());
            }
        }
        let io = self.of_proc("io")?;
        number_of(&io, "wchar:").context("its io has no wchar")
    }

    fn written_now(&self) -> Result<u64> {
        number_of(&self.of_proc("io")?, "write_bytes:").context("its io has no write_bytes")
    }

    fn of_proc(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.process);
        fs::read_to_string(&path).with_context(|| format!("could not read {path}"))
    }

    /// Publishes so much, at most `rate` records a second; looks at it again and again meanwhile. Gives how long it took.
    pub(crate) fn publish(
        &self,
        much: Much,
        rate: Option<u32>,
        mut look: impl FnMut() -> Result<()>,
    ) -> Result<Duration> {
        let mut command = Command::new(&self.programs.program);
        command.args(["publish", TOPIC, "--server", &format!("http://127.0.0.1:{}", self.ports.base)]);
        if let Some(rate) = rate {
            command.args(["--rate", &rate.to_string()]);
        }
        let started = Instant::now();
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child =
            command.spawn().with_context(|| format!("could not start {}", process::line(&command)))?;
        let lines = BufWriter::with_capacity(1 << 18, child.stdin.take().context("it is piped")?);
        let writing = thread::spawn(move || write_lines(lines, much));
        let status = loop {
            if let Some(status) = child.try_wait().context("could not wait for fulmar publish")? {
                break status;
            }
            if let Err(error) = look() {
                child.kill().and_then(|()| child.wait()).context("could not end fulmar publish")?;
                return Err(error);
            }
            thread::sleep(LOOK_WORK);
        };
        let took = started.elapsed();
        let written = writing.join().map_err(|_| anyhow::anyhow!("the writer of lines panicked"))?;
        ensure!(status.success(), "{} ended with {status}", process::line(&command));
        written.context("could not write lines")?;
        Ok(took)
    }

    /// Kills it, and waits until it is back.
    pub(crate) fn killed(&mut self) -> Result<Back> {
        let killed = Command::new("kill").args(["-s", "KILL", &self.process.to_string()]).status();
        ensure!(killed.context("could not start kill")?.success(), "the broker has ended by itself");
        let line = self.dev.line(RUNS)?;
        let started = Instant::now();
        self.process = process_of(&line)?;
        self.until(started, || TcpStream::connect((Ipv4Addr::LOCALHOST, self.ports.base)).is_ok())?;
        let listening = started.elapsed();
        self.until(started, || self.http().publish().unwrap_or(false))?;
        Ok(Back { listening, serving: started.elapsed() })
    }

    fn until(&self, started: Instant, mut is_so: impl FnMut() -> bool) -> Result<()> {
        while !is_so() {
            ensure!(started.elapsed() < START_AT_MOST, "broker {} does not come back", self.process);
            thread::sleep(LOOK_START);
        }
        Ok(())
    }
}

/// A broker's port for HTTP.
#[derive(Clone, Copy)]
pub(crate) struct Http {
    port: u16,
}

impl Http {
    /// Whether one record is acknowledged, on a connection of its own.
    pub(crate) fn publish(self) -> Result<bool> {
        let answer = self.get(&format!("/publish?topic={TOPIC}&msg=x"))?;
        Ok(answer.starts_with("HTTP/1.1 200 "))
    }

    /// One of its counters.
    pub(crate) fn counter(self, name: &str) -> Result<u64> {
        let text = self.get("/metrics")?;
        number_of(&text, &format!("{name} ")).with_context(|| format!("its metrics have no {name}"))
    }

    fn get(self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: broker\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

fn topic(number: usize, partitions: u32, more: &str) -> String {
    let name = if number == 0 { TOPIC.to_owned() } else { format!("{TOPIC}-{number}") };
    format!(
        "---\napiVersion: fulmar.dev/v1alpha1\nkind: Topic\nmetadata: {{name: {name}}}\n\
         spec: {{clusterRef: {{name: alone}}, partitions: {partitions}{more}}}\n"
    )
}

/// How `fulmar dev` says that a broker was started.
const RUNS: &str = "broker alone-0 runs: process ";

fn process_of(line: &str) -> Result<u32> {
    let number = line.strip_prefix(RUNS).and_then(|rest| rest.split(',').next()?.parse().ok());
    number.with_context(|| format!("it names no process: {line}"))
}

/// The number in the line of this name.
fn number_of(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Lines of letters that nothing compresses much: some, again and again, so that making them takes no time from who is measured.
fn write_lines(mut lines: impl Write, much: Much) -> std::io::Result<()> {
    let (block, mut records) = (lines_of_letters(), 0);
    while !much.is_reached(records) {
        let left = match much {
            Much::Records(all) => all - records,
            Much::Until(_) => LINES,
        };
        let now = usize::try_from(left.min(LINES)).unwrap_or(usize::MAX);
        lines.write_all(&block[..now * (VALUE_BYTES + 1)])?;
        records += now as u64;
    }
    lines.flush()
}

fn lines_of_letters() -> Vec<u8> {
    let mut block = Vec::new();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..LINES {
        for _ in 0..VALUE_BYTES / 8 {
            // Marsaglia's xorshift64.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            block.extend(state.to_le_bytes().map(|random| b'a' + random % 26));
        }
        block.push(b'\n');
    }
    block
}
