//! `cargo xtask test`: everything that has to hold before a change is kept. This file has the order; each part is in a file of its
//! own, and all are run though one failed, so that one run tells everything.

mod checks;
pub(crate) mod end_to_end;
pub(crate) mod nextest;
mod parts;
mod units;

use anyhow::{Result, bail, ensure};
use clap::{Args, ValueEnum};

use crate::bench;
use crate::coverage;
use crate::faults;
use crate::footprint;
use crate::images::{self, Programs};
use crate::instructions;
use crate::kubernetes::choice::{self, Choice, Cluster};
use crate::process;
use crate::saturate;
use crate::simulate;
use crate::workspace::Workspace;
use parts::Parts;

/// So many worlds that nobody has seen: about two minutes on two busy processors. The same ones as ever run with the unit tests.
const NEW_SEEDS: u64 = 5000;

/// Enough for a table of what worlds reach: more of them add little to it.
const COVERAGE_SEEDS: u64 = 500;

/// `cargo xtask test`
#[derive(Args)]
pub(crate) struct Arguments {
    /// The Kubernetes for the end-to-end tests: auto, own, context:NAME or none
    ///
    /// own: one of three nodes, started here in namespaces of its own (Linux, root). auto: own where it can be, else the one kind
    /// or k3d cluster of this machine, else the run fails. context:NAME: a kind or k3d cluster on this machine, or any other if
    /// its name is given once more with --yes-destroy. The current context is never used.
    #[arg(long, default_value = "auto", value_name = "WHICH")]
    kubernetes: Choice,
    /// Confirms that the tests may destroy what is in the cluster of this context
    #[arg(long, value_name = "NAME")]
    yes_destroy: Option<String>,
    /// A nextest filter expression: only these tests, in every part that runs tests
    #[arg(long, value_name = "EXPR")]
    filter: Option<String>,
    /// End-to-end tests at a time
    #[arg(long, default_value_t = 1, value_name = "N")]
    test_threads: u32,
    /// End-to-end tests with programs as they are published in the images: measures of many Topics, ten minutes to compile
    #[arg(long)]
    published: bool,
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART")]
    only: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Formatting,
    Dependencies,
    Clippy,
    Unit,
    Doc,
    Simulation,
    Coverage,
    Instructions,
    Faults,
    Bench,
    EndToEnd,
}

/// Runs the parts, prints what each took, and fails if one did.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::locate()?;
    let wanted = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    ensure!(
        !arguments.published || wanted(Part::EndToEnd),
        "--published is of end-to-end tests, which --only leaves out: add end-to-end to it"
    );
    // Said at once and not after twenty minutes: an unknown context, a confirmation that names another. `auto` has named nothing,
    // so the other parts are run first.
    let cluster = if wanted(Part::EndToEnd) {
        choice::resolve(&arguments.kubernetes, arguments.yes_destroy.as_deref())
    } else {
        Ok(Cluster::LeftOut)
    };
    let cluster = match (&arguments.kubernetes, cluster) {
        (Choice::Context(_) | Choice::Own, Err(error)) => return Err(error),
        (_, cluster) => cluster,
    };
    let filter = arguments.filter.as_deref();
    let mut parts = Parts::default();
    if wanted(Part::Formatting) {
        parts.run("formatting", || checks::formatting(&workspace));
    }
    if wanted(Part::Dependencies) {
        parts.run_for("dependencies (cargo deny)", || Ok(((), checks::dependencies(&workspace)?)));
    }
    if wanted(Part::Clippy) {
        parts.run("clippy", || checks::clippy(&workspace));
    }
    if wanted(Part::Unit) {
        units::run(&workspace, filter, &mut parts);
    }
    if wanted(Part::Doc) && filter.is_none() {
        parts.run("documentation's examples", || units::documentation(&workspace));
    }
    if wanted(Part::Simulation) && filter.is_none() {
        parts.run_for("simulation: new seeds", || Ok(((), simulate::run_new(&workspace, NEW_SEEDS)?)));
    }
    if wanted(Part::Coverage) && filter.is_none() {
        let measured = || Ok(((), coverage::run_some(&workspace, COVERAGE_SEEDS)?));
        parts.run_for("coverage of core by the simulator", measured);
    }
    if wanted(Part::Instructions) && filter.is_none() {
        instructions_of_the_hot_path(&workspace, &mut parts);
    }
    if wanted(Part::Faults) && filter.is_none() {
        real_faults(&workspace, &mut parts);
    }
    if wanted(Part::Bench) && filter.is_none() {
        parts.run_for("bench beside NATS and Redis", || Ok(((), bench::check(&workspace)?)));
        // What a process takes is read from Linux.
        if cfg!(target_os = "linux") {
            parts.run_for("footprint of one broker", || Ok(((), footprint::check(&workspace)?)));
            parts.run_for("saturation of one broker", || Ok(((), saturate::check(&workspace)?)));
        }
    }
    if wanted(Part::EndToEnd) {
        let programs = if arguments.published { Programs::Published } else { Programs::Tested };
        let wanted = end_to_end::Wanted { filter, threads: arguments.test_threads, programs };
        end_to_end::run(&workspace, cluster, &wanted, &mut parts);
    }
    parts.print();
    match parts.failed() {
        0 => Ok(()),
        1 => bail!("a part failed"),
        failed => bail!("{failed} parts failed"),
    }
}

/// Seconds, with the binaries that the next parts need too.
fn instructions_of_the_hot_path(workspace: &Workspace, parts: &mut Parts) {
    const PART: &str = "instructions of the hot path";
    match instructions::can_run() {
        Ok(()) => drop(parts.run_for(PART, || Ok(((), instructions::check(workspace)?)))),
        Err(why) => parts.left_out_because(PART, why),
    }
}

/// Five minutes of blows from a new seed, each kind once at least on a machine that is not busy; with them the start, the settling
/// and a last look from every side.
fn real_faults(workspace: &Workspace, parts: &mut Parts) {
    const PART: &str = "faults: blows against real brokers";
    if let Err(why) = faults::can_run() {
        return parts.left_out_because(PART, why);
    }
    parts.run(PART, || {
        images::build_binaries(workspace)?;
        process::run(faults::command(workspace).args(["--for", "5m"]))
    });
}
