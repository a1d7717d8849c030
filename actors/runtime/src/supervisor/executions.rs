//! Which executions there are, and which actor looks after each.

use std::sync::Arc;

use kubernaut_crds::{ExecutionPhase, KubernetesExecution, WorkflowExecution, names};
use kubernaut_machines::announcement::EventRecord;
use kubernaut_machines::defect::{Defect, planted};
use kubernaut_machines::job_view::JobView;
use kubernaut_machines::step::{StepEvent, UNREACHABLE_AFTER, is_lock_released};
use kubernaut_machines::time::later;
use ractor::{ActorProcessingErr, ActorRef};

use super::SupervisorState;
use crate::changes::Change;
use crate::claims::{Claim, RunEnd};
use crate::ports::{ActorKind, Subject, controlling_workflow, uid_of, version_of};
use crate::restarts::{MAX_RESTARTS, Restarts};
use crate::step_actor::StepHandle;
use crate::workflow_actor::WorkflowMessage;

/// The API server's own, where a deletion asks for propagationPolicy Orphan.
const ORPHAN_FINALIZER: &str = "orphan";

/// An execution that somebody runs.
pub(super) struct Run {
    number: u64,
    owner: Owner,
    /// `None` until the workflow actor has started it.
    handle: Option<StepHandle>,
}

impl Run {
    pub(super) fn handle(&self) -> Option<&StepHandle> {
        self.handle.as_ref()
    }
}

enum Owner {
    /// A child of the actor of this workflow.
    Workflow(String),
    /// A child of the supervisor.
    Standalone,
}

/// Crashes of a standalone actor.
#[derive(Default)]
pub(super) struct Trouble {
    restarts: Restarts,
    resting: bool,
    given_up_at: Option<u64>,
}

/// Whether a Job of an execution could still do something. One that only its labels call ours holds nothing.
fn has_live_job(jobs: &[JobView]) -> bool {
    jobs.iter().any(|job| job.live && job.is_made_here())
}

impl SupervisorState {
    /// Before anyone can ask: an execution that is at work has its target. One with a live Job has its place, and so has one
    /// whose attempt is recorded and has not ended: it had its place when that was written, and would else wait behind
    /// those that have not begun.
    pub(super) fn prefill(&self, executions: &[String]) {
        let store = &self.context.store;
        for uid in executions {
            let live = has_live_job(&store.jobs_of(uid));
            if store.is_ended(uid) && !live {
                continue;
            }
            let Some(execution) = store.execution(uid) else {
                continue;
            };
            let phase = execution.phase();
            let at_work = matches!(
                phase,
                Some(ExecutionPhase::Executing | ExecutionPhase::RollbackReady)
            ) || is_in_an_attempt(&execution);
            let target = execution
                .status
                .as_ref()
                .and_then(|status| status.target.as_ref());
            if let Some(target) = target
                && (live || at_work)
            {
                self.context.locks.prefill(&execution, target);
            }
            if live || (is_in_an_attempt(&execution) && !planted(Defect::QueueWhatHasEnded)) {
                self.context.slots.prefill(uid);
            }
        }
        self.context.gauges();
    }

    pub(super) async fn look_at_execution(&mut self, uid: String) {
        let execution = self.context.store.execution(&uid);
        if self.runs.contains_key(&uid) {
            self.poke_run(&uid, execution.as_deref());
            return;
        }
        let settled = self.settle(&uid, execution.as_deref());
        let end = self.ended_executions.get_mut(&uid);
        let Some(execution) = execution else {
            // Whoever made it may have come to its end before the store shows that it is there.
            if settled && end.is_some_and(|end| end.stored) {
                self.ended_executions.remove(&uid);
            }
            self.troubles.remove(&uid);
            self.forget_expiry(&uid);
            self.waiting_claims.remove(&uid);
            self.sweep_jobs_of(&uid);
            return;
        };
        if let Some(end) = end {
            end.stored = true;
        }
        if let Some(workflow) = controlling_workflow(&execution)
            && let Some(workflow) = self.context.store.workflow(workflow)
            && self.is_workflow_alive(&workflow)
        {
            // Only its actor looks after what it has made.
            self.wake(uid_of(&workflow.metadata));
            self.look_at_workflow(uid_of(&workflow.metadata).to_owned()).await;
            if settled || !execution.is_terminal() {
                if self
                    .ended_executions
                    .get(&uid)
                    .is_some_and(|end| version_of(&execution.metadata) >= end.version)
                {
                    // The store has caught up; the workflow actor knows what has ended.
                    self.ended_executions.remove(&uid);
                }
                return;
            }
            // The workflow has no use for an execution that has ended; a Job of it that lives has to be stopped.
        }
        self.run_standalone(uid, execution, settled).await;
    }

