//! `kubernaut retry`: what a workflow did not do, in a new one.

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::Args;
use kube::api::{DynamicObject, PostParams};
use kubernaut_crds::{StepState, WorkflowExecution, names};
use serde_json::{Value, json};

use super::connection::{Connection, Named};
use super::wait::follow;
use crate::terminal::{Done, Trouble, print};

/// Run the steps of a workflow that did not complete, in a new workflow
///
/// Parameters, conditions and strategy are those of the first one. What completed is not run again; what was taken back is. The
/// new workflow needs the same rights and approvals as the first one did.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Try it: kubernaut retry restart-web --watch\n\nExit codes: 0 it is created (with --watch: it completed with success), 1 it could not be (with --watch: or did not), 2 there is no such workflow, it has not ended, or nothing of it is left to do."
)]
pub(crate) struct RetryOptions {
    #[command(flatten)]
    named: Named,
    /// Run all steps again, also those that completed
    #[arg(long)]
    all: bool,
    /// Follow it until it has ended
    #[arg(long, short)]
    watch: bool,
}

pub(super) async fn retry(options: &RetryOptions) -> Done {
    let Named { name, connect } = &options.named;
    let connection = Connection::open(connect).await?;
    let workflow = connection.workflow(name).await?;
    if !workflow.is_terminal() {
        return Err(Trouble::Input(format!(
            "workflow {name} has not ended: kubernaut watch -n {} {name}{}",
            connection.namespace, connection.flags
        )));
    }
    if workflow.spec.rollback_of.is_some() {
        return Err(Trouble::Input(format!(
            "workflow {name} takes another one back; to try that again: kubernaut rollback -n {} {}{}",
            connection.namespace,
            workflow.spec.rollback_of.as_ref().map_or("", |of| &of.name),
            connection.flags
        )));
    }
    let done = if options.all {
        BTreeSet::new()
    } else {
        done(&workflow)
    };
    let user = connection.user().await?;
    let Some(again) = again(&workflow, &done, &user) else {
        return Err(Trouble::Input(format!(
            "nothing of workflow {name} is left to do: all its steps completed (--all runs them again)"
        )));
    };
    let object: DynamicObject =
        serde_json::from_value(again).map_err(|error| Trouble::Here(error.to_string()))?;
    let created = connection
        .workflows()
        .create(&PostParams::default(), &object)
        .await
        .map_err(|error| connection.trouble("creating the workflow", &error))?;
    let created: WorkflowExecution = connection.typed(created)?;
    let new = created.metadata.name.clone().unwrap_or_default();
    let namespace = &connection.namespace;
    print(&format!(
        "workflow {namespace}/{new} created, with {} of the {} steps of {name}\n",
        created.spec.workflow_definition.steps.len(),
        workflow.spec.workflow_definition.steps.len()
    ))?;
    if options.watch {
        return follow(&connection, created).await;
    }
    print(&format!(
        "Follow it: kubernaut watch -n {namespace} {new}{}\n",
        connection.flags
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// The steps that completed, and were not taken back.
fn done(workflow: &WorkflowExecution) -> BTreeSet<i32> {
    let steps = workflow.status.iter().flat_map(|status| &status.step_statuses);
    steps
        .filter(|step| step.status == StepState::Completed)
        .filter(|step| {
            let undo = step.undo.as_ref();
            undo.is_none_or(|undo| undo.status != kubernaut_crds::UndoState::Completed)
        })
        .map(|step| step.step_number)
        .collect()
}

/// A workflow with the steps that are not done; none where all are.
fn again(workflow: &WorkflowExecution, done: &BTreeSet<i32>, user: &str) -> Option<Value> {
    let metadata = &workflow.metadata;
    let name = metadata.name.as_deref().unwrap_or_default();
    let mut spec = serde_json::to_value(&workflow.spec).ok()?;
    // What a person said while it ran, and where it came from, was for that one.
    if let Some(spec) = spec.as_object_mut() {
        for field in ["suspend", "shutdown", "rollbackOf"] {
            spec.remove(field);
        }
    }
    let definition = &mut spec["workflowDefinition"];
    let steps = definition["steps"].as_array_mut()?;
    let is_done = |step: &Value| {
        step["stepNumber"]
            .as_i64()
            .is_some_and(|number| is_in(done, number))
    };
    let names_done: BTreeSet<String> = steps
        .iter()
        .filter(|step| is_done(step))
        .filter_map(|step| step["name"].as_str().map(str::to_owned))
        .collect();
    steps.retain(|step| !is_done(step));
    if steps.is_empty() {
        return None;
    }
    for step in steps.iter_mut() {
        if let Some(dependencies) = step["dependsOn"].as_array_mut() {
            dependencies.retain(|other| other.as_i64().is_none_or(|other| !is_in(done, other)));
        }
    }
    if let Some(dependencies) = definition["dependencies"].as_object_mut() {
        dependencies.retain(|step, _| !names_done.contains(step));
        for others in dependencies.values_mut().filter_map(Value::as_array_mut) {
            others.retain(|other| other.as_str().is_none_or(|other| !names_done.contains(other)));
        }
    }
    let mut annotations = json!({names::ANNOTATION_CREATED_BY: user});
    let correlation = workflow.correlation_id();
    if !correlation.is_empty() {
        annotations[names::ANNOTATION_CORRELATION_ID] = json!(correlation);
    }
    Some(json!({
        "apiVersion": names::WORKFLOW_API_VERSION,
        "kind": names::WORKFLOW_KIND,
        "metadata": {
            "generateName": format!("{}-again-", kubernaut_machines::classify::cut(name, 40)),
            "namespace": metadata.namespace,
            "labels": metadata.labels,
            "annotations": annotations,
        },
        "spec": spec,
    }))
}

fn is_in(done: &BTreeSet<i32>, number: i64) -> bool {
    i32::try_from(number).is_ok_and(|number| done.contains(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_is_left_out_and_nothing_waits_for_it() {
        let workflow: WorkflowExecution = serde_json::from_value(json!({
            "apiVersion": "workflow.kubernaut.io/v1", "kind": "WorkflowExecution",
            "metadata": {"name": "fix", "namespace": "shop", "uid": "u", "labels": {"app": "web"}},
            "spec": {"suspend": true, "shutdown": "Cancel", "workflowDefinition": {"name": "fix", "version": "1",
                "dependencies": {"c": ["a", "b"], "a": []},
                "steps": [
                {"stepNumber": 1, "name": "a", "action": "cordon-node", "parameters": {"cordonNode": {"nodeName": "n"}}},
                {"stepNumber": 2, "name": "b", "action": "cordon-node", "parameters": {"cordonNode": {"nodeName": "m"}}},
                {"stepNumber": 3, "name": "c", "action": "cordon-node", "dependsOn": [1, 2],
                 "parameters": {"cordonNode": {"nodeName": "o"}}},
            ]}},
            "status": {"phase": "failed", "stepStatuses": [
                {"stepNumber": 1, "action": "cordon-node", "status": "completed"},
                {"stepNumber": 2, "action": "cordon-node", "status": "completed", "undo": {"status": "completed"}},
                {"stepNumber": 3, "action": "cordon-node", "status": "skipped"},
            ]},
        }))
        .expect("a workflow");
        let done = done(&workflow);
        assert_eq!(done, BTreeSet::from([1]));
        let again = again(&workflow, &done, "ana").expect("something to do");
        let steps = &again["spec"]["workflowDefinition"]["steps"];
        assert_eq!(steps.as_array().map(Vec::len), Some(2));
        assert_eq!(steps[1]["dependsOn"], json!([2]));
        assert_eq!(
            again["spec"]["workflowDefinition"]["dependencies"],
            json!({"c": ["b"]})
        );
        assert_eq!(
            (&again["spec"]["suspend"], &again["spec"]["shutdown"]),
            (&Value::Null, &Value::Null)
        );
        assert_eq!(again["metadata"]["generateName"], "fix-again-");
        assert_eq!(
            again["metadata"]["annotations"][names::ANNOTATION_CREATED_BY],
            "ana"
        );
        assert_eq!(super::again(&workflow, &BTreeSet::from([1, 2, 3]), "ana"), None);
    }
}
