//! Claims about a broker.

use std::time::Duration;

use super::*;
use crate::batch::Compression;
use crate::entry::{Entry, Members, ReplicaSet};
use crate::id::{ClusterId, Incarnation, Ordinal, PartitionKey, ReplicaId, TopicId};
use crate::partition::{self, Effect, Message, Now, Refusal, Ticket, Write, WriteSeq};
use crate::term::{BootId, Epoch, Process, Session, Term};

pub(super) fn process(session: u64) -> Process {
    Process { session: Session(session), boot: BootId(session * 7) }
}

pub(super) fn identity(number: u16, sessions: &[u64]) -> Identity {
    Identity {
        cluster: Some(ClusterId(1)),
        ordinal: Ordinal(number),
        incarnation: Incarnation(u128::from(number) + 1),
        processes: sessions.iter().copied().map(process).collect(),
    }
}

pub(super) fn broker() -> Broker {
    Broker::new(identity(0, &[1]), []).unwrap()
}

pub(super) fn id(number: u16) -> ReplicaId {
    identity(number, &[]).replica()
}

pub(super) fn key(partition: u32) -> PartitionKey {
    PartitionKey { topic: TopicId(1), partition }
}

pub(super) fn entry(partition: u32, counter: u64, leader: u16, members: &[u16]) -> Entry {
    let quorum = u8::try_from(members.len() / 2 + 1).unwrap();
    let set = ReplicaSet::new(members.iter().copied().map(id).collect(), quorum).unwrap();
    let epoch = Epoch { generation: 1, counter };
    let (leader, members) = (Some(id(leader)), Members::One(set));
    Entry {
        key: key(partition),
        epoch,
        leader,
        members,
        learners: Vec::new(),
        lost: Vec::new(),
        accepted_loss: None,
    }
}

pub(super) fn up(broker: &mut Broker, number: u16) -> Accepted {
    let accepted = broker.hear(&identity(number, &[1]).hello(Ordinal(0))).unwrap();
    broker.step(Now::default(), Input::PeerUp(accepted));
    accepted
}

pub(super) fn durable(broker: &mut Broker, partition: u32, seq: u64) -> Vec<(PartitionKey, Effect)> {
    broker.step(Now::default(), Input::Partition(key(partition), partition::Input::Durable(WriteSeq(seq))))
}

#[test]
fn a_hello_of_another_cluster_broker_or_protocol_is_refused_by_name() {
    let mut broker = broker();
    let good = identity(1, &[1]).hello(Ordinal(0));
    let refuse = |broker: &mut Broker, hello| broker.hear(&hello).unwrap_err();
    let foreign = Hello { cluster: Some(ClusterId(2)), ..good.clone() };
    assert!(matches!(refuse(&mut broker, foreign), HelloRefusal::Cluster { .. }));
    let unadopted = Hello { cluster: None, ..good.clone() };
    assert!(matches!(refuse(&mut broker, unadopted), HelloRefusal::Cluster { .. }));
    assert!(matches!(
        refuse(&mut broker, Hello { to: Ordinal(5), ..good.clone() }),
        HelloRefusal::Ordinal { .. }
    ));
    let newer = Hello { protocol: ProtocolRange { min: 9, max: 12 }, ..good.clone() };
    assert!(matches!(refuse(&mut broker, newer), HelloRefusal::Protocol { .. }));
    assert!(matches!(
        refuse(&mut broker, Hello { processes: Vec::new(), ..good.clone() }),
        HelloRefusal::Processes
    ));
    let falling = Hello { processes: vec![process(2), process(1)], ..good.clone() };
    assert!(matches!(refuse(&mut broker, falling), HelloRefusal::Processes));
    let ours = Hello { incarnation: Incarnation(1), ..good.clone() };
    assert!(matches!(refuse(&mut broker, ours), HelloRefusal::OurOwn(_)));
    let accepted = broker.hear(&good).unwrap();
    assert_eq!((accepted.peer, accepted.process, accepted.protocol), (id(1), process(1), PROTOCOL.max));
}

