use std::time::Duration;

use super::world::{World, wish};
use crate::control::{LossWord, Stuck};
use crate::entry::{Entry, Members};
use crate::id::{Incarnation, Ordinal, ReplicaId};
use crate::term::Epoch;

const SECOND: Duration = Duration::from_secs(1);

fn entry(stage: &World) -> Entry {
    stage.entries().into_values().next().unwrap()
}

/// Three brokers, a partition, and brokers 1 and 2 are gone.
fn without_quorum() -> World {
    let mut stage = World::new(3, vec![wish("orders", 1)]);
    stage.run(2 * SECOND);
    let key = entry(&stage).key;
    stage.brokers.get_mut(&0).unwrap().replicas.get_mut(&key).unwrap().log_end = 7;
    stage.kill(1);
    stage.kill(2);
    stage.run(SECOND);
    stage
}

/// They come back with empty volumes.
fn ruined() -> World {
    let mut stage = without_quorum();
    stage.add_broker(1, 501);
    stage.add_broker(2, 502);
    stage
}

fn say(stage: &mut World, word: LossWord) {
    stage.desired.topics[0].accepted_losses.push(word);
    stage.wish();
}

fn stuck(stage: &World) -> Option<Stuck> {
    stage.topic("orders").partitions[0].stuck.clone()
}

#[test]
fn a_partition_without_a_quorum_tells_the_word_that_lets_it_go_on_and_goes_on_by_it() {
    let mut stage = ruined();
    stage.run(5 * SECOND);
    assert_eq!(stuck(&stage), None, "brokers may just be starting");
    stage.run(20 * SECOND);
    let told = stuck(&stage).unwrap();
    let word = told.word.unwrap();
    assert_eq!((word.partition, word.epoch), (0, entry(&stage).epoch));
    assert!(told.message.contains("broker 0 has the longest log that is left, up to 7"), "{}", told.message);
    assert_eq!((stage.topic("orders").ready, stage.topic("orders").reason), (false, "QuorumLost"));
    say(&mut stage, word);
    stage.run(10 * SECOND);
    let now = entry(&stage);
    let Members::One(set) = &now.members else { panic!("{now}") };
    let new =
        |ordinal, incarnation| ReplicaId { ordinal: Ordinal(ordinal), incarnation: Incarnation(incarnation) };
    assert!(set.contains(new(0, 1)) && set.contains(new(1, 501)) && set.contains(new(2, 502)), "{now}");
    assert!(
        now.accepted_loss.is_some_and(|accepted| accepted.epoch < now.epoch),
        "kept for who comes back: {now}"
    );
    assert!(stage.topic("orders").ready, "{}", stage.topic("orders").message);
    assert!(stage.told("DataLossAccepted"));
    assert_eq!(stage.events.iter().filter(|event| event.reason == "DataLossAccepted").count(), 1, "once");
}

#[test]
fn only_who_has_what_is_left_may_lead_before_others_have_it() {
    let mut stage = ruined();
    stage.run(25 * SECOND);
    let word = stuck(&stage).unwrap().word.unwrap();
    stage.brokers.get_mut(&0).unwrap().opens_nothing = true;
    say(&mut stage, word);
    stage.run(30 * SECOND);
    let now = entry(&stage);
    let Members::Joint { old, .. } = &now.members else { panic!("{now}") };
    assert_eq!(old.replicas(), [stage.brokers[&0].replica], "{now}");
    assert!(now.accepts_loss() && now.leader == Some(stage.brokers[&0].replica), "{now}");
}

#[test]
fn who_was_to_join_what_is_left_and_is_lost_too_is_replaced() {
    let mut stage = ruined();
    stage.run(25 * SECOND);
    let word = stuck(&stage).unwrap().word.unwrap();
    stage.brokers.get_mut(&0).unwrap().opens_nothing = true;
    say(&mut stage, word);
    stage.run(10 * SECOND);
    for (ordinal, incarnation) in [(1, 601), (2, 602)] {
        stage.kill(ordinal);
        stage.add_broker(ordinal, incarnation);
    }
    stage.run(10 * SECOND);
    stage.brokers.get_mut(&0).unwrap().opens_nothing = false;
    stage.run(10 * SECOND);
    assert!(stage.topic("orders").ready, "{}: {}", entry(&stage), stage.topic("orders").message);
    let holds = |ordinal: u16| entry(&stage).members.contains(stage.brokers[&ordinal].replica);
    assert!((0..3).all(holds), "{}", entry(&stage));
}

