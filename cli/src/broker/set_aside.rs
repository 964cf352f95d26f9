//! `fulmar broker set-aside`.

use std::io::{self, BufWriter};
use std::path::PathBuf;

use clap::Args;
use fulmar_broker::inspection;
use fulmar_broker::storage::inspect::SalvageError;

use crate::exit::Failed;

/// Print the records that a stopped broker's volume has set aside, without changing it
///
/// They are those that a person gave up while this volume was away, and that nobody else has: an object of JSON a line, like
/// those of `consume -o json`, with the topic's id instead of its name. To have them back, publish them again. What is
/// damaged is a line with `damaged_from`, and makes the command fail at its end. `broker inspect` lists the copies.
#[derive(Debug, Args)]
pub(crate) struct SetAside {
    /// The folder of the volume, as for `broker inspect`
    data: PathBuf,
}

impl SetAside {
    pub(crate) fn run(self) -> Result<(), Failed> {
        let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
        let (_, damaged) = match inspection::write_set_aside(&self.data, &mut out) {
            Err(SalvageError::Take(error)) => return Err(error.into()),
            written => written.map_err(|error| Failed::Failure(error.to_string()))?,
        };
        if damaged > 0 {
            let said = format!("{damaged} stretches cannot be read: the lines with damaged_from");
            return Err(Failed::Failure(said));
        }
        Ok(())
    }
}
