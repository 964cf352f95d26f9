//! What is checked without running anything of ours: formatting, lints, and what we depend on.

use anyhow::Result;

use crate::process;
use crate::tools;
use crate::workspace::Workspace;

/// `cargo fmt --check`
pub(crate) fn formatting(workspace: &Workspace) -> Result<()> {
    process::run(workspace.cargo("fmt").args(["--all", "--check"]))
}

/// Clippy with the workspace's lints; a warning is an error here, and nowhere in the source.
pub(crate) fn clippy(workspace: &Workspace) -> Result<()> {
    process::run(workspace.cargo("clippy").args([
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]))
}

/// `cargo deny`: bans, licences and sources; advisories too where their database is on this machine, for it has to be downloaded.
pub(crate) fn dependencies(workspace: &Workspace) -> Result<()> {
    let path = tools::DENY.path()?;
    let mut command = workspace.cargo("deny");
    command.env("PATH", path).args(["--offline", "--workspace", "check", "--hide-inclusion-graph"]);
    command.args(["bans", "licenses", "sources"]);
    if std::env::var_os("FULMAR_ADVISORIES").is_some() {
        command.arg("advisories");
    } else {
        println!("advisories: not checked, their database is not looked for unless FULMAR_ADVISORIES is set");
    }
    process::run(&mut command)
}
