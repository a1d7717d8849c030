//! Errors of the API server: one `Status` object each, with the code, reason and wording of the real one.

use serde_json::{Value, json};

use crate::api::kinds::Kind;

/// A failed request, as the `Status` object that goes over the wire.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ApiError(pub(crate) Box<Value>);

/// One violated rule of one field.
///
/// `body` is what the API server prints after the field's path, without its own `reason` word doubled.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldError {
    /// Path of the field, such as `spec.steps[0].name`; `<nil>` where the rule belongs to no field.
    pub field: String,
    /// Machine-readable cause, such as `FieldValueRequired`.
    pub reason: String,
    /// What is wrong, in the API server's words, such as `Required value`.
    pub message: String,
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

impl FieldError {
    fn new(field: &str, reason: &str, message: String) -> Self {
        let field = if field.is_empty() { "<nil>" } else { field };
        Self {
            field: field.to_owned(),
            reason: reason.to_owned(),
            message,
        }
    }

    fn with_detail(word: &str, detail: &str) -> String {
        if detail.is_empty() {
            word.to_owned()
        } else {
            format!("{word}: {detail}")
        }
    }

    pub(crate) fn required(field: &str, detail: &str) -> Self {
        Self::new(
            field,
            "FieldValueRequired",
            Self::with_detail("Required value", detail),
        )
    }

    pub(crate) fn forbidden(field: &str, detail: &str) -> Self {
        Self::new(
            field,
            "FieldValueForbidden",
            Self::with_detail("Forbidden", detail),
        )
    }

    pub(crate) fn invalid(field: &str, value: &Value, detail: &str) -> Self {
        Self::new(
            field,
            "FieldValueInvalid",
            Self::with_detail(&format!("Invalid value: {value}"), detail),
        )
    }

    /// An invalid value that is too large to be printed.
    pub(crate) fn omitted(field: &str, detail: &str) -> Self {
        Self::new(
            field,
            "FieldValueInvalid",
            Self::with_detail("Invalid value", detail),
        )
    }

    pub(crate) fn type_invalid(field: &str, value: &Value, detail: &str) -> Self {
        Self::new(
            field,
            "FieldValueTypeInvalid",
            Self::with_detail(&format!("Invalid value: {value}"), detail),
        )
    }

    pub(crate) fn duplicate(field: &str, value: &Value) -> Self {
        Self::new(field, "FieldValueDuplicate", format!("Duplicate value: {value}"))
    }

    pub(crate) fn not_found(field: &str, value: &Value) -> Self {
        Self::new(field, "FieldValueNotFound", format!("Not found: {value}"))
    }

    pub(crate) fn not_supported(field: &str, value: &Value, supported: &[String]) -> Self {
        let list: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        Self::new(
            field,
            "FieldValueNotSupported",
            Self::with_detail(
                &format!("Unsupported value: {value}"),
                &format!("supported values: {}", list.join(", ")),
            ),
        )
    }

    pub(crate) fn too_long(field: &str, max: u64) -> Self {
        let unit = if max == 1 { "byte" } else { "bytes" };
        Self::new(
            field,
            "FieldValueTooLong",
            format!("Too long: may not be more than {max} {unit}"),
        )
    }

    pub(crate) fn too_many(field: &str, actual: u64, max: u64) -> Self {
        let unit = if max == 1 { "item" } else { "items" };
        Self::new(
            field,
            "FieldValueTooMany",
            format!("Too many: {actual}: must have at most {max} {unit}"),
        )
    }

    /// The rules of a status are told from the status on.
    pub(crate) fn within_status(&mut self) {
        let (whole, inner) = match self.field.strip_prefix("status") {
            Some("") => ("status in body".to_owned(), " in body".to_owned()),
            Some(rest) => (
                format!("{} in body", self.field),
                format!("{} in body", rest.trim_start_matches('.')),
            ),
            None => return,
        };
        self.message = self.message.replace(&whole, &inner);
    }

    pub(crate) fn immutable(field: &str, value: &Value) -> Self {
        Self::invalid(field, value, "field is immutable")
    }

    pub(crate) fn unknown_field(path: &str) -> Self {
        Self::new(path, "FieldValueUnknown", format!("unknown field \"{path}\""))
    }
}

