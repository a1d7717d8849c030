//! Each action on real nodes, with its effect read back from the cluster, and what the Jobs changed read from the audit log.
//! Those on nodes stand beside.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::bed::{OTHER_WEB, WEB, bed};
use crate::scene::{CONFIG_MAP, DEPLOYMENT, POD, STATEFUL_SET, Scene, WORKFLOW, pretty, step};
use crate::traces::{effects, only_ended_jobs_remain};

/// One step with this action, run to success; its execution, when its Job has left nothing.
async fn run_one(scene: &Scene<'_>, name: &str, action: &str, parameters: Value) -> Value {
    let steps = json!([step(1, action, parameters, json!({}))]);
    scene.run(name, steps).await;
    let execution = scene.execution(&format!("{name}-step-1")).await;
    only_ended_jobs_remain(scene).await;
    execution
}

/// Uids of the pods of a Deployment that are not on their way out.
async fn pods_of(scene: &Scene<'_>, app: &str) -> BTreeSet<String> {
    let pods = scene.list(POD, &format!("app={app}")).await;
    pods.iter()
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        .map(|pod| pod["metadata"]["uid"].as_str().expect("a uid").to_owned())
        .collect()
}

async fn name_of_a_pod(scene: &Scene<'_>, app: &str) -> String {
    let pods = scene.list(POD, &format!("app={app}")).await;
    pods[0]["metadata"]["name"].as_str().expect("a name").to_owned()
}

/// Waits until as many pods of a Deployment run and answer their kubelets, and no others are left.
async fn all_run(scene: &Scene<'_>, app: &str, count: usize, image: &str) {
    scene
        .eventually(&format!("{count} pods run {image}"), async || {
            let pods = scene.list(POD, &format!("app={app}")).await;
            let runs = |pod: &Value| {
                // The status has the first name of an image that has two.
                pod["spec"]["containers"][0]["image"] == image
                    && pod["status"]["phase"] == "Running"
                    && pod["status"]["containerStatuses"][0]["ready"] == true
            };
            (pods.len() == count && pods.iter().all(runs)).then_some(())
        })
        .await;
}

fn attempts(execution: &Value) -> usize {
    execution["status"]["attempts"].as_array().map_or(0, Vec::len)
}

#[tokio::test]
async fn scale_deployment_sets_the_replicas_and_waits_for_them() {
    let scene = Scene::new(bed().await, "scale").await;
    scene.deployment("web", 1).await;
    let scale = |replicas: i64| json!({"scaleDeployment": {"namespace": "scale", "deployment": "web", "replicas": replicas}});
    run_one(&scene, "more", "scale-deployment", scale(3)).await;
    let deployment = scene.get(DEPLOYMENT, "web").await;
    assert_eq!(deployment["spec"]["replicas"], 3);
    assert_eq!(deployment["status"]["readyReplicas"], 3);
    run_one(&scene, "none", "scale-deployment", scale(0)).await;
    assert_eq!(scene.get(DEPLOYMENT, "web").await["spec"]["replicas"], 0);
    assert_eq!(effects(&scene), ["patch deployments/scale web"; 2]);
}

#[tokio::test]
async fn scale_stateful_set_brings_pods_that_really_run_one_after_the_other() {
    let scene = Scene::new(bed().await, "scale-set").await;
    scene.stateful_set("db", 1).await;
    let scale = |replicas: i64| json!({"scaleStatefulSet": {"namespace": "scale-set", "name": "db", "replicas": replicas}});
    run_one(&scene, "more", "scale-stateful-set", scale(2)).await;
    let set = scene.get(STATEFUL_SET, "db").await;
    assert_eq!(set["spec"]["replicas"], 2);
    assert_eq!(set["status"]["readyReplicas"], 2);
    run_one(&scene, "none", "scale-stateful-set", scale(0)).await;
    assert_eq!(
        scene.get(STATEFUL_SET, "db").await["status"]["replicas"]
            .as_i64()
            .unwrap_or(0),
        0
    );
    assert_eq!(effects(&scene), ["patch statefulsets/scale db"; 2]);
}

