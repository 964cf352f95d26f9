//! Topics that a broker does not know yet, or does not know to have grown.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failed test panics and tells why"
)]

mod support;

use std::time::{Duration, Instant};

use fulmar_core::batch::{Batch, ProducedBatch, Record};
use fulmar_core::control::table::Page;
use fulmar_core::entry::{Members, ReplicaSet};
use fulmar_core::id::{PartitionKey, TopicId};
use fulmar_proto::v1::log_client::LogClient;
use fulmar_proto::v1::produce_response::Outcome;
use fulmar_proto::v1::start::At;
use fulmar_proto::v1::{
    Earliest, ErrorReason, FetchRequest, Latest, ListOffsetsRequest, MetadataRequest, PartitionOffsets,
    ProduceRequest, PublishRequest, Start, SubscribeRequest, SubscribeResponse,
};
use support::operator::{CLUSTER, Operator, TOPIC, epoch, key, page};
use support::{Brokers, PATIENCE, eventually, nobody_leads};
use tonic::Status;
use tonic_types::StatusExt;

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

async fn publish(brokers: &Brokers, ordinal: usize, topic: &str) -> Result<u64, String> {
    let request = PublishRequest { topic: topic.to_owned(), value: "x".into(), ..PublishRequest::default() };
    let published = brokers.pubsub(ordinal).await.publish(request).await;
    published.map(|response| response.into_inner().offset).map_err(|status| reason(&status))
}

async fn metadata(brokers: &Brokers, ordinal: usize, topic: &str) -> Option<ErrorReason> {
    let request = MetadataRequest { topics: vec![topic.to_owned()], ..MetadataRequest::default() };
    let answer = LogClient::new(brokers.channel(ordinal).await).metadata(request).await.unwrap();
    answer.into_inner().topics[0].error.as_ref().map(fulmar_proto::v1::Error::reason)
}

/// Another broker's answer is waited for for so long.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// And a page that another broker has for so long.
const PAGE_MAX: Duration = Duration::from_millis(1500);

/// So often a question is put at most that a machine that stands still has spoilt.
const TRIES: usize = 10;

/// An answer that another broker had a part in: if it was waited for in vain, the question is put again.
async fn with_others<T>(is_unknown: impl Fn(&T) -> bool, mut ask: impl AsyncFnMut() -> T) -> T {
    for _ in 1..TRIES {
        let began = Instant::now();
        let answer = ask().await;
        if !is_unknown(&answer) || began.elapsed() < ANSWER_MAX {
            return answer;
        }
    }
    ask().await
}

async fn see_each_other(operators: &[Operator; 2]) {
    eventually("the brokers see each other", async || {
        operators.iter().all(|operator| operator.heard.lock().alive.len() == 2)
    })
    .await;
}

