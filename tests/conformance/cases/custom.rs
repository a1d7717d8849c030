//! Custom resources: what their schemas let pass, drop, fill in and refuse.

use serde_json::{Value, json};

use super::super::bodies::{execution, plan, with, workflow};
use super::super::case_context::CaseContext;

super::cases!(
    defaults_are_filled_in,
    unknown_fields_are_dropped,
    unknown_fields_are_kept_where_the_schema_says_so,
    nulls_are_dropped_where_they_are_not_allowed,
    each_rule_of_a_number_is_told,
    each_rule_of_a_text_is_told,
    each_rule_of_a_list_is_told,
    each_rule_of_a_map_is_told,
    each_wrong_type_is_told,
    several_errors_are_all_told,
    one_of_and_any_of_are_told,
    rules_in_cel_are_told_with_their_field_and_reason,
    rules_between_versions_are_told,
    rules_are_not_asked_of_a_wrong_shape,
    an_old_error_is_told_again,
    a_status_is_checked_by_its_schema,
    our_kinds_have_their_defaults,
    our_statuses_are_taken_as_they_are,
    our_unknown_fields_are_dropped,
    our_kinds_refuse_strictly,
    a_spec_that_is_none_is_refused,
    numbers_keep_their_form,
);

async fn defaults_are_filled_in(lab: &CaseContext) {
    let made = lab.post("plan", plan("a", json!({"size": 3}))).await;
    made.has_code(201)
        .has("/spec", json!({"size": 3, "mode": "fast"}))
        .has("/metadata/generation", 1);
    let steps =
        json!([{"number": 1}, {"number": 2, "retry": {"times": 1}}, {"number": 3, "retry": {"pause": null}}]);
    let made = lab
        .post("plan", plan("b", json!({"size": 3, "steps": steps})))
        .await;
    made.has_code(201)
        .has("/spec/steps/0/retry", json!({"times": 3, "pause": "1s"}))
        .has("/spec/steps/1/retry", json!({"times": 1, "pause": "1s"}))
        .has("/spec/steps/2/retry/pause", "1s");
    lab.merge(
        "plan/b",
        json!({"spec": {"steps": [{"number": 1, "retry": null}]}}),
    )
    .await
    .has("/spec/steps/0/retry/times", 3);
}

async fn unknown_fields_are_dropped(lab: &CaseContext) {
    let mut body = plan(
        "a",
        json!({"size": 3, "extra": 1, "one": {"a": "x", "c": 1}, "steps": [{"number": 1, "odd": []}]}),
    );
    body["more"] = json!({"a": 1});
    body["status"] = json!({"phase": "early"});
    let made = lab.post("plan", body).await;
    made.has_code(201)
        .lacks("/spec/extra")
        .lacks("/more")
        .lacks("/spec/one/c")
        .lacks("/spec/steps/0/odd");
    lab.merge("plan/a", json!({"spec": {"extra": {"a": 1}}, "other": 1}))
        .await
        .has_code(200)
        .lacks("/spec/extra");
    lab.merge("plan/a/status", json!({"status": {"count": 1, "extra": 1}}))
        .await
        .lacks("/status/extra");
}

async fn unknown_fields_are_kept_where_the_schema_says_so(lab: &CaseContext) {
    let anything = json!({"a": {"b": [1, "x", null, {"c": null}]}, "d": null});
    let made = lab
        .post("plan", plan("a", json!({"size": 1, "anything": anything})))
        .await;
    made.has_code(201).has("/spec/anything/a/b/1", "x");
    lab.merge("plan/a", json!({"spec": {"anything": {"a": null, "e": 1.5}}}))
        .await
        .has("/spec/anything/e", 1.5);
}

