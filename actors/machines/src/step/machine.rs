//! The state of one step, its turns, and the answers that it takes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kubernaut_crds::{Attempt, ErrorType, ExecutionPhase, KubernetesExecution, KubernetesExecutionStatus};

use super::checking::{CheckResult, Checking};
use super::execute::Ended;
use super::validate::{CANCELLED, WORKFLOW_DELETED};
use super::verify::{Look, OutcomeWait};
use super::{StepCommand, StepEvent};
use crate::Settings;
use crate::before::{Before, Refusal};
use crate::classify::Failure;
use crate::defect::{Defect, planted};
use crate::job_view::JobView;
use crate::outcome::{ApiCommand, ApiFailure, ApiOutcome, CommandId, FailureClass};
use crate::parameters::Checked;

/// The machine of one `KubernetesExecution`.
///
/// Guarantees: total for any object; a result that is not waited for is dropped; what the status says decides, what
/// is only remembered here (rights, state before, how a Job ended) can be found out again, so that a machine made by
/// `restore` ends where this one would.
#[derive(Debug)]
pub struct StepMachine {
    pub(super) settings: Arc<Settings>,
    /// A workflow has to record the end before the finalizer may go.
    pub(super) workflow_waits: bool,
    pub(super) execution: Arc<KubernetesExecution>,
    /// The status in the cluster.
    pub(super) persisted: KubernetesExecutionStatus,
    /// The status as it shall be.
    pub(super) draft: KubernetesExecutionStatus,
    /// `draft` must be written before anything else is done; before an end, only the payload goes.
    pub(super) dirty: bool,
    gone: bool,
    pub(super) released: bool,
    /// Its workflow is being deleted, and will take this execution with it when others let it go.
    pub(super) workflow_deleted: bool,
    stopped: bool,

    next_id: u64,
    inflight: Option<(CommandId, Purpose)>,
    /// The object must be read again before anything is decided.
    refetch: bool,
    /// The API server refused a status, and was given a shorter one.
    pub(super) refused: bool,
    transient_failures: u32,
    pause_until: Option<Timestamp>,
    /// How many entries of phaseTransitions were announced.
    pub(super) announced: usize,

    /// When this machine had its first event, or had to begin anew.
    pub(super) started: Option<Timestamp>,
    pub(super) checked: Option<Arc<Checked>>,
    pub(super) rights: Option<Rights>,
    /// The account may not do what its action can do without.
    pub(super) optional_denied: bool,
    /// Since when no check got an answer from the API server.
    pub(super) unanswered_since: Option<Timestamp>,
    pub(super) lock: Hold,
    pub(super) slot: Hold,
    /// The state before, and whether it was read under the lock.
    pub(super) before: Option<Result<Before, Refusal>>,
    pub(super) before_locked: bool,
    /// The wait that the status tells of.
    pub(super) wait_noted: Option<Wait>,

    /// The Jobs of this execution by name, as the store has them.
    pub(super) jobs: BTreeMap<String, JobView>,
    pub(super) job: JobKnowledge,
    /// Jobs of ended attempts that came late and were told to go.
    pub(super) late_deleted: std::collections::BTreeSet<String>,
    pub(super) abandon: Option<Failure>,
    pub(super) quota_until: Option<Timestamp>,
    pub(super) quota_waits: u32,
    pub(super) explained_at: Option<Timestamp>,
    pub(super) ended: Option<Ended>,
    pub(super) secret_deleted: bool,
    /// Why the payload can't be deleted.
    pub(super) secret_refused: Option<String>,
    pub(super) look: Option<Look>,
    pub(super) looks: u32,
    pub(super) next_look: Option<Timestamp>,
    pub(super) outcome_wait: OutcomeWait,
    /// Deletion: attempts whose Job is known to be gone.
    pub(super) cleaned: std::collections::BTreeSet<i32>,
    pub(super) clean_after: Option<Timestamp>,
    pub(super) told_of_deletion: bool,
    pub(super) next_check: Option<(Timestamp, &'static str)>,
}

/// What the workflow's account may do, and when that was asked.
#[derive(Clone, Debug)]
pub(super) struct Rights {
    pub(super) asked_at: Timestamp,
    /// Why they don't suffice.
    pub(super) answer: Result<(), (ErrorType, String)>,
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

/// What is waited for, and said of in the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Lock,
    Slot,
    /// A create that may still take effect.
    Job,
    /// A payload that may still arrive.
    Payload,
    /// A payload whose deletion is refused.
    PayloadRefused,
    /// A look at its Job, or the Job's deletion, is refused.
    Refused,
}

/// What is known of the creates that were sent for the current attempt's Job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Creates {
    /// Another controller may have sent some.
    #[default]
    Unknown,
    /// Each was refused, or none was sent: none can take effect.
    None,
    /// The last one had no answer: it may take effect until then.
    Uncertain { until: Timestamp },
}

