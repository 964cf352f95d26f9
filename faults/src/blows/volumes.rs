//! Blows against volumes: deleted, restored from a copy, swapped, of another Cluster, read-only, opened twice, rotten, cut short.
//!
//! A volume that its broker refuses, by a line that names the file, is replaced by an empty one: that is what a person can do.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rustix::process::Signal;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::{Blow, Field, Kind};
use crate::cluster::EVENTS;
use crate::cluster::broker::{SERVES, mount};
use crate::cluster::process::Process;
use crate::cluster::volume;
use crate::room::system;

/// A broker that refuses its volume says so at once; replaying a journal takes longer, and everything does on a busy machine.
const VERDICT_WITHIN: Duration = Duration::from_mins(2);
/// A Cluster of empty brokers on a busy machine.
const FOREIGN_WITHIN: Duration = Duration::from_mins(3);

/// Batches that rot at each broker.
const FLIPS: usize = 3;
/// Records that are looked for in the databases: some are in the journal alone as yet.
const RECORDS_TRIED: usize = 40;

/// What a broker made of its volume.
pub(super) enum Verdict {
    /// It serves.
    Opened,
    /// It ended, with these words.
    Refused(String),
}

pub(super) async fn verdict(process: &mut Process) -> Result<Verdict> {
    let deadline = Instant::now() + VERDICT_WITHIN;
    while Instant::now() < deadline {
        if let Some(how) = process.ended() {
            return Ok(Verdict::Refused(how));
        }
        if process.said().contains(SERVES) {
            return Ok(Verdict::Opened);
        }
        sleep(Duration::from_millis(20)).await;
    }
    bail!("a broker neither opened nor refused its volume within {VERDICT_WITHIN:?}: {}", process.said())
}

/// The broker's words without what differs from time to time, for the report.
fn words(how: &str, data: &Path) -> String {
    let text = how.replace(&data.display().to_string(), "DATA");
    let line = text.rsplit_once("ended with code 1: ").map_or(text.as_str(), |(_, line)| line);
    let words = line.split(' ').map(|word| if is_id(word) { "ID".to_owned() } else { without_digits(word) });
    words.collect::<Vec<String>>().join(" ")
}

