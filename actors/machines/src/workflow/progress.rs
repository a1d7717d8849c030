//! What the steps are at, read from their executions, and what the workflow's status says of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use kubernaut_crds::{
    ConditionReason, ConditionType, ErrorType, ExecutionPhase, ExecutionSnapshot, KubernetesExecution,
    MicroTime, ObjectRef, Outcome, RollbackStrategy, StepState, StepStatus, UndoState, WorkflowExecution,
    WorkflowPhase, WorkflowValidationResults, names,
};

use super::control::PAUSED;
use super::machine::WorkflowMachine;
use super::planning::is_begun;
use super::steps::DELETED;
use super::{WorkflowCommand, step_words};
use crate::actions::target_name;
use crate::announcement::{Announcement, EventRecord};
use crate::classify::cut;
use crate::defect::{Defect, planted};
use crate::execution_key::ExecutionKey;
use crate::plan::{Plan, PlanError, PlannedStep};
use crate::status_draft::Entered;
use crate::step::told_elsewhere;

/// A step's state and, where it has one, the class and sentence of its failure.
pub(super) type States = BTreeMap<i32, (StepState, Option<(ErrorType, String)>)>;

impl WorkflowMachine {
    pub(super) fn enter(&mut self, phase: WorkflowPhase, now: Timestamp) {
        self.status.enter(phase, self.workflow.metadata.generation, now);
    }

    pub(super) fn condition(
        &mut self,
        kind: ConditionType,
        holds: bool,
        reason: ConditionReason,
        message: &str,
        now: Timestamp,
    ) {
        let generation = self.workflow.metadata.generation;
        self.status
            .condition(kind, holds, reason, message, generation, now);
    }

    pub(super) fn begin(&mut self, now: Timestamp) {
        if self.status.draft.phase.is_none() {
            self.enter(WorkflowPhase::Planning, now);
            self.status.draft.planning_start_time = Some(MicroTime(now));
        }
    }

    pub(super) fn planning_failed(&mut self, errors: &[PlanError], now: Timestamp) {
        let texts: Vec<String> = errors.iter().map(|error| cut(&error.to_string(), 1000)).collect();
        let first = texts.first().cloned().unwrap_or_default();
        let count = if texts.len() == 1 {
            "1 error".to_owned()
        } else {
            format!("{} errors", texts.len())
        };
        let results = self
            .status
            .draft
            .validation_results
            .get_or_insert_with(WorkflowValidationResults::default);
        results.validation_errors = texts.into_iter().take(200).collect();
        self.status.draft.total_steps =
            i32::try_from(self.workflow.spec.workflow_definition.steps.len()).ok();
        self.condition(
            ConditionType::Planned,
            false,
            ConditionReason::Invalid,
            &first,
            now,
        );
        self.fail_workflow(
            ErrorType::ValidationError,
            None,
            &format!("{count} in planning; first: {first}"),
            now,
        );
    }

    pub(super) fn planned_well(&mut self, plan: &Plan, now: Timestamp) {
        if self.status.draft.phase != Some(WorkflowPhase::Planning) {
            return;
        }
        let total = plan.steps.len();
        self.status.draft.total_steps = i32::try_from(total).ok();
        self.status.draft.completed_steps = Some(0);
        self.status.draft.progress = Some(format!("0/{total}"));
        self.status.draft.execution_plan = Some(plan.execution_plan.clone());
        let results = self
            .status
            .draft
            .validation_results
            .get_or_insert_with(WorkflowValidationResults::default);
        results.warnings = plan
            .warnings
            .iter()
            .map(|warning| cut(warning, 1000))
            .take(200)
            .collect();
        self.condition(ConditionType::Planned, true, ConditionReason::Planned, "", now);
        self.enter(WorkflowPhase::Validating, now);
        self.status.draft.validation_start_time = Some(MicroTime(now));
        // That it waited to be started.
        self.status.draft.message = None;
    }

    pub(super) fn validation_failed(&mut self, message: &str, now: Timestamp) {
        let results = self
            .status
            .draft
            .validation_results
            .get_or_insert_with(WorkflowValidationResults::default);
        results.validation_errors = vec![cut(message, 4000)];
        self.condition(
            ConditionType::Validated,
            false,
            ConditionReason::InsufficientPermissions,
            message,
            now,
        );
        self.fail_workflow(ErrorType::InsufficientPermissions, None, message, now);
    }

