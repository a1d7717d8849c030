//! What the API server itself makes of built-in objects: defaults, and the rules that matter here.

use serde_json::{Value, json};

use crate::api::kinds::Kind;
use crate::api::status::FieldError;
use crate::api::write::set_or_remove;
use crate::api::{pod_rules, rules};

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
pub(crate) fn prune_metadata(object: &mut Value) -> Vec<String> {
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

fn default(target: &mut Value, field: &str, value: Value) {
    if target[field].is_null() {
        target[field] = value;
    }
}

/// Defaults, and what the server sets itself, for a new object whose metadata is complete.
pub(crate) fn prepare_create(kind: &Kind, object: &mut Value) {
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
        _ => {}
    }
    let has_status = ["apps", "batch", "policy"].contains(&kind.group.as_str()) || kind.is_resource("nodes");
    if has_status && kind.status {
        default(object, "status", json!({}));
    }
    apply_defaults(kind, object);
}

/// Sets what an update leaves out.
pub(crate) fn prepare_update(kind: &Kind, object: &mut Value, old: &Value) {
    if kind.is_resource("namespaces") && object["spec"]["finalizers"].is_null() {
        object["spec"]["finalizers"] = old["spec"]["finalizers"].clone();
    }
    apply_defaults(kind, object);
}

fn apply_defaults(kind: &Kind, object: &mut Value) {
    match kind.resource.as_str() {
        "configmaps" => without_empty_data(object),
        "secrets" => {
            without_empty_data(object);
            // stringData is write-only.
            let plain = object["stringData"].as_object().cloned().unwrap_or_default();
            set_or_remove(object, "stringData", None);
            for (key, value) in plain {
                let text = value.as_str().unwrap_or_default();
                object["data"][key] = json!(crate::api::base64(text.as_bytes()));
            }
            default(object, "type", json!("Opaque"));
        }
        "services" => {
            default(&mut object["spec"], "type", json!("ClusterIP"));
            let ports = object["spec"].get_mut("ports").and_then(Value::as_array_mut);
            for port in ports.into_iter().flatten() {
                default(port, "protocol", json!("TCP"));
                let target = port["port"].clone();
                default(port, "targetPort", target);
            }
        }
        "leases.coordination.k8s.io" => default(object, "spec", json!({})),
        "events" | "events.events.k8s.io" => {
            for field in ["eventTime", "firstTimestamp", "lastTimestamp"] {
                default(object, field, Value::Null);
            }
            default(object, "source", json!({}));
            default(object, "reportingComponent", json!(""));
            default(object, "reportingInstance", json!(""));
        }
        "roles.rbac.authorization.k8s.io" | "clusterroles.rbac.authorization.k8s.io" => {
            default(object, "rules", Value::Null);
        }
        "rolebindings.rbac.authorization.k8s.io" | "clusterrolebindings.rbac.authorization.k8s.io" => {
            for subject in object
                .get_mut("subjects")
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
            {
                if subject["kind"] != "ServiceAccount" {
                    default(subject, "apiGroup", json!("rbac.authorization.k8s.io"));
                }
            }
        }
        "customresourcedefinitions.apiextensions.k8s.io" => {
            let kind = object["spec"]["names"]["kind"].as_str().unwrap_or("").to_owned();
            if object["spec"]["names"].is_object() {
                let names = &mut object["spec"]["names"];
                default(names, "listKind", json!(format!("{kind}List")));
                default(names, "singular", json!(kind.to_lowercase()));
                default(&mut object["spec"], "conversion", json!({"strategy": "None"}));
            }
        }
        _ => workload_defaults(kind, object),
    }
}

fn without_empty_data(object: &mut Value) {
    for field in ["data", "binaryData"] {
        if object[field].as_object().is_none_or(serde_json::Map::is_empty) {
            set_or_remove(object, field, None);
        }
    }
}

fn workload_defaults(kind: &Kind, object: &mut Value) {
    match kind.resource.as_str() {
        "deployments.apps" => {
            let spec = &mut object["spec"];
            default(spec, "replicas", json!(1));
            default(spec, "revisionHistoryLimit", json!(10));
            default(spec, "progressDeadlineSeconds", json!(600));
            default(spec, "strategy", json!({"type": "RollingUpdate"}));
            default(&mut spec["strategy"], "type", json!("RollingUpdate"));
            if spec["strategy"]["type"] == "RollingUpdate" {
                default(&mut spec["strategy"], "rollingUpdate", json!({}));
                for bound in ["maxSurge", "maxUnavailable"] {
                    default(&mut spec["strategy"]["rollingUpdate"], bound, json!("25%"));
                }
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
            default(
                spec,
                "persistentVolumeClaimRetentionPolicy",
                json!({"whenDeleted": "Retain", "whenScaled": "Retain"}),
            );
            pod_defaults(&mut spec["template"]["spec"], Some("Always"));
        }
        "daemonsets.apps" => {
            default(&mut object["spec"], "revisionHistoryLimit", json!(10));
            let update =
                json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}});
            default(&mut object["spec"], "updateStrategy", update);
            pod_defaults(&mut object["spec"]["template"]["spec"], Some("Always"));
        }
        "pods" => {
            default(&mut object["spec"], "enableServiceLinks", json!(true));
            let grace = &mut object["spec"]["terminationGracePeriodSeconds"];
            if grace.as_i64().is_some_and(|seconds| seconds < 0) {
                *grace = json!(1);
            }
            pod_defaults(&mut object["spec"], Some("Always"));
        }
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
            for port in container
                .get_mut("ports")
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
            {
                default(port, "protocol", json!("TCP"));
            }
            for variable in container
                .get_mut("env")
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
            {
                if let Some(source) = variable.pointer_mut("/valueFrom/fieldRef") {
                    default(source, "apiVersion", json!("v1"));
                }
            }
            for probe in ["readinessProbe", "livenessProbe", "startupProbe"] {
                if let Some(probe) = container.get_mut(probe).filter(|probe| probe.is_object()) {
                    probe_defaults(probe);
                }
            }
        }
    }
    for volume in spec
        .get_mut("volumes")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        for source in ["configMap", "secret", "downwardAPI", "projected"] {
            if volume[source].is_object() {
                default(&mut volume[source], "defaultMode", json!(420));
            }
        }
        field_defaults(volume);
        for source in volume
            .pointer_mut("/projected/sources")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            field_defaults(source);
            if source["serviceAccountToken"].is_object() {
                default(
                    &mut source["serviceAccountToken"],
                    "expirationSeconds",
                    json!(3600),
                );
            }
        }
    }
}

