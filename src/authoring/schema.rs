//! `kubernaut schema`: the kinds as JSON Schema, for editors and other tools.

use std::process::ExitCode;

use clap::Args;
use kubernaut_machines::actions::ActionKind;
use serde_json::{Map, Value, json};

use super::kinds::{Known, kinds, named};
use crate::terminal::{Done, print};

/// Print the kinds as JSON Schema, for editors and other tools
///
/// Of all kinds together it suits files that hold others, too. An editor with the YAML language server checks and completes a file
/// that names it: # yaml-language-server: $schema=kubernaut.json
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Try it: kubernaut schema > kubernaut.json\n\nExit codes: 0 it is printed, 2 there is no such kind."
)]
pub(crate) struct SchemaOptions {
    /// One kind alone, such as WorkflowExecution
    #[arg(value_name = "KIND")]
    kind: Option<String>,
}

pub(super) fn schema(options: &SchemaOptions) -> Done {
    let schema = match &options.kind {
        Some(kind) => of_kind(&named(kind)?),
        None => of_all(),
    };
    let text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    print(&(text + "\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// An object of one of the kinds is checked; any other is let through.
fn of_all() -> Value {
    let cases: Vec<Value> = kinds()
        .iter()
        .map(|known| {
            let is_it = json!({"kind": {"const": known.kind}, "apiVersion": {"const": known.api_version}});
            json!({
                "if": {"properties": is_it, "required": ["apiVersion", "kind"]},
                "then": of_fields(known),
            })
        })
        .collect();
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Kinds of kubernaut",
        "type": "object",
        "allOf": cases,
    })
}

fn of_kind(known: &Known) -> Value {
    let mut schema = of_fields(known);
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema["title"] = json!(known.kind);
    schema["properties"]["kind"] = json!({"const": known.kind});
    schema["properties"]["apiVersion"] = json!({"const": known.api_version});
    schema["required"] = json!(["apiVersion", "kind", "metadata", "spec"]);
    schema
}

fn of_fields(known: &Known) -> Value {
    let mut schema = known.schema.clone();
    plain(&mut schema);
    schema["properties"]["metadata"] = json!({
        "type": "object", "description": "Name or generateName, namespace, labels and annotations.",
        "anyOf": [{"required": ["name"]}, {"required": ["generateName"]}],
    });
    schema["properties"]["apiVersion"] = json!({"type": "string"});
    schema["properties"]["kind"] = json!({"type": "string"});
    // What the API server does not know, but planning does: the names of the actions.
    let actions: Vec<&str> = ActionKind::ALL
        .into_iter()
        .flat_map(ActionKind::spellings)
        .collect();
    if let Some(action) = schema.pointer_mut(
        "/properties/spec/properties/workflowDefinition/properties/steps/items/properties/action",
    ) {
        action["enum"] = json!(actions);
    }
    schema
}

/// Without what only Kubernetes reads; a field that is not known is wrong, as for the API server under strict validation.
fn plain(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.retain(|key, _| !key.starts_with("x-kubernetes-"));
            let is_closed = map.contains_key("properties") && !map.contains_key("additionalProperties");
            if is_closed && map.get("type") == Some(&json!("object")) {
                map.insert("additionalProperties".to_owned(), json!(false));
            }
            if let Some(Value::Object(properties)) = map.get_mut("properties") {
                properties.values_mut().for_each(plain);
            }
            plain_members(map);
        }
        Value::Array(items) => items.iter_mut().for_each(plain),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn plain_members(map: &mut Map<String, Value>) {
    for key in ["items", "additionalProperties", "allOf", "anyOf", "oneOf", "not"] {
        if let Some(inner) = map.get_mut(key) {
            plain(inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_samples_fit_and_a_slip_does_not() {
        let validator = jsonschema::validator_for(&of_all()).expect("a schema");
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/samples");
        let mut seen = 0;
        for file in std::fs::read_dir(folder).expect("samples") {
            let text = std::fs::read_to_string(file.expect("a file").path()).expect("a text");
            for document in text.split("\n---\n") {
                let object: Value = serde_saphyr::from_str(document).expect("YAML");
                seen += usize::from(object["kind"] == "WorkflowExecution");
                if let Err(error) = validator.validate(&object) {
                    panic!("{}: {error}", object["metadata"]["name"]);
                }
                let mut slip = object.clone();
                if let Some(step) = slip.pointer_mut("/spec/workflowDefinition/steps/0") {
                    step["acton"] = json!("x");
                    assert!(!validator.is_valid(&slip));
                }
            }
        }
        assert!(seen > 8, "{seen}");
    }
}
