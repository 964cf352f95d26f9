//! Promise: on bad days of the API server a Cluster becomes what it would have become; it takes longer. One that asks not to be asked again
//! for a while is left alone so long.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use fulmar_e2e::brokers::{Brokers, cluster, topic};
use fulmar_e2e::environment::Environment;
use fulmar_e2e::load::Load;
use fulmar_e2e::operators::{LEASE_SECONDS, Operator};
use fulmar_e2e::proxy::{Asked, Proxy, Treatment};
use fulmar_e2e::remains::Remains;
use fulmar_e2e::rests::Rests;
use fulmar_e2e::wait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Nobody asks the operator before a publish is acknowledged. A machine of two cores may stand still for a while.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(10);

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
const REST_SECONDS: u32 = 2;

/// Nothing may be read until Topics were asked for so often, as they were to be, and in vain.
const ASKED_IN_VAIN: u32 = 2;

/// Two rests, or the watcher's own pauses where they are longer.
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
    let (book, process) = (Arc::clone(&rests), operator.counting());
    operator.proxy().let_it_be(move |asked| {
        book.note_process(process());
        book.treat(asked, || weather(asked, &mut random.lock().unwrap()))
    });
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
    let remains = brokers.settled(expected)?;
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
