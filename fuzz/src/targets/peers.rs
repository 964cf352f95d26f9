//! What replicas say to each other, from protobuf to `core`'s messages.

use fulmar_broker::replica::wire::{from_proto, to_proto};
use fulmar_core::entry::Entry;
use fulmar_core::offset::Offset;
use fulmar_core::partition::{Message, ProducerTable};
use fulmar_core::term::{TermStart, TermVector};
use fulmar_proto::internal::v1::ReplicaMessage;
use prost::Message as _;

use super::batch::{key, produced, stamped, term};

pub(super) fn run(bytes: &[u8]) {
    if let Ok(table) = ProducerTable::decode(bytes) {
        assert_eq!(ProducerTable::decode(&table.encode()), Ok(table));
    }
    let Ok(message) = ReplicaMessage::decode(bytes) else { return };
    let Ok((key, message)) = from_proto(message) else { return };
    let again = to_proto(key, message.clone()).encode_to_vec();
    let again = ReplicaMessage::decode(again.as_slice()).expect("it was just encoded");
    assert_eq!(from_proto(again), Ok((key, message)));
}

fn table() -> Vec<u8> {
    let mut table = ProducerTable::default();
    table.note(&stamped(produced()));
    table.encode()
}

pub(super) fn examples() -> Vec<Vec<u8>> {
    let (term, log_start, log_end) = (term(), Offset(4), Offset(12));
    let line = "0198a5c2-7b1e-7c3d-9f00-000000000001";
    let entry: Entry = format!("{} epoch=2.1 leader=0:{line} members=1of[0:{line}]", key())
        .parse()
        .expect("an entry as the tests have it");
    let vector = TermVector::new(vec![TermStart { term, start: Offset::ZERO }]).expect("one term");
    let batches = vec![stamped(produced())];
    let messages = [
        Message::Fence { entry: entry.clone(), term },
        Message::Promised { term, vector: vector.clone(), log_start, log_end, certain: true },
        Message::Refused { term, promised: Some(term), entry: Some(entry.clone()) },
        Message::Fetch { term, from: log_start, until: log_end },
        Message::Snapshot { term, log_start, vector: vector.clone(), producers: table() },
        Message::Fetched { term, batches: batches.clone() },
        Message::Attach {
            entry,
            term,
            follower: term.process,
            vector,
            log_start,
            log_end,
            counted: log_start,
            producers: table(),
        },
        Message::Append {
            term,
            from: Offset(40),
            batches: batches.clone(),
            high_watermark: log_end,
            log_start,
        },
        Message::Stored { term, log_end },
        Message::Refetched { term, offset: Offset(40), batches },
        Message::Release { epoch: term.epoch },
    ];
    let mut examples: Vec<Vec<u8>> =
        messages.into_iter().map(|message| to_proto(key(), message).encode_to_vec()).collect();
    examples.push(table());
    examples
}
