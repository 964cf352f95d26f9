//! `fulmar broker run`: the broker that `fulmar dev` starts, in a process of its own. Hidden: in Kubernetes it is
//! `fulmar-broker`.

use clap::Args;
use fulmar_broker::Config;

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
        let shutdown = fulmar_broker::shutdown(self.stop_with_stdin)?;
        fulmar_broker::run(self.config, shutdown).await.map_err(|error| Failed::Failure(error.to_string()))
    }
}
