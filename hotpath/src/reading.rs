//! A stored batch to what a subscriber's HTTP/2 frame carries.

use bytes::Bytes;
use fulmar_broker::serve::convert::messages_of;
use fulmar_core::batch::{Batch, Stamp};
use fulmar_core::offset::Offset;
use fulmar_core::term::{BootId, Epoch, Process, Session, Term};
use fulmar_proto::v1::SubscribeResponse;
use prost::Message as _;

use super::Run;
use super::records::{RECORDS, key, produced};

/// What the pieces here deliver of.
pub(crate) const TOPIC: &str = "orders";

/// A batch of so many records as a leader stamped it.
pub(crate) fn stamped(count: u64) -> Batch {
    let process = Process { session: Session(1), boot: BootId(1) };
    let term = Term { epoch: Epoch { generation: 1, counter: 1 }, process };
    produced(count, 0).stamp(Stamp { key: key(), base: Offset(1), term, append_time_ms: 1_700_000_000_500 })
}

/// Checks bytes of the storage, takes the records apart and encodes them for a subscriber.
pub(crate) fn read() -> Run {
    let bytes = Bytes::copy_from_slice(stamped(RECORDS).bytes());
    Box::new(move || {
        let batch = Batch::parse(bytes, key()).expect("it was stamped");
        let messages =
            messages_of(TOPIC, key().partition, &batch, batch.base()).expect("it is not compressed");
        let messages: Vec<_> = messages.collect();
        assert_eq!(messages.len() as u64, RECORDS);
        let response = SubscribeResponse { messages };
        assert!(response.encode_to_vec().len() > batch.size());
        Box::new(response)
    })
}
