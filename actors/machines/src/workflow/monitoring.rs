//! monitoring: a while after the last step its outcome is looked at once more, and that of each step that no later one took over.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kubernaut_crds::{Action, ErrorType, KubernetesExecution, ResourceHealth, Shutdown, StepState};

use super::WorkflowCommand;
use super::control::Halt;
use super::machine::{Purpose, WorkflowMachine};
use super::progress::step_name;
use crate::Settings;
use crate::actions::{Changes, target_name};
use crate::api_command::{ApiCommand, ApiFailure};
use crate::execution_key::ExecutionKey;
use crate::parameters::{self, ValidatedExecution};
use crate::plan::Plan;
use crate::reads::{Read, ReadResults};
use crate::time::later;
use crate::verify::{self, JobResult, Postcondition};

/// An API server that gives no answer at the end of the window is asked for this long.
const LOOK_PATIENCE: Duration = Duration::from_mins(1);

/// What was read of one step's target, and what is asked for.
#[derive(Debug, Default)]
pub(super) struct Look {
    facts: ReadResults,
    asked: Vec<Read>,
    /// Why it can't be read.
    unreadable: Option<String>,
}

/// How the target of a step is at the end.
enum Found {
    AsWanted,
    /// The change is there, and what should follow from it is not.
    Degraded(String),
    /// Somebody has changed it since.
    Changed(String),
    Unknown(String),
}

impl WorkflowMachine {
    /// When the window ends; `None` where there is none.
    pub(super) fn window_ends(&self) -> Option<Timestamp> {
        let window = self.settings.monitoring_window;
        let begun = self.status.draft.monitoring_start_time.as_ref()?;
        (window > Duration::ZERO).then(|| later(begun.0, window))
    }

    pub(super) fn monitoring(&mut self, now: Timestamp, out: &mut Vec<WorkflowCommand>) {
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
        self.release_recorded(&[], out);
        let shutdown = self.workflow.spec.shutdown;
        if let Some(shutdown @ Shutdown::Rollback) = shutdown {
            let reason = Self::stopped_because(&plan, Halt::Shutdown(shutdown), None);
            self.begin_rollback(None, &reason, now);
            return self.write(now, out);
        }
        if let Some(ends) = self
            .window_ends()
            .filter(|ends| now < *ends && shutdown.is_none())
        {
            return self.calls.alarm.set(ends, "the end of the monitoring window");
        }
        let mut found = self.not_to_be_found();
        for (number, execution) in self.last_on_their_targets() {
            match self.look_at(number, &execution, out) {
                Some(seen) => found.push((number, seen)),
                None => return,
            }
        }
        self.conclude(&plan, &found, now);
        self.write(now, out);
    }

    /// The steps that nobody can look at any more.
    fn not_to_be_found(&self) -> Vec<(i32, Found)> {
        let completed = self.numbers_of(StepState::Completed).into_iter();
        let gone =
            completed.filter(|number| !self.steps.executions.contains_key(&ExecutionKey::step(*number)));
        gone.map(|number| {
            (
                number,
                Found::Unknown("its KubernetesExecution is gone".to_owned()),
            )
        })
        .collect()
    }

    /// The steps whose change counts: a later one on the field of a target takes its place.
    fn last_on_their_targets(&self) -> Vec<(i32, Arc<KubernetesExecution>)> {
        let steps = self.status.draft.step_statuses.iter();
        let mut completed: Vec<_> = steps
            .filter(|step| step.status == StepState::Completed)
            .filter_map(|step| {
                let execution = self.steps.executions.get(&ExecutionKey::step(step.step_number))?;
                let checked = checked(execution, &self.settings)?;
                Some((
                    self.completed_at(step.step_number),
                    step.step_number,
                    execution.clone(),
                    checked,
                ))
            })
            .collect();
        completed.sort_by_key(|(at, number, ..)| (*at, *number));
        let mut last = Vec::new();
        let mut completed = VecDeque::from(completed);
        while let Some((_, number, execution, earlier)) = completed.pop_front() {
            if !completed.iter().any(|(.., later)| supersedes(later, &earlier)) {
                last.push((number, execution));
            }
        }
        last
    }

