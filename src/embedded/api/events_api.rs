//! What a stored object looks like in the version that was asked for.
//!
//! Versions of a custom resource differ in their apiVersion only. Events have two forms, `v1` and `events.k8s.io/v1`,
//! of the same stored object, and so have autoscalers, `v1` and `v2`.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::api::autoscaling;
use crate::api::kinds::Kind;

/// Field names: core, events.k8s.io.
const RENAMED: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// The stored object in the form of `kind`.
pub(crate) fn present(kind: &Kind, object: &Arc<Value>) -> Arc<Value> {
    let api_version = kind.api_version();
    if object["apiVersion"] == json!(api_version) {
        return Arc::clone(object);
    }
    let mut out = if kind.is_resource("events.events.k8s.io") {
        let mut out = rename(Value::clone(object), |core, new| (core, new));
        if let Some(map) = out.as_object_mut() {
            let optional = |field: &str| matches!(field, "reportingController" | "reportingInstance");
            map.retain(|field, value| !(optional(field) && value == ""));
        }
        out
    } else if kind.group == "autoscaling" {
        autoscaling::to_v1(Value::clone(object))
    } else {
        Value::clone(object)
    };
    out["apiVersion"] = json!(api_version);
    out["kind"] = json!(kind.kind);
    Arc::new(out)
}

/// An object as it came, in the form it is stored in.
pub(crate) fn to_stored(kind: &Kind, object: Value) -> Value {
    if kind.group == "autoscaling" && object["apiVersion"] == "autoscaling/v1" {
        return autoscaling::to_v2(object);
    }
    if !kind.is_resource("events.events.k8s.io") {
        return object;
    }
    let mut out = rename(object, |core, new| (new, core));
    out["apiVersion"] = json!("v1");
    out
}

fn rename(
    object: Value,
    direction: impl Fn(&'static str, &'static str) -> (&'static str, &'static str),
) -> Value {
    let Value::Object(map) = object else {
        return object;
    };
    let renamed = map.into_iter().map(|(key, value)| {
        let name = RENAMED
            .iter()
            .map(|(core, new)| direction(core, new))
            .find(|(from, _)| *from == key)
            .map_or(key, |(_, to)| to.to_owned());
        (name, value)
    });
    Value::Object(renamed.collect())
}
