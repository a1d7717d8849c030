//! What a schema makes of an object before it is checked: pruning and defaults; and what it must be itself.

use serde_json::Value;

use super::{
    schema::{child, string_list},
    status::FieldError,
};

pub(super) fn prune(schema: &Value, value: &mut Value, path: &str, is_root: bool, unknown: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            let keep = schema["x-kubernetes-preserve-unknown-fields"] == true;
            let embedded = is_root || schema["x-kubernetes-embedded-resource"] == true;
            map.retain(|name, _| {
                let known = schema["properties"].get(name).is_some()
                    || schema["additionalProperties"].is_object()
                    || schema["additionalProperties"] == true
                    || keep
                    || (embedded && matches!(name.as_str(), "apiVersion" | "kind" | "metadata"));
                if !known {
                    unknown.push(child(path, name));
                }
                known
            });
            for (name, value) in map.iter_mut() {
                if embedded && name == "metadata" {
                    continue;
                }
                let inner = if schema["properties"].get(name).is_some() {
                    &schema["properties"][name]
                } else {
                    &schema["additionalProperties"]
                };
                if inner.is_object() {
                    prune(inner, value, &child(path, name), false, unknown);
                }
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter_mut().enumerate() {
                prune(&schema["items"], item, &format!("{path}[{i}]"), false, unknown);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

pub(super) fn apply_defaults(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|name, value| {
                let inner = if schema["properties"].get(name).is_some() {
                    &schema["properties"][name]
                } else {
                    &schema["additionalProperties"]
                };
                !(value.is_null()
                    && inner.is_object()
                    && inner["nullable"] != true
                    && inner.get("default").is_none())
            });
            if let Some(properties) = schema["properties"].as_object() {
                for (name, inner) in properties {
                    let Some(default) = inner.get("default") else {
                        continue;
                    };
                    let missing = match map.get(name) {
                        None => true,
                        Some(value) => value.is_null() && inner["nullable"] != true,
                    };
                    if missing {
                        map.insert(name.clone(), default.clone());
                    }
                }
            }
            for (name, value) in map.iter_mut() {
                let inner = if schema["properties"].get(name).is_some() {
                    &schema["properties"][name]
                } else {
                    &schema["additionalProperties"]
                };
                apply_defaults(inner, value);
            }
        }
        Value::Array(items) => {
            for item in items {
                apply_defaults(&schema["items"], item);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What is wrong with a schema: each value has a type, each list says what it holds.
pub(super) fn check(schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let flag = |name: &str| schema[name] == true;
    let free = flag("x-kubernetes-int-or-string") || flag("x-kubernetes-preserve-unknown-fields");
    if schema["type"].as_str().is_none_or(str::is_empty) && !free {
        errors.push(FieldError::required(
            &child(path, "type"),
            "must not be empty for specified object fields",
        ));
    }
    if schema["type"] == "array" && !schema["items"].is_object() {
        errors.push(FieldError::required(&child(path, "items"), "must be specified"));
    }
    if schema["x-kubernetes-list-type"] == "map"
        && string_list(&schema["x-kubernetes-list-map-keys"]).is_empty()
    {
        errors.push(FieldError::required(
            &child(path, "x-kubernetes-list-map-keys"),
            "must not be empty if x-kubernetes-list-type is map",
        ));
    }
    if let Some(default) = schema.get("default")
        && let Some(expected) = schema["type"].as_str()
        && !super::schema::has_type(expected, default)
    {
        errors.push(FieldError::invalid(
            &child(path, "default"),
            default,
            &format!("must be of type {expected}"),
        ));
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        // That of every object is known.
        if name != "metadata" {
            check(inner, &format!("{path}.properties[{name}]"), errors);
        }
    }
    for (field, inner) in [
        ("items", &schema["items"]),
        ("additionalProperties", &schema["additionalProperties"]),
    ] {
        if inner.is_object() {
            check(inner, &child(path, field), errors);
        }
    }
}
