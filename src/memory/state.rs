//! Everything inside the cluster's lock: store, clock, chance, timers.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use kube::core::cel::Validator;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::chance::Chance;

use super::{
    FaultFunction, MemoryOptions, PodScriptFunction,
    kinds::Kinds,
    rbac,
    request::RequestRecord,
    store::{Key, Store},
    world::{
        Ended, Revisions, Timer,
        pods::{PodRun, is_serving},
    },
    write::WriteOptions,
};

/// The state of a cluster.
pub(super) struct State {
    pub(super) options: MemoryOptions,
    pub(super) kinds: Kinds,
    /// Resources whose definition has changed: what is stored of them may not have been through the one of now.
    pub(super) redefined: BTreeSet<Arc<str>>,
    pub(super) store: Store,
    pub(super) cel: Validator,
    pub(super) random: Random,
    pub(super) timers: BTreeMap<(Instant, u64), Timer>,
    next_timer: u64,
    /// Owners, by uid, that are there although they are not shown: nobody here acts for them.
    pub(super) outside: BTreeSet<String>,
    /// What the kubelets know about running pods, by uid.
    pub(super) runs: BTreeMap<String, PodRun>,
    /// Ended pods of Jobs, and when Jobs began, by the Job's uid.
    pub(super) ended: BTreeMap<String, Ended>,
    pub(super) job_started: BTreeMap<String, Timestamp>,
    pub(super) expiring: BTreeSet<String>,
    /// How often something was refused to a controller, and what pods are made of, by the uid of their owner.
    pub(super) refusals: BTreeMap<String, u32>,
    pub(super) revisions: BTreeMap<String, Revisions>,
    /// Pods that no node here takes, by uid; others that are unscheduled were so when they were loaded.
    pub(super) homeless: BTreeSet<String>,
    pub(super) log: VecDeque<RequestRecord>,
    /// Events that are there, the oldest first.
    pub(super) events: VecDeque<Key>,
    pub(super) scripts: Option<PodScriptFunction>,
    pub(super) faults: Option<FaultFunction>,
}

impl State {
    pub(super) fn new(options: MemoryOptions) -> Self {
        let store = Store::new(options.history);
        let mut state = Self::with(Kinds::built_in(), store, options);
        for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
            state.bootstrap(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
        }
        for role in rbac::bootstrap_roles() {
            state.bootstrap(role);
        }
        state.settle();
        state
    }

    /// A cluster of its own with the same kinds and objects, in which nothing is under way but the pods that serve.
    pub(super) fn copy(&self, options: MemoryOptions) -> Self {
        let store = self.store.copy(options.history);
        let serving = self.store.list("pods", "").filter(|(_, pod)| is_serving(pod));
        let runs = serving.filter_map(|(_, pod)| {
            let uid = pod["metadata"]["uid"].as_str()?;
            Some((uid.to_owned(), self.runs.get(uid)?.at_rest()))
        });
        // Not the uids that its objects have.
        let seed = options.seed.wrapping_add(store.revision() << 32);
        Self {
            runs: runs.collect(),
            redefined: self.redefined.clone(),
            outside: self.outside.clone(),
            revisions: self.revisions.clone(),
            homeless: self.homeless.clone(),
            random: Random(Chance::new(seed)),
            ..Self::with(self.kinds.clone(), store, options)
        }
    }

    fn with(kinds: Kinds, store: Store, options: MemoryOptions) -> Self {
        Self {
            kinds,
            redefined: BTreeSet::new(),
            outside: BTreeSet::new(),
            store,
            cel: Validator::new(),
            random: Random(Chance::new(options.seed)),
            timers: BTreeMap::new(),
            next_timer: 0,
            runs: BTreeMap::new(),
            ended: BTreeMap::new(),
            job_started: BTreeMap::new(),
            expiring: BTreeSet::new(),
            refusals: BTreeMap::new(),
            revisions: BTreeMap::new(),
            homeless: BTreeSet::new(),
            log: VecDeque::new(),
            events: VecDeque::new(),
            scripts: None,
            faults: None,
            options,
        }
    }

    fn bootstrap(&mut self, object: Value) {
        let (version, kind) = (object["apiVersion"].as_str(), object["kind"].as_str());
        if let Some(kind) = self
            .kinds
            .by_kind(version.unwrap_or(""), kind.unwrap_or(""))
            .cloned()
        {
            let _ = self.create(&kind, "", object, &WriteOptions::system("kube-apiserver"));
        }
    }

    /// The present as the cluster's objects have it, in whole seconds.
    pub(super) fn now_seconds(&self) -> String {
        seconds(self.now())
    }

    pub(super) fn now(&self) -> Timestamp {
        (self.options.now)()
    }

    pub(super) fn seconds_from_now(&self, seconds_later: i64) -> String {
        seconds(
            self.now()
                .saturating_add(SignedDuration::from_secs(seconds_later))
                .unwrap_or(Timestamp::MAX),
        )
    }

    /// Wakes the world after a time.
    pub(super) fn after(&mut self, delay: Duration, timer: Timer) {
        self.next_timer += 1;
        self.timers
            .insert((Instant::now() + delay, self.next_timer), timer);
    }

    /// The moment of the next timer.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.timers.keys().next().map(|(at, _)| *at)
    }

    /// Runs what is due and lets the world settle.
    pub(super) fn run_due(&mut self) {
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > Instant::now() {
                break;
            }
            let timer = entry.remove();
            self.fire(timer);
            self.settle();
        }
    }

    /// The latest state of an object, if it is still that one.
    pub(super) fn same(&self, key: &Key, uid: &str) -> Option<Arc<Value>> {
        self.store
            .get(key)
            .filter(|o| o["metadata"]["uid"] == uid)
            .cloned()
    }
}

fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Uids and generated names: the same seed gives the same cluster.
pub(super) struct Random(Chance);

impl Random {
    pub(super) fn uuid(&mut self) -> String {
        let (a, b) = (self.0.draw(), self.0.draw());
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            a >> 32,
            (a >> 16) & 0xffff,
            a & 0xfff,
            0x8000 | ((b >> 48) & 0x3fff),
            b & 0xffff_ffff_ffff,
        )
    }

    /// Five characters as generateName appends them.
    pub(super) fn suffix(&mut self) -> String {
        (0..5)
            .map(|_| SAFE[usize::try_from(self.0.below(27)).unwrap_or(0)])
            .map(char::from)
            .collect()
    }
}

/// Letters and digits that form no words.
const SAFE: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The hash in a pod template's label.
pub(super) fn template_hash(template: &Value) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in template.to_string().bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let mut out = String::new();
    for _ in 0..10 {
        out.push(char::from(SAFE[usize::try_from(hash % 27).unwrap_or(0)]));
        hash /= 27;
    }
    out
}
