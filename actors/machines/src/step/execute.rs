//! executing: one Job for each attempt, recorded before it is made.

use std::time::Duration;

use jiff::Timestamp;
use kubernaut_crds::{
    AffectedResource, Attempt, AttemptOutcome, ErrorType, ExecutionPhase, ExecutionResults, MicroTime, PodRef,
};

use super::StepCommand;
use super::machine::{Flow, Hold, JobKnowledge, Purpose, StepMachine, later};
use super::status::publish;
use super::validate::CANCELLED;
use crate::actions::ActionKind;
use crate::before::{self, Before};
use crate::classify::{self, Failure, Retry};
use crate::job_view::{JobEnd, JobView};
use crate::outcome::{ApiCommand, ApiFailure, FailureClass};
use crate::parameters::Checked;
use crate::render;

/// A Job that a create may still bring: the API server's own request time-out.
const CREATE_WINDOW: Duration = Duration::from_secs(60);
/// After its deadline a pod gets this long to be confirmed stopped.
pub(super) const UNREACHABLE_AFTER: Duration = Duration::from_secs(60);
/// Evictions of the executor's own pod that are not counted against maxRetries.
const UNCOUNTED_MAX: usize = 3;

/// No attempt starts with less than this left of the timeout.
const MIN_LEFT: jiff::SignedDuration = jiff::SignedDuration::from_secs(1);

