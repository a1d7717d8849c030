//! Deletions: preconditions, finalizers, collections, namespaces.

use serde_json::{Value, json};

use super::super::bodies::{config, execution, job, named, plan, workload};
use super::super::case_context::CaseContext;

super::cases!(
    a_deletion_is_answered_with_a_status,
    a_wrong_uid_in_the_precondition_saves_the_object,
    a_wrong_version_in_the_precondition_saves_the_object,
    right_preconditions_let_it_go,
    a_finalizer_holds_an_object_until_it_is_taken_away,
    a_deletion_under_way_is_begun_once,
    no_finalizer_is_added_in_deletion,
    an_object_in_deletion_can_be_changed,
    a_collection_is_deleted_by_selector,
    a_collection_is_deleted_but_for_what_is_held,
    a_bad_policy_is_refused,
    options_of_a_deletion_are_checked,
    a_namespace_goes_with_everything_in_it_and_takes_nothing_new,
    a_namespace_with_a_finalizer_stays,
    a_deleted_name_can_be_used_again,
    an_execution_is_held_by_its_finalizer,
    a_deletion_by_query_has_its_options,
    a_body_wins_over_the_query,
);

async fn a_deletion_is_answered_with_a_status(lab: &CaseContext) {
    lab.given("cm", named("a")).await;
    lab.delete("cm/a")
        .await
        .has_code(200)
        .has("/status", "Success")
        .has("/details/name", "a");
    lab.given("plan", plan("a", json!({"size": 1}))).await;
    lab.delete("plan/a")
        .await
        .has_code(200)
        .has("/details/group", "conformance.kubernaut.io");
    lab.given("secret", named("a")).await;
    lab.delete_with("secret/a", json!({})).await.has_code(200);
    lab.given("lease", named("a")).await;
    lab.delete_with("lease/a", json!({"propagationPolicy": "Background"}))
        .await
        .has_code(200);
    lab.given("role", named("a")).await;
    lab.delete("role/a").await.has_code(200);
    lab.given("deploy", workload("a", 0)).await;
    lab.delete("deploy/a").await.has_code(200);
    lab.given("node", named("{ns}")).await;
    lab.delete("node/{ns}").await.has_code(200);
    lab.delete("cm/a")
        .await
        .refused(404, "NotFound", "configmaps \"a\" not found");
}

async fn a_wrong_uid_in_the_precondition_saves_the_object(lab: &CaseContext) {
    let made = lab.given("cm", named("a")).await;
    let other = "4a2c0b62-2f0e-4d4b-9a3e-111111111111";
    let words = format!(
        "Operation cannot be fulfilled on ConfigMap \"a\": the UID in the precondition ({other}) does not match the UID \
         in record ({}). The object might have been deleted and then recreated",
        made.uid()
    );
    lab.call(&made.uid(), "its uid");
    let options = json!({"preconditions": {"uid": other}});
    lab.delete_with("cm/a", options.clone())
        .await
        .refused(409, "Conflict", &words);
    let made = lab.given("plan", plan("a", json!({"size": 1}))).await;
    lab.call(&made.uid(), "the uid of the plan");
    lab.delete_with("plan/a", options.clone()).await.refused(
        409,
        "Conflict",
        "Plan.conformance.kubernaut.io \"a\"",
    );
    let made = lab.given("job", job("a")).await;
    lab.call(&made.uid(), "the uid of the job");
    lab.delete_with("job/a", options.clone())
        .await
        .refused(409, "Conflict", "Job.batch \"a\"");
    let made = lab.given("deploy", workload("a", 0)).await;
    lab.call(&made.uid(), "the uid of the deployment");
    lab.delete_with("deploy/a", options).await.has_code(409);
    lab.delete_with("cm/b", json!({"preconditions": {"uid": other}}))
        .await
        .has_code(404);
    lab.get("cm/a").await.has_code(200);
}

