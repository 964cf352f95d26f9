use jiff::Timestamp;

use super::*;
use crate::conditions::{Claim, conditions};

const ROLLING: Subject = Subject::Topic(Calm::Rolling);
const CALM: Subject = Subject::Topic(Calm::For(Duration::from_hours(1)));

fn ready(truth: bool) -> Vec<Condition> {
    conditions(vec![Claim::new("Ready", truth, "Because", "")], &[], Some(1), Timestamp::UNIX_EPOCH)
}

fn gist(conditions: &[Condition]) -> Gist<'_> {
    Gist { generation: Some(1), conditions }
}

#[test]
fn a_dip_of_ready_is_written_only_when_it_lasts() {
    let (up, down) = (ready(true), ready(false));
    let mut patience = Patience::default();
    let start = Instant::now();
    assert_eq!(patience.left("orders", gist(&up), gist(&down), Subject::Cluster, start), DIP);
    let later = start + Duration::from_secs(9);
    assert_eq!(
        patience.left("orders", gist(&up), gist(&down), Subject::Cluster, later),
        Duration::from_secs(1)
    );
    let both = (gist(&up), gist(&up));
    assert_eq!(patience.judge("orders", true, both, Subject::Cluster, later), Due::Content);
    assert_eq!(patience.left("orders", gist(&up), gist(&down), Subject::Cluster, later), DIP);
}

#[test]
fn becoming_ready_and_a_new_generation_are_written_at_once() {
    let (up, down) = (ready(true), ready(false));
    let mut patience = Patience::default();
    let now = Instant::now();
    assert!(patience.left("a", gist(&down), gist(&up), Subject::Cluster, now).is_zero());
    let next = Gist { generation: Some(2), conditions: &down };
    assert!(patience.left("b", gist(&up), next, ROLLING, now).is_zero());
}

#[test]
fn details_wait_longer_while_brokers_are_restarted() {
    let up = ready(true);
    let now = Instant::now();
    let mut patience = Patience::default();
    assert_eq!(patience.left("a", gist(&up), gist(&up), CALM, now), DETAIL);
    assert_eq!(patience.left("b", gist(&up), gist(&up), ROLLING, now), DETAIL_WHILE_ROLLING);
}

#[test]
fn a_condition_of_a_cluster_that_flips_is_written_at_once() {
    let both = |rolled: bool| {
        let claims =
            vec![Claim::new("Ready", true, "So", ""), Claim::new("RolloutComplete", rolled, "So", "")];
        conditions(claims, &[], Some(1), Timestamp::UNIX_EPOCH)
    };
    let (before, after) = (both(true), both(false));
    let mut patience = Patience::default();
    assert!(patience.left("", gist(&before), gist(&after), Subject::Cluster, Instant::now()).is_zero());
}

#[test]
fn a_dip_is_no_older_for_a_detail_that_has_stood_for_long() {
    let (up, down) = (ready(true), ready(false));
    let mut patience = Patience::default();
    let start = Instant::now();
    patience.left("a", gist(&up), gist(&up), ROLLING, start);
    let later = start + Duration::from_mins(4);
    assert_eq!(patience.left("a", gist(&up), gist(&down), ROLLING, later), DIP);
    let healed = later + Duration::from_secs(9);
    assert!(patience.left("a", gist(&up), gist(&up), ROLLING, healed) > DIP);
    let again = healed + Duration::from_secs(1);
    assert_eq!(patience.left("a", gist(&up), gist(&down), ROLLING, again), DIP, "it is another dip");
}

#[test]
fn what_stood_through_a_restless_time_gets_a_last_moment_to_become_as_it_was() {
    let up = ready(true);
    let mut patience = Patience::default();
    let start = Instant::now();
    patience.left("a", gist(&up), gist(&up), Subject::Topic(Calm::Restless), start);
    let now = start + Duration::from_mins(2);
    let just_calm = Subject::Topic(Calm::For(Duration::from_secs(1)));
    assert_eq!(patience.left("a", gist(&up), gist(&up), just_calm, now), Duration::from_secs(4));
    assert!(patience.left("a", gist(&up), gist(&up), CALM, now).is_zero());
}

#[test]
fn a_missing_replica_is_told_sooner_than_who_leads() {
    let both = |whole: bool| {
        let claims =
            vec![Claim::new("Ready", true, "So", ""), Claim::new("FullyReplicated", whole, "So", "")];
        conditions(claims, &[], Some(1), Timestamp::UNIX_EPOCH)
    };
    let (before, after) = (both(true), both(false));
    let mut patience = Patience::default();
    let left =
        patience.left("a", gist(&before), gist(&after), Subject::Topic(Calm::Restless), Instant::now());
    assert_eq!(left, FLIP_WHILE_RESTLESS);
    let bereft = patience.left("a", gist(&before), gist(&after), Subject::Bereft, Instant::now());
    assert!(bereft.is_zero(), "who replaces one volume after the other looks at this");
}

#[test]
fn the_first_word_of_a_topic_waits_a_moment_for_it_to_be_ready_and_not_longer() {
    let going =
        conditions(vec![Claim::new("Reconciling", true, "So", "")], &[], Some(1), Timestamp::UNIX_EPOCH);
    let stuck = conditions(vec![Claim::new("Stalled", true, "So", "")], &[], Some(1), Timestamp::UNIX_EPOCH);
    let unseen = Gist { generation: Some(-1), conditions: &[] };
    let mut patience = Patience::default();
    let start = Instant::now();
    assert_eq!(patience.left("a", unseen, gist(&going), ROLLING, start), FIRST_WORD);
    assert!(patience.left("a", unseen, gist(&ready(true)), ROLLING, start).is_zero());
    assert!(patience.left("a", unseen, gist(&stuck), ROLLING, start).is_zero());
    assert!(patience.left("a", unseen, gist(&going), ROLLING, start + FIRST_WORD).is_zero());
    assert!(patience.left("", unseen, gist(&going), Subject::Cluster, start).is_zero());
    let later = start + FIRST_WORD;
    for (told, subject, due) in [
        (gist(&going), ROLLING, Due::Behind),
        (gist(&ready(true)), ROLLING, Due::Now),
        (gist(&going), Subject::Homeless, Due::Now),
    ] {
        assert_eq!(patience.judge("a", false, (unseen, told), subject, later), due);
    }
}
