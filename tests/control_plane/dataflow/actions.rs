//! Each action once, with its effect read back from the cluster. Those on nodes stand beside.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::bed::bed;
use crate::scene::{CONFIG_MAP, DEPLOYMENT, POD, STATEFUL_SET, Scene, pretty, secret_account, step};

/// One step with this action, run to success.
async fn run_one(scene: &Scene<'_>, action: &str, parameters: Value) -> Value {
    let name = format!("do-{action}");
    scene
        .run(&name, json!([step(1, action, parameters, json!({}))]))
        .await;
    scene.execution(&format!("{name}-step-1")).await
}

async fn pods_of(scene: &Scene<'_>, app: &str) -> BTreeSet<String> {
    let pods = scene.list(POD, &format!("app={app}")).await;
    pods.iter()
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        .map(|pod| pod["metadata"]["name"].as_str().expect("a name").to_owned())
        .collect()
}

#[tokio::test]
async fn scale_deployment_sets_the_replicas_and_waits_for_them() {
    let scene = Scene::new(bed().await, "act-scale").await;
    scene.deployment("web", 1).await;
    let scale = json!({"scaleDeployment": {"namespace": "act-scale", "deployment": "web", "replicas": 3}});
    let execution = run_one(&scene, "scale-deployment", scale).await;
    let deployment = scene.get(DEPLOYMENT, "web").await;
    assert_eq!(deployment["spec"]["replicas"], 3);
    assert_eq!(deployment["status"]["readyReplicas"], 3);
    let undo = &execution["status"]["rollbackInformation"];
    assert_eq!(undo["available"], true);
    assert_eq!(
        undo["rollbackParameters"]["scaleToPrevious"]["previousReplicas"],
        1
    );
}

