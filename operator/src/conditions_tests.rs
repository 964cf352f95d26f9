use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[test]
fn the_time_of_a_condition_moves_only_when_its_status_flips() {
    let claim = |truth: bool, reason: &str| vec![Claim::new("Ready", truth, reason, "so it is")];
    let first = conditions(claim(false, "Waiting"), &[], Some(1), at(100));
    let same = conditions(claim(false, "StillWaiting"), &first, Some(2), at(200));
    assert_eq!(same[0].last_transition_time.0, at(100));
    assert_eq!((same[0].reason.as_str(), same[0].observed_generation), ("StillWaiting", Some(2)));
    let flipped = conditions(claim(true, "Serving"), &same, Some(2), at(300));
    assert_eq!(flipped[0].last_transition_time.0, at(300));
}

#[test]
fn an_overlong_message_is_cut() {
    let long = vec![Claim::new("Ready", Truth::Unknown, "Long", "x".repeat(5_000))];
    assert_eq!(conditions(long, &[], None, at(1))[0].message.len(), MESSAGE_CHARACTERS_MAX);
}
