//! Attempt 0: the action is tried before it is done, or instead of it, and nothing is changed.

use std::time::Duration;

use jiff::Timestamp;
use kubernaut_crds::{
    AffectedResource, Attempt, AttemptOutcome, ConditionReason, ConditionType, ErrorType, EstimatedImpact,
    ExecutionDryRunResults, ExecutionPhase, ExecutionResults, MicroTime,
};

use super::StepCommand;
use super::attempts::{MESSAGE_MAX, affected};
use super::machine::{Flow, Hold, StepMachine};
use super::validate::Snapshot;
use crate::classify::cut;
use crate::duration::format_go;
use crate::job_run::{Ended, MIN_LEFT};
use crate::parameters::ValidatedExecution;
use crate::preflight::Preflight;
use crate::problem::Problem;
use crate::status_draft;
use crate::time::{DRY_RUN_TIME, later, seconds_between};

impl StepMachine {
    /// Whether the action is to be tried before it may be done: the execution is nothing else, or the policies ask for it.
    pub(super) fn wants_dry_run(&self) -> bool {
        self.is_only_tried() || self.validation.requires_dry_run()
    }

    /// Nothing follows on the dry run.
    fn is_only_tried(&self) -> bool {
        self.execution.spec.dry_run == Some(true)
    }

    /// The next attempt to be recorded is the dry run.
    pub(super) fn is_dry_run_next(&self) -> bool {
        match self.current_attempt() {
            Some(attempt) => attempt.is_dry_run() && attempt.is_open(),
            None => self.wants_dry_run(),
        }
    }

    /// The dry run that runs, or that ended as the whole execution shall.
    pub(super) fn dry_run(&self) -> Option<Attempt> {
        let attempt = self.current_attempt().filter(|attempt| attempt.is_dry_run())?;
        let goes_on = attempt.outcome == Some(AttemptOutcome::Succeeded) && !self.is_only_tried();
        (!goes_on).then(|| attempt.clone())
    }

    /// Records the dry run; its Job is made when the record is in the cluster. It counts for nothing: neither the timeout of
    /// the step nor its retries know of it, and it records no way back, since nothing is changed.
    pub(super) fn start_dry_run(
        &mut self,
        checked: &ValidatedExecution,
        preflight: &Preflight,
        now: Timestamp,
    ) -> Flow {
        let recorded = self.current_attempt();
        let deadline = recorded.map_or(later(now, DRY_RUN_TIME), |attempt| attempt.deadline.0);
        if deadline.duration_since(now) < MIN_LEFT {
            return self.out_of_dry_run_time(now);
        }
        let attempt = match self.attempt_of(0, deadline, checked, preflight, now) {
            Ok(attempt) => attempt,
            Err(error) => return self.fail(ErrorType::ValidationError, &error.to_string(), now),
        };
        let results = self
            .status
            .draft
            .validation_results
            .get_or_insert_with(Default::default);
        results
            .dry_run_results
            .get_or_insert_with(Default::default)
            .estimated_impact = Some(EstimatedImpact {
            resources_affected: i32::try_from(preflight.affected()).unwrap_or(i32::MAX),
            description: Some(cut(&preflight.impact, status_draft::MESSAGE_MAX)),
        });
        if self.is_only_tried() {
            let results = self
                .status
                .draft
                .execution_results
                .get_or_insert_with(ExecutionResults::default);
            results.start_time.get_or_insert(MicroTime(now));
            results.job_name = Some(attempt.job_name.clone());
            let words = |words: &str| Some(words.to_owned()).filter(|words| !words.is_empty());
            results.resources_affected = vec![AffectedResource {
                after: words(&preflight.wanted),
                ..affected(checked, preflight)
            }];
        }
        if self.status.draft.phase == Some(ExecutionPhase::WaitingApproval) {
            self.enter(ExecutionPhase::Validated, now);
        }
        self.status.draft.attempt = Some(0);
        self.status.draft.job_name = Some(attempt.job_name.clone());
        if !attempt.waits_for_quota() {
            self.status.draft.message = Some(format!("dry run: {}", preflight.impact));
        }
        self.record(attempt);
        self.status.is_due = true;
        Flow::Again
    }

    /// The dry run is recorded: its Job is run, and how it ends decides.
    pub(super) fn trying(&mut self, attempt: &Attempt, now: Timestamp, out: &mut Vec<StepCommand>) -> Flow {
        let checked = match self.check() {
            Ok(checked) => checked,
            Err(problems) => return self.fail(ErrorType::ValidationError, &Problem::joined(&problems), now),
        };
        if !attempt.is_open() {
            // The write that ends the attempt ends the execution, too.
            return self.fail(
                ErrorType::UnknownError,
                "status.attempts was edited after the dry run",
                now,
            );
        }
        match &self.waits.lock {
            Hold::None => return self.acquire_lock(out),
            Hold::Asked | Hold::Busy(_) => return Flow::Wait,
            Hold::Held => {}
        }
        match self.run_job(&checked, attempt, now, out) {
            Ok(ended) => self.tried(attempt, &ended, now),
            Err(flow) => flow,
        }
    }

