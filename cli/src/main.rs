//! `fulmar`: publish, consume, look, measure; and a whole cluster on this machine (`fulmar dev`).
//!
//! Owns arguments, output and exit codes: a file for each command. Never speaks a protocol itself: the SDK, the broker and
//! the steward do.

mod arguments;
mod bench;
mod broker;
mod completion;
mod consume;
mod dev;
mod discover;
mod exit;
mod filter;
mod forward;
mod input;
mod kubectl;
mod lines;
mod live;
mod log_level;
mod man;
mod output;
mod place;
mod publish;
mod server;
mod status;
mod stop;
mod support;
mod topic;
mod tunnel;

use std::process::ExitCode;

use clap::{FromArgMatches, Parser, Subcommand};

use crate::arguments::Called;
use crate::exit::Failed;
use crate::place::{Interrupt, Place};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused, or failed on the way
  2  arguments or environment that make no sense
  3  no broker answered in time
  4  no such topic, partition or Cluster";

/// Fulmar, a message broker that lives on Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "fulmar", version, after_help = EXIT_CODES, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    place: Place,
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
    async fn run(self, place: Place) -> Result<(), Failed> {
        match self {
            Self::Dev(dev) => dev.run().await,
            Self::Publish(publish) => place.reach(Interrupt::Ends, |server| publish.run(server)).await,
            Self::Consume(consume) => place.reach(Interrupt::EndsWell, |server| consume.run(server)).await,
            Self::Topic(topic) => place.reach(Interrupt::Ends, |server| topic.run(server)).await,
            Self::Cluster(cluster) => cluster.run(place).await,
            Self::Discover(discover) => place.reach(Interrupt::Ends, |server| discover.run(server)).await,
            Self::Bench(bench) => place.reach(Interrupt::IsMinded, |server| bench.run(server)).await,
            Self::SupportBundle(support) => support.run(place.kubectl(), &place.typed_for_kubectl()).await,
            Self::Completion(completion) => completion.run(),
            Self::Man(man) => man.run(),
            Self::Broker(broker) => broker.run().await,
        }
    }
}

fn main() -> ExitCode {
    let called = Called::by(std::env::args_os().next().as_deref());
    let matches = arguments::tree(called).get_matches();
    let Cli { place, command } = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let place = match arguments::typed(&matches).and_then(|typed| place.settle(called, typed)) {
        Ok(place) => place,
        Err(failed) => return exit::report(&failed),
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return exit::report(&Failed::Failure(format!("cannot start: {error}"))),
    };
    let result = runtime.block_on(command.run(place));
    // A thread that waits for the terminal's next line must not keep the process.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => exit::report(&failed),
    }
}
