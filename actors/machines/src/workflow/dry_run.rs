//! dryRunFirst: every step is tried before the first one runs, each by an execution of its own that changes nothing.

use std::time::Duration;

use jiff::Timestamp;
use kubernaut_crds::{
    ConditionReason, ErrorType, ExecutionDryRunResults, KubernetesExecution, StepState, WorkflowDryRunResults,
};

use super::control::PAUSED;
use super::machine::WorkflowMachine;
use super::progress::{States, state_of, step_name};
use super::validating::Gate;
use super::{WorkflowCommand, step_words};
use crate::actions::target_name;
use crate::classify::cut;
use crate::duration::format_go;
use crate::execution_key::{ExecutionKey, Role};
use crate::plan::Plan;
use crate::status_draft::MESSAGE_MAX;
use crate::time::seconds_between;

/// As many sentences of one sort are kept.
const SENTENCES_MAX: usize = 200;

/// The execution that tries what this one does.
pub(super) fn dry_run_of(step: &KubernetesExecution, key: ExecutionKey) -> KubernetesExecution {
    let mut execution = step.clone();
    let owners = execution.metadata.owner_references.iter().flatten();
    let workflow = owners.map(|owner| owner.name.clone()).next().unwrap_or_default();
    execution.metadata.name = Some(key.name(&workflow));
    execution.spec.dry_run = Some(true);
    execution
}

impl WorkflowMachine {
    pub(super) fn wants_dry_runs(&self) -> bool {
        self.workflow.spec.execution_strategy.dry_run_first
    }

    /// Open when each step was tried, and what came of it is recorded.
    pub(super) fn dry_run_gate(
        &mut self,
        plan: &Plan,
        now: Timestamp,
        out: &mut Vec<WorkflowCommand>,
    ) -> Gate {
        let recorded = self.status.persisted.validation_results.as_ref();
        if !self.wants_dry_runs() || recorded.is_some_and(|results| results.dry_run_performed) {
            return Gate::Open;
        }
        self.ensure_steps(out);
        self.find_absent_steps(out);
        let states = self.dry_run_states(plan);
        let in_state = |wanted: StepState| -> Vec<i32> {
            let found = states.iter().filter(|(_, (state, _))| *state == wanted);
            found.map(|(number, _)| *number).collect()
        };
        let (pending, running) = (in_state(StepState::Pending), in_state(StepState::Executing));
        let fatal = Self::fatal(plan, &states);
        let goes_on = fatal.is_none();
        if !goes_on {
            // The workflow will not run: nobody waits for what the others find.
            self.stop_executions(plan, now, out);
            self.steps.starts.note_waiting(Vec::new(), now);
        } else if self.workflow.spec.suspend != Some(true) {
            self.create(Role::DryRun, plan, pending.clone(), running.len(), now, out);
        }
        if !running.is_empty() || self.creating() > 0 || goes_on && !pending.is_empty() {
            self.tell_of_dry_runs(plan, &running, pending.len(), now, out);
            return Gate::Waits;
        }
        self.record_dry_runs(plan, &states, now);
        if let Some((number, error_type, why)) = fatal {
            self.dry_run_failed(plan, number, error_type, &why, now);
            return Gate::Failed;
        }
        // Whoever approves it looks at the results, and a controller that comes later tries nothing again.
        self.write(now, out);
        Gate::Waits
    }

    /// Tells dry runs that live that they are cancelled; true while there are any.
    pub(super) fn stop_dry_runs(
        &mut self,
        plan: &Plan,
        now: Timestamp,
        out: &mut Vec<WorkflowCommand>,
    ) -> bool {
        self.ensure_steps(out);
        self.find_absent_steps(out);
        self.cancel_executions(plan, now, out);
        self.find_unsure_steps(out);
        let states = self.dry_run_states(plan);
        let in_state = |wanted: StepState| -> Vec<i32> {
            let found = states.iter().filter(|(_, (state, _))| *state == wanted);
            found.map(|(number, _)| *number).collect()
        };
        let running = in_state(StepState::Executing);
        let waits = !running.is_empty() || self.creating() > 0 || !self.steps.unsure.is_empty();
        if waits {
            self.tell_of_dry_runs(plan, &running, in_state(StepState::Pending).len(), now, out);
        }
        waits
    }

    /// Where the dry run of each step stands.
    fn dry_run_states(&self, plan: &Plan) -> States {
        let state = |number: i32| {
            let key = ExecutionKey::dry_run(number);
            match (self.steps.executions.get(&key), self.steps.lost.get(&key)) {
                (Some(execution), Some(_)) if execution.is_terminal() => state_of(execution),
                (_, Some(lost)) => (StepState::Failed, Some(lost.clone())),
                (Some(execution), None) => state_of(execution),
                (None, None) => (StepState::Pending, None),
            }
        };
        plan.steps
            .keys()
            .map(|number| (*number, state(*number)))
            .collect()
    }

    /// The first step that failed and depends on no other one: what it needs is not made by the workflow. One that was stopped
    /// for another's failure is no cause.
    fn fatal(plan: &Plan, states: &States) -> Option<(i32, ErrorType, String)> {
        let failed = states.iter().filter_map(|(number, (state, failure))| {
            let depends = plan.graph.dependencies_of(*number).next().is_some();
            let (error_type, why) = failure.clone()?;
            (*state == StepState::Failed && !depends).then_some((*number, error_type, why))
        });
        failed.min_by_key(|(number, error_type, _)| (*error_type == ErrorType::Cancelled, *number))
    }

