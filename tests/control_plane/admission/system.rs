//! What the cluster itself does to workflows and executions passes.

use kube::api::{DeleteParams, PropagationPolicy};
use serde_json::{Value, json};

use crate::bed::bed;
use crate::scene::{EXECUTION, Scene, WORKFLOW, step};

/// A workflow with one step in a namespace of its own.
async fn one_step(namespace: &str, name: &str) -> Scene<'static> {
    let scene = Scene::new(bed().await, namespace).await;
    scene.config_map("settings", json!({"a": "old"})).await;
    start(&scene, name).await;
    scene
}

async fn start(scene: &Scene<'_>, name: &str) {
    let update = json!({"updateConfigMap": {"namespace": scene.namespace, "name": "settings",
                                            "dataUpdates": {"a": "new"}}});
    let steps = json!([step(1, "update-configmap", update, json!({}))]);
    scene.start(name, steps, json!({})).await;
}

#[tokio::test]
async fn the_garbage_collector_takes_the_workflow_off_an_execution_that_outlives_it() {
    let scene = one_step("adm-orphan", "first").await;
    scene.succeeded("first").await;
    scene.delete(WORKFLOW, "first").await;
    scene
        .eventually("the garbage collector knows of our kinds", async || {
            scene
                .find(EXECUTION, "first-step-1")
                .await
                .is_none()
                .then_some(())
        })
        .await;
    start(&scene, "done").await;
    scene.succeeded("done").await;
    let orphan = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Orphan),
        ..DeleteParams::default()
    };
    scene
        .api(WORKFLOW)
        .delete("done", &orphan)
        .await
        .expect("deleted");
    scene
        .eventually("the execution stands alone", async || {
            let gone = scene.find(WORKFLOW, "done").await.is_none();
            let execution = scene.execution("done-step-1").await;
            (gone && execution["metadata"]["ownerReferences"] == Value::Null).then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_namespace_is_deleted_with_a_job_that_runs_for_it() {
    let scene = one_step("adm-gone", "hang-here").await;
    scene
        .eventually("the Job is there", async || {
            (scene.jobs().await.len() == 1).then_some(())
        })
        .await;
    scene.delete("v1/Namespace", "adm-gone").await;
    scene
        .eventually("the namespace is gone, and its Job", async || {
            let left = scene.list(EXECUTION, "").await.len() + scene.jobs().await.len();
            (left == 0 && scene.find("v1/Namespace", "adm-gone").await.is_none()).then_some(())
        })
        .await;
}
