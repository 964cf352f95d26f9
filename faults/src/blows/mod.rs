//! The blows: what there is, and which one is next.
//!
//! Owns the draw from the seed, and what a blow may cost: no blow takes more than the promises allow. A volume is destroyed only while
//! all others are whole, and never the only one that a partition has.

mod disks;
mod full;
mod lives;
mod network;
mod pairs;
mod processes;
mod table;
mod volumes;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt, SeedableRng};

use crate::cluster::Cluster;
use crate::load::book::Book;
use crate::settle::Ends;

/// Every kind of blow. Its name on the command line is that of the variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Kind {
    /// kill -9 of a broker
    Kill,
    /// kill -9 of two brokers
    KillTwo,
    /// kill -9 of all brokers
    KillAll,
    /// SIGSTOP of a broker for seconds
    Pause,
    /// SIGSTOP of two brokers for seconds
    PauseTwo,
    /// SIGTERM of a broker
    Terminate,
    /// SIGTERM of all brokers
    TerminateAll,
    /// kill -9 of the steward
    StewardKill,
    /// SIGSTOP of the steward for seconds
    StewardPause,
    /// The steward away, and a broker killed meanwhile
    StewardKillAndKill,
    /// Nothing arrives between two brokers
    CutPair,
    /// Nothing arrives from one broker at another
    CutOneWay,
    /// Nothing arrives between a broker and the rest
    Isolate,
    /// Nothing arrives from a broker, or nothing at it
    IsolateOneWay,
    /// Nothing arrives between any two brokers
    CutMesh,
    /// Nothing arrives between a broker and the steward
    CutSteward,
    /// Nothing arrives from a broker at the steward, or the other way
    CutStewardOneWay,
    /// Nothing arrives between the steward and all brokers
    CutStewardOff,
    /// Nothing arrives between the programs and a broker
    CutPrograms,
    /// Nothing arrives from a broker at the programs, or the other way
    CutProgramsOneWay,
    /// Nothing arrives between two brokers, and a third one is killed
    CutAndKill,
    /// kill -9, and what was not synced is lost
    PowerCut,
    /// The same with two brokers
    PowerCutTwo,
    /// The same with all brokers
    PowerCutAll,
    /// Each sync of a broker takes 2 ms more
    SlowDisk,
    /// Each sync of all brokers takes 2 ms more
    SlowDisks,
    /// Syncs of a broker hang
    HangDisk,
    /// Syncs of a broker fail
    FailDisk,
    /// A broker's volume is full
    Full,
    /// An empty volume in the place of a broker's
    DeleteVolume,
    /// A broker's folder deleted while it runs
    DeleteRunning,
    /// A bit flipped in a file of a broker that is away
    FlipStopped,
    /// A bit flipped in a file of a broker that runs
    FlipRunning,
    /// A bit flipped in other batches at each broker
    FlipBatches,
    /// A file of a broker cut short
    Truncate,
    /// An older copy in the place of a broker's volume
    Restore,
    /// A second process on a copy of a broker's volume
    Twin,
    /// Two brokers' volumes swapped
    Swap,
    /// Another Cluster's volume in the place of a broker's
    Foreign,
    /// A broker's volume is read-only
    ReadOnly,
    /// A second process on a broker's volume
    OpenTwice,
    /// A broker's volume that was replaced by another comes back
    OldVolume,
    /// The partition table lost while the steward is away
    DeleteTable,
    /// The partition table restored from an older copy while the steward is away
    RestoreTable,
    /// Two blows at once, on two brokers
    Both,
}

