use super::*;

const SOON: Duration = Duration::from_millis(20);

/// A flow that good answers have made as wide as it gets.
fn wide(now: Instant) -> Flow {
    let mut flow = Flow::new(now);
    for _ in 0..100 {
        flow.note(Answer::Given, now, now + SOON);
    }
    assert_eq!(flow.width, WIDTH_MAX);
    flow
}

#[test]
fn it_begins_with_one_and_widens_by_one_a_round_up_to_its_bound() {
    let now = Instant::now();
    let mut flow = Flow::new(now);
    let mut widths = Vec::new();
    for _round in 0..10 {
        widths.push(flow.width);
        for _ in 0..flow.width {
            flow.note(Answer::Given, now, now + SOON);
        }
    }
    assert_eq!(widths, [1, 2, 3, 4, 5, 6, 7, 8, 8, 8]);
}

#[test]
fn no_more_begin_than_its_width_and_each_a_pace_after_the_last() {
    let now = Instant::now();
    let mut flow = wide(now);
    assert_eq!(flow.opens(0), Some(now));
    flow.begin(now);
    assert_eq!(flow.opens(1), Some(now + PACE));
    assert_eq!(flow.opens(WIDTH_MAX - 1), Some(now + PACE));
    assert_eq!(flow.opens(WIDTH_MAX), None);
}

#[test]
fn refusals_halve_it_down_to_one_and_each_is_followed_by_a_rest() {
    let mut now = Instant::now();
    let mut flow = wide(now);
    let mut widths = Vec::new();
    for _ in 0..5 {
        let begun = now;
        now += SOON;
        flow.note(Answer::Refused(Duration::ZERO), begun, now);
        assert_eq!(flow.opens(0), Some(now + REST));
        widths.push(flow.width);
        now += REST;
    }
    assert_eq!(widths, [4, 2, 1, 1, 1]);
}

#[test]
fn who_is_late_makes_up_for_it_and_not_for_more() {
    let start = Instant::now();
    let mut flow = wide(start);
    let late = Duration::from_millis(2);
    let mut now = start;
    for _ in 0..100 {
        flow.begin(now);
        now = flow.opens(0).unwrap().max(now) + late;
    }
    assert!(now - start <= PACE * 100 + late, "{:?}", now - start);
    // After a quiet time a few begin at once.
    now += Duration::from_mins(1);
    let at_once = (0..100).take_while(|_| {
        let opens = flow.opens(0).unwrap() <= now;
        flow.begin(now);
        opens
    });
    assert!((2..=6).contains(&at_once.count()));
}

#[test]
fn nothing_begins_before_a_refusal_lets_it() {
    let now = Instant::now();
    let mut flow = wide(now);
    flow.note(Answer::Refused(REST * 7), now, now + SOON);
    assert_eq!(flow.opens(0), Some(now + SOON + REST * 7));
}

#[test]
fn slow_answers_halve_it_without_a_rest() {
    let now = Instant::now();
    let mut flow = wide(now);
    flow.note(Answer::Given, now, now + SLOW);
    assert_eq!(flow.width, WIDTH_MAX, "not slow yet");
    flow.note(Answer::Given, now, now + SLOW + SOON);
    assert_eq!((flow.width, flow.opens(0)), (WIDTH_MAX / 2, Some(now)));
}

#[test]
fn refusals_of_what_was_in_flight_together_count_as_one() {
    let now = Instant::now();
    let mut flow = wide(now);
    for _ in 0..WIDTH_MAX {
        flow.note(Answer::Refused(Duration::ZERO), now, now + SOON);
    }
    assert_eq!(flow.width, WIDTH_MAX / 2);
}

#[test]
fn it_widens_again_when_the_api_server_is_well() {
    let now = Instant::now();
    let mut flow = wide(now);
    flow.note(Answer::Refused(Duration::ZERO), now, now + SOON);
    for _ in 0..WIDTH_MAX / 2 {
        flow.note(Answer::Given, now + REST, now + REST + SOON);
    }
    assert_eq!(flow.width, WIDTH_MAX / 2 + 1);
}
