use fulmar_core::batch::{ProducedBatch, Record, Stamp};
use fulmar_core::id::{PartitionKey, TopicId};
use fulmar_core::term::{BootId, Epoch, Process, Session, Term};

use super::*;

fn term() -> Term {
    Term {
        epoch: Epoch { generation: 1, counter: 1 },
        process: Process { session: Session(1), boot: BootId(7) },
    }
}

fn batch() -> Batch {
    let record = Record { value: "full".into(), ..Record::default() };
    let key = PartitionKey { topic: TopicId(7), partition: 0 };
    let stamp = Stamp { key, base: Offset(9), term: term(), append_time_ms: 1 };
    ProducedBatch::build(&[record], None).unwrap().stamp(stamp)
}

fn append(batches: Vec<Batch>) -> Message {
    Message::Append {
        term: term(),
        from: Offset(9),
        batches,
        high_watermark: Offset(5),
        log_start: Offset(2),
    }
}

#[test]
fn what_does_not_fit_seems_to_be_on_its_way_and_the_rest_is_heard() {
    let Message::Append { from, batches, high_watermark, log_start, .. } =
        without_batches(append(vec![batch()]))
    else {
        panic!("another message")
    };
    // Not from where our log ends: who asks for what is missing has it sent again at once.
    assert_eq!((from, batches.len()), (Offset::ZERO, 0));
    assert_eq!((high_watermark, log_start), (Offset(5), Offset(2)));
}

#[test]
fn a_heartbeat_of_a_full_time_shows_no_gap_either() {
    let Message::Append { from, .. } = without_batches(append(Vec::new())) else { panic!("another message") };
    assert_eq!(from, Offset::ZERO);
}

#[test]
fn what_brings_no_batches_is_left_as_it_is() {
    let stored = Message::Stored { term: term(), log_end: Offset(3) };
    assert_eq!(without_batches(stored.clone()), stored);
}
