//! Promise: wherever the operator dies, a Cluster becomes what it would have become; it takes longer.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use fulmar_e2e::brokers::{Brokers, cluster_on_disks, topic};
use fulmar_e2e::environment::Environment;
use fulmar_e2e::load::Load;
use fulmar_e2e::operators::{LEASE_SECONDS, Operator};
use fulmar_e2e::proxy::{Asked, Treatment};
use fulmar_e2e::remains::Remains;
use fulmar_e2e::wait;

/// One age of a life, with a hundred restarts of the operator in it, each of less than a second.
const AGE_WITHIN: Duration = Duration::from_mins(4);

/// Between two looks at a Secret that is on its way to a broker. Each has kubelet sync the pod.
const NUDGED_EVERY: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_life_comes_out_the_same_with_the_operator_killed_before_and_after_each_kind_of_write() {
    let environment = Environment::get().unwrap();
    let operator = Operator::start(environment, &["life-killed", "life-undisturbed"]).await.unwrap();
    let calm = Deaths::new("life-undisturbed", false);
    let expected = live(environment, &operator, &calm, None).await.unwrap();
    let deaths = Deaths::new("life-killed", true);
    live(environment, &operator, &deaths, Some(&expected)).await.unwrap();

    let (wanted, died_at) = (calm.calls(), deaths.calls());
    let spared: Vec<_> = wanted.difference(&died_at).collect();
    assert!(spared.is_empty(), "nobody died at {spared:?}");
    let starts = operator.starts();
    println!("{} kinds of writes, {} deaths, {starts} starts", wanted.len(), deaths.count());
}

/// One full life of a Cluster; gives what was written at the end of each of its ages, or compares it.
///
/// In none of them a template is given up by the operator: it waits for five minutes, by the clock of the API server, and no test can
/// shorten that.
async fn live(
    environment: &'static Environment,
    operator: &Operator,
    deaths: &Arc<Deaths>,
    expected: Option<&[Remains]>,
) -> Result<Vec<Remains>> {
    let namespace = deaths.namespace;
    let watching = Arc::clone(deaths);
    operator.proxy().let_it_be(move |asked| watching.treat(asked));
    let (mut ages, mut began) = (Vec::new(), Instant::now());
    let mut age_ends = |brokers: &Brokers| -> Result<()> {
        let remains = brokers.settled(expected.map(|ages_of_others| &ages_of_others[ages.len()]))?;
        let (age, took) = (ages.len(), began.elapsed());
        println!("{namespace}: age {age} ended after {took:?}, {} deaths so far", deaths.count());
        ages.push(remains);
        began = Instant::now();
        deaths.next_age();
        Ok(())
    };

    // Its finalizer is one more thing to be written, and to be taken away when nobody is left to delete records. No Topic has the name of
    // a kind that is left out.
    let deleted = "deletionPolicy: Delete";
    let yaml = cluster_on_disks(1) + &topic("grown", 2, deleted) + &topic("kept", 1, deleted);
    let brokers = Brokers::apply_to_installed(environment, namespace, &yaml)?;
    for resource in ["flt/grown", "flt/kept", "flc/orders"] {
        brokers.await_ready(resource)?;
    }
    let client = brokers.client_of_service().await?;
    let load = Load::start(&client, &client, "kept", 1, 17).await?;
    age_ends(&brokers)?;

    environment.apply(namespace, &topic("grown", 4, deleted))?;
    grow_volumes(&brokers)?;
    brokers.await_ready("flt/grown")?;
    age_ends(&brokers)?;

    replace_ca(&brokers, operator, deaths)?;
    age_ends(&brokers)?;

    roll_and_take_back(&brokers)?;
    load.await_more(1, AGE_WITHIN).await?;
    age_ends(&brokers)?;

    // Out and in again: what is moved to the second broker is another thing each time, and in the end all is on the first one. The
    // second one's claim is made by the operator: the set would make it as small as the first one was.
    scale(&brokers, 2, |brokers| {
        let status = brokers.get("flc/orders")?["status"].take();
        ensure!(status["brokers"][1]["replicas"].as_u64() >= Some(1), "{status}");
        Ok(true)
    })?;
    scale(&brokers, 1, |brokers| {
        let left = brokers.kubectl(&["get", "pods,pvc", "-o", "name"])?;
        ensure!(left.lines().count() == 2, "{left}");
        Ok(true)
    })?;
    age_ends(&brokers)?;

    go(&brokers, "flt/grown")?;
    age_ends(&brokers)?;
    load.stop().await?.acknowledged.compare(&client, "kept").await?;

    go(&brokers, "flc/orders")?;
    age_ends(&brokers)?;

    go(&brokers, "flt/kept")?;
    age_ends(&brokers)?;
    Ok(ages)
}

