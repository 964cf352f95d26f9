//! Promise: on bad days of the API server, and wherever the operator dies, a Cluster becomes what it would have become; it takes longer.
//! An API server that asks not to be asked again for a while is left alone so long.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use fulmar_e2e::brokers::{Brokers, cluster, topic};
use fulmar_e2e::environment::Environment;
use fulmar_e2e::load::Load;
use fulmar_e2e::operators::{LEASE_SECONDS, Operator};
use fulmar_e2e::proxy::{Asked, Proxy, Treatment};
use fulmar_e2e::rests::Rests;
use fulmar_e2e::wait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// What was written.
type Remains = BTreeSet<String>;

/// One age of a life, with a hundred restarts of the operator in it, each of less than a second.
const AGE_WITHIN: Duration = Duration::from_mins(4);

/// What a calm life has come to when nothing of it has changed for so long: longer than two writes of one status are apart.
const CALM: Duration = Duration::from_secs(9);

/// Nobody asks the operator before a publish is acknowledged. A machine of two cores may stand still for a while.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(10);

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
async fn live(
    environment: &'static Environment,
    operator: &Operator,
    deaths: &Arc<Deaths>,
    expected: Option<&[Remains]>,
) -> Result<Vec<Remains>> {
    let namespace = deaths.namespace;
    let watching = Arc::clone(deaths);
    operator.proxy().let_it_be(move |asked| watching.treat(asked));
    let mut ages = Vec::new();
    let mut age_ends = |brokers: &Brokers| -> Result<()> {
        let remains = settled(brokers, expected.map(|ages_of_others| &ages_of_others[ages.len()]))?;
        println!("{namespace}: age {} ended, {} deaths so far", ages.len(), deaths.count());
        ages.push(remains);
        deaths.next_age();
        Ok(())
    };

    // Its finalizer is one more thing to be written, and to be taken away when nobody is left to delete records.
    let deleted = "deletionPolicy: Delete";
    let yaml = cluster(1) + &topic("events", 2, deleted) + &topic("kept", 1, deleted);
    let brokers = Brokers::apply_to_installed(environment, namespace, &yaml)?;
    for resource in ["flt/events", "flt/kept", "flc/orders"] {
        brokers.await_ready(resource)?;
    }
    let client = brokers.client(0).await?;
    let load = Load::start(&client, &client, "kept", 1, 17).await?;
    age_ends(&brokers)?;

    environment.apply(namespace, &topic("events", 4, deleted))?;
    brokers.await_ready("flt/events")?;
    age_ends(&brokers)?;

    // Out and in again: what is moved to the second broker is another thing each time, and in the end all is on the first one.
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

    go(&brokers, "flt/events")?;
    age_ends(&brokers)?;
    load.stop().await?.acknowledged.compare(&client, "kept").await?;

    go(&brokers, "flc/orders")?;
    age_ends(&brokers)?;

    go(&brokers, "flt/kept")?;
    age_ends(&brokers)?;
    Ok(ages)
}

