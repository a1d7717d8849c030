//! What a creation sets, and what it refuses.

use http::Method;
use serde_json::json;

use super::super::bodies::{config, job, named, pod, with, workload};
use super::super::case_context::{CaseContext, JSON};

super::cases!(
    a_created_object_has_what_the_server_sets,
    a_name_can_be_used_once,
    a_generated_name_begins_as_asked,
    a_name_is_needed,
    a_bad_name_is_refused,
    a_namespace_has_a_label_as_its_name,
    a_label_names_of_roles_may_be_odd,
    what_is_missing_is_not_found,
    a_namespace_that_is_missing_is_not_found,
    an_unknown_resource_is_404,
    an_unknown_subresource_is_404,
    a_wrong_kind_is_refused,
    a_wrong_version_is_refused,
    a_wrong_namespace_is_refused,
    a_version_is_not_set_at_creation,
    a_deletion_time_can_not_be_set,
    a_uid_of_the_client_is_ignored,
    bad_labels_are_refused,
    bad_annotations_are_refused,
    bad_finalizers_are_refused,
    bad_owners_are_refused,
    a_body_that_is_no_object_is_refused,
    a_body_of_another_media_type_is_refused,
    a_dry_run_stores_nothing,
    an_unknown_dry_run_is_refused,
    unknown_fields_are_dropped_or_refused_as_asked,
    duplicate_fields_are_refused_under_strict_validation,
    a_status_is_not_created,
    a_method_that_is_not_served_is_refused,
    a_wrong_type_is_refused,
);

async fn a_created_object_has_what_the_server_sets(lab: &CaseContext) {
    let made = lab.post("cm", config("a", json!({"k": "v"}))).await;
    made.has_code(201)
        .has("/data/k", "v")
        .lacks("/metadata/generation");
    lab.get("cm/a")
        .await
        .has_code(200)
        .has("/metadata/uid", made.uid());
}

async fn a_name_can_be_used_once(lab: &CaseContext) {
    lab.post("cm", named("a")).await.has_code(201);
    let again = lab.post("cm", named("a")).await;
    again.refused(409, "AlreadyExists", "configmaps \"a\" already exists");
    lab.post("deploy", workload("a", 0)).await.has_code(201);
    let again = lab.post("deploy", workload("a", 0)).await;
    again.refused(409, "AlreadyExists", "deployments.apps \"a\" already exists");
}

async fn a_generated_name_begins_as_asked(lab: &CaseContext) {
    let body = json!({"metadata": {"generateName": "x-"}});
    let one = lab.post("cm", body.clone()).await.text("/metadata/name");
    let two = lab.post("cm", body).await.text("/metadata/name");
    assert!(
        one.starts_with("x-") && one.len() == 7 && one != two,
        "{one} {two}"
    );
    lab.call(&one, "one");
    lab.call(&two, "two");
    let both = json!({"metadata": {"generateName": "x-", "name": "mine"}});
    lab.post("cm", both).await.has("/metadata/name", "mine");
    let long = json!({"metadata": {"generateName": "y".repeat(260)}});
    let refused = lab.quietly().post("cm", long).await;
    refused.invalid("metadata.generateName").invalid("253");
    let bad = json!({"metadata": {"generateName": "Bad_"}});
    let refused = lab.quietly().post("cm", bad).await;
    let name = refused.has_code(422).text("/details/name");
    lab.say("the message", json!(refused.message().replace(&name, "<name>")));
    assert!(
        refused.message().contains("metadata.name: Invalid value"),
        "{}",
        refused.body
    );
}

async fn a_name_is_needed(lab: &CaseContext) {
    let words = "name or generateName is required";
    lab.post("cm", json!({})).await.invalid(words);
    lab.post("cm", json!({"metadata": {"name": ""}}))
        .await
        .invalid(words);
    lab.post("ke", json!({"metadata": {}})).await.has_code(422);
}

