//! Claims about epochs, terms and their history.

use proptest::prelude::*;

use super::*;

fn term(generation: u64, counter: u64, session: u64, boot: u64) -> Term {
    let process = Process { session: Session(session), boot: BootId(boot) };
    Term { epoch: Epoch { generation, counter }, process }
}

fn line(counter: u64, start: u64) -> TermStart {
    TermStart { term: term(1, counter, 1, 1), start: Offset(start) }
}

proptest! {
    #[test]
    fn an_epoch_is_read_back(generation in any::<u64>(), counter in any::<u64>()) {
        let epoch = Epoch { generation, counter };
        prop_assert_eq!(epoch.to_string().parse(), Ok(epoch));
    }

    #[test]
    fn garbage_is_no_epoch_and_never_panics(text in ".{0,40}") {
        if let Ok(epoch) = text.parse::<Epoch>() {
            prop_assert_eq!(text.split('.').count(), 2);
            prop_assert!(epoch.to_string().len() <= text.len());
        }
    }

    #[test]
    fn a_vector_is_taken_only_if_terms_and_starts_rise(lines in proptest::collection::vec((0..5u64, 0..5u64), 0..5)) {
        let lines: Vec<TermStart> = lines.into_iter().map(|(counter, start)| line(counter, start)).collect();
        let rises = lines.windows(2).all(|pair| pair[0].term < pair[1].term && pair[0].start < pair[1].start);
        prop_assert_eq!(TermVector::new(lines).is_ok(), rises);
    }
}

#[test]
fn epoch_comes_before_session_and_twins_have_no_order() {
    assert!(term(1, 2, 9, 1) < term(1, 3, 1, 1));
    assert!(term(1, 9, 1, 1) < term(2, 1, 1, 1));
    assert!(term(1, 2, 3, 9) < term(1, 2, 4, 1));
    let (one, twin) = (term(1, 2, 3, 4), term(1, 2, 3, 5));
    assert!(one.is_twin_of(&twin) && one != twin);
    assert_eq!(one.partial_cmp(&twin), None);
    assert!(!one.is_twin_of(&one));
}

#[test]
fn a_vector_notes_a_term_once_and_forgets_what_is_cut() {
    let mut vector = TermVector::default();
    for (counter, base) in [(1, 0), (1, 5), (2, 7), (2, 9)] {
        vector.note(term(1, counter, 1, 1), Offset(base));
    }
    assert_eq!(vector.starts(), [line(1, 0), line(2, 7)]);
    vector.cut(Offset(8));
    assert_eq!(vector.last_term(), Some(term(1, 2, 1, 1)));
    vector.cut(Offset(7));
    assert_eq!(vector.starts(), [line(1, 0)]);
}
