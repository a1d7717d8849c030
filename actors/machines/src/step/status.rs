//! How the draft of a status is changed and written.

use std::sync::Arc;

use jiff::Timestamp;
use kubernaut_crds::{
    AttemptOutcome, Condition, ErrorType, ExecutionPhase, KubernetesExecution, MicroTime, PhaseTransition,
    names,
};
use serde_json::{Value, json};

use super::machine::{Creates, Flow, Hold, JobKnowledge, Purpose, StepMachine};
use super::{StepCommand, is_lock_released};
use crate::classify::cut;
use crate::defect::{Defect, planted};
use crate::outcome::{Announcement, ApiCommand, ApiFailure, EventRecord, merge_patch};

/// Longest message of a condition.
const CONDITION_MAX: usize = 1000;

impl StepMachine {
    /// Notes a phase in the draft.
    pub(super) fn enter(&mut self, phase: ExecutionPhase, now: Timestamp) {
        if self.draft.phase == Some(phase) {
            return;
        }
        self.draft.phase = Some(phase);
        if planted(Defect::SkipValidated) && phase == ExecutionPhase::Validated {
            return;
        }
        push_transition(&mut self.draft.phase_transitions, phase.as_str(), now);
        self.draft.observed_generation = self.execution.metadata.generation;
    }

    pub(super) fn condition(&mut self, kind: &str, holds: bool, reason: &str, message: &str, now: Timestamp) {
        let generation = self.execution.metadata.generation;
        set_condition(
            &mut self.draft.conditions,
            kind,
            holds,
            reason,
            message,
            generation,
            now,
        );
    }

    /// Ends the execution as failed.
    pub(super) fn fail(&mut self, error_type: ErrorType, message: &str, now: Timestamp) -> Flow {
        let message = if planted(Defect::FailWithoutReason) {
            String::new()
        } else {
            cut(message, names::TEXT_MAX)
        };
        self.enter(ExecutionPhase::Failed, now);
        self.draft.completion_time = Some(MicroTime(now));
        self.draft.failure_reason = Some(message.clone());
        self.draft.error_type = Some(error_type);
        self.draft.message = Some(message.clone());
        if let Some(results) = &mut self.draft.execution_results {
            results.success = false;
            results.error_message = Some(message.clone());
            results.end_time.get_or_insert(MicroTime(now));
        }
        self.condition("Succeeded", false, "Failed", &message, now);
        self.dirty = true;
        Flow::Again
    }

    /// Sends the draft as a merge patch.
    pub(super) fn write(&mut self, out: &mut Vec<StepCommand>) -> Flow {
        let old = serde_json::to_value(&self.persisted).unwrap_or_default();
        let mut new = serde_json::to_value(&self.draft).unwrap_or_default();
        if fit(&mut new) {
            // What comes back is compared with the draft.
            self.draft = serde_json::from_value(new.clone()).unwrap_or_else(|_| self.draft.clone());
        }
        let Some(change) = merge_patch(&old, &new) else {
            self.dirty = false;
            return Flow::Again;
        };
        let mut patch = json!({"metadata": {"resourceVersion": self.execution.metadata.resource_version}, "status": change});
        if planted(Defect::WriteBlindly) {
            patch["metadata"] = json!({});
        }
        self.call(
            Purpose::Write,
            ApiCommand::WriteExecutionStatus {
                execution: self.execution.clone(),
                patch,
            },
            out,
        )
    }

