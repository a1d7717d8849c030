//! What is stored of each small kind, and what is refused.

use serde_json::{Value, json};

use super::super::bodies::{config, named, with};
use super::super::case_context::CaseContext;

super::cases!(
    config_maps_have_keys_of_letters,
    secrets_take_plain_text,
    secrets_have_keys_and_base64,
    a_service_account_has_what_it_is_given,
    a_lease_has_micro_times,
    a_node_is_registered,
    roles_are_stored_as_they_are,
    a_role_needs_verbs_and_resources,
    a_binding_needs_a_role,
    a_binding_keeps_its_role,
    a_budget_is_stored_with_one_bound,
    an_event_is_seen_by_both_apis,
    an_old_event_is_seen_by_the_new_api,
    a_new_event_needs_an_action,
);

async fn config_maps_have_keys_of_letters(lab: &CaseContext) {
    lab.post("cm", config("a", json!({"a b": "c"})))
        .await
        .invalid("data[a b]");
    lab.post("cm", config("a", json!({"": "c"}))).await.has_code(422);
    lab.post("cm", config("a", json!({"..": "c"})))
        .await
        .has_code(422);
    lab.post("cm", config("a", json!({"x".repeat(254): "c"})))
        .await
        .has_code(422);
    lab.post("cm", config("a", json!({"a": 1}))).await.has_code(400);
    let both = json!({"metadata": {"name": "a"}, "data": {"k": "v"}, "binaryData": {"k": "AA=="}});
    lab.post("cm", both).await.has_code(422);
    let large = config("a", json!({"k": "x".repeat(1_048_577)}));
    lab.post("cm", large).await.has_code(422);
    let fine = json!({"metadata": {"name": "a"}, "data": {"A_b.c-d": ""}, "binaryData": {"k": "AA=="}});
    lab.post("cm", fine).await.has_code(201);
}

async fn secrets_take_plain_text(lab: &CaseContext) {
    let body =
        json!({"metadata": {"name": "a"}, "data": {"a": "eA==", "b": "eA=="}, "stringData": {"b": "y"}});
    let made = lab.post("secret", body).await;
    made.has_code(201)
        .has("/data", json!({"a": "eA==", "b": "eQ=="}))
        .lacks("/stringData")
        .has("/type", "Opaque");
    let patch = json!({"stringData": {"c": "z"}});
    lab.merge("secret/a", patch)
        .await
        .has_code(200)
        .has("/data/c", "eg==")
        .lacks("/stringData");
    lab.strategic("secret/a", json!({"data": {"a": null}}))
        .await
        .lacks("/data/a");
    lab.merge("secret/a", json!({"type": "other"}))
        .await
        .invalid("type");
}

async fn secrets_have_keys_and_base64(lab: &CaseContext) {
    lab.post(
        "secret",
        json!({"metadata": {"name": "a"}, "data": {"a": "no base64"}}),
    )
    .await
    .has_code(400);
    lab.post(
        "secret",
        json!({"metadata": {"name": "a"}, "data": {"a b": "eA=="}}),
    )
    .await
    .has_code(422);
    let made = json!({"metadata": {"name": "a"}, "data": {"a": "eA=="}, "immutable": true});
    lab.post("secret", made).await.has_code(201);
    lab.merge("secret/a", json!({"data": {"a": "eQ=="}}))
        .await
        .invalid("immutable");
    lab.merge("secret/a", json!({"immutable": false}))
        .await
        .invalid("immutable");
    lab.merge("secret/a", json!({"metadata": {"labels": {"a": "b"}}}))
        .await
        .has_code(200);
}

async fn a_service_account_has_what_it_is_given(lab: &CaseContext) {
    let body = json!({"metadata": {"name": "a"}, "automountServiceAccountToken": false,
        "imagePullSecrets": [{"name": "x"}]});
    lab.post("sa", body).await.has_code(201);
    lab.get("sa/a")
        .await
        .has_code(200)
        .has("/automountServiceAccountToken", false);
    lab.delete("sa/a").await.has_code(200);
}

