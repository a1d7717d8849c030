//! What is installed of kubernaut, and what is left out to see what it costs.

use serde_json::{Value, json};

use crate::BenchError;

/// What can be left out besides a policy by its name: all of them, the CEL rules of the CRDs, and their schemas.
const POLICIES: &str = "policies";
const RULES: &str = "rules";
const SCHEMAS: &str = "schemas";

/// The documents of an installation as a list in JSON, but for what is left out.
///
/// # Errors
/// They are no YAML, or there is nothing of a name.
pub(crate) fn leave_out(manifests: &str, without: &[String]) -> Result<String, BenchError> {
    let mut documents: Vec<Value> = serde_saphyr::from_multiple(manifests)
        .map_err(|error| BenchError::Engine(format!("kubernaut manifests printed no YAML: {error}")))?;
    for part in without {
        let before = documents.clone();
        match part.as_str() {
            RULES => documents.iter_mut().for_each(without_rules),
            SCHEMAS => documents.iter_mut().for_each(without_schema),
            name => documents.retain(|document| {
                !(is_of_a_policy(document) && (name == POLICIES || document["metadata"]["name"] == name))
            }),
        }
        if documents == before {
            return Err(BenchError::Arguments(format!(
                "--without={part}: there is none; {POLICIES}, the name of one, {RULES} or {SCHEMAS} can be left out"
            )));
        }
    }
    Ok(json!({"apiVersion": "v1", "kind": "List", "items": documents}).to_string())
}

fn is_of_a_policy(document: &Value) -> bool {
    let kind = document["kind"].as_str().unwrap_or_default();
    kind.starts_with("ValidatingAdmissionPolicy")
}

fn without_rules(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("x-kubernetes-validations");
            fields.values_mut().for_each(without_rules);
        }
        Value::Array(items) => items.iter_mut().for_each(without_rules),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn without_schema(document: &mut Value) {
    if document["kind"] != "CustomResourceDefinition" {
        return;
    }
    // Fields that can be selected by must be in it.
    let free = |field: &str| {
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true,
               "properties": {field: {"type": "string"}}})
    };
    for version in document["spec"]["versions"].as_array_mut().into_iter().flatten() {
        version["schema"]["openAPIV3Schema"] =
            json!({"type": "object", "properties": {"spec": free("action"), "status": free("phase")}});
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_named_and_was_there() {
        let manifests = "kind: ValidatingAdmissionPolicy\nmetadata: {name: one}\n---\n\
                         kind: ValidatingAdmissionPolicy\nmetadata: {name: two}\n---\n\
                         kind: Namespace\nmetadata: {name: two}\n";
        let left = |without: &str| -> Vec<Value> {
            let list = leave_out(manifests, &[without.to_owned()]).expect("a list");
            let list: Value = serde_json::from_str(&list).expect("JSON");
            serde_json::from_value(list["items"].clone()).expect("items")
        };
        assert_eq!(left("policies").len(), 1);
        assert_eq!(left("two").len(), 2);
        let error = leave_out(manifests, &["three".to_owned()]).expect_err("nothing");
        assert!(error.to_string().contains("--without=three"), "{error}");
    }
}
