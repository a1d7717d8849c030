//! What of a workflow and an execution is the controller's alone.

use serde_json::{Value, json};

use super::backend::{TEAM, administrator, at, developer, flow, ground, single};
use super::way::{all_are_refused, create, delete, get, patch, send, way};
use crate::bed::bed;
use crate::scene::{EXECUTION, Scene, WORKFLOW, merge, pretty};

fn owned_by(api_version: &str, kind: &str, more: Value) -> Value {
    let mut owner = json!({"apiVersion": api_version, "kind": kind, "name": "hang-flow", "uid": "1-2-3"});
    merge(&mut owner, more);
    json!({"metadata": {"ownerReferences": [owner]}})
}

fn labelled(key: &str, value: &str) -> Value {
    json!({"metadata": {"labels": {key: value}}})
}

#[tokio::test]
async fn nobody_makes_an_execution_a_step_or_an_undo() {
    let alone = |change: Value| patch(EXECUTION, TEAM, "hang-alone", change);
    let its_step = |change: Value| patch(EXECUTION, TEAM, "hang-flow-step-1", change);
    let of_flow = || {
        owned_by(
            "workflow.kubernaut.io/v1",
            "WorkflowExecution",
            json!({"controller": true}),
        )
    };
    let of_config = || owned_by("v1", "ConfigMap", json!({}));
    let step = "only the controller makes an execution a step of a workflow";
    let labels = "of an execution are set by the controller alone";
    let undo = json!({"undo": {"of": "cordon-node", "target": {"apiVersion": "v1", "kind": "Node", "name": "node-1"},
                               "patch": "[]"}});
    let mut undoing = single("undoing", json!({"spec": {"action": "undo"}}));
    undoing["spec"]["parameters"] = undo;
    let ways = vec![
        way(
            "a developer creates an execution that calls itself a step of a workflow",
            create(single("forged", of_flow())),
            step,
            "a developer creates one that belongs to something else",
            create(single("owned", of_config())),
        ),
        way(
            "a developer makes an execution a step later on",
            alone(of_flow()),
            step,
            "a developer lets it belong to something else",
            alone(of_config()),
        ),
        way(
            "a developer makes it one without being its controller",
            alone(owned_by(
                "workflow.kubernaut.io/v1",
                "WorkflowExecution",
                json!({}),
            )),
            step,
            "a developer puts a note on it",
            alone(json!({"metadata": {"annotations": {"example.com/note": "mine"}}})),
        ),
        way(
            "a developer makes it one by the kind alone, in another group",
            alone(owned_by(
                "example.com/v1",
                "WorkflowExecution",
                json!({"controller": true}),
            )),
            step,
            "a developer lets it belong to another kind, which does not control it",
            alone(owned_by("example.com/v1", "Remediation", json!({}))),
        ),
        way(
            "a developer takes a step away from its workflow",
            its_step(json!({"metadata": {"ownerReferences": null}})),
            "an execution stays a step of its workflow",
            "a developer deletes the step",
            delete(EXECUTION, TEAM, "hang-flow-step-1"),
        ),
        way(
            "a developer marks an execution as an undo when creating it",
            create(single("undo", labelled("kubernaut.io/rollback", "true"))),
            labels,
            "a developer labels it otherwise",
            create(single("labelled", labelled("example.com/rollback", "true"))),
        ),
        way(
            "a developer marks an execution as an undo later on",
            alone(labelled("kubernaut.io/rollback", "true")),
            labels,
            "a developer labels it otherwise",
            alone(labelled("example.com/team", "shop")),
        ),
        way(
            "a developer lists an execution under somebody's workflow",
            create(single("listed", labelled("kubernaut.io/workflow", "hang-flow"))),
            labels,
            "a developer creates one without",
            create(single("unlisted", json!({}))),
        ),
        way(
            "a developer takes the step's number off",
            its_step(json!({"metadata": {"labels": {"kubernaut.io/step-number": null}}})),
            labels,
            "a developer adds a label to it",
            its_step(labelled("example.com/team", "shop")),
        ),
        way(
            "a developer creates an execution with undo parameters",
            create(undoing),
            "parameters.undo is made by the controller alone",
            "a developer creates one with the parameters of the action",
            create(single("doing", json!({}))),
        ),
    ];
    all_are_refused(&developer().await, ways).await;
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "attempts to do it, one after the other")]
async fn nobody_lets_a_running_execution_go_or_forges_its_trail() {
    let alone = |change: Value| patch(EXECUTION, TEAM, "hang-alone", change);
    let ended = |change: Value| patch(EXECUTION, TEAM, "ended", change);
    let annotated = |key: &str, value: Value| json!({"metadata": {"annotations": {key: value}}});
    let finalizer = "kubernetesexecution.kubernaut.io/kubernetesexecution-cleanup";
    let set_by = "is set and removed by the controller alone";
    let id = "kubernaut.io/correlation-id";
    let unlock = "kubernaut.io/release-lock";
    let may_not = "may not set kubernaut.io/release-lock: create on approvals";
    let note = || annotated("example.com/note", json!("x"));
    let ways = vec![
        way(
            "a developer removes the finalizer of an execution whose Job runs",
            alone(json!({"metadata": {"finalizers": null}})),
            set_by,
            "a developer adds a finalizer of his own beside it",
            alone(json!({"metadata": {"finalizers": [finalizer, "example.com/mine"]}})),
        ),
        way(
            "a developer creates an execution that no deletion ends",
            create(single(
                "for-ever",
                json!({"metadata": {"finalizers": [finalizer]}}),
            )),
            set_by,
            "a developer creates one with a finalizer of his own",
            create(single(
                "for-a-while",
                json!({"metadata": {"finalizers": ["example.com/mine"]}}),
            )),
        ),
        way(
            "a developer changes what an execution is followed by",
            alone(annotated(id, json!("another"))),
            "can be set when the object is created, and not changed",
            "a developer changes another annotation",
            alone(note()),
        ),
        way(
            "a developer takes off what a step is followed by",
            patch(EXECUTION, TEAM, "hang-flow-step-1", annotated(id, Value::Null)),
            "can be set when the object is created, and not changed",
            "a developer puts a note on it",
            patch(EXECUTION, TEAM, "hang-flow-step-1", note()),
        ),
        way(
            "a developer writes lines of his own into logs",
            create(flow(
                "lines",
                annotated(id, json!("a\nlevel=info the workflow completed")),
            )),
            "must be 1 to 128 letters, digits",
            "a developer names the alert that asked for it",
            create(flow("named", annotated(id, json!("alert-7/shop:web.0_1")))),
        ),
        way(
            "a developer fills every Job and log with a long word",
            create(single("long", annotated(id, json!("a".repeat(129))))),
            "must be 1 to 128 letters, digits",
            "a developer takes the longest one",
            create(single("longest", annotated(id, json!("a".repeat(128))))),
        ),
        way(
            "a developer releases the lock of an execution while its Job runs",
            alone(annotated(unlock, json!("yes"))),
            may_not,
            "a developer stops it",
            alone(json!({"spec": {"shutdown": "Cancel"}})),
        ),
        way(
            "a developer releases a lock beforehand",
            create(single("beforehand", annotated(unlock, json!("yes")))),
            may_not,
            "a developer creates one that locks its target",
            create(single("locks", json!({}))),
        ),
        way(
            "a developer releases the lock of an execution that ended",
            ended(annotated(unlock, json!("yes"))),
            may_not,
            "a developer puts a note on it",
            ended(note()),
        ),
        way(
            "a developer changes what a step does",
            patch(
                EXECUTION,
                TEAM,
                "hang-flow-step-1",
                json!({"spec": {"parameters": {"updateConfigMap": {"data": {"a": "other"}}}}}),
            ),
            "spec.parameters is immutable: create a new KubernetesExecution instead",
            "a developer shuts it down",
            patch(
                EXECUTION,
                TEAM,
                "hang-flow-step-1",
                json!({"spec": {"shutdown": "Cancel"}}),
            ),
        ),
        way(
            "a developer changes whose rights a workflow has",
            patch(
                WORKFLOW,
                TEAM,
                "hang-flow",
                json!({"spec": {"serviceAccountName": "developer"}}),
            ),
            "spec.serviceAccountName is immutable: create a new WorkflowExecution instead",
            "a developer suspends it",
            patch(WORKFLOW, TEAM, "hang-flow", json!({"spec": {"suspend": true}})),
        ),
        way(
            "a developer deletes the policies",
            delete(
                "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicyBinding",
                "",
                "kubernaut-execution-fields",
            ),
            "cannot delete resource \"validatingadmissionpolicybindings\"",
            "a developer deletes his execution",
            delete(EXECUTION, TEAM, "hang-alone"),
        ),
    ];
    all_are_refused(&developer().await, ways).await;
}

