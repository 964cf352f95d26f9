//! One task for each Cluster that exists or that a Topic names, woken by whatever concerns it.
//!
//! Owns the tasks: started at the first wake, ended when neither a Cluster nor a Topic is left. Wakes coalesce: a task
//! that is busy goes round once more, whatever the number of changes, so nothing queues up.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::cluster::{Attendant, Next};
use crate::context::Context;
use crate::names::ClusterKey;
use crate::watches::{Wake, Waker};

/// Changes come in bursts (a Cluster with its Topics, a StatefulSet with its pods): so long they are gathered …
const SETTLE: Duration = Duration::from_millis(100);

/// … with up to so many Topics, and with more of them as much longer as a pass over them takes longer: while each of their statuses is written,
/// and each write wakes the task again, passes are to take a small part of the time …
const SETTLE_TOPICS: u32 = 1_000;

/// … up to this: pods that come and go are told to the controller by passes, too.
const SETTLE_MAX: Duration = Duration::from_secs(1);

/// After an error, the next try comes after this, doubled each time up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(500);

/// No error is waited on longer than this.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// All tasks.
#[derive(Default)]
pub struct Clusters {
    /// Set once the operator acts; wakes before that are not needed, for every object is looked at then.
    context: OnceLock<Context>,
    tasks: Mutex<BTreeMap<ClusterKey, Task>>,
}

struct Task {
    woken: Arc<Notify>,
    ended: JoinHandle<()>,
}

impl Clusters {
    /// From here on tasks are started; everything that is there now is woken.
    pub fn begin(self: &Arc<Self>, context: Context) {
        let watches = Arc::clone(&context.watches);
        let scopes = context.config.scopes();
        if self.context.set(context).is_err() {
            return;
        }
        for namespace in namespaces(&watches, &scopes) {
            for cluster in watches.clusters.select(&namespace, |_| true) {
                let name = cluster.metadata.name.clone().unwrap_or_default();
                self.wake_one(ClusterKey { namespace: namespace.clone(), name });
            }
            for topic in watches.topics.select(&namespace, |_| true) {
                let name = topic.spec.cluster_ref.name.clone();
                self.wake_one(ClusterKey { namespace: namespace.clone(), name });
            }
        }
    }

    /// Ends all tasks, and waits for them.
    pub async fn end(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for (_, task) in tasks {
            task.ended.abort();
            let _ = task.ended.await;
        }
    }

    /// How many tasks there are.
    pub fn len(&self) -> usize {
        self.tasks.lock().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn wake_one(self: &Arc<Self>, key: ClusterKey) {
        let Some(context) = self.context.get() else { return };
        let mut tasks = self.tasks.lock();
        if let Some(task) = tasks.get(&key) {
            task.woken.notify_one();
            return;
        }
        if !concerns_somebody(context, &key) {
            return;
        }
        let woken = Arc::new(Notify::new());
        let attend = attend(Arc::clone(self), context.clone(), key.clone(), Arc::clone(&woken));
        tasks.insert(key, Task { woken, ended: tokio::spawn(attend) });
    }

    /// Forgets the task of `key` unless something came up meanwhile. The lock makes it certain: a wake either comes
    /// before and is seen in the caches, or comes after and starts a new task.
    fn retire(&self, context: &Context, key: &ClusterKey) -> bool {
        let mut tasks = self.tasks.lock();
        if concerns_somebody(context, key) {
            return false;
        }
        tasks.remove(key);
        true
    }
}

impl Waker for Arc<Clusters> {
    fn wake(&self, wake: Wake) {
        match wake {
            Wake::One(key) => self.wake_one(key),
            Wake::All => self.tasks.lock().values().for_each(|task| task.woken.notify_one()),
        }
    }
}

fn concerns_somebody(context: &Context, key: &ClusterKey) -> bool {
    let watches = &context.watches;
    watches.clusters.get(&key.namespace, &key.name).is_some()
        || !watches.topics.select(&key.namespace, |topic| topic.spec.cluster_ref.name == key.name).is_empty()
}

async fn attend(clusters: Arc<Clusters>, context: Context, key: ClusterKey, woken: Arc<Notify>) {
    let mut attendant = Attendant::new(context.clone(), key.clone());
    let mut retry = RETRY_MIN;
    loop {
        let pause = match attendant.reconcile().await {
            Ok(Next::Over) if clusters.retire(&context, &key) => return,
            Ok(Next::Over) => Some(SETTLE),
            Ok(Next::Change) => None,
            Ok(Next::After(pause)) => Some(pause),
            Err(error) => {
                context.metrics.reconcile_errors.inc();
                tracing::warn!(cluster = %key, %error, "reconciling failed, trying again");
                let pause = retry;
                retry = (retry * 2).min(RETRY_MAX);
                let rest = error.rest().unwrap_or_default();
                let_alone(&mut attendant, &woken, rest).await;
                attendant.wait(&woken, Some(pause.saturating_sub(rest))).await;
                continue;
            }
        };
        retry = RETRY_MIN;
        attendant.wait(&woken, pause).await;
        tokio::time::sleep(settle(attendant.topics())).await;
    }
}

/// An API server that has too much to do is asked nothing for so long, whatever changes. What a change says of brokers is passed on: who
/// comes back at another address is not kept waiting.
async fn let_alone(attendant: &mut Attendant, woken: &Notify, rest: Duration) {
    let over = Instant::now() + rest;
    loop {
        let left = over.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        attendant.wait(woken, Some(left)).await;
        attendant.look();
        tokio::time::sleep(settle(attendant.topics()).min(left)).await;
    }
}

fn settle(topics: usize) -> Duration {
    let topics = u32::try_from(topics).unwrap_or(u32::MAX);
    (SETTLE.saturating_mul(topics) / SETTLE_TOPICS).clamp(SETTLE, SETTLE_MAX)
}

fn namespaces(watches: &crate::watches::Watches, scopes: &[Option<String>]) -> Vec<String> {
    let named: Option<Vec<String>> = scopes.iter().cloned().collect();
    named.unwrap_or_else(|| {
        let mut all = watches.clusters.namespaces();
        all.extend(watches.topics.namespaces());
        all.into_iter().collect()
    })
}

#[cfg(test)]
#[path = "clusters_tests.rs"]
mod tests;