    fn tried(&mut self, attempt: &Attempt, ended: &Ended, now: Timestamp) -> Flow {
        match ended {
            Ended::Success { said } => self.dry_run_succeeded(said.as_deref(), now),
            Ended::Failure(failure) => {
                self.dry_run_failed(AttemptOutcome::Failed, failure.error_type, &failure.message, now)
            }
            Ended::Lost => {
                let message = format!(
                    "Job {} vanished: somebody deleted it, or it was never made",
                    attempt.job_name
                );
                self.dry_run_failed(AttemptOutcome::Lost, ErrorType::JobLost, &message, now)
            }
        }
    }

    fn dry_run_succeeded(&mut self, said: Option<&str>, now: Timestamp) -> Flow {
        if let Some(last) = self.status.draft.attempts.last_mut() {
            last.end_time = Some(MicroTime(now));
            last.outcome = Some(AttemptOutcome::Succeeded);
        }
        let results = self.dry_run_results();
        results.performed = true;
        results.success = true;
        let impact = results
            .estimated_impact
            .as_ref()
            .and_then(|impact| impact.description.clone())
            .unwrap_or_default();
        self.status.is_due = true;
        if !self.is_only_tried() {
            self.status.draft.message = Some("the dry run succeeded".to_owned());
            // The target was read before it.
            self.validation.snapshot = Snapshot::Unread;
            return Flow::Again;
        }
        let message = cut(
            &format!("dry run succeeded, nothing was changed: {impact}"),
            status_draft::MESSAGE_MAX,
        );
        self.enter(ExecutionPhase::Completed, now);
        self.status.draft.completion_time = Some(MicroTime(now));
        self.status.draft.message = Some(message.clone());
        if let Some(results) = &mut self.status.draft.execution_results {
            results.success = true;
            results.end_time = Some(MicroTime(now));
            results.pod_logs = said.map(|said| cut(said, MESSAGE_MAX));
            results.duration = results
                .start_time
                .as_ref()
                .map(|start| format_go(Duration::from_secs_f64(seconds_between(start.0, now))));
        }
        self.condition(
            ConditionType::JobComplete,
            true,
            ConditionReason::Succeeded,
            "",
            now,
        );
        self.condition(
            ConditionType::Succeeded,
            true,
            ConditionReason::DryRun,
            &message,
            now,
        );
        Flow::Again
    }

    /// What was only tried and failed changed nothing either: no object is named as affected.
    pub(super) fn dry_run_failed(
        &mut self,
        outcome: AttemptOutcome,
        error_type: ErrorType,
        message: &str,
        now: Timestamp,
    ) -> Flow {
        self.end_attempt(outcome, error_type, message, now);
        let results = self.dry_run_results();
        results.performed = true;
        results.success = false;
        results.estimated_impact = None;
        results.errors = vec![cut(message, status_draft::MESSAGE_MAX)];
        if let Some(results) = &mut self.status.draft.execution_results {
            results.resources_affected.clear();
            results.pod_logs = Some(cut(message, MESSAGE_MAX));
        }
        self.condition(
            ConditionType::JobComplete,
            false,
            ConditionReason::Failed,
            message,
            now,
        );
        // Whoever stopped it knows that it did not fail by itself.
        let message = if error_type == ErrorType::Cancelled {
            message.to_owned()
        } else {
            format!("the dry run failed: {message}")
        };
        self.fail(error_type, &message, now)
    }

    fn out_of_dry_run_time(&mut self, now: Timestamp) -> Flow {
        let quota = self.current_attempt().is_some_and(Attempt::waits_for_quota);
        let error_type = if quota {
            ErrorType::ResourceQuotaExceeded
        } else {
            ErrorType::Timeout
        };
        let last = self.status.draft.message.clone().unwrap_or_default();
        let message = format!(
            "its Job could not be made within the {} s of a dry run; last: {last}",
            DRY_RUN_TIME.as_secs()
        );
        self.dry_run_failed(AttemptOutcome::Failed, error_type, &message, now)
    }

    fn dry_run_results(&mut self) -> &mut ExecutionDryRunResults {
        let results = self
            .status
            .draft
            .validation_results
            .get_or_insert_with(Default::default);
        results.dry_run_results.get_or_insert_with(Default::default)
    }
}
