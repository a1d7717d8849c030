//! Patches of the three kinds.

use http::Method;
use serde_json::{Value, json};

use super::super::bodies::{config, named, plan, pod_spec, workload};
use super::super::case_context::{CaseContext, JSON, MERGE, OPERATIONS, STRATEGIC};

super::cases!(
    a_merge_patch_changes_the_named_keys_only,
    a_merge_patch_replaces_lists,
    a_strategic_patch_finds_containers_by_name,
    a_strategic_patch_merges_lists_by_their_keys,
    a_strategic_patch_deletes_items,
    a_strategic_patch_replaces_where_it_is_told_to,
    a_strategic_patch_needs_the_key,
    a_strategic_patch_of_a_custom_resource_is_refused,
    a_strategic_patch_replaces_tolerations,
    a_json_patch_is_all_or_nothing,
    a_json_patch_adds_moves_and_removes,
    a_json_patch_that_is_none_is_refused,
    a_json_patch_tests_the_version,
    a_json_patch_tests_that_nothing_is_there_by_null,
    a_patch_of_an_unknown_type_is_refused,
    a_patch_that_is_no_json_is_refused,
    a_patch_of_a_wrong_type_is_refused,
    a_scale_is_patched_apart,
    a_scale_is_replaced,
    a_patch_with_its_own_kind_is_taken,
);

async fn a_merge_patch_changes_the_named_keys_only(lab: &CaseContext) {
    lab.given("cm", config("a", json!({"k": "1", "l": "2"}))).await;
    let patched = lab
        .merge("cm/a", json!({"data": {"k": "3", "l": null, "m": null}}))
        .await;
    patched.has_code(200).has("/data", json!({"k": "3"}));
    lab.merge("cm/a", json!({"data": null}))
        .await
        .has_code(200)
        .lacks("/data");
    lab.merge("cm/a", json!({"data": {}})).await.has_code(200);
    lab.given(
        "plan",
        plan("a", json!({"size": 2, "labels": {"a": "1", "b": "2"}})),
    )
    .await;
    let patched = lab
        .merge("plan/a", json!({"spec": {"labels": {"a": null}, "mode": null}}))
        .await;
    patched
        .has_code(200)
        .has("/spec/labels", json!({"b": "2"}))
        .has("/spec/mode", "fast");
}

async fn a_merge_patch_replaces_lists(lab: &CaseContext) {
    lab.given("deploy", workload("a", 0)).await;
    let only = json!({"spec": {"template": {"spec": {"containers": [{"name": "b", "image": "b:1"}]}}}});
    let patched = lab.merge("deploy/a", only).await;
    patched
        .has_code(200)
        .has("/spec/template/spec/containers/0/name", "b");
    lab.merge(
        "deploy/a",
        json!({"spec": {"template": {"spec": {"containers": []}}}}),
    )
    .await
    .has_code(422);
    lab.merge(
        "deploy/a",
        json!({"spec": {"template": {"spec": {"containers": null}}}}),
    )
    .await
    .has_code(422);
}

fn template(spec: Value) -> Value {
    json!({"spec": {"template": {"spec": spec}}})
}

async fn a_strategic_patch_finds_containers_by_name(lab: &CaseContext) {
    lab.given("deploy", workload("a", 0)).await;
    let patch = json!({"spec": {"template": {
        "metadata": {"annotations": {"at": "now"}},
        "spec": {"containers": [{"name": "app", "image": "example/app:2"}, {"name": "side", "image": "s:latest"}]},
    }}});
    let patched = lab.strategic("deploy/a", patch).await;
    patched.has_code(200).has("/metadata/generation", 2);
    assert_eq!(
        patched
            .at("/spec/template/spec/containers")
            .as_array()
            .map(Vec::len),
        Some(2)
    );
}

