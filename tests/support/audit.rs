//! What the API server wrote down of the requests that it answered.

use serde_json::Value;

use crate::installed::CONTROLLER;

/// Names of the Jobs that the API server let the controller make, in order.
pub(crate) fn jobs_made(audit: &[Value]) -> Vec<String> {
    audit
        .iter()
        .filter(|entry| entry["user"]["username"] == CONTROLLER && entry["verb"] == "create")
        .filter(|entry| entry["objectRef"]["resource"] == "jobs" && took_effect(entry))
        .filter_map(|entry| entry["objectRef"]["name"].as_str().map(str::to_owned))
        .collect()
}

/// Answers of 403: rights that the controller's role lacks.
pub(crate) fn forbidden(audit: &[Value]) -> Vec<String> {
    audit
        .iter()
        .filter(|entry| entry["user"]["username"] == CONTROLLER && entry["responseStatus"]["code"] == 403)
        .map(|entry| format!("{} {}", entry["verb"], entry["requestURI"]))
        .collect()
}

/// What the accounts of the actions wrote in a namespace, as verb, resource and name, in order.
pub(crate) fn effects_in(audit: &[Value], namespace: &str) -> Vec<String> {
    let of_an_action = |entry: &&Value| {
        let user = entry["user"]["username"].as_str().unwrap_or_default();
        user.starts_with("system:serviceaccount:kubernaut-executor:")
            && entry["objectRef"]["namespace"] == namespace
            && took_effect(entry)
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    audit
        .iter()
        .filter(of_an_action)
        .map(|entry| {
            let object = &entry["objectRef"];
            let [verb, resource, part, name] = [
                &entry["verb"],
                &object["resource"],
                &object["subresource"],
                &object["name"],
            ]
            .map(text);
            let slash = if part.is_empty() { "" } else { "/" };
            format!("{verb} {resource}{slash}{part} {name}")
        })
        .collect()
}

pub(crate) fn took_effect(entry: &Value) -> bool {
    let code = entry["responseStatus"]["code"].as_i64().unwrap_or_default();
    is_write(entry) && (200..300).contains(&code)
}

/// An access review changes nothing.
pub(crate) fn is_write(entry: &Value) -> bool {
    let verbs = ["create", "update", "patch", "delete"];
    verbs.contains(&entry["verb"].as_str().unwrap_or_default())
        && entry["objectRef"]["resource"] != "subjectaccessreviews"
}
