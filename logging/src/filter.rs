//! A filter: which lines are written.
//!
//! Owns what is a filter and what is wrong with one. tracing-subscriber takes a word that is no level (`debgu`) for the name of a
//! target, and then hardly anything is logged at all: here it is refused.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{Directive, LevelFilter};

/// Some twenty directives: more than a person types, and little enough to stand in a log line.
pub const FILTER_BYTES_MAX: usize = 1024;

/// A level (`info`), or several directives separated by commas (`info,fulmar_broker=debug`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    text: String,
}

/// Why a text is no filter.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FilterError {
    /// There is nothing in it.
    #[error(
        "the filter is empty; it is a level such as debug, or directives such as info,fulmar_broker=debug"
    )]
    Empty,
    /// It is longer than [`FILTER_BYTES_MAX`].
    #[error("the filter has {0} bytes, and {FILTER_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// One of its directives is none.
    #[error(
        "directive {number}, {directive:?}, is neither a level (off, error, warn, info, debug, trace) nor TARGET=LEVEL such as \
         fulmar_broker=debug"
    )]
    Directive {
        /// Counted from 1.
        number: usize,
        /// As it was given.
        directive: String,
    },
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(FilterError::Empty);
        }
        if text.len() > FILTER_BYTES_MAX {
            return Err(FilterError::TooLong(text.len()));
        }
        for (place, directive) in text.split(',').enumerate() {
            if !is_directive(directive.trim()) {
                return Err(FilterError::Directive { number: place + 1, directive: directive.to_owned() });
            }
        }
        Ok(Self { text: text.split(',').map(str::trim).collect::<Vec<_>>().join(",") })
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Filter {
    /// What tracing-subscriber makes of it, with further directives, which go first.
    pub(crate) fn build(&self, always: &[&str]) -> EnvFilter {
        let all = std::iter::once(self.text.as_str()).chain(always.iter().copied());
        let all = all.collect::<Vec<_>>().join(",");
        // Without regular expressions: a value is compared as it is written, whoever wrote it.
        EnvFilter::builder().with_regex(false).parse_lossy(all)
    }
}

fn is_directive(text: &str) -> bool {
    if text.parse::<LevelFilter>().is_ok() && !text.is_empty() {
        return true;
    }
    // Otherwise it says what it is about, and, if not of one span alone, at which level.
    let says_level = text.contains('=') || text.contains('[');
    says_level && !text.starts_with('=') && text.parse::<Directive>().is_ok()
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