async fn a_strategic_patch_merges_lists_by_their_keys(lab: &CaseContext) {
    lab.given("deploy", workload("a", 0)).await;
    let first = json!({
        "containers": [{"name": "app", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
            "ports": [{"containerPort": 80}], "args": ["x", "y"],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
        "volumes": [{"name": "v", "emptyDir": {}}],
        "imagePullSecrets": [{"name": "s"}],
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a"]}],
    });
    lab.strategic("deploy/a", template(first)).await.has_code(200);
    let second = json!({
        "containers": [{"name": "app", "env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}],
            "ports": [{"containerPort": 80, "name": "web"}, {"containerPort": 81}], "args": ["z"],
            "volumeMounts": [{"name": "w", "mountPath": "/w"}]}],
        "volumes": [{"name": "w", "configMap": {"name": "c"}}],
        "imagePullSecrets": [{"name": "t"}],
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["b"]}],
    });
    let patched = lab.strategic("deploy/a", template(second)).await;
    patched.has_code(200);
    let env = patched.at("/spec/template/spec/containers/0/env");
    assert_eq!(env.as_array().map(Vec::len), Some(3), "{env}");
}

async fn a_strategic_patch_deletes_items(lab: &CaseContext) {
    lab.given("deploy", workload("a", 0)).await;
    let more = json!({"containers": [{"name": "side", "image": "s:1"}, {"name": "app",
        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}]});
    lab.strategic("deploy/a", template(more)).await.has_code(200);
    let less = json!({"containers": [{"name": "side", "$patch": "delete"},
        {"name": "app", "env": [{"name": "A", "$patch": "delete"}]}]});
    let patched = lab.strategic("deploy/a", template(less)).await;
    patched.has_code(200).has(
        "/spec/template/spec/containers/0/env",
        json!([{"name": "B", "value": "2"}]),
    );
    let none = json!({"containers": [{"name": "other", "$patch": "delete"}]});
    lab.strategic("deploy/a", template(none)).await.has_code(200);
    let finalizers = json!({"metadata": {"finalizers": ["example.com/a", "example.com/b"]}});
    lab.strategic("deploy/a", finalizers).await.has_code(200);
    let less = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/a"]}});
    lab.strategic("deploy/a", less)
        .await
        .has("/metadata/finalizers", json!(["example.com/b"]));
    lab.strategic("deploy/a", json!({"metadata": {"finalizers": null}}))
        .await
        .lacks("/metadata/finalizers");
}

async fn a_strategic_patch_replaces_where_it_is_told_to(lab: &CaseContext) {
    lab.given("deploy", workload("a", 0)).await;
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    lab.strategic("deploy/a", patch)
        .await
        .has_code(200)
        .has("/spec/strategy", json!({"type": "Recreate"}));
    let patch = template(json!({"containers": [{"name": "b", "image": "b:1"}, {"$patch": "replace"}]}));
    let patched = lab.strategic("deploy/a", patch).await;
    patched
        .has_code(200)
        .has("/spec/template/spec/containers/0/name", "b");
    let patch = json!({"metadata": {"labels": {"$patch": "replace", "x": "y"}}});
    lab.strategic("deploy/a", patch)
        .await
        .has_code(200)
        .has("/metadata/labels", json!({"x": "y"}));
    let order = template(
        json!({"$setElementOrder/containers": [{"name": "c"}, {"name": "b"}],
        "containers": [{"name": "c", "image": "c:1"}]}),
    );
    let patched = lab.strategic("deploy/a", order).await;
    patched
        .has_code(200)
        .has("/spec/template/spec/containers/0/name", "c");
}

async fn a_strategic_patch_needs_the_key(lab: &CaseContext) {
    lab.given("deploy", workload("a", 0)).await;
    let patch = template(json!({"containers": [{"image": "b:1"}]}));
    let refused = lab.strategic("deploy/a", patch).await;
    assert!(
        refused
            .message()
            .contains("does not contain declared merge key: name"),
        "{}",
        refused.body
    );
    lab.strategic("deploy/a", template(json!({"containers": "x"})))
        .await;
    lab.strategic("deploy/a", json!({"spec": "x"})).await;
}

async fn a_strategic_patch_of_a_custom_resource_is_refused(lab: &CaseContext) {
    lab.given("plan", plan("a", json!({"size": 1}))).await;
    lab.strategic("plan/a", json!({"spec": {"note": "x"}}))
        .await
        .refused(415, "UnsupportedMediaType", "");
    lab.strategic("plan/a/status", json!({"status": {"count": 1}}))
        .await
        .has_code(415);
}

