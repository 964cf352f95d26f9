//! The last resort on real processes: two of three volumes are out of reach, a person gives up what only they have, publishing
//! goes on, and who comes back with more sets it aside.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test panics and tells why")]

mod support;

use fulmar_broker::storage::inspect::inspect;
use fulmar_core::accepted_loss::AcceptedLoss;
use fulmar_core::control::table::Page;
use fulmar_core::entry::{Entry, Members, ReplicaSet};
use fulmar_core::id::ReplicaId;
use fulmar_core::offset::Offset;
use fulmar_proto::internal::v1::from_operator::Message as Down;
use fulmar_proto::internal::v1::{Ask, OffsetRange};
use fulmar_proto::v1::PublishRequest;
use support::operator::{CLUSTER, Operator, epoch, key, page};
use support::{Brokers, eventually};

async fn publish(brokers: &Brokers, at: usize, value: &str) -> u64 {
    let value = value.as_bytes().to_vec().into();
    let request = PublishRequest { topic: "events".to_owned(), value, ..PublishRequest::default() };
    brokers.publish(at, &request).await.offset
}

/// Waits until its replica's durable log ends at or behind `end`.
async fn holds_up_to(operator: &Operator, end: u64) {
    eventually(&format!("broker {} holds all up to {end}", operator.hello.ordinal), async || {
        operator.say(Down::Ask(Ask { request: 1 })).await;
        let heard = operator.heard.lock();
        heard.reports.get(&key(0).to_string()).is_some_and(|report| report.log_end >= end)
    })
    .await;
}

/// The page with another decision about its one partition.
fn decided(
    page: &Page,
    counter: u64,
    leader: ReplicaId,
    members: Members,
    accepted: u64,
    known_end: u64,
) -> Page {
    let accepted_loss = AcceptedLoss { epoch: epoch(accepted), known_end: Offset(known_end) };
    let entry = Entry {
        epoch: epoch(counter),
        leader: Some(leader),
        members,
        accepted_loss: Some(accepted_loss),
        ..page.entries[0].clone()
    };
    Page { entries: vec![entry], ..page.clone() }
}

#[tokio::test]
async fn what_a_person_gave_up_is_set_aside_by_who_still_has_it_and_publishing_goes_on_without_it() {
    let mut brokers = Brokers::start(3);
    let mut operators = Vec::new();
    for ordinal in 0..3 {
        operators.push(brokers.operator(ordinal, CLUSTER).await);
    }
    let old: Vec<ReplicaId> = operators.iter().map(Operator::replica).collect();
    let first = page(1, &old, old[2], 1);
    for operator in &operators {
        operator.push(&first, 1).await;
    }
    operators[2].leads(key(0), epoch(1)).await;
    for number in 0..20 {
        publish(&brokers, 2, &format!("all have {number}")).await;
    }
    holds_up_to(&operators[0], 21).await;
    // What comes now only 1 and 2 have; then the volume of 1 is gone for good, and 2 is away.
    brokers.kill(0);
    let mut end = 0;
    for number in 0..5 {
        end = publish(&brokers, 2, &format!("two have {number}")).await + 1;
    }
    operators.clear();
    brokers.kill(2);
    brokers.kill(1);
    std::fs::remove_dir_all(brokers.data(1)).unwrap();
    for ordinal in [0, 1] {
        brokers.spawn(ordinal);
        operators.push(brokers.operator(ordinal, CLUSTER).await);
    }
    let new = vec![old[0], operators[1].replica(), old[2]];
    assert_ne!(new[1], old[1], "an empty volume is another replica");
    let next = ReplicaSet::new(new.clone(), 2).unwrap();
    let alone = ReplicaSet::new(vec![old[0]], 1).unwrap();
    let joint = Members::Joint { old: alone, new: next.clone() };
    let given_up = decided(&first, 2, old[0], joint, 2, end);
    for operator in &operators {
        operator.push(&given_up, 2).await;
    }
    operators[0].leads(key(0), epoch(2)).await;
    let said = operators[0].heard.lock().reports[&key(0).to_string()].may_have_lost;
    assert!(said.is_some_and(|from| from <= 21), "what may be lost is said: {said:?}");
    let moved = decided(&first, 3, old[0], Members::One(next), 2, end);
    for operator in &operators {
        operator.push(&moved, 3).await;
    }
    operators[0].leads(key(0), epoch(3)).await;
    let offset = publish(&brokers, 0, "goes on").await;
    // The old one comes back with more than its leader ever had.
    brokers.spawn(2);
    operators.push(brokers.operator(2, CLUSTER).await);
    assert_eq!(operators[2].replica(), old[2]);
    operators[2].push(&moved, 3).await;
    holds_up_to(&operators[2], offset + 1).await;
    let aside = OffsetRange { from: 21, to: end };
    eventually("what was set aside is said", async || {
        operators[2].heard.lock().reports[&key(0).to_string()].set_aside == Some(aside)
    })
    .await;
    operators.clear();
    for ordinal in [2, 1, 0] {
        assert!(brokers.terminate(ordinal).success(), "{}", brokers.log(ordinal));
    }
    let found = inspect(&brokers.data(2)).unwrap();
    let [copy] = &found.aside[..] else { panic!("{found}") };
    assert_eq!((copy.key, copy.from, copy.to), (key(0), Offset(21), Offset(end)));
    assert!(copy.bytes > 0 && found.to_string().contains("set aside"), "{found}");
    assert_eq!(
        found.replicas[0].vector,
        inspect(&brokers.data(0)).unwrap().replicas[0].vector,
        "one history"
    );
}
