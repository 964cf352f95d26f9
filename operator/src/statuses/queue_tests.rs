use super::*;
use crate::statuses::fixture::{cluster, generation, topic};

/// The next one, which is there to be written now.
fn next(queue: &mut Queue, now: Instant) -> (Key, Write) {
    match queue.turn(now) {
        Turn::Now(key, write) => (key, write),
        other => panic!("{other:?}"),
    }
}

fn written(queue: &mut Queue, write: Write, now: Instant) -> Key {
    queue.put(write, Rank::InTurn, now);
    let (key, _) = next(queue, now);
    queue.settle(&key, None, now);
    key
}

/// When the queue wants to be asked again.
fn later(queue: &mut Queue, now: Instant) -> Instant {
    match queue.turn(now) {
        Turn::At(time) => time,
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_the_latest_status_of_an_object_is_written() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    queue.put(cluster("orders", 1), Rank::InTurn, now);
    queue.put(cluster("orders", 2), Rank::InTurn, now);
    assert_eq!(generation(&next(&mut queue, now).1), Some(2));
    assert!(matches!(queue.turn(now), Turn::Never));
}

#[test]
fn an_object_is_never_written_twice_at_once() {
    let mut queue = Queue::default();
    let now = Instant::now();
    queue.put(cluster("orders", 1), Rank::InTurn, now);
    let (key, _) = next(&mut queue, now);
    queue.put(cluster("orders", 2), Rank::InTurn, now);
    queue.put(cluster("orders", 3), Rank::InTurn, now);
    assert!(matches!(queue.turn(now + GAP_MAX), Turn::Never), "the first one has no answer yet");
    let answered = now + GAP_MAX;
    queue.settle(&key, None, answered);
    assert_eq!(later(&mut queue, answered), answered + GAP);
    assert_eq!(generation(&next(&mut queue, answered + GAP).1), Some(3));
}

#[test]
fn several_objects_are_under_way_at_once() {
    let mut queue = Queue::default();
    let now = Instant::now();
    for name in ["a", "b", "c"] {
        queue.put(topic(name, 1), Rank::InTurn, now);
    }
    let names: Vec<String> = (0..3).map(|_| next(&mut queue, now).0.2).collect();
    assert_eq!(names, ["a", "b", "c"], "first come, first served");
}

#[test]
fn a_cluster_does_not_wait_for_topics() {
    let mut queue = Queue::default();
    let now = Instant::now();
    written(&mut queue, cluster("orders", 1), now);
    queue.put(topic("a", 1), Rank::InTurn, now);
    queue.put(cluster("orders", 2), Rank::InTurn, now);
    queue.put(topic("b", 1), Rank::InTurn, now);
    let names: Vec<String> = (0..3).map(|_| next(&mut queue, now + GAP).0.2).collect();
    assert_eq!(names, ["orders", "a", "b"]);
}

#[test]
fn an_object_that_was_just_written_lets_others_pass() {
    let mut queue = Queue::default();
    let now = Instant::now();
    written(&mut queue, cluster("orders", 1), now);
    queue.put(cluster("orders", 2), Rank::InTurn, now);
    queue.put(cluster("other", 1), Rank::InTurn, now);
    assert_eq!(next(&mut queue, now).0.2, "other");
    assert_eq!(later(&mut queue, now), now + GAP);
    assert_eq!(next(&mut queue, now + GAP).0.2, "orders");
}

#[test]
fn what_was_withdrawn_is_not_written() {
    let mut queue = Queue::default();
    let now = Instant::now();
    queue.put(cluster("orders", 1), Rank::InTurn, now);
    queue.withdraw(&cluster("orders", 1).key());
    assert!(matches!(queue.turn(now), Turn::Never));
    queue.put(cluster("orders", 2), Rank::InTurn, now);
    assert_eq!(generation(&next(&mut queue, now).1), Some(2));
}

#[test]
fn what_was_withdrawn_keeps_its_gap() {
    let mut queue = Queue::default();
    let now = Instant::now();
    let key = written(&mut queue, cluster("orders", 1), now);
    queue.put(cluster("orders", 2), Rank::InTurn, now);
    queue.withdraw(&key);
    let _rests = queue.turn(now + GAP);
    queue.put(cluster("orders", 3), Rank::InTurn, now);
    let (key, _) = next(&mut queue, now + GAP);
    queue.settle(&key, None, now + GAP);
    queue.put(cluster("orders", 4), Rank::InTurn, now);
    assert_eq!(later(&mut queue, now + GAP), now + GAP + GAP * 2, "the second one soon after the first");
}

#[test]
fn what_failed_is_tried_again_unless_something_newer_came_or_it_was_withdrawn() {
    let now = Instant::now();
    let mut queue = Queue::default();
    let mut give_out = |name| {
        queue.put(topic(name, 1), Rank::InTurn, now);
        next(&mut queue, now)
    };
    let (fails, is_late, is_wrong) = (give_out("fails"), give_out("is-late"), give_out("is-wrong"));
    queue.put(topic("is-late", 2), Rank::InTurn, now);
    queue.withdraw(&is_wrong.0);
    for (key, write) in [fails, is_late, is_wrong] {
        queue.settle(&key, Some(write), now);
    }
    let again: Vec<_> = (0..2).map(|_| next(&mut queue, now + GAP)).collect();
    let again: Vec<_> = again.iter().map(|(key, write)| (key.2.as_str(), generation(write))).collect();
    assert_eq!(again, [("fails", Some(1)), ("is-late", Some(2))]);
    assert!(!matches!(queue.turn(now + GAP), Turn::Now(..)));
}

#[test]
fn the_gap_grows_while_an_object_is_written_again_and_again() {
    let mut queue = Queue::default();
    let mut now = Instant::now();
    let mut gaps = Vec::new();
    for generation in 1..6 {
        written(&mut queue, cluster("orders", generation), now);
        queue.put(cluster("orders", generation + 1), Rank::InTurn, now);
        let due = later(&mut queue, now);
        gaps.push((due - now).as_secs());
        now = due;
    }
    assert_eq!(gaps, [1, 2, 4, 8, 8]);
    written(&mut queue, cluster("orders", 7), now);
    now += GAP_MAX * GAPS_OF_REST;
    written(&mut queue, cluster("orders", 8), now);
    queue.put(cluster("orders", 9), Rank::InTurn, now);
    assert_eq!(later(&mut queue, now) - now, GAP, "it was left alone");
}

#[test]
fn an_object_that_is_left_alone_is_forgotten() {
    let mut queue = Queue::default();
    let mut now = Instant::now();
    written(&mut queue, cluster("orders", 1), now);
    while let Turn::At(time) = queue.turn(now) {
        now = time;
    }
    assert!(queue.objects.is_empty() && queue.times.is_empty() && queue.order.is_empty(), "{queue:?}");
}

#[test]
fn ten_thousand_objects_cost_a_turn_no_more_than_one() {
    let objects = 10_000;
    let mut queue = Queue::default();
    let now = Instant::now();
    for number in 0..objects {
        written(&mut queue, topic(&number.to_string(), 1), now);
        queue.put(topic(&number.to_string(), 2), Rank::InTurn, now);
    }
    // Nothing is looked through: who waits for its gap is not among those whose turn it is.
    assert_eq!((queue.order.len(), queue.times.len()), (0, objects));
    queue.put(topic("other", 1), Rank::InTurn, now);
    assert_eq!(next(&mut queue, now).0.2, "other");
}

#[test]
fn the_first_word_on_a_new_topic_lets_others_pass_and_is_mostly_never_said() {
    let mut queue = Queue::default();
    let now = Instant::now();
    queue.put(topic("a", 1), Rank::Behind, now);
    queue.put(topic("b", 1), Rank::Behind, now);
    queue.put(topic("c", 1), Rank::InTurn, now);
    queue.put(topic("b", 2), Rank::InTurn, now);
    let order: Vec<_> = (0..3).map(|_| next(&mut queue, now)).collect();
    let order: Vec<_> = order.iter().map(|(key, write)| (key.2.as_str(), generation(write))).collect();
    assert_eq!(order, [("c", Some(1)), ("b", Some(2)), ("a", Some(1))]);
    assert!(matches!(queue.turn(now), Turn::Never), "b has said what counts");
}

#[test]
fn the_first_word_on_a_new_topic_has_its_place_among_others_after_half_a_minute() {
    let mut queue = Queue::default();
    let mut now = Instant::now();
    queue.put(topic("new", 1), Rank::Behind, now);
    let until = now + LETS_PASS;
    for number in 0.. {
        queue.put(topic(&format!("t{number}"), 1), Rank::InTurn, now);
        queue.put(topic(&format!("u{number}"), 1), Rank::InTurn, now);
        if next(&mut queue, now).0.2 == "new" {
            break;
        }
        // More comes than is written: then it has a place among those that waited when its time was over.
        assert!(now < until + 2 * LETS_PASS, "it is never its turn");
        now += GAP;
    }
    assert!(now >= until);
}

#[test]
fn the_first_word_that_is_withdrawn_is_not_said() {
    let mut queue = Queue::default();
    let now = Instant::now();
    queue.put(topic("a", 1), Rank::Behind, now);
    queue.withdraw(&topic("a", 1).key());
    assert!(matches!(queue.turn(now), Turn::Never));
    queue.put(topic("a", 2), Rank::InTurn, now);
    assert_eq!(generation(&next(&mut queue, now).1), Some(2));
}