    pub(super) fn poke_step(&self, uid: &str) {
        if let Some(handle) = self.runs.get(uid).and_then(Run::handle) {
            handle.poke();
        }
    }

    fn poke_run(&self, uid: &str, execution: Option<&KubernetesExecution>) {
        let Some(run) = self.runs.get(uid) else {
            return;
        };
        match (&run.owner, &run.handle) {
            (Owner::Standalone, Some(handle))
                if execution.is_some_and(|found| self.is_left_behind(found)) =>
            {
                handle.actor.stop(None);
            }
            (_, Some(handle)) => handle.poke(),
            (_, None) => {}
        }
        if let Owner::Workflow(workflow) = &run.owner {
            self.poke_workflow(workflow);
        }
    }

    /// The one place where lock and place of an execution are given back: nobody runs it, nothing is left to do for it, and
    /// no Job of it lives, or a person has said that this one is no reason to wait. True when nothing is held any more.
    ///
    /// What happens later to the execution or its Jobs leads here again.
    fn settle(&mut self, uid: &str, execution: Option<&KubernetesExecution>) -> bool {
        let end = self.ended_executions.get(uid);
        let done = match execution {
            Some(execution) => {
                let version = version_of(&execution.metadata);
                execution.is_terminal() || end.is_some_and(|end| end.finished && version <= end.version)
            }
            None => end.is_none_or(|end| end.finished || end.stored),
        };
        if !done {
            return false;
        }
        let jobs = self.context.store.jobs_of(uid);
        if !execution.is_some_and(is_lock_released) {
            if has_live_job(&jobs) {
                self.free_the_slot_of_a_lost_node(uid, &jobs);
                return false;
            }
            let now = self.context.clock.now();
            let unseen = end.and_then(|end| end.unseen.as_ref());
            if let Some(until) = unseen.and_then(|job| job.awaited_until(&jobs, now)) {
                self.again_at(until, Change::Jobs(uid.to_owned()));
                return false;
            }
        }
        self.leaving.remove(uid);
        self.context.release_all(uid);
        true
    }

    /// A Job that was told to go, and whose pod has not ended a while later, is on a node that nobody reaches. Its target stays locked;
    /// its slot only keeps too many Jobs from running at once, and a pod that may never end is no reason to start none.
    fn free_the_slot_of_a_lost_node(&mut self, uid: &str, jobs: &[JobView]) {
        let may_go_on = |job: &JobView| job.live && job.is_made_here() && !job.deleting;
        if jobs.iter().any(may_go_on) || planted(Defect::KeepThePlaceOfADeadNode) {
            self.leaving.remove(uid);
            return;
        }
        let now = self.context.clock.now();
        let since = self.leaving.get(uid).copied();
        let at = later(since.unwrap_or(now), UNREACHABLE_AFTER);
        if now >= at {
            self.context.slots.release(uid);
            self.context.gauges();
        } else if since.is_none() {
            self.leaving.insert(uid.to_owned(), now);
            self.again_at(at, Change::Jobs(uid.to_owned()));
        }
    }

