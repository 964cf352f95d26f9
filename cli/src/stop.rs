//! Being asked to stop, where the process must not end at once: a kubectl that it started would go on without it.
//!
//! Owns which signals ask for it. A terminal that goes away tells kubectl itself.

use std::future::Future;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Failed;

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

/// A command that is dropped where it is asked to stop, and what it holds with it.
pub(crate) async fn unless_stopped(command: impl Future<Output = Result<(), Failed>>) -> Result<(), Failed> {
    let mut stop = Stop::listen()?;
    tokio::select! {
        biased;
        outcome = command => outcome,
        _ = stop.asked(true) => Err(interrupted()),
    }
}
