//! The state of one workflow, its turns, and the answers that it takes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kubernaut_crds::{
    ErrorType, KubernetesExecution, StepState, UndoState, WorkflowExecution, WorkflowExecutionStatus,
    WorkflowPhase,
};

use super::monitoring::Look;
use super::planning::{Planned, is_begun};
use super::safety::Safety;
use super::starting::Starts;
use super::{WorkflowCommand, WorkflowEvent, waits_for_people};
use crate::Settings;
use crate::announcement::{Announcement, EventRecord};
use crate::api_command::{ApiCommand, ApiFailure, ApiOutcome, FailureClass, Lane, Terms};
use crate::approval::Seen;
use crate::calls::{Alarm, Calls};
use crate::defect::{Defect, planted};
use crate::execution_key::ExecutionKey;
use crate::plan::Undone;
use crate::status_draft::{StatusDraft, is_newer};
use crate::step::refusal_of;
use crate::time::{CREATE_WINDOW, later, micros};

/// Step progress is written at most this often, and less often where many workflows are under way
/// ([`WorkflowMachine::write_progress_every`]); a phase change at once.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);

/// Between statuses that the API server refuses: at first, and after a while.
const REFUSED_INTERVAL: Duration = Duration::from_secs(20);
const REFUSED_INTERVAL_MAX: Duration = Duration::from_mins(5);

/// Said of a workflow whose steps are others than those that were planned.
const CHANGED: &str = "spec.workflowDefinition was changed while the workflow ran: what is under way is not what it asks for now; \
                       create a new WorkflowExecution instead";

/// The machine of one `WorkflowExecution`.
///
/// Guarantees: total for any object; the executions are the truth about their steps, the status only follows; what
/// is remembered here can be found out again from the API.
#[derive(Debug)]
pub struct WorkflowMachine {
    pub(super) settings: Arc<Settings>,
    pub(super) workflow: Arc<WorkflowExecution>,
    pub(super) status: StatusDraft<WorkflowExecutionStatus>,
    pub(super) calls: Calls<Purpose>,
    life: Life,
    /// Why the workflow has to fail visibly, whatever its steps do.
    pub(super) give_up: Option<String>,
    pub(super) pace: Pace,
    pub(super) plan: Option<Planned>,
    pub(super) gates: Gates,
    pub(super) begun: Begun,
    /// When this machine had its first event.
    started: Option<Timestamp>,
    pub(super) steps: Steps,
}

/// What is known of what a workflow has to pass before its first step.
#[derive(Debug, Default)]
pub(super) struct Gates {
    /// Why the rights don't suffice, once they were asked for.
    pub(super) rights: Option<Result<(), String>>,
    pub(super) safety: Safety,
    /// Who approved it, and whether somebody has to.
    pub(super) seen: Arc<Seen>,
    /// All else was passed, and somebody has to approve.
    pub(super) asks: bool,
}

/// Whether there is anything to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// Nothing is decided while only some of its executions are known: the workflow itself comes last.
    Unfed,
    Present,
    /// The workflow no longer exists.
    Gone,
    /// Nothing is left to do for it.
    Stopped,
}

/// Whether a step of it was made, whatever the status says of it: the first one may be made before the status is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    No,
    /// In the hands of this controller.
    Here,
    /// In the hands of another one.
    Elsewhere,
}