async fn a_bad_name_is_refused(lab: &CaseContext) {
    for name in ["Not_Good", "-a", "a.", "a..b", "a/b"] {
        lab.post("cm", named(name))
            .await
            .invalid("metadata.name: Invalid value");
    }
    lab.post("cm", named(&"a".repeat(254))).await.invalid("253");
    lab.post("cm?dryRun=All", named("a.b-c.d")).await.has_code(201);
    lab.post("sa", named("A")).await.invalid("RFC 1123 subdomain");
    lab.post("deploy", with(workload("a", 0), "/metadata/name", json!("A")))
        .await
        .has_code(422);
    lab.post("pod", with(pod("a"), "/metadata/name", json!("A_b")))
        .await
        .has_code(422);
    lab.post("lease", named("A")).await.has_code(422);
    lab.post("node", named("A")).await.has_code(422);
    lab.post("secret", named("A")).await.has_code(422);
    lab.post("event", named("A b")).await.has_code(422);
}

async fn a_namespace_has_a_label_as_its_name(lab: &CaseContext) {
    lab.post("ns", named("a.b"))
        .await
        .invalid("must not contain dots");
    lab.post("ns", named(&"a".repeat(64))).await.invalid("63");
    let made = lab.get("ns/{ns}").await;
    made.has("/metadata/labels/kubernetes.io~1metadata.name", lab.namespace());
    made.has("/spec/finalizers", json!(["kubernetes"]));
    lab.post("ns", named("{ns}"))
        .await
        .refused(409, "AlreadyExists", "");
}

async fn a_label_names_of_roles_may_be_odd(lab: &CaseContext) {
    lab.post("role", named("a:B_c")).await.has_code(201);
    lab.post("role", named("a/b"))
        .await
        .invalid("may not contain '/'");
    lab.post("role", named("..")).await.has_code(422);
    lab.post("clusterrole", named("{ns}:x")).await.has_code(201);
    lab.delete("clusterrole/{ns}:x").await.has_code(200);
}

async fn what_is_missing_is_not_found(lab: &CaseContext) {
    lab.get("cm/a")
        .await
        .refused(404, "NotFound", "configmaps \"a\" not found");
    lab.get("deploy/a")
        .await
        .refused(404, "NotFound", "deployments.apps \"a\" not found");
    lab.get("deploy/a/scale")
        .await
        .refused(404, "NotFound", "deployments.apps \"a\" not found");
    lab.get("ke/a").await.has_code(404);
    lab.get("ke/a/status").await.has_code(404);
    lab.get("role/a").await.has_code(404);
    lab.get("clusterrole/{ns}").await.has_code(404);
    lab.get("node/{ns}").await.has_code(404);
    lab.put("cm/a", named("a")).await.has_code(404);
    lab.merge("cm/a", json!({})).await.has_code(404);
    lab.merge("ke/a/status", json!({})).await.has_code(404);
    lab.delete("cm/a").await.has_code(404);
    lab.put("ke/a", named("a")).await.has_code(404);
    lab.merge("deploy/a/scale", json!({"spec": {"replicas": 1}}))
        .await
        .has_code(404);
}

async fn a_namespace_that_is_missing_is_not_found(lab: &CaseContext) {
    let target = "/api/v1/namespaces/{ns}-no/configmaps";
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    let words = format!("namespaces \"{}-no\" not found", lab.namespace());
    lab.post(target, object.clone())
        .await
        .refused(404, "NotFound", &words);
    let item = "/api/v1/namespaces/{ns}-no/configmaps/a";
    lab.get(item)
        .await
        .refused(404, "NotFound", "configmaps \"a\" not found");
    lab.get(target).await.has_code(200).has("/items", json!([]));
    lab.delete(item).await.has_code(404);
    lab.post("/api/v1/configmaps", object).await.has_code(405);
}

async fn an_unknown_resource_is_404(lab: &CaseContext) {
    for path in [
        "/apis/nobody.io/v1/namespaces/{ns}/things/a",
        "/apis/nobody.io/v1/things",
        "/api/v1/namespaces/{ns}/things",
        "/apis/apps/v1/namespaces/{ns}/things/a",
        "/apis/apps/v2/namespaces/{ns}/deployments",
        "/apis/conformance.kubernaut.io/v1/namespaces/{ns}/things",
        "/apis/conformance.kubernaut.io/v2/namespaces/{ns}/plans",
        "/nothing",
    ] {
        lab.get(path).await.has_code(404);
    }
    let thing = json!({"apiVersion": "nobody.io/v1", "kind": "Thing", "metadata": {"name": "a"}});
    lab.post("/apis/nobody.io/v1/namespaces/{ns}/things", thing)
        .await
        .has_code(404);
    lab.get("/api/v1/namespaces/{ns}/nodes/a").await.has_code(404);
}

