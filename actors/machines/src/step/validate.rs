//! validating and validated: parameters, rights, lock, state before, a free place, the first attempt.

use std::time::Duration;

use jiff::Timestamp;
use kubernaut_crds::{
    ApprovalSource, AttemptOutcome, ConditionReason, ConditionType, ErrorType, ExecutionApproval,
    ExecutionDryRunResults, ExecutionPhase, MicroTime, ValidationResults, names,
};

use super::StepCommand;
use super::machine::{Flow, Hold, Purpose, StepMachine};
use crate::actions::target_name;
use crate::api_command::{ApiCommand, ApiFailure, ExecutionChange, RightsAnswer, RightsQuestion};
use crate::defect::{Defect, planted};
use crate::job_run::Wait;
use crate::owner::controlling_workflow;
use crate::parameters::ValidatedExecution;
use crate::policy::Verdict;
use crate::preflight::{self, Preflight, Refusal, Scope};
use crate::problem::Problem;
use crate::reads::ReadResults;
use crate::time::later;

/// Validation that the API server does not answer is given up after this long (docs/executions.md). It begins with
/// the first call that failed: the time that a call waits for its turn among our own is not the API server's.
const VALIDATION_BUDGET: Duration = Duration::from_secs(30);

/// What an attempt may rely on: rights that were asked longer ago are asked again (docs/executions.md, Validation).
pub(super) const RIGHTS_AGE: Duration = Duration::from_secs(30);

/// What was found out before anything runs.
#[derive(Debug, Default)]
pub(super) struct Validation {
    pub(super) rights: Option<Rights>,
    pub(super) snapshot: Snapshot,
    /// What the policies said about that state before.
    pub(super) verdict: Option<Verdict>,
    /// Since when no check got an answer from the API server.
    pub(super) unanswered_since: Option<Timestamp>,
}

/// What the workflow's account may do, and when that was asked.
#[derive(Clone, Debug)]
pub(super) struct Rights {
    pub(super) asked_at: Timestamp,
    /// Why they don't suffice.
    pub(super) answer: Result<(), (ErrorType, String)>,
    /// The account may not do what its action can do without.
    pub(super) optional_denied: bool,
}

/// The state before: read once without the lock while waiting for it, and once under it; the last one counts.
#[derive(Debug, Default)]
pub(super) enum Snapshot {
    #[default]
    Unread,
    Unlocked(Result<Preflight, Refusal>),
    Locked(Result<Preflight, Refusal>),
}

impl Snapshot {
    /// What was read, whether under the lock or not.
    pub(super) fn any(&self) -> Option<&Result<Preflight, Refusal>> {
        match self {
            Snapshot::Unread => None,
            Snapshot::Unlocked(before) | Snapshot::Locked(before) => Some(before),
        }
    }

    /// What counts, for who holds the lock and for who does not.
    fn of(&self, locked: bool) -> Option<&Result<Preflight, Refusal>> {
        self.any().filter(|_| self.is_locked() || !locked)
    }

    fn is_locked(&self) -> bool {
        matches!(self, Snapshot::Locked(_))
    }
}

impl Validation {
    /// What the action will do, in words, where the state before was read.
    pub(super) fn impact(&self) -> Option<String> {
        let preflight = self.snapshot.any()?.as_ref().ok()?;
        Some(preflight.impact.clone())
    }
}

