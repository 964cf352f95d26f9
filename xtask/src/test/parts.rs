//! What was run, how it went and what it took: the table at the end.

use std::time::{Duration, Instant};

use anyhow::Result;

/// The parts so far.
#[derive(Default)]
pub(crate) struct Parts {
    rows: Vec<Row>,
}

struct Row {
    name: String,
    took: Duration,
    outcome: Result<String, String>,
}

impl Parts {
    /// Runs a part that has nothing to say beyond that it went well.
    pub(crate) fn run(&mut self, name: &str, part: impl FnOnce() -> Result<()>) {
        self.run_for(name, || part().map(|()| ((), String::new())));
    }

    /// Runs a part that makes something for the next ones, and has a remark for the table; `None` if it failed.
    pub(crate) fn run_for<T>(&mut self, name: &str, part: impl FnOnce() -> Result<(T, String)>) -> Option<T> {
        println!("\n=== {name}");
        let started = Instant::now();
        let (made, outcome) = match part() {
            Ok((made, remark)) => (Some(made), Ok(remark)),
            Err(error) => (None, Err(format!("{error:#}"))),
        };
        if let Err(error) = &outcome {
            eprintln!("{name}: {error}");
        }
        self.rows.push(Row { name: name.to_owned(), took: started.elapsed(), outcome });
        made
    }

    /// Notes what could not be run: a failure.
    pub(crate) fn could_not(&mut self, name: &str, reason: String) {
        eprintln!("\n{name}: {reason}");
        self.rows.push(Row { name: name.to_owned(), took: Duration::ZERO, outcome: Err(reason) });
    }

    /// Notes what was left out because the person asked for it.
    pub(crate) fn left_out(&mut self, name: &str) {
        self.left_out_because(name, "as asked");
    }

    /// Notes what this machine cannot do and no promise needs everywhere.
    pub(crate) fn left_out_because(&mut self, name: &str, reason: &str) {
        self.rows.push(Row {
            name: name.to_owned(),
            took: Duration::ZERO,
            outcome: Ok(format!("left out, {reason}")),
        });
    }

    /// How many failed.
    pub(crate) fn failed(&self) -> usize {
        self.rows.iter().filter(|row| row.outcome.is_err()).count()
    }

    /// Prints the table. An error is cut to its first line here: it was printed whole where it came up.
    pub(crate) fn print(&self) {
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max("all".len());
        println!("\n{:<width$}  {:>8}  outcome", "part", "took");
        for row in &self.rows {
            let outcome = match &row.outcome {
                Ok(remark) if remark.is_empty() => "ok".to_owned(),
                Ok(remark) => format!("ok: {remark}"),
                Err(error) => format!("FAILED: {}", error.lines().next().unwrap_or_default()),
            };
            println!("{:<width$}  {:>8}  {outcome}", row.name, shown(row.took));
        }
        let all = self.rows.iter().map(|row| row.took).sum();
        println!("{:<width$}  {:>8}", "all", shown(all));
    }
}

fn shown(took: Duration) -> String {
    let seconds = took.as_secs();
    if seconds >= 60 {
        format!("{}:{:02} min", seconds / 60, seconds % 60)
    } else {
        format!("{:.1} s", took.as_secs_f32())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Parts, shown};

    #[test]
    fn a_part_that_could_not_run_counts_as_failed() {
        let mut parts = Parts::default();
        parts.run("one", || Ok(()));
        parts.left_out("two");
        assert_eq!(parts.failed(), 0);
        parts.could_not("three", "no way".to_owned());
        assert_eq!(parts.failed(), 1);
    }

    #[test]
    fn what_took_minutes_is_shown_in_minutes() {
        assert_eq!(shown(Duration::from_millis(940)), "0.9 s");
        assert_eq!(shown(Duration::from_secs(61)), "1:01 min");
    }
}
