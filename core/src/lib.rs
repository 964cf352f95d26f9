//! Every decision of Fulmar: records, replication, control of the cluster, placement.
//!
//! State machines, stepped by shells: `step(now, input) -> effects`. Never I/O: no runtime, socket, disk, Kubernetes,
//! protobuf, clock, randomness, threads or unordered maps, so that one seed replays one history.

pub mod accepted_loss;
pub mod batch;
pub mod broker;
pub mod control;
pub mod entry;
pub mod id;
pub mod offset;
pub mod partition;
pub mod partitioner;
pub mod pattern;
pub mod term;
