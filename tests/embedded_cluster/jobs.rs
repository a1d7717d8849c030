//! Jobs and their pods in the embedded cluster.

use std::{sync::Arc, time::Duration};

use embedded_cluster::{EmbeddedCluster, PodScript};
use k8s_openapi::api::core::v1::Event;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Preconditions},
};
use serde_json::json;

use crate::support::{
    condition, create_job, executor, job, jobs, last_words, node, pods, run_job, strict_cluster,
};

fn ready() -> (EmbeddedCluster, Client) {
    let (cluster, client) = strict_cluster();
    let rules = json!([{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "patch"]}]);
    let mut objects = executor(&rules);
    objects.push(node("n1"));
    cluster.load(objects).unwrap();
    (cluster, client)
}

fn script(cluster: &EmbeddedCluster, what: PodScript) {
    cluster.script_pods(Arc::new(move |pod| {
        pod["metadata"]["labels"]["kubernaut.io/execution-uid"]
            .is_string()
            .then(|| what.clone())
    }));
}

#[tokio::test(start_paused = true)]
async fn a_job_makes_one_pod_that_carries_its_labels_and_ends_with_it() {
    let (_cluster, client) = ready();
    create_job(&client, job("j", &["cordon", "n1"], "")).await;
    let running = pods(&client, "job-name=j").await;
    assert_eq!(running.len(), 1);
    assert_eq!(running[0].owner_references()[0].controller, Some(true));
    assert_eq!(running[0].annotations()["kubernaut.io/payload"], "");
    let early = jobs(&client).get("j").await.unwrap().status.unwrap();
    assert_eq!((early.active, early.start_time.is_some()), (Some(1), true));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let done = jobs(&client).get("j").await.unwrap();
    assert!(condition(&done, "SuccessCriteriaMet").is_some());
    assert_eq!(condition(&done, "Complete").unwrap().0, "CompletionsReached");
    let done = done.status.unwrap();
    assert_eq!(
        (done.active, done.succeeded, done.completion_time.is_some()),
        (None, Some(1), true)
    );
}

#[tokio::test(start_paused = true)]
async fn a_failing_pod_fails_the_job_at_its_backoff_limit() {
    let (cluster, client) = ready();
    script(
        &cluster,
        PodScript::ExitWith {
            code: 1,
            message: "no luck".to_owned(),
        },
    );
    assert_eq!(
        run_job(&client, job("j", &["cordon", "n1"], "")).await,
        ("Failed".into(), "no luck".into())
    );
    let failed = jobs(&client).get("j").await.unwrap();
    assert!(condition(&failed, "FailureTarget").is_some());
    assert_eq!(condition(&failed, "Failed").unwrap().0, "BackoffLimitExceeded");
}

