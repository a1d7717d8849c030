//! The one store: objects, the global revision, the history that watches replay, and who watches.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound,
    sync::Arc,
};

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::api::kinds::Kind;
use crate::api::managed_fields::Owners;
use crate::api::selector::Selector;
use crate::api::watch::{Event, Watcher};

/// Where an object lies. The order (resource, namespace, name) is the order of lists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) resource: Arc<str>,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(resource: &str, namespace: &str, name: &str) -> Self {
        Self {
            resource: Arc::from(resource),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    pub(crate) fn of(kind: &Kind, namespace: &str, name: &str) -> Self {
        Self {
            resource: Arc::clone(&kind.storage),
            namespace: if kind.namespaced {
                namespace.to_owned()
            } else {
                String::new()
            },
            name: name.to_owned(),
        }
    }
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Added,
    Modified,
    Deleted,
}

/// One committed write.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    pub(crate) revision: u64,
    pub(crate) key: Key,
    pub(crate) change: Change,
    /// The state after; for a deletion the last state with the deletion's revision.
    pub(crate) object: Arc<Value>,
    pub(crate) previous: Option<Arc<Value>>,
    /// Whose request it was.
    pub(crate) author: Author,
}

/// Who writes; all of it is empty for the cluster's own controllers.
#[derive(Clone, Debug)]
pub(crate) struct Author {
    pub(crate) user: Arc<str>,
    pub(crate) session: Arc<str>,
}

/// Objects and their history.
pub(crate) struct Store {
    revision: u64,
    /// Watches from at or before this revision can't be replayed any more.
    compacted: u64,
    objects: BTreeMap<Key, Arc<Value>>,
    history: VecDeque<Arc<Commit>>,
    history_limit: usize,
    watchers: BTreeMap<u64, Watcher>,
    next_watcher: u64,
    by_uid: BTreeMap<String, Key>,
    dependents: BTreeMap<String, BTreeSet<Key>>,
    pub(crate) owners: BTreeMap<Key, Arc<Owners>>,
    /// Commits that the world has not seen yet.
    unseen: VecDeque<Arc<Commit>>,
    /// Every commit, also those that watches can't replay any more, with its time.
    record: Option<Vec<(Instant, Arc<Commit>)>>,
    /// Who writes now.
    author: Author,
}

impl Store {
    pub(crate) fn new(history_limit: usize) -> Self {
        Self {
            revision: 1,
            compacted: 0,
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            history_limit,
            watchers: BTreeMap::new(),
            next_watcher: 0,
            by_uid: BTreeMap::new(),
            dependents: BTreeMap::new(),
            owners: BTreeMap::new(),
            unseen: VecDeque::new(),
            record: None,
            author: Author {
                user: Arc::from(""),
                session: Arc::from(""),
            },
        }
    }

    /// A store with these objects for a cluster of its own: nobody watches them.
    pub(crate) fn copy(&self, history_limit: usize) -> Self {
        Self {
            revision: self.revision,
            compacted: self.revision,
            objects: self.objects.clone(),
            by_uid: self.by_uid.clone(),
            dependents: self.dependents.clone(),
            owners: self.owners.clone(),
            ..Self::new(history_limit)
        }
    }

    /// From now on every commit is kept.
    pub(crate) fn keep_record(&mut self) {
        self.record.get_or_insert_default();
    }

    pub(crate) fn record(&self) -> &[(Instant, Arc<Commit>)] {
        self.record.as_deref().unwrap_or_default()
    }

