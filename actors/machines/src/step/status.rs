//! How the draft of a status is changed and written.

use std::sync::Arc;

use jiff::Timestamp;
use kubernaut_crds::{
    Attempt, AttemptOutcome, ConditionReason, ConditionType, ErrorType, ExecutionPhase, KubernetesExecution,
    MicroTime, names,
};
use serde_json::json;

use super::machine::{Flow, Hold, Purpose, StepMachine};
use super::verify::Outcome;
use super::{StepCommand, is_lock_released};
use crate::announcement::{Announcement, EventRecord};
use crate::api_command::{ApiCommand, ApiFailure};
use crate::classify::cut;
use crate::defect::{Defect, planted};
use crate::job_run::UNREACHABLE_AFTER;
use crate::owner::controlling_workflow;
use crate::status_draft::{Entered, MESSAGE_MAX};
use crate::time::{later, seconds_between};

impl StepMachine {
    /// Notes a phase in the draft.
    pub(super) fn enter(&mut self, phase: ExecutionPhase, now: Timestamp) {
        self.status.enter(phase, self.execution.metadata.generation, now);
    }

    pub(super) fn condition(
        &mut self,
        kind: ConditionType,
        holds: bool,
        reason: ConditionReason,
        message: &str,
        now: Timestamp,
    ) {
        let generation = self.execution.metadata.generation;
        self.status
            .condition(kind, holds, reason, message, generation, now);
    }

    /// Ends the execution as failed.
    pub(super) fn fail(&mut self, error_type: ErrorType, message: &str, now: Timestamp) -> Flow {
        let message = if planted(Defect::FailWithoutReason) {
            String::new()
        } else {
            cut(message, names::TEXT_MAX)
        };
        self.enter(ExecutionPhase::Failed, now);
        self.status.draft.completion_time = Some(MicroTime(now));
        self.status.draft.failure_reason = Some(message.clone());
        self.status.draft.error_type = Some(error_type);
        self.status.draft.message = Some(message.clone());
        if let Some(results) = &mut self.status.draft.execution_results {
            results.success = false;
            results.error_message = Some(message.clone());
            results.end_time.get_or_insert(MicroTime(now));
        }
        self.condition(
            ConditionType::Succeeded,
            false,
            ConditionReason::Failed,
            &message,
            now,
        );
        self.status.is_due = true;
        Flow::Again
    }

    /// Sends the draft as a merge patch.
    pub(super) fn write(&mut self, out: &mut Vec<StepCommand>) -> Flow {
        let version = self.execution.metadata.resource_version.as_deref();
        let Some(mut patch) = self.status.send(version) else {
            return Flow::Again;
        };
        if planted(Defect::WriteBlindly) {
            patch["metadata"] = json!({});
        }
        let execution = self.execution.clone();
        self.call(
            Purpose::Write,
            ApiCommand::WriteExecutionStatus { execution, patch },
            out,
        )
    }

    /// The API server will not have the status: what ends the execution, and nothing else, it may.
    pub(super) fn status_refused(&mut self, now: Timestamp, failure: &ApiFailure) {
        self.status.refused();
        self.status.discard();
        self.enter(self.status.draft.phase.unwrap_or(ExecutionPhase::Validating), now);
        let message = format!(
            "the API server refused the status of this execution: {}",
            failure.message
        );
        if self.is_attempt_open() {
            self.end_attempt(AttemptOutcome::Failed, ErrorType::UnknownError, &message, now);
        }
        self.fail(ErrorType::UnknownError, &message, now);
    }

    /// The write was taken.
    pub(super) fn written(&mut self, execution: Arc<KubernetesExecution>, out: &mut Vec<StepCommand>) {
        let before = self.status.written(execution.status.clone().unwrap_or_default());
        self.execution = execution;
        self.announce(out);
        self.tell_of_release(&before, out);
        for (index, attempt) in self.status.persisted.attempts.iter().enumerate() {
            let known = before
                .attempts
                .get(index)
                .is_some_and(|known| known.outcome.is_some());
            if let (false, Some(outcome)) = (known, attempt.outcome) {
                let message = attempt.message.clone().unwrap_or_default();
                if outcome != AttemptOutcome::Succeeded {
                    let what = if attempt.is_dry_run() {
                        "the dry run failed".to_owned()
                    } else {
                        format!("attempt {} failed", attempt.attempt)
                    };
                    let note = told_elsewhere(&what, attempt.error_type);
                    out.push(publish("AttemptFailed", true, "Execute", &note));
                }
                let end = attempt
                    .end_time
                    .as_ref()
                    .map_or(attempt.start_time.0, |time| time.0);
                out.push(StepCommand::Announce(Announcement::Attempt {
                    action: self.action_name(),
                    attempt: attempt.attempt,
                    outcome,
                    error_type: attempt.error_type,
                    seconds: seconds_between(attempt.start_time.0, end),
                    message,
                }));
            }
        }
        let last = self.status.persisted.attempts.last();
        let is_new = |attempt: &Attempt| {
            !before
                .attempts
                .last()
                .is_some_and(|before| before.is_same_record(attempt))
        };
        if last.is_some_and(|attempt| attempt.outcome.is_none() && is_new(attempt)) {
            self.run.recorded();
            self.outcome = Outcome::default();
            self.waits.told = None;
        }
        out.push(StepCommand::Report(self.execution.clone()));
    }

