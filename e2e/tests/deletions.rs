//! Promise: whatever is deleted, in any order, its namespace included, is gone within 60 s; without an operator one command does it.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::time::{Duration, Instant};

use fulmar_e2e::brokers::{Brokers, cluster, topic};
use fulmar_e2e::environment::Environment;
use fulmar_e2e::health::Health;
use fulmar_e2e::{installation, page, wait};

const GONE_WITHIN: Duration = Duration::from_mins(1);

const NOTES: &str = include_str!("../../charts/fulmar/templates/NOTES.txt");

/// All that a Cluster and its Topics become.
const KINDS: &str = "flc,flt,partitiontables,sts,pods,svc,pdb,netpol,secrets,pvc";

/// Each deletion policy; and claims that go with the Cluster.
fn everything() -> String {
    let goes = cluster(3).replace("storage: {size: 1Gi}", "storage: {size: 1Gi, whenDeleted: Delete}");
    let policies = ["Retain", "Delete"];
    let topics = policies
        .map(|policy| topic(&policy.to_lowercase(), 3, &format!("deletionPolicy: {policy}")))
        .concat();
    goes + &topics
}

fn await_all_ready(brokers: &Brokers) {
    for object in ["flc/orders", "flt/retain", "flt/delete"] {
        brokers.await_ready(object).unwrap();
    }
}

fn await_nothing(brokers: &Brokers, since: Instant, what: &str) {
    let left = GONE_WITHIN.saturating_sub(since.elapsed());
    wait::until_so(&format!("nothing is left of {what}"), left, || {
        let found = brokers.kubectl(&["get", KINDS, "-o", "name"])?;
        anyhow::ensure!(found.trim().is_empty(), "{found}");
        Ok(true)
    })
    .unwrap();
    let took = since.elapsed();
    println!("{what}: nothing is left after {took:?}");
    assert!(took <= GONE_WITHIN, "{what} took {took:?}");
}

#[test]
fn deletion_in_any_order_ends_within_60_s() {
    let brokers = Brokers::apply("any-order", &everything()).unwrap();
    let orders: [&[&[&str]]; 4] = [
        &[&["delete", "flt", "--all", "--wait=false"], &["delete", "flc", "--all", "--wait=false"]],
        &[&["delete", "flc", "--all", "--wait=false"], &["delete", "flt", "--all", "--wait=false"]],
        &[&["delete", "flc", "--all", "--wait=true"], &["delete", "flt", "--all", "--wait=true"]],
        &[&["delete", "flc,flt,sts,pods", "--all", "--wait=false"]],
    ];
    for order in orders {
        Environment::get().unwrap().apply(brokers.namespace(), &everything()).unwrap();
        await_all_ready(&brokers);
        let began = Instant::now();
        for command in order {
            brokers.kubectl(command).unwrap();
        }
        await_nothing(&brokers, began, &format!("{order:?}"));
    }
    Environment::get().unwrap().apply(brokers.namespace(), &everything()).unwrap();
    await_all_ready(&brokers);
    let began = Instant::now();
    let timeout = format!("--timeout={}s", GONE_WITHIN.as_secs());
    brokers.kubectl(&["delete", "namespace", brokers.namespace(), &timeout]).unwrap();
    println!("the namespace is gone after {:?}", began.elapsed());
}

#[test]
fn where_the_operator_went_first_one_command_deletes_what_waits_for_it() {
    const GIVE_UP: &str = r#"kubectl patch flt orders.v1 --type=merge -p '{"metadata""#;
    let environment = Environment::get().unwrap();
    let brokers = Brokers::apply("no-operator", &everything()).unwrap();
    await_all_ready(&brokers);
    installation::scale(environment, 0).unwrap();
    let gone = delete_without_operator(&brokers, GIVE_UP);
    installation::scale(environment, 1).unwrap();
    gone.unwrap();
    let (_, patch) = page::line(GIVE_UP).unwrap().split_once("orders.v1 ").unwrap();
    assert!(NOTES.contains(patch), "the chart's notes name another command than {patch}");
}

fn delete_without_operator(brokers: &Brokers, give_up: &str) -> anyhow::Result<()> {
    let began = Instant::now();
    brokers.kubectl(&["delete", "flc,flt", "--all", "--wait=false"])?;
    wait::until_so("what needs no operator is gone", GONE_WITHIN, || {
        let found = brokers.kubectl(&["get", "flc,flt,pods", "-o", "name"])?;
        let topics: Vec<&str> = found.lines().collect();
        anyhow::ensure!(topics == ["topic.fulmar.dev/delete"], "{found}");
        Ok(true)
    })?;
    brokers.check_health("flt/delete", Health::Going)?;
    brokers.type_line_with(give_up, &[("orders.v1", "delete")])?;
    let timeout = format!("--timeout={}s", GONE_WITHIN.as_secs());
    brokers.kubectl(&["delete", "namespace", brokers.namespace(), &timeout])?;
    println!("without an operator all is gone after {:?}", began.elapsed());
    Ok(())
}