async fn a_lease_has_micro_times(lab: &CaseContext) {
    let spec = json!({"holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.123456Z",
        "acquireTime": "2026-01-01T00:00:00.000000Z", "leaseTransitions": 0});
    let made = lab
        .post("lease", json!({"metadata": {"name": "a"}, "spec": spec}))
        .await;
    made.has_code(201)
        .has("/spec/renewTime", "2026-01-01T00:00:00.123456Z");
    let bad = json!({"metadata": {"name": "b"}, "spec": {"leaseDurationSeconds": 0}});
    lab.post("lease", bad).await.invalid("spec.leaseDurationSeconds");
    let bad = json!({"metadata": {"name": "b"}, "spec": {"renewTime": "today"}});
    lab.post("lease", bad).await.has_code(400);
    let bad = json!({"metadata": {"name": "b"}, "spec": {"leaseTransitions": -1}});
    lab.post("lease", bad).await.invalid("spec.leaseTransitions");
}

async fn a_node_is_registered(lab: &CaseContext) {
    let body = json!({"metadata": {"name": "{ns}", "labels": {"a": "b"}}, "spec": {"unschedulable": true}});
    lab.quietly()
        .post("node", body)
        .await
        .has_code(201)
        .has("/spec/unschedulable", true);
    let plain = lab
        .strategic("node/{ns}", json!({"spec": {"unschedulable": null}}))
        .await;
    plain.has_code(200).lacks("/spec/unschedulable");
    lab.merge("node/{ns}", json!({"spec": {"unschedulable": true}}))
        .await
        .has("/spec/unschedulable", true);
    lab.get("node?fieldSelector=metadata.name={ns}")
        .await
        .has_code(200);
    let mine = lab
        .get("node?fieldSelector=spec.unschedulable=true,metadata.name={ns}")
        .await;
    assert_eq!(mine.names(), [lab.namespace()]);
    lab.delete("node/{ns}").await.has_code(200);
}

