//! Tables for people, JSON for programs.
//!
//! Owns which of the two it is, and what bytes look like in JSON. Never decides what a command shows.

use std::io::{self, IsTerminal, Write};

use clap::{Args, ValueEnum};
use comfy_table::{Table, presets};
use serde_json::{Map, Value, json};

/// How a command shows what it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For programs
    Json,
}

/// The flag.
#[derive(Debug, Args)]
pub(crate) struct Output {
    /// How to show it [default: table on a terminal, json in a pipe]
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

impl Output {
    fn is_json(&self) -> bool {
        match self.output {
            Some(format) => format == Format::Json,
            None => !io::stdout().is_terminal(),
        }
    }

    /// Writes one or the other to standard output.
    pub(crate) fn show(
        &self,
        table: impl FnOnce() -> String,
        json: impl FnOnce() -> Value,
    ) -> io::Result<()> {
        let text = if self.is_json() { format!("{:#}", json()) } else { table() };
        writeln!(io::stdout().lock(), "{text}")
    }
}

/// A table without lines, as kubectl prints them.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    table.to_string().lines().map(str::trim).collect::<Vec<_>>().join("\n")
}

/// `0,2,1`, or a dash.
pub(crate) fn list(numbers: &[u32]) -> String {
    if numbers.is_empty() {
        return "-".to_owned();
    }
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

/// The number, or a dash.
pub(crate) fn or_dash(number: Option<u32>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

/// Puts bytes under `name` as a text if they are UTF-8, else under `name_base64`.
pub(crate) fn put_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), json!(text)),
        Err(_) => object.insert(format!("{name}_base64"), json!(base64(bytes))),
    };
}

/// RFC 4648, with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group =
            chunk.iter().fold(0u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = ALPHABET[(group >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
