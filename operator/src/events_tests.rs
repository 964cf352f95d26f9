use super::*;

#[test]
fn a_storm_of_events_is_bounded_and_the_allowance_comes_back() {
    let start = Instant::now();
    let mut allowance = Allowance::full(start);
    let taken = (0..1_000).filter(|_| allowance.take(EventType::Warning, start)).count();
    assert_eq!(taken, 50);
    assert!(allowance.take(EventType::Warning, start + Duration::from_secs(2)));
}

#[test]
fn what_goes_as_it_should_hides_nothing_that_a_person_should_look_at() {
    let start = Instant::now();
    let mut allowance = Allowance::full(start);
    for (type_, most) in [(EventType::Normal, 25), (EventType::Warning, 25), (EventType::Normal, 0)] {
        assert_eq!((0..1_000).filter(|_| allowance.take(type_, start)).count(), most);
    }
}

#[test]
fn a_long_note_is_cut_at_a_character() {
    let note = shortened("é".repeat(900));
    assert!(note.len() <= NOTE_BYTES_MAX && note.chars().all(|c| c == 'é'));
}
