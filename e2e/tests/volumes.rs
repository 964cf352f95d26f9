//! Promise: a full volume refuses records and nothing else, and is over by itself when retention makes room, or when the volume grows,
//! which it does while brokers run; where it cannot, a condition says why, and nothing stops.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use fulmar_client::{Client, Producer, Record, Start};
use fulmar_e2e::brokers::{Brokers, SOON, cluster, cluster_on_disks, topic};
use fulmar_e2e::clients::producer;
use fulmar_e2e::wait;
use fulmar_proto::v1::PublishRequest;
use fulmar_proto::v1::pub_sub_client::PubSubClient;
use tonic::transport::Channel;
use tonic::{Code, Status};

const TOPIC: &str = "events";

/// Whose retention is made smaller.
const BULK: &str = "bulk";

/// Nearly half a MiB: a page of the broker's file takes it with what belongs to it.
const LARGE_BYTES: usize = 500_000;

/// A broker of 256 MiB has the last 64 MiB of records in memory, and retention leaves these. Of the others it lets so much go in one step
/// that there is room beside a [`Filler`], and half as much again.
const LARGE_RECORDS: usize = 400;

/// Of 1 GiB a broker keeps an eighth free: 128 MiB; and takes records again where it has 160. It needs some of what is left to write its
/// own files, full or not.
const LEFT_BYTES: u64 = 96 << 20;

/// A file that takes the room of a volume, until it is dropped.
struct Filler(PathBuf);

impl Filler {
    /// Fills a broker's volume, as the node sees it.
    fn take(brokers: &Brokers, ordinal: u32) -> Result<Self> {
        let claim = brokers.get(&format!("pvc/data-{}", Brokers::pod(ordinal)))?;
        let volume = claim["spec"]["volumeName"].as_str().context("the claim has a volume")?;
        let path = brokers.kubectl(&["get", "pv", volume, "-o", "jsonpath={.spec.local.path}"])?;
        let (size, free) = space(Path::new(&path))?;
        // Never the machine's own disk.
        ensure!(size < 2 << 30, "{path} is no file system of its own: it has {size} bytes");
        let filler = Self(Path::new(&path).join("filler"));
        File::create(&filler.0).with_context(|| format!("could not make {}", filler.0.display()))?;
        let length = free.saturating_sub(LEFT_BYTES).to_string();
        let status = Command::new("fallocate").args(["-l", &length]).arg(&filler.0).status()?;
        ensure!(status.success(), "fallocate of {length} bytes in {path}: {status}");
        Ok(filler)
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        // The volume may be gone already.
        let _gone = std::fs::remove_file(&self.0);
    }
}

/// Size of a file system, and what is free of it.
fn space(path: &Path) -> Result<(u64, u64)> {
    let output = Command::new("stat").args(["-f", "-c", "%S %b %a"]).arg(path).output()?;
    let text = String::from_utf8(output.stdout)?;
    let numbers: Vec<u64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let [block, blocks, free] = numbers[..] else { anyhow::bail!("stat said {text:?}") };
    Ok((block * blocks, block * free))
}

/// The line of the page that asks which volumes are full.
const WHO_IS_FULL: &str =
    r#"kubectl get flc orders -o jsonpath='{.status.conditions[?(@.type=="DiskPressure""#;

/// The one that asks for larger ones.
const GROW: &str = r#"kubectl patch flc orders --type=merge -p '{"spec": {"storage": {"size""#;