    /// How a step's target is now; `None` while it is read.
    fn look_at(
        &mut self,
        number: i32,
        execution: &Arc<KubernetesExecution>,
        out: &mut Vec<WorkflowCommand>,
    ) -> Option<Found> {
        let Some(checked) = checked(execution, &self.settings) else {
            return Some(Found::Unknown("its parameters can't be read any more".to_owned()));
        };
        let status = execution.status.as_ref();
        let Some(mut attempt) = status.and_then(|status| status.attempts().real().last().cloned()) else {
            return Some(Found::Unknown("its attempts were not kept".to_owned()));
        };
        if let Some(first) = status.and_then(|status| status.attempts().real().next()) {
            attempt.pods.clone_from(&first.pods);
        }
        let purpose = Purpose::Look(number);
        if self.calls.is_under_way(purpose) {
            return None;
        }
        let look = self.steps.looks.entry(number).or_default();
        if let Some(why) = look.unreadable.clone() {
            return Some(Found::Unknown(why));
        }
        let reads = verify::reads(&checked, &attempt, &look.facts);
        if !reads.is_empty() {
            look.asked.clone_from(&reads);
            self.call(purpose, ApiCommand::Read(reads), out);
            return None;
        }
        let facts = &look.facts;
        let outcome = verify::postcondition(execution, &checked, &attempt, facts, JobResult::Success);
        let target = target_name(&checked.target);
        Some(match outcome {
            Postcondition::Holds { .. } => Found::AsWanted,
            Postcondition::InProgress { why } | Postcondition::Stuck { why } => {
                Found::Degraded(format!("{target}: {why}"))
            }
            Postcondition::NotThere { why } | Postcondition::Never { why } => {
                Found::Changed(format!("{target}: {why}"))
            }
            Postcondition::Unprovable { why } => Found::Unknown(format!("{target}: {why}")),
        })
    }

    pub(super) fn looked(&mut self, number: i32, facts: ReadResults) {
        self.steps.looks.entry(number).or_default().facts.extend(facts);
    }

    /// A look that gets no answer is made again for a while; one that is refused shows nothing, and nothing waits for it.
    pub(super) fn look_failed(&mut self, now: Timestamp, number: i32, failure: &ApiFailure) {
        let has_time = |ends: Timestamp| now < later(ends, LOOK_PATIENCE);
        let goes_on = self.workflow.spec.shutdown.is_none() && self.window_ends().is_some_and(has_time);
        if failure.class.is_transient() && goes_on {
            return self.calls.pause(now, Purpose::Look(number));
        }
        let look = self.steps.looks.entry(number).or_default();
        look.unreadable = Some(failure.message.clone());
    }

    /// The window is over, and this was found.
    fn conclude(&mut self, plan: &Plan, found: &[(i32, Found)], now: Timestamp) {
        let mut notes = Vec::new();
        let (mut well, mut degraded, mut unknown) = (0, 0, 0);
        for (number, found) in found {
            let step = step_name(plan, *number);
            match found {
                Found::AsWanted => well += 1,
                Found::Degraded(why) => {
                    degraded += 1;
                    notes.push(format!("step {step} is not well any more: {why}"));
                }
                Found::Changed(why) => {
                    unknown += 1;
                    notes.push(format!("step {step}: changed since: {why}"));
                }
                Found::Unknown(why) => {
                    unknown += 1;
                    notes.push(format!("step {step} could not be looked at again: {why}"));
                }
            }
        }
        let health = match (well, degraded, unknown) {
            (0, 0, 0) => ResourceHealth::Unknown,
            (0, 1.., 0) => ResourceHealth::Unhealthy,
            (_, 1.., _) => ResourceHealth::Degraded,
            (_, _, 1..) => ResourceHealth::Unknown,
            _ => ResourceHealth::Healthy,
        };
        self.complete_workflow(plan, health, &notes, now);
    }
}

fn checked(execution: &KubernetesExecution, settings: &Settings) -> Option<ValidatedExecution> {
    // What has begun is brought to its end, also when the flags became stricter since.
    parameters::check(execution, &settings.without_limits()).ok()
}

/// Whether a later step took over what an earlier one had set.
fn supersedes(later: &ValidatedExecution, earlier: &ValidatedExecution) -> bool {
    let schedules =
        |changes: Changes| matches!(changes, Changes::Schedulability | Changes::SchedulabilityAndPods);
    let changes = |checked: &ValidatedExecution| checked.kind.definition().changes;
    let (new, old) = (changes(later), changes(earlier));
    later.target == earlier.target
        && match (&later.action, &earlier.action) {
            (Action::UpdateConfigMap(later), Action::UpdateConfigMap(earlier)) => {
                later.data.keys().any(|key| earlier.data.contains_key(key))
            }
            _ => new == old || new == Changes::Anything || schedules(new) && schedules(old),
        }
}
