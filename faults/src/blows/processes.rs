//! Blows against processes.

use anyhow::Result;
use rustix::process::Signal;
use tokio::time::sleep;

use super::{Blow, Field, Kind};

/// Which brokers a blow concerns.
fn concerned(field: &Field<'_>, blow: &Blow) -> Vec<usize> {
    match blow.kind {
        Kind::KillAll | Kind::TerminateAll => (0..field.cluster.brokers.len()).collect(),
        Kind::KillTwo | Kind::PauseTwo => vec![usize::from(blow.target), usize::from(blow.other)],
        _ => vec![usize::from(blow.target)],
    }
}

/// Kill -9; they are away as long as the blow lasts.
pub(super) async fn kill(field: &mut Field<'_>, blow: &Blow) -> Result<()> {
    for index in concerned(field, blow) {
        field.cluster.brokers[index].process.signal(Signal::KILL);
    }
    for index in concerned(field, blow) {
        field.cluster.brokers[index].process.kill().await?;
    }
    sleep(blow.lasts).await;
    Ok(())
}

/// SIGSTOP, and SIGCONT.
pub(super) async fn pause(field: &mut Field<'_>, blow: &Blow) -> Result<()> {
    let concerned = concerned(field, blow);
    for index in &concerned {
        field.cluster.brokers[*index].process.signal(Signal::STOP);
    }
    sleep(blow.lasts).await;
    for index in &concerned {
        field.cluster.brokers[*index].process.signal(Signal::CONT);
    }
    Ok(())
}

/// SIGTERM; what does not stop in its grace is a violation.
pub(super) async fn terminate(field: &mut Field<'_>, blow: &Blow) -> Result<()> {
    let concerned = concerned(field, blow);
    for index in &concerned {
        field.cluster.brokers[*index].process.signal(Signal::TERM);
    }
    for index in &concerned {
        let how = field.cluster.brokers[*index].terminate().await?;
        if how != "ended in order" {
            field.book.violation(format!("broker {index}, told to stop, {how}"));
        }
    }
    sleep(blow.lasts / 4).await;
    Ok(())
}

/// Kill -9 of the steward, which is away as long as the blow lasts.
pub(super) async fn kill_steward(field: &mut Field<'_>, blow: &Blow) -> Result<()> {
    field.cluster.steward.process.kill().await?;
    sleep(blow.lasts).await;
    Ok(())
}

/// The steward sleeps, and goes on as if nothing had been.
pub(super) async fn pause_steward(field: &mut Field<'_>, blow: &Blow) -> Result<()> {
    field.cluster.steward.process.signal(Signal::STOP);
    sleep(blow.lasts).await;
    field.cluster.steward.process.signal(Signal::CONT);
    Ok(())
}

/// A broker dies and comes back while nobody decides anything.
pub(super) async fn kill_steward_and_broker(field: &mut Field<'_>, blow: &Blow) -> Result<()> {
    field.cluster.steward.process.kill().await?;
    kill(field, blow).await?;
    let broker = &mut field.cluster.brokers[usize::from(blow.target)];
    broker.start()?;
    sleep(blow.lasts).await;
    Ok(())
}
