//! Label and field selectors.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{kinds::Kind, status::ApiError};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

/// What a list or watch is limited to.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<(String, String, bool)>,
}

impl Selector {
    /// Parses both selectors; a field that the kind can't be selected by is an error, as on the real server.
    pub(super) fn parse(kind: &Kind, labels: &str, fields: &str) -> Result<Self, ApiError> {
        let labels_parsed = parse_labels(labels)
            .map_err(|e| ApiError::bad_request(&format!("unable to parse requirement: {e}")))?;
        let mut parsed = Vec::new();
        for term in fields.split(',').filter(|t| !t.is_empty()) {
            let (field, value, equal) = if let Some((f, v)) = term.split_once("!=") {
                (f, v, false)
            } else if let Some((f, v)) = term.split_once("==") {
                (f, v, true)
            } else if let Some((f, v)) = term.split_once('=') {
                (f, v, true)
            } else {
                return Err(ApiError::bad_request(&format!(
                    "invalid selector: '{fields}'; can't understand '{term}'"
                )));
            };
            if !selectable(kind, field) {
                return Err(ApiError::bad_request(&format!(
                    "Unable to find \"{}, Resource={}\" that match label selector \"{labels}\", field \
                     selector \"{fields}\": field label not supported: {field}",
                    kind.api_version(),
                    kind.plural,
                )));
            }
            parsed.push((field.to_owned(), value.to_owned(), equal));
        }
        Ok(Self {
            labels: labels_parsed,
            fields: parsed,
        })
    }

    /// The selector of a `LabelSelector` object; an empty one selects everything.
    pub(super) fn from_label_selector(selector: &Value) -> Self {
        let mut labels = Vec::new();
        if let Some(map) = selector["matchLabels"].as_object() {
            for (key, value) in map {
                labels.push(Requirement::In(
                    key.clone(),
                    vec![value.as_str().unwrap_or_default().to_owned()],
                ));
            }
        }
        for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
            let key = expression["key"].as_str().unwrap_or_default().to_owned();
            let values: Vec<String> = expression["values"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|v| v.as_str().map(ToOwned::to_owned))
                .collect();
            labels.push(match expression["operator"].as_str() {
                Some("NotIn") => Requirement::NotIn(key, values),
                Some("Exists") => Requirement::Exists(key),
                Some("DoesNotExist") => Requirement::Absent(key),
                _ => Requirement::In(key, values),
            });
        }
        Self {
            labels,
            fields: Vec::new(),
        }
    }

    pub(super) fn matches(&self, object: &Value) -> bool {
        self.matches_labels(&object["metadata"]["labels"])
            && self
                .fields
                .iter()
                .all(|(field, value, equal)| (field_value(object, field) == *value) == *equal)
    }

    pub(super) fn matches_labels(&self, labels: &Value) -> bool {
        let get = |key: &str| labels.get(key).and_then(Value::as_str);
        self.labels.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => get(key).is_some_and(|v| values.iter().any(|w| w == v)),
            Requirement::NotIn(key, values) => !get(key).is_some_and(|v| values.iter().any(|w| w == v)),
            Requirement::Exists(key) => get(key).is_some(),
            Requirement::Absent(key) => get(key).is_none(),
        })
    }
}

fn selectable(kind: &Kind, field: &str) -> bool {
    if field == "metadata.name" || (field == "metadata.namespace" && kind.namespaced) {
        return true;
    }
    if let Some(custom) = &kind.custom {
        return custom.selectable.iter().any(|f| f == field);
    }
    let more: &[&str] = match kind.resource.as_str() {
        "pods" => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        "nodes" => &["spec.unschedulable"],
        "namespaces" => &["status.phase"],
        "secrets" => &["type"],
        "jobs.batch" => &["status.successful"],
        "replicasets.apps" => &["status.replicas"],
        "events" => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        "events.events.k8s.io" => &[
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "reason",
            "reportingController",
            "type",
        ],
        _ => &[],
    };
    more.contains(&field)
}

fn field_value(object: &Value, field: &str) -> String {
    if field == "status.successful" {
        return object["status"]["succeeded"].as_i64().unwrap_or(0).to_string();
    }
    // Stored events have the core form.
    let field = field
        .strip_prefix("regarding.")
        .map_or_else(|| field.to_owned(), |rest| format!("involvedObject.{rest}"));
    let mut value = object;
    for part in field.split('.') {
        value = &value[part];
    }
    match value {
        Value::String(s) => s.clone(),
        Value::Null if field == "spec.unschedulable" || field == "spec.hostNetwork" => "false".to_owned(),
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn parse_labels(text: &str) -> Result<Vec<Requirement>, String> {
    let mut out = Vec::new();
    for term in split_terms(text) {
        let term = term.trim();
        if term.is_empty() {
            continue;
        }
        out.push(parse_term(term)?);
    }
    Ok(out)
}

/// Labels that a selector matches; `None` when it is no selector, or one that no labels match.
pub(crate) fn labels_of_selector(text: &str) -> Option<BTreeMap<String, String>> {
    let labels = parse_labels(text).ok()?;
    let wanted: BTreeMap<String, String> = labels
        .iter()
        .filter_map(|requirement| match requirement {
            Requirement::In(key, values) => Some((key.clone(), values.first()?.clone())),
            Requirement::Exists(key) => Some((key.clone(), "yes".to_owned())),
            Requirement::NotIn(..) | Requirement::Absent(_) => None,
        })
        .collect();
    let selector = Selector {
        labels,
        fields: Vec::new(),
    };
    selector.matches_labels(&json!(wanted)).then_some(wanted)
}

fn parse_term(term: &str) -> Result<Requirement, String> {
    if let Some(key) = term.strip_prefix('!') {
        return Ok(Requirement::Absent(key.trim().to_owned()));
    }
    if let Some((head, values)) = term.split_once('(') {
        let values: Vec<String> = values
            .trim_end_matches(')')
            .split(',')
            .map(|v| v.trim().to_owned())
            .collect();
        let mut words = head.split_whitespace();
        return match (words.next(), words.next()) {
            (Some(key), Some("in")) => Ok(Requirement::In(key.to_owned(), values)),
            (Some(key), Some("notin")) => Ok(Requirement::NotIn(key.to_owned(), values)),
            _ => Err(format!("found '{term}', expected: in, notin")),
        };
    }
    let pair = |key: &str, value: &str| (key.trim().to_owned(), vec![value.trim().to_owned()]);
    if let Some((key, value)) = term.split_once("!=") {
        let (key, values) = pair(key, value);
        return Ok(Requirement::NotIn(key, values));
    }
    if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        let (key, values) = pair(key, value);
        return Ok(Requirement::In(key, values));
    }
    if term.contains(char::is_whitespace) {
        return Err(format!("found '{term}', expected an operator"));
    }
    Ok(Requirement::Exists(term.to_owned()))
}

/// Commas inside parentheses do not separate.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut out) = (0_i32, 0, Vec::new());
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                out.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    out.push(&text[start..]);
    out
}