impl Kind {
    /// What it is, for the report.
    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::Kill => "kill -9 of a broker",
            Self::KillTwo => "kill -9 of two brokers at once",
            Self::KillAll => "kill -9 of all brokers at once",
            Self::Pause => "a broker stopped (SIGSTOP) for 0.5 to 8 s",
            Self::PauseTwo => "two brokers stopped (SIGSTOP) for 0.5 to 8 s",
            Self::Terminate => "a broker told to stop (SIGTERM)",
            Self::TerminateAll => "all brokers told to stop (SIGTERM) at once",
            Self::StewardKill => "kill -9 of the steward",
            Self::StewardPause => "the steward stopped (SIGSTOP) for 0.5 to 8 s",
            Self::StewardKillAndKill => "kill -9 of the steward, and of a broker while it is away",
            Self::CutPair => "nothing arrives between two brokers",
            Self::CutOneWay => "nothing arrives from one broker at another",
            Self::Isolate => "nothing arrives between a broker and the rest, the steward included",
            Self::IsolateOneWay => "nothing arrives from a broker, or nothing at it",
            Self::CutMesh => "nothing arrives between any two brokers",
            Self::CutSteward => "nothing arrives between a broker and the steward",
            Self::CutStewardOneWay => "nothing arrives from a broker at the steward, or the other way",
            Self::CutStewardOff => "nothing arrives between the steward and all brokers",
            Self::CutPrograms => "nothing arrives between the programs and a broker",
            Self::CutProgramsOneWay => "nothing arrives from a broker at the programs, or the other way",
            Self::CutAndKill => "nothing arrives between two brokers, and a third one is killed",
            Self::PowerCut => "power cut of a broker: what was not synced is lost, or parts of it",
            Self::PowerCutTwo => "power cut of two brokers",
            Self::PowerCutAll => "power cut of all brokers",
            Self::SlowDisk => "each sync of a broker takes 2 ms more",
            Self::SlowDisks => "each sync of all brokers takes 2 ms more",
            Self::HangDisk => "syncs of a broker hang",
            Self::FailDisk => "a sync of a broker fails, and what was not synced is lost",
            Self::Full => "a broker's volume is full",
            Self::DeleteVolume => "kill -9 of a broker, and an empty volume",
            Self::DeleteRunning => "a broker's folder deleted under it, then kill -9 and an empty volume",
            Self::FlipStopped => "a bit flipped in journal or database of a broker that is away",
            Self::FlipRunning => "a bit flipped in journal or database of a broker that runs",
            Self::FlipBatches => "bits flipped in three batches at each broker, other batches at each",
            Self::Truncate => "journal or database of a broker cut short",
            Self::Restore => "an older copy in the place of a broker's volume",
            Self::Twin => "a second process on a copy of a broker's volume",
            Self::Swap => "two brokers' volumes swapped",
            Self::Foreign => "another Cluster's volume in the place of a broker's",
            Self::ReadOnly => "a broker's volume is read-only",
            Self::OpenTwice => "a second process on a broker's volume",
            Self::OldVolume => "a volume comes back after another one has taken its place",
            Self::DeleteTable => "the partition table lost while the steward is away",
            Self::RestoreTable => "the partition table restored from an older copy while the steward is away",
            Self::Both => "two different blows at once, on two brokers",
        }
    }

    /// Whether the volume is another one afterwards: survivable only as long as all others are whole.
    pub(crate) fn destroys(self) -> bool {
        matches!(
            self,
            Self::DeleteVolume
                | Self::DeleteRunning
                | Self::FlipStopped
                | Self::FlipRunning
                | Self::Truncate
                | Self::Restore
                | Self::Twin
                | Self::OldVolume
                | Self::Both
        )
    }

    /// Whether it needs volumes that are file systems of their own.
    pub(crate) fn needs_file_systems(self) -> bool {
        matches!(self, Self::Full | Self::ReadOnly)
    }

    /// Whether a broker may end by itself after it.
    pub(crate) fn ends(self) -> Ends {
        match self {
            Self::FailDisk | Self::Full | Self::DeleteRunning | Self::Restore | Self::Twin => Ends::Explained,
            _ => Ends::Unexplained,
        }
    }
}

/// One blow, drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blow {
    pub(crate) kind: Kind,
    /// The broker that it concerns first.
    pub(crate) target: u16,
    /// Another one.
    pub(crate) other: u16,
    /// How long it lasts.
    pub(crate) lasts: Duration,
    /// For what else is left to chance.
    pub(crate) seed: u64,
}

impl std::fmt::Display for Blow {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, target, other, lasts, seed: _ } = self;
        write!(out, "{kind:?} of {target} (and {other}) for {:.1} s", lasts.as_secs_f64())
    }
}