async fn an_unknown_subresource_is_404(lab: &CaseContext) {
    lab.given("cm", named("a")).await;
    lab.get("cm/a/status").await.has_code(404);
    lab.get("cm/a/scale").await.has_code(404);
    lab.given("plan", json!({"metadata": {"name": "a"}, "spec": {"size": 1}}))
        .await;
    lab.get("plan/a/scale").await.has_code(404);
    lab.get("plan/a/other").await.has_code(404);
}

async fn a_wrong_kind_is_refused(lab: &CaseContext) {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}});
    lab.post("cm", secret).await.refused(400, "BadRequest", "");
    let unknown = json!({"apiVersion": "v1", "kind": "Unheard", "metadata": {"name": "a"}});
    lab.post("cm", unknown).await.has_code(400);
    let plan = json!({"apiVersion": "conformance.kubernaut.io/v1", "kind": "Other", "metadata": {"name": "a"},
        "spec": {"size": 1}});
    lab.post("plan", plan)
        .await
        .invalid("kind: Invalid value: \"Other\": must be Plan");
}

async fn a_wrong_version_is_refused(lab: &CaseContext) {
    let old = json!({"apiVersion": "apps/v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    lab.post("cm", old).await.has_code(400);
    let none = json!({"apiVersion": "", "kind": "ConfigMap", "metadata": {"name": "a"}});
    lab.post("cm?dryRun=All", none).await.has_code(201);
    let none = json!({"apiVersion": "v1", "kind": "", "metadata": {"name": "b"}});
    lab.post("cm?dryRun=All", none).await.has_code(201);
    let plan = json!({"apiVersion": "conformance.kubernaut.io/v2", "kind": "Plan", "metadata": {"name": "a"},
        "spec": {"size": 1}});
    lab.post("plan", plan).await.has_code(400);
    let none = json!({"apiVersion": "", "kind": "Plan", "metadata": {"name": "a"}, "spec": {"size": 1}});
    lab.post("plan", none).await.has_code(400);
    let none = json!({"kind": "", "metadata": {"name": "a"}, "spec": {"size": 1}});
    lab.post("plan", none).await.has_code(400);
}

async fn a_wrong_namespace_is_refused(lab: &CaseContext) {
    let other = json!({"metadata": {"name": "a", "namespace": "other"}});
    let words = "the namespace of the provided object does not match the namespace sent on the request";
    lab.post("cm", other.clone())
        .await
        .refused(400, "BadRequest", words);
    lab.given("cm", named("a")).await;
    lab.put("cm/a", other).await.has_code(400);
    lab.put("cm/a", named("b"))
        .await
        .refused(400, "BadRequest", "the name of the object (b)");
    lab.merge("cm/a", json!({"metadata": {"name": "b"}}))
        .await
        .has_code(400);
    lab.merge("cm/a", json!({"metadata": {"namespace": "b"}}))
        .await
        .has_code(400);
}

async fn a_version_is_not_set_at_creation(lab: &CaseContext) {
    let body = json!({"metadata": {"name": "a", "resourceVersion": "5"}});
    let refused = lab.post("cm", body).await;
    refused.has_code(500);
    assert!(
        refused.message().contains("resourceVersion should not be set"),
        "{}",
        refused.body
    );
    let body = json!({"metadata": {"name": "a", "resourceVersion": "5"}, "spec": {"size": 1}});
    lab.post("plan", body).await.has_code(500);
}

async fn a_deletion_time_can_not_be_set(lab: &CaseContext) {
    let body = json!({"metadata": {
        "name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 5,
        "creationTimestamp": "2020-01-01T00:00:00Z", "selfLink": "/x",
    }});
    let made = lab.post("cm", body).await;
    made.has_code(201)
        .lacks("/metadata/deletionTimestamp")
        .lacks("/metadata/selfLink");
    assert!(!made.text("/metadata/creationTimestamp").starts_with("2020"));
    let patch = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    lab.merge("cm/a", patch)
        .await
        .lacks("/metadata/deletionTimestamp");
    let patch = json!({"metadata": {"creationTimestamp": null, "uid": null, "generation": 9}});
    lab.merge("cm/a", patch).await;
}

async fn a_uid_of_the_client_is_ignored(lab: &CaseContext) {
    let body = json!({"metadata": {"name": "a", "uid": "mine"}});
    let made = lab.post("cm", body).await;
    assert_eq!(made.has_code(201).uid().len(), 36);
}

async fn bad_labels_are_refused(lab: &CaseContext) {
    for labels in [
        json!({"a": "b c"}),
        json!({"a b": "c"}),
        json!({"a": "x".repeat(64)}),
        json!({"x".repeat(64): "a"}),
        json!({"A_/b": "c"}),
        json!({"a/b/c": "d"}),
        json!({"/b": "d"}),
        json!({"": "d"}),
        json!({"a": "-b"}),
    ] {
        let body = json!({"metadata": {"name": "a", "labels": labels}});
        lab.post("cm", body.clone()).await.invalid("metadata.labels");
        lab.post("plan", with(body, "/spec", json!({"size": 1})))
            .await
            .invalid("metadata.labels");
    }
    let body = json!({"metadata": {"name": "a", "labels": {"a": 1}}});
    lab.post("cm", body).await.has_code(400);
    let fine = json!({"metadata": {"name": "a", "labels": {"example.com/A_b.c": "", "x": "Y.z_0"}}});
    lab.post("cm?dryRun=All", fine).await.has_code(201);
}

async fn bad_annotations_are_refused(lab: &CaseContext) {
    let annotated = |value| json!({"metadata": {"name": "a", "annotations": value}});
    lab.post("cm", annotated(json!({"a b": "c"})))
        .await
        .invalid("metadata.annotations");
    lab.post("cm", annotated(json!({"a/b/c": "c"})))
        .await
        .invalid("metadata.annotations");
    lab.post("cm", annotated(json!({"A.B/c": "any thing"})))
        .await
        .has_code(201);
    let large = lab.post(
        "plan",
        with(
            annotated(json!({"a": "x".repeat(262_200)})),
            "/spec",
            json!({"size": 1}),
        ),
    );
    large.await.invalid("metadata.annotations: Too long");
    lab.post(
        "plan",
        with(annotated(json!({"a": null})), "/spec", json!({"size": 1})),
    )
    .await;
    lab.post(
        "plan?dryRun=All",
        with(annotated(json!({"a": 1})), "/spec", json!({"size": 1})),
    )
    .await
    .has_code(400);
}

async fn bad_finalizers_are_refused(lab: &CaseContext) {
    for finalizer in ["hold", "a b", "example.com/a b", "example.com/hold/on", ""] {
        let body = json!({"metadata": {"name": "a", "finalizers": [finalizer]}});
        lab.post("cm", body).await.invalid("metadata.finalizers");
    }
    let body = json!({"metadata": {"name": "a", "finalizers": ["example.com/hold", "example.com/hold"]}});
    lab.post("cm?dryRun=All", body).await;
    let body = json!({"metadata": {"name": "a", "finalizers": ["hold"]}, "spec": {"size": 1}});
    // Here the server only warns.
    lab.post("plan", body).await.has_code(201);
}

async fn bad_owners_are_refused(lab: &CaseContext) {
    let owner = |change: serde_json::Value| {
        let mut reference = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "u"});
        for (key, value) in change.as_object().into_iter().flatten() {
            reference[key] = value.clone();
        }
        reference
    };
    let body = |owners: serde_json::Value| json!({"metadata": {"name": "a", "ownerReferences": owners}});
    for change in [
        json!({"apiVersion": ""}),
        json!({"kind": ""}),
        json!({"name": ""}),
        json!({"uid": ""}),
    ] {
        lab.post("cm", body(json!([owner(change)])))
            .await
            .invalid("metadata.ownerReferences");
    }
    let event = owner(json!({"kind": "Event"}));
    lab.post("cm", body(json!([event])))
        .await
        .invalid("metadata.ownerReferences");
    let two = json!([
        owner(json!({"controller": true})),
        owner(json!({"controller": true, "name": "p", "uid": "v"}))
    ]);
    lab.post("cm", body(two))
        .await
        .invalid("Only one reference can have Controller set to true");
}

