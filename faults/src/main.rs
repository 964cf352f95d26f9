//! `fulmar-faults`, started by `cargo xtask faults`: blows from a seed against real brokers with real files, while programs
//! publish and read.
//!
//! Owns the room that the brokers run in, the blows, and the comparison of every acknowledged record. Never looks inside of a
//! broker: it sees what a program, a kernel and a disk see.

// What it says to the person who typed the command is its output.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod arguments;
mod blows;
mod cluster;
mod examine;
mod leaders;
mod load;
mod outcome;
mod report;
mod room;
mod round;
mod run;
mod settle;
mod story;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match room::enter() {
        Ok(room::Entered::Inside) => run::run(&arguments),
        Ok(room::Entered::Ended(code)) => return code,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("faults: {error:#}");
            ExitCode::FAILURE
        }
    }
}
