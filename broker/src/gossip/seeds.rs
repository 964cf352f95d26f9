//! Where other brokers may be: names resolved again and again by our own resolver (a static binary has no name service
//! switch), and handed to gossip as somebody to greet.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::Resolver;
use hickory_resolver::TokioResolver;
use tracing::{debug, warn};

use crate::config::Seed;

/// While nobody else is known; a new Cluster finds itself as soon as its names resolve.
const LONELY_EVERY: Duration = Duration::from_secs(1);
/// Once others are known: often enough to heal two halves that lost each other.
const SETTLED_EVERY: Duration = Duration::from_secs(15);
/// A name server that does not answer must not stop the greeting of those that did.
const LOOKUP_MAX: Duration = Duration::from_secs(5);
/// More addresses of one name than brokers in any Cluster.
const ADDRESSES_MAX: usize = 256;

/// Greets every seed, for ever. `lonely`: nobody else is known. `greet` sends one datagram.
pub(super) async fn greet_all(seeds: Vec<Seed>, lonely: impl Fn() -> bool, greet: impl Fn(SocketAddr)) {
    if seeds.is_empty() {
        return;
    }
    let mut resolver = None;
    loop {
        for seed in &seeds {
            match seed {
                Seed::Address(address) => greet(*address),
                Seed::Host { host, port } => {
                    if resolver.is_none() {
                        resolver = new_resolver();
                    }
                    let Some(resolver) = &resolver else { continue };
                    for address in lookup(resolver, host, *port).await {
                        greet(address);
                    }
                }
            }
        }
        tokio::time::sleep(if lonely() { LONELY_EVERY } else { SETTLED_EVERY }).await;
    }
}

fn new_resolver() -> Option<TokioResolver> {
    let built = Resolver::builder_tokio().and_then(|mut builder| {
        // Pods come and go: an answer, and above all "no such name", is kept shortly.
        builder.options_mut().positive_max_ttl = Some(Duration::from_secs(5));
        builder.options_mut().negative_max_ttl = Some(Duration::from_secs(1));
        builder.build()
    });
    built.map_err(|error| warn!(%error, "no name server is configured; seeds by name are not found")).ok()
}

async fn lookup(resolver: &TokioResolver, host: &str, port: u16) -> Vec<SocketAddr> {
    match tokio::time::timeout(LOOKUP_MAX, resolver.lookup_ip(host)).await {
        Ok(Ok(found)) => found.iter().take(ADDRESSES_MAX).map(|ip| SocketAddr::new(ip, port)).collect(),
        Ok(Err(error)) => {
            debug!(host, %error, "a seed's name does not resolve");
            Vec::new()
        }
        Err(_) => {
            debug!(host, "the name server does not answer");
            Vec::new()
        }
    }
}
