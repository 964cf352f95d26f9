//! Where the other brokers are: what gossip sees, and what the operator said.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use fulmar_core::id::Ordinal;
use tokio::sync::watch;

use crate::gossip::{Neighbour, View};

/// A broker's addresses as the operator knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its port between brokers.
    pub internal: SocketAddr,
    /// Its port for programs.
    pub client: String,
    /// Its zone.
    pub zone: Option<String>,
}

/// What is known about one broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its number.
    pub ordinal: Ordinal,
    /// Where programs reach it; empty if unknown.
    pub client: String,
    /// Its zone.
    pub zone: Option<String>,
    /// Whether gossip sees it.
    pub alive: bool,
    /// Its software, if gossip ever saw it.
    pub version: String,
}

/// Brokers by ordinal; a handle that can be cloned.
#[derive(Debug, Clone)]
pub struct Brokers {
    gossip: watch::Receiver<View>,
    listed: Arc<ArcSwap<BTreeMap<Ordinal, Listed>>>,
}

impl Brokers {
    /// Knows what gossip sees.
    pub fn new(gossip: watch::Receiver<View>) -> Self {
        Self { gossip, listed: Arc::default() }
    }

    /// The operator's address book, whole.
    pub fn list(&self, book: BTreeMap<Ordinal, Listed>) {
        self.listed.store(Arc::new(book));
    }

    /// Where to dial a broker: where gossip sees it alive, else where the operator last saw it.
    pub fn internal(&self, ordinal: Ordinal) -> Vec<SocketAddr> {
        let seen = self.gossip.borrow().get(&ordinal).map(|neighbour| neighbour.internal);
        let listed = self.listed.load().get(&ordinal).map(|listed| listed.internal);
        let mut all: Vec<SocketAddr> = seen.into_iter().chain(listed).collect();
        all.dedup();
        all
    }

    /// Where programs reach a broker; empty if unknown.
    pub fn client(&self, ordinal: Ordinal) -> String {
        let listed = self.listed.load().get(&ordinal).map(|listed| listed.client.clone());
        let seen = || self.gossip.borrow().get(&ordinal).map(|neighbour| neighbour.client.clone());
        listed.filter(|address| !address.is_empty()).or_else(seen).unwrap_or_default()
    }

    /// Everybody that anybody spoke of, by ordinal.
    pub fn all(&self) -> Vec<Known> {
        let (view, listed) = (self.gossip.borrow().clone(), self.listed.load());
        let mut ordinals: Vec<Ordinal> = view.keys().chain(listed.keys()).copied().collect();
        ordinals.sort_unstable();
        ordinals.dedup();
        ordinals
            .into_iter()
            .map(|ordinal| self.known(ordinal, view.get(&ordinal), listed.get(&ordinal)))
            .collect()
    }

    fn known(&self, ordinal: Ordinal, seen: Option<&Neighbour>, listed: Option<&Listed>) -> Known {
        let zone = listed.and_then(|listed| listed.zone.clone());
        Known {
            ordinal,
            client: self.client(ordinal),
            zone: zone.or_else(|| seen.and_then(|neighbour| neighbour.zone.clone())),
            alive: seen.is_some(),
            version: seen.map(|neighbour| neighbour.version.clone()).unwrap_or_default(),
        }
    }

    /// Who gossip sees alive.
    pub fn alive(&self) -> Vec<Ordinal> {
        self.gossip.borrow().keys().copied().collect()
    }

    /// Whether a broker says that its volume is full.
    pub fn is_full(&self, ordinal: Ordinal) -> bool {
        self.gossip.borrow().get(&ordinal).is_some_and(|neighbour| neighbour.is_full)
    }

    /// Wakes when gossip sees something else.
    pub fn gossip(&self) -> watch::Receiver<View> {
        self.gossip.clone()
    }
}
