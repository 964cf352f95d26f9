use std::collections::{BTreeMap, BTreeSet};

use super::*;

fn seats(zones: &[Option<&str>]) -> Vec<Seat> {
    let seat = |(at, zone): (usize, Option<&str>)| Seat {
        ordinal: Ordinal(u16::try_from(at).unwrap()),
        zone: zone.map(str::to_owned),
        replicas: 0,
        leaders: 0,
    };
    zones.iter().copied().enumerate().map(seat).collect()
}

#[test]
fn too_few_brokers_are_no_place() {
    assert_eq!(choose(&mut seats(&[None, None]), 3, 0), None);
    assert_eq!(choose(&mut seats(&[]), 1, 0), None);
}

#[test]
fn replicas_spread_over_zones_before_brokers() {
    let zones = [Some("a"), Some("a"), Some("a"), Some("b"), Some("c")];
    let mut seats = seats(&zones);
    for turn in 0..60 {
        let chosen = choose(&mut seats, 3, turn).unwrap();
        let zones: BTreeSet<_> = chosen.iter().map(|ordinal| zones[usize::from(ordinal.0)]).collect();
        assert_eq!(zones.len(), 3, "partition {turn} on {chosen:?}");
    }
}

#[test]
fn leaders_and_replicas_are_balanced_within_one() {
    let mut seats = seats(&[None; 5]);
    let mut followers: BTreeMap<(Ordinal, Ordinal), usize> = BTreeMap::new();
    for turn in 0..100 {
        let chosen = choose(&mut seats, 3, turn).unwrap();
        *followers.entry((chosen[0], chosen[1])).or_default() += 1;
        let range = |of: fn(&Seat) -> usize| {
            let (low, high) = (seats.iter().map(of).min().unwrap(), seats.iter().map(of).max().unwrap());
            high - low
        };
        assert!(range(|seat| seat.leaders) <= 1 && range(|seat| seat.replicas) <= 2, "{seats:?}");
    }
    assert!(followers.len() > 5, "one leader has different followers: {followers:?}");
}

#[test]
fn the_same_seats_give_the_same_place() {
    let run = || {
        let mut seats = seats(&[Some("a"), None, Some("b"), None]);
        (0..20).map(|turn| choose(&mut seats, 3, turn).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}
