//! The controller of one Cluster: which broker holds and leads which partition.
//!
//! Owns the partition table, placement, who is dead and who leads instead, and what people are told. Never dials, writes
//! or reads a clock: shells do that for it and tell it what came of it.

mod attend;
mod broker;
mod controller;
mod deletion;
mod desired;
mod effect;
mod homing;
mod input;
mod leaders;
mod liveness;
mod losses;
mod members;
mod moves;
mod openings;
mod placement;
mod plan;
mod reach;
mod readiness;
mod rebuild;
mod shelf;
mod shown;
mod spread;
pub mod table;
mod tenure;
mod topics;
mod view;

pub use self::controller::Controller;
pub use self::desired::{Desired, Rebalance, TopicWish};
pub use self::effect::{Address, Document, DocumentName, Effect, Greeting, PushedPage, Revision};
pub use self::input::{HeldPage, Hello, Input, Sighting, WriteFailure};
pub use self::losses::{InvalidLossWord, LossWord};
pub use self::view::{
    BrokerState, BrokerView, ControlEvent, Disk, EventKind, Moving, PartitionView, Stuck, TopicView, View,
    Waiting,
};

/// The most writes of the ledger under way at once.
pub const WRITES_MAX: usize = 10;

#[cfg(test)]
mod tests;
