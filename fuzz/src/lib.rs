//! Parsers of bytes that others wrote, as targets for a fuzzer: each takes any bytes, and checks what has to hold of those that it
//! took.
//!
//! Owns the list of targets and examples to begin with. The parsers are `fulmar-core`'s and `fulmar-broker`'s; those that nobody
//! else may call have a module `fuzzed` beside them.

#![forbid(unsafe_code)]

mod targets;

pub use targets::TARGETS;

/// One parser, or several of one source.
pub struct Target {
    /// As `cargo xtask fuzz --target` has it.
    pub name: &'static str,
    /// Whose bytes these are.
    pub written_by: &'static str,
    /// Panics if the bytes break something: that is a find.
    pub run: fn(&[u8]),
    /// Bytes that are understood, to begin with.
    pub examples: fn() -> Vec<Vec<u8>>,
}

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
