//! What is known of one kind of object, fed by watches: one for each namespace, or one for all.
//!
//! Owns the latest seen version of each object, without `managedFields` (which are larger than many objects). Never:
//! reads from the API server; it may be behind, and whoever decides from it writes with `resourceVersion`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::ResourceExt;
use kube_runtime::watcher::Event;
use parking_lot::RwLock;

type Key = (String, String);

/// The objects of one kind.
#[derive(Debug)]
pub struct Cache<K> {
    inner: RwLock<Inner<K>>,
}

#[derive(Debug)]
struct Inner<K> {
    objects: BTreeMap<Key, Arc<K>>,
    /// What a listing under way has named so far, by its scope.
    listings: BTreeMap<Option<String>, BTreeSet<Key>>,
    /// The scopes that were listed whole at least once.
    listed: BTreeSet<Option<String>>,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        let inner = Inner { objects: BTreeMap::new(), listings: BTreeMap::new(), listed: BTreeSet::new() };
        Self { inner: RwLock::new(inner) }
    }
}

impl<K: ResourceExt + Clone> Cache<K> {
    /// Takes an event of the watch over `scope` (a namespace; `None`: all) and gives back the versions concerned, those
    /// that were replaced and those that came: who cares for either is to be woken.
    pub fn observe(&self, scope: &Option<String>, event: Event<K>) -> Vec<Arc<K>> {
        let mut inner = self.inner.write();
        match event {
            Event::Init => {
                inner.listings.insert(scope.clone(), BTreeSet::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                if let Some(listing) = inner.listings.get_mut(scope) {
                    listing.insert(key(&object));
                }
                inner.put(object)
            }
            Event::Apply(object) => inner.put(object),
            Event::Delete(object) => inner.objects.remove(&key(&object)).into_iter().collect(),
            Event::InitDone => inner.finish_listing(scope.as_ref()),
        }
    }

    /// The object of this name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.inner.read().objects.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// The objects of a namespace for which `wanted` is true, by name.
    pub fn select(&self, namespace: &str, wanted: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        let inner = self.inner.read();
        let from = (namespace.to_owned(), String::new());
        let of_namespace = inner.objects.range(from..).take_while(|((other, _), _)| other == namespace);
        of_namespace.filter(|(_, object)| wanted(object)).map(|(_, object)| Arc::clone(object)).collect()
    }

    /// Shows every object once. No watch can bring another one meanwhile: to be used briefly.
    pub fn visit(&self, look: impl FnMut(&K)) {
        self.inner.read().objects.values().map(AsRef::as_ref).for_each(look);
    }

    /// The namespaces that have any.
    pub fn namespaces(&self) -> BTreeSet<String> {
        self.inner.read().objects.keys().map(|(namespace, _)| namespace.clone()).collect()
    }

    /// Whether all of `scopes` were listed at least once: only then does absence mean anything.
    pub fn is_listed(&self, scopes: &[Option<String>]) -> bool {
        let inner = self.inner.read();
        scopes.iter().all(|scope| inner.listed.contains(scope))
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.inner.read().objects.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: ResourceExt + Clone> Inner<K> {
    fn put(&mut self, mut object: K) -> Vec<Arc<K>> {
        object.meta_mut().managed_fields = None;
        let object = Arc::new(object);
        let replaced = self.objects.insert(key(object.as_ref()), Arc::clone(&object));
        replaced.into_iter().chain(std::iter::once(object)).collect()
    }

    fn finish_listing(&mut self, scope: Option<&String>) -> Vec<Arc<K>> {
        let whole = scope.cloned();
        let listing = self.listings.remove(&whole);
        self.listed.insert(whole);
        let Some(listing) = listing else { return Vec::new() };
        let in_scope = |key: &Key| scope.is_none_or(|namespace| key.0 == *namespace);
        let gone: Vec<Key> =
            self.objects.keys().filter(|key| in_scope(key) && !listing.contains(*key)).cloned().collect();
        gone.iter().filter_map(|key| self.objects.remove(key)).collect()
    }
}

fn key<K: ResourceExt>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
