//! How many Jobs run at once, and who waits for a slot.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::locks::{Acquired, Wake};

/// Slots for live Jobs: a Job's deadline counts the time that its pod waits for a node, so more Jobs than the
/// cluster can run would fail by waiting.
///
/// # Guarantees
/// Namespaces take turns, and within one the first to ask is the first to get; a slot belongs to the execution's
/// uid, not to its actor.
pub(crate) struct SlotTable {
    max: usize,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    used: BTreeSet<String>,
    waiting: BTreeMap<String, VecDeque<(String, Wake)>>,
    /// Namespace of each waiter.
    waiters: BTreeMap<String, String>,
    /// The namespace that was served last.
    last: Option<String>,
}

impl SlotTable {
    /// `max` slots, at least one.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max: max.max(1),
            table: Mutex::default(),
        }
    }

    /// Asks for a slot. Who has one is granted it again.
    pub(crate) fn acquire(&self, uid: &str, namespace: &str, wake: Wake) -> Acquired {
        let mut table = self.lock();
        if table.used.contains(uid) {
            return Acquired::Granted;
        }
        table.withdraw(uid);
        if table.used.len() < self.max && table.waiting.is_empty() {
            table.used.insert(uid.to_owned());
            table.last = Some(namespace.to_owned());
            return Acquired::Granted;
        }
        table.waiters.insert(uid.to_owned(), namespace.to_owned());
        table
            .waiting
            .entry(namespace.to_owned())
            .or_default()
            .push_back((uid.to_owned(), wake));
        Acquired::Busy {
            reason: format!("all {} slots for running Jobs are taken", self.max),
        }
    }

    /// Notes at the start that an execution has its slot. There may be more of them than slots.
    pub(crate) fn prefill(&self, uid: &str) {
        self.lock().used.insert(uid.to_owned());
    }

    /// Gives up a slot, or the wait for one.
    pub(crate) fn release(&self, uid: &str) {
        let woken = {
            let mut table = self.lock();
            table.used.remove(uid);
            table.withdraw(uid);
            table.grant(self.max)
        };
        for wake in woken {
            wake();
        }
    }

    /// Gives up the wait for a slot, and keeps a slot that is held: the actor has died.
    pub(crate) fn withdraw(&self, uid: &str) {
        self.lock().withdraw(uid);
    }

    /// How many have a slot and how many wait for one.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let table = self.lock();
        (table.used.len(), table.waiters.len())
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing in here panics between two changes that belong together.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn withdraw(&mut self, uid: &str) {
        let Some(namespace) = self.waiters.remove(uid) else {
            return;
        };
        if let Some(queue) = self.waiting.get_mut(&namespace) {
            queue.retain(|(waiter, _)| waiter != uid);
            if queue.is_empty() {
                self.waiting.remove(&namespace);
            }
        }
    }

    fn grant(&mut self, max: usize) -> Vec<Wake> {
        let mut woken = Vec::new();
        while self.used.len() < max {
            let Some(namespace) = self.next_namespace() else {
                break;
            };
            let Some(queue) = self.waiting.get_mut(&namespace) else {
                break;
            };
            if let Some((uid, wake)) = queue.pop_front() {
                self.waiters.remove(&uid);
                self.used.insert(uid);
                woken.push(wake);
            }
            if queue.is_empty() {
                self.waiting.remove(&namespace);
            }
            self.last = Some(namespace);
        }
        woken
    }

    /// The first namespace after the one served last, in a circle.
    fn next_namespace(&self) -> Option<String> {
        let after = self.last.as_ref().and_then(|last| {
            self.waiting
                .range::<String, _>((Bound::Excluded(last), Bound::Unbounded))
                .next()
        });
        after
            .or_else(|| self.waiting.iter().next())
            .map(|(namespace, _)| namespace.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::Mutex as StdMutex;

    use super::*;

    fn noting(woken: &Arc<StdMutex<Vec<String>>>, uid: &str) -> Wake {
        let (woken, uid) = (Arc::clone(woken), uid.to_owned());
        Box::new(move || woken.lock().unwrap().push(uid))
    }

    #[test]
    fn namespaces_take_turns_and_within_one_the_first_is_first() {
        let slots = SlotTable::new(1);
        let woken = Arc::new(StdMutex::new(Vec::new()));
        assert_eq!(slots.acquire("0", "a", noting(&woken, "0")), Acquired::Granted);
        for (uid, namespace) in [("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("c1", "c")] {
            assert!(matches!(
                slots.acquire(uid, namespace, noting(&woken, uid)),
                Acquired::Busy { .. }
            ));
        }
        for uid in ["0", "b1", "c1", "a1", "a2"] {
            slots.release(uid);
        }
        assert_eq!(*woken.lock().unwrap(), ["b1", "c1", "a1", "a2", "a3"]);
        assert_eq!(slots.counts(), (1, 0));
    }

    #[test]
    fn live_jobs_found_at_the_start_count_even_beyond_the_slots() {
        let slots = SlotTable::new(2);
        for uid in ["1", "2", "3"] {
            slots.prefill(uid);
        }
        let woken = Arc::new(StdMutex::new(Vec::new()));
        assert_eq!(slots.acquire("2", "a", noting(&woken, "2")), Acquired::Granted);
        assert!(matches!(
            slots.acquire("4", "a", noting(&woken, "4")),
            Acquired::Busy { .. }
        ));
        slots.release("1");
        assert!(woken.lock().unwrap().is_empty());
        slots.release("3");
        assert_eq!(*woken.lock().unwrap(), ["4"]);
    }

    #[test]
    fn a_dead_waiter_is_passed_over_and_a_dead_holder_keeps_its_slot() {
        let slots = SlotTable::new(1);
        let woken = Arc::new(StdMutex::new(Vec::new()));
        let _ = slots.acquire("1", "a", noting(&woken, "1"));
        let _ = slots.acquire("2", "a", noting(&woken, "2"));
        let _ = slots.acquire("3", "a", noting(&woken, "3"));
        slots.withdraw("1");
        slots.withdraw("2");
        assert!(woken.lock().unwrap().is_empty());
        slots.release("1");
        assert_eq!(*woken.lock().unwrap(), ["3"]);
    }
}
