//! The page on operations, as tests type it: which of it are commands, and the words that a shell makes of a line.
//!
//! Owns what counts as a command. Never: who types it, and what is to be seen then; the tests say that.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command as Process, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use anyhow::{Context, Result, bail, ensure};

use crate::brokers::Brokers;

/// The page.
pub const OPERATIONS: &str = include_str!("../../docs/operations.md");

/// What people type on it, each with a blank: the name alone is no command.
const PROGRAMS: [&str; 5] = ["kubectl ", "helm ", "fulmar ", "fulmar-broker ", "curl "];

/// A program beside a test prints at most so many lines, or is cut off: a watch prints one a change, and no test makes so many.
const LINES_MAX: usize = 10_000;

/// A command of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command {
    /// What is typed.
    pub text: &'static str,
    /// It is a line of a block marked `sh`; else it stands in another block, or within a sentence.
    pub is_marked: bool,
}

/// All commands of a page, in its order: lines of blocks, and what stands between backticks and begins with a program.
pub fn commands(page: &'static str) -> Vec<Command> {
    let mut commands = Vec::new();
    let mut fence = None;
    for line in page.lines() {
        match (line.strip_prefix("```"), fence) {
            (Some(_), Some(_)) => fence = None,
            (Some(mark), None) => fence = Some(mark),
            (None, Some("sh")) => commands.push(Command { text: line, is_marked: true }),
            (None, Some(_)) => commands.extend(unmarked(line.trim_start())),
            (None, None) => commands.extend(line.split('`').skip(1).step_by(2).filter_map(unmarked)),
        }
    }
    commands
}

fn unmarked(text: &'static str) -> Option<Command> {
    let is_command = PROGRAMS.iter().any(|program| text.starts_with(program));
    is_command.then_some(Command { text, is_marked: false })
}

/// The command of the page on operations that begins like this. It may stand there more than once, but no other one like it.
pub fn line(start: &str) -> Result<&'static str> {
    let commands = commands(OPERATIONS);
    let mut found = commands.iter().map(|command| command.text).filter(|text| text.starts_with(start));
    let line = found.next().with_context(|| format!("docs/operations.md has no command {start:?}"))?;
    match found.find(|other| *other != line) {
        None => Ok(line),
        Some(other) => bail!("docs/operations.md has {line:?} and {other:?}: which is {start:?}?"),
    }
}

/// The words of that command, with other names in it than the page's.
pub fn typed(start: &str, others: &[(&str, &str)]) -> Result<Vec<String>> {
    let mut typed = line(start)?.to_owned();
    for (ours, other) in others {
        ensure!(typed.contains(ours), "{typed:?} has no {ours:?}");
        typed = typed.replace(ours, other);
    }
    words(&typed)
}

/// The words that a shell makes of a line that has no variables and pipes.
pub fn words(line: &str) -> Result<Vec<String>> {
    shlex::split(line).with_context(|| format!("a quote is left open: {line}"))
}

impl Brokers {
    /// Types the command of the page on operations that begins like this, a `kubectl`, in the namespace of these brokers; gives what
    /// it printed.
    pub fn type_line(&self, start: &str) -> Result<String> {
        self.type_line_with(start, &[])
    }

    /// The same with other names in it than the page's.
    pub fn type_line_with(&self, start: &str, others: &[(&str, &str)]) -> Result<String> {
        let words = typed(start, others)?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let ["kubectl", arguments @ ..] = &words[..] else { bail!("it is no kubectl: {words:?}") };
        let printed = self.kubectl(arguments)?;
        println!("$ {}\n{printed}", words.join(" "));
        Ok(printed)
    }

    /// Starts a `kubectl` that does not end by itself, in the namespace of these brokers.
    pub fn kubectl_beside(&self, arguments: &[&str]) -> Result<Beside> {
        let mut command = Process::new(self.environment.kubectl_program());
        command.args(["--namespace", self.namespace]).args(arguments);
        Beside::start(command)
    }
}

/// A program that runs beside the test, until this is dropped.
#[derive(Debug)]
pub struct Beside {
    child: Child,
    lines: Receiver<String>,
    printed: String,
}

impl Beside {
    fn start(mut command: Process) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("could not start {command:?}"))?;
        let output = child.stdout.take().context("standard output was asked to be piped")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok).take(LINES_MAX) {
                let _nobody_waits = sender.send(line);
            }
        });
        Ok(Self { child, lines, printed: String::new() })
    }

    /// What it has printed by now.
    pub fn printed(&mut self) -> &str {
        for line in self.lines.try_iter() {
            self.printed.push_str(&line);
            self.printed.push('\n');
        }
        &self.printed
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
