//! First figures of the storage on the real disk: `cargo test -p fulmar-broker --test storage_measure -- --ignored --nocapture`.
//!
//! The volume lies in `STORAGE_MEASURE_DIR`, or in the system's folder for temporary files. Ratios between lines of one run say
//! more than lines of different days.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_precision_loss,
    reason = "a measurement, all of it a test"
)]

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fulmar_broker::storage::{Expectations, Storage, StorageConfig, StorageEvent};
use fulmar_core::batch::{Batch, HEADER_BYTES, ProducedBatch, Record, Stamp};
use fulmar_core::id::{Ordinal, PartitionKey, TopicId};
use fulmar_core::offset::Offset;
use fulmar_core::partition::{Write, WriteSeq};
use fulmar_core::term::{Epoch, Process, Term};

const TERM: Term = Term {
    epoch: Epoch { generation: 1, counter: 1 },
    process: Process { session: fulmar_core::term::Session(1), boot: fulmar_core::term::BootId(1) },
};

fn key(partition: usize) -> PartitionKey {
    PartitionKey { topic: TopicId(1), partition: u32::try_from(partition).unwrap() }
}

struct Bench {
    storage: Storage,
    events: Receiver<StorageEvent>,
    produced: ProducedBatch,
    sent: Vec<(u64, Instant)>,
    latencies: Vec<Duration>,
}

impl Bench {
    fn new(dir: PathBuf, bytes: usize, in_flight: usize) -> Self {
        let (sender, events) = channel();
        let config = StorageConfig::for_memory(dir, 64 << 20);
        let expectations = Expectations { ordinal: Ordinal(0), cluster: None };
        let tell = move |event| drop(sender.send(event));
        let (storage, _) = Storage::open(&config, &expectations, tell).unwrap();
        // A record of one value: 100 bytes of header and 6 of the record's own.
        let value = Bytes::from(vec![0x5a; bytes - HEADER_BYTES - 6]);
        let record = Record { value, ..Record::default() };
        let produced = ProducedBatch::build(&[record], None).unwrap();
        Self { storage, events, produced, sent: vec![(0, Instant::now()); in_flight], latencies: Vec::new() }
    }

    fn batch(&self, partition: usize, base: u64) -> Batch {
        let stamp = Stamp { key: key(partition), base: Offset(base), term: TERM, append_time_ms: base };
        self.produced.clone().stamp(stamp)
    }

    fn send(&mut self, partition: usize) {
        let base = self.sent[partition].0;
        self.sent[partition] = (base + 1, Instant::now());
        let write = (key(partition), WriteSeq(base + 1), Write::Append(self.batch(partition, base)));
        self.storage.write_blocking(vec![write]).unwrap();
    }

    fn run(&mut self, duration: Duration) -> Duration {
        let started = Instant::now();
        (0..self.sent.len()).for_each(|partition| self.send(partition));
        while started.elapsed() < duration {
            let StorageEvent::Durable(writes) = self.events.recv().unwrap() else { panic!("it failed") };
            for (key, _) in writes {
                let partition = key.partition as usize;
                self.latencies.push(self.sent[partition].1.elapsed());
                self.send(partition);
            }
        }
        started.elapsed()
    }
}

fn percentile(sorted: &[Duration], percent: usize) -> u128 {
    sorted[(sorted.len() - 1) * percent / 100].as_micros()
}

#[test]
#[ignore = "it measures, for some ten seconds, and asserts nothing but that it works"]
fn figures() {
    let root = std::env::var_os("STORAGE_MEASURE_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    println!("bytes  in flight    MB/s  batches/s  p50 us  p99 us  max us   close s  open ms");
    for (bytes, in_flight) in [(1024, 1), (1024, 16), (1024, 64), (16_300, 64), (65_300, 16), (65_300, 64)] {
        let folder = tempfile::tempdir_in(&root).unwrap();
        let mut bench = Bench::new(folder.path().to_owned(), bytes, in_flight);
        let took = bench.run(Duration::from_secs(4));
        let count = bench.latencies.len();
        bench.latencies.sort();
        let closing = Instant::now();
        bench.storage.close().unwrap();
        let closed = closing.elapsed();
        let sorted = std::mem::take(&mut bench.latencies);
        drop(bench);
        let opening = Instant::now();
        let reopened = Bench::new(folder.path().to_owned(), bytes, 1);
        let opened = opening.elapsed();
        drop(reopened);
        let megabytes = count as f64 * bytes as f64 / 1e6 / took.as_secs_f64();
        println!(
            "{bytes:>5}  {in_flight:>9}  {megabytes:>6.1}  {:>9.0}  {:>6}  {:>6}  {:>6}  {:>8.2}  {:>7}",
            count as f64 / took.as_secs_f64(),
            percentile(&sorted, 50),
            percentile(&sorted, 99),
            percentile(&sorted, 100),
            closed.as_secs_f64(),
            opened.as_millis(),
        );
    }
}
