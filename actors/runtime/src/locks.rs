//! One step at a time for each target, in the order of asking.

use kubernaut_machines::defect::{Defect, planted};
use kubernaut_machines::policy_input::{Other, action_of, is_rollback};
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use kubernaut_crds::{KubernetesExecution, TargetRef};

use crate::ports::{Key, uid_of};

/// Tells a waiter that it holds what it asked for. Called without the table's mutex held.
pub(crate) type Wake = Box<dyn FnOnce() + Send>;

/// One target, one execution at a time; actions on nodes also take one lock for all nodes.
///
/// Holding and waiting belong to the execution's uid, not to its actor: an actor that comes back after a crash finds
/// its lock as it left it, and nobody gets it in between.
///
/// # Guarantees
/// - A request gets all its locks in one step or none, so two requests can't wait for each other.
/// - Each lock is served by creationTimestamp, then uid; nobody overtakes.
/// - Acquiring and releasing look at no more than the first waiter of each lock they touch.
///
/// One mutex rather than a sharded map: the target lock and the lock on nodes have to be taken together, and each
/// operation takes a microsecond or two, a few times per step.
#[derive(Default)]
pub(crate) struct LockTable {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    locks: HashMap<LockKey, Lock>,
    requests: HashMap<String, Request>,
    waiting: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum LockKey {
    Target(TargetRef),
    Nodes,
}

/// More than one holder only after a start that found two executions at work on one target.
#[derive(Default)]
struct Lock {
    holders: BTreeSet<String>,
    queue: BTreeSet<QueueKey>,
}

/// Order of service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct QueueKey {
    created: Option<Timestamp>,
    uid: String,
}

struct Request {
    keys: Vec<LockKey>,
    key: QueueKey,
    name: Key,
    /// Canonical name of its action.
    action: &'static str,
    /// It takes back what another one did.
    is_rollback: bool,
    /// It changes nothing.
    is_dry_run: bool,
    /// It has begun, or was asked about: what is asked about after it has to know of it.
    is_known: bool,
    /// `None`: it holds its locks.
    wake: Option<Wake>,
}

/// What came of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Acquired {
    /// It is held.
    Granted,
    /// Somebody else holds it; the waker is called later.
    Busy {
        /// `deployment/shop/web is held by shop/a-step-1`.
        reason: String,
    },
}

impl LockTable {
    /// Asks for the lock on `target`, and for the one on all nodes. Who holds these locks already is granted them again; a
    /// request for others takes the place of an older one of the same execution.
    pub(crate) fn acquire(
        &self,
        execution: &KubernetesExecution,
        target: &TargetRef,
        nodes: bool,
        wake: Wake,
    ) -> Acquired {
        let keys = keys(target, nodes);
        let (acquired, woken) = {
            let mut table = self.lock();
            let uid = uid_of(&execution.metadata);
            let held = table.requests.get(uid).filter(|request| request.wake.is_none());
            if held.is_some_and(|request| keys.iter().all(|key| request.keys.contains(key))) {
                return Acquired::Granted;
            }
            let woken = table.remove(uid);
            let request = Request {
                keys,
                key: queue_key(execution),
                name: Key::of(&execution.metadata),
                action: action_of(execution),
                is_rollback: is_rollback(execution),
                is_dry_run: execution.spec.dry_run == Some(true),
                is_known: execution.attempts().real().next().is_some(),
                wake: None,
            };
            (table.enter(request, wake), woken)
        };
        call(woken);
        acquired
    }

    /// Notes at the start that an execution is at work on its target: before anyone can ask.
    pub(crate) fn prefill(&self, execution: &KubernetesExecution, target: &TargetRef) {
        let mut table = self.lock();
        let keys = keys(target, target.kind == "Node");
        let uid = uid_of(&execution.metadata).to_owned();
        for key in &keys {
            table
                .locks
                .entry(key.clone())
                .or_default()
                .holders
                .insert(uid.clone());
        }
        let request = Request {
            keys,
            key: queue_key(execution),
            name: Key::of(&execution.metadata),
            action: action_of(execution),
            is_rollback: is_rollback(execution),
            is_dry_run: execution.spec.dry_run == Some(true),
            is_known: true,
            wake: None,
        };
        table.requests.insert(uid, request);
    }

    /// Gives up what this execution holds or waits for.
    pub(crate) fn release(&self, uid: &str) {
        if planted(Defect::NeverRelease) {
            return;
        }
        let woken = self.lock().remove(uid);
        call(woken);
    }

    /// Gives up what this execution waits for, and keeps what it holds: its actor has died.
    pub(crate) fn withdraw(&self, uid: &str) {
        let woken = {
            let mut table = self.lock();
            let waits = table
                .requests
                .get(uid)
                .is_some_and(|request| request.wake.is_some());
            if waits { table.remove(uid) } else { Vec::new() }
        };
        call(woken);
    }

