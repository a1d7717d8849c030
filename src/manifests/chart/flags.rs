//! The controller's flags as values of the chart, by their own names.

use std::fmt::Write;

use clap::{Arg, Args, Command};
use kubernaut_crds::{DURATION_MAX_LENGTH, DURATION_PATTERN};
use kubernaut_machines::actions::ActionKind;
use serde_json::{Map, Value, json};

use super::{CONTROLLER_NAMESPACE, every_kind, values};
use crate::config::{ControllerOptions, MOST};
use crate::manifests::{POLICY_DIRECTORY, POLICY_VOLUME};

const CONTROLLER_NAMESPACE_FLAG: &str = "controller-namespace";
const POLICY_FLAG: &str = "policy-dir";

/// Those of the controller's pods: they have their own account, and the port that the probes ask.
fn all() -> Vec<Arg> {
    let command = ControllerOptions::augment_args(Command::new("controller"));
    let here = |flag: &&Arg| !["kubeconfig", "http-address"].contains(&name(flag));
    command.get_arguments().filter(here).cloned().collect()
}

/// The controller's namespace is that of the release, and its policies are where their ConfigMap is mounted.
fn values() -> Vec<Arg> {
    let mut flags = all();
    flags.retain(|flag| ![CONTROLLER_NAMESPACE_FLAG, POLICY_FLAG].contains(&name(flag)));
    flags
}

fn name(flag: &Arg) -> &str {
    flag.get_long().unwrap_or_default()
}

fn value_name(flag: &Arg) -> &str {
    flag.get_value_names()
        .and_then(<[_]>::first)
        .map_or("", |name| name.as_str())
}

fn defaults(flag: &Arg) -> Vec<String> {
    flag.get_default_values()
        .iter()
        .map(|value| value.to_string_lossy().into_owned())
        .collect()
}

/// What templates have to know of the flags: their names in order, and the defaults of those that name namespaces.
pub(super) fn template() -> String {
    let names: Vec<String> = all().iter().map(|flag| name(flag).to_owned()).collect();
    let default = |flag: &str| {
        let flags = all();
        let flag = flags.iter().find(|found| name(found) == flag);
        flag.map(defaults).unwrap_or_default().join(" ")
    };
    let mut text = "{{- /* Made from the code: run ./dev fix. */ -}}\n".to_owned();
    for (name, value) in [
        ("flagNames", names.join(" ")),
        ("default.controllerNamespace", CONTROLLER_NAMESPACE.to_owned()),
        ("default.executorNamespace", default("executor-namespace")),
        ("default.protectedNamespaces", default("protected-namespaces")),
        ("default.actions", default("actions")),
        ("policyDirectory", POLICY_DIRECTORY.to_owned()),
        ("policyVolume", POLICY_VOLUME.to_owned()),
    ] {
        let _ = write!(
            text,
            "{{{{- define \"kubernaut.{name}\" -}}}}\n{value}\n{{{{- end }}}}\n"
        );
    }
    text
}

/// Each flag with what it does and its default, to be uncommented.
pub(super) fn comment() -> String {
    let mut text = String::new();
    for flag in values() {
        let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
        text.push_str("  #\n");
        text.push_str(&values::commented("  ", &help));
        let _ = writeln!(text, "  # {}: {}", name(&flag), example(&flag));
    }
    text
}

/// The default as it would be written, or what stands for none.
fn example(flag: &Arg) -> String {
    let defaults = defaults(flag);
    match (schema(flag)["type"].as_str(), defaults.as_slice()) {
        (Some("array"), _) => format!("[{}]", defaults.join(", ")),
        (_, [one]) => one.clone(),
        _ => "\"\"".to_owned(),
    }
}

pub(super) fn schemas() -> Value {
    let flags: Map<String, Value> = values()
        .iter()
        .map(|flag| (name(flag).to_owned(), schema(flag)))
        .collect();
    json!({"type": "object", "additionalProperties": false, "properties": flags})
}

fn schema(flag: &Arg) -> Value {
    let choices: Vec<String> = flag
        .get_possible_values()
        .iter()
        .map(|value| value.get_name().to_owned())
        .collect();
    match value_name(flag) {
        "BOOL" => json!({"type": "boolean"}),
        _ if !choices.is_empty() => json!({"type": "string", "enum": choices}),
        "NUMBER" => json!({"type": "integer", "minimum": 1, "maximum": MOST}),
        "DURATION" => {
            json!({"type": "string", "pattern": DURATION_PATTERN, "maxLength": DURATION_MAX_LENGTH})
        }
        "NAMESPACE" => namespace(),
        "NAMESPACES" => json!({"type": "array", "items": namespace()}),
        "KINDS" => json!({"type": "array", "items": {"type": "string", "enum": kinds()}}),
        "ACTIONS" => json!({"type": "array", "minItems": 1, "uniqueItems": true,
                            "items": {"type": "string", "enum": actions()}}),
        "LABELS" => json!({"type": "array", "items": {"type": "string", "pattern": "^[^=,]+=[^=,]*$"}}),
        "TAINTS" => json!({"type": "array", "items": {"type": "string", "pattern": "^[^,]+$"}}),
        // The controller says what is wrong with it.
        _ => json!({"type": "string"}),
    }
}

fn namespace() -> Value {
    json!({"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63})
}

fn actions() -> Vec<&'static str> {
    ActionKind::ALL.map(ActionKind::canonical).to_vec()
}

/// As the flag takes them: with the group and without it.
fn kinds() -> Vec<String> {
    every_kind()
        .iter()
        .flat_map(|kind| [kind.kind.to_owned(), format!("{}/{}", kind.group, kind.kind)])
        .filter(|kind| !kind.starts_with('/'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values that a flag takes, and what is no such value.
    fn of_type(flag: &Arg, text: &str) -> Value {
        match schema(flag)["type"].as_str() {
            Some("boolean" | "integer") => serde_json::from_str(text).expect("a value"),
            Some("array") => json!([text]),
            _ => json!(text),
        }
    }

    #[test]
    fn the_default_of_each_flag_is_a_value_that_its_schema_lets_pass() {
        let flags = values();
        assert!(flags.len() > 15, "{}", flags.len());
        for flag in &flags {
            for default in defaults(flag) {
                let value = of_type(flag, &default);
                let schema = schema(flag);
                assert!(
                    jsonschema::is_valid(&schema, &value),
                    "{}: {value} {schema}",
                    name(flag)
                );
            }
        }
    }

    #[test]
    fn every_kind_that_the_schema_lets_pass_is_one_that_the_flag_takes() {
        for kind in kinds() {
            assert_eq!(kubernaut_machines::manifest_kinds::check_kind(&kind), None);
        }
    }
}