async fn roles_are_stored_as_they_are(lab: &CaseContext) {
    let rules =
        json!([{"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["get", "patch"]}]);
    lab.post("role", json!({"metadata": {"name": "a"}, "rules": rules}))
        .await
        .has_code(201);
    let subjects = json!([{"kind": "ServiceAccount", "name": "x", "namespace": "{ns}"},
        {"kind": "User", "name": "u"}, {"kind": "Group", "name": "g"}]);
    let reference = json!({"kind": "Role", "name": "a", "apiGroup": "rbac.authorization.k8s.io"});
    let binding = json!({"metadata": {"name": "a"}, "subjects": subjects, "roleRef": reference});
    lab.post("binding", binding).await.has_code(201);
    lab.post("role", named("empty")).await.has_code(201);
}

async fn a_role_needs_verbs_and_resources(lab: &CaseContext) {
    for rule in [
        json!({"apiGroups": [""], "resources": ["pods"]}),
        json!({"apiGroups": [""], "verbs": ["get"]}),
        json!({"resources": ["pods"], "verbs": ["get"]}),
        json!({"nonResourceURLs": ["/x"], "verbs": ["get"]}),
    ] {
        lab.post("role", json!({"metadata": {"name": "a"}, "rules": [rule]}))
            .await
            .invalid("rules[0]");
    }
}

async fn a_binding_needs_a_role(lab: &CaseContext) {
    let role = |kind: &str, name: &str| {
        json!({"metadata": {"name": "a"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}})
    };
    lab.post("binding", named("a")).await.has_code(422);
    lab.post("binding", role("Role", ""))
        .await
        .invalid("roleRef.name");
    lab.post("binding", role("Other", "x"))
        .await
        .invalid("roleRef.kind");
    let mut subjects = role("Role", "x");
    subjects["subjects"] = json!([{"kind": "ServiceAccount", "name": "x"}]);
    lab.post("binding?dryRun=All", subjects.clone())
        .await
        .has_code(201);
    subjects["subjects"] = json!([{"kind": "Robot", "name": "x"}]);
    lab.post("binding", subjects).await.invalid("subjects[0].kind");
    lab.post("binding", role("Role", "not-there")).await.has_code(201);
}

async fn a_binding_keeps_its_role(lab: &CaseContext) {
    let binding = |name: &str| {
        json!({"metadata": {"name": "a"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}})
    };
    lab.given("binding", binding("x")).await;
    lab.put("binding/a", binding("y"))
        .await
        .invalid("cannot change roleRef");
}

async fn a_budget_is_stored_with_one_bound(lab: &CaseContext) {
    let budget = |spec: Value| json!({"metadata": {"name": "a"}, "spec": spec});
    let both = json!({"minAvailable": 1, "maxUnavailable": 1, "selector": {"matchLabels": {"a": "b"}}});
    lab.post("pdb", budget(both)).await.invalid("spec");
    lab.post("pdb", budget(json!({"minAvailable": -1})))
        .await
        .invalid("spec.minAvailable");
    lab.post("pdb", budget(json!({"minAvailable": "many"})))
        .await
        .has_code(422);
    let fine = json!({"minAvailable": "50%", "selector": {"matchLabels": {"a": "b"}}});
    lab.post("pdb", budget(fine))
        .await
        .has_code(201)
        .has("/metadata/generation", 1);
    let changed = lab.merge("pdb/a", json!({"spec": {"minAvailable": 2}})).await;
    changed.has_code(200).has("/metadata/generation", 2);
}

async fn an_event_is_seen_by_both_apis(lab: &CaseContext) {
    let event = json!({
        "metadata": {"name": "e"},
        "regarding": {"kind": "Pod", "name": "p", "namespace": "{ns}", "uid": "u"}, "note": "hello",
        "reason": "Test", "type": "Normal", "action": "Act", "reportingController": "example.com/c",
        "reportingInstance": "i", "eventTime": "2026-01-01T00:00:00.000001Z",
    });
    lab.post("newevent", event)
        .await
        .has_code(201)
        .has("/note", "hello");
    lab.get("event/e").await.has_code(200).has("/message", "hello");
    let seen = lab.get("event?fieldSelector=involvedObject.name=p").await;
    assert_eq!(seen.names(), ["e"]);
    let seen = lab
        .get("newevent?fieldSelector=regarding.name=p,type=Normal")
        .await;
    assert_eq!(seen.names(), ["e"]);
    let seen = lab.get("newevent?fieldSelector=regarding.name=q").await;
    assert_eq!(seen.names(), Vec::<String>::new());
    let series = json!({"series": {"count": 2, "lastObservedTime": "2026-01-01T00:01:00.000000Z"}});
    lab.merge("newevent/e", series).await.has_code(200);
    lab.merge("newevent/e", json!({"note": "other"}))
        .await
        .has_code(422);
}

async fn an_old_event_is_seen_by_the_new_api(lab: &CaseContext) {
    let event = json!({
        "metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p", "namespace": "{ns}"},
        "reason": "Test", "message": "hello", "type": "Warning", "count": 1,
        "source": {"component": "kubelet"}, "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:00:00Z",
    });
    lab.post("event", event.clone()).await.has_code(201);
    lab.get("newevent/e").await.has_code(200).has("/note", "hello");
    lab.merge("event/e", json!({"count": 2})).await.has_code(200);
    let elsewhere = with(event, "/involvedObject/namespace", json!("other"));
    lab.post("event", with(elsewhere, "/metadata/name", json!("f")))
        .await
        .invalid("involvedObject.namespace");
}

async fn a_new_event_needs_an_action(lab: &CaseContext) {
    let event = json!({
        "metadata": {"name": "e"}, "regarding": {"kind": "Pod", "name": "p", "namespace": "{ns}"},
        "reason": "Test", "type": "Normal", "action": "Act", "reportingController": "example.com/c",
        "reportingInstance": "i", "eventTime": "2026-01-01T00:00:00.000001Z",
    });
    for field in [
        "/action",
        "/reason",
        "/reportingController",
        "/reportingInstance",
        "/type",
        "/eventTime",
    ] {
        lab.post("newevent", with(event.clone(), field, json!(null)))
            .await
            .has_code(422);
    }
    lab.post("newevent", with(event, "/type", json!("Odd")))
        .await
        .invalid("type");
}
