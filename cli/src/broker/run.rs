//! `fulmar broker run`: the broker that `fulmar dev` starts, in a process of its own. Hidden: in Kubernetes it is
//! `fulmar-broker`.

use std::io::Read;

use clap::Args;
use fulmar_broker::Config;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::exit::Failed;

/// Run a broker
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Stop, as by SIGTERM, when standard input ends: with the process that started this one, whatever killed it
    #[arg(long)]
    stop_with_stdin: bool,
    #[command(flatten)]
    config: Config,
}

impl Run {
    pub(crate) async fn run(self) -> Result<(), Failed> {
        fulmar_logging::install(self.config.log_format.into(), self.config.log_level.clone(), &[]);
        let mut terminate = signal(SignalKind::terminate())?;
        let stdin = self.stop_with_stdin.then(stdin_ended);
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
                () = ended(stdin) => {}
            }
        };
        fulmar_broker::run(self.config, shutdown).await.map_err(|error| Failed::Failure(error.to_string()))
    }
}

/// Completes at the end of standard input; its thread ends with the process.
fn stdin_ended() -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        let mut sink = [0; 64];
        while std::io::stdin().lock().read(&mut sink).is_ok_and(|read| read > 0) {}
        let _ = sender.send(());
    });
    receiver
}

async fn ended(stdin: Option<oneshot::Receiver<()>>) {
    match stdin {
        Some(stdin) => drop(stdin.await),
        None => std::future::pending().await,
    }
}
