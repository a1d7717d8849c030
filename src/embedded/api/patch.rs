//! Patches: JSON patch, merge patch and strategic merge patch.

use serde_json::{Map, Value};

use crate::api::status::ApiError;

/// Applies a JSON patch. Every failing operation gets the one answer of the real server.
pub(crate) fn json(object: &Value, patch: &[u8]) -> Result<Value, ApiError> {
    let operations: Option<Vec<Value>> = serde_json::from_slice(patch)
        .map_err(|e| ApiError::bad_request(&format!("error decoding patch: json: {e}")))?;
    let mut out = object.clone();
    for mut operation in operations.unwrap_or_default() {
        // In an object the server's library replaces also what is not there.
        let path = operation["path"].as_str().unwrap_or("");
        let parent = path.rsplit_once('/').and_then(|(parent, _)| out.pointer(parent));
        let is_absent = out.pointer(path).is_none() && parent.is_some_and(Value::is_object);
        if operation["op"] == "replace" && is_absent {
            operation["op"] = "add".into();
        }
        // And nothing is null.
        if operation["op"] == "test" && is_absent && operation["value"].is_null() {
            continue;
        }
        let operation: json_patch::PatchOperation =
            serde_json::from_value(operation).map_err(|_| ApiError::unprocessable_patch())?;
        json_patch::patch(&mut out, &[operation]).map_err(|_| ApiError::unprocessable_patch())?;
    }
    Ok(out)
}

/// Applies a merge patch (RFC 7396).
pub(crate) fn merge(object: &Value, patch: &[u8]) -> Result<Value, ApiError> {
    let patch = parse_object(patch)?;
    let mut out = object.clone();
    json_patch::merge(&mut out, &patch);
    Ok(out)
}

/// Applies a strategic merge patch: lists with a known key are merged by it.
pub(crate) fn strategic(object: &Value, patch: &[u8]) -> Result<Value, ApiError> {
    let patch = parse_object(patch)?;
    let mut out = object.clone();
    merge_value("", &mut out, &patch)?;
    Ok(out)
}

fn parse_object(patch: &[u8]) -> Result<Value, ApiError> {
    let value: Value = serde_json::from_slice(patch)
        .map_err(|e| ApiError::bad_request(&format!("error decoding patch: {e}")))?;
    if value.is_object() {
        Ok(value)
    } else {
        Err(ApiError::bad_request("Invalid JSON Patch"))
    }
}

/// The key by which the items of a built-in list are matched; the real server has these on the Go types.
pub(crate) fn merge_key(parent: &str, field: &str) -> Option<&'static str> {
    Some(match field {
        "containers" | "initContainers" | "ephemeralContainers" | "volumes" | "env" => "name",
        // Of a ServiceAccount they are one value.
        "imagePullSecrets" if !parent.is_empty() => "name",
        "volumeMounts" => "mountPath",
        "volumeDevices" => "devicePath",
        "hostAliases" => "ip",
        "topologySpreadConstraints" => "topologyKey",
        "ownerReferences" => "uid",
        "conditions" | "addresses" => "type",
        "ports" if parent == "containers" || parent == "initContainers" => "containerPort",
        "ports" if parent == "spec" => "port",
        "secrets" if parent.is_empty() => "name",
        _ => return None,
    })
}

/// Lists of plain values that are merged as sets.
fn is_set(field: &str) -> bool {
    field == "finalizers"
}

fn merge_value(field: &str, target: &mut Value, patch: &Value) -> Result<(), ApiError> {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return Ok(());
    };
    match patch.get("$patch").and_then(Value::as_str) {
        Some("replace") => {
            let mut replacement = patch.clone();
            replacement.remove("$patch");
            *target = Value::Object(replacement);
            return Ok(());
        }
        Some("delete") => {
            *target = Value::Object(Map::new());
            return Ok(());
        }
        _ => {}
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(map) = target.as_object_mut() else {
        return Ok(());
    };
    if let Some(retain) = patch.get("$retainKeys").and_then(Value::as_array) {
        map.retain(|key, _| retain.iter().any(|r| r.as_str() == Some(key)));
    }
    for (name, value) in patch {
        if let Some(list) = name.strip_prefix("$deleteFromPrimitiveList/") {
            if let (Some(current), Some(gone)) =
                (map.get_mut(list).and_then(Value::as_array_mut), value.as_array())
            {
                current.retain(|item| !gone.contains(item));
            }
        } else if name.starts_with('$') {
            // $retainKeys is done; $setElementOrder only orders what is merged below.
        } else if value.is_null() {
            map.remove(name);
        } else if let Value::Array(items) = value {
            let live = map
                .get(name)
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default();
            merge_list(field, name, map, items)?;
            if let (Some(key), Some(merged)) = (
                merge_key(field, name),
                map.get_mut(name).and_then(Value::as_array_mut),
            ) {
                let order = patch.get(&format!("$setElementOrder/{name}"));
                let order = order.and_then(Value::as_array).unwrap_or(items);
                put_in_order(key, &live, order, merged);
            }
        } else {
            merge_value(name, map.entry(name.clone()).or_insert(Value::Null), value)?;
        }
    }
    Ok(())
}

/// Puts merged items in the order of the patch; those that only the live list has stand before the first that came
/// after them there.
fn put_in_order(key: &str, live: &[Value], order: &[Value], merged: &mut Vec<Value>) {
    let place = |list: &[Value], item: &Value| list.iter().position(|i| i.get(key) == item.get(key));
    let (mut patched, rest): (Vec<Value>, Vec<Value>) = std::mem::take(merged)
        .into_iter()
        .partition(|item| place(order, item).is_some());
    patched.sort_by_key(|item| place(order, item));
    let mut rest = rest.into_iter().peekable();
    for item in patched {
        while let Some(before) = rest.next_if(|other| {
            let places = (place(live, other), place(live, &item));
            matches!(places, (Some(other), Some(item)) if other < item)
        }) {
            merged.push(before);
        }
        merged.push(item);
    }
    merged.extend(rest);
}

fn merge_list(
    parent: &str,
    name: &str,
    map: &mut Map<String, Value>,
    patch: &[Value],
) -> Result<(), ApiError> {
    let current = map
        .entry(name.to_owned())
        .or_insert_with(|| Value::Array(Vec::new()));
    if !current.is_array() {
        *current = Value::Array(Vec::new());
    }
    let Some(current) = current.as_array_mut() else {
        return Ok(());
    };
    if is_set(name) {
        for item in patch {
            if !current.contains(item) {
                current.push(item.clone());
            }
        }
        return Ok(());
    }
    let Some(key) = merge_key(parent, name) else {
        *current = patch.to_vec();
        return Ok(());
    };
    if patch.iter().any(|item| item["$patch"] == "replace") {
        *current = patch
            .iter()
            .filter(|item| item["$patch"] != "replace")
            .cloned()
            .collect();
        return Ok(());
    }
    for item in patch {
        let Some(identity) = item.get(key) else {
            return Err(ApiError::internal(&format!(
                "map: {item} does not contain declared merge key: {key}"
            )));
        };
        let position = current.iter().position(|c| c.get(key) == Some(identity));
        match (item["$patch"] == "delete", position) {
            (true, Some(i)) => {
                current.remove(i);
            }
            (true, None) => {}
            (false, Some(i)) => merge_value(name, &mut current[i], item)?,
            (false, None) => {
                let mut new = Value::Null;
                merge_value(name, &mut new, item)?;
                current.push(new);
            }
        }
    }
    Ok(())
}
