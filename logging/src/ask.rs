//! `… log-level`: the command that asks a process on this machine, or in this pod.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use clap::Args;
use thiserror::Error;

use crate::filter::Filter;
use crate::loopback;
use crate::route::PATH;

/// The process is on this machine and answers from memory.
const PATIENCE: Duration = Duration::from_secs(10);
/// A line of words.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

/// Show or change what a running process logs, for a time
///
/// Without FILTER it shows what is logged. A change ends by itself, and with the process.
#[derive(Debug, Clone, Args)]
pub struct Ask {
    /// off, error, warn, info, debug, trace, or filters such as `info,fulmar_broker=debug`
    pub filter: Option<Filter>,
    /// How long, 1s to 1h; then it is as configured again
    #[arg(long = "for", value_name = "DURATION", default_value = "10m", requires = "filter", value_parser = humantime::parse_duration)]
    pub lasting: Duration,
    /// As configured, at once
    #[arg(long, conflicts_with = "filter")]
    pub reset: bool,
}

/// Why there was no answer, or which one.
#[derive(Debug, Error)]
pub enum AskError {
    /// Nobody answered.
    #[error("nothing answers HTTP at {0}: {1}")]
    Silent(SocketAddr, io::Error),
    /// It was refused.
    #[error("{}", .0.trim_end())]
    Refused(String),
}

impl Ask {
    /// Asks whoever listens at `address`, an unspecified one standing for loopback; gives what is logged then, in words.
    pub fn run(&self, address: SocketAddr) -> Result<String, AskError> {
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let address = SocketAddr::new(ip, address.port());
        let target = format!("{PATH}?for={}ms", self.lasting.as_millis());
        let (request, body) = match &self.filter {
            Some(filter) => (("PUT", target.as_str()), filter.to_string()),
            None if self.reset => (("DELETE", PATH), String::new()),
            None => (("GET", PATH), String::new()),
        };
        let answer = loopback::exchange(address, request, &body, ANSWER_BYTES_MAX, PATIENCE);
        let answer = answer.map_err(|error| AskError::Silent(address, error))?;
        match answer.status {
            200 => Ok(answer.body),
            _ => Err(AskError::Refused(answer.body)),
        }
    }

    /// The same, as arguments of a command.
    pub fn arguments(&self) -> Vec<String> {
        match &self.filter {
            Some(filter) => {
                let lasting = format!("{}ms", self.lasting.as_millis());
                vec![filter.to_string(), "--for".to_owned(), lasting]
            }
            None if self.reset => vec!["--reset".to_owned()],
            None => Vec::new(),
        }
    }
}
