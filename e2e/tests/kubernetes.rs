//! The cluster itself: as unkind as a real one where brokers could lean on kindness. If one of these fails, the others prove less
//! than they claim.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, ensure};
use fulmar_e2e::environment::Environment;
use fulmar_e2e::namespaces::{Namespace, RESTRICTED};
use fulmar_e2e::nodes::Signal;
use fulmar_e2e::wait;

/// Far beyond what anything here takes on a busy machine.
const WITHIN: Duration = Duration::from_mins(3);

/// The cluster's name server.
const NAME_SERVER: &str = "10.87.0.1:53";

#[test]
fn three_nodes_are_ready_in_three_zones() {
    let environment = Environment::get().unwrap();
    let template = "jsonpath={range .items[*]}{.metadata.labels.topology\\.kubernetes\\.io/zone}={.status.conditions[?(@.type==\"Ready\")].status}{\"\\n\"}{end}";
    // One that another test has just given back may not be yet.
    wait::until_so("three nodes in three zones are Ready", WITHIN, || {
        let printed = environment.kubectl(&["get", "nodes", "-o", template])?;
        let zones: BTreeSet<&str> = printed.lines().collect();
        ensure!(zones == BTreeSet::from(["zone-1=True", "zone-2=True", "zone-3=True"]), "{zones:?}");
        Ok(true)
    })
    .unwrap();
}

#[test]
fn a_name_lives_thirty_seconds_and_so_does_its_absence() {
    Environment::get().unwrap().nodes().unwrap();
    // One that does not run out while it is watched.
    let ttl = wait::until("an answer with some life left", WITHIN, || {
        let (code, ttl) = ask("kubernetes.default.svc.cluster.local");
        ensure!(code == 0, "the name of the API server is answered with code {code}");
        assert!((1..=30).contains(&ttl), "ttl {ttl}");
        Ok((ttl > 10).then_some(ttl))
    })
    .unwrap();
    wait::until_so("a name that nobody has is said not to exist", WITHIN, || {
        let (code, _) = ask("nobody.default.svc.cluster.local");
        ensure!(code == 3, "it is answered with code {code}");
        Ok(true)
    })
    .unwrap();
    // Asked again and again, a cached answer ages. (Where nothing is cached it never does.)
    wait::until_so("a cached answer has aged", WITHIN, || {
        let (code, now) = ask("kubernetes.default.svc.cluster.local");
        Ok(code == 0 && now < ttl.min(29))
    })
    .unwrap();
}

#[test]
fn a_service_is_reached_from_where_tests_run() {
    let environment = Environment::get().unwrap();
    environment.nodes().unwrap();
    let address = "jsonpath={.spec.clusterIP}:{.spec.ports[0].port}";
    let address = ["get", "service", "kubernetes", "--namespace", "default", "-o", address];
    let service: SocketAddr = environment.kubectl(&address).unwrap().parse().unwrap();
    wait::until_so("the API server answers at its Service's address", WITHIN, || {
        drop(TcpStream::connect_timeout(&service, Duration::from_secs(2))?);
        Ok(true)
    })
    .unwrap();
}

#[test]
fn a_volume_belongs_to_the_group_of_a_pod_that_is_not_root() {
    let environment = Environment::get().unwrap();
    let namespace = Namespace::make(environment, "volumes", &[RESTRICTED]).unwrap();
    for class in ["local", "local-disk"] {
        environment.apply(&namespace.name, &probe(environment, class)).unwrap();
        await_ready(environment, &namespace.name, class);
        // It is Ready before it has looked.
        wait::until_so("the volume is the group's", WITHIN, || {
            let log = environment.kubectl(&["logs", "--namespace", &namespace.name, class])?;
            let told = "process uid=65532 gid=65532\nfolder uid=0 gid=65532 mode=2775\nwritable yes\n";
            ensure!(log == told, "class {class}: {log}");
            Ok(true)
        })
        .unwrap();
    }
}

#[test]
fn a_pod_that_asks_for_more_than_restricted_is_refused() {
    let environment = Environment::get().unwrap();
    let namespace = Namespace::make(environment, "security", &[RESTRICTED]).unwrap();
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: root}, spec: {containers: [{name: root, image: local/probe:1}]}}";
    let refused = environment.apply(&namespace.name, pod).unwrap_err().to_string();
    assert!(refused.contains("violates PodSecurity \"restricted:latest\""), "{refused}");
}

#[test]
fn the_audit_log_tells_who_was_refused_what() {
    let environment = Environment::get().unwrap();
    let nodes = environment.nodes().unwrap();
    let verb =
        ["get", "secrets", "--namespace", "kube-system", "--as", "system:serviceaccount:default:audit-test"];
    environment.kubectl(&verb).unwrap_err();
    // The answer may be here before the line is there.
    wait::until_so("the log tells it", WITHIN, || {
        let log = std::fs::read_to_string(nodes.log("audit.log"))?;
        let entry = log.lines().rev().find(|line| line.contains("audit-test")).context("no line yet")?;
        let entry: serde_json::Value = serde_json::from_str(entry)?;
        ensure!(entry["responseStatus"]["code"] == 403, "{entry}");
        Ok(true)
    })
    .unwrap();
}