/// A UUID, whatever stands around it.
fn is_id(word: &str) -> bool {
    let letters = word.trim_matches(|c: char| !c.is_ascii_hexdigit());
    letters.len() == 36 && letters.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

fn without_digits(word: &str) -> String {
    let mut words = String::new();
    for c in word.chars() {
        match c {
            '0'..='9' if words.ends_with('N') => {}
            '0'..='9' => words.push('N'),
            c => words.push(c),
        }
    }
    words
}

/// Kill -9 and an empty volume, or the folder deleted under the running broker.
pub(super) async fn delete(field: &mut Field<'_>, blow: &Blow) -> Result<()> {
    let broker = &mut field.cluster.brokers[usize::from(blow.target)];
    if blow.kind == Kind::DeleteRunning {
        volume::delete(&broker.data)?;
        sleep(blow.lasts).await;
    }
    broker.process.kill().await?;
    replace(field, blow.target)
}

/// An empty volume in the place of what there is.
pub(super) fn replace(field: &mut Field<'_>, target: u16) -> Result<()> {
    let broker = &mut field.cluster.brokers[usize::from(target)];
    volume::delete(&broker.data)?;
    broker.disk.forget()?;
    broker.start()
}

/// A bit flips in a file of a broker that is away, or one that runs and is killed later. In the end the volume is replaced in
/// any case: rot that nobody has read is not known, and the next blow may need this copy.
pub(super) async fn rot(field: &mut Field<'_>, blow: &Blow) -> Result<()> {
    let mut luck = StdRng::seed_from_u64(blow.seed);
    let broker = &mut field.cluster.brokers[usize::from(blow.target)];
    if blow.kind != Kind::FlipRunning {
        broker.process.kill().await?;
    }
    let files = volume::files(&broker.data)?;
    let file = files.choose(&mut luck).context("the volume has no file that holds anything")?;
    let what = if blow.kind == Kind::Truncate {
        volume::truncate(file, &mut luck)?
    } else {
        volume::flip(file, &mut luck)?
    };
    field.cluster.story.note(&format!("        {what}"));
    let broker = &mut field.cluster.brokers[usize::from(blow.target)];
    if blow.kind == Kind::FlipRunning {
        sleep(blow.lasts).await;
        if let Some(how) = broker.process.ended() {
            note_refusal(field, blow.target, &how);
            return replace(field, blow.target);
        }
        broker.process.kill().await?;
    }
    let broker = &mut field.cluster.brokers[usize::from(blow.target)];
    broker.start()?;
    match verdict(&mut broker.process).await? {
        Verdict::Refused(how) => note_refusal(field, blow.target, &how),
        Verdict::Opened if blow.kind == Kind::Truncate => {
            field
                .book
                .violation(format!("broker {} opened a volume that was cut short: {what}", blow.target));
        }
        Verdict::Opened => {
            sleep(blow.lasts).await;
            let broker = &mut field.cluster.brokers[usize::from(blow.target)];
            if let Some(how) = broker.process.ended() {
                note_refusal(field, blow.target, &how);
            }
        }
    }
    field.cluster.brokers[usize::from(blow.target)].process.kill().await?;
    replace(field, blow.target)
}

/// At each of these brokers a bit of a batch flips, and of another batch at each: they have to heal each other, and nobody may
/// notice but by waiting.
pub(super) async fn flip_batches(field: &mut Field<'_>, blow: &Blow) -> Result<()> {
    let mut luck = StdRng::seed_from_u64(blow.seed);
    let mut names = field.book.some_acknowledged(EVENTS, &mut luck, RECORDS_TRIED);
    for broker in &field.cluster.brokers {
        let database = broker.data.join("records.redb");
        // Pages that are free are used again: a broker that runs would write where the bit is about to flip.
        broker.process.freeze().await?;
        let what = volume::flip_records(&database, &mut names, FLIPS, &mut luck);
        broker.process.signal(Signal::CONT);
        let Some(what) = what? else { continue };
        field.cluster.story.note(&format!("        broker {}: {what}", broker.ordinal));
    }
    // Read from the disk, not from a cache of before.
    if blow.seed.is_multiple_of(2) {
        field.cluster.brokers[usize::from(blow.target)].process.kill().await?;
    }
    sleep(blow.lasts / 4).await;
    Ok(())
}

/// A refusal has to name the file.
fn note_refusal(field: &mut Field<'_>, target: u16, how: &str) {
    let broker = &field.cluster.brokers[usize::from(target)];
    field.cluster.story.note(&format!("        broker {target} {how}"));
    if !how.contains(&broker.data.display().to_string()) {
        field.book.violation(format!("broker {target} names no file of its volume: it {how}"));
    }
    *field.refusals.entry(words(how, &broker.data)).or_default() += 1;
}

/// The volume as it was a while ago, in the place of what it is: it must be recognised, and begin a new life.
pub(super) async fn restore(field: &mut Field<'_>, blow: &Blow) -> Result<()> {
    let broker = &mut field.cluster.brokers[usize::from(blow.target)];
    let backup = broker.data.with_extension("backup");
    broker.process.kill().await?;
    volume::copy(&broker.data, &backup)?;
    broker.start()?;
    verdict(&mut broker.process).await?;
    // So that somebody has heard of the session that the copy does not know.
    await_peers(field, blow.target).await?;
    sleep(blow.lasts + Duration::from_secs(2)).await;
    let broker = &mut field.cluster.brokers[usize::from(blow.target)];
    broker.process.kill().await?;
    volume::delete(&broker.data)?;
    broker.disk.forget()?;
    std::fs::rename(&backup, &broker.data)?;
    broker.start()?;
    match broker.process.wait(VERDICT_WITHIN).await? {
        Some(how) if how.contains("restored from a copy") => {
            *field.refusals.entry(words(&how, &broker.data)).or_default() += 1;
        }
        Some(how) => field.book.violation(format!("broker {} on a restored volume {how}", blow.target)),
        None => {
            field
                .book
                .violation(format!("broker {} works on a restored volume as if nothing were", blow.target));
        }
    }
    Ok(())
}

/// Waits until the process that runs now has met another broker: both have said who they are.
async fn await_peers(field: &Field<'_>, target: u16) -> Result<()> {
    let deadline = Instant::now() + VERDICT_WITHIN;
    loop {
        let said = field.cluster.brokers[usize::from(target)].process.said();
        // A broker that holds nothing meets no peer; the steward remembers it all the same.
        if said.contains("connected to a peer") || said.contains("the operator attends") {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("broker {target} met nobody within {VERDICT_WITHIN:?}: {said}");
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// The brokers that a process has met, by what it said.
fn met(said: &str) -> BTreeSet<String> {
    let peers = said.split("connected to a peer peer=").skip(1);
    peers.filter_map(|rest| Some(rest.split_once(':')?.0.to_owned())).collect()
}

/// Waits until a process has met all of these.
async fn await_met(process: &Process, wanted: &BTreeSet<String>) -> Result<()> {
    let deadline = Instant::now() + VERDICT_WITHIN;
    while !met(&process.said()).is_superset(wanted) {
        if Instant::now() > deadline {
            bail!("it did not meet brokers {wanted:?} within {VERDICT_WITHIN:?}: {}", process.said());
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// A copy of the volume under a second process, while the first one runs: one of the two has to give in. The first one has met the
/// others before: two that start together may be met by one each, and are one voter that votes twice (docs/safety.md).
pub(super) async fn twin(field: &mut Field<'_>, blow: &Blow) -> Result<()> {
    let folder = field.cluster.folder().to_owned();
    let broker = &mut field.cluster.brokers[usize::from(blow.target)];
    let copy = mount(&folder, blow.target).join("twin");
    let before = met(&broker.process.said());
    broker.process.kill().await?;
    volume::copy(&broker.data, &copy)?;
    broker.start()?;
    verdict(&mut broker.process).await?;
    await_met(&broker.process, &before).await?;
    let mut twin = Process::new(folder.join(format!("logs/twin-{}.log", blow.target)));
    let mut command = broker.command(51_050, &copy);
    command.env_remove("FULMAR_FAULTY_DISK");
    twin.start(command)?;
    let deadline = Instant::now() + VERDICT_WITHIN;
    let (of_twin, of_first) = loop {
        let (of_twin, of_first) = (twin.ended(), broker.process.ended());
        if of_twin.is_some() || of_first.is_some() || Instant::now() > deadline {
            break (of_twin, of_first);
        }
        sleep(Duration::from_millis(50)).await;
    };
    field.cluster.story.note(&format!("        the twin: {of_twin:?}; the first: {of_first:?}"));
    if of_twin.is_none() && of_first.is_none() {
        field
            .book
            .violation(format!("broker {} and its twin on a copy of the volume both go on", blow.target));
    }
    for how in [of_twin, of_first].into_iter().flatten() {
        *field.refusals.entry(words(&how, &copy)).or_default() += 1;
    }
    twin.kill().await?;
    volume::delete(&copy)
}

/// Two brokers with each other's volume: both must refuse, and name it.
pub(super) async fn swap(field: &mut Field<'_>, blow: &Blow) -> Result<()> {
    let pair = [usize::from(blow.target), usize::from(blow.other)];
    let data = pair.map(|index| field.cluster.brokers[index].data.clone());
    for index in pair {
        field.cluster.brokers[index].process.kill().await?;
    }
    for (index, wrong) in [(pair[0], &data[1]), (pair[1], &data[0])] {
        expect_refusal(field, index, wrong, "belongs to broker").await?;
    }
    for index in pair {
        field.cluster.brokers[index].start()?;
    }
    Ok(())
}

/// Starts a broker on other data than its own; it must refuse it with these words.
async fn expect_refusal(field: &mut Field<'_>, index: usize, data: &Path, expected: &str) -> Result<()> {
    let broker = &mut field.cluster.brokers[index];
    let mut command = broker.command(50_050, data);
    command.env_remove("FULMAR_FAULTY_DISK");
    broker.process.start(command)?;
    let how = match verdict(&mut broker.process).await? {
        Verdict::Refused(how) => how,
        Verdict::Opened => "opened it".to_owned(),
    };
    broker.process.kill().await?;
    if !how.contains(expected) || !how.contains(&data.display().to_string()) {
        field.book.violation(format!("broker {index} on {} {how}; expected: {expected}", data.display()));
    }
    *field.refusals.entry(words(&how, data)).or_default() += 1;
    Ok(())
}

/// The file system is read-only: a clear word, and nothing lost.
pub(super) async fn read_only(field: &mut Field<'_>, blow: &Blow) -> Result<()> {
    let index = usize::from(blow.target);
    let (mount, data) =
        (mount(field.cluster.folder(), blow.target), field.cluster.brokers[index].data.clone());
    field.cluster.brokers[index].process.kill().await?;
    system(&format!("mount -o remount,ro {}", mount.display()))?;
    let refused = expect_refusal(field, index, &data, "Read-only file system").await;
    system(&format!("mount -o remount,rw {}", mount.display()))?;
    refused?;
    sleep(blow.lasts / 4).await;
    Ok(())
}

/// A second process on the same folder must end, and the first one must not notice.
pub(super) async fn open_twice(field: &mut Field<'_>, blow: &Blow) -> Result<()> {
    let folder = field.cluster.folder().to_owned();
    let broker = &mut field.cluster.brokers[usize::from(blow.target)];
    let mut second = Process::new(folder.join(format!("logs/second-{}.log", blow.target)));
    let mut command = broker.command(51_050, &broker.data);
    command.env_remove("FULMAR_FAULTY_DISK");
    second.start(command)?;
    let how = match verdict(&mut second).await? {
        Verdict::Refused(how) => how,
        Verdict::Opened => "opened it".to_owned(),
    };
    second.kill().await?;
    if !how.contains("another process has this data folder open") {
        field.book.violation(format!("a second process on the volume of broker {} {how}", blow.target));
    }
    *field.refusals.entry(words(&how, &broker.data)).or_default() += 1;
    Ok(())
}

/// The volume of the broker with the same number in another Cluster: nobody may take it for ours, nor may it take us for its own.
pub(super) async fn foreign(field: &mut Field<'_>, blow: &Blow) -> Result<()> {
    let folder = field.cluster.folder().to_owned();
    make_foreign(field).await?;
    let source = folder.join(format!("foreign/brokers/faults-{}", blow.target));
    let broker = &mut field.cluster.brokers[usize::from(blow.target)];
    let foreign = mount(&folder, blow.target).join("foreign");
    volume::copy(&source, &foreign)?;
    broker.process.kill().await?;
    let mut command = broker.command(50_050, &foreign);
    command.env_remove("FULMAR_FAULTY_DISK");
    broker.process.start(command)?;
    sleep(blow.lasts + Duration::from_secs(2)).await;
    let deadline = Instant::now() + VERDICT_WITHIN;
    let said = loop {
        let has_ended = broker.process.has_ended();
        let said = broker.process.said();
        let line = said.lines().find_map(|line| line.split_once("this volume belongs to cluster "));
        match line {
            Some((_, ids)) => {
                break Some(format!("went on, refused by all: this volume belongs to cluster {ids}"));
            }
            None if has_ended || Instant::now() > deadline => break None,
            None => sleep(Duration::from_millis(50)).await,
        }
    };
    let how = broker.process.ended();
    match (said, how) {
        (Some(said), None) => *field.refusals.entry(words(&said, &foreign)).or_default() += 1,
        (_, how) => field.book.violation(format!(
            "broker {} on another Cluster's volume: it ended ({how:?}), or did not say whose it is",
            blow.target
        )),
    }
    broker.process.kill().await?;
    volume::delete(&foreign)?;
    broker.start()
}

/// Another Cluster, once: it lives just long enough that its volumes know whose they are.
async fn make_foreign(field: &Field<'_>) -> Result<()> {
    let folder = field.cluster.folder();
    let data = folder.join("foreign");
    if data.exists() {
        return Ok(());
    }
    let mut process = Process::new(folder.join("logs/foreign.log"));
    let mut command = Command::new(field.cluster.program());
    command.arg("dev").arg("-f").arg(folder.join("cluster.yaml")).arg("--data").arg(&data);
    process.start({
        command.args(["--port-base", "20000"]);
        command
    })?;
    let deadline = Instant::now() + FOREIGN_WITHIN;
    // The line's beginning: a topic that is "not ready: ..." has not lived yet.
    while !process.said().lines().any(|line| line.starts_with("ready: ")) {
        if Instant::now() > deadline {
            bail!("another Cluster did not come up within {FOREIGN_WITHIN:?}: {}", process.said());
        }
        sleep(Duration::from_millis(100)).await;
    }
    process.signal(Signal::TERM);
    if process.wait(FOREIGN_WITHIN).await?.is_none() {
        bail!("another Cluster did not stop within {FOREIGN_WITHIN:?}");
    }
    Ok(())
}
