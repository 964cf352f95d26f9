//! Gossip's datagrams, sealed: version (1 byte), nonce (12), what AES-256-GCM made of the message, tag included.
//!
//! A datagram that does not open is dropped without a word: anybody can send one. A replayed one does no harm: chitchat's
//! state only takes newer versions. Never answers what it could not open.

use std::io;
use std::net::SocketAddr;

use anyhow::Context;
use async_trait::async_trait;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use chitchat::transport::{Socket, Transport};
use chitchat::{ChitchatMessage, Deserializable, Serializable};
use parking_lot::Mutex;
use rand::Rng;
use tokio::net::UdpSocket;
use tracing::debug;

use crate::tls::Tls;

/// In front of every datagram, and authenticated with it.
const VERSION: u8 = 1;
/// The largest payload of a UDP datagram over IPv4.
const DATAGRAM_BYTES_MAX: usize = 65_507;
const HEAD_BYTES: usize = 1 + NONCE_LEN;

/// UDP with every datagram sealed.
#[derive(Debug)]
pub(super) struct Sealed {
    tls: Tls,
    /// Bound before, so that its port is known before gossip starts; taken once.
    socket: Mutex<Option<UdpSocket>>,
}

impl Sealed {
    pub(super) fn new(tls: Tls, socket: UdpSocket) -> Self {
        Self { tls, socket: Mutex::new(Some(socket)) }
    }
}

struct SealedSocket {
    tls: Tls,
    socket: UdpSocket,
    buffer: Box<[u8]>,
}

#[async_trait]
impl Transport for Sealed {
    async fn open(&self, _listen: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let socket = self.socket.lock().take().context("gossip's socket is opened once")?;
        let buffer = vec![0; DATAGRAM_BYTES_MAX].into_boxed_slice();
        Ok(Box::new(SealedSocket { tls: self.tls.clone(), socket, buffer }))
    }
}

#[async_trait]
impl Socket for SealedSocket {
    async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
        let sealed = seal(&self.tls.gossip().current, &message.serialize_to_vec());
        // A datagram that is lost here is like one that is lost later: gossip repeats itself.
        if let Err(error) = self.socket.send_to(&sealed, to).await {
            debug!(%to, %error, "a gossip datagram was not sent");
        }
        Ok(())
    }

    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        loop {
            let (length, from) = match self.socket.recv_from(&mut self.buffer).await {
                Ok(received) => received,
                Err(error) if passes(&error) => continue,
                Err(error) => return Err(error).context("gossip's socket is broken"),
            };
            let keys = self.tls.gossip();
            let sealed = &self.buffer[..length];
            let opened = open(&keys.current, sealed)
                .or_else(|| keys.previous.as_ref().and_then(|previous| open(previous, sealed)));
            let message = opened.and_then(|bytes| ChitchatMessage::deserialize(&mut bytes.as_slice()).ok());
            if let Some(message) = message {
                return Ok((from, message));
            }
            debug!(%from, length, "a datagram that is no gossip of this Cluster");
        }
    }
}

/// What an earlier datagram met on its way, reported late.
fn passes(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::OutOfMemory
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
    )
}

fn key(bytes: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).expect("the key has 32 bytes"))
}

/// Random nonces: at 96 bits and some thousand datagrams a second, a repetition is not expected within centuries.
pub(super) fn seal(with: &[u8; 32], message: &[u8]) -> Vec<u8> {
    let mut nonce = [0; NONCE_LEN];
    rand::rng().fill_bytes(&mut nonce);
    let mut body = message.to_vec();
    key(with)
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from([VERSION]), &mut body)
        .expect("a message shorter than a datagram can be sealed");
    let mut datagram = Vec::with_capacity(HEAD_BYTES + body.len());
    datagram.push(VERSION);
    datagram.extend_from_slice(&nonce);
    datagram.extend_from_slice(&body);
    datagram
}

/// `None`: not sealed with this key, or changed on its way.
pub(super) fn open(with: &[u8; 32], datagram: &[u8]) -> Option<Vec<u8>> {
    let (head, body) = datagram.split_at_checked(HEAD_BYTES)?;
    if head[0] != VERSION {
        return None;
    }
    let nonce = Nonce::try_assume_unique_for_key(&head[1..]).ok()?;
    let mut body = body.to_vec();
    let length = key(with).open_in_place(nonce, Aad::from([VERSION]), &mut body).ok()?.len();
    body.truncate(length);
    Some(body)
}

#[cfg(test)]
#[path = "sealed_tests.rs"]
mod tests;
