//! Promise: the chart is installed, upgraded, uninstalled and installed under another name in another namespace, and no Cluster, no
//! broker and no record notices. An operator for named namespaces does it all with Roles alone. Volumes outlive even the definitions.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use anyhow::ensure;
use fulmar_e2e::brokers::{Brokers, SOON, cluster, topic};
use fulmar_e2e::environment::Environment;
use fulmar_e2e::records::Acknowledged;
use fulmar_e2e::{installation, page, wait};

const FIRST: &str = "first-operators";
const BROKERS: &str = "releases";

/// The line of the page that installs another release, and where that is.
const SECOND_LINE: &str = "helm install other charts/fulmar --namespace elsewhere ";
const SECOND: &str = "elsewhere";

/// Deletion gets stuck nowhere.
const DELETED_WITHIN: &str = "--timeout=180s";

/// Both releases go, however the test ends; the next test installs the usual one.
struct Releases(&'static Environment);

impl Releases {
    fn uninstall(&self, name: &str, namespace: &str) {
        let arguments = ["uninstall", name, "--namespace", namespace, "--ignore-not-found", "--wait"];
        let printed = self.0.helm(&arguments).unwrap_or_else(|error| format!("{error:#}"));
        println!("{name}: {printed}");
    }
}

impl Releases {
    /// The usual release goes, and what an earlier attempt of this test left.
    fn leave_nothing(&self) {
        let of_others = (installation::RELEASE, installation::NAMESPACE);
        for (name, namespace) in [("first", FIRST), ("other", SECOND), of_others] {
            self.uninstall(name, namespace);
        }
        for namespace in [FIRST, SECOND] {
            self.0.remove_namespace(namespace).unwrap();
        }
    }
}

impl Drop for Releases {
    fn drop(&mut self) {
        self.uninstall("first", FIRST);
        self.uninstall("other", SECOND);
        for namespace in [FIRST, SECOND] {
            if let Err(error) = self.0.let_namespace_go(namespace) {
                println!("namespace {namespace} stays: {error:#}");
            }
        }
    }
}

/// What must not become another one: the definitions, the Cluster, the Topic, the broker's pod.
fn identities(brokers: &Brokers) -> Vec<String> {
    let resources = [
        "crd/clusters.fulmar.dev",
        "crd/topics.fulmar.dev",
        "crd/partitiontables.fulmar.dev",
        "flc/orders",
        "flt/events",
        "pod/orders-0",
    ];
    let uid = |resource: &str| brokers.kubectl(&["get", resource, "-o", "jsonpath={.metadata.uid}"]).unwrap();
    resources.iter().map(|resource| uid(resource)).collect()
}

/// Whose the definitions are, as helm notes it.
fn owner(environment: &Environment) -> String {
    let path = r"jsonpath={.metadata.annotations.meta\.helm\.sh/release-name}";
    environment.kubectl(&["get", "crd/clusters.fulmar.dev", "-o", path]).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_release_takes_over_definitions_and_brokers_and_nothing_of_them_is_lost() {
    let environment = Environment::get().unwrap();
    let releases = Releases(environment);
    releases.leave_nothing();
    let release = |verb, name, namespace, more: &[&str]| {
        installation::release(environment, verb, name, namespace, more).map(|printed| println!("{printed}"))
    };

    // Definitions may be there from other tests' release.
    release("install", "first", FIRST, &["--take-ownership"]).unwrap();
    let yaml = cluster(1) + &topic("events", 1, "");
    let brokers = Brokers::apply_to_installed(environment, BROKERS, &yaml).unwrap();
    brokers.await_ready("flt/events").unwrap();
    let client = brokers.client(0).await.unwrap();
    let mut acknowledged = Acknowledged::default();
    acknowledged.publish(&client, "events", 500, 1).await.unwrap();
    let before = identities(&brokers);

    let current = environment.current();
    let install_other = |more: &[&str]| installation::type_line(environment, current, SECOND_LINE, more);
    let refused = install_other(&[]).unwrap_err().to_string();
    let told = format!("the release first of namespace {FIRST} looks after all namespaces already");
    assert!(refused.contains(&told), "{refused}");

    release("upgrade", "first", FIRST, &["--set", "replicas=2,log.level=debug,crds.enabled=false"]).unwrap();
    assert_eq!(identities(&brokers), before, "neither an upgrade nor crds.enabled=false touches them");
    release("upgrade", "first", FIRST, &["--set", "crds.enabled=true"]).unwrap();

    // The next one looks after one namespace alone: whatever waits elsewhere for an operator would wait for ever.
    await_no_other(environment);
    releases.uninstall("first", FIRST);
    assert_eq!(identities(&brokers), before, "all stay without an operator");
    acknowledged.publish(&client, "events", 500, 2).await.unwrap();

    let narrow = format!("watchNamespaces={{{BROKERS}}},readNodes=false");
    let refused = release("install", "other", SECOND, &["--set", &narrow]).unwrap_err().to_string();
    assert!(refused.contains("clusters.fulmar.dev") && refused.contains("ownership"), "{refused}");
    println!("{}", install_other(&["--set", &narrow]).unwrap());
    assert_eq!(owner(environment), "other");

    environment.apply(BROKERS, &topic("events", 2, "")).unwrap();
    brokers.await_ready("flt/events").unwrap();
    brokers.await_ready("flc/orders").unwrap();
    wait::until_so("the brokers' policy lets the new operator in", SOON, || {
        let policy = brokers.get("networkpolicy/orders")?["spec"].to_string();
        Ok(policy.contains(SECOND) && !policy.contains(FIRST))
    })
    .unwrap();
    assert_eq!(identities(&brokers), before, "a release of another name makes nothing anew");
    acknowledged.publish(&client, "events", 500, 3).await.unwrap();
    acknowledged.compare(&client, "events").await.unwrap();

    rights_end_at_the_namespace(environment);
    everything_goes_but_volumes(&releases, &brokers);
}

/// Until no Cluster, Topic or table is anywhere but here: what other tests left, or somebody's own.
fn await_no_other(environment: &Environment) {
    wait::until_so("nothing of Fulmar is in other namespaces", SOON, || {
        let where_it_is = "jsonpath={.items[*].metadata.namespace}";
        let kinds = ["get", "flc,flt,partitiontables", "--all-namespaces", "-o", where_it_is];
        let namespaces = environment.kubectl(&kinds)?;
        ensure!(namespaces.split_whitespace().all(|namespace| namespace == BROKERS), "{namespaces}");
        Ok(true)
    })
    .unwrap();
}

/// As the page says: Topics and Clusters, the release, the definitions.
fn everything_goes_but_volumes(releases: &Releases, brokers: &Brokers) {
    let environment = releases.0;
    brokers.kubectl(&["delete", "flt,flc", "--all", DELETED_WITHIN]).unwrap();
    releases.uninstall("other", SECOND);
    // Definitions take along whatever is of their kind.
    await_no_other(environment);
    let words = page::typed("kubectl delete crd ", &[]).unwrap();
    let mut words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
    words.push(DELETED_WITHIN);
    println!("{}", environment.kubectl(&words).unwrap());
    let left = environment.kubectl(&["get", "crd", "-o", "name"]).unwrap();
    assert!(!left.contains("fulmar.dev"), "{left}");
    let claims = brokers.kubectl(&["get", "pvc", "-o", "name"]).unwrap();
    assert_eq!(claims.trim(), "persistentvolumeclaim/data-orders-0");
    // And are there again.
    installation::ensure(environment).unwrap();
}

/// What the operator of `SECOND` may do is asked of the API server itself, in its name.
fn rights_end_at_the_namespace(environment: &Environment) {
    let name = format!("--as=system:serviceaccount:{SECOND}:other-fulmar");
    let may = |words: &[&str]| {
        let answer = environment.kubectl(&[words, &[name.as_str()]].concat());
        let answer = answer.map_err(|error| format!("{error:#}"));
        assert!(
            answer.is_ok() || answer.as_ref().is_err_and(|error| error.contains("orbidden")),
            "{answer:?}"
        );
        answer.is_ok()
    };
    assert!(may(&["get", "namespace", BROKERS]));
    assert!(!may(&["get", "namespace", "default"]));
    assert!(!may(&["get", "nodes"]));
    for resource in ["pods", "flc", "flt", "partitiontables", "statefulsets", "services"] {
        assert!(may(&["get", resource, "--namespace", BROKERS]), "{resource}");
        assert!(!may(&["get", resource, "--namespace", "default"]), "{resource} elsewhere");
    }
    assert!(!may(&["get", "secrets", "--namespace", BROKERS]), "no list of Secrets");
    assert!(!may(&["get", "secrets", "--namespace", SECOND]), "not even of its own namespace");
}
