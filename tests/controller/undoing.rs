//! What a workflow changed is taken back on a cluster, and its effects are read; and what people ask of a workflow that runs.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kubernaut_crds::{ErrorType, Outcome, StepState, UndoState, WorkflowExecution, WorkflowPhase};
use serde_json::{Value, json};

use crate::scene::{Scene, eventually, step, workflow};

fn named(number: u32, depends_on: &[u32], action: &str, parameters: &Value) -> Value {
    let mut step = step(number, depends_on);
    step["action"] = json!(action);
    step["parameters"] = parameters.clone();
    step
}

/// One step of each action that has an inverse, and a critical one that fails at last: its Deployment is not there.
fn all_that_has_an_inverse() -> Vec<Value> {
    let deployment = |name: &str, more: Value| {
        let mut parameters = json!({"namespace": "shop", "deployment": name});
        for (key, value) in more.as_object().into_iter().flatten() {
            parameters[key] = value.clone();
        }
        parameters
    };
    let patch =
        json!({"spec": {"minReadySeconds": 1, "template": {"metadata": {"labels": {"fixed": "yes"}}}}});
    let patch = json!({"patchType": "merge", "patch": patch.to_string()});
    let image = json!({"container": "app", "newImage": "example/app:2"});
    let data = json!({"namespace": "shop", "name": "settings", "dataUpdates": {"a": "new", "b": "added"}});
    let made = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "made", "namespace": "shop"},
                      "data": {"k": "v"}});
    let applied = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied", "namespace": "shop"},
                         "data": {"m": "added"}});
    let custom = |object: &Value| json!({"custom": {"actionType": "apply-manifest", "config": {"manifest": object.to_string()}}});
    let mut last = named(
        10,
        &[1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12],
        "scale-deployment",
        &json!({"scaleDeployment": deployment("nothing", json!({"replicas": 1}))}),
    );
    last["criticalStep"] = json!(true);
    vec![
        named(
            1,
            &[],
            "scale-deployment",
            &json!({"scaleDeployment": deployment("web-1", json!({"replicas": 3}))}),
        ),
        named(
            2,
            &[],
            "scale-deployment",
            &json!({"scaleDeployment": deployment("web-2", json!({"replicas": 0}))}),
        ),
        named(
            3,
            &[],
            "update-image",
            &json!({"updateImage": deployment("web-3", image)}),
        ),
        named(
            4,
            &[],
            "patch-deployment",
            &json!({"patchDeployment": deployment("web-4", patch)}),
        ),
        named(5, &[], "update-configmap", &json!({"updateConfigMap": data})),
        named(6, &[], "apply-manifest", &custom(&made)),
        named(7, &[], "apply-manifest", &custom(&applied)),
        named(
            8,
            &[1],
            "cordon-node",
            &json!({"cordonNode": {"nodeName": "node-1"}}),
        ),
        named(
            9,
            &[],
            "uncordon-node",
            &json!({"uncordonNode": {"nodeName": "node-3"}}),
        ),
        named(
            11,
            &[9],
            "drain-node",
            &json!({"drainNode": {"nodeName": "node-2", "ignoreDaemonSets": true, "deleteLocalData": true}}),
        ),
        named(
            12,
            &[],
            "scale-stateful-set",
            &json!({"scaleStatefulSet": {"namespace": "shop", "name": "db", "replicas": 3}}),
        ),
        last,
    ]
}

