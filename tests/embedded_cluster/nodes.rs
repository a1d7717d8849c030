//! Cordon, uncordon and drain.

use std::{sync::Arc, time::Duration};

use embedded_cluster::{EmbeddedCluster, PodScript};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::support::{create_deployment, executor, job, node, pods, run_job, strict_cluster};

fn ready() -> (EmbeddedCluster, Client) {
    let (cluster, client) = strict_cluster();
    let rules = json!([
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "patch"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
        {"apiGroups": [""], "resources": ["pods/eviction"], "verbs": ["create"]},
        {"apiGroups": ["apps"], "resources": ["daemonsets"], "verbs": ["get"]},
    ]);
    let mut objects = executor(&rules);
    objects.extend([node("n1"), node("n2")]);
    cluster.load(objects).unwrap();
    (cluster, client)
}

fn drain(name: &str, more: &[&str]) -> Value {
    let mut arguments = vec![
        "drain",
        "n1",
        "--grace-period=5",
        "--pod-selector=!kubernaut.io/execution-uid",
    ];
    if !more.iter().any(|m| m.starts_with("--timeout")) {
        arguments.push("--timeout=45s");
    }
    arguments.extend(more);
    let mut object = job(name, &arguments, "");
    let spec = &mut object["spec"]["template"]["spec"];
    spec["tolerations"] = json!([{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]);
    spec["affinity"] = json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 100, "preference": {"matchFields": [
            {"key": "metadata.name", "operator": "NotIn", "values": ["n1"]}]}}]}});
    object
}

async fn on(client: &Client, node: &str, selector: &str) -> usize {
    pods(client, selector)
        .await
        .iter()
        .filter(|p| p.spec.as_ref().and_then(|s| s.node_name.as_deref()) == Some(node))
        .count()
}

async fn cordoned(client: &Client) -> bool {
    Api::<Node>::all(client.clone())
        .get("n1")
        .await
        .unwrap()
        .spec
        .unwrap()
        .unschedulable
        == Some(true)
}

fn workload(kind: &str, name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "a", "image": "example/a:1"}]},
            },
        },
    })
}

fn bare_pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
        "spec": {"nodeName": "n1", "containers": [{"name": "a", "image": "example/a:1"}]}})
}

#[tokio::test(start_paused = true)]
async fn a_drained_node_has_no_pods_left_but_those_of_daemon_sets() {
    let (cluster, client) = ready();
    create_deployment(&client, "web", 4).await;
    cluster.load(vec![workload("DaemonSet", "agent")]).unwrap();
    assert_eq!(
        (
            on(&client, "n1", "app=web").await,
            on(&client, "n1", "app=agent").await
        ),
        (2, 1)
    );
    assert_eq!(
        run_job(&client, drain("j", &["--ignore-daemonsets=true"]))
            .await
            .0,
        "Complete"
    );
    assert!(cordoned(&client).await);
    assert_eq!(
        (
            on(&client, "n1", "app=web").await,
            on(&client, "n1", "app=agent").await
        ),
        (0, 1)
    );
    assert_eq!(on(&client, "n2", "app=web").await, 4);
}

#[tokio::test(start_paused = true)]
async fn pods_that_need_a_flag_stop_the_drain_before_anything_is_evicted() {
    let (cluster, client) = ready();
    create_deployment(&client, "web", 2).await;
    cluster
        .load(vec![workload("DaemonSet", "agent"), bare_pod("lone")])
        .unwrap();
    let mut local = bare_pod("local");
    local["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
    cluster.load(vec![local]).unwrap();
    let (end, words) = run_job(&client, drain("j", &[])).await;
    assert_eq!(end, "Failed");
    for part in [
        "node/n1 cordoned",
        "cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore): default/agent-",
        "cannot delete Pods that declare no controller (use --force to override): default/lone",
        "cannot delete Pods with local storage (use --delete-emptydir-data to override): default/local",
        "There are pending nodes to be drained:\n n1\n",
    ] {
        assert!(words.contains(part), "{part} is missing in: {words}");
    }
    assert!(cordoned(&client).await);
    assert_eq!(on(&client, "n1", "app=lone").await, 1);
    let flags = [
        "--ignore-daemonsets=true",
        "--delete-emptydir-data=true",
        "--force=true",
    ];
    assert_eq!(run_job(&client, drain("k", &flags)).await.0, "Complete");
    assert_eq!(
        on(&client, "n1", "app=lone").await + on(&client, "n1", "app=local").await,
        0
    );
}

#[tokio::test(start_paused = true)]
async fn a_budget_holds_a_drain_until_its_time_out() {
    let (cluster, client) = ready();
    create_deployment(&client, "web", 2).await;
    cluster
        .load(vec![json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}},
        })])
        .unwrap();
    let (end, words) = run_job(&client, drain("j", &["--timeout=8s"])).await;
    assert_eq!(end, "Failed");
    assert!(
        words.contains("(will retry after 5s): Cannot evict pod as it would violate"),
        "{words}"
    );
    assert!(words.contains("global timeout reached: 8s"), "{words}");
    assert!(cordoned(&client).await);
    assert_eq!(on(&client, "n1", "app=web").await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_budget_with_room_lets_pods_go_one_by_one() {
    let (cluster, client) = ready();
    create_deployment(&client, "web", 4).await;
    cluster
        .load(vec![json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}},
        })])
        .unwrap();
    assert_eq!(run_job(&client, drain("j", &[])).await.0, "Complete");
    assert_eq!(
        (
            on(&client, "n1", "app=web").await,
            on(&client, "n2", "app=web").await
        ),
        (0, 4)
    );
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_pods_that_stop_slowly() {
    let (cluster, client) = ready();
    cluster.script_pods(Arc::new(|pod| {
        (pod["metadata"]["labels"]["app"] == "web").then_some(PodScript::Hang)
    }));
    create_deployment(&client, "web", 2).await;
    let start = tokio::time::Instant::now();
    assert_eq!(run_job(&client, drain("j", &[])).await.0, "Complete");
    assert!(start.elapsed() >= Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn cordon_and_uncordon_say_when_there_is_nothing_to_do() {
    let (_cluster, client) = ready();
    for (name, word, after) in [
        ("a", "cordon", true),
        ("b", "cordon", true),
        ("c", "uncordon", false),
    ] {
        assert_eq!(run_job(&client, job(name, &[word, "n1"], "")).await.0, "Complete");
        assert_eq!(cordoned(&client).await, after);
    }
    let (end, words) = run_job(&client, job("d", &["cordon", "n9"], "")).await;
    assert_eq!(
        (end.as_str(), words.as_str()),
        ("Failed", "Error from server (NotFound): nodes \"n9\" not found\n")
    );
}
