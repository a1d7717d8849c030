//! Watches.

use serde_json::{Value, json};

use super::super::backend::Backend;
use super::super::bodies::{config, named, plan, pod};
use super::super::case_context::CaseContext;

super::cases!(
    a_watch_goes_on_from_its_version,
    a_watch_without_a_version_begins_with_what_is_there,
    a_watch_from_zero_begins_with_what_is_there,
    an_object_that_comes_or_leaves_a_selector_is_added_or_deleted,
    an_object_that_leaves_a_field_selector_is_deleted,
    a_watch_of_one_object_hears_of_it_alone,
    a_watch_of_a_namespace_hears_of_it_alone,
    a_streaming_list_ends_with_its_bookmark,
    a_streaming_list_without_bookmarks_is_refused,
    a_watch_without_initial_events_begins_now,
    a_watch_ends_at_its_time_out,
    a_watch_from_a_forgotten_version_is_told_so,
    a_watch_with_a_bad_version_is_refused,
    a_watch_of_a_custom_resource_hears_of_its_status,
    a_deletion_with_a_finalizer_is_a_change_first,
    a_watch_hears_of_no_write_that_changed_nothing,
    both_event_apis_tell_of_an_event,
    a_watch_by_path_prefix_is_no_watch,
    a_pod_that_goes_is_told_with_its_last_state,
);

async fn version_of_list(lab: &CaseContext, target: &str) -> String {
    let version = lab.quietly().get(target).await.version();
    lab.call(&version, "then");
    version
}

async fn a_watch_goes_on_from_its_version(lab: &CaseContext) {
    let then = version_of_list(lab, "secret").await;
    lab.post("secret", named("a")).await.has_code(201);
    let mut watch = lab.watch(&format!("secret?resourceVersion={then}")).await;
    assert_eq!(watch.next(1).await, ["ADDED a"]);
    lab.merge("secret/a", json!({"data": {"k": "dg=="}}))
        .await
        .has_code(200);
    lab.delete("secret/a").await.has_code(200);
    assert_eq!(watch.next(2).await, ["MODIFIED a", "DELETED a"]);
}

async fn a_watch_without_a_version_begins_with_what_is_there(lab: &CaseContext) {
    lab.post("secret", named("b")).await.has_code(201);
    lab.post("secret", named("a")).await.has_code(201);
    let mut watch = lab.watch("secret").await;
    let mut first = watch.next(2).await;
    first.sort();
    assert_eq!(first, ["ADDED a", "ADDED b"]);
    lab.post("secret", named("c")).await.has_code(201);
    assert_eq!(watch.next(1).await, ["ADDED c"]);
}

async fn a_watch_from_zero_begins_with_what_is_there(lab: &CaseContext) {
    lab.given("plan", plan("a", json!({"size": 1}))).await;
    lab.until("plan?resourceVersion=0", |list| !list.names().is_empty())
        .await;
    let mut watch = lab.watch("plan?resourceVersion=0").await;
    assert_eq!(watch.next(1).await, ["ADDED a"]);
    lab.delete("plan/a").await.has_code(200);
    assert_eq!(watch.next(1).await, ["DELETED a"]);
}

async fn an_object_that_comes_or_leaves_a_selector_is_added_or_deleted(lab: &CaseContext) {
    let then = version_of_list(lab, "cm").await;
    let mut watch = lab
        .watch(&format!("cm?labelSelector=on%3Dyes&resourceVersion={then}"))
        .await;
    lab.given("cm", config("a", json!({"k": "0"}))).await;
    for (label, value) in [("yes", "1"), ("yes", "2"), ("no", "3"), ("yes", "4")] {
        let patch = json!({"metadata": {"labels": {"on": label}}, "data": {"k": value}});
        lab.quietly().merge("cm/a", patch).await.has_code(200);
    }
    lab.quietly().delete("cm/a").await.has_code(200);
    let seen = watch.next(5).await;
    assert_eq!(
        seen,
        ["ADDED a", "MODIFIED a", "DELETED a", "ADDED a", "DELETED a"]
    );
}

async fn an_object_that_leaves_a_field_selector_is_deleted(lab: &CaseContext) {
    let then = version_of_list(lab, "plan").await;
    let target = format!("plan?fieldSelector=status.phase%3Dearly&resourceVersion={then}");
    let mut watch = lab.watch(&target).await;
    lab.given("plan", plan("a", json!({"size": 1}))).await;
    for phase in ["early", "late"] {
        lab.quietly()
            .merge("plan/a/status", json!({"status": {"phase": phase}}))
            .await
            .has_code(200);
    }
    assert_eq!(watch.next(2).await, ["ADDED a", "DELETED a"]);
}