async fn nulls_are_dropped_where_they_are_not_allowed(lab: &CaseContext) {
    let spec =
        json!({"size": 1, "mode": null, "note": null, "owner": null, "labels": {"a": "b"}, "steps": null});
    lab.post("plan", plan("a", spec)).await;
    lab.post("plan", plan("b", json!({"size": null})))
        .await
        .has_code(422);
    lab.post("plan", plan("c", json!({"size": 1, "labels": {"a": null}})))
        .await;
    lab.post("plan", plan("d", json!({"size": 1, "tags": [null]})))
        .await;
    lab.post(
        "plan",
        plan("e", json!({"size": 1, "steps": [{"number": 1, "name": null}]})),
    )
    .await;
}

async fn each_rule_of_a_number_is_told(lab: &CaseContext) {
    for (spec, words) in [
        (
            json!({"size": 0}),
            "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1",
        ),
        (
            json!({"size": 101}),
            "spec.size in body should be less than or equal to 100",
        ),
        (json!({"size": 3_000_000_000_u64}), "spec.size"),
        (json!({"size": 1.5}), "spec.size"),
        (json!({"size": -1}), "spec.size"),
        (json!({"size": 1, "ratio": 0}), "spec.ratio"),
        (json!({"size": 1, "ratio": -0.5}), "spec.ratio"),
    ] {
        lab.post("plan", plan("a", spec)).await.invalid(words);
    }
    lab.post("plan?dryRun=All", plan("a", json!({"size": 2.0, "ratio": 1})))
        .await
        .has_code(201);
    lab.post(
        "plan?dryRun=All",
        plan("a", json!({"size": 1, "ratio": 0.001, "port": 80})),
    )
    .await
    .has_code(201);
    lab.post("plan?dryRun=All", plan("a", json!({"size": 1, "port": "web"})))
        .await
        .has_code(201);
    lab.post("plan", plan("a", json!({"size": 1, "port": true})))
        .await
        .has_code(422);
    lab.post("plan", plan("a", json!({"size": 1, "port": 1.5})))
        .await
        .has_code(422);
}

async fn each_rule_of_a_text_is_told(lab: &CaseContext) {
    for (field, value, words) in [
        (
            "mode",
            "odd",
            "spec.mode: Unsupported value: \"odd\": supported values: \"fast\", \"slow\"",
        ),
        (
            "timeout",
            "soon",
            "spec.timeout: Invalid value: \"soon\": spec.timeout in body should match '^[0-9]+s$'",
        ),
        (
            "timeout",
            "12345678s",
            "spec.timeout: Too long: may not be more than 8 bytes",
        ),
        (
            "timeout",
            "s",
            "spec.timeout in body should be at least 2 chars long",
        ),
        ("timeout", "", "spec.timeout"),
        ("timeout", "äöüäöüäöü", "spec.timeout"),
        ("at", "yesterday", "spec.at"),
        ("at", "2026-01-01", "spec.at"),
        ("at", "", "spec.at"),
    ] {
        let mut spec = json!({"size": 1});
        spec[field] = json!(value);
        lab.post("plan", plan("a", spec)).await.invalid(words);
    }
    for at in [
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00.5+01:00",
        "2026-01-01t00:00:00z",
    ] {
        lab.post("plan?dryRun=All", plan("a", json!({"size": 1, "at": at})))
            .await;
    }
}

async fn each_rule_of_a_list_is_told(lab: &CaseContext) {
    let numbers = |numbers: &[u64]| {
        let steps: Vec<Value> = numbers.iter().map(|n| json!({"number": n})).collect();
        json!({"size": 9, "steps": steps})
    };
    for (spec, words) in [
        (numbers(&[1, 1]), "spec.steps[1]: Duplicate value: {\"number\":1}"),
        (
            numbers(&[1, 2, 3, 4]),
            "spec.steps: Too many: 4: must have at most 3 items",
        ),
        (
            json!({"size": 1, "steps": [{"name": "x"}]}),
            "spec.steps[0].number: Required value",
        ),
        (
            json!({"size": 1, "tags": ["a", "b", "a"]}),
            "spec.tags[2]: Duplicate value: \"a\"",
        ),
        (json!({"size": 1, "tags": []}), "spec.tags"),
        (
            json!({"size": 1, "tags": ["1", "2", "3", "4", "5"]}),
            "spec.tags: Too many: 5: must have at most 4 items",
        ),
        (json!({"size": 1, "tags": {"a": "b"}}), "spec.tags"),
        (json!({"size": 1, "tags": [1]}), "spec.tags[0]"),
    ] {
        lab.post("plan", plan("a", spec)).await.invalid(words);
    }
}

