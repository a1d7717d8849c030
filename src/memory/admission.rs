//! What the API server itself makes of built-in objects: known fields, defaults, and the rules that matter here.

use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
    batch::v1::Job,
    core::v1::{ConfigMap, Namespace, Node, Pod, Secret, Service, ServiceAccount},
    policy::v1::PodDisruptionBudget,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    kinds::Kind,
    schema::child,
    status::{ApiError, FieldError},
    write::set_or_remove,
};

const METADATA: &[&str] = &[
    "name",
    "generateName",
    "namespace",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
];

/// Removes unknown fields of metadata.
pub(super) fn prune_metadata(object: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|name, _| {
            let known = METADATA.contains(&name.as_str());
            if !known {
                unknown.push(format!("metadata.{name}"));
            }
            known
        });
    }
    unknown
}

/// Removes unknown fields of a built-in object by reading it into its type and back.
///
/// Errors: 400 when a field has the wrong type.
pub(super) fn prune_typed(kind: &Kind, object: &mut Value) -> Result<Vec<String>, ApiError> {
    match kind.resource.as_str() {
        "deployments.apps" => prune_as::<Deployment>(kind, object),
        "replicasets.apps" => prune_as::<ReplicaSet>(kind, object),
        "statefulsets.apps" => prune_as::<StatefulSet>(kind, object),
        "daemonsets.apps" => prune_as::<DaemonSet>(kind, object),
        "jobs.batch" => prune_as::<Job>(kind, object),
        "pods" => prune_as::<Pod>(kind, object),
        "nodes" => prune_as::<Node>(kind, object),
        "namespaces" => prune_as::<Namespace>(kind, object),
        "configmaps" => prune_as::<ConfigMap>(kind, object),
        "secrets" => prune_as::<Secret>(kind, object),
        "services" => prune_as::<Service>(kind, object),
        "serviceaccounts" => prune_as::<ServiceAccount>(kind, object),
        "poddisruptionbudgets.policy" => prune_as::<PodDisruptionBudget>(kind, object),
        _ => Ok(Vec::new()),
    }
}

fn prune_as<T: DeserializeOwned + Serialize>(
    kind: &Kind,
    object: &mut Value,
) -> Result<Vec<String>, ApiError> {
    // Times that were never set arrive as null from some clients.
    drop_nulls(object);
    let typed: T = T::deserialize(&*object).map_err(|e| {
        ApiError::bad_request(&format!(
            "{k} in version \"{}\" cannot be handled as a {k}: json: {e}",
            kind.version,
            k = kind.kind
        ))
    })?;
    let known = serde_json::to_value(&typed).map_err(|e| ApiError::internal(&e.to_string()))?;
    let mut unknown = Vec::new();
    retain_known(object, &known, "", &mut unknown);
    Ok(unknown)
}

/// An object without its nulls: for the server's types they are the same as nothing.
pub(super) fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn retain_known(value: &mut Value, known: &Value, path: &str, unknown: &mut Vec<String>) {
    match (value, known) {
        (Value::Object(map), Value::Object(known)) => {
            map.retain(|name, value| {
                let ok = known.contains_key(name);
                let empty = value.is_null()
                    || value.as_object().is_some_and(serde_json::Map::is_empty)
                    || value.as_array().is_some_and(Vec::is_empty);
                if !ok && !empty {
                    unknown.push(child(path, name));
                }
                ok || (empty && !value.is_null())
            });
            for (name, value) in map.iter_mut() {
                if let Some(known) = known.get(name) {
                    retain_known(value, known, &child(path, name), unknown);
                }
            }
        }
        (Value::Array(items), Value::Array(known)) => {
            for (i, (item, known)) in items.iter_mut().zip(known).enumerate() {
                retain_known(item, known, &format!("{path}[{i}]"), unknown);
            }
        }
        _ => {}
    }
}

fn default(target: &mut Value, field: &str, value: Value) {
    if target[field].is_null() {
        target[field] = value;
    }
}

/// Defaults, and what the server sets itself, for a new object whose metadata is complete.
pub(super) fn prepare_create(kind: &Kind, object: &mut Value) {
    let uid = object["metadata"]["uid"].clone();
    let name = object["metadata"]["name"].clone();
    match kind.resource.as_str() {
        "namespaces" => {
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
            object["spec"]["finalizers"] = json!(["kubernetes"]);
            object["status"]["phase"] = json!("Active");
        }
        "pods" => {
            default(object, "status", json!({}));
            default(&mut object["status"], "phase", json!("Pending"));
            default(&mut object["status"], "qosClass", json!("BestEffort"));
        }
        "jobs.batch" => prepare_job(object, &uid, &name),
        "secrets" => {
            // stringData is write-only.
            let plain = object["stringData"].as_object().cloned().unwrap_or_default();
            set_or_remove(object, "stringData", None);
            for (key, value) in plain {
                let text = value.as_str().unwrap_or_default();
                object["data"][key] = json!(super::base64(text.as_bytes()));
            }
        }
        _ => {}
    }
    apply_defaults(kind, object);
}

