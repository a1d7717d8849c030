//! The rules of built-in kinds that this project can run into.

use serde_json::{Value, json};

use super::{
    kinds::Kind,
    names::{is_subdomain, key_problems, label_errors, label_problem},
    status::FieldError,
};

pub(super) fn non_negative(value: &Value, field: &str, errors: &mut Vec<FieldError>) {
    if value.as_i64().is_some_and(|n| n < 0) {
        errors.push(FieldError::invalid(
            field,
            value,
            "must be greater than or equal to 0",
        ));
    }
}

fn positive(value: &Value, field: &str, errors: &mut Vec<FieldError>) {
    if value.as_i64().is_some_and(|n| n <= 0) {
        errors.push(FieldError::invalid(field, value, "must be greater than 0"));
    }
}

fn one_of(value: &Value, known: &[&str], field: &str, errors: &mut Vec<FieldError>) {
    if value.as_str().is_some_and(|text| !known.contains(&text)) {
        let known: Vec<String> = known.iter().map(|text| (*text).to_owned()).collect();
        errors.push(FieldError::not_supported(field, value, &known));
    }
}

/// Kinds without pods.
pub(super) fn of_small_kinds(kind: &Kind, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
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
        let field = if kind.is("secrets") { "data" } else { "[]" };
        errors.push(FieldError::too_long(field, 1024 * 1024));
    }
    let Some(old) = old else { return };
    if kind.is("secrets") && old["type"] != object["type"] {
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

fn is_empty(list: &Value) -> bool {
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
    if !kind.is("events.events.k8s.io") {
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
        errors.push(FieldError::invalid("type", &class, "has invalid value: "));
    }
}

/// Of a running pod little may change.
pub(super) fn kept_pod(old: &Value, new: &Value) -> Option<FieldError> {
    let kept = |pod: &Value| {
        let mut spec = pod["spec"].clone();
        for field in [
            "activeDeadlineSeconds",
            "tolerations",
            "terminationGracePeriodSeconds",
        ] {
            super::write::set_or_remove(&mut spec, field, None);
        }
        for list in ["containers", "initContainers"] {
            for container in spec
                .get_mut(list)
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
            {
                container["image"] = Value::Null;
            }
        }
        spec
    };
    let bound = old["spec"]["nodeName"]
        .as_str()
        .is_some_and(|node| !node.is_empty());
    (bound && kept(old) != kept(new)).then(|| {
        FieldError::forbidden(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,\
             `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to \
             existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
             previously negative)",
        )
    })
}

/// Of a StatefulSet only some fields may change.
pub(super) fn kept_stateful_set(old: &Value, new: &Value) -> Option<FieldError> {
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
            super::write::set_or_remove(&mut spec, field, None);
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
pub(super) fn workload_rules(spec: &Value, errors: &mut Vec<FieldError>) {
    for field in ["replicas", "minReadySeconds", "revisionHistoryLimit"] {
        non_negative(&spec[field], &format!("spec.{field}"), errors);
    }
    template_labels(spec, errors);
    pod_rules(&spec["template"]["spec"], "spec.template.spec", errors);
    one_of(
        &spec["template"]["spec"]["restartPolicy"],
        &["Always"],
        "spec.template.spec.restartPolicy",
        errors,
    );
}

fn template_labels(spec: &Value, errors: &mut Vec<FieldError>) {
    errors.extend(label_errors(
        "spec.template.labels",
        &spec["template"]["metadata"]["labels"],
    ));
}

/// The strategy and the deadline of a Deployment.
pub(super) fn deployment_rules(spec: &Value, errors: &mut Vec<FieldError>) {
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

pub(super) fn job_rules(spec: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    for field in [
        "backoffLimit",
        "activeDeadlineSeconds",
        "ttlSecondsAfterFinished",
        "parallelism",
        "completions",
    ] {
        non_negative(&spec[field], &format!("spec.{field}"), errors);
    }
    let template = &spec["template"]["spec"];
    one_of(
        &spec["completionMode"],
        &["NonIndexed", "Indexed"],
        "spec.completionMode",
        errors,
    );
    failure_policy_rules(spec, errors);
    template_labels(spec, errors);
    pod_rules(template, "spec.template.spec", errors);
    match template["restartPolicy"].as_str() {
        None | Some("" | "Always") => errors.push(FieldError::required(
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

fn failure_policy_rules(spec: &Value, errors: &mut Vec<FieldError>) {
    let policy = &spec["podFailurePolicy"];
    let replacements: &[&str] = if policy.is_object() {
        &["Failed"]
    } else {
        &["Failed", "TerminatingOrFailed"]
    };
    one_of(
        &spec["podReplacementPolicy"],
        replacements,
        "spec.podReplacementPolicy",
        errors,
    );
    if !policy.is_object() {
        return;
    }
    let restart = &spec["template"]["spec"]["restartPolicy"];
    if restart == "OnFailure" {
        errors.push(FieldError::invalid(
            "spec.template.spec.restartPolicy",
            restart,
            "only \"Never\" is supported when podFailurePolicy is specified",
        ));
    }
    for (i, rule) in policy["rules"].as_array().into_iter().flatten().enumerate() {
        let at = format!("spec.podFailurePolicy.rules[{i}]");
        let known = ["Count", "FailIndex", "FailJob", "Ignore"];
        one_of(&rule["action"], &known, &format!("{at}.action"), errors);
        let codes = &rule["onExitCodes"];
        if is_empty(&rule["onPodConditions"]) && !codes.is_object() {
            errors.push(FieldError::omitted(
                &at,
                "specifying one of OnExitCodes and OnPodConditions is required",
            ));
        }
        for (i, value) in codes["values"].as_array().into_iter().flatten().enumerate() {
            if codes["operator"] == "In" && *value == 0 {
                errors.push(FieldError::invalid(
                    &format!("{at}.onExitCodes.values[{i}]"),
                    value,
                    "must not be 0 for the In operator",
                ));
            }
        }
    }
}

pub(super) fn pod_rules(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
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
        if let Some(problem) = container["name"]
            .as_str()
            .filter(|n| !n.is_empty())
            .and_then(label_problem)
        {
            errors.push(FieldError::invalid(
                &format!("{at}.name"),
                &container["name"],
                &problem,
            ));
        }
        if container["image"].as_str().is_none_or(str::is_empty) {
            errors.push(FieldError::required(&format!("{at}.image"), ""));
        }
        one_of(
            &container["imagePullPolicy"],
            &["Always", "IfNotPresent", "Never"],
            &format!("{at}.imagePullPolicy"),
            errors,
        );
        container_rules(spec, container, &at, errors);
    }
    volume_rules(spec, path, errors);
    one_of(
        &spec["restartPolicy"],
        &["Always", "OnFailure", "Never"],
        &format!("{path}.restartPolicy"),
        errors,
    );
    if let Some(seconds) = spec["activeDeadlineSeconds"].as_i64().filter(|s| *s < 1) {
        errors.push(FieldError::invalid(
            &format!("{path}.activeDeadlineSeconds"),
            &json!(seconds),
            "must be between 1 and 2147483647, inclusive",
        ));
    }
    if let Some(node) = spec["nodeName"]
        .as_str()
        .filter(|n| !n.is_empty() && !is_subdomain(n))
    {
        errors.push(FieldError::invalid(
            &format!("{path}.nodeName"),
            &json!(node),
            super::names::SUBDOMAIN,
        ));
    }
    for (i, toleration) in spec["tolerations"].as_array().into_iter().flatten().enumerate() {
        let at = format!("{path}.tolerations[{i}].operator");
        one_of(&toleration["operator"], &["Equal", "Exists"], &at, errors);
    }
}

fn container_rules(spec: &Value, container: &Value, at: &str, errors: &mut Vec<FieldError>) {
    for (i, port) in container["ports"].as_array().into_iter().flatten().enumerate() {
        let (field, value) = (format!("{at}.ports[{i}].containerPort"), &port["containerPort"]);
        if value.as_i64().unwrap_or(0) == 0 {
            errors.push(FieldError::required(&field, ""));
        } else if value.as_i64().is_some_and(|port| !(1..=65535).contains(&port)) {
            errors.push(FieldError::invalid(
                &field,
                value,
                "must be between 1 and 65535, inclusive",
            ));
        }
    }
    for (i, variable) in container["env"].as_array().into_iter().flatten().enumerate() {
        if variable["name"].as_str().is_none_or(str::is_empty) {
            errors.push(FieldError::required(&format!("{at}.env[{i}].name"), ""));
        }
    }
    for (i, mount) in container["volumeMounts"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        let mut volumes = spec["volumes"].as_array().into_iter().flatten();
        if !volumes.any(|volume| volume["name"] == mount["name"]) {
            errors.push(FieldError::not_found(
                &format!("{at}.volumeMounts[{i}].name"),
                &mount["name"],
            ));
        }
    }
}

fn volume_rules(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let mut names = Vec::new();
    for (i, volume) in spec["volumes"].as_array().into_iter().flatten().enumerate() {
        let at = format!("{path}.volumes[{i}]");
        let name = volume["name"].as_str().unwrap_or("");
        if name.is_empty() {
            errors.push(FieldError::required(&format!("{at}.name"), ""));
        } else if let Some(problem) = label_problem(name) {
            errors.push(FieldError::invalid(&format!("{at}.name"), &json!(name), &problem));
        } else if names.contains(&name) {
            errors.push(FieldError::duplicate(&format!("{at}.name"), &json!(name)));
        }
        names.push(name);
        // In the order of the server's type.
        let order = [
            "emptyDir",
            "secret",
            "persistentVolumeClaim",
            "downwardAPI",
            "configMap",
            "projected",
        ];
        let sources = order.iter().filter(|source| volume[source].is_object());
        for more in sources.skip(1) {
            errors.push(FieldError::forbidden(
                &format!("{at}.{more}"),
                "may not specify more than 1 volume type",
            ));
        }
    }
}
