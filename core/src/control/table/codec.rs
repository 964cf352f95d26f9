//! Words of a line, and what is said when they are wrong.

use std::fmt::Display;
use std::str::FromStr;

use thiserror::Error;

use crate::control::table::PAGE_BYTES_MAX;

/// The first line of every document; a later form of the lines gets another number.
pub(super) const FORMAT: &str = "format 1";

/// Why lines are not a page or a root.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidTable {
    /// Written by a later version, or not a table at all.
    #[error("line 1 of the partition table is {0:?}, not {FORMAT:?}: it was written by another version")]
    Format(String),
    /// Beyond the bound.
    #[error("{bytes} bytes of lines: a page of the partition table has at most {PAGE_BYTES_MAX}")]
    TooLarge {
        /// What was given.
        bytes: usize,
    },
    /// A line breaks its form.
    #[error("line {line} of the partition table: {text:?} is not {wanted}")]
    Line {
        /// Which line, from 1.
        line: usize,
        /// The line or the word of it, shortened.
        text: String,
        /// What may stand there.
        wanted: String,
    },
}

/// Shortened, so that an error message has a bound.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Checks the bound and the first line; the rest, each with its number.
pub(super) fn opened(lines: &[String]) -> Result<impl Iterator<Item = (usize, &str)>, InvalidTable> {
    let bytes = bytes_of(lines);
    if bytes > PAGE_BYTES_MAX {
        return Err(InvalidTable::TooLarge { bytes });
    }
    match lines.first().map(String::as_str) {
        Some(FORMAT) => {}
        other => return Err(InvalidTable::Format(shortened(other.unwrap_or_default()))),
    }
    Ok(lines.iter().enumerate().skip(1).map(|(at, line)| (at + 1, line.as_str())))
}

/// The size of lines, each with its end.
pub(super) fn bytes_of(lines: &[String]) -> usize {
    lines.iter().map(|line| line.len() + 1).sum()
}

/// One line that is read word by word.
pub(super) struct Words<'a> {
    line: usize,
    words: std::iter::Peekable<std::str::Split<'a, char>>,
}

impl<'a> Words<'a> {
    pub(super) fn new(line: usize, text: &'a str) -> Self {
        Self { line, words: text.split(' ').peekable() }
    }

    pub(super) fn wrong(&self, text: &str, wanted: impl Display) -> InvalidTable {
        InvalidTable::Line { line: self.line, text: shortened(text), wanted: wanted.to_string() }
    }

    /// The next word, if the line goes on.
    pub(super) fn word(&mut self) -> Option<&'a str> {
        self.words.next()
    }

    /// The next word as a value.
    pub(super) fn value<T: FromStr>(&mut self, wanted: &str) -> Result<T, InvalidTable> {
        let word = self.words.next().unwrap_or_default();
        word.parse().map_err(|_| self.wrong(word, wanted))
    }

    /// The value of `field=value`, which has to come next.
    pub(super) fn field(&mut self, field: &str) -> Result<&'a str, InvalidTable> {
        let word = self.words.next().unwrap_or_default();
        match word.split_once('=') {
            Some((name, value)) if name == field => Ok(value),
            _ => Err(self.wrong(word, format_args!("{field}=VALUE"))),
        }
    }

    /// [`field`](Self::field), if it comes next.
    pub(super) fn field_if(&mut self, field: &str) -> Option<&'a str> {
        let value = self.words.peek()?.strip_prefix(field)?.strip_prefix('=')?;
        self.words.next();
        Some(value)
    }

    /// The value of `field=value` as a type.
    pub(super) fn field_value<T: FromStr>(&mut self, field: &str, wanted: &str) -> Result<T, InvalidTable> {
        let value = self.field(field)?;
        value.parse().map_err(|_| self.wrong(value, format_args!("{wanted} for {field}")))
    }

    /// As [`field_value`](Self::field_value); `none` is nothing.
    pub(super) fn field_option<T: FromStr>(
        &mut self,
        field: &str,
        wanted: &str,
    ) -> Result<Option<T>, InvalidTable> {
        match self.field(field)? {
            "none" => Ok(None),
            value => match value.parse() {
                Ok(value) => Ok(Some(value)),
                Err(_) => Err(self.wrong(value, format_args!("{wanted} or none for {field}"))),
            },
        }
    }

    /// Nothing may follow.
    pub(super) fn end(mut self) -> Result<(), InvalidTable> {
        match self.words.next() {
            None => Ok(()),
            Some(word) => Err(self.wrong(word, "the end of the line")),
        }
    }
}

/// `none` or the value.
pub(super) fn option(value: Option<impl Display>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}
