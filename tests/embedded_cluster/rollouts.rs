//! Rollouts of Deployments: how many pods there are at each moment, how long it takes, and what is said of it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use embedded_cluster::{EmbeddedCluster, PodScript};
use kube::Client;
use serde_json::{Value, json};

use crate::support::{
    PODS, cluster, deployment, get, image, is_leaving, is_ready, items, merge, names, ready_after, seconds,
};

const WEB: &str = "/apis/apps/v1/namespaces/default/deployments/web";
const SETS: &str = "/apis/apps/v1/namespaces/default/replicasets";

/// A Deployment with this strategy, all of whose pods are ready.
fn standing(cluster: &EmbeddedCluster, replicas: u32, strategy: Value) {
    let mut web = deployment("web", replicas);
    web["spec"]["strategy"] = strategy;
    cluster.load(vec![web]).unwrap();
}

fn rolling(surge: impl Into<Value>, unavailable: impl Into<Value>) -> Value {
    json!({"rollingUpdate": {"maxSurge": surge.into(), "maxUnavailable": unavailable.into()}})
}

fn is_new(pod: &Value) -> bool {
    pod["spec"]["containers"][0]["image"] == "example/app:2"
}

/// What was seen of a rollout.
struct Seen {
    /// Until all were new and ready, in seconds.
    took: u64,
    /// Most pods at a time, those on their way out not counted.
    most: usize,
    /// Fewest ready ones.
    fewest: usize,
}

/// Makes all pods of the Deployment new, and reads the record of what that took.
async fn roll_out(cluster: &EmbeddedCluster, client: &Client, replicas: usize) -> Seen {
    let mut pods: BTreeMap<String, Value> = items(client, PODS)
        .await
        .into_iter()
        .map(|pod| (pod["metadata"]["name"].to_string(), pod))
        .collect();
    let (mut most, mut fewest) = (pods.len(), pods.len());
    cluster.keep_record();
    let before = cluster.record().len();
    merge(client, WEB, image("app", "example/app:2")).await;
    let start = tokio::time::Instant::now();
    loop {
        let web = get(client, WEB).await;
        let status = &web["status"];
        let counts = [
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
        ];
        if counts.iter().all(|field| status[field] == replicas) {
            break;
        }
        assert!(
            start.elapsed() < Duration::from_secs(10_000),
            "it does not end: {status}"
        );
        seconds(1).await;
    }
    let record = cluster.record();
    let of_pods = record[before..]
        .iter()
        .filter(|write| write.object["kind"] == "Pod");
    for write in of_pods {
        let name = write.object["metadata"]["name"].to_string();
        if write.deleted {
            pods.remove(&name);
        } else {
            pods.insert(name, Value::clone(&write.object));
        }
        let live = || pods.values().filter(|pod| !is_leaving(pod));
        most = most.max(live().count());
        fewest = fewest.min(live().filter(|pod| is_ready(pod)).count());
    }
    let took = start.elapsed().as_secs();
    Seen { took, most, fewest }
}

#[tokio::test(start_paused = true)]
async fn a_rollout_keeps_within_its_surge_and_its_unavailability() {
    // Replicas, surge, unavailability; most pods, fewest ready ones, and how many times ten seconds it takes.
    for (replicas, surge, unavailable, most, fewest, rounds) in [
        (20, json!(1), json!(0), 21, 20, 20),
        (3, json!(0), json!(1), 3, 2, 3),
        (4, json!("25%"), json!("25%"), 5, 3, 2),
        (4, json!("100%"), json!(0), 8, 4, 1),
        (10, json!(0), json!("100%"), 10, 0, 1),
        // Neither: one may be missing all the same.
        (2, json!("0%"), json!("1%"), 2, 1, 2),
    ] {
        let (cluster, client) = cluster();
        standing(&cluster, replicas, rolling(surge.clone(), unavailable.clone()));
        ready_after(&cluster, 10);
        let seen = roll_out(&cluster, &client, replicas as usize).await;
        let case = format!("{replicas} replicas, surge {surge}, unavailable {unavailable}");
        assert_eq!((seen.most, seen.fewest), (most, fewest), "{case}");
        let wanted = rounds * 10..=rounds * 10 + 1;
        assert!(wanted.contains(&seen.took), "{case}: {} s", seen.took);
    }
}

