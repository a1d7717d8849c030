//! Definitions of custom resources.

use serde_json::{Value, json};

use super::super::answer::Answer;
use super::super::bodies::{named, with};
use super::super::case_context::CaseContext;

super::cases!(
    a_definition_is_served_and_says_so,
    a_definition_is_checked,
    a_schema_is_checked,
    rules_are_compiled_when_they_come,
    a_definition_takes_its_objects_along,
    a_new_rule_holds_from_then_on,
    the_server_says_what_it_serves,
);

fn thing(lab: &CaseContext, schema: Value) -> Value {
    let group = format!("{}.example.com", lab.namespace());
    json!({
        "metadata": {"name": format!("things.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": schema}}],
        },
    })
}

fn plain() -> Value {
    json!({"type": "object", "properties": {"spec": {"type": "object",
        "properties": {"a": {"type": "integer"}}}}})
}

const THINGS: &str = "/apis/{ns}.example.com/v1/namespaces/{ns}/things";

fn one(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "{ns}.example.com/v1", "kind": "Thing", "metadata": {"name": name}, "spec": spec})
}

async fn established(lab: &CaseContext) {
    let is_established = |answer: &Answer| {
        let conditions = answer.at("/status/conditions");
        let mut all = conditions.as_array().into_iter().flatten();
        all.any(|condition| condition["type"] == "Established" && condition["status"] == "True")
    };
    lab.quietly()
        .until("crd/things.{ns}.example.com", is_established)
        .await;
    lab.quietly().until(THINGS, |answer| answer.code == 200).await;
}

async fn a_definition_is_served_and_says_so(lab: &CaseContext) {
    lab.get(THINGS).await.has_code(404);
    let made = lab.post("crd", thing(lab, plain())).await;
    made.has_code(201)
        .has("/spec/names/listKind", "ThingList")
        .has("/spec/conversion/strategy", "None");
    established(lab).await;
    let served = lab.quietly().get("crd/things.{ns}.example.com").await;
    served
        .has("/status/storedVersions", json!(["v1"]))
        .has("/status/acceptedNames/kind", "Thing");
    let mut conditions = served.at("/status/conditions");
    for condition in conditions.as_array_mut().into_iter().flatten() {
        condition["lastTransitionTime"] = json!("then");
    }
    conditions
        .as_array_mut()
        .into_iter()
        .for_each(|all| all.sort_by_key(Value::to_string));
    lab.say("conditions", conditions);
    lab.say("accepted names", served.at("/status/acceptedNames"));
    lab.post(THINGS, one("x", json!({"a": 1, "b": 2})))
        .await
        .has_code(201)
        .lacks("/spec/b");
    lab.post("crd", thing(lab, plain()))
        .await
        .refused(409, "AlreadyExists", "");
    lab.quietly()
        .delete("crd/things.{ns}.example.com")
        .await
        .has_code(200);
    lab.until_gone("crd/things.{ns}.example.com").await;
    lab.until(THINGS, |answer| answer.code == 404).await;
}

async fn a_definition_is_checked(lab: &CaseContext) {
    let base = thing(lab, plain());
    for (pointer, value, words) in [
        (
            "/metadata/name",
            json!("wrong.example.com"),
            "must be spec.names.plural+\".\"+spec.group",
        ),
        ("/spec/scope", json!("Odd"), "spec.scope"),
        (
            "/spec/versions/0/storage",
            json!(false),
            "must have exactly one version marked as storage version",
        ),
        ("/spec/versions", json!([]), "spec.versions"),
        ("/spec/names/kind", json!(""), "spec.names.kind"),
        ("/spec/versions/0/schema", Value::Null, "schema"),
        ("/spec/group", json!(""), "spec.group"),
    ] {
        lab.quietly()
            .post("crd?dryRun=All", with(base.clone(), pointer, value))
            .await
            .invalid(words);
    }
    lab.quietly().post("crd", named("a")).await.has_code(422);
}

