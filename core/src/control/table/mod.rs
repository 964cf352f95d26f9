//! The partition table as text: a root, and pages of topics and entries. One line says one thing, so that a person can
//! read the table where it is kept.
//!
//! Owns the lines and their bounds. Never where they are kept, nor what should stand in them.

mod codec;
mod page;
mod root;
mod topic;

pub use self::codec::InvalidTable;
pub use self::page::{PAGE_BYTES_MAX, Page};
pub use self::root::{BrokerRecord, BrokerStanding, PAGES_MAX, RECORDS_MAX, Root};
pub use self::topic::{TOPIC_NAME_BYTES_MAX, TopicRecord, topic_name_is_valid};

#[cfg(test)]
mod tests;
