//! `--against`: where a rival is, and what its user says of it.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use url::Url;

/// `JetStream` stores a stream on at most so many servers.
const REPLICAS_MAX: usize = 5;

/// Enough for a setting and its value; it stands in a column of the table.
const LABEL_CHARS_MAX: usize = 40;

/// Which rival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A stream of NATS `JetStream`, on files.
    JetStream {
        /// How many servers keep it.
        replicas: usize,
    },
    /// A stream of Redis.
    Redis,
}

/// Where a rival is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    kind: Kind,
    /// As its client wants it, with what proves who we are.
    url: Url,
    label: Option<String>,
}

/// Why it is none.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum AddressError {
    #[error(
        "it is no URL ({0}); allowed are nats://HOST:PORT[?replicas=N][#LABEL] and redis://HOST:PORT[/DATABASE][#LABEL]"
    )]
    Url(url::ParseError),
    #[error("the scheme {0:?} is not known; allowed are nats and redis")]
    Scheme(String),
    #[error("the host is missing")]
    Host,
    #[error("the parameter {0:?} is not known; allowed is replicas, with nats")]
    Parameter(String),
    #[error("replicas is {0:?}; allowed is 1 to {REPLICAS_MAX}")]
    Replicas(String),
    #[error("the path {0:?} means nothing; allowed is the number of a database, with redis")]
    Path(String),
    #[error("the label after # is {0:?}; allowed are 1 to {LABEL_CHARS_MAX} visible ASCII characters")]
    Label(String),
}

impl Address {
    /// Which rival.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// As its client wants it. Never shown: there may be a password in it.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// What the user says of its durability.
    pub(super) fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }
}

/// Without what proves who we are.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.url.scheme(), self.url.host_str().unwrap_or_default())?;
        if let Some(port) = self.url.port() {
            write!(f, ":{port}")?;
        }
        match self.kind {
            Kind::JetStream { replicas } if replicas != 1 => write!(f, "?replicas={replicas}"),
            Kind::JetStream { .. } | Kind::Redis => Ok(()),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let mut url = Url::parse(text).map_err(AddressError::Url)?;
        let kind = match url.scheme() {
            "nats" => Kind::JetStream { replicas: replicas(&url)? },
            "redis" => Kind::Redis,
            other => return Err(AddressError::Scheme(other.to_owned())),
        };
        if url.host_str().is_none_or(str::is_empty) {
            return Err(AddressError::Host);
        }
        check_path(kind, &url)?;
        if kind == Kind::Redis
            && let Some((name, _)) = url.query_pairs().next()
        {
            return Err(AddressError::Parameter(name.into_owned()));
        }
        let label = label(&url)?;
        url.set_fragment(None);
        url.set_query(None);
        Ok(Self { kind, url, label })
    }
}

fn replicas(url: &Url) -> Result<usize, AddressError> {
    let mut replicas = 1;
    for (name, value) in url.query_pairs() {
        if name != "replicas" {
            return Err(AddressError::Parameter(name.into_owned()));
        }
        replicas = match value.parse() {
            Ok(number @ 1..=REPLICAS_MAX) => number,
            Ok(_) | Err(_) => return Err(AddressError::Replicas(value.into_owned())),
        };
    }
    Ok(replicas)
}

fn check_path(kind: Kind, url: &Url) -> Result<(), AddressError> {
    let path = url.path().trim_start_matches('/');
    let is_database = kind == Kind::Redis && path.parse::<u16>().is_ok();
    if path.is_empty() || is_database { Ok(()) } else { Err(AddressError::Path(url.path().to_owned())) }
}

fn label(url: &Url) -> Result<Option<String>, AddressError> {
    let Some(label) = url.fragment() else { return Ok(None) };
    let is_short = (1..=LABEL_CHARS_MAX).contains(&label.len());
    if is_short && label.chars().all(|char| char.is_ascii_graphic()) {
        Ok(Some(label.to_owned()))
    } else {
        Err(AddressError::Label(label.to_owned()))
    }
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
