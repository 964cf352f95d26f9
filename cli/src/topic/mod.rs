//! `fulmar topic …`: looks at topics. Creating and deleting is the business of their resources.

mod describe;
mod list;

use clap::Subcommand;

use crate::exit::Failed;
use crate::server::Server;
pub(crate) use list::as_table;

/// See the module.
#[derive(Debug, Subcommand)]
pub(crate) enum Topic {
    List(list::List),
    Describe(describe::Describe),
}

impl Topic {
    pub(crate) async fn run(self, server: Server) -> Result<(), Failed> {
        match self {
            Self::List(list) => list.run(server).await,
            Self::Describe(describe) => describe.run(server).await,
        }
    }
}
