//! What is right and yet not what somebody means.

use std::collections::BTreeSet;

use kubernaut_crds::WorkflowExecution;
use kubernaut_machines::Settings;
use kubernaut_machines::actions::{Subject, subject_of, target_name};
use kubernaut_machines::plan::{Plan, PlannedStep, plan};
use serde::Deserialize as _;

use super::manifest::Manifest;

/// Two steps that set the same thing to something else, of which neither waits for the other.
pub(super) fn opposed_steps(runs: &[Manifest], settings: &Settings) -> Vec<String> {
    let planned = |manifest: &&Manifest| {
        let mut workflow = WorkflowExecution::deserialize(&manifest.object).ok()?;
        workflow.metadata.uid.get_or_insert_with(String::new);
        plan(&workflow, settings).ok()
    };
    runs.iter()
        .filter(|manifest| manifest.is_workflow())
        .filter_map(|manifest| Some((manifest, planned(&manifest)?)))
        .flat_map(|(manifest, plan)| {
            let workflow = format!("{}/{}", manifest.namespace(), manifest.metadata("name"));
            pairs(&plan)
                .into_iter()
                .map(|(first, second)| {
                    let words = |number: i32| format!("{number} ({})", plan.steps[&number].name);
                    format!(
                        "Steps {} and {} of workflow {workflow} both change {}, and neither depends on the other: nothing says which \
                         of them comes last.",
                        words(first),
                        words(second),
                        target_name(&plan.steps[&first].target)
                    )
                })
                .collect::<Vec<_>>()
        })
        .collect()
}

fn pairs(plan: &Plan) -> Vec<(i32, i32)> {
    let mut found = Vec::new();
    for (first, one) in &plan.steps {
        let after: BTreeSet<i32> = plan.graph.dependents_of(*first);
        for (second, other) in plan.steps.range(first + 1..) {
            let ordered = after.contains(second) || plan.graph.dependents_of(*second).contains(first);
            if !ordered && one.target == other.target && are_opposed(one, other) {
                found.push((*first, *second));
            }
        }
    }
    found
}

fn are_opposed(one: &PlannedStep, other: &PlannedStep) -> bool {
    // Whether it lets pods go to its node; none where it does neither.
    let opens = |step: &PlannedStep| match subject_of(&step.execution.spec)?.1 {
        Subject::Node { cordoned, .. } => Some(cordoned),
        Subject::Workload { .. }
        | Subject::Pod { .. }
        | Subject::Pods { .. }
        | Subject::ConfigMap { .. }
        | Subject::Secret { .. }
        | Subject::Any { .. } => None,
    };
    let (mine, others) = (&one.execution.spec.parameters, &other.execution.spec.parameters);
    match (opens(one), opens(other)) {
        (Some(opens), Some(other_opens)) => opens != other_opens,
        _ => one.kind == other.kind && mine != others,
    }
}
