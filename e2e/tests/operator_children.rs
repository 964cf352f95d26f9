//! Promise: what a Cluster becomes is what it says, whoever meddles; and what is not ours is not touched.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use fulmar_client::Record;
use fulmar_e2e::brokers::{Brokers, SOON, cluster, topic};
use fulmar_e2e::clients::producer;
use fulmar_e2e::environment::Environment;
use fulmar_e2e::identities::{Asks, Comes};
use fulmar_e2e::labels::{DEDICATED, Relabelled, Tainted};
use fulmar_e2e::records::Acknowledged;
use fulmar_e2e::{installation, wait};
use serde_json::json;
use tonic::transport::Identity;

/// The operator watches: what is changed by hand is put right at once, not only when it looks again by itself, each minute.
const REPAIRED_WITHIN: Duration = Duration::from_secs(40);

/// It has to be so in one of so many tries.
const TRIES: usize = 3;

/// A few quiet spans: who writes again and again has none.
const SETTLED_WITHIN: Duration = Duration::from_mins(3);

#[test]
fn what_is_changed_by_hand_is_put_right() {
    let brokers = Brokers::apply("repaired", &cluster(1)).unwrap();
    brokers.await_ready("flc/orders").unwrap();
    // The machine may stand still for once: one of the tries is in time, and all is put right in each.
    let took = (0..TRIES).map(|_| meddle(&brokers)).find(|took| *took <= REPAIRED_WITHIN);
    assert!(took.is_some(), "not within {REPAIRED_WITHIN:?} in {TRIES} tries");
    let versions = || brokers.kubectl(&["get", "sts,svc,pdb,netpol,sa,secret", "-o", VERSIONS]).unwrap();
    // The operator may still note that the template has proven itself.
    wait::until_so("nothing is written for 5 s, when nothing changes", SETTLED_WITHIN, || {
        let before = versions();
        std::thread::sleep(Duration::from_secs(5));
        Ok(versions() == before)
    })
    .unwrap();
}

/// Changes what the operator made; returns how long it took until that was put right.
fn meddle(brokers: &Brokers) -> Duration {
    brokers.kubectl(&["delete", "pdb/orders", "--wait=false"]).unwrap();
    let ports = r#"[{"op": "replace", "path": "/spec/ports/0/port", "value": 1234}]"#;
    brokers.kubectl(&["patch", "service/orders", "--type=json", "-p", ports]).unwrap();
    let started = Instant::now();
    wait::until_so("budget and Service are as they were", SOON, || {
        let port = brokers.get("service/orders")?["spec"]["ports"][0]["port"].clone();
        Ok(port == 50051 && brokers.get("pdb/orders")?["spec"]["maxUnavailable"] == 1)
    })
    .unwrap();
    started.elapsed()
}

const VERSIONS: &str = "jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.generation} {.metadata.annotations}{\"\\n\"}{end}";

#[test]
fn an_object_of_somebody_elses_is_left_alone_and_named() {
    let environment = Environment::get().unwrap();
    let brokers = Brokers::apply(
        "taken",
        "apiVersion: v1\nkind: Service\nmetadata: {name: orders}\nspec: {ports: [{port: 80}]}",
    )
    .unwrap();
    environment.apply(brokers.namespace(), &cluster(1)).unwrap();
    brokers.await_condition("flc/orders", "Stalled", "True", SOON).unwrap();
    let message = brokers.await_reason("flc/orders", "Ready", "False", "NameTaken").unwrap();
    assert!(message.contains("Service orders exists"), "{message}");
    assert_eq!(brokers.get("service/orders").unwrap()["spec"]["ports"][0]["port"], 80);
    // It heals when the name is free.
    brokers.kubectl(&["delete", "service/orders"]).unwrap();
    brokers.await_ready("flc/orders").unwrap();
}

