//! Whose rights: the workflow's own account must be allowed to do what the step does, and the Job's account is
//! allowed that one action.

use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::bed::bed;
use crate::scene::{
    CONFIG_MAP, DEPLOYMENT, NODE, POD, STATEFUL_SET, Scene, api, pretty, secret_account, step,
};

/// Each action on something in namespace `rights-b`, or on a node.
fn actions(pod: &str, node: &str) -> Vec<(&'static str, Value, &'static str)> {
    let b = "rights-b";
    let manifest =
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: made, namespace: rights-b}, data: {a: b}}";
    vec![
        (
            "scale-deployment",
            json!({"scaleDeployment": {"namespace": b, "deployment": "web", "replicas": 2}}),
            "deployments/scale",
        ),
        (
            "scale-stateful-set",
            json!({"scaleStatefulSet": {"namespace": b, "name": "db", "replicas": 2}}),
            "statefulsets/scale",
        ),
        (
            "restart-deployment",
            json!({"restartDeployment": {"namespace": b, "deployment": "web"}}),
            "deployments",
        ),
        (
            "delete-pod",
            json!({"deletePod": {"namespace": b, "podName": pod}}),
            "delete pods",
        ),
        (
            "restart-pod",
            json!({"restartPod": {"namespace": b, "selector": "app=web"}}),
            "pods/eviction",
        ),
        (
            "update-image",
            json!({"updateImage": {"namespace": b, "deployment": "web", "container": "server", "newImage": "x:2"}}),
            "patch deployments",
        ),
        (
            "patch-deployment",
            json!({"patchDeployment": {"namespace": b, "deployment": "web", "patchType": "merge", "patch": "{\"metadata\":{\"labels\":{\"a\":\"b\"}}}"}}),
            "patch deployments",
        ),
        (
            "update-configmap",
            json!({"updateConfigMap": {"namespace": b, "name": "settings", "dataUpdates": {"a": "z"}}}),
            "patch configmaps",
        ),
        (
            "update-secret",
            json!({"updateSecret": {"namespace": b, "name": "key", "dataUpdates": {"a": "eg=="}}}),
            "patch secrets",
        ),
        (
            "cordon-node",
            json!({"cordonNode": {"nodeName": node}}),
            "patch nodes",
        ),
        (
            "uncordon-node",
            json!({"uncordonNode": {"nodeName": node}}),
            "patch nodes",
        ),
        (
            "drain-node",
            json!({"drainNode": {"nodeName": node, "ignoreDaemonSets": true}}),
            "pods/eviction",
        ),
        (
            "apply-manifest",
            json!({"custom": {"actionType": "apply-manifest", "config": {"manifest": manifest}}}),
            "patch configmaps",
        ),
    ]
}

#[tokio::test]
async fn a_workflow_without_rights_in_another_namespace_gets_nothing_done_there_by_any_action() {
    let other = Scene::new(bed().await, "rights-b").await;
    other.deployment("web", 1).await;
    other.stateful_set("db", 1).await;
    other.config_map("settings", json!({"a": "b"})).await;
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "data": {"a": "YQ=="}});
    other.create(secret).await;
    // Its account may do everything at home, and nothing elsewhere.
    let scene = Scene::new(bed().await, "rights-a").await;
    let pods = other.list(POD, "app=web").await;
    let pod = pods[0]["metadata"]["name"].as_str().expect("a name").to_owned();
    let nodes = other
        .api(NODE)
        .list(&kube::api::ListParams::default())
        .await
        .expect("nodes");
    let node = nodes.items[0].metadata.name.clone().expect("a name");
    let state = async || {
        let deployment = other.get(DEPLOYMENT, "web").await;
        let settings = other.get(CONFIG_MAP, "settings").await;
        let secret = other.get("v1/Secret", "key").await;
        let pods: Vec<Value> = other
            .list(POD, "app=web")
            .await
            .iter()
            .map(|pod| pod["metadata"]["uid"].clone())
            .collect();
        let labels = deployment["metadata"]["labels"].clone();
        json!([
            deployment["spec"],
            other.get(STATEFUL_SET, "db").await["spec"],
            labels,
            settings["data"],
            secret["data"],
            pods,
            other.find(CONFIG_MAP, "made").await
        ])
    };
    let before = state().await;

    let actions = actions(&pod, &node);
    let spellings: Vec<&str> = actions.iter().map(|(action, ..)| *action).collect();
    assert_eq!(
        kubernaut_machines::actions::ActionKind::lacking(&spellings),
        [""; 0]
    );
    for (action, parameters, right) in actions {
        scene
            .start(action, json!([step(1, action, parameters, json!({}))]), json!({}))
            .await;
        let ended = scene.ended(action).await;
        let status = &ended["status"];
        assert_eq!(status["phase"], "failed", "{action}: {}", pretty(status));
        assert_eq!(
            status["errorType"],
            "insufficient_permissions",
            "{action}: {}",
            pretty(status)
        );
        let reason = status["failureReason"].as_str().expect("a reason");
        assert!(
            reason.contains("rights-a/default") && reason.contains(right),
            "{action}: {reason}"
        );
    }
    assert_eq!(scene.jobs().await, Vec::<Value>::new(), "a Job was made");
    assert_eq!(state().await, before);
}

#[tokio::test]
async fn an_account_of_the_executor_without_its_role_fails_the_step_in_kubectls_words() {
    let _turn = secret_account().await;
    let scene = Scene::new(bed().await, "rights-executor").await;
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "data": {"a": "YQ=="}});
    scene.create(secret).await;
    let binding = "rbac.authorization.k8s.io/v1/ClusterRoleBinding";
    let mut kept = scene.get(binding, "kubernaut-update-secret").await;
    api(&scene.client, binding, "")
        .delete("kubernaut-update-secret", &DeleteParams::default())
        .await
        .expect("deleted");
    let update = json!({"updateSecret": {"namespace": "rights-executor", "name": "key", "dataUpdates": {"a": "eg=="}}});
    let steps = json!([step(1, "update-secret", update, json!({"maxRetries": 3}))]);
    scene.start("rotate", steps, json!({})).await;
    let ended = scene.ended("rotate").await;
    let metadata = kept["metadata"].as_object_mut().expect("metadata");
    metadata.retain(|key, _| matches!(key.as_str(), "name" | "labels"));
    scene.create(kept).await;

    let status = &ended["status"];
    assert_eq!(
        status["errorType"],
        "insufficient_permissions",
        "{}",
        pretty(status)
    );
    let reason = status["failureReason"].as_str().expect("a reason");
    for words in [
        "Forbidden",
        "secrets",
        "system:serviceaccount:kubernaut-executor:update-secret-sa",
    ] {
        assert!(reason.contains(words), "{words}: {reason}");
    }
    let execution = scene.execution("rotate-step-1").await;
    assert_eq!(
        execution["status"]["attempts"].as_array().map(Vec::len),
        Some(1),
        "it was tried again"
    );
    assert_eq!(scene.get("v1/Secret", "key").await["data"]["a"], "YQ==");
}
