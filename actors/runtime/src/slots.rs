//! How many Jobs run at once, who waits for a slot, and who is started next.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kubernaut_machines::defect::{Defect, planted};

use crate::locks::{Acquired, Wake};

/// Slots for live Jobs: a Job's deadline counts the time that its pod waits for a node, so more Jobs than the
/// cluster can run would fail by waiting. A workflow keeps one for each step before it makes it: what has no slot yet needs
/// neither an execution nor an actor.
///
/// # Guarantees
/// Namespaces take turns. Within one, what has begun comes before workflows that have not, and of both the first to ask is
/// the first to get. A slot belongs to an execution's or a workflow's uid, not to an actor.
pub(crate) struct SlotTable {
    max: usize,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// Executions that have one.
    used: BTreeSet<String>,
    /// Those that workflows keep for steps they are about to make, by workflow.
    kept: BTreeMap<String, usize>,
    /// How many these are.
    kept_in_all: usize,
    /// By namespace.
    waiting: BTreeMap<String, Queue>,
    /// Of each waiter by its uid.
    waiters: BTreeMap<String, Place>,
    /// For how many they wait together.
    waits_in_all: usize,
    /// The namespace that was served last.
    last: Option<String>,
}

/// Who waits in one namespace.
#[derive(Default)]
struct Queue {
    /// Executions, and workflows of which steps were made.
    begun: VecDeque<Waiter>,
    /// Workflows that would be started.
    new: VecDeque<Waiter>,
}

struct Waiter {
    uid: String,
    calls: Calls,
}

/// Whom to tell of a slot.
enum Calls {
    Execution(Wake),
    /// Each time that one more is kept.
    Workflow(WakeEach),
}

/// Says that one more slot is kept.
pub(crate) type WakeEach = Arc<dyn Fn() + Send + Sync>;

/// Where somebody waits, and for how many.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    namespace: String,
    progress: Progress,
    slots: usize,
}

/// How far a workflow is that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It has no actor yet.
    New,
    /// It has one.
    Begun,
}

