//! Tables for people, JSON for programs.
//!
//! Owns which of the two it is. Never decides what a command shows.

use std::io::{self, IsTerminal, Write};

use clap::{Args, ValueEnum};
use comfy_table::{Table, presets};
pub(crate) use fulmar_broker::inspection::put_bytes;
use serde_json::Value;

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
    /// Whether it is JSON that is shown.
    pub(crate) fn is_json(&self) -> bool {
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

/// The text, or a dash.
pub(crate) fn text_or_dash(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

/// The number, or a dash.
pub(crate) fn or_dash(number: Option<u32>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