/// Wishes so many brokers, and no volumes of those that are removed, and waits for what shows that it is so.
fn scale(brokers: &Brokers, replicas: u32, mut is_so: impl FnMut(&Brokers) -> Result<bool>) -> Result<()> {
    let spec = format!(r#"{{"spec": {{"replicas": {replicas}, "storage": {{"whenScaled": "Delete"}}}}}}"#);
    brokers.kubectl(&["patch", "flc/orders", "--type=merge", "-p", &spec])?;
    wait::until_so(&format!("{replicas} brokers"), AGE_WITHIN, || is_so(brokers))
}

/// Deletes a resource, and waits until it is gone.
fn go(brokers: &Brokers, resource: &str) -> Result<()> {
    brokers.kubectl(&["delete", resource, "--wait=false", "--ignore-not-found"])?;
    wait::until_so(&format!("{resource} is gone"), AGE_WITHIN, || {
        Ok(brokers.kubectl(&["get", resource, "--ignore-not-found", "-o", "name"])?.is_empty())
    })
}

/// What was written, once it is what is expected; or, if nobody knows, once it does not change any more.
fn settled(brokers: &Brokers, expected: Option<&Remains>) -> Result<Remains> {
    if let Some(expected) = expected {
        return wait::until("what was written is what is written undisturbed", AGE_WITHIN, || {
            let remains = brokers.remains()?;
            let missing: Vec<_> = expected.difference(&remains).collect();
            let surplus: Vec<_> = remains.difference(expected).collect();
            ensure!(missing.is_empty() && surplus.is_empty(), "missing: {missing:#?}\nsurplus: {surplus:#?}");
            Ok(Some(remains))
        });
    }
    wait::until("nothing is under way, and nothing changes any more", AGE_WITHIN, || {
        let remains = brokers.remains()?;
        std::thread::sleep(CALM);
        // Without its Cluster a Topic waits, for ever; nobody is at work.
        let has_cluster = remains.iter().any(|line| line.starts_with("\"Cluster\""));
        let is_over = !has_cluster || !remains.iter().any(|line| line.contains("\"Reconciling\"=\"True\""));
        Ok(Some(remains).filter(|before| is_over && brokers.remains().is_ok_and(|now| now == *before)))
    })
}

/// A write, without what is written: method and path.
type Call = (String, String);

/// So often in the life of one process a write of one kind may be the last that it does. More of them are repetitions.
const TIMES_MAX: u32 = 2;

/// Whether the operator dies at a write: at each kind of write, in each age, once before and once after it is carried out. So each of
/// them is also followed by a new beginning, and there is an end to it.
struct Deaths {
    namespace: &'static str,
    are_real: bool,
    age: AtomicUsize,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    /// How often this process has asked for it.
    times: BTreeMap<Call, u32>,
    /// The age, the write, how often this process had asked for it, and whether it was carried out.
    deaths: BTreeSet<(usize, Call, u32, bool)>,
}

impl Deaths {
    fn new(namespace: &'static str, are_real: bool) -> Arc<Self> {
        Arc::new(Self { namespace, are_real, age: AtomicUsize::new(0), book: Mutex::default() })
    }

    fn next_age(&self) {
        self.age.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> usize {
        self.book.lock().unwrap().deaths.len()
    }

    /// At which kinds of writes there was a death, or would have been.
    fn calls(&self) -> BTreeSet<Call> {
        let book = self.book.lock().unwrap();
        let general = |path: &str| path.replace(self.namespace, "NAMESPACE");
        book.deaths.iter().map(|(_, (method, path), _, _)| (method.clone(), general(path))).collect()
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
        let age = self.age.load(Ordering::Relaxed);
        for (is_carried_out, death) in [(false, Treatment::DeathBefore), (true, Treatment::DeathAfter)] {
            if book.deaths.insert((age, call.clone(), times, is_carried_out)) && self.are_real {
                println!("{} {} of age {age}, time {times}: {death:?}", call.0, call.1);
                book.times.clear();
                return death;
            }
        }
        Treatment::Pass
    }
}

/// A bad day.
struct Day {
    namespace: &'static str,
    weather: fn(&Asked, &mut StdRng) -> Treatment,
    /// Whether all watches are cut every second.
    is_cutting: bool,
    /// Whether nothing may be read at the operator's start, and again, with all watches cut, when a Topic is changed.
    is_closing: bool,
    lease_seconds: u16,
    /// From `kubectl apply` to Ready, and from a change of a Topic to Ready.
    ready_within: Duration,
}

impl Day {
    const fn new(namespace: &'static str, weather: fn(&Asked, &mut StdRng) -> Treatment) -> Self {
        let ready_within = Duration::from_mins(2);
        let (is_cutting, is_closing, lease_seconds) = (false, false, LEASE_SECONDS);
        Self { namespace, weather, is_cutting, is_closing, lease_seconds, ready_within }
    }
}

/// For how long who reads is sent away on a day on which nothing may be read. Longer than the pause after which the watcher comes back by
/// itself, 1.6 s at most after a list; API servers that stay busy name more and more of it, up to 32.
const REST_SECONDS: u32 = 3;

/// Nothing may be read until all that is known of Topics was asked for so often, as it was to be, and in vain.
const ASKED_IN_VAIN: u32 = 3;

/// Three rests, or the watcher's own pauses where they are longer.
const ASKED_WITHIN: Duration = Duration::from_mins(1);

/// One write of three.
fn at_times(asked: &Asked, random: &mut StdRng, bad: Treatment) -> Treatment {
    if asked.is_write() && random.random_ratio(1, 3) { bad } else { Treatment::Pass }
}

const DAYS: [Day; 8] = [
    Day::new("day-calm", |_, _| Treatment::Pass),
    Day {
        is_cutting: true,
        ..Day::new("day-cuts", |_, random| Treatment::Torn(random.random_range(0..64 << 10)))
    },
    Day {
        is_cutting: true,
        ..Day::new("day-gone", |asked, random| match random.random_range(0..4) {
            0 if asked.is_watch() => Treatment::Gone,
            1 if asked.is_watch() => Treatment::GoneAtOnce,
            _ => Treatment::Pass,
        })
    },
    Day::new("day-busy", |asked, random| at_times(asked, random, Treatment::TooMany(1))),
    Day {
        is_closing: true,
        ..Day::new("day-crowded", |asked, random| {
            let is_bad = !asked.is_write() && random.random_ratio(1, 3);
            if is_bad { Treatment::TooMany(1) } else { Treatment::Pass }
        })
    },
    Day::new("day-conflicts", |asked, random| at_times(asked, random, Treatment::Conflict)),
    Day::new("day-unanswered", |asked, random| at_times(asked, random, Treatment::Unanswered)),
    Day {
        // No Lease of three seconds can be held by somebody who is answered after two.
        lease_seconds: 10,
        ..Day::new("day-slow", |_, _| Treatment::Slowly(Duration::from_secs(2)))
    },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clusters_and_topics_become_what_they_become_within_two_minutes_on_every_bad_day() {
    let environment = Environment::get().unwrap();
    let namespaces: Vec<&str> = DAYS.iter().map(|day| day.namespace).collect();
    let operator = Operator::start(environment, &namespaces).await.unwrap();
    let mut expected = None;
    for day in &DAYS {
        let remains = spend(environment, &operator, day, expected.as_ref()).await;
        let remains = remains.map_err(|error| error.context(day.namespace)).unwrap();
        expected.get_or_insert(remains);
    }
}

async fn spend(
    environment: &'static Environment,
    operator: &Operator,
    day: &Day,
    expected: Option<&Remains>,
) -> Result<Remains> {
    let seed = 23;
    let (random, weather) = (Mutex::new(StdRng::seed_from_u64(seed)), day.weather);
    let rests = Arc::new(Rests::new(REST_SECONDS));
    let book = Arc::clone(&rests);
    operator
        .proxy()
        .let_it_be(move |asked| book.treat(asked, || weather(asked, &mut random.lock().unwrap())));
    let _cutting = day.is_cutting.then(|| Cutting::start(operator.proxy()));
    let (starts, counted) = (operator.starts(), operator.proxy().counted());
    // It begins on such a day.
    if day.is_closing {
        rests.close();
    }
    operator.start_anew(day.lease_seconds);

    let started = Instant::now();
    let yaml = cluster(1) + &topic("events", 1, "");
    let brokers = Brokers::apply_to_installed(environment, day.namespace, &yaml)?;
    if day.is_closing {
        open_at_last(&rests)?;
    }
    for resource in ["flt/events", "flc/orders"] {
        brokers.await_condition(resource, "Ready", "True", day.ready_within)?;
    }
    let made = started.elapsed();

    let client = brokers.client(0).await?;
    let load = Load::start(&client, &client, "events", 1, seed).await?;
    let changed = Instant::now();
    if day.is_closing {
        rests.close();
        operator.proxy().cut_watches();
    }
    environment.apply(day.namespace, &topic("events", 3, ""))?;
    if day.is_closing {
        open_at_last(&rests)?;
    }
    brokers.await_condition("flt/events", "Ready", "True", day.ready_within)?;
    let grown = changed.elapsed();
    let remains = settled(&brokers, expected)?;
    let outcome = load.stop().await?;
    let longest = outcome.longest(0, changed, Instant::now());
    ensure!(longest < PUBLISHED_WITHIN, "a publish waited {longest:?}");
    outcome.acknowledged.compare(&client, "events").await?;
    rests.check()?;

    let (requests, writes) = operator.proxy().counted();
    println!(
        "{}: Ready after {made:?}, grown after {grown:?}, settled after {:?}; {} requests, {} writes, {} starts; seed {seed}",
        day.namespace,
        changed.elapsed(),
        requests - counted.0,
        writes - counted.1,
        operator.starts() - starts,
    );
    ensure!(made + grown < day.ready_within, anyhow!("it took {made:?} and {grown:?}"));
    Ok(remains)
}

/// Lets everything be read again, once it was tried for a while.
fn open_at_last(rests: &Rests) -> Result<()> {
    let times = || rests.times("topics");
    let tried = wait::until_so("all was asked for again and again", ASKED_WITHIN, || {
        ensure!(times() >= ASKED_IN_VAIN, "{} times", times());
        Ok(true)
    });
    rests.open();
    tried
}

/// Cuts all watches every second, until it is dropped.
struct Cutting(tokio::task::JoinHandle<()>);

impl Cutting {
    fn start(proxy: &Arc<Proxy>) -> Self {
        let proxy = Arc::clone(proxy);
        Self(tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                proxy.cut_watches();
            }
        }))
    }
}

impl Drop for Cutting {
    fn drop(&mut self) {
        self.0.abort();
    }
}
