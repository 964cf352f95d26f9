use super::*;

#[test]
fn a_storm_of_events_is_bounded_and_the_allowance_comes_back() {
    let start = Instant::now();
    let mut allowance = Allowance::full(start);
    let taken = (0..1_000).filter(|_| allowance.take(start)).count();
    assert_eq!(taken, 50);
    assert!(allowance.take(start + Duration::from_secs(2)));
}

#[test]
fn a_long_note_is_cut_at_a_character() {
    let note = shortened("é".repeat(900));
    assert!(note.len() <= NOTE_BYTES_MAX && note.chars().all(|c| c == 'é'));
}
