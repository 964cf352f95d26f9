use super::*;

#[test]
fn another_leader_by_a_newer_decision_is_a_change_and_an_older_word_is_none() {
    let leaders = Leaders::default();
    let say = |epoch: &str, leader| leaders.note(("events", 0), epoch, leader);
    say("5.9", 1);
    assert_eq!(leaders.changes(), 0, "the first leader");
    say("5.10", 2);
    say("5.10", 2);
    assert_eq!(leaders.changes(), 1, "numbers are compared, not texts");
    say("5.9", 1);
    say("6.1", 2);
    assert_eq!(leaders.changes(), 1, "a broker that was away, and the same leader again");
    say("7.1", 0);
    leaders.note(("events", 1), "8.1", 1);
    say("no epoch", 1);
    assert_eq!(leaders.changes(), 2);
}
