//! planning: everything that can be checked without a cluster.

mod undo;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use kubernaut_crds::{
    Batch, DEFAULT_TIMEOUT, ExecutionPlan, KubernetesExecution, StepAction, TargetRef, WorkflowExecution,
    WorkflowStep, names,
};
use serde_json::{Value, json};

use crate::Settings;
use crate::actions::{AccessRequest, ActionKind, check_step_spelling, kind_of_step, step_field};
use crate::duration::{format_go, parse_go};
use crate::graph::Graph;
use crate::mapping::{execution_for, retries_of};
use crate::parameters::{self, CommonFields};
use crate::problem::Problem;
use crate::render::hex;
use crate::undoing::rollback_execution;

pub use undo::{Undone, plan_undo};

/// A workflow that can be run.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Which step waits for which.
    pub graph: Graph,
    /// The steps by number.
    pub steps: BTreeMap<i32, PlannedStep>,
    /// What the status says of it.
    pub execution_plan: ExecutionPlan,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// A step that can be run.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedStep {
    /// Its name.
    pub name: String,
    /// When it fails for good, no new step starts.
    pub critical: bool,
    /// It starts however those before it ended.
    pub always: bool,
    /// What it does.
    pub kind: ActionKind,
    /// What it does it to.
    pub target: TargetRef,
    /// What the workflow's account must be allowed.
    pub rights: Vec<AccessRequest>,
    /// Its execution, ready to be made.
    pub execution: KubernetesExecution,
}

/// Something in a workflow that can't be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError {
    /// The field, such as `spec.workflowDefinition.steps[1].timeout`.
    pub field: String,
    /// What is wrong with it, and what to do.
    pub message: String,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// The plan of a workflow that has begun: it is brought to its end, also when the flags became stricter since.
///
/// # Errors
/// As of [`plan`].
pub fn plan_of_begun(workflow: &WorkflowExecution, settings: &Settings) -> Result<Plan, Vec<PlanError>> {
    plan(workflow, &settings.without_limits())
}

/// Checks everything that needs no cluster (docs/workflows.md, Planning).
///
/// # Errors
/// Everything that is wrong, in the order of the spec.
pub fn plan(workflow: &WorkflowExecution, settings: &Settings) -> Result<Plan, Vec<PlanError>> {
    if let Some(size) = parameters::oversize(&workflow.metadata) {
        return Err(vec![error("spec", parameters::too_long(size))]);
    }
    let spec = &workflow.spec;
    let size = serde_json::to_string(spec).map_or(usize::MAX, |text| text.len());
    if size > names::SPEC_MAX_BYTES {
        // What else is wrong with it nobody looks for: that would take time in proportion.
        return Err(vec![error("spec", parameters::too_long(size))]);
    }
    let mut errors = whole_workflow(workflow, settings);
    let definition = &spec.workflow_definition;
    let mut warnings = Vec::new();
    let graph = match Graph::new(&definition.steps, definition.dependencies.as_ref()) {
        Ok(graph) => Some(graph),
        Err(problems) => {
            errors.extend(problems.iter().map(|problem| PlanError {
                field: format!("spec.workflowDefinition.{}", problem.place()),
                message: problem.to_string(),
            }));
            None
        }
    };
    let mut steps = BTreeMap::new();
    for (index, step) in definition.steps.iter().enumerate() {
        match plan_step(workflow, index, step, settings) {
            Ok((planned, notes)) => {
                warnings.extend(
                    notes
                        .iter()
                        .map(|note| format!("steps[{index}] ({}): {note}", step.name)),
                );
                steps.insert(step.step_number, planned);
            }
            Err(problems) => errors.extend(problems),
        }
    }
    let never_due = definition.steps.iter().enumerate().filter(|(_, step)| {
        let waits_for_none = |graph: &Graph| graph.dependencies_of(step.step_number).next().is_none();
        step.always && graph.as_ref().is_some_and(waits_for_none)
    });
    errors.extend(never_due.map(|(index, step)| {
        error(
            format!("spec.workflowDefinition.steps[{index}].always"),
            format!(
                "step {} ({}): a step that always runs needs dependsOn: the steps after which it cleans up",
                step.step_number, step.name
            ),
        )
    }));
    let Some(graph) = graph.filter(|_| errors.is_empty()) else {
        return Err(errors);
    };
    let timeout = |number: i32| {
        steps
            .get(&number)
            .and_then(|step| parse_go(&step.execution.spec.timeout).ok())
            .unwrap_or(Duration::ZERO)
    };
    let execution_plan = ExecutionPlan {
        digest: Some(digest(&graph, &steps)),
        strategy: graph.strategy(),
        estimated_duration: Some(format_go(graph.longest_path(timeout))),
        rollback_strategy: spec.execution_strategy.rollback_strategy,
        safety_checks: spec.execution_strategy.safety_checks.clone().unwrap_or_default(),
        batches: (1..)
            .zip(graph.batches())
            .map(|(batch_number, steps)| Batch { batch_number, steps })
            .collect(),
    };
    Ok(Plan {
        graph,
        steps,
        execution_plan,
        warnings,
    })
}

