//! Server-side apply.

use http::Method;
use serde_json::{Value, json};

use super::super::bodies::{config, named, plan, workload};
use super::super::case_context::{APPLY, CaseContext};

super::cases!(
    what_is_applied_is_made,
    an_apply_needs_a_manager,
    an_applied_field_of_another_manager_is_a_conflict,
    several_conflicts_are_all_told,
    a_forced_apply_takes_the_field_over,
    what_is_applied_no_more_goes,
    two_managers_may_own_the_same_value,
    what_was_written_by_hand_is_a_conflict,
    what_another_wrote_stays,
    a_list_is_applied_by_its_keys,
    a_list_of_a_custom_resource_is_applied_by_its_keys,
    an_applied_status_is_apart,
    an_apply_that_changes_nothing_keeps_the_version,
    an_apply_is_checked,
    an_apply_on_an_old_version_conflicts,
    an_apply_without_a_kind_is_refused,
    a_dry_run_of_an_apply_stores_nothing,
    unknown_fields_of_an_apply_are_refused,
    finalizers_and_owners_are_applied,
);

fn applied(data: Value) -> Value {
    config("a", data)
}

async fn what_is_applied_is_made(lab: &CaseContext) {
    lab.apply("cm/a?fieldManager=one", applied(json!({"k": "1"})))
        .await
        .has_code(201)
        .has("/data/k", "1");
    lab.apply("cm/a?fieldManager=one", applied(json!({"k": "2"})))
        .await
        .has_code(200)
        .has("/data/k", "2");
    lab.apply("plan/a?fieldManager=one", plan("a", json!({"size": 1})))
        .await
        .has_code(201)
        .has("/spec/mode", "fast");
    lab.apply("deploy/a?fieldManager=one", workload("a", 0))
        .await
        .has_code(201);
    let yaml = b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: b\ndata:\n  k: v\n".to_vec();
    lab.send(Method::PATCH, "cm/b?fieldManager=one", APPLY, yaml)
        .await
        .has_code(201);
    let other = b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\n".to_vec();
    lab.send(Method::PATCH, "cm/b?fieldManager=one", APPLY, other)
        .await
        .has_code(400);
}

async fn an_apply_needs_a_manager(lab: &CaseContext) {
    let words = "fieldManager: Required value: is required for apply patch";
    lab.apply("cm/a", applied(json!({})))
        .await
        .refused(422, "Invalid", words);
    let long = format!("cm/a?fieldManager={}", "x".repeat(129));
    lab.apply(&long, applied(json!({}))).await.has_code(422);
    lab.given("cm", named("b")).await;
    lab.merge("cm/b?force=true", json!({})).await.has_code(422);
}

async fn an_applied_field_of_another_manager_is_a_conflict(lab: &CaseContext) {
    lab.apply("cm/a?fieldManager=one", applied(json!({"k": "1"})))
        .await
        .has_code(201);
    let words = "Apply failed with 1 conflict: conflict with \"one\": .data.k";
    lab.apply("cm/a?fieldManager=two", applied(json!({"k": "2"})))
        .await
        .refused(409, "Conflict", words);
    lab.apply(
        "plan/a?fieldManager=one",
        plan("a", json!({"size": 1, "note": "x"})),
    )
    .await
    .has_code(201);
    let other = plan("a", json!({"size": 1, "note": "y"}));
    lab.apply("plan/a?fieldManager=two", other)
        .await
        .refused(409, "Conflict", ".spec.note");
}

async fn several_conflicts_are_all_told(lab: &CaseContext) {
    lab.apply("cm/a?fieldManager=one", applied(json!({"k": "1", "l": "1"})))
        .await
        .has_code(201);
    let refused = lab
        .apply("cm/a?fieldManager=two", applied(json!({"k": "2", "l": "2"})))
        .await;
    refused.refused(
        409,
        "Conflict",
        "Apply failed with 2 conflicts: conflicts with \"one\":\n- .data.k\n- .data.l",
    );
    lab.apply("cm/a?fieldManager=two", applied(json!({"m": "1"})))
        .await
        .has_code(200);
    let refused = lab
        .apply("cm/a?fieldManager=three", applied(json!({"l": "2", "m": "2"})))
        .await;
    refused.refused(409, "Conflict", "2 conflicts");
}