    pub(super) fn begin_execution(&mut self, plan: &Plan, now: Timestamp) {
        let results = self
            .status
            .draft
            .validation_results
            .get_or_insert_with(WorkflowValidationResults::default);
        results.safety_checks_passed = true;
        results.approval_received = true;
        self.condition(ConditionType::Validated, true, ConditionReason::Passed, "", now);
        if !self.is_approved_by_people() {
            self.condition(
                ConditionType::Approved,
                true,
                ConditionReason::Automatic,
                "no approval was asked for",
                now,
            );
        }
        self.enter(WorkflowPhase::Executing, now);
        self.status
            .draft
            .execution_start_time
            .get_or_insert(MicroTime(now));
        self.update_steps(plan, now);
    }

    /// Where each step stands. A recorded end holds, then the execution speaks, then what was lost of it.
    pub(super) fn step_states(&self, plan: &Plan) -> States {
        let mut states = States::new();
        for number in plan.steps.keys() {
            let key = ExecutionKey::step(*number);
            let recorded = self
                .status
                .persisted
                .step_statuses
                .iter()
                .find(|status| status.step_number == *number);
            let state = match recorded {
                Some(recorded) if !matches!(recorded.status, StepState::Pending | StepState::Executing) => {
                    let failure = recorded.error_message.clone().map(|message| {
                        let execution = self.steps.executions.get(&key);
                        let known = execution.and_then(|ke| ke.status.as_ref()?.error_type);
                        let error_type = recorded.error_type.or(known);
                        (error_type.unwrap_or_else(|| earlier_class(&message)), message)
                    });
                    (recorded.status, failure)
                }
                recorded => match (self.steps.executions.get(&key), self.steps.lost.get(&key)) {
                    // It ended before it was lost.
                    (Some(execution), Some(_)) if execution.is_terminal() => state_of(execution),
                    (_, Some(lost)) => (StepState::Failed, Some(lost.clone())),
                    (Some(execution), None) => state_of(execution),
                    (None, None) if recorded.is_some_and(|r| r.status == StepState::Executing) => {
                        (StepState::Executing, None)
                    }
                    (None, None) => (StepState::Pending, None),
                },
            };
            states.insert(*number, state);
        }
        for number in plan.graph.order() {
            let is_pending = states
                .get(&number)
                .is_none_or(|(state, _)| *state == StepState::Pending);
            if is_pending && let Some(reason) = self.never_runs(plan, &states, number) {
                states.insert(number, (StepState::Skipped, Some(reason)));
            }
        }
        states
    }

    /// Brings the draft up to what the executions say; true when a step's state changed.
    pub(super) fn update_steps(&mut self, plan: &Plan, now: Timestamp) -> bool {
        let states = self.step_states(plan);
        let statuses: Vec<StepStatus> = plan
            .steps
            .iter()
            .map(|(number, step)| self.step_status(*number, step, states.get(number).cloned(), now))
            .collect();
        let changed = statuses != self.status.draft.step_statuses;
        let completed = statuses
            .iter()
            .filter(|status| status.status == StepState::Completed)
            .count();
        let first_in = |state| {
            statuses
                .iter()
                .find(|status| status.status == state)
                .map(|status| status.step_number)
        };
        self.status.draft.current_step = first_in(StepState::Executing)
            .or(first_in(StepState::Pending))
            .or(self.status.draft.current_step);
        self.status.draft.completed_steps = i32::try_from(completed).ok();
        self.status.draft.progress = Some(format!("{completed}/{}", statuses.len()));
        let running: Vec<String> = statuses
            .iter()
            .filter(|status| status.status == StepState::Executing)
            .map(words_of)
            .collect();
        let running = (!running.is_empty()).then(|| format!("running: {}", running.join(", ")));
        let waiting = self
            .steps
            .waiting
            .iter()
            .map(|(key, waiting)| format!("step {} waits {}", key.number, waiting.why));
        let without_slot = self.waits_for_slots(plan, now);
        let paused = self.is_paused().then(|| PAUSED.to_owned());
        let words: Vec<String> = paused
            .into_iter()
            .chain(running)
            .chain(waiting)
            .chain(without_slot)
            .collect();
        if !words.is_empty() {
            self.status.draft.message = Some(cut(&words.join("; "), 1000));
        }
        self.status.draft.step_statuses = statuses;
        changed
    }

