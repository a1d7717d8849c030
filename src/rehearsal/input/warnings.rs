//! What is right and yet not what somebody means.

use std::collections::BTreeSet;

use kubernaut_crds::names;
use kubernaut_machines::Settings;
use kubernaut_machines::actions::{Subject, subject_of, target_name};
use kubernaut_machines::plan::{Plan, PlannedStep};
use serde_json::Value;

use super::manifest::{Manifest, Problem, Rule};
use super::messages::meant;

/// All of it, each with its place.
pub(super) fn warnings(manifests: &[Manifest], settings: &Settings) -> Vec<Problem> {
    let workflows = manifests.iter().filter(|manifest| manifest.is_workflow());
    let mut found = Vec::new();
    for manifest in workflows {
        if let Some(Ok(plan)) = manifest.plan(settings) {
            found.extend(opposed_steps(manifest, &plan));
            found.extend(unusual(manifest, &plan));
        }
        found.extend(unread(manifest));
    }
    found
}

/// Two steps that set the same thing to something else, of which neither waits for the other.
fn opposed_steps(manifest: &Manifest, plan: &Plan) -> Vec<Problem> {
    let workflow = format!("{}/{}", manifest.namespace(), manifest.metadata("name"));
    let words = |number: i32| format!("{number} ({})", plan.steps[&number].name);
    let warn = |(first, second): (i32, i32)| {
        let reason = format!(
            "Steps {} and {} of workflow {workflow} both change {}, and neither depends on the other: nothing says which \
             of them comes last.",
            words(first),
            words(second),
            target_name(&plan.steps[&first].target)
        );
        manifest
            .problem(&place_of(manifest, second), reason)
            .against(Rule::OpposedSteps)
    };
    pairs(plan).into_iter().map(warn).collect()
}

/// What planning says of steps that it takes.
fn unusual(manifest: &Manifest, plan: &Plan) -> Vec<Problem> {
    let warn = |warning: &String| {
        let place = warning.split_once(' ').map_or("steps", |(place, _)| place);
        let field = format!("spec.workflowDefinition.{place}");
        manifest.problem(&field, warning.clone()).against(Rule::Unusual)
    };
    plan.warnings.iter().map(warn).collect()
}

/// Annotations that look like kubernaut's and do nothing.
fn unread(manifest: &Manifest) -> Vec<Problem> {
    let annotations = manifest.object["metadata"]["annotations"].as_object();
    let known = [
        names::ANNOTATION_CREATED_BY,
        names::ANNOTATION_CORRELATION_ID,
        names::ANNOTATION_RELEASE_LOCK,
    ];
    let own = annotations
        .into_iter()
        .flatten()
        .map(|(key, _)| key.as_str())
        .filter(|key| key.starts_with("kubernaut.io/") && !known.contains(key));
    own.map(|key| {
        let hint = if key.contains("approve") {
            "; an approval is an object of kind Approval: kubernaut approve makes one".to_owned()
        } else {
            meant(key, &known).map_or_else(String::new, |meant| format!("; did you mean {meant}?"))
        };
        let reason = format!("nothing reads this annotation{hint}");
        manifest
            .problem(&format!("metadata.annotations.{key}"), reason)
            .against(Rule::Unread)
    })
    .collect()
}

/// Where the step of this number stands.
fn place_of(manifest: &Manifest, number: i32) -> String {
    let steps = manifest
        .object
        .pointer("/spec/workflowDefinition/steps")
        .and_then(Value::as_array);
    let index = steps
        .into_iter()
        .flatten()
        .position(|step| step["stepNumber"] == number)
        .unwrap_or_default();
    format!("spec.workflowDefinition.steps[{index}]")
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
