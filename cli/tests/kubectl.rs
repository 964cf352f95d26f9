//! Commands that go to a Cluster through kubectl: with a kubectl that is a script, and, behind it, the brokers of a real `fulmar dev`.
//! That of Kubernetes is tested end to end.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod dev;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use dev::ports::Block;
use dev::{Dev, FULMAR};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Far beyond what anything here takes on a machine that is busy with other builds.
const DEADLINE: Duration = Duration::from_mins(2);

const YAML: &str = "
apiVersion: fulmar.dev/v1alpha1
kind: Cluster
metadata: {name: orders}
spec: {replicas: 1}
---
apiVersion: fulmar.dev/v1alpha1
kind: Topic
metadata: {name: orders.v1}
spec: {clusterRef: {name: orders}, partitions: 2}
";

/// A folder with `kubectl-fulmar`, and a `kubectl` that knows Clusters and forwards to one port.
struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new(clusters: &[&str], port: u16) -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap() };
        let names: Vec<String> = clusters.iter().map(|name| format!("cluster.fulmar.dev/{name}\n")).collect();
        fs::write(desk.file("clusters"), names.concat()).unwrap();
        let script = format!(
            r#"#!/bin/sh
cd {}
echo "$*" >> calls
case "$*" in
*"get clusters.fulmar.dev"*) cat clusters ;;
*port-forward*)
  name=$(echo "$*" | sed 's|.* service/\([^ ]*\) .*|\1|')
  grep -qx "cluster.fulmar.dev/$name" clusters || {{ echo "Error from server (NotFound): services \"$name\" not found" >&2; exit 1; }}
  echo $$ >> pids
  echo "Forwarding from 127.0.0.1:{port} -> 50051"
  exec sleep 600 ;;
