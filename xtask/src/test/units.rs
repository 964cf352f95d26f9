//! Unit and integration tests of every crate, end to end left out.

use anyhow::Result;

use super::nextest::{self, Tests};
use super::parts::Parts;
use crate::process;
use crate::workspace::Workspace;

const EXCEPT_END_TO_END: &str = "not package(fulmar-e2e)";

/// Compiles, then runs: two rows of the table, since they are slow for different reasons.
pub(crate) fn run(workspace: &Workspace, filter: Option<&str>, parts: &mut Parts) {
    let tests = Tests { within: EXCEPT_END_TO_END, filter, threads: None };
    let built = parts.run_for("tests: compile", || nextest::build(workspace).map(|()| ((), String::new())));
    if built.is_some() {
        parts.run_for("tests: unit and integration", || {
            nextest::run(workspace, &tests).map(|summary| ((), summary))
        });
    }
}

/// The examples in the documentation of the crates.
pub(crate) fn documentation(workspace: &Workspace) -> Result<()> {
    process::run(workspace.cargo("test").args(["--doc", "--workspace", "--quiet"]))
}
