//! Workflows that wait for people: they have no actors meanwhile, and one timer for all.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use ractor::ActorId;

use super::SupervisorState;
use crate::changes::Change;
use crate::workflow_actor::Rest;

/// Which workflows rest, and until when.
#[derive(Default)]
pub(super) struct Rests {
    by_uid: HashMap<String, Resting>,
    ends: BTreeSet<(Timestamp, String)>,
}

struct Resting {
    rest: Rest,
    namespace: String,
    /// Something has happened since.
    is_woken: bool,
}

impl Rests {
    fn begin(&mut self, uid: &str, resting: Resting) {
        self.end(uid);
        self.ends.insert((resting.rest.until, uid.to_owned()));
        self.by_uid.insert(uid.to_owned(), resting);
    }

    /// True when it rested.
    pub(super) fn end(&mut self, uid: &str) -> bool {
        let Some(resting) = self.by_uid.remove(uid) else {
            return false;
        };
        self.ends.remove(&(resting.rest.until, uid.to_owned()));
        true
    }

    /// Nothing has happened to the workflow, of this version now, since it began to rest.
    pub(super) fn goes_on(&self, uid: &str, version: u64, now: Timestamp) -> bool {
        self.by_uid.get(uid).is_some_and(|resting| {
            !resting.is_woken && now < resting.rest.until && version <= resting.rest.version
        })
    }

    /// When the first of them has rested long enough.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.ends.first().map(|(until, _)| *until)
    }

    fn due(&self, now: Timestamp) -> Vec<String> {
        let due = self.ends.iter().take_while(|(until, _)| *until <= now);
        due.map(|(_, uid)| uid.clone()).collect()
    }

    fn of(&self, namespace: Option<&str>) -> Vec<String> {
        let meant = self
            .by_uid
            .iter()
            .filter(|(_, resting)| namespace.is_none_or(|namespace| namespace == resting.namespace));
        let mut uids: Vec<String> = meant.map(|(uid, _)| uid.clone()).collect();
        uids.sort();
        uids
    }
}

impl SupervisorState {
    /// Something has happened that a workflow that rests may wait for.
    pub(super) fn wake(&mut self, uid: &str) {
        let resting = self.rests.by_uid.get_mut(uid);
        if let Some(resting) = resting.filter(|resting| !resting.is_woken) {
            resting.is_woken = true;
            self.agenda.push_back(Change::Workflow(uid.to_owned()));
        }
    }

    /// Wakes all, or all in a namespace.
    pub(super) fn wake_all(&mut self, namespace: Option<&str>) {
        for uid in self.rests.of(namespace) {
            self.wake(&uid);
        }
    }

    /// Wakes those whose time is over.
    pub(super) fn wake_due(&mut self) {
        for uid in self.rests.due(self.context.clock.now()) {
            self.wake(&uid);
        }
    }

    /// The actor of a workflow has ended, since that only waits.
    pub(super) fn workflow_rests(&mut self, id: ActorId, rest: Rest) {
        let Some(uid) = self.workflow_actors.remove(&id) else {
            return;
        };
        self.context.slots.forget(&uid);
        let handle = self.workflows.remove(&uid).and_then(|run| run.handle);
        let Some(handle) = handle.filter(|_| !self.draining) else {
            return;
        };
        let resting = Resting {
            rest,
            namespace: handle.namespace,
            // What came while it ended was not looked at.
            is_woken: handle.dirty.is_set(),
        };
        self.rests.begin(&uid, resting);
        self.context.store.parked(&uid);
        self.agenda.push_back(Change::Workflow(uid));
    }
}
