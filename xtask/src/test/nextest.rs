//! Calls `cargo nextest`, always for the whole workspace with a filter: another selection of packages could be another build.
//! Where nextest cannot be had it calls `cargo test`, and says so.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process;
use crate::tools;
use crate::workspace::Workspace;

/// Which tests.
pub(crate) struct Tests<'a> {
    /// The filter expression of the part.
    pub(crate) within: &'a str,
    /// What the person asked for.
    pub(crate) filter: Option<&'a str>,
    /// At a time; as many as there are processors if not given.
    pub(crate) threads: Option<u32>,
}

impl Tests<'_> {
    fn expression(&self) -> String {
        match self.filter {
            Some(filter) => format!("({}) and ({filter})", self.within),
            None => self.within.to_owned(),
        }
    }
}

/// Compiles the tests and binaries of the whole workspace.
pub(crate) fn build(workspace: &Workspace) -> Result<()> {
    process::run(workspace.cargo("test").args([
        "--workspace",
        "--lib",
        "--bins",
        "--tests",
        "--no-run",
        "--quiet",
    ]))?;
    crate::images::build_binaries(workspace)
}

/// Runs tests on this machine; gives nextest's summary.
pub(crate) fn run(workspace: &Workspace, tests: &Tests<'_>) -> Result<String> {
    match tools::NEXTEST.path() {
        Ok(path) => {
            let mut command = workspace.cargo("nextest");
            command.env("PATH", path);
            run_told(command.args(arguments(tests)))
        }
        Err(error) if tests.filter.is_some() => {
            Err(error.context("cargo nextest is missing, and a filter needs it"))
        }
        Err(error) => {
            eprintln!("cargo nextest could not be had ({error:#}): falling back to cargo test");
            let mut command = workspace.cargo("test");
            command.args([
                "--workspace",
                "--exclude",
                "fulmar-e2e",
                "--lib",
                "--bins",
                "--tests",
                "--no-fail-fast",
            ]);
            process::run(&mut command)?;
            Ok("by cargo test, nextest is missing".to_owned())
        }
    }
}

/// The `PATH` under which nextest is found, for whoever composes a command that runs elsewhere.
pub(crate) fn path() -> Result<OsString> {
    tools::NEXTEST.path()
}

/// What follows `cargo nextest`.
pub(crate) fn arguments(tests: &Tests<'_>) -> Vec<String> {
    let mut arguments = vec!["run".to_owned(), "--workspace".to_owned(), "--no-fail-fast".to_owned()];
    // A person's filter may well match nothing in one of the parts.
    if tests.filter.is_some() {
        arguments.push("--no-tests=pass".to_owned());
    }
    if let Some(threads) = tests.threads {
        arguments.push(format!("--test-threads={threads}"));
    }
    arguments.extend(["-E".to_owned(), tests.expression()]);
    arguments
}

/// Runs nextest, passes on what it prints, and gives its summary for the table.
pub(crate) fn run_told(command: &mut Command) -> Result<String> {
    let mut child = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not start {}", process::line(command)))?;
    let printed = child.stderr.take().expect("standard error was asked to be piped");
    let mut summary = String::new();
    for line in BufReader::new(printed).split(b'\n') {
        let line = line.context("could not read what nextest prints")?;
        let line = String::from_utf8_lossy(&line);
        eprintln!("{line}");
        if let Some((_, counts)) = line.split_once("Summary") {
            let counts = counts.split_once(']').map_or(counts, |(_, counts)| counts);
            counts.trim().clone_into(&mut summary);
        }
    }
    let status = child.wait().context("could not wait for nextest")?;
    if !status.success() {
        let said = if summary.is_empty() { format!("nextest ended with {status}") } else { summary };
        bail!("{said}");
    }
    Ok(summary)
}
