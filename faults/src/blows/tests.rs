use clap::ValueEnum;

use super::*;

fn draws(seed: u64) -> Vec<String> {
    let mut schedule = Schedule::new(seed, Kind::value_variants().to_vec(), 3);
    (0..100).map(|_| format!("{:?}", schedule.next())).collect()
}

#[test]
fn the_same_seed_gives_the_same_schedule() {
    assert_eq!(draws(1), draws(1));
    assert_ne!(draws(1), draws(2));
}

#[test]
fn each_kind_comes_before_any_comes_again_and_never_against_the_same_broker_twice() {
    let all = Kind::value_variants();
    let mut schedule = Schedule::new(7, all.to_vec(), 3);
    let mut seen: Vec<Kind> = Vec::new();
    for _ in 0..all.len() {
        let blow = schedule.next();
        assert!(blow.target < 3 && blow.other < 3 && blow.target != blow.other, "{blow}");
        seen.push(blow.kind);
    }
    seen.sort_unstable();
    assert_eq!(seen, all);
}