async fn a_forced_apply_takes_the_field_over(lab: &CaseContext) {
    lab.apply("cm/a?fieldManager=one", applied(json!({"k": "1"})))
        .await
        .has_code(201);
    lab.apply("cm/a?fieldManager=two&force=true", applied(json!({"k": "2"})))
        .await
        .has_code(200)
        .has("/data/k", "2");
    let words = "conflict with \"two\": .data.k";
    lab.apply("cm/a?fieldManager=one", applied(json!({"k": "1"})))
        .await
        .refused(409, "Conflict", words);
    // It has lost the field: to leave it out takes nothing away.
    lab.quietly()
        .apply("cm/a?fieldManager=one", applied(json!({})))
        .await
        .has_code(200)
        .has("/data/k", "2");
}

async fn what_is_applied_no_more_goes(lab: &CaseContext) {
    lab.apply("cm/a?fieldManager=one", applied(json!({"k": "1", "l": "1"})))
        .await
        .has_code(201);
    let left = lab
        .apply("cm/a?fieldManager=one", applied(json!({"l": "1"})))
        .await;
    left.has_code(200).has("/data", json!({"l": "1"}));
    let labelled = json!({"metadata": {"name": "a", "labels": {"x": "y"}}, "data": {"l": "1"}});
    lab.apply("cm/a?fieldManager=one", labelled)
        .await
        .has("/metadata/labels/x", "y");
    lab.apply("cm/a?fieldManager=one", applied(json!({"l": "1"})))
        .await
        .has_code(200)
        .lacks("/metadata/labels/x");
    lab.apply("cm/a?fieldManager=one", named("a"))
        .await
        .has_code(200)
        .lacks("/data/l");
}

async fn two_managers_may_own_the_same_value(lab: &CaseContext) {
    lab.apply("cm/a?fieldManager=one", applied(json!({"k": "1"})))
        .await
        .has_code(201);
    lab.apply("cm/a?fieldManager=two", applied(json!({"k": "1"})))
        .await
        .has_code(200);
    lab.apply("cm/a?fieldManager=one", applied(json!({})))
        .await
        .has_code(200)
        .has("/data/k", "1");
    lab.apply("cm/a?fieldManager=two", applied(json!({"k": "2"})))
        .await
        .has_code(200)
        .has("/data/k", "2");
    lab.apply("cm/a?fieldManager=two", applied(json!({})))
        .await
        .has_code(200)
        .lacks("/data/k");
}

async fn what_was_written_by_hand_is_a_conflict(lab: &CaseContext) {
    lab.apply("cm/a?fieldManager=one", applied(json!({"k": "1"})))
        .await
        .has_code(201);
    lab.merge("cm/a?fieldManager=hand", json!({"data": {"k": "2"}}))
        .await
        .has_code(200);
    let words = "conflict with \"hand\" using v1: .data.k";
    let refused = lab
        .apply("cm/a?fieldManager=one", applied(json!({"k": "1"})))
        .await;
    assert!(
        refused.message().contains("conflict with \"hand\""),
        "{}",
        refused.body
    );
    refused
        .refused(409, "Conflict", "Apply failed with 1 conflict")
        .refused(409, "Conflict", words.split(' ').next().unwrap_or(""));
    lab.given("cm?fieldManager=maker", config("b", json!({"k": "1"})))
        .await;
    lab.apply("cm/b?fieldManager=one", config("b", json!({"k": "2"})))
        .await
        .refused(409, "Conflict", "\"maker\"");
    lab.given("cm", config("c", json!({"k": "1"}))).await;
    // Without a name the manager is the beginning of the user agent.
    lab.apply("cm/c?fieldManager=one", config("c", json!({"k": "2"})))
        .await
        .has_code(409);
}

async fn what_another_wrote_stays(lab: &CaseContext) {
    lab.apply("cm/a?fieldManager=one", applied(json!({"k": "1"})))
        .await
        .has_code(201);
    lab.merge("cm/a?fieldManager=hand", json!({"data": {"l": "2"}}))
        .await
        .has_code(200);
    let left = lab.apply("cm/a?fieldManager=one", applied(json!({}))).await;
    left.has_code(200).has("/data", json!({"l": "2"}));
    lab.merge("cm/a?fieldManager=hand", json!({"data": null}))
        .await
        .has_code(200);
    lab.apply("cm/a?fieldManager=one", applied(json!({"l": "3"})))
        .await
        .has_code(200);
}