async fn world() -> Scene {
    let scene = Scene::with(
        embedded_cluster::Rbac::AllowAll,
        &["--apply-manifest-kinds=ConfigMap"],
    )
    .await;
    let nodes: Api<Node> = Api::all(scene.client.clone());
    for (name, cordoned) in [("node-2", false), ("node-3", true), ("node-4", false)] {
        let node = json!({"metadata": {"name": name}, "spec": {"unschedulable": cordoned}});
        let node = serde_json::from_value(node).unwrap();
        nodes.create(&PostParams::default(), &node).await.unwrap();
    }
    let labels = json!({"app": "db"});
    let set = json!({"metadata": {"name": "db"}, "spec": {"replicas": 1, "serviceName": "db", "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "db", "image": "example/db:1"}]}}}});
    let sets: Api<StatefulSet> = Api::namespaced(scene.client.clone(), "shop");
    sets.create(&PostParams::default(), &serde_json::from_value(set).unwrap())
        .await
        .unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(scene.client.clone(), "shop");
    for (name, data) in [
        ("settings", json!({"a": "old", "c": "kept"})),
        ("applied", json!({"k": "old", "l": "kept"})),
    ] {
        let map = serde_json::from_value(json!({"metadata": {"name": name}, "data": data})).unwrap();
        maps.create(&PostParams::default(), &map).await.unwrap();
    }
    scene
}

/// What the steps change, of each target.
async fn state(scene: &Scene) -> Value {
    let deployments: Api<k8s_openapi::api::apps::v1::Deployment> =
        Api::namespaced(scene.client.clone(), "shop");
    let maps: Api<ConfigMap> = Api::namespaced(scene.client.clone(), "shop");
    let nodes: Api<Node> = Api::all(scene.client.clone());
    let mut state = json!({});
    for name in ["web-1", "web-2", "web-3", "web-4"] {
        state[name] = json!(deployments.get(name).await.unwrap().spec);
    }
    for name in ["settings", "applied", "made"] {
        state[name] = json!(maps.get_opt(name).await.unwrap().map(|map| map.data));
    }
    for name in ["node-1", "node-2", "node-3"] {
        let node = nodes.get(name).await.unwrap().spec.unwrap_or_default();
        state[name] = json!(node.unschedulable.unwrap_or(false));
    }
    let sets: Api<StatefulSet> = Api::namespaced(scene.client.clone(), "shop");
    state["db"] = json!(sets.get("db").await.unwrap().spec);
    state
}

async fn ask(scene: &Scene, name: &str, spec: Value) {
    let patch = Patch::Merge(json!({"spec": spec}));
    scene
        .workflows()
        .patch(name, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

async fn ended(scene: &Scene, name: &str) -> WorkflowExecution {
    let ended = async || {
        scene
            .workflow_phase(name)
            .await
            .is_some_and(WorkflowPhase::is_terminal)
    };
    eventually("it ends", ended).await;
    scene.workflows().get(name).await.unwrap()
}

fn undos(workflow: &WorkflowExecution) -> Vec<(i32, Option<UndoState>)> {
    let steps = workflow.status.iter().flat_map(|status| &status.step_statuses);
    steps
        .map(|step| (step.step_number, step.undo.as_ref().map(|undo| undo.status)))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn after_a_critical_failure_every_target_is_as_it_was() {
    let scene = world().await;
    let before = state(&scene).await;
    scene.submit(workflow("fix", &all_that_has_an_inverse())).await;
    eventually("all of it is changed", async || {
        state(&scene).await["node-1"] == true && state(&scene).await["web-1"]["replicas"] == 3
    })
    .await;
    let ended = ended(&scene, "fix").await;
    let status = ended.status.clone().unwrap();
    let mut expected: Vec<_> = (1..=12)
        .map(|number| (number, Some(UndoState::Completed)))
        .collect();
    expected[9].1 = None;
    assert_eq!(undos(&ended), expected, "{:#?}", status.step_statuses);
    assert_eq!(state(&scene).await, before);
    assert_eq!(
        (status.failed_step, status.error_type),
        (Some(10), Some(ErrorType::ResourceNotFound))
    );
    assert_eq!(scene.holds(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_somebody_has_changed_since_is_left_as_it_is() {
    let mut scene = world().await;
    scene.submit(workflow("fix", &all_that_has_an_inverse())).await;
    eventually("the steps have completed", async || {
        let workflow = scene.workflows().get("fix").await.unwrap();
        let steps = workflow
            .status
            .map(|status| status.step_statuses)
            .unwrap_or_default();
        steps
            .iter()
            .filter(|step| step.status == StepState::Completed)
            .count()
            == 11
    })
    .await;
    // While nobody looks.
    scene.stop().await;
    let maps: Api<ConfigMap> = Api::namespaced(scene.client.clone(), "shop");
    let theirs = Patch::Merge(json!({"data": {"a": "theirs"}}));
    maps.patch("settings", &PatchParams::default(), &theirs)
        .await
        .unwrap();
    let gone = kube::api::DeleteParams::default();
    maps.delete("made", &gone).await.unwrap();
    scene.start().await;
    let ended = ended(&scene, "fix").await;
    let undone: std::collections::BTreeMap<_, _> = undos(&ended).into_iter().collect();
    assert_eq!(undone[&5], Some(UndoState::Failed));
    // It was to be deleted, and is gone.
    assert_eq!(undone[&6], Some(UndoState::Completed));
    assert_eq!(state(&scene).await["settings"]["a"], "theirs");
    let step = ended
        .status
        .unwrap()
        .step_statuses
        .into_iter()
        .find(|step| step.step_number == 5)
        .unwrap();
    let undo = step.undo.unwrap();
    assert_eq!(undo.error_type, Some(ErrorType::ResourceConflict));
    let message = undo.message.unwrap();
    assert!(
        message.contains("/data/a was set to \"new\" and is \"theirs\" now"),
        "{message}"
    );
}

#[tokio::test(start_paused = true)]
async fn cancel_stops_the_job_that_runs_and_rollback_takes_back_what_was_done() {
    for (shutdown, replicas) in [("Cancel", 2), ("Rollback", 1)] {
        let scene = Scene::new().await;
        scene.pods_take(20);
        scene
            .submit(workflow("fix", &[step(1, &[]), step(2, &[1]), step(3, &[2])]))
            .await;
        eventually("the second step runs", async || {
            scene.execution_phase("fix-step-2").await == Some(kubernaut_crds::ExecutionPhase::Executing)
        })
        .await;
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        ask(&scene, "fix", json!({"shutdown": shutdown})).await;
        let status = ended(&scene, "fix").await.status.unwrap();
        assert_eq!(
            status.workflow_result.map(|result| result.outcome),
            Some(Outcome::Cancelled),
            "{:?}",
            status.failure_reason
        );
        let stopped = scene
            .executions()
            .get("fix-step-2")
            .await
            .unwrap()
            .status
            .unwrap();
        assert_eq!(
            stopped.error_type,
            Some(ErrorType::Cancelled),
            "{:?}",
            stopped.message
        );
        assert_eq!(
            (scene.replicas("web-1").await, scene.replicas("web-2").await),
            (replicas, 1)
        );
        assert_eq!(scene.holds(), (0, 0));
        assert!(scene.executions().get_opt("fix-step-3").await.unwrap().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn an_execution_made_by_hand_is_cancelled_by_itself() {
    let scene = Scene::new().await;
    scene.hang_pods();
    scene
        .submit_execution(crate::scene::execution("a", "web-1"))
        .await;
    eventually("it runs", async || {
        scene.execution_phase("a").await == Some(kubernaut_crds::ExecutionPhase::Executing)
    })
    .await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let patch = Patch::Merge(json!({"spec": {"shutdown": "Cancel"}}));
    scene
        .executions()
        .patch("a", &PatchParams::default(), &patch)
        .await
        .unwrap();
    let status = scene.finished_execution("a").await.status.unwrap();
    assert_eq!(status.error_type, Some(ErrorType::Cancelled));
    assert_eq!(scene.replicas("web-1").await, 1);
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(scene.holds(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_undo_made_by_hand_is_refused() {
    let scene = Scene::new().await;
    let mut execution = crate::scene::execution("a", "web-1");
    execution["spec"]["action"] = json!("undo");
    execution["spec"]["parameters"] = json!({"undo": {"of": "scale-deployment", "patch": "[]",
        "target": {"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": "web-1"}}});
    scene.submit_execution(execution).await;
    let status = scene.finished_execution("a").await.status.unwrap();
    assert_eq!(status.error_type, Some(ErrorType::ValidationError));
    assert!(
        status
            .message
            .unwrap()
            .contains("an undo is made by the workflow")
    );
}

#[tokio::test(start_paused = true)]
async fn a_workflow_that_has_ended_is_undone_by_another_one() {
    let scene = world().await;
    let before = state(&scene).await;
    let mut steps = all_that_has_an_inverse();
    steps.pop();
    scene.submit(workflow("fix", &steps)).await;
    let fixed = ended(&scene, "fix").await;
    assert_eq!(
        fixed.status.unwrap().workflow_result.unwrap().outcome,
        Outcome::Success
    );
    assert_ne!(state(&scene).await, before);
    let mut undo = workflow("fix-undo-1", &[]);
    undo["spec"]["rollbackOf"] = json!({"name": "fix", "uid": fixed.metadata.uid});
    scene.submit(undo).await;
    let undone = ended(&scene, "fix-undo-1").await.status.unwrap();
    assert_eq!(
        undone.workflow_result.unwrap().outcome,
        Outcome::Success,
        "{:#?}",
        undone.step_statuses
    );
    assert_eq!(undone.total_steps, Some(11));
    assert_eq!(state(&scene).await, before);
}
