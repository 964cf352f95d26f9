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

/// `cargo deny`: bans, licences and sources; advisories too if `FULMAR_ADVISORIES` is set, for their database is downloaded. Gives
/// the remark for the table.
pub(crate) fn dependencies(workspace: &Workspace) -> Result<String> {
    let path = match tools::DENY.path() {
        Ok(path) => path,
        Err(error) => {
            eprintln!("cargo deny could not be had: {error:#}");
            return Ok("NOT CHECKED, cargo deny could not be had".to_owned());
        }
    };
    let mut command = workspace.cargo("deny");
    command.env("PATH", path).args([
        "--workspace",
        "check",
        "--hide-inclusion-graph",
        "bans",
        "licenses",
        "sources",
    ]);
    let advisories = std::env::var_os("FULMAR_ADVISORIES").is_some();
    if advisories {
        command.arg("advisories");
    }
    process::run(&mut command)?;
    Ok(if advisories {
        String::new()
    } else {
        "advisories not checked (FULMAR_ADVISORIES=1 does)".to_owned()
    })
}
