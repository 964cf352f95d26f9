//! Claims about peers that come while there is much else to do.

use super::*;
use crate::broker::tests::{broker, durable, entry, id, key, up};
use crate::broker::{Accepted, Input};
use crate::offset::Offset;
use crate::partition::Message;
use crate::term::{Epoch, Term, TermVector};

const LED: u32 = 1_200;

/// Who leads so many partitions with broker 1, and whether their terms are open.
fn leader(partitions: u32, is_opened: bool) -> (Broker, Accepted) {
    let mut broker = broker();
    let accepted = up(&mut broker, 1);
    let entries = (0..partitions).map(|partition| entry(partition, 1, 0, &[0, 1, 2])).collect();
    broker.step(Now::default(), Input::Assign(entries));
    let term = Term { epoch: Epoch { generation: 1, counter: 1 }, process: broker.identity().process() };
    let Accepted { peer, process, .. } = accepted;
    let said = |broker: &mut Broker, partition, message| {
        broker.step(Now::default(), Input::Message { from: peer, process, key: key(partition), message });
    };
    for partition in 0..partitions {
        durable(&mut broker, partition, 1);
        let (log_start, log_end) = (Offset::ZERO, Offset::ZERO);
        let vector = TermVector::default();
        said(&mut broker, partition, Message::Promised { term, vector, log_start, log_end, certain: true });
        if is_opened {
            durable(&mut broker, partition, 2);
            said(&mut broker, partition, Message::Attached { term, log_end: Offset(1) });
        }
    }
    broker.settle(Now::default());
    assert!(broker.replicas().all(|replica| replica.leading().is_some()));
    assert_eq!(broker.replicas().all(Replica::is_on_its_way), !is_opened);
    (broker, accepted)
}

fn who_know(broker: &Broker, peer: u16) -> usize {
    broker.replicas().filter(|replica| replica.knows(id(peer))).count()
}

fn tick(broker: &mut Broker) {
    broker.step(Now::default(), Input::Tick);
    broker.settle(Now::default());
}

#[test]
fn leaders_that_do_without_a_peer_hear_of_it_a_few_hundred_with_each_tick() {
    let (mut broker, _) = leader(LED, true);
    up(&mut broker, 2);
    let mut known = vec![who_know(&broker, 2)];
    for _ in 0..3 {
        tick(&mut broker);
        known.push(who_know(&broker, 2));
    }
    assert_eq!(known, [0, 500, 1_000, 1_200]);
}

#[test]
fn while_terms_are_on_their_way_a_peer_that_nobody_needs_is_told_of_slowly_but_told_of() {
    let (mut broker, _) = leader(LED, false);
    up(&mut broker, 2);
    tick(&mut broker);
    assert_eq!(who_know(&broker, 2), 50);
    tick(&mut broker);
    assert_eq!(who_know(&broker, 2), 100);
}

#[test]
fn who_needs_a_peer_hears_of_it_at_once() {
    let mut broker = broker();
    // One that opens, and one that waits for another's word.
    broker.step(Now::default(), Input::Assign(vec![entry(0, 1, 0, &[0, 1, 2]), entry(1, 1, 2, &[0, 1, 2])]));
    up(&mut broker, 1);
    assert_eq!(who_know(&broker, 1), 2);
    up(&mut broker, 2);
    assert!(broker.replica(key(1)).unwrap().knows(id(2)), "who does not lead may be asked by it");
}

#[test]
fn who_did_without_a_peer_hears_of_it_when_another_one_goes() {
    let (mut broker, Accepted { peer, process, .. }) = leader(LED, true);
    up(&mut broker, 2);
    assert_eq!(who_know(&broker, 2), 0);
    broker.step(Now::default(), Input::PeerDown { peer, process });
    assert_eq!(who_know(&broker, 2), LED as usize);
}

#[test]
fn a_peer_that_went_before_it_was_heard_of_is_heard_of_no_more() {
    let (mut broker, _) = leader(LED, true);
    let Accepted { peer, process, .. } = up(&mut broker, 2);
    broker.step(Now::default(), Input::PeerDown { peer, process });
    tick(&mut broker);
    assert_eq!(who_know(&broker, 2), 0);
}
