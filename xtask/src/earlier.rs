//! The version before, for the end-to-end tests that upgrade from it and take back to it: its images and its chart, of the commit
//! that `e2e/earlier-version` names.
//!
//! Owns `target/earlier`: a folder for each commit, which is made once. What crates of others become is shared with what is checked
//! out; only our own crates are compiled again. Never: what is done with that version.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::images::{self, Architecture, EARLIER, Source};
use crate::process;
use crate::workspace::Workspace;

/// Where the commit is named.
const NAMED_IN: &str = "e2e/earlier-version";

/// The programs that there are images of.
const PROGRAMS: [&str; 2] = ["fulmar-broker", "fulmar-operator"];

/// An earlier version by its commit; whether it is made is another matter.
pub(crate) struct Earlier {
    commit: String,
    folder: PathBuf,
}

/// An earlier version that is made.
pub(crate) struct Made {
    folder: PathBuf,
}

impl Earlier {
    /// The one that the checkout names.
    pub(crate) fn named_in(workspace: &Workspace) -> Result<Self> {
        let path = workspace.path(NAMED_IN);
        let text = fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
        let commit = commit_of(&text)?;
        Ok(Self { folder: workspace.target().join("earlier").join(&commit), commit })
    }

    /// The first characters of its commit, for people.
    pub(crate) fn short(&self) -> &str {
        &self.commit[..10]
    }

    /// What is made of it, if it is.
    pub(crate) fn made(&self) -> Option<Made> {
        self.done().exists().then(|| Made { folder: self.folder.clone() })
    }

    /// Makes it unless it is. Another run that makes it just now is waited for.
    pub(crate) fn make(&self, workspace: &Workspace) -> Result<Made> {
        if let Some(made) = self.made() {
            return Ok(made);
        }
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("could not make {}", self.folder.display()))?;
        let lock = self.folder.join("lock");
        let held = File::create(&lock).with_context(|| format!("could not make {}", lock.display()))?;
        held.lock().with_context(|| format!("could not lock {}", lock.display()))?;
        if let Some(made) = self.made() {
            return Ok(made);
        }
        println!("the earlier version {}: built once, into {}", self.short(), self.folder.display());
        self.take_out(workspace)?;
        self.compile(workspace)?;
        let source = self.source();
        images::build_from(
            workspace,
            &Source {
                binaries: &self.binaries(workspace),
                dockerfiles: &source,
                folder: &self.folder,
                names: &EARLIER,
                architecture: Architecture::HERE,
            },
        )?;
        let chart = self.folder.join("chart");
        remove_folder(&chart)?;
        fs::rename(source.join("charts/fulmar"), &chart)
            .with_context(|| format!("could not put the chart to {}", chart.display()))?;
        // Hundreds of megabytes that nobody reads again.
        remove_folder(&source)?;
        remove_folder(&self.target())?;
        File::create(self.done()).with_context(|| format!("could not write {}", self.done().display()))?;
        Ok(Made { folder: self.folder.clone() })
    }

    /// Writes its sources, under a version of their own.
    fn take_out(&self, workspace: &Workspace) -> Result<()> {
        let git = || {
            let mut git = Command::new("git");
            git.current_dir(workspace.root());
            git
        };
        let shallow = process::output(git().args(["rev-parse", "--is-shallow-repository"]))
            .with_context(|| format!("the commit that {NAMED_IN} names is taken from git"))?;
        if !process::succeeds(git().args(["cat-file", "-e", &format!("{}^{{commit}}", self.commit)])) {
            bail!("{}", missing(&self.commit, shallow == "true"));
        }
        let source = self.source();
        remove_folder(&source)?;
        fs::create_dir_all(&source).with_context(|| format!("could not make {}", source.display()))?;
        let archive = self.folder.join("source.tar");
        process::run(git().args(["archive", "--format=tar", "--output"]).arg(&archive).arg(&self.commit))?;
        process::run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&source))?;
        fs::remove_file(&archive).with_context(|| format!("could not remove {}", archive.display()))?;
        let manifest = source.join("Cargo.toml");
        let text = fs::read_to_string(&manifest)
            .with_context(|| format!("could not read {}", manifest.display()))?;
        let marked = marked(&text, self.short())
            .with_context(|| format!("{} has no line `version = \"…\"`", manifest.display()))?;
        fs::write(&manifest, marked).with_context(|| format!("could not write {}", manifest.display()))
    }

    /// Compiles the two programs with the features that the whole workspace chooses, as ever: others would be another build of what is
    /// shared. What is on the way goes where the checkout's goes, and is shared by that; what comes out goes elsewhere, for its
    /// binaries have the same names.
    fn compile(&self, workspace: &Workspace) -> Result<()> {
        let mut build = workspace.cargo("build");
        build.current_dir(self.source()).arg("--workspace");
        build.args(PROGRAMS.iter().flat_map(|program| ["--bin", program]));
        build.env("CARGO_BUILD_BUILD_DIR", workspace.target()).env("CARGO_TARGET_DIR", self.target());
        // Nobody continues to edit it.
        build.env("CARGO_INCREMENTAL", "0");
        process::run(&mut build)
    }

    fn source(&self) -> PathBuf {
        self.folder.join("source")
    }

    fn target(&self) -> PathBuf {
        self.folder.join("target")
    }

    fn binaries(&self, workspace: &Workspace) -> PathBuf {
        self.target().join(workspace.triple()).join("debug")
    }

    /// The file that is written last.
    fn done(&self) -> PathBuf {
        self.folder.join("done")
    }
}

