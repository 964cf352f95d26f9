//! The judge must be able to condemn.

use tokio::time::Instant;

use super::*;

const AT: Partition = ("events", 0);

fn sent(number: u64) -> Sent {
    let name = Name { writer: 1, number };
    Sent { topic: AT.0, partition: AT.1, name, print: u128::from(number), at: Instant::now() }
}

fn found(offset: u64, number: u64) -> Found {
    Found { offset, name: Some(Name { writer: 1, number }), print: u128::from(number) }
}

/// A book where the records of these numbers were acknowledged at offsets of the same number.
fn book(numbers: &[u64]) -> Book {
    let book = Book::default();
    assert_eq!(book.new_writer(AT.0, AT.1, true), 1);
    for number in numbers {
        book.sent(&sent(*number));
        book.fate(&sent(*number), Fate::Acknowledged { offset: *number }, true);
    }
    book
}

fn read(book: &Book, found: &[Found]) {
    for found in found {
        book.read(AT.0, AT.1, found);
    }
}

#[tokio::test]
async fn what_was_acknowledged_and_read_is_good() {
    let book = book(&[1, 2, 4]);
    read(&book, &[found(1, 1), found(2, 2), found(4, 4)]);
    book.compare_fresh();
    book.compare_all(AT, book.last_acknowledged(AT), &[(1, 1), (2, 2), (4, 4)]);
    assert_eq!(book.violations(), Vec::<String>::new());
    assert_eq!((book.counts().acknowledged, book.counts().read, book.pending()), (3, 3, 0));
}

#[tokio::test]
async fn a_lost_record_is_seen_by_the_follower_and_by_reading_back() {
    let book = book(&[1, 2, 3]);
    read(&book, &[found(1, 1), found(3, 3)]);
    book.compare_fresh();
    assert_eq!((book.counts().lost, book.violations().len()), (1, 1));
    book.compare_all(AT, Some(3), &[(1, 1), (2, 2)]);
    assert_eq!((book.counts().lost, book.violations().len()), (2, 1));
}

#[tokio::test]
async fn a_record_that_is_behind_the_follower_is_not_lost_yet() {
    let book = book(&[1, 2]);
    read(&book, &[found(1, 1)]);
    book.compare_fresh();
    assert_eq!(book.counts().lost, 0);
    assert_eq!(book.unread(), [(AT, 2, Some(1))]);
    read(&book, &[found(2, 7)]);
    book.compare_fresh();
    assert_eq!(book.counts().changed, 1, "and is compared when it is read");
}

#[tokio::test]
async fn duplicates_disorder_and_strangers_are_seen() {
    let book = book(&[1, 2]);
    read(&book, &[found(1, 1), found(2, 2), found(3, 2)]);
    assert_eq!((book.counts().duplicated, book.violations().len()), (1, 1));
    read(&book, &[found(4, 1)]);
    assert_eq!((book.counts().duplicated, book.counts().disordered), (2, 1));
    read(&book, &[found(4, 9)]);
    assert_eq!(book.counts().disordered, 2, "an offset comes once");
    book.violations();
    read(&book, &[Found { offset: 9, name: None, print: 0 }]);
    assert_eq!(book.violations().len(), 1);
}

#[tokio::test]
async fn a_record_of_unknown_outcome_may_come_late_but_only_once() {
    let book = book(&[2]);
    book.fate(&sent(1), Fate::Unknown, false);
    read(&book, &[found(2, 2), found(3, 1)]);
    assert_eq!((book.counts().late, book.counts().disordered), (1, 0));
    assert_eq!(book.violations(), Vec::<String>::new());
    read(&book, &[found(4, 1)]);
    assert_eq!(book.counts().duplicated, 1);
}

#[tokio::test]
async fn a_batch_is_given_away_to_be_damaged_once() {
    let book = book(&[1, 2, 3, 1_000]);
    let mut luck = rand::SeedableRng::seed_from_u64(1);
    assert_eq!(book.some_acknowledged(AT.0, &mut luck, 10).len(), 2, "1 to 3 may be of one batch");
    assert_eq!(book.some_acknowledged(AT.0, &mut luck, 10), [], "nor ever again");
}

#[tokio::test]
async fn two_readers_that_disagree_are_seen() {
    let book = book(&[]);
    read(&book, &[found(1, 1), found(2, 2)]);
    book.compare_all(AT, None, &[(1, 1), (2, 5)]);
    assert_eq!(book.counts().changed, 1);
}

#[tokio::test]
async fn a_record_that_was_called_absent_must_not_come() {
    let book = book(&[]);
    book.fate(&sent(1), Fate::Absent, false);
    assert_eq!(book.violations(), Vec::<String>::new());
    read(&book, &[found(1, 1), found(2, 2)]);
    book.fate(&sent(2), Fate::Absent, false);
    assert_eq!(book.counts().raised, 2);
    assert_eq!(book.violations().len(), 2);
}

#[tokio::test]
async fn one_offset_for_two_records_and_a_patient_record_given_up_are_seen() {
    let book = book(&[1]);
    book.fate(&sent(2), Fate::Acknowledged { offset: 1 }, true);
    book.fate(&sent(3), Fate::Unknown, true);
    assert_eq!(book.violations().len(), 2);
}