#[tokio::test(start_paused = true)]
async fn recreate_begins_a_new_pod_when_the_last_old_one_is_gone() {
    let (cluster, client) = cluster();
    cluster.script_pods(Arc::new(|_| Some(PodScript::Hang)));
    standing(&cluster, 3, json!({"type": "Recreate"}));
    merge(&client, WEB, image("app", "example/app:2")).await;
    seconds(29).await;
    let pods = items(&client, PODS).await;
    assert!(pods.len() == 3 && pods.iter().all(is_leaving), "{pods:?}");
    assert_eq!(items(&client, SETS).await.len(), 1);
    seconds(2).await;
    let pods = items(&client, PODS).await;
    assert!(pods.len() == 3 && pods.iter().all(is_new), "{pods:?}");
}

fn quota(pods: u32) -> Value {
    json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "objects", "namespace": "default"},
        "spec": {"hard": {"pods": pods.to_string()}}})
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_fits_into_its_quota_completes() {
    for (strategy, pods) in [
        (json!({}), 4),
        (rolling(1, 0), 4),
        (rolling(0, 1), 3),
        (json!({"type": "Recreate"}), 3),
    ] {
        let (cluster, client) = cluster();
        cluster.load(vec![quota(pods)]).unwrap();
        standing(&cluster, 3, strategy);
        ready_after(&cluster, 10);
        roll_out(&cluster, &client, 3).await;
    }
}

