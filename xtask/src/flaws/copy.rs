//! A copy of core in the target folder, with a target folder of its own that all flaws share: each costs one incremental
//! compile of core and its simulation.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::patch::Patch;
use crate::process;
use crate::simulate::failing;
use crate::workspace::Workspace;

/// The copy.
pub(crate) struct Copy<'a> {
    workspace: &'a Workspace,
    root: PathBuf,
}

impl<'a> Copy<'a> {
    /// Makes it, or what is left of an earlier one equal to the checkout.
    pub(crate) fn of(workspace: &'a Workspace) -> Result<Self> {
        let copy = Self { workspace, root: workspace.target().join("flaws/copy") };
        copy.restore()?;
        Ok(copy)
    }

    /// Undoes every patch. Files that are right keep their times, so that cargo compiles only what changes.
    pub(crate) fn restore(&self) -> Result<()> {
        for file in ["Cargo.lock", "rust-toolchain.toml"] {
            self.put(Path::new(file), &read(&self.workspace.path(file))?)?;
        }
        let manifest = String::from_utf8(read(&self.workspace.path("Cargo.toml"))?)?;
        self.put(Path::new("Cargo.toml"), of_core_alone(&manifest).as_bytes())?;
        let mut files = BTreeSet::new();
        list(&self.workspace.path("core"), Path::new("core"), &mut files)?;
        for file in &files {
            self.put(file, &read(&self.workspace.path(&file.to_string_lossy()))?)?;
        }
        let mut there = BTreeSet::new();
        list(&self.root.join("core"), Path::new("core"), &mut there)?;
        for file in there.difference(&files) {
            fs::remove_file(self.root.join(file))?;
        }
        Ok(())
    }

    fn put(&self, file: &Path, content: &[u8]) -> Result<()> {
        let path = self.root.join(file);
        if fs::read(&path).is_ok_and(|there| there == content) {
            return Ok(());
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
        }
        fs::write(&path, content).with_context(|| format!("could not write {}", path.display()))
    }

    /// Plants a flaw. A patch that does not fit any more is an error.
    pub(crate) fn apply(&self, patch: &Patch) -> Result<()> {
        let mut command = Command::new("git");
        command.current_dir(&self.root).args(["apply", "--whitespace=nowarn"]).arg(&patch.path);
        // The copy lies in a checkout that it is no part of.
        command.env("GIT_CEILING_DIRECTORIES", self.root.parent().unwrap_or(&self.root));
        process::run(&mut command)
            .with_context(|| format!("{} does not fit core any more: make it anew", patch.path.display()))
    }

    /// Cargo in the copy.
    pub(crate) fn cargo(&self, subcommand: &str) -> Command {
        let mut command = self.workspace.cargo(subcommand);
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", self.workspace.target().join("flaws/target"));
        // Many small changes are compiled one after the other, and nobody debugs them.
        command.env("CARGO_INCREMENTAL", "1").env("CARGO_PROFILE_DEV_DEBUG", "0").arg("--offline");
        command
    }

    /// Core's unit tests that fail.
    pub(crate) fn failing_units(&self) -> Result<Vec<String>> {
        failing(self.cargo("test").args(["--package", "fulmar-core", "--lib", "--no-fail-fast"]))
    }
}

/// The workspace's manifest with no member but core, which is not made faster than the rest: it is compiled more often than
/// it runs.
fn of_core_alone(manifest: &str) -> String {
    let lines = manifest.lines().map(|line| match line.split_once(" = ") {
        Some(("opt-level", "2")) => "opt-level = 1\n".to_owned(),
        Some((key @ ("members" | "default-members"), _)) => format!("{key} = [\"core\"]\n"),
        _ => format!("{line}\n"),
    });
    lines.collect()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("could not read {}", path.display()))
}

fn list(folder: &Path, name: &Path, files: &mut BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("could not read {}", folder.display()))? {
        let entry = entry?;
        let name = name.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            list(&entry.path(), &name, files)?;
        } else {
            files.insert(name);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::of_core_alone;

    #[test]
    fn only_core_is_left_of_the_workspace() {
        let manifest = "[workspace]\nmembers = [\"broker\", \"core\"]\ndefault-members = [\"core\"]\nx = 1\n";
        let core = "[workspace]\nmembers = [\"core\"]\ndefault-members = [\"core\"]\nx = 1\n";
        assert_eq!(of_core_alone(manifest), core);
    }
}