impl ApiError {
    fn new(code: u16, reason: &str, message: &str, details: Value) -> Self {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "code": code,
        });
        if !reason.is_empty() {
            status["reason"] = json!(reason);
        }
        if !details.is_null() {
            status["details"] = details;
        }
        Self(Box::new(status))
    }

    pub(crate) fn code(&self) -> u16 {
        self.0["code"]
            .as_u64()
            .and_then(|c| u16::try_from(c).ok())
            .unwrap_or(500)
    }

    pub(crate) fn reason(&self) -> &str {
        self.0["reason"].as_str().unwrap_or("")
    }

    pub(crate) fn message(&self) -> &str {
        self.0["message"].as_str().unwrap_or("")
    }

    fn details(kind: &Kind, name: &str) -> Value {
        Self::plain_details(&kind.group, &kind.plural, name)
    }

    fn plain_details(group: &str, kind: &str, name: &str) -> Value {
        let mut details = json!({});
        if !name.is_empty() {
            details["name"] = json!(name);
        }
        if !group.is_empty() {
            details["group"] = json!(group);
        }
        if !kind.is_empty() {
            details["kind"] = json!(kind);
        }
        details
    }

    pub(crate) fn not_found(kind: &Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", kind.resource);
        Self::new(404, "NotFound", &message, Self::details(kind, name))
    }

    pub(crate) fn already_exists(kind: &Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", kind.resource);
        Self::new(409, "AlreadyExists", &message, Self::details(kind, name))
    }

    pub(crate) fn modified(kind: &Kind, name: &str) -> Self {
        Self::conflict(
            kind,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    pub(crate) fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{name}\": {why}",
            kind.resource
        );
        Self::new(409, "Conflict", &message, Self::details(kind, name))
    }

    /// A delete precondition that failed: here the real server names the kind, not the resource.
    pub(crate) fn precondition(kind: &Kind, name: &str, why: &str) -> Self {
        let what = if kind.group.is_empty() {
            kind.kind.clone()
        } else {
            format!("{}.{}", kind.kind, kind.group)
        };
        let message = format!("Operation cannot be fulfilled on {what} \"{name}\": {why}");
        Self::new(
            409,
            "Conflict",
            &message,
            Self::plain_details(&kind.group, &kind.kind, name),
        )
    }

    /// A pod that is bound a second time.
    pub(crate) fn bound(name: &str, node: &Value) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on pods/binding \"{name}\": pod {name} is already assigned to node {node}"
        );
        let details = Self::plain_details("", "pods/binding", name);
        Self::new(409, "Conflict", &message, details)
    }

    pub(crate) fn forbidden(kind: &Kind, name: &str, why: &str) -> Self {
        let message = if name.is_empty() {
            format!("{} is forbidden: {why}", kind.resource)
        } else {
            format!("{} \"{name}\" is forbidden: {why}", kind.resource)
        };
        Self::new(403, "Forbidden", &message, Self::details(kind, name))
    }

    /// For paths that are no resource.
    pub(crate) fn forbidden_path(why: &str) -> Self {
        Self::new(403, "Forbidden", &format!("forbidden: {why}"), json!({}))
    }

    /// Reviews have no kind and no name in their errors.
    pub(crate) fn invalid_review(error: &FieldError) -> Self {
        Self::nameless("authorization.k8s.io", "", std::slice::from_ref(error))
    }

    /// Options that stand in the query or in the body of a deletion.
    pub(crate) fn invalid_options(kind: &str, errors: &[FieldError]) -> Self {
        Self::nameless("meta.k8s.io", kind, errors)
    }

    /// A patch whose outcome can't be decoded.
    pub(crate) fn bad_patch(object: &Value, why: &str) -> Self {
        let error = FieldError::invalid("patch", &json!(object.to_string()), why);
        Self::nameless("", "", &[error])
    }

    fn nameless(group: &str, kind: &str, errors: &[FieldError]) -> Self {
        Self::invalid_as(group, kind, "", errors)
    }

    pub(crate) fn terminating_namespace(kind: &Kind, name: &str, namespace: &str) -> Self {
        let mut error = Self::forbidden(
            kind,
            name,
            &format!("unable to create new content in namespace {namespace} because it is being terminated"),
        );
        error.0["details"]["causes"] = json!([{
            "reason": "NamespaceTerminating",
            "message": format!("namespace {namespace} is being terminated"),
            "field": "metadata.namespace",
        }]);
        error
    }

    pub(crate) fn bad_request(message: &str) -> Self {
        Self::new(400, "BadRequest", message, Value::Null)
    }

    /// A path that is served with another method, of a custom resource.
    pub(crate) fn not_supported(kind: &Kind, verb: &str) -> Self {
        let message = format!("{verb} is not supported on resources of kind {:?}", kind.resource);
        Self::new(
            405,
            "MethodNotAllowed",
            &message,
            Self::plain_details(&kind.group, &kind.plural, ""),
        )
    }

    /// A path below one that is served.
    pub(crate) fn no_such_resource(details: Value) -> Self {
        let message = "the server could not find the requested resource";
        Self::new(404, "NotFound", message, details)
    }

    /// A revision that no write has reached yet.
    pub(crate) fn too_large_version(requested: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {requested}, current: {current}");
        let causes = json!([{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]);
        Self::new(
            504,
            "Timeout",
            &message,
            json!({"causes": causes, "retryAfterSeconds": 1}),
        )
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
            json!({}),
        )
    }

    /// The media type of a patch that the kind does not take.
    pub(crate) fn unsupported_patch(kind: &Kind) -> Self {
        if kind.custom.is_none() {
            return Self::new(
                415,
                "UnsupportedMediaType",
                "415: Unsupported Media Type",
                json!({}),
            );
        }
        Self::unsupported_media_type(&[
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/apply-patch+yaml",
        ])
    }

    pub(crate) fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::new(415, "UnsupportedMediaType", &message, Value::Null)
    }

    /// What every failing JSON patch operation is answered with: the server does not say which one.
    pub(crate) fn unprocessable_patch() -> Self {
        Self::new(
            422,
            "Invalid",
            "the server rejected our request due to an error in our request",
            json!({}),
        )
    }

    pub(crate) fn invalid(kind: &Kind, name: &str, errors: &[FieldError]) -> Self {
        // Both APIs check events in the core form.
        let group = if kind.kind == "Event" { "" } else { &kind.group };
        Self::invalid_as(group, &kind.kind, name, errors)
    }

    /// With the name of the resource where that of the kind usually stands.
    pub(crate) fn no_version(kind: &Kind, name: &str) -> Self {
        let error = FieldError::invalid(
            "metadata.resourceVersion",
            &json!(0),
            "must be specified for an update",
        );
        Self::invalid_as(&kind.group, &kind.plural, name, &[error])
    }

    pub(crate) fn invalid_as(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let what = if group.is_empty() {
            kind.to_owned()
        } else {
            format!("{kind}.{group}")
        };
        let mut lines: Vec<String> = Vec::new();
        for line in errors.iter().map(ToString::to_string) {
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        let text = if lines.len() == 1 {
            lines[0].clone()
        } else {
            format!("[{}]", lines.join(", "))
        };
        let causes: Vec<Value> = errors
            .iter()
            .map(|e| json!({"reason": e.reason, "message": e.message, "field": e.field}))
            .collect();
        let mut details = Self::plain_details(group, kind, name);
        details["causes"] = json!(causes);
        Self::new(
            422,
            "Invalid",
            &format!("{what} \"{name}\" is invalid: {text}"),
            details,
        )
    }

    pub(crate) fn strict_decoding(kind: &Kind, unknown: &[String]) -> Self {
        Self::bad_request(&format!(
            "{k} in version \"{v}\" cannot be handled as a {k}: {}",
            strict_decoding_text(unknown),
            k = kind.kind,
            v = kind.version,
        ))
    }

    pub(crate) fn gone(requested: u64, oldest: u64) -> Self {
        Self::new(
            410,
            "Expired",
            &format!("too old resource version: {requested} ({oldest})"),
            Value::Null,
        )
    }

    pub(crate) fn too_many_requests(message: &str, retry_after: u32, cause: Option<&str>) -> Self {
        let mut details = json!({});
        if retry_after > 0 {
            details["retryAfterSeconds"] = json!(retry_after);
        }
        if let Some(cause) = cause {
            details["causes"] = json!([{"reason": "DisruptionBudget", "message": cause}]);
        }
        Self::new(429, "TooManyRequests", message, details)
    }

    pub(crate) fn apply_conflict(message: &str, causes: &[Value]) -> Self {
        Self::new(409, "Conflict", message, json!({"causes": causes}))
    }

    pub(crate) fn internal(message: &str) -> Self {
        Self::new(500, "", message, Value::Null)
    }

    /// A failure that a test asked for: the generic answer of its code.
    pub(crate) fn generic(code: u16) -> Self {
        let (reason, message) = match code {
            409 => ("Conflict", "the server reported a conflict"),
            429 => (
                "TooManyRequests",
                "the server has received too many requests and has asked us to try again later",
            ),
            500 => (
                "InternalError",
                "an error on the server has prevented the request from succeeding",
            ),
            503 => (
                "ServiceUnavailable",
                "the server is currently unable to handle the request",
            ),
            504 => (
                "Timeout",
                "the server was unable to return a response in the time allotted, but may still be \
                 processing the request",
            ),
            401 => (
                "Unauthorized",
                "the server has asked for the client to provide credentials",
            ),
            403 => (
                "Forbidden",
                "the server does not allow access to the requested resource",
            ),
            _ => ("Unknown", "unknown"),
        };
        Self::new(code, reason, message, json!({}))
    }
}

pub(crate) fn strict_decoding_text(unknown: &[String]) -> String {
    let list: Vec<String> = unknown.iter().map(|f| format!("unknown field \"{f}\"")).collect();
    format!("strict decoding error: {}", list.join(", "))
}