/// The same for an update.
pub(super) fn prepare_update(kind: &Kind, object: &mut Value, old: &Value) {
    if kind.is("namespaces") && object["spec"]["finalizers"].is_null() {
        object["spec"]["finalizers"] = old["spec"]["finalizers"].clone();
    }
    apply_defaults(kind, object);
}

fn apply_defaults(kind: &Kind, object: &mut Value) {
    match kind.resource.as_str() {
        "deployments.apps" => {
            let spec = &mut object["spec"];
            default(spec, "replicas", json!(1));
            default(spec, "revisionHistoryLimit", json!(10));
            default(spec, "progressDeadlineSeconds", json!(600));
            default(spec, "strategy", json!({"type": "RollingUpdate"}));
            if spec["strategy"]["type"] == "RollingUpdate" {
                default(
                    &mut spec["strategy"],
                    "rollingUpdate",
                    json!({"maxSurge": "25%", "maxUnavailable": "25%"}),
                );
            }
            pod_defaults(&mut spec["template"]["spec"], Some("Always"));
        }
        "replicasets.apps" => {
            default(&mut object["spec"], "replicas", json!(1));
            pod_defaults(&mut object["spec"]["template"]["spec"], Some("Always"));
        }
        "statefulsets.apps" => {
            let spec = &mut object["spec"];
            default(spec, "replicas", json!(1));
            default(spec, "podManagementPolicy", json!("OrderedReady"));
            default(spec, "revisionHistoryLimit", json!(10));
            default(
                spec,
                "updateStrategy",
                json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}),
            );
            pod_defaults(&mut spec["template"]["spec"], Some("Always"));
        }
        "daemonsets.apps" => {
            default(&mut object["spec"], "revisionHistoryLimit", json!(10));
            pod_defaults(&mut object["spec"]["template"]["spec"], Some("Always"));
        }
        "pods" => pod_defaults(&mut object["spec"], Some("Always")),
        "secrets" => default(object, "type", json!("Opaque")),
        "services" => default(&mut object["spec"], "type", json!("ClusterIP")),
        _ => {}
    }
}

fn pod_defaults(spec: &mut Value, restart: Option<&str>) {
    if !spec.is_object() {
        return;
    }
    if let Some(restart) = restart {
        default(spec, "restartPolicy", json!(restart));
    }
    default(spec, "dnsPolicy", json!("ClusterFirst"));
    default(spec, "schedulerName", json!("default-scheduler"));
    default(spec, "securityContext", json!({}));
    default(spec, "terminationGracePeriodSeconds", json!(30));
    if spec["serviceAccountName"].is_string() {
        spec["serviceAccount"] = spec["serviceAccountName"].clone();
    }
    for list in ["containers", "initContainers"] {
        for container in spec
            .get_mut(list)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            let image = container["image"].as_str().unwrap_or("");
            let tag = image.rsplit('/').next().unwrap_or("");
            let policy = if tag.contains('@') || (tag.contains(':') && !tag.ends_with(":latest")) {
                "IfNotPresent"
            } else {
                "Always"
            };
            default(container, "imagePullPolicy", json!(policy));
            default(container, "resources", json!({}));
            default(container, "terminationMessagePath", json!("/dev/termination-log"));
            default(container, "terminationMessagePolicy", json!("File"));
        }
    }
    for volume in spec
        .get_mut("volumes")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        for source in ["configMap", "secret", "downwardAPI"] {
            if volume[source].is_object() {
                default(&mut volume[source], "defaultMode", json!(420));
            }
        }
    }
}

fn prepare_job(object: &mut Value, uid: &Value, name: &Value) {
    // A Job without labels of its own gets its template's.
    let labels = object["spec"]["template"]["metadata"]["labels"].clone();
    if labels.is_object() {
        default(&mut object["metadata"], "labels", labels);
    }
    let spec = &mut object["spec"];
    default(spec, "backoffLimit", json!(6));
    default(spec, "completions", json!(1));
    default(spec, "parallelism", json!(1));
    default(spec, "completionMode", json!("NonIndexed"));
    default(spec, "suspend", json!(false));
    default(spec, "manualSelector", json!(false));
    let replacement = if spec["podFailurePolicy"].is_object() {
        "Failed"
    } else {
        "TerminatingOrFailed"
    };
    default(spec, "podReplacementPolicy", json!(replacement));
    if spec["manualSelector"] != true && spec["selector"].is_null() {
        spec["selector"] = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}});
        let labels = &mut spec["template"]["metadata"]["labels"];
        labels["batch.kubernetes.io/controller-uid"] = uid.clone();
        labels["batch.kubernetes.io/job-name"] = name.clone();
        labels["controller-uid"] = uid.clone();
        labels["job-name"] = name.clone();
    }
    // Jobs have no default for it: the server insists on a choice.
    pod_defaults(&mut object["spec"]["template"]["spec"], None);
}

