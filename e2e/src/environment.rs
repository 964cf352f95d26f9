//! What `cargo xtask test` tells the tests, through variables: where the cluster, the images and the tools are. It is read once;
//! a test without it fails, and says how it is run.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::leftovers;
use crate::nodes::Nodes;
use crate::wait::LOOK_AGAIN;

/// Nothing was asked yet: whatever it was, it is asked again.
const NOT_ASKED: [&str; 5] = [
    "connection refused",
    "was refused - did you specify the right host or port",
    "TLS handshake timeout",
    "no route to host",
    "dial tcp",
];

/// An API server that is there, and had no time, or went away meanwhile: what may be done twice is asked again.
const CUT_SHORT: [&str; 10] = [
    "etcdserver: request timed out",
    "etcdserver: leader changed",
    "http2: client connection lost",
    "EOF",
    "connection reset by peer",
    "the object has been modified",
    "unable to handle the request",
    "unable to return a response in the time allotted",
    "request did not complete within",
    "apiserver not ready",
];

/// An API server that was stopped is back by then, on a busy machine too.
const API_SERVER_WITHIN: Duration = Duration::from_mins(2);

/// What of one version is installed.
#[derive(Debug, Clone)]
pub struct Version {
    /// The image of its brokers, in every node already.
    pub broker_image: String,
    /// The image of its operator, in every node already.
    pub operator_image: String,
    /// Its Helm chart.
    pub chart: PathBuf,
}

/// What a test can use. `KUBECONFIG` is set, too, for what reads it itself.
#[derive(Debug)]
pub struct Environment {
    /// `fulmar`, `fulmar-broker` and `fulmar-operator`, of the same build as the images.
    pub binaries: PathBuf,
    /// The Helm chart.
    pub chart: PathBuf,
    /// Where a test puts what a person should see after a failure.
    pub logs: PathBuf,
    kubectl: PathBuf,
    helm: PathBuf,
    grpcurl: PathBuf,
    judge: Option<PathBuf>,
    current: Version,
    earlier: Option<Version>,
    floor: Option<PathBuf>,
    cluster: String,
    own: Option<Own>,
}

/// What there is only in the cluster that xtask itself starts.
#[derive(Debug)]
struct Own {
    nodes: Nodes,
    probe_image: String,
}