impl SlotTable {
    /// `max` slots, at least one.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max: max.max(1) + usize::from(planted(Defect::RunOneJobMore)),
            table: Mutex::default(),
        }
    }

    /// Asks for a slot for an execution. Who has one is granted it again.
    pub(crate) fn acquire(&self, uid: &str, namespace: &str, wake: Wake) -> Acquired {
        let mut table = self.lock();
        if table.used.contains(uid) {
            return Acquired::Granted;
        }
        table.withdraw(uid);
        if table.has_room(self.max) {
            table.used.insert(uid.to_owned());
            table.last = Some(namespace.to_owned());
            return Acquired::Granted;
        }
        let place = Place {
            namespace: namespace.to_owned(),
            progress: Progress::Begun,
            slots: 1,
        };
        table.wait(uid, place, Calls::Execution(wake));
        Acquired::Busy {
            reason: format!("all {} slots for running Jobs are taken", self.max),
        }
    }

    /// Keeps so many slots for a workflow, as soon as there are some, and gives back those beyond; returns how many it has now.
    /// `wake` is called each time that one more is kept. Who asks again for as many keeps its place in the queue.
    pub(crate) fn keep(
        &self,
        uid: &str,
        namespace: &str,
        wanted: usize,
        progress: Progress,
        wake: WakeEach,
    ) -> usize {
        let (kept, woken) = {
            let mut table = self.lock();
            let mut kept = table.kept_by(uid);
            let place = (kept < wanted).then(|| Place {
                namespace: namespace.to_owned(),
                progress,
                slots: wanted - kept,
            });
            if kept <= wanted && table.waiters.get(uid) == place.as_ref() {
                return kept;
            }
            table.withdraw(uid);
            while kept > wanted {
                table.give_up_one(uid);
                kept -= 1;
            }
            while kept < wanted && table.has_room(self.max) {
                table.keep_one(uid);
                table.last = Some(namespace.to_owned());
                kept += 1;
            }
            if let Some(place) = place.filter(|_| kept < wanted) {
                let place = Place {
                    slots: wanted - kept,
                    ..place
                };
                table.wait(uid, place, Calls::Workflow(wake));
            }
            (kept, table.grant(self.max))
        };
        call(woken);
        kept
    }

    /// How many a workflow keeps.
    pub(crate) fn kept_by(&self, workflow: &str) -> usize {
        self.lock().kept_by(workflow)
    }

    /// Whether a workflow waits for one.
    pub(crate) fn is_waiting(&self, workflow: &str) -> bool {
        self.lock().waiters.contains_key(workflow)
    }

    /// A step was made: one of those that its workflow keeps is its own now.
    pub(crate) fn hand_over(&self, workflow: &str, execution: &str) {
        let mut table = self.lock();
        if table.kept_by(workflow) > 0 && !table.used.contains(execution) {
            table.give_up_one(workflow);
            table.used.insert(execution.to_owned());
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
        call(woken);
    }

    /// A workflow makes no more steps, or its actor has ended: what it keeps it gives up.
    pub(crate) fn forget(&self, workflow: &str) {
        let woken = {
            let mut table = self.lock();
            table.withdraw(workflow);
            let kept = table.kept.remove(workflow).unwrap_or(0);
            table.kept_in_all -= kept;
            if kept == 0 {
                return;
            }
            table.grant(self.max)
        };
        call(woken);
    }

    /// Gives up the wait for a slot, and keeps a slot that is held: the actor has died.
    pub(crate) fn withdraw(&self, uid: &str) {
        self.lock().withdraw(uid);
    }

    /// How many are taken, and for how many somebody waits.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let table = self.lock();
        (table.taken(), table.waits_in_all)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing in here panics between two changes that belong together.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn call(woken: Vec<Wake>) {
    for wake in woken {
        wake();
    }
}

impl Table {
    fn taken(&self) -> usize {
        self.used.len() + self.kept_in_all
    }

    /// For who comes now.
    fn has_room(&self, max: usize) -> bool {
        self.taken() < max && self.waiting.is_empty()
    }

    fn kept_by(&self, workflow: &str) -> usize {
        self.kept.get(workflow).copied().unwrap_or(0)
    }

    fn keep_one(&mut self, workflow: &str) {
        *self.kept.entry(workflow.to_owned()).or_default() += 1;
        self.kept_in_all += 1;
    }

    fn give_up_one(&mut self, workflow: &str) {
        if let Some(kept) = self.kept.get_mut(workflow) {
            *kept -= 1;
            self.kept_in_all -= 1;
            if *kept == 0 {
                self.kept.remove(workflow);
            }
        }
    }

    fn wait(&mut self, uid: &str, place: Place, calls: Calls) {
        let queue = self.waiting.entry(place.namespace.clone()).or_default();
        let waiter = Waiter {
            uid: uid.to_owned(),
            calls,
        };
        match place.progress {
            Progress::Begun => queue.begun.push_back(waiter),
            Progress::New => queue.new.push_back(waiter),
        }
        self.waits_in_all += place.slots;
        self.waiters.insert(uid.to_owned(), place);
    }

    fn take_place(&mut self, uid: &str) -> Option<Place> {
        let place = self.waiters.remove(uid)?;
        self.waits_in_all -= place.slots;
        Some(place)
    }

    fn withdraw(&mut self, uid: &str) {
        let Some(place) = self.take_place(uid) else {
            return;
        };
        if let Some(queue) = self.waiting.get_mut(&place.namespace) {
            queue.begun.retain(|waiter| waiter.uid != uid);
            queue.new.retain(|waiter| waiter.uid != uid);
            if queue.is_empty() {
                self.waiting.remove(&place.namespace);
            }
        }
    }

    fn grant(&mut self, max: usize) -> Vec<Wake> {
        let mut woken = Vec::new();
        while self.taken() < max {
            let Some(namespace) = self.next_namespace() else {
                break;
            };
            let Some(waiter) = self.waiting.get_mut(&namespace).and_then(Queue::pop) else {
                break;
            };
            let place = self.take_place(&waiter.uid);
            match waiter.calls {
                Calls::Execution(wake) => {
                    self.used.insert(waiter.uid);
                    woken.push(wake);
                }
                Calls::Workflow(wake) => {
                    self.keep_one(&waiter.uid);
                    let again = Arc::clone(&wake);
                    woken.push(Box::new(move || again()));
                    // For the others it waits behind those that have waited meanwhile.
                    if let Some(mut place) = place.filter(|place| place.slots > 1) {
                        place.slots -= 1;
                        self.wait(&waiter.uid, place, Calls::Workflow(wake));
                    }
                }
            }
            if self.waiting.get(&namespace).is_some_and(Queue::is_empty) {
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

impl Queue {
    fn pop(&mut self) -> Option<Waiter> {
        self.begun.pop_front().or_else(|| self.new.pop_front())
    }

    fn is_empty(&self) -> bool {
        self.begun.is_empty() && self.new.is_empty()
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

    fn waking(woken: &Arc<StdMutex<Vec<String>>>, uid: &str) -> WakeEach {
        let (woken, uid) = (Arc::clone(woken), uid.to_owned());
        Arc::new(move || woken.lock().unwrap().push(uid.clone()))
    }

    #[test]
    fn what_has_begun_comes_before_what_has_not_and_namespaces_still_take_turns() {
        let slots = SlotTable::new(1);
        let woken = Arc::new(StdMutex::new(Vec::new()));
        let _ = slots.acquire("0", "a", noting(&woken, "0"));
        let new = |uid: &str, namespace| slots.keep(uid, namespace, 1, Progress::New, waking(&woken, uid));
        assert_eq!((new("a1", "a"), new("a2", "a"), new("b1", "b")), (0, 0, 0));
        assert_eq!(slots.keep("a3", "a", 2, Progress::Begun, waking(&woken, "a3")), 0);
        // Asked again, as at each change of the workflow: it keeps its place.
        assert_eq!(new("a1", "a"), 0);
        slots.release("0");
        for (workflow, execution) in [("b1", "e1"), ("a3", "e2"), ("a3", "e3"), ("a1", "e4")] {
            assert_eq!(slots.kept_by(workflow), 1, "{:?}", woken.lock().unwrap());
            slots.hand_over(workflow, execution);
            assert_eq!((slots.kept_by(workflow), slots.counts().0), (0, 1));
            slots.release(execution);
        }
        assert_eq!(*woken.lock().unwrap(), ["b1", "a3", "a3", "a1", "a2"]);
    }

    #[test]
    fn what_a_workflow_keeps_and_does_not_use_goes_to_the_next() {
        let slots = SlotTable::new(3);
        let woken = Arc::new(StdMutex::new(Vec::new()));
        assert_eq!(slots.keep("w", "a", 3, Progress::Begun, waking(&woken, "w")), 3);
        assert_eq!(slots.keep("v", "a", 2, Progress::Begun, waking(&woken, "v")), 0);
        // Its create failed: it wants fewer.
        assert_eq!(slots.keep("w", "a", 2, Progress::Begun, waking(&woken, "w")), 2);
        assert_eq!((slots.kept_by("v"), slots.counts()), (1, (3, 1)));
        // Its actor ended.
        slots.forget("w");
        assert_eq!((slots.kept_by("v"), slots.counts()), (2, (2, 0)));
        assert_eq!(*woken.lock().unwrap(), ["v", "v"]);
        // Nobody keeps any: an execution brings its own wish.
        slots.hand_over("w", "e");
        assert_eq!(slots.counts(), (2, 0));
        assert_eq!(slots.acquire("e", "a", noting(&woken, "e")), Acquired::Granted);
    }
}
