//! How a workflow is stopped: by a critical step that failed, and by people, who pause, cancel, or cancel and undo it.

use jiff::Timestamp;
use kubernaut_crds::{ErrorType, ExecutionShutdown, Shutdown, StepState, WorkflowPhase};

use super::WorkflowCommand;
use super::machine::{Purpose, WorkflowMachine};
use super::progress::{States, step_name};
use crate::announcement::EventRecord;
use crate::api_command::{ApiCommand, ApiFailure, ExecutionChange, FailureClass};
use crate::defect::{Defect, planted};
use crate::execution_key::{ExecutionKey, Role};
use crate::plan::Plan;

/// Why no new step starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// spec.shutdown was set.
    Shutdown(Shutdown),
    /// This critical step failed.
    Critical(i32),
    /// spec.suspend is set.
    Suspended,
}

/// Said while a workflow is paused.
pub(super) const PAUSED: &str = "paused by spec.suspend: no new step starts";

impl WorkflowMachine {
    /// Why no new step starts; `None` while they may. What a person says comes first: a critical step that fails because its
    /// workflow was cancelled is no other reason.
    pub(super) fn halted(&self, plan: &Plan, states: &States) -> Option<Halt> {
        if let Some(shutdown) = self.workflow.spec.shutdown {
            return Some(Halt::Shutdown(shutdown));
        }
        if !planted(Defect::IgnoreCriticalFailure)
            && let Some(number) = self.first_critical(plan, states, |_| true)
        {
            return Some(Halt::Critical(number));
        }
        (self.workflow.spec.suspend == Some(true)).then_some(Halt::Suspended)
    }

    /// A critical step that failed by itself, and not because its workflow was cancelled.
    pub(super) fn failed_critical(&self, plan: &Plan, states: &States) -> Option<i32> {
        self.first_critical(plan, states, |class| class != Some(ErrorType::Cancelled))
    }

    /// The first critical step that failed so: what failed after it, or cleaned up after it, hides no cause.
    fn first_critical(
        &self,
        plan: &Plan,
        states: &States,
        counts: impl Fn(Option<ErrorType>) -> bool,
    ) -> Option<i32> {
        let has_failed = |number: &i32| match states.get(number) {
            Some((StepState::Failed, failure)) => counts(failure.as_ref().map(|(class, _)| *class)),
            Some(_) | None => false,
        };
        let critical = plan.steps.iter().filter(|(_, step)| step.critical);
        critical
            .filter(|(number, _)| has_failed(number))
            .min_by_key(|(number, step)| {
                let at = self.completed_at(**number);
                // Of what has no time nobody knows when it failed: it comes after the others.
                (step.always, at.is_none(), at, **number)
            })
            .map(|(number, _)| *number)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.status.draft.phase == Some(WorkflowPhase::Paused)
    }

    /// Enters paused, or leaves it.
    pub(super) fn pause_or_resume(&mut self, plan: &Plan, now: Timestamp) {
        let states = self.step_states(plan);
        let halt = self.halted(plan, &states);
        // One that is about to end has no use for another phase before that.
        let goes_on = halt.is_none()
            || self.has_to_clean_up(plan, &states)
            || states.values().any(|(state, _)| *state == StepState::Executing);
        if halt == Some(Halt::Suspended) {
            self.enter(WorkflowPhase::Paused, now);
            self.status.draft.message = Some(PAUSED.to_owned());
        } else if self.is_paused() && goes_on {
            self.enter(WorkflowPhase::Executing, now);
            self.status.draft.message = None;
        }
    }

    /// Whether a step runs whatever became of those before it.
    pub(super) fn is_always(plan: &Plan, number: i32) -> bool {
        plan.steps.get(&number).is_some_and(|step| step.always)
    }

    /// Why a step that has not begun never will, where that is known; its turn has not come otherwise.
    pub(super) fn never_runs(
        &self,
        plan: &Plan,
        states: &States,
        number: i32,
    ) -> Option<(ErrorType, String)> {
        let state = |number: i32| states.get(&number).map(|(state, _)| *state);
        let is_lost = |number: &i32| matches!(state(*number), Some(StepState::Failed | StepState::Skipped));
        let mut before = plan.graph.dependencies_of(number);
        if Self::is_always(plan, number) {
            let has_ended = |number: i32| {
                !matches!(
                    state(number),
                    None | Some(StepState::Pending | StepState::Executing)
                )
            };
            let idle = before.all(has_ended) && !self.has_any_begun(plan, states, number);
            return idle.then(|| {
                let message = "not run: nothing that it cleans up after has begun";
                (ErrorType::DependencyFailed, message.to_owned())
            });
        }
        // What cleans up runs after a failure, too: who needs it needs all that came before it.
        let cause = before.find_map(|number| {
            if is_lost(&number) {
                return Some(number);
            }
            let all = Self::is_always(plan, number).then(|| plan.graph.all_before(number));
            all.into_iter().flatten().find(is_lost)
        })?;
        let what = if state(cause) == Some(StepState::Skipped) {
            "was skipped"
        } else {
            "failed"
        };
        Some((
            ErrorType::DependencyFailed,
            format!("not run: step {cause}, which it needs, {what}"),
        ))
    }

