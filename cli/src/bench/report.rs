//! What a run found: medians over the rounds, their spread, and how Fulmar compares, never without what an acknowledgement meant.

use std::fmt::Write as _;

use clap::ValueEnum;
use indicatif::HumanCount;
use serde_json::{Value, json};

use super::work::{Measure, Measured, WARM_UP, Work};
use crate::output::table;

/// Who took part.
#[derive(Debug, Clone)]
pub(super) struct Entrant {
    /// `fulmar`, or the rival's address.
    pub(super) name: String,
    pub(super) version: String,
    /// What an acknowledgement means.
    pub(super) safety: String,
}

/// One measure of one work of one system, over the rounds.
#[derive(Debug)]
struct Series {
    work: Work,
    measure: Measure,
    entrant: usize,
    figures: Vec<f64>,
    records: Vec<u64>,
}

/// Everything of one run. The first entrant is Fulmar.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) size: u32,
    pub(super) seconds: f64,
    pub(super) connections: u32,
    pub(super) partitions: usize,
    pub(super) entrants: Vec<Entrant>,
    series: Vec<Series>,
}

impl Measure {
    fn name(self) -> &'static str {
        match self {
            Self::RecordsPerSecond => "records_per_second",
            Self::P50 => "p50_us",
            Self::P99 => "p99_us",
        }
    }

    fn shown(self, figure: f64) -> String {
        match self {
            Self::RecordsPerSecond => {
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "for people")]
                let whole = figure.round() as u64;
                format!("{}/s", HumanCount(whole))
            }
            Self::P50 | Self::P99 => format!("{figure:.0} µs"),
        }
    }
}

impl Work {
    /// As it is chosen on the command line.
    pub(super) fn name(self) -> String {
        let value = self.to_possible_value().expect("no work is hidden");
        value.get_name().to_owned()
    }
}

/// The middle one, or the mean of the two in the middle; of nothing, 0.
fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.get(sorted.len().saturating_sub(1) / 2), sorted.get(sorted.len() / 2)) {
        (Some(low), Some(high)) => f64::midpoint(*low, *high),
        (None, _) | (_, None) => 0.0,
    }
}

impl Report {
    pub(super) fn new(
        size: u32,
        seconds: f64,
        connections: u32,
        partitions: usize,
        entrants: Vec<Entrant>,
    ) -> Self {
        Self { size, seconds, connections, partitions, entrants, series: Vec::new() }
    }

    /// One work of one entrant in one more round.
    pub(super) fn add(&mut self, work: Work, entrant: usize, measured: Measured) {
        for (measure, figure) in measured.figures {
            let is_it = |series: &&mut Series| {
                (series.work, series.measure, series.entrant) == (work, measure, entrant)
            };
            if let Some(series) = self.series.iter_mut().find(is_it) {
                series.figures.push(figure);
                series.records.push(measured.records);
            } else {
                let (figures, records) = (vec![figure], vec![measured.records]);
                self.series.push(Series { work, measure, entrant, figures, records });
            }
        }
    }

    /// Work by work, Fulmar first.
    fn in_order(&self) -> Vec<&Series> {
        let mut series: Vec<&Series> = self.series.iter().collect();
        series.sort_by_key(|series| (series.work, series.measure.name(), series.entrant));
        series
    }

    /// Fulmar's median divided by this one's.
    fn ratio(&self, series: &Series) -> Option<f64> {
        let fulmar = self
            .series
            .iter()
            .find(|other| (other.work, other.measure, other.entrant) == (series.work, series.measure, 0))?;
        let rival = median(&series.figures);
        (series.entrant != 0 && rival > 0.0).then(|| median(&fulmar.figures) / rival)
    }

    pub(super) fn as_table(&self) -> String {
        let mut text = format!(
            "values of {} bytes, {} partitions, {} s a work, medians of the rounds\n",
            self.size, self.partitions, self.seconds
        );
        for entrant in &self.entrants {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}: {}", entrant.name, entrant.version);
        }
        let rows = self.in_order().into_iter().map(|series| {
            let entrant = &self.entrants[series.entrant];
            let spread = series.figures.iter().copied();
            let (least, most) =
                (spread.clone().fold(f64::INFINITY, f64::min), spread.fold(f64::NEG_INFINITY, f64::max));
            let percentile = match series.measure {
                Measure::RecordsPerSecond => "",
                Measure::P50 => " p50",
                Measure::P99 => " p99",
            };
            [
                format!("{}{percentile}", series.work.name()),
                entrant.name.clone(),
                series.measure.shown(median(&series.figures)),
                format!("{} to {}", series.measure.shown(least), series.measure.shown(most)),
                self.ratio(series).map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
                entrant.safety.clone(),
            ]
        });
        let header = ["WORK", "SYSTEM", "MEDIAN", "ROUNDS", "FULMAR ÷ IT", "ACKNOWLEDGED MEANS"];
        text + &table(header, rows)
    }

    pub(super) fn as_json(&self) -> Value {
        let entrants: Vec<Value> = self
            .entrants
            .iter()
            .map(
                |entrant| json!({"name": entrant.name, "version": entrant.version, "safety": entrant.safety}),
            )
            .collect();
        let rows: Vec<Value> = self.in_order().into_iter().map(|series| self.row(series)).collect();
        json!({
            "size_bytes": self.size,
            "partitions": self.partitions,
            "connections": self.connections,
            "seconds": self.seconds,
            "warm_up_records": WARM_UP,
            "systems": entrants,
            "rows": rows,
        })
    }

    fn row(&self, series: &Series) -> Value {
        let entrant = &self.entrants[series.entrant];
        json!({
            "work": series.work.name(),
            "measure": series.measure.name(),
            "system": entrant.name,
            "safety": entrant.safety,
            "median": median(&series.figures),
            "rounds": series.figures,
            "records": series.records,
            "fulmar_by_system": self.ratio(series),
        })
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
