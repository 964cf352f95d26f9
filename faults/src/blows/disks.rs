//! Blows against disks: what was not synced is lost, syncs are slow, hang or fail.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use super::{Blow, Field, Kind};

/// A slow disk of a cloud.
const SLOW: Duration = Duration::from_millis(2);
/// A sync that failed is the end of the process, at once; writes come several times a second.
const ENDS_WITHIN: Duration = Duration::from_mins(2);

fn concerned(field: &Field<'_>, blow: &Blow) -> Vec<usize> {
    match blow.kind {
        Kind::PowerCutAll | Kind::SlowDisks => (0..field.cluster.brokers.len()).collect(),
        Kind::PowerCutTwo => vec![usize::from(blow.target), usize::from(blow.other)],
        _ => vec![usize::from(blow.target)],
    }
}

/// Kill -9, and of what was not synced all is lost, or any part.
pub(super) async fn cut_power(field: &mut Field<'_>, blow: &Blow) -> Result<()> {
    let concerned = concerned(field, blow);
    for index in &concerned {
        field.cluster.brokers[*index].process.signal(rustix::process::Signal::KILL);
    }
    for index in &concerned {
        let broker = &mut field.cluster.brokers[*index];
        broker.process.kill().await?;
        broker.disk.lose_unsynced(blow.seed.wrapping_add(*index as u64))?;
    }
    sleep(blow.lasts / 4).await;
    Ok(())
}

/// Syncs take 2 ms more, or all the time there is.
pub(super) async fn slow(field: &mut Field<'_>, blow: &Blow) -> Result<()> {
    let concerned = concerned(field, blow);
    for index in &concerned {
        let disk = &field.cluster.brokers[*index].disk;
        if blow.kind == Kind::HangDisk { disk.hang()? } else { disk.slow(SLOW)? }
    }
    sleep(blow.lasts).await;
    for index in &concerned {
        field.cluster.brokers[*index].disk.behave()?;
    }
    Ok(())
}

/// A sync fails. The process must end, and what it had not synced is gone: the page cache calls failed pages clean.
pub(super) async fn fail(field: &mut Field<'_>, blow: &Blow) -> Result<()> {
    let broker = &mut field.cluster.brokers[usize::from(blow.target)];
    broker.disk.fail()?;
    match broker.process.wait(ENDS_WITHIN).await? {
        None => {
            field.book.violation(format!("broker {} goes on though its disk does not sync", blow.target));
            broker.process.kill().await?;
        }
        Some(how) if how.contains("sync") => {}
        Some(how) => field.book.violation(format!("broker {}, whose disk fails, {how}", blow.target)),
    }
    broker.disk.behave()?;
    broker.disk.lose_unsynced(blow.seed)
}
