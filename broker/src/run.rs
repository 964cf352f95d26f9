//! A broker's whole life: start, serve, and an end of one of four kinds.

use fulmar_core::broker::Conclusion;
use thiserror::Error;
use tracing::error;

use crate::config::Config;
use crate::replica::peers::Verdict;
use crate::{startup, stop};

/// Why a broker ended, other than by being told to.
#[derive(Debug, Error)]
pub enum RunError {
    /// It did not start.
    #[error("{0:#}")]
    Start(anyhow::Error),
    /// The volume failed. The process must end at once, without another sync.
    #[error("the volume failed: {0}")]
    Storage(String),
    /// Another process runs on this volume.
    #[error("another process runs on this volume: this one ends and leaves it alone")]
    SecondProcess,
    /// The volume was restored from a copy; it is marked, and the next start is a new incarnation.
    #[error("this volume was restored from a copy: it is marked, the next start begins a new life with it")]
    Restored,
    /// The stop did not close the volume.
    #[error("the volume was not closed: {0}; the next start repairs it")]
    Close(String),
}

/// Runs a broker until `shutdown` completes, then stops it in order.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
    let mut shutdown = std::pin::pin!(shutdown);
    let mut broker = tokio::select! {
        started = startup::start(&config) => started.map_err(RunError::Start)?,
        // A volume that is being opened needs no goodbye.
        () = &mut shutdown => return Ok(()),
    };
    let ended = tokio::select! {
        () = &mut shutdown => return stop::stop(broker, config.shutdown_grace).await.map_err(RunError::Close),
        ended = &mut broker.actor => Err(RunError::Storage(match ended {
            Ok(Ok(())) => "its task ended".to_owned(),
            Ok(Err(reason)) => reason,
            Err(panic) => panic.to_string(),
        })),
        verdict = broker.verdicts.recv() => match verdict {
            Some(Verdict(Conclusion::SecondProcess)) => Err(RunError::SecondProcess),
            Some(Verdict(Conclusion::Restored)) => {
                let storage = broker.replicas.storage().clone();
                let marked = tokio::task::spawn_blocking(move || storage.mark_restored()).await;
                match marked {
                    Ok(Ok(())) => Err(RunError::Restored),
                    Ok(Err(error)) => Err(RunError::Storage(error.to_string())),
                    Err(error) => Err(RunError::Storage(error.to_string())),
                }
            }
            None => Err(RunError::Storage("its tasks ended".to_owned())),
        },
    };
    if let Err(error) = &ended {
        error!(%error, "the broker ends");
    }
    ended
}