#[tokio::test]
async fn a_lock_is_released_by_one_who_may_approve_and_only_after_the_end() {
    ground().await;
    let unlock = || json!({"metadata": {"annotations": {"kubernaut.io/release-lock": "the node is off"}}});
    let ways = vec![way(
        "an administrator releases the lock of an execution whose Job runs",
        patch(EXECUTION, TEAM, "hang-alone", unlock()),
        "is for an execution that has ended",
        "an administrator releases the lock of one that ended",
        patch(EXECUTION, TEAM, "ended", unlock()),
    )];
    all_are_refused(&administrator().await, ways).await;
}

#[tokio::test]
async fn the_fields_of_the_controller_are_not_an_administrators_either() {
    let ways = vec![
        way(
            "an administrator removes the finalizer of an execution whose Job runs",
            patch(
                EXECUTION,
                TEAM,
                "hang-alone",
                json!({"metadata": {"finalizers": []}}),
            ),
            "delete ValidatingAdmissionPolicyBinding kubernaut-execution-fields",
            "an administrator deletes it",
            delete(EXECUTION, TEAM, "hang-alone"),
        ),
        way(
            "an administrator makes an execution a step",
            create(single(
                "forged",
                owned_by(
                    "workflow.kubernaut.io/v1",
                    "WorkflowExecution",
                    json!({"controller": true}),
                ),
            )),
            "put the step into a workflow",
            "an administrator creates a workflow",
            create(flow("proper", json!({}))),
        ),
        way(
            "an administrator creates a workflow in a namespace of the cluster",
            create(at("kube-public", flow("there", json!({})))),
            "nothing is run from namespace kube-public: it is protected",
            "an administrator creates it elsewhere",
            create(flow("here", json!({}))),
        ),
        way(
            "an administrator creates an execution in the executor's namespace",
            create(at("kubernaut-executor", single("there", json!({})))),
            "nothing is run from namespace kubernaut-executor: it is protected",
            "an administrator creates it elsewhere",
            create(single("here", json!({}))),
        ),
        way(
            "an administrator creates an execution in the controller's namespace",
            create(at("kubernaut-system", single("there", json!({})))),
            "nothing is run from namespace kubernaut-system: it is protected",
            "an administrator looks at what is there",
            get("v1/ServiceAccount", "kubernaut-system", "kubernaut-controller"),
        ),
    ];
    all_are_refused(&administrator().await, ways).await;
}