    fn step_status(
        &self,
        number: i32,
        step: &PlannedStep,
        state: Option<(StepState, Option<(ErrorType, String)>)>,
        now: Timestamp,
    ) -> StepStatus {
        let (status, failure) = state.unwrap_or((StepState::Pending, None));
        let recorded = self
            .status
            .draft
            .step_statuses
            .iter()
            .find(|earlier| earlier.step_number == number);
        if let Some(recorded) = recorded
            && recorded.status == status
            && !matches!(status, StepState::Executing | StepState::Pending)
        {
            return recorded.clone();
        }
        let execution = self.steps.executions.get(&ExecutionKey::step(number));
        let of_execution = execution.and_then(|execution| execution.status.as_ref());
        let terminal = !matches!(status, StepState::Pending | StepState::Executing);
        let end = of_execution.and_then(|s| s.completion_time.clone());
        StepStatus {
            step_number: number,
            name: Some(step.name.clone()),
            action: step.execution.spec.action.clone(),
            status,
            start_time: of_execution
                .and_then(|s| s.start_time.clone())
                .or_else(|| recorded.and_then(|recorded| recorded.start_time.clone())),
            end_time: terminal
                .then(|| end.unwrap_or(MicroTime(now)))
                .filter(|_| status != StepState::Skipped),
            retries_attempted: of_execution
                .and_then(|s| s.execution_results.as_ref())
                .map_or(0, |results| results.retries_attempted),
            target: Some(cut(&target_name(&step.target), 500)),
            // That the first one has begun is not worth a write.
            attempt: of_execution
                .and_then(|s| s.attempt)
                .filter(|attempt| *attempt > i32::from(!terminal)),
            error_type: failure.as_ref().map(|(error_type, _)| *error_type),
            error_message: failure
                .filter(|_| !planted(Defect::SkipWithoutReason))
                .map(|(_, message)| cut(&message, 1000)),
            result: of_execution
                .filter(|_| status == StepState::Completed)
                .and_then(|s| s.message.as_deref())
                .map(|message| cut(message, 1000)),
            k8s_execution_ref: execution
                .map(|execution| reference_to(execution))
                .or_else(|| recorded.and_then(|recorded| recorded.k8s_execution_ref.clone())),
            undo: recorded.and_then(|recorded| recorded.undo.clone()),
        }
    }

    pub(super) fn fail_workflow(
        &mut self,
        error_type: ErrorType,
        step: Option<i32>,
        reason: &str,
        now: Timestamp,
    ) {
        let reason = cut(reason, names::TEXT_MAX);
        self.skip_pending("not run: the workflow failed before");
        self.enter(WorkflowPhase::Failed, now);
        self.status.draft.completion_time = Some(MicroTime(now));
        self.status.draft.failed_step = step;
        self.status.draft.failed_action = step
            .and_then(|n| {
                self.status
                    .draft
                    .step_statuses
                    .iter()
                    .find(|s| s.step_number == n)
            })
            .map(|s| s.action.clone());
        self.status.draft.error_type = Some(error_type);
        self.status.draft.failure_reason = Some(reason.clone());
        self.status.draft.message = Some(reason.clone());
        let completed = self.numbers_of(StepState::Completed);
        self.status.draft.execution_snapshot = Some(ExecutionSnapshot {
            completed_steps: completed,
            current_step: self.status.draft.current_step,
            resource_snapshot: self.last_known(),
            ..ExecutionSnapshot::default()
        });
        self.condition(
            ConditionType::Succeeded,
            false,
            ConditionReason::Failed,
            &reason,
            now,
        );
        self.measure(now);
    }

    /// Each target of a step that has begun, and what was last known of it.
    fn last_known(&self) -> BTreeMap<String, String> {
        let known = self.steps.executions.values().filter_map(|execution| {
            let status = execution.status.as_ref()?;
            let resource = status.execution_results.as_ref()?.resources_affected.first()?;
            let state = resource.after.as_ref().or(resource.before.as_ref())?;
            Some((status.target_name.clone()?, cut(state, 250)))
        });
        known.collect()
    }

