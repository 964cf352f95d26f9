//! `cargo xtask fuzz`: parsers of bytes that others wrote get bytes that libFuzzer makes, led by what they reach.
//!
//! Owns how the fuzzer is compiled and run, and the table of what came of it. The targets are those of `fuzz/`; what was found
//! worth keeping stays in `target/fuzz/corpus`, and the next run begins with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::images;
use crate::process;
use crate::simulate;
use crate::workspace::Workspace;

/// What the compiler adds for libFuzzer: which edges were taken, and what was compared with what. Assertions and checks for
/// overflow are those of the tests.
const INSTRUMENTED: &str = "--cfg fuzzing -C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4 \
    -C llvm-args=-sanitizer-coverage-inline-8bit-counters -C llvm-args=-sanitizer-coverage-pc-table \
    -C llvm-args=-sanitizer-coverage-trace-compares";

/// Larger inputs find no more in parsers that read field by field, and each costs more.
const INPUT_BYTES_MAX: &str = "-max_len=4096";
/// A parser that takes so long for that is a find …
const TIMEOUT: &str = "-timeout=10";
/// … and so is one that takes so much memory.
const MEMORY_MAX: &str = "-rss_limit_mb=1024";

/// `cargo xtask fuzz`
#[derive(Args)]
pub(crate) struct Arguments {
    /// For each target so long, one after the other: 90s, 10m, 1h
    #[arg(long = "for", value_name = "DURATION", default_value = "1m", value_parser = simulate::duration)]
    time: Duration,
    /// Only these; `--target list` names all
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    target: Vec<String>,
}

/// Runs them, prints a table, and fails if one found something.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::locate()?;
    images::build_binaries(&workspace)?;
    let plain = workspace.binaries().join("fulmar-fuzz");
    let listed = process::output(Command::new(&plain).arg("--list"))?;
    if arguments.target == ["list"] {
        println!("{listed}");
        return Ok(());
    }
    let all: Vec<&str> = listed.lines().filter_map(|line| line.split('\t').next()).collect();
    if let Some(unknown) = arguments.target.iter().find(|name| !all.contains(&name.as_str())) {
        bail!("there is no target {unknown}; there are {}", all.join(", "));
    }
    let chosen = all
        .into_iter()
        .filter(|name| arguments.target.is_empty() || arguments.target.iter().any(|wanted| wanted == name));
    let fuzzer = Fuzzer::build(&workspace, plain)?;
    let ran = chosen.map(|name| fuzzer.run(name, arguments.time)).collect::<Result<Vec<_>>>()?;
    println!("\n| target | executions | edges: with the examples, at the end | inputs kept | finds |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    for Ran { name, told, found } in &ran {
        let Told { executions, edges_first, edges_last, kept } = told;
        let finds = u8::from(found.is_some());
        println!("| `{name}` | {executions} | {edges_first}, {edges_last} | {kept} | {finds} |");
    }
    let finds: Vec<&str> = ran.iter().filter_map(|ran| ran.found.as_deref()).collect();
    if !finds.is_empty() {
        bail!("{}", finds.join("\n"));
    }
    Ok(())
}

struct Fuzzer {
    /// With libFuzzer in it.
    program: PathBuf,
    /// The same without.
    plain: PathBuf,
    folder: PathBuf,
}

struct Ran {
    name: String,
    told: Told,
    /// What failed, and how to see it again.
    found: Option<String>,
}

impl Fuzzer {
    /// In a folder of its own, for it is another build of everything.
    fn build(workspace: &Workspace, plain: PathBuf) -> Result<Self> {
        let folder = workspace.target().join("fuzz");
        let own = folder.join("build");
        let mut build = workspace.cargo("build");
        build.env(workspace.flags_variable(), INSTRUMENTED).env("CARGO_TARGET_DIR", &own);
        process::run(build.args(["--package", "fulmar-fuzz", "--bin", "fulmar-fuzz"]))?;
        Ok(Self { program: own.join(workspace.triple()).join("debug/fulmar-fuzz"), plain, folder })
    }

