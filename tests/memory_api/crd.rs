use kube::{
    Api, Client,
    api::{ApiResource, ListParams, Patch, PatchParams, PostParams},
    core::{DynamicObject, GroupVersionKind},
};
use kubernaut::memory::MemoryCluster;
use serde_json::{Value, json};

use crate::support::{cluster, status, typed};

fn definition() -> Value {
    let steps = json!({
        "type": "array", "maxItems": 3, "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["number"],
        "items": {"type": "object", "required": ["number"],
            "properties": {"number": {"type": "integer"}, "name": {"type": "string"}}},
    });
    let spec = json!({
        "type": "object", "required": ["size"],
        "x-kubernetes-validations": [
            {"rule": "self.size == oldSelf.size", "message": "size is immutable"},
            {"rule": "!has(self.steps) || self.steps.all(s, s.number <= self.size)",
             "message": "a step is beyond the size"},
        ],
        "properties": {
            "size": {"type": "integer", "minimum": 1},
            "mode": {"type": "string", "enum": ["fast", "slow"], "default": "fast"},
            "timeout": {"type": "string", "pattern": "^[0-9]+s$", "maxLength": 8},
            "steps": steps,
        },
    });
    let status = json!({"type": "object", "properties": {"phase": {"type": "string"}}});
    let version = json!({
        "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
        "selectableFields": [{"jsonPath": ".status.phase"}],
        "schema": {"openAPIV3Schema": {
            "type": "object", "required": ["spec"], "properties": {"spec": spec, "status": status},
        }},
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "plans.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "plans", "singular": "plan", "kind": "Plan"},
            "versions": [version],
        },
    })
}

fn plans(client: &Client) -> Api<DynamicObject> {
    let gvk = GroupVersionKind::gvk("example.com", "v1", "Plan");
    Api::namespaced_with(client.clone(), "default", &ApiResource::from_gvk(&gvk))
}

fn plan(spec: Value) -> DynamicObject {
    typed(json!({"apiVersion": "example.com/v1", "kind": "Plan", "metadata": {"name": "p"}, "spec": spec}))
}

fn ready() -> (MemoryCluster, Api<DynamicObject>) {
    let (cluster, client) = cluster();
    cluster.load(vec![definition()]).unwrap();
    (cluster, plans(&client))
}

async fn refusal(spec: Value) -> String {
    let (_cluster, api) = ready();
    let refused = status(api.create(&PostParams::default(), &plan(spec)).await);
    assert_eq!((refused.code, refused.reason.as_str()), (422, "Invalid"));
    refused
        .message
        .strip_prefix("Plan.example.com \"p\" is invalid: ")
        .expect("the usual form")
        .to_owned()
}

const UNCHECKED: &str = "<nil>: Invalid value: null: some validation rules were not checked because the object was \
                         invalid; correct the existing errors to complete validation";

#[tokio::test(start_paused = true)]
async fn defaults_are_filled_in_and_unknown_fields_dropped() {
    let (_cluster, api) = ready();
    let made = api
        .create(&PostParams::default(), &plan(json!({"size": 2, "extra": 1})))
        .await
        .unwrap();
    assert_eq!(made.data["spec"], json!({"size": 2, "mode": "fast"}));
    assert_eq!(made.metadata.generation, Some(1));
}

#[tokio::test(start_paused = true)]
async fn unknown_fields_are_an_error_under_strict_validation() {
    let (cluster, client) = cluster();
    cluster.load(vec![definition()]).unwrap();
    let body = serde_json::to_vec(&plan(json!({"size": 2, "extra": 1}))).unwrap();
    let request = http::Request::post("/apis/example.com/v1/namespaces/default/plans?fieldValidation=Strict")
        .header("content-type", "application/json")
        .body(body)
        .unwrap();
    let refused = status(client.request::<Value>(request).await);
    assert_eq!(refused.code, 400);
    assert_eq!(
        refused.message,
        "Plan in version \"v1\" cannot be handled as a Plan: strict decoding error: unknown field \"spec.extra\""
    );
}