#[test]
fn a_volume_that_knows_no_cluster_yet_talks_to_no_peer() {
    let mut broker = Broker::new(Identity { cluster: None, ..identity(0, &[1]) }, []).unwrap();
    let hello = Hello { cluster: None, ..identity(1, &[1]).hello(Ordinal(0)) };
    assert!(broker.hear(&hello).is_err());
    broker.adopt(ClusterId(1));
    assert!(broker.hear(&identity(1, &[1]).hello(Ordinal(0))).is_ok());
}

#[test]
fn a_later_process_is_believed_and_an_earlier_one_no_more() {
    let mut broker = broker();
    broker.hear(&identity(1, &[1, 2]).hello(Ordinal(0))).unwrap();
    broker.hear(&identity(1, &[1, 2, 3]).hello(Ordinal(0))).unwrap();
    let refusal = broker.hear(&identity(1, &[1, 2]).hello(Ordinal(0))).unwrap_err();
    assert_eq!(refusal, HelloRefusal::UnknownProcess { seen: process(3) });
    assert_eq!(conclude(process(3), &identity(1, &[1, 2, 3]).processes), Conclusion::SecondProcess);
    assert_eq!(conclude(process(3), &identity(1, &[1, 2]).processes), Conclusion::Restored);
}

#[test]
fn what_the_volume_remembers_of_a_peer_is_as_good_as_having_seen_it() {
    let mut broker = broker();
    broker.remember([(id(1), process(3))]);
    let restored = identity(1, &[1, 2, 4]).hello(Ordinal(0));
    let refusal = broker.hear(&restored).unwrap_err();
    assert_eq!(refusal, HelloRefusal::UnknownProcess { seen: process(3) });
    assert!(broker.hear(&identity(1, &[1, 2]).hello(Ordinal(0))).is_err());
    assert!(broker.hear(&identity(1, &[1, 2, 3, 4]).hello(Ordinal(0))).is_ok());
    assert_eq!(broker.seen(id(1)), Some(process(4)));
}

#[test]
fn a_list_past_its_bound_is_not_taken_for_a_restored_volume() {
    let mut broker = broker();
    broker.hear(&identity(1, &[1]).hello(Ordinal(0))).unwrap();
    let many: Vec<u64> = (2..2 + PROCESSES_MAX as u64).collect();
    assert!(broker.hear(&identity(1, &many).hello(Ordinal(0))).is_ok());
}

#[test]
fn the_operator_s_memory_tells_a_restored_volume_from_a_second_process() {
    let ours = identity(1, &[1, 2]);
    let remembered = |session| (ours.incarnation, Session(session));
    assert_eq!(conclude_from_operator(&ours, remembered(2), &ours.processes), None);
    assert_eq!(conclude_from_operator(&ours, remembered(3), &ours.processes), Some(Conclusion::Restored));
    let volume = identity(1, &[1, 2, 3]).processes;
    assert_eq!(conclude_from_operator(&ours, remembered(3), &volume), Some(Conclusion::SecondProcess));
    assert_eq!(conclude_from_operator(&ours, (Incarnation(99), Session(9)), &volume), None);
}

#[test]
fn an_entry_makes_a_replica_only_where_it_is_named_with_this_incarnation() {
    let mut broker = broker();
    assert!(broker.step(Now::default(), Input::Assign(vec![entry(0, 1, 1, &[1, 2])])).is_empty());
    assert!(!broker.has_replicas());
    broker.step(Now::default(), Input::Assign(vec![entry(0, 1, 1, &[0, 1, 2]), entry(1, 1, 0, &[0])]));
    assert_eq!(broker.replicas().map(crate::partition::Replica::key).collect::<Vec<_>>(), [key(0), key(1)]);
    assert_eq!(broker.wanted_peers().into_iter().collect::<Vec<_>>(), [id(1), id(2)]);
}

#[test]
fn a_fence_makes_a_replica_that_no_page_has_told_of_yet() {
    let mut broker = broker();
    let Accepted { peer, process, .. } = up(&mut broker, 1);
    let entry = entry(3, 1, 1, &[0, 1, 2]);
    let term = Term { epoch: entry.epoch, process };
    let message = Message::Fence { entry, term };
    let effects = broker.step(Now::default(), Input::Message { from: peer, process, key: key(3), message });
    assert!(
        matches!(&effects[..], [(_, Effect::Changed), (_, Effect::Write(_, Write::Promise(_)))]),
        "{effects:?}"
    );
    let effects = durable(&mut broker, 3, 1);
    assert!(effects.iter().any(|(_, effect)| matches!(effect, Effect::Send { .. })), "{effects:?}");
}

