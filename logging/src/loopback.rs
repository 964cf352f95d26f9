//! One HTTP request to this machine, by hand: a whole client would be a hundred times as long.
//!
//! Owns bytes and patience. Never: another machine, TLS, a redirect.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status, such as 200.
    pub status: u16,
    /// The body; what is no UTF-8 is replaced.
    pub body: String,
}

/// A request and its answer. `patience`: how long connecting, and each piece of the answer, may take. An answer of more than
/// `bytes_max` is an error.
pub fn exchange(
    address: SocketAddr,
    (method, target): (&str, &str),
    body: &str,
    bytes_max: u64,
    patience: Duration,
) -> io::Result<Answer> {
    let mut socket = TcpStream::connect_timeout(&address, patience)?;
    socket.set_read_timeout(Some(patience))?;
    socket.set_write_timeout(Some(patience))?;
    // HTTP/1.0: the answer ends with the connection, and nothing stands between its parts.
    let head =
        format!("{method} {target} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n", body.len());
    socket.write_all(head.as_bytes())?;
    socket.write_all(body.as_bytes())?;
    let mut bytes = Vec::new();
    socket.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::other(format!("the answer has more than {bytes_max} bytes")));
    }
    let text = String::from_utf8_lossy(&bytes);
    let parts = text.split_once("\r\n\r\n");
    let status = parts.and_then(|(head, _)| head.split(' ').nth(1)?.parse().ok());
    match (status, parts) {
        (Some(status), Some((_, body))) => Ok(Answer { status, body: body.to_owned() }),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "what answers there is no HTTP")),
    }
}
