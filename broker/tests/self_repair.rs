//! Flipped bytes in real files of real brokers: whoever still has a batch gives it to who lost it, readers see nothing of it,
//! and the files are whole again. What nobody has is said, and everything else goes on.

#![allow(
    clippy::cast_precision_loss,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failed test panics and tells why"
)]

mod support;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fulmar_broker::storage::{Expectations, ReadError, Storage, StorageConfig};
use fulmar_core::id::{Ordinal, ReplicaId};
use fulmar_core::offset::Offset;
use fulmar_proto::internal::v1 as proto;
use fulmar_proto::internal::v1::from_operator::Message as Down;
use fulmar_proto::v1::start::At;
use fulmar_proto::v1::{Earliest, PublishRequest, Start, SubscribeRequest, SubscribeResponse};
use support::operator::{CLUSTER, Operator, epoch, key, page};
use support::{Brokers, PATIENCE, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::{Status, Streaming};

const RECORDS: usize = 120;

struct Three {
    brokers: Brokers,
    operators: Vec<Operator>,
}

fn value(number: usize) -> String {
    format!("record {number:04} {}", "with some bytes behind it ".repeat(12))
}

/// Three brokers with one partition of three replicas, led by 0.
async fn three() -> Three {
    let brokers = Brokers::start(3);
    let mut three = Three { brokers, operators: Vec::new() };
    three.attend().await;
    let replicas: Vec<ReplicaId> = three.operators.iter().map(Operator::replica).collect();
    let page = page(1, &replicas, replicas[0], 1);
    for operator in &three.operators {
        operator.push(&page, 1).await;
    }
    three.operators[0].leads(key(0), epoch(1)).await;
    for operator in &three.operators {
        operator.holds(1, 1).await;
    }
    three
}

impl Three {
    async fn attend(&mut self) {
        self.operators.clear();
        for ordinal in 0..3 {
            self.operators.push(self.brokers.operator(ordinal, CLUSTER).await);
        }
    }

    async fn publish(&self, at: usize, value: String) -> u64 {
        let request =
            PublishRequest { topic: "events".to_owned(), value: value.into(), ..PublishRequest::default() };
        self.brokers.publish(at, &request).await.offset
    }

    /// Gives the offset behind the last one.
    async fn publish_all(&self) -> u64 {
        let mut end = 0;
        for number in 0..RECORDS {
            end = self.publish(number % 2, value(number)).await + 1;
        }
        end
    }

    /// Waits until all three have everything up to `end` on their disks. (Who had so a few seconds ago is called in sync, too.)
    async fn all_hold(&self, end: u64) {
        for operator in &self.operators {
            eventually(&format!("broker {} holds everything", operator.hello.ordinal), async || {
                operator.say(Down::Ask(proto::Ask { request: 1 })).await;
                let heard = operator.heard.lock();
                heard.reports.get(&key(0).to_string()).is_some_and(|report| report.log_end >= end)
            })
            .await;
        }
    }

    /// Stopped in order, so that everything is in the tables.
    fn stop_all(&mut self) {
        self.operators.clear();
        for ordinal in [2, 1, 0] {
            if self.brokers.has_ended(ordinal) {
                continue;
            }
            assert!(self.brokers.terminate(ordinal).success(), "{}", self.brokers.log(ordinal));
        }
    }

    async fn start_all(&mut self) {
        (0..3).for_each(|ordinal| self.brokers.spawn(ordinal));
        self.attend().await;
    }

    async fn subscribe(&self, at: usize) -> Streaming<SubscribeResponse> {
        let request = SubscribeRequest {
            topics: vec!["events".to_owned()],
            start: Some(Start { at: Some(At::Earliest(Earliest {})) }),
            partitions: Vec::new(),
        };
        self.brokers.subscribe(at, &request).await
    }

    fn file(&self, ordinal: usize) -> PathBuf {
        self.brokers.data(ordinal).join("records.redb")
    }

    async fn metric(&self, ordinal: usize, name: &str) -> u64 {
        let mut stream = tokio::net::TcpStream::connect(self.brokers.ports[ordinal].http).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().parse().unwrap()
    }
}

/// Flips a bit in the middle of this record's value, wherever the file has it.
fn rot(file: &Path, number: usize) {
    let mut bytes = std::fs::read(file).unwrap();
    let needle = format!("record {number:04} ");
    let places: Vec<usize> = bytes
        .windows(needle.len())
        .enumerate()
        .filter(|(_, window)| *window == needle.as_bytes())
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty(), "record {number} is not in {}", file.display());
    for at in places {
        bytes[at + 40] ^= 0x10;
    }
    std::fs::write(file, bytes).unwrap();
}

