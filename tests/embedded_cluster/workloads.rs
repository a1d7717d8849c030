//! Deployments and their pods in the embedded cluster.

use std::{sync::Arc, time::Duration};

use embedded_cluster::PodScript;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::support::{cluster, create_deployment, get_deployment, pods};

async fn patch(client: &Client, patch: Value) {
    let api: Api<Deployment> = Api::namespaced(client.clone(), "default");
    api.patch("web", &PatchParams::default(), &Patch::Strategic(patch))
        .await
        .unwrap();
}

fn image(tag: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "image": tag}]}}}})
}

async fn progressing(client: &Client) -> String {
    let status = get_deployment(client, "web").await.status.unwrap();
    let found = status
        .conditions
        .unwrap()
        .into_iter()
        .find(|c| c.type_ == "Progressing")
        .unwrap();
    format!("{} {}", found.status, found.reason.unwrap())
}

async fn replica_sets(client: &Client) -> Vec<ReplicaSet> {
    let api: Api<ReplicaSet> = Api::namespaced(client.clone(), "default");
    api.list(&ListParams::default()).await.unwrap().items
}

#[tokio::test(start_paused = true)]
async fn a_deployment_is_ready_at_once() {
    let (_cluster, client) = cluster();
    create_deployment(&client, "web", 3).await;
    let web = get_deployment(&client, "web").await;
    let status = web.status.unwrap();
    assert_eq!(status.observed_generation, Some(1));
    assert_eq!(
        (status.replicas, status.ready_replicas, status.available_replicas),
        (Some(3), Some(3), Some(3))
    );
    assert_eq!(status.unavailable_replicas, None);
    assert_eq!(progressing(&client).await, "True NewReplicaSetAvailable");
    assert_eq!(pods(&client, "app=web").await.len(), 3);
    assert_eq!(web.spec.unwrap().progress_deadline_seconds, Some(600));
}

#[tokio::test(start_paused = true)]
async fn scaling_to_nothing_leaves_no_ready_count() {
    let (_cluster, client) = cluster();
    create_deployment(&client, "web", 3).await;
    patch(&client, json!({"spec": {"replicas": 0}})).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        get_deployment(&client, "web")
            .await
            .status
            .unwrap()
            .ready_replicas,
        None
    );
    assert!(pods(&client, "app=web").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_old_template_comes_back_as_a_new_revision() {
    let (_cluster, client) = cluster();
    create_deployment(&client, "web", 1).await;
    patch(&client, image("example/app:2")).await;
    patch(&client, image("example/app:1")).await;
    assert_eq!(replica_sets(&client).await.len(), 2);
    assert_eq!(
        get_deployment(&client, "web").await.annotations()["deployment.kubernetes.io/revision"],
        "3"
    );
}

#[tokio::test(start_paused = true)]
async fn a_paused_deployment_scales_but_does_not_roll_out() {
    let (_cluster, client) = cluster();
    create_deployment(&client, "web", 1).await;
    patch(&client, json!({"spec": {"paused": true}})).await;
    patch(&client, image("example/app:2")).await;
    patch(&client, json!({"spec": {"replicas": 2}})).await;
    assert_eq!(replica_sets(&client).await.len(), 1);
    let status = get_deployment(&client, "web").await.status.unwrap();
    assert_eq!((status.replicas, status.updated_replicas), (Some(2), None));
    patch(&client, json!({"spec": {"paused": false}})).await;
    let status = get_deployment(&client, "web").await.status.unwrap();
    assert_eq!((status.replicas, status.updated_replicas), (Some(2), Some(2)));
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_gets_stuck_keeps_the_old_pods_and_misses_its_deadline() {
    let (cluster, client) = cluster();
    create_deployment(&client, "web", 2).await;
    cluster.script_pods(Arc::new(|pod| {
        (pod["spec"]["containers"][0]["image"] == "example/app:bad").then(|| PodScript::NeverStart {
            reason: "ImagePullBackOff".to_owned(),
            message: String::new(),
        })
    }));
    patch(&client, image("example/app:bad")).await;
    assert_eq!(progressing(&client).await, "True ReplicaSetUpdated");
    let status = get_deployment(&client, "web").await.status.unwrap();
    assert_eq!(
        (status.ready_replicas, status.updated_replicas),
        (Some(2), Some(1))
    );
    tokio::time::sleep(Duration::from_secs(700)).await;
    assert_eq!(progressing(&client).await, "False ProgressDeadlineExceeded");
}

#[tokio::test(start_paused = true)]
async fn a_deployment_takes_its_replica_sets_and_pods_along() {
    let (_cluster, client) = cluster();
    create_deployment(&client, "web", 2).await;
    let api: Api<Deployment> = Api::namespaced(client.clone(), "default");
    api.delete("web", &DeleteParams::foreground()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(api.get_opt("web").await.unwrap().is_none());
    assert!(replica_sets(&client).await.is_empty() && pods(&client, "").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_failing_probe_shows_in_the_counts() {
    let (cluster, client) = cluster();
    create_deployment(&client, "web", 2).await;
    let name = pods(&client, "app=web").await[0].name_any();
    cluster.set_pod_ready("default", &name, false);
    let status = get_deployment(&client, "web").await.status.unwrap();
    assert_eq!((status.replicas, status.ready_replicas), (Some(2), Some(1)));
}

#[tokio::test(start_paused = true)]
async fn a_stateful_set_keeps_its_names() {
    let (cluster, client) = cluster();
    cluster
        .load(vec![json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db", "namespace": "default"},
            "spec": {"replicas": 2, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
                "template": {"metadata": {"labels": {"app": "db"}},
                    "spec": {"containers": [{"name": "a", "image": "example/a:1"}]}}},
        })])
        .unwrap();
    let before = pods(&client, "app=db").await;
    assert_eq!(
        before.iter().map(ResourceExt::name_any).collect::<Vec<_>>(),
        ["db-0", "db-1"]
    );
    let api: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(client.clone(), "default");
    api.delete("db-0", &DeleteParams::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = pods(&client, "app=db").await;
    assert_eq!(after.len(), 2);
    assert_ne!(after[0].uid(), before[0].uid());
}

#[tokio::test(start_paused = true)]
async fn a_running_pod_is_first_marked_and_then_gone() {
    let (_cluster, client) = cluster();
    create_deployment(&client, "web", 1).await;
    let pod = pods(&client, "app=web").await.remove(0);
    let api: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(client.clone(), "default");
    let marked = api
        .delete(&pod.name_any(), &DeleteParams::default())
        .await
        .unwrap()
        .left()
        .unwrap();
    assert_eq!(marked.metadata.deletion_grace_period_seconds, Some(30));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let left = pods(&client, "app=web").await;
    assert_eq!(left.len(), 1);
    assert_ne!(left[0].name_any(), pod.name_any());
}
