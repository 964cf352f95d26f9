//! The controller of one Cluster: which broker holds and leads which partition.
//!
//! Owns the partition table, placement, who is dead and who leads instead, and what people are told. Never dials, writes
//! or reads a clock: shells do that for it and tell it what came of it.

mod desired;
pub mod table;
mod view;

pub use self::desired::{Desired, TopicWish};
pub use self::view::{
    BrokerState, BrokerView, ControlEvent, EventKind, PartitionView, TopicView, View, Waiting,
};