async fn a_wrong_version_in_the_precondition_saves_the_object(lab: &CaseContext) {
    let made = lab.given("cm", named("a")).await;
    let changed = lab.quietly().merge("cm/a", json!({"data": {"k": "v"}})).await;
    lab.call(&made.version(), "first");
    lab.call(&changed.version(), "second");
    let options = json!({"preconditions": {"resourceVersion": made.version()}});
    lab.delete_with("cm/a", options).await.refused(
        409,
        "Conflict",
        "the ResourceVersion in the precondition",
    );
    let both = json!({"preconditions": {"resourceVersion": changed.version(), "uid": made.uid()}});
    lab.delete_with("cm/a", both).await.has_code(200);
}

async fn right_preconditions_let_it_go(lab: &CaseContext) {
    let made = lab.given("plan", plan("a", json!({"size": 1}))).await;
    let options = json!({"preconditions": {"uid": made.uid(), "resourceVersion": made.version()},
        "propagationPolicy": "Background"});
    lab.delete_with("plan/a", options).await.has_code(200);
    lab.get("plan/a").await.has_code(404);
}

fn held(name: &str) -> Value {
    json!({"metadata": {"name": name, "finalizers": ["example.com/hold"]}})
}

async fn a_finalizer_holds_an_object_until_it_is_taken_away(lab: &CaseContext) {
    lab.given("cm", held("a")).await;
    let held = lab.delete("cm/a").await;
    held.has_code(200)
        .has("/kind", "ConfigMap")
        .has("/metadata/deletionGracePeriodSeconds", 0);
    lab.get("cm/a").await.has_code(200);
    let gone = lab.merge("cm/a", json!({"metadata": {"finalizers": null}})).await;
    gone.has_code(200);
    lab.get("cm/a").await.has_code(404);
}

async fn a_deletion_under_way_is_begun_once(lab: &CaseContext) {
    lab.given("cm", held("a")).await;
    let first = lab.delete("cm/a").await;
    let again = lab.delete("cm/a").await;
    again
        .has_code(200)
        .has("/metadata/resourceVersion", first.version());
    let options = json!({"preconditions": {"uid": "4a2c0b62-2f0e-4d4b-9a3e-111111111111"}});
    lab.call(&first.uid(), "its uid");
    lab.delete_with("cm/a", options).await.has_code(409);
    lab.merge("cm/a", json!({"metadata": {"finalizers": []}}))
        .await
        .has_code(200);
    lab.get("cm/a").await.has_code(404);
}

async fn no_finalizer_is_added_in_deletion(lab: &CaseContext) {
    lab.given("cm", held("a")).await;
    lab.delete("cm/a").await.has_code(200);
    let words = "no new finalizers can be added if the object is being deleted, found new finalizers \
                 []string{\"example.com/more\"}";
    let more = json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}});
    lab.merge("cm/a", more).await.invalid(words);
    lab.merge("cm/a", json!({"metadata": {"finalizers": ["example.com/more"]}}))
        .await
        .invalid(words);
    let mut body = plan("a", json!({"size": 1}));
    body["metadata"]["finalizers"] = json!(["example.com/hold"]);
    lab.given("plan", body).await;
    lab.delete("plan/a").await.has_code(200);
    let two = json!({"metadata": {"finalizers": ["example.com/hold", "example.com/x", "example.com/y"]}});
    lab.merge("plan/a", two).await.has_code(422);
    for target in ["cm/a", "plan/a"] {
        lab.quietly()
            .merge(target, json!({"metadata": {"finalizers": null}}))
            .await
            .has_code(200);
    }
}

