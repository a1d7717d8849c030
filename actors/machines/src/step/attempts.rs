//! Attempts: recorded before their Job is made, ended, and followed by another one or not.

use std::time::Duration;

use jiff::Timestamp;
use kubernaut_crds::{
    AffectedResource, Attempt, AttemptOutcome, ConditionReason, ConditionType, ErrorType, ExecutionPhase,
    ExecutionResults, MicroTime, Retry,
};

use super::StepCommand;
use super::machine::{Flow, Purpose, StepMachine};
use super::validate::{RIGHTS_AGE, Snapshot};
use crate::actions::operation;
use crate::api_command::ApiCommand;
use crate::classify::{self, Failure};
use crate::defect::{Defect, planted};
use crate::job_run::MIN_LEFT;
use crate::parameters::{self, ValidatedExecution};
use crate::preflight::{self, Preflight};
use crate::problem::Problem;
use crate::render;
use crate::time::{attempt_backoff, later};

/// Evictions of the executor's own pod that are not counted against maxRetries.
const UNCOUNTED_MAX: usize = 3;
/// As many attempts as a status holds.
const ATTEMPTS_MAX: usize = 16;

/// What is kept of kubectl's words (docs/executions.md, Attempts and Jobs).
pub(super) const MESSAGE_MAX: usize = 4096;

impl StepMachine {
    /// Records the next attempt; its Job is made when the record is in the cluster.
    pub(super) fn start_attempt(
        &mut self,
        checked: &ValidatedExecution,
        preflight: &Preflight,
        now: Timestamp,
    ) -> Flow {
        if self.is_dry_run_next() {
            return self.start_dry_run(checked, preflight, now);
        }
        let begun = self
            .status
            .draft
            .execution_results
            .as_ref()
            .and_then(|results| results.start_time.clone());
        let begun = begun.map_or(now, |time| time.0);
        let deadline = later(begun, checked.timeout);
        if deadline.duration_since(now) < MIN_LEFT {
            return self.out_of_time(now);
        }
        let recorded = self.current_attempt();
        let number = match recorded {
            Some(attempt) if attempt.outcome.is_none() => attempt.attempt,
            Some(attempt) => attempt.attempt + 1,
            None => 1,
        };
        let attempt = match self.attempt_of(number, deadline, checked, preflight, now) {
            Ok(attempt) => attempt,
            Err(error) => return self.fail(ErrorType::ValidationError, &error.to_string(), now),
        };
        // Until an attempt has ended nothing was changed: what was recorded before a wait may be another state than this one.
        let is_unchanged = self.status.draft.attempts().first_ended().is_none()
            && !planted(Defect::KeepTheStateOfBeforeAWait);
        if is_unchanged || self.status.draft.rollback_information.is_none() {
            self.status.draft.rollback_information = Some(preflight.rollback.clone());
            let available = preflight.rollback.available;
            let reason = if available {
                ConditionReason::Recorded
            } else {
                ConditionReason::NotReversible
            };
            let message = preflight.rollback.reason.clone().unwrap_or_default();
            self.condition(ConditionType::RollbackAvailable, available, reason, &message, now);
        }
        let results = self
            .status
            .draft
            .execution_results
            .get_or_insert_with(ExecutionResults::default);
        results.start_time.get_or_insert(MicroTime(now));
        results.job_name = Some(attempt.job_name.clone());
        results.retries_attempted = number - 1;
        if is_unchanged {
            results.resources_affected.clear();
        }
        if results.resources_affected.is_empty() {
            results.resources_affected.push(affected(checked, preflight));
        }
        self.status.draft.attempt = Some(number);
        self.status.draft.job_name = Some(attempt.job_name.clone());
        if !attempt.waits_for_quota() {
            self.status.draft.message = Some(if number == 1 {
                preflight.impact.clone()
            } else {
                format!("attempt {number}: {}", preflight.impact)
            });
        }
        if planted(Defect::ShowSecrets) {
            self.status.draft.message = serde_json::to_string(&self.execution.spec.parameters).ok();
        }
        self.record(attempt);
        self.enter(ExecutionPhase::Executing, now);
        self.status.is_due = true;
        Flow::Again
    }

