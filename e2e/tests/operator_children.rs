//! Promise: what a Cluster becomes is what it says, whoever meddles; and what is not ours is not touched.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::time::{Duration, Instant};

use fulmar_e2e::brokers::{Brokers, cluster, topic};
use fulmar_e2e::environment::Environment;
use fulmar_e2e::wait;

/// The operator watches: what is changed by hand is put right at once.
const REPAIRED_WITHIN: Duration = Duration::from_secs(20);

/// A Secret is not watched (the operator may not list Secrets); it is read again each minute.
const SECRET_REPAIRED_WITHIN: Duration = Duration::from_mins(3);

#[test]
fn what_is_changed_by_hand_is_put_right() {
    let brokers = Brokers::apply("repaired", &cluster(1)).unwrap();
    brokers.await_ready("flc/orders").unwrap();
    brokers.kubectl(&["delete", "pdb/orders"]).unwrap();
    let ports = r#"[{"op": "replace", "path": "/spec/ports/0/port", "value": 1234}]"#;
    brokers.kubectl(&["patch", "service/orders", "--type=json", "-p", ports]).unwrap();
    wait::until_so("budget and Service are as they were", REPAIRED_WITHIN, || {
        let port = brokers.get("service/orders")?["spec"]["ports"][0]["port"].clone();
        Ok(port == 50051 && brokers.get("pdb/orders")?["spec"]["maxUnavailable"] == 1)
    })
    .unwrap();
    let versions = || brokers.kubectl(&["get", "sts,svc,pdb,netpol,sa,secret", "-o", VERSIONS]).unwrap();
    let before = versions();
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(versions(), before, "nothing is written when nothing changes");
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
    brokers.await_condition("flc/orders", "Stalled", "True", Duration::from_secs(30)).unwrap();
    let (_, reason, message) = brokers.condition("flc/orders", "Ready").unwrap().unwrap();
    assert_eq!(reason, "NameTaken");
    assert!(message.contains("Service orders exists"), "{message}");
    assert_eq!(brokers.get("service/orders").unwrap()["spec"]["ports"][0]["port"], 80);
    // It heals when the name is free.
    brokers.kubectl(&["delete", "service/orders"]).unwrap();
    brokers.await_ready("flc/orders").unwrap();
}

#[test]
fn a_lost_ca_is_replaced_and_the_brokers_stay_together() {
    let brokers = Brokers::apply("lost-ca", &(cluster(3) + &topic("events", 3, ""))).unwrap();
    brokers.await_ready("flt/events").unwrap();
    brokers.kubectl(&["delete", "secret/orders-ca"]).unwrap();
    wait::until_so("another CA", SECRET_REPAIRED_WITHIN, || brokers.get("secret/orders-ca").map(|_| true))
        .unwrap();
    // Brokers get it by kubelet's sync, a minute or two later; the old one stays trusted meanwhile.
    brokers.await_condition("flc/orders", "Ready", "True", Duration::from_mins(5)).unwrap();
    brokers.await_ready("flt/events").unwrap();
}

#[test]
fn brokers_are_restarted_one_at_a_time_when_their_template_changes() {
    let brokers = Brokers::apply("rolled", &(cluster(3) + &topic("events", 6, ""))).unwrap();
    brokers.await_ready("flt/events").unwrap();
    let uids = || -> Vec<String> {
        (0..3)
            .map(|ordinal| {
                brokers
                    .kubectl(&["get", "pod", &Brokers::pod(ordinal), "-o", "jsonpath={.metadata.uid}"])
                    .unwrap_or_default()
            })
            .collect()
    };
    let before = uids();
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
    wait::until_so("every pod is another", Duration::from_mins(5), || {
        let ready = brokers.kubectl(&["get", "pods", "-o", READY])?;
        let missing = 3 - ready.lines().filter(|line| *line == "True").count();
        assert!(missing <= 1, "{missing} brokers are missing at once");
        Ok(missing == 0 && uids().iter().zip(&before).all(|(now, before)| now != before))
    })
    .unwrap();
    println!("three brokers rolled in {:?}", started.elapsed());
    brokers.await_condition("flc/orders", "RolloutComplete", "True", Duration::from_mins(1)).unwrap();
}

const READY: &str =
    "jsonpath={range .items[*]}{.status.conditions[?(@.type==\"Ready\")].status}{\"\\n\"}{end}";
