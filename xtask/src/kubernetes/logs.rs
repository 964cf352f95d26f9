//! What a cluster says about itself, written down for the person who looks into a failure.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::own::Own;
use crate::process;
use crate::workspace::Workspace;

/// File name, then kubectl's arguments.
const QUESTIONS: [(&str, &[&str]); 6] = [
    (
        "objects.txt",
        &["get", "nodes,namespaces,all,configmaps,pvc,pv,leases", "--all-namespaces", "-o", "wide"],
    ),
    ("events.txt", &["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"]),
    ("pods.txt", &["describe", "pods", "--all-namespaces"]),
    ("pods.yaml", &["get", "pods,statefulsets,deployments,services", "--all-namespaces", "-o", "yaml"]),
    ("resources.yaml", &["get", "clusters,topics,partitiontables", "--all-namespaces", "-o", "yaml"]),
    ("nodes.txt", &["describe", "nodes"]),
];

/// Where it is all put.
pub(crate) fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target().join("e2e-logs")
}

/// Asks the cluster, and copies the logs of pods and of the cluster's own components. What cannot be had is named in the file
/// that would have it.
pub(crate) fn collect(
    workspace: &Workspace,
    kubectl: &dyn Fn() -> Command,
    own: Option<&Own>,
) -> Result<PathBuf> {
    let folder = folder(workspace);
    fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
    for (name, arguments) in QUESTIONS {
        write(&folder.join(name), kubectl().args(arguments).arg("--request-timeout=20s"))?;
    }
    collect_pod_logs(&folder.join("pods"), kubectl)?;
    if let Some(own) = own {
        // What kubelet keeps has earlier containers of a pod, too.
        process::run(
            Command::new("cp").arg("-rT").arg(own.folder().join("log")).arg(folder.join("components")),
        )?;
        for node in 1..=3 {
            let logs = own.folder().join(format!("node{node}/pod-logs"));
            if logs.is_dir() {
                process::run(
                    Command::new("cp").arg("-rT").arg(logs).arg(folder.join(format!("node{node}"))),
                )?;
            }
        }
    }
    Ok(folder)
}

fn collect_pod_logs(folder: &Path, kubectl: &dyn Fn() -> Command) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
    let template = "jsonpath={range .items[*]}{.metadata.namespace} {.metadata.name}{\"\\n\"}{end}";
    let mut list = kubectl();
    list.args(["get", "pods", "--all-namespaces", "--request-timeout=20s", "-o", template]);
    // Without the list the other files are still worth having, and they say what is wrong.
    let pods = process::output(&mut list).unwrap_or_default();
    for (namespace, pod) in pods.lines().filter_map(|line| line.split_once(' ')) {
        let path = folder.join(format!("{namespace}_{pod}.log"));
        write(
            &path,
            kubectl().args(["logs", "--all-containers", "--prefix", "--namespace", namespace, pod]),
        )?;
    }
    Ok(())
}

fn write(path: &Path, command: &mut Command) -> Result<()> {
    let text = process::output(command).unwrap_or_else(|error| format!("{error:#}\n"));
    fs::write(path, text).with_context(|| format!("could not write {}", path.display()))
}
