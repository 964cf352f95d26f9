//! The project's chores, as `cargo xtask COMMAND`: one file or folder for each command, this one only tells them apart.
//!
//! It drives cargo, bash and Kubernetes' own tools; it knows nothing of what brokers and operators do.

// What it says to the person who typed the command is its output.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod alone;
mod background;
mod bench;
mod coverage;
mod earlier;
mod faults;
mod flaws;
mod footprint;
mod fuzz;
mod images;
mod instructions;
mod kubernetes;
mod machine;
#[path = "../../broker/tests/support/ports.rs"]
#[allow(clippy::unwrap_used, clippy::panic, unreachable_pub, missing_docs, reason = "tests share it")]
mod ports;
mod process;
mod report;
mod rows;
mod saturate;
mod sbom;
mod simulate;
mod test;
mod tools;
mod wish;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's chores.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Formatting, clippy, all tests of the workspace, then end to end on a real Kubernetes
    Test(test::Arguments),
    /// Worlds of the simulator from new seeds: nothing that was promised is ever broken
    Simulate(simulate::Arguments),
    /// Plant known flaws into a copy of core, one by one: the simulator has to find each
    Flaws(flaws::Arguments),
    /// Which lines of core the simulator reaches, and which only the unit tests do
    Coverage(coverage::Arguments),
    /// A Kubernetes to try things on: three nodes in namespaces of their own (Linux, root)
    #[command(subcommand)]
    Kubernetes(kubernetes::Command),
    /// Blows from a seed against real brokers with real files, while programs publish and read (Linux, root)
    Faults(faults::Arguments),
    /// Measure Fulmar beside NATS and Redis, all started here, in turns
    Bench(bench::Arguments),
    /// What one broker takes, alone on this machine: memory, time to start, bytes written (Linux)
    Footprint(footprint::Arguments),
    /// Publish to one broker of little memory all that it takes, for long: it goes on as it began (Linux, root)
    Saturate(saturate::Arguments),
    /// Parsers of bytes that others wrote get bytes that libFuzzer makes (a C++ compiler)
    Fuzz(fuzz::Arguments),
    /// How many instructions the hot path takes, by callgrind, beside what was recorded (Linux, AMD64)
    Instructions(instructions::Arguments),
    /// Build the images of broker and operator, and import them into the Kubernetes that `kubernetes up` started
    Images(images::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Test(arguments) => test::run(&arguments),
        Command::Simulate(arguments) => simulate::run(&arguments),
        Command::Flaws(arguments) => flaws::run(&arguments),
        Command::Coverage(arguments) => coverage::run(&arguments),
        Command::Kubernetes(command) => kubernetes::run(command),
        Command::Faults(arguments) => faults::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Footprint(arguments) => footprint::run(&arguments),
        Command::Saturate(arguments) => saturate::run(&arguments),
        Command::Fuzz(arguments) => fuzz::run(&arguments),
        Command::Instructions(arguments) => instructions::run(&arguments),
        Command::Images(arguments) => images::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
