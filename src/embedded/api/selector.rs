//! Label and field selectors.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::api::kinds::Kind;
use crate::api::label_query;
use crate::api::status::ApiError;

/// What one term of a label selector asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
    /// A whole number greater than this.
    Above(String, i64),
    /// A whole number less than this.
    Below(String, i64),
}

/// What a list or watch is limited to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<(String, String, bool)>,
}

impl Selector {
    /// Parses both selectors; a field that the kind can't be selected by is an error, as on the real server.
    pub(crate) fn parse(kind: &Kind, labels: &str, fields: &str) -> Result<Self, ApiError> {
        let labels_parsed = label_query::parse(labels).map_err(|e| ApiError::bad_request(&e))?;
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
            if value.contains('=') {
                return Err(ApiError::bad_request(
                    "invalid field selector: unescaped character in value: 61",
                ));
            }
            if !selectable(kind, field) {
                return Err(ApiError::bad_request(&not_selectable(kind, field)));
            }
            parsed.push((field.to_owned(), value.to_owned(), equal));
        }
        Ok(Self {
            labels: labels_parsed,
            fields: parsed,
        })
    }

    /// The selector of a `LabelSelector` object; an empty one selects everything.
    pub(crate) fn from_label_selector(selector: &Value) -> Self {
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

    /// Whether it selects everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.matches_labels(&object["metadata"]["labels"])
            && self
                .fields
                .iter()
                .all(|(field, value, equal)| (field_value(object, field) == *value) == *equal)
    }

    pub(crate) fn matches_labels(&self, labels: &Value) -> bool {
        let get = |key: &str| labels.get(key).and_then(Value::as_str);
        self.labels.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => get(key).is_some_and(|v| values.iter().any(|w| w == v)),
            Requirement::NotIn(key, values) => !get(key).is_some_and(|v| values.iter().any(|w| w == v)),
            Requirement::Exists(key) => get(key).is_some(),
            Requirement::Absent(key) => get(key).is_none(),
            Requirement::Above(key, than) => number(get(key)).is_some_and(|value| value > *than),
            Requirement::Below(key, than) => number(get(key)).is_some_and(|value| value < *than),
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

fn number(value: Option<&str>) -> Option<i64> {
    value?.parse().ok()
}

/// Labels that a selector matches; `None` when it is no selector, or one that no labels match.
pub fn labels_of_selector(text: &str) -> Option<BTreeMap<String, String>> {
    let labels = label_query::parse(text).ok()?;
    let wanted: BTreeMap<String, String> = labels
        .iter()
        .filter_map(|requirement| match requirement {
            Requirement::In(key, values) => Some((key.clone(), values.first()?.clone())),
            Requirement::Exists(key) => Some((key.clone(), "yes".to_owned())),
            Requirement::Above(key, number) => Some((key.clone(), number.saturating_add(1).to_string())),
            Requirement::Below(key, number) => Some((key.clone(), number.saturating_sub(1).to_string())),
            Requirement::NotIn(..) | Requirement::Absent(_) => None,
        })
        .collect();
    let selector = Selector {
        labels,
        fields: Vec::new(),
    };
    selector.matches_labels(&json!(wanted)).then_some(wanted)
}

/// Kinds with fields of their own say it in another way than those without.
fn not_selectable(kind: &Kind, field: &str) -> String {
    match kind.resource.as_str() {
        "jobs.batch" | "replicasets.apps" => {
            format!("field label {field:?} not supported for {}", kind.kind)
        }
        "pods" | "nodes" | "namespaces" | "secrets" | "events" | "events.events.k8s.io" => {
            format!("field label not supported: {field}")
        }
        _ if kind.custom.is_some() => format!("field label not supported: {field}"),
        _ => {
            format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
        }
    }
}
