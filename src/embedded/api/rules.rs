//! The rules of built-in kinds that this project can run into.

use serde_json::{Value, json};

use crate::api::kinds::Kind;
use crate::api::names::{annotation_errors, key_problems, label_errors};
use crate::api::pod_rules::pod_rules;
use crate::api::status::FieldError;
use crate::api::{autoscaling, network_rules};

pub(crate) fn non_negative(value: &Value, field: &str, errors: &mut Vec<FieldError>) {
    if value.as_i64().is_some_and(|n| n < 0) {
        errors.push(FieldError::invalid(
            field,
            value,
            "must be greater than or equal to 0",
        ));
    }
}

pub(crate) fn positive(value: &Value, field: &str, errors: &mut Vec<FieldError>) {
    if value.as_i64().is_some_and(|n| n <= 0) {
        errors.push(FieldError::invalid(field, value, "must be greater than 0"));
    }
}

pub(crate) fn one_of(value: &Value, known: &[&str], field: &str, errors: &mut Vec<FieldError>) {
    if value.as_str().is_some_and(|text| !known.contains(&text)) {
        let known: Vec<String> = known.iter().map(|text| (*text).to_owned()).collect();
        errors.push(FieldError::not_supported(field, value, &known));
    }
}

/// Kinds without pods.
pub(crate) fn of_small_kinds(kind: &Kind, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    match kind.resource.as_str() {
        "configmaps" | "secrets" => data_rules(kind, object, old, &mut errors),
        "leases.coordination.k8s.io" => {
            let spec = &object["spec"];
            positive(
                &spec["leaseDurationSeconds"],
                "spec.leaseDurationSeconds",
                &mut errors,
            );
            non_negative(&spec["leaseTransitions"], "spec.leaseTransitions", &mut errors);
        }
        "poddisruptionbudgets.policy" => budget_rules(&object["spec"], &mut errors),
        "horizontalpodautoscalers.autoscaling" => autoscaling::rules(&object["spec"], &mut errors),
        "networkpolicies.networking.k8s.io" => network_rules::policy(&object["spec"], &mut errors),
        "ingresses.networking.k8s.io" => network_rules::ingress(&object["spec"], &mut errors),
        "ingressclasses.networking.k8s.io" => network_rules::ingress_class(&object["spec"], &mut errors),
        "services" => network_rules::service(&object["spec"], &mut errors),
        "roles.rbac.authorization.k8s.io" => role_rules(object, true, &mut errors),
        "clusterroles.rbac.authorization.k8s.io" => role_rules(object, false, &mut errors),
        "rolebindings.rbac.authorization.k8s.io" | "clusterrolebindings.rbac.authorization.k8s.io" => {
            binding_rules(object, old, &mut errors);
        }
        "events" | "events.events.k8s.io" => event_rules(kind, object, old, &mut errors),
        _ => {}
    }
    errors
}

fn data_rules(kind: &Kind, object: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let mut size = 0;
    for field in ["data", "binaryData"] {
        for (key, value) in object[field].as_object().into_iter().flatten() {
            let at = format!("{field}[{key}]");
            if let Some(problem) = config_key_problem(key) {
                errors.push(FieldError::invalid(&at, &json!(key), problem));
            }
            if field == "data" && object["binaryData"].get(key).is_some() {
                errors.push(FieldError::invalid(
                    &at,
                    &json!(key),
                    "duplicate of key present in binaryData",
                ));
            }
            size += value.as_str().map_or(0, str::len);
        }
    }
    if size > 1024 * 1024 {
        let field = if kind.is_resource("secrets") { "data" } else { "[]" };
        errors.push(FieldError::too_long(field, 1024 * 1024));
    }
    let Some(old) = old else { return };
    if kind.is_resource("secrets") && old["type"] != object["type"] {
        errors.push(FieldError::immutable("type", &object["type"]));
    }
    if old["immutable"] == true {
        if object["immutable"] != true {
            errors.push(FieldError::forbidden("immutable", IMMUTABLE));
        }
        for field in ["data", "binaryData"] {
            if old[field] != object[field] {
                errors.push(FieldError::forbidden(field, IMMUTABLE));
            }
        }
    }
}

const IMMUTABLE: &str = "field is immutable when `immutable` is set";

fn config_key_problem(key: &str) -> Option<&'static str> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if key.len() > 253 {
        Some("must be no more than 253 characters")
    } else if key.is_empty() || !key.bytes().all(good) {
        Some(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
             'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
        )
    } else if key == "." {
        Some("must not be '.'")
    } else if key == ".." {
        Some("must not be '..'")
    } else if key.starts_with("..") {
        Some("must not start with '..'")
    } else {
        None
    }
}

