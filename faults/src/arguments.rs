//! What the command takes.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::blows::Kind;

/// Blows from a seed against real brokers with real files
#[derive(Debug, Clone, Parser)]
#[command(name = "cargo xtask faults", bin_name = "cargo xtask faults")]
pub(crate) struct Arguments {
    /// How long blows fall; what is under way then is brought to its end
    #[arg(long = "for", value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
    pub(crate) span: Duration,
    /// The seed of the schedule [default: a new one, which is printed]
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// At most so many blows
    #[arg(long, value_name = "N")]
    pub(crate) blows: Option<u32>,
    /// Only these kinds [default: all that this machine allows]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KIND")]
    pub(crate) kinds: Vec<Kind>,
    /// How many brokers, from 3 to 9
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(3..=9))]
    pub(crate) brokers: u16,
    /// Where data and logs go; emptied at the start, kept after a failure
    #[arg(long, value_name = "DIR", env = "FULMAR_FAULTS_DATA")]
    pub(crate) data: PathBuf,
    /// The program `fulmar`, of a build with debug assertions
    #[arg(long, value_name = "FILE", env = "FULMAR_FAULTS_PROGRAM", hide = true)]
    pub(crate) program: PathBuf,
    /// Write the report there, too
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
}
