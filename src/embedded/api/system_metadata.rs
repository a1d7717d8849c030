//! What a write may say of an object's kind, version and metadata, and what of them stays whatever it says.

use serde_json::{Value, json};

use crate::api::kinds::Kind;
use crate::api::status::{ApiError, FieldError};
use crate::api::write::{Part, set_or_remove};

pub(crate) fn check_type(kind: &Kind, object: &Value) -> Result<(), ApiError> {
    if !object.is_object() {
        return Err(ApiError::bad_request(
            "the object provided is unrecognized (must be of type Object)",
        ));
    }
    let text = |field: &str| object[field].as_str().unwrap_or("");
    let (version, name) = (text("apiVersion"), text("kind"));
    let as_stored = match kind.group.as_str() {
        "events.k8s.io" => version == "v1",
        "autoscaling" => version == "autoscaling/v2",
        _ => false,
    };
    if name == kind.kind && (version == kind.api_version() || as_stored && kind.is_another_form()) {
        return Ok(());
    }
    if kind.custom.is_none() {
        return Err(ApiError::bad_request(&format!(
            "{name} in version {:?} cannot be handled as a {}: {}",
            version.rsplit('/').next().unwrap_or(""),
            kind.kind,
            no_such_kind((&kind.group, &kind.kind), version, name)
        )));
    }
    if name.is_empty() {
        return Err(ApiError::bad_request(&format!(
            "the object provided is unrecognized (must be of type {}): Object 'Kind' is missing in '{object}'",
            kind.kind
        )));
    }
    let wrong = |field: &str, given: &str, wanted: &str| {
        FieldError::invalid(field, &json!(given), &format!("must be {wanted}"))
    };
    let error = if version == kind.api_version() {
        wrong("kind", name, &kind.kind)
    } else if object["metadata"]["uid"].is_string() {
        wrong("apiVersion", version, &kind.api_version())
    } else {
        return Err(ApiError::bad_request(&format!(
            "the API version in the data ({version}) does not match the expected API version ({})",
            kind.api_version()
        )));
    };
    let shown = object["metadata"]["name"].as_str().unwrap_or("");
    Err(ApiError::invalid_as(&kind.group, name, shown, &[error]))
}

/// What Go's decoder says of a kind that is not the one of the path.
pub(crate) fn no_such_kind(wanted: (&str, &str), version: &str, name: &str) -> String {
    let served = crate::api::kinds::is_built_in(version, name);
    if served {
        let short = |version: &str| version.rsplit('/').next().unwrap_or("").to_owned();
        let group = |group: &str| {
            let first = group.split('.').next().unwrap_or("");
            if first.is_empty() { "core" } else { first }.to_owned()
        };
        format!(
            "converting ({}.{name}) to ({}.{}): unknown conversion",
            short(version),
            group(wanted.0),
            wanted.1
        )
    } else {
        format!(
            "no kind {name:?} is registered for version {version:?} in scheme \"pkg/runtime/scheme.go:111\""
        )
    }
}

pub(crate) fn check_version(
    kind: &Kind,
    name: &str,
    old: &Value,
    incoming: &Value,
    part: Part,
    by_patch: bool,
) -> Result<(), ApiError> {
    let (version, current) = (
        meta_text(incoming, "resourceVersion"),
        meta_text(old, "resourceVersion"),
    );
    if version.is_empty() || version == "0" {
        // Custom resources, leases and the like can't be overwritten blindly.
        let careful = ["leases.coordination.k8s.io", "poddisruptionbudgets.policy"];
        if kind.custom.is_some() || careful.contains(&kind.resource.as_str()) {
            return Err(ApiError::no_version(kind, name));
        }
    } else if version != current {
        crate::api::options::version(version).map_err(|why| ApiError::internal(&why))?;
        return Err(ApiError::modified(kind, name));
    }
    let (uid, current) = (meta_text(incoming, "uid"), meta_text(old, "uid"));
    // A patch that changes it breaks a rule; the metadata of a status is not looked at.
    if !uid.is_empty() && uid != current && !by_patch && part == Part::Main {
        return Err(ApiError::conflict(
            kind,
            name,
            &format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {current}"),
        ));
    }
    Ok(())
}

/// What only the server writes stays as it was, whatever the request says.
pub(crate) fn keep_system_metadata(kind: &Kind, old: &Value, new: &mut Value) {
    if !new["metadata"].is_object() {
        new["metadata"] = json!({});
    }
    let mut keep = |field: &str, value: Option<&Value>| {
        if new["metadata"].get(field) != value {
            set_or_remove(&mut new["metadata"], field, value.cloned());
        }
    };
    for field in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
    ] {
        keep(field, old["metadata"].get(field));
    }
    for field in ["managedFields", "selfLink"] {
        keep(field, None);
    }
    for field in ["name", "namespace"] {
        if new["metadata"][field].as_str().is_none_or(str::is_empty) {
            let value = old["metadata"].get(field).cloned();
            set_or_remove(&mut new["metadata"], field, value);
        }
    }
    // A missing list and an empty one are the same.
    for field in ["finalizers", "ownerReferences"] {
        if new["metadata"][field].as_array().is_some_and(Vec::is_empty) {
            set_or_remove(&mut new["metadata"], field, None);
        }
    }
    for field in ["labels", "annotations"] {
        if new["metadata"][field].is_null()
            || new["metadata"][field]
                .as_object()
                .is_some_and(serde_json::Map::is_empty)
        {
            set_or_remove(&mut new["metadata"], field, None);
        }
    }
    if new["apiVersion"] != old["apiVersion"] {
        new["apiVersion"] = old["apiVersion"].clone();
    }
    if new["kind"] != kind.kind.as_str() {
        new["kind"] = json!(kind.kind);
    }
}

/// What a request may repeat but not change.
pub(crate) fn immutable_metadata(old: &Value, new: &Value) -> Vec<FieldError> {
    let fields = ["uid", "deletionTimestamp", "deletionGracePeriodSeconds"];
    let changed = fields.into_iter().filter(|field| {
        let (before, after) = (&old["metadata"][field], &new["metadata"][field]);
        !after.is_null() && *after != "" && before != after
    });
    changed
        .map(|field| FieldError::immutable(&format!("metadata.{field}"), &new["metadata"][field]))
        .collect()
}

pub(crate) fn validate_metadata_update(old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for field in ["name", "namespace"] {
        if old["metadata"][field] != new["metadata"][field] {
            errors.push(FieldError::invalid(
                &format!("metadata.{field}"),
                &new["metadata"][field],
                "field is immutable",
            ));
        }
    }
    if old["metadata"]["deletionTimestamp"].is_string() {
        let before: Vec<&Value> = old["metadata"]["finalizers"]
            .as_array()
            .into_iter()
            .flatten()
            .collect();
        let added: Vec<String> = new["metadata"]["finalizers"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|f| !before.contains(f))
            .map(ToString::to_string)
            .collect();
        if !added.is_empty() {
            errors.push(FieldError::forbidden(
                "metadata.finalizers",
                &format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers \
                     []string{{{}}}",
                    added.join(", ")
                ),
            ));
        }
    }
    errors
}

fn meta_text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or("")
}
