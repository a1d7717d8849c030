//! The end of a workflow: what came of it, in figures and in a sentence.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use kubernaut_crds::{
    ConditionReason, ConditionType, ErrorType, ExecutionMetrics, MicroTime, Outcome, ResourceHealth,
    RollbackStrategy, Shutdown, StepState, UndoState, WorkflowPhase, WorkflowResult,
};

use super::WorkflowCommand;
use super::control::Halt;
use super::machine::WorkflowMachine;
use super::progress::step_name;
use crate::classify::cut;
use crate::defect::{Defect, planted};
use crate::duration::format_go;
use crate::execution_key::Role;
use crate::plan::Plan;
use crate::time::seconds_between;

/// Added to the reason where nothing is undone although something was changed.
const NOT_UNDONE: &str = "Nothing was undone.";

impl WorkflowMachine {
    /// Ends the workflow when nothing runs and nothing more will.
    pub(super) fn finish_if_done(
        &mut self,
        plan: &Plan,
        now: Timestamp,
        out: &mut Vec<WorkflowCommand>,
    ) -> bool {
        let runs = !self.numbers_of(StepState::Executing).is_empty() && !planted(Defect::EndTooEarly);
        if self.creating() > 0 || runs {
            return false;
        }
        let states = self.step_states(plan);
        let pending = states.values().any(|(state, _)| *state == StepState::Pending);
        let halt = self.halted(plan, &states);
        if pending && (matches!(halt, None | Some(Halt::Suspended)) || self.has_to_clean_up(plan, &states)) {
            return false;
        }
        if self.is_in_doubt(plan, &states, now, out) {
            return false;
        }
        let failed = |number: &i32| states.get(number).and_then(|(_, failure)| failure.clone());
        let cancelled = |(state, failure): &(StepState, Option<(ErrorType, String)>)| {
            *state == StepState::Failed
                && failure
                    .as_ref()
                    .is_some_and(|(class, _)| *class == ErrorType::Cancelled)
        };
        match halt {
            Some(halt @ Halt::Critical(number)) => {
                let (error_type, why) = failed(&number).unwrap_or((ErrorType::UnknownError, String::new()));
                let mut reason = Self::stopped_because(plan, halt, Some(&why));
                match self.rollback_strategy() {
                    RollbackStrategy::Automatic => {
                        self.begin_rollback(Some(number), &reason, now);
                        return true;
                    }
                    // Where something was changed, and it may matter to somebody.
                    RollbackStrategy::Manual if !self.undo_hints(plan).is_empty() => {
                        reason = format!("{}. {NOT_UNDONE}", reason.trim_end_matches('.'));
                    }
                    RollbackStrategy::Manual | RollbackStrategy::None => {}
                }
                self.fail_workflow(error_type, Some(number), &reason, now);
            }
            Some(halt @ Halt::Shutdown(Shutdown::Rollback)) => {
                let reason = Self::stopped_because(plan, halt, None);
                self.begin_rollback(None, &reason, now);
            }
            Some(Halt::Shutdown(Shutdown::Cancel)) if self.failed_critical(plan, &states).is_some() => {
                // It had failed before anybody said anything, and nothing more is done about it.
                let number = self.failed_critical(plan, &states).unwrap_or_default();
                let (error_type, why) = failed(&number).unwrap_or((ErrorType::UnknownError, String::new()));
                let reason = Self::stopped_because(plan, Halt::Critical(number), Some(&why));
                let reason = format!("{}. Cancelled: nothing was undone.", reason.trim_end_matches('.'));
                self.fail_workflow(error_type, Some(number), &reason, now);
            }
            Some(halt @ Halt::Shutdown(Shutdown::Cancel)) if pending || states.values().any(cancelled) => {
                let completed = self.numbers_of(StepState::Completed).len();
                let reason = format!(
                    "{}; {completed} of {} steps had completed",
                    Self::stopped_because(plan, halt, None),
                    plan.steps.len()
                );
                self.fail_workflow(ErrorType::Cancelled, None, &reason, now);
            }
            Some(Halt::Suspended | Halt::Shutdown(Shutdown::Cancel)) | None => {
                self.all_steps_ended(plan, now);
            }
        }
        true
    }

    fn all_steps_ended(&mut self, plan: &Plan, now: Timestamp) {
        let completed = self.numbers_of(StepState::Completed).len();
        let failed = self.numbers_of(StepState::Failed);
        if completed == 0
            && let Some(first) = failed.first().copied()
        {
            let states = self.step_states(plan);
            let (error_type, why) = states
                .get(&first)
                .and_then(|(_, failure)| failure.clone())
                .unwrap_or((ErrorType::UnknownError, String::new()));
            let reason = format!("no step completed; step {} failed: {why}", step_name(plan, first));
            return self.fail_workflow(error_type, Some(first), &reason, now);
        }
        self.enter(WorkflowPhase::Monitoring, now);
        self.status
            .draft
            .monitoring_start_time
            .get_or_insert(MicroTime(now));
        if let Some(ends) = self.window_ends() {
            let left = Duration::try_from(ends.duration_since(now)).unwrap_or_default();
            let message = format!(
                "all steps have ended; their outcome is looked at once more in {}",
                format_go(left)
            );
            self.status.draft.message = Some(message);
            return;
        }
        self.complete_workflow(plan, ResourceHealth::Unknown, &[], now);
    }