async fn each_rule_of_a_map_is_told(lab: &CaseContext) {
    for (labels, words) in [
        (
            json!({"a": "1", "b": "2", "c": "3"}),
            "spec.labels: Too many: 3: must have at most 2 items",
        ),
        (json!({}), "spec.labels in body should have at least 1 properties"),
        (json!({"a": "123456"}), "spec.labels.a: Too long"),
        (json!({"a": 1}), "spec.labels.a"),
        (json!(["a"]), "spec.labels"),
    ] {
        lab.post("plan", plan("a", json!({"size": 1, "labels": labels})))
            .await
            .invalid(words);
    }
    lab.post(
        "plan",
        plan("a", json!({"size": 1, "labels": {"a/b.c": "1234567"}})),
    )
    .await
    .has_code(422);
}

async fn each_wrong_type_is_told(lab: &CaseContext) {
    for (field, value) in [
        ("size", json!("x")),
        ("size", json!(true)),
        ("size", json!([])),
        ("mode", json!(1)),
        ("on", json!("yes")),
        ("steps", json!("x")),
        ("steps", json!(["x"])),
        ("labels", json!("x")),
        ("ratio", json!("x")),
        ("anything", json!(1)),
        ("note", json!({})),
        ("timeout", json!(5)),
    ] {
        let mut spec = json!({"size": 1});
        spec[field] = value;
        lab.post("plan", plan("a", spec))
            .await
            .invalid(&format!("spec.{field}"));
    }
    lab.post("plan", plan("a", json!("x"))).await.has_code(422);
    lab.post("plan", plan("a", json!([1]))).await.has_code(422);
}

async fn several_errors_are_all_told(lab: &CaseContext) {
    let spec =
        json!({"size": 0, "mode": "odd", "timeout": "soon", "tags": ["a", "a"], "labels": {"a": "123456"}});
    lab.post("plan", plan("a", spec))
        .await
        .invalid("spec.size")
        .invalid("spec.mode")
        .invalid("spec.labels.a");
    let spec = json!({"size": 0, "timeout": "soon"});
    lab.post("plan", plan("a", spec))
        .await
        .invalid("spec.size")
        .invalid("spec.timeout");
    let spec = json!({"size": 2, "steps": [{"number": 5}], "owner": "nobody", "small": 4});
    lab.post("plan", plan("a", spec))
        .await
        .invalid("a step is beyond the size")
        .invalid("nobody owns nothing");
    let mut body = plan("B_", json!({"size": 0}));
    body["metadata"]["labels"] = json!({"a": "b c"});
    lab.post("plan", body).await.invalid("metadata.name");
}

async fn one_of_and_any_of_are_told(lab: &CaseContext) {
    let none = "must validate one and only one schema (oneOf). Found none valid";
    lab.post("plan", plan("a", json!({"size": 1, "one": {}})))
        .await
        .invalid(none);
    let both = json!({"size": 1, "one": {"a": "x", "b": "y"}});
    lab.post("plan", plan("a", both))
        .await
        .invalid("must validate one and only one schema (oneOf)");
    let any = "must validate at least one schema (anyOf)";
    lab.post("plan", plan("a", json!({"size": 1, "any": {}})))
        .await
        .invalid(any);
    lab.post(
        "plan",
        plan(
            "a",
            json!({"size": 1, "one": {"a": "x"}, "any": {"a": "x", "b": "y"}}),
        ),
    )
    .await
    .has_code(201);
}

