//! Brokers, operators, the API server, network, disks and clients in one world that runs from one seed.
//!
//! `cargo xtask simulate` runs many seeds, `cargo xtask simulate --seed 17` that one alone, with its story.

#![allow(clippy::cast_possible_truncation, reason = "the numbers of this small world fit everywhere")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may end itself")]
#![allow(clippy::similar_names, reason = "a process has a life, a stream has a line")]
#![allow(clippy::large_enum_variant, reason = "the largest one is the most frequent one")]

mod blows;
mod capricious;
mod clients;
mod cut_schedules;
mod daily;
mod disk;
mod event;
mod history;
mod homeward;
mod lab;
mod ledger;
mod links;
mod network;
mod node;
mod observer;
mod operators;
mod person;
mod random;
mod scaling;
mod schedules;
mod shrink;
mod story;
mod streams;
mod swarm;
mod table_schedules;
mod totals;
mod unrest;
mod world;

use std::collections::BTreeSet;

use totals::Totals;
use world::World;

/// So many seeds run with the normal tests: some seconds.
const SEEDS: u64 = 100;

/// A number that `cargo xtask` gives.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// So many lines of a story are told.
fn lines() -> usize {
    number("FULMAR_LINES").unwrap_or(80) as usize
}

/// One world's end; a panic inside is a violation too.
fn outcome(world: &mut World) -> Result<(), String> {
    let run = std::panic::AssertUnwindSafe(|| world.run());
    std::panic::catch_unwind(run).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("a panic: {}", text.unwrap_or_else(|| "without a text".to_owned())))
    })
}

/// Runs a seed quietly, without the blows that are spared.
fn run(seed: u64, spared: &BTreeSet<u64>) -> (World, Result<(), String>) {
    let mut world = World::new(seed, false);
    world.spared.clone_from(spared);
    let outcome = outcome(&mut world);
    (world, outcome)
}

/// Something is violated: with as few blows as possible, and the story of it.
fn explain(seed: u64, spared: &BTreeSet<u64>, violation: &str) -> String {
    let spared = shrink::shrink(seed, spared);
    let mut again = World::new(seed, true);
    again.spared.clone_from(&spared);
    let second = outcome(&mut again).err();
    let second = second.unwrap_or_else(|| "nothing, so it was not deterministic".to_owned());
    let story = again.story.last_lines(lines(), false);
    let list: Vec<String> = spared.iter().map(u64::to_string).collect();
    let less = if list.is_empty() { String::new() } else { format!(" --spare {}", list.join(",")) };
    let kept = again.blows - list.len() as u64;
    format!(
        "seed {seed}: {violation}\nwith {kept} of {} blows: {second}\n{story}\nagain: cargo xtask simulate --seed {seed}{less}",
        again.blows
    )
}

/// Runs a seed; says what it amounted to.
fn run_or_explain(seed: u64) -> Totals {
    let (world, outcome) = run(seed, &BTreeSet::new());
    match outcome {
        Ok(()) => world.totals,
        Err(violation) => panic!("{}", explain(seed, &BTreeSet::new(), &violation)),
    }
}

#[test]
fn one_world_after_the_other_keeps_its_promises() {
    let mut total = Totals::default();
    for seed in 0..SEEDS {
        total.add(&run_or_explain(seed));
    }
    println!("{}", total.json());
    // A world in which nothing happens proves nothing.
    for (what, least) in [("acknowledgements", 1000), ("terms opened", 500), ("crashes", 100)] {
        assert!(total.of(what) > least, "{what}: {}", total.json());
    }
}

/// For `cargo xtask simulate`: seeds from `FULMAR_FIRST` on, `FULMAR_SEEDS` of them.
#[test]
#[ignore = "run by cargo xtask simulate"]
fn many_worlds() {
    let first = number("FULMAR_FIRST").unwrap_or_default();
    let mut total = Totals::default();
    for seed in first..first + number("FULMAR_SEEDS").unwrap_or(SEEDS) {
        println!("begins {seed}");
        total.add(&run_or_explain(seed));
    }
    println!("totals {}", total.json());
}

/// For `cargo xtask simulate --seed`: that one, with its story, without the blows in `FULMAR_SPARE`.
#[test]
#[ignore = "run by cargo xtask simulate --seed"]
fn one_world() {
    let seed = number("FULMAR_SEED").expect("FULMAR_SEED names the seed");
    let spared = std::env::var("FULMAR_SPARE").unwrap_or_default();
    let spared: BTreeSet<u64> = spared.split(',').filter_map(|number| number.parse().ok()).collect();
    let mut world = World::new(seed, true);
    world.spared = spared;
    let outcome = outcome(&mut world);
    println!("{}", world.story.last_lines(lines(), number("FULMAR_WHOLE").is_some()));
    println!("{}", world.totals.json());
    if let Err(violation) = outcome {
        panic!("seed {seed}: {violation}");
    }
}

#[test]
fn the_same_seed_tells_the_same_story() {
    for seed in [1, 2, 3, 4] {
        let tell = |seed| {
            let mut world = World::new(seed, true);
            let end = world.run();
            (end, world.story.last_lines(usize::MAX, true), world.totals.json())
        };
        assert!(tell(seed) == tell(seed), "seed {seed} tells two stories");
    }
}