async fn a_list_is_applied_by_its_keys(lab: &CaseContext) {
    lab.given("deploy?fieldManager=maker", workload("a", 0)).await;
    let spec = |containers: Value| json!({"metadata": {"name": "a"}, "spec": {"template": {"spec": {"containers": containers}}}});
    let side = json!([{"name": "side", "image": "s:1"}]);
    let merged = lab.apply("deploy/a?fieldManager=one", spec(side)).await;
    merged.has_code(200);
    assert_eq!(
        merged
            .at("/spec/template/spec/containers")
            .as_array()
            .map(Vec::len),
        Some(2)
    );
    let image = json!([{"name": "app", "image": "other:1"}]);
    let words = ".spec.template.spec.containers[name=\"app\"].image";
    lab.apply("deploy/a?fieldManager=two", spec(image))
        .await
        .refused(409, "Conflict", words);
    let none = json!({"metadata": {"name": "a"}});
    let left = lab.apply("deploy/a?fieldManager=one", none).await;
    left.has_code(200);
    assert_eq!(
        left.at("/spec/template/spec/containers").as_array().map(Vec::len),
        Some(1)
    );
}

async fn a_list_of_a_custom_resource_is_applied_by_its_keys(lab: &CaseContext) {
    let steps = |steps: Value| plan("a", json!({"size": 9, "steps": steps}));
    lab.apply(
        "plan/a?fieldManager=one",
        steps(json!([{"number": 1, "name": "x"}])),
    )
    .await
    .has_code(201);
    let two = lab
        .apply("plan/a?fieldManager=two", steps(json!([{"number": 2}])))
        .await;
    two.has_code(200).has("/spec/steps/1/number", 2);
    let words = ".spec.steps[number=1].name";
    let clash = steps(json!([{"number": 1, "name": "y"}]));
    lab.apply("plan/a?fieldManager=two", clash)
        .await
        .refused(409, "Conflict", words);
    let left = lab
        .apply("plan/a?fieldManager=one", plan("a", json!({"size": 9})))
        .await;
    left.has_code(200).has("/spec/steps/0/number", 2);
    let tags = |tags: Value| plan("a", json!({"size": 9, "tags": tags}));
    lab.apply("plan/a?fieldManager=three", tags(json!(["a"])))
        .await
        .has_code(200);
    lab.apply("plan/a?fieldManager=four", tags(json!(["b"])))
        .await
        .has_code(200)
        .has("/spec/tags", json!(["a", "b"]));
    lab.apply("plan/a?fieldManager=three", tags(json!(["c"])))
        .await
        .has_code(200)
        .has("/spec/tags", json!(["b", "c"]));
}

async fn an_applied_status_is_apart(lab: &CaseContext) {
    lab.given("plan", plan("a", json!({"size": 1}))).await;
    let status = json!({"metadata": {"name": "a"}, "status": {"phase": "early"}});
    lab.apply("plan/a/status?fieldManager=one", status.clone())
        .await
        .has_code(200)
        .has("/status/phase", "early");
    let other = json!({"metadata": {"name": "a"}, "status": {"phase": "late"}});
    lab.apply("plan/a/status?fieldManager=two", other)
        .await
        .refused(409, "Conflict", ".status.phase");
    lab.apply("plan/a?fieldManager=one", status).await;
    lab.get("plan/a").await.has("/status/phase", "early");
    lab.apply(
        "plan/b/status?fieldManager=one",
        json!({"metadata": {"name": "b"}, "status": {}}),
    )
    .await
    .has_code(404);
}

async fn an_apply_that_changes_nothing_keeps_the_version(lab: &CaseContext) {
    let made = lab
        .apply("plan/a?fieldManager=one", plan("a", json!({"size": 1})))
        .await;
    let again = lab
        .apply("plan/a?fieldManager=one", plan("a", json!({"size": 1})))
        .await;
    again
        .has_code(200)
        .has("/metadata/resourceVersion", made.version());
    let made = lab
        .apply("cm/a?fieldManager=one", applied(json!({"k": "1"})))
        .await;
    let again = lab
        .apply("cm/a?fieldManager=one", applied(json!({"k": "1"})))
        .await;
    again
        .has_code(200)
        .has("/metadata/resourceVersion", made.version());
}

async fn an_apply_is_checked(lab: &CaseContext) {
    lab.apply("plan/a?fieldManager=one", plan("a", json!({"size": 0})))
        .await
        .invalid("spec.size");
    lab.apply("plan/a?fieldManager=one", plan("a", json!({"size": "x"})))
        .await;
    lab.apply("plan/a?fieldManager=one", plan("a", json!({"size": 1})))
        .await
        .has_code(201);
    lab.apply("plan/a?fieldManager=one", plan("a", json!({"size": 2})))
        .await
        .invalid("size is immutable");
    lab.apply(
        "deploy/a?fieldManager=one",
        json!({"metadata": {"name": "a"}, "spec": {"replicas": -1}}),
    )
    .await
    .has_code(422);
    lab.apply("cm/B_?fieldManager=one", named("B_"))
        .await
        .has_code(422);
}

