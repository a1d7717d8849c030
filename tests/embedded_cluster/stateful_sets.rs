//! StatefulSets: order, revisions, claims.

use std::sync::Arc;

use embedded_cluster::{EmbeddedCluster, PodScript};
use kube::Client;
use serde_json::{Value, json};

use crate::support::{
    PODS, cluster, get, image, is_ready, items, merge, names, ready_after, remove, seconds, workload,
};

const DB: &str = "/apis/apps/v1/namespaces/default/statefulsets/db";
const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";

fn stand(cluster: &EmbeddedCluster, replicas: u32, more: Value) {
    let mut spec = json!({"replicas": replicas, "serviceName": "db"});
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    cluster.load(vec![workload("StatefulSet", "db", spec)]).unwrap();
}

async fn there(client: &Client) -> Vec<String> {
    let pods = items(client, PODS).await;
    names(&pods).into_iter().map(str::to_owned).collect()
}

/// The image of each pod, by its number.
async fn images(client: &Client) -> Vec<String> {
    let pods = items(client, PODS).await;
    let image = |pod: &Value| {
        pod["spec"]["containers"][0]["image"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    pods.iter().map(image).collect()
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_made_when_the_one_before_it_is_ready() {
    let (cluster, client) = cluster();
    ready_after(&cluster, 10);
    stand(&cluster, 3, json!({}));
    assert_eq!(there(&client).await, ["db-0"]);
    seconds(11).await;
    assert_eq!(there(&client).await, ["db-0", "db-1"]);
    seconds(20).await;
    assert_eq!(there(&client).await, ["db-0", "db-1", "db-2"]);
    // The last one goes first.
    merge(&client, DB, json!({"spec": {"replicas": 1}})).await;
    seconds(1).await;
    assert_eq!(there(&client).await, ["db-0"]);
}

#[tokio::test(start_paused = true)]
async fn in_parallel_all_are_made_at_once() {
    let (cluster, client) = cluster();
    ready_after(&cluster, 10);
    stand(
        &cluster,
        3,
        json!({"podManagementPolicy": "Parallel", "ordinals": {"start": 5}}),
    );
    assert_eq!(there(&client).await, ["db-5", "db-6", "db-7"]);
}

#[tokio::test(start_paused = true)]
async fn a_rollout_goes_from_the_last_pod_to_the_first_one_by_one() {
    let (cluster, client) = cluster();
    stand(&cluster, 3, json!({}));
    ready_after(&cluster, 10);
    let before = get(&client, DB).await["status"]["currentRevision"].clone();
    merge(&client, DB, image("a", "example/a:2")).await;
    let [old, new] = ["example/a:1", "example/a:2"];
    for wanted in [[old, old, new], [old, new, new], [new, new, new]] {
        seconds(5).await;
        assert_eq!(images(&client).await, wanted);
        let ready = items(&client, PODS)
            .await
            .iter()
            .filter(|pod| is_ready(pod))
            .count();
        assert_eq!(ready, 2);
        assert_eq!(get(&client, DB).await["status"]["currentRevision"], before);
        seconds(6).await;
    }
    let status = get(&client, DB).await["status"].clone();
    assert_eq!(status["currentRevision"], status["updateRevision"]);
    assert_ne!(status["currentRevision"], before);
    assert_eq!(
        (&status["readyReplicas"], &status["updatedReplicas"]),
        (&json!(3), &json!(3))
    );
}

#[tokio::test(start_paused = true)]
async fn pods_below_the_partition_keep_their_revision() {
    let (cluster, client) = cluster();
    stand(
        &cluster,
        3,
        json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}}),
    );
    merge(&client, DB, image("a", "example/a:2")).await;
    seconds(1).await;
    let [old, new] = ["example/a:1", "example/a:2"];
    assert_eq!(images(&client).await, [old, old, new]);
    remove(&client, &format!("{PODS}/db-0")).await;
    seconds(1).await;
    assert_eq!(images(&client).await, [old, old, new]);
    let status = get(&client, DB).await["status"].clone();
    assert_eq!(
        (&status["currentReplicas"], &status["updatedReplicas"]),
        (&json!(2), &json!(1))
    );
    merge(
        &client,
        DB,
        json!({"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}}),
    )
    .await;
    seconds(1).await;
    assert_eq!(images(&client).await, [new, new, new]);
}

#[tokio::test(start_paused = true)]
async fn on_delete_only_what_is_deleted_becomes_new() {
    let (cluster, client) = cluster();
    stand(&cluster, 3, json!({"updateStrategy": {"type": "OnDelete"}}));
    merge(&client, DB, image("a", "example/a:2")).await;
    seconds(60).await;
    let [old, new] = ["example/a:1", "example/a:2"];
    assert_eq!(images(&client).await, [old, old, old]);
    remove(&client, &format!("{PODS}/db-1")).await;
    seconds(1).await;
    assert_eq!(images(&client).await, [old, new, old]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_does_not_become_ready_stops_the_rollout() {
    let (cluster, client) = cluster();
    stand(&cluster, 3, json!({}));
    cluster.script_pods(Arc::new(|pod| {
        (pod["spec"]["containers"][0]["image"] == "example/a:2").then_some(PodScript::Hang)
    }));
    merge(&client, DB, image("a", "example/a:2")).await;
    seconds(600).await;
    let [old, new] = ["example/a:1", "example/a:2"];
    assert_eq!(images(&client).await, [old, old, new]);
}

#[tokio::test(start_paused = true)]
async fn each_pod_has_its_claims_which_outlive_it() {
    let (cluster, client) = cluster();
    let template = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}}}});
    let mut set = workload("StatefulSet", "db", json!({"replicas": 2, "serviceName": "db"}));
    set["spec"]["volumeClaimTemplates"] = json!([template]);
    cluster.load(vec![set]).unwrap();
    let volume = |pod: &Value| pod["spec"]["volumes"][0].clone();
    let claimed = |claim: &str| json!({"name": "data", "persistentVolumeClaim": {"claimName": claim}});
    let pods = items(&client, PODS).await;
    assert_eq!(
        pods.iter().map(volume).collect::<Vec<_>>(),
        [claimed("data-db-0"), claimed("data-db-1")]
    );
    assert_eq!(pods[1]["spec"]["hostname"], "db-1");
    assert_eq!(pods[1]["metadata"]["labels"]["apps.kubernetes.io/pod-index"], "1");
    let claims = items(&client, CLAIMS).await;
    assert_eq!(names(&claims), ["data-db-0", "data-db-1"]);
    assert_eq!(claims[0]["metadata"]["labels"], json!({"app": "db"}));
    merge(&client, DB, json!({"spec": {"replicas": 0}})).await;
    seconds(5).await;
    assert_eq!(there(&client).await, Vec::<String>::new());
    assert_eq!(items(&client, CLAIMS).await, claims);
}
