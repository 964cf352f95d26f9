//! Does one piece of the hot path, for callgrind: `fulmar-hotpath NAME`; `--list` names them. What is counted is one call of
//! [`counted_here`].

// It is run by a person or by `cargo xtask instructions`, who read what it says.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use fulmar_hotpath::{Rest, Run, WORKS};

fn main() -> ExitCode {
    let name = std::env::args().nth(1).unwrap_or_default();
    if name == "--list" {
        for work in &WORKS {
            println!("{}", work.name);
        }
        return ExitCode::SUCCESS;
    }
    let Some(work) = WORKS.iter().find(|work| work.name == name) else {
        let names: Vec<&str> = WORKS.iter().map(|work| work.name).collect();
        eprintln!("{name:?} is no piece of the hot path; there are {}", names.join(", "));
        return ExitCode::FAILURE;
    };
    // What is done once in a process, such as asking the processor what it can, is no part of the path.
    (work.prepare)()();
    drop(counted_here((work.prepare)()));
    ExitCode::SUCCESS
}

/// Callgrind counts from its beginning to its end: `cargo xtask instructions` knows it by its name.
#[inline(never)]
fn counted_here(run: Run) -> Rest {
    run()
}