    /// The API server will not have the status: what ends the execution, and nothing else, it may.
    pub(super) fn status_refused(&mut self, now: Timestamp, failure: &ApiFailure) {
        self.refused = true;
        self.draft = self.persisted.clone();
        self.enter(self.draft.phase.unwrap_or(ExecutionPhase::Validating), now);
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
        let before = std::mem::take(&mut self.persisted);
        self.persisted = execution.status.clone().unwrap_or_default();
        self.execution = execution;
        self.draft = self.persisted.clone();
        self.dirty = false;
        self.refused = false;
        self.announce(out);
        for (index, attempt) in self.persisted.attempts.iter().enumerate() {
            let known = before
                .attempts
                .get(index)
                .is_some_and(|known| known.outcome.is_some());
            if let (false, Some(outcome)) = (known, attempt.outcome) {
                let message = attempt.message.clone().unwrap_or_default();
                if outcome != kubernaut_crds::AttemptOutcome::Succeeded {
                    let what = format!("attempt {} failed", attempt.attempt);
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
        if before.rollback_information.is_none()
            && self
                .persisted
                .rollback_information
                .as_ref()
                .is_some_and(|r| r.available)
        {
            out.push(publish(
                "RollbackPrepared",
                false,
                "Execute",
                "the state before is recorded",
            ));
        }
        let last = self.persisted.attempts.last();
        if last.is_some_and(|attempt| attempt.outcome.is_none()) && last != before.attempts.last() {
            self.job = JobKnowledge {
                creates: Creates::None,
                ..JobKnowledge::default()
            };
            self.wait_noted = None;
            self.ended = None;
            self.abandon = None;
            self.explained_at = None;
            self.secret_deleted = false;
            self.look = None;
        }
        out.push(StepCommand::Report(self.execution.clone()));
    }

    fn announce(&mut self, out: &mut Vec<StepCommand>) {
        let transitions = self.persisted.phase_transitions.clone();
        // One event for the phases of one write.
        let mut way: Vec<&'static str> = Vec::new();
        for index in self.announced..transitions.len() {
            let Some(phase) = phase_of(&transitions[index]) else {
                continue;
            };
            let before = index
                .checked_sub(1)
                .and_then(|i| transitions.get(i))
                .and_then(|earlier| {
                    Some((
                        phase_of(earlier)?,
                        seconds_between(earlier.time.0, transitions[index].time.0),
                    ))
                });
            let failed = phase == ExecutionPhase::Failed;
            let message = self.persisted.message.clone().unwrap_or_default();
            out.push(StepCommand::Announce(Announcement::Execution {
                phase,
                before,
                action: self.action_name(),
                attempt: self.persisted.attempt.unwrap_or(0),
                error_type: if failed { self.persisted.error_type } else { None },
                message: if index + 1 == transitions.len() {
                    message.clone()
                } else {
                    String::new()
                },
            }));
            if way.is_empty() {
                way.extend(before.map(|(earlier, _)| earlier.as_str()));
            }
            way.push(phase.as_str());
            if failed && before.is_some_and(|(p, _)| matches!(p, ExecutionPhase::Validating)) {
                let note = told_elsewhere("validation failed", self.persisted.error_type);
                out.push(publish("ValidationFailed", true, "Validate", &note));
            }
            match phase {
                ExecutionPhase::Completed => {
                    out.push(publish("ExecutionCompleted", false, "Execute", "completed"));
                }
                ExecutionPhase::Failed => {
                    let note = told_elsewhere("failed", self.persisted.error_type);
                    out.push(publish("ExecutionFailed", true, "Execute", &note));
                }
                ExecutionPhase::Validating
                | ExecutionPhase::Validated
                | ExecutionPhase::WaitingApproval
                | ExecutionPhase::Executing
                | ExecutionPhase::RollbackReady => {}
            }
        }
        if !way.is_empty() {
            out.push(publish("PhaseTransition", false, "Reconcile", &way.join(" -> ")));
        }
        self.announced = transitions.len();
    }

    pub(super) fn action_name(&self) -> &'static str {
        self.checked
            .as_ref()
            .map_or("unknown", |checked| checked.kind.canonical())
    }

    /// Nothing is left to run. A Job that could not be confirmed stopped keeps the lock.
    pub(super) fn terminal(&mut self, now: Timestamp, out: &mut Vec<StepCommand>) -> Flow {
        let live = self
            .jobs
            .values()
            .find(|job| job.live && self.is_ours(job))
            .cloned();
        let Some(job) = live.filter(|_| !is_lock_released(&self.execution)) else {
            // When somebody else wrote that it has ended.
            if let Some(attempt) = self.open_payload() {
                return self.delete_payload(&attempt, now, out);
            }
            return self.stop(out);
        };
        if self.lock == Hold::None {
            return self.acquire_lock(out);
        }
        if !self.job.delete_sent && !job.deleting {
            return self.call(
                Purpose::DeleteJob,
                ApiCommand::DeleteJob {
                    name: job.name,
                    uid: job.uid,
                },
                out,
            );
        }
        self.wait_until(
            super::machine::later(now, std::time::Duration::from_secs(60)),
            "a Job that does not stop",
        )
    }
}

/// Makes every text [plain](crate::classify::plain) and cuts it to what the API server takes; true when one was changed. The
/// state before stays as it is: half of it, or another one, restores nothing, and it has a limit of its own.
fn fit(value: &mut Value) -> bool {
    match value {
        Value::String(text) => {
            let fitting = cut(text, names::TEXT_MAX);
            let changed = fitting != *text;
            *text = fitting;
            changed
        }
        Value::Array(values) => values
            .iter_mut()
            .fold(false, |was_cut, value| fit(value) | was_cut),
        Value::Object(values) => values
            .iter_mut()
            .filter(|(key, _)| *key != "previousSpec")
            .fold(false, |was_cut, (_, value)| fit(value) | was_cut),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
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
        note: cut(note, CONDITION_MAX),
    })
}

fn phase_of(transition: &PhaseTransition) -> Option<ExecutionPhase> {
    serde_json::from_value(json!(transition.phase)).ok()
}

pub(crate) fn seconds_between(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64().max(0.0)
}

/// Appends a phase: the first 16 and the last 16 are kept. Times never go back.
pub(crate) fn push_transition(transitions: &mut Vec<PhaseTransition>, phase: &str, now: Timestamp) {
    let time = transitions.last().map_or(now, |last| last.time.0.max(now));
    transitions.push(PhaseTransition {
        phase: phase.to_owned(),
        time: MicroTime(time),
    });
    if transitions.len() > 32 {
        transitions.remove(16);
    }
}

/// Sets a condition; its time moves only when its status does.
pub(crate) fn set_condition(
    conditions: &mut Vec<Condition>,
    kind: &str,
    holds: bool,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) {
    let status = if holds { "True" } else { "False" };
    let earlier = conditions.iter().find(|condition| condition.r#type == kind);
    let since = match earlier {
        Some(condition) if condition.status == status => condition.last_transition_time.clone(),
        Some(condition) if planted(Defect::TurnBackTime) => {
            MicroTime(condition.last_transition_time.0 - jiff::SignedDuration::from_secs(1))
        }
        Some(condition) => MicroTime(condition.last_transition_time.0.max(now)),
        None => MicroTime(now),
    };
    let condition = Condition {
        r#type: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: cut(message, CONDITION_MAX),
        last_transition_time: since,
        observed_generation: generation,
    };
    match conditions.iter_mut().find(|condition| condition.r#type == kind) {
        Some(place) => *place = condition,
        None => conditions.push(condition),
    }
}