impl Environment {
    /// The environment of this process. The error names the variable that is missing and the command that sets it.
    pub fn get() -> Result<&'static Self> {
        static READ: OnceLock<Result<Environment>> = OnceLock::new();
        READ.get_or_init(Self::read).as_ref().map_err(|error| anyhow!("{error:#}"))
    }

    fn read() -> Result<Self> {
        let cluster = text("FULMAR_E2E_CLUSTER")?;
        let own = match cluster.as_str() {
            "own" => {
                let nodes = Nodes::new(path("FULMAR_E2E_ROOM")?, path("FULMAR_E2E_INSIDE")?);
                Some(Own { nodes, probe_image: text("FULMAR_E2E_PROBE_IMAGE")? })
            }
            other if other.starts_with("context:") => None,
            other => bail!("FULMAR_E2E_CLUSTER is {other:?}; it is one of own, context:NAME"),
        };
        variable("KUBECONFIG")?;
        let current = Version::read("FULMAR_E2E")?;
        let environment = Self {
            binaries: path("FULMAR_E2E_BINARIES")?,
            chart: current.chart.clone(),
            current,
            logs: path("FULMAR_E2E_LOGS")?,
            kubectl: path("FULMAR_E2E_KUBECTL")?,
            helm: path("FULMAR_E2E_HELM")?,
            grpcurl: path("FULMAR_E2E_GRPCURL")?,
            judge: path("FULMAR_E2E_JUDGE").ok(),
            earlier: Version::read("FULMAR_E2E_EARLIER").ok(),
            floor: path("FULMAR_E2E_FLOOR").ok(),
            cluster,
            own,
        };
        leftovers::put_right(&environment)?;
        Ok(environment)
    }

    /// The machines below the cluster: their processes, their network, the API server. There is an error if the cluster is not
    /// xtask's own: a test that needs them fails elsewhere, it is not passed over.
    pub fn nodes(&self) -> Result<&Nodes> {
        self.only_own().map(|own| &own.nodes)
    }

    /// What is tested.
    pub fn current(&self) -> &Version {
        &self.current
    }

    /// The version before, which `e2e/earlier-version` names. There is an error if it could not be made: a test that needs it fails
    /// then, it is not passed over.
    pub fn earlier(&self) -> Result<&Version> {
        self.earlier.as_ref().context(
            "the earlier version was not made: see what xtask said of it above (`cargo xtask images --earlier` makes it, too)",
        )
    }

    /// An image that tells in its log who it runs as, and whether it may write to the folder in its first argument.
    pub fn probe_image(&self) -> Result<&str> {
        self.only_own().map(|own| own.probe_image.as_str())
    }

    fn only_own(&self) -> Result<&Own> {
        let cluster = &self.cluster;
        self.own.as_ref().with_context(|| {
            format!(
                "needs the cluster that `cargo xtask test --kubernetes own` starts; this one is {cluster}"
            )
        })
    }

    /// Runs `kubectl`, gives what it printed. What a busy machine, or an API server that is just coming back, did not answer is
    /// asked again.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        patiently(&self.kubectl, arguments, None)
    }

    /// Runs `kubectl` once, where there is to be no answer.
    pub fn kubectl_once(&self, arguments: &[&str]) -> Result<String> {
        run(&self.kubectl, arguments, None)
    }

    /// A resource, or a list of them, as JSON; `arguments` are those of `kubectl get`.
    pub fn get_json(&self, arguments: &[&str]) -> Result<serde_json::Value> {
        let printed = self.kubectl(&[&["get"], arguments, &["-o", "json"]].concat())?;
        serde_json::from_str(&printed)
            .with_context(|| format!("kubectl printed no JSON for {}", arguments.join(" ")))
    }

    /// `kubectl apply -f -` in a namespace. On a refusal the error has the API server's own words.
    pub fn apply(&self, namespace: &str, yaml: &str) -> Result<String> {
        patiently(&self.kubectl, &["apply", "--namespace", namespace, "-f", "-"], Some(yaml))
    }

    /// `kubectl create -f - -o json`: what the API server made of each object, in their order.
    pub fn create(&self, objects: &serde_json::Value) -> Result<Vec<serde_json::Value>> {
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects});
        let printed =
            patiently(&self.kubectl, &["create", "-f", "-", "-o", "json"], Some(&list.to_string()))?;
        let made = serde_json::Deserializer::from_str(&printed).into_iter();
        made.collect::<Result<_, _>>().context("kubectl printed no JSON")
    }

    /// Runs `helm`, gives what it printed.
    pub fn helm(&self, arguments: &[&str]) -> Result<String> {
        patiently(&self.helm, arguments, None)
    }

    /// Runs `grpcurl`, gives what it printed.
    pub fn grpcurl(&self, arguments: &[&str]) -> Result<String> {
        run(&self.grpcurl, arguments, None)
    }

    /// Runs `judge` (`e2e/judges`), gives its verdicts. There is an error if it could not be built, for want of Go: a test that needs
    /// it fails then, it is not passed over.
    pub fn judge(&self, arguments: &[&str]) -> Result<serde_json::Value> {
        let judge = self.judge.as_deref().context("e2e/judges/build did not build judge, see above")?;
        serde_json::from_str(&run(judge, arguments, None)?).context("judge printed no JSON")
    }

    /// The API server of the oldest Kubernetes that Fulmar is for. There is an error if it could not be built, as with [`Self::judge`].
    pub fn floor(&self) -> Result<&Path> {
        self.floor.as_deref().context("e2e/floor/build did not build the oldest API server, see above")
    }

    /// The `kubectl` of this cluster, which reads `KUBECONFIG`.
    pub fn kubectl_program(&self) -> &Path {
        &self.kubectl
    }

    /// Runs a command of `fulmar` that asks Kubernetes, gives what it printed.
    pub fn fulmar_with_kubectl(&self, arguments: &[&str]) -> Result<String> {
        let kubectl = self.kubectl.to_str().context("the path of kubectl is not UTF-8")?;
        self.binary("fulmar", &[arguments, &["--kubectl", kubectl]].concat())
    }

    /// `kubectl fulmar …` as a person types it, to be run: kubectl finds `kubectl-fulmar` in `PATH`.
    pub fn plugin(&self, arguments: &[&str]) -> Result<Command> {
        let folder = self.logs.join("plugin");
        fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
        let (program, link) = (self.binaries.join("fulmar"), folder.join("kubectl-fulmar"));
        if fs::read_link(&link).ok().as_ref() != Some(&program) {
            // One of an earlier run may lead elsewhere.
            let _none = fs::remove_file(&link);
            symlink(&program, &link).with_context(|| format!("could not make {}", link.display()))?;
        }
        let others = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths([folder].into_iter().chain(env::split_paths(&others)))?;
        let mut command = Command::new(&self.kubectl);
        command.arg("fulmar").args(arguments).env("PATH", path).env("FULMAR_KUBECTL", &self.kubectl);
        Ok(command)
    }

    /// Runs `kubectl fulmar …` to its end, gives what it printed.
    pub fn run_plugin(&self, arguments: &[&str]) -> Result<String> {
        run_command(self.plugin(arguments)?, None)
    }

    /// Runs one of our own binaries, such as `fulmar`, gives what it printed.
    pub fn binary(&self, name: &str, arguments: &[&str]) -> Result<String> {
        run(&self.binaries.join(name), arguments, None)
    }
}

