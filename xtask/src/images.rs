//! `cargo xtask images`: the images of broker and operator by the Dockerfiles that a user's `docker build` takes, from the binaries that
//! the tests use or from such as are published. The stage that compiles is not run here: binaries are given (`--target prebuilt`).
//! Beside each image lies the bill of what is linked into its program (`sbom`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::earlier::Earlier;
use crate::kubernetes;
use crate::process;
use crate::sbom::{self, Materials};
use crate::workspace::Workspace;

/// The names of one version's images in a test's cluster; no registry has them.
pub(crate) struct Names {
    pub(crate) broker: &'static str,
    pub(crate) operator: &'static str,
}

/// What is tested.
pub(crate) const CURRENT: Names =
    Names { broker: "docker.io/local/fulmar-broker:e2e", operator: "docker.io/local/fulmar-operator:e2e" };

/// The version before: see `earlier`.
pub(crate) const EARLIER: Names = Names {
    broker: "docker.io/local/fulmar-broker:e2e-earlier",
    operator: "docker.io/local/fulmar-operator:e2e-earlier",
};

/// What a version's images are made from, and where their archives go.
pub(crate) struct Source<'a> {
    pub(crate) binaries: &'a Path,
    pub(crate) dockerfiles: &'a Path,
    pub(crate) folder: &'a Path,
    pub(crate) names: &'a Names,
    pub(crate) architecture: Architecture,
}

/// What the programs of an image run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Architecture {
    Amd64,
    Arm64,
}

impl Architecture {
    /// This machine's; what images are not made for is taken for the first, and fails where it is built.
    pub(crate) const HERE: Self = if cfg!(target_arch = "aarch64") { Self::Arm64 } else { Self::Amd64 };

    fn triple(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// The prefix of its tools on another machine, and Debian's package of them.
    fn tools(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Amd64 => ("x86_64-linux-gnu-gcc", "x86_64-linux-gnu-strip", "gcc-x86-64-linux-gnu"),
            Self::Arm64 => ("aarch64-linux-gnu-gcc", "aarch64-linux-gnu-strip", "gcc-aarch64-linux-gnu"),
        }
    }

    fn strip(self) -> &'static str {
        if self == Self::HERE { "strip" } else { self.tools().1 }
    }

    /// As images name it.
    fn platform(self) -> &'static str {
        match self {
            Self::Amd64 => "linux/amd64",
            Self::Arm64 => "linux/arm64",
        }
    }

    /// The same without the system.
    fn name(self) -> &'static str {
        self.platform().trim_start_matches("linux/")
    }

    /// The workspace that builds for it: this one, or one that crosses over.
    fn workspace(self, here: &Workspace) -> Result<Option<Workspace>> {
        if self == Self::HERE {
            return Ok(None);
        }
        let (linker, _, package) = self.tools();
        if !process::succeeds(Command::new(linker).arg("--version")) {
            bail!("{linker} is not there to link for {}: apt-get install {package}", self.platform());
        }
        let installed = process::output(Command::new("rustup").current_dir(here.root()).args([
            "target",
            "list",
            "--installed",
        ]));
        let triple = self.triple();
        if installed.is_ok_and(|installed| !installed.lines().any(|line| line == triple)) {
            bail!("the standard library for {triple} is not there: rustup target add {triple}");
        }
        Ok(Some(here.crossing_to(triple, linker)))
    }
}

struct Image {
    name: &'static str,
    binary: &'static str,
    dockerfile: &'static str,
}

/// `cargo xtask images`
#[derive(Args)]
pub(crate) struct Arguments {
    /// Only write the archives, to target/images
    #[arg(long)]
    no_import: bool,
    /// Also those of the earlier version that e2e/earlier-version names
    #[arg(long)]
    earlier: bool,
    /// For which machines; the others' are only written, to target/images/ARCH or target/images/published/ARCH
    #[arg(long, default_value_t = Architecture::HERE, value_enum)]
    arch: Architecture,
    /// Programs as they are published, optimized as a whole, which takes ten minutes; their archives are in target/images/published
    #[arg(long)]
    published: bool,
}

/// What the program of a published image may have, in bytes: a node that has to fetch it has it at once.
const PUBLISHED_BYTES_MAX: u64 = 20_000_000;

/// One making of the images.
pub(crate) struct Making<'a> {
    /// That compiles for this architecture.
    workspace: &'a Workspace,
    architecture: Architecture,
    programs: Programs,
}

/// How the programs in the images are compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Programs {
    /// As for the tests.
    Tested,
    /// As they are published.
    Published,
}