fn condition(object: &Value, kind: &str) -> String {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    let found = conditions.filter(|condition| condition["type"] == kind);
    let words: Vec<String> = found
        .map(|condition| format!("{} {}", condition["status"], condition["reason"]).replace('"', ""))
        .collect();
    words.join(", ")
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_a_quota_forbids_says_so_and_goes_on_when_there_is_room() {
    let (cluster, client) = cluster();
    cluster.load(vec![quota(3)]).unwrap();
    standing(&cluster, 3, rolling(1, 0));
    merge(&client, WEB, image("app", "example/app:2")).await;
    seconds(10).await;
    let web = get(&client, WEB).await;
    assert_eq!(condition(&web, "ReplicaFailure"), "True FailedCreate");
    assert!(
        web["status"].to_string().contains("exceeded quota: objects"),
        "{web}"
    );
    assert_eq!(condition(&web, "Progressing"), "True ReplicaSetUpdated");
    seconds(600).await;
    let web = get(&client, WEB).await;
    assert_eq!(condition(&web, "Progressing"), "False ProgressDeadlineExceeded");
    assert_eq!(web["status"]["readyReplicas"], 3);
    let objects = "/api/v1/namespaces/default/resourcequotas/objects";
    merge(&client, objects, json!({"spec": {"hard": {"pods": "4"}}})).await;
    seconds(10).await;
    let web = get(&client, WEB).await;
    assert_eq!(condition(&web, "Progressing"), "True NewReplicaSetAvailable");
    assert_eq!(condition(&web, "ReplicaFailure"), "");
}

#[tokio::test(start_paused = true)]
async fn each_step_of_a_rollout_starts_its_deadline_anew() {
    let (cluster, client) = cluster();
    standing(&cluster, 5, rolling(1, 0));
    ready_after(&cluster, 300);
    assert!((1500..1502).contains(&roll_out(&cluster, &client, 5).await.took));
    ready_after(&cluster, 700);
    merge(&client, WEB, image("app", "example/app:3")).await;
    seconds(690).await;
    let web = get(&client, WEB).await;
    assert_eq!(condition(&web, "Progressing"), "False ProgressDeadlineExceeded");
}

#[tokio::test(start_paused = true)]
async fn a_rollout_without_a_deadline_says_nothing_of_its_progress() {
    let (cluster, client) = cluster();
    standing(&cluster, 2, rolling(1, 0));
    assert_eq!(
        condition(&get(&client, WEB).await, "Progressing"),
        "True NewReplicaSetAvailable"
    );
    merge(
        &client,
        WEB,
        json!({"spec": {"progressDeadlineSeconds": i32::MAX}}),
    )
    .await;
    cluster.script_pods(Arc::new(|_| Some(PodScript::Hang)));
    merge(&client, WEB, image("app", "example/app:2")).await;
    seconds(100_000).await;
    let web = get(&client, WEB).await;
    assert_eq!(condition(&web, "Progressing"), "");
    assert_eq!(condition(&web, "Available"), "True MinimumReplicasAvailable");
}

/// The size of the ReplicaSet of each image.
async fn sizes(client: &Client) -> Vec<(String, u64)> {
    let mut sizes: Vec<(String, u64)> = items(client, SETS)
        .await
        .iter()
        .map(|set| {
            let image = &set["spec"]["template"]["spec"]["containers"][0]["image"];
            (
                image.as_str().unwrap_or_default().to_owned(),
                set["spec"]["replicas"].as_u64().unwrap_or_default(),
            )
        })
        .collect();
    sizes.sort();
    sizes
}

/// The example of the Kubernetes documentation ("Proportional scaling").
#[tokio::test(start_paused = true)]
async fn a_count_that_changes_within_a_rollout_is_shared_by_its_replica_sets() {
    let (cluster, client) = cluster();
    standing(&cluster, 10, rolling(3, 2));
    cluster.script_pods(Arc::new(|_| Some(PodScript::Hang)));
    let images = |old: u64, new: u64| {
        vec![
            ("example/app:1".to_owned(), old),
            ("example/app:2".to_owned(), new),
        ]
    };
    merge(&client, WEB, image("app", "example/app:2")).await;
    assert_eq!(sizes(&client).await, images(8, 5));
    merge(&client, WEB, json!({"spec": {"replicas": 15}})).await;
    assert_eq!(sizes(&client).await, images(11, 7));
    merge(&client, WEB, json!({"spec": {"replicas": 10}})).await;
    assert_eq!(sizes(&client).await, images(8, 5));
}

#[tokio::test(start_paused = true)]
async fn a_broken_rollout_that_is_taken_back_loses_no_ready_pod() {
    let (cluster, client) = cluster();
    standing(&cluster, 4, json!({}));
    let before = items(&client, PODS).await;
    cluster.script_pods(Arc::new(|pod| is_new(pod).then_some(PodScript::Hang)));
    merge(&client, WEB, image("app", "example/app:2")).await;
    seconds(60).await;
    merge(&client, WEB, image("app", "example/app:1")).await;
    seconds(60).await;
    let after = items(&client, PODS).await;
    let kept = names(&after)
        .into_iter()
        .filter(|name| names(&before).contains(name));
    // One of the four was given up, as the strategy allows.
    assert_eq!((after.len(), kept.count()), (4, 3));
    assert_eq!(
        condition(&get(&client, WEB).await, "Progressing"),
        "True NewReplicaSetAvailable"
    );
}

#[tokio::test(start_paused = true)]
async fn a_pod_counts_as_available_when_it_has_been_ready_for_a_while() {
    let (cluster, client) = cluster();
    let mut web = deployment("web", 2);
    web["spec"]["minReadySeconds"] = json!(30);
    cluster.load(vec![web]).unwrap();
    let counts = |web: &Value| {
        let status = &web["status"];
        [&status["readyReplicas"], &status["availableReplicas"]].map(Clone::clone)
    };
    assert_eq!(counts(&get(&client, WEB).await), [json!(2), Value::Null]);
    seconds(31).await;
    assert_eq!(counts(&get(&client, WEB).await), [json!(2), json!(2)]);
    ready_after(&cluster, 10);
    assert_eq!(roll_out(&cluster, &client, 2).await.took / 10, 8);
}

#[tokio::test(start_paused = true)]
async fn of_too_many_pods_those_go_that_serve_least() {
    let (cluster, client) = cluster();
    standing(&cluster, 4, json!({}));
    let pods = items(&client, PODS).await;
    let (unready, cheap) = (names(&pods)[1], names(&pods)[3]);
    cluster.set_pod_ready("default", unready, false);
    let cost = json!({"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-5"}}});
    merge(&client, &format!("{PODS}/{cheap}"), cost).await;
    for gone in [unready, cheap] {
        let left = items(&client, PODS).await.len() - 1;
        merge(&client, WEB, json!({"spec": {"replicas": left}})).await;
        seconds(1).await;
        let pods = items(&client, PODS).await;
        assert!(
            pods.len() == left && !names(&pods).contains(&gone),
            "{gone}: {pods:?}"
        );
    }
}
