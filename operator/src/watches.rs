//! Which objects are watched, and whose task each of them wakes.
//!
//! Owns the caches and the tasks that feed them. Never: reads or writes anything else; when nothing changes, these
//! watches and the Lease are all that the API server sees of the operator.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use kube::{Api, Client, Resource, ResourceExt};
use kube_runtime::{WatchStreamExt as _, watcher};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use fulmar_crds::{Cluster, PartitionTable, Topic};

use crate::api;
use crate::cache::Cache;
use crate::names::{BROKER, ClusterKey, LABEL_INSTANCE, LABEL_MANAGED_BY, LABEL_NAME, OPERATOR};

/// The API server ends a watch after so long: one whose connection died without a word is missed no longer than that.
const WATCH_SECONDS: u32 = 50;

/// Before everything of a kind is listed again because a watch was refused: a list costs the API server more than a watch.
const LIST_AGAIN: Duration = Duration::from_secs(1);

/// The caches of everything that is watched. Secrets are not: the operator has no right to list them.
#[derive(Debug, Default)]
pub struct Watches {
    /// Clusters.
    pub clusters: Cache<Cluster>,
    /// Topics.
    pub topics: Cache<Topic>,
    /// Pages of partition tables: their metadata only; the contents are the ledger's.
    pub tables: Cache<PartialObjectMeta<PartitionTable>>,
    /// Pods of brokers.
    pub pods: Cache<Pod>,
    /// Claims of brokers.
    pub claims: Cache<PersistentVolumeClaim>,
    /// Nodes: their metadata only, for zones. Empty where they are not read.
    pub nodes: Cache<PartialObjectMeta<Node>>,
    /// `StatefulSet`s that the operator manages.
    pub stateful_sets: Cache<StatefulSet>,
    /// Services that the operator manages.
    pub services: Cache<Service>,
    /// Service accounts that the operator manages.
    pub service_accounts: Cache<ServiceAccount>,
    /// Budgets that the operator manages.
    pub budgets: Cache<PodDisruptionBudget>,
    /// Network policies that the operator manages.
    pub policies: Cache<NetworkPolicy>,
}

/// Who is to be woken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wake {
    /// The task of one Cluster.
    One(ClusterKey),
    /// The tasks of all Clusters.
    All,
}

/// Told of each change.
pub trait Waker: Send + Sync + 'static {
    /// Something changed that these may care about.
    fn wake(&self, wake: Wake);
}

impl Watches {
    /// Whether absence from a cache means absence from the API server, for all that reconciling decides from. Nodes are
    /// left out: a missing grant for them only makes zones unknown.
    pub fn are_listed(&self, scopes: &[Option<String>]) -> bool {
        self.clusters.is_listed(scopes)
            && self.topics.is_listed(scopes)
            && self.tables.is_listed(scopes)
            && self.pods.is_listed(scopes)
            && self.claims.is_listed(scopes)
            && self.stateful_sets.is_listed(scopes)
            && self.services.is_listed(scopes)
            && self.service_accounts.is_listed(scopes)
            && self.budgets.is_listed(scopes)
            && self.policies.is_listed(scopes)
    }
}

/// Starts the watches of what is in these scopes, and of Nodes if they may be read. They end with the returned set.
pub fn start(
    client: &Client,
    watches: &Arc<Watches>,
    scopes: &[Option<String>],
    read_nodes: bool,
    waker: &Arc<dyn Waker>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let managed = format!("{LABEL_MANAGED_BY}={OPERATOR}");
    let brokers = format!("{LABEL_NAME}={BROKER}");
    for scope in scopes {
        let feed = Feed { client, watches, scope, waker };
        feed.start(&mut tasks, "", |all| &all.clusters, key_of_object);
        feed.start(&mut tasks, "", |all| &all.topics, key_of_topic);
        feed.start(&mut tasks, "", |all| &all.tables, key_of_table);
        feed.start(&mut tasks, &brokers, |all| &all.pods, key_by_label);
        feed.start(&mut tasks, &brokers, |all| &all.claims, key_by_label);
        feed.start(&mut tasks, &managed, |all| &all.stateful_sets, key_by_label);
        feed.start(&mut tasks, &managed, |all| &all.services, key_by_label);
        feed.start(&mut tasks, &managed, |all| &all.service_accounts, key_by_label);
        feed.start(&mut tasks, &managed, |all| &all.budgets, key_by_label);
        feed.start(&mut tasks, &managed, |all| &all.policies, key_by_label);
    }
    if read_nodes {
        start_nodes(client, watches, waker, &mut tasks);
    }
    tasks
}

struct Feed<'a> {
    client: &'a Client,
    watches: &'a Arc<Watches>,
    scope: &'a Option<String>,
    waker: &'a Arc<dyn Waker>,
}

