//! Blows against the network: packets that do not arrive, TCP and gossip alike. Only where it is said do programs not reach a broker.

use anyhow::Result;
use tokio::time::sleep;

use super::{Blow, Field, Kind};
use crate::room::{self, Place};

/// From whom to whom nothing arrives.
fn cuts(blow: &Blow, brokers: u16) -> Vec<(Place, Place)> {
    let (target, other) = (Place::Broker(blow.target), Place::Broker(blow.other));
    let others = (0..brokers).map(Place::Broker).filter(|place| *place != target);
    let both = |one: Place, two: Place| [(one, two), (two, one)];
    match blow.kind {
        Kind::CutPair | Kind::CutAndKill => both(target, other).to_vec(),
        Kind::CutOneWay => vec![(target, other)],
        Kind::Isolate => others.chain([Place::Steward]).flat_map(|one| both(target, one)).collect(),
        Kind::IsolateOneWay if blow.seed.is_multiple_of(2) => {
            others.chain([Place::Steward]).map(|one| (target, one)).collect()
        }
        Kind::IsolateOneWay => others.chain([Place::Steward]).map(|one| (one, target)).collect(),
        Kind::CutMesh => {
            let all = (0..brokers).flat_map(|one| (0..brokers).map(move |two| (one, two)));
            all.filter(|(one, two)| one != two)
                .map(|(one, two)| (Place::Broker(one), Place::Broker(two)))
                .collect()
        }
        Kind::CutSteward => both(target, Place::Steward).to_vec(),
        Kind::CutStewardOneWay if blow.seed.is_multiple_of(2) => vec![(target, Place::Steward)],
        Kind::CutStewardOneWay => vec![(Place::Steward, target)],
        Kind::CutPrograms => both(target, Place::Programs).to_vec(),
        Kind::CutProgramsOneWay if blow.seed.is_multiple_of(2) => vec![(target, Place::Programs)],
        Kind::CutProgramsOneWay => vec![(Place::Programs, target)],
        _ => (0..brokers).flat_map(|one| both(Place::Broker(one), Place::Steward)).collect(),
    }
}

/// Cuts, waits, heals.
pub(super) async fn cut(field: &mut Field<'_>, blow: &Blow) -> Result<()> {
    let brokers = field.cluster.size();
    for (from, to) in cuts(blow, brokers) {
        room::cut(from, to)?;
    }
    sleep(blow.lasts).await;
    room::heal(brokers)
}

/// Two do not hear each other, and the third one dies and comes back meanwhile.
pub(super) async fn cut_and_kill(field: &mut Field<'_>, blow: &Blow) -> Result<()> {
    let brokers = field.cluster.size();
    for (from, to) in cuts(blow, brokers) {
        room::cut(from, to)?;
    }
    let third = (0..brokers).find(|one| *one != blow.target && *one != blow.other);
    let broker = &mut field.cluster.brokers[usize::from(third.expect("there are three at least"))];
    sleep(blow.lasts / 2).await;
    broker.process.kill().await?;
    sleep(blow.lasts / 4).await;
    broker.start()?;
    sleep(blow.lasts / 4).await;
    room::heal(brokers)
}
