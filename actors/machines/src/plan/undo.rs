//! The plan of a workflow that undoes another one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kubernaut_crds::{
    Batch, ExecutionPlan, KubernetesExecution, PlanStrategy, RollbackStrategy, StepState, WorkflowExecution,
    WorkflowStep, names,
};

use super::{Plan, PlanError, PlannedStep, digest};
use crate::Settings;
use crate::duration::{format_go, parse_go};
use crate::execution_key::ExecutionKey;
use crate::graph::Graph;
use crate::mapping::{execution_with, label_value};
use crate::owner::is_controlled_by;
use crate::parameters;
use crate::problem::Problem;
use crate::undoing::{NotReversible, changed, undo_execution};

/// A workflow that is undone by another one, and what its steps recorded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Undone {
    /// The workflow; `None` where there is none of its name.
    pub workflow: Option<Arc<WorkflowExecution>>,
    /// The executions of its steps that are still there.
    pub executions: Vec<Arc<KubernetesExecution>>,
}

/// The plan of a workflow that undoes another one: its steps are the undo of that one's, last change first.
///
/// # Errors
/// Why there is nothing that could be undone.
pub fn plan_undo(
    workflow: &WorkflowExecution,
    undone: &Undone,
    settings: &Settings,
) -> Result<Plan, Vec<PlanError>> {
    let refused = |message: String| {
        Err(vec![PlanError {
            field: "spec.rollbackOf".to_owned(),
            message,
        }])
    };
    let Some(wanted) = &workflow.spec.rollback_of else {
        return refused("is not set".to_owned());
    };
    let Some(first) = &undone.workflow else {
        return refused(format!(
            "there is no WorkflowExecution {} in this namespace any more",
            wanted.name
        ));
    };
    if first.metadata.uid.as_deref() != Some(wanted.uid.as_str()) {
        return refused(format!(
            "the WorkflowExecution {} that is there is another one: its uid is not {}",
            wanted.name, wanted.uid
        ));
    }
    if !first.is_terminal() {
        return refused(format!(
            "{} has not ended: set spec.shutdown: Rollback on it, which stops and undoes it",
            wanted.name
        ));
    }
    if !workflow.spec.workflow_definition.steps.is_empty() {
        return refused(
            "the steps of a workflow that undoes another one are made of that one's: leave steps empty"
                .to_owned(),
        );
    }
    let mut warnings = Vec::new();
    let mut errors = Vec::new();
    let mut steps = BTreeMap::new();
    for (step, execution) in to_undo(first, undone) {
        let (number, name) = (step.step_number, &step.name);
        match undo_execution(first, step, execution) {
            Ok(None) => warnings.push(format!("step {number} ({name}) changed nothing")),
            Err(NotReversible(why)) => {
                warnings.push(format!("step {number} ({name}) is not reversible: {why}"));
            }
            Ok(Some(undo)) => {
                let turn = i32::try_from(steps.len() + 1).unwrap_or(i32::MAX);
                match planned(workflow, step, turn, undo, settings) {
                    Ok(planned) => drop(steps.insert(turn, planned)),
                    Err(problems) => errors.extend(problems),
                }
            }
        }
    }
    warnings.extend(gone(first, undone));
    if !errors.is_empty() {
        return Err(errors);
    }
    // One after the other, and none waits for the success of another one.
    let numbers: Vec<i32> = steps.keys().copied().collect();
    let budget = steps
        .values()
        .map(|step: &PlannedStep| step.execution.spec.timeout.as_str());
    let budget: Duration = budget.filter_map(|timeout| parse_go(timeout).ok()).sum();
    let graph = Graph::of_numbers(&numbers);
    Ok(Plan {
        execution_plan: ExecutionPlan {
            digest: Some(digest(&graph, &steps)),
            strategy: PlanStrategy::Sequential,
            estimated_duration: Some(format_go(budget)),
            rollback_strategy: RollbackStrategy::None,
            safety_checks: workflow
                .spec
                .execution_strategy
                .safety_checks
                .clone()
                .unwrap_or_default(),
            batches: (1..)
                .zip(&numbers)
                .map(|(batch_number, number)| Batch {
                    batch_number,
                    steps: vec![*number],
                })
                .collect(),
        },
        graph,
        steps,
        warnings,
    })
}