    /// Whether one of the steps that this one waits for had an attempt: only then there is something to clean up.
    fn has_any_begun(&self, plan: &Plan, states: &States, number: i32) -> bool {
        if planted(Defect::CleanUpAfterNothing) {
            return true;
        }
        plan.graph.dependencies_of(number).any(|before| {
            let key = ExecutionKey::step(before);
            let recorded = || {
                let mut steps = self.status.persisted.step_statuses.iter();
                steps.any(|step| step.step_number == before && step.k8s_execution_ref.is_some())
            };
            match states.get(&before).map(|(state, _)| *state) {
                Some(StepState::Completed | StepState::RolledBack) => true,
                Some(StepState::Failed) => self
                    .steps
                    .executions
                    .get(&key)
                    .map_or_else(recorded, |execution| execution.attempts().real().next().is_some()),
                Some(StepState::Pending | StepState::Executing | StepState::Skipped) | None => false,
            }
        })
    }

    /// Whether a step that cleans up may start: all before it have ended, or will never begin.
    pub(super) fn may_clean_up(&self, plan: &Plan, states: &States, number: i32, halted: bool) -> bool {
        let state = |number: i32| states.get(&number).map(|(state, _)| *state);
        let is_over = |before: i32| match state(before) {
            None | Some(StepState::Executing) => false,
            Some(StepState::Pending) => halted && !Self::is_always(plan, before),
            Some(StepState::Completed | StepState::Failed | StepState::RolledBack | StepState::Skipped) => {
                true
            }
        };
        state(number) == Some(StepState::Pending)
            && Self::is_always(plan, number)
            && plan.graph.dependencies_of(number).all(is_over)
            && self.has_any_begun(plan, states, number)
    }

    /// Whether a step that cleans up still has to start, or waits for another one that has.
    pub(super) fn has_to_clean_up(&self, plan: &Plan, states: &States) -> bool {
        let state = |number: i32| states.get(&number).map(|(state, _)| *state);
        !planted(Defect::SkipTheCleanUp)
            && plan.graph.order().any(|number| {
                Self::is_always(plan, number)
                    && state(number) == Some(StepState::Pending)
                    && (self.may_clean_up(plan, states, number, true)
                        || plan.graph.dependencies_of(number).any(|before| {
                            Self::is_always(plan, before) && state(before) == Some(StepState::Executing)
                        }))
            })
    }

    /// Tells the executions of a workflow that is cancelled.
    pub(super) fn cancel_executions(&mut self, plan: &Plan, now: Timestamp, out: &mut Vec<WorkflowCommand>) {
        if self.workflow.spec.shutdown.is_some() && !planted(Defect::LetRunOn) {
            self.stop_executions(plan, now, out);
        }
    }

    /// Tells the executions that live that they are cancelled; those that clean up are not.
    pub(super) fn stop_executions(&mut self, plan: &Plan, now: Timestamp, out: &mut Vec<WorkflowCommand>) {
        let live: Vec<_> = self
            .steps
            .executions
            .iter()
            .filter(|(key, execution)| {
                let is_cancelled = execution.spec.shutdown.is_some()
                    || execution.is_terminal()
                    || execution.metadata.deletion_timestamp.is_some();
                let is_clean_up = key.role == Role::Step && Self::is_always(plan, key.number);
                key.role != Role::Rollback && !is_cancelled && !is_clean_up
            })
            .filter(|(key, _)| !self.steps.absent.contains(key) && !self.steps.lost.contains_key(key))
            .map(|(key, execution)| (*key, execution.clone()))
            .collect();
        for (key, execution) in live {
            if self.calls.is_under_way(Purpose::Cancel(key)) {
                continue;
            }
            let until = self.steps.waiting.get(&key).map(|waiting| waiting.until);
            if let Some(until) = until.filter(|until| now < *until) {
                self.calls.alarm.set(until, "a step that can't be cancelled yet");
                continue;
            }
            let change = ExecutionChange {
                shutdown: Some(ExecutionShutdown::Cancel),
                ..ExecutionChange::default()
            };
            self.call(
                Purpose::Cancel(key),
                ApiCommand::PatchExecution { execution, change },
                out,
            );
        }
    }

    pub(super) fn cancel_failed(&mut self, now: Timestamp, key: ExecutionKey, failure: &ApiFailure) {
        match failure.class {
            // It has changed, or is gone: it is read, and then told again where it lives.
            FailureClass::Conflict | FailureClass::NotFound => {
                self.steps.absent.insert(key);
            }
            FailureClass::Throttled | FailureClass::Unknown => self.calls.pause(now, Purpose::Cancel(key)),
            FailureClass::Quota | FailureClass::Forbidden | FailureClass::Rejected => {
                self.wait_to_create(now, key, format!("to be cancelled: {}", failure.message));
            }
        }
    }

    /// Why a workflow that is over did not go on, in words.
    pub(super) fn stopped_because(plan: &Plan, halt: Halt, failure: Option<&str>) -> String {
        match halt {
            Halt::Shutdown(Shutdown::Cancel) => "cancelled by spec.shutdown: Cancel".to_owned(),
            Halt::Shutdown(Shutdown::Rollback) => "cancelled by spec.shutdown: Rollback".to_owned(),
            Halt::Critical(number) => format!(
                "critical step {} failed: {}",
                step_name(plan, number),
                failure.unwrap_or_default()
            ),
            Halt::Suspended => PAUSED.to_owned(),
        }
    }

    /// Tells, where the undo has begun, that a shutdown changes nothing.
    pub(super) fn note_late_shutdown(
        before: Option<Shutdown>,
        now: Option<Shutdown>,
        out: &mut Vec<WorkflowCommand>,
    ) {
        if before.is_none() && now.is_some() {
            out.push(WorkflowCommand::Publish(EventRecord {
                reason: "ShutdownIgnored",
                warning: true,
                action: "Rollback",
                note: "spec.shutdown was set while steps are undone: it changes nothing, the undo goes on"
                    .to_owned(),
                related: None,
            }));
        }
    }
}
