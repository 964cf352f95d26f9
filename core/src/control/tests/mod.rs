//! Claims about the controller, driven in a small world of brokers and a ledger.

mod deletion;
mod leaders;
mod liveness;
mod members;
mod rebuild;
mod tenure;
mod topics;
mod world;