async fn a_body_that_is_no_object_is_refused(lab: &CaseContext) {
    lab.send(Method::POST, "cm", JSON, Vec::new()).await.has_code(400);
    lab.send(Method::POST, "plan", JSON, Vec::new())
        .await
        .has_code(400);
    for body in ["[]", "7", "{", "\"a\"", "{\"metadata\": 3}"] {
        let body = body.as_bytes().to_vec();
        lab.send(Method::POST, "cm", JSON, body.clone())
            .await
            .has_code(400);
        lab.send(Method::POST, "plan", JSON, body).await.has_code(400);
    }
    let typed = br#"{"kind":"ConfigMap","apiVersion":"v1","metadata":3}"#;
    lab.send(Method::POST, "cm", JSON, typed.to_vec())
        .await
        .has_code(400);
    let typed = br#"{"kind":"Plan","apiVersion":"conformance.kubernaut.io/v1","metadata":3}"#;
    lab.send(Method::POST, "plan", JSON, typed.to_vec())
        .await
        .has_code(400);
}

async fn a_body_of_another_media_type_is_refused(lab: &CaseContext) {
    let body = br#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"}}"#.to_vec();
    lab.send(Method::POST, "cm", "text/plain", body.clone())
        .await
        .has_code(415);
    lab.send(Method::POST, "cm", "", body).await.has_code(201);
    let yaml = b"{kind: ConfigMap, apiVersion: v1, metadata: {name: b}}".to_vec();
    lab.send(Method::POST, "cm", "application/yaml", yaml.clone())
        .await
        .has_code(201);
    lab.send(Method::POST, "cm", JSON, yaml).await.has_code(400);
}

