//! Every target takes any bytes: examples, examples with a few wrong bytes, and noise. `cargo xtask fuzz` goes on from there, by
//! what the bytes reach.

use fulmar_fuzz::TARGETS;
use proptest::prelude::*;

#[test]
fn every_target_takes_its_examples() {
    for target in &TARGETS {
        let examples = (target.examples)();
        assert!(!examples.is_empty(), "{}: nothing to begin with", target.name);
        for example in examples {
            (target.run)(&example);
        }
    }
}

proptest! {
    #[test]
    fn every_target_takes_examples_with_wrong_bytes(
        target in any::<prop::sample::Index>(),
        example in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
        more in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let target = target.get(&TARGETS);
        let mut bytes = example.get(&(target.examples)()).clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        bytes.extend(more);
        (target.run)(&bytes);
    }

    #[test]
    fn every_target_takes_noise(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for target in &TARGETS {
            (target.run)(&bytes);
        }
    }
}
