//! Promise: the operator may do what its work needs, and nothing else; an operator for named namespaces nothing outside of them; brokers
//! nothing at all. Each verb on each kind of object is asked of the API server.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeSet;

use fulmar_e2e::brokers::{Brokers, NAME, SOON, cluster};
use fulmar_e2e::environment::Environment;
use fulmar_e2e::namespaces::Namespace;
use fulmar_e2e::rights::{Account, Kind, VERBS, named};
use fulmar_e2e::{installation, wait};
use serde::Deserialize as _;
use serde_json::Value;

const FULMAR: &str = "fulmar.dev";

/// What the operator's work needs in a namespace that it looks after. A verb that is granted and not here is a right too much, one that is
/// here and not granted stops the operator.
const NEEDED: [(Kind<'_>, &[&str]); 19] = [
    ((FULMAR, "clusters"), &["get", "list", "watch"]),
    ((FULMAR, "clusters/status"), &["patch", "update"]),
    // Its finalizer.
    ((FULMAR, "topics"), &["get", "list", "watch", "patch", "update"]),
    ((FULMAR, "topics/status"), &["patch", "update"]),
    ((FULMAR, "clusters/finalizers"), &["update"]),
    ((FULMAR, "topics/finalizers"), &["update"]),
    ((FULMAR, "partitiontables"), &["get", "list", "watch", "create", "update", "patch", "delete"]),
    (("apps", "statefulsets"), &["get", "list", "watch", "create", "patch"]),
    (("", "services"), &["get", "list", "watch", "create", "patch"]),
    (("", "serviceaccounts"), &["get", "list", "watch", "create", "patch"]),
    (("policy", "poddisruptionbudgets"), &["get", "list", "watch", "create", "patch"]),
    (("networking.k8s.io", "networkpolicies"), &["get", "list", "watch", "create", "patch"]),
    // Never listed, never deleted.
    (("", "secrets"), &["get", "create", "patch", "update"]),
    (("", "pods"), &["get", "list", "watch", "delete", "patch"]),
    (("", "pods/eviction"), &["create"]),
    // Deleted only for `whenScaled: Delete`, of brokers that were removed and held nothing; never all at once.
    (("", "persistentvolumeclaims"), &["get", "list", "watch", "create", "patch", "delete"]),
    (("", "events"), &["create", "patch"]),
    (("events.k8s.io", "events"), &["create", "patch"]),
    (("", "namespaces"), &["get"]),
];

/// What it has no business with, in any namespace.
const NEVER: [Kind<'_>; 27] = [
    ("", "pods/exec"),
    ("", "pods/attach"),
    ("", "pods/portforward"),
    ("", "pods/log"),
    ("", "pods/ephemeralcontainers"),
    ("", "configmaps"),
    ("", "serviceaccounts/token"),
    ("", "persistentvolumes"),
    ("", "nodes/proxy"),
    ("", "users"),
    ("", "groups"),
    ("", "resourcequotas"),
    ("apps", "deployments"),
    ("apps", "daemonsets"),
    ("apps", "replicasets"),
    ("apps", "statefulsets/scale"),
    ("batch", "jobs"),
    ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("storage.k8s.io", "storageclasses"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
    ("certificates.k8s.io", "certificatesigningrequests"),
];

const NODES: Kind<'_> = ("", "nodes");
const LEASES: Kind<'_> = ("coordination.k8s.io", "leases");

type Rights = BTreeSet<(String, String)>;

fn all_kinds() -> Vec<Kind<'static>> {
    NEEDED.iter().map(|(kind, _)| *kind).chain(NEVER).chain([NODES, LEASES]).collect()
}

fn rights(of: &[(Kind<'_>, &[&str])]) -> Rights {
    let each =
        of.iter().flat_map(|(kind, verbs)| verbs.iter().map(|verb| (named(*kind), (*verb).to_owned())));
    each.collect()
}

/// A verb too many and one too few are both named.
fn assert_same(what: &str, may: &Rights, should: &Rights) {
    let too_many: Vec<_> = may.difference(should).collect();
    let too_few: Vec<_> = should.difference(may).collect();
    assert!(
        too_many.is_empty() && too_few.is_empty(),
        "{what}: too many: {too_many:?}, too few: {too_few:?}"
    );
}

#[test]
fn operator_may_do_what_it_needs_on_each_kind_of_object_and_nothing_else() {
    let environment = Environment::get().unwrap();
    installation::ensure(environment).unwrap();
    let operator = Account::new(installation::NAMESPACE, installation::RELEASE);
    let nodes: (Kind<'_>, &[&str]) = (NODES, &["get", "list", "watch"]);
    let anywhere = [&NEEDED[..], &[nodes]].concat();
    let may =
        |kinds: &[Kind<'_>], namespace, object| operator.may(environment, kinds, namespace, object).unwrap();
    assert_same("in a namespace", &may(&all_kinds(), Some("default"), None), &rights(&anywhere));
    assert_same("in all", &may(&all_kinds(), None, None), &rights(&anywhere));
    // In its own namespace it has a Lease, one.
    let create: &[(Kind<'_>, &[&str])] = &[(LEASES, &["create"])];
    let own: &[(Kind<'_>, &[&str])] = &[(LEASES, &["create", "get", "update", "patch"])];
    let at_home = Some(installation::NAMESPACE);
    assert_same("any Lease", &may(&[LEASES], at_home, None), &rights(create));
    assert_same("its Lease", &may(&[LEASES], at_home, Some(installation::RELEASE)), &rights(own));
    assert_same("another Lease", &may(&[LEASES], at_home, Some("other")), &rights(create));
    // What is not asked about here cannot hide in a rule.
    let asked: BTreeSet<String> = all_kinds().into_iter().map(named).collect();
    for kind in granted(&templated(environment, "default", &[])) {
        assert!(asked.contains(&kind), "a rule grants something on {kind}, which is not asked for here");
    }
}

#[test]
fn operator_of_named_namespaces_may_do_nothing_outside_of_them() {
    let environment = Environment::get().unwrap();
    installation::ensure(environment).unwrap();
    let watched = Namespace::make(environment, "rights-watched", &[]).unwrap();
    let home = Namespace::make(environment, "rights-home", &[]).unwrap();
    let values = format!("watchNamespaces={{{}}},readNodes=false,userRoles.enabled=false", watched.name);
    // Its rights alone: they need no operator that has them.
    for object in templated(environment, &home.name, &["--set", &values]) {
        let kind = object["kind"].as_str().unwrap();
        assert!(!kind.starts_with("ClusterRole"), "{object}");
        if ["Role", "RoleBinding", "ServiceAccount"].contains(&kind) {
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or(&home.name);
            environment.apply(namespace, &object.to_string()).unwrap();
        }
    }
    let operator = Account::new(&home.name, "fulmar");
    let may =
        |kinds: &[Kind<'_>], namespace, object| operator.may(environment, kinds, namespace, object).unwrap();
    wait::until_so("its rights have come to the API server", SOON, || {
        Ok(!operator.may(environment, &[(FULMAR, "topics")], Some(&watched.name), None)?.is_empty())
    })
    .unwrap();
    assert_same("where it is to", &may(&all_kinds(), Some(&watched.name), None), &rights(&NEEDED));
    assert_same("elsewhere", &may(&all_kinds(), Some("default"), None), &Rights::new());
    assert_same("in all", &may(&all_kinds(), None, None), &Rights::new());
    let create: &[(Kind<'_>, &[&str])] = &[(LEASES, &["create"])];
    assert_same("where it lives", &may(&all_kinds(), Some(&home.name), None), &rights(create));
    // Not even its own, if there is one.
    assert_same("a Secret", &may(&[("", "secrets")], Some(&home.name), Some("fulmar")), &Rights::new());
}

#[test]
fn who_views_edits_or_administers_a_namespace_does_the_same_with_its_clusters_and_topics() {
    const READ: [&str; 3] = ["get", "list", "watch"];
    const WRITE: [&str; 8] =
        ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];
    let environment = Environment::get().unwrap();
    installation::ensure(environment).unwrap();
    let team = Namespace::make(environment, "rights-team", &[]).unwrap();
    // A status and a partition table are the operator's word: people read them.
    let read: Vec<(Kind<'_>, &[&str])> =
        ["clusters", "clusters/status", "clusters/scale", "topics", "topics/status", "partitiontables"]
            .map(|kind| ((FULMAR, kind), &READ[..]))
            .into();
    let written: [(Kind<'_>, &[&str]); 3] = [
        ((FULMAR, "clusters"), &WRITE),
        ((FULMAR, "topics"), &WRITE),
        ((FULMAR, "clusters/scale"), &["get", "update", "patch"]),
    ];
    let kinds: Vec<Kind<'_>> = all_kinds()
        .into_iter()
        .filter(|(group, _)| *group == FULMAR)
        .chain([(FULMAR, "clusters/scale")])
        .collect();
    for role in ["view", "edit", "admin"] {
        let account = format!("--serviceaccount={}:{role}", team.name);
        let role_of = format!("--clusterrole={role}");
        let bind = ["--namespace", &team.name, "create", "rolebinding", role, &role_of, &account];
        environment.kubectl(&bind).unwrap();
        let should = if role == "view" { read.clone() } else { [&read[..], &written].concat() };
        let people = Account::new(&team.name, role);
        // Kubernetes adds them up in a while.
        wait::until_so(&format!("{role} may what it should"), SOON, || {
            let may = people.may(environment, &kinds, Some(&team.name), None)?;
            anyhow::ensure!(may == rights(&should), "{may:?}");
            Ok(true)
        })
        .unwrap();
        assert_same(role, &people.may(environment, &kinds, Some("default"), None).unwrap(), &Rights::new());
    }
}

#[test]
fn brokers_may_do_nothing() {
    let environment = Environment::get().unwrap();
    let brokers = Brokers::apply("rights", &cluster(1)).unwrap();
    let name = format!("pod/{}", Brokers::pod(0));
    let pod = wait::until("a broker's pod", SOON, || brokers.get(&name).map(Some)).unwrap();
    let spec = &pod["spec"];
    assert_eq!(spec["serviceAccountName"], NAME);
    assert_eq!(spec["automountServiceAccountToken"], false, "and it has no token of that account");
    let account = Account::new(brokers.namespace(), NAME);
    for (namespace, object) in
        [(Some(brokers.namespace()), None), (Some(brokers.namespace()), Some(NAME)), (None, None)]
    {
        let may = account.may(environment, &all_kinds(), namespace, object).unwrap();
        assert_same("a broker", &may, &Rights::new());
    }
    println!("{} verbs on each of {} kinds of object", VERBS.len(), all_kinds().len());
}

/// The objects that the chart makes.
fn templated(environment: &Environment, namespace: &str, values: &[&str]) -> Vec<Value> {
    let chart = environment.chart.to_str().unwrap();
    let words = ["template", installation::RELEASE, chart, "--namespace", namespace];
    let printed = environment.helm(&[&words, values].concat()).unwrap();
    let objects =
        serde_yaml::Deserializer::from_str(&printed).map(|object| Value::deserialize(object).unwrap());
    objects.filter(|object| !object.is_null()).collect()
}

/// The kinds of object in the operator's roles; those for people are others'.
fn granted(objects: &[Value]) -> BTreeSet<String> {
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let mut granted = BTreeSet::new();
    for object in objects.iter().filter(|object| object["kind"].as_str().unwrap().ends_with("Role")) {
        let name = object["metadata"]["name"].as_str().unwrap();
        if name.ends_with("-edit") || name.ends_with("-view") {
            continue;
        }
        for rule in object["rules"].as_array().unwrap() {
            for group in texts(&rule["apiGroups"]) {
                granted.extend(texts(&rule["resources"]).iter().map(|kind| named((&group, kind))));
            }
        }
    }
    assert!(!granted.is_empty());
    granted
}
