//! The machines below the cluster that xtask starts: a broker's process can be stopped or killed there, a pod cut off from another,
//! a node or the API server taken away. What a test takes away comes back when the guard that it was given is dropped, so that a
//! failed test leaves the next one a whole cluster.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::environment::{Environment, run};
use crate::wait::{self, LOOK_AGAIN};

/// The component that all others talk to.
const API_SERVER: &str = "kube-apiserver";

/// In the comment of each rule that cuts pods off.
const MARK: &str = "fulmar-e2e-cut";

/// So long `iptables` waits for others that change rules: kube-proxy, on a busy machine.
const LOCKED_SECONDS: &str = "60";

/// A kubelet that starts tells its node's status within some seconds.
const BACK_WITHIN: Duration = Duration::from_mins(3);

/// The cluster's machinery, as it is seen from inside its namespaces, where the tests run.
#[derive(Debug)]
pub struct Nodes {
    room: PathBuf,
    scripts: PathBuf,
}

/// The process that is first in a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id among the processes of the cluster.
    pub id: u32,
}

/// What can be sent to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// It stands still, and answers nothing, but its connections stay open.
    Stop,
    /// It goes on after [`Signal::Stop`].
    Continue,
    /// It is asked to end.
    Terminate,
    /// It ends at once.
    Kill,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Stop => "STOP",
            Self::Continue => "CONT",
            Self::Terminate => "TERM",
            Self::Kill => "KILL",
        }
    }
}

impl Nodes {
    pub(crate) fn new(room: PathBuf, scripts: PathBuf) -> Self {
        Self { room, scripts }
    }

    /// A file of the cluster's logs, such as `kubelet1.log`. `audit.log` has every request to the API server, a line of JSON each.
    pub fn log(&self, name: &str) -> PathBuf {
        self.room.join("log").join(name)
    }

    /// The process of a pod's container, found by the container's id that the pod's status has now.
    pub fn process(
        &self,
        environment: &Environment,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Result<Process> {
        let template = format!(
            "jsonpath={{.spec.nodeName}} {{.status.containerStatuses[?(@.name==\"{container}\")].containerID}}"
        );
        let status = environment.kubectl(&["get", "pod", "--namespace", namespace, pod, "-o", &template])?;
        let (node, id) = status.trim().split_once(" containerd://").with_context(|| {
            format!("pod {namespace}/{pod} has no running container {container:?}: {status:?}")
        })?;
        let socket = self.room.join(node).join("containerd.sock");
        let socket = socket.to_str().context("the room's path is UTF-8")?;
        let tasks =
            run(Path::new("ctr"), &["--address", socket, "--namespace", "k8s.io", "tasks", "ls"], None)?;
        let mut fields = tasks.lines().map(str::split_whitespace);
        // A line of the table: container, process, status. One that has ended may be there for a while.
        let running = fields.find_map(|mut fields| {
            let (container, process, status) = (fields.next()?, fields.next()?, fields.next()?);
            (container == id && status == "RUNNING").then_some(process)
        });
        let process =
            running.with_context(|| format!("{node} runs no container {id} of pod {namespace}/{pod}"))?;
        Ok(Process { id: process.parse().with_context(|| format!("ctr gave {process:?} for a process id"))? })
    }

    /// Stops a process until the guard is dropped.
    pub fn freeze(&self, process: Process) -> Result<Frozen> {
        process.send(Signal::Stop)?;
        Ok(Frozen(process))
    }

    /// Takes the API server away, connections and all, until the guard is dropped: which returns when it is back, and the
    /// controllers and nodes have noticed.
    pub fn without_api_server(&self) -> Result<Away<'_>> {
        self.without(API_SERVER)
    }

    /// Takes a component away until the guard is dropped: `kube-apiserver`, `coredns`, `kubelet2`, …
    pub fn without(&self, component: &'static str) -> Result<Away<'_>> {
        // First, so that what is half away comes back too.
        let away = Away { nodes: self, component };
        self.script("component", &["stop", component])?;
        Ok(away)
    }

    /// A node loses power until the guard is dropped: its kubelet, its containerd and all its containers are gone at once. Dropping the
    /// guard returns when its kubelet has spoken again; its pods are started then.
    pub fn without_node(&self, number: u32) -> Result<NodeAway<'_>> {
        let away = NodeAway { nodes: self, number };
        self.script("node", &["fail", &number.to_string()])?;
        Ok(away)
    }

    /// No packet passes between two pods, in either direction, until the guard is dropped. Addresses are those of pods.
    pub fn cut(&self, one: &str, other: &str) -> Result<Cut> {
        let mut cut = Cut { rules: Vec::new() };
        for (from, to) in [(one, other), (other, one)] {
            cut.add(&CHAINS, &["-s", from, "-d", to, "-j", "DROP"])?;
        }
        Ok(cut)
    }

    /// No packet passes between a pod and anything else (nodes and the API server too) until the guard is dropped.
    pub fn isolate(&self, pod: &str) -> Result<Cut> {
        let mut cut = Cut { rules: Vec::new() };
        cut.add(&CHAINS, &["-s", pod, "-j", "DROP"])?;
        cut.add(&CHAINS, &["-d", pod, "-j", "DROP"])?;
        Ok(cut)
    }

    /// From here no packet reaches a port, of whichever pod, until the guard is dropped: as from outside of the cluster, where addresses
    /// of pods lead nowhere. Pods reach it.
    pub fn shut(&self, port: u16) -> Result<Cut> {
        let mut cut = Cut { rules: Vec::new() };
        cut.add(&["OUTPUT"], &["-p", "tcp", "--dport", &port.to_string(), "-j", "DROP"])?;
        Ok(cut)
    }

