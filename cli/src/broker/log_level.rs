//! `fulmar broker log-level`: of one process on this machine, or at the end of a `kubectl port-forward`.

use std::io::Write as _;
use std::net::SocketAddr;

use clap::Args;
use fulmar_logging::{Ask, AskError};

use crate::exit::Failed;

/// Show or change what a broker on this machine logs, for a time
///
/// Without FILTER it shows what is logged. A change ends by itself, and with the process.
#[derive(Debug, Args)]
pub(crate) struct LogLevel {
    #[command(flatten)]
    ask: Ask,
    /// Where it answers HTTP; on this machine, others are refused
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    http_address: SocketAddr,
}

impl LogLevel {
    pub(crate) fn run(self) -> Result<(), Failed> {
        let told = self.ask.run(self.http_address).map_err(|error| match error {
            AskError::Silent(..) => Failed::Unavailable(error.to_string()),
            AskError::Refused(_) => Failed::Failure(error.to_string()),
        })?;
        Ok(write!(std::io::stdout().lock(), "{told}")?)
    }
}
