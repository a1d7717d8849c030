//! Deleting a workflow or an execution while its Job runs: the Job is stopped first, and nothing stays.

use kube::api::ListParams;
use serde_json::{Value, json};

use crate::bed::bed;
use crate::scene::{EXECUTOR, POD, Scene, api, execution, pretty, step};

const WORKFLOW: &str = "workflow.kubernaut.io/v1/WorkflowExecution";
const EXECUTION: &str = "kubernetesexecution.kubernaut.io/v1/KubernetesExecution";

async fn pods(scene: &Scene<'_>) -> Vec<String> {
    let ours = format!("kubernaut.io/execution-namespace={}", scene.namespace);
    let pods = api(&scene.client, POD, EXECUTOR);
    let list = pods
        .list(&ListParams::default().labels(&ours))
        .await
        .expect("a list");
    list.items
        .iter()
        .map(|pod| {
            pod.data["status"]["phase"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        })
        .collect()
}

async fn a_pod_hangs(scene: &Scene<'_>) {
    scene
        .eventually("a pod that hangs", async || {
            (pods(scene).await == ["Running"]).then_some(())
        })
        .await;
}

async fn nothing_is_left(scene: &Scene<'_>) {
    scene
        .eventually("nothing is left", async || {
            let executions = scene.list(EXECUTION, "").await;
            let gone = executions.is_empty() && scene.jobs().await.is_empty() && pods(scene).await.is_empty();
            gone.then_some(())
        })
        .await;
}

fn update(namespace: &str) -> Value {
    json!({"updateConfigMap": {"namespace": namespace, "name": "settings", "dataUpdates": {"a": "new"}}})
}

#[tokio::test]
async fn a_deleted_execution_stops_its_job_and_goes() {
    let scene = Scene::new(bed().await, "del-execution").await;
    scene.config_map("settings", json!({"a": "old"})).await;
    let parameters = json!({"updateConfigMap": {"namespace": "del-execution", "configMap": "settings", "data": {"a": "new"}}});
    scene
        .create(execution("hang-here", "update-configmap", parameters, json!({})))
        .await;
    a_pod_hangs(&scene).await;
    scene.delete(EXECUTION, "hang-here").await;
    nothing_is_left(&scene).await;
}

#[tokio::test]
async fn a_deleted_workflow_takes_its_running_job_with_it() {
    let scene = Scene::new(bed().await, "del-workflow").await;
    scene.config_map("settings", json!({"a": "old"})).await;
    let steps = json!([step(1, "update-configmap", update("del-workflow"), json!({}))]);
    scene.start("hang-here", steps, json!({})).await;
    a_pod_hangs(&scene).await;
    scene.delete(WORKFLOW, "hang-here").await;
    nothing_is_left(&scene).await;
    assert_eq!(scene.find(WORKFLOW, "hang-here").await, None);
}

#[tokio::test]
async fn a_workflow_deleted_in_the_foreground_goes_too() {
    let scene = Scene::new(bed().await, "del-foreground").await;
    scene.config_map("settings", json!({"a": "old"})).await;
    let steps = json!([step(1, "update-configmap", update("del-foreground"), json!({}))]);
    scene.start("hang-here", steps, json!({})).await;
    a_pod_hangs(&scene).await;
    let foreground = kube::api::DeleteParams::foreground();
    scene
        .api(WORKFLOW)
        .delete("hang-here", &foreground)
        .await
        .expect("deleted");
    nothing_is_left(&scene).await;
    scene
        .eventually("the workflow is gone", async || {
            scene.find(WORKFLOW, "hang-here").await.is_none().then_some(())
        })
        .await;
}

#[tokio::test]
async fn an_execution_that_somebody_deletes_fails_its_step_and_is_not_made_again() {
    let scene = Scene::new(bed().await, "del-step").await;
    scene.config_map("settings", json!({"a": "old"})).await;
    let steps = json!([step(1, "update-configmap", update("del-step"), json!({}))]);
    scene.start("hang-here", steps, json!({})).await;
    a_pod_hangs(&scene).await;
    scene.delete(EXECUTION, "hang-here-step-1").await;
    let ended = scene.ended("hang-here").await;
    let status = &ended["status"];
    assert_eq!(status["phase"], "failed", "{}", pretty(status));
    assert_eq!(status["errorType"], "cancelled", "{}", pretty(status));
    nothing_is_left(&scene).await;
}

#[tokio::test]
async fn a_deleted_execution_that_ended_takes_its_job_with_it() {
    let scene = Scene::new(bed().await, "del-ended").await;
    scene.config_map("settings", json!({"a": "old"})).await;
    scene
        .run(
            "done",
            json!([step(1, "update-configmap", update("del-ended"), json!({}))]),
        )
        .await;
    assert_eq!(scene.jobs().await.len(), 1);
    scene.delete(EXECUTION, "done-step-1").await;
    nothing_is_left(&scene).await;
    let workflow = scene.workflow("done").await;
    assert_eq!(workflow["status"]["phase"], "completed");
}