impl StepMachine {
    pub(super) fn validating(&mut self, now: Timestamp, out: &mut Vec<StepCommand>) -> Flow {
        if planted(Defect::CountOurOwnQueue) {
            self.validation.unanswered_since = self.run.since();
        }
        self.enter(ExecutionPhase::Validating, now);
        self.status.draft.start_time.get_or_insert(MicroTime(now));
        self.status.draft.attempt.get_or_insert(0);
        let checked = match self.check() {
            Ok(checked) => checked,
            Err(problems) => return self.fail(ErrorType::ValidationError, &Problem::joined(&problems), now),
        };
        self.status.draft.target_name = Some(target_name(&checked.target));
        self.status.draft.target = Some(checked.target.clone());
        if let Some(why) = self.stopped_by() {
            return self.fail(ErrorType::Cancelled, why, now);
        }
        if self.execution.spec.parameters.undo.is_some() && controlling_workflow(&self.execution).is_none() {
            let message = "parameters.undo: an undo is made by the workflow whose step it takes back, and by nobody else; use the \
                           action that sets the state before";
            return self.fail(ErrorType::ValidationError, message, now);
        }
        if let Some(refused) = self.refused_namespace() {
            return self.fail(ErrorType::ValidationError, &refused, now);
        }
        if let Some(flow) = self.without_rights(&checked, None, now, out) {
            return flow;
        }
        // The lock is asked for when the approval is there: nobody waits for a person who only looks at it.
        let must_be_released = self.must_be_released();
        match &self.waits.lock {
            Hold::None if must_be_released => {}
            Hold::None => return self.acquire_lock(out),
            Hold::Asked => return Flow::Wait,
            Hold::Busy(_) | Hold::Held => {}
        }
        let preflight = match self.admitted(&checked, now, out) {
            Ok(Some(preflight)) => preflight,
            Ok(None) => return Flow::Wait,
            Err((_, message)) if !must_be_released && !self.validation.snapshot.is_locked() => {
                // Whoever holds the lock may change just this.
                let holder = match &self.waits.lock {
                    Hold::Busy(reason) => reason.clone(),
                    Hold::None | Hold::Asked | Hold::Held => String::new(),
                };
                let words = format!("waits: {holder}; as things are, it would then be refused: {message}");
                return self.tell_of(Wait::Lock, &words);
            }
            Err(refusal) => return self.refuse(refusal.0, &refusal.1, now, out),
        };
        self.note_validation(&checked, &preflight, now);
        self.enter(ExecutionPhase::Validated, now);
        Flow::Again
    }

    pub(super) fn validated(&mut self, now: Timestamp, out: &mut Vec<StepCommand>) -> Flow {
        if let Some(attempt) = self.dry_run() {
            return self.trying(&attempt, now, out);
        }
        if let Some(why) = self.stopped_by() {
            return self.fail(ErrorType::Cancelled, why, now);
        }
        let checked = match self.check() {
            Ok(checked) => checked,
            Err(problems) => return self.fail(ErrorType::ValidationError, &Problem::joined(&problems), now),
        };
        if let Some(flow) = self.without_approval(now, out) {
            return flow;
        }
        if let Some(flow) = self.without_rights(&checked, None, now, out) {
            return flow;
        }
        match self.waits.lock.clone() {
            Hold::None => return self.acquire_lock(out),
            Hold::Asked => return Flow::Wait,
            Hold::Busy(reason) => {
                self.enter(ExecutionPhase::Validated, now);
                return self.tell_of(Wait::Lock, &format!("waits: {reason}"));
            }
            Hold::Held => {}
        }
        if let Some(flow) = self.take_slot(out) {
            return flow;
        }
        if let Some(flow) = self.needs_finalizer(out) {
            return flow;
        }
        // The waits may have been long.
        if let Some(flow) = self.without_rights(&checked, Some(RIGHTS_AGE), now, out) {
            return flow;
        }
        let preflight = match self.admitted(&checked, now, out) {
            Ok(Some(preflight)) => preflight,
            Ok(None) => return Flow::Wait,
            Err(refusal) => return self.refuse(refusal.0, &refusal.1, now, out),
        };
        self.note_validation(&checked, &preflight, now);
        if self.must_be_released() {
            // The policies, asked under the lock, want a person: it is given back for that.
            return Flow::Again;
        }
        if preflight.is_done {
            return self.complete_without_job(now);
        }
        self.start_attempt(&checked, &preflight, now)
    }

    /// Fails before anything was done: whoever waits for the target goes on, however long the end takes to be recorded.
    fn refuse(
        &mut self,
        error_type: ErrorType,
        message: &str,
        now: Timestamp,
        out: &mut Vec<StepCommand>,
    ) -> Flow {
        if self.status.draft.attempts.is_empty() {
            self.release_lock(out);
            self.release_slot(out);
        }
        if error_type == ErrorType::PolicyDenied {
            self.note_denial(message, now);
        }
        self.fail(error_type, message, now)
    }

    pub(super) fn release_lock(&mut self, out: &mut Vec<StepCommand>) {
        if self.waits.lock != Hold::None {
            self.waits.lock = Hold::None;
            out.push(StepCommand::ReleaseLock);
        }
    }

