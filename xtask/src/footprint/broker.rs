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
pub(super) const VALUE_BYTES: usize = 1024;

/// The topic of each measurement but that of many partitions.
const TOPIC: &str = "footprint";

/// Between two looks at a broker that starts, and at one that works.
const LOOK_START: Duration = Duration::from_millis(1);
const LOOK_WORK: Duration = Duration::from_millis(50);

/// A disk is at rest that was not written to for so long: the applier writes every five seconds at the latest.
const REST: Duration = Duration::from_secs(8);

/// What is kept in a table file goes on being written for as long as there is much to apply.
const REST_WITHIN: Duration = Duration::from_mins(5);

/// See the module.
pub(super) struct Broker<'a> {
    programs: &'a Measured,
    dev: Dev,
    ports: Block,
    process: u32,
}

/// How a broker came back.
pub(super) struct Back {
    /// From the start of its process until it accepts connections.
    pub(super) listening: Duration,
    /// Until it has acknowledged a record.
    pub(super) serving: Duration,
}

impl<'a> Broker<'a> {
    /// Starts one that is ready, with topics of so many partitions in all.
    pub(super) fn start(programs: &'a Measured, folder: &Path, topics: &[u32]) -> Result<Self> {
        let cluster =
            "apiVersion: fulmar.dev/v1alpha1\nkind: Cluster\nmetadata: {name: alone}\nspec: {replicas: 1}\n";
        let documents = topics.iter().zip(0..).map(|(partitions, number)| topic(number, *partitions));
        let resources = [cluster.to_owned()].into_iter().chain(documents).collect::<Vec<_>>().concat();
        let ports = Block::take();
        let mut dev = Dev::start(programs, &resources, folder, ports.base)?;
        let process = process_of(&dev.line(RUNS)?)?;
        dev.line(&format!("ready: 1 brokers, {} topics", topics.len()))?;
        Ok(Self { programs, dev, ports, process })
    }

    /// The resident set: what counts for a memory limit, its program's own pages too.
    pub(super) fn memory_bytes(&self) -> Result<u64> {
        let status = self.of_proc("status")?;
        let kibibytes = number_of(&status, "VmRSS:").context("its status has no VmRSS")?;
        Ok(kibibytes * 1024)
    }

    /// What its process has written to files since it started, as soon as nothing more comes; some bytes for each answer to a program
    /// are among them. (What the system has to write for that is a matter of its file system, and `write_bytes` of a kernel whose page
    /// cache has large pages counts all of one for each byte in it.)
    pub(super) fn written_bytes(&self) -> Result<u64> {
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

    /// Publishes so many records, at most `rate` a second; looks at it again and again meanwhile. Gives how long it took.
    pub(super) fn publish(
        &self,
        records: u64,
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
        let writing = thread::spawn(move || write_lines(lines, records));
        let status = loop {
            if let Some(status) = child.try_wait().context("could not wait for fulmar publish")? {
                break status;
            }
            look()?;
            thread::sleep(LOOK_WORK);
        };
        let took = started.elapsed();
        let written = writing.join().map_err(|_| anyhow::anyhow!("the writer of lines panicked"))?;
        ensure!(status.success(), "{} ended with {status}", process::line(&command));
        written.context("could not write lines")?;
        Ok(took)
    }

    /// Kills it, and waits until it is back.
    pub(super) fn killed(&mut self) -> Result<Back> {
        let killed = Command::new("kill").args(["-s", "KILL", &self.process.to_string()]).status();
        ensure!(killed.context("could not start kill")?.success(), "the broker has ended by itself");
        let line = self.dev.line(RUNS)?;
        let started = Instant::now();
        self.process = process_of(&line)?;
        self.until(started, || TcpStream::connect((Ipv4Addr::LOCALHOST, self.ports.base)).is_ok())?;
        let listening = started.elapsed();
        self.until(started, || self.is_published().unwrap_or(false))?;
        Ok(Back { listening, serving: started.elapsed() })
    }

    fn until(&self, started: Instant, mut is_so: impl FnMut() -> bool) -> Result<()> {
        while !is_so() {
            ensure!(started.elapsed() < START_AT_MOST, "broker {} does not come back", self.process);
            thread::sleep(LOOK_START);
        }
        Ok(())
    }

    /// One record, by HTTP.
    fn is_published(&self) -> Result<bool> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.ports.base + 2))?;
        let request =
            format!("GET /publish?topic={TOPIC}&msg=x HTTP/1.1\r\nHost: broker\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(64 * 1024).read_to_end(&mut answer)?;
        Ok(answer.starts_with(b"HTTP/1.1 200 "))
    }
}

/// The first one is what is published to.
fn topic(number: usize, partitions: u32) -> String {
    let name = if number == 0 { TOPIC.to_owned() } else { format!("{TOPIC}-{number}") };
    format!(
        "---\napiVersion: fulmar.dev/v1alpha1\nkind: Topic\nmetadata: {{name: {name}}}\n\
         spec: {{clusterRef: {{name: alone}}, partitions: {partitions}}}\n"
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

/// Lines of letters that nothing compresses much.
fn write_lines(mut lines: impl Write, records: u64) -> std::io::Result<()> {
    let mut line = [b'\n'; VALUE_BYTES + 1];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..records {
        for bytes in line[..VALUE_BYTES].chunks_mut(8) {
            // Marsaglia's xorshift64.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            for (byte, random) in bytes.iter_mut().zip(state.to_le_bytes()) {
                *byte = b'a' + random % 26;
            }
        }
        lines.write_all(&line)?;
    }
    lines.flush()
}
