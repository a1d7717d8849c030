//! What is deleted when its time to live is over.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kubernaut_crds::{KubernetesExecution, names};
use kubernaut_machines::api_command::FailureClass;
use kubernaut_machines::time::later;

use super::{SupervisorMessage, SupervisorState, TRY_AGAIN};
use crate::ports::Key;

/// Objects that are deleted at one time, at most, so that many that expire together don't hold up the steps.
const EXPIRIES_AT_ONCE: usize = 16;
/// Then the next ones after this long.
const EXPIRY_PAUSE: Duration = Duration::from_secs(1);

/// An object whose time to live is over.
enum Expired {
    Workflow(Key),
    Execution(Key),
}

impl SupervisorState {
    pub(super) fn note_expiry(&mut self, uid: &str, at: Timestamp) {
        self.forget_expiry(uid);
        self.expiries.insert((at, uid.to_owned()));
        self.expiry_of.insert(uid.to_owned(), at);
    }

    pub(super) fn forget_expiry(&mut self, uid: &str) {
        if let Some(at) = self.expiry_of.remove(uid) {
            self.expiries.remove(&(at, uid.to_owned()));
        }
    }

    /// When the next of them is to be deleted.
    pub(super) fn next_expiry(&self) -> Option<Timestamp> {
        let first = self.expiries.first();
        first.map(|(at, _)| (*at).max(self.expire_not_before))
    }

    /// When a terminal execution shall be deleted that nobody but a person looks after; `None` keeps it. A workflow's goes
    /// with its workflow.
    pub(super) fn expiry_of_execution(&self, execution: &KubernetesExecution) -> Option<Timestamp> {
        let owners = execution.metadata.owner_references.iter().flatten();
        let ttl = self.context.execution_ttl;
        if ttl.is_zero() || owners.into_iter().any(|owner| owner.controller == Some(true)) {
            return None;
        }
        let ended = execution.status.as_ref()?.completion_time.as_ref()?;
        Some(later(ended.0, ttl))
    }

    /// Deletes the workflows and executions whose time to live is over.
    pub(super) fn expire(&mut self) {
        let now = self.context.clock.now();
        self.expire_not_before = later(now, EXPIRY_PAUSE);
        let due: Vec<String> = self
            .expiries
            .iter()
            .take_while(|(at, _)| *at <= now)
            .take(EXPIRIES_AT_ONCE)
            .map(|(_, uid)| uid.clone())
            .collect();
        for uid in due {
            self.forget_expiry(&uid);
            let Some(expired) = self.find(&uid) else {
                continue;
            };
            let effects = Arc::clone(&self.context.effects);
            let myself = self.myself.clone();
            self.context.effects.spawn(&mut self.tasks, async move {
                let (kind, key, deletion) = match &expired {
                    Expired::Workflow(key) => {
                        let deletion = effects.delete_workflow(key, &uid).await;
                        (names::WORKFLOW_KIND, key, deletion)
                    }
                    Expired::Execution(key) => {
                        let deletion = effects.delete_execution(key, &uid).await;
                        (names::EXECUTION_KIND, key, deletion)
                    }
                };
                let deleted = match deletion {
                    Ok(()) => true,
                    // Another one of this name by now, or this one was changed just then: the store tells, a little later.
                    Err(failure) if failure.class == FailureClass::Conflict => false,
                    Err(failure) => {
                        tracing::warn!(kind, object = %key, failure = failure.message, "an object whose time to live is over could not be deleted");
                        false
                    }
                };
                let _ = myself.cast(SupervisorMessage::Expired { uid, deleted });
            });
        }
    }

    pub(super) fn expired(&mut self, uid: &str, deleted: bool) {
        if !deleted && self.find(uid).is_some() {
            let at = later(self.context.clock.now(), TRY_AGAIN);
            self.note_expiry(uid, at);
        }
    }

    fn find(&self, uid: &str) -> Option<Expired> {
        let store = &self.context.store;
        let workflow = store
            .workflow(uid)
            .map(|found| Expired::Workflow(Key::of(&found.metadata)));
        workflow.or_else(|| {
            let execution = store.execution(uid)?;
            Some(Expired::Execution(Key::of(&execution.metadata)))
        })
    }
}
