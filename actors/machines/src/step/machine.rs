//! The state of one step, its turns, and the answers that it takes.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use kubernaut_crds::{Attempt, ErrorType, ExecutionPhase, KubernetesExecution, KubernetesExecutionStatus};

use super::checking::{CheckResult, Checking};
use super::validate::{CANCELLED, Rights, Snapshot, Validation, WORKFLOW_DELETED};
use super::verify::Outcome;
use super::{StepCommand, StepEvent};
use crate::Settings;
use crate::announcement::Announcement;
use crate::api_command::{ApiCommand, ApiFailure, ApiOutcome, FailureClass, Lane, Terms};
use crate::approval::Seen;
use crate::calls::Calls;
use crate::defect::{Defect, planted};
use crate::job_run::{JobCall, JobRun, Next, Refused, Wait, without_secrets};
use crate::mapping::same_spec;
use crate::parameters::ValidatedExecution;
use crate::policy::Verdict;
use crate::preflight::Refusal;
use crate::status_draft::{StatusDraft, is_newer};
use crate::time::micros;

/// The machine of one `KubernetesExecution`.
///
/// Guarantees: total for any object; a result that is not waited for is dropped; what the status says decides, what
/// is only remembered here (rights, state before, how a Job ended) can be found out again, so that a machine made by
/// `restore` ends where this one would. But for one thing: whether creates that were sent for a minute were all refused only
/// this machine knows; another one takes their Job for lost.
#[derive(Debug)]
pub struct StepMachine {
    pub(super) settings: Arc<Settings>,
    pub(super) execution: Arc<KubernetesExecution>,
    /// Before an end is written, only its payload goes.
    pub(super) status: StatusDraft<KubernetesExecutionStatus>,
    pub(super) calls: Calls<Purpose>,
    life: Life,
    pub(super) workflow: Workflow,
    /// The parameters as the executor reads them.
    pub(super) checked: Option<Arc<ValidatedExecution>>,
    pub(super) validation: Validation,
    pub(super) waits: Waits,
    pub(super) run: JobRun,
    pub(super) outcome: Outcome,
    pub(super) deletion: Deletion,
}

/// Whether there is anything left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Present,
    /// The execution no longer exists.
    Gone,
    /// Nothing is left to do for it.
    Stopped,
}

/// What its workflow does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Workflow {
    /// It has to record the end of this step before the finalizer may go.
    pub(super) waits: bool,
    /// It is being deleted, and will take this execution with it when others let it go.
    pub(super) is_deleted: bool,
}

/// What this step holds, or waits for.
#[derive(Debug, Default)]
pub(super) struct Waits {
    pub(super) lock: Hold,
    pub(super) slot: Slot,
    /// Who approved it, and whether somebody has to.
    pub(super) seen: Arc<Seen>,
    /// The wait that the status tells of.
    pub(super) told: Option<Wait>,
}

/// The slot for its Job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Slot {
    #[default]
    None,
    /// Perhaps held: its workflow kept one for it before it was made.
    Given,
    Asked,
    Busy,
    Held,
}

/// Something that is held, or waited for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Hold {
    #[default]
    None,
    Asked,
    /// Somebody else has it: who, in words.
    Busy(String),
    Held,
}

/// How far the deletion of this execution has come.
#[derive(Debug, Default)]
pub(super) struct Deletion {
    /// Attempts whose Job is known to be gone.
    pub(super) cleaned: BTreeSet<i32>,
    /// When a Job that is on its way out is looked for again.
    pub(super) look_again: Option<Timestamp>,
    /// Since when a Job of it is known to be on its way out.
    pub(super) leaving: Option<Timestamp>,
    /// The workflow was told.
    pub(super) is_reported: bool,
}

/// Why a command was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Rights,
    Before {
        locked: bool,
    },
    Policy,
    Write,
    Finalizers,
    Reread,
    Job(JobCall),
    After,
    /// Deletion: is the Job of this attempt there?
    CleanFind(i32),
    CleanDelete,
}