async fn an_apply_on_an_old_version_conflicts(lab: &CaseContext) {
    let made = lab
        .apply("cm/a?fieldManager=one", applied(json!({"k": "1"})))
        .await;
    lab.apply("cm/a?fieldManager=one", applied(json!({"k": "2"})))
        .await
        .has_code(200);
    let mut old = applied(json!({"k": "3"}));
    old["metadata"]["resourceVersion"] = json!(made.version());
    lab.apply("cm/a?fieldManager=one", old)
        .await
        .refused(409, "Conflict", "the object has been modified");
    let mut managed = applied(json!({}));
    managed["metadata"]["managedFields"] = json!([{"manager": "x"}]);
    lab.apply("cm/a?fieldManager=one", managed).await.has_code(400);
    let mut new = config("b", json!({}));
    new["metadata"]["uid"] = json!("4a2c0b62-2f0e-4d4b-9a3e-111111111111");
    lab.apply("cm/b?fieldManager=one", new)
        .await
        .refused(409, "Conflict", "");
}

async fn an_apply_without_a_kind_is_refused(lab: &CaseContext) {
    let body = b"{metadata: {name: a}}".to_vec();
    lab.send(Method::PATCH, "cm/a?fieldManager=one", APPLY, body)
        .await
        .has_code(400);
    let body = b"{apiVersion: v1, kind: Secret, metadata: {name: a}}".to_vec();
    lab.send(Method::PATCH, "cm/a?fieldManager=one", APPLY, body)
        .await
        .has_code(400);
    for body in ["", "[]", "7", "{", "a: [", "\t"] {
        let answer = lab
            .quietly()
            .send(
                Method::PATCH,
                "cm/a?fieldManager=one",
                APPLY,
                body.as_bytes().to_vec(),
            )
            .await;
        lab.say(
            &format!("apply of {body:?}"),
            json!([answer.code, answer.at("/reason")]),
        );
    }
    let body = b"{apiVersion: v1, kind: ConfigMap}".to_vec();
    lab.send(Method::PATCH, "cm/b?fieldManager=one", APPLY, body)
        .await;
}

async fn a_dry_run_of_an_apply_stores_nothing(lab: &CaseContext) {
    lab.apply("cm/a?fieldManager=one&dryRun=All", applied(json!({"k": "1"})))
        .await
        .has_code(201);
    lab.get("cm/a").await.has_code(404);
    lab.apply("cm/a?fieldManager=one", applied(json!({"k": "1"})))
        .await
        .has_code(201);
    lab.apply(
        "cm/a?fieldManager=two&dryRun=All&force=true",
        applied(json!({"k": "2"})),
    )
    .await
    .has("/data/k", "2");
    lab.apply("cm/a?fieldManager=one", applied(json!({"k": "3"})))
        .await
        .has_code(200);
}

async fn unknown_fields_of_an_apply_are_refused(lab: &CaseContext) {
    let body = plan("a", json!({"size": 1, "extra": 2}));
    lab.apply("plan/a?fieldManager=one", body.clone()).await;
    let body = plan("b", json!({"size": 1, "extra": 2}));
    lab.apply("plan/b?fieldManager=one&fieldValidation=Strict", body)
        .await;
    let mut body = workload("a", 0);
    body["spec"]["extra"] = json!(1);
    lab.apply("deploy/a?fieldManager=one", body).await;
}

async fn finalizers_and_owners_are_applied(lab: &CaseContext) {
    let body = json!({"metadata": {"name": "a", "finalizers": ["example.com/a"]}});
    lab.apply("cm/a?fieldManager=one", body).await.has_code(201);
    let body = json!({"metadata": {"name": "a", "finalizers": ["example.com/b"]}});
    let both = lab.apply("cm/a?fieldManager=two", body).await;
    both.has_code(200)
        .has("/metadata/finalizers", json!(["example.com/a", "example.com/b"]));
    let left = lab.apply("cm/a?fieldManager=one", named("a")).await;
    left.has_code(200)
        .has("/metadata/finalizers", json!(["example.com/b"]));
    lab.apply("cm/a?fieldManager=two", named("a"))
        .await
        .has_code(200)
        .lacks("/metadata/finalizers");
}
