use fulmar_crds::ClusterSpec;

use super::*;

fn cluster(name: &str, generation: i64) -> Write {
    let mut cluster = Cluster::new(name, ClusterSpec::default());
    cluster.metadata.generation = Some(generation);
    Write::Cluster(Box::new(cluster))
}

fn generation(write: &Write) -> Option<i64> {
    match write {
        Write::Cluster(cluster) => cluster.metadata.generation,
        Write::Topic(topic) => topic.metadata.generation,
    }
}

#[test]
fn only_the_latest_status_of_an_object_is_written() {
    let mut queue = Queue::default();
    queue.put(cluster("orders", 1));
    queue.put(cluster("orders", 2));
    let now = Instant::now();
    let Turn::Now(_, write) = queue.turn(now) else { panic!("a turn") };
    assert_eq!(generation(&write), Some(2));
    assert!(matches!(queue.turn(now), Turn::Never));
}

#[test]
fn an_object_that_was_just_written_lets_others_pass() {
    let mut queue = Queue::default();
    let now = Instant::now();
    queue.note_written(&cluster("orders", 1).key(), now);
    queue.put(cluster("orders", 1));
    queue.put(cluster("other", 1));
    let Turn::Now((_, _, name), _) = queue.turn(now) else { panic!("a turn") };
    assert_eq!(name, "other");
    let Turn::At(due) = queue.turn(now) else { panic!("a later turn") };
    assert_eq!(due, now + GAP);
    assert!(matches!(queue.turn(now + GAP), Turn::Now(..)));
}

#[test]
fn what_was_withdrawn_is_not_written() {
    let mut queue = Queue::default();
    queue.put(cluster("orders", 1));
    queue.waiting.clear();
    let now = Instant::now();
    assert!(matches!(queue.turn(now), Turn::At(_)));
    assert!(matches!(queue.turn(now), Turn::Never));
}

#[test]
fn the_gap_grows_while_an_object_is_written_again_and_again() {
    let mut queue = Queue::default();
    let key = cluster("orders", 1).key();
    let mut now = Instant::now();
    let mut gaps = Vec::new();
    for generation in 1..6 {
        queue.note_written(&key, now);
        queue.put(cluster("orders", generation));
        let Turn::At(due) = queue.turn(now) else { panic!("not yet") };
        gaps.push((due - now).as_secs());
        now = due;
        assert!(matches!(queue.turn(now), Turn::Now(..)));
    }
    assert_eq!(gaps, [1, 2, 4, 8, 8]);
    now += GAP_MAX * GAPS_OF_REST;
    queue.note_written(&key, now);
    queue.put(cluster("orders", 9));
    let Turn::At(due) = queue.turn(now) else { panic!("not yet") };
    assert_eq!(due - now, GAP, "it was left alone");
}
