//! Calls `cargo nextest`, for the whole workspace with a filter: another selection of packages could be another build.
//! Where nextest cannot be had it calls `cargo test`, and says so.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
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

/// The packages that cargo looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Built {
    /// All of them, so that every part of a run shares one build.
    Workspace,
    /// The end-to-end tests and what they need: for a person in a hurry, though another crate does not compile just now.
    EndToEnd,
}

impl Built {
    fn selection(self) -> &'static [&'static str] {
        match self {
            Self::Workspace => &["--workspace"],
            Self::EndToEnd => &["--package", "fulmar-e2e"],
        }
    }
}

impl Tests<'_> {
    fn expression(&self) -> String {
        match self.filter {
            Some(filter) => format!("({}) and ({filter})", self.within),
            None => self.within.to_owned(),
        }
    }
}

/// Compiles the tests of the whole workspace, and its binaries.
pub(crate) fn build(workspace: &Workspace) -> Result<()> {
    let mut tests = workspace.cargo("test");
    process::run(tests.args(["--workspace", "--lib", "--bins", "--tests", "--no-run", "--quiet"]))?;
    crate::images::build_binaries(workspace)
}

/// Runs tests on this machine; gives nextest's summary.
pub(crate) fn run(workspace: &Workspace, tests: &Tests<'_>) -> Result<String> {
    match tools::NEXTEST.path() {
        Ok(path) => {
            let mut command = workspace.cargo("nextest");
            command.env("PATH", path);
            run_told(command.arg("run").args(Built::Workspace.selection()).args(choice(tests)))
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

/// Test executables that are ready to be run without cargo, so without a compiler, a lock or a registry.
pub(crate) struct Ready {
    binaries: PathBuf,
    metadata: PathBuf,
    path: OsString,
}

/// Compiles what is selected and writes down where its executables are.
pub(crate) fn prepare(workspace: &Workspace, built: Built) -> Result<Ready> {
    let path = tools::NEXTEST.path()?;
    let folder = workspace.target().join("nextest-ready");
    fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
    let write = |name: &str, text: String| {
        let file = folder.join(name);
        fs::write(&file, text).with_context(|| format!("could not write {}", file.display()))?;
        Ok::<_, anyhow::Error>(file)
    };
    let mut list = workspace.cargo("nextest");
    list.env("PATH", &path).args(["list", "--list-type", "binaries-only", "--message-format", "json"]);
    let binaries = write("binaries.json", process::output(list.args(built.selection()))?)?;
    // Packages of other platforms are not asked for: they may not have been downloaded.
    let mut describe = workspace.cargo("metadata");
    describe.args(["--format-version=1", "--offline", "--filter-platform", workspace.triple()]);
    let metadata = write("cargo.json", process::output(&mut describe)?)?;
    Ok(Ready { binaries, metadata, path })
}

impl Ready {
    /// Has `command`, which names no program of ours yet, run the tests.
    pub(crate) fn run_by(&self, command: &mut Command, tests: &Tests<'_>) {
        command.env("PATH", &self.path).args(["nextest", "run"]);
        command.arg("--binaries-metadata").arg(&self.binaries).arg("--cargo-metadata").arg(&self.metadata);
        command.args(choice(tests));
    }
}

/// The program of `cargo nextest` when cargo does not call it.
pub(crate) const PROGRAM: &str = "cargo-nextest";

fn choice(tests: &Tests<'_>) -> Vec<String> {
    let mut arguments = vec!["--no-fail-fast".to_owned()];
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

/// What nextest says at the end of a run.
#[derive(Default)]
struct Told {
    counts: String,
    /// Who failed at first, and passed when tried again.
    flaky: Vec<String>,
}

impl Told {
    /// One more line of what it prints.
    fn note(&mut self, line: &str) {
        let after_bracket =
            |text: &str| text.split_once(']').map_or(text, |(_, rest)| rest).trim().to_owned();
        if let Some((_, counts)) = line.split_once("Summary") {
            self.counts = after_bracket(counts);
        } else if let Some(again) = line.trim_start().strip_prefix("FLAKY ") {
            // `FLAKY 2/2 [ 12.3s] (7/56) fulmar-e2e::failover its_name`
            let named = after_bracket(again);
            let name = named.split_once(") ").map_or(named.as_str(), |(_, name)| name);
            self.flaky.push(name.to_owned());
        }
    }

    /// For the table: a test that passed in its second attempt is named, for that is a fault to mend.
    fn summary(&self) -> String {
        match self.flaky.as_slice() {
            [] => self.counts.clone(),
            flaky => format!("{}; FLAKY, to be mended: {}", self.counts, flaky.join(", ")),
        }
    }
}

/// Runs nextest, passes on what it prints, and gives its summary for the table.
pub(crate) fn run_told(command: &mut Command) -> Result<String> {
    let mut child = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not start {}", process::line(command)))?;
    let printed = child.stderr.take().expect("standard error was asked to be piped");
    let mut told = Told::default();
    for line in BufReader::new(printed).split(b'\n') {
        let line = line.context("could not read what nextest prints")?;
        let line = String::from_utf8_lossy(&line);
        eprintln!("{line}");
        told.note(&line);
    }
    let summary = told.summary();
    let status = child.wait().context("could not wait for nextest")?;
    if !status.success() {
        let said = if summary.is_empty() { format!("nextest ended with {status}") } else { summary };
        bail!("{said}");
    }
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use super::Told;

    fn told(lines: &[&str]) -> String {
        let mut told = Told::default();
        for line in lines {
            told.note(line);
        }
        told.summary()
    }

    #[test]
    fn who_passed_only_when_tried_again_is_named_in_the_table() {
        let lines = [
            "  TRY 2 PASS [   0.017s] (2/2) fulmar-e2e::failover leader_kill",
            "     Summary [   0.097s] 2 tests run: 2 passed (1 flaky), 0 skipped",
            "   FLAKY 2/2 [   0.017s] (2/2) fulmar-e2e::failover leader_kill",
        ];
        let named = "2 tests run: 2 passed (1 flaky), 0 skipped; FLAKY, to be mended: fulmar-e2e::failover leader_kill";
        assert_eq!(told(&lines), named);
    }

    #[test]
    fn a_run_without_luck_is_told_by_its_counts_alone() {
        let lines = ["     Summary [  12.0s] 56 tests run: 56 passed, 0 skipped"];
        assert_eq!(told(&lines), "56 tests run: 56 passed, 0 skipped");
    }
}