/// What is known of the executions of this workflow.
#[derive(Debug, Default)]
pub(super) struct Steps {
    /// As last seen.
    pub(super) executions: BTreeMap<ExecutionKey, Arc<KubernetesExecution>>,
    /// What an execution failed of that it can't say itself.
    pub(super) lost: BTreeMap<ExecutionKey, (ErrorType, String)>,
    /// Those that the store lost, until the API has said whether they are gone.
    pub(super) absent: BTreeSet<ExecutionKey>,
    /// Those whose create must wait: until when, and since when they do.
    pub(super) waiting: BTreeMap<ExecutionKey, Waiting>,
    /// Those whose create may have taken effect although its answer was lost, and when the last one was.
    pub(super) unsure: BTreeMap<ExecutionKey, Timestamp>,
    /// Those whose end is recorded and that were told so, by uid.
    pub(super) released: BTreeSet<String>,
    /// The states of steps and their retries that Events told of.
    pub(super) published: BTreeMap<i32, (StepState, i32)>,
    /// The states of undoing steps that Events told of.
    pub(super) published_undos: BTreeMap<i32, UndoState>,
    /// The workflow that this one undoes, once it was read.
    pub(super) undone: Option<Arc<Undone>>,
    /// Executions of a workflow of which is not known yet what it does.
    pub(super) unjudged: Vec<Arc<KubernetesExecution>>,
    /// What was read of their targets at the end.
    pub(super) looks: BTreeMap<i32, Look>,
    /// The slots for those that are made next.
    pub(super) starts: Starts,
}

#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) since: Timestamp,
    pub(super) until: Timestamp,
    /// What for, in words.
    pub(super) why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Rights,
    /// What the safety checks look at.
    Safety,
    /// A cheap read, whose answer is waited for with a watch in hand.
    Network,
    Write,
    Reread,
    Create(ExecutionKey),
    /// An execution is told that its workflow was approved.
    Release(ExecutionKey),
    /// A live read of an execution that the store lost.
    Find(ExecutionKey),
    /// It is told that it is cancelled.
    Cancel(ExecutionKey),
    /// The workflow that this one undoes.
    Undone,
    /// How the target of this step is, once more.
    Look(i32),
}

/// How often progress is written.
#[derive(Debug, Default)]
pub(super) struct Pace {
    pub(super) last_write: Option<Timestamp>,
    /// Between two writes; the usual interval where it is shorter.
    interval: Duration,
}

impl Pace {
    /// When the next write of progress is due.
    pub(super) fn due(&self, now: Timestamp) -> Timestamp {
        self.last_write
            .map_or(now, |last| later(last, self.interval.max(WRITE_INTERVAL)))
    }
}

/// When a terminal workflow shall be deleted (spec.ttlSecondsAfterFinished); `None` keeps it.
pub fn expires_at(workflow: &WorkflowExecution) -> Option<Timestamp> {
    let status = workflow.status.as_ref()?;
    let ttl = u64::try_from(workflow.spec.ttl_seconds_after_finished)
        .ok()
        .filter(|ttl| *ttl > 0)?;
    status.phase.filter(|phase| phase.is_terminal())?;
    Some(later(
        status.completion_time.as_ref()?.0,
        Duration::from_secs(ttl),
    ))
}

impl WorkflowMachine {
    /// A machine for a workflow as it is in the cluster: new, or left behind by a controller that ended.
    pub fn restore(settings: Arc<Settings>, workflow: Arc<WorkflowExecution>) -> Self {
        let persisted = workflow.status.clone().unwrap_or_default();
        let published = persisted
            .step_statuses
            .iter()
            .map(|step| (step.step_number, (step.status, step.retries_attempted)))
            .collect();
        let published_undos = persisted
            .step_statuses
            .iter()
            .filter_map(|step| Some((step.step_number, step.undo.as_ref()?.status)))
            .collect();
        Self {
            settings,
            workflow,
            calls: Calls::default(),
            life: Life::Unfed,
            give_up: None,
            pace: Pace::default(),
            plan: None,
            gates: Gates::default(),
            begun: if is_begun(persisted.phase) {
                Begun::Elsewhere
            } else {
                Begun::No
            },
            started: None,
            steps: Steps {
                published,
                published_undos,
                ..Steps::default()
            },
            status: StatusDraft::restore(persisted),
        }
    }

    /// Takes in what happened and says what is to be done.
    pub fn on_event(&mut self, now: Timestamp, event: WorkflowEvent) -> Vec<WorkflowCommand> {
        self.on_events(now, [event])
    }

