//! Where other brokers may be: names resolved again and again, and handed to gossip as somebody to greet.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::Seed;
use crate::names::Names;

/// While nobody else is known; a new Cluster finds itself as soon as its names resolve.
const LONELY_EVERY: Duration = Duration::from_secs(1);
/// Once others are known: often enough to heal two halves that lost each other.
const SETTLED_EVERY: Duration = Duration::from_secs(15);

/// Greets every seed, for ever. `lonely`: nobody else is known. `greet` sends one datagram.
pub(super) async fn greet_all(seeds: Vec<Seed>, lonely: impl Fn() -> bool, greet: impl Fn(SocketAddr)) {
    if seeds.is_empty() {
        return;
    }
    let mut names = Names::default();
    loop {
        for seed in &seeds {
            match seed {
                Seed::Address(address) => greet(*address),
                Seed::Host { host, port } => {
                    for address in names.lookup(host, *port).await {
                        greet(address);
                    }
                }
            }
        }
        tokio::time::sleep(if lonely() { LONELY_EVERY } else { SETTLED_EVERY }).await;
    }
}
