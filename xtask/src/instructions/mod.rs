//! `cargo xtask instructions`: how many instructions each piece of the hot path takes, by callgrind, beside what was recorded.
//!
//! Instructions and not time: a busy machine does not change them, so a lost copy or allocation shows in any run.
//! Owns the measuring and the file of counts (`hotpath/instructions.txt`). What the pieces are is `hotpath`'s.

mod record;

use std::env::consts::{ARCH, OS};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;

use self::record::{Counts, Record};
use crate::images;
use crate::process;
use crate::workspace::Workspace;

/// Of the workspace; what `--record` writes.
const RECORDED: &str = "hotpath/instructions.txt";
/// The one function of `fulmar-hotpath` that is counted, however its name is mangled.
const COUNTED: &str = "*counted_here*";

/// `cargo xtask instructions`
#[derive(Args)]
pub(crate) struct Arguments {
    /// Write the counts into hotpath/instructions.txt, to compare with from now on
    #[arg(long)]
    record: bool,
}

/// Counts, and compares or records.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if let Err(why) = can_run() {
        anyhow::bail!("cannot count here: {why}");
    }
    let workspace = Workspace::locate()?;
    if arguments.record {
        let record = Record { compiler: compiler(&workspace)?, counts: count(&workspace)? };
        let file = workspace.path(RECORDED);
        fs::write(&file, record.text()).with_context(|| format!("could not write {}", file.display()))?;
        println!("{}", record.text());
        return Ok(());
    }
    println!("{}", check(&workspace)?);
    Ok(())
}

/// Why nothing can be counted on this machine. Counts of other processors are others, so they are recorded for one kind.
pub(crate) fn can_run() -> Result<(), &'static str> {
    if (OS, ARCH) != ("linux", "x86_64") {
        return Err("counts are recorded for Linux on x86_64");
    }
    if !process::succeeds(Command::new("valgrind").arg("--version")) {
        return Err("valgrind is missing (on Debian: apt-get install valgrind)");
    }
    Ok(())
}

/// Counts with the binary that the tests use, and fails if a piece takes more than was recorded; gives the remark for the table.
pub(crate) fn check(workspace: &Workspace) -> Result<String> {
    let file = workspace.path(RECORDED);
    let text = fs::read_to_string(&file).with_context(|| format!("could not read {}", file.display()))?;
    let recorded = Record::parse(&text).with_context(|| file.display().to_string())?;
    recorded.compare(&Record { compiler: compiler(workspace)?, counts: count(workspace)? })
}

fn compiler(workspace: &Workspace) -> Result<String> {
    process::output(Command::new("rustc").current_dir(workspace.root()).arg("--version"))
}

fn count(workspace: &Workspace) -> Result<Counts> {
    images::build_binaries(workspace)?;
    let binary = workspace.binaries().join("fulmar-hotpath");
    let folder = workspace.target().join("instructions");
    fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
    let names = process::output(Command::new(&binary).arg("--list"))?;
    names.lines().map(|name| Ok((name.to_owned(), count_one(&binary, name, &folder)?))).collect()
}

fn count_one(binary: &Path, name: &str, folder: &Path) -> Result<u64> {
    let out = folder.join(format!("{name}.callgrind"));
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--quiet", "--collect-atstart=no"]);
    valgrind
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(format!("--callgrind-out-file={}", out.display()));
    process::output(valgrind.arg(binary).arg(name))?;
    let text = fs::read_to_string(&out).with_context(|| format!("could not read {}", out.display()))?;
    record::total(&text).with_context(|| format!("{} (callgrind_annotate shows it)", out.display()))
}