    /// Progress is written as that of steps is.
    fn tell_of_dry_runs(
        &mut self,
        plan: &Plan,
        running: &[i32],
        pending: usize,
        now: Timestamp,
        out: &mut Vec<WorkflowCommand>,
    ) {
        let total = plan.steps.len();
        let ended = total.saturating_sub(running.len() + pending);
        let names: Vec<String> = running.iter().map(|number| step_name(plan, *number)).collect();
        let running = (!names.is_empty()).then(|| format!("running: {}", names.join(", ")));
        let waiting = self.steps.waiting.iter();
        let waiting = waiting.map(|(key, waiting)| format!("step {} waits {}", key.number, waiting.why));
        let without_slot = self.waits_for_slots(plan, now);
        let first = format!("dry run: {ended} of {total} steps were tried");
        let is_paused = self.workflow.spec.suspend == Some(true);
        let words: Vec<String> = [first]
            .into_iter()
            .chain(is_paused.then(|| PAUSED.to_owned()))
            .chain(running)
            .chain(waiting)
            .chain(without_slot)
            .collect();
        self.status.draft.message = Some(cut(&words.join("; "), MESSAGE_MAX));
        if self.status.draft != self.status.persisted {
            let due = self.pace.due(now);
            if now >= due {
                self.write(now, out);
            } else {
                self.calls.alarm.set(due, "progress of dry runs");
            }
        }
    }

    fn record_dry_runs(&mut self, plan: &Plan, states: &States, now: Timestamp) {
        let mut results = WorkflowDryRunResults {
            overall_success: states.values().all(|(state, _)| *state == StepState::Completed),
            ..WorkflowDryRunResults::default()
        };
        let mut begun = now;
        for (number, (state, failure)) in states {
            let Some(step) = plan.steps.get(number) else {
                continue;
            };
            let name = step_words(*number, &step.name);
            let status = self.steps.executions.get(&ExecutionKey::dry_run(*number));
            let status = status.and_then(|execution| execution.status.as_ref());
            let started = status.and_then(|status| status.start_time.as_ref());
            begun = started.map_or(begun, |time| begun.min(time.0));
            let tried = status
                .and_then(|status| status.validation_results.as_ref())
                .and_then(|results| results.dry_run_results.clone())
                .unwrap_or_default();
            results.steps_simulated += i32::from(tried.performed);
            let why = failure.as_ref().map_or("", |(_, why)| why.as_str());
            results.step_results.push(match state {
                StepState::Completed => format!("step {name}: {}", impact(&tried)),
                StepState::Failed => format!("step {name}: failed: {why}"),
                StepState::Pending | StepState::Executing | StepState::RolledBack | StepState::Skipped => {
                    format!("step {name}: not tried")
                }
            });
            if tried.success && affected(&tried) > 0 {
                let target = target_name(&step.target);
                results
                    .resource_changes
                    .push(format!("{target}: {}", impact(&tried)));
            }
            let warnings = tried.warnings.iter();
            results
                .potential_issues
                .extend(warnings.map(|warning| format!("step {name}: {warning}")));
            let before: Vec<String> = plan
                .graph
                .dependencies_of(*number)
                .map(|before| step_name(plan, before))
                .collect();
            if *state == StepState::Failed && !before.is_empty() {
                results.potential_issues.push(format!(
                    "step {name} can't be tried now; it runs after {}, which may make what it needs: {why}",
                    before.join(", ")
                ));
            }
        }
        for sentences in [
            &mut results.step_results,
            &mut results.resource_changes,
            &mut results.potential_issues,
        ] {
            sentences.truncate(SENTENCES_MAX);
            for sentence in sentences.iter_mut() {
                *sentence = cut(sentence, MESSAGE_MAX);
            }
        }
        results.execution_time = Some(format_go(Duration::from_secs_f64(seconds_between(begun, now))));
        let issues = results.potential_issues.len();
        let (tried, total) = (results.steps_simulated, plan.steps.len());
        self.status.draft.message = Some(format!(
            "dry run: {tried} of {total} steps were tried, potential issues: {issues}"
        ));
        let validation = self.validation_results();
        validation.dry_run_performed = true;
        validation.dry_run_results = Some(results);
    }

    fn dry_run_failed(&mut self, plan: &Plan, number: i32, error_type: ErrorType, why: &str, now: Timestamp) {
        let reason = format!("the dry run of step {} failed: {why}", step_name(plan, number));
        self.refuse_to_begin(
            plan,
            Some(number),
            error_type,
            ConditionReason::DryRunFailed,
            &reason,
            now,
        );
    }
}

/// What would change, in words.
fn impact(tried: &ExecutionDryRunResults) -> String {
    let impact = tried.estimated_impact.as_ref();
    let words = impact.and_then(|impact| impact.description.clone());
    words.unwrap_or_else(|| "tried".to_owned())
}

fn affected(tried: &ExecutionDryRunResults) -> i32 {
    let impact = tried.estimated_impact.as_ref();
    impact.map_or(0, |impact| impact.resources_affected)
}