#[tokio::test]
async fn restart_deployment_brings_new_pods_that_really_run() {
    let scene = Scene::new(bed().await, "restart").await;
    scene.deployment("web", 2).await;
    let before = pods_of(&scene, "web").await;
    let restart = json!({"restartDeployment": {"namespace": "restart", "deployment": "web"}});
    let execution = run_one(&scene, "again", "restart-deployment", restart).await;
    let template = scene.get(DEPLOYMENT, "web").await["spec"]["template"].clone();
    let annotations = &template["metadata"]["annotations"];
    assert_eq!(
        annotations["kubernaut.io/restarted-by"], execution["metadata"]["uid"],
        "{annotations}"
    );
    all_run(&scene, "web", 2, WEB).await;
    let now = pods_of(&scene, "web").await;
    assert!(now.is_disjoint(&before), "{now:?} {before:?}");
    assert_eq!(effects(&scene), ["patch deployments web"]);
}

#[tokio::test]
async fn delete_pod_by_name_deletes_that_pod_alone_and_restart_pod_brings_it_back_too() {
    let scene = Scene::new(bed().await, "delete").await;
    scene.deployment("web", 2).await;
    let before = pods_of(&scene, "web").await;
    let victim = name_of_a_pod(&scene, "web").await;
    let delete = json!({"deletePod": {"namespace": "delete", "podName": victim, "gracePeriod": "1s"}});
    run_one(&scene, "one", "delete-pod", delete).await;
    let now = pods_of(&scene, "web").await;
    assert_eq!(
        (now.len(), now.intersection(&before).count()),
        (2, 1),
        "{now:?} {before:?}"
    );

    let next = name_of_a_pod(&scene, "web").await;
    let restart = json!({"restartPod": {"namespace": "delete", "podName": next}});
    run_one(&scene, "two", "restart-pod", restart).await;
    all_run(&scene, "web", 2, WEB).await;
    let deleted = |name: &str| format!("delete pods {name}");
    assert_eq!(effects(&scene), [deleted(&victim), deleted(&next)]);
}

#[tokio::test]
async fn pods_by_selector_are_replaced_one_after_the_other_as_their_disruption_budget_asks() {
    let scene = Scene::new(bed().await, "select").await;
    scene.deployment("web", 2).await;
    scene.deployment("other", 1).await;
    scene
        .create(json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}},
        }))
        .await;
    scene
        .eventually("a budget that is counted", async || {
            let budget = scene.get("policy/v1/PodDisruptionBudget", "web").await;
            (budget["status"]["disruptionsAllowed"] == 1).then_some(())
        })
        .await;
    let before = pods_of(&scene, "web").await;
    let others = pods_of(&scene, "other").await;
    let restart = json!({"restartPod": {"namespace": "select", "selector": "app=web"}});
    let steps = json!([step(1, "restart-pods", restart, json!({}))]);
    scene.start("all", steps, json!({})).await;
    scene
        .eventually("the end, and always a pod that is ready", async || {
            let deployment = scene.get(DEPLOYMENT, "web").await;
            let ready = deployment["status"]["readyReplicas"].as_i64();
            assert!(ready >= Some(1), "{}", pretty(&deployment["status"]));
            let workflow = scene.get(WORKFLOW, "all").await;
            matches!(workflow["status"]["phase"].as_str(), Some("completed" | "failed")).then_some(())
        })
        .await;
    scene.succeeded("all").await;
    let execution = scene.execution("all-step-1").await;
    let first = &execution["status"]["attempts"][0];
    assert_eq!(
        first["pods"].as_array().map(Vec::len),
        Some(2),
        "{}",
        pretty(first)
    );
    // The second pod has to wait until the first one's successor is ready: a matter of seconds, which a Job need not take.
    assert!(
        (1..=2).contains(&attempts(&execution)),
        "{}",
        pretty(&execution["status"])
    );
    let now = pods_of(&scene, "web").await;
    assert!(now.is_disjoint(&before) && now.len() == 2, "{now:?} {before:?}");
    assert_eq!(pods_of(&scene, "other").await, others);
    let evictions = effects(&scene);
    assert_eq!(evictions.len(), 2, "{evictions:?}");
    assert!(
        evictions
            .iter()
            .all(|effect| effect.starts_with("create pods/eviction web-")),
        "{evictions:?}"
    );
    only_ended_jobs_remain(&scene).await;
}