    pub(super) fn numbers_of(&self, state: StepState) -> Vec<i32> {
        self.status
            .draft
            .step_statuses
            .iter()
            .filter(|s| s.status == state)
            .map(|s| s.step_number)
            .collect()
    }

    pub(super) fn skip_pending(&mut self, reason: &str) {
        for step in &mut self.status.draft.step_statuses {
            if step.status == StepState::Pending {
                step.status = StepState::Skipped;
                step.error_message = Some(reason.to_owned());
            }
        }
    }

    pub(super) fn rollback_strategy(&self) -> RollbackStrategy {
        self.workflow.spec.execution_strategy.rollback_strategy
    }

    /// The write was taken.
    pub(super) fn written(
        &mut self,
        now: Timestamp,
        workflow: Arc<WorkflowExecution>,
        out: &mut Vec<WorkflowCommand>,
    ) {
        self.pace.last_write = Some(now);
        let earlier = self.status.written(workflow.status.clone().unwrap_or_default());
        self.workflow = workflow;
        self.tell_of_approval(&earlier, out);
        self.announce_steps(out);
        let entered = self.status.entered();
        let status = &self.status.persisted;
        for Entered {
            phase,
            before,
            is_last,
        } in &entered
        {
            let message = status.message.as_deref().filter(|_| *is_last).unwrap_or_default();
            out.push(WorkflowCommand::Announce(Announcement::Workflow {
                phase: *phase,
                before: *before,
                error_type: status.error_type.filter(|_| *phase == WorkflowPhase::Failed),
                message: message.to_owned(),
            }));
            match phase {
                WorkflowPhase::Completed => {
                    let results = status.workflow_result.as_ref();
                    let partly = results.is_some_and(|result| result.outcome == Outcome::PartialSuccess);
                    out.push(if partly {
                        let note = told_elsewhere("completed only in part", None);
                        publish("PartialSuccess", true, &note)
                    } else {
                        publish("WorkflowCompleted", false, "completed")
                    });
                }
                WorkflowPhase::Executing if before.is_some_and(|(before, _)| !is_begun(Some(before))) => {
                    out.push(publish("WorkflowStarted", false, "started"));
                }
                WorkflowPhase::Failed if status.error_type == Some(ErrorType::Cancelled) => {
                    let note = told_elsewhere("cancelled", None);
                    out.push(publish("WorkflowCancelled", true, &note));
                }
                WorkflowPhase::Failed => {
                    if before.is_none_or(|(before, _)| !is_begun(Some(before)))
                        && !is_of_people(status.error_type)
                    {
                        let note = told_elsewhere("validation failed", status.error_type);
                        out.push(publish("ValidationFailed", true, &note));
                    }
                    let note = told_elsewhere("failed", status.error_type);
                    out.push(publish("WorkflowFailed", true, &note));
                }
                WorkflowPhase::RollingBack => {
                    let note = told_elsewhere("what was changed is undone", None);
                    out.push(publish("RollbackStarted", true, &note));
                }
                WorkflowPhase::Planning
                | WorkflowPhase::Validating
                | WorkflowPhase::Executing
                | WorkflowPhase::Paused
                | WorkflowPhase::Monitoring => {}
            }
        }
    }

