use jiff::Timestamp;

use super::*;
use crate::conditions::{Claim, conditions};

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
    assert_eq!(patience.left("orders", gist(&up), gist(&down), false, start), DIP);
    let later = start + Duration::from_secs(9);
    assert_eq!(patience.left("orders", gist(&up), gist(&down), false, later), Duration::from_secs(1));
    patience.is_content("orders");
    assert_eq!(patience.left("orders", gist(&up), gist(&down), false, later), DIP);
}

#[test]
fn becoming_ready_and_a_new_generation_are_written_at_once() {
    let (up, down) = (ready(true), ready(false));
    let mut patience = Patience::default();
    let now = Instant::now();
    assert!(patience.left("a", gist(&down), gist(&up), false, now).is_zero());
    let next = Gist { generation: Some(2), conditions: &down };
    assert!(patience.left("b", gist(&up), next, true, now).is_zero());
}

#[test]
fn details_wait_longer_while_brokers_are_restarted() {
    let up = ready(true);
    let now = Instant::now();
    let mut patience = Patience::default();
    assert_eq!(patience.left("a", gist(&up), gist(&up), false, now), DETAIL);
    assert_eq!(patience.left("b", gist(&up), gist(&up), true, now), DETAIL_WHILE_ROLLING);
}