#[tokio::test]
async fn a_status_that_is_brought_along_counts_for_nothing() {
    ground().await;
    let scene = Scene::new(bed().await, "adm-status").await;
    let made = single(
        "ready-made",
        json!({"spec": {"shutdown": "Cancel"},
               "status": {"phase": "completed", "approval": {"source": "execution", "approvedBy": "alice"}}}),
    );
    let made = scene.create(at("adm-status", made)).await;
    assert_eq!(made["status"], Value::Null, "{}", pretty(&made));
    let ended = scene.execution_ended("ready-made").await;
    assert_eq!(ended["status"]["phase"], "failed", "{}", pretty(&ended));
}

#[tokio::test]
async fn naming_an_account_of_the_executor_gives_nothing_of_its_rights() {
    let developer = developer().await;
    let cordon = |name: &str, account: &str| {
        let mut object = single(
            name,
            json!({"spec": {"action": "cordon-node", "serviceAccountName": account}}),
        );
        object["spec"]["parameters"] = json!({"cordonNode": {"node": "node-1"}});
        create(object)
    };
    let ways = vec![
        way(
            "a developer names an account of the executor by its namespace",
            cordon("by-namespace", "kubernaut-executor/cordon-node-sa"),
            "serviceAccountName in body should match",
            "a developer names an account of his own namespace",
            cordon("own", "developer"),
        ),
        way(
            "a developer names an account of the executor by its user name",
            cordon(
                "by-user",
                "system:serviceaccount:kubernaut-executor:cordon-node-sa",
            ),
            "serviceAccountName in body should match",
            "a developer names none",
            create(single("none", json!({}))),
        ),
    ];
    all_are_refused(&developer, ways).await;

    let scene = Scene {
        bed: bed().await,
        client: bed().await.client().await,
        namespace: TEAM.to_owned(),
    };
    let reason = async |name: &str| {
        let ended = scene.execution_ended(name).await;
        assert_eq!(
            ended["status"]["errorType"],
            "insufficient_permissions",
            "{}",
            pretty(&ended)
        );
        ended["status"]["failureReason"]
            .as_str()
            .expect("a reason")
            .to_owned()
    };
    let named = cordon("by-name", "cordon-node-sa");
    send(&developer, &named, false).await.expect("accepted");
    let said = reason("by-name").await;
    assert!(
        said.contains("ServiceAccount adm-team/cordon-node-sa does not exist"),
        "{said}"
    );
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
                         "metadata": {"name": "cordon-node-sa", "namespace": TEAM}});
    send(&developer, &create(account), false).await.expect("accepted");
    send(&developer, &cordon("by-own-name", "cordon-node-sa"), false)
        .await
        .expect("accepted");
    let said = reason("by-own-name").await;
    assert!(
        said.contains("adm-team/cordon-node-sa may not") && said.contains("patch nodes"),
        "{said}"
    );
}
