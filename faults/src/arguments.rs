//! What the command takes.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::blows::Kind;

/// Where nothing is said: each kind comes once at least.
const SPAN: Duration = Duration::from_mins(5);

/// Blows from a seed against real brokers with real files
#[derive(Debug, Clone, Parser)]
#[command(name = "cargo xtask faults", bin_name = "cargo xtask faults")]
pub(crate) struct Arguments {
    /// How long blows fall; what is under way then is brought to its end [default: 5m, or without an end if --blows is given]
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) span: Option<Duration>,
    /// The seed of the schedule [default: a new one, which is printed]
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// It ends after so many blows
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

impl Arguments {
    /// How long blows fall; `None`: until there were enough of them.
    pub(crate) fn span(&self) -> Option<Duration> {
        self.span.or(self.blows.is_none().then_some(SPAN))
    }
}
