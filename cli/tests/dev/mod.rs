//! A `fulmar dev` in a process of its own, watched line by line.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    missing_docs,
    dead_code,
    reason = "tests share it"
)]

#[path = "../../../broker/tests/support/ports.rs"]
pub mod ports;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Far beyond what anything here takes on a machine that is busy with other builds.
const PATIENCE: Duration = Duration::from_mins(2);

pub const FULMAR: &str = env!("CARGO_BIN_EXE_fulmar");

pub struct Dev {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    base: u16,
}

impl Dev {
    pub fn start(file: &Path, data: &Path, base: u16) -> Self {
        let mut child = Command::new(FULMAR)
            .arg("dev")
            .arg("-f")
            .arg(file)
            .arg("--data")
            .arg(data)
            .args(["--port-base", &base.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { child, lines, seen: Vec::new(), base }
    }

    /// Waits for a line that is so, from now on, and gives it.
    pub fn wait_for(&mut self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.seen.push(line.clone());
            if is_it(&line) {
                return line;
            }
        }
        panic!("waited in vain for {what}; it said:\n{}", self.seen.join("\n"));
    }

    pub fn wait_for_start(&mut self, text: &str) -> String {
        self.wait_for(text, |line| line.starts_with(text))
    }

    /// The process of a broker, as it was said last.
    pub fn broker(&self, name: &str) -> Pid {
        let start = format!("broker {name} runs: process ");
        let line = self.seen.iter().rev().find_map(|line| line.strip_prefix(&start)).unwrap();
        Pid::from_raw(line.split(',').next().unwrap().parse().unwrap()).unwrap()
    }

    /// Runs a command against it that must succeed; gives its output.
    pub fn fulmar(&self, arguments: &[&str]) -> String {
        let output = self.try_fulmar(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}\ndev said:\n{}", self.seen.join("\n"));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn try_fulmar(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// A command against it, to be run.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let server = format!("http://127.0.0.1:{}", self.base);
        // The first broker may be the one that was killed a moment ago.
        let patience = ["--request-timeout", "60s"];
        let mut command = Command::new(FULMAR);
        command.args(arguments).args(patience).env("FULMAR_SERVER", server);
        command
    }

    /// Ctrl-C; waits for the end and gives the exit code.
    pub fn interrupt(mut self) -> Option<i32> {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        self.wait_for_start("stopped");
        self.child.wait().unwrap().code()
    }

    /// No chance to do anything in order; its brokers end by themselves.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // It may have ended already; its brokers end with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
