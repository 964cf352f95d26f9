//! What readers are told about the replicas on this broker: one watched value for each, written by the actor alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use fulmar_core::id::{PartitionKey, ReplicaId};
use fulmar_core::offset::Offset;
use fulmar_core::term::{Epoch, Term};
use parking_lot::RwLock;
use tokio::sync::watch;

/// One replica, as readers need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State {
    /// The decision that it holds, and whom that names: newer than the pages if a peer told it while the operator was away.
    pub epoch: Epoch,
    /// Who should lead by that decision.
    pub leader: Option<ReplicaId>,
    /// The term that it leads, its opening record committed: consumers may read here.
    pub serving: Option<Term>,
    /// What is committed, as far as it knows and has it.
    pub high_watermark: Offset,
    /// What is committed as the leader says whom it follows: more than it has, while it catches up. `None` without such a leader.
    pub committed: Option<Offset>,
    /// The oldest offset.
    pub log_start: Offset,
    /// The durable end.
    pub log_end: Offset,
    /// It stopped; a person must look.
    pub is_halted: bool,
    /// The first batch that is known to be damaged here; the other replicas are asked for a copy.
    pub damaged: Option<Offset>,
    /// The first that no other member can give either.
    pub irreparable: Option<Offset>,
    /// Damaged places that were healed since the start.
    pub mended: u64,
}

/// The replicas' states by partition; a handle that can be cloned.
#[derive(Debug, Clone, Default)]
pub struct States {
    all: Arc<RwLock<BTreeMap<PartitionKey, watch::Sender<State>>>>,
}

impl States {
    /// Watches one replica; `None` if there is none here.
    pub fn watch(&self, key: PartitionKey) -> Option<watch::Receiver<State>> {
        self.all.read().get(&key).map(watch::Sender::subscribe)
    }

    /// One replica now.
    pub fn get(&self, key: PartitionKey) -> Option<State> {
        self.all.read().get(&key).map(|state| *state.borrow())
    }

    /// All replicas now.
    pub fn all(&self) -> Vec<(PartitionKey, State)> {
        self.all.read().iter().map(|(key, state)| (*key, *state.borrow())).collect()
    }

    /// The actor's word; wakes who watches, if it is another one.
    pub(super) fn set(&self, key: PartitionKey, state: State) {
        let known = self.all.read().get(&key).cloned();
        match known {
            Some(sender) => {
                sender.send_if_modified(|before| {
                    let changed = *before != state;
                    *before = state;
                    changed
                });
            }
            None => {
                self.all.write().insert(key, watch::channel(state).0);
            }
        }
    }
}
