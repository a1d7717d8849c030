//! rolling_back: what the steps changed is taken back, the last change first, one at a time.

use std::sync::Arc;

use jiff::Timestamp;
use kubernaut_crds::{
    ConditionReason, ConditionType, ErrorType, KubernetesExecution, RollbackStrategy, Shutdown, StepState,
    StepStatus, StepUndo, UndoState, WorkflowPhase,
};

use super::WorkflowCommand;
use super::machine::{Purpose, WorkflowMachine};
use super::progress::{reference_to, state_of, step_name};
use crate::api_command::ApiCommand;
use crate::classify::cut;
use crate::defect::{Defect, planted};
use crate::execution_key::{ExecutionKey, Role};
use crate::mapping::same_spec;
use crate::plan::Plan;
use crate::undoing::{NotReversible, changed, undo_execution};

/// What is to be done about one step.
enum Turn {
    /// Its undo is to be made.
    Make(Box<KubernetesExecution>),
    /// Its undo runs, or the API has to be asked for it.
    Runs(Option<Arc<KubernetesExecution>>),
    /// It is over.
    Over(StepUndo),
}

fn undo_key(number: i32) -> ExecutionKey {
    ExecutionKey {
        role: Role::Rollback,
        number,
    }
}

fn over(status: UndoState, error_type: Option<ErrorType>, message: impl Into<String>) -> Turn {
    Turn::Over(StepUndo {
        status,
        message: Some(message.into()),
        error_type,
        k8s_execution_ref: None,
    })
}

impl WorkflowMachine {
    /// All that was running has ended, and now it is taken back.
    pub(super) fn begin_rollback(&mut self, critical: Option<i32>, reason: &str, now: Timestamp) {
        self.status.draft.failed_step = critical;
        self.skip_pending("not run: the workflow is rolled back");
        self.status.draft.rollback_reason = Some(cut(reason, kubernaut_crds::names::TEXT_MAX));
        self.status.draft.message = Some(format!("undoing what was changed: {reason}"));
        self.enter(WorkflowPhase::RollingBack, now);
    }

    pub(super) fn rolling_back(&mut self, now: Timestamp, out: &mut Vec<WorkflowCommand>) {
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
        self.ensure_steps(out);
        self.find_absent_steps(out);
        let mut waits = false;
        for number in self.to_undo(&plan) {
            match self.turn(&plan, number) {
                Turn::Over(undo) => self.note_undo(number, undo),
                Turn::Runs(execution) => {
                    self.note_undo_under_way(&plan, number, execution.as_deref());
                    if execution.is_none() {
                        self.find(vec![undo_key(number)], out);
                    }
                    waits = true;
                }
                Turn::Make(execution) => {
                    self.make_undo(number, execution, now, out);
                    waits = true;
                }
            }
            if waits && !planted(Defect::UndoAtOnce) {
                break;
            }
        }
        // What an execution recorded is needed until it was taken back.
        let is_over = |step: &StepStatus| {
            let undo = step.undo.as_ref();
            undo.is_some_and(|undo| undo.status != UndoState::Executing)
        };
        let persisted = self.status.persisted.step_statuses.iter();
        let over: Vec<i32> = persisted
            .filter(|step| is_over(step))
            .map(|step| step.step_number)
            .collect();
        let mut left = self.to_undo(&plan);
        left.retain(|number| !over.contains(number));
        self.release_recorded(&left, out);
        if !waits {
            self.rolled_back(&plan, now);
            return self.write(now, out);
        }
        if self.status.draft != self.status.persisted {
            let due = self.pace.due(now);
            if now >= due {
                return self.write(now, out);
            }
            self.calls.alarm.set(due, "progress");
        }
    }

    /// The steps that changed something, or may have, the last one first. What cleans up is not undone.
    pub(super) fn to_undo(&self, plan: &Plan) -> Vec<i32> {
        if self.workflow.spec.rollback_of.is_some() {
            // An undo is never itself undone.
            return Vec::new();
        }
        let steps = &self.status.draft.step_statuses;
        let ended = steps
            .iter()
            .filter(|step| planted(Defect::UndoTheCleanUp) || !Self::is_always(plan, step.step_number))
            .filter(|step| match step.status {
                StepState::Completed | StepState::RolledBack => true,
                StepState::Failed => step.undo.is_some() || self.may_have_changed(step),
                StepState::Pending | StepState::Executing | StepState::Skipped => false,
            })
            .map(|step| (self.completed_at(step.step_number), step.step_number));
        let mut ended = plan.graph.last_first(ended.collect());
        if planted(Defect::UndoForwards) {
            ended.reverse();
        }
        if planted(Defect::ForgetAnUndo) {
            ended.pop();
        }
        ended
    }

