//! What a budget counts, and what it lets go.

use embedded_cluster::EmbeddedCluster;
use kube::Client;
use serde_json::{Value, json};

use crate::support::{PODS, cluster, deployment, get, items, merge, names, node, seconds, workload};

const BUDGET: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets/web";

fn budget(spec: Value) -> Value {
    let mut budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}}});
    for (field, value) in spec.as_object().into_iter().flatten() {
        budget["spec"][field] = value.clone();
    }
    budget
}

fn bare(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "a", "image": "example/a:1"}]}})
}

/// Healthy, desired, expected, allowed.
async fn counts(client: &Client) -> [u64; 4] {
    let status = get(client, BUDGET).await["status"].clone();
    [
        "currentHealthy",
        "desiredHealthy",
        "expectedPods",
        "disruptionsAllowed",
    ]
    .map(|field| status[field].as_u64().unwrap_or_default())
}

async fn counted(objects: Vec<Value>, unready: usize) -> (EmbeddedCluster, Client, [u64; 4]) {
    let (cluster, client) = cluster();
    cluster.load(objects).unwrap();
    let pods = items(&client, PODS).await;
    for name in names(&pods).into_iter().take(unready) {
        cluster.set_pod_ready("default", name, false);
    }
    let counts = counts(&client).await;
    (cluster, client, counts)
}

#[tokio::test(start_paused = true)]
async fn a_budget_counts_what_is_ready_and_expects_what_the_controllers_want() {
    let web = deployment("web", 4);
    let of_a_set = workload("StatefulSet", "web", json!({"replicas": 4, "serviceName": "web"}));
    for (case, objects, spec, unready, wanted) in [
        (
            "all are ready",
            vec![web.clone()],
            json!({"maxUnavailable": 1}),
            0,
            [4, 3, 4, 1],
        ),
        (
            "one is not ready",
            vec![web.clone()],
            json!({"maxUnavailable": 1}),
            1,
            [3, 3, 4, 0],
        ),
        (
            "three are not ready",
            vec![web.clone()],
            json!({"maxUnavailable": 1}),
            3,
            [1, 3, 4, 0],
        ),
        (
            "a part is rounded up",
            vec![web.clone()],
            json!({"maxUnavailable": "30%"}),
            0,
            [4, 2, 4, 2],
        ),
        (
            "so is this",
            vec![web.clone()],
            json!({"minAvailable": "30%"}),
            0,
            [4, 2, 4, 2],
        ),
        (
            "more than there are",
            vec![web.clone()],
            json!({"maxUnavailable": 9}),
            1,
            [3, 0, 4, 3],
        ),
        (
            "of a StatefulSet",
            vec![of_a_set],
            json!({"maxUnavailable": "25%"}),
            0,
            [4, 3, 4, 1],
        ),
        (
            "a number of pods",
            vec![web.clone()],
            json!({"minAvailable": 3}),
            0,
            [4, 3, 4, 1],
        ),
        (
            "nobody's pods are counted",
            vec![bare("x"), bare("y")],
            json!({"minAvailable": 1}),
            0,
            [2, 1, 2, 1],
        ),
        (
            "and not expected",
            vec![bare("x"), bare("y")],
            json!({"maxUnavailable": 1}),
            0,
            [2, 0, 0, 0],
        ),
        (
            "beside expected ones",
            vec![web, bare("x")],
            json!({"maxUnavailable": 1}),
            0,
            [5, 3, 4, 2],
        ),
        ("no pods", vec![], json!({"minAvailable": 0}), 0, [0, 0, 0, 0]),
    ] {
        let mut objects = objects;
        objects.push(budget(spec));
        assert_eq!(counted(objects, unready).await.2, wanted, "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_budget_of_pods_whose_controller_has_no_count_allows_nothing_and_says_why() {
    let objects = vec![
        node("n1"),
        workload("DaemonSet", "web", json!({})),
        budget(json!({"maxUnavailable": 1})),
    ];
    let (_cluster, client, counts) = counted(objects, 0).await;
    assert_eq!(counts[3], 0);
    let pods = items(&client, PODS).await;
    let pod = names(&pods)[0];
    let condition = get(&client, BUDGET).await["status"]["conditions"][0].clone();
    assert_eq!(
        (&condition["status"], &condition["reason"]),
        (&json!("False"), &json!("SyncFailed"))
    );
    assert_eq!(
        condition["message"],
        format!("found no controllers for pod \"{pod}\"")
    );
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}});
    let request = http::Request::post(format!("{PODS}/{pod}/eviction"))
        .header("content-type", "application/json")
        .body(eviction.to_string().into_bytes())
        .unwrap();
    let refused = crate::support::status(client.request::<Value>(request).await);
    assert_eq!(refused.code, 429);
    let causes = refused.details.unwrap().causes;
    assert!(
        causes[0]
            .message
            .contains("because it failed sync: found no controllers"),
        "{causes:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_count_that_changes_changes_what_a_budget_expects() {
    let (_cluster, client, counts_before) = counted(
        vec![deployment("web", 4), budget(json!({"maxUnavailable": "50%"}))],
        0,
    )
    .await;
    assert_eq!(counts_before, [4, 2, 4, 2]);
    let web = "/apis/apps/v1/namespaces/default/deployments/web";
    merge(&client, web, json!({"spec": {"replicas": 6}})).await;
    seconds(1).await;
    assert_eq!(counts(&client).await, [6, 3, 6, 3]);
}
