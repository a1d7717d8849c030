//! Approval: a workflow waits for people before its first step, and then says to each of its executions that it was approved.

use std::sync::Arc;

use jiff::Timestamp;
use kubernaut_crds::{
    ApprovalKind, ConditionReason, ConditionType, ErrorType, KubernetesExecution, MicroTime,
    WorkflowApproval, WorkflowExecution, WorkflowExecutionStatus, WorkflowPhase, WorkflowValidationResults,
};

use super::WorkflowCommand;
use super::machine::{Purpose, WorkflowMachine};
use super::progress::publish;
use super::validating::Gate;
use crate::api_command::{ApiCommand, ApiFailure, ApprovalChange, ExecutionChange, FailureClass};
use crate::approval::{Decision, Question, Requirement};
use crate::defect::{Defect, planted};
use crate::execution_key::{ExecutionKey, Role};
use crate::plan::Plan;
use crate::step::told_elsewhere;

impl WorkflowMachine {
    /// Who approved it, as the cluster has it recorded: only then may anything run.
    pub(super) fn recorded_approval(&self) -> Option<&WorkflowApproval> {
        self.status.persisted.approval.as_ref()
    }

    /// Whether its executions are made to wait until they are released.
    pub(super) fn is_approved_by_people(&self) -> bool {
        self.status.draft.approval.is_some()
    }

    /// Nothing starts before the approval is in the cluster, where the next controller finds it.
    pub(super) fn waits_for_its_record(&self) -> bool {
        self.is_approved_by_people()
            && self.recorded_approval().is_none()
            && !planted(Defect::RunBeforeTheRecord)
    }

    /// Waits where somebody has to approve.
    pub(super) fn approval_gate(
        &mut self,
        plan: &Plan,
        now: Timestamp,
        out: &mut Vec<WorkflowCommand>,
    ) -> Gate {
        let asked_for = self.workflow.spec.execution_strategy.approval_required;
        if planted(Defect::RunUnapproved) {
            return Gate::Open;
        }
        match self.gates.seen.requirement {
            Requirement::None if !asked_for => return Gate::Open,
            // The watch shows the namespace in a moment.
            Requirement::Unknown if !asked_for => return Gate::Waits,
            Requirement::None | Requirement::Required | Requirement::Unknown => {}
        }
        self.note_the_plan(plan, now);
        let seen = Arc::clone(&self.gates.seen);
        let question = self.question_of_approval(now);
        let decision = question.decide(&seen, &self.settings, now);
        let deadline = question.deadline(&self.settings);
        match decision {
            Decision::Approved(approval) => {
                self.approved(approval, now);
                Gate::Open
            }
            Decision::Rejected(words) => {
                self.not_approved(
                    ErrorType::ApprovalRejected,
                    ConditionReason::Rejected,
                    &words,
                    now,
                );
                Gate::Failed
            }
            Decision::Expired(words) => {
                let reason = ConditionReason::ApprovalTimeout;
                self.not_approved(ErrorType::ApprovalTimeout, reason, &words, now);
                Gate::Failed
            }
            Decision::Waits(words) => {
                self.condition(
                    ConditionType::Approved,
                    false,
                    ConditionReason::ApprovalRequired,
                    &words,
                    now,
                );
                self.status.draft.message = Some(words);
                self.calls.alarm.set(deadline, "the end of a wait for approval");
                self.gates.asks = true;
                self.write(now, out);
                Gate::Waits
            }
        }
    }

    /// Another plan than the one that was shown is another question: it is shown, and asked again.
    fn note_the_plan(&mut self, plan: &Plan, now: Timestamp) {
        let shown = self.status.draft.execution_plan.as_ref();
        let known = shown.and_then(|plan| plan.digest.as_ref());
        let is_another = known.is_some() && known != plan.execution_plan.digest.as_ref();
        if known.is_none() || is_another {
            self.status.draft.execution_plan = Some(plan.execution_plan.clone());
        }
        if is_another {
            self.status.draft.validation_start_time = Some(MicroTime(now));
        }
    }

