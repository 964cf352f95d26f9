//! The partition table lost, or as it was a while ago, when the steward comes back: it is rebuilt from what brokers report. Whom the
//! steward has to wait for it names.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::time::{Instant, sleep};

use super::{Blow, Field, Kind};
use crate::cluster::volume;

/// A steward on a busy machine.
const SAID_WITHIN: Duration = Duration::from_mins(2);
const LOOK_EVERY: Duration = Duration::from_millis(50);

fn folder(field: &Field<'_>) -> PathBuf {
    field.cluster.folder().join("dev/table")
}

/// In half of the cases a broker is away when the steward comes back; it is named, and comes back later.
pub(super) async fn lose(field: &mut Field<'_>, blow: &Blow) -> Result<()> {
    let table = folder(field);
    field.cluster.steward.process.kill().await?;
    if blow.kind == Kind::RestoreTable {
        let copy = field.cluster.folder().join("table.copy");
        volume::copy(&table, &copy)?;
        let known = content(&copy)?;
        outlive(field, blow).await?;
        anyhow::ensure!(content(&table)? != known, "the table stands as it was copied");
        volume::copy(&copy, &table)?;
    } else {
        volume::delete(&table)?;
        std::fs::create_dir(&table).context("could not make an empty table's folder")?;
    }
    if blow.seed.is_multiple_of(2) {
        sleep(blow.lasts / 4).await;
        return field.cluster.steward.start();
    }
    field.cluster.brokers[usize::from(blow.other)].process.kill().await?;
    field.cluster.steward.start()?;
    await_words(field, blow.other).await?;
    sleep(blow.lasts / 4).await;
    field.cluster.brokers[usize::from(blow.other)].start()
}

/// The table goes on beyond its copy: a broker dies, and what it led is led by others. In the end nobody attends.
async fn outlive(field: &mut Field<'_>, blow: &Blow) -> Result<()> {
    field.cluster.steward.start()?;
    await_line(field, "every broker", |line| line.starts_with("ready: ")).await?;
    field.cluster.brokers[usize::from(blow.target)].process.kill().await?;
    let dead = format!("broker {} is Dead", blow.target);
    await_line(field, "a dead broker", |line| line.starts_with(&dead)).await?;
    sleep(blow.lasts / 4).await;
    field.cluster.brokers[usize::from(blow.target)].start()?;
    field.cluster.steward.process.kill().await
}

/// Waits until the steward says of whom it has not heard.
async fn await_words(field: &mut Field<'_>, away: u16) -> Result<()> {
    let reasons = ["AwaitingBrokers", "RebuildingTable", "AwaitingReplicas"];
    let names = |line: &str| {
        let words = line.split_once("broker ").map_or("", |(_, words)| words);
        let mut numbers = words.split(|c: char| !c.is_ascii_digit()).filter(|word| !word.is_empty());
        reasons.iter().any(|reason| line.contains(reason)) && numbers.any(|number| number == away.to_string())
    };
    let line = await_line(field, "a table without a broker's report", names).await?;
    field.cluster.story.note(&format!("        the steward: {line}"));
    Ok(())
}

/// Waits for a whole line of the steward that runs now.
async fn await_line(field: &mut Field<'_>, of: &str, is: impl Fn(&str) -> bool) -> Result<String> {
    let deadline = Instant::now() + SAID_WITHIN;
    loop {
        let process = &mut field.cluster.steward.process;
        let said = process.said();
        let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
        if let Some(line) = whole.lines().find(|line| is(line)) {
            return Ok(line.to_owned());
        }
        if let Some(how) = process.ended() {
            bail!("the steward {how}");
        }
        if Instant::now() > deadline {
            bail!("the steward said nothing of {of} within {SAID_WITHIN:?}: {said}");
        }
        sleep(LOOK_EVERY).await;
    }
}

/// What the files of a table hold, by name.
fn content(table: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(table).with_context(|| format!("could not read {}", table.display()))? {
        let path = entry?.path();
        let name = path.file_name().map(PathBuf::from).unwrap_or_default();
        files.push((name, std::fs::read(&path)?));
    }
    files.sort();
    Ok(files)
}