async fn rules_in_cel_are_told_with_their_field_and_reason(lab: &CaseContext) {
    let step = plan("a", json!({"size": 1, "steps": [{"number": 2}]}));
    lab.post("plan", step)
        .await
        .invalid("spec: Invalid value")
        .invalid("a step is beyond the size");
    let owner = plan("a", json!({"size": 1, "owner": "nobody"}));
    let refused = lab.post("plan", owner).await;
    refused
        .invalid("spec.owner: Forbidden: nobody owns nothing")
        .has("/details/causes/0/field", "spec.owner");
    lab.post("plan", plan("a", json!({"size": 3, "small": 4})))
        .await
        .invalid("small must be below the size");
    lab.post("plan", plan("a", json!({"size": 3, "small": 2, "owner": "me"})))
        .await
        .has_code(201);
}

async fn rules_between_versions_are_told(lab: &CaseContext) {
    lab.given("plan", plan("a", json!({"size": 2}))).await;
    lab.merge("plan/a", json!({"spec": {"size": 3}}))
        .await
        .invalid("spec: Invalid value")
        .invalid("size is immutable");
    lab.merge("plan/a", json!({"spec": {"note": "x"}}))
        .await
        .has_code(200);
    lab.merge("plan/a", json!({"spec": {"size": null}}))
        .await
        .invalid("spec.size: Required value");
    lab.merge(
        "plan/a/status",
        json!({"spec": {"size": 3}, "status": {"count": 1}}),
    )
    .await
    .has_code(200);
}

async fn rules_are_not_asked_of_a_wrong_shape(lab: &CaseContext) {
    let words = "some validation rules were not checked because the object was invalid";
    lab.post("plan", plan("a", json!({}))).await.invalid(words);
    lab.post("plan", plan("a", json!({"size": "x"})))
        .await
        .invalid(words);
    lab.post("plan", plan("a", json!({"size": 1, "mode": "odd"})))
        .await
        .invalid(words);
    let asked = json!({"size": 0, "owner": "nobody"});
    lab.post("plan", plan("a", asked))
        .await
        .invalid("nobody owns nothing");
    let asked = json!({"size": 1, "timeout": "soon", "owner": "nobody"});
    lab.post("plan", plan("a", asked))
        .await
        .invalid("nobody owns nothing");
    let asked = json!({"size": 1, "tags": ["a", "a"], "owner": "nobody"});
    lab.post("plan", plan("a", asked)).await.has_code(422);
}

async fn an_old_error_is_told_again(lab: &CaseContext) {
    lab.given("plan", plan("a", json!({"size": 2, "timeout": "5s"})))
        .await;
    let bad = json!({"spec": {"timeout": "soon"}});
    lab.merge("plan/a", bad.clone()).await.invalid("spec.timeout");
    lab.merge("plan/a", bad).await.invalid("spec.timeout");
    lab.merge("plan/a", json!({"spec": {"timeout": null}}))
        .await
        .has_code(200)
        .lacks("/spec/timeout");
}

async fn a_status_is_checked_by_its_schema(lab: &CaseContext) {
    lab.given("plan", plan("a", json!({"size": 2}))).await;
    lab.merge("plan/a/status", json!({"status": {"phase": "odd"}}))
        .await
        .invalid("status.phase: Unsupported value");
    lab.merge("plan/a/status", json!({"status": {"count": "x"}}))
        .await
        .invalid("status.count");
    lab.merge("plan/a/status", json!({"status": "x"}))
        .await
        .invalid("status");
    lab.merge("plan/a/status", json!({"status": {"count": 1.5}}))
        .await
        .has_code(422);
    lab.merge("plan/a/status", json!({"status": {"phase": null, "count": 3}}))
        .await
        .has_code(200);
}

