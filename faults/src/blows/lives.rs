//! A volume that was replaced comes back: the operator refuses it for ever, and its broker is not ready and says so.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::volumes::{replace, verdict};
use super::{Blow, Field};
use crate::cluster::volume;

/// A steward and a broker on a busy machine.
const SAID_WITHIN: Duration = Duration::from_mins(2);
const LOOK_EVERY: Duration = Duration::from_millis(100);
const HTTP: u16 = 50_053;

/// An empty volume, which the steward accepts; then the old one again; in the end an empty one.
pub(super) async fn come_back(field: &mut Field<'_>, blow: &Blow) -> Result<()> {
    let broker = &mut field.cluster.brokers[usize::from(blow.target)];
    let old = broker.data.with_extension("old");
    broker.process.kill().await?;
    volume::delete(&old)?;
    std::fs::rename(&broker.data, &old)?;
    broker.disk.forget()?;
    broker.start()?;
    verdict(&mut broker.process).await?;
    // Whom it attends it has accepted: the empty volume has taken the place.
    await_line(field, blow.target, "the operator attends").await?;
    sleep(blow.lasts / 4).await;
    let broker = &mut field.cluster.brokers[usize::from(blow.target)];
    broker.process.kill().await?;
    volume::delete(&broker.data)?;
    broker.disk.forget()?;
    std::fs::rename(&old, &broker.data)?;
    broker.start()?;
    await_line(field, blow.target, "the operator refuses this volume for ever").await?;
    await_refusal(field, blow.target).await?;
    sleep(blow.lasts / 4).await;
    field.cluster.brokers[usize::from(blow.target)].process.kill().await?;
    replace(field, blow.target)
}

/// `/readyz` says why it is not ready.
async fn await_refusal(field: &mut Field<'_>, target: u16) -> Result<()> {
    let deadline = Instant::now() + SAID_WITHIN;
    loop {
        let answer =
            timeout(SAID_WITHIN, readyz(field.cluster.brokers[usize::from(target)].place().address()));
        let answer = answer.await.unwrap_or_else(|_| Ok(String::new())).unwrap_or_default();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        if head.contains(" 503 ") && body.starts_with("refused: ") {
            *field.refusals.entry(format!("/readyz: {}", body.trim())).or_default() += 1;
            return Ok(());
        }
        if Instant::now() > deadline {
            field
                .book
                .violation(format!("broker {target}, refused for ever, answers /readyz with {answer:?}"));
            return Ok(());
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn readyz(address: std::net::Ipv4Addr) -> std::io::Result<String> {
    let mut socket = TcpStream::connect((address, HTTP)).await?;
    socket.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Waits for words of the broker's process that runs now.
async fn await_line(field: &mut Field<'_>, target: u16, words: &str) -> Result<()> {
    let deadline = Instant::now() + SAID_WITHIN;
    let process = &mut field.cluster.brokers[usize::from(target)].process;
    loop {
        if process.said().contains(words) {
            return Ok(());
        }
        if let Some(how) = process.ended() {
            bail!("broker {target} did not say {words:?}: it {how}");
        }
        if Instant::now() > deadline {
            bail!("broker {target} did not say {words:?} within {SAID_WITHIN:?}: {}", process.said());
        }
        sleep(LOOK_EVERY).await;
    }
}