/// Of the steps that ran and whose executions are gone nobody knows what they changed.
fn gone(first: &WorkflowExecution, undone: &Undone) -> Vec<String> {
    let is_known = |number: i32| {
        let mut executions = undone.executions.iter();
        executions.any(|execution| execution.spec.step_number == number && is_controlled_by(execution, first))
    };
    let steps = first.status.iter().flat_map(|status| &status.step_statuses);
    let ran = steps.filter(|step| match step.status {
        StepState::Completed => true,
        StepState::Failed => step.k8s_execution_ref.is_some(),
        StepState::Pending | StepState::Executing | StepState::Skipped | StepState::RolledBack => false,
    });
    ran.filter(|step| !step.is_undone() && !is_known(step.step_number))
        .filter_map(|step| {
            let mut planned = first.spec.workflow_definition.steps.iter();
            let planned = planned.find(|planned| planned.step_number == step.step_number)?;
            (!planned.always).then(|| {
                format!(
                    "step {} ({}) is not reversible: its KubernetesExecution is gone, and with it what it recorded",
                    planned.step_number, planned.name
                )
            })
        })
        .collect()
}

/// The steps of a workflow that changed something and were not undone yet, the last one first.
fn to_undo<'a>(
    first: &'a WorkflowExecution,
    undone: &'a Undone,
) -> impl Iterator<Item = (&'a WorkflowStep, &'a KubernetesExecution)> {
    let statuses = first.status.iter().flat_map(|status| &status.step_statuses);
    let is_undone = |number: i32| {
        let mut statuses = statuses.clone();
        statuses.any(|step| step.step_number == number && step.is_undone())
    };
    let steps = &first.spec.workflow_definition.steps;
    let found: BTreeMap<i32, _> = undone
        .executions
        .iter()
        .filter(|execution| is_controlled_by(execution, first))
        .filter_map(|execution| {
            let number = execution.spec.step_number;
            let step = steps.iter().find(|step| step.step_number == number)?;
            let status = execution.status.as_ref()?;
            changed(execution, status)?;
            let at = status.completion_time.as_ref().map(|time| time.0);
            (!step.always && !is_undone(number)).then_some((number, (at, step, &**execution)))
        })
        .collect();
    let ended = found.iter().map(|(number, (at, ..))| (*at, *number)).collect();
    let graph = Graph::new(steps, first.spec.workflow_definition.dependencies.as_ref());
    let order = graph.map_or_else(|_| Vec::new(), |graph| graph.last_first(ended));
    order.into_iter().filter_map(move |number| {
        let (_, step, execution) = found.get(&number)?;
        Some((*step, *execution))
    })
}

/// The undo of another workflow's step as a step of this one.
fn planned(
    workflow: &WorkflowExecution,
    step: &WorkflowStep,
    turn: i32,
    undo: KubernetesExecution,
    settings: &Settings,
) -> Result<PlannedStep, Vec<PlanError>> {
    let mine = WorkflowStep {
        step_number: turn,
        action: undo.spec.action.clone(),
        timeout: Some(undo.spec.timeout.clone()),
        ..step.clone()
    };
    let mut execution = execution_with(workflow, &mine, ExecutionKey::step(turn), undo.spec.parameters);
    let labels = execution.metadata.labels.get_or_insert_default();
    labels.insert(names::LABEL_ROLLBACK.to_owned(), label_value("true"));
    let checked = parameters::check(&execution, settings).map_err(|problems| {
        let located = |problem: Problem| PlanError {
            field: "spec.rollbackOf".to_owned(),
            message: format!("the undo of step {} ({}): {problem}", step.step_number, step.name),
        };
        problems.into_iter().map(located).collect::<Vec<_>>()
    })?;
    Ok(PlannedStep {
        name: format!("{}{}", names::UNDO_PREFIX, step.name),
        critical: false,
        always: false,
        kind: checked.kind,
        target: checked.target,
        rights: checked.rights,
        execution,
    })
}
