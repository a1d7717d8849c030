//! planning and validating: one gate after the other, and nothing of a target is read before the rights are known.

use jiff::Timestamp;
use kubernaut_crds::{ConditionReason, ConditionType, ErrorType, WorkflowValidationResults};

use super::WorkflowCommand;
use super::control::Halt;
use super::machine::{Purpose, WorkflowMachine};
use super::progress::States;
use crate::api_command::ApiCommand;
use crate::classify::cut;
use crate::plan::Plan;

/// What a gate says before the first step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// The next one is asked.
    Open,
    /// Something has to happen, or a time has to come; the status may say what.
    Waits,
    /// The workflow has failed in the draft.
    Failed,
}

impl WorkflowMachine {
    pub(super) fn before_execution(&mut self, now: Timestamp, out: &mut Vec<WorkflowCommand>) {
        self.begin(now);
        if let Some(reason) = self.give_up.clone() {
            self.fail_workflow(ErrorType::UnknownError, None, &reason, now);
            return self.write(now, out);
        }
        let plan = match self.plan_once() {
            Ok(plan) => plan,
            Err(errors) => {
                self.planning_failed(&errors, now);
                return self.write(now, out);
            }
        };
        self.planned_well(&plan, now);
        // Somebody may delete what was tried, whatever the workflow waits for.
        self.ensure_steps(out);
        self.release_recorded(&[], out);
        if let Some(halt @ Halt::Shutdown(_)) = self.halted(&plan, &States::new())
            && !self.has_begun()
        {
            if self.stop_dry_runs(&plan, now, out) {
                return;
            }
            let reason = Self::stopped_because(&plan, halt, None);
            self.fail_workflow(
                ErrorType::Cancelled,
                None,
                &format!("{reason}, before its first step"),
                now,
            );
            return self.write(now, out);
        }
        match self.gates(&plan, now, out) {
            Gate::Open => {}
            Gate::Waits => return,
            Gate::Failed => return self.write(now, out),
        }
        self.begin_execution(&plan, now);
        self.pause_or_resume(&plan, now);
        self.start_ready_steps(now, out);
        self.write(now, out);
    }

    /// In their order (docs/workflows.md, Validating).
    fn gates(&mut self, plan: &Plan, now: Timestamp, out: &mut Vec<WorkflowCommand>) -> Gate {
        // What has begun had its rights, and each step asks for its own; that it was approved has to be recorded.
        if !self.has_begun() {
            let first = [Self::rights_gate, Self::safety_gate, Self::dry_run_gate];
            for gate in first {
                match gate(self, plan, now, out) {
                    Gate::Open => {}
                    shut @ (Gate::Waits | Gate::Failed) => return shut,
                }
            }
        }
        self.approval_gate(plan, now, out)
    }

    fn rights_gate(&mut self, plan: &Plan, now: Timestamp, out: &mut Vec<WorkflowCommand>) -> Gate {
        match &self.gates.rights {
            None if self.settings.authorization => {
                self.steps.starts.want(1);
                if !self.calls.is_under_way(Purpose::Rights) {
                    let question = self.question(plan);
                    self.call(Purpose::Rights, ApiCommand::CheckRights(question), out);
                }
                Gate::Waits
            }
            Some(Err(message)) => {
                let message = message.clone();
                self.validation_failed(&message, now);
                Gate::Failed
            }
            None | Some(Ok(())) => Gate::Open,
        }
    }

    /// The workflow fails before its first step; `step` is the one that is to blame.
    pub(super) fn refuse_to_begin(
        &mut self,
        plan: &Plan,
        step: Option<i32>,
        error_type: ErrorType,
        why: ConditionReason,
        reason: &str,
        now: Timestamp,
    ) {
        self.validation_results().validation_errors = vec![cut(reason, 4000)];
        self.condition(ConditionType::Validated, false, why, reason, now);
        self.fail_workflow(error_type, step, reason, now);
        let action = step.and_then(|number| plan.steps.get(&number));
        self.status.draft.failed_action = action.map(|step| step.execution.spec.action.clone());
    }

    pub(super) fn validation_results(&mut self) -> &mut WorkflowValidationResults {
        self.status
            .draft
            .validation_results
            .get_or_insert_with(WorkflowValidationResults::default)
    }
}
