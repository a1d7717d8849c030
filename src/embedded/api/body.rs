//! Bodies of requests: how they are read, and what they must be to fit the path.

use serde_json::{Value, json};

use crate::api::kinds::Kind;
use crate::api::request::ApiRequest;
use crate::api::status::ApiError;
use crate::api::write::Part;
use crate::api::{options, patch, typed};

/// A body that is an object with metadata that is one, or has none.
pub(crate) fn parse(body: &[u8]) -> Result<Value, ApiError> {
    let bad =
        |why: &str| ApiError::bad_request(&format!("couldn't get version/kind; json parse error: {why}"));
    let object: Value = serde_json::from_slice(body).map_err(|e| bad(&e.to_string()))?;
    check_shape(&object)?;
    Ok(object)
}

pub(crate) fn check_shape(object: &Value) -> Result<(), ApiError> {
    let metadata = &object["metadata"];
    if object.is_object() && (metadata.is_null() || metadata.is_object()) {
        Ok(())
    } else {
        Err(ApiError::bad_request(
            "json: cannot unmarshal into Go value of type v1.ObjectMeta",
        ))
    }
}

pub(crate) fn check_url(object: &Value, request: &ApiRequest) -> Result<(), ApiError> {
    let name = object["metadata"]["name"].as_str().unwrap_or("");
    if name.is_empty() {
        return Err(ApiError::bad_request(&format!(
            "the name of the object ({} based on URL) was undeterminable: name must be provided",
            request.info.name
        )));
    }
    if name != request.info.name {
        return Err(ApiError::bad_request(&format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            request.info.name
        )));
    }
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("");
    if !namespace.is_empty() && namespace != request.info.namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// What a patch may not make of an object: another one, or one of another kind.
pub(crate) fn check_patched(kind: &Kind, patched: &Value, request: &ApiRequest) -> Result<(), ApiError> {
    if !patched["metadata"].is_object() {
        let why = "json: cannot unmarshal into Go struct field .metadata of type v1.ObjectMeta";
        return Err(ApiError::bad_patch(patched, why));
    }
    let (version, name) = (text_of(&patched["apiVersion"]), text_of(&patched["kind"]));
    if kind.custom.is_none() && (version != kind.api_version() || name != kind.kind) {
        return Err(ApiError::bad_patch(
            patched,
            &crate::api::system_metadata::no_such_kind((&kind.group, &kind.kind), version, name),
        ));
    }
    if request.info.name != text_of(&patched["metadata"]["name"])
        || text_of(&patched["metadata"]["namespace"]) != request.info.namespace
    {
        check_url(patched, request)?;
    }
    Ok(())
}

/// An apply of the object says nothing of its status, and the other way round.
pub(crate) fn keep_part(config: &mut Value, part: Part) {
    if let Some(map) = config.as_object_mut() {
        map.retain(|field, _| match part {
            Part::Main => field != "status",
            Part::Status => matches!(field.as_str(), "apiVersion" | "kind" | "metadata" | "status"),
        });
    }
    if part == Part::Status
        && let Some(metadata) = config["metadata"].as_object_mut()
    {
        metadata
            .retain(|field, _| matches!(field.as_str(), "name" | "namespace" | "resourceVersion" | "uid"));
    }
}

pub(crate) fn check_eviction(request: &ApiRequest) -> Result<(), ApiError> {
    options::check_write(request, false)?;
    let eviction = parse(&request.body)?;
    let (version, name) = (text_of(&eviction["apiVersion"]), text_of(&eviction["kind"]));
    let old = ["policy/v1", "policy/v1beta1"].contains(&version);
    if !(old && name == "Eviction" || version.is_empty() && name.is_empty()) {
        return Err(ApiError::bad_request(&format!(
            "{name} in version {:?} cannot be handled as a Eviction: {}",
            version.rsplit('/').next().unwrap_or(""),
            crate::api::system_metadata::no_such_kind(("policy", "Eviction"), version, name)
        )));
    }
    let namespace = text_of(&eviction["metadata"]["namespace"]);
    if !namespace.is_empty() && namespace != request.info.namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// What is applied must be declared in the schema, whatever the request's field validation.
pub(crate) fn check_declared(kind: &Kind, config: &Value) -> Result<(), ApiError> {
    let mut copy = config.clone();
    let unknown = match &kind.custom {
        Some(custom) => {
            let unknown = custom.prune(&mut copy, None);
            let wrong = custom.wrong_types(&copy);
            unknown
                .iter()
                .map(|path| format!(".{path}: field not declared in schema"))
                .chain(wrong)
                .next()
        }
        None => typed::prune(kind, &mut copy)?
            .first()
            .map(|path| format!(".{path}: field not declared in schema")),
    };
    unknown.map_or(Ok(()), |why| {
        let name = text_of(&config["metadata"]["name"]);
        let namespace = text_of(&config["metadata"]["namespace"]);
        Err(ApiError::internal(&format!(
            "failed to create typed patch object ({namespace}/{name}; {}, Kind={}): {why}",
            kind.api_version(),
            kind.kind
        )))
    })
}

/// The object of a create or an update, in JSON or YAML.
pub(crate) fn read(kind: &Kind, request: &ApiRequest) -> Result<Value, ApiError> {
    let media = request.content_type.split(';').next().unwrap_or("").trim();
    let mut object = match media {
        "" | "application/json" => parse(&request.body)?,
        "application/yaml" => {
            let text = String::from_utf8_lossy(&request.body);
            let object = serde_saphyr::from_str(&text)
                .map_err(|e| ApiError::bad_request(&format!("error converting YAML to JSON: yaml: {e}")))?;
            check_shape(&object)?;
            object
        }
        _ => {
            return Err(ApiError::unsupported_media_type(&[
                "application/json",
                "application/yaml",
                "application/vnd.kubernetes.protobuf",
            ]));
        }
    };
    if request.query("fieldValidation") == "Strict" && media != "application/yaml" {
        crate::api::duplicate_keys::no_duplicates(kind, &request.body)?;
    }
    whole_numbers(&mut object);
    // The types of the server itself need no name.
    if kind.custom.is_none() {
        for (field, value) in [("apiVersion", kind.api_version()), ("kind", kind.kind.clone())] {
            if text_of(&object[field]).is_empty() {
                object[field] = json!(value);
            }
        }
    }
    Ok(object)
}

/// A number without a fraction is a whole number, however it is written.
pub(crate) fn whole_numbers(value: &mut Value) {
    match value {
        Value::Object(map) => map.values_mut().for_each(whole_numbers),
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Number(number) if number.is_f64() => {
            let float = number.as_f64().unwrap_or(0.5);
            if float.fract() == 0.0 && float.abs() < 9e15 {
                #[allow(clippy::cast_possible_truncation, reason = "it is whole and small enough")]
                let whole = float as i64;
                *value = json!(whole);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

pub(crate) fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

pub(crate) fn apply_patch(kind: &Kind, media: &str, current: &Value, body: &[u8]) -> Result<Value, ApiError> {
    match media {
        "application/json-patch+json" => patch::json(current, body),
        "application/merge-patch+json" => patch::merge(current, body),
        "application/strategic-merge-patch+json" if kind.custom.is_none() => patch::strategic(current, body),
        _ => Err(ApiError::unsupported_patch(kind)),
    }
}
