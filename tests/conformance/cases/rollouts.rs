//! Rollouts, step by step: a case stands in for the kubelets, so that nothing happens until it calls pods ready.

use serde_json::{Value, json};

use super::super::answer::Answer;
use super::super::bodies::{with, workload};
use super::super::case_context::CaseContext;
use super::controllers::{condition, serve};

super::cases!(
    a_rolling_update_takes_its_steps,
    old_pods_that_are_not_ready_go_first,
    recreate_waits_until_the_last_old_pod_is_gone,
    a_count_that_changes_within_a_rollout_is_shared,
    a_paused_deployment_scales_and_does_not_roll_out,
    a_rollout_misses_its_deadline_and_can_still_end,
    a_rollout_without_a_deadline_says_nothing_of_its_progress,
    a_rollout_that_a_quota_forbids_says_so,
    pods_are_available_when_they_have_been_ready_for_a_while,
    a_pod_with_a_finalizer_is_replaced_while_it_stays,
);

fn deployment(replicas: u32, strategy: Value) -> Value {
    with(workload("a", replicas), "/spec/strategy", strategy)
}

fn rolling(surge: impl Into<Value>, unavailable: impl Into<Value>) -> Value {
    json!({"rollingUpdate": {"maxSurge": surge.into(), "maxUnavailable": unavailable.into()}})
}

fn image(tag: u8) -> Value {
    let image = format!("registry.example/app:{tag}");
    json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "image": image}]}}}})
}

/// How many pods the ReplicaSet of an image is to have; none when there is no such ReplicaSet.
fn size(sets: &Answer, tag: u8) -> Option<u64> {
    let image = format!("registry.example/app:{tag}");
    let sets = sets.body["items"].as_array()?;
    let set = sets
        .iter()
        .find(|set| set["spec"]["template"]["spec"]["containers"][0]["image"] == image.as_str())?;
    set["spec"]["replicas"].as_u64()
}

/// Waits until the old and the new ReplicaSet are of these sizes and all their pods are there.
async fn until_sizes(lab: &CaseContext, old: u64, new: u64) {
    let quiet = lab.quietly();
    quiet
        .until("rs", |sets| {
            let exist: u64 = sets.body["items"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|set| set["status"]["replicas"].as_u64().unwrap_or(0))
                .sum();
            size(sets, 1) == Some(old) && size(sets, 2) == Some(new) && exist == old + new
        })
        .await;
}

/// The names of ReplicaSets hold a hash, which differs.
async fn call_sets(lab: &CaseContext) {
    for set in lab.quietly().get("rs").await.names() {
        lab.call(&set, "a set");
    }
}

/// A Deployment whose pods are all ready.
async fn standing(lab: &CaseContext, replicas: u32, strategy: Value) {
    lab.given("deploy", deployment(replicas, strategy)).await;
    serve(lab, replicas as usize).await;
    let ready = |deployment: &Answer| deployment.at("/status/readyReplicas") == json!(replicas);
    lab.quietly().until("deploy/a", ready).await;
}

async fn a_rolling_update_takes_its_steps(lab: &CaseContext) {
    for (replicas, strategy, steps) in [
        (3, rolling(1, 0), vec![(3, 1), (2, 2), (1, 3), (0, 3)]),
        (3, rolling(0, 1), vec![(2, 1), (1, 2), (0, 3)]),
        (4, rolling("25%", "25%"), vec![(3, 2), (1, 4), (0, 4)]),
        (3, json!({}), vec![(3, 1), (2, 2), (1, 3), (0, 3)]),
        (10, rolling(3, 2), vec![(8, 5), (3, 10), (0, 10)]),
        (2, rolling("0%", "1%"), vec![(1, 1), (0, 2)]),
    ] {
        standing(lab, replicas, strategy).await;
        lab.quietly().strategic("deploy/a", image(2)).await.has_code(200);
        for (old, new) in steps {
            until_sizes(lab, old, new).await;
            serve(lab, usize::try_from(old + new).expect("small")).await;
        }
        let done = |deployment: &Answer| {
            condition(deployment, "Progressing").contains("NewReplicaSetAvailable")
                && deployment.at("/status/updatedReplicas") == json!(replicas)
        };
        let deployment = lab.quietly().until("deploy/a", done).await;
        call_sets(lab).await;
        lab.say(
            "the end",
            json!([
                condition(&deployment, "Progressing"),
                condition(&deployment, "Available")
            ]),
        );
        let foreground = json!({"propagationPolicy": "Foreground"});
        lab.quietly()
            .delete_with("deploy/a", foreground)
            .await
            .has_code(200);
        lab.quietly().until_gone("deploy/a").await;
    }
}