/// What is known of the current attempt's Job besides the store.
#[derive(Clone, Debug, Default)]
pub(super) struct JobKnowledge {
    pub(super) creates: Creates,
    /// Why the last create was not taken.
    pub(super) refusal: Option<String>,
    /// From a create or a live read: what the store may not have yet.
    pub(super) found: Option<JobView>,
    /// It was there once, or a pod of it was.
    pub(super) seen: bool,
    /// When a live read found none.
    pub(super) absent: Option<Timestamp>,
    /// A delete was taken.
    pub(super) delete_sent: bool,
    /// When the API is asked again what the watch does not show.
    pub(super) ask_at: Option<Timestamp>,
    /// When a live read, or a create, last told of it.
    pub(super) looked: Option<Timestamp>,
    /// The store has shown something new of it since the live read, or the create, was sent.
    pub(super) shown_since: bool,
}

/// Why a command was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Rights,
    Before {
        locked: bool,
    },
    Write,
    Finalizers,
    Refetch,
    CreateJob,
    FindJob,
    DeleteJob,
    /// A Job of an attempt that has ended.
    DeleteLateJob,
    DeleteSecret,
    After,
    Explain,
    /// Deletion: is the Job of this attempt there?
    CleanFind(i32),
    CleanDelete(i32),
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
        let persisted = execution.status.clone().unwrap_or_default();
        Self {
            settings,
            workflow_waits,
            announced: persisted.phase_transitions.len(),
            draft: persisted.clone(),
            persisted,
            execution,
            dirty: false,
            gone: false,
            released: false,
            workflow_deleted: false,
            stopped: false,
            next_id: 0,
            inflight: None,
            refetch: false,
            refused: false,
            transient_failures: 0,
            pause_until: None,
            started: None,
            checked: None,
            rights: None,
            optional_denied: false,
            unanswered_since: None,
            lock: Hold::None,
            slot: Hold::None,
            before: None,
            before_locked: false,
            wait_noted: None,
            jobs: BTreeMap::new(),
            job: JobKnowledge::default(),
            late_deleted: std::collections::BTreeSet::new(),
            abandon: None,
            quota_until: None,
            quota_waits: 0,
            explained_at: None,
            ended: None,
            secret_deleted: false,
            secret_refused: None,
            look: None,
            looks: 0,
            next_look: None,
            outcome_wait: OutcomeWait::default(),
            cleaned: std::collections::BTreeSet::new(),
            clean_after: None,
            told_of_deletion: false,
            next_check: None,
        }
    }

    /// Takes in what happened and says what is to be done.
    pub fn on_event(&mut self, now: Timestamp, event: StepEvent) -> Vec<StepCommand> {
        let now = micros(now);
        self.started.get_or_insert(now);
        let mut out = Vec::new();
        match event {
            StepEvent::Observed(execution) => self.observe(execution, &mut out),
            StepEvent::Gone => self.gone = true,
            StepEvent::JobsObserved(views) => self.observe_jobs(views),
            StepEvent::Finished { id, result } => match self.inflight {
                Some((awaited, purpose)) if awaited == id => {
                    self.inflight = None;
                    self.finished(now, purpose, result, &mut out);
                }
                _ => return out,
            },
            StepEvent::LockGranted => self.lock = Hold::Held,
            StepEvent::LockBusy { .. } if planted(Defect::IgnoreTheLock) => self.lock = Hold::Held,
            StepEvent::LockBusy { reason } => self.lock = Hold::Busy(reason),
            StepEvent::SlotGranted => self.slot = Hold::Held,
            StepEvent::SlotBusy => self.slot = Hold::Busy(String::new()),
            StepEvent::Released => self.released = true,
            StepEvent::WorkflowDeleted => self.workflow_deleted = true,
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
        if self.stopped || self.inflight.is_some() {
            return None;
        }
        self.pause_until
            .map(|until| (until, "retry of an API call"))
            .or(self.next_check)
    }

    /// The execution as this machine last saw it.
    pub fn execution(&self) -> &Arc<KubernetesExecution> {
        &self.execution
    }

    fn observe(&mut self, execution: Arc<KubernetesExecution>, out: &mut Vec<StepCommand>) {
        if execution.metadata.uid != self.execution.metadata.uid {
            self.gone = true;
            return;
        }
        if !is_newer(
            self.execution.metadata.resource_version.as_deref(),
            execution.metadata.resource_version.as_deref(),
        ) {
            return;
        }
        self.refetch = false;
        let status = execution.status.clone().unwrap_or_default();
        if self.dirty && status == self.draft {
            // Our own write, whose answer is late or lost: nothing waits for it any more.
            if matches!(self.inflight, Some((_, Purpose::Write))) {
                self.inflight = None;
            }
            self.transient_failures = 0;
            self.pause_until = None;
            return self.written(execution, out);
        }
        self.execution = execution;
        if status != self.persisted {
            // Somebody else wrote the status: what was remembered may no longer be true.
            self.forget();
            self.persisted = status;
        }
        // What was decided on an older object is decided again.
        self.draft = self.persisted.clone();
        self.announced = self.announced.min(self.persisted.phase_transitions.len());
        self.dirty = false;
        // Also that the status tells of a wait, or was refused.
        if !planted(Defect::ForgetToTellOfAWait) {
            self.wait_noted = None;
        }
        self.refused = false;
    }

    fn forget(&mut self) {
        self.started = None;
        self.before = None;
        self.before_locked = false;
        self.wait_noted = None;
        self.job = JobKnowledge::default();
        self.abandon = None;
        self.quota_until = None;
        self.ended = None;
        self.look = None;
        self.secret_deleted = false;
    }

    fn observe_jobs(&mut self, views: Vec<JobView>) {
        let name = self.draft.attempts.last().map(|attempt| attempt.job_name.clone());
        let of = |jobs: &BTreeMap<String, JobView>| name.as_ref().and_then(|name| jobs.get(name).cloned());
        let before = of(&self.jobs);
        self.jobs = views.into_iter().map(|view| (view.name.clone(), view)).collect();
        let after = of(&self.jobs);
        self.job.seen |= after.is_some();
        self.job.shown_since |= before != after;
        let is_job = |view: &Option<JobView>| view.as_ref().is_some_and(|view| !view.uid.is_empty());
        // A Job that a create gave is kept until the store has it, or a live read tells more. Anything else that was found is older
        // than what is shown.
        if before != after && (is_job(&after) || !is_job(&self.job.found)) {
            self.job.found = None;
            self.job.absent = None;
        }
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
            Err(failure) => return self.failed_call(now, purpose, &failure),
        };
        // Looking again is no success of what failed before.
        if !matches!(purpose, Purpose::Refetch | Purpose::FindJob) {
            self.transient_failures = 0;
        }
        if matches!(purpose, Purpose::Rights | Purpose::Before { .. }) {
            self.unanswered_since = None;
        }
        self.pause_until = None;
        match (purpose, outcome) {
            (Purpose::Rights, ApiOutcome::Rights(answer)) => self.rights_answered(now, answer),
            (Purpose::Before { locked }, ApiOutcome::Facts(facts)) => self.before_read(locked, &facts),
            (Purpose::Write, ApiOutcome::Execution(execution)) => {
                // Seen through the watch before? Then it was taken in there.
                if self.dirty {
                    self.written(execution, out);
                } else {
                    self.observe(execution, out);
                }
            }
            (Purpose::Finalizers, ApiOutcome::Execution(execution)) => self.observe(execution, out),
            (Purpose::Refetch, ApiOutcome::FoundExecution(Some(execution))) => {
                self.refetch = false;
                let known = self.execution.metadata.resource_version.clone();
                if !is_newer(known.as_deref(), execution.metadata.resource_version.as_deref()) {
                    // Nobody was: the same write would have the same answer.
                    self.pause(now);
                }
                self.observe(execution, out);
            }
            (Purpose::Refetch, ApiOutcome::FoundExecution(None)) => self.gone = true,
            (Purpose::CreateJob, ApiOutcome::JobCreated { job, fresh }) => {
                self.job_created(now, *job, fresh, out);
            }
            (Purpose::FindJob, ApiOutcome::FoundJob(found)) => self.job_found(now, found.map(|view| *view)),
            (Purpose::DeleteJob, ApiOutcome::Deleted) => {
                self.job.delete_sent = true;
                self.job.ask_at = None;
            }
            // Asked for once; how it ends, the watch shows.
            (Purpose::DeleteLateJob, ApiOutcome::Deleted) => {}
            (Purpose::DeleteSecret, ApiOutcome::Deleted) => {
                self.secret_deleted = true;
                self.secret_refused = None;
            }
            (Purpose::After, ApiOutcome::Facts(facts)) => self.after_read(facts),
            (Purpose::Explain, ApiOutcome::Explained(notes)) => self.explained(now, &notes),
            (Purpose::CleanFind(attempt), ApiOutcome::FoundJob(found)) => {
                self.clean_found(now, attempt, found.map(|view| *view), out);
            }
            (Purpose::CleanDelete(_), ApiOutcome::Deleted) => {}
            // An answer of another kind than asked for: ask again.
            (_, _) => self.pause(now),
        }
    }

    fn failed_call(&mut self, now: Timestamp, purpose: Purpose, failure: &ApiFailure) {
        // A webhook may say what it was shown.
        let failure = &ApiFailure {
            message: self.without_secrets(&failure.message),
            ..failure.clone()
        };
        match (purpose, failure.class) {
            (Purpose::CreateJob, _) => return self.job_refused(now, failure),
            (Purpose::Write, FailureClass::Rejected) if !self.refused => {
                return self.status_refused(now, failure);
            }
            (Purpose::Write | Purpose::Finalizers, _) => self.refetch = true,
            // The Job under that name is another one by now: the watch will show it, or the next look.
            (Purpose::DeleteJob | Purpose::CleanDelete(_), FailureClass::Conflict) => {
                return self.pause(now);
            }
            (Purpose::DeleteLateJob, _) => {
                self.late_deleted.clear();
                return self.pause(now);
            }
            (Purpose::DeleteSecret, class) => {
                if !class.is_transient() {
                    self.secret_refused = Some(failure.message.clone());
                }
                return self.pause(now);
            }
            // The controller itself lacks a right, or asks for what the API server will never answer.
            (
                Purpose::FindJob | Purpose::DeleteJob | Purpose::CleanFind(_) | Purpose::CleanDelete(_),
                class,
            ) if !class.is_transient() => {
                self.pause(now);
                return self.told_of_a_refusal(failure);
            }
            (Purpose::Rights, class) if !class.is_transient() => {
                self.rights = Some(Rights {
                    asked_at: now,
                    answer: Err((ErrorType::UnknownError, unchecked(failure))),
                });
                return;
            }
            (Purpose::Before { locked }, class) if !class.is_transient() => {
                self.before = Some(Err(Refusal {
                    error_type: ErrorType::UnknownError,
                    message: unchecked(failure),
                }));
                self.before_locked = locked && !planted(Defect::ReadARefusalAgain);
                return;
            }
            (Purpose::After, _) if self.after_failed(failure, now) => return,
            _ => {}
        }
        if failure.class == FailureClass::Conflict && matches!(purpose, Purpose::Write | Purpose::Finalizers)
        {
            // Somebody was faster: what they wrote is read, and all is decided again, at once.
            return;
        }
        self.pause(now);
        if matches!(purpose, Purpose::Rights | Purpose::Before { .. }) {
            self.validation_stalled(now, failure);
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
            self.draft = self.persisted.clone();
        }
        self.note_wait(Wait::Refused, &message);
    }

    pub(super) fn pause(&mut self, now: Timestamp) {
        self.transient_failures = self.transient_failures.saturating_add(1);
        self.pause_until = Some(later(now, api_backoff(self.transient_failures)));
    }

    fn advance(&mut self, now: Timestamp, out: &mut Vec<StepCommand>) -> Flow {
        if self.stopped || self.inflight.is_some() {
            return Flow::Wait;
        }
        let payload = self.open_payload();
        if self.gone && payload.is_none() {
            return self.stop(out);
        }
        if let Some(until) = self.pause_until {
            if now < until {
                return Flow::Wait;
            }
            self.pause_until = None;
        }
        self.next_check = None;
        if let Some(attempt) = payload
            && (self.gone || self.is_ending())
        {
            // Nobody looks after it once the execution is gone, or its end is recorded.
            return self.delete_payload(&attempt, now, out);
        }
        if self.refetch {
            let (namespace, name) = self.key();
            return self.call(
                Purpose::Refetch,
                ApiCommand::GetExecution { namespace, name },
                out,
            );
        }
        if self.execution.metadata.deletion_timestamp.is_some() && !planted(Defect::RunAfterDeletion) {
            return self.clean_up(now, out);
        }
        if self.dirty {
            return self.write(out);
        }
        match self.draft.phase {
            None | Some(ExecutionPhase::Validating) => self.validating(now, out),
            Some(ExecutionPhase::Validated | ExecutionPhase::WaitingApproval) => self.validated(now, out),
            Some(ExecutionPhase::Executing) => self.executing(now, out),
            Some(ExecutionPhase::RollbackReady) => self.verifying(now, out),
            Some(ExecutionPhase::Completed | ExecutionPhase::Failed) => self.terminal(now, out),
        }
    }

    /// Sends an API command; its result decides what is next.
    pub(super) fn call(&mut self, purpose: Purpose, command: ApiCommand, out: &mut Vec<StepCommand>) -> Flow {
        self.next_id += 1;
        let id = CommandId(self.next_id);
        self.inflight = Some((id, purpose));
        out.push(StepCommand::Api { id, command });
        Flow::Wait
    }

    pub(super) fn stop(&mut self, out: &mut Vec<StepCommand>) -> Flow {
        self.stopped = true;
        self.next_check = None;
        out.push(StepCommand::Stop);
        Flow::Wait
    }

    /// Sleeps until a time; the earliest of several wins.
    pub(super) fn wait_until(&mut self, at: Timestamp, why: &'static str) -> Flow {
        if self.next_check.is_none_or(|(before, _)| at < before) {
            self.next_check = Some((at, why));
        }
        Flow::Wait
    }

    pub(super) fn key(&self) -> (String, String) {
        let metadata = &self.execution.metadata;
        (
            metadata.namespace.clone().unwrap_or_default(),
            metadata.name.clone().unwrap_or_default(),
        )
    }

    /// Why no attempt may begin; `None` while one may.
    pub(super) fn stopped_by(&self) -> Option<&'static str> {
        if self.workflow_deleted {
            return Some(WORKFLOW_DELETED);
        }
        self.execution.spec.shutdown.is_some().then_some(CANCELLED)
    }

    pub(super) fn uid(&self) -> String {
        self.execution.metadata.uid.clone().unwrap_or_default()
    }

    /// The draft records the end of the execution.
    fn is_ending(&self) -> bool {
        let ended = |phase: Option<ExecutionPhase>| phase.is_some_and(ExecutionPhase::is_terminal);
        ended(self.draft.phase) && !ended(self.persisted.phase)
    }

    pub(super) fn current_attempt(&self) -> Option<&Attempt> {
        self.draft.attempts.last()
    }

    /// What has to be checked before this machine can decide anything; `None` when it was, or need not be.
    pub fn checking(&self) -> Option<Checking> {
        let ended = self.persisted.phase.is_some_and(ExecutionPhase::is_terminal);
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
            begun: !self.draft.attempts.is_empty(),
        }
    }
}