/// Whether there is more to decide at once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Again,
    Wait,
}

impl StepMachine {
    /// A machine for an execution as it is in the cluster: new, or left behind by a controller that ended.
    ///
    /// `workflow_waits`: a workflow actor will send `Released` once it has recorded how the step ended.
    pub fn restore(
        settings: Arc<Settings>,
        execution: Arc<KubernetesExecution>,
        workflow_waits: bool,
    ) -> Self {
        Self {
            settings,
            status: StatusDraft::restore(execution.status.clone().unwrap_or_default()),
            calls: Calls::default(),
            life: Life::Present,
            workflow: Workflow {
                waits: workflow_waits,
                is_deleted: false,
            },
            checked: None,
            validation: Validation::default(),
            waits: Waits {
                slot: if workflow_waits { Slot::Given } else { Slot::None },
                ..Waits::default()
            },
            run: JobRun::new(&execution),
            outcome: Outcome::default(),
            deletion: Deletion::default(),
            execution,
        }
    }

    /// Takes in what happened and says what is to be done.
    pub fn on_event(&mut self, now: Timestamp, event: StepEvent) -> Vec<StepCommand> {
        let now = micros(now);
        self.run.begin(now);
        let mut out = Vec::new();
        match event {
            StepEvent::Observed(execution) => self.observe(execution, &mut out),
            StepEvent::ApprovalsSeen(seen) => self.waits.seen = seen,
            StepEvent::Gone => self.gone(),
            StepEvent::JobsObserved(views) => {
                let current = self.current_attempt().map(|attempt| attempt.job_name.clone());
                self.run.observe(views, current.as_deref());
            }
            StepEvent::Finished { id, result } => match self.calls.end(id) {
                Some(purpose) => self.finished(now, purpose, result, &mut out),
                None => return out,
            },
            StepEvent::LockGranted => self.waits.lock = Hold::Held,
            StepEvent::LockBusy { .. } if planted(Defect::IgnoreTheLock) => self.waits.lock = Hold::Held,
            StepEvent::LockBusy { reason } => {
                self.waits.lock = Hold::Busy(reason);
                self.give_back_a_slot_of_no_use(&mut out);
            }
            StepEvent::SlotGranted => self.waits.slot = Slot::Held,
            StepEvent::SlotBusy => self.waits.slot = Slot::Busy,
            StepEvent::Released => self.workflow.waits = false,
            StepEvent::WorkflowDeleted => self.workflow.is_deleted = true,
            StepEvent::Tick => {}
        }
        // Every turn either sends a command or moves a phase, so this ends long before the bound; the bound makes
        // it certain.
        for _ in 0..64 {
            if self.advance(now, &mut out) == Flow::Wait {
                break;
            }
        }
        out
    }

    /// When the machine wants a `Tick`, and why.
    pub fn next_deadline(&self) -> Option<(Timestamp, &'static str)> {
        if self.life == Life::Stopped || !self.calls.is_idle() {
            return None;
        }
        self.calls.deadline()
    }

    /// The execution as this machine last saw it.
    pub fn execution(&self) -> &Arc<KubernetesExecution> {
        &self.execution
    }

    fn observe(&mut self, execution: Arc<KubernetesExecution>, out: &mut Vec<StepCommand>) {
        if execution.metadata.uid != self.execution.metadata.uid {
            return self.gone();
        }
        if !is_newer(
            self.execution.metadata.resource_version.as_deref(),
            execution.metadata.resource_version.as_deref(),
        ) {
            return;
        }
        self.calls.reread = false;
        if self.status.is_what_was_sent(execution.status.as_ref()) {
            // Our own write, whose answer is late or lost: nothing waits for it any more.
            self.calls.forget(Purpose::Write);
            self.calls.recovered();
            return self.written(execution, out);
        }
        let another_status = self.status.observed(execution.status.clone().unwrap_or_default());
        // No policy may hold what a spec asks for: rights and target were those of the one before.
        if another_status || !same_spec(&self.execution.spec, &execution.spec) {
            // Somebody else wrote it: what was remembered may no longer be true.
            self.forget();
        }
        self.execution = execution;
        // Also that the status tells of a wait, or was refused.
        if !planted(Defect::ForgetToTellOfAWait) {
            self.waits.told = None;
        }
        self.status.refusals = 0;
    }