impl Version {
    /// From the variables that begin like this.
    fn read(prefix: &str) -> Result<Self> {
        let name = |rest: &str| format!("{prefix}_{rest}");
        Ok(Self {
            broker_image: text(&name("BROKER_IMAGE"))?,
            operator_image: text(&name("OPERATOR_IMAGE"))?,
            chart: path(&name("CHART"))?,
        })
    }
}

/// Runs a program that talks to the API server, again and again while that is not there.
fn patiently(program: &Path, arguments: &[&str], input: Option<&str>) -> Result<String> {
    let started = Instant::now();
    loop {
        match run(program, arguments, input) {
            Err(error)
                if may_pass(&error.to_string(), arguments) && started.elapsed() < API_SERVER_WITHIN =>
            {
                thread::sleep(LOOK_AGAIN);
            }
            outcome => return outcome,
        }
    }
}

/// Whether it may go well if it is asked again, and may be asked again.
fn may_pass(said: &str, arguments: &[&str]) -> bool {
    let said_any = |all: &[&str]| all.iter().any(|one| said.contains(one));
    // The second time there is something of that name already, or nothing any more.
    let only_once = ["create", "delete", "install", "uninstall", "upgrade"];
    let is_repeatable = arguments.contains(&"--ignore-not-found")
        || !arguments.iter().any(|argument| only_once.contains(argument));
    said_any(&NOT_ASKED) || (is_repeatable && said_any(&CUT_SHORT))
}

/// Runs a program to its end; the error has what it printed to standard error.
pub(crate) fn run(program: &Path, arguments: &[&str], input: Option<&str>) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    run_command(command, input)
}

fn run_command(mut command: Command, input: Option<&str>) -> Result<String> {
    let words: Vec<_> = [command.get_program()].into_iter().chain(command.get_args()).collect();
    let words = words.join(OsStr::new(" "));
    let shown = || words.to_string_lossy();
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.spawn().with_context(|| format!("could not start {}", shown()))?;
    if let Some(input) = input {
        use std::io::Write as _;
        let mut pipe = child.stdin.take().expect("standard input was asked to be piped");
        pipe.write_all(input.as_bytes()).with_context(|| format!("could not write to {}", shown()))?;
    }
    let output = child.wait_with_output().with_context(|| format!("could not wait for {}", shown()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} ended with {}: {}", shown(), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn variable(name: &str) -> Result<OsString> {
    match env::var_os(name) {
        Some(value) if !value.is_empty() => Ok(value),
        _ => bail!(
            "{name} is not set: end-to-end tests are run by `cargo xtask test`, which starts or finds their Kubernetes"
        ),
    }
}

fn text(name: &str) -> Result<String> {
    variable(name)?.into_string().map_err(|value| anyhow!("{name} is not UTF-8: {}", value.display()))
}

fn path(name: &str) -> Result<PathBuf> {
    variable(name).map(PathBuf::from)
}

#[cfg(test)]
#[path = "environment_tests.rs"]
mod tests;