/// The operator hears of the lost Secret within a minute; then three steps of some ten seconds each. An annotation may come to
/// kubelet before the Secret, and then it takes a minute or two until kubelet looks by itself.
const ROTATED_WITHIN: Duration = Duration::from_mins(12);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_ca_is_replaced_and_nothing_stops_meanwhile() {
    let brokers = Brokers::apply("lost-ca", &(cluster(3) + &topic("events", 3, ""))).unwrap();
    brokers.await_ready("flt/events").unwrap();
    // A status of its own, which may be written a moment later.
    brokers.await_ready("flc/orders").unwrap();
    let client = brokers.client(0).await.unwrap();
    let tls = || brokers.get("secret/orders-tls");
    let signer = |tls: &serde_json::Value| tls["metadata"]["annotations"]["fulmar.dev/signed-by"].clone();
    let (old, uids) = (tls().unwrap(), brokers.kubectl(&["get", "pods", "-o", UIDS]).unwrap());
    let old_identity = brokers.identity().unwrap();
    let started = Instant::now();
    brokers.kubectl(&["delete", "secret/orders-ca"]).unwrap();
    let (mut seed, mut steps) = (0, vec![old.clone()]);
    loop {
        // Through any broker, so between brokers too.
        let mut acknowledged = Acknowledged::default();
        acknowledged.publish(&client, "events", 50, seed).await.unwrap();
        for resource in ["flc/orders", "flt/events"] {
            let ready = brokers.condition(resource, "Ready").unwrap().unwrap();
            assert_eq!(ready.0, "True", "{resource} after {:?}: {ready:?}", started.elapsed());
        }
        let now = tls().unwrap();
        if steps.last().unwrap()["data"] != now["data"] {
            println!("step {} after {:?}", steps.len(), started.elapsed());
            steps.push(now.clone());
        }
        if steps.len() == 4 {
            break;
        }
        assert!(started.elapsed() < ROTATED_WITHIN, "{} steps", steps.len() - 1);
        seed += 1;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let signers: Vec<_> = steps.iter().map(signer).collect();
    assert!(signers[0] == signers[1] && signers[1] != signers[2] && signers[2] == signers[3], "{signers:?}");
    assert_ne!(steps[3]["data"]["ca.crt"], old["data"]["ca.crt"]);
    assert_eq!(steps[3]["data"]["gossip.key"], old["data"]["gossip.key"]);
    // The last step arrives too: every broker believes the CA that all use now, and the old one no more.
    let (ca, new_identity) = (brokers.pem("tls", "ca.crt").unwrap(), brokers.identity().unwrap());
    for ordinal in 0..3 {
        while !believes(&brokers, ordinal, &ca, &new_identity).await
            || believes(&brokers, ordinal, &ca, &old_identity).await
        {
            assert!(started.elapsed() < ROTATED_WITHIN, "broker {ordinal} still believes the old CA");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    println!("nobody believes the old CA after {:?}", started.elapsed());
    let hastened = brokers.kubectl(&["get", "pods", "-o", HASTENED]).unwrap();
    assert!(!hastened.trim().is_empty(), "kubelet was never asked to bring the Secret at once");
    let mut acknowledged = Acknowledged::default();
    acknowledged.publish(&client, "events", 50, seed + 1).await.unwrap();
    brokers.await_ready("flt/events").unwrap();
    assert_eq!(brokers.kubectl(&["get", "pods", "-o", UIDS]).unwrap(), uids, "nothing was restarted");
}

/// Whether a broker believes this certificate, which is a broker's.
async fn believes(brokers: &Brokers, ordinal: u32, ca: &str, identity: &Identity) -> bool {
    // Its pod may have no address for a moment.
    let comes = brokers.comes(ordinal, (ca, identity), Asks::ToAttend).await;
    comes.is_ok_and(|comes| comes == Comes::Known)
}

const HASTENED: &str = "jsonpath={.items[*].metadata.annotations.fulmar\\.dev/certificates}";

const UIDS: &str =
    "jsonpath={range .items[*]}{.metadata.uid} {.status.containerStatuses[0].restartCount}{\"\\n\"}{end}";

#[test]
fn brokers_are_restarted_one_at_a_time_when_their_template_changes() {
    let brokers = Brokers::apply("rolled", &(cluster(3) + &topic("events", 6, ""))).unwrap();
    brokers.await_ready("flt/events").unwrap();
    let pods = || -> anyhow::Result<Vec<Pod>> {
        let list: serde_json::Value =
            serde_json::from_str(&brokers.kubectl(&["get", "pods", "-o", "json"])?)?;
        Ok(list["items"].as_array().into_iter().flatten().map(Pod::read).collect())
    };
    let uids = |pods: Vec<Pod>| pods.into_iter().map(|pod| pod.uid).collect::<BTreeSet<String>>();
    let before = uids(pods().unwrap());
    // A broker that was Ready once and is not being stopped is there: a probe that a busy machine answers late says nothing.
    let mut proven = before.clone();
    brokers
        .kubectl(&[
            "patch",
            "flc/orders",
            "--type=merge",
            "-p",
            r#"{"spec": {"pod": {"annotations": {"note": "again"}}}}"#,
        ])
        .unwrap();
    let started = Instant::now();
    wait::until_so("every pod is another", Duration::from_mins(10), || {
        let now = pods()?;
        proven.extend(now.iter().filter(|pod| pod.is_ready).map(|pod| pod.uid.clone()));
        let missing = 3 - now.iter().filter(|pod| proven.contains(&pod.uid) && !pod.is_stopping).count();
        assert!(missing <= 1, "{missing} brokers are missing at once: {now:?}");
        Ok(missing == 0 && uids(now).is_disjoint(&before))
    })
    .unwrap();
    println!("three brokers rolled in {:?}", started.elapsed());
    brokers.await_condition("flc/orders", "RolloutComplete", "True", SOON).unwrap();
}

/// What a broker's pod is just now.
#[derive(Debug)]
struct Pod {
    uid: String,
    is_ready: bool,
    is_stopping: bool,
}

impl Pod {
    fn read(pod: &serde_json::Value) -> Self {
        let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        Self {
            uid: pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
            is_ready: conditions.into_iter().any(|one| one["type"] == "Ready" && one["status"] == "True"),
            is_stopping: !pod["metadata"]["deletionTimestamp"].is_null(),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_run_where_and_as_whom_a_cluster_says() {
    let environment = Environment::get().unwrap();
    installation::ensure(environment).unwrap();
    // One node alone has this label, and nobody else is let in there.
    let labelled = Relabelled::new("node2", DEDICATED, "fulmar").unwrap();
    let _tainted = Tainted::new("node2", "fulmar").unwrap();
    let pod = "
  pod:
    labels: {team: shop}
    annotations: {example.com/note: a note}
    nodeSelector: {dedicated: fulmar}
    tolerations: [{key: dedicated, operator: Equal, value: fulmar, effect: NoSchedule}]
    imagePullSecrets: [{name: registry}]
    securityContext: {runAsUser: 10001, runAsGroup: 10002, fsGroup: 10003, supplementalGroups: [10004]}
    terminationGracePeriodSeconds: 60
";
    let yaml = cluster(1).trim_end().to_owned() + pod + &topic("events", 1, "");
    let brokers = Brokers::apply_to_installed(environment, "pods", &yaml).unwrap();
    brokers.await_ready("flt/events").unwrap();
    let live = brokers.get(&format!("pod/{}", Brokers::pod(0))).unwrap();
    let (metadata, spec) = (&live["metadata"], &live["spec"]);
    assert_eq!(metadata["labels"]["team"], "shop");
    assert_eq!(metadata["annotations"]["example.com/note"], "a note");
    assert_eq!(spec["nodeName"], labelled.node());
    assert_eq!(spec["imagePullSecrets"], json!([{"name": "registry"}]));
    assert_eq!(spec["terminationGracePeriodSeconds"], 60);
    let who = &spec["securityContext"];
    assert_eq!(
        (&who["runAsUser"], &who["runAsGroup"], &who["fsGroup"]),
        (&json!(10001), &json!(10002), &json!(10003))
    );
    assert_eq!((&who["supplementalGroups"], &who["runAsNonRoot"]), (&json!([10004]), &json!(true)));
    // As that user it reads its certificates, and writes on its volume.
    let producer = producer(&brokers.client(0).await.unwrap(), "events").await.unwrap();
    producer.publish(Record::new("kept")).await.unwrap();
}
