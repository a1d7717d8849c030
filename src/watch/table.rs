//! Objects of one kind by uid, and their uids by owner. What runs is kept as it is read; the rest, of which there may be tens of
//! thousands, as the text that it would be written as, a fraction of that.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kubernaut_actors::Change;
use kubernaut_actors::ports::version_of;

use super::kept::Kept;

/// What one that has ended weighs, about, in bytes.
const RETIRED: usize = 4 * 1024;

/// Changed in `insert`, `remove`, `pack` and `retire` alone.
pub(super) struct Table<K> {
    /// A first list was put in.
    pub(super) complete: bool,
    entries: BTreeMap<String, Entry<K>>,
    owned: HashMap<String, BTreeSet<String>>,
    /// Bytes of all of them, about.
    size: usize,
}

struct Entry<K> {
    body: Body<K>,
    version: Option<String>,
    /// The version as a number.
    number: u64,
    owner: Option<String>,
    created: Option<Timestamp>,
    is_ended: bool,
    /// Bytes, about.
    size: usize,
}

enum Body<K> {
    Read(Arc<K>),
    Packed(Box<str>),
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self {
            complete: false,
            entries: BTreeMap::new(),
            owned: HashMap::new(),
            size: 0,
        }
    }
}

impl<K: Kept> Entry<K> {
    fn of(object: K, size: usize) -> Self {
        Self {
            version: object.meta().resource_version.clone(),
            number: version_of(object.meta()),
            owner: object.owner().map(str::to_owned),
            created: object.meta().creation_timestamp.as_ref().map(|time| time.0),
            is_ended: object.is_ended(),
            size,
            body: Body::Read(Arc::new(object)),
        }
    }

    fn read(&self) -> Option<Arc<K>> {
        match &self.body {
            Body::Read(object) => Some(Arc::clone(object)),
            Body::Packed(text) => serde_json::from_str(text)
                .inspect_err(|error| {
                    tracing::error!(%error, kind = K::KIND, "what was kept of an object can't be read: a defect of this program");
                })
                .ok()
                .map(Arc::new),
        }
    }

    fn pack(&mut self) {
        if let Body::Read(object) = &self.body
            && let Ok(text) = serde_json::to_string(&**object)
        {
            self.body = Body::Packed(text.into_boxed_str());
        }
    }
}

impl<K: Kept> Table<K> {
    /// Whether this version is in here.
    pub(super) fn knows(&self, uid: &str, meta: &ObjectMeta) -> bool {
        self.entries
            .get(uid)
            .is_some_and(|known| known.version == meta.resource_version)
    }

    /// Puts an object of about so many bytes in.
    pub(super) fn insert(&mut self, uid: &str, object: K, size: usize) {
        let entry = Entry::of(object, size);
        let before = self.owner(uid).map(str::to_owned);
        if before != entry.owner {
            self.disown(before.as_deref(), uid);
        }
        if let Some(owner) = &entry.owner {
            self.owned
                .entry(owner.clone())
                .or_default()
                .insert(uid.to_owned());
        }
        self.size += entry.size;
        let replaced = self.entries.insert(uid.to_owned(), entry);
        self.size -= replaced.map_or(0, |replaced| replaced.size);
    }

    /// Takes an object out. Says whom to poke.
    pub(super) fn remove(&mut self, uid: &str) -> Vec<Change> {
        let Some(entry) = self.entries.remove(uid) else {
            return Vec::new();
        };
        self.size -= entry.size;
        let owner = entry.owner.as_deref();
        self.disown(owner, uid);
        K::change(uid, owner).into_iter().chain(K::gone(owner)).collect()
    }

    /// Keeps it short, when it has ended.
    pub(super) fn retire(&mut self, uid: &str, alone: bool) {
        let Some(entry) = self.entries.get_mut(uid).filter(|entry| entry.is_ended) else {
            return;
        };
        let Some(mut object) = entry.read() else { return };
        Arc::make_mut(&mut object).retire(alone);
        entry.body = Body::Read(object);
        entry.pack();
        let size = entry.size.min(RETIRED);
        self.size -= entry.size - size;
        entry.size = size;
    }

    /// Keeps it as a text, until it changes.
    pub(super) fn pack(&mut self, uid: &str) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.pack();
        }
    }

    /// All that belong to this one.
    pub(super) fn pack_of(&mut self, owner: &str) {
        for uid in self.uids_of(owner) {
            self.pack(&uid);
        }
    }

    pub(super) fn get(&self, uid: &str) -> Option<Arc<K>> {
        self.entries.get(uid)?.read()
    }

    /// The one that there is, of a kind of which one is watched.
    pub(super) fn only(&self) -> Option<Arc<K>> {
        self.entries.values().next()?.read()
    }

    pub(super) fn owner(&self, uid: &str) -> Option<&str> {
        self.entries.get(uid)?.owner.as_deref()
    }

    pub(super) fn is_ended(&self, uid: &str) -> bool {
        self.entries.get(uid).is_some_and(|entry| entry.is_ended)
    }

    pub(super) fn of_owner(&self, owner: &str) -> Vec<Arc<K>> {
        let uids = self.owned.get(owner).into_iter().flatten();
        uids.filter_map(|uid| self.get(uid)).collect()
    }

    /// Uids and versions, as [`version_of`] reads these.
    pub(super) fn versions_of(&self, owner: &str) -> Vec<(String, u64)> {
        let uids = self.owned.get(owner).into_iter().flatten();
        uids.filter_map(|uid| Some((uid.clone(), self.entries.get(uid)?.number)))
            .collect()
    }

    pub(super) fn uids_of(&self, owner: &str) -> Vec<String> {
        self.owned.get(owner).into_iter().flatten().cloned().collect()
    }

    pub(super) fn has_any_of(&self, owner: &str) -> bool {
        self.owned.contains_key(owner)
    }

    pub(super) fn owners(&self) -> Vec<String> {
        let mut owners: Vec<String> = self.owned.keys().cloned().collect();
        owners.sort();
        owners
    }

    pub(super) fn uids(&self) -> impl Iterator<Item = &String> {
        self.entries.keys()
    }

    /// Those that have not ended first, and of these the oldest.
    pub(super) fn uids_by_age(&self) -> Vec<String> {
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_by_key(|(uid, entry)| (entry.is_ended, entry.created, *uid));
        entries.into_iter().map(|(uid, _)| uid.clone()).collect()
    }

    /// How many there are, and how many bytes they have, about.
    pub(super) fn amount(&self) -> (usize, usize) {
        (self.entries.len(), self.size)
    }

    fn disown(&mut self, owner: Option<&str>, uid: &str) {
        let Some(owner) = owner else {
            return;
        };
        if let Some(uids) = self.owned.get_mut(owner) {
            uids.remove(uid);
            if uids.is_empty() {
                self.owned.remove(owner);
            }
        }
    }
}
