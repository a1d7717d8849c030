//! Pods: what they are made of, how they go, evictions and budgets.

use serde_json::{Value, json};

use super::super::answer::Answer;
use super::super::bodies::{named, pod, pod_spec, with};
use super::super::case_context::CaseContext;

super::cases!(
    a_pod_has_what_the_server_sets,
    a_pod_needs_containers,
    a_pod_needs_its_account,
    a_pod_is_checked,
    a_pod_on_a_node_is_first_marked,
    a_shorter_grace_wins,
    a_pod_that_ended_goes_at_once,
    a_pod_is_deleted_with_a_precondition,
    an_eviction_marks_a_pod,
    an_eviction_of_what_is_missing_is_not_found,
    an_eviction_is_checked,
    an_eviction_with_a_wrong_uid_conflicts,
    a_dry_run_of_an_eviction_does_nothing,
    a_budget_refuses_an_eviction,
    a_budget_with_room_lets_one_go,
    two_budgets_are_one_too_many,
    a_pod_that_has_not_begun_is_evicted_past_its_budget,
    a_pod_is_bound_once,
);

async fn a_pod_has_what_the_server_sets(lab: &CaseContext) {
    let made = lab.post("pod", pod("a")).await;
    made.has_code(201)
        .has("/spec/restartPolicy", "Always")
        .has("/spec/terminationGracePeriodSeconds", 30);
    let mut spec = pod_spec();
    spec["nodeName"] = json!("nowhere");
    spec["automountServiceAccountToken"] = json!(false);
    spec["restartPolicy"] = json!("Never");
    spec["containers"][0] = json!({
        "name": "app", "image": "registry.example/app", "env": [{"name": "A"}, {"name": "N",
            "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "ports": [{"containerPort": 80}],
        "readinessProbe": {"httpGet": {"path": "/", "port": 80}},
        "resources": {"requests": {"cpu": "0.5", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
        "volumeMounts": [{"name": "c", "mountPath": "/c"}],
    });
    spec["volumes"] = json!([{"name": "c", "configMap": {"name": "c"}},
    {"name": "d", "downwardAPI": {"items": [{"path": "p", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    {"name": "e", "emptyDir": {}}, {"name": "s", "secret": {"secretName": "s"}},
    {"name": "t", "projected": {"sources": [
        {"serviceAccountToken": {"path": "token"}},
        {"configMap": {"name": "c", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]}}]);
    lab.post("pod", json!({"metadata": {"name": "b"}, "spec": spec}))
        .await
        .has_code(201);
}

async fn a_pod_needs_containers(lab: &CaseContext) {
    lab.post("pod", with(pod("a"), "/spec/containers", json!([])))
        .await
        .invalid("spec.containers: Required value");
    lab.post("pod", with(pod("a"), "/spec/containers/0/image", Value::Null))
        .await
        .has_code(422);
    lab.post("pod", with(pod("a"), "/spec/containers/0/name", Value::Null))
        .await
        .has_code(422);
    lab.post("pod", with(pod("a"), "/spec/containers/0/name", json!("A_b")))
        .await
        .invalid("spec.containers[0].name");
    let twice = json!([{"name": "x", "image": "x:1"}, {"name": "x", "image": "x:1"}]);
    lab.post("pod", with(pod("a"), "/spec/containers", twice))
        .await
        .invalid("Duplicate value: \"x\"");
    lab.post("pod", named("a")).await.has_code(422);
}

async fn a_pod_needs_its_account(lab: &CaseContext) {
    let body = with(pod("a"), "/spec/serviceAccountName", json!("nobody"));
    let words = format!(
        "pods \"a\" is forbidden: error looking up service account {}/nobody: serviceaccount \"nobody\" not found",
        lab.namespace()
    );
    lab.post("pod", body).await.refused(403, "Forbidden", &words);
}

async fn a_pod_is_checked(lab: &CaseContext) {
    let set = |pointer: &str, value: Value| with(pod("a"), pointer, value);
    for (pointer, value, words) in [
        (
            "/spec/restartPolicy",
            json!("Sometimes"),
            "spec.restartPolicy: Unsupported value",
        ),
        (
            "/spec/containers/0/imagePullPolicy",
            json!("Maybe"),
            "spec.containers[0].imagePullPolicy",
        ),
        (
            "/spec/activeDeadlineSeconds",
            json!(0),
            "spec.activeDeadlineSeconds",
        ),
        (
            "/spec/containers/0/env",
            json!([{"name": ""}]),
            "spec.containers[0].env[0].name",
        ),
        (
            "/spec/containers/0/ports",
            json!([{"containerPort": 0}]),
            "spec.containers[0].ports[0].containerPort",
        ),
        (
            "/spec/containers/0/volumeMounts",
            json!([{"name": "x", "mountPath": "/x"}]),
            "volumeMounts[0].name",
        ),
        (
            "/spec/volumes",
            json!([{"name": "x", "emptyDir": {}, "configMap": {"name": "y"}}]),
            "spec.volumes[0]",
        ),
        (
            "/spec/volumes",
            json!([{"name": "x", "emptyDir": {}}, {"name": "x", "emptyDir": {}}]),
            "Duplicate value",
        ),
        (
            "/spec/tolerations",
            json!([{"key": "a", "operator": "Odd"}]),
            "spec.tolerations[0].operator",
        ),
        ("/spec/nodeName", json!("A b"), "spec.nodeName"),
        ("/spec/terminationGracePeriodSeconds", json!(-1), ""),
    ] {
        let answer = lab.post("pod?dryRun=All", set(pointer, value)).await;
        assert!(answer.message().contains(words), "{pointer}: {}", answer.body);
    }
}

async fn running(lab: &CaseContext, name: &str) -> Answer {
    lab.given("pod", pod(name)).await;
    ready(lab, name).await
}

async fn ready(lab: &CaseContext, name: &str) -> Answer {
    let status = json!({"status": {"phase": "Running", "conditions": [
        {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    lab.quietly().merge(&format!("pod/{name}/status"), status).await
}

async fn a_pod_on_a_node_is_first_marked(lab: &CaseContext) {
    running(lab, "a").await;
    let marked = lab.delete("pod/a").await;
    marked
        .has_code(200)
        .has("/kind", "Pod")
        .has("/metadata/deletionGracePeriodSeconds", 30);
    lab.get("pod/a")
        .await
        .has_code(200)
        .has("/metadata/deletionGracePeriodSeconds", 30);
    lab.delete("pod/a?gracePeriodSeconds=0").await.has_code(200);
    lab.get("pod/a").await.has_code(404);
}

async fn a_shorter_grace_wins(lab: &CaseContext) {
    running(lab, "a").await;
    lab.delete_with("pod/a", json!({"gracePeriodSeconds": 20}))
        .await
        .has("/metadata/deletionGracePeriodSeconds", 20);
    lab.delete_with("pod/a", json!({"gracePeriodSeconds": 25}))
        .await
        .has("/metadata/deletionGracePeriodSeconds", 20);
    lab.delete_with("pod/a", json!({"gracePeriodSeconds": 5}))
        .await
        .has("/metadata/deletionGracePeriodSeconds", 5);
    lab.delete_with("pod/a", json!({"gracePeriodSeconds": -1})).await;
    lab.delete_with("pod/a", json!({"gracePeriodSeconds": 0}))
        .await
        .has_code(200);
    lab.get("pod/a").await.has_code(404);
}

async fn a_pod_that_ended_goes_at_once(lab: &CaseContext) {
    lab.given("pod", pod("a")).await;
    lab.quietly()
        .merge("pod/a/status", json!({"status": {"phase": "Succeeded"}}))
        .await
        .has_code(200);
    lab.delete("pod/a").await.has_code(200);
    lab.get("pod/a").await.has_code(404);
    lab.given("pod", pod("b")).await;
    lab.quietly()
        .merge("pod/b/status", json!({"status": {"phase": "Failed"}}))
        .await
        .has_code(200);
    lab.merge("pod/b", json!({"metadata": {"finalizers": ["example.com/x"]}}))
        .await
        .has_code(200);
    lab.delete("pod/b")
        .await
        .has_code(200)
        .has("/metadata/deletionGracePeriodSeconds", 0);
    lab.merge("pod/b", json!({"metadata": {"finalizers": null}}))
        .await
        .has_code(200);
    lab.get("pod/b").await.has_code(404);
}

async fn a_pod_is_deleted_with_a_precondition(lab: &CaseContext) {
    let made = running(lab, "a").await;
    lab.call(&made.uid(), "its uid");
    let other = json!({"preconditions": {"uid": "4a2c0b62-2f0e-4d4b-9a3e-111111111111"}});
    lab.delete_with("pod/a", other)
        .await
        .refused(409, "Conflict", "Pod \"a\"");
    let right = json!({"preconditions": {"uid": made.uid()}, "gracePeriodSeconds": 7});
    lab.delete_with("pod/a", right)
        .await
        .has_code(200)
        .has("/metadata/deletionGracePeriodSeconds", 7);
}

fn eviction(name: &str) -> Value {
    json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "{ns}"}})
}

async fn evict(lab: &CaseContext, name: &str) -> Answer {
    lab.post(&format!("pod/{name}/eviction"), eviction(name)).await
}

async fn an_eviction_marks_a_pod(lab: &CaseContext) {
    running(lab, "a").await;
    evict(lab, "a").await.has_code(201);
    let marked = lab.get("pod/a").await;
    marked
        .has_code(200)
        .has("/metadata/deletionGracePeriodSeconds", 30);
    let conditions = marked.at("/status/conditions");
    let found = conditions
        .as_array()
        .into_iter()
        .flatten()
        .find(|c| c["type"] == "DisruptionTarget")
        .cloned();
    let mut condition = found.clone().unwrap_or_default();
    condition["lastProbeTime"] = Value::Null;
    lab.say("the condition", condition);
    assert!(found.is_some(), "{conditions}");
    evict(lab, "a").await.has_code(201);
    let mut quick = eviction("b");
    quick["deleteOptions"] = json!({"gracePeriodSeconds": 3});
    running(lab, "b").await;
    lab.post("pod/b/eviction", quick).await.has_code(201);
    lab.get("pod/b")
        .await
        .has("/metadata/deletionGracePeriodSeconds", 3);
}

async fn an_eviction_of_what_is_missing_is_not_found(lab: &CaseContext) {
    evict(lab, "a")
        .await
        .refused(404, "NotFound", "pods \"a\" not found");
    lab.get("pod/a/eviction").await.has_code(405);
    lab.given("pod", pod("b")).await;
    lab.get("pod/b/eviction").await.has_code(405);
}

async fn an_eviction_is_checked(lab: &CaseContext) {
    running(lab, "a").await;
    lab.post("pod/a/eviction", eviction("b")).await.has_code(400);
    lab.post("pod/a/eviction", with(eviction("a"), "/kind", json!("Pod")))
        .await
        .has_code(400);
    lab.post(
        "pod/a/eviction",
        with(eviction("a"), "/apiVersion", json!("policy/v9")),
    )
    .await
    .has_code(400);
    lab.post(
        "pod/a/eviction",
        with(eviction("a"), "/metadata/namespace", json!("other")),
    )
    .await
    .has_code(400);
    lab.post("pod/a/eviction", json!({})).await.has_code(400);
    lab.get("pod/a").await.lacks("/metadata/deletionTimestamp");
}

async fn an_eviction_with_a_wrong_uid_conflicts(lab: &CaseContext) {
    let made = running(lab, "a").await;
    lab.call(&made.uid(), "its uid");
    let mut other = eviction("a");
    other["deleteOptions"] = json!({"preconditions": {"uid": "4a2c0b62-2f0e-4d4b-9a3e-111111111111"}});
    lab.post("pod/a/eviction", other).await.has_code(409);
    lab.get("pod/a").await.lacks("/metadata/deletionTimestamp");
}

async fn a_dry_run_of_an_eviction_does_nothing(lab: &CaseContext) {
    running(lab, "a").await;
    lab.post("pod/a/eviction?dryRun=All", eviction("a"))
        .await
        .has_code(201);
    let mut dry = eviction("a");
    dry["deleteOptions"] = json!({"dryRun": ["All"]});
    lab.post("pod/a/eviction", dry).await.has_code(201);
    lab.get("pod/a").await.lacks("/metadata/deletionTimestamp");
}

async fn guarded(lab: &CaseContext, count: usize, minimum: usize) {
    let budget = json!({"metadata": {"name": "budget"},
        "spec": {"minAvailable": minimum, "selector": {"matchLabels": {"app": "x"}}}});
    for i in 0..count {
        let name = format!("p{i}");
        lab.given("pod", with(pod(&name), "/metadata/labels/app", json!("x")))
            .await;
        ready(lab, &name).await.has_code(200);
    }
    lab.given("pdb", budget).await;
    let counted = |budget: &Answer| {
        budget.at("/status/currentHealthy") == json!(count)
            && budget.at("/status/observedGeneration") == json!(1)
    };
    let budget = lab.quietly().until("pdb/budget", counted).await;
    let mut status = budget.at("/status");
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        condition["lastTransitionTime"] = json!("then");
    }
    lab.say("status of the budget", status);
}

async fn a_budget_refuses_an_eviction(lab: &CaseContext) {
    guarded(lab, 2, 2).await;
    let refused = evict(lab, "p0").await;
    let words = "Cannot evict pod as it would violate the pod's disruption budget.";
    refused
        .refused(429, "TooManyRequests", words)
        .has("/details/causes/0/reason", "DisruptionBudget");
    lab.post("pod/p0/eviction?dryRun=All", eviction("p0"))
        .await
        .has_code(429);
    lab.get("pod/p0").await.lacks("/metadata/deletionTimestamp");
    lab.delete("pod/p0").await.has_code(200);
}

async fn a_budget_with_room_lets_one_go(lab: &CaseContext) {
    guarded(lab, 2, 1).await;
    evict(lab, "p0").await.has_code(201);
    // Both the eviction and the controller write the budget; until that one is through, it may say that it failed.
    let counted = |budget: &Answer| {
        budget.at("/status/currentHealthy") == json!(1)
            && budget.at("/status/conditions/0/reason") == json!("InsufficientPods")
    };
    lab.quietly().until("pdb/budget", counted).await;
    let refused = evict(lab, "p1").await;
    refused.refused(429, "TooManyRequests", "disruption budget");
}

async fn two_budgets_are_one_too_many(lab: &CaseContext) {
    guarded(lab, 1, 0).await;
    let second = json!({"metadata": {"name": "second"},
        "spec": {"minAvailable": 0, "selector": {"matchLabels": {"app": "x"}}}});
    lab.given("pdb", second).await;
    evict(lab, "p0").await.has_code(500);
}

async fn a_pod_that_has_not_begun_is_evicted_past_its_budget(lab: &CaseContext) {
    guarded(lab, 1, 1).await;
    lab.given("pod", with(pod("late"), "/metadata/labels/app", json!("x")))
        .await;
    lab.quietly()
        .merge(
            "pod/late/status",
            json!({"status": {"phase": "Pending", "conditions": null}}),
        )
        .await
        .has_code(200);
    evict(lab, "late").await.has_code(201);
    lab.given("pod", with(pod("done"), "/metadata/labels/app", json!("x")))
        .await;
    lab.quietly()
        .merge("pod/done/status", json!({"status": {"phase": "Failed"}}))
        .await
        .has_code(200);
    evict(lab, "done").await.has_code(201);
    lab.get("pod/done").await.has_code(404);
}

async fn a_pod_is_bound_once(lab: &CaseContext) {
    lab.given("pod", pod("a")).await;
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "a"},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "n"}});
    let refused = lab.post("pod/a/binding", binding).await;
    refused.refused(409, "Conflict", "pod a is already assigned to node \"nowhere\"");
}