async fn our_kinds_have_their_defaults(lab: &CaseContext) {
    lab.post("wfe", workflow("a"))
        .await
        .has_code(201)
        .has("/metadata/generation", 1);
    lab.post("ke", execution("a"))
        .await
        .has_code(201)
        .has("/spec/maxRetries", 2);
    let null = with(execution("b"), "/spec/timeout", json!("1m"));
    lab.post("ke", null).await.has_code(201);
}

async fn our_statuses_are_taken_as_they_are(lab: &CaseContext) {
    lab.given("wfe", workflow("a")).await;
    lab.given("ke", execution("a")).await;
    let status = json!({"status": {"phase": "executing", "message": "one",
        "phaseTransitions": [{"phase": "executing", "time": "2026-01-01T00:00:00Z"}]}});
    lab.merge("wfe/a/status", status.clone()).await;
    lab.merge(
        "ke/a/status",
        json!({"status": {"phase": "executing", "attempt": 1}}),
    )
    .await;
    lab.merge("ke/a/status", json!({"status": {"phase": "no such phase"}}))
        .await;
    lab.merge("wfe/a/status", json!({"status": {"phase": "no such phase"}}))
        .await;
    lab.merge("ke/a/status", json!({"status": {"attempt": "x"}}))
        .await
        .has_code(422);
    lab.merge("ke/a/status", json!({"status": {"startTime": "now"}}))
        .await;
}

async fn our_unknown_fields_are_dropped(lab: &CaseContext) {
    let body = with(workflow("a"), "/spec/unheard", json!({"a": 1}));
    lab.post("wfe", body).await.has_code(201).lacks("/spec/unheard");
    let body = with(
        workflow("b"),
        "/spec/workflowDefinition/steps/0/unheard",
        json!(1),
    );
    lab.post("wfe", body)
        .await
        .has_code(201)
        .lacks("/spec/workflowDefinition/steps/0/unheard");
    let body = with(execution("a"), "/spec/parameters/cordonNode/unheard", json!(1));
    lab.post("ke", body)
        .await
        .has_code(201)
        .lacks("/spec/parameters/cordonNode/unheard");
}

async fn our_kinds_refuse_strictly(lab: &CaseContext) {
    let body = with(
        workflow("a"),
        "/spec/workflowDefinition/steps/0/unheard",
        json!(1),
    );
    let words = "strict decoding error: unknown field \"spec.workflowDefinition.steps[0].unheard\"";
    lab.post("wfe?fieldValidation=Strict", body)
        .await
        .refused(400, "BadRequest", words);
    let body = with(with(execution("a"), "/spec/unheard", json!(1)), "/odd", json!(1));
    lab.post("ke?fieldValidation=Strict", body)
        .await
        .refused(400, "BadRequest", "strict decoding error");
    lab.given("ke", execution("a")).await;
    lab.merge("ke/a?fieldValidation=Strict", json!({"spec": {"unheard": 1}}))
        .await
        .has_code(422);
    lab.merge(
        "ke/a/status?fieldValidation=Strict",
        json!({"status": {"unheard": 1}}),
    )
    .await
    .has_code(422);
}

async fn a_spec_that_is_none_is_refused(lab: &CaseContext) {
    for kind in ["plan", "wfe", "ke"] {
        for spec in [Value::Null, json!("x"), json!([]), json!({})] {
            lab.post(kind, json!({"metadata": {"name": "a"}, "spec": spec}))
                .await
                .has_code(422);
        }
        lab.post(kind, json!({"metadata": {"name": "a"}}))
            .await
            .invalid("spec: Required value");
    }
}

async fn numbers_keep_their_form(lab: &CaseContext) {
    let spec = json!({"size": 2.0, "ratio": 1, "anything": {"a": 1.0, "b": 9_007_199_254_740_993_i64, "c": 1e3, "d": -0.0}});
    lab.post("plan", plan("a", spec)).await.has_code(201);
    lab.get("plan/a").await.has_code(200);
}