    fn gone(&mut self) {
        if self.life == Life::Present {
            self.life = Life::Gone;
        }
    }

    fn forget(&mut self) {
        // An answer that is on its way is about what was asked for before.
        self.calls.forget(Purpose::Policy);
        self.validation = Validation::default();
        self.outcome = Outcome::default();
        self.waits.told = None;
        self.run.forget();
    }

    fn finished(
        &mut self,
        now: Timestamp,
        purpose: Purpose,
        result: Result<ApiOutcome, ApiFailure>,
        out: &mut Vec<StepCommand>,
    ) {
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(failure) => {
                self.give_back_a_slot_of_no_use(out);
                return self.failed_call(now, purpose, &failure);
            }
        };
        // Looking again is no success of what failed before.
        if matches!(purpose, Purpose::Reread | Purpose::Job(JobCall::Find)) {
            self.calls.resume();
        } else {
            self.calls.recovered();
        }
        if matches!(
            purpose,
            Purpose::Rights | Purpose::Before { .. } | Purpose::Policy
        ) {
            self.validation.unanswered_since = None;
        }
        match (purpose, outcome) {
            (Purpose::Rights, ApiOutcome::Rights(answer)) => self.rights_answered(now, answer),
            (Purpose::Before { locked }, ApiOutcome::ReadResults(facts)) => self.before_read(locked, &facts),
            (Purpose::Policy, ApiOutcome::Judged(verdict)) => self.validation.verdict = Some(verdict),
            // Seen through the watch before? Then it was taken in there.
            (Purpose::Write, ApiOutcome::Execution(execution)) if self.status.is_sent() => {
                self.written(execution, out);
            }
            (Purpose::Write | Purpose::Finalizers, ApiOutcome::Execution(execution)) => {
                self.observe(execution, out);
            }
            (Purpose::Reread, ApiOutcome::FoundExecution(Some(execution))) => {
                self.calls.reread = false;
                let known = self.execution.metadata.resource_version.clone();
                if !is_newer(known.as_deref(), execution.metadata.resource_version.as_deref()) {
                    // Nobody was: the same write would have the same answer.
                    self.calls.pause(now, purpose);
                }
                self.observe(execution, out);
            }
            (Purpose::Reread, ApiOutcome::FoundExecution(None)) => self.gone(),
            (Purpose::Job(call), outcome) => self.job_answered(now, call, outcome, out),
            (Purpose::After, ApiOutcome::ReadResults(facts)) => self.after_read(facts),
            (Purpose::CleanFind(attempt), ApiOutcome::FoundJob(found)) => {
                self.clean_found(now, attempt, found.map(|view| *view), out);
            }
            (Purpose::CleanDelete, ApiOutcome::Deleted) => {}
            (purpose, outcome) => self.unfitting(now, purpose, &outcome, out),
        }
    }

    fn job_answered(
        &mut self,
        now: Timestamp,
        call: JobCall,
        outcome: ApiOutcome,
        out: &mut Vec<StepCommand>,
    ) {
        let attempt = self.status.draft.attempts.last();
        match (call, outcome) {
            (JobCall::Create, ApiOutcome::JobCreated(job)) => {
                self.job_created(now, *job);
            }
            (JobCall::Find, ApiOutcome::FoundJob(found)) => {
                self.run.found(now, attempt, found.map(|view| *view));
            }
            (JobCall::Delete, ApiOutcome::Deleted) => self.run.deleted(),
            // Asked for once; how it ends, the watch shows.
            (JobCall::DeleteLate, ApiOutcome::Deleted) => {}
            (JobCall::DeletePayload, ApiOutcome::Deleted) => self.run.payload_deleted(),
            (JobCall::Explain, ApiOutcome::Explained(notes)) => {
                let message = self.run.explained(now, attempt, &notes);
                if message.is_some() && message != self.status.draft.message {
                    self.status.draft.message = message;
                    self.status.is_due = true;
                }
            }
            (call, outcome) => self.unfitting(now, Purpose::Job(call), &outcome, out),
        }
    }

    /// An answer of another kind than asked for: a defect of ours. It is told, and the question asked again.
    fn unfitting(
        &mut self,
        now: Timestamp,
        purpose: Purpose,
        outcome: &ApiOutcome,
        out: &mut Vec<StepCommand>,
    ) {
        out.push(StepCommand::Announce(Announcement::Unfitting {
            asked: format!("{purpose:?}"),
            answered: outcome.name(),
        }));
        self.calls.pause(now, purpose);
    }

    fn failed_call(&mut self, now: Timestamp, purpose: Purpose, failure: &ApiFailure) {
        // A webhook may say what it was shown.
        let failure = &ApiFailure {
            message: without_secrets(&self.execution, &failure.message),
            ..failure.clone()
        };
        match (purpose, failure.class) {
            (Purpose::Job(JobCall::Create), _) => return self.job_refused(now, failure),
            (Purpose::Write, FailureClass::Rejected) if self.status.refusals == 0 => {
                return self.status_refused(now, failure);
            }
            (Purpose::Write | Purpose::Finalizers, class) => {
                self.calls.reread = true;
                if class == FailureClass::Conflict {
                    // Somebody was faster: what they wrote is read, and all is decided again, at once.
                    return;
                }
            }
            // The Job under that name is another one by now: the watch will show it, or the next look.
            (Purpose::Job(JobCall::Delete) | Purpose::CleanDelete, FailureClass::Conflict) => {}
            (Purpose::Job(JobCall::DeleteLate), _) => self.run.late_refused(),
            (Purpose::Job(JobCall::DeletePayload), class) if !class.is_transient() => {
                self.run.payload_refused(&failure.message);
            }
            // The controller itself lacks a right, or asks for what the API server will never answer.
            (
                Purpose::Job(JobCall::Find | JobCall::Delete) | Purpose::CleanFind(_) | Purpose::CleanDelete,
                class,
            ) if !class.is_transient() => self.told_of_a_refusal(failure),
            (Purpose::Rights, class) if !class.is_transient() => {
                self.validation.rights = Some(Rights {
                    asked_at: now,
                    answer: Err((ErrorType::UnknownError, unchecked(failure))),
                    optional_denied: false,
                });
                return;
            }
            (Purpose::Before { locked }, class) if !class.is_transient() => {
                let refusal = Err(Refusal {
                    error_type: ErrorType::UnknownError,
                    message: unchecked(failure),
                });
                self.validation.snapshot = if locked && !planted(Defect::ReadARefusalAgain) {
                    Snapshot::Locked(refusal)
                } else {
                    Snapshot::Unlocked(refusal)
                };
                return;
            }
            (Purpose::Policy, class) if !class.is_transient() => {
                self.validation.verdict = Some(Verdict::denied("of this controller", unchecked(failure)));
                return;
            }
            (Purpose::After, _) if self.after_failed(failure, now) => return,
            _ => {}
        }
        self.calls.pause(now, purpose);
        if matches!(
            purpose,
            Purpose::Rights | Purpose::Before { .. } | Purpose::Policy
        ) {
            self.validation_stalled(now, failure);
        }
    }

    /// The create of a Job was answered with an error.
    fn job_refused(&mut self, now: Timestamp, failure: &ApiFailure) {
        match self.run.create_failed(now, failure) {
            Refused::Pause => self.calls.pause(now, Purpose::Job(JobCall::Create)),
            Refused::Quota => self.quota_leaves_no_room(failure),
            Refused::Final => {}
        }
    }

    /// The Job can't be looked at, or not be deleted: whoever waits has to find the reason in the status.
    fn told_of_a_refusal(&mut self, failure: &ApiFailure) {
        let message = format!(
            "waits: the API server refuses what is asked of its Job: {}",
            failure.message
        );
        if self.execution.metadata.deletion_timestamp.is_some() {
            // What was decided and never written has no part in a deletion.
            self.status.discard();
        }
        self.tell_of(Wait::Refused, &message);
    }

    fn advance(&mut self, now: Timestamp, out: &mut Vec<StepCommand>) -> Flow {
        if self.life == Life::Stopped || !self.calls.is_idle() {
            return Flow::Wait;
        }
        let is_gone = self.life == Life::Gone;
        let payload = self.run.open_payload(&self.status.persisted).cloned();
        if is_gone && payload.is_none() {
            return self.stop(out);
        }
        self.calls.alarm = crate::calls::Alarm::default();
        if self.calls.is_paused(now) {
            return Flow::Wait;
        }
        if let Some(attempt) = payload
            && (is_gone || self.is_ending())
        {
            // Nobody looks after it once the execution is gone, or its end is recorded.
            return self.delete_payload(&attempt, now, out);
        }
        if self.calls.reread {
            let (namespace, name) = self.key();
            return self.call(Purpose::Reread, ApiCommand::GetExecution { namespace, name }, out);
        }
        if self.execution.metadata.deletion_timestamp.is_some() && !planted(Defect::RunAfterDeletion) {
            return self.clean_up(now, out);
        }
        if self.status.is_due {
            return self.write(out);
        }
        match self.status.draft.phase {
            None | Some(ExecutionPhase::Validating) => self.validating(now, out),
            Some(ExecutionPhase::Validated | ExecutionPhase::WaitingApproval) => self.validated(now, out),
            Some(ExecutionPhase::Executing) => self.executing(now, out),
            Some(ExecutionPhase::RollbackReady) => self.verifying(now, out),
            Some(ExecutionPhase::Completed | ExecutionPhase::Failed) => self.terminal(now, out),
        }
    }

    /// Sends an API command; its result decides what is next.
    pub(super) fn call(&mut self, purpose: Purpose, command: ApiCommand, out: &mut Vec<StepCommand>) -> Flow {
        self.call_until(None, purpose, command, out)
    }

    fn call_until(
        &mut self,
        not_after: Option<Timestamp>,
        purpose: Purpose,
        command: ApiCommand,
        out: &mut Vec<StepCommand>,
    ) -> Flow {
        let id = self.calls.begin(purpose);
        let lane = self.lane();
        let terms = Terms { lane, not_after };
        out.push(StepCommand::Api { id, command, terms });
        Flow::Wait
    }

    fn lane(&self) -> Lane {
        if self.life == Life::Gone || self.execution.metadata.deletion_timestamp.is_some() {
            return Lane::CleanUp;
        }
        let (persisted, draft) = (self.status.persisted.phase, self.status.draft.phase);
        let is_ended = draft.is_some_and(ExecutionPhase::is_terminal);
        // The write of an end belongs to what has ended.
        match if is_ended { persisted } else { draft } {
            None
            | Some(
                ExecutionPhase::Validating | ExecutionPhase::Validated | ExecutionPhase::WaitingApproval,
            ) => Lane::Validation,
            Some(ExecutionPhase::Executing | ExecutionPhase::RollbackReady) => Lane::Running,
            Some(ExecutionPhase::Completed | ExecutionPhase::Failed) => Lane::CleanUp,
        }
    }

    pub(super) fn stop(&mut self, out: &mut Vec<StepCommand>) -> Flow {
        self.life = Life::Stopped;
        out.push(StepCommand::Stop);
        Flow::Wait
    }

    /// Sleeps until a time; the earliest of several wins.
    pub(super) fn wait_until(&mut self, at: Timestamp, why: &'static str) -> Flow {
        self.calls.alarm.set(at, why);
        Flow::Wait
    }

    /// Deletes the payload once no create can bring it any more, also none that was sent and given up.
    pub(super) fn delete_payload(
        &mut self,
        attempt: &Attempt,
        now: Timestamp,
        out: &mut Vec<StepCommand>,
    ) -> Flow {
        let next = self.run.delete_payload(attempt, now, &mut self.calls.alarm);
        self.follow(next, now, out)
    }

    /// Does what the run of a Job says is next.
    pub(super) fn follow(&mut self, next: Next, now: Timestamp, out: &mut Vec<StepCommand>) -> Flow {
        match next {
            Next::Again => Flow::Again,
            Next::Wait => Flow::Wait,
            Next::Call {
                call,
                command,
                not_after,
            } => self.call_until(not_after, Purpose::Job(call), command, out),
            Next::Tell(wait, message) => self.tell_of(wait, &message),
            Next::Record => self.record_again(now, out),
        }
    }

    /// A wait is written once, when it begins.
    pub(super) fn tell_of(&mut self, wait: Wait, message: &str) -> Flow {
        if self.waits.told == Some(wait) {
            return Flow::Wait;
        }
        self.waits.told = Some(wait);
        self.status.draft.message = Some(message.to_owned());
        self.status.is_due = true;
        Flow::Again
    }

    pub(super) fn key(&self) -> (String, String) {
        let metadata = &self.execution.metadata;
        (
            metadata.namespace.clone().unwrap_or_default(),
            metadata.name.clone().unwrap_or_default(),
        )
    }

    /// Why what runs is stopped, and nothing more begins.
    pub(super) fn stopped_by(&self) -> Option<&'static str> {
        let cancelled = self.execution.spec.shutdown.is_some().then_some(CANCELLED);
        self.workflow.is_deleted.then_some(WORKFLOW_DELETED).or(cancelled)
    }

    pub(super) fn uid(&self) -> String {
        self.execution.metadata.uid.clone().unwrap_or_default()
    }

    /// The draft records the end of the execution.
    fn is_ending(&self) -> bool {
        let ended = |phase: Option<ExecutionPhase>| phase.is_some_and(ExecutionPhase::is_terminal);
        ended(self.status.draft.phase) && !ended(self.status.persisted.phase)
    }

    pub(super) fn current_attempt(&self) -> Option<&Attempt> {
        self.status.draft.attempts.last()
    }

    /// What has to be checked before this machine can decide anything; `None` when it was, or need not be.
    pub fn checking(&self) -> Option<Checking> {
        let phase = self.status.persisted.phase;
        let ended = phase.is_some_and(ExecutionPhase::is_terminal);
        (self.checked.is_none() && !ended).then(|| self.to_check())
    }

    /// Takes in what came of [`Self::checking`]; without it the machine checks by itself when it has to. What was wrong it
    /// finds again, and tells.
    pub fn was_checked(&mut self, checked: CheckResult) {
        self.checked = self.checked.take().or(checked.ok());
    }

    /// The parameters as the executor reads them; `Err` when the object can't be run.
    pub(super) fn check(&mut self) -> CheckResult {
        if let Some(checked) = &self.checked {
            return Ok(Arc::clone(checked));
        }
        let checked = self.to_check().make()?;
        Ok(Arc::clone(self.checked.insert(checked)))
    }

    fn to_check(&self) -> Checking {
        Checking {
            settings: Arc::clone(&self.settings),
            execution: Arc::clone(&self.execution),
            begun: !self.status.draft.attempts.is_empty(),
        }
    }
}

fn unchecked(failure: &ApiFailure) -> String {
    format!("the check could not be made: {}", failure.message)
}
