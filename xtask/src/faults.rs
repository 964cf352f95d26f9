//! `cargo xtask faults`: compiles, then hands over to `fulmar-faults`, with the program that it starts and a folder below `target`.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::images;
use crate::process;
use crate::workspace::Workspace;

/// `cargo xtask faults`: everything behind it is `fulmar-faults`' own.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// See `cargo xtask faults --help`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Compiles and runs.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::locate()?;
    images::build_binaries(&workspace)?;
    process::run(command(&workspace).args(&arguments.arguments))
}

/// Whether this machine can.
pub(crate) fn can_run() -> Result<(), &'static str> {
    if !cfg!(target_os = "linux") {
        return Err("it needs Linux");
    }
    let is_root = process::output(Command::new("id").arg("-u")).is_ok_and(|id| id == "0");
    if is_root { Ok(()) } else { Err("it needs root") }
}

/// The program, which knows what it needs of this workspace.
pub(crate) fn command(workspace: &Workspace) -> Command {
    let mut command = Command::new(workspace.binaries().join("fulmar-faults"));
    command
        .current_dir(workspace.root())
        .env("FULMAR_FAULTS_PROGRAM", workspace.binaries().join("fulmar"))
        .env("FULMAR_FAULTS_DATA", workspace.target().join("faults"));
    command
}