/// The rules of built-in kinds that this project can run into.
pub(super) fn validate(kind: &Kind, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = &object["spec"];
    match kind.resource.as_str() {
        "deployments.apps" | "replicasets.apps" | "statefulsets.apps" => {
            non_negative(&spec["replicas"], "spec.replicas", &mut errors);
            selector_rules(object, old, &mut errors);
            pod_rules(&spec["template"]["spec"], "spec.template.spec", &mut errors);
        }
        "daemonsets.apps" => {
            selector_rules(object, old, &mut errors);
            pod_rules(&spec["template"]["spec"], "spec.template.spec", &mut errors);
        }
        "jobs.batch" => job_rules(spec, old, &mut errors),
        "pods" => pod_rules(spec, "spec", &mut errors),
        "configmaps" | "secrets" => {
            for key in object["data"].as_object().into_iter().flat_map(|d| d.keys()) {
                if key.is_empty()
                    || key.len() > 253
                    || !key
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
                {
                    errors.push(FieldError::invalid(
                        &format!("data[{key}]"),
                        &json!(key),
                        "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. \
                         'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is \
                         '[-._a-zA-Z0-9]+')",
                    ));
                }
            }
            if old.is_some_and(|o| o["immutable"] == true && o["data"] != object["data"]) {
                errors.push(FieldError::forbidden(
                    "data",
                    "field is immutable when `immutable` is set",
                ));
            }
        }
        _ => {}
    }
    errors
}

fn non_negative(value: &Value, field: &str, errors: &mut Vec<FieldError>) {
    if value.as_i64().is_some_and(|n| n < 0) {
        errors.push(FieldError::invalid(
            field,
            value,
            "must be greater than or equal to 0",
        ));
    }
}

fn selector_rules(object: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let selector = &object["spec"]["selector"];
    if !selector.is_object() {
        errors.push(FieldError::required("spec.selector", ""));
        return;
    }
    let parsed = super::selector::Selector::from_label_selector(selector);
    let labels = &object["spec"]["template"]["metadata"]["labels"];
    if !parsed.matches_labels(labels) {
        errors.push(FieldError::invalid(
            "spec.template.metadata.labels",
            labels,
            "`selector` does not match template `labels`",
        ));
    }
    if old.is_some_and(|old| old["spec"]["selector"] != *selector) {
        errors.push(FieldError::invalid(
            "spec.selector",
            selector,
            "field is immutable",
        ));
    }
}

fn job_rules(spec: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    for field in [
        "backoffLimit",
        "activeDeadlineSeconds",
        "ttlSecondsAfterFinished",
        "parallelism",
    ] {
        non_negative(&spec[field], &format!("spec.{field}"), errors);
    }
    let template = &spec["template"]["spec"];
    pod_rules(template, "spec.template.spec", errors);
    match template["restartPolicy"].as_str() {
        None | Some("") => errors.push(FieldError::required(
            "spec.template.spec.restartPolicy",
            "valid values: \"OnFailure\", \"Never\"",
        )),
        Some("Never" | "OnFailure") => {}
        Some(other) => errors.push(FieldError::not_supported(
            "spec.template.spec.restartPolicy",
            &json!(other),
            &["OnFailure".to_owned(), "Never".to_owned()],
        )),
    }
    if let Some(old) = old {
        for field in [
            "template",
            "selector",
            "completions",
            "podFailurePolicy",
            "completionMode",
        ] {
            if old["spec"][field] != spec[field] {
                errors.push(FieldError::invalid(
                    &format!("spec.{field}"),
                    &spec[field],
                    "field is immutable",
                ));
            }
        }
    }
}

fn pod_rules(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let containers = spec["containers"].as_array().map_or(&[][..], Vec::as_slice);
    if containers.is_empty() {
        errors.push(FieldError::required(&format!("{path}.containers"), ""));
    }
    let mut names: Vec<&str> = Vec::new();
    for (i, container) in containers.iter().enumerate() {
        let at = format!("{path}.containers[{i}]");
        match container["name"].as_str() {
            None | Some("") => errors.push(FieldError::required(&format!("{at}.name"), "")),
            Some(name) if names.contains(&name) => {
                errors.push(FieldError::duplicate(&format!("{at}.name"), &json!(name)));
            }
            Some(name) => names.push(name),
        }
        if container["image"].as_str().is_none_or(str::is_empty) {
            errors.push(FieldError::required(&format!("{at}.image"), ""));
        }
    }
}