fn unchecked(failure: &ApiFailure) -> String {
    format!("the check could not be made: {}", failure.message)
}

/// Status times have microseconds; everything that is compared with them must have no more.
pub(crate) fn micros(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

/// `time + duration`, at most the end of time. In whole microseconds, rounded up: now has no more, and would never quite
/// reach what has.
pub(crate) fn later(time: Timestamp, duration: Duration) -> Timestamp {
    i64::try_from(duration.as_nanos().div_ceil(1000))
        .ok()
        .and_then(|micros| time.checked_add(jiff::SignedDuration::from_micros(micros)).ok())
        .unwrap_or(Timestamp::MAX)
}

/// Between calls that failed and may succeed later: 0.2 s, doubled up to 10 s.
pub(crate) fn api_backoff(failures: u32) -> Duration {
    Duration::from_millis(200)
        .saturating_mul(1 << failures.saturating_sub(1).min(6))
        .min(Duration::from_secs(10))
}

/// Whether `new` is a later version. Versions of one object grow (Kubernetes promises it since 1.35 and has always
/// kept it); one that is no number is taken as later when it differs.
pub(crate) fn is_newer(old: Option<&str>, new: Option<&str>) -> bool {
    match (old.map(str::parse::<u64>), new.map(str::parse::<u64>)) {
        (Some(Ok(old)), Some(Ok(new))) => new > old,
        _ => old != new,
    }
}
