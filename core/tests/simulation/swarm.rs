//! Each world has its own mix of blows, and some it does not know at all: uniform randomness hardly meets the hard cases.

use crate::random::Random;

/// What can befall a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blow {
    Crash,
    /// A crash just when something important waits for its sync.
    CrashAtWrite,
    DropCommit,
    LoseVolume,
    CopyVolume,
    RestoreVolume,
    ForeignVolume,
    Cut,
    CutOneWay,
    CutOperator,
    /// A leader is cut from all other brokers, one way or both, for long; operators reach it.
    CutLeader,
    /// A broker is alone for long; what is said to it waits.
    Isolate,
    Disconnect,
    Freeze,
    Ghost,
    Stop,
    Hang,
    Full,
    OperatorDies,
    OperatorFreezes,
    SecondOperator,
    LedgerAway,
    TableRestored,
    TableDeleted,
    /// One document of the table is deleted, or brought back from an older copy.
    DocumentLost,
    Wish,
    Retain,
    /// A bit flips in a stored batch.
    Rot,
    Move,
    /// More volumes of a partition go than its settings survive.
    Ruin,
    /// A person says a word that is not asked for.
    FalseWord,
}

/// How often each falls when a world knows it.
const WEIGHTS: &[(Blow, u64)] = &[
    (Blow::Crash, 60),
    (Blow::CrashAtWrite, 60),
    (Blow::DropCommit, 60),
    (Blow::LoseVolume, 30),
    (Blow::CopyVolume, 60),
    (Blow::RestoreVolume, 40),
    (Blow::ForeignVolume, 8),
    (Blow::Cut, 60),
    (Blow::CutOneWay, 40),
    (Blow::CutOperator, 40),
    (Blow::Isolate, 40),
    (Blow::Disconnect, 30),
    (Blow::Freeze, 40),
    (Blow::Ghost, 30),
    (Blow::Stop, 30),
    (Blow::Hang, 20),
    (Blow::Full, 15),
    (Blow::OperatorDies, 50),
    (Blow::OperatorFreezes, 30),
    (Blow::SecondOperator, 30),
    (Blow::LedgerAway, 20),
    (Blow::TableRestored, 25),
    (Blow::TableDeleted, 15),
    (Blow::DocumentLost, 15),
    (Blow::Wish, 60),
    (Blow::Retain, 80),
    (Blow::Rot, 60),
    (Blow::Move, 60),
    (Blow::CutLeader, 30),
];

/// One world's mix.
#[derive(Debug, Clone, Default)]
pub(crate) struct Swarm {
    pub(crate) weights: Vec<(Blow, u64)>,
    pub(crate) each_ms: u64,
    /// So many pauses in a thousand are long: the world settles.
    pub(crate) settles: u64,
    pub(crate) sync_ms: u64,
    /// So many writes of the table in a thousand have an unknown outcome.
    pub(crate) unknown: u64,
    /// So much longer is the storm, so that a person can act in it.
    pub(crate) ruin_ms: u64,
}

impl Swarm {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let mut weights = Vec::new();
        for (blow, most) in WEIGHTS {
            if random.chance(400) {
                weights.push((*blow, random.between(1, *most)));
            }
        }
        // Few worlds, and longer ones: people take their time.
        let is_ruinous = random.chance(150);
        if is_ruinous {
            let all: u64 = weights.iter().map(|(_, weight)| weight).sum();
            weights.push((Blow::Ruin, 1 + all / 20));
            weights.push((Blow::FalseWord, 1 + all / 20));
        }
        let unknown = if random.chance(400) { random.between(1, 300) } else { 0 };
        Self {
            weights,
            each_ms: random.between(30, 700),
            settles: random.below(400),
            sync_ms: random.between(1, 60),
            unknown,
            ruin_ms: if is_ruinous { 35_000 } else { 0 },
        }
    }

    pub(crate) fn pick(&self, random: &mut Random) -> Option<Blow> {
        let all: u64 = self.weights.iter().map(|(_, weight)| weight).sum();
        let mut at = random.below(all);
        for (blow, weight) in &self.weights {
            if at < *weight {
                return Some(*blow);
            }
            at -= weight;
        }
        None
    }
}