async fn an_object_in_deletion_can_be_changed(lab: &CaseContext) {
    lab.given("cm", held("a")).await;
    lab.delete("cm/a").await.has_code(200);
    lab.merge("cm/a", json!({"data": {"k": "v"}}))
        .await
        .has_code(200)
        .has("/data/k", "v");
    lab.merge("cm/a", json!({"metadata": {"deletionTimestamp": null}}))
        .await
        .has_code(200);
    lab.get("cm/a")
        .await
        .has("/metadata/deletionGracePeriodSeconds", 0);
    lab.merge("cm/a", json!({"metadata": {"deletionGracePeriodSeconds": 9}}))
        .await;
    lab.put("cm/a", config("a", json!({}))).await.has_code(200);
    lab.get("cm/a").await.has_code(404);
}

async fn a_collection_is_deleted_by_selector(lab: &CaseContext) {
    for name in ["a", "b", "c"] {
        let labels = json!({"metadata": {"name": name, "labels": {"name": name, "all": "yes"}}});
        lab.given("cm", labels).await;
    }
    lab.delete("cm?labelSelector=name%3Da").await.has_code(200);
    lab.delete("cm?labelSelector=none%3Da").await.has_code(200);
    assert_eq!(lab.get("cm?labelSelector=all").await.names(), ["b", "c"]);
    lab.delete("cm?labelSelector=all&dryRun=All").await.has_code(200);
    lab.delete_with(
        "cm?fieldSelector=metadata.name%3Db",
        json!({"propagationPolicy": "Background"}),
    )
    .await
    .has_code(200);
    assert_eq!(lab.get("cm?labelSelector=all").await.names(), ["c"]);
    lab.given("plan", plan("a", json!({"size": 1}))).await;
    lab.delete("plan").await.has_code(200);
    assert_eq!(lab.get("plan").await.names(), Vec::<String>::new());
}

async fn a_collection_is_deleted_but_for_what_is_held(lab: &CaseContext) {
    lab.given("secret", held("a")).await;
    lab.given("secret", named("b")).await;
    lab.delete("secret").await.has_code(200);
    let left = lab.get("secret").await;
    assert_eq!(left.names(), ["a"]);
    lab.merge("secret/a", json!({"metadata": {"finalizers": null}}))
        .await
        .has_code(200);
}

async fn a_bad_policy_is_refused(lab: &CaseContext) {
    lab.given("cm", named("a")).await;
    lab.delete_with("cm/a", json!({"propagationPolicy": "Sideways"}))
        .await
        .has_code(422);
    lab.delete("cm/a?propagationPolicy=Sideways").await.has_code(422);
    lab.delete_with(
        "cm/a",
        json!({"propagationPolicy": "Orphan", "orphanDependents": true}),
    )
    .await
    .has_code(422);
    lab.delete_with("cm/a", json!({"dryRun": ["Some"]}))
        .await
        .has_code(422);
    lab.get("cm/a").await.has_code(200);
}

async fn options_of_a_deletion_are_checked(lab: &CaseContext) {
    lab.given("cm", named("a")).await;
    lab.delete_with("cm/a", json!({"gracePeriodSeconds": "x"}))
        .await
        .has_code(400);
    lab.delete_with("cm/a", json!({"kind": "Pod", "apiVersion": "v1"}))
        .await
        .has_code(400);
    lab.delete_with("cm/a", json!([])).await.has_code(400);
    lab.delete_with("cm/a", json!({"unknown": 1, "gracePeriodSeconds": -5}))
        .await;
    lab.get("cm/a").await;
    lab.given("cm", named("b")).await;
    let typed = json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 10});
    lab.delete_with("cm/b", typed).await.has_code(200);
}