    fn announce(&mut self, out: &mut Vec<StepCommand>) {
        let entered = self.status.entered();
        let status = &self.status.persisted;
        for Entered {
            phase,
            before,
            is_last,
        } in &entered
        {
            let (phase, before) = (*phase, *before);
            let failed = phase == ExecutionPhase::Failed;
            let message = status.message.as_deref().filter(|_| *is_last).unwrap_or_default();
            out.push(StepCommand::Announce(Announcement::Execution {
                phase,
                before,
                action: self.action_name(),
                attempt: status.attempt.unwrap_or(0),
                error_type: if failed { status.error_type } else { None },
                message: message.to_owned(),
            }));
            if failed && before.is_some_and(|(before, _)| before == ExecutionPhase::Validating) {
                let note = told_elsewhere("validation failed", status.error_type);
                out.push(publish("ValidationFailed", true, "Validate", &note));
            }
            if failed && status.error_type == Some(ErrorType::ApprovalRejected) {
                let note = told_elsewhere("rejected", None);
                out.push(publish("Rejected", true, "Approve", &note));
            }
            match phase {
                // In a workflow that tells of its steps.
                ExecutionPhase::Executing | ExecutionPhase::Completed
                    if controlling_workflow(&self.execution).is_some() => {}
                ExecutionPhase::Executing => {
                    out.push(publish("ExecutionStarted", false, "Execute", "started"));
                }
                ExecutionPhase::Completed => {
                    out.push(publish("ExecutionCompleted", false, "Execute", "completed"));
                }
                ExecutionPhase::Failed => {
                    if status.error_type == Some(ErrorType::PolicyDenied) {
                        let note = told_elsewhere("the policy does not allow it", status.error_type);
                        out.push(publish("PolicyDenied", true, "Validate", &note));
                    }
                    let note = told_elsewhere("failed", status.error_type);
                    out.push(publish("ExecutionFailed", true, "Execute", &note));
                }
                ExecutionPhase::WaitingApproval => {
                    let note = told_elsewhere("waits for approval", None);
                    out.push(publish("ApprovalRequired", false, "Approve", &note));
                }
                ExecutionPhase::Validating | ExecutionPhase::Validated | ExecutionPhase::RollbackReady => {}
            }
        }
    }

    pub(super) fn action_name(&self) -> &'static str {
        self.checked
            .as_ref()
            .map_or("unknown", |checked| checked.kind.canonical())
    }

    /// Nothing is left to run. A Job that could not be confirmed stopped keeps the lock.
    pub(super) fn terminal(&mut self, now: Timestamp, out: &mut Vec<StepCommand>) -> Flow {
        let live = self.run.live().cloned();
        let Some(job) = live.filter(|_| !is_lock_released(&self.execution)) else {
            // When somebody else wrote that it has ended.
            if let Some(attempt) = self.run.open_payload(&self.status.persisted).cloned() {
                return self.delete_payload(&attempt, now, out);
            }
            return self.stop(out);
        };
        if self.waits.lock == Hold::None {
            return self.acquire_lock(out);
        }
        if let Some(next) = self.run.delete_left(&job) {
            return self.follow(next, now, out);
        }
        self.free_the_slot_of_a_lost_node_in_time(now, out);
        self.wait_until(later(now, UNREACHABLE_AFTER), "a Job that does not stop")
    }
}

/// Whoever has the built-in role view reads Events, and is kept from executions and workflows: what kubectl, a webhook or a
/// kubelet said stands in their status alone.
pub(crate) fn told_elsewhere(what: &str, error_type: Option<ErrorType>) -> String {
    let class = error_type.map_or_else(String::new, |error| format!(" ({})", error.as_str()));
    format!("{what}{class}; its status says why")
}

pub(super) fn publish(reason: &'static str, warning: bool, action: &'static str, note: &str) -> StepCommand {
    StepCommand::Publish(EventRecord {
        reason,
        warning,
        action,
        note: cut(note, MESSAGE_MAX),
        related: None,
    })
}