    /// Jobs or pods of an execution changed.
    pub(super) async fn look_at_jobs(&mut self, uid: String) {
        match self.runs.get(&uid) {
            Some(Run {
                handle: Some(handle), ..
            }) => handle.poke(),
            // It reads the store when it starts.
            Some(Run { handle: None, .. }) => {}
            None => self.look_at_execution(uid).await,
        }
    }

    /// A workflow actor wants to run an execution: at once when nobody does, else when that one has ended.
    pub(super) fn claim(&mut self, uid: String, workflow: String, actor: ActorRef<WorkflowMessage>) {
        match self.runs.get(&uid) {
            None => self.grant(uid, workflow, &actor),
            Some(run) => {
                if let (Owner::Standalone, Some(handle)) = (&run.owner, &run.handle) {
                    handle.actor.stop(None);
                }
                self.waiting_claims.insert(uid, (workflow, actor));
            }
        }
    }

    pub(super) fn running(&mut self, uid: &str, number: u64, handle: StepHandle) {
        if let Some(run) = self.runs.get_mut(uid).filter(|run| run.number == number) {
            // What changed since it read the store.
            handle.poke();
            run.handle = Some(handle);
        }
    }

    pub(super) fn run_ended(&mut self, uid: String, number: u64, end: RunEnd) {
        if self.runs.get(&uid).is_none_or(|run| run.number != number) {
            return;
        }
        self.runs.remove(&uid);
        self.context.withdraw(&uid);
        if end.finished {
            self.troubles.remove(&uid);
        }
        self.ended_executions.insert(uid.clone(), end);
        match self.waiting_claims.remove(&uid) {
            Some((workflow, actor))
                if self
                    .workflows
                    .get(&workflow)
                    .is_some_and(|run| run.handle.is_some()) =>
            {
                self.grant(uid, workflow, &actor);
            }
            _ => self.agenda.push_back(Change::Execution(uid)),
        }
    }

    pub(super) fn execution_rested(&mut self, uid: &str) {
        if let Some(trouble) = self.troubles.get_mut(uid) {
            trouble.resting = false;
        }
    }

    pub(super) fn standalone_crashed(&mut self, uid: String, error: &ActorProcessingErr) {
        self.context.observer.restarted(ActorKind::Step);
        let execution = self.context.store.execution(&uid);
        let name = execution
            .as_deref()
            .map(|execution| Subject::of_execution(execution).key.to_string());
        let trouble = self.troubles.entry(uid.clone()).or_default();
        if let Some(pause) = trouble.restarts.crashed(self.context.clock.now()) {
            tracing::error!(uid, execution = name, %error, pause = %humantime::format_duration(pause), "a step actor crashed and is started again");
            trouble.resting = true;
            self.again_after(pause, Change::Execution(uid));
            return;
        }
        tracing::error!(uid, execution = name, %error, "a step actor crashed too often: nothing is done until its object changes");
        trouble.given_up_at = Some(
            execution
                .as_ref()
                .map_or(0, |execution| version_of(&execution.metadata)),
        );
        if let Some(execution) = execution {
            let event = EventRecord {
                reason: "ControllerError",
                warning: true,
                action: "Run",
                note: format!(
                    "the controller crashed {} times on this object and leaves it alone until it changes: {error}",
                    MAX_RESTARTS + 1
                ),
                related: None,
            };
            self.context
                .publisher
                .publish(&Arc::new(Subject::of_execution(&execution)), event);
        }
    }