#[test]
fn a_word_for_another_epoch_does_nothing_and_that_is_told() {
    let mut stage = ruined();
    stage.run(25 * SECOND);
    let before = entry(&stage);
    let Epoch { generation, counter } = before.epoch;
    for counter in [counter - 1, counter + 1] {
        say(&mut stage, LossWord { partition: 0, epoch: Epoch { generation, counter } });
    }
    stage.run(20 * SECOND);
    assert_eq!(entry(&stage), before);
    assert!(stuck(&stage).unwrap().message.contains("names another epoch"), "{:?}", stuck(&stage));
}

#[test]
fn a_word_for_a_partition_that_works_is_refused_and_void() {
    let mut stage = World::new(3, vec![wish("orders", 1)]);
    stage.run(2 * SECOND);
    let before = entry(&stage);
    say(&mut stage, LossWord { partition: 0, epoch: before.epoch });
    stage.run(2 * SECOND);
    assert!(stage.told("DataLossRefused"));
    assert!(entry(&stage).epoch > before.epoch && entry(&stage).accepted_loss.is_none(), "{}", entry(&stage));
    stage.kill(1);
    stage.kill(2);
    stage.add_broker(1, 501);
    stage.add_broker(2, 502);
    stage.run(30 * SECOND);
    assert_eq!(entry(&stage).accepted_loss, None, "it does not act on another day");
    assert!(stage.topic("orders").ready || stuck(&stage).is_some());
}

#[test]
fn without_enough_brokers_to_acknowledge_no_word_helps_and_what_is_needed_is_told() {
    let mut stage = without_quorum();
    stage.run(25 * SECOND);
    let told = stuck(&stage).unwrap();
    assert_eq!(told.word, None);
    assert!(
        told.message.contains("bring broker") && told.message.contains("spec.ackQuorum"),
        "{}",
        told.message
    );
    let before = entry(&stage);
    say(&mut stage, LossWord { partition: 0, epoch: before.epoch });
    stage.run(5 * SECOND);
    assert_eq!(entry(&stage), before);
    stage.desired.topics[0].ack_quorum = Some(1);
    stage.wish();
    stage.run(10 * SECOND);
    let now = entry(&stage);
    assert!(now.accepts_loss() && now.members.sets().all(|set| set.ack_quorum() == 1), "{now}");
}

#[test]
fn a_word_outlives_the_operator_that_read_it() {
    let mut stage = ruined();
    stage.run(25 * SECOND);
    let word = stuck(&stage).unwrap().word.unwrap();
    say(&mut stage, word);
    stage.restart_controller();
    stage.run(30 * SECOND);
    assert!(stage.topic("orders").ready, "{}", stage.topic("orders").message);
}

#[test]
fn a_partition_of_which_nothing_is_left_begins_anew() {
    let mut stage = ruined();
    stage.kill(0);
    stage.add_broker(0, 500);
    stage.run(30 * SECOND);
    let word = stuck(&stage).unwrap().word.unwrap();
    say(&mut stage, word);
    stage.run(10 * SECOND);
    assert!(stage.topic("orders").ready, "{}", stage.topic("orders").message);
}

#[test]
fn a_word_that_cannot_be_read_says_what_it_should_be() {
    assert_eq!(LossWord::parse_all(" 0:7.3, 12:1763750000.4 ", 13).unwrap().len(), 2);
    assert_eq!(LossWord::parse_all("", 1), Ok(Vec::new()));
    for bad in ["0", "0:7", "x:7.3", "0:7.3;1:7.3", "-1:7.3"] {
        let why = LossWord::parse_all(bad, 13).unwrap_err().to_string();
        assert!(why.contains("is not PARTITION:EPOCH"), "{why}");
    }
}

#[test]
fn a_word_for_a_partition_that_is_not_there_is_refused_by_its_number() {
    let why = LossWord::parse_all("0:7.3,13:7.3", 13).unwrap_err().to_string();
    assert_eq!(
        why,
        "13:7.3 names a partition that is not there: there is no partition 13, the last one is 12"
    );
}

#[test]
fn each_partition_that_only_a_word_helps_is_told() {
    let mut stage = World::new(3, vec![wish("orders", 7)]);
    stage.run(2 * SECOND);
    stage.kill(1);
    stage.kill(2);
    stage.add_broker(1, 501);
    stage.add_broker(2, 502);
    stage.run(30 * SECOND);
    let told = stage.topic("orders").message.clone();
    for partition in 0..5 {
        assert!(told.contains(&format!("partition {partition} has no quorum: ")), "{told}");
    }
    assert!(told.ends_with("; and 2 more partitions"), "{told}");
}
