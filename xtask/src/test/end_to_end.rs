//! End to end: images, a Kubernetes, and the tests of `fulmar-e2e` inside it. A test that could not run is a failure.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::nextest::{self, Built, Ready, Tests};
use super::parts::Parts;
use crate::earlier::{Earlier, Made};
use crate::images::{self, Making, Programs};
use crate::kubernetes::choice::Cluster;
use crate::kubernetes::context::Cleared;
use crate::kubernetes::logs;
use crate::kubernetes::own::{Own, ROOM, Running};
use crate::process;
use crate::workspace::Workspace;

const END_TO_END: &str = "package(fulmar-e2e)";
const PART: &str = "end to end";

/// What is run, and with which programs in the images.
pub(crate) struct Wanted<'a> {
    pub(crate) filter: Option<&'a str>,
    /// At a time.
    pub(crate) threads: u32,
    pub(crate) programs: Programs,
}

/// Runs the part on the cluster that was resolved, or notes why it could not be.
pub(crate) fn run(workspace: &Workspace, cluster: Result<Cluster>, wanted: &Wanted<'_>, parts: &mut Parts) {
    let tests = Tests { within: END_TO_END, filter: wanted.filter, threads: Some(wanted.threads) };
    let making = Making::here(workspace, wanted.programs);
    let done = match cluster {
        Ok(Cluster::LeftOut) => return parts.left_out(PART),
        Ok(Cluster::Own) => run_on_own(workspace, &making, &tests, parts),
        Ok(Cluster::Context(cleared)) => run_on_context(workspace, &cleared, &making, &tests, parts),
        Err(error) => {
            parts.could_not(PART, format!("end-to-end did not run: {error:#}"));
            Some(())
        }
    };
    if done.is_none() {
        parts.could_not(PART, "end-to-end did not run: what it needs failed, see above".to_owned());
    }
}

/// Runs the tests on the developer's cluster, which stays; images are those that it has, also of the earlier version.
pub(crate) fn run_on_developers_cluster(
    workspace: &Workspace,
    cluster: &Own,
    built: Built,
    filter: Option<&str>,
) -> Result<()> {
    if !cluster.is_up() {
        bail!("no cluster is up: `cargo xtask kubernetes up` first");
    }
    let ready = nextest::prepare(workspace, built)?;
    empty_logs(workspace)?;
    let tests = Tests { within: END_TO_END, filter, threads: Some(1) };
    let earlier = Earlier::named_in(workspace)?.made();
    nextest::run_told(&mut inside(workspace, cluster, &ready, &tests, earlier.as_ref())?).map(drop)
}

fn run_on_own(
    workspace: &Workspace,
    making: &Making<'_>,
    tests: &Tests<'_>,
    parts: &mut Parts,
) -> Option<()> {
    let own = Own::at(workspace, "test");
    parts.run_for("Kubernetes: its programs", || {
        let programs = own.programs()?;
        Ok(((), format!("in {}", programs.display())))
    })?;
    let ready = prepare(workspace, parts)?;
    let mut archives = make(making, parts)?;
    let earlier = make_earlier(workspace, parts);
    archives.extend(earlier.iter().flat_map(Made::archives));
    let running: Running =
        parts.run_for("Kubernetes: start", || Ok((own.start()?, "own, three nodes".to_owned())))?;
    let own = running.own();
    parts.run_for("images: import", || {
        archives.iter().try_for_each(|archive| own.import(archive))?;
        Ok(((), String::new()))
    })?;
    parts.run_for(PART, || {
        empty_logs(workspace)?;
        let outcome = nextest::run_told(&mut inside(workspace, own, &ready, tests, earlier.as_ref())?);
        keep_logs_of_failure(workspace, &own.kubectl(), Some(own), outcome)
    });
    parts.run("Kubernetes: take down", || {
        drop(running);
        Ok(())
    });
    Some(())
}

fn run_on_context(
    workspace: &Workspace,
    cleared: &Cleared,
    making: &Making<'_>,
    tests: &Tests<'_>,
    parts: &mut Parts,
) -> Option<()> {
    let given = std::env::var_os("FULMAR_E2E_BROKER_IMAGE").is_some();
    let ready = prepare(workspace, parts)?;
    let mut earlier = None;
    if !given {
        let mut archives = make(making, parts)?;
        earlier = make_earlier(workspace, parts);
        archives.extend(earlier.iter().flat_map(Made::archives));
        parts.run_for("images: import", || {
            archives.iter().try_for_each(|archive| cleared.import(archive))?;
            Ok(((), String::new()))
        })?;
    }
    let kubeconfig = cleared.write_kubeconfig(&workspace.target().join("kubernetes/context")).ok()?;
    parts.run_for(PART, || {
        empty_logs(workspace)?;
        let mut command = Command::new(nextest::PROGRAM);
        command.current_dir(workspace.root());
        ready.run_by(&mut command, tests);
        describe(&mut command, workspace, &format!("context:{}", cleared.name()), earlier.as_ref());
        command.env("KUBECONFIG", &kubeconfig);
        let kubectl = || {
            let mut kubectl = Command::new("kubectl");
            kubectl.arg("--kubeconfig").arg(&kubeconfig);
            kubectl
        };
        keep_logs_of_failure(workspace, &kubectl, None, nextest::run_told(&mut command))
    });
    Some(())
}

