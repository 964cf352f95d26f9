//! `fulmar man`: pages for `man`, made from what `--help` says.

use std::fs;
use std::path::PathBuf;

use clap::Args;

use crate::arguments::tree_without_help;
use crate::exit::Failed;

/// Write manual pages, one for each command
///
/// For example: fulmar man ~/.local/share/man/man1; then man fulmar-publish
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// The folder, which is made if need be; pages of the same names are replaced
    folder: PathBuf,
}

impl Man {
    pub(crate) fn run(&self) -> Result<(), Failed> {
        let cannot = |error| {
            Failed::Failure(format!("cannot write manual pages into {}: {error}", self.folder.display()))
        };
        fs::create_dir_all(&self.folder).map_err(cannot)?;
        clap_mangen::generate_to(tree_without_help(), &self.folder).map_err(cannot)
    }
}