/// Builds, and imports into the developer's cluster.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let here = Workspace::locate()?;
    let other = arguments.arch.workspace(&here)?;
    let programs = if arguments.published { Programs::Published } else { Programs::Tested };
    let making =
        Making { workspace: other.as_ref().unwrap_or(&here), architecture: arguments.arch, programs };
    if other.is_some() && (!arguments.no_import || arguments.earlier) {
        let platform = arguments.arch.platform();
        bail!("images for {platform} are only written: --no-import, and not --earlier");
    }
    let cluster = kubernetes::developers(&here);
    if !arguments.no_import && !cluster.is_up() {
        bail!(
            "no cluster to import into: `cargo xtask kubernetes up` first, or --no-import for the archives alone"
        );
    }
    // First: where it cannot be made, that is said at once.
    let earlier = arguments.earlier.then(|| Earlier::named_in(&here)?.make(&here)).transpose()?;
    making.compile()?;
    let mut archives = making.archives()?;
    let mut names = vec![CURRENT];
    if let Some(earlier) = earlier {
        archives.extend(earlier.archives());
        names.push(EARLIER);
    }
    for archive in archives {
        if arguments.no_import {
            println!("{}", archive.display());
        } else {
            cluster.import(&archive)?;
        }
    }
    for Names { broker, operator } in names {
        println!("images: {broker} {operator}");
    }
    Ok(())
}

/// Compiles every binary of the workspace, all at once: another selection of packages could choose other features of what they
/// share, and compile that again.
pub(crate) fn build_binaries(workspace: &Workspace) -> Result<()> {
    process::run(workspace.cargo("build").args(ALL).arg("--bins"))
}

/// What is compiled for this machine's tests: see [`build_binaries`].
const ALL: &[&str] = &["--workspace"];

/// And where nothing else is tested.
const ALONE: &[&str] = &["--package", PROGRAMS[0], "--package", PROGRAMS[1]];

impl<'a> Making<'a> {
    /// For this machine.
    pub(crate) fn here(workspace: &'a Workspace, programs: Programs) -> Self {
        Self { workspace, architecture: Architecture::HERE, programs }
    }

    /// Which programs, for people.
    pub(crate) fn described(&self) -> &'static str {
        match self.programs {
            Programs::Tested => "prebuilt binaries",
            Programs::Published => "binaries as they are published",
        }
    }

    /// Compiles the programs, and sees to the size of what is published.
    pub(crate) fn compile(&self) -> Result<()> {
        let mut build = self.workspace.cargo("build");
        build.args(self.packages()).arg("--bins");
        if self.programs == Programs::Tested {
            return process::run(&mut build);
        }
        process::run(build.args(["--profile", "image"]))?;
        for program in PROGRAMS {
            let file = self.binaries().join(program);
            let bytes =
                fs::metadata(&file).with_context(|| format!("could not look at {}", file.display()))?.len();
            println!("images: {program} for {}: {bytes} bytes", self.architecture.platform());
            if bytes > PUBLISHED_BYTES_MAX {
                bail!("{program} is larger than {PUBLISHED_BYTES_MAX} bytes");
            }
        }
        Ok(())
    }

    /// Builds the images' archives from the programs that are there, each with the bill of what is in it.
    pub(crate) fn archives(&self) -> Result<Vec<PathBuf>> {
        let (binaries, folder) = (&self.binaries(), &self.folder());
        let (dockerfiles, names, architecture) = (self.workspace.root(), &CURRENT, self.architecture);
        let source = Source { binaries, dockerfiles, folder, names, architecture };
        let archives = build_from(self.workspace, &source)?;
        let materials = Materials::of(self.workspace, self.packages())?;
        for program in PROGRAMS {
            let bill = sbom::path(folder, program);
            let crates = materials.write(program, &binaries.join(program), &bill)?;
            println!("images: {crates} crates are linked into {program}: {}", bill.display());
        }
        Ok(archives)
    }

    fn packages(&self) -> &'static [&'static str] {
        let is_tested = self.programs == Programs::Tested && self.architecture == Architecture::HERE;
        if is_tested { ALL } else { ALONE }
    }

    fn binaries(&self) -> PathBuf {
        match self.programs {
            Programs::Tested => self.workspace.binaries(),
            Programs::Published => self.workspace.published_binaries(),
        }
    }

    fn folder(&self) -> PathBuf {
        let folder = self.workspace.target().join("images");
        match (self.programs, self.architecture) {
            (Programs::Tested, Architecture::HERE) => folder,
            (Programs::Tested, other) => folder.join(other.name()),
            (Programs::Published, architecture) => folder.join("published").join(architecture.name()),
        }
    }
}

