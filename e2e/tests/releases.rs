//! Promise: the chart is installed, upgraded, uninstalled and installed under another name in another namespace, and no Cluster, no
//! broker and no record notices. An operator for named namespaces does it all with Roles alone.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use fulmar_e2e::brokers::{Brokers, SOON, cluster, topic};
use fulmar_e2e::environment::Environment;
use fulmar_e2e::records::Acknowledged;
use fulmar_e2e::{installation, wait};

const FIRST: &str = "first-operators";
const SECOND: &str = "second-operators";
const BROKERS: &str = "releases";

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
        for (name, namespace) in [("first", FIRST), ("second", SECOND), of_others] {
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
        self.uninstall("second", SECOND);
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

    let refused = release("install", "second", SECOND, &["--take-ownership"]).unwrap_err().to_string();
    let told = format!("the release first of namespace {FIRST} looks after all namespaces already");
    assert!(refused.contains(&told), "{refused}");

    release("upgrade", "first", FIRST, &["--set", "replicas=2,log.level=debug,crds.enabled=false"]).unwrap();
    assert_eq!(identities(&brokers), before, "neither an upgrade nor crds.enabled=false touches them");
    release("upgrade", "first", FIRST, &["--set", "crds.enabled=true"]).unwrap();

    releases.uninstall("first", FIRST);
    assert_eq!(identities(&brokers), before, "all stay without an operator");
    acknowledged.publish(&client, "events", 500, 2).await.unwrap();

    let narrow = format!("watchNamespaces={{{BROKERS}}},readNodes=false");
    let refused = release("install", "second", SECOND, &["--set", &narrow]).unwrap_err().to_string();
    assert!(refused.contains("clusters.fulmar.dev") && refused.contains("ownership"), "{refused}");
    release("install", "second", SECOND, &["--set", &narrow, "--take-ownership"]).unwrap();
    assert_eq!(owner(environment), "second");

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
}

/// What the operator of `SECOND` may do is asked of the API server itself, in its name.
fn rights_end_at_the_namespace(environment: &Environment) {
    let name = format!("--as=system:serviceaccount:{SECOND}:second-fulmar");
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
