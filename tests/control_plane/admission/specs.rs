//! What the spec of a workflow or an execution must say, and no type or pattern can: an object that is refused, in words that
//! say where and what, and beside it one that passes.

use serde_json::{Value, json};

use super::backend::{TEAM, at, developer, flow};
use super::way::{Way, all_are_refused, create, way};
use crate::scene::{execution, workflow};

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
