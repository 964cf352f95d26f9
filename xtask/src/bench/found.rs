//! What `fulmar bench` found: whether it is whole, and as a table for `docs/performance.md`.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::goals::{GOALS, Goal};

/// Each with how many figures it has.
const WORKS: [(&str, usize); 7] = [
    ("publish-batched", 1),
    ("publish-unbatched", 1),
    ("publish-http", 1),
    ("one-in-flight", 2),
    ("read-back", 1),
    ("end-to-end", 2),
    ("fan-out", 1),
];

/// A run.
pub(super) struct Found {
    told: Value,
    machine: String,
}

impl Found {
    pub(super) fn parse(text: &str, machine: String) -> Result<Self> {
        let told = serde_json::from_str(text).context("fulmar bench printed no JSON")?;
        Ok(Self { told, machine })
    }

    fn rows(&self) -> &[Value] {
        self.told["rows"].as_array().map_or(&[], Vec::as_slice)
    }

    fn systems(&self) -> Vec<&str> {
        let systems = self.told["systems"].as_array().map_or(&[][..], Vec::as_slice);
        systems.iter().filter_map(|system| system["name"].as_str()).collect()
    }

    /// Every work of every system is there, and everything that was published was read back, no record twice.
    pub(super) fn check(&self) -> Result<String> {
        let systems = self.systems();
        ensure!(systems.len() == 4, "Fulmar, JetStream twice and Redis take part, not {systems:?}");
        for system in &systems {
            for (work, figures) in WORKS {
                let rows = self.rows_of(system, work);
                ensure!(rows.len() == figures, "{work} of {system} has {} rows, not {figures}", rows.len());
                let is_positive = |row: &&Value| row["median"].as_f64().is_some_and(|figure| figure > 0.0);
                ensure!(rows.iter().all(is_positive), "{work} of {system} has no figure: {rows:?}");
                let is_compared = |row: &&Value| row["fulmar_by_system"].is_number() != (*system == "fulmar");
                ensure!(rows.iter().all(is_compared), "{work} of {system} is not compared: {rows:?}");
            }
            let warm_up = self.told["warm_up_records"].as_u64().context("warm_up_records")?;
            let connections = self.told["connections"].as_u64().context("connections")?;
            let mut published = warm_up * (2 * connections + 1);
            for work in ["publish-batched", "publish-unbatched", "publish-http", "one-in-flight"] {
                published += self.records(system, work)?;
            }
            let read = self.records(system, "read-back")?;
            if read != published {
                bail!("{system}: {published} records were acknowledged, and {read} were read back");
            }
        }
        Ok(format!("{} systems, {} rows", systems.len(), self.rows().len()))
    }

    fn rows_of(&self, system: &str, work: &str) -> Vec<&Value> {
        self.rows().iter().filter(|row| row["system"] == system && row["work"] == work).collect()
    }

    fn records(&self, system: &str, work: &str) -> Result<u64> {
        let rows = self.rows_of(system, work);
        let records = rows.first().and_then(|row| row["records"][0].as_u64());
        records.with_context(|| format!("{work} of {system} counts no records"))
    }

    /// In Markdown.
    pub(super) fn table(&self, replicas: u16) -> String {
        let mut text = format!(
            "{}; values of {} bytes; {} s a work.\n\n",
            self.machine, self.told["size_bytes"], self.told["seconds"]
        );
        for system in self.told["systems"].as_array().into_iter().flatten() {
            let (name, version) = (system["name"].as_str(), system["version"].as_str());
            // Writing to a string cannot fail.
            let _ = writeln!(text, "- {}: {}", plain(name.unwrap_or_default()), version.unwrap_or_default());
        }
        text += "\n| work | system | acknowledged means | median | rounds | Fulmar ÷ it | goal |\n";
        text += "| --- | --- | --- | --- | --- | --- | --- |\n";
        for row in self.rows() {
            let _ = writeln!(text, "{}", line(row, replicas));
        }
        text
    }
}

fn line(row: &Value, replicas: u16) -> String {
    let of = |field: &str| row[field].as_str().unwrap_or_default();
    let figures: Vec<f64> =
        row["rounds"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
    let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let most = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let ratio = row["fulmar_by_system"].as_f64();
    let (shown, goal) = match (ratio, goal_of(row, replicas)) {
        (Some(ratio), Some(goal)) => {
            let met = if goal.wish.is_met(ratio) { "met" } else { "**missed**" };
            (format!("{ratio:.2}"), format!("{} {met}", goal.wish.shown()))
        }
        (Some(ratio), None) => (format!("{ratio:.2}"), String::new()),
        (None, _) => (String::new(), String::new()),
    };
    let (unit, digits) = match of("measure") {
        "p50_us" => (" µs, p50", 0),
        "p99_us" => (" µs, p99", 0),
        _ => ("/s", 0),
    };
    let median = row["median"].as_f64().unwrap_or_default();
    format!(
        "| {} | {} | {} | {median:.digits$}{unit} | {least:.digits$} to {most:.digits$} | {shown} | {goal} |",
        of("work"),
        plain(of("system")),
        of("safety"),
    )
}

fn goal_of(row: &Value, replicas: u16) -> Option<&'static Goal> {
    let safety = row["safety"].as_str()?;
    GOALS.iter().find(|goal| {
        goal.replicas == replicas
            && row["work"] == goal.work
            && row["measure"] == goal.measure
            && safety.contains(goal.against)
    })
}

/// Without the port, which is another one each time.
fn plain(system: &str) -> &str {
    match system.split_once("://") {
        Some(("nats", _)) => "JetStream",
        Some(("redis", _)) => "Redis",
        Some(_) | None => system,
    }
}