    fn question_of_approval(&self, now: Timestamp) -> Question<'_> {
        let status = &self.status.draft;
        let metadata = &self.workflow.metadata;
        let waiting = status.conditions.iter().find(|condition| {
            condition.r#type == ConditionType::Approved.as_str() && condition.status == "False"
        });
        let validating = WorkflowPhase::Validating.as_str();
        let begun = status.phase_transitions.iter().rev();
        let begun = begun
            .filter(|entered| entered.phase == validating)
            .map(|entered| entered.time.0)
            .next();
        let planned = status.validation_start_time.as_ref().map(|time| time.0);
        Question {
            kind: ApprovalKind::WorkflowExecution,
            namespace: metadata.namespace.as_deref().unwrap_or_default(),
            name: metadata.name.as_deref().unwrap_or_default(),
            uid: metadata.uid.as_deref().unwrap_or_default(),
            created_by: self.workflow.created_by(),
            required: usize::try_from(self.workflow.spec.execution_strategy.required_approvals).unwrap_or(1),
            digest: status
                .execution_plan
                .as_ref()
                .and_then(|plan| plan.digest.as_deref()),
            planned_anew: planned.filter(|planned| begun.is_some_and(|begun| *planned > begun)),
            since: waiting.map_or(now, |condition| condition.last_transition_time.0),
        }
    }

    fn approved(&mut self, approval: WorkflowApproval, now: Timestamp) {
        let names = approval.names();
        let results = self
            .status
            .draft
            .validation_results
            .get_or_insert_with(WorkflowValidationResults::default);
        results.approval_timestamp = Some(approval.time.clone());
        results.approved_by = Some(names.clone());
        self.status.draft.approval = Some(approval);
        self.status.draft.message = None;
        let words = format!("approved by {names}");
        self.condition(
            ConditionType::Approved,
            true,
            ConditionReason::Approved,
            &words,
            now,
        );
    }

    fn not_approved(&mut self, error_type: ErrorType, reason: ConditionReason, words: &str, now: Timestamp) {
        self.condition(ConditionType::Approved, false, reason, words, now);
        self.fail_workflow(error_type, None, words, now);
    }

    /// Tells of a question and of its answer, each once.
    pub(super) fn tell_of_approval(&self, before: &WorkflowExecutionStatus, out: &mut Vec<WorkflowCommand>) {
        let now = reason_of(&self.status.persisted);
        if now == reason_of(before) {
            return;
        }
        let says = |reason: ConditionReason| now == Some(reason.as_str());
        if says(ConditionReason::ApprovalRequired) {
            let note = told_elsewhere("waits for approval", None);
            out.push(publish("ApprovalRequired", false, &note));
        } else if says(ConditionReason::Approved) {
            out.push(publish("Approved", false, &told_elsewhere("approved", None)));
        } else if says(ConditionReason::Rejected) {
            out.push(publish("Rejected", true, &told_elsewhere("rejected", None)));
        }
    }

    /// Releases the executions that wait for the approval of the whole workflow, once it is recorded.
    pub(super) fn release_executions(&mut self, plan: &Plan, now: Timestamp, out: &mut Vec<WorkflowCommand>) {
        let Some(by) = self.recorded_approval().map(WorkflowApproval::names) else {
            return;
        };
        // What is cancelled is not released; what cleans up is.
        let cancelled = self.workflow.spec.shutdown.is_some();
        let waiting = self.steps.executions.iter().filter(|(key, execution)| {
            let goes_on = !cancelled || Self::is_always(plan, key.number);
            key.role == Role::Step
                && goes_on
                && !self.steps.lost.contains_key(key)
                && waits_for_release(execution)
        });
        let waiting: Vec<_> = waiting
            .map(|(key, execution)| (*key, Arc::clone(execution)))
            .collect();
        for (key, execution) in waiting {
            if self.calls.is_under_way(Purpose::Release(key)) || self.steps.absent.contains(&key) {
                continue;
            }
            if let Some(waiting) = self.steps.waiting.get(&key).filter(|waiting| now < waiting.until) {
                let until = waiting.until;
                self.calls
                    .alarm
                    .set(until, "an execution that can't be released yet");
                continue;
            }
            let approval = Some(ApprovalChange {
                received: true,
                by: Some(by.clone()),
            });
            let change = ExecutionChange {
                approval,
                ..ExecutionChange::default()
            };
            let command = ApiCommand::PatchExecution { execution, change };
            self.call(Purpose::Release(key), command, out);
        }
    }

    pub(super) fn released(&mut self, key: ExecutionKey, execution: Arc<KubernetesExecution>) {
        self.steps.waiting.remove(&key);
        self.observe_step(execution);
    }

    /// An execution was not released: it is looked at again, and it is told why where that will not help.
    pub(super) fn release_failed(&mut self, now: Timestamp, key: ExecutionKey, failure: &ApiFailure) {
        match failure.class {
            FailureClass::Conflict | FailureClass::NotFound => {
                self.steps.absent.insert(key);
            }
            FailureClass::Forbidden | FailureClass::Rejected | FailureClass::Quota => {
                self.wait_to_create(now, key, format!("to be released: {}", failure.message));
            }
            FailureClass::Throttled | FailureClass::Unknown => {
                self.calls.pause(now, Purpose::Release(key));
            }
        }
    }
}

/// Whether its status says that it waits for people: nothing is to be done for it meanwhile.
pub fn waits_for_people(workflow: &WorkflowExecution) -> bool {
    let status = workflow.status.as_ref();
    status.is_some_and(|status| {
        status.phase == Some(WorkflowPhase::Validating)
            && reason_of(status) == Some(ConditionReason::ApprovalRequired.as_str())
    })
}

fn waits_for_release(execution: &KubernetesExecution) -> bool {
    !execution.spec.approval_received
        && execution.spec.shutdown.is_none()
        && !execution.is_terminal()
        && execution.metadata.deletion_timestamp.is_none()
}

fn reason_of(status: &WorkflowExecutionStatus) -> Option<&str> {
    let mut conditions = status.conditions.iter();
    let approved = conditions.find(|condition| condition.r#type == ConditionType::Approved.as_str());
    approved.map(|condition| condition.reason.as_str())
}