/// Each has an image, and a bill.
const PROGRAMS: [&str; 2] = ["fulmar-broker", "fulmar-operator"];

/// Builds the archives of one version's images.
pub(crate) fn build_from(workspace: &Workspace, source: &Source<'_>) -> Result<Vec<PathBuf>> {
    if !workspace.makes_static_binaries() {
        bail!(
            "images need static Linux binaries, and this is {}: build them with docker build",
            std::env::consts::OS
        );
    }
    let builder = Builder::find(source.folder)?;
    println!("images: from the binaries of {} (prebuilt), by {}", source.binaries.display(), builder.name());
    let images = [
        Image { name: source.names.broker, binary: "fulmar-broker", dockerfile: "Dockerfile.broker" },
        Image { name: source.names.operator, binary: "fulmar-operator", dockerfile: "Dockerfile.operator" },
    ];
    images.iter().map(|image| image.build(source, &builder)).collect()
}

impl Image {
    fn build(&self, source: &Source<'_>, builder: &Builder) -> Result<PathBuf> {
        let context = source.folder.join(self.binary);
        let binary = source.binaries.join(self.binary);
        if !binary.is_file() {
            bail!("{} is not there: does its package have a binary by that name?", binary.display());
        }
        fs::create_dir_all(context.join("prebuilt"))
            .with_context(|| format!("could not make {}", context.display()))?;
        // Names of functions stay, for backtraces; line tables are most of the size and would be copied to every node.
        let stripped = context.join("prebuilt").join(self.binary);
        let mut strip = Command::new(source.architecture.strip());
        process::run(strip.arg("--strip-debug").arg("-o").arg(&stripped).arg(&binary))?;
        let archive = source.folder.join(format!("{}.tar", self.binary));
        if archive.exists() {
            fs::remove_file(&archive).with_context(|| format!("could not remove {}", archive.display()))?;
        }
        let dockerfile = source.dockerfiles.join(self.dockerfile);
        builder.build(self.name, source.architecture.platform(), &dockerfile, &context, &archive)?;
        Ok(archive)
    }
}

/// What builds an image from a Dockerfile here.
enum Builder {
    Docker,
    /// No daemon, no base image; what it stores is in a folder of ours.
    Buildah {
        storage: PathBuf,
    },
}

impl Builder {
    fn find(folder: &Path) -> Result<Self> {
        if process::succeeds(Command::new("docker").arg("info")) {
            return Ok(Self::Docker);
        }
        if process::succeeds(Command::new("buildah").arg("--version")) {
            return Ok(Self::Buildah { storage: folder.join("storage") });
        }
        bail!(
            "neither a docker daemon nor buildah is there to build images (on Debian: apt-get install buildah)"
        )
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Buildah { .. } => "buildah",
        }
    }

    fn build(
        &self,
        image: &str,
        platform: &str,
        dockerfile: &Path,
        context: &Path,
        archive: &Path,
    ) -> Result<()> {
        match self {
            Self::Docker => {
                let mut build = Command::new("docker");
                build.args(["build", "--quiet", "--platform", platform]);
                build.args(["--target", "prebuilt", "--tag", image, "--file"]);
                process::output(build.arg(dockerfile).arg(context))?;
                process::run(Command::new("docker").args(["save", "--output"]).arg(archive).arg(image))
            }
            Self::Buildah { storage } => {
                let mut build = buildah(storage, "bud");
                // Without the flag a root without every capability cannot build.
                build.args([
                    "--quiet",
                    "--isolation",
                    "chroot",
                    "--platform",
                    platform,
                    "--target",
                    "prebuilt",
                    "--tag",
                    image,
                    "--file",
                ]);
                process::output(build.arg(dockerfile).arg(context))?;
                let mut push = buildah(storage, "push");
                push.args(["--quiet", image]).arg(format!("docker-archive:{}:{image}", archive.display()));
                process::output(&mut push)?;
                // Every build leaves a copy of the image here, and nothing reads it.
                fs::remove_dir_all(storage).with_context(|| format!("could not empty {}", storage.display()))
            }
        }
    }
}

fn buildah(storage: &Path, subcommand: &str) -> Command {
    let mut command = Command::new("buildah");
    command.arg("--root").arg(storage.join("root")).arg("--runroot").arg(storage.join("run"));
    command.args(["--storage-driver", "vfs", subcommand]);
    command
}