    fn announce_steps(&mut self, out: &mut Vec<WorkflowCommand>) {
        for step in &self.status.persisted.step_statuses {
            let now = (step.status, step.retries_attempted);
            let (state, retries) = self
                .steps
                .published
                .insert(step.step_number, now)
                .unwrap_or((StepState::Pending, 0));
            let what = format!("step {}", words_of(step));
            let mut tell = |reason, warning, note: &str| {
                let mut event = event(reason, warning, note);
                event.related.clone_from(&step.k8s_execution_ref);
                out.push(WorkflowCommand::Publish(event));
            };
            let told = |how: &str| told_elsewhere(&format!("{what} {how}"), None);
            if step.retries_attempted > retries {
                tell("AttemptFailed", true, &told("is tried again"));
            }
            let undo = step.undo.as_ref().map(|undo| undo.status);
            let told_undo = undo.and_then(|undo| self.steps.published_undos.insert(step.step_number, undo));
            if undo != told_undo {
                match undo {
                    Some(UndoState::Completed) => tell("RolledBack", false, &format!("{what} was undone")),
                    Some(UndoState::Failed) => tell("RollbackFailed", true, &told("could not be undone")),
                    Some(UndoState::Executing | UndoState::NotReversible) | None => {}
                }
            }
            if state == step.status {
                continue;
            }
            match step.status {
                StepState::Completed => tell("StepCompleted", false, &what),
                StepState::Failed => {
                    if step.error_type == Some(ErrorType::PolicyDenied) {
                        tell("PolicyDenied", true, &told("is not allowed by the policy"));
                    }
                    tell("StepFailed", true, &told("failed"));
                }
                StepState::Skipped => tell("StepSkipped", true, &told("was skipped")),
                StepState::Pending | StepState::Executing | StepState::RolledBack => {}
            }
        }
    }
}

/// People ended it, by what they said or did not say.
fn is_of_people(error_type: Option<ErrorType>) -> bool {
    matches!(
        error_type,
        Some(ErrorType::Cancelled | ErrorType::ApprovalRejected | ErrorType::ApprovalTimeout)
    )
}

/// `2 (drain)`; a status of an earlier version has no name, and then its action stands there.
fn words_of(step: &StepStatus) -> String {
    step_words(step.step_number, step.name.as_deref().unwrap_or(&step.action))
}

pub(super) fn publish(reason: &'static str, warning: bool, note: &str) -> WorkflowCommand {
    WorkflowCommand::Publish(event(reason, warning, note))
}

fn event(reason: &'static str, warning: bool, note: &str) -> EventRecord {
    EventRecord {
        reason,
        warning,
        action: "Reconcile",
        note: cut(note, 1000),
        related: None,
    }
}

/// The class of a failure that no execution tells of, as a version of this program recorded it whose steps had no
/// errorType.
fn earlier_class(message: &str) -> ErrorType {
    let sentences = [
        (DELETED, ErrorType::Cancelled),
        (
            "its KubernetesExecution may not be created: ",
            ErrorType::InsufficientPermissions,
        ),
        (
            "its KubernetesExecution could not be created: ",
            ErrorType::ValidationError,
        ),
        ("a KubernetesExecution ", ErrorType::ResourceConflict),
    ];
    let known = sentences
        .iter()
        .find(|(sentence, _)| message.starts_with(sentence));
    known.map_or(ErrorType::UnknownError, |(_, error_type)| *error_type)
}

/// Completed counts only in phase completed, not in rollback_ready. One that is deleted before was cancelled.
pub(super) fn state_of(execution: &KubernetesExecution) -> (StepState, Option<(ErrorType, String)>) {
    let status = execution.status.as_ref();
    match status.and_then(|status| status.phase) {
        Some(ExecutionPhase::Completed) => (StepState::Completed, None),
        Some(ExecutionPhase::Failed) => {
            let error_type = status
                .and_then(|status| status.error_type)
                .unwrap_or(ErrorType::UnknownError);
            let reason = status
                .and_then(|status| status.failure_reason.clone())
                .unwrap_or_default();
            (StepState::Failed, Some((error_type, reason)))
        }
        _ if execution.metadata.deletion_timestamp.is_some() => (
            StepState::Failed,
            Some((ErrorType::Cancelled, DELETED.to_owned())),
        ),
        _ => (StepState::Executing, None),
    }
}

pub(super) fn reference_to(execution: &KubernetesExecution) -> ObjectRef {
    ObjectRef {
        api_version: Some(names::EXECUTION_API_VERSION.to_owned()),
        kind: Some(names::EXECUTION_KIND.to_owned()),
        name: execution.metadata.name.clone().unwrap_or_default(),
        namespace: execution.metadata.namespace.clone(),
        uid: execution.metadata.uid.clone(),
    }
}

/// The name of a workflow, for messages.
pub(super) fn step_name(plan: &Plan, number: i32) -> String {
    plan.steps
        .get(&number)
        .map_or_else(|| number.to_string(), |step| step_words(number, &step.name))
}
