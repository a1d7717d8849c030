//! `kubernaut retry`: what a workflow did not do, in a new one.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use clap::Args;
use kube::api::{DynamicObject, ListParams, PostParams};
use kubernaut_crds::{StepState, WorkflowExecution, names};
use kubernaut_machines::graph::Graph;
use kubernaut_machines::preflight::GITOPS;
use serde_json::{Value, json};

use super::connection::{Connection, Named};
use super::undone::undone;
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
    let stored = connection.workflow_as_stored(name).await?;
    let workflow: WorkflowExecution = connection.typed(stored.clone())?;
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
        done(&workflow, &those_that_take_back(&connection).await?)
    };
    let user = connection.user().await?;
    let Some(again) = again(&workflow, &stored.data["spec"], &done, &user) else {
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

/// The workflows of the namespace that take others back.
async fn those_that_take_back(connection: &Connection) -> Result<Vec<WorkflowExecution>, Trouble> {
    let mut found = Vec::new();
    let workflows = connection.workflows();
    let read = connection.each(
        &workflows,
        ListParams::default(),
        |workflow: WorkflowExecution| {
            if workflow.spec.rollback_of.is_some() {
                found.push(workflow);
            }
        },
    );
    let read = read.await;
    read.map_err(|error| connection.trouble("looking for what took it back", &error))?;
    Ok(found)
}

/// The steps that completed and were not taken back. What cleans up is done again after steps that run again.
fn done(workflow: &WorkflowExecution, others: &[WorkflowExecution]) -> BTreeSet<i32> {
    let undone = undone(workflow, others);
    let statuses = workflow.status.iter().flat_map(|status| &status.step_statuses);
    let completed: BTreeSet<i32> = statuses
        .filter(|step| step.status == StepState::Completed && !undone.contains_key(&step.step_number))
        .map(|step| step.step_number)
        .collect();
    let definition = &workflow.spec.workflow_definition;
    let Ok(graph) = Graph::new(&definition.steps, definition.dependencies.as_ref()) else {
        return completed;
    };
    let steps = definition.steps.iter();
    let cleans_up_again = steps.filter(|step| step.always).filter(|step| {
        let before = graph.all_before(step.step_number);
        before.into_iter().any(|other| !completed.contains(&other))
    });
    let again: BTreeSet<i32> = cleans_up_again.map(|step| step.step_number).collect();
    completed.difference(&again).copied().collect()
}

/// A workflow with the steps that are not done; none where all are.
fn again(workflow: &WorkflowExecution, spec: &Value, done: &BTreeSet<i32>, user: &str) -> Option<Value> {
    let metadata = &workflow.metadata;
    let name = metadata.name.as_deref().unwrap_or_default();
    let mut spec = spec.clone();
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
    let waiting: BTreeSet<String> = definition["dependencies"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, others)| others.as_array().is_some_and(|others| !others.is_empty()))
        .map(|(step, _)| step.clone())
        .collect();
    for step in definition["steps"].as_array_mut().into_iter().flatten() {
        let waits = step["dependsOn"]
            .as_array()
            .is_some_and(|others| !others.is_empty())
            || step["name"].as_str().is_some_and(|name| waiting.contains(name));
        // What waits for nothing runs whatever happens, and planning takes no `always` there.
        if let (false, Some(step)) = (waits, step.as_object_mut()) {
            step.remove("always");
        }
    }
    let mut annotations = json!({names::ANNOTATION_CREATED_BY: user});
    let correlation = workflow.correlation_id();
    if !correlation.is_empty() {
        annotations[names::ANNOTATION_CORRELATION_ID] = json!(correlation);
    }
    // By these Argo CD and Flux would take it for theirs, and delete it.
    let labels: BTreeMap<&String, &String> = metadata
        .labels
        .iter()
        .flatten()
        .filter(|(key, _)| !GITOPS.contains(&key.as_str()) && *key != "app.kubernetes.io/instance")
        .collect();
    Some(json!({
        "apiVersion": names::WORKFLOW_API_VERSION,
        "kind": names::WORKFLOW_KIND,
        "metadata": {
            "generateName": format!("{}-again-", super::stem(name, 40)),
            "namespace": metadata.namespace,
            "labels": labels,
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
        let done = done(&workflow, &[]);
        assert_eq!(done, BTreeSet::from([1]));
        let spec = serde_json::to_value(&workflow.spec).expect("JSON");
        let again = again(&workflow, &spec, &done, "ana").expect("something to do");
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
        assert_eq!(
            super::again(&workflow, &spec, &BTreeSet::from([1, 2, 3]), "ana"),
            None
        );
    }

    fn repair(states: [&str; 4]) -> WorkflowExecution {
        let node = |number: i32, name: &str, action: &str, after: &[i32], always: bool| {
            json!({"stepNumber": number, "name": name, "action": action, "dependsOn": after, "always": always,
                   "parameters": {"cordonNode": {"nodeName": "n"}}})
        };
        let statuses = (1..).zip(states);
        let statuses: Vec<Value> = statuses
            .map(|(number, state)| json!({"stepNumber": number, "action": "cordon-node", "status": state}))
            .collect();
        serde_json::from_value(json!({
            "apiVersion": "workflow.kubernaut.io/v1", "kind": "WorkflowExecution",
            "metadata": {"name": "fix", "namespace": "shop", "uid": "u",
                         "labels": {"app": "web", "argocd.argoproj.io/instance": "shop"}},
            "spec": {"workflowDefinition": {"name": "fix", "version": "1", "steps": [
                node(1, "cordon", "cordon-node", &[], false),
                node(2, "drain", "drain-node", &[1], false),
                node(3, "restart", "cordon-node", &[2], false),
                node(4, "uncordon", "uncordon-node", &[3], true),
            ]}},
            "status": {"phase": "failed", "stepStatuses": statuses},
        }))
        .expect("a workflow")
    }

    fn retried(workflow: &WorkflowExecution, others: &[WorkflowExecution]) -> Value {
        let spec = serde_json::to_value(&workflow.spec).expect("JSON");
        again(workflow, &spec, &done(workflow, others), "ana").expect("something to do")
    }

    fn numbers(again: &Value) -> Vec<i64> {
        let steps = again["spec"]["workflowDefinition"]["steps"].as_array();
        steps
            .into_iter()
            .flatten()
            .filter_map(|step| step["stepNumber"].as_i64())
            .collect()
    }

    #[test]
    fn what_cleans_up_is_done_again_after_what_runs_again() {
        let again = retried(&repair(["completed", "failed", "skipped", "completed"]), &[]);
        assert_eq!(numbers(&again), [2, 3, 4]);
        assert_eq!(again["metadata"]["labels"], json!({"app": "web"}));
    }

    #[test]
    fn a_cleanup_that_waits_for_nothing_any_more_is_a_step_like_others() {
        let again = retried(&repair(["completed", "completed", "completed", "failed"]), &[]);
        assert_eq!(numbers(&again), [4]);
        let step = &again["spec"]["workflowDefinition"]["steps"][0];
        assert_eq!(step["always"], Value::Null);
    }

    #[test]
    fn what_another_workflow_took_back_is_done_again() {
        let back: WorkflowExecution = serde_json::from_value(json!({
            "metadata": {"name": "back", "uid": "v"},
            "spec": {"rollbackOf": {"name": "fix", "uid": "u"}, "workflowDefinition": {"name": "fix", "version": "1", "steps": []}},
            "status": {"phase": "completed", "stepStatuses": [
                {"stepNumber": 1, "name": "undo cordon", "action": "cordon-node", "status": "completed"}]},
        }))
        .expect("a workflow");
        let again = retried(&repair(["completed", "failed", "skipped", "completed"]), &[back]);
        assert_eq!(numbers(&again), [1, 2, 3, 4]);
    }
}