    /// Takes in all that happened, and then says what is to be done.
    pub fn on_events(
        &mut self,
        now: Timestamp,
        events: impl IntoIterator<Item = WorkflowEvent>,
    ) -> Vec<WorkflowCommand> {
        let now = micros(now);
        self.started.get_or_insert(now);
        let mut out = Vec::new();
        let mut is_news = false;
        for event in events {
            is_news |= self.take_in(now, event, &mut out);
        }
        if is_news {
            self.advance(now, &mut out);
            if !matches!(self.life, Life::Stopped | Life::Unfed) {
                self.ask_for_slots(&mut out);
            }
        }
        out
    }

    /// False when it changes nothing.
    fn take_in(&mut self, now: Timestamp, event: WorkflowEvent, out: &mut Vec<WorkflowCommand>) -> bool {
        match event {
            WorkflowEvent::Observed(workflow) => {
                if self.life == Life::Unfed {
                    self.life = Life::Present;
                }
                self.observe(now, workflow, out);
            }
            WorkflowEvent::ApprovalsSeen(seen) => self.gates.seen = seen,
            WorkflowEvent::Gone => self.gone(),
            WorkflowEvent::StepObserved(execution) => self.observe_step(execution),
            WorkflowEvent::StepAbsent { uid } => self.step_absent(&uid),
            WorkflowEvent::StepGivenUp { uid, reason } => {
                if let Some(key) = self.key_of(&uid) {
                    self.lose(key, ErrorType::UnknownError, reason);
                }
            }
            WorkflowEvent::GiveUp { reason } => self.give_up = Some(reason),
            WorkflowEvent::Finished { id, result } => match self.calls.end(id) {
                Some(purpose) => self.finished(now, purpose, result, out),
                None => return false,
            },
            WorkflowEvent::SlotsKept(kept) => self.steps.starts.kept(kept),
            WorkflowEvent::Tick => {}
        }
        true
    }

    /// From now on progress is written this often at most, where that is less often than usual.
    pub fn write_progress_every(&mut self, interval: Duration) {
        self.pace.interval = interval;
    }

    /// When the machine wants a `Tick`, and why.
    pub fn next_deadline(&self) -> Option<(Timestamp, &'static str)> {
        if self.life == Life::Stopped {
            return None;
        }
        self.calls.deadline()
    }

    /// Whether nothing is to be done before somebody approves or changes it, or [`Self::next_deadline`] has come. Another machine
    /// may go on then, restored from the workflow.
    pub fn rests(&self) -> bool {
        self.life == Life::Present
            && self.gates.asks
            && waits_for_people(&self.workflow)
            && self.status.is_written()
            && self.calls.is_idle()
    }

    /// The workflow as this machine last saw it.
    pub fn workflow(&self) -> &Arc<WorkflowExecution> {
        &self.workflow
    }

    fn observe(&mut self, now: Timestamp, workflow: Arc<WorkflowExecution>, out: &mut Vec<WorkflowCommand>) {
        if workflow.metadata.uid != self.workflow.metadata.uid {
            return self.gone();
        }
        let newer = is_newer(
            self.workflow.metadata.resource_version.as_deref(),
            workflow.metadata.resource_version.as_deref(),
        );
        if !newer {
            return;
        }
        self.calls.reread = false;
        if self.status.is_what_was_sent(workflow.status.as_ref()) {
            // Our own write, whose answer is late or lost: nothing waits for it any more.
            self.calls.forget(Purpose::Write);
            return self.written(now, workflow, out);
        }
        self.status.observed(workflow.status.clone().unwrap_or_default());
        if workflow.spec.workflow_definition != self.workflow.spec.workflow_definition {
            // What was planned is not what is asked for now, and no policy has kept it from being changed.
            self.give_up.get_or_insert_with(|| CHANGED.to_owned());
        }
        if self.status.persisted.phase == Some(WorkflowPhase::RollingBack) {
            Self::note_late_shutdown(self.workflow.spec.shutdown, workflow.spec.shutdown, out);
        }
        self.workflow = workflow;
    }