/// Fields of a pod that a volume, or a source of one, makes files of.
fn field_defaults(source: &mut Value) {
    for item in source
        .pointer_mut("/downwardAPI/items")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if item["fieldRef"].is_object() {
            default(&mut item["fieldRef"], "apiVersion", json!("v1"));
        }
    }
}

fn probe_defaults(probe: &mut Value) {
    for (field, value) in [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ] {
        default(probe, field, json!(value));
    }
    if probe["httpGet"].is_object() {
        default(&mut probe["httpGet"], "path", json!("/"));
        default(&mut probe["httpGet"], "scheme", json!("HTTP"));
    }
}

fn prepare_job(object: &mut Value, uid: &Value, name: &Value) {
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
    for rule in spec
        .pointer_mut("/podFailurePolicy/rules")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        for condition in rule
            .get_mut("onPodConditions")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            default(condition, "status", json!("True"));
        }
    }
    if spec["manualSelector"] != true {
        default(
            spec,
            "selector",
            json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}),
        );
        let labels = &mut spec["template"]["metadata"]["labels"];
        labels["batch.kubernetes.io/controller-uid"] = uid.clone();
        labels["batch.kubernetes.io/job-name"] = name.clone();
        labels["controller-uid"] = uid.clone();
        labels["job-name"] = name.clone();
    }
    // A Job without labels of its own gets its template's, those made here too.
    let labels = object["spec"]["template"]["metadata"]["labels"].clone();
    if labels.is_object() {
        default(&mut object["metadata"], "labels", labels);
    }
    // Jobs have no default for it: the server insists on a choice.
    pod_defaults(&mut object["spec"]["template"]["spec"], None);
}

/// The rules of built-in kinds that this project can run into.
pub(crate) fn validate(kind: &Kind, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = &object["spec"];
    match kind.resource.as_str() {
        "deployments.apps" | "replicasets.apps" | "statefulsets.apps" => {
            selector_rules(kind, object, old, &mut errors);
            rules::workload_rules(spec, &mut errors);
            if kind.is_resource("deployments.apps") {
                rules::deployment_rules(spec, &mut errors);
            }
            if kind.is_resource("statefulsets.apps") {
                errors.extend(old.and_then(|old| rules::kept_stateful_set(old, object)));
            }
        }
        "daemonsets.apps" => {
            selector_rules(kind, object, old, &mut errors);
            rules::workload_rules(spec, &mut errors);
        }
        "jobs.batch" => pod_rules::job_rules(spec, old, &mut errors),
        "pods" => {
            pod_rules::pod_rules(spec, "spec", &mut errors);
            if let Some(old) = old.filter(|_| errors.is_empty()) {
                errors.extend(pod_rules::kept_pod(old, object));
            }
        }
        _ => errors.extend(rules::of_small_kinds(kind, object, old)),
    }
    errors
}

fn selector_rules(kind: &Kind, object: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let selector = &object["spec"]["selector"];
    let empty = selector.as_object().is_some_and(serde_json::Map::is_empty);
    if !selector.is_object() {
        errors.push(FieldError::required("spec.selector", ""));
    } else if empty {
        errors.push(FieldError::invalid(
            "spec.selector",
            selector,
            &format!("empty selector is invalid for {}", kind.kind.to_lowercase()),
        ));
    }
    let keys = selector["matchLabels"].as_object().into_iter().flatten();
    let before = errors.len();
    for problem in keys.flat_map(|(key, _)| {
        crate::api::names::key_problems(key)
            .into_iter()
            .map(move |p| (key, p))
    }) {
        errors.push(FieldError::invalid(
            "spec.selector.matchLabels",
            &json!(problem.0),
            &problem.1,
        ));
    }
    let parsed = crate::api::selector::Selector::from_label_selector(selector);
    let labels = &object["spec"]["template"]["metadata"]["labels"];
    // No selector at all selects nothing, also not this template.
    if errors.len() == before && !empty && (!selector.is_object() || !parsed.matches_labels(labels)) {
        errors.push(FieldError::invalid(
            "spec.template.metadata.labels",
            labels,
            "`selector` does not match template `labels`",
        ));
    }
    if old.is_some_and(|old| old["spec"]["selector"] != *selector) {
        errors.push(FieldError::immutable("spec.selector", selector));
    }
}
