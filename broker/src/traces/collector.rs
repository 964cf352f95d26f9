//! Where spans go: an OpenTelemetry collector that takes OTLP by gRPC.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};

use crate::names::Names;

/// What OTLP by gRPC has.
const PORT: u16 = 4317;
/// One that is not there is tried again with the next spans.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// One call; as OpenTelemetry's own default.
const CALL_MAX: Duration = Duration::from_secs(10);
/// One that vanished without a word is given up within a call, and the next one connects anew.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(3);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// A collector's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collector {
    host: String,
    port: u16,
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}", self.host, self.port)
    }
}

impl FromStr for Collector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            format!(
                "{what}: http://HOST:{PORT} is needed, a collector in the same network that takes OTLP by gRPC"
            )
        };
        let uri: Uri = text.parse().map_err(|_| wrong("no address"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(wrong("a broker sends spans without TLS")),
            Some(_) | None => return Err(wrong("it does not begin with http://")),
        }
        if !matches!(uri.path_and_query().map(http::uri::PathAndQuery::as_str), None | Some("/")) {
            return Err(wrong("a path belongs to OTLP by HTTP"));
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| wrong("no host"))?;
        let authority = uri.authority().map_or("", http::uri::Authority::as_str);
        if authority.contains('@') {
            return Err(wrong("a user or a password is no part of it"));
        }
        let port = match &authority[host.len()..] {
            "" => Some(PORT),
            port => port[1..].parse().ok().filter(|port| *port > 0),
        };
        Ok(Self { host: host.to_owned(), port: port.ok_or_else(|| wrong("the port is none"))? })
    }
}

impl Collector {
    /// Connects when there is something to send, and again after a failure.
    pub(super) fn channel(&self) -> Result<Channel, tonic::transport::Error> {
        let collector = self.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let collector = collector.clone();
            async move { collector.connect().await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_shared(self.to_string())?
            .connect_timeout(CONNECT_MAX)
            .timeout(CALL_MAX)
            .http2_keep_alive_interval(KEEPALIVE_EVERY)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT);
        Ok(endpoint.connect_with_connector_lazy(connector))
    }

    async fn connect(&self) -> std::io::Result<TcpStream> {
        let late = |_| std::io::Error::new(std::io::ErrorKind::TimedOut, "the connection took too long");
        let connecting = async {
            let mut failure = std::io::Error::new(std::io::ErrorKind::NotFound, "its name has no address");
            let addresses = self.addresses().await;
            // One that does not answer leaves time for those behind it.
            let each = CONNECT_MAX / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
            for address in addresses {
                match timeout(each, TcpStream::connect(address)).await.map_err(late) {
                    Ok(Ok(socket)) => return Ok(socket),
                    Ok(Err(error)) | Err(error) => failure = error,
                }
            }
            Err(failure)
        };
        timeout(CONNECT_MAX, connecting).await.map_err(late)?
    }

    async fn addresses(&self) -> Vec<SocketAddr> {
        match self.host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, self.port)],
            Err(_) => Names::default().lookup(&self.host, self.port).await,
        }
    }
}
