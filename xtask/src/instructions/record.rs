//! Counts of instructions: as a file, as callgrind writes them, and one set beside another.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result, bail};

/// What a piece may take more than was recorded, in hundredths. The same binary takes the same number to a few instructions;
/// this is for another C library, whose copying takes other steps, and less than one more allocation for each record.
const TOLERANCE_PERCENT: f64 = 3.0;

const HEAD: &str = "# Instructions of each piece of the hot path, in the profile of the tests.\n\
                    # Written by `cargo xtask instructions --record`; `cargo xtask test` fails if a piece takes more.\n";

/// By the names of the pieces.
pub(super) type Counts = BTreeMap<String, u64>;

/// What was counted at one time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// As it names itself: another one makes other instructions.
    pub(super) compiler: String,
    pub(super) counts: Counts,
}

impl Record {
    pub(super) fn text(&self) -> String {
        let mut text = format!("{HEAD}{}\n", self.compiler);
        for (name, count) in &self.counts {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name} {count}");
        }
        text
    }

    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut lines = text.lines().filter(|line| !line.starts_with('#'));
        let compiler = lines.next().context("the line with the compiler is missing")?.to_owned();
        let counts = lines.map(|line| {
            let (name, count) =
                line.split_once(' ').with_context(|| format!("{line:?} is not NAME COUNT"))?;
            Ok((name.to_owned(), count.parse().with_context(|| format!("{line:?} has no number"))?))
        });
        Ok(Self { compiler, counts: counts.collect::<Result<_>>()? })
    }

    /// What this machine counted, beside what was recorded: a remark if it will do, else what to do about it.
    pub(super) fn compare(&self, now: &Self) -> Result<String> {
        let pieces = |counts: &Counts| counts.keys().cloned().collect::<Vec<_>>().join(", ");
        if !self.counts.keys().eq(now.counts.keys()) {
            bail!(
                "recorded are the pieces {}, and there are {}: `cargo xtask instructions --record`",
                pieces(&self.counts),
                pieces(&now.counts)
            );
        }
        let changes: Vec<(&String, u64, u64, f64)> = self
            .counts
            .iter()
            .map(|(name, before)| (name, *before, now.counts[name], percent(*before, now.counts[name])))
            .collect();
        let told = |(name, before, after, percent): &(&String, u64, u64, f64)| {
            format!("{name}: {after} instructions, {before} were recorded ({percent:+.1} %)")
        };
        let beyond: Vec<String> =
            changes.iter().filter(|(.., percent)| *percent > TOLERANCE_PERCENT).map(told).collect();
        if !beyond.is_empty() {
            let other = if self.compiler == now.compiler {
                String::new()
            } else {
                format!("; it was recorded with {}, and this is {}", self.compiler, now.compiler)
            };
            bail!(
                "{}: more than {TOLERANCE_PERCENT} % above the record{other}. If the work is worth it: \
                 `cargo xtask instructions --record`, and say why in the commit",
                beyond.join("; ")
            );
        }
        let gains: Vec<String> =
            changes.iter().filter(|(.., percent)| *percent < -TOLERANCE_PERCENT).map(told).collect();
        if !gains.is_empty() {
            return Ok(format!("{}: `cargo xtask instructions --record` keeps the gain", gains.join("; ")));
        }
        let most = changes.iter().map(|(.., percent)| *percent).fold(f64::NEG_INFINITY, f64::max);
        Ok(format!("{} pieces, at most {most:+.1} % from the record", changes.len()))
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn percent(before: u64, after: u64) -> f64 {
    (after as f64 - before as f64) * 100.0 / before as f64
}

/// The count in a file of callgrind.
pub(super) fn total(text: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let total = line.context("callgrind wrote no totals")?;
    let total = total.trim().parse().with_context(|| format!("callgrind's totals are {total:?}"))?;
    if total == 0 {
        bail!("callgrind counted nothing: is the function that it counts there, and not inlined?");
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::{Counts, Record, total};

    fn record(counts: &[(&str, u64)]) -> Record {
        let counts: Counts = counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        Record { compiler: "rustc 1".to_owned(), counts }
    }

    #[test]
    fn what_is_recorded_is_read_back() {
        let record = record(&[("frame", 12_345), ("fan-out", 6)]);
        assert_eq!(Record::parse(&record.text()).unwrap(), record);
    }

    #[test]
    fn a_piece_beyond_the_tolerance_is_named_with_what_to_do() {
        let recorded = record(&[("check", 1000), ("frame", 1000)]);
        let error = recorded.compare(&record(&[("check", 1030), ("frame", 1031)])).unwrap_err().to_string();
        assert!(error.starts_with("frame: 1031 instructions, 1000 were recorded (+3.1 %)"), "{error}");
        assert!(error.contains("cargo xtask instructions --record") && !error.contains("check"), "{error}");
    }

    #[test]
    fn another_compiler_is_told_only_where_it_matters() {
        let recorded = record(&[("frame", 1000)]);
        let now = |count| Record { compiler: "rustc 2".to_owned(), ..record(&[("frame", count)]) };
        assert!(recorded.compare(&now(1030)).is_ok());
        let error = recorded.compare(&now(1100)).unwrap_err().to_string();
        assert!(error.contains("recorded with rustc 1, and this is rustc 2"), "{error}");
    }

    #[test]
    fn a_gain_passes_and_is_to_be_recorded() {
        let remark = record(&[("frame", 1000)]).compare(&record(&[("frame", 900)])).unwrap();
        assert!(remark.contains("-10.0 %") && remark.contains("--record"), "{remark}");
    }

    #[test]
    fn other_pieces_than_recorded_are_refused() {
        let error = record(&[("frame", 1)]).compare(&record(&[("check", 1)])).unwrap_err().to_string();
        assert!(error.contains("recorded are the pieces frame, and there are check"), "{error}");
    }

    #[test]
    fn a_count_of_nothing_is_an_error() {
        assert_eq!(total("events: Ir\ntotals: 42\n").unwrap(), 42);
        assert!(total("events: Ir\ntotals: 0\n").is_err());
        assert!(total("events: Ir\n").is_err());
    }
}