    /// What others hold locks for, in the order of creation, but for dry runs, which change nothing. Those that
    /// hold a lock and were not asked about yet are left out: they will be told of this one, which is about to be asked about. So of
    /// two that exclude each other one runs, whichever comes first.
    pub(crate) fn known_to(&self, uid: &str) -> Vec<Other> {
        let mut table = self.lock();
        if let Some(request) = table.requests.get_mut(uid) {
            request.is_known |= request.wake.is_none();
        }
        let holding = |request: &&Request| {
            request.wake.is_none() && request.is_known && !request.is_dry_run && request.key.uid != uid
        };
        let mut holders: Vec<&Request> = table.requests.values().filter(holding).collect();
        holders.sort_by(|a, b| a.key.cmp(&b.key));
        holders
            .into_iter()
            .filter_map(|request| {
                let target = request.keys.iter().find_map(|key| match key {
                    LockKey::Target(target) => Some(target.clone()),
                    LockKey::Nodes => None,
                })?;
                Some(Other {
                    action: request.action,
                    target,
                    rollback: request.is_rollback,
                })
            })
            .collect()
    }

    /// How many requests hold and how many wait.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let table = self.lock();
        (table.requests.len() - table.waiting, table.waiting)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing in here panics between two changes that belong together.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn enter(&mut self, mut request: Request, wake: Wake) -> Acquired {
        let uid = request.key.uid.clone();
        for key in &request.keys {
            self.locks
                .entry(key.clone())
                .or_default()
                .queue
                .insert(request.key.clone());
        }
        if self.is_first_and_free(&request) {
            self.hold(&request);
            self.requests.insert(uid, request);
            return Acquired::Granted;
        }
        let reason = self.reason(&request);
        request.wake = Some(wake);
        self.waiting += 1;
        self.requests.insert(uid, request);
        Acquired::Busy { reason }
    }

    /// Removes a request and says whom to wake.
    fn remove(&mut self, uid: &str) -> Vec<Wake> {
        let Some(request) = self.requests.remove(uid) else {
            return Vec::new();
        };
        if request.wake.is_some() {
            self.waiting -= 1;
        }
        for key in &request.keys {
            if let Some(lock) = self.locks.get_mut(key) {
                lock.holders.remove(uid);
                lock.queue.remove(&request.key);
                if lock.holders.is_empty() && lock.queue.is_empty() {
                    self.locks.remove(key);
                }
            }
        }
        request
            .keys
            .iter()
            .filter_map(|key| self.grant_first(key))
            .collect()
    }

    /// Lets the first waiter of a lock have all its locks, if it is the first for each and each is free.
    fn grant_first(&mut self, key: &LockKey) -> Option<Wake> {
        let uid = self.locks.get(key)?.queue.first()?.uid.clone();
        let mut request = self.requests.remove(&uid)?;
        let wake = if self.is_first_and_free(&request) {
            request.wake.take()
        } else {
            None
        };
        if wake.is_some() {
            self.waiting -= 1;
            self.hold(&request);
        }
        self.requests.insert(uid, request);
        wake
    }

    fn is_first_and_free(&self, request: &Request) -> bool {
        request.keys.iter().all(|key| {
            self.locks
                .get(key)
                .is_some_and(|lock| lock.holders.is_empty() && lock.queue.first() == Some(&request.key))
        })
    }

    fn hold(&mut self, request: &Request) {
        for key in &request.keys {
            let lock = self.locks.entry(key.clone()).or_default();
            lock.queue.remove(&request.key);
            lock.holders.insert(request.key.uid.clone());
        }
    }

    fn reason(&self, request: &Request) -> String {
        let found = request.keys.iter().find_map(|key| {
            let lock = self.locks.get(key)?;
            let before = lock
                .queue
                .first()
                .filter(|first| **first != request.key)
                .map(|first| &first.uid);
            let holder = lock.holders.first();
            let other = self.requests.get(holder.or(before)?)?;
            let verb = if holder.is_some() {
                "is held by"
            } else {
                "is waited for before by"
            };
            Some(format!("{key} {verb} {}", other.name))
        });
        found.unwrap_or_else(|| "the target is held".to_owned())
    }
}

impl fmt::Display for LockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockKey::Nodes => f.write_str("the lock on nodes"),
            LockKey::Target(target) => {
                write!(f, "{}/", target.kind.to_lowercase())?;
                if let Some(namespace) = &target.namespace {
                    write!(f, "{namespace}/")?;
                }
                f.write_str(&target.name)
            }
        }
    }
}

fn keys(target: &TargetRef, nodes: bool) -> Vec<LockKey> {
    let mut keys = vec![LockKey::Target(target.clone())];
    if nodes {
        keys.push(LockKey::Nodes);
    }
    keys
}

fn queue_key(execution: &KubernetesExecution) -> QueueKey {
    QueueKey {
        created: execution.metadata.creation_timestamp.as_ref().map(|time| time.0),
        uid: uid_of(&execution.metadata).to_owned(),
    }
}

fn call(woken: Vec<Wake>) {
    for wake in woken {
        wake();
    }
}

#[cfg(test)]
#[path = "locks_tests.rs"]
mod tests;
