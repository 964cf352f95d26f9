//! How many brokers there are to be *now*: as many as are wanted, but a broker that holds replicas, or may, is never taken away.

/// What is known of the brokers that hold replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Floor {
    /// The partition table was not read yet in this tenure, or what is placed may still change.
    Unknown,
    /// While so many are wished as are wanted.
    Known {
        /// One above the highest ordinal that holds something, or may.
        holding: u16,
        /// One above the highest that the table names: it is brought back if somebody took it away.
        named: u16,
    },
}

/// How many brokers there are to be, and whether that is what is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// As wanted.
    AsWanted(u16),
    /// More than wanted, until it is known what they hold.
    Asking(u16),
    /// More than wanted: they hold replicas, which are moved to the others first.
    Held(u16),
}

impl Scale {
    /// How many brokers there are to be.
    pub fn brokers(self) -> u16 {
        match self {
            Self::AsWanted(brokers) | Self::Asking(brokers) | Self::Held(brokers) => brokers,
        }
    }
}

/// How many brokers run: as the `StatefulSet` says, or, where somebody deleted it, as many as the pods that it left show.
pub fn running(told: Option<u16>, pods: impl Iterator<Item = u16>) -> Option<u16> {
    // A name is easily given: beyond what a Cluster may have it is none of ours.
    let pods = pods.map(|ordinal| ordinal.saturating_add(1));
    let ours = |brokers: &u16| i32::from(*brokers) <= fulmar_crds::cluster::REPLICAS_MAX;
    told.or_else(|| pods.filter(ours).max())
}

/// Decides. `running` is what the `StatefulSet` says now, or what it left behind; `None`: there is neither.
pub fn scale(wanted: u16, running: Option<u16>, floor: Floor) -> Scale {
    let running = running.unwrap_or(0).max(wanted);
    match floor {
        Floor::Unknown if running > wanted => Scale::Asking(running),
        Floor::Unknown => Scale::AsWanted(wanted),
        Floor::Known { holding, named } => match holding.min(running).max(named) {
            needed if needed > wanted => Scale::Held(needed),
            _ => Scale::AsWanted(wanted),
        },
    }
}

#[cfg(test)]
#[path = "scale_tests.rs"]
mod tests;
