//! Which workflows are started: those that have begun, and of the others as many as there are slots for.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kubernaut_crds::WorkflowExecution;
use kubernaut_machines::api_command::{Lane, Terms};
use kubernaut_machines::defect::{Defect, planted};
use kubernaut_machines::time::later;
use kubernaut_machines::workflow::{TELL_AFTER, has_begun, tell_of_the_wait};
use ractor::ActorRef;

use super::workflows::WorkflowRun;
use super::{SupervisorMessage, SupervisorState};
use crate::changes::Change;
use crate::claims::Sent;
use crate::effects::Call;
use crate::ports::Subject;
use crate::slots::Progress;

/// Between two workflows that are told that they wait: what runs has more use for the API server.
const TELL_EVERY: Duration = Duration::from_millis(100);

impl SupervisorState {
    /// Whether the workflow gets an actor now. One of which nothing was made yet does with the slot for its first step: until
    /// then it is one line in a queue. Later it is looked at again.
    pub(super) fn may_start(&mut self, uid: &str, workflow: &Arc<WorkflowExecution>) -> bool {
        let is_given_up = self.workflows.get(uid).is_some_and(WorkflowRun::is_given_up);
        if is_given_up || has_begun(workflow) || self.context.store.has_executions(uid) {
            return true;
        }
        let myself = self.myself.clone();
        let again = uid.to_owned();
        let wake = Arc::new(move || {
            let _ = myself.cast(SupervisorMessage::Again(Change::Workflow(again.clone())));
        });
        let namespace = workflow.metadata.namespace.as_deref().unwrap_or_default();
        let was_waiting = self.context.slots.is_waiting(uid);
        let kept = self.context.slots.keep(uid, namespace, 1, Progress::New, wake);
        self.context.gauges();
        if kept == 0 && !was_waiting {
            self.untold.push_back((self.context.clock.now(), uid.to_owned()));
            self.arm_telling();
        }
        if kept == 0 {
            self.context.store.parked(uid);
        }
        kept > 0
    }

    /// Wakes up when the next workflow has waited so long that it is told.
    fn arm_telling(&mut self) {
        if planted(Defect::StartInSilence) {
            return;
        }
        let Some((since, _)) = self.untold.front().filter(|_| !self.is_telling) else {
            return;
        };
        self.is_telling = true;
        let now = self.context.clock.now();
        let at = later(*since, TELL_AFTER).max(later(now, TELL_EVERY));
        let sleep = self.context.clock.sleep_until(at);
        let myself: ActorRef<SupervisorMessage> = self.myself.clone();
        self.tasks.spawn(async move {
            sleep.await;
            let _ = myself.cast(SupervisorMessage::TellOfWaits);
        });
    }

    /// Tells the first of those that still wait.
    pub(super) fn tell_of_waits(&mut self) {
        self.is_telling = false;
        let now = self.context.clock.now();
        while let Some((_, uid)) = self
            .untold
            .pop_front_if(|(since, _)| later(*since, TELL_AFTER) <= now)
        {
            if self.context.slots.is_waiting(&uid) && self.tell(&uid, now) {
                break;
            }
        }
        self.arm_telling();
    }

    /// False when there is nothing to tell.
    fn tell(&mut self, uid: &str, now: Timestamp) -> bool {
        let workflow = self.context.store.workflow(uid);
        let Some((workflow, command)) =
            workflow.and_then(|workflow| Some((Arc::clone(&workflow), tell_of_the_wait(&workflow, now)?)))
        else {
            return false;
        };
        let call = Call {
            command,
            terms: Terms {
                lane: Lane::Validation,
                not_after: None,
            },
            sent: Sent::asked_for(now),
        };
        let (myself, uid) = (self.myself.clone(), uid.to_owned());
        let subject = Arc::new(Subject::of_workflow(&workflow));
        let effects = Arc::clone(&self.context.effects);
        effects.start(&mut self.tasks, &subject, call, move |result| {
            if result.is_err() {
                let _ = myself.cast(SupervisorMessage::NotTold(uid));
            }
        });
        true
    }

    /// The write was refused, or nobody knows: it is told later, if it waits then.
    pub(super) fn not_told(&mut self, uid: String) {
        let again = later(self.context.clock.now(), super::TRY_AGAIN);
        self.untold.push_back((again, uid));
        self.arm_telling();
    }
}
