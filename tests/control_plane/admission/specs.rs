//! What the spec of a workflow or an execution must say, and no type or pattern can, and that it stays so: what is refused, in words
//! that say where and what, and beside it what passes.

use serde_json::{Value, json};

use super::backend::{TEAM, at, developer, flow};
use super::way::{Way, all_are_refused, create, patch, way};
use crate::scene::{EXECUTION, WORKFLOW, execution, workflow};

fn pair(tried: &'static str, bad: Value, words: &'static str, good: Value) -> Way {
    way(
        tried,
        create(bad),
        words,
        "what is meant is created",
        create(good),
    )
}

fn cordon(number: i64, name: &str, more: Value) -> Value {
    let mut step = json!({"stepNumber": number, "name": name, "action": "cordon-node",
                          "parameters": {"cordonNode": {"nodeName": "n1"}}});
    crate::scene::merge(&mut step, more);
    step
}

fn steps(steps: Value) -> Value {
    flow("spec", json!({"spec": {"workflowDefinition": {"steps": steps}}}))
}

/// A workflow whose second step has these parameters.
fn second(parameters: Value) -> Value {
    let mut two = cordon(2, "two", json!({}));
    two["parameters"] = parameters;
    steps(json!([cordon(1, "one", json!({})), two]))
}

fn alone(parameters: Value) -> Value {
    at(TEAM, execution("spec", "cordon-node", parameters, json!({})))
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
async fn a_workflow_whose_steps_can_not_be_told_apart_or_say_no_one_thing_is_refused() {
    let named = |length: usize| {
        let good = flow("spec", json!({}));
        let good = good["spec"]["workflowDefinition"]["steps"].clone();
        at(TEAM, workflow(&"a".repeat(length), good, json!({})))
    };
    let undoing = json!({"rollbackOf": {"name": "a", "uid": "1-2-3"}});
    let nothing = |more: Value| at(TEAM, workflow("spec", json!([]), more));
    let two = |name: &str, more: Value| steps(json!([cordon(1, "one", json!({})), cordon(2, name, more)]));
    let waits = |number: i64| json!({"dependsOn": [number]});
    let restart = |more: Value| {
        let mut pod = json!({"namespace": TEAM});
        crate::scene::merge(&mut pod, more);
        second(json!({"restartPod": pod}))
    };
    let undone = |parameters: Value| {
        let undo = json!({"rollbackSpec": {"action": "uncordon-node", "parameters": parameters}});
        two("two", undo)
    };
    let one = json!({"cordonNode": {"nodeName": "n1"}});
    let members = "step 2 (two): parameters: must have exactly one member: scaleDeployment, ";
    let ways = vec![
        pair(
            "its name is too long for those of its steps",
            named(53),
            "metadata.name must be at most 52 characters, so that the names of its steps stay valid: this one has 53",
            named(52),
        ),
        pair(
            "it has no steps",
            nothing(json!({})),
            "spec.workflowDefinition.steps must hold 1 to 100 steps",
            nothing(undoing.clone()),
        ),
        pair(
            "it undoes another one and has steps",
            flow("spec", json!({"spec": undoing})),
            "none exactly when spec.rollbackOf is set: here are 1",
            flow("spec", json!({})),
        ),
        pair(
            "two steps have one name",
            two("one", json!({})),
            "step 1 (one): name: every step needs a name of its own",
            two("two", json!({})),
        ),
        pair(
            "a step waits for one that there is not",
            two("two", waits(7)),
            "step 2 (two): dependsOn: must hold stepNumbers of other steps of this workflow",
            two("two", waits(1)),
        ),
        pair(
            "a step waits for itself",
            two("two", waits(2)),
            "step 2 (two): dependsOn: must hold stepNumbers of other steps of this workflow",
            two("two", waits(1)),
        ),
        pair(
            "a step says nothing",
            second(json!({})),
            members,
            second(one.clone()),
        ),
        pair(
            "the one thing that a step says is null",
            second(json!({"cordonNode": null})),
            members,
            second(one.clone()),
        ),
        pair(
            "a step says what nobody knows",
            second(json!({"formatDisk": {}})),
            members,
            second(one.clone()),
        ),
        pair(
            "a step says two things",
            second(json!({"cordonNode": {"nodeName": "n1"}, "uncordonNode": {"nodeName": "n1"}})),
            members,
            second(one),
        ),
        pair(
            "pods are named in two ways",
            restart(json!({"podName": "a", "selector": "app=a"})),
            "step 2 (two): parameters.restartPod: needs exactly one of podName and selector",
            restart(json!({"podName": "a"})),
        ),
        pair(
            "pods are named in no way",
            restart(json!({})),
            "step 2 (two): parameters.restartPod: needs exactly one of podName and selector",
            restart(json!({"selector": "app=a", "nodeName": "n1"})),
        ),
        pair(
            "one pod is looked for on a node",
            restart(json!({"podName": "a", "nodeName": "n1"})),
            "step 2 (two): parameters.restartPod.nodeName: goes with selector",
            restart(json!({"selector": "app=a", "nodeName": "n1"})),
        ),
        pair(
            "a step is undone by nothing",
            undone(json!({})),
            "step 2 (two): rollbackSpec.parameters: must have exactly one member: scaleToPrevious, ",
            undone(json!({"uncordonNode": {"nodeName": "n1"}})),
        ),
    ];
    all_are_refused(&developer().await, ways).await;
}

#[tokio::test]
async fn an_execution_that_says_no_one_thing_is_refused() {
    let pods = |more: Value| {
        let mut pods = json!({"namespace": TEAM});
        crate::scene::merge(&mut pods, more);
        at(
            TEAM,
            execution("spec", "delete-pod", json!({"deletePod": pods}), json!({})),
        )
    };
    let one = json!({"cordonNode": {"node": "n1"}});
    let members = "spec.parameters: must have exactly one member: scaleDeployment, ";
    let ways = vec![
        pair("it says nothing", alone(json!({})), members, alone(one.clone())),
        pair(
            "it says two things",
            alone(json!({"cordonNode": {"node": "n1"}, "drainNode": {"node": "n1"}})),
            members,
            alone(one),
        ),
        pair(
            "pods are named in no way",
            pods(json!({})),
            "spec.parameters.deletePod: needs exactly one of pod and labelSelector",
            pods(json!({"pod": "a"})),
        ),
        pair(
            "pods are named in two ways",
            pods(json!({"pod": "a", "labelSelector": "b=c"})),
            "spec.parameters.deletePod: needs exactly one of pod and labelSelector",
            pods(json!({"labelSelector": "b=c"})),
        ),
        pair(
            "one pod is looked for on a node",
            pods(json!({"pod": "a", "nodeName": "n1"})),
            "spec.parameters.deletePod.nodeName: goes with labelSelector",
            pods(json!({"labelSelector": "b=c", "nodeName": "n1"})),
        ),
    ];
    all_are_refused(&developer().await, ways).await;
}

/// A label may change at any time, and so may what stops it.
#[tokio::test]
async fn a_spec_stays_what_it_was_and_what_stops_it_can_be_set_once() {
    let changed = |kind: &'static str, name: &str, change: (&'static str, Value), words, instead: Value| {
        let (field, value) = change;
        let act = patch(kind, TEAM, name, json!({"spec": {field: value}}));
        way(
            field,
            act,
            words,
            "what may change does",
            patch(kind, TEAM, name, instead),
        )
    };
    let label = || json!({"metadata": {"labels": {"touched": "yes"}}});
    let once = "spec.shutdown can be set once and not changed or taken back";
    let mut ways = Vec::new();
    for (field, value) in [
        ("workflowDefinition", json!({"version": "v2"})),
        ("executionStrategy", json!({"rollbackStrategy": "none"})),
        ("remediationRequestRef", json!({"name": "x"})),
        ("adaptiveOrchestration", json!({})),
        ("serviceAccountName", json!("other")),
        ("maxParallelSteps", json!(2)),
        ("ttlSecondsAfterFinished", json!(1)),
        ("rollbackOf", json!({"name": "a", "uid": "b"})),
    ] {
        let suspended = json!({"spec": {"suspend": true}});
        let words = " is immutable: create a new WorkflowExecution instead";
        ways.push(changed(WORKFLOW, "hang-flow", (field, value), words, suspended));
    }
    for (field, value) in [
        ("workflowExecutionRef", json!({"name": "a"})),
        ("stepNumber", json!(9)),
        ("action", json!("update_configmap")),
        ("parameters", json!({"updateConfigMap": {"data": {"a": "other"}}})),
        ("targetCluster", json!("b")),
        ("maxRetries", json!(1)),
        ("timeout", json!("1m")),
        ("dryRun", json!(true)),
        ("serviceAccountName", json!("b")),
    ] {
        let stopped = json!({"spec": {"shutdown": "Cancel"}});
        let words = " is immutable: create a new KubernetesExecution instead";
        ways.push(changed(EXECUTION, "hang-alone", (field, value), words, stopped));
    }
    for (kind, field, value, words) in [
        (WORKFLOW, "shutdown", json!("Rollback"), once),
        (WORKFLOW, "shutdown", Value::Null, once),
        (EXECUTION, "shutdown", Value::Null, once),
        (
            EXECUTION,
            "approvalReceived",
            json!(false),
            "spec.approvalReceived can't be taken back",
        ),
    ] {
        ways.push(changed(kind, "ended", (field, value), words, label()));
    }
    all_are_refused(&developer().await, ways).await;
}
