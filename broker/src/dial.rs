//! Connections to other brokers: mutual TLS to an address, with the frames and windows that fill a fast network.

use std::net::SocketAddr;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use crate::tls::{self, Tls};

/// A broker in the same Cluster answers in milliseconds, or is not there.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// A peer that stopped without a word is given up within three seconds.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(1);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// As the port between brokers has them.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

/// The largest message between brokers: a turn's messages in pieces of 4 MiB, with a batch of 8 MiB and its neighbours on top.
pub const MESSAGE_BYTES_MAX: usize = 32 << 20;

/// Connects to a broker. Fails if nobody is there, or somebody without a broker's certificate of this Cluster.
pub async fn broker(tls: &Tls, address: SocketAddr) -> Result<Channel, tonic::transport::Error> {
    let tls = tls.clone();
    let connector = tower::service_fn(move |_| {
        let tls = tls.clone();
        async move { connect(&tls, address).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://broker.fulmar.internal")
        .connect_timeout(CONNECT_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(KEEPALIVE_EVERY)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
}

async fn connect(
    tls: &Tls,
    address: SocketAddr,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let name = ServerName::try_from(tls::BROKER_NAME).expect("a constant DNS name is one");
    let connecting = TlsConnector::from(tls.client()).connect(name, socket);
    let too_late = |_| std::io::Error::new(std::io::ErrorKind::TimedOut, "the TLS handshake took too long");
    tokio::time::timeout(CONNECT_MAX, connecting).await.map_err(too_late)?
}