async fn a_strategic_patch_replaces_tolerations(lab: &CaseContext) {
    lab.given("deploy", workload("a", 0)).await;
    let tolerations = |key: &str| template(json!({"tolerations": [{"key": key, "operator": "Exists"}]}));
    lab.strategic("deploy/a", tolerations("x")).await.has_code(200);
    let patched = lab.strategic("deploy/a", tolerations("y")).await;
    patched.has(
        "/spec/template/spec/tolerations",
        json!([{"key": "y", "operator": "Exists"}]),
    );
    lab.given("node", named("{ns}")).await;
    let taint = |key: &str| json!({"spec": {"taints": [{"key": key, "effect": "NoSchedule"}]}});
    lab.strategic("node/{ns}", taint("x")).await.has_code(200);
    lab.strategic("node/{ns}", taint("y")).await.has_code(200);
    lab.quietly().delete("node/{ns}").await.has_code(200);
}

async fn a_json_patch_is_all_or_nothing(lab: &CaseContext) {
    lab.given("cm", config("a", json!({"k": "1"}))).await;
    let words = "the server rejected our request due to an error in our request";
    let patch = json!([
        {"op": "replace", "path": "/data/k", "value": "2"},
        {"op": "test", "path": "/data/k", "value": "1"},
    ]);
    lab.operations("cm/a", patch).await.invalid(words);
    for operation in [
        json!({"op": "remove", "path": "/data/l"}),
        json!({"op": "test", "path": "/data/l", "value": "1"}),
        json!({"op": "add", "path": "/more/l", "value": "1"}),
        json!({"op": "move", "from": "/data/l", "path": "/data/m"}),
        json!({"op": "add", "path": "/data/l", "value": 1}),
    ] {
        lab.operations("cm/a", json!([operation])).await;
    }
    lab.get("cm/a").await.has("/data", json!({"k": "1"}));
    // What is not there is replaced all the same, as the server's library has it.
    let replace = json!([{"op": "replace", "path": "/data/l", "value": "1"}]);
    lab.operations("cm/a", replace)
        .await
        .has_code(200)
        .has("/data/l", "1");
    lab.given("deploy", workload("a", 1)).await;
    let test = json!([{"op": "test", "path": "/spec/replicas", "value": 5},
        {"op": "replace", "path": "/spec/replicas", "value": 2}]);
    lab.operations("deploy/a/scale", test).await.invalid(words);
    lab.operations(
        "deploy/a",
        json!([{"op": "test", "path": "/spec/replicas", "value": 5}]),
    )
    .await
    .invalid(words);
}

async fn a_json_patch_tests_that_nothing_is_there_by_null(lab: &CaseContext) {
    lab.given("cm", config("a", json!({"k": "1"}))).await;
    let nothing = |path: &str| json!([{"op": "test", "path": path, "value": null}, {"op": "add", "path": "/data/l", "value": "2"}]);
    let words = "the server rejected our request due to an error in our request";
    lab.operations("cm/a", nothing("/data/k")).await.invalid(words);
    lab.operations("cm/a", nothing("/more/l")).await.invalid(words);
    lab.operations("cm/a", nothing("/data/l"))
        .await
        .has_code(200)
        .has("/data/l", "2");
    lab.operations("cm/a", nothing("/data/l")).await.invalid(words);
    let uid = lab.get("cm/a").await.uid();
    let with_uid = |uid: &str| json!([{"op": "test", "path": "/metadata/uid", "value": uid}, {"op": "remove", "path": "/data/l"}]);
    lab.operations("cm/a", with_uid("another")).await.invalid(words);
    lab.operations("cm/a", with_uid(&uid))
        .await
        .has_code(200)
        .lacks("/data/l");
    // A scale has no zero.
    let made = lab.given("deploy", workload("a", 0)).await;
    let zero = |value: Value| {
        json!([{"op": "test", "path": "/metadata/uid", "value": made.uid()},
        {"op": "test", "path": "/spec/replicas", "value": value}, {"op": "add", "path": "/spec/replicas", "value": 1}])
    };
    lab.operations("deploy/a/scale", zero(json!(0)))
        .await
        .invalid(words);
    lab.operations("deploy/a/scale", zero(json!(null)))
        .await
        .has_code(200)
        .has("/spec/replicas", 1);
}

