//! Pods that come with a state of their own stay in it.

use embedded_cluster::EmbeddedCluster;
use serde_json::{Value, json};

use crate::support::{PODS, cluster, create_deployment, get, items, merge, names, node, remove, seconds};

fn pod(name: &str, node: Option<&str>, status: Value) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [{"name": "a", "image": "example/a:1"}]}, "status": status});
    if let Some(node) = node {
        pod["spec"]["nodeName"] = json!(node);
    }
    pod
}

fn pulling() -> Value {
    json!({"phase": "Pending", "startTime": "2026-01-01T00:00:00Z",
        "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "False"}],
        "containerStatuses": [{"name": "a", "image": "example/a:1", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ImagePullBackOff", "message": "back-off"}}}]})
}

fn homeless() -> Value {
    json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/2 nodes are available: 2 Insufficient memory."}]})
}

fn world(cluster: &EmbeddedCluster, nodes: [Value; 2]) {
    let [n1, n2] = nodes;
    cluster
        .load(vec![
            n1,
            n2,
            pod("pulling", Some("n1"), pulling()),
            pod("homeless", None, homeless()),
        ])
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_waits_goes_on_waiting() {
    let (cluster, client) = cluster();
    world(&cluster, [node("n1"), node("n2")]);
    let before = items(&client, PODS).await;
    // Whatever else happens around it.
    merge(
        &client,
        "/api/v1/nodes/n1",
        json!({"metadata": {"labels": {"a": "b"}}}),
    )
    .await;
    create_deployment(&client, "web", 1).await;
    seconds(3600).await;
    let after = items(&client, PODS).await;
    for pod in &before {
        assert!(after.contains(pod), "{pod}");
    }
    let copy = cluster.copy(embedded_cluster::EmbeddedOptions::default());
    copy.load(vec![node("n3")]).unwrap();
    let of_the_copy = copy.objects();
    for pod in &before {
        let name = &pod["metadata"]["name"];
        let found = of_the_copy
            .iter()
            .find(|object| object["metadata"]["name"] == *name)
            .unwrap();
        assert_eq!(found["status"], pod["status"], "{name}");
    }
    for name in names(&before) {
        remove(&client, &format!("{PODS}/{name}")).await;
    }
    seconds(1).await;
    assert_eq!(items(&client, PODS).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_waits_for_a_node_that_nobody_can_use_gets_it_when_it_can() {
    let (cluster, client) = cluster();
    let cordoned = |name: &str| {
        let mut node = node(name);
        node["spec"] = json!({"unschedulable": true});
        node
    };
    world(&cluster, [cordoned("n1"), cordoned("n2")]);
    merge(
        &client,
        "/api/v1/nodes/n2",
        json!({"spec": {"unschedulable": null}}),
    )
    .await;
    let pod = get(&client, &format!("{PODS}/homeless")).await;
    assert_eq!(
        (&pod["spec"]["nodeName"], &pod["status"]["phase"]),
        (&json!("n2"), &json!("Running"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_pod_with_a_finalizer_stays_until_that_is_gone_and_is_replaced_meanwhile() {
    let (_cluster, client) = cluster();
    create_deployment(&client, "web", 1).await;
    let pods = items(&client, PODS).await;
    let path = format!("{PODS}/{}", names(&pods)[0]);
    merge(
        &client,
        &path,
        json!({"metadata": {"finalizers": ["example.com/logs"]}}),
    )
    .await;
    remove(&client, &path).await;
    seconds(3600).await;
    assert_eq!(items(&client, PODS).await.len(), 2);
    remove(&client, &format!("{path}?gracePeriodSeconds=0")).await;
    let stuck = get(&client, &path).await;
    assert_eq!(stuck["metadata"]["deletionGracePeriodSeconds"], 0);
    assert_eq!(stuck["status"]["phase"], "Succeeded");
    merge(&client, &path, json!({"metadata": {"finalizers": null}})).await;
    seconds(1).await;
    assert_eq!(items(&client, PODS).await.len(), 1);
}