/// What an approver looked at: what the steps do, with whose rights, and in which order. Nothing of it depends on what the workflow
/// is called or when it was made, so that it is known before the workflow is.
fn digest(graph: &Graph, steps: &BTreeMap<i32, PlannedStep>) -> String {
    let rendered: Vec<Value> = steps
        .iter()
        .map(|(number, step)| {
            let spec = &step.execution.spec;
            let before: BTreeSet<i32> = graph.dependencies_of(*number).collect();
            json!({
                "stepNumber": number,
                "name": step.name,
                "action": spec.action,
                "parameters": spec.parameters,
                "targetCluster": spec.target_cluster,
                "serviceAccountName": spec.service_account_name,
                "executorAccount": step.kind.service_account(),
                "timeout": spec.timeout,
                "maxRetries": spec.max_retries,
                "criticalStep": step.critical,
                "always": step.always,
                "dependsOn": before,
            })
        })
        .collect();
    // The keys of its maps are sorted: serde_json keeps them so.
    hex(Value::from(rendered).to_string().as_bytes(), 64)
}

fn error(field: impl Into<String>, message: impl Into<String>) -> PlanError {
    PlanError {
        field: field.into(),
        message: message.into(),
    }
}

fn whole_workflow(workflow: &WorkflowExecution, settings: &Settings) -> Vec<PlanError> {
    let spec = &workflow.spec;
    let mut errors = Vec::new();
    let name = workflow.metadata.name.as_deref().unwrap_or_default();
    if name.len() > names::WORKFLOW_NAME_MAX {
        let message = format!(
            "{name:?} has {} characters; at most {} leave room for the names of steps",
            name.len(),
            names::WORKFLOW_NAME_MAX
        );
        errors.push(error("metadata.name", message));
    }
    let namespace = workflow.metadata.namespace.as_deref().unwrap_or_default();
    if settings.protected_namespaces.contains(namespace) {
        errors.push(error(
            "metadata.namespace",
            format!("workflows in {namespace} are not run: it is protected (--protected-namespaces)"),
        ));
    }
    let steps = spec.workflow_definition.steps.len();
    if spec.rollback_of.is_none() && !(1..=names::STEPS_MAX).contains(&steps) {
        errors.push(error(
            "spec.workflowDefinition.steps",
            format!("has {steps} steps; 1 to {} are needed", names::STEPS_MAX),
        ));
    }
    if !(1..=20).contains(&spec.max_parallel_steps) {
        errors.push(error(
            "spec.maxParallelSteps",
            format!("{} is not within 1 to 20", spec.max_parallel_steps),
        ));
    }
    if spec
        .execution_strategy
        .max_retries
        .is_some_and(|retries| !(0..=5).contains(&retries))
    {
        errors.push(error("spec.executionStrategy.maxRetries", "is not within 0 to 5"));
    }
    if !(1..=5).contains(&spec.execution_strategy.required_approvals) {
        errors.push(error(
            "spec.executionStrategy.requiredApprovals",
            format!(
                "{} is not within 1 to 5",
                spec.execution_strategy.required_approvals
            ),
        ));
    }
    errors
}