async fn a_json_patch_adds_moves_and_removes(lab: &CaseContext) {
    lab.given("cm", config("a", json!({"k": "1", "l": "2"}))).await;
    let patch = json!([
        {"op": "test", "path": "/data/k", "value": "1"},
        {"op": "move", "from": "/data/k", "path": "/data/m"},
        {"op": "copy", "from": "/data/l", "path": "/data/n"},
        {"op": "remove", "path": "/data/l"},
        {"op": "add", "path": "/metadata/labels", "value": {}},
        {"op": "add", "path": "/metadata/labels/a~1b", "value": "c"},
    ]);
    lab.operations("cm/a", patch)
        .await
        .has_code(200)
        .has("/data", json!({"m": "1", "n": "2"}));
    lab.given("deploy", workload("a", 0)).await;
    let patch = json!([
        {"op": "add", "path": "/spec/template/spec/containers/-", "value": {"name": "b", "image": "b:1"}},
        {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "a:2"},
    ]);
    lab.operations("deploy/a", patch).await.has_code(200);
    lab.given("plan", plan("a", json!({"size": 3}))).await;
    let patch = json!([{"op": "add", "path": "/spec/steps", "value": [{"number": 1}]}]);
    lab.operations("plan/a", patch)
        .await
        .has_code(200)
        .has("/spec/steps/0/retry/times", 3);
    let gone = json!([{"op": "remove", "path": "/spec/size"}]);
    lab.operations("plan/a", gone)
        .await
        .invalid("spec.size: Required value");
}

async fn a_json_patch_that_is_none_is_refused(lab: &CaseContext) {
    lab.given("cm", named("a")).await;
    lab.operations("cm/a", json!({"op": "add"}))
        .await
        .refused(400, "BadRequest", "");
    lab.operations("cm/a", json!([{"op": "destroy", "path": "/data"}]))
        .await;
    lab.operations("cm/a", json!([{"op": "add"}])).await;
    lab.operations("cm/a", json!([{"path": "/data", "value": {}}]))
        .await;
}

async fn a_json_patch_tests_the_version(lab: &CaseContext) {
    let made = lab.given("plan", plan("a", json!({"size": 1}))).await;
    let patch = json!([{"op": "test", "path": "/metadata/resourceVersion", "value": made.version()},
        {"op": "add", "path": "/status", "value": {"count": 1}}]);
    lab.call(&made.version(), "first");
    lab.operations("plan/a/status", patch.clone()).await.has_code(200);
    lab.operations("plan/a/status", patch).await.has_code(422);
    let patch = json!([{"op": "replace", "path": "/metadata/resourceVersion", "value": made.version()},
        {"op": "replace", "path": "/status/count", "value": 2}]);
    lab.operations("plan/a/status", patch)
        .await
        .refused(409, "Conflict", "the object has been modified");
}

async fn a_patch_of_an_unknown_type_is_refused(lab: &CaseContext) {
    lab.given("cm", named("a")).await;
    lab.given("plan", plan("a", json!({"size": 1}))).await;
    for target in ["cm/a", "plan/a", "plan/a/status"] {
        for media in [JSON, "text/plain", ""] {
            let answer = lab.send(Method::PATCH, target, media, b"{}".to_vec()).await;
            answer.refused(415, "UnsupportedMediaType", "");
        }
    }
    let answer = lab.send(
        Method::PATCH,
        "cm/a",
        "application/merge-patch+json; charset=utf-8",
        b"{}".to_vec(),
    );
    answer.await.has_code(200);
}

async fn a_patch_that_is_no_json_is_refused(lab: &CaseContext) {
    lab.given("cm", named("a")).await;
    lab.given("plan", plan("a", json!({"size": 1}))).await;
    for target in ["cm/a", "plan/a"] {
        for body in ["", "{", "[]", "7", "null", "\"x\""] {
            lab.send(Method::PATCH, target, MERGE, body.as_bytes().to_vec())
                .await;
            lab.send(Method::PATCH, target, OPERATIONS, body.as_bytes().to_vec())
                .await;
        }
    }
    for body in ["", "{", "[]", "7"] {
        lab.send(Method::PATCH, "cm/a", STRATEGIC, body.as_bytes().to_vec())
            .await
            .has_code(400);
    }
    lab.get("cm/a").await.has_code(200);
}

