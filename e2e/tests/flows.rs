//! Promise: the network policies let through what Fulmar needs and nothing else. Nobody enforces them in the tests' cluster: each flow
//! between pods that are there is judged by the policies that are there.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet};

use fulmar_e2e::brokers::{Brokers, NAME, SOON, cluster};
use fulmar_e2e::environment::Environment;
use fulmar_e2e::installation;
use fulmar_e2e::namespaces::Namespace;
use fulmar_e2e::policies::{End, Policies, Port, list};
use fulmar_e2e::wait;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};

const fn tcp(number: u16) -> Port {
    Port { number, protocol: "TCP" }
}

const fn udp(number: u16) -> Port {
    Port { number, protocol: "UDP" }
}

/// For programs, probes and Prometheus.
const FOR_PROGRAMS: [Port; 3] = [tcp(50051), tcp(8080), tcp(9001)];
/// Between brokers, and from the operator.
const INTERNAL: Port = tcp(50052);
/// Between brokers.
const GOSSIP: Port = udp(7946);
/// What nobody listens on, and the right numbers by the wrong protocol.
const OTHER: [Port; 4] = [tcp(22), tcp(7946), udp(50052), udp(53)];

/// The pods, by who they are in the tables below.
type Cast = BTreeMap<&'static str, Pod>;

/// Who is allowed to dial whom, and what is different from that.
fn judge(
    policies: &Policies,
    cast: &Cast,
    flows: &[(&'static str, &'static str, Port, bool)],
) -> Vec<String> {
    let end = |name: &str| cast.get(name).map_or(End::Outside, End::Pod);
    let mut wrong = Vec::new();
    for (from, to, port, should) in flows {
        assert!(*from == OUTSIDE || cast.contains_key(from), "nobody is {from}");
        assert!(*to == OUTSIDE || cast.contains_key(to), "nobody is {to}");
        let is_allowed = policies.allow(end(from), end(to), *port).unwrap();
        if is_allowed != *should {
            let may = if is_allowed { "may" } else { "may not" };
            wrong.push(format!("{from} {may} dial {to} on {}/{}", port.number, port.protocol));
        }
    }
    wrong
}

const OUTSIDE: &str = "a node or the API server";

/// A pod that nobody needs to make: a policy sees its labels, and those of its namespace, which is there.
fn stand_in(namespace: &str, name: &str, labels: &Value) -> Pod {
    let metadata = json!({"name": name, "namespace": namespace, "labels": labels});
    serde_json::from_value(json!({"metadata": metadata})).unwrap()
}

fn labels_of(pod: &Pod) -> Value {
    json!(pod.metadata.labels)
}

/// Once the Cluster has its policy, too.
fn pod_of(brokers: &Brokers, ordinal: u32) -> Pod {
    let there = |name: String| wait::until(&name, SOON, || brokers.get(&name).map(Some)).unwrap();
    there(format!("networkpolicy/{NAME}"));
    serde_json::from_value(there(format!("pod/{}", Brokers::pod(ordinal)))).unwrap()
}

fn operator(environment: &Environment) -> Pod {
    let select = "--selector=app.kubernetes.io/name=fulmar-operator";
    let pods = list(environment, &["pods", "--namespace", installation::NAMESPACE, select]).unwrap();
    pods.into_iter().next().unwrap()
}

