//! Which workflows there are, and which actor looks after each.

use std::sync::Arc;

use kubernaut_crds::WorkflowExecution;
use kubernaut_machines::workflow::expires_at;
use ractor::{ActorId, ActorProcessingErr};

use super::{SupervisorState, is_finished};
use crate::changes::Change;
use crate::ports::{ActorKind, uid_of, version_of};
use crate::restarts::{MAX_RESTARTS, Restarts};
use crate::workflow_actor::WorkflowHandle;

/// A workflow that has an actor, or had one that crashed.
#[derive(Default)]
pub(super) struct WorkflowRun {
    pub(super) handle: Option<WorkflowHandle>,
    restarts: Restarts,
    resting: bool,
    /// The next actor is told first that the workflow is given up, and why.
    give_up: Option<String>,
    /// Even that crashed: nothing is tried until the object has a newer version.
    given_up_at: Option<u64>,
}

impl WorkflowRun {
    /// It crashed too often: its actor is to say so.
    pub(super) fn is_given_up(&self) -> bool {
        self.give_up.is_some()
    }
}

impl SupervisorState {
    pub(super) async fn look_at_workflow(&mut self, uid: String) {
        if let Some(handle) = self.workflows.get(&uid).and_then(|run| run.handle.as_ref()) {
            handle.poke();
            return;
        }
        let Some(workflow) = self.context.store.workflow(&uid) else {
            self.context.slots.forget(&uid);
            self.forget_workflow(&uid);
            // Executions that outlive it are run without it.
            self.note_executions_of(&uid);
            return;
        };
        if workflow.metadata.deletion_timestamp.is_some() {
            // What runs without it has to wait for the garbage collector.
            self.note_executions_of(&uid);
        }
        if workflow.is_terminal() {
            self.context.slots.forget(&uid);
            self.finished_workflows.remove(&uid);
            self.workflows.remove(&uid);
            self.rests.end(&uid);
            self.context.store.settled(&uid);
            if workflow.metadata.deletion_timestamp.is_none()
                && let Some(at) = expires_at(&workflow)
            {
                self.note_expiry(&uid, at);
            }
            return;
        }
        if self
            .rests
            .goes_on(&uid, version_of(&workflow.metadata), self.context.clock.now())
        {
            return;
        }
        let was_resting = self.rests.end(&uid);
        if !self.is_workflow_alive(&workflow) {
            self.context.slots.forget(&uid);
        } else if was_resting || self.may_start(&uid, &workflow) {
            self.start_workflow(uid, workflow).await;
        }
    }

    /// It has an actor, or shall have one: its executions are run by it.
    pub(super) fn is_workflow_alive(&self, workflow: &WorkflowExecution) -> bool {
        let uid = uid_of(&workflow.metadata);
        let run = self.workflows.get(uid);
        if run.is_some_and(|run| run.handle.is_some()) {
            return true;
        }
        let given_up = run
            .and_then(|run| run.given_up_at)
            .is_some_and(|at| version_of(&workflow.metadata) <= at);
        !workflow.is_terminal()
            && workflow.metadata.deletion_timestamp.is_none()
            && !is_finished(&self.finished_workflows, uid, &workflow.metadata)
            && !given_up
    }

    pub(super) fn poke_workflow(&self, uid: &str) {
        if let Some(handle) = self.workflows.get(uid).and_then(|run| run.handle.as_ref()) {
            handle.poke();
        }
    }

    pub(super) fn workflow_rested(&mut self, uid: &str) {
        if let Some(run) = self.workflows.get_mut(uid) {
            run.resting = false;
        }
    }

    pub(super) fn workflow_ended(&mut self, id: ActorId, finished_at: Option<u64>) {
        let Some(uid) = self.workflow_actors.remove(&id) else {
            return;
        };
        self.workflows.remove(&uid);
        self.context.slots.forget(&uid);
        if self.draining {
            return;
        }
        if let Some(version) = finished_at {
            self.finished_workflows.insert(uid.clone(), version);
        }
        self.note_executions_of(&uid);
        self.agenda.push_back(Change::Workflow(uid));
    }

    pub(super) fn workflow_crashed(&mut self, id: ActorId, error: &ActorProcessingErr) {
        let Some(uid) = self.workflow_actors.remove(&id) else {
            return;
        };
        self.context.slots.forget(&uid);
        let now = self.context.clock.now();
        let version = self
            .context
            .store
            .workflow(&uid)
            .map_or(0, |workflow| version_of(&workflow.metadata));
        let Some(run) = self.workflows.get_mut(&uid) else {
            return;
        };
        run.handle = None;
        self.context.observer.restarted(ActorKind::Workflow);
        if run.give_up.is_some() {
            tracing::error!(uid, %error, "a workflow actor crashed even while giving its workflow up: nothing is done until the workflow changes");
            run.given_up_at = Some(version);
            self.note_executions_of(&uid);
            return;
        }
        let pause = run.restarts.crashed(now);
        if let Some(pause) = pause {
            tracing::error!(uid, %error, pause = %humantime::format_duration(pause), "a workflow actor crashed and is started again");
            run.resting = true;
            self.again_after(pause, Change::Workflow(uid));
        } else {
            tracing::error!(uid, %error, "a workflow actor crashed too often: its workflow is given up");
            let crashes = MAX_RESTARTS + 1;
            run.give_up = Some(format!(
                "the controller crashed {crashes} times on this workflow: {error}"
            ));
            self.agenda.push_back(Change::Workflow(uid));
        }
    }

    async fn start_workflow(&mut self, uid: String, workflow: Arc<WorkflowExecution>) {
        let run = self.workflows.entry(uid.clone()).or_default();
        if run.resting || self.draining {
            return;
        }
        if run.given_up_at.take().is_some() {
            // It has changed since: another chance.
            run.give_up = None;
            run.restarts = Restarts::default();
        }
        let give_up = run.give_up.clone();
        let spawn = WorkflowHandle::spawn(Arc::clone(&self.context), workflow, give_up, self.myself.clone());
        let Some(handle) = spawn.await else {
            return;
        };
        run.restarts.started(self.context.clock.now());
        self.workflow_actors.insert(handle.actor.get_id(), uid);
        run.handle = Some(handle);
    }

    fn note_executions_of(&mut self, uid: &str) {
        let uids = self.context.store.execution_uids_of(uid);
        self.agenda.extend(uids.into_iter().map(Change::Execution));
    }

    fn forget_workflow(&mut self, uid: &str) {
        self.forget_expiry(uid);
        self.finished_workflows.remove(uid);
        self.workflows.remove(uid);
        self.rests.end(uid);
    }
}