async fn a_dry_run_stores_nothing(lab: &CaseContext) {
    lab.post("cm?dryRun=All", named("a")).await.has_code(201);
    lab.get("cm/a").await.has_code(404);
    lab.post(
        "plan?dryRun=All",
        json!({"metadata": {"name": "a"}, "spec": {"size": 1}}),
    )
    .await
    .has_code(201);
    lab.get("plan/a").await.has_code(404);
    lab.post("ns?dryRun=All", named("{ns}-dry")).await.has_code(201);
    lab.get("ns/{ns}-dry").await.has_code(404);
    lab.given("cm", config("b", json!({"k": "1"}))).await;
    lab.merge("cm/b?dryRun=All", json!({"data": {"k": "2"}}))
        .await
        .has_code(200)
        .has("/data/k", "2");
    lab.put("cm/b?dryRun=All", config("b", json!({"k": "3"})))
        .await
        .has("/data/k", "3");
    lab.delete("cm/b?dryRun=All").await.has_code(200);
    lab.delete_with("cm/b", json!({"dryRun": ["All"]}))
        .await
        .has_code(200);
    lab.get("cm/b").await.has_code(200).has("/data/k", "1");
    lab.post("cm?dryRun=All", named("b"))
        .await
        .refused(409, "AlreadyExists", "");
}

async fn an_unknown_dry_run_is_refused(lab: &CaseContext) {
    lab.post("cm?dryRun=Some", named("a")).await.has_code(422);
    lab.post("cm?dryRun=", named("a")).await;
    lab.post("cm?fieldValidation=Some", named("b"))
        .await
        .has_code(422);
    lab.given("cm", named("c")).await;
    lab.merge("cm/c?dryRun=Some", json!({})).await.has_code(422);
    lab.delete("cm/c?dryRun=Some").await.has_code(422);
}

