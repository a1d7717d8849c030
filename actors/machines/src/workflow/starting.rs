//! Which steps are started now: as many as may run beside each other, and as there are slots for their Jobs.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kubernaut_crds::{MicroTime, StepState, WorkflowExecution, WorkflowPhase};

use super::control::Halt;
use super::dry_run::dry_run_of;
use super::machine::{Purpose, WorkflowMachine};
use super::planning::is_begun;
use super::progress::States;
use super::{WorkflowCommand, step_words, waits_for_people};
use crate::api_command::ApiCommand;
use crate::defect::{Defect, planted};
use crate::execution_key::{ExecutionKey, Role};
use crate::plan::Plan;
use crate::status_draft::StatusDraft;
use crate::time::later;

/// A wait for a slot that is shorter is not worth a write.
pub const TELL_AFTER: Duration = Duration::from_secs(2);
/// As many of the steps that wait are named.
const NAMED: usize = 5;
/// What all wait for that are not started yet.
const REASON: &str = "as many Jobs run as --max-running-jobs allows";

/// The slots that are kept for steps of this workflow before these are made: a step without one would only be an execution and
/// an actor that wait.
#[derive(Debug, Default)]
pub(super) struct Starts {
    /// Those that are kept, as last heard.
    kept: usize,
    /// How many are of use now.
    wanted: usize,
    /// What was asked for last, and how many were kept then.
    said: Option<(usize, usize)>,
    /// Steps that could run and have no slot, in order, and since when there are any.
    waiting: Vec<i32>,
    since: Option<Timestamp>,
}

impl Starts {
    /// So many are kept now.
    pub(super) fn kept(&mut self, kept: usize) {
        self.kept = kept;
        if let Some((_, known)) = &mut self.said {
            *known = kept;
        }
    }

    /// A step was made, and took its slot with it.
    pub(super) fn begun(&mut self) {
        self.kept = self.kept.saturating_sub(1);
    }

    /// Until more is known: one for the first step, or none.
    pub(super) fn want(&mut self, wanted: usize) {
        self.wanted = wanted;
    }

    pub(super) fn note_waiting(&mut self, waiting: Vec<i32>, now: Timestamp) {
        self.since = (!waiting.is_empty()).then(|| self.since.unwrap_or(now));
        self.waiting = waiting;
    }

    /// When the wait has lasted so long that it is told.
    fn told_from(&self) -> Option<Timestamp> {
        self.since.map(|since| later(since, TELL_AFTER))
    }

    fn ask(&mut self) -> Option<usize> {
        let now = (self.wanted, self.kept);
        (self.said != Some(now)).then(|| {
            self.said = Some(now);
            self.wanted
        })
    }
}

impl WorkflowMachine {
    /// Creates the executions of the steps whose dependencies have completed, lowest number first.
    pub(super) fn start_ready_steps(&mut self, now: Timestamp, out: &mut Vec<WorkflowCommand>) {
        if self.waits_for_its_record() {
            self.steps.starts.want(1);
            return;
        }
        let Ok(plan) = self.plan_once() else { return };
        let states = self.step_states(&plan);
        let halt = self
            .halted(&plan, &states)
            .filter(|halt| !(matches!(halt, Halt::Shutdown(_)) && planted(Defect::StartAfterShutdown)));
        let cleans_up = halt.is_some() && !matches!(halt, Some(Halt::Suspended));
        let is_idle = halt == Some(Halt::Suspended)
            || cleans_up
                && (!self.has_to_clean_up(&plan, &states) || self.is_in_doubt(&plan, &states, now, out));
        if is_idle && !planted(Defect::StartWhilePaused) {
            self.steps.starts.note_waiting(Vec::new(), now);
            return;
        }
        let running = states
            .values()
            .filter(|(state, _)| *state == StepState::Executing)
            .count();
        let is_due = |number: i32, always: bool| {
            if always {
                self.may_clean_up(&plan, &states, number, cleans_up)
            } else {
                !cleans_up && is_ready(&plan, &states, number)
            }
        };
        let ready = plan
            .steps
            .iter()
            .filter(|(number, step)| is_due(**number, step.always));
        let ready: Vec<i32> = ready.map(|(number, _)| *number).collect();
        self.create(Role::Step, &plan, ready, running, now, out);
    }