#[test]
fn each_flow_that_fulmar_needs_is_let_through_and_no_other() {
    let environment = Environment::get().unwrap();
    let brokers = Brokers::apply("flows", &cluster(3)).unwrap();
    // Another Cluster of the very same name.
    let others = Brokers::apply("flows-others", &cluster(1)).unwrap();
    let elsewhere = Namespace::make(environment, "flows-elsewhere", &[]).unwrap();
    let (broker, operator) = (pod_of(&brokers, 0), operator(environment));
    let cast: Cast = vec![
        ("a program", stand_in(&elsewhere.name, "program", &json!({"app": "shop"}))),
        ("a pod without labels", stand_in(&elsewhere.name, "nameless", &json!({}))),
        ("one with a broker's labels elsewhere", stand_in(&elsewhere.name, "as-broker", &labels_of(&broker))),
        (
            "one with the operator's labels elsewhere",
            stand_in(&elsewhere.name, "as-operator", &labels_of(&operator)),
        ),
        (
            "another pod of the operator's namespace",
            stand_in(installation::NAMESPACE, "neighbour", &json!({"app": "x"})),
        ),
        ("a broker of another Cluster", pod_of(&others, 0)),
        ("another broker", pod_of(&brokers, 1)),
        ("the operator", operator),
        ("a broker", broker),
    ]
    .into_iter()
    .collect();
    let policies = Policies::get(environment).unwrap();
    let everybody: Vec<&'static str> =
        cast.keys().copied().filter(|name| *name != "a broker").chain([OUTSIDE]).collect();
    let mut flows = Vec::new();
    for from in everybody {
        flows.extend(FOR_PROGRAMS.map(|port| (from, "a broker", port, true)));
        flows.push((from, "a broker", INTERNAL, ["another broker", "the operator"].contains(&from)));
        flows.push((from, "a broker", GOSSIP, from == "another broker"));
        flows.extend(OTHER.map(|port| (from, "a broker", port, false)));
        // Metrics, from wherever Prometheus is, and probes; nothing else.
        if from != "the operator" {
            flows.push((from, "the operator", tcp(8080), true));
            flows.extend([INTERNAL, GOSSIP, tcp(443)].map(|port| (from, "the operator", port, false)));
        }
    }
    // Nothing holds either of them from names and from the API server.
    for from in ["a broker", "the operator"] {
        flows.extend([udp(53), tcp(53), tcp(6443)].map(|port| (from, OUTSIDE, port, true)));
    }
    flows.push(("a broker", "another broker", GOSSIP, true));
    assert_eq!(judge(&policies, &cast, &flows), Vec::<String>::new());
    println!("{} flows", flows.len());
    every_port_is_judged(&cast["a broker"]);
}

/// What a broker listens on is what the table is about.
fn every_port_is_judged(broker: &Pod) {
    let containers = &broker.spec.as_ref().unwrap().containers;
    let listens: BTreeSet<(i32, String)> = containers
        .iter()
        .flat_map(|container| container.ports.iter().flatten())
        .map(|port| (port.container_port, port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())))
        .collect();
    let judged = FOR_PROGRAMS.into_iter().chain([INTERNAL, GOSSIP]);
    let judged: BTreeSet<(i32, String)> =
        judged.map(|port| (i32::from(port.number), port.protocol.to_owned())).collect();
    assert_eq!(listens, judged);
}

#[test]
fn operator_shows_metrics_to_those_alone_that_a_value_names() {
    let environment = Environment::get().unwrap();
    installation::ensure(environment).unwrap();
    let monitoring = Namespace::make(environment, "flows-monitoring", &[]).unwrap();
    let elsewhere = Namespace::make(environment, "flows-away", &[]).unwrap();
    let prometheus = json!({"app": "prometheus"});
    let cast: Cast = [
        ("prometheus", stand_in(&monitoring.name, "prometheus", &prometheus)),
        ("its neighbour", stand_in(&monitoring.name, "neighbour", &json!({"app": "other"}))),
        ("one of its labels elsewhere", stand_in(&elsewhere.name, "prometheus", &prometheus)),
        ("the operator", operator(environment)),
    ]
    .into();
    let from = json!([{
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": monitoring.name}},
        "podSelector": {"matchLabels": prometheus},
    }]);
    let mut policies = Policies::get(environment).unwrap();
    policies.with(rendered(environment, &format!("networkPolicy.metricsFrom={from}")));
    let flow = |from, should| (from, "the operator", tcp(8080), should);
    let flows = [
        flow("prometheus", true),
        flow("its neighbour", false),
        flow("one of its labels elsewhere", false),
        flow(OUTSIDE, false),
    ];
    assert_eq!(judge(&policies, &cast, &flows), Vec::<String>::new());
}

/// The policy that the chart makes of a value.
fn rendered(environment: &Environment, value: &str) -> NetworkPolicy {
    let objects = installation::rendered(environment, &["--set-json", value]).unwrap();
    let policy = objects.into_iter().find(|object| object["kind"] == "NetworkPolicy").unwrap();
    serde_json::from_value(policy).unwrap()
}
