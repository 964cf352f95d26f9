//! Claims about entries, their quorums and their text.

use proptest::prelude::*;

use super::*;
use crate::id::{Incarnation, Ordinal, TopicId};

fn replica(ordinal: u16) -> ReplicaId {
    ReplicaId { ordinal: Ordinal(ordinal), incarnation: Incarnation(u128::from(ordinal) + 100) }
}

fn set(ordinals: &[u16], ack_quorum: u8) -> ReplicaSet {
    ReplicaSet::new(ordinals.iter().copied().map(replica).collect(), ack_quorum).unwrap()
}

fn entry(members: Members) -> Entry {
    let key = PartitionKey { topic: TopicId(9), partition: 4 };
    let epoch = Epoch { generation: 7, counter: 3 };
    Entry { key, epoch, leader: None, members, learners: Vec::new(), lost: Vec::new(), accepted_loss: None }
}

fn any_set() -> impl Strategy<Value = ReplicaSet> {
    (
        proptest::sample::subsequence((0..9u16).collect::<Vec<_>>(), 1..=REPLICAS_MAX),
        any::<prop::sample::Index>(),
    )
        .prop_map(|(ordinals, quorum)| {
            let quorum = 1 + u8::try_from(quorum.index(ordinals.len())).unwrap();
            set(&ordinals, quorum)
        })
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let members = prop_oneof![
        any_set().prop_map(Members::One),
        (any_set(), any_set()).prop_map(|(old, new)| Members::Joint { old, new }),
    ];
    (members, any::<bool>(), 0..3u16, any::<bool>()).prop_map(|(members, led, learners, loses)| {
        let mut entry = entry(members);
        entry.leader = led.then(|| entry.members.replicas()[0]);
        entry.learners = (20..20 + learners).map(replica).collect();
        if let (Members::Joint { old, new }, true) = (&entry.members, loses) {
            let left =
                old.replicas().iter().filter(|one| !new.contains(**one) && entry.leader != Some(**one));
            entry.lost = left.copied().collect();
        }
        entry
    })
}

proptest! {
    #[test]
    fn an_entry_is_read_back_from_its_text(entry in any_entry()) {
        prop_assert_eq!(entry.to_string().parse::<Entry>(), Ok(entry));
    }

    #[test]
    fn garbage_is_refused_and_never_panics(text in ".{0,200}", entry in any_entry(), at in any::<prop::sample::Index>(), other in any::<char>()) {
        prop_assert!(text.parse::<Entry>().is_err());
        let mut changed: Vec<char> = entry.to_string().chars().collect();
        let at = at.index(changed.len());
        changed[at] = other;
        let changed: String = changed.into_iter().collect();
        if let Ok(read) = changed.parse::<Entry>() {
            prop_assert_eq!(read.clone().checked(), Ok(read));
        }
    }

    /// Why a term that is opened holds everything that was acknowledged.
    #[test]
    fn every_ack_quorum_meets_every_open_quorum(set in any_set(), acked in any::<u8>(), answered in any::<u8>()) {
        let chosen = |bits: u8| {
            let replicas = set.replicas().to_vec();
            move |replica: ReplicaId| replicas.iter().position(|one| *one == replica).is_some_and(|at| bits >> at & 1 == 1)
        };
        let members = Members::One(set.clone());
        if members.acknowledged_by(chosen(acked)) && members.opened_by(chosen(answered)) {
            prop_assert!(set.replicas().iter().any(|one| chosen(acked)(*one) && chosen(answered)(*one)));
        }
    }
}

#[test]
fn both_sets_of_a_joint_entry_have_to_agree() {
    let members = Members::Joint { old: set(&[0, 1, 2], 2), new: set(&[2, 3, 4], 2) };
    assert!(!members.acknowledged_by(|one| one.ordinal.0 <= 2));
    assert!(!members.opened_by(|one| one.ordinal.0 >= 2));
    assert!(members.acknowledged_by(|one| [1, 2, 3].contains(&one.ordinal.0)));
}

#[test]
fn a_lost_replica_acknowledges_for_the_old_set_and_opens_nothing() {
    let mut entry = entry(Members::Joint { old: set(&[0, 1], 2), new: set(&[0, 2], 2) });
    entry.lost = vec![replica(1)];
    let entry = entry.checked().unwrap();
    assert!(entry.acknowledged_by(|one| [0, 2].contains(&one.ordinal.0)));
    assert!(!entry.acknowledged_by(|one| one.ordinal.0 == 0));
    assert!(entry.opened_by(|one| one.ordinal.0 == 0));
    assert!(entry.members.opened_by(|one| [1, 2].contains(&one.ordinal.0)));
    assert!(!entry.opened_by(|one| [1, 2].contains(&one.ordinal.0)), "who is lost opens nothing");
}

#[test]
fn who_stays_cannot_be_lost() {
    let joint = Members::Joint { old: set(&[0, 1], 2), new: set(&[0, 2], 2) };
    for (members, lost) in [(joint.clone(), 0), (joint, 2), (Members::One(set(&[0, 1], 2)), 1)] {
        let wrong = Entry { lost: vec![replica(lost)], ..entry(members) };
        assert_eq!(wrong.checked(), Err(InvalidEntry::Lost(replica(lost))));
    }
}

#[test]
fn a_set_names_each_broker_once_and_a_quorum_that_it_has() {
    let again = ReplicaId { incarnation: Incarnation(1), ..replica(1) };
    assert_eq!(ReplicaSet::new(vec![replica(1), again], 1), Err(InvalidEntry::Twice(again)));
    assert!(matches!(ReplicaSet::new(vec![replica(1)], 2), Err(InvalidEntry::Quorum { .. })));
    assert!(matches!(ReplicaSet::new(vec![replica(1)], 0), Err(InvalidEntry::Quorum { .. })));
    assert_eq!(ReplicaSet::new(Vec::new(), 1), Err(InvalidEntry::Size(0)));
    assert_eq!(ReplicaSet::new((0..8).map(replica).collect(), 1), Err(InvalidEntry::Size(8)));
}

#[test]
fn a_foreign_leader_and_a_learning_member_are_refused() {
    let wrong = Entry { leader: Some(replica(5)), ..entry(Members::One(set(&[0, 1], 2))) };
    assert_eq!(wrong.checked(), Err(InvalidEntry::ForeignLeader(replica(5))));
    let wrong = Entry { learners: vec![replica(1)], ..entry(Members::One(set(&[0, 1], 2))) };
    assert_eq!(wrong.checked(), Err(InvalidEntry::Twice(replica(1))));
}