/// Draws blow after blow from a seed.
#[derive(Debug)]
pub(crate) struct Schedule {
    luck: StdRng,
    kinds: Vec<Kind>,
    bag: Vec<Kind>,
    brokers: u16,
}

impl Schedule {
    /// The schedule of a seed; the same seed, kinds and number of brokers give the same blows.
    pub(crate) fn new(seed: u64, kinds: Vec<Kind>, brokers: u16) -> Self {
        Self { luck: StdRng::seed_from_u64(seed), kinds, bag: Vec::new(), brokers }
    }

    /// The next blow. Each kind comes once before any comes again.
    pub(crate) fn next(&mut self) -> Blow {
        if self.bag.is_empty() {
            self.bag.clone_from(&self.kinds);
            self.bag.shuffle(&mut self.luck);
        }
        let kind = self.bag.pop().expect("there is a kind, and the bag was filled");
        let target = self.luck.random_range(0..self.brokers);
        let other = (target + self.luck.random_range(1..self.brokers)) % self.brokers;
        // Around the limits that the brokers have: 1 s of silence, 2 s of a disk, 5 s of a leader that hears nobody.
        let lasts = match self.luck.random_range(0..10) {
            0..4 => self.luck.random_range(50..1000),
            4..8 => self.luck.random_range(1000..3500),
            _ => self.luck.random_range(3500..8000),
        };
        Blow { kind, target, other, lasts: Duration::from_millis(lasts), seed: self.luck.next_u64() }
    }
}

#[cfg(test)]
mod tests;

/// What a blow works on.
pub(crate) struct Field<'a> {
    pub(crate) cluster: &'a mut Cluster,
    pub(crate) book: &'a Book,
    /// What brokers said when they refused a volume.
    pub(crate) refusals: &'a mut BTreeMap<String, u32>,
}

/// Lets it fall, and ends it: what was stopped goes on, what was cut is healed. Starting again what has ended is `settle`'s.
pub(crate) async fn strike(field: &mut Field<'_>, blow: &Blow) -> Result<()> {
    match blow.kind {
        Kind::Kill | Kind::KillTwo | Kind::KillAll => processes::kill(field, blow).await,
        Kind::Pause | Kind::PauseTwo => processes::pause(field, blow).await,
        Kind::Terminate | Kind::TerminateAll => processes::terminate(field, blow).await,
        Kind::StewardKill => processes::kill_steward(field, blow).await,
        Kind::StewardPause => processes::pause_steward(field, blow).await,
        Kind::StewardKillAndKill => processes::kill_steward_and_broker(field, blow).await,
        Kind::CutPair
        | Kind::CutOneWay
        | Kind::Isolate
        | Kind::IsolateOneWay
        | Kind::CutMesh
        | Kind::CutSteward
        | Kind::CutStewardOneWay
        | Kind::CutStewardOff
        | Kind::CutPrograms
        | Kind::CutProgramsOneWay => network::cut(field, blow).await,
        Kind::CutAndKill => network::cut_and_kill(field, blow).await,
        Kind::PowerCut | Kind::PowerCutTwo | Kind::PowerCutAll => disks::cut_power(field, blow).await,
        Kind::SlowDisk | Kind::SlowDisks | Kind::HangDisk => disks::slow(field, blow).await,
        Kind::FailDisk => disks::fail(field, blow).await,
        Kind::Full => full::fill(field, blow).await,
        Kind::DeleteVolume | Kind::DeleteRunning => volumes::delete(field, blow).await,
        Kind::FlipStopped | Kind::FlipRunning | Kind::Truncate => volumes::rot(field, blow).await,
        Kind::FlipBatches => volumes::flip_batches(field, blow).await,
        Kind::Restore => volumes::restore(field, blow).await,
        Kind::Twin => volumes::twin(field, blow).await,
        Kind::Swap => volumes::swap(field, blow).await,
        Kind::Foreign => volumes::foreign(field, blow).await,
        Kind::ReadOnly => volumes::read_only(field, blow).await,
        Kind::OpenTwice => volumes::open_twice(field, blow).await,
        Kind::OldVolume => lives::come_back(field, blow).await,
        Kind::DeleteTable | Kind::RestoreTable => table::lose(field, blow).await,
        Kind::Both => pairs::strike(field, blow).await,
    }
}