#[tokio::test]
async fn scale_stateful_set_sets_the_replicas_and_waits_for_them() {
    let scene = Scene::new(bed().await, "act-set").await;
    scene.stateful_set("db", 1).await;
    let scale = json!({"scaleStatefulSet": {"namespace": "act-set", "name": "db", "replicas": 3}});
    let execution = run_one(&scene, "scale-stateful-set", scale).await;
    let set = scene.get(STATEFUL_SET, "db").await;
    assert_eq!(set["spec"]["replicas"], 3);
    assert_eq!(set["status"]["readyReplicas"], 3);
    let undo = &execution["status"]["rollbackInformation"]["rollbackParameters"]["restorePreviousConfig"];
    assert_eq!(undo["resourceKind"], "StatefulSet");
    assert_eq!(undo["previousSpec"], r#"{"replicas":1}"#);
}

#[tokio::test]
async fn scale_deployment_to_nothing_works_too() {
    let scene = Scene::new(bed().await, "act-zero").await;
    scene.deployment("web", 2).await;
    let scale = json!({"scaleDeployment": {"namespace": "act-zero", "deployment": "web", "replicas": 0}});
    run_one(&scene, "scale-deployment", scale).await;
    assert!(pods_of(&scene, "web").await.is_empty());
}

#[tokio::test]
async fn restart_deployment_replaces_its_pods() {
    let scene = Scene::new(bed().await, "act-restart").await;
    scene.deployment("web", 2).await;
    let before = pods_of(&scene, "web").await;
    let restart = json!({"restartDeployment": {"namespace": "act-restart", "deployment": "web"}});
    let execution = run_one(&scene, "restart-deployment", restart).await;
    let deployment = scene.get(DEPLOYMENT, "web").await;
    let annotations = &deployment["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(
        annotations["kubernaut.io/restarted-by"],
        execution["metadata"]["uid"]
    );
    assert!(annotations["kubectl.kubernetes.io/restartedAt"].is_string());
    scene
        .eventually("new pods only", async || {
            let now = pods_of(&scene, "web").await;
            (now.len() == 2 && now.is_disjoint(&before)).then_some(())
        })
        .await;
    assert_eq!(execution["status"]["rollbackInformation"]["available"], false);
}

#[tokio::test]
async fn delete_pod_by_name_deletes_that_pod_alone() {
    let scene = Scene::new(bed().await, "act-delete").await;
    scene.deployment("web", 2).await;
    let before = pods_of(&scene, "web").await;
    let victim = before.first().expect("a pod").clone();
    let delete = json!({"deletePod": {"namespace": "act-delete", "podName": victim, "gracePeriod": "0s"}});
    run_one(&scene, "delete-pod", delete).await;
    let now = pods_of(&scene, "web").await;
    assert!(!now.contains(&victim));
    assert_eq!(now.len(), 2, "its controller brought one back: {now:?}");
    assert_eq!(now.intersection(&before).count(), 1, "the other one stayed");
}

#[tokio::test]
async fn restart_pod_by_selector_evicts_each_of_its_pods() {
    let scene = Scene::new(bed().await, "act-select").await;
    scene.deployment("web", 3).await;
    scene.deployment("other", 1).await;
    let before = pods_of(&scene, "web").await;
    let others = pods_of(&scene, "other").await;
    let restart = json!({"restartPod": {"namespace": "act-select", "selector": "app=web"}});
    let execution = run_one(&scene, "restart-pods", restart).await;
    let now = pods_of(&scene, "web").await;
    assert!(now.is_disjoint(&before), "{now:?} {before:?}");
    assert_eq!(now.len(), 3);
    assert_eq!(pods_of(&scene, "other").await, others);
    let pods = execution["status"]["attempts"][0]["pods"]
        .as_array()
        .expect("pods");
    assert_eq!(pods.len(), 3, "they were resolved once, before the Job");
}

#[tokio::test]
async fn patch_deployment_applies_each_type_of_patch() {
    let scene = Scene::new(bed().await, "act-patch").await;
    scene.deployment("web", 1).await;
    let patch = |kind: &str, patch: Value| {
        json!({"patchDeployment": {"namespace": "act-patch", "deployment": "web", "patchType": kind,
                                   "patch": patch.to_string()}})
    };
    let strategic = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "server", "env": [{"name": "MODE", "value": "fast"}]}]}}}});
    let merge = json!({"metadata": {"labels": {"team": "shop"}}});
    let json_patch = json!([{"op": "replace", "path": "/spec/replicas", "value": 2}]);
    let then = |number: i64| json!({"dependsOn": [number]});
    scene
        .run(
            "patches",
            json!([
                step(1, "patch-deployment", patch("strategic", strategic), json!({})),
                step(2, "patch-deployment", patch("merge", merge), then(1)),
                step(3, "patch-deployment", patch("json", json_patch), then(2)),
            ]),
        )
        .await;
    let deployment = scene.get(DEPLOYMENT, "web").await;
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["env"], json!([{"name": "MODE", "value": "fast"}]));
    assert_eq!(
        container["image"], "registry.example/server:1",
        "the rest of it stayed"
    );
    assert_eq!(deployment["metadata"]["labels"]["team"], "shop");
    assert_eq!(deployment["spec"]["replicas"], 2);
}

#[tokio::test]
async fn update_image_sets_the_image_of_a_container_that_exists() {
    let scene = Scene::new(bed().await, "act-image").await;
    scene.deployment("web", 1).await;
    let image = |container: &str| {
        json!({"updateImage": {"namespace": "act-image", "deployment": "web", "container": container,
                               "newImage": "registry.example/server:2"}})
    };
    run_one(&scene, "update-image", image("server")).await;
    let containers = scene.get(DEPLOYMENT, "web").await["spec"]["template"]["spec"]["containers"].clone();
    assert_eq!(containers[0]["image"], "registry.example/server:2");

    let wrong = json!([step(1, "update-image", image("sidecar"), json!({}))]);
    scene.start("wrong-container", wrong, json!({})).await;
    let ended = scene.ended("wrong-container").await;
    assert_eq!(
        ended["status"]["errorType"],
        "validation_error",
        "{}",
        pretty(&ended)
    );
    let now = scene.get(DEPLOYMENT, "web").await["spec"]["template"]["spec"]["containers"].clone();
    assert_eq!(now, containers, "no container was added");
}

