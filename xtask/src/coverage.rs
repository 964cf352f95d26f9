//! `cargo xtask coverage`: which lines of core the simulator reaches, and which only the unit tests do. What it never reaches it
//! never checks; the table says where to look for a blow that is missing.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::process;
use crate::report;
use crate::simulate::{Batch, Simulator, processors};
use crate::workspace::Workspace;

/// `cargo xtask coverage`
#[derive(Args)]
pub(crate) struct Arguments {
    /// How many worlds
    #[arg(long, value_name = "N", default_value_t = 1000)]
    seeds: u64,
    /// The first one's seed
    #[arg(long, value_name = "S", default_value_t = 0)]
    first: u64,
    /// Write the table into docs/simulator.md
    #[arg(long)]
    report: bool,
}

/// Measures, and prints the table.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::locate()?;
    let table = measure(&workspace, arguments.first, arguments.seeds)?;
    println!("{}", table.text());
    if arguments.report {
        let about = format!("{} worlds from seed {} on", arguments.seeds, arguments.first);
        report::write(&workspace, "coverage", &format!("{about}.\n\n{}", table.text()))?;
    }
    Ok(())
}

/// For `cargo xtask test`: prints the table, gives the remark for its own.
pub(crate) fn run_some(workspace: &Workspace, seeds: u64) -> Result<String> {
    let table = measure(workspace, 0, seeds)?;
    println!("{}", table.text());
    if table.total().worlds == 0 {
        bail!("no line of core was counted: what ran was compiled from other files than those here");
    }
    Ok(format!("{:.1} % of core's lines by {seeds} worlds", table.total().percent_of_worlds()))
}

fn measure(workspace: &Workspace, first: u64, seeds: u64) -> Result<Table> {
    let tools = Tools::find(workspace)?;
    let folder = workspace.target().join("coverage");
    let profiles = folder.join("profiles");
    // Those of another build would be counted too.
    if profiles.exists() {
        fs::remove_dir_all(&profiles).with_context(|| format!("could not empty {}", profiles.display()))?;
    }
    let build = || instrumented(workspace, &folder);
    let simulator = Simulator::build_by(&mut build())?.with_profiles(profiles.join("worlds-%8m.profraw"));
    let batch = Batch { first, seeds, time: None, chunk: 50, jobs: processors(), lines: 80 };
    let outcome = simulator.run(&batch, &|_, _, _| {})?;
    if let Some(failure) = outcome.failure {
        bail!("{}", failure.text);
    }
    let failed = simulator.directed()?;
    if !failed.is_empty() {
        bail!("schedules failed: {}", failed.join(", "));
    }
    let worlds = tools.lines(&profiles, "worlds", &[simulator.program()])?;

    let mut units = build();
    units.args(["--package", "fulmar-core", "--lib", "--quiet"]);
    process::run(units.env("LLVM_PROFILE_FILE", profiles.join("units-%8m.profraw")))?;
    let library = executable(build().args(["--package", "fulmar-core", "--lib"]))?;
    let all = tools.lines(&profiles, "", &[simulator.program(), &library])?;
    Ok(Table::new(workspace, &worlds, &all))
}

/// Cargo, about to test, with counters in what it compiles; in a folder of its own, for it is another build of everything.
fn instrumented(workspace: &Workspace, folder: &Path) -> Command {
    let mut command = workspace.cargo("test");
    command.env(workspace.flags_variable(), "-C instrument-coverage").env("CARGO_TARGET_DIR", folder);
    command
}

/// The one test executable that this cargo makes.
fn executable(cargo: &mut Command) -> Result<PathBuf> {
    let printed = process::output(cargo.args(["--no-run", "--message-format", "json-render-diagnostics"]))?;
    let messages = printed.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let found = messages.into_iter().find_map(|message| message["executable"].as_str().map(PathBuf::from));
    found.context("cargo names no executable")
}

/// LLVM's tools of the very version that the compiler has.
struct Tools {
    folder: PathBuf,
}

