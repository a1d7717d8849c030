//! What names, labels and owner references must look like.

use serde_json::{Value, json};

use crate::api::kinds::Kind;
use crate::api::status::FieldError;

/// What a name of labels and dots must look like.
pub(crate) const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
     and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
     start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
     and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used \
     for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const NAME_PART: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end \
     with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
     '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const KEY: &str = "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end \
     with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
     '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. \
     'example.com/MyName')";

/// Rules for metadata that hold for every kind.
pub(crate) fn validate_metadata(kind: &Kind, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().unwrap_or("");
    let base = metadata["generateName"].as_str().unwrap_or("");
    if let Some(problem) = name_problem(kind, base.trim_end_matches('-')).filter(|_| !base.is_empty()) {
        errors.push(FieldError::invalid(
            "metadata.generateName",
            &json!(base),
            &problem,
        ));
    }
    if let Some(problem) = name_problem(kind, name) {
        errors.push(FieldError::invalid("metadata.name", &json!(name), &problem));
    }
    // Those that a Job has from its template are told of there.
    let own = object["spec"]["template"]["metadata"]["labels"] != metadata["labels"];
    if own || !kind.is_resource("jobs.batch") {
        errors.extend(label_errors("metadata.labels", &metadata["labels"]));
    }
    errors.extend(annotation_errors(
        "metadata.annotations",
        &metadata["annotations"],
    ));
    errors.extend(owner_errors(&metadata["ownerReferences"]));
    for (i, finalizer) in metadata["finalizers"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        errors.extend(finalizer_errors(kind, i, finalizer));
    }
    errors
}

/// What is wrong with annotations.
pub(crate) fn annotation_errors(field: &str, annotations: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut size = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        for problem in key_problems(&key.to_lowercase()) {
            errors.push(FieldError::invalid(field, &json!(key), &problem));
        }
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > 256 * 1024 {
        errors.push(FieldError::too_long(field, 262_144));
    }
    errors
}

/// What is wrong with labels.
pub(crate) fn label_errors(field: &str, labels: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, value) in labels.as_object().into_iter().flatten() {
        for problem in key_problems(key) {
            errors.push(FieldError::invalid(field, &json!(key), &problem));
        }
        let value = value.as_str().unwrap_or("");
        let problems = value_problems(value).into_iter();
        errors.extend(problems.map(|problem| FieldError::invalid(field, &json!(value), &problem)));
    }
    errors
}

fn finalizer_errors(kind: &Kind, index: usize, finalizer: &Value) -> Vec<FieldError> {
    let text = finalizer.as_str().unwrap_or("");
    let problems = key_problems(text).into_iter();
    let mut errors: Vec<FieldError> = problems
        .map(|problem| FieldError::invalid("metadata.finalizers", finalizer, &problem))
        .collect();
    let standard = ["orphan", "foregroundDeletion", "kubernetes"].contains(&text);
    // Of a custom resource the server only warns.
    if kind.custom.is_none() && !text.contains('/') && !standard {
        errors.push(FieldError::invalid(
            &format!("metadata.finalizers[{index}]"),
            finalizer,
            "name is neither a standard finalizer name nor is it fully qualified",
        ));
    }
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
        if reference["apiVersion"] == "v1" && reference["kind"] == "Event" {
            errors.push(FieldError::invalid(
                "metadata.ownerReferences",
                reference,
                "/v1, Kind=Event is disallowed from being an owner",
            ));
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
        resource if resource.ends_with(".rbac.authorization.k8s.io") => match name {
            "." | ".." => Some(format!("may not be '{name}'")),
            _ => ['/', '%']
                .into_iter()
                .find(|c| name.contains(*c))
                .map(|c| format!("may not contain '{c}'")),
        },
        "namespaces" | "services" => label_problem(name),
        // Their names are what others make of the names of things.
        "events" | "events.events.k8s.io" => None,
        _ => {
            if name.len() > 253 {
                Some("must be no more than 253 characters".to_owned())
            } else {
                (!is_subdomain(name)).then(|| SUBDOMAIN.to_owned())
            }
        }
    }
}

/// What is wrong with a name of one label.
pub(crate) fn label_problem(name: &str) -> Option<String> {
    if name.len() > 63 {
        Some("must be no more than 63 characters".to_owned())
    } else if is_label(name) {
        None
    } else if is_subdomain(name) {
        Some("must not contain dots".to_owned())
    } else {
        Some(LABEL.to_owned())
    }
}

pub(crate) fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
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

/// What is wrong with the value of a label.
pub(crate) fn value_problems(value: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if value.len() > 63 {
        problems.push("must be no more than 63 bytes".to_owned());
    }
    if !is_label_value(value) {
        problems.push(LABEL_VALUE.to_owned());
    }
    problems
}

/// What is wrong with the key of a label, an annotation or a finalizer.
pub(crate) fn key_problems(key: &str) -> Vec<String> {
    let parts: Vec<&str> = key.split('/').collect();
    let mut problems = Vec::new();
    let name = match parts.as_slice() {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                problems.push("prefix part must be non-empty".to_owned());
            } else if !is_subdomain(prefix) {
                problems.push(format!("prefix part {SUBDOMAIN}"));
            } else if prefix.len() > 253 {
                problems.push("prefix part must be no more than 253 characters".to_owned());
            }
            name
        }
        _ => return vec![KEY.to_owned()],
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        problems.push("name part must be no more than 63 bytes".to_owned());
    }
    if !is_name_part(name) {
        problems.push(NAME_PART.to_owned());
    }
    problems
}