/// A topic of one partition, on page 2.
fn new_topic(operator: &Operator) -> Page {
    let id = TopicId(TOPIC.0 + 1);
    let mut page = Page { number: 2, ..page(1, &[operator.replica()], operator.replica(), 1) };
    (page.topics[0].id, page.topics[0].name) = (id, "news".to_owned());
    page.entries[0].key = PartitionKey { topic: id, partition: 0 };
    page
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_another_broker_knows_is_never_called_unknown() {
    let brokers = Brokers::start(2);
    let operators = [brokers.operator(0, CLUSTER).await, brokers.operator(1, CLUSTER).await];
    let replicas = operators.each_ref().map(Operator::replica);
    for operator in &operators {
        operator.push(&page(1, &replicas, replicas[0], 1), 1).await;
    }
    operators[0].leads(key(0), epoch(1)).await;
    see_each_other(&operators).await;
    let news = new_topic(&operators[0]);
    operators[0].push(&news, 1).await;
    operators[0].leads(news.entries[0].key, epoch(1)).await;
    // The second broker is behind for as long as the operator does not reach it.
    let unknown = Some(ErrorReason::UnknownTopic);
    let told = with_others(|told| *told == unknown, async || metadata(&brokers, 1, "news").await).await;
    assert_eq!(told, Some(ErrorReason::NotServing));
    let is_unknown = |published: &Result<u64, String>| *published == Err("UNKNOWN_TOPIC".to_owned());
    let published = with_others(is_unknown, async || publish(&brokers, 1, "news").await).await;
    assert_eq!(published, Err("NOT_SERVING".to_owned()));
    let began = Instant::now();
    let publishing = with_others(is_unknown, async || publish(&brokers, 1, "news").await);
    let (published, ()) = tokio::join!(publishing, async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        operators[1].push(&news, 1).await;
    });
    if let Err(refused) = published {
        // The page was too late for it, on a machine that stood still: then it is there for the next one.
        assert!(
            refused == "NOT_SERVING" && began.elapsed() >= PAGE_MAX,
            "{refused} after {:?}",
            began.elapsed()
        );
        operators[1].holds(2, 1).await;
        publish(&brokers, 1, "news").await.unwrap();
    }
    // What nobody knows is unknown, at once: in one of some tries.
    let mut took = Duration::MAX;
    for _ in 0..TRIES {
        let began = Instant::now();
        for ordinal in [0, 1] {
            assert_eq!(publish(&brokers, ordinal, "nothing").await, Err("UNKNOWN_TOPIC".to_owned()));
            assert_eq!(metadata(&brokers, ordinal, "nothing").await, unknown);
        }
        took = took.min(began.elapsed());
        if took < Duration::from_secs(4) {
            return;
        }
    }
    panic!("{took:?} at best");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_without_a_table_or_alone_with_an_old_one_says_that_it_cannot_tell() {
    let mut brokers = Brokers::start(1);
    assert_eq!(publish(&brokers, 0, "events").await, Err("NOT_SERVING".to_owned()));
    let operator = brokers.operator(0, CLUSTER).await;
    // An operator that attends and pushes no page has none.
    assert_eq!(publish(&brokers, 0, "events").await, Err("UNKNOWN_TOPIC".to_owned()));
    let me = operator.replica();
    operator.push(&page(1, &[me], me, 1), 1).await;
    operator.leads(key(0), epoch(1)).await;
    assert_eq!(publish(&brokers, 0, "nothing").await, Err("UNKNOWN_TOPIC".to_owned()));
    drop(operator);
    brokers.kill(0);
    brokers.spawn(0);
    assert_eq!(publish(&brokers, 0, "nothing").await, Err("NOT_SERVING".to_owned()));
}

fn through_a_tunnel<T>(stream: T, is_marked: bool) -> tonic::Request<T> {
    let mut request = tonic::Request::new(stream);
    if is_marked {
        request.metadata_mut().insert("fulmar-pass-on", "1".parse().unwrap());
    }
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_reaches_one_broker_alone_reaches_every_leader_through_it() {
    let brokers = Brokers::start(2);
    let operators = [brokers.operator(0, CLUSTER).await, brokers.operator(1, CLUSTER).await];
    let replicas = operators.each_ref().map(Operator::replica);
    for operator in &operators {
        operator.push(&page(1, &replicas, replicas[0], 1), 1).await;
        operator.holds(1, 1).await;
    }
    operators[0].leads(key(0), epoch(1)).await;
    see_each_other(&operators).await;
    let mut client = LogClient::new(brokers.channel(1).await);
    let batch = |value: &str| {
        let record = Record { value: value.to_owned().into(), ..Record::default() };
        ProducedBatch::build(&[record], None).unwrap().bytes().clone()
    };
    let requests: Vec<ProduceRequest> = (0..100)
        .map(|number| ProduceRequest {
            topic_id: TOPIC.to_bytes().to_vec().into(),
            partition: 0,
            batch: batch(&number.to_string()),
            correlation_id: number,
        })
        .collect();
    for is_marked in [false, true] {
        let stream = tokio_stream::iter(requests.clone());
        let answers = client.produce(through_a_tunnel(stream, is_marked)).await.unwrap();
        let mut answers = answers.into_inner();
        for number in 0..100 {
            let answer = answers.message().await.unwrap().unwrap();
            assert_eq!(answer.correlation_id, number);
            match answer.outcome.unwrap() {
                Outcome::BaseOffset(offset) => assert!(is_marked && offset == number + 1),
                Outcome::Error(error) => {
                    assert!(!is_marked && error.reason() == ErrorReason::NotLeader, "{error:?}");
                }
            }
        }
    }
    let ask = |offset| FetchRequest {
        topic_id: TOPIC.to_bytes().to_vec().into(),
        offset,
        bytes_max: 1000,
        ..FetchRequest::default()
    };
    let refused = client.fetch(through_a_tunnel(tokio_stream::iter([ask(0)]), false)).await.unwrap();
    let refused = refused.into_inner().message().await.unwrap().unwrap();
    assert_eq!(refused.error.unwrap().reason(), ErrorReason::NotLeader);
    // So little credit that the requests behind the first one have to come through too.
    let (requests, stream) = tokio::sync::mpsc::channel(1);
    requests.send(ask(0)).await.unwrap();
    let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
    let mut answers = client.fetch(through_a_tunnel(stream, true)).await.unwrap().into_inner();
    let mut next = 0;
    while next < 101 {
        let answer = tokio::time::timeout(PATIENCE, answers.message()).await.unwrap();
        let answer = answer.unwrap().unwrap();
        assert_eq!(answer.error, None);
        for bytes in answer.batches {
            next = Batch::parse(bytes, key(0)).unwrap().end().0;
        }
        requests.send(ask(next)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_follows_partitions_that_are_added() {
    let brokers = Brokers::start(1);
    let operator = brokers.operator(0, CLUSTER).await;
    let me = operator.replica();
    operator.push(&page(3, &[me], me, 1), 1).await;
    for partition in 0..3 {
        operator.leads(key(partition), epoch(1)).await;
    }
    let request = SubscribeRequest {
        topics: vec!["events".to_owned()],
        start: Some(Start { at: Some(At::Latest(Latest {})) }),
        partitions: Vec::new(),
    };
    let mut stream = brokers.pubsub(0).await.subscribe(request).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().unwrap().messages.is_empty(), "the subscription stands");
    let mut grown = page(6, &[me], me, 1);
    grown.topics[0].changed = epoch(2);
    operator.push(&grown, 2).await;
    operator.holds(1, 2).await;
    for partition in 0..6 {
        operator.leads(key(partition), epoch(1)).await;
        let request = PublishRequest {
            topic: "events".to_owned(),
            value: "x".into(),
            partition: Some(partition),
            ..PublishRequest::default()
        };
        brokers.pubsub(0).await.publish(request).await.unwrap();
    }
    let mut partitions = Vec::new();
    while partitions.len() < 6 {
        let next = tokio::time::timeout(PATIENCE, stream.message()).await;
        let messages = next.expect("all six are followed").unwrap().unwrap().messages;
        partitions.extend(messages.into_iter().map(|message| message.partition));
    }
    partitions.sort_unstable();
    assert_eq!(partitions, [0, 1, 2, 3, 4, 5]);
}

/// The topic with the number, on the page with that number.
fn named(operator: &Operator, number: u8, name: &str) -> Page {
    let me = operator.replica();
    let id = TopicId(TOPIC.0 + u128::from(number));
    let mut page = Page { number: number.into(), ..page(1, &[me], me, 1) };
    (page.topics[0].id, page.topics[0].name) = (id, name.to_owned());
    page.entries[0].key = PartitionKey { topic: id, partition: 0 };
    page
}

/// The values that come next, with their topics' names, in any order.
async fn told(stream: &mut tonic::Streaming<SubscribeResponse>, count: usize) -> Vec<(String, String)> {
    let mut told = Vec::new();
    while told.len() < count {
        let next = tokio::time::timeout(PATIENCE, stream.message()).await;
        let messages = next.unwrap_or_else(|_| panic!("{count} messages, not only {told:?}")).unwrap();
        let value = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        told.extend(messages.unwrap().messages.into_iter().map(|one| (one.topic, value(&one.value))));
    }
    told.sort_unstable();
    told
}

async fn publish_value(brokers: &Brokers, topic: &str, value: &str) {
    let (topic, value) = (topic.to_owned(), value.to_owned().into());
    let request = PublishRequest { topic, value, ..PublishRequest::default() };
    brokers.pubsub(0).await.publish(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_follows_topics_that_come_later_from_their_first_message_and_outlives_those_that_go() {
    let brokers = Brokers::start(1);
    let operator = brokers.operator(0, CLUSTER).await;
    let said = |topic: &str, value: &str| (topic.to_owned(), value.to_owned());
    let push = async |page: &Page, revision| {
        operator.push(page, revision).await;
        operator.holds(page.number, revision).await;
    };
    let [europe, sensor] = [named(&operator, 1, "orders.eu"), named(&operator, 2, "sensors.1")];
    for page in [&europe, &sensor] {
        push(page, 1).await;
        operator.leads(page.entries[0].key, epoch(1)).await;
    }
    publish_value(&brokers, "orders.eu", "before").await;
    let request = |topics: &[&str], partitions: &[u32]| SubscribeRequest {
        topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
        start: Some(Start { at: Some(At::Latest(Latest {})) }),
        partitions: partitions.to_vec(),
    };
    let mut stream =
        brokers.pubsub(0).await.subscribe(request(&["orders.*"], &[])).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().unwrap().messages.is_empty(), "the subscription stands");

    let mut western = named(&operator, 3, "orders.us");
    push(&western, 1).await;
    operator.leads(western.entries[0].key, epoch(1)).await;
    for topic in ["orders.eu", "orders.us", "sensors.1"] {
        publish_value(&brokers, topic, "1").await;
    }
    assert_eq!(told(&mut stream, 2).await, [said("orders.eu", "1"), said("orders.us", "1")]);

    // Retained, taken back and deleted: what else is followed goes on.
    western.topics[0].retained = true;
    western.topics[0].changed = epoch(2);
    push(&western, 2).await;
    publish_value(&brokers, "orders.eu", "2").await;
    assert_eq!(told(&mut stream, 1).await, [said("orders.eu", "2")]);
    western.topics[0].retained = false;
    western.topics[0].changed = epoch(3);
    push(&western, 3).await;
    publish_value(&brokers, "orders.us", "3").await;
    assert_eq!(told(&mut stream, 1).await, [said("orders.us", "3")], "nothing twice");
    (western.topics, western.entries) = (Vec::new(), Vec::new());
    push(&western, 4).await;
    publish_value(&brokers, "orders.eu", "4").await;
    assert_eq!(told(&mut stream, 1).await, [said("orders.eu", "4")]);

    for (topics, partitions, says) in
        [(&["orders.*x"][..], &[][..], "\"orders.*x\" is no pattern"), (&[">"], &[0], "none with a pattern")]
    {
        let status = brokers.pubsub(0).await.subscribe(request(topics, partitions)).await.unwrap_err();
        assert_eq!(reason(&status), "INVALID_REQUEST");
        assert!(status.message().contains(says), "{status:?}");
    }
}

async fn log_start(brokers: &Brokers, topic: &str) -> u64 {
    offsets(brokers, topic).await.log_start
}

async fn offsets(brokers: &Brokers, topic: &str) -> PartitionOffsets {
    let request =
        ListOffsetsRequest { topic: topic.to_owned(), partitions: vec![0], ..ListOffsetsRequest::default() };
    let told = LogClient::new(brokers.channel(0).await).list_offsets(request).await.unwrap().into_inner();
    told.partitions[0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retained_topic_that_comes_back_is_followed_from_what_is_kept_and_ends_nothing() {
    let brokers = Brokers::start(1);
    let operator = brokers.operator(0, CLUSTER).await;
    let (mut old, new) = (named(&operator, 1, "orders.old"), named(&operator, 2, "orders.new"));
    let push = async |page: &Page, revision| {
        operator.push(page, revision).await;
        operator.holds(page.number, revision).await;
    };
    old.topics[0].retention_ms = Some(1);
    for page in [&old, &new] {
        push(page, 1).await;
        operator.leads(page.entries[0].key, epoch(1)).await;
    }
    publish_value(&brokers, "orders.old", "gone").await;
    eventually("retention has taken it", async || log_start(&brokers, "orders.old").await > 0).await;
    (old.topics[0].retention_ms, old.topics[0].changed) = (None, epoch(2));
    push(&old, 2).await;
    publish_value(&brokers, "orders.old", "kept").await;
    (old.topics[0].retained, old.topics[0].changed) = (true, epoch(3));
    push(&old, 3).await;

    let request = SubscribeRequest {
        topics: vec!["orders.*".to_owned()],
        start: Some(Start { at: Some(At::Latest(Latest {})) }),
        partitions: Vec::new(),
    };
    let mut stream = brokers.pubsub(0).await.subscribe(request).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().unwrap().messages.is_empty(), "the subscription stands");
    (old.topics[0].retained, old.topics[0].changed) = (false, epoch(4));
    push(&old, 4).await;
    publish_value(&brokers, "orders.old", "later").await;
    publish_value(&brokers, "orders.new", "later").await;
    let told = told(&mut stream, 3).await;
    let said = |topic: &str, value: &str| (topic.to_owned(), value.to_owned());
    assert_eq!(told, [said("orders.new", "later"), said("orders.old", "kept"), said("orders.old", "later")]);
}

/// A step lets go of 32 MiB. That many bytes come is not known behind a restart: what is too much is found step by step, and with one in
/// each round of ten seconds it would take more than a minute.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_beyond_a_topics_bytes_goes_within_a_minute_however_much_it_is() {
    const MESSAGES: u64 = 6_400;
    const AT_ONCE: u64 = 64;
    const VALUE_BYTES: u64 = 50_000;
    const KEPT_BYTES: u64 = 32 << 20;
    let mut brokers = Brokers::start(1);
    let operator = brokers.operator(0, CLUSTER).await;
    let mut old = named(&operator, 1, "orders.old");
    operator.push(&old, 1).await;
    operator.leads(old.entries[0].key, epoch(1)).await;
    let value = bytes::Bytes::from(vec![b'x'; usize::try_from(VALUE_BYTES).unwrap()]);
    let pubsub = brokers.pubsub(0).await;
    for _ in 0..MESSAGES / AT_ONCE {
        let publishes = (0..AT_ONCE).map(async |_| {
            let request = PublishRequest {
                topic: "orders.old".to_owned(),
                value: value.clone(),
                ..PublishRequest::default()
            };
            pubsub.clone().publish(request).await.unwrap();
        });
        futures::future::join_all(publishes).await;
    }
    drop((operator, pubsub));
    brokers.kill(0);
    brokers.spawn(0);
    let operator = brokers.operator(0, CLUSTER).await;
    operator.leads(old.entries[0].key, epoch(1)).await;
    (old.topics[0].retention_bytes, old.topics[0].changed) = (Some(KEPT_BYTES), epoch(2));
    operator.push(&old, 2).await;
    operator.holds(old.number, 2).await;
    eventually("what is beyond its bytes is gone", async || {
        let told = offsets(&brokers, "orders.old").await;
        told.high_watermark - told.log_start <= KEPT_BYTES / VALUE_BYTES
    })
    .await;
    let told = offsets(&brokers, "orders.old").await;
    let kept = told.high_watermark - told.log_start;
    assert!(kept * VALUE_BYTES + 2 * 65_536 >= KEPT_BYTES, "{kept} messages are kept");
    publish_value(&brokers, "orders.old", "goes on").await;
}

/// Lets retention take everything that is in `orders.old`, and none of what comes later.
async fn trimmed(brokers: &Brokers, keep: &mut impl AsyncFnMut(Option<u64>)) {
    publish_value(brokers, "orders.old", "gone").await;
    keep(Some(1)).await;
    eventually("retention has taken it", async || {
        let told = offsets(brokers, "orders.old").await;
        told.log_start == told.high_watermark
    })
    .await;
    keep(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_begins_with_the_oldest_message_is_not_ended_by_retention_that_was_faster() {
    let brokers = Brokers::start(2);
    let operators = [brokers.operator(0, CLUSTER).await, brokers.operator(1, CLUSTER).await];
    let [here, there] = operators.each_ref().map(Operator::replica);
    let [mut old, mut other] =
        [named(&operators[0], 1, "orders.old"), named(&operators[0], 2, "orders.other")];
    other.entries[0].members = Members::One(ReplicaSet::new(vec![there], 1).unwrap());
    other.entries[0].leader = Some(there);
    assert_eq!(old.entries[0].leader, Some(here));
    for operator in &operators {
        for page in [&old, &other] {
            operator.push(page, 1).await;
            operator.holds(page.number, 1).await;
        }
    }
    operators[0].leads(old.entries[0].key, epoch(1)).await;
    operators[1].leads(other.entries[0].key, epoch(1)).await;
    see_each_other(&operators).await;
    publish_value(&brokers, "orders.other", "kept").await;
    let push = async |page: &Page, revision| {
        operators[0].push(page, revision).await;
        operators[0].holds(page.number, revision).await;
    };
    let mut counter = 1;
    let mut keep = async |ms: Option<u64>| {
        counter += 1;
        (old.topics[0].retention_ms, old.topics[0].changed) = (ms, epoch(counter));
        push(&old, counter).await;
    };
    // All starts are looked up before anything is read: the one that hangs holds up the other, and retention passes it. It looks every
    // 10 s, as long as a start is waited for: so it is to look soon after, and is seen to look first.
    let request = SubscribeRequest {
        topics: vec!["orders.old".to_owned(), "orders.other".to_owned()],
        start: Some(Start { at: Some(At::Earliest(Earliest {})) }),
        partitions: Vec::new(),
    };
    for _ in 0..TRIES {
        trimmed(&brokers, &mut keep).await;
        tokio::time::sleep(Duration::from_secs(7)).await;
        publish_value(&brokers, "orders.old", "gone").await;
        let mut pubsub = brokers.pubsub(0).await;
        brokers.signal(1, rustix::process::Signal::STOP);
        let (request, looking) = (request.clone(), tokio::time::sleep(Duration::from_millis(500)));
        let subscribing = tokio::spawn(async move { pubsub.subscribe(request).await });
        looking.await;
        trimmed(&brokers, &mut keep).await;
        publish_value(&brokers, "orders.old", "later").await;
        brokers.signal(1, rustix::process::Signal::CONT);
        let mut stream = match subscribing.await.unwrap() {
            Ok(stream) => stream.into_inner(),
            Err(status) => {
                assert!(nobody_leads(&status), "{status:?}");
                continue;
            }
        };
        assert!(stream.message().await.unwrap().unwrap().messages.is_empty(), "the subscription stands");
        let said = |topic: &str, value: &str| (topic.to_owned(), value.to_owned());
        assert_eq!(told(&mut stream, 2).await, [said("orders.old", "later"), said("orders.other", "kept")]);
        return;
    }
    panic!("the other leader did not come back in time, in {TRIES} tries");
}
