//! Attempts: recorded before their Job is made, ended, and followed by another one or not.

use std::time::Duration;

use jiff::Timestamp;
use kubernaut_crds::{
    AffectedResource, Attempt, AttemptOutcome, ErrorType, ExecutionPhase, ExecutionResults, MicroTime,
};

use super::StepCommand;
use super::machine::{Flow, Purpose, StepMachine, later};
use super::validate::RIGHTS_AGE;
use crate::actions::operation;
use crate::before::{self, Before};
use crate::classify::{self, Failure, Retry};
use crate::defect::{Defect, planted};
use crate::outcome::ApiCommand;
use crate::parameters::{self, Checked};
use crate::problem::Problem;
use crate::render;

/// Evictions of the executor's own pod that are not counted against maxRetries.
const UNCOUNTED_MAX: usize = 3;
/// As many attempts as a status holds.
const ATTEMPTS_MAX: usize = 16;

/// No attempt starts with less than this left of the timeout.
pub(super) const MIN_LEFT: jiff::SignedDuration = jiff::SignedDuration::from_secs(1);

/// What is kept of kubectl's words (docs/executions.md, Attempts and Jobs).
pub(super) const MESSAGE_MAX: usize = 4096;

impl StepMachine {
    /// Records the next attempt; its Job is made when the record is in the cluster.
    pub(super) fn start_attempt(&mut self, checked: &Checked, before: &Before, now: Timestamp) -> Flow {
        let begun = self
            .draft
            .execution_results
            .as_ref()
            .and_then(|results| results.start_time.clone());
        let begun = begun.map_or(now, |time| time.0);
        let deadline = later(begun, checked.timeout);
        if deadline.duration_since(now) < MIN_LEFT {
            return self.out_of_time(now);
        }
        let number = match self.current_attempt() {
            Some(attempt) if attempt.outcome.is_none() => attempt.attempt,
            Some(attempt) => attempt.attempt + 1,
            None => 1,
        };
        let (_, name) = self.key();
        let mut attempt = Attempt {
            attempt: number,
            job_name: render::job_name(&name, &self.uid(), number),
            job_hash: String::new(),
            target_generation: self.tested_generation(checked, before),
            start_time: MicroTime(now),
            deadline: MicroTime(deadline),
            pods: before.pods.clone(),
            init_containers: before.init_containers.clone(),
            restarted_at: (checked.kind.definition().records_its_time)
                .then(|| now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
            end_time: None,
            outcome: None,
            error_type: None,
            message: None,
        };
        match render::render(&self.execution, checked, &attempt, &self.settings) {
            Ok(_) if planted(Defect::RecordAnotherHash) => attempt.job_hash = "0".repeat(32),
            Ok(rendered) => attempt.job_hash = rendered.hash,
            Err(error) => return self.fail(ErrorType::ValidationError, &error.to_string(), now),
        }
        if self.draft.rollback_information.is_none() {
            self.draft.rollback_information = Some(before.rollback.clone());
            let available = before.rollback.available;
            let reason = if available { "Recorded" } else { "NotReversible" };
            let message = before.rollback.reason.clone().unwrap_or_default();
            self.condition("RollbackAvailable", available, reason, &message, now);
        }
        let results = self
            .draft
            .execution_results
            .get_or_insert_with(ExecutionResults::default);
        results.start_time.get_or_insert(MicroTime(now));
        results.job_name = Some(attempt.job_name.clone());
        results.retries_attempted = number - 1;
        if results.resources_affected.is_empty() {
            results.resources_affected.push(AffectedResource {
                kind: checked.target.kind.clone(),
                namespace: checked.target.namespace.clone(),
                name: checked.target.name.clone(),
                action: checked.kind.canonical().to_owned(),
                before: Some(before.before.clone()).filter(|words| !words.is_empty()),
                after: None,
            });
        }
        self.draft.attempt = Some(number);
        self.draft.job_name = Some(attempt.job_name.clone());
        if self.quota_waits == 0 {
            self.draft.message = Some(if number == 1 {
                before.impact.clone()
            } else {
                format!("attempt {number}: {}", before.impact)
            });
        }
        if planted(Defect::ShowSecrets) {
            self.draft.message = serde_json::to_string(&self.execution.spec.parameters).ok();
        }
        self.quota_until = None;
        match self.draft.attempts.last_mut() {
            Some(last) if last.attempt == number => *last = attempt,
            _ => self.draft.attempts.push(attempt),
        }
        self.enter(ExecutionPhase::Executing, now);
        self.dirty = true;
        Flow::Again
    }

    /// What a JSON patch tests before it changes anything. Later attempts keep to the first one's: should its answer alone
    /// have been lost, the API server refuses to patch twice.
    fn tested_generation(&self, checked: &Checked, before: &Before) -> Option<i64> {
        let first = self
            .draft
            .attempts
            .first()
            .filter(|first| first.outcome.is_some());
        match first {
            Some(first) if operation(&checked.action).keeps_first_generation() => first.target_generation,
            _ => before.generation,
        }
    }

    /// No time is left for an attempt.
    fn out_of_time(&mut self, now: Timestamp) -> Flow {
        let ended = self.current_attempt().and_then(|attempt| attempt.message.clone());
        // While it waits for a quota the message holds the quota's words.
        let last = ended.or_else(|| self.draft.message.clone()).unwrap_or_default();
        let message = format!(
            "the timeout of {} is used up; last: {last}",
            self.execution.spec.timeout
        );
        let open = self.is_attempt_open();
        let error_type = if open && self.quota_waits > 0 {
            ErrorType::ResourceQuotaExceeded
        } else {
            ErrorType::Timeout
        };
        if open {
            self.end_attempt(AttemptOutcome::Failed, error_type, &message, now);
        }
        self.fail(error_type, &message, now)
    }

    pub(super) fn is_attempt_open(&self) -> bool {
        self.current_attempt()
            .is_some_and(|attempt| attempt.outcome.is_none())
    }

    /// Notes in the draft how the current attempt ended.
    pub(super) fn end_attempt(
        &mut self,
        outcome: AttemptOutcome,
        error_type: ErrorType,
        message: &str,
        now: Timestamp,
    ) {
        if let Some(last) = self.draft.attempts.last_mut() {
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
        if let Some(results) = &mut self.draft.execution_results {
            results.end_time = Some(MicroTime(now));
            results.pod_logs = Some(classify::cut(&failure.message, MESSAGE_MAX));
        }
        self.condition("JobComplete", false, "Failed", &failure.message, now);
        self.dirty = true;
        let Some(wait) = self.retry_after(failure) else {
            return self.fail(failure.error_type, &failure.message, now);
        };
        let attempt = self.draft.attempt.unwrap_or(1);
        self.draft.message = Some(format!(
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
        let attempts = &self.draft.attempts;
        let of = |wanted: &dyn Fn(&&Attempt) -> bool| attempts.iter().filter(wanted).count();
        let evicted = of(&|attempt| attempt.outcome == Some(AttemptOutcome::Evicted));
        // What a PodDisruptionBudget refuses is waited for, as a drain waits for it: as long as there is time.
        let refused = of(&|attempt| is_refused(attempt));
        let counted = attempts
            .len()
            .saturating_sub(evicted.min(UNCOUNTED_MAX) + refused);
        let allowed = usize::try_from(self.execution.spec.max_retries).unwrap_or(0);
        let nth = u32::try_from(self.draft.attempts.len()).unwrap_or(u32::MAX);
        let allowed = match failure.retry {
            _ if planted(Defect::RetryForever) => true,
            Retry::Never => false,
            Retry::Eviction if attempts.last().is_some_and(is_refused) => true,
            Retry::Eviction | Retry::Backoff | Retry::Uncounted => counted <= allowed,
        } && attempts.len() < ATTEMPTS_MAX;
        allowed.then(|| match failure.retry {
            Retry::Eviction => Duration::from_secs(u64::from(nth.min(3)) * 10),
            Retry::Never | Retry::Uncounted | Retry::Backoff => classify::backoff(nth),
        })
    }

    /// The last attempt failed and is recorded: wait, look at the target again, record the next one.
    pub(super) fn between_attempts(
        &mut self,
        checked: &Checked,
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
            retry: match attempt.outcome {
                Some(AttemptOutcome::Evicted) => Retry::Uncounted,
                _ if speaks_of_a_budget(attempt) => Retry::Eviction,
                _ => Retry::Backoff,
            },
        };
        let Some(wait) = self.retry_after(&failure) else {
            return self.fail(failure.error_type, &failure.message, now);
        };
        let at = later(attempt.end_time.as_ref().map_or(now, |time| time.0), wait);
        if now < at {
            self.before = None;
            return self.wait_until(at, "the next attempt");
        }
        if let Some(flow) = self.without_late_jobs(now, out) {
            return flow;
        }
        if let Some(flow) = self.take_slot(out) {
            return flow;
        }
        self.record_again(checked, now, out)
    }

    /// Records one more attempt, or the current one anew: on what is read now, and by the flags of now.
    pub(super) fn record_again(
        &mut self,
        checked: &Checked,
        now: Timestamp,
        out: &mut Vec<StepCommand>,
    ) -> Flow {
        if let Err(problems) = parameters::check(&self.execution, &self.settings) {
            return self.fail(ErrorType::ValidationError, &Problem::joined(&problems), now);
        }
        if let Some(flow) = self.without_rights(checked, Some(RIGHTS_AGE), now, out) {
            return flow;
        }
        match self.before.clone() {
            Some(Ok(before)) if checked.kind.definition().acts_on_pods && before.pods.is_empty() => {
                self.release_slot(out);
                self.verify_earlier(now)
            }
            Some(Ok(before)) => self.start_attempt(checked, &before, now),
            Some(Err(refusal)) => self.fail(refusal.error_type, &refusal.message, now),
            None => self.call(
                Purpose::Before { locked: true },
                ApiCommand::Read(before::reads_again(&self.execution, checked, self.scope(true))),
                out,
            ),
        }
    }
}

/// Not a drain's: kubectl goes on evicting by itself there, and these are its last words whatever ended it.
fn is_refused(attempt: &Attempt) -> bool {
    !attempt.pods.is_empty() && speaks_of_a_budget(attempt)
}

fn speaks_of_a_budget(attempt: &Attempt) -> bool {
    let message = attempt.message.as_deref();
    message.is_some_and(classify::is_refused_eviction)
}