    /// Says who writes from now on; returns who did until now.
    pub(crate) fn write_as(&mut self, author: Author) -> Author {
        std::mem::replace(&mut self.author, author)
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Arc<Value>> {
        self.objects.get(key)
    }

    pub(crate) fn find(&self, resource: &str, namespace: &str, name: &str) -> Option<&Arc<Value>> {
        self.get(&Key::new(resource, namespace, name))
    }

    /// Whether the owner of something in this namespace is there: in the same one, or in none.
    pub(crate) fn owner_exists(&self, uid: &str, namespace: &str) -> bool {
        self.by_uid
            .get(uid)
            .is_some_and(|key| key.namespace.is_empty() || key.namespace == namespace)
    }

    /// Objects that name this uid among their owners.
    pub(crate) fn dependents(&self, uid: &str) -> Vec<Key> {
        self.dependents
            .get(uid)
            .map(|keys| keys.iter().cloned().collect())
            .unwrap_or_default()
    }

    /// Objects of a resource, in order; an empty namespace means all of them.
    pub(crate) fn list<'a>(
        &'a self,
        resource: &str,
        namespace: &'a str,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> + use<'a> {
        let start = Key::new(resource, namespace, "");
        let resource = Arc::clone(&start.resource);
        self.objects
            .range((Bound::Included(start), Bound::Unbounded))
            .take_while(move |(key, _)| {
                key.resource == resource && (namespace.is_empty() || key.namespace == namespace)
            })
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&Key, &Arc<Value>)> {
        self.objects.iter()
    }

    /// Stores an object under the next revision and tells everyone.
    pub(crate) fn put(&mut self, key: Key, mut object: Value) -> Arc<Value> {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let object = Arc::new(object);
        let previous = self.objects.insert(key.clone(), Arc::clone(&object));
        if !previous
            .as_ref()
            .is_some_and(|previous| is_indexed_as(previous, &object))
        {
            if let Some(previous) = &previous {
                self.unindex(&key, previous);
            }
            self.index(&key, &object);
        }
        let change = if previous.is_some() {
            Change::Modified
        } else {
            Change::Added
        };
        self.publish(Commit {
            revision: self.revision,
            key,
            change,
            object: Arc::clone(&object),
            previous,
            author: self.author.clone(),
        });
        object
    }

    /// Removes an object; the answer is its last state with the deletion's revision.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<Arc<Value>> {
        let previous = self.objects.remove(key)?;
        self.owners.remove(key);
        self.unindex(key, &previous);
        self.revision += 1;
        let mut last = Value::clone(&previous);
        last["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let object = Arc::new(last);
        self.publish(Commit {
            revision: self.revision,
            key: key.clone(),
            change: Change::Deleted,
            object: Arc::clone(&object),
            previous: Some(previous),
            author: self.author.clone(),
        });
        Some(object)
    }

    /// The next commit that the world has not reacted to.
    pub(crate) fn next_unseen(&mut self) -> Option<Arc<Commit>> {
        self.unseen.pop_front()
    }

    /// Starts a watch; what it has to catch up with is sent at once.
    ///
    /// Errors: the revision that is too old, as (requested, oldest).
    pub(crate) fn watch(&mut self, watcher: Watcher, from: WatchFrom) -> Result<u64, (u64, u64)> {
        match from {
            WatchFrom::Now { initial: true } => {
                for (_, object) in
                    self.list(&watcher.kind.storage, watcher.namespace.as_deref().unwrap_or(""))
                {
                    if watcher.selector.matches(object) {
                        watcher.send(&Event::Added(Arc::clone(object)));
                    }
                }
            }
            WatchFrom::Now { initial: false } => {}
            WatchFrom::Revision(from) => {
                if from < self.compacted {
                    return Err((from, self.compacted));
                }
                let start = self.history.partition_point(|commit| commit.revision <= from);
                for commit in self.history.range(start..) {
                    watcher.offer(commit);
                }
            }
        }
        self.next_watcher += 1;
        self.watchers.insert(self.next_watcher, watcher);
        Ok(self.next_watcher)
    }

    /// Ends a watch the way the server does at its time-out: the stream just ends.
    pub(crate) fn end_watch(&mut self, id: u64) {
        self.watchers.remove(&id);
    }

    /// Sends a bookmark; false when nobody listens any more.
    pub(crate) fn bookmark(&mut self, id: u64, initial_end: bool) -> bool {
        let revision = self.revision;
        let alive = self.watchers.get(&id).is_some_and(|watcher| {
            watcher.send(&Event::Bookmark {
                revision,
                initial_end,
            })
        });
        if !alive {
            self.watchers.remove(&id);
        }
        alive
    }

    /// Ends all watches, as a restart of the server does.
    pub(crate) fn end_all_watches(&mut self) {
        self.watchers.clear();
    }

    /// Forgets the history, as a compaction does.
    pub(crate) fn compact(&mut self) {
        self.compacted = self.revision;
        self.history.clear();
    }

    /// Objects that match, with the position after `after` and at most `limit` of them, and whether more follow.
    pub(crate) fn page(
        &self,
        kind: &Kind,
        namespace: &str,
        selector: &Selector,
        after: Option<(&str, &str)>,
        limit: Option<usize>,
    ) -> (Vec<Arc<Value>>, Option<Key>, usize) {
        let mut items = Vec::new();
        let mut last = None;
        let mut remaining = 0;
        for (key, object) in self.list(&kind.storage, namespace) {
            if after.is_some_and(|after| (key.namespace.as_str(), key.name.as_str()) <= after)
                || !selector.matches(object)
            {
                continue;
            }
            if limit.is_some_and(|limit| items.len() >= limit) {
                remaining += 1;
                continue;
            }
            items.push(Arc::clone(object));
            last = Some(key.clone());
        }
        (items, if remaining > 0 { last } else { None }, remaining)
    }

    fn publish(&mut self, commit: Commit) {
        self.watchers.retain(|_, watcher| watcher.offer(&commit));
        let commit = Arc::new(commit);
        self.unseen.push_back(Arc::clone(&commit));
        if let Some(record) = &mut self.record {
            record.push((Instant::now(), Arc::clone(&commit)));
        }
        self.history.push_back(commit);
        if self.history.len() > self.history_limit
            && let Some(oldest) = self.history.pop_front()
        {
            self.compacted = oldest.revision;
        }
    }

    fn index(&mut self, key: &Key, object: &Value) {
        if let Some(uid) = object["metadata"]["uid"].as_str() {
            self.by_uid.insert(uid.to_owned(), key.clone());
        }
        for uid in owner_uids(object) {
            self.dependents
                .entry(uid.to_owned())
                .or_default()
                .insert(key.clone());
        }
    }

    fn unindex(&mut self, key: &Key, object: &Value) {
        if let Some(uid) = object["metadata"]["uid"].as_str() {
            self.by_uid.remove(uid);
        }
        for uid in owner_uids(object) {
            if let Some(keys) = self.dependents.get_mut(uid) {
                keys.remove(key);
                if keys.is_empty() {
                    self.dependents.remove(uid);
                }
            }
        }
    }
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WatchFrom {
    /// At the present state, with or without a synthetic ADDED for every object.
    Now {
        /// Whether the present objects are sent first.
        initial: bool,
    },
    /// After this revision.
    Revision(u64),
}

/// Whether both have the same place in the indexes.
fn is_indexed_as(object: &Value, other: &Value) -> bool {
    let (metadata, others) = (&object["metadata"], &other["metadata"]);
    metadata["uid"] == others["uid"] && metadata["ownerReferences"] == others["ownerReferences"]
}

fn owner_uids(object: &Value) -> impl Iterator<Item = &str> {
    object["metadata"]["ownerReferences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|r| r["uid"].as_str())
}
