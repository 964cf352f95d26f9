//! Two different blows at once, on two brokers: only such that the promises survive together. One of them may cost a volume.

use anyhow::Result;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use tokio::time::sleep;

use super::{Blow, Field};
use crate::cluster::volume;
use crate::room::{self, Place};

/// What can begin on one broker while something else goes on at another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    /// kill -9.
    Kill,
    /// SIGSTOP.
    Pause,
    /// SIGTERM, and nobody waits.
    Terminate,
    /// kill -9, and what was not synced is lost.
    PowerCut,
    /// Nothing arrives between it and anybody but the programs.
    Isolate,
    /// Nothing arrives between it and the steward.
    CutSteward,
    /// Nothing arrives between it and the programs.
    CutPrograms,
    /// Its syncs hang.
    HangDisk,
    /// kill -9, and an empty volume.
    DeleteVolume,
}

/// All but the one that costs a volume.
const HARMLESS: [Half; 8] = [
    Half::Kill,
    Half::Pause,
    Half::Terminate,
    Half::PowerCut,
    Half::Isolate,
    Half::CutSteward,
    Half::CutPrograms,
    Half::HangDisk,
];
const LOSES_A_VOLUME: f64 = 0.3;

fn draw(blow: &Blow) -> (Half, Half) {
    let mut luck = StdRng::seed_from_u64(blow.seed);
    let two: Vec<Half> = HARMLESS.sample(&mut luck, 2).copied().collect();
    let first = if luck.random_bool(LOSES_A_VOLUME) { Half::DeleteVolume } else { two[0] };
    (first, two[1])
}

/// The second begins a while after the first, both end together. Only the first, at the blow's target, may cost a volume.
pub(super) async fn strike(field: &mut Field<'_>, blow: &Blow) -> Result<()> {
    let (first, second) = draw(blow);
    field
        .cluster
        .story
        .note(&format!("        {first:?} of broker {}, {second:?} of broker {}", blow.target, blow.other));
    begin(field, first, blow.target, blow.seed).await?;
    sleep(blow.lasts / 8).await;
    begin(field, second, blow.other, blow.seed).await?;
    sleep(blow.lasts).await;
    for (half, broker) in [(first, blow.target), (second, blow.other)] {
        end(field, half, broker)?;
    }
    room::heal(field.cluster.size())
}

async fn begin(field: &mut Field<'_>, half: Half, target: u16, seed: u64) -> Result<()> {
    let brokers = field.cluster.size();
    let broker = &mut field.cluster.brokers[usize::from(target)];
    let place = broker.place();
    match half {
        Half::Kill => broker.process.kill().await,
        Half::Pause => {
            broker.process.signal(Signal::STOP);
            Ok(())
        }
        Half::Terminate => {
            broker.process.signal(Signal::TERM);
            broker.told_to_stop = true;
            Ok(())
        }
        Half::PowerCut => {
            broker.process.kill().await?;
            broker.disk.lose_unsynced(seed)
        }
        Half::Isolate => {
            let others = (0..brokers).map(Place::Broker).filter(|other| *other != place);
            others.chain([Place::Steward]).try_for_each(|other| cut_both(place, other))
        }
        Half::CutSteward => cut_both(place, Place::Steward),
        Half::CutPrograms => cut_both(place, Place::Programs),
        Half::HangDisk => broker.disk.hang(),
        Half::DeleteVolume => {
            broker.process.kill().await?;
            volume::delete(&broker.data)?;
            broker.disk.forget()?;
            broker.start()
        }
    }
}

/// What cuts did is ended by healing all of them, what ended is started again by settling.
fn end(field: &mut Field<'_>, half: Half, target: u16) -> Result<()> {
    let broker = &mut field.cluster.brokers[usize::from(target)];
    match half {
        Half::Pause => {
            broker.process.signal(Signal::CONT);
            Ok(())
        }
        Half::HangDisk => broker.disk.behave(),
        Half::Kill
        | Half::Terminate
        | Half::PowerCut
        | Half::Isolate
        | Half::CutSteward
        | Half::CutPrograms
        | Half::DeleteVolume => Ok(()),
    }
}

fn cut_both(one: Place, two: Place) -> Result<()> {
    room::cut(one, two)?;
    room::cut(two, one)
}