    /// Starts every component that is down; gives their names.
    pub(crate) fn start_all(&self) -> Result<Vec<String>> {
        let listed = self.script("component", &["list"])?;
        let down: Vec<String> =
            listed.lines().filter_map(|line| line.strip_suffix(" is down")).map(str::to_owned).collect();
        for component in &down {
            self.script("component", &["start", component])?;
        }
        if down.iter().any(|component| component == API_SERVER) {
            self.script("control-plane", &["settle"])?;
        }
        Ok(down)
    }

    fn script(&self, name: &str, arguments: &[&str]) -> Result<String> {
        run(&self.scripts.join(name), arguments, None)
    }
}

impl Process {
    /// Sends a signal.
    pub fn send(self, signal: Signal) -> Result<()> {
        run(Path::new("kill"), &["-s", signal.name(), &self.id.to_string()], None).map(drop)
    }

    /// Memory that it holds, in bytes (the resident set).
    pub fn memory_bytes(self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.id);
        let status = fs::read_to_string(&path).with_context(|| format!("could not read {path}"))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .with_context(|| format!("{path} has no VmRSS"))?;
        let kibibytes: u64 =
            line.trim().trim_end_matches(" kB").parse().with_context(|| format!("{path} says {line:?}"))?;
        Ok(kibibytes * 1024)
    }

    /// How many files it has open, sockets included.
    pub fn open_files(self) -> Result<usize> {
        let path = format!("/proc/{}/fd", self.id);
        Ok(fs::read_dir(&path).with_context(|| format!("could not read {path}"))?.count())
    }

    /// Waits until it is gone.
    pub fn await_end(self, at_most: Duration) -> Result<()> {
        let started = Instant::now();
        while Path::new(&format!("/proc/{}", self.id)).exists() {
            if started.elapsed() > at_most {
                bail!("process {} is still there after {at_most:?}", self.id);
            }
            thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }
}

/// A process that stands still until this is dropped.
#[derive(Debug)]
pub struct Frozen(Process);

impl Drop for Frozen {
    fn drop(&mut self) {
        // It may have been killed meanwhile, which is no concern of ours.
        let _ = self.0.send(Signal::Continue);
    }
}

/// A component that is away until this is dropped.
#[derive(Debug)]
pub struct Away<'a> {
    nodes: &'a Nodes,
    component: &'static str,
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        let started = self.nodes.script("component", &["start", self.component]);
        let back = started.and_then(|_| match self.component {
            API_SERVER => self.nodes.script("control-plane", &["settle"]),
            _ => Ok(String::new()),
        });
        if let Err(error) = back {
            eprintln!("{} did not come back, the next tests will suffer: {error:#}", self.component);
        }
    }
}

/// A node that is away until this is dropped.
#[derive(Debug)]
pub struct NodeAway<'a> {
    nodes: &'a Nodes,
    number: u32,
}

impl NodeAway<'_> {
    fn come_back(&self) -> Result<()> {
        let environment = Environment::get()?;
        let node = format!("node/node{}", self.number);
        let spoke = || {
            let ready = "jsonpath={range .status.conditions[?(@.type==\"Ready\")]}{.status} {.lastHeartbeatTime}{end}";
            environment.kubectl(&["get", &node, "-o", ready])
        };
        let before = spoke().unwrap_or_default();
        self.nodes.script("node", &["recover", &self.number.to_string()])?;
        // Its condition may say True all the time: it was away for less than it takes to be missed.
        wait::until_so(&format!("{node} has spoken again"), BACK_WITHIN, || {
            let now = spoke()?;
            Ok(now != before && now.starts_with("True "))
        })
    }
}

impl Drop for NodeAway<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.come_back() {
            eprintln!("node{} did not come back, the next tests will suffer: {error:#}", self.number);
        }
    }
}

/// Packets that are dropped until this is.
#[derive(Debug)]
pub struct Cut {
    /// Each as it was added, after `-I CHAIN`.
    rules: Vec<Vec<String>>,
}

/// A pod's packets to other pods pass the first; those to and from the nodes themselves the others.
const CHAINS: [&str; 3] = ["FORWARD", "INPUT", "OUTPUT"];

impl Cut {
    /// Takes back the rules of all cuts, whose ever they are; gives those that there were.
    pub(crate) fn mend_all() -> Result<Vec<String>> {
        let mut mended = Vec::new();
        for chain in CHAINS {
            let rules = run(Path::new("iptables"), &["-w", LOCKED_SECONDS, "-S", chain], None)?;
            let cuts = rules.lines().filter(|rule| rule.split_whitespace().any(|word| word == MARK));
            for rule in cuts.filter_map(|rule| rule.strip_prefix("-A ")) {
                let mut arguments = vec!["-w", LOCKED_SECONDS, "-D"];
                arguments.extend(rule.split_whitespace());
                run(Path::new("iptables"), &arguments, None)?;
                mended.push(rule.to_owned());
            }
        }
        Ok(mended)
    }

    fn add(&mut self, chains: &[&str], rule: &[&str]) -> Result<()> {
        for chain in chains {
            let rule = [&[*chain, "-m", "comment", "--comment", MARK], rule].concat();
            run(Path::new("iptables"), &[&["-w", LOCKED_SECONDS, "-I"], &rule[..]].concat(), None)?;
            self.rules.push(rule.into_iter().map(str::to_owned).collect());
        }
        Ok(())
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        for rule in &self.rules {
            let mut arguments = vec!["-w", LOCKED_SECONDS, "-D"];
            arguments.extend(rule.iter().map(String::as_str));
            if let Err(error) = run(Path::new("iptables"), &arguments, None) {
                eprintln!("pods may stay cut off, the next tests will suffer: {error:#}");
            }
        }
    }
}
