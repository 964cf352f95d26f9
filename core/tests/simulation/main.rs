//! Brokers, network, disks, an operator and clients in one world that runs from one seed.
//!
//! `FULMAR_SEEDS=5000` runs more seeds, `FULMAR_SEED=17` that one alone, with its story.

#![allow(clippy::cast_possible_truncation, reason = "the numbers of this small world fit everywhere")]

mod blows;
mod clients;
mod daily;
mod disk;
mod lab;
mod links;
mod network;
mod node;
mod observer;
mod operator;
mod random;
mod schedules;
mod story;
mod world;

use world::{Totals, World};

/// So many seeds run with the normal tests: a few seconds.
const SEEDS: u64 = 300;

#[cfg(test)]
fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// One world's end; a panic inside is a violation too.
fn outcome(world: &mut World) -> Result<Totals, String> {
    let run = std::panic::AssertUnwindSafe(|| world.run());
    std::panic::catch_unwind(run).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(format!("a panic: {}", text.unwrap_or_else(|| "without a text".to_owned())))
    })
}

/// Runs a seed quietly; if something is violated, once more with its story.
#[cfg(test)]
fn run(seed: u64) -> Totals {
    let violation = match outcome(&mut World::new(seed, false)) {
        Ok(totals) => return totals,
        Err(violation) => violation,
    };
    let mut again = World::new(seed, true);
    let second = outcome(&mut again).err();
    let story = again.story.last_lines(number("FULMAR_LINES").unwrap_or(80) as usize);
    let second = second.unwrap_or_else(|| "nothing, so it was not deterministic".to_owned());
    panic!(
        "seed {seed}: {violation}\n{story}\n(the second run says: {second})\n\
         again: FULMAR_SEED={seed} cargo test -p fulmar-core --test simulation one_world"
    );
}

#[test]
fn one_world_after_the_other_keeps_its_promises() {
    if let Some(seed) = number("FULMAR_SEED") {
        run(seed);
        return;
    }
    let mut total = Totals::default();
    for seed in 0..number("FULMAR_SEEDS").unwrap_or(SEEDS) {
        total.add(&run(seed));
    }
    println!("{total:?}");
    // A world in which nothing happens proves nothing.
    assert!(total.acknowledged > 1000 && total.opened > 500 && total.crashes > 300, "{total:?}");
}

#[test]
fn the_same_seed_tells_the_same_story() {
    for seed in [1, 2, 3] {
        let tell = |seed| {
            let mut world = World::new(seed, true);
            let end = world.run();
            (end, world.story.last_lines(usize::MAX))
        };
        assert!(tell(seed) == tell(seed), "seed {seed} tells two stories");
    }
}
