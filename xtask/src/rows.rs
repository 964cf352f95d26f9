//! Figures beside what is wished of them, as a table.

use std::fmt::Write as _;
use std::time::Duration;

use crate::wish::Wish;

/// One figure.
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) figure: f64,
    unit: &'static str,
    wish: Option<Wish>,
}

/// A figure, and the most that it should be.
pub(crate) fn row(what: &str, figure: f64, unit: &'static str, at_most: Option<f64>) -> Row {
    Row { what: what.to_owned(), figure, unit, wish: at_most.map(Wish::AtMost) }
}

pub(crate) fn mebibytes(bytes: u64) -> f64 {
    float(bytes) / f64::from(1 << 20)
}

#[expect(clippy::cast_precision_loss, reason = "bytes of petabytes change no figure")]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// In Markdown.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = "| what | figure | goal |\n| --- | --- | --- |\n".to_owned();
    for Row { what, figure, unit, wish } in rows {
        let goal = wish.as_ref().map_or_else(String::new, |wish| {
            let met = if wish.is_met(*figure) { "met" } else { "**missed**" };
            format!("{}, {met}", wish.shown())
        });
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {what} | {figure:.1} {unit} | {goal} |");
    }
    text
}
