//! Who is believed is remembered on the volume before it is told so: a volume that is restored later lacks that process also in
//! the eyes of a broker that was restarted meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use fulmar_core::broker::{Accepted, HelloRefusal};
use fulmar_core::id::ReplicaId;
use fulmar_core::term::Process;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::storage::Storage;

/// Answers hellos.
#[derive(Debug)]
pub(super) struct Doorkeeper {
    storage: Storage,
    /// The processes that this process has stored, one for each peer that was ever met.
    remembered: Arc<Mutex<BTreeMap<ReplicaId, Process>>>,
}

impl Doorkeeper {
    pub(super) fn new(storage: Storage) -> Self {
        Self { storage, remembered: Arc::default() }
    }

    /// Passes a judgement on, once it is durable who was believed.
    pub(super) fn answer(
        &self,
        judged: Result<Accepted, HelloRefusal>,
        answer: oneshot::Sender<Result<Accepted, HelloRefusal>>,
    ) {
        let accepted = match judged {
            Ok(accepted) if self.remembered.lock().get(&accepted.peer) != Some(&accepted.process) => accepted,
            judged => {
                // Who asked may have gone with its connection.
                let _gone = answer.send(judged);
                return;
            }
        };
        let (storage, remembered) = (self.storage.clone(), self.remembered.clone());
        tokio::spawn(async move {
            let Accepted { peer, process, .. } = accepted;
            // Fails only when the storage has stopped, and the process ends.
            if storage.put_peer_seen(peer, process).await.is_ok() {
                remembered.lock().insert(peer, process);
                let _gone = answer.send(Ok(accepted));
            }
        });
    }
}
