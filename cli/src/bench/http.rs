//! Publishing by HTTP as a program does that has no SDK: `POST /publish` on a connection that is kept.

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::system::Single;
use crate::exit::Failed;

/// A broker's answer to a publish is far below; what is longer is not one.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A connection that is kept.
pub(super) struct HttpPublisher {
    connection: SendRequest<Full<Bytes>>,
    path: PathAndQuery,
    host: HeaderValue,
}

impl HttpPublisher {
    /// `address` is HOST:PORT; the topic's name needs no escapes.
    pub(super) async fn connect(address: &Authority, topic: &str) -> Result<Self, Failed> {
        let unavailable = |error: &dyn std::error::Error| {
            Failed::Unavailable(format!("nothing answers HTTP at {address}: {error}"))
        };
        let stream = TcpStream::connect(address.as_str()).await.map_err(|error| unavailable(&error))?;
        stream.set_nodelay(true).map_err(|error| unavailable(&error))?;
        let (connection, drive) =
            handshake(TokioIo::new(stream)).await.map_err(|error| unavailable(&error))?;
        // It ends with `connection`; what went wrong is told by the request that it went wrong with.
        tokio::spawn(drive);
        let path = format!("/publish?topic={topic}").try_into();
        let path =
            path.map_err(|error| Failed::Usage(format!("topic {topic:?} has no place in a URL: {error}")))?;
        let host = HeaderValue::from_str(address.as_str()).expect("an authority is visible ASCII");
        Ok(Self { connection, path, host })
    }

    async fn answer(&mut self, value: Bytes) -> Result<(StatusCode, Bytes), Failed> {
        let no_answer = |error: &dyn std::error::Error| {
            Failed::Failure(format!("this is no answer to a publish by HTTP: {error}"))
        };
        let mut request = Request::post(self.path.clone()).body(Full::new(value)).expect("a path is a URI");
        request.headers_mut().insert(header::HOST, self.host.clone());
        self.connection.ready().await.map_err(|error| no_answer(&error))?;
        let answer = self.connection.send_request(request).await.map_err(|error| no_answer(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        Ok((status, body.map_err(|error| no_answer(error.as_ref()))?.to_bytes()))
    }
}

impl Single for HttpPublisher {
    async fn publish(&mut self, value: Bytes) -> Result<(), Failed> {
        let (status, body) = self.answer(value).await?;
        if status == StatusCode::OK {
            return Ok(());
        }
        Err(Failed::Failure(format!("HTTP {status}: {}", String::from_utf8_lossy(&body).trim())))
    }
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
