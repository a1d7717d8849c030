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

use crate::rng::SeededRng;

use crate::api::kinds::Kinds;
use crate::api::request::RequestRecord;
use crate::api::store::{Key, Store};
use crate::api::write::WriteOptions;
use crate::api::{EmbeddedOptions, FaultFunction, PodScriptFunction, rbac};
use crate::controllers::kubelet::{PodRun, is_serving};
use crate::controllers::{Ended, Revisions, Timer};

/// The state of a cluster.
pub(crate) struct State {
    pub(crate) options: EmbeddedOptions,
    pub(crate) kinds: Kinds,
    /// Resources whose definition has changed: what is stored of them may not have been through the one of now.
    pub(crate) redefined: BTreeSet<Arc<str>>,
    pub(crate) store: Store,
    pub(crate) cel: Validator,
    pub(crate) random: Random,
    pub(crate) timers: BTreeMap<(Instant, u64), Timer>,
    next_timer: u64,
    /// Owners, by uid, that are there although they are not shown: nobody here acts for them.
    pub(crate) outside: BTreeSet<String>,
    /// What the kubelets know about running pods, by uid.
    pub(crate) runs: BTreeMap<String, PodRun>,
    /// Ended pods of Jobs, and when Jobs began, by the Job's uid.
    pub(crate) ended: BTreeMap<String, Ended>,
    pub(crate) job_started: BTreeMap<String, Timestamp>,
    pub(crate) expiring: BTreeSet<String>,
    /// How often something was refused to a controller, and what pods are made of, by the uid of their owner.
    pub(crate) refusals: BTreeMap<String, u32>,
    pub(crate) revisions: BTreeMap<String, Revisions>,
    /// Pods that no node here takes, by uid; others that are unscheduled were so when they were loaded.
    pub(crate) homeless: BTreeSet<String>,
    pub(crate) log: VecDeque<RequestRecord>,
    /// Events that are there, the oldest first.
    pub(crate) events: VecDeque<Key>,
    pub(crate) scripts: Option<PodScriptFunction>,
    pub(crate) faults: Option<FaultFunction>,
}

impl State {
    pub(crate) fn new(options: EmbeddedOptions) -> Self {
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
    pub(crate) fn copy(&self, options: EmbeddedOptions) -> Self {
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
            random: Random(SeededRng::new(seed)),
            ..Self::with(self.kinds.clone(), store, options)
        }
    }

    fn with(kinds: Kinds, store: Store, options: EmbeddedOptions) -> Self {
        Self {
            kinds,
            redefined: BTreeSet::new(),
            outside: BTreeSet::new(),
            store,
            cel: Validator::new(),
            random: Random(SeededRng::new(options.seed)),
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
    pub(crate) fn now_seconds(&self) -> String {
        seconds(self.now())
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.options.now)()
    }

    pub(crate) fn seconds_from_now(&self, seconds_later: i64) -> String {
        seconds(
            self.now()
                .saturating_add(SignedDuration::from_secs(seconds_later))
                .unwrap_or(Timestamp::MAX),
        )
    }

    /// Wakes the world after a time.
    pub(crate) fn after(&mut self, delay: Duration, timer: Timer) {
        self.next_timer += 1;
        self.timers
            .insert((Instant::now() + delay, self.next_timer), timer);
    }

    /// The moment of the next timer.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        self.timers.keys().next().map(|(at, _)| *at)
    }

    /// Runs what is due and lets the world settle.
    pub(crate) fn run_due(&mut self) {
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
    pub(crate) fn same(&self, key: &Key, uid: &str) -> Option<Arc<Value>> {
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
pub(crate) struct Random(SeededRng);

impl Random {
    pub(crate) fn uuid(&mut self) -> String {
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
    pub(crate) fn suffix(&mut self) -> String {
        (0..5)
            .map(|_| SAFE[usize::try_from(self.0.below(27)).unwrap_or(0)])
            .map(char::from)
            .collect()
    }
}

/// Letters and digits that form no words.
const SAFE: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The hash in a pod template's label.
pub(crate) fn template_hash(template: &Value) -> String {
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
