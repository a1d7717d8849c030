//! What may stand in an object: the fields of its kind, from the schemas that it is checked by.

use serde_json::{Value, json};

use crate::api::schema::{has_type, type_name};
use crate::api::state::State;
use crate::api::status::FieldError;
use crate::api::structural_schema::{Place, member};
use crate::api::typed;

/// What there is instead of a kind that is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unserved {
    /// Its group and version are served: these kinds are there.
    Kinds(Vec<String>),
    /// Its group is: in these versions.
    Versions(Vec<String>),
    /// Nothing of it is, and the name of the group is close to this one.
    Misspelt(String),
    /// Nothing of it is: it is somebody else's.
    Foreign,
}

impl State {
    /// What OpenAPI says of a field of an object's kind; null where nothing is known.
    pub(crate) fn schema_of(&self, object: &Value, field: &str) -> Value {
        let Some(kind) = self.kind_of(object) else {
            return Value::Null;
        };
        let root = match &kind.custom {
            Some(custom) => custom.schema().clone(),
            None => typed::schema(&kind.resource),
        };
        let mut schema = resolved(&root, &root);
        for step in steps(field) {
            let next = match step {
                Step::Field(name) => match schema.get("properties").and_then(|known| known.get(name)) {
                    Some(known) => known,
                    None => &schema["additionalProperties"],
                },
                Step::Item => &schema["items"],
            };
            schema = resolved(&root, next);
        }
        schema.clone()
    }

    /// The first field of an object whose type is not that of its kind.
    pub(crate) fn wrong_type(&self, object: &Value) -> Option<FieldError> {
        let kind = self.kind_of(object)?;
        let root = typed::schema(&kind.resource);
        mismatch(&root, &root, object, Place::Root)
    }

    /// Why no such kind is served; `None` when it is.
    pub(crate) fn unserved(&self, object: &Value) -> Option<Unserved> {
        if self.kind_of(object).is_some() {
            return None;
        }
        let api_version = object["apiVersion"].as_str().unwrap_or_default();
        let (group, _) = api_version.split_once('/').unwrap_or(("", api_version));
        let kinds: Vec<_> = self.kinds.all().filter(|kind| !kind.create_only).collect();
        let of_group: Vec<_> = kinds.iter().filter(|kind| kind.group == group).collect();
        let same_version = of_group.iter().filter(|kind| kind.api_version() == api_version);
        let names: Vec<String> = same_version.map(|kind| kind.kind.clone()).collect();
        if !names.is_empty() {
            return Some(Unserved::Kinds(names));
        }
        let mut versions: Vec<String> = of_group.iter().map(|kind| kind.api_version()).collect();
        versions.sort();
        versions.dedup();
        if !versions.is_empty() {
            return Some(Unserved::Versions(versions));
        }
        let close = kinds
            .iter()
            .find(|kind| !kind.group.is_empty() && distance(&kind.group, group) <= 2);
        Some(match close {
            Some(kind) => Unserved::Misspelt(kind.api_version()),
            // Only Kubernetes itself has groups without a domain.
            None if !group.contains('.') => {
                let same = kinds.iter().filter(|kind| object["kind"] == kind.kind.as_str());
                let mut all: Vec<String> = same.map(|kind| kind.api_version()).collect();
                if all.is_empty() {
                    all = kinds.iter().map(|kind| kind.api_version()).collect();
                }
                all.sort();
                all.dedup();
                Unserved::Versions(all)
            }
            None => Unserved::Foreign,
        })
    }
}

fn mismatch(root: &Value, schema: &Value, value: &Value, place: Place<'_>) -> Option<FieldError> {
    let schema = resolved(root, schema);
    if value.is_null() || schema["x-kubernetes-int-or-string"] == true {
        return None;
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    };
    if let Some(wanted) = types.first()
        && !types.iter().any(|wanted| has_type(wanted, value))
    {
        let (path, found) = (place.path(), type_name(value));
        let detail = format!("must be of type {wanted}: {found:?}");
        return Some(FieldError::type_invalid(&path, &json!(found), &detail));
    }
    match value {
        Value::Object(map) => map.iter().find_map(|(name, value)| {
            let inner = member(schema, name);
            let place = Place::Field(&place, name);
            inner
                .is_object()
                .then(|| mismatch(root, inner, value, place))
                .flatten()
        }),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(i, item)| mismatch(root, &schema["items"], item, Place::Item(&place, i))),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

enum Step<'a> {
    Field(&'a str),
    Item,
}

/// `spec.steps[0].name` in its steps; a key in brackets is a field.
fn steps(field: &str) -> Vec<Step<'_>> {
    field
        .split(['.', '['])
        .filter(|step| !step.is_empty())
        .map(|step| match step.strip_suffix(']') {
            Some(index) if index.parse::<usize>().is_ok() => Step::Item,
            Some(key) => Step::Field(key.trim_matches('"')),
            None => Step::Field(step),
        })
        .collect()
}

/// What a schema stands for: a reference, or the one of several that is not null.
fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let mut schema = schema;
    for _ in 0..8 {
        if let Some(path) = schema["$ref"].as_str().and_then(|path| path.strip_prefix('#')) {
            schema = root.pointer(path).unwrap_or(&Value::Null);
            continue;
        }
        let some = |field: &str| {
            let branches = schema[field].as_array()?;
            branches.iter().find(|branch| branch["type"] != "null")
        };
        match some("allOf").or_else(|| some("anyOf")) {
            Some(branch) if schema["properties"].is_null() => schema = branch,
            _ => break,
        }
    }
    schema
}

/// How many letters have to change for one word to become the other.
pub fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let change = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_of_words_is_the_number_of_letters_to_change() {
        for (one, other, steps) in [
            ("", "", 0),
            ("a", "", 1),
            ("podSelectr", "podSelector", 1),
            ("ab", "ba", 2),
        ] {
            assert_eq!(distance(one, other), steps, "{one} {other}");
        }
    }
}