async fn old_pods_that_are_not_ready_go_first(lab: &CaseContext) {
    standing(lab, 3, rolling(1, 0)).await;
    let pods = lab.quietly().get("pod").await;
    let broken = pods.names().remove(0);
    let unready = json!({"status": {"conditions": [
        {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    lab.quietly()
        .merge(&format!("pod/{broken}/status"), unready)
        .await
        .has_code(200);
    let seen = |deployment: &Answer| deployment.at("/status/readyReplicas") == json!(2);
    lab.quietly().until("deploy/a", seen).await;
    lab.quietly().strategic("deploy/a", image(2)).await.has_code(200);
    until_sizes(lab, 3, 1).await;
    serve(lab, 4).await;
    until_sizes(lab, 2, 2).await;
    // No other goes: the new ones are not ready yet.
    lab.quietly().until_gone(&format!("pod/{broken}")).await;
}

async fn recreate_waits_until_the_last_old_pod_is_gone(lab: &CaseContext) {
    standing(lab, 2, json!({"type": "Recreate"})).await;
    let pods = lab.quietly().get("pod").await.names();
    let held = json!({"metadata": {"finalizers": ["example.com/held"]}});
    lab.quietly()
        .merge(&format!("pod/{}", pods[0]), held)
        .await
        .has_code(200);
    lab.quietly().strategic("deploy/a", image(2)).await.has_code(200);
    let one =
        |list: &Answer| list.names().len() == 1 && !list.at("/items/0/metadata/deletionTimestamp").is_null();
    lab.quietly().until("pod", one).await;
    // The controller has seen it when it has seen another that came later.
    let mut other = with(
        workload("b", 0),
        "/spec/selector",
        json!({"matchLabels": {"app": "b"}}),
    );
    other["spec"]["template"]["metadata"]["labels"] = json!({"app": "b"});
    lab.given("deploy", other).await;
    lab.quietly().until("rs", |sets| sets.names().len() == 2).await;
    assert_eq!(
        size(&lab.quietly().get("rs?labelSelector=app%3Da").await, 2),
        None
    );
    let free = json!({"metadata": {"finalizers": null}});
    lab.quietly()
        .merge(&format!("pod/{}", pods[0]), free)
        .await
        .has_code(200);
    until_sizes(lab, 0, 2).await;
}

/// The example of the Kubernetes documentation ("Proportional scaling").
async fn a_count_that_changes_within_a_rollout_is_shared(lab: &CaseContext) {
    standing(lab, 10, rolling(3, 2)).await;
    lab.quietly().strategic("deploy/a", image(2)).await.has_code(200);
    until_sizes(lab, 8, 5).await;
    lab.quietly()
        .merge("deploy/a", json!({"spec": {"replicas": 15}}))
        .await
        .has_code(200);
    until_sizes(lab, 11, 7).await;
}

async fn a_paused_deployment_scales_and_does_not_roll_out(lab: &CaseContext) {
    standing(lab, 2, json!({})).await;
    lab.quietly()
        .merge("deploy/a", json!({"spec": {"paused": true}}))
        .await
        .has_code(200);
    lab.quietly().strategic("deploy/a", image(2)).await.has_code(200);
    lab.quietly()
        .merge("deploy/a", json!({"spec": {"replicas": 3}}))
        .await
        .has_code(200);
    let three = |sets: &Answer| size(sets, 1) == Some(3);
    let sets = lab.quietly().until("rs", three).await;
    assert_eq!(sets.names().len(), 1);
    let paused = |deployment: &Answer| condition(deployment, "Progressing").contains("DeploymentPaused");
    let deployment = lab.quietly().until("deploy/a", paused).await;
    lab.say("paused", json!(condition(&deployment, "Progressing")));
}

async fn a_rollout_misses_its_deadline_and_can_still_end(lab: &CaseContext) {
    standing(lab, 1, json!({})).await;
    lab.quietly()
        .merge("deploy/a", json!({"spec": {"progressDeadlineSeconds": 1}}))
        .await
        .has_code(200);
    lab.quietly().strategic("deploy/a", image(2)).await.has_code(200);
    let late =
        |deployment: &Answer| condition(deployment, "Progressing").contains("ProgressDeadlineExceeded");
    let deployment = lab.quietly().until("deploy/a", late).await;
    call_sets(lab).await;
    lab.say("too late", json!(condition(&deployment, "Progressing")));
    serve(lab, 2).await;
    let done = |deployment: &Answer| condition(deployment, "Progressing").contains("NewReplicaSetAvailable");
    let deployment = lab.quietly().until("deploy/a", done).await;
    lab.say("done", json!(condition(&deployment, "Progressing")));
}

async fn a_rollout_without_a_deadline_says_nothing_of_its_progress(lab: &CaseContext) {
    let body = with(
        deployment(1, json!({})),
        "/spec/progressDeadlineSeconds",
        json!(i32::MAX),
    );
    lab.given("deploy", body).await;
    serve(lab, 1).await;
    let ready = |deployment: &Answer| deployment.at("/status/availableReplicas") == json!(1);
    let deployment = lab.quietly().until("deploy/a", ready).await;
    lab.say("progress", json!(condition(&deployment, "Progressing")));
    lab.say("availability", json!(condition(&deployment, "Available")));
}

async fn a_rollout_that_a_quota_forbids_says_so(lab: &CaseContext) {
    standing(lab, 2, rolling(1, 0)).await;
    let quota = json!({"metadata": {"name": "objects"}, "spec": {"hard": {"pods": "2"}}});
    lab.given("quota", quota).await;
    let counted = |quota: &Answer| quota.at("/status/used/pods") == json!("2");
    if matches!(lab.ground(), super::super::backend::Backend::Real(_)) {
        lab.quietly().until("quota/objects", counted).await;
    }
    lab.quietly().strategic("deploy/a", image(2)).await.has_code(200);
    let failed = |deployment: &Answer| !condition(deployment, "ReplicaFailure").is_empty();
    let deployment = lab.quietly().until("deploy/a", failed).await;
    call_sets(lab).await;
    // The pod that was refused has a name of its own in each cluster.
    let failure = condition(&deployment, "ReplicaFailure");
    let (_, failure) = failure.split_once(" is forbidden: ").expect("a refusal");
    lab.say("failure", json!(failure));
    lab.quietly()
        .merge("quota/objects", json!({"spec": {"hard": {"pods": "3"}}}))
        .await
        .has_code(200);
    until_sizes(lab, 2, 1).await;
    let healed = |deployment: &Answer| condition(deployment, "ReplicaFailure").is_empty();
    lab.quietly().until("deploy/a", healed).await;
}

async fn pods_are_available_when_they_have_been_ready_for_a_while(lab: &CaseContext) {
    let body = with(deployment(2, json!({})), "/spec/minReadySeconds", json!(10));
    lab.given("deploy", body).await;
    serve(lab, 2).await;
    let ready = |deployment: &Answer| deployment.at("/status/readyReplicas") == json!(2);
    let deployment = lab.quietly().until("deploy/a", ready).await;
    lab.say("ready", deployment.at("/status/availableReplicas"));
    lab.say("said", json!(condition(&deployment, "Available")));
    let available = |deployment: &Answer| deployment.at("/status/availableReplicas") == json!(2);
    lab.quietly().until("deploy/a", available).await;
}

async fn a_pod_with_a_finalizer_is_replaced_while_it_stays(lab: &CaseContext) {
    standing(lab, 1, json!({})).await;
    let pod = lab.quietly().get("pod").await.names().remove(0);
    let held = json!({"metadata": {"finalizers": ["example.com/held"]}});
    lab.quietly()
        .merge(&format!("pod/{pod}"), held)
        .await
        .has_code(200);
    lab.quietly()
        .delete(&format!("pod/{pod}?gracePeriodSeconds=0"))
        .await
        .has_code(200);
    let two = |pods: &Answer| pods.names().len() == 2;
    lab.quietly().until("pod", two).await;
    let counts = |deployment: &Answer| {
        deployment.at("/status/replicas") == json!(1) && deployment.at("/status/readyReplicas").is_null()
    };
    lab.quietly().until("deploy/a", counts).await;
}
