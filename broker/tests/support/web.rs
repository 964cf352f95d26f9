//! A client of gRPC-web over HTTP/1, as a browser's would be: its own framing, byte for byte.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use tonic::Status;

use super::PATIENCE;

/// What marks the frame of trailers.
const TRAILERS: u8 = 0x80;

/// How bodies are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Binary,
    Text,
}

impl Kind {
    pub const BOTH: [Self; 2] = [Self::Binary, Self::Text];

    pub fn name(self) -> &'static str {
        match self {
            Self::Binary => "application/grpc-web+proto",
            Self::Text => "application/grpc-web-text",
        }
    }

    /// As it goes over the wire.
    pub fn written(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Binary => bytes.to_vec(),
            Self::Text => STANDARD.encode(bytes).into_bytes(),
        }
    }
}

/// A message in its frame.
pub fn framed(message: &impl Message) -> Vec<u8> {
    let encoded = message.encode_to_vec();
    let length = u32::try_from(encoded.len()).unwrap().to_be_bytes();
    [&[0], &length[..], &encoded[..]].concat()
}

/// A request that was sent, and its answer as far as it was read.
pub struct Call {
    kind: Kind,
    /// Of HTTP.
    pub status: u16,
    /// Without the line of the status; values as they came.
    pub head: http::HeaderMap,
    body: BufReader<TcpStream>,
    /// Bytes of the chunk that is being read.
    chunk: usize,
    /// What was decoded and is not read yet.
    decoded: Vec<u8>,
}

/// What an answer consists of.
#[derive(Debug)]
pub enum Frame {
    Message(Vec<u8>),
    /// The end, in the body.
    Trailers(Status),
}

impl Call {
    /// Calls `Service/Method` with one message.
    pub fn start(address: SocketAddr, kind: Kind, method: &str, message: &impl Message) -> Self {
        let body = kind.written(&framed(message));
        let mut socket = Self::send(address, kind, method, body.len());
        socket.write_all(&body).unwrap();
        Self::answer(socket, kind)
    }

    /// Sends the head of a request alone.
    pub fn send(address: SocketAddr, kind: Kind, method: &str, length: usize) -> TcpStream {
        let (name, method) = (kind.name(), format!("/fulmar.v1.{method}"));
        let head = format!(
            "POST {method} HTTP/1.1\r\nHost: x\r\nContent-Type: {name}\r\nAccept: {name}\r\nX-Grpc-Web: 1\r\nContent-Length: {length}\r\n\r\n"
        );
        Self::say(address, &head)
    }

    /// Says anything.
    pub fn say(address: SocketAddr, words: &str) -> TcpStream {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(words.as_bytes()).unwrap();
        socket
    }

    /// Reads an answer's head.
    pub fn answer(socket: TcpStream, kind: Kind) -> Self {
        let mut body = BufReader::new(socket);
        let mut line = || {
            let mut line = String::new();
            body.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        };
        let first = line();
        let status = first.split(' ').nth(1).unwrap_or_else(|| panic!("{first:?}")).parse().unwrap();
        let mut head = http::HeaderMap::new();
        loop {
            let line = line();
            let Some((name, value)) = line.split_once(": ") else { break };
            head.append(http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
        }
        Self { kind, status, head, body, chunk: 0, decoded: Vec::new() }
    }

    /// How the call ended, if its head says so: nothing was answered then.
    pub fn ended(&self) -> Option<Status> {
        Status::from_header_map(&self.head)
    }

    /// Of a method with one answer: that, or how it ended.
    pub fn one<M: Message + Default>(mut self) -> Result<M, Status> {
        if let Some(status) = self.ended() {
            return Err(status);
        }
        let message = match self.next() {
            Frame::Message(message) => M::decode(&message[..]).unwrap(),
            Frame::Trailers(status) => return Err(status),
        };
        let Frame::Trailers(status) = self.next() else { panic!("a second message") };
        assert_eq!(status.code(), tonic::Code::Ok, "{status:?}");
        Ok(message)
    }

    /// The next frame.
    pub fn next(&mut self) -> Frame {
        let header = self.take(5);
        let length = u32::from_be_bytes(header[1..].try_into().unwrap());
        let bytes = self.take(usize::try_from(length).unwrap());
        if header[0] != TRAILERS {
            return Frame::Message(bytes);
        }
        let mut trailers = http::HeaderMap::new();
        for line in String::from_utf8(bytes).unwrap().lines() {
            let (name, value) = line.split_once(':').unwrap();
            trailers.append(http::HeaderName::try_from(name).unwrap(), value.trim().parse().unwrap());
        }
        Frame::Trailers(Status::from_header_map(&trailers).unwrap())
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        while self.decoded.len() < count {
            match self.kind {
                Kind::Binary => {
                    let byte = self.byte();
                    self.decoded.push(byte);
                }
                // Four letters at a time: each part of the answer has an end of its own.
                Kind::Text => {
                    let letters: Vec<u8> = (0..4).map(|_| self.byte()).collect();
                    self.decoded.extend(STANDARD.decode(letters).unwrap());
                }
            }
        }
        self.decoded.drain(..count).collect()
    }

    /// The next byte of the body, which comes in chunks.
    fn byte(&mut self) -> u8 {
        while self.chunk == 0 {
            let mut line = String::new();
            assert!(self.body.read_line(&mut line).unwrap() > 0, "the connection ended");
            if !line.trim().is_empty() {
                self.chunk = usize::from_str_radix(line.trim(), 16).unwrap();
                assert!(self.chunk > 0, "the body ended without trailers");
            }
        }
        self.chunk -= 1;
        let mut byte = [0];
        self.body.read_exact(&mut byte).unwrap();
        byte[0]
    }
}