#[tokio::test(start_paused = true)]
async fn a_failed_pod_is_tried_again_within_the_backoff_limit() {
    let (cluster, client) = ready();
    script(
        &cluster,
        PodScript::ExitWith {
            code: 1,
            message: String::new(),
        },
    );
    let mut object = job("j", &["cordon", "n1"], "");
    object["spec"]["backoffLimit"] = json!(2);
    assert_eq!(run_job(&client, object).await.0, "Failed");
    assert_eq!(pods(&client, "job-name=j").await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_the_pod_and_its_message_are_lost() {
    let (cluster, client) = ready();
    script(&cluster, PodScript::Hang);
    let (end, words) = run_job(&client, job("j", &["cordon", "n1"], "")).await;
    assert_eq!((end.as_str(), words.as_str()), ("Failed", ""));
    let failed = jobs(&client).get("j").await.unwrap();
    assert_eq!(condition(&failed, "Failed").unwrap().0, "DeadlineExceeded");
    assert!(pods(&client, "job-name=j").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_evicted_pod_fails_the_job_by_its_policy() {
    let (cluster, client) = ready();
    script(&cluster, PodScript::Evicted);
    assert_eq!(
        run_job(&client, job("j", &["cordon", "n1"], "")).await.0,
        "Failed"
    );
    let (reason, message) = condition(&jobs(&client).get("j").await.unwrap(), "Failed").unwrap();
    assert_eq!(reason, "PodFailurePolicy");
    assert!(
        message.ends_with("has condition DisruptionTarget matching FailJob rule at index 0"),
        "{message}"
    );
}

#[tokio::test(start_paused = true)]
async fn without_its_account_a_job_has_no_pod_and_only_an_event_says_why() {
    let (_cluster, client) = ready();
    let mut object = job("j", &["cordon", "n1"], "");
    object["spec"]["template"]["spec"]["serviceAccountName"] = json!("nobody");
    create_job(&client, object).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(pods(&client, "job-name=j").await.is_empty());
    assert!(
        jobs(&client)
            .get("j")
            .await
            .unwrap()
            .status
            .unwrap()
            .conditions
            .is_none()
    );
    let events: Api<Event> = Api::namespaced(client.clone(), "executor");
    let seen = events
        .list(&ListParams::default().fields("involvedObject.name=j"))
        .await
        .unwrap();
    assert_eq!(seen.items[0].reason.as_deref(), Some("FailedCreate"));
    assert_eq!(
        seen.items[0].message.as_deref(),
        Some(
            "Error creating: pods \"j-\" is forbidden: error looking up service account executor/nobody: \
             serviceaccount \"nobody\" not found"
        )
    );
}

#[tokio::test(start_paused = true)]
async fn an_image_that_does_not_come_leaves_the_pod_waiting() {
    let (cluster, client) = ready();
    script(
        &cluster,
        PodScript::NeverStart {
            reason: "ImagePullBackOff".into(),
            message: "no".into(),
        },
    );
    create_job(&client, job("j", &["cordon", "n1"], "")).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let status = pods(&client, "job-name=j").await.remove(0).status.unwrap();
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    let waiting = status
        .container_statuses
        .unwrap()
        .remove(0)
        .state
        .unwrap()
        .waiting
        .unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("ImagePullBackOff"));
}

#[tokio::test(start_paused = true)]
async fn a_job_deleted_in_the_foreground_goes_after_its_pod() {
    let (cluster, client) = ready();
    script(&cluster, PodScript::Hang);
    let made = create_job(&client, job("j", &["cordon", "n1"], "")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: made.uid(),
            resource_version: None,
        }),
        ..DeleteParams::foreground()
    };
    jobs(&client).delete("j", &params).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(
        jobs(&client).get("j").await.unwrap().finalizers(),
        ["foregroundDeletion"]
    );
    assert_eq!(pods(&client, "job-name=j").await.len(), 1);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(jobs(&client).get_opt("j").await.unwrap().is_none());
    assert!(pods(&client, "job-name=j").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_a_policy_a_deleted_job_leaves_its_pod() {
    let (cluster, client) = ready();
    script(&cluster, PodScript::Hang);
    create_job(&client, job("j", &["cordon", "n1"], "")).await;
    jobs(&client).delete("j", &DeleteParams::default()).await.unwrap();
    assert!(jobs(&client).get_opt("j").await.unwrap().is_none());
    assert!(pods(&client, "job-name=j").await[0].owner_references().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_pod_on_a_lost_node_stays_in_deletion() {
    let (cluster, client) = ready();
    script(&cluster, PodScript::Lost);
    create_job(&client, job("j", &["cordon", "n1"], "")).await;
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert!(condition(&jobs(&client).get("j").await.unwrap(), "FailureTarget").is_some());
    assert!(condition(&jobs(&client).get("j").await.unwrap(), "Failed").is_none());
    assert!(
        pods(&client, "job-name=j").await[0]
            .metadata
            .deletion_timestamp
            .is_some()
    );
}

#[tokio::test(start_paused = true)]
async fn a_finished_job_goes_when_its_time_is_over() {
    let (_cluster, client) = ready();
    assert_eq!(
        run_job(&client, job("j", &["cordon", "n1"], "")).await.0,
        "Complete"
    );
    tokio::time::sleep(Duration::from_secs(3500)).await;
    assert!(jobs(&client).get_opt("j").await.unwrap().is_some());
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert!(jobs(&client).get_opt("j").await.unwrap().is_none());
    assert!(pods(&client, "job-name=j").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn work_can_be_done_and_still_be_reported_as_failed_or_not_at_all() {
    let (cluster, client) = ready();
    let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(client.clone());
    script(
        &cluster,
        PodScript::ActAndFail {
            code: 3,
            message: "after".to_owned(),
        },
    );
    let (end, words) = run_job(&client, job("a", &["cordon", "n1"], "")).await;
    assert_eq!((end.as_str(), words.as_str()), ("Failed", "after"));
    assert_eq!(
        nodes.get("n1").await.unwrap().spec.unwrap().unschedulable,
        Some(true)
    );
    script(&cluster, PodScript::ActAndVanish);
    let mut object = job("b", &["uncordon", "n1"], "");
    object["spec"]["template"]["spec"]["tolerations"] =
        json!([{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]);
    assert_eq!(run_job(&client, object).await.0, "Gone");
    assert!(
        nodes
            .get("n1")
            .await
            .unwrap()
            .spec
            .unwrap()
            .unschedulable
            .is_none()
    );
    assert_eq!(last_words(&client, "b").await, "");
}

#[tokio::test(start_paused = true)]
async fn with_every_node_cordoned_a_pod_waits_for_one() {
    let (_cluster, client) = ready();
    assert_eq!(
        run_job(&client, job("a", &["cordon", "n1"], "")).await.0,
        "Complete"
    );
    create_job(&client, job("b", &["uncordon", "n1"], "")).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let pod = pods(&client, "job-name=b").await.remove(0);
    let scheduled = pod.status.unwrap().conditions.unwrap().remove(0);
    assert_eq!(scheduled.reason.as_deref(), Some("Unschedulable"));
    assert_eq!(
        scheduled.message.as_deref(),
        Some("0/1 nodes are available: 1 node(s) were unschedulable.")
    );
}