impl Tools {
    fn find(workspace: &Workspace) -> Result<Self> {
        let mut rustc = Command::new("rustc");
        let sysroot = process::output(rustc.current_dir(workspace.root()).args(["--print", "sysroot"]))?;
        let folder = PathBuf::from(sysroot).join("lib/rustlib").join(workspace.triple()).join("bin");
        if !folder.join("llvm-cov").exists() {
            println!("llvm-cov is missing: rustup component add llvm-tools");
            let mut rustup = Command::new("rustup");
            process::run(rustup.current_dir(workspace.root()).args(["component", "add", "llvm-tools"]))?;
        }
        Ok(Self { folder })
    }

    /// Of each file the lines that can run, and those that did, by the profiles whose names begin so.
    fn lines(&self, profiles: &Path, kind: &str, programs: &[&Path]) -> Result<Covered> {
        let merged = profiles.join(format!("{kind}.profdata"));
        let listed =
            fs::read_dir(profiles).with_context(|| format!("no world wrote to {}", profiles.display()))?;
        let is_raw = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(kind) && path.extension() == Some(OsStr::new("profraw"))
        };
        let raw: Vec<PathBuf> = listed.flatten().map(|entry| entry.path()).filter(is_raw).collect();
        let mut merge = Command::new(self.folder.join("llvm-profdata"));
        process::run(merge.args(["merge", "--sparse", "--output"]).arg(&merged).args(&raw))?;
        let mut export = Command::new(self.folder.join("llvm-cov"));
        export.args(["export", "--summary-only", "--format=text", "--instr-profile"]).arg(&merged);
        for program in programs {
            export.arg("--object").arg(program);
        }
        let text = process::output(&mut export)?;
        let json: serde_json::Value = serde_json::from_str(&text).context("llvm-cov printed no JSON")?;
        let files = json["data"][0]["files"].as_array().context("llvm-cov names no files")?;
        let of = |file: &serde_json::Value| {
            let lines = &file["summary"]["lines"];
            let name = PathBuf::from(file["filename"].as_str()?);
            Some((name, (lines["count"].as_u64()?, lines["covered"].as_u64()?)))
        };
        Ok(files.iter().filter_map(of).collect())
    }
}

/// Lines that can run, those that a world ran, and those that anything did.
#[derive(Default, Clone, Copy)]
struct Lines {
    all: u64,
    worlds: u64,
    any: u64,
}

impl Lines {
    fn add(&mut self, other: Self) {
        self.all += other.all;
        self.worlds += other.worlds;
        self.any += other.any;
    }

    #[expect(clippy::cast_precision_loss, reason = "numbers of lines")]
    fn percent(self, of: u64) -> f64 {
        if self.all == 0 { 0.0 } else { of as f64 * 100.0 / self.all as f64 }
    }

    fn percent_of_worlds(self) -> f64 {
        self.percent(self.worlds)
    }
}

/// By file of core.
struct Table(BTreeMap<String, Lines>);

type Covered = BTreeMap<PathBuf, (u64, u64)>;

impl Table {
    fn new(workspace: &Workspace, worlds: &Covered, all: &Covered) -> Self {
        let source = workspace.path("core/src");
        let mut rows = BTreeMap::new();
        for (file, &(lines, any)) in all {
            let Ok(below) = file.strip_prefix(&source) else { continue };
            let name = below.to_string_lossy().into_owned();
            // What tests are made of.
            if name.contains("tests") || name.ends_with("bench.rs") {
                continue;
            }
            let reached = worlds.get(file).map_or(0, |&(_, covered)| covered);
            rows.insert(name, Lines { all: lines, worlds: reached, any });
        }
        Self(rows)
    }

    fn total(&self) -> Lines {
        let mut total = Lines::default();
        self.0.values().for_each(|lines| total.add(*lines));
        total
    }

    fn text(&self) -> String {
        let mut text =
            "| file of core | lines | the simulator | with unit tests |\n| --- | ---: | ---: | ---: |\n"
                .to_owned();
        let rows = self.0.iter().map(|(name, lines)| (name.as_str(), *lines));
        for (name, lines) in rows.chain([("**all**", self.total())]) {
            let (worlds, any) = (lines.percent_of_worlds(), lines.percent(lines.any));
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| {name} | {} | {worlds:.1} % | {any:.1} % |", lines.all);
        }
        text
    }
}