async fn a_patch_of_a_wrong_type_is_refused(lab: &CaseContext) {
    lab.given("deploy", workload("a", 0)).await;
    for (change, pointer) in [
        (json!({"spec": {"replicas": "x"}}), "replicas"),
        (
            json!({"spec": {"template": {"spec": {"containers": {}}}}}),
            "containers",
        ),
        (json!({"metadata": {"labels": {"a": 1}}}), "labels"),
        (json!({"metadata": 3}), "metadata"),
        (json!({"spec": []}), "spec"),
    ] {
        let answer = lab.quietly().merge("deploy/a", change).await;
        lab.say(pointer, json!([answer.code, answer.at("/reason")]));
        answer.invalid("patch: Invalid value");
    }
    lab.given("plan", plan("a", json!({"size": 1}))).await;
    lab.merge("plan/a", json!({"metadata": {"labels": {"a": 1}}}))
        .await
        .has_code(422);
    lab.merge("plan/a", json!({"spec": {"size": "x"}}))
        .await
        .has_code(422);
    lab.merge("plan/a", json!({"spec": []})).await.has_code(422);
    lab.merge("plan/a", json!({"metadata": 3})).await.has_code(422);
}

async fn a_scale_is_patched_apart(lab: &CaseContext) {
    let made = lab.given("deploy", workload("a", 1)).await;
    lab.get("deploy/a/scale")
        .await
        .has_code(200)
        .has("/spec/replicas", 1)
        .has("/metadata/uid", made.uid());
    lab.merge("deploy/a/scale", json!({"spec": {"replicas": 2}}))
        .await
        .has_code(200)
        .has("/spec/replicas", 2);
    lab.strategic("deploy/a/scale", json!({"spec": {"replicas": 3}}))
        .await
        .has_code(200)
        .has("/spec/replicas", 3);
    let patch = json!([{"op": "test", "path": "/spec/replicas", "value": 3},
        {"op": "replace", "path": "/spec/replicas", "value": 0}]);
    lab.operations("deploy/a/scale", patch)
        .await
        .has_code(200)
        .has("/spec", json!({}));
    let words = "spec.replicas: Invalid value: -1: must be greater than or equal to 0";
    lab.merge("deploy/a/scale", json!({"spec": {"replicas": -1}}))
        .await
        .invalid(words);
    lab.merge("deploy/a/scale", json!({"spec": {"replicas": "x"}}))
        .await
        .has_code(422);
    lab.merge("deploy/a/scale?dryRun=All", json!({"spec": {"replicas": 5}}))
        .await
        .has_code(200);
    lab.get("deploy/a").await.has("/spec/replicas", 0);
    lab.merge("deploy/a", json!({"spec": {"replicas": -1}}))
        .await
        .invalid(words);
    lab.merge("deploy/a", json!({"spec": {"replicas": null}}))
        .await
        .has_code(200)
        .has("/spec/replicas", 1);
}

async fn a_scale_is_replaced(lab: &CaseContext) {
    let made = lab.given("deploy", workload("a", 1)).await;
    let mut scale = lab.quietly().get("deploy/a/scale").await.body;
    scale["spec"]["replicas"] = json!(2);
    lab.put(
        "deploy/a/scale",
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale",
        "metadata": {"name": "a"}, "spec": {"replicas": 2}}),
    )
    .await
    .has_code(200);
    scale["metadata"]["resourceVersion"] = json!(made.version());
    scale["spec"]["replicas"] = json!(3);
    lab.put("deploy/a/scale", scale.clone())
        .await
        .refused(409, "Conflict", "the object has been modified");
    scale["metadata"]["name"] = json!("b");
    lab.put("deploy/a/scale", scale).await.has_code(400);
    lab.given("rs", workload("r", 0)).await;
    lab.merge("rs/r/scale", json!({"spec": {"replicas": 1}}))
        .await
        .has_code(200);
}

async fn a_patch_with_its_own_kind_is_taken(lab: &CaseContext) {
    lab.given("plan", plan("a", json!({"size": 1}))).await;
    let patch = json!({"apiVersion": "conformance.kubernaut.io/v1", "kind": "Plan", "metadata": {"name": "a"},
        "spec": {"note": "x"}});
    lab.merge("plan/a", patch)
        .await
        .has_code(200)
        .has("/spec/note", "x");
    lab.given("pod", json!({"metadata": {"name": "a"}, "spec": pod_spec()}))
        .await;
    let patch = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {"a": "b"}}});
    lab.strategic("pod/a", patch)
        .await
        .has_code(200)
        .has("/metadata/labels/a", "b");
}