fn budget_rules(spec: &Value, errors: &mut Vec<FieldError>) {
    if !spec["minAvailable"].is_null() && !spec["maxUnavailable"].is_null() {
        let shown = json!({
            "MinAvailable": spec["minAvailable"], "Selector": spec["selector"],
            "MaxUnavailable": spec["maxUnavailable"],
            "UnhealthyPodEvictionPolicy": spec["unhealthyPodEvictionPolicy"],
        });
        errors.push(FieldError::invalid(
            "spec",
            &shown,
            "minAvailable and maxUnavailable cannot be both set",
        ));
    }
    for field in ["minAvailable", "maxUnavailable"] {
        let (at, value) = (format!("spec.{field}"), &spec[field]);
        non_negative(value, &at, errors);
        let number = value.as_str().map(|text| text.strip_suffix('%').unwrap_or("x"));
        if number.is_some_and(|n| n.is_empty() || !n.bytes().all(|b| b.is_ascii_digit())) {
            errors.push(FieldError::invalid(
                &at,
                value,
                "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or \
                 '93%', regex used for validation is '[0-9]+%')",
            ));
        }
    }
}

pub(crate) fn is_empty(list: &Value) -> bool {
    list.as_array().is_none_or(Vec::is_empty)
}

fn role_rules(object: &Value, namespaced: bool, errors: &mut Vec<FieldError>) {
    for (i, rule) in object["rules"].as_array().into_iter().flatten().enumerate() {
        let at = |field: &str| format!("rules[{i}].{field}");
        if is_empty(&rule["verbs"]) {
            errors.push(FieldError::required(
                &at("verbs"),
                "verbs must contain at least one value",
            ));
        }
        let urls = &rule["nonResourceURLs"];
        if !is_empty(urls) {
            if namespaced {
                errors.push(FieldError::invalid(
                    &at("nonResourceURLs"),
                    urls,
                    "namespaced rules cannot apply to non-resource URLs",
                ));
            }
            if is_empty(&rule["apiGroups"]) && is_empty(&rule["resources"]) {
                continue;
            }
        }
        if is_empty(&rule["apiGroups"]) {
            errors.push(FieldError::required(
                &at("apiGroups"),
                "resource rules must supply at least one api group",
            ));
        }
        if is_empty(&rule["resources"]) {
            errors.push(FieldError::required(
                &at("resources"),
                "resource rules must supply at least one resource",
            ));
        }
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";

fn binding_rules(object: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let role = &object["roleRef"];
    if role["apiGroup"] != RBAC && !role["apiGroup"].as_str().is_none_or(str::is_empty) {
        errors.push(FieldError::not_supported(
            "roleRef.apiGroup",
            &role["apiGroup"],
            &[RBAC.to_owned()],
        ));
    }
    let kind = json!(role["kind"].as_str().unwrap_or(""));
    one_of(&kind, &["Role", "ClusterRole"], "roleRef.kind", errors);
    if role["name"].as_str().is_none_or(str::is_empty) {
        errors.push(FieldError::required("roleRef.name", ""));
    }
    for (i, subject) in object["subjects"].as_array().into_iter().flatten().enumerate() {
        let at = format!("subjects[{i}].kind");
        one_of(
            &subject["kind"],
            &["ServiceAccount", "User", "Group"],
            &at,
            errors,
        );
    }
    if old.is_some_and(|old| old["roleRef"] != *role) {
        let shown = json!({"APIGroup": role["apiGroup"], "Kind": role["kind"], "Name": role["name"]});
        errors.push(FieldError::invalid("roleRef", &shown, "cannot change roleRef"));
    }
}

fn event_rules(kind: &Kind, object: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let about = object["involvedObject"]["namespace"].as_str().unwrap_or("");
    let home = object["metadata"]["namespace"].as_str().unwrap_or("");
    let fits = about == home || about.is_empty() && matches!(home, "" | "default" | "kube-system");
    if !fits {
        errors.push(FieldError::invalid(
            "involvedObject.namespace",
            &json!(about),
            "does not match event.namespace",
        ));
    }
    if !kind.is_resource("events.events.k8s.io") {
        return;
    }
    if let Some(old) = old {
        for field in [
            "message",
            "reason",
            "involvedObject",
            "action",
            "type",
            "eventTime",
        ] {
            if old[field] != object[field] {
                errors.push(FieldError::immutable(field, &object[field]));
            }
        }
        return;
    }
    if object["eventTime"].is_null() {
        errors.push(FieldError::required("eventTime", ""));
    }
    for problem in key_problems(object["reportingComponent"].as_str().unwrap_or("")) {
        errors.push(FieldError::invalid(
            "reportingController",
            &object["reportingComponent"],
            &problem,
        ));
    }
    for (field, shown) in [
        ("reportingComponent", "reportingController"),
        ("reportingInstance", "reportingInstance"),
        ("action", "action"),
        ("reason", "reason"),
    ] {
        if object[field].as_str().is_none_or(str::is_empty) {
            errors.push(FieldError::required(shown, ""));
        }
    }
    let class = json!(object["type"].as_str().unwrap_or(""));
    if class != "Normal" && class != "Warning" {
        let why = format!("has invalid value: {}", class.as_str().unwrap_or(""));
        errors.push(FieldError::invalid("type", &json!(""), &why));
    }
}

/// Of a StatefulSet only some fields may change.
pub(crate) fn kept_stateful_set(old: &Value, new: &Value) -> Option<FieldError> {
    let kept = |set: &Value| {
        let mut spec = set["spec"].clone();
        for field in [
            "replicas",
            "ordinals",
            "template",
            "updateStrategy",
            "revisionHistoryLimit",
            "persistentVolumeClaimRetentionPolicy",
            "minReadySeconds",
            "selector",
        ] {
            crate::api::write::set_or_remove(&mut spec, field, None);
        }
        spec
    };
    (kept(old) != kept(new)).then(|| {
        FieldError::forbidden(
            "spec",
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
             'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
             'minReadySeconds' are forbidden",
        )
    })
}

/// A workload that keeps pods running: what its template may not say, and its counts.
pub(crate) fn workload_rules(spec: &Value, errors: &mut Vec<FieldError>) {
    for field in ["replicas", "minReadySeconds", "revisionHistoryLimit"] {
        non_negative(&spec[field], &format!("spec.{field}"), errors);
    }
    template_metadata(spec, errors);
    // Each claim of a StatefulSet is a volume of its pods, in the place of one of the same name.
    let mut template = spec["template"]["spec"].clone();
    for claim in spec["volumeClaimTemplates"].as_array().into_iter().flatten() {
        let name = &claim["metadata"]["name"];
        let mut volumes = template["volumes"].as_array().cloned().unwrap_or_default();
        if !volumes.iter().any(|volume| volume["name"] == *name) {
            volumes.push(json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
            template["volumes"] = json!(volumes);
        }
    }
    pod_rules(&template, "spec.template.spec", errors);
    one_of(
        &spec["template"]["spec"]["restartPolicy"],
        &["Always"],
        "spec.template.spec.restartPolicy",
        errors,
    );
}

pub(crate) fn template_metadata(spec: &Value, errors: &mut Vec<FieldError>) {
    let metadata = &spec["template"]["metadata"];
    errors.extend(label_errors("spec.template.labels", &metadata["labels"]));
    errors.extend(annotation_errors(
        "spec.template.annotations",
        &metadata["annotations"],
    ));
}

/// The strategy and the deadline of a Deployment.
pub(crate) fn deployment_rules(spec: &Value, errors: &mut Vec<FieldError>) {
    non_negative(
        &spec["progressDeadlineSeconds"],
        "spec.progressDeadlineSeconds",
        errors,
    );
    let (deadline, ready) = (
        spec["progressDeadlineSeconds"].as_i64().unwrap_or(600),
        spec["minReadySeconds"].as_i64().unwrap_or(0),
    );
    if deadline <= ready {
        errors.push(FieldError::invalid(
            "spec.progressDeadlineSeconds",
            &spec["progressDeadlineSeconds"],
            "must be greater than minReadySeconds",
        ));
    }
    let strategy = &spec["strategy"];
    if !["Recreate", "RollingUpdate"].contains(&strategy["type"].as_str().unwrap_or("")) {
        let known = ["Recreate", "RollingUpdate"].map(ToOwned::to_owned);
        errors.push(FieldError::not_supported("spec.strategy", strategy, &known));
    }
    let rolling = &strategy["rollingUpdate"];
    if strategy["type"] == "Recreate" && rolling.is_object() {
        errors.push(FieldError::forbidden(
            "spec.strategy.rollingUpdate",
            "may not be specified when strategy `type` is 'Recreate'",
        ));
    }
    if rolling["maxSurge"] == 0 && rolling["maxUnavailable"] == 0 {
        errors.push(FieldError::invalid(
            "spec.strategy.rollingUpdate.maxUnavailable",
            &json!(0),
            "may not be 0 when `maxSurge` is 0",
        ));
    }
}
