//! The one writer of a connection.
//!
//! Owns the order of answers on the wire, and when their memory is given back. Never waits for a program that does not read
//! longer than the broker is told to.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncWriteExt, BufWriter};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::super::outflow::{Load, Progress};

/// Small answers that wait are written together.
const BUFFER_BYTES: usize = 16 * 1024;
/// Of a large one so much is written at a time, and counts as a step.
const STEP_BYTES: usize = 64 * 1024;

/// Bytes for the socket.
#[derive(Debug)]
pub(super) struct Piece {
    bytes: Bytes,
    /// Memory that they hold until they are written.
    loads: Vec<Load>,
    progress: Option<Arc<Progress>>,
}

impl Piece {
    /// A small one, which nobody counts.
    pub(super) fn of(bytes: Bytes) -> Self {
        Self { bytes, loads: Vec::new(), progress: None }
    }

    /// One of a stream of answers.
    pub(super) fn counted(bytes: Bytes, loads: Vec<Load>, progress: Arc<Progress>) -> Self {
        Self { bytes, loads, progress: Some(progress) }
    }
}

/// Until nobody has anything to say any more, or the program is gone, or reads nothing for `stall_max`.
pub(super) async fn write(
    socket: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Piece>,
    stall_max: Duration,
) -> io::Result<()> {
    let mut socket = BufWriter::with_capacity(BUFFER_BYTES, socket);
    while let Some(Piece { mut bytes, loads, progress }) = queue.recv().await {
        while !bytes.is_empty() {
            let step = &bytes[..bytes.len().min(STEP_BYTES)];
            let written = timeout(stall_max, socket.write(step)).await??;
            bytes.advance(written);
            if let Some(progress) = &progress {
                progress.step();
            }
        }
        if queue.is_empty() {
            timeout(stall_max, socket.flush()).await??;
        }
        drop(loads);
    }
    timeout(stall_max, socket.shutdown()).await?
}
