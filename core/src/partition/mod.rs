//! One replica of one partition: `step(now, input) -> effects`.
//!
//! Owns terms, fencing, following, the high watermark, changes of members, producers' sequences and what retention may
//! delete. Never reads a batch's records, and never knows where a byte lies or which socket a message takes.

#[cfg(test)]
mod bench;
mod commit;
mod effect;
mod fetch;
mod follow;
mod input;
mod lead;
mod log;
mod loss;
mod members;
mod message;
mod open;
mod producers;
mod publish;
mod reconcile;
mod repair;
mod replica;
mod report;
mod retention;

pub use self::effect::{Effect, Promise, PromiseKind, Refusal, Report, Write, WriteSeq};
pub use self::input::{Input, Recovered, Ticket};
pub use self::lead::{IN_FLIGHT_BYTES_MAX, IN_FLIGHT_MESSAGES_MAX};
pub use self::message::Message;
pub use self::producers::{
    InvalidProducers, PRODUCER_IDLE_MS, PRODUCER_WINDOW, PRODUCERS_MAX, ProducerTable,
};
pub use self::publish::{PUBLISHES_MAX, WAITING_BYTES_MAX, WAITING_MAX};
pub use self::replica::{Now, Replica};
