use super::*;

#[test]
fn the_oldest_handshake_gives_way_to_the_newest_and_one_that_is_done_to_nobody() {
    let all = Handshakes::new("internal");
    let mut places: Vec<Place<'_>> = (0..UNDER_WAY_MAX).map(|_| all.begin()).collect();
    assert!(!places.iter().any(|place| place.gives_way.is_cancelled()));
    let done = places.remove(0);
    drop(done);
    places.push(all.begin());
    assert!(!places.iter().any(|place| place.gives_way.is_cancelled()), "there was room again");
    places.push(all.begin());
    let given: Vec<bool> = places.iter().map(|place| place.gives_way.is_cancelled()).collect();
    assert!(given[0] && !given[1..].contains(&true), "the first of those that are left");
    drop(places);
    assert!(all.under_way.lock().told.is_empty());
}

#[test]
fn a_flood_of_failures_is_a_line_in_ten_seconds_and_says_how_many_were_not_told() {
    let (mut said, began) = (Said::default(), Instant::now());
    let lines: Vec<u64> = (0..25_000).filter_map(|ms| said.line(began + Duration::from_millis(ms))).collect();
    assert_eq!(lines, [0, 9_999, 9_999]);
}
