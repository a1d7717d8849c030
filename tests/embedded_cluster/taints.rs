//! Taints and tolerations, and nodes whose kubelet does not answer.

use kube::Client;
use serde_json::{Value, json};

use crate::support::{
    PODS, cluster, create_deployment, get, is_leaving, items, merge, names, node, remove, seconds,
};

async fn taints(client: &Client, node: &str) -> Vec<String> {
    let node = get(client, &format!("/api/v1/nodes/{node}")).await;
    let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    taints
        .iter()
        .map(|taint| format!("{}:{}", taint["key"], taint["effect"]).replace('"', ""))
        .collect()
}

fn with_condition(name: &str, status: &str) -> Value {
    let mut node = node(name);
    node["status"] = json!({"conditions": [{"type": "Ready", "status": status}]});
    node
}

#[tokio::test(start_paused = true)]
async fn the_taint_of_a_cordon_comes_and_goes_with_it_and_takes_no_other_along() {
    let (cluster, client) = cluster();
    let mut n1 = node("n1");
    n1["spec"] = json!({"taints": [{"key": "dedicated", "effect": "NoSchedule"}]});
    cluster.load(vec![n1]).unwrap();
    let path = "/api/v1/nodes/n1";
    merge(&client, path, json!({"spec": {"unschedulable": true}})).await;
    assert_eq!(
        taints(&client, "n1").await,
        [
            "dedicated:NoSchedule",
            "node.kubernetes.io/unschedulable:NoSchedule"
        ]
    );
    merge(&client, path, json!({"spec": {"unschedulable": null}})).await;
    assert_eq!(taints(&client, "n1").await, ["dedicated:NoSchedule"]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_cordoned_in_another_cluster_takes_pods_when_it_is_given_back() {
    let (cluster, client) = cluster();
    let mut n1 = node("n1");
    n1["spec"] = json!({"unschedulable": true, "taints": [{"key": "node.kubernetes.io/unschedulable",
        "effect": "NoSchedule", "timeAdded": "2025-06-01T10:00:00Z"}]});
    cluster.load(vec![n1]).unwrap();
    create_deployment(&client, "web", 1).await;
    assert!(items(&client, PODS).await[0]["spec"]["nodeName"].is_null());
    merge(
        &client,
        "/api/v1/nodes/n1",
        json!({"spec": {"unschedulable": false}}),
    )
    .await;
    assert_eq!(items(&client, PODS).await[0]["spec"]["nodeName"], "n1");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_not_ready_keeps_its_pods_and_gets_no_others() {
    let (cluster, client) = cluster();
    cluster
        .load(vec![with_condition("n1", "True"), with_condition("n2", "True")])
        .unwrap();
    create_deployment(&client, "web", 4).await;
    let status = |status: &str| json!({"status": {"conditions": [{"type": "Ready", "status": status}]}});
    merge(&client, "/api/v1/nodes/n1/status", status("Unknown")).await;
    assert_eq!(
        taints(&client, "n1").await,
        ["node.kubernetes.io/unreachable:NoSchedule"]
    );
    let pods = items(&client, PODS).await;
    let there =
        |pods: &[Value], node: &str| pods.iter().filter(|pod| pod["spec"]["nodeName"] == node).count();
    assert_eq!((there(&pods, "n1"), there(&pods, "n2")), (2, 2));
    let lost = pods
        .iter()
        .find(|pod| pod["spec"]["nodeName"] == "n1")
        .unwrap()
        .clone();
    let lost = names(std::slice::from_ref(&lost))[0].to_owned();
    remove(&client, &format!("{PODS}/{lost}")).await;
    seconds(3600).await;
    // Its deletion is never confirmed, and another one has taken its place elsewhere.
    let pods = items(&client, PODS).await;
    assert_eq!((there(&pods, "n1"), there(&pods, "n2")), (2, 3));
    assert_eq!(pods.iter().filter(|pod| is_leaving(pod)).count(), 1);
    merge(&client, "/api/v1/nodes/n1/status", status("True")).await;
    seconds(60).await;
    let pods = items(&client, PODS).await;
    assert!(
        pods.len() == 4 && !names(&pods).contains(&lost.as_str()),
        "{pods:?}"
    );
    assert_eq!(taints(&client, "n1").await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_pod_tolerates_a_taint_as_the_scheduler_reads_it() {
    for (case, toleration, fits) in [
        (
            "key, value and effect",
            json!({"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}),
            true,
        ),
        (
            "Equal is meant",
            json!({"key": "dedicated", "operator": "Equal", "value": "gpu"}),
            true,
        ),
        ("any effect", json!({"key": "dedicated", "value": "gpu"}), true),
        (
            "another value",
            json!({"key": "dedicated", "value": "cpu"}),
            false,
        ),
        ("no value is an empty one", json!({"key": "dedicated"}), false),
        (
            "whatever the value",
            json!({"key": "dedicated", "operator": "Exists"}),
            true,
        ),
        (
            "another key",
            json!({"key": "shared", "operator": "Exists"}),
            false,
        ),
        (
            "another effect",
            json!({"key": "dedicated", "operator": "Exists", "effect": "NoExecute"}),
            false,
        ),
        ("everything", json!({"operator": "Exists"}), true),
        (
            "everything of an effect",
            json!({"operator": "Exists", "effect": "NoSchedule"}),
            true,
        ),
    ] {
        let (cluster, client) = cluster();
        let mut n1 = node("n1");
        n1["spec"] = json!({"taints": [{"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}]});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "default"},
            "spec": {"containers": [{"name": "a", "image": "example/a:1"}], "tolerations": [toleration]}});
        cluster.load(vec![n1, pod]).unwrap();
        let pod = get(&client, &format!("{PODS}/a")).await;
        assert_eq!(pod["spec"]["nodeName"] == "n1", fits, "{case}: {pod}");
    }
}
