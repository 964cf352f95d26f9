//! What a broker is told when it starts: flags, each with an environment variable, checked before anything is opened.
//!
//! Owns names, defaults and verdicts. Never reads a file.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use fulmar_core::id::Ordinal;
use fulmar_logging::{Filter, Lines};

use crate::serve::cors::Origins;
use crate::traces::Collector;

/// Less than this holds neither the storage's smallest buffers nor two of the largest batches.
pub const MEMORY_LIMIT_MIN: u64 = 128 * 1024 * 1024;

/// The flags of a broker.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// This broker's name; the number at its end is its place in the Cluster (orders-2)
    #[arg(long, env = "FULMAR_NAME", value_parser = name)]
    pub name: Name,
    /// The folder that keeps the data; made if it is not there
    #[arg(long, env = "FULMAR_DATA")]
    pub data: PathBuf,
    /// The folder with ca.crt, tls.crt, tls.key and gossip.key; read again when they change
    #[arg(long, env = "FULMAR_TLS")]
    pub tls: PathBuf,
    /// Where programs speak gRPC
    #[arg(long, env = "FULMAR_GRPC_ADDRESS", default_value = "0.0.0.0:50051")]
    pub grpc_address: SocketAddr,
    /// Where programs, probes and metrics speak HTTP
    #[arg(long, env = "FULMAR_HTTP_ADDRESS", default_value = "0.0.0.0:8080")]
    pub http_address: SocketAddr,
    /// Where programs speak the small TCP protocol
    #[arg(long, env = "FULMAR_TCP_ADDRESS", default_value = "0.0.0.0:9001")]
    pub tcp_address: SocketAddr,
    /// Where brokers and the operator speak, under mutual TLS
    #[arg(long, env = "FULMAR_INTERNAL_ADDRESS", default_value = "0.0.0.0:50052")]
    pub internal_address: SocketAddr,
    /// Where brokers gossip, over UDP, sealed
    #[arg(long, env = "FULMAR_GOSSIP_ADDRESS", default_value = "0.0.0.0:7946")]
    pub gossip_address: SocketAddr,
    /// The IP address that others reach this broker at [default: the first that is not loopback]
    #[arg(long, env = "FULMAR_ADVERTISE_HOST")]
    pub advertise_host: Option<IpAddr>,
    /// Where to look for other brokers: host and port of their gossip, resolved again and again
    #[arg(long, env = "FULMAR_SEEDS", value_delimiter = ',', value_parser = seed)]
    pub seeds: Vec<Seed>,
    /// How much memory the broker may use: all its buffers are sized from it
    #[arg(long, env = "FULMAR_MEMORY_LIMIT", default_value = "512Mi", value_parser = memory_limit)]
    pub memory_limit: u64,
    /// The size of one slot of the journal of a new volume; there are three
    #[arg(long, env = "FULMAR_JOURNAL_SLOT_SIZE", default_value = "64Mi", value_parser = slot_size)]
    pub journal_slot_size: u64,
    /// How long a stop may take: others are waited for so long at most
    #[arg(long, env = "FULMAR_SHUTDOWN_GRACE", default_value = "120s", value_parser = duration)]
    pub shutdown_grace: Duration,
    /// How many bytes a second are read to find damaged batches before somebody needs them; 0: none
    #[arg(long, env = "FULMAR_SCRUB_RATE", default_value = "8Mi", value_parser = bytes)]
    pub scrub_rate: u64,
    /// A program that leaves an answer unread for so long loses its connection: the answer's memory is needed
    #[arg(long, env = "FULMAR_READER_STALL_MAX", default_value = "60s", value_parser = duration)]
    pub reader_stall_max: Duration,
    /// Whose pages browsers let use HTTP and gRPC-web: origins such as `https://shop.example`, separated by commas, or * for all
    /// [default: none]
    #[arg(long, env = "FULMAR_CORS_ALLOW_ORIGINS", value_name = "ORIGINS")]
    pub cors_allow_origins: Option<Origins>,
    /// Where spans of sampled records go: an OpenTelemetry collector that takes OTLP by gRPC, such as
    /// `http://otel-collector:4317`
    /// [default: none, and no record is looked at]
    #[arg(long, env = "FULMAR_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<Collector>,
    /// How log lines look
    #[arg(long, env = "FULMAR_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or filters such as `info,fulmar_broker=debug`
    #[arg(long, env = "FULMAR_LOG_LEVEL", default_value = "info")]
    pub log_level: Filter,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