    /// Creates executions of this role for the steps that are ready, beside those that run.
    pub(super) fn create(
        &mut self,
        role: Role,
        plan: &Plan,
        ready: Vec<i32>,
        running: usize,
        now: Timestamp,
        out: &mut Vec<WorkflowCommand>,
    ) {
        let limit = match self.workflow.spec.rollback_of {
            // Each undo waits for the one before it, however that ends.
            Some(_) => 1,
            None => usize::try_from(self.workflow.spec.max_parallel_steps)
                .unwrap_or(1)
                .max(1),
        };
        let creating = self.creating();
        let mut free = limit.saturating_sub(running + creating);
        let mut slots = self.steps.starts.kept.saturating_sub(creating);
        let (mut wanted, mut without) = (creating, Vec::new());
        for number in ready {
            let Some(step) = plan.steps.get(&number).filter(|_| free > 0) else {
                break;
            };
            let key = ExecutionKey { role, number };
            if self.calls.is_under_way(Purpose::Create(key)) {
                continue;
            }
            if let Some(waiting) = self.steps.waiting.get(&key)
                && now < waiting.until
            {
                let until = waiting.until;
                self.calls.alarm.set(until, "a step that can't be started yet");
                if self.workflow.spec.rollback_of.is_some() {
                    // The changes before this one are undone after it.
                    break;
                }
                continue;
            }
            free -= 1;
            wanted += 1;
            if slots == 0 {
                without.push(number);
                continue;
            }
            slots -= 1;
            let mut execution = match role {
                Role::DryRun => dry_run_of(&step.execution, key),
                Role::Step | Role::Rollback => step.execution.clone(),
            };
            // A dry run changes nothing: nobody has to approve it.
            execution.spec.approval_received &= role == Role::DryRun || !self.is_approved_by_people();
            execution.spec.approval_received |=
                self.is_approved_by_people() && planted(Defect::RunBeforeTheRecord);
            if planted(Defect::CreateUnderAnotherName) {
                let name = execution.metadata.name.unwrap_or_default();
                execution.metadata.name = Some(format!("{name}-{}", now.as_millisecond() % 100_000));
            }
            self.call(
                Purpose::Create(key),
                ApiCommand::CreateExecution(Box::new(execution)),
                out,
            );
        }
        self.steps.starts.want(wanted);
        self.steps.starts.note_waiting(without, now);
        if let Some(at) = self.steps.starts.told_from().filter(|at| *at > now) {
            self.calls
                .alarm
                .set(at, "a wait for a slot that is long enough to be told");
        }
    }

    /// Says how many slots are of use, when that has changed.
    pub(super) fn ask_for_slots(&mut self, out: &mut Vec<WorkflowCommand>) {
        // The creates that are under way have theirs.
        self.steps.starts.wanted = self.steps.starts.wanted.max(self.creating());
        out.extend(self.steps.starts.ask().map(WorkflowCommand::KeepSlots));
    }

    /// What of it waits for slots, in words, once it does for long.
    pub(super) fn waits_for_slots(&self, plan: &Plan, now: Timestamp) -> Option<String> {
        let starts = &self.steps.starts;
        starts.told_from().filter(|at| now >= *at)?;
        let named: Vec<String> = starts
            .waiting
            .iter()
            .take(NAMED)
            .filter_map(|number| Some(step_words(*number, &plan.steps.get(number)?.name)))
            .collect();
        let more = starts.waiting.len().saturating_sub(NAMED);
        let more = if more == 0 {
            String::new()
        } else {
            format!(" and {more} more")
        };
        Some(format!(
            "waiting for a slot: {}{more}: {REASON}",
            named.join(", ")
        ))
    }
}

/// The write that says of a workflow that nobody has begun that it waits; `None` where it says so already.
pub fn tell_of_the_wait(workflow: &Arc<WorkflowExecution>, now: Timestamp) -> Option<ApiCommand> {
    let persisted = workflow.status.clone().unwrap_or_default();
    let message = format!("waits to be started: {REASON}");
    let is_told = persisted.message.as_ref() == Some(&message) || waits_for_people(workflow);
    if is_told || is_begun(persisted.phase) {
        return None;
    }
    let mut status = StatusDraft::restore(persisted);
    if status.draft.phase.is_none() {
        status.enter(WorkflowPhase::Planning, workflow.metadata.generation, now);
        status.draft.planning_start_time = Some(MicroTime(now));
    }
    status.draft.message = Some(message);
    let patch = status.send(workflow.metadata.resource_version.as_deref())?;
    Some(ApiCommand::WriteWorkflowStatus {
        workflow: Arc::clone(workflow),
        patch,
    })
}

/// Whether a step of it may have been made, by what its status says.
pub fn has_begun(workflow: &WorkflowExecution) -> bool {
    is_begun(workflow.status.as_ref().and_then(|status| status.phase))
}

/// It has not begun, and all that it needs has completed.
pub(super) fn is_ready(plan: &Plan, states: &States, number: i32) -> bool {
    let stands_at =
        |number: i32, wanted: StepState| states.get(&number).is_some_and(|(state, _)| *state == wanted);
    stands_at(number, StepState::Pending)
        && (planted(Defect::IgnoreDependencies)
            || plan
                .graph
                .dependencies_of(number)
                .all(|before| stands_at(before, StepState::Completed)))
}