/// Changes what is wished of the Cluster.
fn wish(brokers: &Brokers, spec: &str) -> Result<()> {
    let patch = format!(r#"{{"spec": {spec}}}"#);
    brokers.kubectl(&["patch", "flc/orders", "--type=merge", "-p", &patch]).map(drop)
}

/// Wishes larger volumes, and waits until there are.
fn grow_volumes(brokers: &Brokers) -> Result<()> {
    wish(brokers, r#"{"storage": {"size": "2Gi"}}"#)?;
    wait::until_so("the volume has grown", AGE_WITHIN, || {
        let status = brokers.get("flc/orders")?["status"].take();
        ensure!(status["storageCapacity"] == "2Gi", "{status}");
        Ok(true)
    })
}

/// Loses the CA, and waits until another one has taken its place.
fn replace_ca(brokers: &Brokers, operator: &Operator, deaths: &Deaths) -> Result<()> {
    let before = trust(brokers)?;
    brokers.kubectl(&["delete", "secret/orders-ca", "--ignore-not-found"])?;
    // No watch tells of Secrets: an operator that runs looks within a minute, and one that begins, at once.
    operator.start_anew(LEASE_SECONDS);
    let (mut last, mut nudges) = (before.clone(), 0);
    wait::until_so("another CA signs, and brokers trust no other", AGE_WITHIN, || {
        let now = trust(brokers)?;
        let (is_done, is_step) = (now.0 != before.0 && now.1 == 1, now != last);
        if is_step {
            println!("{} CAs are trusted, another one signs: {}", now.1, now.0 != before.0);
            last = now;
            deaths.next_step();
        }
        if !is_done {
            // A Secret that kubelet hears of after the pod comes a minute or two later: how soon it comes is another test's promise.
            nudges += 1;
            brokers.kubectl(&[
                "annotate",
                "pod/orders-0",
                &format!("example.com/nudge={nudges}"),
                "--overwrite",
            ])?;
            thread::sleep(NUDGED_EVERY);
        }
        Ok(is_done)
    })
}

/// Which CA signs what brokers show, and how many they trust.
fn trust(brokers: &Brokers) -> Result<(String, usize)> {
    const TOLD: &str = r#"go-template={{index .metadata.annotations "fulmar.dev/signed-by"}} {{index .data "ca.crt" | base64decode}}"#;
    let told = brokers.kubectl(&["get", "secret/orders-tls", "-o", TOLD])?;
    let signer = told.split_whitespace().next().unwrap_or_default();
    Ok((signer.to_owned(), told.matches("BEGIN CERTIFICATE").count()))
}

/// A template whose pods no node takes, and the way back from it. For the first the only broker is evicted: its partitions are nowhere
/// else by their owner's choice. For the second its pod, which is of no use, is deleted.
fn roll_and_take_back(brokers: &Brokers) -> Result<()> {
    wish(brokers, r#"{"pod": {"labels": {"team": "shop"}, "nodeSelector": {"nobody": "has-it"}}}"#)?;
    wait::until_so("a pod that no node takes", AGE_WITHIN, || {
        let pod = brokers.get("pod/orders-0")?;
        let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        let is_left =
            conditions.any(|condition| condition["type"] == "PodScheduled" && condition["status"] == "False");
        Ok(is_left && pod["spec"]["nodeSelector"]["nobody"] == "has-it")
    })?;
    wish(brokers, r#"{"pod": {"nodeSelector": null}}"#)?;
    brokers.await_pods()?;
    // That no replica is missing any more may be written a while after all the rest.
    for (resource, condition) in
        [("flc/orders", "RolloutComplete"), ("flt/grown", "FullyReplicated"), ("flt/kept", "FullyReplicated")]
    {
        brokers.await_condition(resource, condition, "True", AGE_WITHIN)?;
    }
    Ok(())
}

/// Wishes so many brokers, and no volumes of those that are removed, and waits for what shows that it is so.
fn scale(brokers: &Brokers, replicas: u32, mut is_so: impl FnMut(&Brokers) -> Result<bool>) -> Result<()> {
    wish(brokers, &format!(r#"{{"replicas": {replicas}, "storage": {{"whenScaled": "Delete"}}}}"#))?;
    wait::until_so(&format!("{replicas} brokers"), AGE_WITHIN, || is_so(brokers))
}

/// Deletes a resource, and waits until it is gone.
fn go(brokers: &Brokers, resource: &str) -> Result<()> {
    brokers.kubectl(&["delete", resource, "--wait=false", "--ignore-not-found"])?;
    wait::until_so(&format!("{resource} is gone"), AGE_WITHIN, || {
        Ok(brokers.kubectl(&["get", resource, "--ignore-not-found", "-o", "name"])?.is_empty())
    })
}

/// A write, without what is written: method and path.
type Call = (String, String);

/// So often in the life of one process a write of one kind may be the last that it does. More of them are repetitions.
const TIMES_MAX: u32 = 2;

/// Whether the operator dies at a write: at each kind of write, in each age (at statuses and pages of the table in the first that has them),
/// once before and once after it is carried out. So each of them is also followed by a new beginning, and there is an end to it.
struct Deaths {
    namespace: &'static str,
    are_real: bool,
    age: AtomicUsize,
    step: AtomicUsize,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    /// How often this process has asked for it in this age.
    times: BTreeMap<Call, u32>,
    deaths: BTreeSet<Moment>,
}

/// Where in a life a death is.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Moment {
    age: usize,
    /// Of Secrets: which of the steps from one CA to another. They look the same, and each is a write of its own kind.
    step: usize,
    call: Call,
    /// How often this process had asked for it.
    times: u32,
    is_carried_out: bool,
}

impl Deaths {
    fn new(namespace: &'static str, are_real: bool) -> Arc<Self> {
        let (age, step) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { namespace, are_real, age, step, book: Mutex::default() })
    }

    fn next_age(&self) {
        self.age.fetch_add(1, Ordering::Relaxed);
        self.book.lock().unwrap().times.clear();
    }

    fn next_step(&self) {
        self.step.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> usize {
        self.book.lock().unwrap().deaths.len()
    }

    /// At which kinds of writes there was a death, or would have been.
    fn calls(&self) -> BTreeSet<Call> {
        let book = self.book.lock().unwrap();
        let general = |path: &str| path.replace(self.namespace, "NAMESPACE");
        let calls = book.deaths.iter().map(|moment| &moment.call);
        calls.map(|(method, path)| (method.clone(), general(path))).collect()
    }

    fn treat(&self, asked: &Asked) -> Treatment {
        // A Lease is renewed at any moment, so it is known what a death between two writes comes to; and nobody decides by Events.
        let is_left_out =
            asked.is_about("leases") || asked.is_about("events") || !asked.is_about(self.namespace);
        if !asked.is_write() || is_left_out {
            return Treatment::Pass;
        }
        let mut book = self.book.lock().unwrap();
        let call = (asked.method.to_string(), asked.path.clone());
        let times = book.times.entry(call.clone()).or_default();
        *times += 1;
        let times = *times;
        if times > TIMES_MAX {
            return Treatment::Pass;
        }
        // In every age much is said and placed, and each time it is the same to those who write it down.
        let is_of_all = call.1.ends_with("/status") || asked.is_about("partitiontables");
        let age = if is_of_all { 0 } else { self.age.load(Ordering::Relaxed) };
        let step = if asked.is_about("secrets") { self.step.load(Ordering::Relaxed) } else { 0 };
        for (is_carried_out, death) in [(false, Treatment::DeathBefore), (true, Treatment::DeathAfter)] {
            let moment = Moment { age, step, call: call.clone(), times, is_carried_out };
            if book.deaths.insert(moment) && self.are_real {
                println!("{} {} of age {age}, step {step}, time {times}: {death:?}", call.0, call.1);
                book.times.clear();
                return death;
            }
        }
        Treatment::Pass
    }
}
