//! waiting_approval: an execution that is to be approved waits for its workflow to release it, or for a person.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kubernaut_crds::{
    ApprovalKind, ApprovalSource, ConditionReason, ConditionType, ErrorType, ExecutionApproval,
    ExecutionPhase, KubernetesExecutionStatus, MicroTime,
};

use super::StepCommand;
use super::machine::{Flow, StepMachine};
use super::status::{publish, told_elsewhere};
use super::validate::{Snapshot, Validation};
use crate::approval::{Decision, Question, Requirement};
use crate::defect::{Defect, planted};
use crate::owner::controlling_workflow;
use crate::time::later;

/// A workflow that was approved releases its executions at once: before that it is not worth a write that one waits.
const TELL_AFTER: Duration = Duration::from_secs(2);
/// After a wait that was longer, all is checked again.
const FRESH: Duration = Duration::from_mins(1);

impl StepMachine {
    /// Whether somebody has to release it before anything runs.
    pub(super) fn must_be_released(&self) -> bool {
        let spec = &self.execution.spec;
        if spec.dry_run == Some(true) || self.is_released() || planted(Defect::RunUnapproved) {
            return false;
        }
        if !spec.approval_received || self.policy_requires_approval() {
            return true;
        }
        // Of those made by hand: the steps of a workflow waited with it.
        let alone = controlling_workflow(&self.execution).is_none();
        alone && self.waits.seen.requirement != Requirement::None
    }

    /// The approval of a person is noted.
    fn is_released(&self) -> bool {
        let approval = self.status.draft.approval.as_ref();
        approval.is_some_and(|approval| approval.source != ApprovalSource::Automatic)
    }

    /// Waits until it was approved; `None` when it was, or need not be.
    pub(super) fn without_approval(&mut self, now: Timestamp, out: &mut Vec<StepCommand>) -> Option<Flow> {
        if !self.must_be_released() {
            self.note_release(now);
            return None;
        }
        if self.execution.spec.approval_received && self.waits.seen.requirement == Requirement::Unknown {
            // The watch shows the namespace in a moment.
            return Some(Flow::Wait);
        }
        let seen = Arc::clone(&self.waits.seen);
        let question = self.question_of_approval(now);
        let decision = question.decide(&seen, &self.settings, now);
        let (since, deadline) = (question.since, question.deadline(&self.settings));
        Some(match decision {
            Decision::Approved(approval) => {
                self.released_by(ApprovalSource::Execution, Some(approval.names()), now);
                return None;
            }
            Decision::Rejected(words) => {
                self.condition(
                    ConditionType::Approved,
                    false,
                    ConditionReason::Rejected,
                    &words,
                    now,
                );
                self.fail(ErrorType::ApprovalRejected, &words, now)
            }
            Decision::Expired(words) => {
                let reason = ConditionReason::ApprovalTimeout;
                self.condition(ConditionType::Approved, false, reason, &words, now);
                self.fail(ErrorType::ApprovalTimeout, &words, now)
            }
            Decision::Waits(words) => self.wait_for_approval(&words, since, deadline, now, out),
        })
    }

    fn wait_for_approval(
        &mut self,
        words: &str,
        since: Timestamp,
        deadline: Timestamp,
        now: Timestamp,
        out: &mut Vec<StepCommand>,
    ) -> Flow {
        let told_from = later(since, TELL_AFTER);
        // What its workflow has released already, the policies hold up: it waits for a person.
        let of_a_workflow =
            controlling_workflow(&self.execution).is_some() && !self.execution.spec.approval_received;
        let is_told = self.status.persisted.phase == Some(ExecutionPhase::WaitingApproval);
        if of_a_workflow && !is_told && now < told_from {
            return self.wait_until(told_from, "a release that is long enough in coming to be told");
        }
        self.release_lock(out);
        self.release_slot(out);
        self.enter(ExecutionPhase::WaitingApproval, now);
        let words = &self.with_the_policy(words);
        let reason = ConditionReason::ApprovalRequired;
        self.condition(ConditionType::Approved, false, reason, words, now);
        self.status.draft.message = Some(words.to_owned());
        if self.status.draft != self.status.persisted {
            self.status.is_due = true;
            return Flow::Again;
        }
        self.wait_until(deadline, "the end of a wait for approval")
    }

    fn question_of_approval(&self, now: Timestamp) -> Question<'_> {
        let metadata = &self.execution.metadata;
        let mut conditions = self.status.draft.conditions.iter();
        let waiting = conditions.find(|condition| {
            condition.r#type == ConditionType::Approved.as_str() && condition.status == "False"
        });
        let validated = self.status.draft.phase_transitions.last();
        Question {
            kind: ApprovalKind::KubernetesExecution,
            namespace: metadata.namespace.as_deref().unwrap_or_default(),
            name: metadata.name.as_deref().unwrap_or_default(),
            uid: metadata.uid.as_deref().unwrap_or_default(),
            created_by: self.execution.created_by(),
            required: 1,
            digest: None,
            planned_anew: None,
            since: waiting
                .map(|condition| condition.last_transition_time.0)
                .or_else(|| validated.map(|entered| entered.time.0))
                .unwrap_or(now),
        }
    }

    /// Notes who released it where nobody has to any more.
    pub(super) fn note_release(&mut self, now: Timestamp) {
        if self.is_released() {
            return;
        }
        let spec = &self.execution.spec;
        match &spec.approved_by {
            Some(by) if spec.approval_received => {
                self.released_by(ApprovalSource::Workflow, Some(by.clone()), now);
            }
            // It waited, and need not any more.
            _ if self.status.draft.phase == Some(ExecutionPhase::WaitingApproval) => {
                self.released_by(ApprovalSource::Automatic, None, now);
            }
            Some(_) | None => {}
        }
    }

    /// That a person has approved it is told once. What its workflow did, the workflow tells.
    pub(super) fn tell_of_release(&self, before: &KubernetesExecutionStatus, out: &mut Vec<StepCommand>) {
        let by_a_person = |status: &KubernetesExecutionStatus| {
            let approval = status.approval.as_ref();
            approval.is_some_and(|approval| approval.source == ApprovalSource::Execution)
        };
        if by_a_person(&self.status.persisted) && !by_a_person(before) {
            let note = told_elsewhere("approved", None);
            out.push(publish("Approved", false, "Approve", &note));
        }
    }

    fn released_by(&mut self, source: ApprovalSource, by: Option<String>, now: Timestamp) {
        let (reason, words) = match &by {
            Some(by) => (ConditionReason::Approved, format!("approved by {by}")),
            None => (
                ConditionReason::Automatic,
                "no approval is asked for any more".to_owned(),
            ),
        };
        self.status.draft.approval = Some(ExecutionApproval {
            source,
            approved_by: by,
            time: Some(MicroTime(now)),
        });
        self.condition(ConditionType::Approved, true, reason, &words, now);
        if self.status.draft.phase != Some(ExecutionPhase::WaitingApproval) {
            return;
        }
        self.status.draft.message = Some(words);
        let waited_from = self.status.draft.phase_transitions.last();
        if waited_from.is_some_and(|entered| now > later(entered.time.0, FRESH)) {
            // Rights and target are those of long ago.
            self.validation = Validation::default();
            self.enter(ExecutionPhase::Validated, now);
        } else {
            self.validation.snapshot = Snapshot::Unread;
        }
    }
}