async fn a_schema_is_checked(lab: &CaseContext) {
    let spec = |spec: Value| json!({"type": "object", "properties": {"spec": spec}});
    for (schema, words) in [
        (json!({"properties": {"spec": {"type": "object"}}}), "type"),
        (
            spec(json!({"properties": {"a": {"type": "string"}}})),
            "type: Required value",
        ),
        (
            spec(json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}})),
            "pattern",
        ),
        (spec(json!({"type": "array"})), "items: Required value"),
        (
            spec(json!({"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "map"})),
            "list-map-keys",
        ),
        (
            spec(json!({"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}})),
            "default",
        ),
    ] {
        lab.quietly()
            .post("crd?dryRun=All", thing(lab, schema))
            .await
            .invalid(words);
    }
}

async fn rules_are_compiled_when_they_come(lab: &CaseContext) {
    let ruled = |rule: &str| {
        json!({"type": "object", "properties": {"spec": {"type": "object",
            "properties": {"a": {"type": "integer"}}, "x-kubernetes-validations": [{"rule": rule}]}}})
    };
    for rule in ["self.a >", "self.", ""] {
        let refused = lab
            .quietly()
            .post("crd?dryRun=All", thing(lab, ruled(rule)))
            .await;
        refused.invalid("x-kubernetes-validations[0]");
    }
    lab.quietly()
        .post("crd?dryRun=All", thing(lab, ruled("self.a > 1")))
        .await
        .has_code(201);
}

async fn a_definition_takes_its_objects_along(lab: &CaseContext) {
    lab.given("crd", thing(lab, plain())).await;
    established(lab).await;
    lab.post(THINGS, one("x", json!({}))).await.has_code(201);
    lab.quietly()
        .delete("crd/things.{ns}.example.com")
        .await
        .has_code(200);
    lab.until(THINGS, |answer| answer.code == 404).await;
    lab.until_gone("crd/things.{ns}.example.com").await;
}

async fn a_new_rule_holds_from_then_on(lab: &CaseContext) {
    lab.given("crd", thing(lab, plain())).await;
    established(lab).await;
    lab.post(THINGS, one("x", json!({"a": 7}))).await.has_code(201);
    let maximum = json!([{"op": "add",
        "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/a/maximum", "value": 5}]);
    lab.quietly()
        .operations("crd/things.{ns}.example.com", maximum)
        .await
        .has_code(200);
    let quiet = lab.quietly();
    for _ in 0..200 {
        if quiet
            .post(&format!("{THINGS}?dryRun=All"), one("y", json!({"a": 6})))
            .await
            .code
            == 422
        {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    lab.post(THINGS, one("y", json!({"a": 6})))
        .await
        .invalid("less than or equal to 5");
    // What was wrong before and does not change is let be.
    let label = json!({"metadata": {"labels": {"l": "m"}}});
    lab.merge(&format!("{THINGS}/x"), label).await.has_code(200);
    lab.merge(&format!("{THINGS}/x"), json!({"spec": {"a": 8}}))
        .await
        .has_code(422);
    lab.quietly()
        .delete("crd/things.{ns}.example.com")
        .await
        .has_code(200);
}

async fn the_server_says_what_it_serves(lab: &CaseContext) {
    let version = lab.quietly().get("/version").await;
    version.has("/major", "1").has("/minor", "35");
    for (path, wanted) in [
        (
            "/api/v1",
            vec![
                "configmaps",
                "pods",
                "pods/eviction",
                "pods/status",
                "nodes",
                "events",
            ],
        ),
        (
            "/apis/apps/v1",
            vec![
                "deployments",
                "deployments/scale",
                "deployments/status",
                "replicasets",
            ],
        ),
        ("/apis/batch/v1", vec!["jobs", "jobs/status"]),
        ("/apis/conformance.kubernaut.io/v1", vec!["plans", "plans/status"]),
        (
            "/apis/workflow.kubernaut.io/v1",
            vec!["workflowexecutions", "workflowexecutions/status"],
        ),
        ("/apis/authorization.k8s.io/v1", vec!["subjectaccessreviews"]),
    ] {
        let list = lab.quietly().get(path).await;
        let resources = list.has_code(200).at("/resources");
        for name in wanted {
            let found = resources
                .as_array()
                .into_iter()
                .flatten()
                .find(|resource| resource["name"] == name);
            let mut found = found.unwrap_or_else(|| panic!("{name} is not in {path}")).clone();
            if let Some(map) = found.as_object_mut() {
                map.retain(|key, _| {
                    matches!(
                        key.as_str(),
                        "name" | "kind" | "namespaced" | "group" | "version" | "verbs"
                    )
                });
            }
            if let Some(verbs) = found["verbs"].as_array_mut() {
                verbs.sort_by_key(Value::to_string);
            }
            lab.say(&format!("{path} {name}"), found);
        }
    }
    for path in ["/livez", "/readyz", "/healthz"] {
        lab.get(path).await.has_code(200);
    }
    let groups = lab.quietly().get("/apis").await;
    groups.has("/kind", "APIGroupList");
    let group = lab.quietly().get("/apis/apps").await;
    lab.say(
        "apps",
        json!([
            group.at("/kind"),
            group.at("/apiVersion"),
            group.at("/name"),
            group.at("/preferredVersion")
        ]),
    );
}
