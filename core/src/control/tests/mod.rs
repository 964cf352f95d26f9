//! Claims about the controller, driven in a small world of brokers and a ledger.

mod deletion;
mod homing;
mod leaders;
mod liveness;
mod losses;
mod members;
mod moves;
mod obstacles;
mod openings;
mod rebuild;
mod scale;
mod shown;
mod tenure;
mod topics;
mod world;