fn set_size(brokers: &Brokers, size: &str) -> Result<String> {
    let patch = format!(r#"{{"spec": {{"storage": {{"size": "{size}"}}}}}}"#);
    brokers.kubectl(&["patch", "flc/orders", "--type=merge", "-p", &patch])
}

fn claim_asks(brokers: &Brokers, ordinal: u32) -> Result<String> {
    let asks = "jsonpath={.spec.resources.requests.storage}";
    brokers.kubectl(&["get", "pvc", &format!("data-{}", Brokers::pod(ordinal)), "-o", asks])
}

/// `bytes` as JSON: a quantity in quotes, or null.
fn set_retention(brokers: &Brokers, bytes: &str) {
    let patch = format!(r#"{{"spec": {{"retention": {{"bytesPerPartition": {bytes}}}}}}}"#);
    brokers.kubectl(&["patch", "flt/bulk", "--type=merge", "-p", &patch]).unwrap();
}

/// For publishes by hand: the SDK would try again.
async fn by_hand(brokers: &Brokers) -> Result<PubSubClient<Channel>> {
    let address = format!("http://{}:50051", brokers.pod_ip(0)?);
    Ok(PubSubClient::connect(address).await?)
}

async fn publish_once(
    client: &mut PubSubClient<Channel>,
    topic: &str,
    value: Vec<u8>,
) -> Result<u64, Status> {
    let request =
        PublishRequest { topic: topic.to_owned(), value: value.into(), ..PublishRequest::default() };
    Ok(client.publish(request).await?.into_inner().offset)
}

/// Publishes [`LARGE_RECORDS`]; gives their offsets.
async fn publish_bulk(client: &Client) -> Result<Vec<u64>> {
    let publisher = producer(client, BULK).await?;
    let mut waiting = Vec::new();
    for _ in 0..LARGE_RECORDS {
        waiting.push(publisher.send(Record::new(vec![0; LARGE_BYTES])).await?);
    }
    let mut offsets = Vec::new();
    for delivery in waiting {
        offsets.push(delivery.await?.offset);
    }
    Ok(offsets)
}

/// Publishes large records one after the other until one is refused; gives how many were taken.
async fn refill(brokers: &Brokers) -> usize {
    let mut client = by_hand(brokers).await.unwrap();
    for taken in 0..LARGE_RECORDS {
        if let Err(refusal) = publish_once(&mut client, BULK, vec![0; LARGE_BYTES]).await {
            assert_disk_full(&refusal);
            return taken;
        }
    }
    panic!("retention let some of {LARGE_RECORDS} records go, and there is room for as many again");
}

fn assert_disk_full(refusal: &Status) {
    assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal}");
    assert!(String::from_utf8_lossy(refusal.details()).contains("DISK_FULL"), "{refusal:?}");
    assert!(refusal.message().contains("the volume of broker 0"), "{refusal}");
}

async fn read_all(brokers: &Brokers) -> Result<Vec<String>> {
    let client = brokers.client(0).await?;
    let mut subscriber = client.subscriber(TOPIC).start(Start::Earliest).until_end().build().await?;
    let mut values = Vec::new();
    while let Some(message) = subscriber.next().await {
        values.push(String::from_utf8_lossy(&message?.value).into_owned());
    }
    Ok(values)
}

/// Where the large records stand that are there.
async fn bulk_offsets(brokers: &Brokers) -> Result<Vec<u64>> {
    let client = brokers.client(0).await?;
    let mut subscriber = client.subscriber(BULK).start(Start::Earliest).until_end().build().await?;
    let mut offsets = Vec::new();
    while let Some(message) = subscriber.next().await {
        offsets.push(message?.offset);
    }
    Ok(offsets)
}

/// Waits until the Cluster says that the volume is full: then publishing is refused, and what there is, is read.
async fn await_full(brokers: &Brokers, there: &[&str]) {
    let message = brokers.await_reason("flc/orders", "DiskPressure", "True", "VolumesFull").unwrap();
    assert!(message.starts_with("orders-0 ("), "{message}");
    println!("DiskPressure: {message}");
    // As a person asks for it; it fills a little more all the while.
    let shown = brokers.type_line(WHO_IS_FULL).unwrap();
    let consequence = |message: &str| message.split_once(": ").map(|(_, consequence)| consequence.to_owned());
    assert!(shown.starts_with("orders-0 (") && consequence(&shown) == consequence(&message), "{shown}");
    let mut client = by_hand(brokers).await.unwrap();
    let refusal = publish_once(&mut client, TOPIC, b"refused".to_vec()).await.unwrap_err();
    assert_disk_full(&refusal);
    println!("a publish is answered with {}", refusal.message());
    assert_eq!(read_all(brokers).await.unwrap(), there);
}

/// Waits until the Cluster says, in a condition and an Event, that the volume is not full any more.
fn await_room(brokers: &Brokers) {
    brokers.await_condition("flc/orders", "DiskPressure", "False", SOON).unwrap();
    wait::until_so("Events tell that it was full, and that it is over", SOON, || {
        let told = brokers.events("DiskPressure")?.0;
        let is_told = |part: &str| told.iter().any(|note| note.contains(part));
        ensure!(is_told("orders-0") && is_told("every volume has room again"), "{told:?}");
        Ok(true)
    })
    .unwrap();
}

/// A Topic is to keep less: the oldest of its records go, and others come, in the very file that was full.
async fn retention_makes_room(brokers: &Brokers, publisher: &Producer, bulk: &[u64]) {
    assert_eq!(bulk_offsets(brokers).await.unwrap(), bulk, "read from the disk, most of it");
    // The SDK tries on, and its record is there in the end.
    let waiting = publisher.send(Record::new("after retention")).await.unwrap();
    set_retention(brokers, "\"16Mi\"");
    waiting.await.unwrap();
    await_room(brokers);
    assert_eq!(claim_asks(brokers, 0).unwrap(), "1Gi", "nothing has grown");
    // From here on what is there stays, or the next ones would make room for themselves.
    set_retention(brokers, "null");
    brokers.await_ready("flt/bulk").unwrap();
    let kept = bulk_offsets(brokers).await.unwrap();
    println!("{} of {} large records are kept", kept.len(), bulk.len());
    assert!(kept.len() < bulk.len() && bulk.ends_with(&kept), "{kept:?} of {bulk:?}");
    println!("{} large records more were taken", refill(brokers).await);
}

async fn growth_makes_room(brokers: &Brokers, publisher: &Producer) {
    let waiting = publisher.send(Record::new("after growth")).await.unwrap();
    // The page grows them tenfold, which would be the machine's own disk.
    let to_twice = [("20Gi", "2Gi")];
    brokers.type_line_with(GROW, &to_twice).unwrap();
    brokers.type_line_with("kubectl wait --for=jsonpath='{.status.storageCapacity}'", &to_twice).unwrap();
    brokers.type_line("kubectl wait --for=condition=VolumesSized ").unwrap();
    waiting.await.unwrap();
    brokers.await_condition("flc/orders", "DiskPressure", "False", SOON).unwrap();
    assert_eq!(claim_asks(brokers, 0).unwrap(), "2Gi");

    // What has grown cannot shrink, and says what there is.
    let shrunk = set_size(brokers, "1Gi").unwrap_err().to_string();
    assert!(shrunk.contains("volumes cannot shrink: spec.storage.size 1Gi is below 2Gi"), "{shrunk}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_volume_refuses_records_is_read_and_takes_them_again_after_retention_and_after_growth() {
    let one_replica = "replicationFactor: 1";
    let topics = topic(TOPIC, 1, one_replica) + &topic(BULK, 1, one_replica);
    let brokers = Brokers::apply("volumes", &(cluster_on_disks(1) + &topics)).unwrap();
    brokers.await_ready("flt/events").unwrap();
    brokers.await_ready("flt/bulk").unwrap();
    let client = brokers.client(0).await.unwrap();
    let publisher = producer(&client, TOPIC).await.unwrap();
    publisher.publish(Record::new("before")).await.unwrap();
    let bulk = publish_bulk(&client).await.unwrap();
    let (pod, process) = (brokers.pod_uid(0).unwrap(), brokers.process(0).unwrap());

    let _filler = Filler::take(&brokers, 0).unwrap();
    await_full(&brokers, &["before"]).await;
    retention_makes_room(&brokers, &publisher, &bulk).await;
    await_full(&brokers, &["before", "after retention"]).await;
    growth_makes_room(&brokers, &publisher).await;
    assert_eq!(read_all(&brokers).await.unwrap(), ["before", "after retention", "after growth"]);
    assert_eq!(brokers.pod_uid(0).unwrap(), pod, "the pod was not made anew");
    assert_eq!(brokers.process(0).unwrap(), process, "nor its process");

    // The set's template says 1Gi for ever; a broker that is added gets the size that is wanted.
    brokers.kubectl(&["scale", "flc/orders", "--replicas=2"]).unwrap();
    wait::until_so("the new broker's claim", SOON, || Ok(claim_asks(&brokers, 1)? == "2Gi")).unwrap();
    brokers.await_ready("flc/orders").unwrap();
    assert_eq!(brokers.pod_uid(0).unwrap(), pod, "and nobody was restarted for it");
}

#[test]
fn a_class_that_cannot_grow_is_a_condition_and_the_change_can_be_taken_back() {
    let brokers =
        Brokers::apply("fixed-volumes", &(cluster(1) + &topic(TOPIC, 1, "replicationFactor: 1"))).unwrap();
    brokers.await_ready("flt/events").unwrap();
    set_size(&brokers, "3Gi").unwrap();
    let message = brokers.await_reason("flc/orders", "Stalled", "True", "ClassCannotGrow").unwrap();
    assert!(message.contains("StorageClass local does not let its volumes grow"), "{message}");
    println!("{message}");
    assert_eq!(brokers.condition("flc/orders", "VolumesSized").unwrap().unwrap().1, "ClassCannotGrow");
    assert_eq!(brokers.condition("flc/orders", "Ready").unwrap().unwrap().0, "True", "it goes on serving");
    assert_eq!(claim_asks(&brokers, 0).unwrap(), "1Gi");
    set_size(&brokers, "1Gi").unwrap();
    brokers.await_condition("flc/orders", "VolumesSized", "True", SOON).unwrap();
    brokers.await_condition("flc/orders", "Stalled", "False", SOON).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_that_denies_a_volume_is_a_condition_and_the_others_go_on() {
    let yaml = cluster(1) + &topic(TOPIC, 1, "replicationFactor: 1");
    let brokers = Brokers::apply("short-volumes", &yaml).unwrap();
    brokers.await_ready("flt/events").unwrap();
    brokers.kubectl(&["create", "quota", "little", "--hard=requests.storage=1Gi"]).unwrap();
    brokers.kubectl(&["scale", "flc/orders", "--replicas=2"]).unwrap();
    let message = brokers.await_reason("flc/orders", "Stalled", "True", "QuotaExceeded").unwrap();
    assert!(message.contains("data-orders-1 does not get 1Gi"), "{message}");
    println!("{message}");
    let producer = producer(&brokers.client(0).await.unwrap(), TOPIC).await.unwrap();
    producer.publish(Record::new("served meanwhile")).await.unwrap();
    brokers.kubectl(&["delete", "quota", "little"]).unwrap();
    brokers.await_ready("flc/orders").unwrap();
    brokers.await_condition("flc/orders", "Stalled", "False", SOON).unwrap();
}