async fn a_watch_of_one_object_hears_of_it_alone(lab: &CaseContext) {
    let then = version_of_list(lab, "secret").await;
    let mut watch = lab
        .watch(&format!(
            "secret?fieldSelector=metadata.name%3Db&resourceVersion={then}"
        ))
        .await;
    lab.given("secret", named("a")).await;
    lab.given("secret", named("b")).await;
    assert_eq!(watch.next(1).await, ["ADDED b"]);
    // By its path an object is read, and not watched.
    lab.get("secret/b?watch=true")
        .await
        .has_code(200)
        .has("/kind", "Secret");
}

async fn a_watch_of_a_namespace_hears_of_it_alone(lab: &CaseContext) {
    lab.given("ns", named("{ns}-b")).await;
    let then = version_of_list(lab, "secret").await;
    let mut watch = lab.watch(&format!("secret?resourceVersion={then}")).await;
    let mut all = lab
        .watch(&format!(
            "/api/v1/secrets?labelSelector=case%3D{}&resourceVersion={then}",
            lab.namespace()
        ))
        .await;
    let body = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": name, "labels": {"case": "{ns}"}}})
    };
    lab.given("/api/v1/namespaces/{ns}-b/secrets", body("a")).await;
    lab.given("secret", body("b")).await;
    assert_eq!(watch.next(1).await, ["ADDED b"]);
    assert_eq!(all.next(2).await, ["ADDED a", "ADDED b"]);
    lab.quietly().delete("ns/{ns}-b").await.has_code(200);
}

const STREAMING: &str = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";

async fn a_streaming_list_ends_with_its_bookmark(lab: &CaseContext) {
    lab.given("plan", plan("a", json!({"size": 1}))).await;
    lab.given("plan", plan("b", json!({"size": 1}))).await;
    let mut watch = lab.watch(&format!("plan?{STREAMING}")).await;
    assert_eq!(watch.next(3).await, ["ADDED a", "ADDED b", "BOOKMARK"]);
    lab.given("plan", plan("c", json!({"size": 1}))).await;
    assert_eq!(watch.next(1).await, ["ADDED c"]);
    lab.given("secret", named("a")).await;
    let mut watch = lab.watch(&format!("secret?{STREAMING}")).await;
    assert_eq!(watch.next(2).await, ["ADDED a", "BOOKMARK"]);
    let mut empty = lab.watch(&format!("wfe?{STREAMING}")).await;
    assert_eq!(empty.next(1).await, ["BOOKMARK"]);
    let mut from = lab
        .watch(&format!("plan?{STREAMING}&resourceVersion=1&labelSelector=none"))
        .await;
    assert_eq!(from.next(1).await, ["BOOKMARK"]);
}

async fn a_streaming_list_without_bookmarks_is_refused(lab: &CaseContext) {
    let mut watch = lab
        .watch("plan?sendInitialEvents=true&allowWatchBookmarks=true")
        .await;
    assert_eq!(watch.next(1).await, ["Status 422"]);
    lab.given("plan", plan("a", json!({"size": 1}))).await;
    let target = "plan?sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    let mut watch = lab.watch(target).await;
    watch.next(1).await;
    let mut watch = lab
        .watch(&format!("plan?{}", STREAMING.replace("NotOlderThan", "Exact")))
        .await;
    assert_eq!(watch.next(1).await, ["Status 422"]);
}

async fn a_watch_without_initial_events_begins_now(lab: &CaseContext) {
    lab.given("secret", named("a")).await;
    let target = "secret?sendInitialEvents=false&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = lab.watch(target).await;
    lab.given("secret", named("b")).await;
    assert_eq!(watch.next(1).await, ["ADDED b"]);
}

async fn a_watch_ends_at_its_time_out(lab: &CaseContext) {
    let then = version_of_list(lab, "plan").await;
    lab.given("plan", plan("a", json!({"size": 1}))).await;
    let mut watch = lab
        .watch(&format!("plan?resourceVersion={then}&timeoutSeconds=1"))
        .await;
    assert_eq!(watch.rest().await, ["ADDED a"]);
    let mut watch = lab.watch("secret?timeoutSeconds=1").await;
    assert_eq!(watch.rest().await, Vec::<String>::new());
}

