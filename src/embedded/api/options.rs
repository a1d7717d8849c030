//! Options of requests: what may stand in the query, and in the body of a deletion.

use serde_json::{Value, json};

use crate::api::delete::DeleteOptions;
use crate::api::request::ApiRequest;
use crate::api::status::{ApiError, FieldError};

/// Checks the options of a create, an update or a patch.
pub(crate) fn check_write(request: &ApiRequest, is_apply: bool) -> Result<(), ApiError> {
    let name = match request.info.verb.as_str() {
        "create" => "CreateOptions",
        "update" => "UpdateOptions",
        _ => "PatchOptions",
    };
    let mut errors = Vec::new();
    errors.extend(dry_run(request.query.get("dryRun").map(String::as_str)));
    let manager = request.query("fieldManager");
    if manager.len() > 128 {
        errors.push(FieldError::too_long("fieldManager", 128));
    }
    if is_apply && manager.is_empty() {
        errors.push(FieldError::required(
            "fieldManager",
            "is required for apply patch",
        ));
    }
    if name == "PatchOptions" && !is_apply && request.query.contains_key("force") {
        errors.push(FieldError::forbidden(
            "force",
            "may not be specified for non-apply patch",
        ));
    }
    let validation = request.query("fieldValidation");
    if !["", "Ignore", "Strict", "Warn"].contains(&validation) {
        let supported = ["", "Ignore", "Strict", "Warn"].map(ToOwned::to_owned);
        errors.push(FieldError::not_supported(
            "fieldValidation",
            &json!(validation),
            &supported,
        ));
    }
    all_right(name, &errors)
}

/// Checks the options of a list or a watch.
pub(crate) fn check_list(request: &ApiRequest) -> Result<(), ApiError> {
    for field in ["limit", "timeoutSeconds"] {
        number(request, field)?;
    }
    let (version, how) = (
        request.query("resourceVersion"),
        request.query("resourceVersionMatch"),
    );
    let initial = request.query("sendInitialEvents");
    let mut errors = Vec::new();
    let mut forbid = |field: &str, why: &str| errors.push(FieldError::forbidden(field, why));
    let watch = request.info.verb == "watch";
    if watch && !initial.is_empty() && how != "NotOlderThan" {
        forbid(
            "resourceVersionMatch",
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        );
        if !how.is_empty() {
            let supported = ["NotOlderThan".to_owned()];
            errors.push(FieldError::not_supported(
                "resourceVersionMatch",
                &json!(how),
                &supported,
            ));
        }
    } else if watch && initial.is_empty() && !how.is_empty() {
        forbid(
            "resourceVersionMatch",
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        );
    } else if !watch && !initial.is_empty() {
        forbid("sendInitialEvents", "sendInitialEvents is forbidden for list");
    } else if !watch && !how.is_empty() {
        if version.is_empty() {
            forbid(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            );
        }
        if !request.query("continue").is_empty() {
            forbid(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden when continue is provided",
            );
        }
        if version == "0" && how == "Exact" {
            forbid(
                "resourceVersionMatch",
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            );
        }
        if !["Exact", "NotOlderThan"].contains(&how) {
            let supported = ["Exact", "NotOlderThan", ""].map(ToOwned::to_owned);
            errors.push(FieldError::not_supported(
                "resourceVersionMatch",
                &json!(how),
                &supported,
            ));
        }
    }
    all_right("ListOptions", &errors)
}

/// A revision from a query. Errors: the text of Go's parser.
pub(crate) fn version(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("strconv.ParseUint: parsing {text:?}: invalid syntax"))
}

/// A revision from the option `resourceVersion`. Errors: in the words for that option.
pub(crate) fn version_option(text: &str) -> Result<u64, String> {
    version(text).map_err(|why| format!("resourceVersion: Invalid value: {text:?}: {why}"))
}

/// The options of a deletion: its body, or the query when there is none.
pub(crate) fn delete(request: &ApiRequest, body: &Value) -> Result<DeleteOptions, ApiError> {
    number(request, "gracePeriodSeconds")?;
    let grace = &body["gracePeriodSeconds"];
    if !grace.is_null() && !grace.is_i64() {
        return Err(ApiError::bad_request(
            "json: cannot unmarshal into Go struct field DeleteOptions.gracePeriodSeconds of type int64",
        ));
    }
    if let (Some(kind), Some(version)) = (body["kind"].as_str(), body["apiVersion"].as_str())
        && kind != "DeleteOptions"
    {
        return Err(ApiError::bad_request(&format!(
            "no kind {kind:?} is registered for version {version:?} in scheme \"pkg/runtime/scheme.go:111\""
        )));
    }
    let mut options = DeleteOptions::parse(body);
    let mut errors = Vec::new();
    if request.body.is_empty() {
        options.dry_run = request.info.dry_run;
        options.grace = request.query("gracePeriodSeconds").parse().ok();
        options.propagation = Some(request.query("propagationPolicy").to_owned()).filter(|p| !p.is_empty());
        errors.extend(dry_run(request.query.get("dryRun").map(String::as_str)));
    } else {
        let asked = body["dryRun"].as_array().and_then(|all| all.first());
        errors.extend(dry_run(asked.and_then(Value::as_str)));
    }
    let policy = &body["propagationPolicy"];
    if policy.is_string() && body["orphanDependents"].is_boolean() {
        errors.push(FieldError::invalid(
            "propagationPolicy",
            policy,
            "orphanDependents and deletionPropagation cannot be both set",
        ));
    }
    let known = ["Foreground", "Background", "Orphan", "nil"].map(ToOwned::to_owned);
    if let Some(policy) = &options.propagation
        && !known[..3].contains(policy)
    {
        errors.push(FieldError::not_supported(
            "propagationPolicy",
            &json!(policy),
            &known,
        ));
    }
    all_right("DeleteOptions", &errors)?;
    Ok(options)
}

fn dry_run(asked: Option<&str>) -> Option<FieldError> {
    let asked = asked.filter(|asked| *asked != "All")?;
    Some(FieldError::not_supported(
        "dryRun",
        &json!([asked]),
        &["All".to_owned()],
    ))
}

fn number(request: &ApiRequest, field: &str) -> Result<(), ApiError> {
    let text = request.query(field);
    if text.is_empty() || text.parse::<i64>().is_ok() {
        return Ok(());
    }
    Err(ApiError::bad_request(&format!(
        "strconv.ParseInt: parsing {text:?}: invalid syntax"
    )))
}

fn all_right(kind: &str, errors: &[FieldError]) -> Result<(), ApiError> {
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid_options(kind, errors))
    }
}