    /// Asks for the rights, also when the answer is older than `most`; fails where they don't suffice. `None` when they do.
    pub(super) fn without_rights(
        &mut self,
        checked: &ValidatedExecution,
        most: Option<Duration>,
        now: Timestamp,
        out: &mut Vec<StepCommand>,
    ) -> Option<Flow> {
        if !self.settings.authorization {
            return None;
        }
        let fresh = |rights: &&Rights| most.is_none_or(|most| now <= later(rights.asked_at, most));
        let Some(rights) = self.validation.rights.as_ref().filter(fresh) else {
            return Some(self.ask_rights(checked, out));
        };
        let (error_type, message) = rights.answer.clone().err()?;
        if self.is_attempt_open() {
            self.end_attempt(AttemptOutcome::Failed, error_type, &message, now);
        }
        Some(self.fail(error_type, &message, now))
    }

    fn ask_rights(&mut self, checked: &ValidatedExecution, out: &mut Vec<StepCommand>) -> Flow {
        let question = RightsQuestion {
            namespace: self.key().0,
            service_account: self.execution.spec.service_account_name.clone(),
            requests: checked
                .rights
                .iter()
                .chain(&checked.optional_right)
                .cloned()
                .collect(),
            executor_accounts: vec![checked.kind.service_account().to_owned()],
        };
        self.call(Purpose::Rights, ApiCommand::CheckRights(question), out)
    }

    pub(super) fn rights_answered(&mut self, now: Timestamp, mut answer: RightsAnswer) {
        let optional = self
            .check()
            .ok()
            .and_then(|checked| checked.optional_right.clone());
        let asked = answer.denied.len();
        answer.denied.retain(|right| Some(right) != optional.as_ref());
        let optional_denied = answer.denied.len() < asked;
        let account = format!("{}/{}", self.key().0, self.execution.spec.service_account_name);
        let refusal = refusal_of(&answer, &account, &self.settings.executor_namespace);
        self.validation.rights = Some(Rights {
            asked_at: now,
            answer: refusal.map_or(Ok(()), |message| {
                Err((ErrorType::InsufficientPermissions, message))
            }),
            optional_denied,
        });
    }

    pub(super) fn acquire_lock(&mut self, out: &mut Vec<StepCommand>) -> Flow {
        let (target, nodes) = match self.check() {
            Ok(checked) => (checked.target.clone(), checked.kind.is_node_action()),
            // Validated once, so its target is known; without one there is nothing to lock.
            Err(_) => {
                if let Some(target) = self.status.draft.target.clone() {
                    (target, false)
                } else {
                    self.waits.lock = Hold::Held;
                    return Flow::Again;
                }
            }
        };
        self.waits.lock = Hold::Asked;
        out.push(StepCommand::AcquireLock { target, nodes });
        Flow::Wait
    }

    /// The state before: read once without the lock while waiting for it, and once under it; the last one counts.
    pub(super) fn state_before(
        &mut self,
        checked: &ValidatedExecution,
        out: &mut Vec<StepCommand>,
    ) -> Result<Option<Preflight>, (ErrorType, String)> {
        let held = self.waits.lock == Hold::Held;
        match self.validation.snapshot.of(held) {
            Some(Ok(preflight)) => Ok(Some(preflight.clone())),
            Some(Err(refusal)) => Err((refusal.error_type, refusal.message.clone())),
            None => {
                let reads = preflight::reads(checked, self.scope(held));
                self.call(Purpose::Before { locked: held }, ApiCommand::Read(reads), out);
                Ok(None)
            }
        }
    }

    pub(super) fn scope(&self, locked: bool) -> Scope {
        Scope {
            locked,
            optional: !self
                .validation
                .rights
                .as_ref()
                .is_some_and(|rights| rights.optional_denied),
        }
    }

    pub(super) fn before_read(&mut self, locked: bool, facts: &ReadResults) {
        let Ok(checked) = self.check() else { return };
        let preflight = preflight::check(&self.execution, &checked, facts, &self.settings);
        self.validation.verdict = None;
        self.validation.snapshot = if locked {
            Snapshot::Locked(preflight)
        } else {
            Snapshot::Unlocked(preflight)
        };
    }

