//! Which objects have changed since somebody looked.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ractor::ActorRef;

use crate::supervisor::SupervisorMessage;

/// What changed, by uid: never what it changed to. Whoever is poked reads the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// A workflow came, changed or went.
    Workflow(String),
    /// An execution came, changed or went.
    Execution(String),
    /// Jobs or pods of the execution of this uid came, changed or went.
    Jobs(String),
    /// An Approval of the workflow or execution of this uid came, changed or went.
    Approval(String),
    /// The namespace of this name came or went, or asks for something else.
    Namespace(String),
    /// The policy that makes Approvals true came, changed or went.
    ApprovalsGuard,
}

/// Changes that the supervisor has not looked at yet: each at most once, whatever the watches send.
#[derive(Clone, Default)]
pub struct Changes {
    pending: Arc<Mutex<BTreeSet<Change>>>,
    supervisor: Arc<OnceLock<ActorRef<SupervisorMessage>>>,
}

impl Changes {
    /// Notes a change that the store already shows, and pokes the supervisor if it is the first one. As long as there
    /// is none, nothing is kept: it will read the whole store, and may be weeks away.
    pub fn note(&self, change: Change) {
        let Some(supervisor) = self.supervisor.get() else {
            return;
        };
        let first = {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            let first = pending.is_empty();
            pending.insert(change);
            first
        };
        if first {
            // A supervisor that has ended has no use for it.
            let _ = supervisor.cast(SupervisorMessage::Changed);
        }
    }

    /// From now on this supervisor is poked; it reads the whole store once, so what came before is no news.
    pub(crate) fn connect(&self, supervisor: ActorRef<SupervisorMessage>) {
        let _ = self.supervisor.set(supervisor);
    }

    pub(crate) fn take(&self) -> BTreeSet<Change> {
        std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A flag between senders and one actor: at most one poke lies in its mailbox.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dirty(Arc<AtomicBool>);

impl Dirty {
    /// True when a poke must be sent.
    pub(crate) fn set(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    /// Whether a poke was sent, and not taken yet.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// To be called before the store is read: a swap, so that the read can't move before it.
    pub(crate) fn clear(&self) {
        self.0.swap(false, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_asks_for_one_poke_until_it_is_cleared() {
        let dirty = Dirty::default();
        assert!(dirty.set());
        assert!(!dirty.set());
        dirty.clear();
        assert!(dirty.set());
    }
}
