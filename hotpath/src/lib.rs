//! What is done for every record, in pieces that can be measured: one process, no disk, no socket, no other thread.
//!
//! Owns the list of these pieces and what each is given. Never measures: criterion does (`benches/hot_path.rs`), and callgrind
//! (`cargo xtask instructions`).

mod append;
mod fan_out;
mod framing;
mod reading;
mod records;

use std::any::Any;

/// A piece of the hot path.
pub struct Work {
    /// How it is called on the command line and in the record of counts.
    pub name: &'static str,
    /// Makes what one run takes. Only the run itself is measured.
    pub prepare: fn() -> Run,
}

/// One run; it checks what came of it, so that nothing measured is work that was not done.
pub type Run = Box<dyn FnOnce() -> Rest>;

/// What is left over, and is let go of only after the measuring.
pub type Rest = Box<dyn Any>;

/// All of them, in the order in which a record meets them.
pub const WORKS: [Work; 6] = [
    Work { name: "frame", prepare: framing::frame },
    Work { name: "check", prepare: framing::check },
    Work { name: "append", prepare: append::lead },
    Work { name: "follow", prepare: append::follow },
    Work { name: "read", prepare: reading::read },
    Work { name: "fan-out", prepare: fan_out::fan_out },
];

#[cfg(test)]
mod tests {
    use super::WORKS;

    #[test]
    fn each_piece_does_what_it_says_and_can_be_done_again() {
        for work in &WORKS {
            (work.prepare)()();
            (work.prepare)()();
        }
    }
}
