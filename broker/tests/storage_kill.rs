//! kill -9 of a real process on a real disk: all that it called durable is read back.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test, and the process that it kills"
)]

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use bytes::Bytes;
use fulmar_broker::storage::{Expectations, Opened, Storage, StorageConfig, StorageEvent};
use fulmar_core::batch::{Batch, ProducedBatch, Record, Stamp};
use fulmar_core::id::{Ordinal, PartitionKey, TopicId};
use fulmar_core::offset::Offset;
use fulmar_core::partition::{Write, WriteSeq};
use fulmar_core::term::{Epoch, Process, Session, Term};

const CHILD_DIR: &str = "STORAGE_KILL_CHILD_DIR";
const KEY: PartitionKey = PartitionKey { topic: TopicId(3), partition: 0 };

fn open(dir: &Path, tell: impl Fn(StorageEvent) + Send + Sync + 'static) -> (Storage, Opened) {
    let mut config = StorageConfig::for_memory(dir.to_owned(), 64 << 20).with_slots(3, 1 << 20);
    config.apply_after = Duration::from_millis(30);
    Storage::open(&config, &Expectations { ordinal: Ordinal(0), cluster: None }, tell).unwrap()
}

fn batch(base: u64, session: Session) -> Batch {
    let length = usize::try_from(base * 37 % 3000).unwrap();
    let record =
        Record { value: Bytes::from(vec![u8::try_from(base % 251).unwrap(); length]), ..Record::default() };
    let process = Process { session, ..Process::default() };
    let term = Term { epoch: Epoch { generation: 1, counter: 1 }, process };
    let stamp = Stamp { key: KEY, base: Offset(base), term, append_time_ms: base };
    ProducedBatch::build(&[record], None).unwrap().stamp(stamp)
}

/// The process that is killed: appends for ever, and prints each end that is durable.
#[test]
#[ignore = "run by the other test, as a process of its own"]
fn child() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let (sender, events) = channel();
    let (storage, opened) = open(Path::new(&dir), move |event| drop(sender.send(event)));
    let session = opened.identity.processes.last().unwrap().session;
    let mut end = opened.replicas.first().map_or(0, |(_, replica)| replica.log_end.0);
    println!("end {end}");
    loop {
        end += 1;
        storage.write_blocking(vec![(KEY, WriteSeq(end), Write::Append(batch(end - 1, session)))]).unwrap();
        for event in events.try_iter() {
            let StorageEvent::Durable(writes) = event else { continue };
            println!("end {}", writes[0].1.0);
        }
        std::io::stdout().flush().unwrap();
    }
}

/// Starts a process, kills it after so many lines; gives the last durable end that it told.
fn run_and_kill(dir: &Path, lines: usize) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--ignored", "--nocapture"])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let told = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let ends = told.filter_map(|line| line.strip_prefix("end ").and_then(|end| end.parse().ok()));
    let last = ends.take(lines).last().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    last
}

#[test]
fn what_a_killed_process_called_durable_is_there() {
    let folder = tempfile::tempdir().unwrap();
    for lines in [20, 30, 300, 100, 600] {
        let durable = run_and_kill(folder.path(), lines);
        let (storage, opened) = open(folder.path(), |_| {});
        let (_, replica) = opened.replicas.first().unwrap();
        assert!(replica.log_end.0 >= durable, "{durable} were durable, {} came back", replica.log_end);
        assert!(!replica.uncertain);
        let mut next = Offset(0);
        while next < replica.log_end {
            for found in storage.read(KEY, next, replica.log_end, 1 << 20).unwrap() {
                assert_eq!(found, batch(next.0, found.term().process.session));
                next = found.end();
            }
        }
        // As a crash, too: the next process replays again.
        drop(storage);
    }
}
