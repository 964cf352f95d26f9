//! Being asked to stop, where the process must not end at once: a kubectl that it started would go on without it.
//!
//! Owns which signals ask for it. A terminal that goes away tells kubectl itself.

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Failed;

/// What is dropped takes no time, but for one that cannot be.
const GRACE: Duration = Duration::from_secs(2);

/// Listens from when it is made.
pub(crate) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

/// How it was asked.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asked {
    Interrupt,
    Terminate,
}

impl Stop {
    pub(crate) fn listen() -> Result<Self, Failed> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// SIGTERM; SIGINT only if `by_interrupt`.
    pub(crate) async fn asked(&mut self, by_interrupt: bool) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv(), if by_interrupt => Asked::Interrupt,
            _ = self.terminate.recv() => Asked::Terminate,
        }
    }
}

pub(crate) fn interrupted() -> Failed {
    Failed::Failure("interrupted".to_owned())
}

/// A command that is dropped where it is asked to stop, and what it holds with it. One that does not let itself be dropped, because who
/// reads its output does not, ends the process a moment later.
pub(crate) async fn unless_stopped(command: impl Future<Output = Result<(), Failed>>) -> Result<(), Failed> {
    let (mut stop, mut watched) = (Stop::listen()?, Stop::listen()?);
    let last = tokio::spawn(async move {
        watched.asked(true).await;
        tokio::time::sleep(GRACE).await;
        std::process::exit(interrupted().code().into());
    });
    let outcome = tokio::select! {
        // A terminal tells kubectl, too: what comes of that is no outcome.
        biased;
        _ = stop.asked(true) => Err(interrupted()),
        outcome = command => outcome,
    };
    last.abort();
    outcome
}