    fn run(&self, name: &str, time: Duration) -> Result<Ran> {
        println!("=== {name}, for {} s", time.as_secs());
        let corpus = self.made("corpus", name)?;
        let crashes = self.made("crashes", name)?;
        process::output(Command::new(&self.plain).args(["--examples", name]).arg(&corpus))?;
        let before = files(&crashes)?;
        let mut fuzzer = Command::new(&self.program);
        fuzzer.env("FULMAR_FUZZ_TARGET", name).stdin(Stdio::null());
        fuzzer.args([INPUT_BYTES_MAX, TIMEOUT, MEMORY_MAX, "-print_final_stats=1"]);
        fuzzer.arg(format!("-max_total_time={}", time.as_secs()));
        fuzzer.arg(format!("-artifact_prefix={}/", crashes.display())).arg(&corpus);
        let output =
            fuzzer.output().with_context(|| format!("could not start {}", process::line(&fuzzer)))?;
        let text = String::from_utf8_lossy(&output.stderr);
        let log = self.folder.join(format!("{name}.log"));
        fs::write(&log, text.as_bytes()).with_context(|| format!("could not write {}", log.display()))?;
        let told = Told::by(&text);
        let found = (!output.status.success()).then(|| {
            let new = files(&crashes).unwrap_or_default().into_iter().find(|file| !before.contains(file));
            let again = new.map_or_else(String::new, |file| {
                format!("; again: `cargo run --package fulmar-fuzz -- {name} {}`", file.display())
            });
            format!("{name}: {}, see {}{again}", output.status, log.display())
        });
        println!("{} executions, {} edges", told.executions, told.edges_last);
        Ok(Ran { name: name.to_owned(), told, found })
    }

    fn made(&self, kind: &str, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(kind).join(name);
        fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
        Ok(folder)
    }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let listed = fs::read_dir(folder).with_context(|| format!("could not list {}", folder.display()))?;
    Ok(listed.flatten().map(|entry| entry.path()).collect())
}

/// What libFuzzer says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    executions: u64,
    /// Edges that the inputs reached with which it began.
    edges_first: u64,
    edges_last: u64,
    /// Inputs of the corpus.
    kept: u64,
}

impl Told {
    fn by(text: &str) -> Self {
        let mut told = Self::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let after = |word: &str| {
                let at = words.iter().position(|one| *one == word)?;
                words.get(at + 1)?.split('/').next()?.parse().ok()
            };
            if let Some(count) = words.first().and_then(|word| word.strip_prefix('#')) {
                // `#2048 NEW cov: 312 ft: 800 corp: 97/8123b …`: a crash comes without the statistics of the end.
                told.executions = count.trim_end_matches(':').parse().unwrap_or(told.executions);
                told.edges_last = after("cov:").unwrap_or(told.edges_last);
                told.kept = after("corp:").unwrap_or(told.kept);
                if words.get(1) == Some(&"INITED") {
                    told.edges_first = told.edges_last;
                }
            } else if words.first() == Some(&"stat::number_of_executed_units:") {
                told.executions =
                    words.get(1).and_then(|count| count.parse().ok()).unwrap_or(told.executions);
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::Told;

    #[test]
    fn what_the_fuzzer_says_is_understood_with_and_without_its_end() {
        let begun = "INFO: seed corpus: files: 4\n#5\tINITED cov: 292 ft: 400 corp: 4/900b exec/s: 0 rss: 40Mb\n\
                     #2048\tNEW    cov: 312 ft: 800 corp: 97/8123b lim: 4096 exec/s: 0 rss: 41Mb L: 3/9 MS: 1 CMP-\n";
        let crashed = Told { executions: 2048, edges_first: 292, edges_last: 312, kept: 97 };
        assert_eq!(Told::by(begun), crashed);
        let ended = format!("{begun}Done 9000 runs in 1 second(s)\nstat::number_of_executed_units: 9000\n");
        assert_eq!(Told::by(&ended), Told { executions: 9000, ..crashed });
    }
}