fn plan_step(
    workflow: &WorkflowExecution,
    index: usize,
    step: &WorkflowStep,
    settings: &Settings,
) -> Result<(PlannedStep, Vec<String>), Vec<PlanError>> {
    let place = format!("spec.workflowDefinition.steps[{index}]");
    let at = |field: &str, message: String| {
        error(
            format!("{place}.{field}"),
            format!("step {} ({}): {message}", step.step_number, step.name),
        )
    };
    let mut errors = Vec::new();
    if !(1..=1000).contains(&step.step_number) {
        errors.push(at(
            "stepNumber",
            format!("{} is not within 1 to 1000", step.step_number),
        ));
    }
    // Not exactly one member is an error of the conversion.
    let action = StepAction::try_from(step.parameters.clone()).ok();
    let misfit = action
        .as_ref()
        .and_then(|action| check_step_spelling(&step.action, action));
    let fits = misfit.is_none();
    errors.extend(misfit.map(|problem| at("action", problem.message)));
    errors.extend(
        rollback_spec(workflow, step, settings)
            .into_iter()
            .map(|problem| at("rollbackSpec", problem)),
    );
    // What the executor says of its parameters is said of the step's.
    let located = |problem: Problem| {
        let below = problem.field.strip_prefix("parameters.");
        let field = match (below, &action) {
            (Some(below), Some(action)) => {
                let (_member, field) = below.split_once('.').unwrap_or((below, ""));
                step_field(action, field)
            }
            _ if problem.field.is_empty() => "parameters".to_owned(),
            _ => problem.field,
        };
        at(&field, problem.message)
    };
    let (execution, converted) = match execution_for(workflow, step) {
        Ok(made) => made,
        Err(problem) => {
            let member = action.as_ref().map_or("", StepAction::member);
            let parts = ["parameters", member, &problem.field()].map(str::to_owned);
            let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            errors.push(at(&parts.join("."), problem.to_string()));
            let frame = CommonFields {
                timeout: step.timeout.as_deref().unwrap_or(DEFAULT_TIMEOUT),
                kind: action.as_ref().and_then(kind_of_step),
                max_retries: retries_of(workflow, step),
                target_cluster: &step.target_cluster,
            };
            let problems = parameters::check_frame(&frame, settings).problems;
            errors.extend(problems.into_iter().map(located));
            return Err(errors);
        }
    };
    match parameters::check(&execution, settings) {
        Ok(checked) if errors.is_empty() => {
            let warnings = converted.into_iter().chain(checked.warnings).collect();
            let planned = PlannedStep {
                name: step.name.clone(),
                critical: step.critical_step,
                always: step.always,
                kind: checked.kind,
                target: checked.target,
                rights: checked.rights,
                execution,
            };
            Ok((planned, warnings))
        }
        Ok(_) => Err(errors),
        Err(problems) => {
            // The spelling was checked against the step's own member; what the executor says of it is the same.
            let problems = problems.into_iter();
            let problems = problems.filter(|problem| fits || !problem.is_misfit);
            errors.extend(problems.map(located));
            Err(errors)
        }
    }
}

/// What is wrong with a rollbackSpec: it is run as it stands here, once something has to be undone.
fn rollback_spec(workflow: &WorkflowExecution, step: &WorkflowStep, settings: &Settings) -> Vec<String> {
    let Some(spec) = &step.rollback_spec else {
        return Vec::new();
    };
    let mut problems = Vec::new();
    if let Some(timeout) = &spec.timeout
        && let Err(problem) = parse_go(timeout)
    {
        problems.push(format!("timeout: {problem}"));
    }
    match rollback_execution(workflow, step) {
        Err(problem) => problems.push(problem),
        Ok(None) => {}
        Ok(_) if !problems.is_empty() => {}
        Ok(Some(execution)) => {
            let found = parameters::check(&execution, settings)
                .err()
                .into_iter()
                .flatten();
            // The step's own timeout and cluster are looked at with the step.
            let found = found.filter(|problem| problem.field.starts_with("parameters."));
            problems.extend(found.map(|problem| problem.to_string()));
        }
    }
    problems
}

#[cfg(test)]
mod tests;