    fn gone(&mut self) {
        if self.life != Life::Stopped {
            self.life = Life::Gone;
        }
    }

    fn finished(
        &mut self,
        now: Timestamp,
        purpose: Purpose,
        result: Result<ApiOutcome, ApiFailure>,
        out: &mut Vec<WorkflowCommand>,
    ) {
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(failure) => return self.failed_call(now, purpose, &failure, out),
        };
        self.calls.succeeded(purpose);
        match (purpose, outcome) {
            (Purpose::Rights, ApiOutcome::Rights(answer)) => {
                let account = format!("{}/{}", self.namespace(), self.workflow.spec.service_account_name);
                self.gates.rights = Some(
                    refusal_of(&answer, &account, &self.settings.executor_namespace).map_or(Ok(()), Err),
                );
            }
            (Purpose::Safety, ApiOutcome::ReadResults(facts)) => self.gates.safety.read(Ok(facts)),
            (Purpose::Network, ApiOutcome::ReadResults(_)) => self.gates.safety.answered(now),
            // Seen through the watch before? Then it was taken in there.
            (Purpose::Write, ApiOutcome::Workflow(workflow)) if self.status.is_sent() => {
                self.written(now, workflow, out);
            }
            (Purpose::Write, ApiOutcome::Workflow(workflow)) => self.observe(now, workflow, out),
            (Purpose::Reread, ApiOutcome::FoundWorkflow(Some(workflow))) => {
                // The write did not arrive, or its answer: what to write is decided again.
                self.calls.reread = false;
                self.status.discard();
                let known = self.workflow.metadata.resource_version.clone();
                if !is_newer(known.as_deref(), workflow.metadata.resource_version.as_deref()) {
                    // Nobody was: the same write would have the same answer.
                    self.calls.pause(now, Purpose::Write);
                }
                self.observe(now, workflow, out);
            }
            (Purpose::Reread, ApiOutcome::FoundWorkflow(None)) => self.gone(),
            (Purpose::Create(key), ApiOutcome::Created { execution, fresh: _ }) => {
                self.created(now, key, execution);
            }
            (Purpose::Release(key), ApiOutcome::Execution(execution)) => self.released(key, execution),
            (Purpose::Find(key), ApiOutcome::FoundExecution(found)) => self.found(now, key, found),
            (Purpose::Undone, ApiOutcome::Undone(undone)) => {
                self.steps.undone = Some(undone);
                for execution in std::mem::take(&mut self.steps.unjudged) {
                    self.observe_step(execution);
                }
            }
            (Purpose::Look(number), ApiOutcome::ReadResults(facts)) => self.looked(number, facts),
            (Purpose::Cancel(key), ApiOutcome::Execution(execution)) => {
                self.steps.waiting.remove(&key);
                self.observe_step(execution);
            }
            (purpose, outcome) => {
                // A defect of ours. It is told, and the question asked again.
                out.push(WorkflowCommand::Announce(Announcement::Unfitting {
                    asked: format!("{purpose:?}"),
                    answered: outcome.name(),
                }));
                self.calls.pause(now, purpose);
            }
        }
    }

    fn failed_call(
        &mut self,
        now: Timestamp,
        purpose: Purpose,
        failure: &ApiFailure,
        out: &mut Vec<WorkflowCommand>,
    ) {
        match (purpose, failure.class) {
            (Purpose::Write, FailureClass::Forbidden | FailureClass::Rejected) => {
                self.status_refused(now, failure, out);
            }
            (Purpose::Write, class) => {
                self.calls.reread = true;
                // Somebody was faster: what they wrote is read, and all is decided again, at once.
                if class != FailureClass::Conflict {
                    self.calls.pause(now, purpose);
                }
            }
            (Purpose::Rights, class) if !class.is_transient() => {
                self.gates.rights = Some(Err(format!(
                    "the rights could not be checked: {}",
                    failure.message
                )));
            }
            (Purpose::Safety, class) if !class.is_transient() => {
                self.gates.safety.read(Err(failure.clone()));
            }
            (Purpose::Network, _) => {
                self.gates.safety.not_answered(failure);
                self.calls.pause(now, purpose);
            }
            (Purpose::Create(key), FailureClass::Quota) => {
                self.wait_to_create(now, key, format!("for room in a quota: {}", failure.message));
            }
            // Not of an object of this name, which is another answer: of what the API server keeps beside it, such as a
            // quota's count.
            (Purpose::Create(key), FailureClass::Conflict) => {
                self.wait_to_create(now, key, format!("for a conflict to pass: {}", failure.message));
            }
            (Purpose::Create(key), class) if !class.is_transient() => self.create_refused(key, failure),
            (Purpose::Create(key), class) => {
                if class == FailureClass::Unknown {
                    // Its time to take effect begins with the last one.
                    self.steps.unsure.insert(key, now);
                }
                self.calls.pause(now, purpose);
            }
            (Purpose::Release(key), _) => self.release_failed(now, key, failure),
            (Purpose::Find(key), _) => {
                if !planted(Defect::AskOnceForTheAbsent) {
                    self.steps.absent.insert(key);
                }
                self.calls.pause(now, purpose);
            }
            (Purpose::Cancel(key), _) => self.cancel_failed(now, key, failure),
            (Purpose::Look(number), _) => self.look_failed(now, number, failure),
            (Purpose::Rights | Purpose::Safety | Purpose::Reread | Purpose::Undone, _) => {
                self.calls.pause(now, purpose);
            }
        }
    }

    /// The API server will not have the status. Most likely it never will: it is asked less and less often, and the
    /// workflow tells of it the only other way there is.
    fn status_refused(&mut self, now: Timestamp, failure: &ApiFailure, out: &mut Vec<WorkflowCommand>) {
        self.calls.reread = true;
        self.status.refused();
        let refusals = self.status.refusals;
        self.calls.pause(now, Purpose::Write);
        if refusals > 1 {
            let pause = REFUSED_INTERVAL.saturating_mul(1 << (refusals - 2).min(5));
            self.calls
                .pause_until(later(now, pause.min(REFUSED_INTERVAL_MAX)));
        }
        if refusals == 2 {
            out.push(WorkflowCommand::Publish(EventRecord {
                reason: "StatusRefused",
                warning: true,
                action: "Record",
                note: format!(
                    "the API server does not take the status of this workflow, which can't go on without it: {}",
                    failure.message
                ),
                related: None,
            }));
        }
    }

    pub(super) fn call(&mut self, purpose: Purpose, command: ApiCommand, out: &mut Vec<WorkflowCommand>) {
        let id = self.calls.begin(purpose);
        let lane = if is_begun(self.status.persisted.phase) || self.has_begun() {
            Lane::Running
        } else {
            Lane::Validation
        };
        let terms = Terms {
            lane,
            not_after: None,
        };
        out.push(WorkflowCommand::Api { id, command, terms });
    }

    /// How many executions are being created.
    pub(super) fn creating(&self) -> usize {
        self.calls.count(|purpose| matches!(purpose, Purpose::Create(_)))
    }

    fn advance(&mut self, now: Timestamp, out: &mut Vec<WorkflowCommand>) {
        if matches!(self.life, Life::Stopped | Life::Unfed) {
            return;
        }
        self.calls.alarm = Alarm::default();
        self.gates.asks = false;
        self.steps.starts.want(0);
        if self.life == Life::Gone || self.workflow.metadata.deletion_timestamp.is_some() {
            return self.stop(out);
        }
        if self.calls.is_paused(now) {
            return;
        }
        if self.calls.reread {
            if !self.calls.is_under_way(Purpose::Reread) {
                let name = self.workflow.metadata.name.clone().unwrap_or_default();
                let command = ApiCommand::GetWorkflow {
                    namespace: self.namespace(),
                    name,
                };
                self.call(Purpose::Reread, command, out);
            }
            return;
        }
        if self.calls.is_under_way(Purpose::Write) {
            // Executions may start meanwhile: they do not depend on what the status says.
            if self.status.draft.phase == Some(WorkflowPhase::Executing) {
                self.ensure_steps(out);
                self.start_ready_steps(now, out);
            }
            return;
        }
        let phase = self.status.persisted.phase;
        if self.lacks_what_it_undoes() && !phase.is_some_and(WorkflowPhase::is_terminal) {
            return self.read_what_it_undoes(out);
        }
        match phase {
            Some(WorkflowPhase::Completed | WorkflowPhase::Failed) => self.terminal(out),
            None | Some(WorkflowPhase::Planning | WorkflowPhase::Validating) => {
                self.before_execution(now, out);
            }
            Some(WorkflowPhase::RollingBack) => self.rolling_back(now, out),
            Some(WorkflowPhase::Monitoring) => self.monitoring(now, out),
            Some(WorkflowPhase::Executing | WorkflowPhase::Paused) => self.executing(now, out),
        }
    }

    fn terminal(&mut self, out: &mut Vec<WorkflowCommand>) {
        self.release_recorded(&[], out);
        self.stop(out);
    }

    fn stop(&mut self, out: &mut Vec<WorkflowCommand>) {
        self.life = Life::Stopped;
        out.push(WorkflowCommand::Stop);
    }

    fn executing(&mut self, now: Timestamp, out: &mut Vec<WorkflowCommand>) {
        if let Some(reason) = self.give_up.clone() {
            self.fail_workflow(ErrorType::UnknownError, None, &reason, now);
            return self.write(now, out);
        }
        let plan = match self.plan_once() {
            Ok(plan) => plan,
            // Nothing of it can be read any more.
            Err(errors) => {
                self.planning_failed(&errors, now);
                return self.write(now, out);
            }
        };
        self.ensure_steps(out);
        self.find_absent_steps(out);
        self.find_unseen_steps(out);
        self.pause_or_resume(&plan, now);
        let changed = self.update_steps(&plan, now);
        self.cancel_executions(&plan, now, out);
        self.start_ready_steps(now, out);
        self.release_executions(&plan, now, out);
        if self.finish_if_done(&plan, now, out) {
            return self.write(now, out);
        }
        self.release_recorded(&self.needed_for_an_undo(&plan), out);
        if changed || self.status.draft != self.status.persisted {
            let due = self.pace.due(now);
            // A person who pauses or resumes it looks at its phase.
            if now >= due || self.status.draft.phase != self.status.persisted.phase {
                return self.write(now, out);
            }
            self.calls.alarm.set(due, "progress");
        }
    }

    /// Each execution that has something left to do has an actor.
    pub(super) fn ensure_steps(&self, out: &mut Vec<WorkflowCommand>) {
        for execution in self.steps.executions.values() {
            if !execution.is_terminal() || execution.metadata.deletion_timestamp.is_some() {
                out.push(WorkflowCommand::EnsureStep(execution.clone()));
            }
        }
    }

    /// Since when a create of the controller before this one can only still take effect; `None` when none can.
    pub(super) fn doubtful_since(&self, now: Timestamp) -> Option<Timestamp> {
        self.started
            .filter(|started| self.begun == Begun::Elsewhere && now < later(*started, CREATE_WINDOW))
    }

    pub(super) fn namespace(&self) -> String {
        self.workflow.metadata.namespace.clone().unwrap_or_default()
    }

    pub(super) fn write(&mut self, now: Timestamp, out: &mut Vec<WorkflowCommand>) {
        let version = self.workflow.metadata.resource_version.as_deref();
        let Some(patch) = self.status.send(version) else {
            return;
        };
        self.pace.last_write = Some(now);
        self.call(
            Purpose::Write,
            ApiCommand::WriteWorkflowStatus {
                workflow: self.workflow.clone(),
                patch,
            },
            out,
        );
    }
}
