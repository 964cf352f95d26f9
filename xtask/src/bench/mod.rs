//! `cargo xtask bench`: starts Fulmar and its rivals on this machine, on one file system, and has `fulmar bench` measure them in turns.
//!
//! Owns which systems take part with which settings, and the table of `docs/performance.md`. The measuring is `fulmar bench`'s own.

mod found;
mod goals;
mod servers;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;

use self::found::Found;
use self::servers::{Fulmar, Nats, Redis, Servers};
use crate::background;
use crate::images;
use crate::machine;
use crate::ports::Block;
use crate::process;
use crate::tools;
use crate::workspace::{Measured, Workspace};

const TOPIC: &str = "bench";

/// `cargo xtask bench`
#[derive(Args)]
pub(crate) struct Arguments {
    /// Brokers, and servers of NATS: 1, or 3 with two that acknowledge
    #[arg(long, default_value = "1", value_parser = ["1", "3"])]
    replicas: String,
    /// How often each system does each work
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// How long each measurement publishes
    #[arg(long, default_value = "5s")]
    duration: String,
    /// Only these works, as `fulmar bench --help` names them
    #[arg(long, value_name = "WORK")]
    work: Vec<String>,
}

/// Builds what is published, measures, and prints the table.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::locate()?;
    let measured = workspace.build_measured()?;
    let run = Run {
        workspace: &workspace,
        programs: &measured,
        replicas: arguments.replicas.parse().context("clap allows 1 and 3")?,
        rounds: arguments.rounds,
        duration: &arguments.duration,
        works: &arguments.work,
    };
    let found = run.measured()?;
    println!("{}", found.table(run.replicas));
    Ok(())
}

/// One short round by the binaries that the tests use: every work of every system has its row, and everything that was published is
/// read back. Nothing is said of speed.
pub(crate) fn check(workspace: &Workspace) -> Result<String> {
    images::build_binaries(workspace)?;
    let run =
        Run { workspace, programs: &workspace.tested(), replicas: 1, rounds: 1, duration: "1s", works: &[] };
    run.measured()?.check()
}

struct Run<'a> {
    workspace: &'a Workspace,
    programs: &'a Measured,
    replicas: u16,
    rounds: u32,
    duration: &'a str,
    works: &'a [String],
}

impl Run<'_> {
    fn measured(&self) -> Result<Found> {
        let folder = self.workspace.target().join("bench");
        let data = folder.join("data");
        background::make_anew(&data)?;
        let before = machine::load();
        let servers = self.start(&data)?;
        let told = process::output(&mut self.bench(&servers))?;
        drop(servers);
        background::remove(&data)?;
        let kept = folder.join(format!("{}.json", self.replicas));
        fs::write(&kept, &told).with_context(|| format!("could not write {}", kept.display()))?;
        let machine = format!("{}; load {before} before, {} after", machine::described(), machine::load());
        Found::parse(&told, machine)
    }

    fn start(&self, data: &Path) -> Result<Servers> {
        let (ours, theirs) = (Block::take(), Block::take());
        let nats = tools::NATS_SERVER.file()?;
        let mut servers = Servers::default();
        let fulmar =
            Fulmar { programs: self.programs, replicas: self.replicas, base: ours.base, topic: TOPIC };
        servers.start_fulmar(&fulmar, &data.join("fulmar"))?;
        for (number, sync) in [(0, None), (1, Some("always"))] {
            let base = theirs.base + 10 * number;
            let nats = Nats { program: &nats, replicas: self.replicas, base, sync };
            servers.start_nats(&nats, &data.join(format!("nats-{number}")))?;
        }
        // Redis has no acknowledgement by a quorum.
        if self.replicas == 1 {
            servers.start_redis(&Redis { port: theirs.base + 20 }, &data.join("redis"))?;
        }
        servers.keep([ours, theirs]);
        Ok(servers)
    }

    fn bench(&self, servers: &Servers) -> Command {
        let mut command = Command::new(&self.programs.program);
        command.args(["bench", TOPIC, "-o", "json", "--server", servers.fulmar(), "--http", servers.http()]);
        command.args(["--rounds", &self.rounds.to_string(), "--duration", self.duration]);
        for rival in servers.rivals() {
            command.args(["--against", rival]);
        }
        for work in self.works {
            command.args(["--work", work]);
        }
        command
    }
}