/// Compiles; nothing is left to compile where the unit tests ran before.
fn prepare(workspace: &Workspace, parts: &mut Parts) -> Option<Ready> {
    // Of the whole workspace, as before: the features of one crate's tests alone are others, and so is all that they are compiled from.
    parts.run_for("end to end: compile", || {
        nextest::build(workspace)?;
        Ok((nextest::prepare(workspace, Built::Workspace)?, String::new()))
    })
}

fn make(making: &Making<'_>, parts: &mut Parts) -> Option<Vec<PathBuf>> {
    parts.run_for("images: build", || {
        making.compile()?;
        let archives = making.archives()?;
        let sizes: Result<Vec<String>> = archives.iter().map(|archive| described(archive)).collect();
        Ok((archives, format!("{}, {}", making.described(), sizes?.join(", "))))
    })
}

/// Where it cannot be made, that is a failure; the tests that need it fail, and the others tell what they have to tell.
fn make_earlier(workspace: &Workspace, parts: &mut Parts) -> Option<Made> {
    parts.run_for("images: the earlier version", || {
        let earlier = Earlier::named_in(workspace)?;
        let was_made = if earlier.made().is_some() { "made before" } else { "built" };
        Ok((earlier.make(workspace)?, format!("{}, {was_made}", earlier.short())))
    })
}

fn described(archive: &Path) -> Result<String> {
    let bytes =
        fs::metadata(archive).with_context(|| format!("could not look at {}", archive.display()))?.len();
    let name = archive.file_stem().unwrap_or_default().to_string_lossy();
    Ok(format!("{name} {} MB", bytes / 1_000_000))
}

/// Nextest, inside the cluster's namespaces. Nothing is compiled there: there is no way out to any registry.
fn inside(
    workspace: &Workspace,
    own: &Own,
    ready: &Ready,
    tests: &Tests<'_>,
    earlier: Option<&Made>,
) -> Result<Command> {
    let programs = own.programs()?;
    let mut command = own.enter(nextest::PROGRAM);
    command.current_dir(workspace.root());
    ready.run_by(&mut command, tests);
    describe(&mut command, workspace, "own", earlier);
    command
        .env("FULMAR_E2E_ROOM", ROOM)
        .env("FULMAR_E2E_INSIDE", own.inside())
        .env("FULMAR_E2E_PROBE_IMAGE", "docker.io/local/probe:1")
        .env("FULMAR_E2E_KUBECTL", programs.join("kubectl"))
        .env("FULMAR_E2E_HELM", programs.join("helm"))
        .env("FULMAR_E2E_GRPCURL", programs.join("grpcurl"));
    Ok(command)
}

/// What is built from Go for the tests alone: which script prints where it is, and what tells it to the tests.
const BUILT_FOR_TESTS: [(&str, &str); 2] =
    [("e2e/judges/build", "FULMAR_E2E_JUDGE"), ("e2e/floor/build", "FULMAR_E2E_FLOOR")];

/// Tells where these programs are; they are built unless they are there. Where one cannot be, the tests that need it fail, and the
/// others tell what they have to tell.
fn tell_of_programs(command: &mut Command, workspace: &Workspace) {
    for (script, variable) in BUILT_FOR_TESTS {
        let mut build = Command::new("bash");
        build.arg(workspace.path(script));
        match process::output(build.stderr(Stdio::inherit())) {
            Ok(path) => drop(command.env(variable, path)),
            Err(error) => eprintln!("{error:#}"),
        }
    }
}

/// What the tests are told, on every kind of cluster. What the person's environment has already is kept: images pushed elsewhere,
/// tools at other places.
fn describe(command: &mut Command, workspace: &Workspace, cluster: &str, earlier: Option<&Made>) {
    command.env("NEXTEST_PROFILE", "e2e").env("FULMAR_E2E_CLUSTER", cluster);
    tell_of_programs(command, workspace);
    let mut told = vec![
        ("FULMAR_E2E_BINARIES", workspace.binaries()),
        ("FULMAR_E2E_CHART", workspace.path("charts/fulmar")),
        ("FULMAR_E2E_LOGS", logs::folder(workspace)),
        ("FULMAR_E2E_BROKER_IMAGE", images::CURRENT.broker.into()),
        ("FULMAR_E2E_OPERATOR_IMAGE", images::CURRENT.operator.into()),
        ("FULMAR_E2E_KUBECTL", "kubectl".into()),
        ("FULMAR_E2E_HELM", "helm".into()),
        ("FULMAR_E2E_GRPCURL", "grpcurl".into()),
    ];
    if let Some(earlier) = earlier {
        told.extend([
            ("FULMAR_E2E_EARLIER_BROKER_IMAGE", images::EARLIER.broker.into()),
            ("FULMAR_E2E_EARLIER_OPERATOR_IMAGE", images::EARLIER.operator.into()),
            ("FULMAR_E2E_EARLIER_CHART", earlier.chart()),
        ]);
    }
    for (variable, value) in told {
        if std::env::var_os(variable).is_none() {
            command.env(variable, value);
        }
    }
}

fn empty_logs(workspace: &Workspace) -> Result<()> {
    let folder = logs::folder(workspace);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("could not empty {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))
}

fn keep_logs_of_failure(
    workspace: &Workspace,
    kubectl: &dyn Fn() -> Command,
    own: Option<&Own>,
    outcome: Result<String>,
) -> Result<((), String)> {
    match outcome {
        Ok(summary) => Ok(((), summary)),
        Err(error) => match logs::collect(workspace, kubectl, own) {
            Ok(folder) => Err(error.context(format!("logs are in {}", folder.display()))),
            Err(unkept) => Err(error.context(format!("and its logs could not be kept: {unkept:#}"))),
        },
    }
}