#[tokio::test(start_paused = true)]
async fn each_rule_of_the_schema_is_answered_like_the_real_server_does() {
    assert_eq!(
        refusal(json!({})).await,
        format!("[spec.size: Required value, {UNCHECKED}]")
    );
    assert_eq!(
        refusal(json!({"size": "x"})).await,
        format!(
            "[spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\", \
             {UNCHECKED}]"
        )
    );
    assert_eq!(
        refusal(json!({"size": 0})).await,
        "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"
    );
    assert_eq!(
        refusal(json!({"size": 1, "mode": "odd"})).await,
        format!("[spec.mode: Unsupported value: \"odd\": supported values: \"fast\", \"slow\", {UNCHECKED}]")
    );
    assert_eq!(
        refusal(json!({"size": 1, "timeout": "soon"})).await,
        "spec.timeout: Invalid value: \"soon\": spec.timeout in body should match '^[0-9]+s$'"
    );
    assert_eq!(
        refusal(json!({"size": 1, "timeout": "12345678s"})).await,
        format!("[spec.timeout: Too long: may not be more than 8 bytes, {UNCHECKED}]")
    );
    assert_eq!(
        refusal(json!({"size": 9, "steps": [{"number": 1}, {"number": 1}]})).await,
        "spec.steps[1]: Duplicate value: {\"number\":1}"
    );
    assert_eq!(
        refusal(json!({"size": 9, "steps": [{"number": 1}, {"number": 2}, {"number": 3}, {"number": 4}]}))
            .await,
        format!("[spec.steps: Too many: 4: must have at most 3 items, {UNCHECKED}]")
    );
}

#[tokio::test(start_paused = true)]
async fn rules_in_cel_are_checked_also_between_versions() {
    assert_eq!(
        refusal(json!({"size": 1, "steps": [{"number": 2}]})).await,
        "spec: Invalid value: a step is beyond the size"
    );
    let (_cluster, api) = ready();
    api.create(&PostParams::default(), &plan(json!({"size": 2})))
        .await
        .unwrap();
    let patch = Patch::Merge(json!({"spec": {"size": 3}}));
    let refused = status(api.patch("p", &PatchParams::default(), &patch).await);
    assert_eq!(
        refused.message,
        "Plan.example.com \"p\" is invalid: spec: Invalid value: size is immutable"
    );
    assert_eq!(refused.details.unwrap().causes[0].field, "spec");
}

#[tokio::test(start_paused = true)]
async fn status_is_written_apart_and_can_be_selected_by() {
    let (_cluster, api) = ready();
    let mut object = plan(json!({"size": 2}));
    object.data["status"] = json!({"phase": "early"});
    let made = api.create(&PostParams::default(), &object).await.unwrap();
    assert!(made.data.get("status").is_none());
    let patch = Patch::Merge(json!({
        "metadata": {"resourceVersion": made.metadata.resource_version, "labels": {"no": "way"}},
        "spec": {"size": 7}, "status": {"phase": "running"},
    }));
    let written = api
        .patch_status("p", &PatchParams::default(), &patch)
        .await
        .unwrap();
    assert_eq!(written.data["status"]["phase"], "running");
    assert_eq!(written.data["spec"]["size"], 2);
    assert_eq!(
        (written.metadata.labels, written.metadata.generation),
        (None, Some(1))
    );
    assert_eq!(
        status(api.patch_status("p", &PatchParams::default(), &patch).await).code,
        409
    );
    let found = api
        .list(&ListParams::default().fields("status.phase=running"))
        .await
        .unwrap();
    assert_eq!(found.items.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_custom_resource_is_not_overwritten_blindly() {
    let (_cluster, api) = ready();
    api.create(&PostParams::default(), &plan(json!({"size": 2})))
        .await
        .unwrap();
    let refused = status(
        api.replace("p", &PostParams::default(), &plan(json!({"size": 2})))
            .await,
    );
    assert_eq!(
        refused.message,
        "Plan.example.com \"p\" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an \
         update"
    );
}

#[tokio::test(start_paused = true)]
async fn a_bad_name_is_refused() {
    let (_cluster, api) = ready();
    let mut object = plan(json!({"size": 2}));
    object.metadata.name = Some("Not_Good".to_owned());
    let refused = status(api.create(&PostParams::default(), &object).await);
    assert!(
        refused
            .message
            .contains("metadata.name: Invalid value: \"Not_Good\": a lowercase RFC 1123 subdomain"),
        "{}",
        refused.message
    );
}

#[tokio::test(start_paused = true)]
async fn an_object_can_be_checked_without_a_request() {
    let (cluster, _api) = ready();
    let mut object = serde_json::to_value(plan(json!({"size": 0, "extra": 1}))).unwrap();
    let errors = cluster.validate(&object);
    let found: Vec<(&str, &str)> = errors
        .iter()
        .map(|e| (e.field.as_str(), e.reason.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            ("spec.extra", "FieldValueUnknown"),
            ("spec.size", "FieldValueInvalid")
        ]
    );
    object["spec"] = json!({"size": 1});
    assert!(cluster.validate(&object).is_empty());
}