#[test]
fn a_message_without_a_connection_is_not_heard() {
    let mut broker = broker();
    let entry = entry(3, 1, 1, &[0, 1, 2]);
    let term = Term { epoch: entry.epoch, process: process(1) };
    let message = Message::Fence { entry, term };
    let input = Input::Message { from: id(1), process: process(1), key: key(3), message };
    assert!(broker.step(Now::default(), input).is_empty());
}

#[test]
fn the_end_of_an_old_connection_does_not_end_the_new_one() {
    let mut broker = broker();
    let accepted = up(&mut broker, 1);
    broker.step(Now::default(), Input::Assign(vec![entry(0, 1, 1, &[0, 1, 2])]));
    broker.step(Now::default(), Input::PeerUp(accepted));
    let down = || Input::PeerDown { peer: accepted.peer, process: accepted.process };
    broker.step(Now::default(), down());
    assert!(broker.replica(key(0)).unwrap().knows(id(1)));
    broker.step(Now::default(), down());
    assert!(!broker.replica(key(0)).unwrap().knows(id(1)));
}

#[test]
fn a_replica_with_no_other_member_opens_once_any_broker_or_the_operator_knows_it() {
    for operator in [true, false] {
        let mut broker = broker();
        broker.step(Now::default(), Input::Assign(vec![entry(0, 1, 0, &[0])]));
        durable(&mut broker, 0, 1);
        assert_eq!(broker.replica(key(0)).unwrap().leading(), None);
        if operator {
            broker.step(Now::default(), Input::OperatorUp);
        } else {
            up(&mut broker, 1);
        }
        assert!(broker.replica(key(0)).unwrap().leading().is_some());
    }
}

#[test]
fn reports_are_handed_out_once_and_wait_for_promises() {
    let mut broker = broker();
    broker.step(Now::default(), Input::Assign(vec![entry(0, 1, 1, &[0, 1, 2])]));
    assert_eq!((broker.reports(), broker.all_reports()), (Vec::new(), None));
    durable(&mut broker, 0, 1);
    assert_eq!(broker.all_reports().unwrap().len(), 1);
    assert_eq!(broker.reports().len(), 1);
    assert_eq!(broker.reports().len(), 0);
}

#[test]
fn a_publish_for_an_unknown_partition_is_refused() {
    let mut broker = broker();
    let record = crate::batch::Record::default();
    let batch = crate::batch::ProducedBatch::build(&[record], None).unwrap();
    let input = partition::Input::Produce { ticket: Ticket(5), batch };
    let effects = broker.step(Now::default(), Input::Partition(key(9), input));
    let refusal = Refusal::NotLeader { leader: None };
    assert_eq!(effects, [(key(9), Effect::Refuse { ticket: Ticket(5), refusal })]);
}

#[test]
fn no_compressed_batch_is_appended_beside_a_broker_of_an_earlier_version() {
    let mut broker = broker();
    broker.step(Now::default(), Input::Assign(vec![entry(0, 1, 0, &[0, 1, 2]), entry(1, 1, 0, &[0, 1])]));
    let comes = |broker: &mut Broker, number, session, max| {
        let sessions: Vec<u64> = (1..=session).collect();
        let hello = identity(number, &sessions).hello(Ordinal(0));
        let accepted = broker.hear(&Hello { protocol: ProtocolRange { min: 1, max }, ..hello }).unwrap();
        broker.step(Now::default(), Input::PeerUp(accepted));
        accepted
    };
    let refused = |broker: &mut Broker, partition, compression| {
        let record = crate::batch::Record { value: vec![7; 1000].into(), ..Default::default() };
        let batch = crate::batch::ProducedBatch::build_compressed(&[record], compression, None).unwrap();
        let input = partition::Input::Produce { ticket: Ticket(1), batch };
        let effects = broker.step(Now::default(), Input::Partition(key(partition), input));
        effects.iter().any(|(_, effect)| {
            let refusal = Refusal::EarlierVersion { broker: Ordinal(2) };
            *effect == Effect::Refuse { ticket: Ticket(1), refusal }
        })
    };
    comes(&mut broker, 1, 1, 3);
    assert!(!refused(&mut broker, 0, Compression::Zstd), "who was never heard is of this version");
    let Accepted { peer, process, .. } = comes(&mut broker, 2, 1, 1);
    assert!(refused(&mut broker, 0, Compression::Zstd));
    assert!(!refused(&mut broker, 0, Compression::None), "what is not compressed goes on");
    assert!(!refused(&mut broker, 1, Compression::Zstd), "it is none of that partition's");
    broker.step(Now::default(), Input::PeerDown { peer, process });
    assert!(refused(&mut broker, 0, Compression::Zstd), "it may come back as it was");
    comes(&mut broker, 2, 2, 2);
    assert!(!refused(&mut broker, 0, Compression::Zstd), "it came back with a later version");
}