#[test]
fn a_process_is_found_and_frozen_and_a_killed_one_is_started_again() {
    let environment = Environment::get().unwrap();
    let nodes = environment.nodes().unwrap();
    let namespace = Namespace::make(environment, "processes", &[RESTRICTED]).unwrap();
    environment.apply(&namespace.name, &probe(environment, "local")).unwrap();
    await_ready(environment, &namespace.name, "local");
    let running = || nodes.process(environment, &namespace.name, "local", "probe").map(Some);
    let process = wait::until("its process", WITHIN, running).unwrap();
    let frozen = nodes.freeze(process).unwrap();
    wait::until_so("it stands still", WITHIN, || {
        Ok(std::fs::read_to_string(format!("/proc/{}/stat", process.id))?.contains(") T "))
    })
    .unwrap();
    drop(frozen);
    process.send(Signal::Kill).unwrap();
    process.await_end(WITHIN).unwrap();
    let restarted = "jsonpath={.status.containerStatuses[0].restartCount}=1";
    environment
        .kubectl(&["wait", "--namespace", &namespace.name, "--for", restarted, "--timeout=180s", "pod/local"])
        .unwrap();
}

#[test]
fn no_packet_reaches_an_isolated_pod() {
    let environment = Environment::get().unwrap();
    let namespace = Namespace::make(environment, "packets", &[RESTRICTED]).unwrap();
    environment.apply(&namespace.name, &probe(environment, "local")).unwrap();
    await_ready(environment, &namespace.name, "local");
    let address = ["get", "pod", "--namespace", &namespace.name, "local", "-o", "jsonpath={.status.podIP}"];
    let pod = environment.kubectl(&address).unwrap();
    let closed_port = SocketAddr::new(pod.parse().unwrap(), 1);
    let knock = || TcpStream::connect_timeout(&closed_port, Duration::from_secs(2)).unwrap_err().kind();
    let answers = || Ok(knock() == ErrorKind::ConnectionRefused);
    wait::until_so("nobody listens, but the pod answers", WITHIN, answers).unwrap();
    let cut = environment.nodes().unwrap().isolate(&pod).unwrap();
    assert_eq!(knock(), ErrorKind::TimedOut, "the pod is cut off");
    drop(cut);
    wait::until_so("the pod is back", WITHIN, answers).unwrap();
}

#[test]
fn a_node_that_lost_power_is_not_ready_and_comes_back() {
    let environment = Environment::get().unwrap();
    let ready = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
    let away = environment.nodes().unwrap().without_node(3).unwrap();
    let unknown = format!("--for={ready}=Unknown");
    environment.kubectl(&["wait", &unknown, "--timeout=180s", "node/node3"]).unwrap();
    drop(away);
    environment.kubectl(&["wait", "--for=condition=Ready", "--timeout=180s", "node/node3"]).unwrap();
}

#[test]
fn the_api_server_goes_away_and_comes_back() {
    let environment = Environment::get().unwrap();
    let away = environment.nodes().unwrap().without_api_server().unwrap();
    environment.kubectl_once(&["get", "nodes", "--request-timeout=5s"]).unwrap_err();
    drop(away);
    wait::until_so("the API server is back", WITHIN, || {
        environment.kubectl(&["get", "--raw", "/readyz"]).map(|_| true)
    })
    .unwrap();
}

/// A pod as brokers are: not root, no privileges, a volume. It has the name of the storage class.
fn probe(environment: &Environment, class: &str) -> String {
    let image = environment.probe_image().unwrap();
    format!(
        r"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: {class}}}
spec: {{accessModes: [ReadWriteOnce], storageClassName: {class}, resources: {{requests: {{storage: 320Mi}}}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: {class}}}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {{runAsUser: 65532, runAsGroup: 65532, fsGroup: 65532, runAsNonRoot: true, seccompProfile: {{type: RuntimeDefault}}}}
  volumes: [{{name: data, persistentVolumeClaim: {{claimName: {class}}}}}]
  containers:
    - name: probe
      image: {image}
      imagePullPolicy: Never
      args: [/data]
      securityContext: {{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {{drop: [ALL]}}}}
      volumeMounts: [{{name: data, mountPath: /data}}]
"
    )
}

fn await_ready(environment: &Environment, namespace: &str, pod: &str) {
    let pod = format!("pod/{pod}");
    environment
        .kubectl(&["wait", "--namespace", namespace, "--for=condition=Ready", "--timeout=180s", &pod])
        .unwrap();
}

/// The response code and the first answer's time to live for a name's IPv4 address.
fn ask(name: &str) -> (u8, u32) {
    let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]; // id, recursion desired, one question
    for label in name.split('.') {
        question.push(u8::try_from(label.len()).unwrap());
        question.extend_from_slice(label.as_bytes());
    }
    question.extend_from_slice(&[0, 0, 1, 0, 1]); // the root, type A, class IN
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut answer = [0; 512];
    // A datagram may be lost; an answer that is late answers the next question too.
    let length = wait::until("an answer", WITHIN, || {
        socket.send_to(&question, NAME_SERVER)?;
        Ok(Some(socket.recv(&mut answer)?))
    })
    .unwrap();
    let code = answer[3] & 0x0f;
    if code != 0 {
        return (code, 0);
    }
    // Behind the question: where its name is said again (2 bytes as a pointer), type, class, time to live.
    let skip_name = |at: usize| {
        let mut at = at;
        while answer[at] != 0 && answer[at] < 0xc0 {
            at += 1 + usize::from(answer[at]);
        }
        at + if answer[at] == 0 { 1 } else { 2 }
    };
    let ttl_at = skip_name(question.len()) + 4;
    assert!(length >= ttl_at + 4, "the answer is cut short at {length} bytes");
    (code, u32::from_be_bytes(answer[ttl_at..ttl_at + 4].try_into().unwrap()))
}