    /// Ends the workflow as completed: in part, where a step failed or its target is not well any more.
    pub(super) fn complete_workflow(
        &mut self,
        plan: &Plan,
        health: ResourceHealth,
        notes: &[String],
        now: Timestamp,
    ) {
        let completed = self.numbers_of(StepState::Completed).len();
        let failed = self.numbers_of(StepState::Failed);
        self.enter(WorkflowPhase::Completed, now);
        self.status.draft.completion_time = Some(MicroTime(now));
        let total = plan.steps.len();
        let is_well = !matches!(health, ResourceHealth::Degraded | ResourceHealth::Unhealthy);
        let success = completed == total && is_well;
        let steps = if total == 1 { "step" } else { "steps" };
        let mut message = format!("{completed} of {total} {steps} completed");
        if completed < total {
            let names: Vec<String> = failed.iter().map(|number| step_name(plan, *number)).collect();
            message = format!("{message}; failed: {}", names.join(", "));
        }
        for note in notes {
            message = format!("{message}; {note}");
        }
        let message = cut(&message, 1000);
        self.status.draft.message = Some(message.clone());
        let reason = if success {
            ConditionReason::Completed
        } else {
            ConditionReason::PartialSuccess
        };
        self.condition(ConditionType::Succeeded, success, reason, &message, now);
        self.measure(now);
        if let Some(result) = &mut self.status.draft.workflow_result {
            result.resource_health = health;
            if !is_well {
                result.outcome = Outcome::PartialSuccess;
            }
        }
    }

    /// Fills executionMetrics and workflowResult from the draft.
    pub(super) fn measure(&mut self, now: Timestamp) {
        let steps = &self.status.draft.step_statuses;
        let total = steps.len();
        let completed = steps
            .iter()
            .filter(|step| step.status == StepState::Completed)
            .count();
        let retries: i32 = steps.iter().map(|step| step.retries_attempted).sum();
        let undos = steps.iter().filter_map(|step| step.undo.as_ref());
        let rollbacks = undos.filter(|undo| undo.status == UndoState::Completed).count();
        let rollbacks = i32::try_from(rollbacks).unwrap_or(i32::MAX);
        #[allow(clippy::cast_precision_loss)] // at most 100 steps
        let rate = if total == 0 {
            0.0
        } else {
            completed as f64 / total as f64
        };
        let targets: BTreeSet<_> = self
            .steps
            .executions
            .iter()
            .filter(|(key, _)| key.role == Role::Step)
            .filter_map(|(_, execution)| execution.status.as_ref())
            .filter(|status| {
                status
                    .execution_results
                    .as_ref()
                    .is_some_and(|results| results.success)
            })
            .filter_map(|status| status.target_name.clone())
            .collect();
        let begun = self
            .status
            .draft
            .planning_start_time
            .as_ref()
            .map_or(now, |time| time.0);
        self.status.draft.execution_metrics = Some(ExecutionMetrics {
            total_duration: Some(format_go(Duration::from_secs_f64(seconds_between(begun, now)))),
            step_success_rate: rate,
            rollbacks_performed: rollbacks,
            resources_affected: i32::try_from(targets.len()).unwrap_or(i32::MAX),
        });
        let failed = self.status.draft.phase == Some(WorkflowPhase::Failed);
        let outcome = match (failed, self.status.draft.error_type) {
            (true, Some(ErrorType::Cancelled)) if self.status.draft.failed_step.is_none() => {
                Outcome::Cancelled
            }
            (true, _) => Outcome::Failed,
            (false, _) if completed == total => Outcome::Success,
            (false, _) => Outcome::PartialSuccess,
        };
        let plan = self.plan_once().ok();
        let hints = plan.filter(|_| failed && self.rollback_strategy() != RollbackStrategy::None);
        let hints = hints.map_or_else(Vec::new, |plan| self.undo_hints(&plan));
        self.status.draft.workflow_result = Some(WorkflowResult {
            outcome,
            effectiveness_score: (rate - 0.05 * f64::from(retries) - 0.1 * f64::from(rollbacks))
                .clamp(0.0, 1.0),
            resource_health: ResourceHealth::Unknown,
            new_alerts_triggered: None,
            recommended_actions: hints,
        });
    }
}
