//! Whose step an execution is: told by the whole owner reference, which is the controller's.

use serde_json::{Value, json};

use super::approvals::without_nulls;
use super::backend::{TEAM, administrator, developer, ground, single};
use super::way::{Act, all_are_refused, all_pass, apply, create, edit, patch, send, way};
use crate::bed::bed;
use crate::scene::{EXECUTION, Scene, WORKFLOW, api, merge};

const STEP: &str = "hang-flow-step-1";
const OURS: &str = "workflow.kubernaut.io/v1";
const MAKES: &str = "only the controller makes an execution a step of a workflow";
const STAYS: &str = "an execution stays a step of its workflow";

fn owner(api_version: &str, kind: &str, uid: &str, controller: bool) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "name": "hang-flow", "uid": uid, "controller": controller})
}

fn owned(owners: &[Value]) -> Value {
    json!({"metadata": {"ownerReferences": owners}})
}

/// Each way to write the owners of an execution that is there.
fn each_way(name: &str, owners: &[Value]) -> [Act; 3] {
    let mut object = single(name, owned(owners));
    // Another spec would be refused, too, and the API server names any of several policies.
    object["spec"].take();
    object["metadata"]
        .as_object_mut()
        .expect("metadata")
        .remove("namespace");
    let operations = json!([{"op": "add", "path": "/metadata/ownerReferences", "value": owners}]);
    [
        patch(EXECUTION, TEAM, name, owned(owners)),
        edit(EXECUTION, TEAM, name, operations),
        apply(EXECUTION, TEAM, name, without_nulls(object)),
    ]
}

async fn uid_of(kind: &str, name: &str) -> String {
    let found = api(&administrator().await, kind, TEAM).get(name).await;
    found.expect("it is there").metadata.uid.expect("a uid")
}

#[tokio::test]
async fn nobody_gives_an_execution_a_controller_of_any_kind_whose_uid_is_a_workflows() {
    ground().await;
    let uid = uid_of(WORKFLOW, "hang-flow").await;
    let note = || {
        patch(
            EXECUTION,
            TEAM,
            "hang-alone",
            json!({"metadata": {"annotations": {"a": "b"}}}),
        )
    };
    let mut ways = Vec::new();
    for (api_version, kind) in [
        ("example.com/v1", "Remediation"),
        ("v1", "ConfigMap"),
        ("example.com/v1", "WorkflowExecution"),
        ("workflow.kubernaut.io/v2", "Other"),
    ] {
        let forged = owner(api_version, kind, &uid, true);
        ways.push(way(
            "a developer makes a step of a workflow before its turn",
            create(single("hang-flow-step-2", owned(std::slice::from_ref(&forged)))),
            MAKES,
            "a developer creates an execution that belongs to something",
            create(single("owned", owned(&[owner("v1", "ConfigMap", &uid, false)]))),
        ));
        for act in each_way("hang-alone", &[forged]) {
            ways.push(way(
                "a developer makes an execution a step",
                act,
                MAKES,
                "a developer notes it",
                note(),
            ));
        }
    }
    all_are_refused(&developer().await, ways).await;
}

#[tokio::test]
async fn an_owner_does_not_become_a_workflow_in_two_steps() {
    ground().await;
    let client = developer().await;
    let uid = uid_of(WORKFLOW, "hang-flow").await;
    let first = owner("v1", "ConfigMap", &uid, false);
    send(
        &client,
        &create(single("two-steps", owned(std::slice::from_ref(&first)))),
        false,
    )
    .await
    .expect("it belongs to a ConfigMap");
    let label = || {
        patch(
            EXECUTION,
            TEAM,
            "two-steps",
            json!({"metadata": {"labels": {"a": "b"}}}),
        )
    };
    let mut ways = Vec::new();
    for second in [
        owner(OURS, "WorkflowExecution", &uid, false),
        owner("v1", "ConfigMap", &uid, true),
    ] {
        for act in each_way("two-steps", &[second]) {
            ways.push(way(
                "the owner with this uid becomes another",
                act,
                MAKES,
                "a label is set",
                label(),
            ));
        }
    }
    all_are_refused(&client, ways).await;
    all_pass(
        &client,
        vec![(
            "it is taken off again",
            patch(EXECUTION, TEAM, "two-steps", owned(&[])),
        )],
    )
    .await;
}

