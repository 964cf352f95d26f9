//! `fulmar broker …`: a broker and its volume, without a cluster.

mod inspect;
mod log_level;
mod run;
mod set_aside;

use clap::Subcommand;

use crate::exit::Failed;

/// See the module.
#[derive(Debug, Subcommand)]
pub(crate) enum Broker {
    Inspect(inspect::Inspect),
    SetAside(set_aside::SetAside),
    LogLevel(log_level::LogLevel),
    #[command(hide = true)]
    Run(Box<run::Run>),
}

impl Broker {
    pub(crate) async fn run(self) -> Result<(), Failed> {
        match self {
            Self::Inspect(inspect) => inspect.run(),
            Self::SetAside(set_aside) => set_aside.run(),
            Self::LogLevel(level) => level.run(),
            Self::Run(run) => run.run().await,
        }
    }
}
