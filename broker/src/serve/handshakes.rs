//! TLS handshakes under way on a port, apart from its connections: the oldest gives way to the newest.
//!
//! Owns their number, and what is logged of those that fail. Never knows what is served when one is done.
//!
//! Anybody can begin a handshake and leave it there. If those took the room of connections, a few hundred in a second would keep brokers
//! and the operator out for as long as they come. To refuse the newest would do the same; to count by address would take what comes
//! through one proxy for one peer. The oldest of many is the one that is least likely to end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::tls::Tls;

/// A peer's handshake takes some milliseconds, so it is done before so many others have begun, unless a hundred thousand begin in a second.
/// TLS lets a peer send 64 KiB before they are looked at: all of these together take 32 MiB, an eighth of the smallest broker's memory.
pub(super) const UNDER_WAY_MAX: usize = 512;
/// One that takes longer is not from a healthy peer.
const DONE_WITHIN: Duration = Duration::from_secs(5);
/// Between two lines about handshakes that came to nothing: who floods the port does not fill the log.
const LINES_APART: Duration = Duration::from_secs(10);

/// Those of one port.
#[derive(Debug)]
pub(super) struct Handshakes {
    port: &'static str,
    under_way: Mutex<UnderWay>,
    said: Mutex<Said>,
}

#[derive(Debug, Default)]
struct UnderWay {
    begun: u64,
    /// By the order in which they began.
    told: BTreeMap<u64, CancellationToken>,
}

#[derive(Debug, Default)]
struct Said {
    last: Option<Instant>,
    /// Since then.
    unsaid: u64,
}

/// One that is under way until this is dropped.
#[derive(Debug)]
struct Place<'a> {
    all: &'a Handshakes,
    number: u64,
    gives_way: CancellationToken,
}

impl Handshakes {
    pub(super) fn new(port: &'static str) -> Self {
        Self { port, under_way: Mutex::default(), said: Mutex::default() }
    }

    /// Carries one out. `None`: it came to nothing, which was logged.
    pub(super) async fn accept(
        &self,
        tls: &Tls,
        socket: TcpStream,
        address: SocketAddr,
    ) -> Option<TlsStream<TcpStream>> {
        let place = self.begin();
        let accepting = timeout(DONE_WITHIN, TlsAcceptor::from(tls.server()).accept(socket));
        let why = tokio::select! {
            () = place.gives_way.cancelled() => format!("{UNDER_WAY_MAX} others began after it"),
            accepted = accepting => match accepted {
                Ok(Ok(stream)) => return Some(stream),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("it was not done within {} s", DONE_WITHIN.as_secs()),
            },
        };
        if let Some(unsaid) = self.said.lock().line(Instant::now()) {
            info!(port = self.port, %address, why, unsaid, "a connection without a certificate of the CA was refused");
        }
        None
    }

    fn begin(&self) -> Place<'_> {
        let mut under_way = self.under_way.lock();
        let (number, gives_way) = (under_way.begun, CancellationToken::new());
        under_way.begun += 1;
        under_way.told.insert(number, gives_way.clone());
        if under_way.told.len() > UNDER_WAY_MAX
            && let Some((_, oldest)) = under_way.told.pop_first()
        {
            oldest.cancel();
        }
        Place { all: self, number, gives_way }
    }
}

impl Said {
    /// Whether a line may be written now, and how many were not since the last one.
    fn line(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.duration_since(last) < LINES_APART) {
            self.unsaid += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        // It may have given way already.
        self.all.under_way.lock().told.remove(&self.number);
    }
}

#[cfg(test)]
#[path = "handshakes_tests.rs"]
mod tests;