impl From<LogFormat> for Lines {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Text => Self::Text,
            LogFormat::Json => Self::Json,
        }
    }
}

/// A broker's name and the ordinal at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The whole name.
    pub text: String,
    /// Its number.
    pub ordinal: Ordinal,
}

/// Where to look for other brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seed {
    /// An address.
    Address(SocketAddr),
    /// A name to be resolved, and a port.
    Host {
        /// With or without a dot at its end.
        host: String,
        /// Of its gossip.
        port: u16,
    },
}

/// `orders-2` is broker 2.
pub fn name(text: &str) -> Result<Name, String> {
    let number = text.rsplit_once('-').map(|(stem, number)| (stem, number.parse::<u16>()));
    match number {
        Some((stem, Ok(ordinal))) if !stem.is_empty() => {
            Ok(Name { text: text.to_owned(), ordinal: Ordinal(ordinal) })
        }
        _ => Err("a broker's name ends with a dash and its number, 0 to 65535, such as orders-2".to_owned()),
    }
}

/// `HOST:PORT`, `IPv4:PORT` or `[IPv6]:PORT`.
pub fn seed(text: &str) -> Result<Seed, String> {
    if let Ok(address) = text.parse() {
        return Ok(Seed::Address(address));
    }
    let parts = text.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
    match parts {
        Some((host, Ok(port))) if !host.is_empty() && !host.contains([':', '/', ' ']) && port > 0 => {
            Ok(Seed::Host { host: host.to_owned(), port })
        }
        _ => Err("a seed is HOST:PORT, such as orders-brokers:7946".to_owned()),
    }
}

fn memory_limit(text: &str) -> Result<u64, String> {
    match bytes(text)? {
        limit if limit < MEMORY_LIMIT_MIN => {
            Err(format!("at least {} Mi are needed: the smallest buffers take that", MEMORY_LIMIT_MIN >> 20))
        }
        limit => Ok(limit),
    }
}

fn slot_size(text: &str) -> Result<u64, String> {
    let size = bytes(text)?;
    let least = crate::storage::SLOT_BYTES_MIN;
    if size < least || size > 1 << 30 || !size.is_multiple_of(4096) {
        return Err(format!("a slot has {} Mi to 1 Gi, a multiple of 4 Ki", least >> 20));
    }
    Ok(size)
}

/// A number of bytes: `1048576`, `1024Ki`, `1Mi`, `1Gi`.
pub fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match &text[digits.len()..] {
        "" => Some(0),
        "Ki" => Some(10),
        "Mi" => Some(20),
        "Gi" => Some(30),
        _ => None,
    };
    let number = digits.parse::<u64>().ok();
    shift
        .zip(number)
        .and_then(|(shift, number)| number.checked_mul(1 << shift))
        .ok_or_else(|| "a number of bytes, or of Ki, Mi or Gi, such as 512Mi".to_owned())
}

/// A duration: `1500ms`, `120s`, `2m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match &text[digits.len()..] {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        _ => None,
    };
    let number = digits.parse::<u64>().ok();
    unit.zip(number)
        .and_then(|(unit, number)| number.checked_mul(unit))
        .filter(|milliseconds| *milliseconds <= 3_600_000)
        .map(Duration::from_millis)
        .ok_or_else(|| "a time of at most 60m, such as 1500ms, 120s or 2m".to_owned())
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
