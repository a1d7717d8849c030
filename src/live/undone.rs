//! Which steps of a workflow were taken back, and by what.

use std::collections::BTreeMap;

use kubernaut_crds::{StepState, WorkflowExecution, names};

/// The steps of a workflow that were taken back, by their numbers, each with the name of the workflow that did it: itself, or
/// one of the others that was made for it.
pub(super) fn undone<'a>(
    workflow: &'a WorkflowExecution,
    others: &'a [WorkflowExecution],
) -> BTreeMap<i32, &'a str> {
    let statuses =
        |workflow: &'a WorkflowExecution| workflow.status.iter().flat_map(|status| &status.step_statuses);
    let name = |workflow: &'a WorkflowExecution| workflow.metadata.name.as_deref().unwrap_or_default();
    let own = statuses(workflow).filter(|step| step.is_undone());
    let mut undone: BTreeMap<i32, &str> = own.map(|step| (step.step_number, name(workflow))).collect();
    let uid = workflow.metadata.uid.as_deref();
    let made_for_it = others.iter().filter(|other| {
        let first = other.spec.rollback_of.as_ref();
        first.is_some_and(|first| Some(first.uid.as_str()) == uid)
    });
    for other in made_for_it {
        for undo in statuses(other).filter(|undo| undo.status == StepState::Completed) {
            let of_step = undo
                .name
                .as_deref()
                .and_then(|name| name.strip_prefix(names::UNDO_PREFIX));
            let mut steps = workflow.spec.workflow_definition.steps.iter();
            if let Some(step) = steps.find(|step| Some(step.name.as_str()) == of_step) {
                undone.entry(step.step_number).or_insert_with(|| name(other));
            }
        }
    }
    undone
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_another_workflow_took_back_is_known_by_the_step_that_it_undid() {
        let workflow: WorkflowExecution = serde_json::from_value(json!({
            "metadata": {"name": "fix", "uid": "u"},
            "spec": {"workflowDefinition": {"name": "fix", "version": "1", "steps": [
                {"stepNumber": 1, "name": "scale", "action": "scale-deployment", "parameters": {}},
                {"stepNumber": 2, "name": "image", "action": "update-image", "parameters": {}},
                {"stepNumber": 3, "name": "settings", "action": "update-configmap", "parameters": {}},
            ]}},
            "status": {"phase": "failed", "stepStatuses": [
                {"stepNumber": 3, "name": "settings", "action": "update-configmap", "status": "rolled_back"},
            ]},
        }))
        .expect("a workflow");
        let other = |name: &str, uid: &str| -> WorkflowExecution {
            serde_json::from_value(json!({
                "metadata": {"name": name, "uid": name},
                "spec": {"rollbackOf": {"name": "fix", "uid": uid}, "workflowDefinition": {"name": "fix", "version": "1", "steps": []}},
                "status": {"phase": "failed", "stepStatuses": [
                    {"stepNumber": 1, "name": "undo image", "action": "update-image", "status": "completed"},
                    {"stepNumber": 2, "name": "undo scale", "action": "scale-deployment", "status": "failed"},
                ]},
            }))
            .expect("a workflow")
        };
        assert_eq!(
            undone(&workflow, &[other("older", "another"), other("back", "u")]),
            BTreeMap::from([(2, "back"), (3, "fix")])
        );
    }
}
