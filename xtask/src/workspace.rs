//! Where things are, and the one way in which everything here is compiled: a profile, a target and flags that tests, binaries
//! and images share, so that nothing is built twice.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;

/// The folder of this program's own manifest. Cargo says whose it is now: checkouts that share a target folder share the program, too, as long
/// as its sources are the same.
pub(crate) fn manifest() -> PathBuf {
    env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from)
}

/// What is measured.
pub(crate) struct Measured {
    /// `fulmar`: clients, and the controller of `fulmar dev`.
    pub(crate) program: PathBuf,
    /// `fulmar-broker`.
    pub(crate) broker: PathBuf,
}

/// The checkout, and how cargo is called in it.
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
    triple: String,
    /// What links, where that is not what links for this machine.
    linker: Option<&'static str>,
}

impl Workspace {
    /// Asks cargo and rustc; no file is written.
    pub(crate) fn locate() -> Result<Self> {
        let manifest = manifest();
        let root = manifest.parent().context("xtask is a folder of the workspace")?.to_owned();
        let metadata = process::output(Command::new(cargo()).current_dir(&root).args([
            "metadata",
            "--format-version=1",
            "--no-deps",
            "--offline",
        ]))?;
        let metadata: serde_json::Value =
            serde_json::from_str(&metadata).context("cargo metadata printed no JSON")?;
        let target =
            metadata["target_directory"].as_str().context("cargo metadata names no target_directory")?;
        let about = process::output(Command::new("rustc").current_dir(&root).arg("-vV"))?;
        let host =
            about.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?;
        Ok(Self { target: PathBuf::from(target), triple: host.to_owned(), root, linker: None })
    }

    /// The same for another target, whose programs do not run here; `linker` makes them.
    pub(crate) fn crossing_to(&self, triple: &str, linker: &'static str) -> Self {
        let (root, target) = (self.root.clone(), self.target.clone());
        Self { root, target, triple: triple.to_owned(), linker: Some(linker) }
    }

    /// The checkout's top folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A path below the checkout's top folder.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// The folder for what is built; `CARGO_TARGET_DIR` moves it.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// The folder of the binaries that `cargo` builds here.
    pub(crate) fn binaries(&self) -> PathBuf {
        self.target.join(&self.triple).join("debug")
    }

    /// The folder of the binaries as they are published, built by the profile `image`.
    pub(crate) fn published_binaries(&self) -> PathBuf {
        self.target.join(&self.triple).join("image")
    }

    /// Builds what is measured: the broker as it is published, and beside it, quicker to build, what publishes and reads.
    pub(crate) fn build_measured(&self) -> Result<Measured> {
        process::run(self.cargo("build").args(["--release", "--package", "fulmar"]))?;
        let broker = "fulmar-broker";
        process::run(self.cargo("build").args(["--profile", "image", "--package", broker, "--bin", broker]))?;
        let binaries = self.target.join(&self.triple);
        Ok(Measured {
            program: binaries.join("release").join("fulmar"),
            broker: self.published_binaries().join(broker),
        })
    }

    /// The same of the binaries that the tests use.
    pub(crate) fn tested(&self) -> Measured {
        Measured { program: self.binaries().join("fulmar"), broker: self.binaries().join("fulmar-broker") }
    }

    /// Whether binaries of this target run in an image that has nothing else in it.
    pub(crate) fn makes_static_binaries(&self) -> bool {
        self.triple.ends_with("-unknown-linux-gnu")
    }

    /// Cargo, in the workspace, with the one target and the one set of flags. What the caller's environment says is replaced:
    /// another flag would be another build of everything.
    pub(crate) fn cargo(&self, subcommand: &str) -> Command {
        let mut command = Command::new(cargo());
        command.current_dir(&self.root).arg(subcommand);
        self.set_flags(&mut command);
        command
    }

    /// The flags alone, for a program that calls cargo itself.
    pub(crate) fn set_flags(&self, command: &mut Command) {
        // A variable by this name is what `cargo run` leaves to us; it would override the flags of the target.
        command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        command.env("CARGO_BUILD_TARGET", &self.triple).env("CARGO_TARGET_DIR", &self.target);
        if self.makes_static_binaries() {
            command.env(self.flags_variable(), "-C target-feature=+crt-static");
        }
        if let Some(linker) = self.linker {
            command.env(self.variable("LINKER"), linker);
        }
    }

    /// The variable with the compiler's flags for the one target.
    pub(crate) fn flags_variable(&self) -> String {
        self.variable("RUSTFLAGS")
    }

    fn variable(&self, name: &str) -> String {
        format!("CARGO_TARGET_{}_{name}", self.triple.to_uppercase().replace('-', "_"))
    }

    /// The one target.
    pub(crate) fn triple(&self) -> &str {
        &self.triple
    }

    /// The folder where everything downloaded or built once is kept for every checkout of this user.
    pub(crate) fn cache() -> Result<PathBuf> {
        let base = match (env::var_os("XDG_CACHE_HOME"), env::var_os("HOME")) {
            (Some(cache), _) if !cache.is_empty() => PathBuf::from(cache),
            (_, Some(home)) if !home.is_empty() => PathBuf::from(home).join(".cache"),
            _ => bail!("neither XDG_CACHE_HOME nor HOME is set: there is no folder to keep tools in"),
        };
        Ok(base.join("fulmar"))
    }
}

/// The cargo that started us, so that a toolchain chosen with `+` holds.
fn cargo() -> String {
    env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}