    /// An execution that no workflow looks after: run it if something is left to do.
    async fn run_standalone(&mut self, uid: String, execution: Arc<KubernetesExecution>, settled: bool) {
        let terminal = execution.is_terminal();
        let finalizers = execution.metadata.finalizers.as_deref().unwrap_or_default();
        let in_deletion = execution.metadata.deletion_timestamp.is_some()
            && finalizers.iter().any(|name| name == names::CLEANUP_FINALIZER);
        let live = has_live_job(&self.context.store.jobs_of(&uid));
        let version = version_of(&execution.metadata);
        let end = self.ended_executions.get(&uid);
        if end.is_some_and(|end| version < end.version) {
            // The store lags behind what was known: its next change is a poke.
            return;
        }
        if terminal && !in_deletion && settled && !live {
            self.ended_executions.remove(&uid);
            self.context.store.settled(&uid);
            if let Some(at) = self.expiry_of_execution(&execution) {
                self.note_expiry(&uid, at);
            }
            return;
        }
        if end.is_some_and(|end| end.finished && version == end.version) {
            // Its machine is done; a Job that lives on is none that it answers for.
            self.sweep_jobs_of(&uid);
            return;
        }
        if self.is_left_behind(&execution) {
            return;
        }
        if let Some(trouble) = self.troubles.get_mut(&uid) {
            if trouble.resting || trouble.given_up_at.is_some_and(|at| version <= at) {
                return;
            }
            if trouble.given_up_at.take().is_some() {
                trouble.restarts = Restarts::default();
            }
        }
        if self.draining {
            return;
        }
        let claim = self.new_claim(uid.clone(), Owner::Standalone);
        let parent = self.myself.get_cell();
        let first = self
            .is_workflow_in_deletion(&execution)
            .then_some(StepEvent::WorkflowDeleted);
        let spawn = StepHandle::spawn(Arc::clone(&self.context), execution, claim, None, first, parent);
        let Some(handle) = spawn.await else {
            return;
        };
        if let Some(trouble) = self.troubles.get_mut(&uid) {
            trouble.restarts.started(self.context.clock.now());
        }
        self.standalone_actors.insert(handle.actor.get_id(), uid.clone());
        if let Some(run) = self.runs.get_mut(&uid) {
            run.handle = Some(handle);
        }
    }

    fn grant(&mut self, uid: String, workflow: String, actor: &ActorRef<WorkflowMessage>) {
        let claim = self.new_claim(uid.clone(), Owner::Workflow(workflow));
        // When the actor has ended, the message is dropped, and the claim in it comes back.
        let _ = actor.cast(WorkflowMessage::Claimed { uid, claim });
    }

    fn new_claim(&mut self, uid: String, owner: Owner) -> Claim {
        self.next_claim += 1;
        let number = self.next_claim;
        self.runs.insert(
            uid.clone(),
            Run {
                number,
                owner,
                handle: None,
            },
        );
        Claim::new(uid, number, self.myself.clone())
    }

    /// Its workflow is being deleted and is still there: somebody's finalizer keeps it, perhaps for long, and the garbage
    /// collector marks nothing of it meanwhile.
    fn is_workflow_in_deletion(&self, execution: &KubernetesExecution) -> bool {
        controlling_workflow(execution)
            .and_then(|workflow| self.context.store.workflow(workflow))
            .is_some_and(|workflow| {
                workflow.metadata.deletion_timestamp.is_some() && !is_orphaning(&workflow)
            })
    }

    /// Its workflow is gone, or lets it go: the garbage collector is to mark it or to take its owner reference away, and either
    /// is a poke. Nothing is begun for it until then; what it holds it keeps.
    fn is_left_behind(&self, execution: &KubernetesExecution) -> bool {
        let Some(workflow) = controlling_workflow(execution) else {
            return false;
        };
        let workflow = self.context.store.workflow(workflow);
        let deleted = workflow
            .is_none_or(|workflow| workflow.metadata.deletion_timestamp.is_some() && is_orphaning(&workflow));
        deleted && execution.metadata.deletion_timestamp.is_none() && !execution.is_terminal()
    }
}

/// Deleted with propagationPolicy Orphan: its executions stay, and go on by themselves.
fn is_orphaning(workflow: &WorkflowExecution) -> bool {
    let finalizers = workflow.metadata.finalizers.as_deref().unwrap_or_default();
    finalizers.iter().any(|name| name == ORPHAN_FINALIZER)
}

/// Its Job was decided on, and how that ended is not recorded.
fn is_in_an_attempt(execution: &KubernetesExecution) -> bool {
    !execution.is_terminal() && execution.attempts().open().is_some()
}
