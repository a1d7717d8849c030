//! The rules of pods, and of Jobs, that this project can run into.

use serde_json::{Value, json};

use crate::api::names::{is_subdomain, label_problem};
use crate::api::rules::{is_empty, non_negative, one_of, template_metadata};
use crate::api::status::FieldError;

pub(crate) fn job_rules(spec: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
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
    template_metadata(spec, errors);
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
    let own = &spec["template"]["metadata"]["labels"]["batch.kubernetes.io/controller-uid"];
    let generated = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": own}});
    if spec["manualSelector"] != true && (own.is_null() || spec["selector"] != generated) {
        errors.push(FieldError::invalid(
            "spec.selector",
            &spec["selector"],
            "`selector` not auto-generated",
        ));
    }
    let selector = crate::api::selector::Selector::from_label_selector(&spec["selector"]);
    let labels = &spec["template"]["metadata"]["labels"];
    if !selector.matches_labels(labels) {
        errors.push(FieldError::invalid(
            "spec.template.metadata.labels",
            labels,
            "`selector` does not match template `labels`",
        ));
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

pub(crate) fn pod_rules(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
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
            crate::api::names::SUBDOMAIN,
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
        for source in ["secret", "downwardAPI", "configMap", "projected"] {
            mode_rules(&volume[source], &format!("{at}.{source}"), errors);
        }
        for (i, source) in volume["projected"]["sources"]
            .as_array()
            .into_iter()
            .flatten()
            .enumerate()
        {
            for part in ["secret", "configMap", "downwardAPI"] {
                let at = format!("{at}.projected.sources[{i}].{part}");
                mode_rules(&source[part], &at, errors);
            }
        }
    }
}

/// The modes of a volume's files.
fn mode_rules(source: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let mut mode = |value: &Value, at: String| {
        if value.as_i64().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
            let why = "must be a number between 0 and 0777 (octal), both inclusive";
            errors.push(FieldError::invalid(&at, value, why));
        }
    };
    mode(&source["defaultMode"], format!("{path}.defaultMode"));
    for (i, item) in source["items"].as_array().into_iter().flatten().enumerate() {
        mode(&item["mode"], format!("{path}.items[{i}].mode"));
    }
}

/// Of a running pod little may change.
pub(crate) fn kept_pod(old: &Value, new: &Value) -> Option<FieldError> {
    let kept = |pod: &Value| {
        let mut spec = pod["spec"].clone();
        for field in [
            "activeDeadlineSeconds",
            "tolerations",
            "terminationGracePeriodSeconds",
        ] {
            crate::api::write::set_or_remove(&mut spec, field, None);
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
