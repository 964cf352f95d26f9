//! Connections to brokers: mutual TLS to a pod's address, under the name that every broker's certificate carries.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// The name that every broker's certificate carries: addresses change, names in certificates do not.
const BROKER_NAME: &str = "broker.fulmar.internal";
/// A broker in the same Cluster answers in milliseconds. Longer than the second after which silence counts as death, so that
/// a slow handshake is not taken for one that never comes.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Tells a dead connection where no heartbeat does (a peer that was powered off).
const KEEPALIVE_EVERY: Duration = Duration::from_secs(1);
const KEEPALIVE_MAX: Duration = Duration::from_secs(2);

/// Who this side is, and whom it believes. All are PEM.
#[derive(Clone)]
pub struct Credentials {
    /// One or more certificates of the Cluster's CA.
    pub ca: Vec<u8>,
    /// This side's certificate, with the name `operator.fulmar.internal`.
    pub certificate: Vec<u8>,
    /// Its private key.
    pub key: Vec<u8>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) struct DialError {
    /// Nobody listens at the address.
    pub(crate) refused: bool,
    /// For people.
    pub(crate) message: String,
}

/// Connects to a broker.
pub(crate) async fn dial(address: SocketAddr, credentials: &Credentials) -> Result<Channel, DialError> {
    let failed =
        |error: tonic::transport::Error| DialError { refused: is_refused(&error), message: chain(&error) };
    let tls = ClientTlsConfig::new()
        .domain_name(BROKER_NAME)
        .ca_certificate(Certificate::from_pem(&credentials.ca))
        .identity(Identity::from_pem(&credentials.certificate, &credentials.key));
    Endpoint::from_shared(format!("https://{address}"))
        .and_then(|endpoint| endpoint.tls_config(tls))
        .map_err(failed)?
        .connect_timeout(CONNECT_MAX)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_EVERY)
        .keep_alive_timeout(KEEPALIVE_MAX)
        .keep_alive_while_idle(true)
        .connect()
        .await
        .map_err(failed)
}

fn is_refused(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error
            .downcast_ref()
            .is_some_and(|error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused)
        {
            return true;
        }
        cause = error.source();
    }
    false
}

fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