async fn a_watch_from_a_forgotten_version_is_told_so(lab: &CaseContext) {
    // The first version of all is older than what a server remembers after its start.
    if let Backend::Memory(memory) = lab.ground() {
        memory.compact();
    }
    let mut watch = lab.watch("ke?resourceVersion=1").await;
    let seen = watch.next_plain(1).await;
    let object = seen[0]["object"].clone();
    assert_eq!(
        (&object["code"], &object["reason"]),
        (&json!(410), &json!("Expired")),
        "{object}"
    );
    let message = object["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("too old resource version: 1 ("), "{message}");
    let mut object = object;
    object["message"] = Value::Null;
    lab.say("the event", json!([seen[0]["type"], object]));
    assert_eq!(watch.rest().await, Vec::<String>::new());
}

async fn a_watch_with_a_bad_version_is_refused(lab: &CaseContext) {
    for version in ["new", "-1"] {
        let mut watch = lab.watch(&format!("secret?resourceVersion={version}")).await;
        watch.next(1).await;
        let mut watch = lab.watch(&format!("plan?resourceVersion={version}")).await;
        watch.next(1).await;
    }
}

async fn a_watch_of_a_custom_resource_hears_of_its_status(lab: &CaseContext) {
    let made = lab.post("plan", plan("a", json!({"size": 1}))).await;
    lab.call(&made.version(), "then");
    let mut watch = lab
        .watch(&format!("plan?resourceVersion={}", made.version()))
        .await;
    lab.merge("plan/a/status", json!({"status": {"phase": "early"}}))
        .await
        .has_code(200);
    lab.merge("plan/a", json!({"metadata": {"labels": {"x": "y"}}}))
        .await
        .has_code(200);
    assert_eq!(watch.next(2).await, ["MODIFIED a", "MODIFIED a"]);
}

async fn a_deletion_with_a_finalizer_is_a_change_first(lab: &CaseContext) {
    let mut body = plan("a", json!({"size": 1}));
    body["metadata"]["finalizers"] = json!(["example.com/x"]);
    let made = lab.post("plan", body).await;
    lab.call(&made.version(), "then");
    let mut watch = lab
        .watch(&format!("plan?resourceVersion={}", made.version()))
        .await;
    lab.delete("plan/a").await.has_code(200);
    lab.merge("plan/a", json!({"metadata": {"finalizers": null}}))
        .await
        .has_code(200);
    assert_eq!(watch.next(2).await, ["MODIFIED a", "DELETED a"]);
}

async fn a_watch_hears_of_no_write_that_changed_nothing(lab: &CaseContext) {
    let made = lab.post("plan", plan("a", json!({"size": 1}))).await;
    lab.call(&made.version(), "then");
    let mut watch = lab
        .watch(&format!("plan?resourceVersion={}", made.version()))
        .await;
    lab.merge("plan/a", json!({"spec": {"size": 1}}))
        .await
        .has_code(200);
    lab.merge("plan/a?dryRun=All", json!({"spec": {"note": "x"}}))
        .await
        .has_code(200);
    lab.merge("plan/a", json!({"spec": {"note": "x"}}))
        .await
        .has_code(200);
    assert_eq!(watch.next(1).await, ["MODIFIED a"]);
    lab.delete("plan/a?dryRun=All").await.has_code(200);
    lab.delete("plan/a").await.has_code(200);
    assert_eq!(watch.next(1).await, ["DELETED a"]);
}

async fn both_event_apis_tell_of_an_event(lab: &CaseContext) {
    let then = version_of_list(lab, "event").await;
    let event = json!({"metadata": {"name": "e"}, "reason": "Test", "message": "m", "type": "Normal",
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "{ns}"}});
    let mut core = lab.watch(&format!("event?resourceVersion={then}")).await;
    let mut new = lab.watch(&format!("newevent?resourceVersion={then}")).await;
    lab.given("event", event).await;
    assert_eq!(core.next(1).await, ["ADDED e"]);
    assert_eq!(new.next(1).await, ["ADDED e"]);
}

async fn a_watch_by_path_prefix_is_no_watch(lab: &CaseContext) {
    lab.given("cm", named("a")).await;
    lab.get("cm/a?watch=false")
        .await
        .has_code(200)
        .has("/kind", "ConfigMap");
    lab.get("cm?watch=false&labelSelector=none")
        .await
        .has_code(200)
        .has("/kind", "ConfigMapList");
}

async fn a_pod_that_goes_is_told_with_its_last_state(lab: &CaseContext) {
    lab.given("pod", pod("a")).await;
    lab.quietly()
        .merge("pod/a/status", json!({"status": {"phase": "Running"}}))
        .await
        .has_code(200);
    let then = version_of_list(lab, "pod").await;
    let mut watch = lab.watch(&format!("pod?resourceVersion={then}")).await;
    lab.delete("pod/a").await.has_code(200);
    assert_eq!(watch.next(1).await, ["MODIFIED a"]);
    lab.delete("pod/a?gracePeriodSeconds=0").await.has_code(200);
    // The real server marks it once more before it goes.
    let mut seen = watch.next_plain(1).await;
    if seen[0]["type"] == "MODIFIED" {
        seen = watch.next_plain(1).await;
    }
    assert_eq!(seen[0]["type"], "DELETED", "{seen:?}");
}
