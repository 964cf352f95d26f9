//! One replica of one partition: `step(now, input) -> effects`.
//!
//! Owns terms, fencing, following, the high watermark, changes of members, producers' sequences and what retention may
//! delete. Never reads a batch's records, and never knows where a byte lies or which socket a message takes.

mod effect;
mod input;
mod message;
mod producers;

pub use self::effect::{Effect, Promise, PromiseKind, Refusal, Report, Write, WriteSeq};
pub use self::input::{Input, Recovered, Ticket};
pub use self::message::Message;
pub use self::producers::{InvalidProducers, PRODUCER_IDLE_MS, PRODUCER_WINDOW, PRODUCERS_MAX, ProducerTable};
