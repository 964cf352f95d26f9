//! One broker: all its replicas, and the processes that it talks to. `step(now, input) -> effects`, like each replica.
//!
//! Owns which replica hears what, handshakes (who is believed to be whom), and what the operator is told. Never knows
//! addresses, sockets, names of topics, or where anything is stored.

mod arrivals;
mod handshake;
mod reports;
mod route;
mod versions;

pub use self::handshake::{
    Accepted, Conclusion, Hello, HelloRefusal, Identity, PROCESSES_MAX, PROTOCOL, ProtocolRange, conclude,
    conclude_from_operator,
};
pub use self::route::{Broker, Input};

#[cfg(test)]
mod tests;