    /// An attempt as it is recorded: whatever the rendering of its Job needs.
    pub(super) fn attempt_of(
        &self,
        number: i32,
        deadline: Timestamp,
        checked: &ValidatedExecution,
        preflight: &Preflight,
        now: Timestamp,
    ) -> Result<Attempt, render::RenderError> {
        let (_, name) = self.key();
        let waits_for_quota = self.current_attempt().is_some_and(Attempt::waits_for_quota);
        let mut attempt = Attempt {
            attempt: number,
            job_name: render::job_name(&name, &self.uid(), number),
            job_hash: String::new(),
            target_generation: self.tested_generation(checked, preflight),
            start_time: MicroTime(now),
            deadline: MicroTime(deadline),
            pods: preflight.pods.clone(),
            init_containers: preflight.init_containers.clone(),
            restarted_at: (checked.kind.definition().records_its_time)
                .then(|| now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
            end_time: None,
            outcome: None,
            error_type: waits_for_quota.then_some(ErrorType::ResourceQuotaExceeded),
            retry: None,
            message: None,
        };
        let rendered = render::render(&self.execution, checked, &attempt, &self.settings)?;
        attempt.job_hash = if planted(Defect::RecordAnotherHash) {
            "0".repeat(32)
        } else {
            rendered.hash
        };
        Ok(attempt)
    }

    /// Takes an attempt into the draft: a new one, or the current one anew.
    pub(super) fn record(&mut self, attempt: Attempt) {
        match self.status.draft.attempts.last_mut() {
            Some(last) if last.attempt == attempt.attempt => *last = attempt,
            _ => self.status.draft.attempts.push(attempt),
        }
    }

    /// What a JSON patch tests before it changes anything. Later attempts keep to the first one's: should its answer alone
    /// have been lost, the API server refuses to patch twice.
    fn tested_generation(&self, checked: &ValidatedExecution, preflight: &Preflight) -> Option<i64> {
        match self.status.draft.attempts().first_ended() {
            Some(first) if operation(&checked.action).keeps_first_generation() => first.target_generation,
            _ => preflight.generation,
        }
    }

    /// No time is left for an attempt.
    fn out_of_time(&mut self, now: Timestamp) -> Flow {
        let ended = self.current_attempt().and_then(|attempt| attempt.message.clone());
        // While it waits for a quota the message holds the quota's words.
        let last = ended
            .or_else(|| self.status.draft.message.clone())
            .unwrap_or_default();
        let message = format!(
            "the timeout of {} is used up; last: {last}",
            self.execution.spec.timeout
        );
        let quota = self.current_attempt().is_some_and(Attempt::waits_for_quota);
        let error_type = if quota {
            ErrorType::ResourceQuotaExceeded
        } else {
            ErrorType::Timeout
        };
        if self.is_attempt_open() {
            self.end_attempt(AttemptOutcome::Failed, error_type, &message, now);
        }
        self.fail(error_type, &message, now)
    }

    pub(super) fn is_attempt_open(&self) -> bool {
        self.status.draft.attempts().open().is_some()
    }

    /// Notes in the draft how the current attempt ended.
    pub(super) fn end_attempt(
        &mut self,
        outcome: AttemptOutcome,
        error_type: ErrorType,
        message: &str,
        now: Timestamp,
    ) {
        if let Some(last) = self.status.draft.attempts.last_mut() {
            last.end_time = Some(MicroTime(now));
            last.outcome = Some(outcome);
            last.error_type = Some(error_type);
            last.message = Some(classify::cut(message, MESSAGE_MAX));
        }
    }

    /// The attempt failed and its effect is not there.
    pub(super) fn attempt_failed(
        &mut self,
        failure: &Failure,
        outcome: AttemptOutcome,
        now: Timestamp,
    ) -> Flow {
        self.end_attempt(outcome, failure.error_type, &failure.message, now);
        if let Some(last) = self.status.draft.attempts.last_mut() {
            last.retry = Some(failure.retry);
        }
        if let Some(results) = &mut self.status.draft.execution_results {
            results.end_time = Some(MicroTime(now));
            results.pod_logs = Some(classify::cut(&failure.message, MESSAGE_MAX));
        }
        self.condition(
            ConditionType::JobComplete,
            false,
            ConditionReason::Failed,
            &failure.message,
            now,
        );
        self.status.is_due = true;
        let Some(wait) = self.retry_after(failure) else {
            return self.fail(failure.error_type, &failure.message, now);
        };
        let attempt = self.status.draft.attempt.unwrap_or(1);
        self.status.draft.message = Some(format!(
            "attempt {attempt} failed, the next one follows in {} s: {}",
            wait.as_secs(),
            failure.message
        ));
        Flow::Again
    }

    /// When the next attempt may start; `None` when there is none.
    fn retry_after(&self, failure: &Failure) -> Option<Duration> {
        if self.stopped_by().is_some() {
            return None;
        }
        let attempts = self.status.draft.attempts();
        let evicted = attempts.ended_as(AttemptOutcome::Evicted);
        // What a PodDisruptionBudget refuses is waited for, as a drain waits for it: as long as there is time.
        let refused = attempts.real().filter(|attempt| is_refused(attempt)).count();
        let tried = attempts.real().count();
        let counted = tried.saturating_sub(evicted.min(UNCOUNTED_MAX) + refused);
        let allowed = usize::try_from(self.execution.spec.max_retries).unwrap_or(0);
        let nth = u32::try_from(tried).unwrap_or(u32::MAX);
        let allowed = match failure.retry {
            _ if planted(Defect::RetryForever) => true,
            Retry::Never => false,
            Retry::Eviction if attempts.current().is_some_and(is_refused) => true,
            Retry::Eviction | Retry::Backoff | Retry::Uncounted => counted <= allowed,
        } && tried < ATTEMPTS_MAX;
        allowed.then(|| match failure.retry {
            Retry::Eviction => Duration::from_secs(u64::from(nth.min(3)) * 10),
            Retry::Never | Retry::Uncounted | Retry::Backoff => attempt_backoff(nth),
        })
    }

    /// The last attempt failed and is recorded: wait, look at the target again, record the next one.
    pub(super) fn between_attempts(
        &mut self,
        attempt: &Attempt,
        now: Timestamp,
        out: &mut Vec<StepCommand>,
    ) -> Flow {
        if attempt.outcome == Some(AttemptOutcome::Succeeded) {
            // The verification of a success never leaves this phase with the outcome recorded.
            return self.fail(
                ErrorType::UnknownError,
                "status.attempts was edited while executing",
                now,
            );
        }
        if let Some(why) = self.stopped_by() {
            return self.fail(ErrorType::Cancelled, why, now);
        }
        let failure = Failure {
            error_type: attempt.error_type.unwrap_or(ErrorType::UnknownError),
            message: attempt.message.clone().unwrap_or_default(),
            retry: retry_of(attempt),
        };
        let Some(wait) = self.retry_after(&failure) else {
            return self.fail(failure.error_type, &failure.message, now);
        };
        let at = later(attempt.end_time.as_ref().map_or(now, |time| time.0), wait);
        if now < at {
            self.validation.snapshot = Snapshot::Unread;
            return self.wait_until(at, "the next attempt");
        }
        if let Some(flow) = self.without_late_jobs(now, out) {
            return flow;
        }
        if let Some(flow) = self.take_slot(out) {
            return flow;
        }
        self.record_again(now, out)
    }

    /// Records one more attempt, or the current one anew: on what is read now, and by the flags of now.
    pub(super) fn record_again(&mut self, now: Timestamp, out: &mut Vec<StepCommand>) -> Flow {
        let checked = match self.check() {
            Ok(checked) => checked,
            Err(problems) => return self.fail(ErrorType::ValidationError, &Problem::joined(&problems), now),
        };
        if let Err(problems) = parameters::check(&self.execution, &self.settings) {
            return self.fail(ErrorType::ValidationError, &Problem::joined(&problems), now);
        }
        if let Some(flow) = self.without_rights(&checked, Some(RIGHTS_AGE), now, out) {
            return flow;
        }
        match self.validation.snapshot.any().cloned() {
            Some(Ok(preflight)) if checked.kind.definition().acts_on_pods && preflight.pods.is_empty() => {
                self.release_slot(out);
                self.verify_earlier(now)
            }
            Some(Ok(preflight)) => self.start_attempt(&checked, &preflight, now),
            Some(Err(refusal)) => self.fail(refusal.error_type, &refusal.message, now),
            None => self.call(
                Purpose::Before { locked: true },
                ApiCommand::Read(preflight::reads_again(
                    &self.execution,
                    &checked,
                    self.scope(true),
                )),
                out,
            ),
        }
    }
}

/// The target as it is before, for executionResults.
pub(super) fn affected(checked: &ValidatedExecution, preflight: &Preflight) -> AffectedResource {
    AffectedResource {
        kind: checked.target.kind.clone(),
        namespace: checked.target.namespace.clone(),
        name: checked.target.name.clone(),
        action: checked.kind.canonical().to_owned(),
        before: Some(preflight.state_summary.clone()).filter(|words| !words.is_empty()),
        after: None,
    }
}

/// Not a drain's: kubectl goes on evicting by itself there, and these are its last words whatever ended it.
fn is_refused(attempt: &Attempt) -> bool {
    !attempt.pods.is_empty() && retry_of(attempt) == Retry::Eviction
}

/// What was recorded of an attempt that failed. A version of this program that recorded nothing read it from kubectl's words.
fn retry_of(attempt: &Attempt) -> Retry {
    attempt.retry.unwrap_or_else(|| {
        let words = attempt.message.as_deref().unwrap_or_default();
        match attempt.outcome {
            Some(AttemptOutcome::Evicted) => Retry::Uncounted,
            _ if classify::is_refused_eviction(words) => Retry::Eviction,
            _ => Retry::Backoff,
        }
    })
}
