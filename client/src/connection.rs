//! Connections to brokers: an address in, a channel out.
//!
//! Owns transport settings, one channel for each address and slot, and who could not be reached lately. Never knows what
//! is said on a connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fulmar_proto::v1::admin_client::AdminClient;
use fulmar_proto::v1::log_client::LogClient;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

use crate::error::ConnectError;

/// Within a cluster a connection stands in a millisecond; a dead pod's address answers nothing at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A broker that is stopped or cut off closes nothing: pings find out, in `KEEP_ALIVE_INTERVAL + KEEP_ALIVE_TIMEOUT`.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// HTTP/2's own defaults (64 KiB, 16 KiB frames) are the bottleneck of a stream of batches.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
const FRAME_BYTES_MAX: u32 = 256 * 1024;

/// One answer of a fetch stream: the largest credit (16 MiB) and the batch that passes it (8 MiB), with room.
const MESSAGE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// So long an address that could not be reached, or was overtaken, is not tried first again: a broker that restarts is back in less than a
/// second, so the first time is short; each failure doubles it, for a dead pod's address costs a connection's timeout each time.
const UNREACHABLE_FOR: Duration = Duration::from_millis(200);
const UNREACHABLE_FOR_MAX: Duration = Duration::from_secs(5);

/// `host:port` or `http://host:port` as an address that [`Connections`] takes.
pub(crate) fn parse_server(given: &str) -> Result<String, ConnectError> {
    let invalid = |why: &str| ConnectError::Address { given: given.to_owned(), why: why.to_owned() };
    if given.starts_with("https://") {
        return Err(ConnectError::Encrypted(given.to_owned()));
    }
    let address = given.strip_prefix("http://").unwrap_or(given).trim_end_matches('/');
    if address.contains("://") {
        return Err(invalid("the scheme is http"));
    }
    if address.contains('/') {
        return Err(invalid("there is no path behind the port"));
    }
    let (host, port) = address.rsplit_once(':').ok_or_else(|| invalid("the port is missing"))?;
    if host.is_empty() || port.parse::<u16>().map_or(true, |port| port == 0) {
        return Err(invalid("it is HOST:PORT, the port from 1 to 65535"));
    }
    endpoint(address).map_err(|error| invalid(&error.to_string()))?;
    Ok(address.to_owned())
}

fn endpoint(address: &str) -> Result<Endpoint, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX);
    Ok(endpoint)
}

/// Channels by address and slot: connected when first used, reconnected when used again after a loss.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connections {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    channels: HashMap<(String, u32), Channel>,
    setbacks: HashMap<String, Setback>,
}

/// What came of an address lately that did not answer.
#[derive(Debug, Clone, Copy)]
struct Setback {
    cause: Cause,
    since: Instant,
    lasts: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// Others answered before it: it may be slow only, so that whoever it leads still goes there.
    Overtaken,
    Unreachable,
}

impl Setback {
    fn holds(&self) -> bool {
        self.since.elapsed() < self.lasts
    }
}

impl Connections {
    /// A channel to `address` (`host:port`). Slots are connections of their own: an HTTP/2 connection takes a hundred
    /// streams or two, and one task in it moves all their bytes.
    pub(crate) fn channel(&self, address: &str, slot: u32) -> Result<Channel, ConnectError> {
        let mut inner = self.lock();
        if let Some(channel) = inner.channels.get(&(address.to_owned(), slot)) {
            return Ok(channel.clone());
        }
        let endpoint = endpoint(address)
            .map_err(|error| ConnectError::Address { given: address.to_owned(), why: error.to_string() })?;
        let channel = endpoint.connect_lazy();
        inner.channels.insert((address.to_owned(), slot), channel.clone());
        Ok(channel)
    }

    pub(crate) fn log(&self, address: &str, slot: u32) -> Result<LogClient<Channel>, ConnectError> {
        let client = LogClient::new(self.channel(address, slot)?);
        Ok(client.max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    pub(crate) fn admin(&self, address: &str) -> Result<AdminClient<Channel>, ConnectError> {
        Ok(AdminClient::new(self.channel(address, 0)?).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// It could not be reached: others are to be tried first for a while.
    pub(crate) fn note_unreachable(&self, address: &str) {
        self.set_back(address, Cause::Unreachable);
    }

    /// It said nothing for a moment, and another one answered that was asked later: others are to be asked first for a while.
    pub(crate) fn note_overtaken(&self, address: &str) {
        self.set_back(address, Cause::Overtaken);
    }

    fn set_back(&self, address: &str, cause: Cause) {
        let mut inner = self.lock();
        let before = inner.setbacks.get(address);
        // Many tasks find out at once: that counts as one failure.
        if before.is_some_and(|before| before.holds() && (before.cause == cause || cause == Cause::Overtaken))
        {
            return;
        }
        let lasts = before.map_or(UNREACHABLE_FOR, |before| (before.lasts * 2).min(UNREACHABLE_FOR_MAX));
        inner.setbacks.insert(address.to_owned(), Setback { cause, since: Instant::now(), lasts });
    }

    /// It answered.
    pub(crate) fn note_reached(&self, address: &str) {
        self.lock().setbacks.remove(address);
    }

    /// Whether it could not be reached lately.
    pub(crate) fn is_unreachable(&self, address: &str) -> bool {
        let inner = self.lock();
        let setback = inner.setbacks.get(address);
        setback.is_some_and(|setback| setback.cause == Cause::Unreachable && setback.holds())
    }

    /// Whether others are to be asked before it.
    pub(crate) fn is_set_back(&self, address: &str) -> bool {
        self.lock().setbacks.get(address).is_some_and(Setback::holds)
    }

    /// Forgets brokers that are gone: addresses of pods change for ever.
    pub(crate) fn keep_only(&self, known: &[String]) {
        let mut inner = self.lock();
        inner.channels.retain(|(address, _), _| known.contains(address));
        inner.setbacks.retain(|address, _| known.contains(address));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
