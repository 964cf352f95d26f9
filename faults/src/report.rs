//! The report: for the terminal, and as a file that the command writes anew.

use std::fmt::Write as _;
use std::time::Duration;

use crate::outcome::Outcome;

/// What the report says beside the counts.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) command: String,
    pub(crate) brokers: u16,
    /// After so many blows the brokers begin anew.
    pub(crate) round: u32,
    pub(crate) span: Duration,
}

/// What it ran on, as far as the figures depend on it.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kibibytes =
        memory.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok()).unwrap_or(0);
    format!("{cores} cores and {} GiB, with the brokers of a debug build", kibibytes >> 20)
}

fn seconds(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64())
}

/// The text.
pub(crate) fn text(setting: &Setting, outcome: &Outcome) -> String {
    let counts = &outcome.counts;
    let mut text = String::new();
    let _ = write!(
        text,
        "# Blows against real brokers\n\nWritten by `{}` on {}. {} brokers as processes, each with an address and an ext4 volume of its \
         own; producers and readers ran throughout. {} blows in {}; after each, everything had to come back by itself, and every \
         acknowledged record was compared by its hash. The whole log was read back {} times. Leaders were replaced {} times by \
         others (one for each partition, as programs see it). After each {} blows everything is read from each side once more, and other brokers \
         begin with empty volumes.\n\n",
        setting.command,
        machine(),
        setting.brokers,
        outcome.blows(),
        humantime::format_duration(Duration::from_secs(setting.span.as_secs())),
        outcome.examinations,
        outcome.leader_changes,
        setting.round,
    );
    let _ = write!(
        text,
        "| records | |\n| --- | ---: |\n| acknowledged | {} |\n| lost | {} |\n| changed | {} |\n| duplicated | {} |\n| out of order | {} |\n\
         | said not to be in the log, and in it | {} |\n| outcome unknown (producers with a timeout of 1.5 s) | {} |\n\
         | of these in the log behind later ones of the same producer | {} |\n| timed out, and not in the log | {} |\n| read by followers | {} |\n\n",
        counts.acknowledged,
        counts.lost,
        counts.changed,
        counts.duplicated,
        counts.disordered,
        counts.raised,
        counts.unknown,
        counts.late,
        counts.absent,
        counts.read,
    );
    text.push_str(
        "Stall: the longest that a record of a topic with the defaults (three replicas, two of them acknowledge) waited for its \
         acknowledgement, in seconds, the time of the blow itself included. Settled: from the end of the blow until all brokers serve, \
         everything is replicated in full and read.\n\n\
         | blow | count | stall, mean | stall, longest | settled, longest |\n| --- | ---: | ---: | ---: | ---: |\n",
    );
    for (kind, row) in &outcome.rows {
        let mean = row.stall_sum / row.blows.max(1);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            kind.about(),
            row.blows,
            seconds(mean),
            seconds(row.stall_max),
            seconds(row.settled_max)
        );
    }
    if !outcome.refusals.is_empty() {
        text.push_str("\nWhat brokers said when they refused a volume:\n\n");
        for (words, times) in &outcome.refusals {
            let _ = writeln!(text, "- {times} × `{words}`");
        }
    }
    if !outcome.violations.is_empty() {
        text.push_str("\nVIOLATED:\n\n");
        for violation in &outcome.violations {
            let _ = writeln!(text, "- {violation}");
        }
    }
    text
}
