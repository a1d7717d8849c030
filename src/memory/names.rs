//! What names, labels and owner references must look like.

use serde_json::{Value, json};

use super::{kinds::Kind, status::FieldError};

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
     and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
     start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
     and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used \
     for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end \
     with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
     '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

/// Rules for metadata that hold for every kind.
pub(super) fn validate_metadata(kind: &Kind, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().unwrap_or("");
    if let Some(problem) = name_problem(kind, name) {
        errors.push(FieldError::invalid("metadata.name", &json!(name), &problem));
    }
    for (key, value) in metadata["labels"].as_object().into_iter().flatten() {
        if !is_qualified(key) {
            errors.push(FieldError::invalid("metadata.labels", &json!(key), QUALIFIED));
        }
        let value = value.as_str().unwrap_or("");
        if value.len() > 63 {
            errors.push(FieldError::invalid(
                "metadata.labels",
                &json!(value),
                "must be no more than 63 bytes",
            ));
        }
        if !is_label_value(value) {
            errors.push(FieldError::invalid("metadata.labels", &json!(value), LABEL_VALUE));
        }
    }
    let mut size = 0;
    for (key, value) in metadata["annotations"].as_object().into_iter().flatten() {
        if !is_qualified(&key.to_lowercase()) {
            errors.push(FieldError::invalid(
                "metadata.annotations",
                &json!(key),
                QUALIFIED,
            ));
        }
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > 256 * 1024 {
        errors.push(FieldError::too_long("metadata.annotations", 262_144));
    }
    errors.extend(owner_errors(&metadata["ownerReferences"]));
    errors
}

fn owner_errors(references: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut controller: Option<String> = None;
    for reference in references.as_array().into_iter().flatten() {
        for (field, message) in [
            ("apiVersion", "version must not be empty"),
            ("kind", "must not be empty"),
            ("name", "must not be empty"),
            ("uid", "must not be empty"),
        ] {
            if reference[field].as_str().is_none_or(str::is_empty) {
                errors.push(FieldError::invalid(
                    &format!("metadata.ownerReferences.{field}"),
                    &reference[field],
                    message,
                ));
            }
        }
        if reference["controller"] == true {
            let this = format!(
                "{}/{}",
                reference["kind"].as_str().unwrap_or(""),
                reference["name"].as_str().unwrap_or("")
            );
            if let Some(first) = &controller {
                errors.push(FieldError::invalid(
                    "metadata.ownerReferences",
                    references,
                    &format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for \
                         {first} and {this}"
                    ),
                ));
            }
            controller = Some(this);
        }
    }
    errors
}

fn name_problem(kind: &Kind, name: &str) -> Option<String> {
    match kind.resource.as_str() {
        resource if resource.ends_with(".rbac.authorization.k8s.io") => {
            let bad = matches!(name, "." | "..") || name.contains('/') || name.contains('%');
            bad.then(|| "may not contain '/' or '%'".to_owned())
        }
        "namespaces" | "services" => {
            if name.len() > 63 {
                Some("must be no more than 63 bytes".to_owned())
            } else {
                (!is_label(name)).then(|| LABEL.to_owned())
            }
        }
        _ => {
            if name.len() > 253 {
                Some("must be no more than 253 bytes".to_owned())
            } else {
                (!name.split('.').all(is_label)).then(|| SUBDOMAIN.to_owned())
            }
        }
    }
}

fn is_label(text: &str) -> bool {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().copied().is_some_and(ok)
        && bytes.last().copied().is_some_and(ok)
        && bytes.iter().all(|b| ok(*b) || *b == b'-')
}

fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_name_part(text)
}

fn is_name_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn is_qualified(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(p, n)| (Some(p), n));
    prefix.is_none_or(|p| p.len() <= 253 && p.split('.').all(is_label))
        && name.len() <= 63
        && is_name_part(name)
}
