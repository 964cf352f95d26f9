//! HTTP by hand, byte for byte.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::PATIENCE;

/// What a broker answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    /// Whether it is a problem document of its own status that says so.
    pub fn tells(&self, status: u16, words: &str) -> bool {
        self.status == status
            && self.head.contains("content-type: application/problem+json")
            && self.body.contains(&format!("\"status\":{status}"))
            && self.body.contains(words)
    }

    /// The body of a success.
    pub fn json(&self) -> Value {
        assert!(matches!(self.status, 200 | 207), "{self:?}");
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// `request`: the head without its end.
pub fn send(address: SocketAddr, request: &str, body: &[u8]) -> Answer {
    let mut socket = connect(address);
    let head = format!("{request}\r\nHost: x\r\nConnection: close\r\n\r\n");
    socket.write_all(head.as_bytes()).unwrap();
    // It may be refused before all of it was written.
    let _refused = socket.write_all(body);
    let mut answer = Vec::new();
    let _reset = socket.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let head = head.to_lowercase();
    let body = if head.contains("transfer-encoding: chunked") { whole(body) } else { body.to_owned() };
    Answer { status, head, body }
}

/// The chunks of a body, without what is between them.
fn whole(mut chunks: &str) -> String {
    let mut body = String::new();
    loop {
        let (length, rest) = chunks.split_once("\r\n").unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            return body;
        }
        body.push_str(&rest[..length]);
        chunks = &rest[length + 2..];
    }
}

pub fn get(address: SocketAddr, target: &str) -> Answer {
    send(address, &format!("GET {target} HTTP/1.1"), b"")
}

pub fn post(address: SocketAddr, target: &str, body: &[u8]) -> Answer {
    send(address, &format!("POST {target} HTTP/1.1\r\nContent-Length: {}", body.len()), body)
}

pub fn post_json(address: SocketAddr, target: &str, body: &str) -> Answer {
    let length = body.len();
    let head =
        format!("POST {target} HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {length}");
    send(address, &head, body.as_bytes())
}

/// Server-sent events.
pub struct Events(BufReader<TcpStream>);

/// One of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Event {
    pub id: Option<String>,
    pub kind: Option<String>,
    pub data: Option<String>,
}

impl Events {
    /// Opens a stream. `headers`: more of them.
    pub fn open(address: SocketAddr, target: &str, headers: &str) -> Self {
        let mut socket = connect(address);
        // HTTP/1.0: nothing stands between the events.
        let head = format!("GET {target} HTTP/1.0\r\nHost: x\r\n{headers}\r\n");
        socket.write_all(head.as_bytes()).unwrap();
        let mut events = Self(BufReader::new(socket));
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(events.0.read_line(&mut head).unwrap() > 0, "{head}");
        }
        assert!(head.contains("200 OK") && head.contains("text/event-stream"), "{head}");
        events
    }

    /// The next event, or block without data; `None` at the end.
    pub fn next(&mut self) -> Option<Event> {
        let mut event = Event::default();
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            match line.trim_end_matches('\n').split_once(": ") {
                None if line == "\n" => return Some(event),
                // Nothing but a sign of life.
                None => {}
                Some(("id", id)) => event.id = Some(id.to_owned()),
                Some(("event", kind)) => event.kind = Some(kind.to_owned()),
                Some(("data", data)) => event.data = Some(data.to_owned()),
                Some(_) => panic!("{line:?}"),
            }
        }
    }

    /// The next one with data.
    pub fn next_data(&mut self) -> Event {
        loop {
            let event = self.next().unwrap();
            if event.data.is_some() {
                return event;
            }
        }
    }
}
