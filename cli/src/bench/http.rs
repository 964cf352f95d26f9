//! Publishing by HTTP as a program does that has no SDK: `POST /publish` on a connection that is kept.
//!
//! Owns just as much of HTTP/1.1 as answers of a broker have: a status, a length and a body.

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::system::Single;
use crate::exit::Failed;

/// A broker's answer to a publish is far below; what is longer is not one.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A connection that is kept.
pub(super) struct HttpPublisher {
    stream: BufReader<TcpStream>,
    head: String,
}

impl HttpPublisher {
    /// `address` is HOST:PORT.
    pub(super) async fn connect(address: &str, topic: &str) -> Result<Self, Failed> {
        let unavailable = |error| Failed::Unavailable(format!("nothing answers HTTP at {address}: {error}"));
        let stream = TcpStream::connect(address).await.map_err(unavailable)?;
        stream.set_nodelay(true).map_err(unavailable)?;
        let head = format!("POST /publish?topic={topic} HTTP/1.1\r\nHost: {address}\r\nContent-Length: ");
        Ok(Self { stream: BufReader::new(stream), head })
    }

    /// Gives the status and the body.
    async fn answer(&mut self) -> Result<(u16, Vec<u8>), Failed> {
        let mut line = String::new();
        self.line(&mut line).await?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| garbled(&line))?;
        let mut length = 0;
        loop {
            self.line(&mut line).await?;
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().map_err(|_| garbled(&line))?;
            }
        }
        if length > ANSWER_BYTES_MAX {
            return Err(garbled(&format!("{length} bytes")));
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await?;
        Ok((status, body))
    }

    /// One line without its end.
    async fn line(&mut self, line: &mut String) -> Result<(), Failed> {
        line.clear();
        let mut bounded = (&mut self.stream).take(ANSWER_BYTES_MAX as u64);
        bounded.read_line(line).await?;
        match line.strip_suffix("\r\n") {
            Some(text) => line.truncate(text.len()),
            None => return Err(garbled(line)),
        }
        Ok(())
    }
}

fn garbled(what: &str) -> Failed {
    Failed::Failure(format!("this is no answer to a publish by HTTP: {what:?}"))
}

impl Single for HttpPublisher {
    async fn publish(&mut self, value: Bytes) -> Result<(), Failed> {
        let mut request = format!("{}{}\r\n\r\n", self.head, value.len()).into_bytes();
        request.extend_from_slice(&value);
        self.stream.write_all(&request).await?;
        let (status, body) = self.answer().await?;
        if status == 200 {
            return Ok(());
        }
        Err(Failed::Failure(format!("HTTP {status}: {}", String::from_utf8_lossy(&body).trim())))
    }
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