#[tokio::test]
async fn update_image_runs_the_new_image_and_patch_deployment_applies_each_type_of_patch() {
    let scene = Scene::new(bed().await, "change").await;
    scene.deployment("web", 1).await;
    let image = json!({"updateImage": {"namespace": "change", "deployment": "web", "container": "server",
                                       "newImage": OTHER_WEB}});
    run_one(&scene, "image", "update-image", image).await;
    let container = scene.get(DEPLOYMENT, "web").await["spec"]["template"]["spec"]["containers"][0].clone();
    assert_eq!(container["image"], OTHER_WEB);
    all_run(&scene, "web", 1, OTHER_WEB).await;

    let patch = |kind: &str, patch: Value| {
        json!({"patchDeployment": {"namespace": "change", "deployment": "web", "patchType": kind,
                                   "patch": patch.to_string()}})
    };
    let strategic = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "server", "env": [{"name": "MODE", "value": "fast"}]}]}}}});
    let merge = json!({"metadata": {"labels": {"team": "shop"}}});
    let json_patch = json!([{"op": "replace", "path": "/spec/replicas", "value": 2}]);
    let after = |number: i64| json!({"dependsOn": [number]});
    let steps = json!([
        step(1, "patch-deployment", patch("strategic", strategic), json!({})),
        step(2, "patch-deployment", patch("merge", merge), after(1)),
        step(3, "patch-deployment", patch("json", json_patch), after(2)),
    ]);
    scene.run("patches", steps).await;
    let deployment = scene.get(DEPLOYMENT, "web").await;
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(
        container["env"],
        json!([{"name": "MODE", "value": "fast"}]),
        "{}",
        pretty(&deployment)
    );
    assert_eq!(container["image"], OTHER_WEB, "the rest of it stayed");
    assert_eq!(deployment["metadata"]["labels"]["team"], "shop");
    assert_eq!(deployment["spec"]["replicas"], 2);
    all_run(&scene, "web", 2, OTHER_WEB).await;
    assert_eq!(effects(&scene), ["patch deployments web"; 4]);
    only_ended_jobs_remain(&scene).await;
}

#[tokio::test]
async fn config_maps_and_secrets_get_the_listed_keys_and_keep_the_others() {
    let scene = Scene::new(bed().await, "keys").await;
    scene
        .config_map("settings", json!({"keep": "me", "change": "old"}))
        .await;
    let login = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"},
                       "data": {"user": "YWxpY2U=", "password": "b2xk"}});
    scene.create(login).await;
    let settings = json!({"updateConfigMap": {"namespace": "keys", "name": "settings",
                                              "dataUpdates": {"change": "new", "add": "- it: --is\n  \"yaml\"?"}}});
    let login = json!({"updateSecret": {"namespace": "keys", "name": "login",
                                        "dataUpdates": {"password": "aHVudGVyLW5ldw=="}}});
    let steps = json!([
        step(1, "update-configmap", settings, json!({})),
        step(2, "update-secret", login, json!({"dependsOn": [1]})),
    ]);
    scene.run("both", steps).await;
    assert_eq!(
        scene.get(CONFIG_MAP, "settings").await["data"],
        json!({"keep": "me", "change": "new", "add": "- it: --is\n  \"yaml\"?"})
    );
    assert_eq!(
        scene.get("v1/Secret", "login").await["data"],
        json!({"user": "YWxpY2U=", "password": "aHVudGVyLW5ldw=="})
    );
    assert_eq!(
        effects(&scene),
        ["patch configmaps settings", "patch secrets login"]
    );
    // The copy of the Secret's value, too, is gone.
    only_ended_jobs_remain(&scene).await;
}

#[tokio::test]
async fn apply_manifest_makes_an_object_and_changes_one_that_is_there() {
    let scene = Scene::new(bed().await, "apply").await;
    let apply = |value: &str| {
        let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": value},
                              "metadata": {"name": "made", "namespace": "apply"}});
        json!({"custom": {"actionType": "apply-manifest", "config": {"manifest": manifest.to_string()}}})
    };
    run_one(&scene, "first", "apply-manifest", apply("1")).await;
    let made = scene.get(CONFIG_MAP, "made").await;
    assert_eq!(made["data"], json!({"a": "1"}), "{}", pretty(&made));
    run_one(&scene, "second", "apply-manifest", apply("2")).await;
    let changed = scene.get(CONFIG_MAP, "made").await;
    assert_eq!(changed["data"], json!({"a": "2"}));
    assert_eq!(
        changed["metadata"]["uid"], made["metadata"]["uid"],
        "it is the same object"
    );
    assert_eq!(effects(&scene), ["patch configmaps made"; 2]);
}