    /// An execution made by hand gets the finalizer before its first Job.
    pub(super) fn needs_finalizer(&mut self, out: &mut Vec<StepCommand>) -> Option<Flow> {
        let finalizers = self.execution.metadata.finalizers.clone().unwrap_or_default();
        if finalizers.iter().any(|name| name == names::CLEANUP_FINALIZER)
            || planted(Defect::ForgetTheFinalizer)
        {
            return None;
        }
        let finalizers = finalizers
            .into_iter()
            .chain([names::CLEANUP_FINALIZER.to_owned()])
            .collect();
        let execution = self.execution.clone();
        Some(self.call(
            Purpose::Finalizers,
            ApiCommand::PatchExecution {
                execution,
                change: ExecutionChange {
                    finalizers: Some(finalizers),
                    ..ExecutionChange::default()
                },
            },
            out,
        ))
    }

    fn note_validation(&mut self, checked: &ValidatedExecution, preflight: &Preflight, now: Timestamp) {
        let warnings: Vec<String> = checked
            .warnings
            .iter()
            .chain(&preflight.warnings)
            .chain(
                self.validation
                    .verdict
                    .iter()
                    .flat_map(|verdict| &verdict.warnings),
            )
            .cloned()
            .collect();
        let earlier = self.status.draft.validation_results.take();
        let tried = earlier
            .as_ref()
            .and_then(|results| results.dry_run_results.clone());
        let dry_run = ExecutionDryRunResults {
            warnings,
            ..tried.unwrap_or_default()
        };
        self.status.draft.validation_results = Some(ValidationResults {
            parameter_validation: true,
            rbac_validation: true,
            resource_exists: true,
            validation_time: earlier
                .and_then(|results| results.validation_time)
                .or(Some(MicroTime(now))),
            policy_validation: self.validation.verdict.as_ref().map(Verdict::validation),
            dry_run_results: (dry_run != ExecutionDryRunResults::default()).then_some(dry_run),
        });
        self.condition(
            ConditionType::Validated,
            true,
            ConditionReason::Passed,
            "parameters, rights and target were checked",
            now,
        );
        self.note_permission(now);
        let must_be_released = self.must_be_released();
        if !must_be_released {
            self.note_release(now);
        }
        if self.status.draft.approval.is_none() && !must_be_released {
            self.status.draft.approval = Some(ExecutionApproval {
                source: ApprovalSource::Automatic,
                approved_by: None,
                time: Some(MicroTime(now)),
            });
            self.condition(
                ConditionType::Approved,
                true,
                ConditionReason::Automatic,
                "no approval was asked for",
                now,
            );
        }
    }

    fn refused_namespace(&self) -> Option<String> {
        let (namespace, _) = self.key();
        self.settings.protected_namespaces.contains(&namespace).then(|| {
            format!(
                "executions in namespace {namespace} are not run: it is protected (--protected-namespaces)"
            )
        })
    }

    pub(super) fn validation_stalled(&mut self, now: Timestamp, failure: &ApiFailure) {
        let since = *self.validation.unanswered_since.get_or_insert(now);
        let validating = matches!(self.status.draft.phase, None | Some(ExecutionPhase::Validating));
        if validating && now > later(since, VALIDATION_BUDGET) {
            let message = format!(
                "validation got no answer from the API server within {} s; last: {}",
                VALIDATION_BUDGET.as_secs(),
                failure.message
            );
            self.fail(ErrorType::Timeout, &message, now);
        }
    }
}

/// Said where a person stops an execution, or the workflow that it is a step of.
pub(super) const CANCELLED: &str = "stopped by spec.shutdown: Cancel";
/// Said where the workflow is being deleted, and somebody's finalizer keeps it.
pub(super) const WORKFLOW_DELETED: &str = "stopped: its WorkflowExecution is being deleted";

/// Why the rights don't suffice; `None` when they do.
pub(crate) fn refusal_of(answer: &RightsAnswer, account: &str, executor_namespace: &str) -> Option<String> {
    if answer.account_missing {
        return Some(format!(
            "ServiceAccount {account} does not exist: create it, or set spec.serviceAccountName"
        ));
    }
    if !answer.denied.is_empty() {
        let denied: Vec<String> = answer.denied.iter().map(ToString::to_string).collect();
        return Some(format!(
            "ServiceAccount {account} may not {}; grant it with a Role and a RoleBinding",
            denied.join("; nor ")
        ));
    }
    if !answer.executor_accounts_missing.is_empty() {
        return Some(format!(
            "ServiceAccount {} does not exist in namespace {executor_namespace}: install the manifests of deploy/",
            answer.executor_accounts_missing.join(", ")
        ));
    }
    None
}