    /// The steps whose executions are kept although somebody deleted one: what they recorded is needed where the workflow fails, or
    /// now that a person has asked for it.
    pub(super) fn needed_for_an_undo(&self, plan: &Plan) -> Vec<i32> {
        let spec = &self.workflow.spec;
        let is_undone = spec.execution_strategy.rollback_strategy == RollbackStrategy::Automatic
            || spec.shutdown == Some(Shutdown::Rollback);
        let mut executions = self.steps.executions.values();
        // Mostly nothing is deleted, and nobody has to ask what that would undo.
        if is_undone && executions.any(|execution| execution.metadata.deletion_timestamp.is_some()) {
            self.to_undo(plan)
        } else {
            Vec::new()
        }
    }

    /// Of one whose execution is gone nobody knows.
    fn may_have_changed(&self, step: &StepStatus) -> bool {
        let execution = self.steps.executions.get(&ExecutionKey::step(step.step_number));
        match execution {
            Some(execution) => {
                let status = execution.status.as_ref();
                status.is_some_and(|status| changed(execution, status).is_some())
            }
            None => step.k8s_execution_ref.is_some(),
        }
    }

    /// As its execution has it, which is more precise than what this workflow saw of it.
    pub(super) fn completed_at(&self, number: i32) -> Option<Timestamp> {
        let execution = self.steps.executions.get(&ExecutionKey::step(number));
        let of_execution = execution.and_then(|execution| execution.status.as_ref()?.completion_time.clone());
        let mut steps = self.status.persisted.step_statuses.iter();
        let recorded = || steps.find(|step| step.step_number == number)?.end_time.clone();
        of_execution.or_else(recorded).map(|time| time.0)
    }

    fn turn(&self, plan: &Plan, number: i32) -> Turn {
        let recorded = self.recorded_undo(number);
        if let Some(undo) = recorded.filter(|undo| undo.status != UndoState::Executing) {
            return Turn::Over(undo.clone());
        }
        let key = undo_key(number);
        let wanted = self.undo_of(plan, number);
        let execution = self.steps.executions.get(&key);
        // It ended before it was lost.
        let lost = self
            .steps
            .lost
            .get(&key)
            .filter(|_| !execution.is_some_and(|found| found.is_terminal()));
        if let Some(lost) = lost {
            return Turn::Over(failed_undo(lost.clone()));
        }
        if let Some(execution) = execution.filter(|execution| Self::is_the_undo(execution, recorded, &wanted))
        {
            let mut undo = match state_of(execution) {
                (StepState::Executing, _) => return Turn::Runs(Some(execution.clone())),
                (StepState::Completed, _) => StepUndo {
                    status: UndoState::Completed,
                    message: execution
                        .status
                        .as_ref()
                        .and_then(|status| status.message.clone()),
                    error_type: None,
                    k8s_execution_ref: None,
                },
                (_, failure) => failed_undo(failure.unwrap_or((ErrorType::UnknownError, String::new()))),
            };
            undo.message = undo.message.map(|message| cut(&message, 1000));
            undo.k8s_execution_ref = Some(reference_to(execution));
            return Turn::Over(undo);
        }
        if execution.is_some() {
            let what = "carries this workflow's owner reference, but is not the undo of its step";
            return over(UndoState::Failed, Some(ErrorType::ResourceConflict), what);
        }
        if recorded.is_some() {
            return Turn::Runs(None);
        }
        match wanted {
            Ok(Some(execution)) => Turn::Make(Box::new(execution)),
            Ok(None) => over(UndoState::Completed, None, "nothing to undo: it changed nothing"),
            Err(NotReversible(why)) => over(UndoState::NotReversible, None, cut(&why, 1000)),
        }
    }

    fn recorded_undo(&self, number: i32) -> Option<&StepUndo> {
        let mut steps = self.status.draft.step_statuses.iter();
        steps.find(|step| step.step_number == number)?.undo.as_ref()
    }

    /// What was recorded once was compared then: a later version of this program might make it differently.
    fn is_the_undo(
        execution: &KubernetesExecution,
        recorded: Option<&StepUndo>,
        wanted: &Result<Option<KubernetesExecution>, NotReversible>,
    ) -> bool {
        let is_recorded = recorded
            .and_then(|undo| undo.k8s_execution_ref.as_ref())
            .is_some_and(|reference| reference.uid == execution.metadata.uid);
        let is_wanted = matches!(wanted, Ok(Some(wanted)) if same_spec(&wanted.spec, &execution.spec));
        is_recorded || is_wanted || planted(Defect::AdoptStrangersExecution)
    }

    /// The execution that undoes a step; `None` where it changed nothing.
    fn undo_of(&self, plan: &Plan, number: i32) -> Result<Option<KubernetesExecution>, NotReversible> {
        let steps = &self.workflow.spec.workflow_definition.steps;
        let step = steps.iter().find(|step| step.step_number == number);
        let execution = self.steps.executions.get(&ExecutionKey::step(number));
        match (step, execution) {
            // One that was let go is as good as gone.
            (Some(step), Some(execution)) if !self.is_released(execution) => {
                undo_execution(&self.workflow, step, execution)
            }
            _ => Err(NotReversible(format!(
                "the KubernetesExecution of step {} is gone, and with it what it recorded",
                step_name(plan, number)
            ))),
        }
    }

