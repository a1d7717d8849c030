//! What goes wrong with a Job on a real node, and how its step ends.

mod deadline;
mod drains;
mod gone;
mod image;
mod kubelet;
mod pods;
mod rights;
mod tokens;

use kube::api::{DynamicObject, ListParams};
use serde_json::{Value, json};

use crate::scene::{EXECUTOR, POD, Scene, api, pretty, step};

use drains::BlockedDrain;

/// One step of each action, by the name of its target or of what is done. Each has a target of its own, so that none
/// waits for another; those on nodes wait for each other all the same, and are left out.
struct Targets {
    pod: String,
}

impl Targets {
    /// Makes something for each action to work on.
    async fn make(scene: &Scene<'_>) -> Self {
        for name in ["scaled", "restarted", "imaged", "patched", "evicted", "deleted"] {
            scene.deployment(name, 1).await;
        }
        scene.stateful_set("stateful", 1).await;
        scene.config_map("settings", json!({"a": "old"})).await;
        scene.config_map("applied", json!({"a": "old"})).await;
        scene
            .create(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"}, "data": {"a": "b2xk"}}))
            .await;
        let pods = scene.list(crate::scene::POD, "app=deleted").await;
        let pod = pods[0]["metadata"]["name"].as_str().expect("a name").to_owned();
        Self { pod }
    }

    /// The actions with the parameters of a step, and the account that carries each out.
    fn actions(&self, scene: &Scene<'_>) -> Vec<(&'static str, Value)> {
        let namespace = &scene.namespace;
        let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "new"},
                              "metadata": {"name": "applied", "namespace": namespace}});
        let patch = json!({"spec": {"template": {"metadata": {"labels": {"new": "yes"}}}}});
        vec![
            (
                "scale-deployment",
                json!({"scaleDeployment": {"namespace": namespace, "deployment": "scaled", "replicas": 2}}),
            ),
            (
                "restart-deployment",
                json!({"restartDeployment": {"namespace": namespace, "deployment": "restarted"}}),
            ),
            (
                "update-image",
                json!({"updateImage": {"namespace": namespace, "deployment": "imaged", "container": "server",
                                       "newImage": crate::bed::OTHER_WEB}}),
            ),
            (
                "patch-deployment",
                json!({"patchDeployment": {"namespace": namespace, "deployment": "patched", "patchType": "strategic",
                                           "patch": patch.to_string()}}),
            ),
            (
                "delete-pod",
                json!({"deletePod": {"namespace": namespace, "podName": self.pod}}),
            ),
            (
                "restart-pod",
                json!({"restartPod": {"namespace": namespace, "selector": "app=evicted"}}),
            ),
            (
                "update-configmap",
                json!({"updateConfigMap": {"namespace": namespace, "name": "settings", "dataUpdates": {"a": "new"}}}),
            ),
            (
                "update-secret",
                json!({"updateSecret": {"namespace": namespace, "name": "login", "dataUpdates": {"a": "bmV3"}}}),
            ),
            (
                "apply-manifest",
                json!({"custom": {"actionType": "apply-manifest", "config": {"manifest": manifest.to_string()}}}),
            ),
            (
                "scale-stateful-set",
                json!({"scaleStatefulSet": {"namespace": namespace, "name": "stateful", "replicas": 2}}),
            ),
        ]
    }
}

/// A workflow that runs all of them at once.
async fn start_all(scene: &Scene<'_>, name: &str, actions: &[(&'static str, Value)]) {
    let steps: Vec<Value> = (1..)
        .zip(actions)
        .map(|(number, (action, parameters))| step(number, action, parameters.clone(), json!({})))
        .collect();
    scene
        .start(name, json!(steps), json!({"maxParallelSteps": 20}))
        .await;
}

/// A node that is an object only: no kubelet, and no room for a pod.
async fn spare_node(scene: &Scene<'_>, name: &str, cordoned: bool) {
    scene
        .create(
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"unschedulable": cordoned}}),
        )
        .await;
}

fn drain(node: &str) -> Value {
    json!({"drainNode": {"nodeName": node, "gracePeriod": "1s", "ignoreDaemonSets": true, "deleteLocalData": true}})
}

/// The execution failed for good after one attempt, for this reason and in these words.
fn failed_at_once(execution: &Value, error_type: &str, words: &[&str]) {
    let status = &execution["status"];
    assert_eq!(status["phase"], "failed", "{}", pretty(execution));
    assert_eq!(status["errorType"], error_type, "{}", pretty(execution));
    assert_eq!(
        status["attempts"].as_array().map(Vec::len),
        Some(1),
        "{}",
        pretty(execution)
    );
    let reason = status["failureReason"].as_str().expect("a reason");
    for word in words {
        assert!(reason.contains(word), "`{word}` is not in: {reason}");
    }
}

/// What was tried, and how each time ended.
fn outcomes(execution: &Value) -> Vec<&str> {
    let attempts = execution["status"]["attempts"].as_array();
    attempts
        .into_iter()
        .flatten()
        .map(|attempt| attempt["outcome"].as_str().unwrap_or("none"))
        .collect()
}

/// The name of a pod that was made for this execution and is as wanted, when there is one.
async fn pod_of(scene: &Scene<'_>, execution: &str, wanted: impl Fn(&DynamicObject) -> bool) -> String {
    let pods = api(&scene.client, POD, EXECUTOR);
    let ours = ListParams::default().labels(&format!(
        "kubernaut.io/execution-namespace={},kubernaut.io/execution-name={execution}",
        scene.namespace
    ));
    scene
        .eventually(&format!("a pod of {execution}"), async || {
            let found = pods.list(&ours).await.expect("a list");
            found.items.into_iter().find(|pod| wanted(pod))?.metadata.name
        })
        .await
}

/// The execution has completed, after attempts with these outcomes.
fn completed_after(execution: &Value, wanted: &[&str]) {
    assert_eq!(execution["status"]["phase"], "completed", "{}", pretty(execution));
    assert_eq!(outcomes(execution), wanted, "{}", pretty(execution));
}