#[test]
fn a_leader_that_nobody_hears_sends_readers_elsewhere_after_five_seconds() {
    let mut broker = broker();
    let accepted = up(&mut broker, 1);
    broker.step(Now::default(), Input::Assign(vec![entry(0, 1, 0, &[0, 1, 2])]));
    durable(&mut broker, 0, 1);
    let Accepted { peer, process, .. } = accepted;
    let term = Term { epoch: Epoch { generation: 1, counter: 1 }, process: broker.identity().process() };
    let promised = Message::Promised {
        term,
        vector: crate::term::TermVector::default(),
        log_start: crate::offset::Offset(0),
        log_end: crate::offset::Offset(0),
        certain: true,
    };
    broker.step(Now::default(), Input::Message { from: peer, process, key: key(0), message: promised });
    assert!(broker.replica(key(0)).unwrap().leading().is_some());
    let at = |seconds| Now { since_start: Duration::from_secs(seconds), clock_ms: 0 };
    broker.step(at(1), Input::PeerDown { peer, process });
    broker.step(at(1), Input::Tick);
    assert!(!broker.sends_readers_elsewhere(key(0), at(5)));
    assert!(broker.sends_readers_elsewhere(key(0), at(6)));
    broker.step(at(6), Input::OperatorUp);
    broker.step(at(6), Input::Tick);
    assert!(!broker.sends_readers_elsewhere(key(0), at(9)));
}

#[test]
fn replicas_at_rest_hear_of_a_tick_in_turns_and_all_of_them_within_twenty() {
    let mut broker = broker();
    let entries: Vec<Entry> = (0..4_000).map(|partition| entry(partition, 1, 1, &[0, 1, 2])).collect();
    broker.step(Now::default(), Input::Assign(entries));
    // Busy: more than may hear of every tick.
    let all: std::collections::BTreeSet<PartitionKey> = (0..20).flat_map(|_| broker.next_turn()).collect();
    assert_eq!(all.len(), 4_000);
    // Two rounds later they are at rest, but for one.
    for _ in 0..42 {
        broker.next_turn();
    }
    broker.step(Now::default(), Input::Partition(key(3_999), partition::Input::StopAppends));
    for _ in 0..20 {
        let turn = broker.next_turn();
        assert!(turn.contains(&key(3_999)), "who is not at rest hears of every tick");
        assert!(turn.len() <= 202, "{}", turn.len());
    }
}

#[test]
fn a_new_peer_is_wanted_at_once_and_only_then_are_all_partitions_asked() {
    let mut broker = broker();
    assert!(broker.newly_wanted_peers().is_some());
    broker.step(Now::default(), Input::Assign(vec![entry(0, 1, 1, &[0, 1, 2])]));
    assert_eq!(broker.newly_wanted_peers().map(|wanted| wanted.len()), Some(2));
    broker.step(Now::default(), Input::Assign(vec![entry(0, 2, 2, &[0, 1, 2])]));
    assert_eq!(broker.newly_wanted_peers(), None);
    broker.step(Now::default(), Input::Assign(vec![entry(0, 3, 2, &[0, 2])]));
    broker.step(Now::default(), Input::Tick);
    assert_eq!(
        broker.newly_wanted_peers().map(|wanted| wanted.len()),
        Some(1),
        "who left is noticed with the next round"
    );
}
