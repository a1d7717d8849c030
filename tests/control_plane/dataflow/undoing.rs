//! What steps changed is taken back by real JSON patches, and a real API server refuses where somebody has changed it since.

use serde_json::{Value, json};

use crate::bed::bed;
use crate::scene::{CONFIG_MAP, DEPLOYMENT, EXECUTION, STATEFUL_SET, Scene, pretty, step, workflow};

const NAMESPACE: &str = "undo";

async fn web(scene: &Scene<'_>) -> Value {
    let web = scene.get(DEPLOYMENT, "web").await;
    let template = &web["spec"]["template"]["spec"]["containers"][0]["image"];
    json!([web["spec"]["replicas"], template])
}

pub(super) async fn undo(scene: &Scene<'_>, name: &str, changed: &Value) {
    let rollback =
        json!({"rollbackOf": {"name": changed["metadata"]["name"], "uid": changed["metadata"]["uid"]}});
    scene.create(workflow(name, json!([]), rollback)).await;
}

/// Names and states of its steps, with the class of their errors.
fn steps(ended: &Value) -> Vec<[&str; 3]> {
    let steps = ended["status"]["stepStatuses"].as_array().expect("steps");
    steps
        .iter()
        .map(|step| ["name", "status", "errorType"].map(|field| step[field].as_str().unwrap_or("")))
        .collect()
}

#[tokio::test]
async fn what_was_changed_is_put_back_and_what_somebody_changed_since_is_left() {
    let scene = Scene::new(bed().await, NAMESPACE).await;
    scene.deployment("web", 1).await;
    scene.config_map("settings", json!({"a": "old"})).await;
    let before = web(&scene).await;
    let scale = json!({"scaleDeployment": {"namespace": NAMESPACE, "deployment": "web", "replicas": 2}});
    let image = json!({"updateImage": {"namespace": NAMESPACE, "deployment": "web", "container": "server",
                                       "newImage": "registry.example/server:2"}});
    let update = json!({"updateConfigMap": {"namespace": NAMESPACE, "name": "settings", "dataUpdates": {"a": "new", "b": "new"}}});
    let all = json!([
        step(1, "scale-deployment", scale, json!({})),
        step(2, "update-image", image, json!({"dependsOn": [1]})),
        step(3, "update-configmap", update, json!({"dependsOn": [2]})),
    ]);
    let changed = scene.run("change", all).await;
    assert_eq!(web(&scene).await, json!([2, "registry.example/server:2"]));

    // Somebody has something to say, too.
    scene
        .patch(CONFIG_MAP, "settings", &json!({"data": {"a": "theirs"}}))
        .await;
    undo(&scene, "back", &changed).await;
    let back = scene.ended("back").await;
    let names = ["step-3", "step-2", "step-1"].map(|name| format!("undo {name}"));
    assert_eq!(
        steps(&back),
        [
            [names[0].as_str(), "failed", "resource_conflict"],
            [names[1].as_str(), "completed", ""],
            [names[2].as_str(), "completed", ""],
        ],
        "{}",
        pretty(&back["status"])
    );
    assert_eq!(back["status"]["workflowResult"]["outcome"], "partial_success");
    assert_eq!(web(&scene).await, before);
    assert_eq!(
        scene.get(CONFIG_MAP, "settings").await["data"],
        json!({"a": "theirs", "b": "new"})
    );
}

#[tokio::test]
async fn the_accounts_of_actions_may_take_back_what_they_did() {
    let scene = Scene::new(bed().await, "undo-rights").await;
    scene.deployment("web", 1).await;
    scene.stateful_set("db", 1).await;
    let apply = |value: &str| {
        let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": value},
                              "metadata": {"name": "made", "namespace": scene.namespace}});
        json!({"custom": {"actionType": "apply-manifest", "config": {"manifest": manifest.to_string()}}})
    };
    let scale = json!({"scaleStatefulSet": {"namespace": scene.namespace, "name": "db", "replicas": 2}});
    let patch = json!({"patchDeployment": {"namespace": scene.namespace, "deployment": "web", "patchType": "merge",
                                           "patch": json!({"spec": {"minReadySeconds": 1}}).to_string()}});
    let all = json!([
        step(1, "apply-manifest", apply("1"), json!({})),
        step(2, "apply-manifest", apply("2"), json!({"dependsOn": [1]})),
        step(3, "scale-stateful-set", scale, json!({"dependsOn": [2]})),
        step(4, "patch-deployment", patch, json!({"dependsOn": [3]})),
    ]);
    let changed = scene.run("change", all).await;
    undo(&scene, "back", &changed).await;
    let back = scene.ended("back").await;
    let names = [4, 3, 2, 1].map(|number| format!("undo step-{number}"));
    let completed = names.each_ref().map(|name| [name.as_str(), "completed", ""]);
    assert_eq!(steps(&back), completed, "{}", pretty(&back["status"]));
    assert_eq!(scene.find(CONFIG_MAP, "made").await, None);
    assert_eq!(scene.get(STATEFUL_SET, "db").await["spec"]["replicas"], 1);
    assert_eq!(
        scene.get(DEPLOYMENT, "web").await["spec"]["minReadySeconds"],
        Value::Null
    );
}

#[tokio::test]
async fn the_api_server_itself_refuses_an_undo_of_what_changes_before_its_job_runs() {
    let scene = Scene::new(bed().await, "undo-late").await;
    scene.config_map("settings", json!({"a": "old"})).await;
    let update = json!({"updateConfigMap": {"namespace": "undo-late", "name": "settings", "dataUpdates": {"a": "new"}}});
    let changed = scene
        .run("change", json!([step(1, "update-configmap", update, json!({}))]))
        .await;
    // Its pod takes seconds to run, and in the meantime somebody is faster.
    undo(&scene, "slow-back", &changed).await;
    scene
        .eventually("its Job is made", async || {
            let execution = scene.find(EXECUTION, "slow-back-step-1").await?;
            (execution["status"]["phase"] == "executing").then_some(())
        })
        .await;
    scene
        .patch(CONFIG_MAP, "settings", &json!({"data": {"a": "theirs"}}))
        .await;
    let back = scene.ended("slow-back").await;
    let [[_, "failed", "resource_conflict"]] = steps(&back)[..] else {
        panic!("{}", pretty(&back["status"]));
    };
    let execution = scene.execution("slow-back-step-1").await;
    assert_eq!(
        execution["status"]["attempts"].as_array().map(Vec::len),
        Some(1),
        "{}",
        pretty(&execution["status"])
    );
    assert_eq!(
        scene.get(CONFIG_MAP, "settings").await["data"],
        json!({"a": "theirs"})
    );
}