#[tokio::test]
async fn update_config_map_changes_the_listed_keys_and_no_other() {
    let scene = Scene::new(bed().await, "act-config").await;
    scene
        .config_map("settings", json!({"keep": "me", "change": "old"}))
        .await;
    let update = json!({"updateConfigMap": {"namespace": "act-config", "name": "settings",
                                            "dataUpdates": {"change": "new", "add": "- it: --is\n  \"yaml\"?"}}});
    run_one(&scene, "update-configmap", update).await;
    assert_eq!(
        scene.get(CONFIG_MAP, "settings").await["data"],
        json!({"keep": "me", "change": "new", "add": "- it: --is\n  \"yaml\"?"})
    );
}

#[tokio::test]
async fn update_secret_changes_the_listed_keys_and_leaves_no_copy_behind() {
    let _turn = secret_account().await;
    let scene = Scene::new(bed().await, "act-secret").await;
    scene
        .create(
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"},
                       "data": {"user": "YWxpY2U=", "password": "b2xk"}}),
        )
        .await;
    let update = json!({"updateSecret": {"namespace": "act-secret", "name": "login",
                                         "dataUpdates": {"password": "aHVudGVyLW5ldw=="}}});
    let execution = run_one(&scene, "update-secret", update).await;
    assert_eq!(
        scene.get("v1/Secret", "login").await["data"],
        json!({"user": "YWxpY2U=", "password": "aHVudGVyLW5ldw=="})
    );
    let secrets = scene
        .bed
        .cluster
        .run_kubectl(&[
            "get",
            "secrets",
            "--namespace=kubernaut-executor",
            "--output=name",
        ])
        .await
        .expect("a list");
    let job = execution["status"]["jobName"].as_str().expect("a Job");
    assert!(!secrets.contains(job), "{secrets}");
    for where_not in [
        execution["status"].to_string(),
        json!(scene.jobs().await).to_string(),
        scene.bed.log_about("act-secret"),
    ] {
        for value in ["aHVudGVyLW5ldw==", "hunter-new"] {
            assert!(!where_not.contains(value), "{where_not}");
        }
    }
}

#[tokio::test]
async fn apply_manifest_makes_an_object_and_changes_one_that_is_there() {
    let scene = Scene::new(bed().await, "act-apply").await;
    let apply = |value: &str| {
        let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": value},
                              "metadata": {"name": "made", "namespace": "act-apply"}});
        json!({"custom": {"actionType": "apply-manifest", "config": {"manifest": manifest.to_string()}}})
    };
    scene
        .run(
            "apply",
            json!([
                step(1, "apply-manifest", apply("1"), json!({})),
                step(2, "apply-manifest", apply("2"), json!({"dependsOn": [1]})),
            ]),
        )
        .await;
    assert_eq!(scene.get(CONFIG_MAP, "made").await["data"], json!({"a": "2"}));
    let first = scene.execution("apply-step-1").await;
    let second = scene.execution("apply-step-2").await;
    for execution in [&first, &second] {
        assert_eq!(execution["status"]["rollbackInformation"]["available"], true);
    }
}

#[tokio::test]
async fn apply_manifest_refuses_kinds_that_were_not_allowed() {
    let scene = Scene::new(bed().await, "act-kinds").await;
    for (name, kind, api_version) in [
        ("a-service", "Service", "v1"),
        ("a-secret", "Secret", "v1"),
        ("a-role", "Role", "rbac.authorization.k8s.io/v1"),
    ] {
        let manifest = json!({"apiVersion": api_version, "kind": kind,
                              "metadata": {"name": "made", "namespace": "act-kinds"}});
        let apply =
            json!({"custom": {"actionType": "apply-manifest", "config": {"manifest": manifest.to_string()}}});
        scene
            .start(
                name,
                json!([step(1, "apply-manifest", apply, json!({}))]),
                json!({}),
            )
            .await;
        let ended = scene.ended(name).await;
        let reason = ended["status"]["failureReason"].as_str().expect("a reason");
        assert_eq!(ended["status"]["errorType"], "validation_error", "{reason}");
        assert!(reason.contains(kind), "{reason}");
    }
    assert_eq!(scene.jobs().await, Vec::<Value>::new());
}
