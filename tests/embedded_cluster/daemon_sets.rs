//! DaemonSets: on which nodes, and how new pods take the place of old ones.

use embedded_cluster::EmbeddedCluster;
use kube::Client;
use serde_json::{Value, json};

use crate::support::{
    PODS, cluster, get, image, is_ready, items, merge, node, ready_after, remove, seconds, workload,
};

const AGENT: &str = "/apis/apps/v1/namespaces/default/daemonsets/agent";

fn stand(cluster: &EmbeddedCluster, nodes: usize, more: Value) {
    let mut objects: Vec<Value> = (1..=nodes).map(|number| node(&format!("n{number}"))).collect();
    objects.push(workload("DaemonSet", "agent", more));
    cluster.load(objects).unwrap();
}

/// How many pods are of the new image, and how many are ready.
async fn counts(client: &Client) -> (usize, usize) {
    let pods = items(client, PODS).await;
    let new = |pod: &&Value| pod["spec"]["containers"][0]["image"] == "example/a:2";
    (
        pods.iter().filter(new).count(),
        pods.iter().filter(|pod| is_ready(pod)).count(),
    )
}

async fn nodes(client: &Client) -> Vec<String> {
    let pods = items(client, PODS).await;
    let mut nodes: Vec<String> = pods
        .iter()
        .filter_map(|pod| pod["spec"]["nodeName"].as_str().map(str::to_owned))
        .collect();
    nodes.sort();
    nodes
}

#[tokio::test(start_paused = true)]
async fn a_rollout_takes_as_many_pods_away_as_may_be_missing() {
    for (strategy, steps, ready) in [
        (json!({"maxUnavailable": 1}), vec![1, 2, 3, 4], 3),
        (json!({"maxUnavailable": "50%"}), vec![2, 4], 2),
        (json!({"maxUnavailable": 0, "maxSurge": 2}), vec![2, 4], 4),
    ] {
        let (cluster, client) = cluster();
        let update = json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": strategy}});
        stand(&cluster, 4, update);
        ready_after(&cluster, 10);
        merge(&client, AGENT, image("a", "example/a:2")).await;
        for new in steps {
            seconds(5).await;
            assert_eq!(counts(&client).await, (new, ready), "{strategy}");
            seconds(6).await;
        }
        let status = get(&client, AGENT).await["status"].clone();
        assert_eq!(
            (&status["updatedNumberScheduled"], &status["numberAvailable"]),
            (&json!(4), &json!(4))
        );
        assert_eq!(items(&client, PODS).await.len(), 4, "{strategy}");
    }
}

#[tokio::test(start_paused = true)]
async fn on_delete_only_what_is_deleted_becomes_new() {
    let (cluster, client) = cluster();
    stand(&cluster, 3, json!({"updateStrategy": {"type": "OnDelete"}}));
    merge(&client, AGENT, image("a", "example/a:2")).await;
    seconds(60).await;
    assert_eq!(counts(&client).await, (0, 3));
    let pods = items(&client, PODS).await;
    remove(
        &client,
        &format!("{PODS}/{}", pods[0]["metadata"]["name"].as_str().unwrap()),
    )
    .await;
    seconds(1).await;
    assert_eq!(counts(&client).await, (1, 3));
}

#[tokio::test(start_paused = true)]
async fn daemons_come_to_cordoned_nodes_and_to_no_node_whose_taint_they_do_not_tolerate() {
    let (cluster, client) = cluster();
    let with = |name: &str, spec: Value| {
        let mut node = node(name);
        node["spec"] = spec;
        node
    };
    let taint = |effect: &str| json!({"taints": [{"key": "dedicated", "value": "gpu", "effect": effect}]});
    cluster
        .load(vec![
            node("plain"),
            with("cordoned", json!({"unschedulable": true})),
            with("tainted", taint("NoSchedule")),
            with("driven", taint("NoExecute")),
            with("wished", taint("PreferNoSchedule")),
            workload("DaemonSet", "agent", json!({})),
        ])
        .unwrap();
    assert_eq!(nodes(&client).await, ["cordoned", "plain", "wished"]);
    let status = get(&client, AGENT).await["status"].clone();
    assert_eq!(status["desiredNumberScheduled"], 3);
    // A taint that comes later keeps nobody from staying, unless it drives pods away.
    let plain = "/api/v1/nodes/plain";
    merge(&client, plain, json!({"spec": taint("NoSchedule")})).await;
    seconds(1).await;
    assert_eq!(nodes(&client).await, ["cordoned", "plain", "wished"]);
    assert_eq!(get(&client, AGENT).await["status"]["numberMisscheduled"], 1);
    merge(&client, plain, json!({"spec": taint("NoExecute")})).await;
    seconds(1).await;
    assert_eq!(nodes(&client).await, ["cordoned", "wished"]);
    let tolerations = json!([{"key": "dedicated", "operator": "Exists"}]);
    merge(
        &client,
        AGENT,
        json!({"spec": {"template": {"spec": {"tolerations": tolerations}}}}),
    )
    .await;
    seconds(5).await;
    assert_eq!(
        nodes(&client).await,
        ["cordoned", "driven", "plain", "tainted", "wished"]
    );
}