/// How the current attempt ended, before the status says so.
#[derive(Clone, Debug)]
pub(super) enum Ended {
    /// kubectl ended well.
    Success { said: Option<String> },
    /// kubectl failed, or never ran.
    Failure(Failure),
    /// The Job vanished.
    Lost,
}

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
            let last = self
                .current_attempt()
                .and_then(|attempt| attempt.message.clone())
                .unwrap_or_default();
            let message = format!(
                "the timeout of {} is used up; last: {last}",
                self.execution.spec.timeout
            );
            return self.fail(ErrorType::Timeout, &message, now);
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
            target_generation: before.generation,
            start_time: MicroTime(now),
            deadline: MicroTime(deadline),
            pods: self.remaining_pods(before),
            restarted_at: (checked.kind == ActionKind::RolloutRestart)
                .then(|| now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
            end_time: None,
            outcome: None,
            error_type: None,
            message: None,
        };
        match render::render(&self.execution, &checked.action, &attempt, &self.settings) {
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
        self.draft.message = Some(if number == 1 {
            before.impact.clone()
        } else {
            format!("attempt {number}: {}", before.impact)
        });
        match self.draft.attempts.last_mut() {
            Some(last) if last.attempt == number => *last = attempt,
            _ => self.draft.attempts.push(attempt),
        }
        self.enter(ExecutionPhase::Executing, now);
        self.dirty = true;
        Flow::Again
    }

    /// Later attempts take those pods of the first one that are still there.
    fn remaining_pods(&self, before: &Before) -> Vec<PodRef> {
        let Some(first) = self.draft.attempts.first() else {
            return before.pods.clone();
        };
        first
            .pods
            .iter()
            .filter(|pod| before.pods.iter().any(|now| now.uid == pod.uid))
            .cloned()
            .collect()
    }

    pub(super) fn executing(&mut self, now: Timestamp, out: &mut Vec<StepCommand>) -> Flow {
        let checked = match self.check() {
            Ok(checked) => checked,
            // The flags changed under a running step: what runs is looked after all the same, by its record.
            Err(problems) => return self.fail(ErrorType::ValidationError, &problems.join("; "), now),
        };
        match &self.lock {
            Hold::None => return self.acquire_lock(out),
            Hold::Asked | Hold::Busy(_) => return Flow::Wait,
            Hold::Held => {}
        }
        let Some(attempt) = self.current_attempt().cloned() else {
            return self.fail(
                ErrorType::UnknownError,
                "status.attempts is empty while executing: it was edited",
                now,
            );
        };
        if attempt.outcome.is_some() {
            return self.between_attempts(&checked, &attempt, now, out);
        }
        match &self.slot {
            Hold::None => {
                self.slot = Hold::Asked;
                out.push(StepCommand::AcquireSlot);
                return Flow::Wait;
            }
            Hold::Asked | Hold::Busy(_) => return Flow::Wait,
            Hold::Held => {}
        }
        if let Some(ended) = self.ended.clone() {
            return self.conclude(&checked, &attempt, &ended, now, out);
        }
        let view = self.view_of(&attempt).cloned();
        let Some(view) = view else {
            return self.without_job(&checked, &attempt, now, out);
        };
        if !self.is_ours(&view) || view.hash.as_deref() != Some(attempt.job_hash.as_str()) {
            let message = format!(
                "a Job {} exists in namespace {} that this attempt did not make; it was left alone",
                view.name, self.settings.executor_namespace
            );
            return self.fail(ErrorType::ResourceConflict, &message, now);
        }
        match &view.end {
            Some(JobEnd::Succeeded { message }) => {
                self.ended = Some(Ended::Success {
                    said: Some(message.clone()).filter(|m| !m.is_empty()),
                });
                Flow::Again
            }
            Some(end) if self.abandon.is_none() => {
                let failure = classify::classify(end, checked.kind);
                self.ended = Some(Ended::Failure(self.redacted(failure)));
                Flow::Again
            }
            _ => self.supervise(&attempt, &view, now, out),
        }
    }

    /// The store's view; where the store has not caught up, what a create or a live read gave.
    pub(super) fn view_of(&self, attempt: &Attempt) -> Option<&JobView> {
        // Pods and Jobs come by two watches: a pod may be seen before its Job. That is no Job yet, nor a stranger.
        let stored = self
            .jobs
            .get(&attempt.job_name)
            .filter(|view| !view.uid.is_empty());
        stored.or(self
            .job
            .found
            .as_ref()
            .filter(|view| view.name == attempt.job_name))
    }

    pub(super) fn is_ours(&self, view: &JobView) -> bool {
        view.execution_uid == self.execution.metadata.uid
    }

    /// No Job in sight: make it, wait for the store, or find out that it is gone.
    fn without_job(
        &mut self,
        checked: &Checked,
        attempt: &Attempt,
        now: Timestamp,
        out: &mut Vec<StepCommand>,
    ) -> Flow {
        if let Some(until) = self.quota_until {
            return self.after_quota(checked, until, now, out);
        }
        if self.job.just_recorded {
            return self.create_job(checked, attempt, now, out);
        }
        if !self.job.absent {
            return self.find_job(attempt, out);
        }
        if self.jobs.get(&attempt.job_name).is_some_and(|view| view.live) {
            // The Job is gone, a pod of it is not: what it does is not over.
            return self.wait_until(later(now, UNREACHABLE_AFTER), "a pod whose Job is gone");
        }
        if let Some(failure) = self.abandon.clone() {
            self.ended = Some(Ended::Failure(failure));
        } else if self.job.store_had || now >= later(attempt.start_time.0, CREATE_WINDOW) {
            // It was there, or it can never come any more.
            self.ended = Some(Ended::Lost);
        } else {
            return self.create_job(checked, attempt, now, out);
        }
        Flow::Again
    }

    fn find_job(&mut self, attempt: &Attempt, out: &mut Vec<StepCommand>) -> Flow {
        let command = ApiCommand::GetJob {
            name: attempt.job_name.clone(),
            execution_uid: self.uid(),
        };
        self.call(Purpose::FindJob, command, out)
    }

    fn create_job(
        &mut self,
        checked: &Checked,
        attempt: &Attempt,
        now: Timestamp,
        out: &mut Vec<StepCommand>,
    ) -> Flow {
        if self.execution.spec.shutdown.is_some() && self.job.just_recorded {
            return self.fail(ErrorType::Cancelled, CANCELLED, now);
        }
        let rendered = match render::render(&self.execution, &checked.action, attempt, &self.settings) {
            Ok(rendered) if rendered.hash == attempt.job_hash => rendered,
            // The controller was upgraded or configured anew between record and Job.
            Ok(_) | Err(_) => {
                self.ended = Some(Ended::Lost);
                return Flow::Again;
            }
        };
        self.job.just_recorded = false;
        let command = ApiCommand::CreateJob {
            job: Box::new(rendered.job),
            secret: rendered.secret.map(Box::new),
        };
        self.call(Purpose::CreateJob, command, out)
    }

    pub(super) fn job_created(&mut self, view: JobView, fresh: bool, out: &mut Vec<StepCommand>) {
        if fresh {
            out.push(publish(
                "JobCreated",
                false,
                "Execute",
                &format!("Job {} made", view.name),
            ));
        }
        self.job_found(Some(view));
    }

    pub(super) fn job_found(&mut self, found: Option<JobView>) {
        self.job.absent = found.is_none();
        if found.is_some() {
            // What was seen once and is gone later has vanished: it is never made again.
            self.job.store_had = true;
        }
        self.job.found = found;
    }

    /// The create was answered with an error.
    pub(super) fn job_refused(&mut self, now: Timestamp, failure: &ApiFailure) {
        let failed = |error_type, retry| Failure {
            error_type,
            message: failure.message.clone(),
            retry,
        };
        match failure.class {
            // It may have been made: look.
            FailureClass::Unknown | FailureClass::Conflict => {
                self.job = JobKnowledge {
                    absent: false,
                    ..JobKnowledge::default()
                };
                self.pause(now);
            }
            FailureClass::Throttled => {
                self.job.just_recorded = true;
                self.pause(now);
            }
            // Nothing was made: the attempt is recorded anew when the quota may have room, within the budget.
            FailureClass::Quota => {
                self.quota_waits += 1;
                self.quota_until = Some(later(now, classify::backoff(self.quota_waits + 2)));
                self.before = None;
                self.draft.message = Some(format!("waits for quota: {}", failure.message));
                self.dirty = self.quota_waits == 1;
            }
            FailureClass::Forbidden => {
                self.ended = Some(Ended::Failure(failed(
                    ErrorType::InsufficientPermissions,
                    Retry::Never,
                )));
            }
            FailureClass::NotFound => {
                self.ended = Some(Ended::Failure(failed(ErrorType::ResourceNotFound, Retry::Never)));
            }
            FailureClass::Rejected => {
                self.ended = Some(Ended::Failure(failed(ErrorType::JobFailed, Retry::Never)));
            }
        }
    }

    /// The create was refused for quota: the attempt is recorded anew, so that its window for a late create begins
    /// again, as long as the timeout lasts.
    fn after_quota(
        &mut self,
        checked: &Checked,
        until: Timestamp,
        now: Timestamp,
        out: &mut Vec<StepCommand>,
    ) -> Flow {
        if now < until {
            return self.wait_until(until, "room in a quota");
        }
        match self.before.clone() {
            Some(Ok(before)) => {
                self.quota_until = None;
                let flow = self.start_attempt(checked, &before, now);
                if self.draft.error_type == Some(ErrorType::Timeout) {
                    self.draft.error_type = Some(ErrorType::ResourceQuotaExceeded);
                }
                flow
            }
            Some(Err(refusal)) => self.fail(refusal.error_type, &refusal.message, now),
            None => self.call(
                Purpose::Before { locked: true },
                ApiCommand::Read(before::reads_before(checked)),
                out,
            ),
        }
    }

    /// The Job is over, or was given up: is it gone, was its effect seen, is there another attempt?
    fn conclude(
        &mut self,
        checked: &Checked,
        attempt: &Attempt,
        ended: &Ended,
        now: Timestamp,
        out: &mut Vec<StepCommand>,
    ) -> Flow {
        if checked.kind == ActionKind::UpdateSecret && !self.secret_deleted {
            let command = ApiCommand::DeleteSecret {
                name: attempt.job_name.clone(),
                execution_uid: self.uid(),
            };
            return self.call(Purpose::DeleteSecret, command, out);
        }
        if let Ended::Failure(_) = ended
            && let Some(view) = self.view_of(attempt).cloned()
            && view.live
        {
            if !view.deleting && !self.job.delete_sent {
                let command = ApiCommand::DeleteJob {
                    name: view.name,
                    uid: view.uid,
                };
                return self.call(Purpose::DeleteJob, command, out);
            }
            let give_up = later(attempt.deadline.0, UNREACHABLE_AFTER);
            if now >= give_up {
                return self.unreachable(&view, now);
            }
            return self.wait_until(give_up, "a Job that is being deleted");
        }
        if self.slot != Hold::None {
            self.slot = Hold::None;
            out.push(StepCommand::ReleaseSlot);
        }
        self.look_after(checked, attempt, ended, now, out)
    }

    /// The attempt failed and its effect is not there.
    pub(super) fn attempt_failed(
        &mut self,
        failure: &Failure,
        outcome: AttemptOutcome,
        now: Timestamp,
    ) -> Flow {
        if let Some(last) = self.draft.attempts.last_mut() {
            last.end_time = Some(MicroTime(now));
            last.outcome = Some(outcome);
            last.error_type = Some(failure.error_type);
            last.message = Some(classify::cut(&failure.message, MESSAGE_MAX));
        }
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
        if self.execution.spec.shutdown.is_some() {
            return None;
        }
        let evicted = self
            .draft
            .attempts
            .iter()
            .filter(|a| a.outcome == Some(AttemptOutcome::Evicted))
            .count();
        let counted = self
            .draft
            .attempts
            .len()
            .saturating_sub(evicted.min(UNCOUNTED_MAX));
        let allowed = usize::try_from(self.execution.spec.max_retries).unwrap_or(0);
        let nth = u32::try_from(self.draft.attempts.len()).unwrap_or(u32::MAX);
        let allowed = failure.retry != Retry::Never && counted <= allowed;
        allowed.then(|| match failure.retry {
            Retry::Eviction => Duration::from_secs(u64::from(nth.min(3)) * 10),
            Retry::Never | Retry::Uncounted | Retry::Backoff => classify::backoff(nth),
        })
    }

    /// The last attempt failed and is recorded: wait, look at the target again, record the next one.
    fn between_attempts(
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
        if self.execution.spec.shutdown.is_some() {
            return self.fail(
                ErrorType::Cancelled,
                "stopped by spec.shutdown: no further attempt starts",
                now,
            );
        }
        let failure = Failure {
            error_type: attempt.error_type.unwrap_or(ErrorType::UnknownError),
            message: attempt.message.clone().unwrap_or_default(),
            retry: match attempt.outcome {
                Some(AttemptOutcome::Evicted) => Retry::Uncounted,
                _ if attempt
                    .message
                    .as_deref()
                    .is_some_and(classify::is_refused_eviction) =>
                {
                    Retry::Eviction
                }
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
        match &self.slot {
            Hold::None => {
                self.slot = Hold::Asked;
                out.push(StepCommand::AcquireSlot);
                return Flow::Wait;
            }
            Hold::Asked | Hold::Busy(_) => return Flow::Wait,
            Hold::Held => {}
        }
        match self.before.clone() {
            Some(Ok(before)) => self.start_attempt(checked, &before, now),
            Some(Err(refusal)) => self.fail(refusal.error_type, &refusal.message, now),
            None => self.call(
                Purpose::Before { locked: true },
                ApiCommand::Read(before::reads_before(checked)),
                out,
            ),
        }
    }

    fn redacted(&self, mut failure: Failure) -> Failure {
        let secrets: Vec<&str> = self
            .execution
            .spec
            .parameters
            .update_secret
            .iter()
            .flat_map(|update| update.data.values().map(kubernaut_crds::Sensitive::expose))
            .collect();
        failure.message = classify::redact(&failure.message, &secrets);
        failure
    }
}

/// What is kept of kubectl's words (the executor's specification, 3).
pub(super) const MESSAGE_MAX: usize = 4096;
