//! `fulmar`: publish, consume, look, measure; and a whole cluster on this machine (`fulmar dev`).
//!
//! Owns arguments, output and exit codes: a file for each command. Never speaks a protocol itself: the SDK, the broker and
//! the steward do.

mod bench;
mod broker;
mod completion;
mod consume;
mod dev;
mod discover;
mod exit;
mod kubectl;
mod lines;
mod live;
mod log_level;
mod man;
mod output;
mod publish;
mod server;
mod status;
mod support;
mod topic;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::exit::Failed;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused, or failed on the way
  2  arguments or environment that make no sense
  3  no broker answered in time
  4  no such topic or partition";

/// Fulmar, a message broker that lives on Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "fulmar", version, after_help = EXIT_CODES, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Dev(dev::Dev),
    Publish(publish::Publish),
    Consume(consume::Consume),
    /// Look at topics
    #[command(subcommand)]
    Topic(topic::Topic),
    /// Look at the Cluster, and change what its brokers log
    #[command(subcommand)]
    Cluster(status::Cluster),
    /// Look at a broker's volume, and change what a broker logs
    #[command(subcommand)]
    Broker(broker::Broker),
    Discover(discover::Discover),
    Bench(bench::Bench),
    SupportBundle(support::SupportBundle),
    Completion(completion::Completion),
    Man(man::Man),
}

impl Command {
    async fn run(self) -> Result<(), Failed> {
        match self {
            Self::Dev(dev) => dev.run().await,
            Self::Publish(publish) => publish.run().await,
            Self::Consume(consume) => consume.run().await,
            Self::Topic(topic) => topic.run().await,
            Self::Cluster(cluster) => cluster.run().await,
            Self::Discover(discover) => discover.run().await,
            Self::Bench(bench) => bench.run().await,
            Self::SupportBundle(support) => support.run().await,
            Self::Completion(completion) => completion.run(),
            Self::Man(man) => man.run(),
            Self::Broker(broker) => broker.run().await,
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return exit::report(&Failed::Failure(format!("cannot start: {error}"))),
    };
    let result = runtime.block_on(cli.command.run());
    // A thread that waits for the terminal's next line must not keep the process.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => exit::report(&failed),
    }
}
