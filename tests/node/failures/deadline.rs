//! What takes longer than it may.

use serde_json::{Value, json};

use super::{BlockedDrain, failed_at_once, outcomes};
use crate::bed::{bed, bed_alone, bed_of_one_node};
use crate::scene::{CONFIG_MAP, DEPLOYMENT, NODE, POD, Scene, execution, pretty};
use crate::traces::{effects, only_ended_jobs_remain};

const WEBHOOK: &str = "admissionregistration.k8s.io/v1/ValidatingWebhookConfiguration";

#[tokio::test]
async fn a_rollout_that_can_not_finish_fails_the_step_with_what_takes_it_back() {
    let scene = Scene::new(bed().await, "rollout").await;
    scene.deployment("web", 1).await;
    let impatient = json!({"spec": {"progressDeadlineSeconds": 5}});
    scene.patch(DEPLOYMENT, "web", &impatient).await;
    let patch = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "server", "image": "kubernaut.test/web:none"}]}}}});
    let parameters = json!({"patchDeployment": {"namespace": "rollout", "deployment": "web", "patchType": "strategic",
                                                "patch": patch.to_string()}});
    scene
        .create(execution("image", "update-image", parameters, json!({})))
        .await;
    let failed = scene.execution_ended("image").await;
    failed_at_once(&failed, "verification_failed", &["does not progress"]);
    assert_eq!(
        outcomes(&failed),
        ["succeeded"],
        "the patch was taken: {}",
        pretty(&failed)
    );
    assert_eq!(
        failed["status"]["rollbackInformation"]["available"],
        true,
        "{}",
        pretty(&failed)
    );
    let deployment = scene.get(DEPLOYMENT, "web").await;
    assert_eq!(
        deployment["status"]["readyReplicas"],
        1,
        "the old pod serves: {}",
        pretty(&deployment["status"])
    );
    assert_eq!(effects(&scene), ["patch deployments web"]);
    only_ended_jobs_remain(&scene).await;
}

#[tokio::test]
async fn a_job_that_hangs_is_ended_at_its_deadline_and_not_made_again() {
    let scene = Scene::new(bed().await, "hangs").await;
    scene.config_map("settings", json!({"a": "old"})).await;
    scene.deployment("web", 1).await;
    let pods = scene.list(POD, "app=web").await;
    let (name, address) = (&pods[0]["metadata"]["name"], &pods[0]["status"]["podIP"]);
    // Whatever changes a ConfigMap here asks a server that takes connections and answers nothing.
    let server = scene
        .bed
        .cluster
        .container_process("hangs", name.as_str().expect("a name"), "server");
    let server = server.await.expect("a process");
    server.pause().await.expect("a signal");
    let url = format!("https://{}:8080/", address.as_str().expect("an address"));
    scene
        .create(json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "hangs"},
            "webhooks": [{
                "name": "hangs.kubernaut.test", "clientConfig": {"url": url}, "timeoutSeconds": 30, "sideEffects": "None",
                "admissionReviewVersions": ["v1"], "failurePolicy": "Fail",
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "hangs"}},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["configmaps"]}],
            }],
        }))
        .await;
    let update =
        json!({"updateConfigMap": {"namespace": "hangs", "configMap": "settings", "data": {"a": "new"}}});
    let options = json!({"timeout": "10s", "maxRetries": 3});
    scene
        .create(execution("hangs", "update-configmap", update, options))
        .await;
    super::pod_of(&scene, "hangs", |pod| pod.data["status"]["phase"] == "Running").await;
    let failed = scene.execution_ended("hangs").await;
    scene.delete(WEBHOOK, "hangs").await;
    server.resume().await.expect("a signal");
    failed_at_once(&failed, "timeout", &["did not end within its deadline"]);
    assert_eq!(scene.get(CONFIG_MAP, "settings").await["data"]["a"], "old");
    assert_eq!(effects(&scene), Vec::<String>::new());
    only_ended_jobs_remain(&scene).await;
}

#[tokio::test]
async fn a_drain_that_a_budget_never_lets_finish_fails_with_kubectls_words_before_the_deadline_takes_them() {
    let (bed, _turn) = bed_alone().await;
    let scene = Scene::of_a_cluster_admin(bed, "budget").await;
    let drain = BlockedDrain::new(&scene, "node-2").await;
    drain
        .start(&scene, json!({"timeout": "30s", "maxRetries": 3}))
        .await;
    let failed = scene.execution_ended(BlockedDrain::NAME).await;
    let cordoned = drain.is_cordoned(&scene).await;
    drain.uncordon(&scene).await;
    assert!(cordoned, "that much was done");
    failed_at_once(&failed, "timeout", &["30s", "disruption budget"]);
    assert_eq!(
        failed["status"]["rollbackInformation"]["available"],
        true,
        "{}",
        pretty(&failed)
    );
    assert_eq!(effects(&scene), Vec::<String>::new(), "its pod stayed");
    only_ended_jobs_remain(&scene).await;
}

#[tokio::test]
async fn a_job_that_no_node_takes_says_why_and_ends_at_its_deadline() {
    let (bed, _turn) = bed_of_one_node().await;
    let scene = Scene::new(bed, "no-node").await;
    scene.config_map("settings", json!({"a": "old"})).await;
    scene
        .patch(NODE, "node-1", &json!({"spec": {"unschedulable": true}}))
        .await;
    let update =
        json!({"updateConfigMap": {"namespace": "no-node", "configMap": "settings", "data": {"a": "new"}}});
    scene
        .create(execution(
            "waits",
            "update-configmap",
            update,
            json!({"timeout": "15s"}),
        ))
        .await;
    let told = scene
        .eventually("the status says why", async || {
            let status = scene.execution("waits").await["status"].clone();
            let message = status["message"].as_str().unwrap_or_default();
            (message.contains("no running pod") || status["phase"] == "failed").then_some(status)
        })
        .await;
    let failed = scene.execution_ended("waits").await;
    scene
        .patch(NODE, "node-1", &json!({"spec": {"unschedulable": Value::Null}}))
        .await;
    assert!(
        told["message"]
            .as_str()
            .is_some_and(|message| message.contains("unschedulable")),
        "{}",
        pretty(&told)
    );
    failed_at_once(&failed, "timeout", &["did not end within its deadline"]);
    assert_eq!(effects(&scene), Vec::<String>::new());
    only_ended_jobs_remain(&scene).await;
}
