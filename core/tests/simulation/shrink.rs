//! Fewer blows that still do it: a story that a person can read.

use std::collections::BTreeSet;

/// So many worlds are tried at most: some seconds of waiting.
const TRIALS: usize = 150;

/// Which blows may be spared while something is still violated.
pub(crate) fn shrink(seed: u64, spared: &BTreeSet<u64>) -> BTreeSet<u64> {
    let mut spared = spared.clone();
    let (world, outcome) = crate::run(seed, &spared);
    if outcome.is_ok() {
        return spared;
    }
    let mut trials = 0;
    let mut fell = world.blows;
    let mut size = fell.div_ceil(2);
    while size > 0 {
        let mut from = 0;
        while from < fell && trials < TRIALS {
            let more: BTreeSet<u64> = spared.iter().copied().chain(from..from + size).collect();
            from += size;
            if more.len() == spared.len() {
                continue;
            }
            trials += 1;
            let (world, outcome) = crate::run(seed, &more);
            if outcome.is_err() {
                spared = more;
                fell = world.blows;
            }
        }
        size /= 2;
    }
    spared.retain(|blow| *blow < fell);
    spared
}