impl Feed<'_> {
    fn start<K>(
        &self,
        tasks: &mut JoinSet<()>,
        labels: &str,
        cache: fn(&Watches) -> &Cache<K>,
        key: fn(&K) -> Option<ClusterKey>,
    ) where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let api: Api<K> = match self.scope {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        let (watches, scope, waker) = (Arc::clone(self.watches), self.scope.clone(), Arc::clone(self.waker));
        let labels = labels.to_owned();
        tasks.spawn(async move {
            follow(api, &labels, |event| {
                for object in cache(&watches).observe(&scope, event) {
                    if let Some(key) = key(&object) {
                        waker.wake(Wake::One(key));
                    }
                }
            })
            .await;
        });
    }
}

/// Nodes change often (each of them reports its images and conditions); only a change of labels wakes anybody.
fn start_nodes(client: &Client, watches: &Arc<Watches>, waker: &Arc<dyn Waker>, tasks: &mut JoinSet<()>) {
    let api: Api<PartialObjectMeta<Node>> = Api::all(client.clone());
    let (watches, waker) = (Arc::clone(watches), Arc::clone(waker));
    tasks.spawn(async move {
        follow(api, "", |event| {
            let concerned = watches.nodes.observe(&None, event);
            let same = matches!(concerned.as_slice(), [old, new] if old.labels() == new.labels());
            if !concerned.is_empty() && !same {
                waker.wake(Wake::All);
            }
        })
        .await;
    });
}

async fn follow<K>(api: Api<K>, labels: &str, mut take: impl FnMut(watcher::Event<K>))
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    // A watch that is away for long says so once, not at every attempt.
    let mut away = false;
    loop {
        follow_while_known(api.clone(), labels, &mut away, &mut take).await;
        tokio::time::sleep(LIST_AGAIN).await;
    }
}

/// Until what was listed is too old to go on from.
async fn follow_while_known<K>(
    api: Api<K>,
    labels: &str,
    away: &mut bool,
    take: &mut impl FnMut(watcher::Event<K>),
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let config = watcher::Config::default().timeout(WATCH_SECONDS).labels(labels);
    let mut events = std::pin::pin!(watcher(api, config).default_backoff());
    let kind = K::kind(&());
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                // That it is about to list says nothing of what comes of it.
                if !matches!(event, watcher::Event::Init) && std::mem::take(away) {
                    tracing::info!(%kind, "watch is back");
                }
                take(event);
            }
            Err(error) => {
                if std::mem::replace(away, true) {
                    tracing::debug!(%kind, %error, "watch is still away");
                } else {
                    tracing::info!(%kind, %error, "watch broke off, trying again");
                }
                // The watcher's own pause, 0.8 s to begin with and for ever after lists that fail, goes on meanwhile.
                if let Some(rest) = rest_after(&error) {
                    tokio::time::sleep(rest).await;
                }
                if is_gone_at_once(&error) {
                    return;
                }
            }
        }
    }
}

/// Whether a watch was answered 410 as a whole. The API server says it within the stream, and the watcher lists again; but to whoever
/// stands in front of it and says it at once, the watcher would come with the same version for ever.
fn is_gone_at_once(error: &watcher::Error) -> bool {
    let watcher::Error::WatchStartFailed(kube::Error::Api(status)) = error else { return false };
    status.code == 410
}

/// How long the API server asks to wait before it is asked again.
fn rest_after(error: &watcher::Error) -> Option<Duration> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(refusal))
        | watcher::Error::WatchStartFailed(kube::Error::Api(refusal))
        | watcher::Error::WatchFailed(kube::Error::Api(refusal))
        | watcher::Error::WatchError(refusal) => api::rest(refusal),
        watcher::Error::InitialListFailed(_)
        | watcher::Error::WatchStartFailed(_)
        | watcher::Error::WatchFailed(_)
        | watcher::Error::NoResourceVersion => None,
    }
}

fn key_of_object<K: ResourceExt>(object: &K) -> Option<ClusterKey> {
    Some(ClusterKey { namespace: object.namespace()?, name: object.name_any() })
}

fn key_of_topic(topic: &Topic) -> Option<ClusterKey> {
    Some(ClusterKey { namespace: topic.namespace()?, name: topic.spec.cluster_ref.name.clone() })
}

fn key_of_table<K: ResourceExt>(table: &K) -> Option<ClusterKey> {
    let name = table.name_any();
    // `NAME-table` or `NAME-table-N`; a Cluster's own name may have `-table` in it.
    let (cluster, rest) = name.rsplit_once("-table")?;
    let number =
        rest.is_empty() || rest.strip_prefix('-').is_some_and(|digits| digits.parse::<u32>().is_ok());
    number.then(|| Some(ClusterKey { namespace: table.namespace()?, name: cluster.to_owned() })).flatten()
}

fn key_by_label<K: ResourceExt>(object: &K) -> Option<ClusterKey> {
    let name = object.labels().get(LABEL_INSTANCE)?.clone();
    Some(ClusterKey { namespace: object.namespace()?, name })
}

#[cfg(test)]
#[path = "watches_tests.rs"]
mod tests;