#[tokio::test]
async fn a_step_keeps_its_owner_in_kind_name_and_uid() {
    ground().await;
    let client = developer().await;
    let step = api(&administrator().await, EXECUTION, TEAM).get(STEP).await;
    let own = json!(step.expect("the step").metadata.owner_references.expect("owners")[0]);
    let changed = |more: Value| {
        let mut other = own.clone();
        merge(&mut other, more);
        other
    };
    let label = || {
        patch(
            EXECUTION,
            TEAM,
            STEP,
            json!({"metadata": {"labels": {"example.com/a": "b"}}}),
        )
    };
    let mut ways = Vec::new();
    for (other, words) in [
        (changed(json!({"kind": "Remediation"})), MAKES),
        (changed(json!({"apiVersion": "example.com/v1"})), MAKES),
        (changed(json!({"name": "another"})), MAKES),
        (
            changed(json!({"kind": "ConfigMap", "apiVersion": "v1", "controller": false})),
            STAYS,
        ),
        (changed(json!({"controller": false})), MAKES),
    ] {
        for act in each_way(STEP, &[other]).into_iter().take(2) {
            ways.push(way(
                "a developer renames the owner of a step",
                act,
                words,
                "a label is set",
                label(),
            ));
        }
    }
    for act in each_way(STEP, &[]).into_iter().take(2) {
        ways.push(way(
            "a developer takes a step away",
            act,
            STAYS,
            "a label is set",
            label(),
        ));
    }
    all_are_refused(&client, ways).await;
    let unblocked = changed(json!({"blockOwnerDeletion": false}));
    all_pass(
        &client,
        vec![(
            "it no longer holds its workflow back",
            patch(EXECUTION, TEAM, STEP, owned(&[unblocked])),
        )],
    )
    .await;
}

#[tokio::test]
async fn only_the_controller_says_in_an_execution_which_workflow_it_is_of() {
    let named = json!({"spec": {"workflowExecutionRef": {"name": "hang-flow", "uid": "1-2-3"}}});
    let ways = vec![way(
        "a developer lays a false trail",
        create(single("trail", named)),
        "spec.workflowExecutionRef is set by the controller alone",
        "a developer creates an execution of his own",
        create(single("own-trail", json!({}))),
    )];
    all_are_refused(&developer().await, ways).await;
}

#[tokio::test]
async fn an_execution_with_as_many_owners_and_annotations_as_an_object_holds_still_goes() {
    ground().await;
    let scene = Scene::new(bed().await, "adm-many").await;
    let owners: Vec<Value> = (0..2000)
        .map(|number| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": format!("1-2-{number}")}))
        .collect();
    let notes: serde_json::Map<String, Value> = (0..2000)
        .map(|number| (format!("example.com/note-{number}"), json!("x")))
        .collect();
    let ended = json!({"spec": {"shutdown": "Cancel"}});
    for (name, more) in [
        ("owners", owned(&owners)),
        ("notes", json!({"metadata": {"annotations": notes}})),
    ] {
        let mut object = single(name, ended.clone());
        merge(&mut object, more);
        object["metadata"]["namespace"] = json!("adm-many");
        // Its owners are nowhere, which the garbage collector finds out in the end: it deletes it then.
        scene.create(object).await;
    }
    scene.execution_ended("notes").await;
    for name in ["owners", "notes"] {
        let params = kube::api::DeleteParams::foreground();
        match scene.api(EXECUTION).delete(name, &params).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => panic!("{error}"),
        }
        scene
            .eventually("it is gone", async || {
                scene.find(EXECUTION, name).await.is_none().then_some(())
            })
            .await;
    }
}