    fn is_released(&self, execution: &KubernetesExecution) -> bool {
        let uid = execution.metadata.uid.as_ref();
        uid.is_some_and(|uid| self.steps.released.contains(uid))
    }

    fn make_undo(
        &mut self,
        number: i32,
        mut execution: Box<KubernetesExecution>,
        now: Timestamp,
        out: &mut Vec<WorkflowCommand>,
    ) {
        let key = undo_key(number);
        if self.calls.is_under_way(Purpose::Create(key)) {
            return;
        }
        if let Some(waiting) = self.steps.waiting.get(&key)
            && now < waiting.until
        {
            self.status.draft.message =
                Some(cut(&format!("undoing step {number} waits {}", waiting.why), 1000));
            return self
                .calls
                .alarm
                .set(waiting.until, "an undo that can't be made yet");
        }
        if planted(Defect::UndoBlindly)
            && let Some(undo) = &mut execution.spec.parameters.undo
        {
            undo.patch = undo.patch.as_deref().map(without_tests);
        }
        self.call(Purpose::Create(key), ApiCommand::CreateExecution(execution), out);
    }

    fn note_undo(&mut self, number: i32, undo: StepUndo) {
        let mut steps = self.status.draft.step_statuses.iter_mut();
        let Some(step) = steps.find(|step| step.step_number == number) else {
            return;
        };
        if undo.status == UndoState::Completed && step.status == StepState::Completed {
            step.status = StepState::RolledBack;
        }
        step.undo = Some(undo);
    }

    fn note_undo_under_way(&mut self, plan: &Plan, number: i32, execution: Option<&KubernetesExecution>) {
        if let Some(execution) = execution {
            let undo = StepUndo {
                status: UndoState::Executing,
                message: None,
                error_type: None,
                k8s_execution_ref: Some(reference_to(execution)),
            };
            self.note_undo(number, undo);
            self.status.draft.message = Some(format!("undoing step {}", step_name(plan, number)));
        }
    }

    /// Nothing is left to undo.
    fn rolled_back(&mut self, plan: &Plan, now: Timestamp) {
        let states = self.step_states(plan);
        let named = |wanted: UndoState| -> Vec<String> {
            let steps = self.status.draft.step_statuses.iter();
            let undone = steps.filter_map(|step| Some((step, step.undo.as_ref()?)));
            undone
                .filter(|(_, undo)| undo.status == wanted)
                .map(|(step, undo)| match (wanted, &undo.message) {
                    (UndoState::Completed, _) | (_, None) => step_name(plan, step.step_number),
                    (_, Some(why)) => format!("{} ({why})", step_name(plan, step.step_number)),
                })
                .collect()
        };
        let undone = named(UndoState::Completed);
        let failed = named(UndoState::Failed);
        let not_reversible = named(UndoState::NotReversible);
        let mut words = Vec::new();
        for (what, steps) in [
            ("undone", &undone),
            ("not undone", &failed),
            ("not reversible", &not_reversible),
        ] {
            if !steps.is_empty() {
                words.push(format!("{what}: {}", steps.join(", ")));
            }
        }
        if words.is_empty() {
            words.push("nothing was to be undone".to_owned());
        }
        let told = words.join("; ");
        // Whatever a person has asked for since.
        let critical = self.status.draft.failed_step;
        let failure = critical.and_then(|number| states.get(&number)?.1.clone());
        let error_type = failure.map_or(ErrorType::Cancelled, |(error_type, _)| error_type);
        let why = self.status.draft.rollback_reason.clone().unwrap_or_default();
        let reason = if failed.is_empty() {
            ConditionReason::Undone
        } else {
            ConditionReason::UndoFailed
        };
        self.condition(ConditionType::RolledBack, failed.is_empty(), reason, &told, now);
        self.fail_workflow(
            error_type,
            critical,
            &format!("{}. {told}", why.trim_end_matches('.')),
            now,
        );
    }
}

fn failed_undo((error_type, message): (ErrorType, String)) -> StepUndo {
    StepUndo {
        status: UndoState::Failed,
        message: Some(cut(&message, 1000)),
        error_type: Some(error_type),
        k8s_execution_ref: None,
    }
}

fn without_tests(patch: &str) -> String {
    let operations: Vec<serde_json::Value> = serde_json::from_str(patch).unwrap_or_default();
    let changes = operations
        .into_iter()
        .filter(|operation| operation["op"] != "test");
    serde_json::Value::Array(changes.collect()).to_string()
}