async fn unknown_fields_are_dropped_or_refused_as_asked(lab: &CaseContext) {
    let mut body = workload("a", 0);
    body["spec"]["extra"] = json!(1);
    body["spec"]["template"]["spec"]["containers"][0]["other"] = json!({"a": 1});
    body["metadata"]["odd"] = json!("x");
    let words = "strict decoding error: unknown field";
    lab.post("deploy?fieldValidation=Strict", body.clone())
        .await
        .refused(400, "BadRequest", words);
    for validation in ["Warn", "Ignore"] {
        let target = format!("deploy?dryRun=All&fieldValidation={validation}");
        lab.post(&target, body.clone())
            .await
            .has_code(201)
            .lacks("/spec/extra");
    }
    lab.post("deploy", body).await.has_code(201).lacks("/spec/extra");
    let patch = json!({"spec": {"extra": 1}});
    lab.merge("deploy/a?fieldValidation=Strict", patch.clone())
        .await
        .has_code(422);
    lab.strategic("deploy/a?fieldValidation=Strict", patch.clone())
        .await
        .has_code(422);
    lab.merge("deploy/a", patch)
        .await
        .has_code(200)
        .lacks("/spec/extra");
    let plan = json!({"metadata": {"name": "a", "odd": "x"}, "spec": {"size": 2, "extra": 1}, "more": 1});
    lab.post("plan?fieldValidation=Strict", plan.clone())
        .await
        .refused(400, "BadRequest", words);
    lab.post("plan", plan)
        .await
        .has_code(201)
        .lacks("/spec/extra")
        .lacks("/more");
    let patch = json!({"spec": {"extra": 1}});
    lab.merge("plan/a?fieldValidation=Strict", patch.clone())
        .await
        .has_code(422);
    lab.merge("plan/a", patch)
        .await
        .has_code(200)
        .lacks("/spec/extra");
    let config = json!({"metadata": {"name": "c"}, "datta": {"a": "b"}});
    lab.post("cm?fieldValidation=Strict", config).await.has_code(400);
    let lease = json!({"metadata": {"name": "c"}, "spec": {"holder": "b"}});
    lab.post("lease?fieldValidation=Strict", lease)
        .await
        .has_code(400);
    let role = json!({"metadata": {"name": "c"}, "rules": [{"verbs": ["get"], "resource": ["b"]}]});
    lab.post("role?fieldValidation=Strict", role).await.has_code(400);
}

async fn duplicate_fields_are_refused_under_strict_validation(lab: &CaseContext) {
    let twice = br#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"},"data":{"a":"1"},"data":{"b":"2"}}"#;
    let target = "cm?fieldValidation=Strict";
    lab.send(Method::POST, target, JSON, twice.to_vec())
        .await
        .refused(400, "BadRequest", "duplicate field");
    let twice = br#"{"kind":"Plan","apiVersion":"conformance.kubernaut.io/v1","metadata":{"name":"a"},"spec":{"size":1,"size":2}}"#;
    let target = "plan?fieldValidation=Strict";
    lab.send(Method::POST, target, JSON, twice.to_vec())
        .await
        .refused(400, "BadRequest", "duplicate field");
}

async fn a_status_is_not_created(lab: &CaseContext) {
    let mut body = json!({"metadata": {"name": "a"}, "spec": {"size": 1}, "status": {"phase": "early"}});
    lab.post("plan", body.clone())
        .await
        .has_code(201)
        .lacks("/status");
    body["status"]["phase"] = json!("wrong");
    body["metadata"]["name"] = json!("b");
    lab.post("plan", body).await.has_code(201).lacks("/status");
    let mut body = workload("a", 0);
    body["status"] = json!({"replicas": 7});
    let made = lab.quietly().post("deploy", body).await;
    made.has_code(201).has("/status", json!({}));
    lab.say("status of the deployment", made.at("/status"));
}

async fn a_method_that_is_not_served_is_refused(lab: &CaseContext) {
    lab.given("cm", named("a")).await;
    lab.post("cm/a", named("a")).await.has_code(405);
    lab.put("cm", named("a")).await.has_code(405);
    lab.merge("cm", json!({})).await.has_code(405);
    lab.delete("review").await.has_code(405);
    lab.get("review").await.has_code(405);
    lab.given("plan", json!({"metadata": {"name": "a"}, "spec": {"size": 1}}))
        .await;
    lab.delete("plan/a/status").await.has_code(405);
}

async fn a_wrong_type_is_refused(lab: &CaseContext) {
    for (pointer, value) in [
        ("/spec/replicas", json!("three")),
        ("/spec/replicas", json!(1.5)),
        ("/spec/template/spec/containers", json!({})),
        ("/spec/template/spec/containers/0/name", json!(7)),
        ("/spec/paused", json!("yes")),
        ("/spec", json!([])),
    ] {
        lab.post("deploy", with(workload("a", 0), pointer, value))
            .await
            .refused(400, "BadRequest", "");
    }
    lab.post("job", with(job("a"), "/spec/backoffLimit", json!("x")))
        .await
        .has_code(400);
    lab.post("role", json!({"metadata": {"name": "a"}, "rules": {}}))
        .await
        .has_code(400);
}
