//! What a schema makes of an object before it is checked: pruning and defaults; and what it must be itself.

use serde_json::Value;

use crate::api::schema::{child, string_list};
use crate::api::status::FieldError;

/// Removes what the schema does not know, except from what is as it was in `old`.
pub(crate) fn prune(
    schema: &Value,
    value: &mut Value,
    old: Option<&Value>,
    place: Place<'_>,
    unknown: &mut Vec<String>,
) {
    if old == Some(value) {
        return;
    }
    match value {
        Value::Object(map) => {
            let keep = schema["x-kubernetes-preserve-unknown-fields"] == true;
            let is_root = matches!(place, Place::Root);
            let embedded = is_root || schema["x-kubernetes-embedded-resource"] == true;
            let others = &schema["additionalProperties"];
            let takes_others = others.is_object() || *others == true || keep;
            let properties = schema.get("properties");
            map.retain(|name, _| {
                let known = takes_others
                    || properties.is_some_and(|properties| properties.get(name).is_some())
                    || (embedded && matches!(name.as_str(), "apiVersion" | "kind" | "metadata"));
                if !known {
                    unknown.push(Place::Field(&place, name).path());
                }
                known
            });
            for (name, value) in map.iter_mut() {
                if embedded && name == "metadata" {
                    continue;
                }
                let inner = member(schema, name);
                if inner.is_object() {
                    let old = old.and_then(|old| old.get(name));
                    prune(inner, value, old, Place::Field(&place, name), unknown);
                }
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter_mut().enumerate() {
                prune(&schema["items"], item, None, Place::Item(&place, i), unknown);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Fills in defaults and drops nulls that are not allowed, except in what is as it was in `old`.
pub(crate) fn apply_defaults(schema: &Value, value: &mut Value, old: Option<&Value>) {
    if !schema.is_object() || old == Some(value) {
        return;
    }
    match value {
        Value::Object(map) => {
            map.retain(|name, value| {
                if !value.is_null() {
                    return true;
                }
                let inner = member(schema, name);
                !inner.is_object() || inner["nullable"] == true || inner.get("default").is_some()
            });
            for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
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
            for (name, value) in map.iter_mut() {
                apply_defaults(member(schema, name), value, old.and_then(|old| old.get(name)));
            }
        }
        Value::Array(items) => {
            for item in items {
                apply_defaults(&schema["items"], item, None);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What is wrong with a schema: each value has a type, each list says what it holds.
pub(crate) fn check(schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
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
        && !crate::api::schema::has_type(expected, default)
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

/// The schema of a member of an object; null when it has none.
pub(crate) fn member<'a>(schema: &'a Value, name: &str) -> &'a Value {
    let named = schema
        .get("properties")
        .and_then(|properties| properties.get(name));
    named.unwrap_or(&schema["additionalProperties"])
}

/// Where in an object something is. Its path is spelt out only when there is something to say of it.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    Root,
    Field(&'a Place<'a>, &'a str),
    Item(&'a Place<'a>, usize),
}

impl Place<'_> {
    /// As `spec.steps[0].name`; empty for the object itself.
    pub(crate) fn path(self) -> String {
        match self {
            Self::Root => String::new(),
            Self::Field(parent, name) => child(&parent.path(), name),
            Self::Item(parent, index) => format!("{}[{index}]", parent.path()),
        }
    }
}
