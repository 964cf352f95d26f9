use jiff::Timestamp;

use super::*;
use crate::conditions::{Claim, conditions};

const ROLLING: Subject = Subject::Topic { rolling: true };

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
    patience.is_content("orders");
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
    assert_eq!(patience.left("a", gist(&up), gist(&up), Subject::Topic { rolling: false }, now), DETAIL);
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