async fn a_namespace_goes_with_everything_in_it_and_takes_nothing_new(lab: &CaseContext) {
    lab.given("ns", named("{ns}-b")).await;
    let inside = "/api/v1/namespaces/{ns}-b/configmaps";
    let body = |name: &str, finalizers: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "finalizers": finalizers}});
    lab.given(inside, body("held", json!(["example.com/hold"]))).await;
    lab.given(inside, body("free", json!([]))).await;
    let gone = lab.delete("ns/{ns}-b").await;
    gone.has_code(200).has("/kind", "Namespace");
    let refused = lab.post(inside, body("new", json!([]))).await;
    let words = format!(
        "configmaps \"new\" is forbidden: unable to create new content in namespace {}-b because it is being terminated",
        lab.namespace()
    );
    refused
        .refused(403, "Forbidden", &words)
        .has("/details/causes/0/reason", "NamespaceTerminating");
    let execution = json!({"apiVersion": "conformance.kubernaut.io/v1", "kind": "Plan", "metadata": {"name": "x"},
        "spec": {"size": 1}});
    let plans = "/apis/conformance.kubernaut.io/v1/namespaces/{ns}-b/plans";
    lab.post(plans, execution)
        .await
        .refused(403, "Forbidden", "because it is being terminated");
    lab.until_gone("/api/v1/namespaces/{ns}-b/configmaps/free").await;
    lab.until("ns/{ns}-b", |answer| {
        answer.text("/status/phase") == "Terminating"
    })
    .await;
    lab.merge(
        "/api/v1/namespaces/{ns}-b/configmaps/held",
        json!({"metadata": {"finalizers": null}}),
    )
    .await
    .has_code(200);
    lab.until_gone("ns/{ns}-b").await;
}

async fn a_namespace_with_a_finalizer_stays(lab: &CaseContext) {
    lab.given(
        "ns",
        json!({"metadata": {"name": "{ns}-b", "finalizers": ["example.com/hold"]}}),
    )
    .await;
    lab.delete("ns/{ns}-b").await.has_code(200);
    lab.merge("ns/{ns}-b", json!({"metadata": {"finalizers": null}}))
        .await
        .has_code(200);
    lab.until_gone("ns/{ns}-b").await;
}

async fn a_deleted_name_can_be_used_again(lab: &CaseContext) {
    let first = lab.post("plan", plan("a", json!({"size": 1}))).await;
    lab.delete("plan/a").await.has_code(200);
    let second = lab.post("plan", plan("a", json!({"size": 2}))).await;
    assert_ne!(first.uid(), second.uid());
    second.has("/metadata/generation", 1);
}

async fn an_execution_is_held_by_its_finalizer(lab: &CaseContext) {
    let mut body = execution("a");
    body["metadata"]["finalizers"] = json!(["kubernaut.io/job-cleanup"]);
    lab.post("ke", body).await.has_code(201);
    lab.delete("ke/a")
        .await
        .has_code(200)
        .has("/metadata/generation", 2);
    let status = json!({"status": {"phase": "failed"}});
    lab.merge("ke/a/status", status)
        .await
        .has_code(200)
        .has("/status/phase", "failed");
    lab.merge("ke/a", json!({"metadata": {"finalizers": null}}))
        .await
        .has_code(200);
    lab.get("ke/a").await.has_code(404);
    lab.merge("ke/a/status", json!({"status": {}}))
        .await
        .has_code(404);
}

async fn a_deletion_by_query_has_its_options(lab: &CaseContext) {
    lab.given("plan", plan("a", json!({"size": 1}))).await;
    lab.delete("plan/a?propagationPolicy=Foreground&dryRun=All")
        .await
        .has_code(200);
    lab.delete("plan/a?gracePeriodSeconds=x").await;
    lab.delete("plan/a?gracePeriodSeconds=30&propagationPolicy=Background")
        .await;
    lab.get("plan/a").await;
}

async fn a_body_wins_over_the_query(lab: &CaseContext) {
    lab.given("plan", plan("a", json!({"size": 1}))).await;
    lab.delete_with(
        "plan/a?propagationPolicy=Foreground",
        json!({"propagationPolicy": "Background"}),
    )
    .await
    .has_code(200);
    lab.given("plan", plan("b", json!({"size": 1}))).await;
    lab.delete_with("plan/b?dryRun=All", json!({"propagationPolicy": "Background"}))
        .await
        .has_code(200);
    lab.get("plan/b").await;
}
