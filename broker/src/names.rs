//! Names of other machines → addresses, by our own resolver: a static binary has no name service switch.
//!
//! Never keeps an answer for long: pods come and go.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::{Resolver, TokioResolver};
use tracing::{debug, warn};

/// A name server that does not answer must not stop what has other names to ask for.
const LOOKUP_MAX: Duration = Duration::from_secs(5);
/// More addresses of one name than brokers in any Cluster.
const ADDRESSES_MAX: usize = 256;

/// Asks the name servers of `/etc/resolv.conf`, which is read when the first name is asked for.
#[derive(Debug, Default)]
pub struct Names {
    resolver: Option<TokioResolver>,
}

impl Names {
    /// The addresses of a host; none if there are none, or nobody answers.
    pub async fn lookup(&mut self, host: &str, port: u16) -> Vec<SocketAddr> {
        if self.resolver.is_none() {
            self.resolver = new_resolver();
        }
        let Some(resolver) = &self.resolver else { return Vec::new() };
        match tokio::time::timeout(LOOKUP_MAX, resolver.lookup_ip(host)).await {
            Ok(Ok(found)) => found.iter().take(ADDRESSES_MAX).map(|ip| SocketAddr::new(ip, port)).collect(),
            Ok(Err(error)) => {
                debug!(host, %error, "a name does not resolve");
                Vec::new()
            }
            Err(_) => {
                debug!(host, "the name server does not answer");
                Vec::new()
            }
        }
    }
}

fn new_resolver() -> Option<TokioResolver> {
    let built = Resolver::builder_tokio().and_then(|mut builder| {
        // An answer, and above all "no such name", is kept shortly.
        builder.options_mut().positive_max_ttl = Some(Duration::from_secs(5));
        builder.options_mut().negative_max_ttl = Some(Duration::from_secs(1));
        builder.build()
    });
    built.map_err(|error| warn!(%error, "no name server is configured; nobody is found by name")).ok()
}
