//! Each action by a dry run on a real API server: that changes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use kubernaut_machines::actions::ActionKind;
use serde_json::{Value, json};

use crate::scene::{CONFIG_MAP, DEPLOYMENT, EXECUTOR, NODE, POD, STATEFUL_SET, Scene, execution, pretty};

/// Objects of the namespace by kind and name, with uid and resourceVersion; and of the node, to whose status its kubelet writes,
/// what is said of pods there.
async fn versions(scene: &Scene<'_>, node: &str) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    let kinds = [
        DEPLOYMENT,
        "apps/v1/ReplicaSet",
        STATEFUL_SET,
        POD,
        CONFIG_MAP,
        "v1/Secret",
    ];
    for kind in kinds {
        for object in scene.list(kind, "").await {
            let metadata = &object["metadata"];
            let key = format!("{kind} {}", metadata["name"].as_str().expect("a name"));
            found.insert(key, json!([metadata["uid"], metadata["resourceVersion"]]));
        }
    }
    let object = scene.get(NODE, node).await;
    found.insert(
        NODE.to_owned(),
        json!([object["metadata"]["uid"], object["spec"]]),
    );
    found
}

/// What is there, once nothing moves any more.
async fn settled(scene: &Scene<'_>, node: &str) -> BTreeMap<String, Value> {
    let mut before = versions(scene, node).await;
    scene
        .eventually("nothing moves", async || {
            tokio::time::sleep(Duration::from_secs(3)).await;
            let now = versions(scene, node).await;
            (std::mem::replace(&mut before, now.clone()) == now).then_some(now)
        })
        .await
}

fn cases(namespace: &str, node: &str, pod: &str) -> Vec<(&'static str, Value)> {
    let web = |more: Value| {
        let mut member = json!({"namespace": namespace, "deployment": "web"});
        crate::scene::merge(&mut member, more);
        member
    };
    let patch = |kind: &str, patch: Value| web(json!({"patchType": kind, "patch": patch.to_string()}));
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "server", "image": "registry.example/other:2"}]}}}});
    let manifest = |name: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "new"},
               "metadata": {"name": name, "namespace": namespace}})
        .to_string()
    };
    let drain = json!({"node": node, "gracePeriodSeconds": 1, "force": true, "ignoreDaemonSets": true, "deleteLocalData": true});
    vec![
        (
            "scale-deployment",
            json!({"scaleDeployment": web(json!({"replicas": 0}))}),
        ),
        (
            "scale-stateful-set",
            json!({"scaleStatefulSet": {"namespace": namespace, "name": "db", "replicas": 0}}),
        ),
        ("rollout-restart", json!({"rolloutRestart": web(json!({}))})),
        (
            "delete-pod",
            json!({"deletePod": {"namespace": namespace, "pod": pod, "gracePeriodSeconds": 0}}),
        ),
        (
            "restart-pods",
            json!({"deletePod": {"namespace": namespace, "labelSelector": "app=web"}}),
        ),
        (
            "update-image",
            json!({"patchDeployment": patch("strategic", image)}),
        ),
        (
            "patch-deployment",
            json!({"patchDeployment": patch("json", json!([{"op": "replace", "path": "/spec/replicas", "value": 0}]))}),
        ),
        (
            "patch-deployment",
            json!({"patchDeployment": patch("merge", json!({"metadata": {"labels": {"a": "b"}}}))}),
        ),
        ("cordon-node", json!({"cordonNode": {"node": node}})),
        ("uncordon-node", json!({"uncordonNode": {"node": node}})),
        ("drain-node", json!({"drainNode": drain})),
        (
            "update-configmap",
            json!({"updateConfigMap": {"namespace": namespace, "configMap": "settings", "data": {"a": "new"}}}),
        ),
        (
            "update-secret",
            json!({"updateSecret": {"namespace": namespace, "secret": "keys", "data": {"password": "bmV3"}}}),
        ),
        (
            "apply-manifest",
            json!({"applyManifest": {"manifest": manifest("made")}}),
        ),
    ]
}

/// Tries each action on what it makes in the scene's namespace, and on this node, which takes pods: all ends well, and each
/// object is the one that it was, in the version that it had.
pub(crate) async fn each_action_changes_nothing(scene: &Scene<'_>, node: &str) {
    scene.deployment("web", 2).await;
    scene.stateful_set("db", 1).await;
    scene.config_map("settings", json!({"a": "old"})).await;
    scene
        .create(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "data": {"password": "b2xk"}}))
        .await;
    let before = settled(scene, node).await;
    let pods = scene.list(POD, "app=web").await;
    let pod = pods[0]["metadata"]["name"].as_str().expect("a name");
    let cases = cases(&scene.namespace, node, pod);
    let spellings: Vec<&str> = cases.iter().map(|(action, _)| *action).collect();
    assert_eq!(ActionKind::lacking(&spellings), Vec::<&str>::new());
    for (index, (action, parameters)) in cases.into_iter().enumerate() {
        let name = format!("try-{index}");
        let tried = execution(&name, action, parameters, json!({"dryRun": true}));
        scene.create(tried).await;
        let ended = scene.execution_ended(&name).await;
        let status = &ended["status"];
        assert_eq!(status["phase"], "completed", "{action}: {}", pretty(status));
        let results = &status["validationResults"]["dryRunResults"];
        assert_eq!(results["success"], true, "{action}: {}", pretty(status));
        assert_eq!(status["attempts"].as_array().map_or(0, Vec::len), 1, "{action}");
        assert_eq!(status["rollbackInformation"], Value::Null, "{action}");
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(versions(scene, node).await, before);
    let secrets = crate::scene::api(&scene.client, "v1/Secret", EXECUTOR);
    let labels = format!("kubernaut.io/execution-namespace={}", scene.namespace);
    let left = secrets
        .list(&kube::api::ListParams::default().labels(&labels))
        .await;
    assert!(left.expect("a list").items.is_empty(), "no payload is left");
}