"version -o json") echo "{{}}" ;;
*"config view"*) echo shop ;;
*"get "*) echo $$ >> pids; exec sleep 600 ;;
*) echo "what is $*?" >&2; exit 1 ;;
esac
"#,
            desk.folder.path().display()
        );
        fs::write(desk.file("kubectl"), script).unwrap();
        fs::set_permissions(desk.file("kubectl"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink(FULMAR, desk.file("kubectl-fulmar")).unwrap();
        desk
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `kubectl fulmar …`
    fn plugin(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.file("kubectl-fulmar"));
        command.args(arguments).env("FULMAR_KUBECTL", self.file("kubectl")).env_remove("FULMAR_SERVER");
        command
    }

    fn refused(&self, code: i32, arguments: &[&str]) -> String {
        refused(code, &mut self.plugin(arguments))
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.file("calls")).unwrap_or_default()
    }

    /// How many were started that do not end by themselves: port-forwards, and questions that are not answered.
    fn opened(&self) -> usize {
        fs::read_to_string(self.file("pids")).unwrap_or_default().lines().count()
    }

    /// All of those ended, of which there were some.
    fn all_ended(&self) {
        let pids = fs::read_to_string(self.file("pids")).unwrap();
        let deadline = Instant::now() + DEADLINE;
        while pids.lines().any(lives) {
            assert!(Instant::now() < deadline, "a kubectl is left");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Whether a process runs. One whose parent ended before it is a zombie for as long as the first process of the container likes.
fn lives(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// Runs what must fail, and gives what it said, in one line.
fn refused(code: i32, command: &mut Command) -> String {
    let output = command.output().unwrap();
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{command:?}: {error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

#[test]
fn without_a_name_the_only_cluster_is_taken_and_of_several_none() {
    let none = Desk::new(&[], 1).refused(4, &["topic", "list"]);
    assert!(none.contains("there is no Cluster in the namespace of the context"), "{none}");
    let none = Desk::new(&[], 1).refused(4, &["topic", "list", "-n", "shop"]);
    assert!(none.contains("there is no Cluster in namespace shop"), "{none}");
    let desk = Desk::new(&["orders", "payments"], 1);
    let several = desk.refused(2, &["topic", "list"]);
    assert!(
        several.contains("there are 2 Clusters") && several.contains("orders, payments: --cluster"),
        "{several}"
    );
    assert_eq!(desk.opened(), 0);
}

#[test]
fn a_cluster_that_is_not_there_is_said_with_those_that_are() {
    let missing =
        Desk::new(&["orders"], 1).refused(4, &["topic", "list", "-n", "shop", "--cluster", "order"]);
    assert!(missing.contains("there is no Cluster order in namespace shop, but orders"), "{missing}");
    assert!(missing.contains("services \"order\" not found"), "{missing}");
    let missing = Desk::new(&[], 1).refused(4, &["topic", "list", "--cluster", "orders"]);
    assert!(missing.contains(", nor any other"), "{missing}");
}

#[test]
fn a_kubectl_that_is_not_there_is_named() {
    let desk = Desk::new(&["orders"], 1);
    for arguments in [&["topic", "list"][..], &["topic", "list", "--cluster", "orders"]] {
        let error = refused(3, desk.plugin(arguments).env("FULMAR_KUBECTL", "/nowhere/kubectl"));
        assert!(error.contains("/nowhere/kubectl cannot be run"), "{error}");
    }
}

#[test]
fn flags_of_kubectl_reach_it_and_stand_where_their_user_likes() {
    let desk = Desk::new(&["orders"], 1);
    let flags = ["--context", "test", "-n", "shop", "--kubeconfig", "/tmp/config"];
    for arguments in [[&flags[..], &["topic", "list"]].concat(), [&["topic", "list"], &flags[..]].concat()] {
        fs::remove_file(desk.file("calls")).unwrap_or_default();
        desk.refused(3, &[&arguments[..], &["--request-timeout", "300ms"]].concat());
        let expected = "--context=test --kubeconfig /tmp/config --namespace shop";
        let calls = desk.calls();
        let calls: Vec<&str> = calls.lines().collect();
        assert_eq!(calls[0], format!("{expected} get clusters.fulmar.dev -o name"));
        assert_eq!(calls[1], format!("{expected} port-forward --address=127.0.0.1 service/orders :50051"));
    }
    desk.all_ended();
}

#[test]
fn what_is_typed_says_where_the_cluster_is_before_what_stands_in_the_environment() {
    let desk = Desk::new(&["orders"], 1);
    let patience = ["--request-timeout", "300ms"];
    let asks_kubectl = |command: &mut Command| {
        fs::remove_file(desk.file("calls")).unwrap_or_default();
        let command = command.args(patience).env("FULMAR_SERVER", "http://127.0.0.1:2");
        let error = refused(3, command.env("FULMAR_KUBECTL", desk.file("kubectl")));
        let asks = !desk.calls().is_empty();
        assert_eq!(asks, !error.contains("127.0.0.1:2:"), "{error}");
        asks
    };
    assert!(!asks_kubectl(Command::new(FULMAR).args(["topic", "list"])));
    assert!(asks_kubectl(Command::new(FULMAR).args(["--cluster", "orders", "topic", "list"])));
    assert!(asks_kubectl(Command::new(FULMAR).args(["topic", "list", "-n", "shop"])));
    assert!(asks_kubectl(&mut desk.plugin(&["topic", "list"])));
    assert!(!asks_kubectl(&mut desk.plugin(&["topic", "list", "--server", "http://127.0.0.1:2"])));
}

#[test]
fn flags_that_mean_nothing_or_exclude_each_other_are_named_with_2() {
    let desk = Desk::new(&["orders"], 1);
    for (arguments, said) in [
        (&["topic", "list", "--server", "h:1", "--cluster", "c"][..], "--server and --cluster exclude"),
        (&["--server", "h:1", "topic", "list", "-n", "shop"], "--server and --namespace exclude"),
        (&["support-bundle", "--cluster", "c"], "--cluster means nothing to support-bundle"),
        (&["support-bundle", "--dev", "d", "-n", "shop"], "--namespace means nothing there"),
        (&["cluster", "log-level", "--server", "h:1"], "--server means nothing to cluster log-level"),
        (&["cluster", "log-level", "--operator", "--cluster", "c"], "--cluster means nothing there"),
        (&["-n", "shop", "broker", "inspect", "d"], "--namespace means nothing to broker inspect"),
        (&["completion", "bash", "--request-timeout", "1s"], "--request-timeout means nothing to completion"),
    ] {
        let error = desk.refused(2, arguments);
        assert!(error.contains(said), "{error}");
    }
    assert_eq!(desk.calls(), "");
}

#[test]
fn help_speaks_of_kubectl_where_kubectl_calls_it() {
    let desk = Desk::new(&[], 1);
    let help = done(&desk.plugin(&["publish", "--help"]).output().unwrap());
    assert!(help.contains("Usage: kubectl fulmar publish [OPTIONS] <TOPIC>"), "{help}");
    let wrong = desk.plugin(&["publish"]).output().unwrap();
    assert!(text(&wrong.stderr).contains("Usage: kubectl fulmar publish"), "{}", text(&wrong.stderr));
}

fn start(desk: &Desk, block: &Block) -> Dev {
    let (yaml, data) = (desk.file("orders.yaml"), desk.file("data"));
    fs::write(&yaml, YAML).unwrap();
    let mut dev = Dev::start(&yaml, &data, block.base);
    dev.wait_for_start("ready: 1 brokers, 1 topics");
    dev
}

/// Reads on; gives it after its first line.
fn follow(desk: &Desk) -> (Child, impl Iterator<Item = String>) {
    let mut child =
        desk.plugin(&["consume", "orders.v1", "--from", "earliest"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().as_deref(), Some("hello"));
    (child, lines)
}

#[test]
fn commands_work_through_a_port_forward_that_ends_with_them_however_they_end() {
    let block = Block::take();
    let desk = Desk::new(&["orders"], block.base);
    let dev = start(&desk, &block);
    let run = |arguments: &[&str]| done(&desk.plugin(arguments).output().unwrap());
    let published = run(&["publish", "orders.v1", "hello", "-n", "shop", "--cluster", "orders"]);
    assert!(published.starts_with("published to orders.v1: partition "), "{published}");
    assert_eq!(run(&["consume", "orders.v1", "--from", "earliest", "-c", "1"]), "hello\n");
    assert!(run(&["topic", "list"]).contains("\"orders.v1\""));
    assert!(run(&["cluster", "status", "-o", "table"]).contains("Brokers alive:       1/1"));
    desk.all_ended();
    desk.refused(4, &["consume", "nowhere", "--cluster", "orders"]);
    desk.all_ended();

    // It is heard from the first record on, and by nobody who takes it for a failure.
    for _ in 0..10 {
        let (mut child, _lines) = follow(&desk);
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "Ctrl-C is how a consumer ends");
        desk.all_ended();
    }
    let (mut child, _lines) = follow(&desk);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    desk.all_ended();
    // It has no Ctrl-C of its own, and waits for lines.
    let before = desk.opened();
    let mut child = desk.plugin(&["publish", "orders.v1"]).stdin(Stdio::piped()).spawn().unwrap();
    // Waiting for the process would close it, and end its input.
    let _stdin = child.stdin.take();
    let deadline = Instant::now() + DEADLINE;
    while desk.opened() == before {
        assert!(Instant::now() < deadline, "no port-forward: {}", desk.calls());
        std::thread::sleep(Duration::from_millis(10));
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    desk.all_ended();
    assert_eq!(dev.interrupt(), Some(0));
}

#[test]
fn what_is_gathered_or_asked_through_kubectl_ends_with_its_kubectl_and_leaves_no_half_of_a_file() {
    let desk = Desk::new(&["orders"], 1);
    let output = desk.file("bundle.tar.gz");
    for signal in [Signal::INT, Signal::TERM] {
        for arguments in [&["support-bundle", "-o", output.to_str().unwrap()][..], &["cluster", "log-level"]]
        {
            let before = desk.opened();
            let mut child = desk.plugin(arguments).stderr(Stdio::piped()).spawn().unwrap();
            let deadline = Instant::now() + DEADLINE;
            while desk.opened() == before {
                assert!(Instant::now() < deadline, "nothing is asked for: {}", desk.calls());
                std::thread::sleep(Duration::from_millis(10));
            }
            kill_process(Pid::from_child(&child), signal).unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(1), "{arguments:?}, {signal:?}");
            desk.all_ended();
            let left: Vec<_> =
                fs::read_dir(desk.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("bundle")), "{left:?}");
        }
    }
}