impl Made {
    /// Its images.
    pub(crate) fn archives(&self) -> impl Iterator<Item = PathBuf> {
        PROGRAMS.iter().map(|program| self.folder.join(format!("{program}.tar")))
    }

    /// Its Helm chart.
    pub(crate) fn chart(&self) -> PathBuf {
        self.folder.join("chart")
    }
}

/// The one line that is neither empty nor a remark: a commit's whole hash, which no branch that moves can stand for.
fn commit_of(text: &str) -> Result<String> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (Some(line), None) = (lines.next(), lines.next()) else {
        bail!("{NAMED_IN} has one line beside remarks (#): a commit's hash");
    };
    let is_whole = line.len() == 40 && line.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_whole {
        bail!("{NAMED_IN} names {line:?}: it is a commit's whole hash, 40 characters of 0-9 and a-f");
    }
    Ok(line.to_owned())
}

/// The workspace's manifest with the commit in its version. Cargo names what it compiles after a crate's path in its workspace and its
/// version, and sees by files' times whether it is up to date: without this it would take the checkout's for this commit's, or the
/// other way round.
fn marked(manifest: &str, commit: &str) -> Option<String> {
    let (before, rest) = manifest.split_once("\nversion = \"")?;
    let (version, rest) = rest.split_once('"')?;
    Some(format!("{before}\nversion = \"{version}-at{commit}\"{rest}"))
}

/// What a person reads in whose clone the commit is not.
fn missing(commit: &str, is_shallow: bool) -> String {
    let (why, command) = if is_shallow {
        ("this clone is a shallow one", "git fetch --unshallow".to_owned())
    } else {
        ("this clone does not have it", format!("git fetch origin {commit}"))
    };
    format!(
        "commit {commit}, which {NAMED_IN} names, cannot be built, for {why}: type `{command}`, then try again"
    )
}

fn remove_folder(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    fs::remove_dir_all(folder).with_context(|| format!("could not remove {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::{commit_of, marked, missing};

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn a_whole_hash_is_read_from_among_remarks() {
        assert_eq!(commit_of(&format!("# why\n\n{COMMIT}\n")).unwrap(), COMMIT);
    }

    #[test]
    fn what_may_move_or_names_two_commits_is_refused() {
        for wrong in ["main", "0123456", &COMMIT.to_uppercase()] {
            let refused = commit_of(wrong).unwrap_err().to_string();
            assert!(refused.contains(wrong) && refused.contains("40 characters"), "{refused}");
        }
        for wrong in ["# nothing\n", &format!("{COMMIT}\n{COMMIT}\n")] {
            assert!(commit_of(wrong).unwrap_err().to_string().contains("one line"), "{wrong}");
        }
    }

    #[test]
    fn its_crates_are_never_taken_for_those_of_the_checkout() {
        let manifest = "[workspace.package]\nversion = \"0.1.0\"\nedition = \"2024\"\n";
        let other = "[workspace.package]\nversion = \"0.1.0-at0123456789\"\nedition = \"2024\"\n";
        assert_eq!(marked(manifest, "0123456789").as_deref(), Some(other));
        assert_eq!(marked("[workspace]\n", "0123456789"), None);
    }

    #[test]
    fn a_clone_without_the_commit_is_told_what_to_type() {
        assert!(missing(COMMIT, true).contains("`git fetch --unshallow`"));
        assert!(missing(COMMIT, false).contains(&format!("`git fetch origin {COMMIT}`")));
    }
}