async fn take(stream: &mut Streaming<SubscribeResponse>, count: usize) -> Result<Vec<String>, Status> {
    let mut taken = Vec::new();
    let reading = async {
        while taken.len() < count {
            let messages = stream.message().await?.expect("the stream goes on").messages;
            taken.extend(messages.into_iter().map(|one| String::from_utf8(one.value.to_vec()).unwrap()));
        }
        Ok(taken)
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("messages within a minute")
}

/// Reads a stopped broker's volume whole: how many batches there are, and the first that is damaged.
fn read_volume(dir: &Path, ordinal: u16) -> (usize, Option<Offset>) {
    let config = StorageConfig::for_memory(dir.to_owned(), 64 << 20);
    let expectations = Expectations { ordinal: Ordinal(ordinal), cluster: None };
    let (storage, opened) = Storage::open(&config, &expectations, |_| {}).unwrap();
    let (_, recovered) = opened.replicas.iter().find(|(found, _)| *found == key(0)).unwrap();
    let (mut from, mut count) = (recovered.log_start, 0);
    let mut damaged = None;
    while from < recovered.log_end {
        match storage.read(key(0), from, recovered.log_end, 1 << 20) {
            Ok(batches) => {
                count += batches.len();
                from = batches.last().unwrap().end();
            }
            Err(ReadError::Rotten { base, .. }) => {
                damaged = Some(base);
                break;
            }
            Err(error) => panic!("{error}"),
        }
    }
    storage.close().unwrap();
    (count, damaged)
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_are_rotten_in_different_places_heal_each_other_and_readers_see_everything() {
    let mut three = three().await;
    let end = three.publish_all().await;
    three.all_hold(end).await;
    three.stop_all();
    // A follower, the leader, and two replicas side by side.
    rot(&three.file(2), 10);
    rot(&three.file(0), 50);
    rot(&three.file(0), 51);
    rot(&three.file(1), 90);
    rot(&three.file(0), 91);
    rot(&three.file(2), 91);
    for ordinal in 0..3 {
        let (_, damaged) = read_volume(&three.brokers.data(usize::from(ordinal)), ordinal);
        assert!(damaged.is_some(), "the volume of {ordinal} is damaged");
    }
    three.start_all().await;
    let mut stream = three.subscribe(1).await;
    let values = take(&mut stream, RECORDS).await.unwrap();
    assert_eq!(values, (0..RECORDS).map(value).collect::<Vec<_>>());
    // Of neighbours that are damaged together the first one's copy brings the other's.
    for (ordinal, damaged) in [(0, 2), (1, 1), (2, 2)] {
        eventually(&format!("broker {ordinal} is whole again"), async || {
            three.metric(ordinal, "fulmar_batches_mended_total").await >= damaged
                && three.metric(ordinal, "fulmar_replicas_damaged").await == 0
        })
        .await;
        assert_eq!(three.metric(ordinal, "fulmar_replicas_irreparable").await, 0);
    }
    three.publish(0, "behind it".to_owned()).await;
    three.stop_all();
    let volumes: Vec<(usize, Option<Offset>)> =
        (0..3).map(|ordinal| read_volume(&three.brokers.data(usize::from(ordinal)), ordinal)).collect();
    assert!(volumes.iter().all(|volume| volume.1.is_none() && volume.0 > RECORDS), "{volumes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_replica_has_is_said_plainly_and_everything_else_goes_on() {
    let mut three = three().await;
    let end = three.publish_all().await;
    three.all_hold(end).await;
    three.stop_all();
    (0..3).for_each(|ordinal| rot(&three.file(ordinal), 30));
    three.start_all().await;
    let mut stream = three.subscribe(0).await;
    let values = take(&mut stream, 30).await.unwrap();
    assert_eq!(values, (0..30).map(value).collect::<Vec<_>>());
    let status = take(&mut stream, 1).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DataLoss, "{status:?}");
    assert!(status.message().contains("no other replica can give a copy"), "{status:?}");
    for ordinal in 0..3 {
        eventually(&format!("broker {ordinal} says so to the operator"), async || {
            let heard = three.operators[ordinal].heard.lock();
            heard.reports.get(&key(0).to_string()).is_some_and(|report| report.irreparable.is_some())
        })
        .await;
        eventually(&format!("broker {ordinal} says so in its metrics and its log"), async || {
            let log = three.brokers.log(ordinal);
            three.metric(ordinal, "fulmar_replicas_irreparable").await == 1
                && log.contains("no other member of the partition can give a copy")
                && log.contains("records.redb")
        })
        .await;
    }
    // Publishing goes on.
    let offset = three.publish(1, "behind it".to_owned()).await;
    assert!(offset > u64::try_from(RECORDS).unwrap());
    // And nobody asks all day: a question a second at the very most, and less and less often.
    let (before, began) = (three.brokers.log(0).len(), Instant::now());
    tokio::time::sleep(Duration::from_secs(3)).await;
    let more = three.brokers.log(0).len() - before;
    let took = began.elapsed();
    assert!(more as f64 / took.as_secs_f64() < 7_000.0, "{more} bytes of log in {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_fetches_from_rotten_replicas_opens_its_term_with_everything() {
    let mut three = three().await;
    let replicas: Vec<ReplicaId> = three.operators.iter().map(Operator::replica).collect();
    three.brokers.kill(2);
    three.publish_all().await;
    three.stop_all();
    rot(&three.file(0), 20);
    rot(&three.file(1), 60);
    rot(&three.file(0), 100);
    three.start_all().await;
    // The one that has nothing is to lead.
    let page = page(1, &replicas, replicas[2], 2);
    for operator in &three.operators {
        operator.push(&page, 2).await;
    }
    three.operators[2].leads(key(0), epoch(2)).await;
    let mut stream = three.subscribe(2).await;
    let values = take(&mut stream, RECORDS).await.unwrap();
    assert_eq!(values, (0..RECORDS).map(value).collect::<Vec<_>>());
    three.stop_all();
    for ordinal in 0..3 {
        let (count, damaged) = read_volume(&three.brokers.data(usize::from(ordinal)), ordinal);
        assert!(damaged.is_none() && count > RECORDS, "broker {ordinal}: {count}, {damaged:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_of_a_rotten_leader_catches_up_once_the_leader_is_healed_by_another() {
    let mut three = three().await;
    three.brokers.kill(2);
    let end = three.publish_all().await;
    three.stop_all();
    rot(&three.file(0), 20);
    rot(&three.file(0), 70);
    three.start_all().await;
    three.all_hold(end).await;
    three.stop_all();
    let (count, damaged) = read_volume(&three.brokers.data(2), 2);
    assert!(damaged.is_none() && count > RECORDS, "{count}, {damaged:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_refused_says_why_and_an_empty_one_starts() {
    let mut three = three().await;
    three.publish(0, value(0)).await;
    three.stop_all();
    std::fs::File::options().write(true).open(three.file(1)).unwrap().set_len(10_000).unwrap();
    let output = three.brokers.command(1).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(
        said.contains("data-1/records.redb: ") && said.contains("give this broker an empty volume"),
        "{said}"
    );
    std::fs::remove_dir_all(three.brokers.data(1)).unwrap();
    three.brokers.spawn(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_volume_is_refused_by_a_peer_that_was_restarted_meanwhile() {
    let mut three = three().await;
    let peer = three.operators[1].replica().to_string();
    three.publish(0, value(0)).await;
    three.stop_all();
    let copy = three.brokers.dir.path().join("copy");
    copy_folder(&three.brokers.data(1), &copy);
    let meetings = |three: &Three| {
        let log = three.brokers.log(0);
        log.lines().filter(|line| line.contains("connected to a peer") && line.contains(&peer)).count()
    };
    let met_before = meetings(&three);
    three.start_all().await;
    eventually("broker 0 has met the second process of broker 1", async || meetings(&three) > met_before)
        .await;
    three.stop_all();
    std::fs::remove_dir_all(three.brokers.data(1)).unwrap();
    copy_folder(&copy, &three.brokers.data(1));
    // Nobody remembers but the volumes of the others; no operator attends.
    three.brokers.spawn(0);
    three.brokers.launch(1);
    eventually("broker 1 ends", async || three.brokers.has_ended(1)).await;
    let log = three.brokers.log(1);
    assert!(log.contains("this volume was restored from a copy"), "{log}");
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
