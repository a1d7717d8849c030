//! `kubernaut explain-field`: what a field of a kind means, without a cluster.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::kinds::{named, sentence, type_of};
use crate::rehearsal::input::meant;
use crate::terminal::{Done, Trouble, print};

/// Lines are not longer.
const WIDTH: usize = 100;

/// Explain a field of a kind: its type, its rules, and the fields within it
///
/// As kubectl explain, and without a cluster. A path may begin with a kind; without one it is a field of WorkflowExecution.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Try it: kubernaut explain-field spec.workflowDefinition.steps.parameters.drainNode\n\nExit codes: 0 it is explained, 2 there is no such field."
)]
pub(crate) struct ExplainFieldOptions {
    /// The field, such as WorkflowExecution.spec.executionStrategy, or a kind
    #[arg(value_name = "PATH", default_value = "WorkflowExecution")]
    path: String,
    /// All fields within it, at any depth, with their types alone
    #[arg(long)]
    recursive: bool,
}

pub(super) fn explain_field(options: &ExplainFieldOptions) -> Done {
    let mut names: Vec<&str> = options.path.split('.').filter(|name| !name.is_empty()).collect();
    let first = names.first().copied().unwrap_or_default();
    let is_field = ["spec", "status", "metadata", "apiVersion", "kind"].contains(&first);
    let known = if is_field {
        named("WorkflowExecution")?
    } else {
        names = names
            .split_first()
            .map(|(_, rest)| rest.to_vec())
            .unwrap_or_default();
        named(first)?
    };
    let mut schema = &known.schema;
    let mut so_far = Vec::new();
    let mut is_required = false;
    for name in names {
        // steps[0] is a step, too.
        let name = name.split('[').next().unwrap_or(name);
        let within = inner(schema);
        let fields = &within["properties"];
        let found = fields.get(name);
        let Some(found) = found else {
            return Err(unknown(name, &so_far, &known.kind, fields));
        };
        is_required = requires(within, name);
        so_far.push(name);
        schema = found;
    }
    let mut text = format!("KIND:   {} ({})\n", known.kind, known.api_version);
    // Writing to a String can't fail.
    if !so_far.is_empty() {
        let required = if is_required { " -required-" } else { "" };
        let _ = writeln!(
            text,
            "FIELD:  {} <{}>{required}",
            so_far.join("."),
            type_of(schema)
        );
    }
    let description = schema["description"]
        .as_str()
        .unwrap_or("Standard metadata of Kubernetes.");
    let _ = write!(text, "\n{}", wrapped(description, "  "));
    let rules = rules(schema);
    if !rules.is_empty() {
        let _ = writeln!(text, "\nRULES:");
        for rule in rules {
            text.push_str(&wrapped(&rule, "  "));
        }
    }
    let within = inner(schema);
    if within["properties"].is_object() {
        text.push_str("\nFIELDS:\n");
        fields(within, options.recursive, 1, &mut text);
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// What a list or a map holds, or the schema itself.
fn inner(schema: &Value) -> &Value {
    if schema["items"].is_object() {
        inner(&schema["items"])
    } else if schema["additionalProperties"].is_object() {
        inner(&schema["additionalProperties"])
    } else {
        schema
    }
}

fn requires(schema: &Value, name: &str) -> bool {
    let mut required = schema["required"].as_array().into_iter().flatten();
    required.any(|one| one == name)
}

fn unknown(name: &str, so_far: &[&str], kind: &str, fields: &Value) -> Trouble {
    let place = if so_far.is_empty() {
        kind.to_owned()
    } else {
        so_far.join(".")
    };
    let known: Vec<&str> = fields
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect();
    if known.is_empty() {
        return Trouble::Input(format!("{place} has no fields"));
    }
    let hint = meant(name, &known).map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
    Trouble::Input(format!(
        "{place} has no field {name}{hint} (there is {})",
        known.join(", ")
    ))
}

/// What a value must be like, in words.
fn rules(schema: &Value) -> Vec<String> {
    let mut rules = Vec::new();
    let list = |values: &Value| -> Vec<String> {
        let values = values.as_array().into_iter().flatten();
        values
            .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            .collect()
    };
    let one_of = list(&schema["enum"]);
    if !one_of.is_empty() {
        rules.push(format!("one of: {}", one_of.join(", ")));
    }
    if schema["pattern"] == kubernaut_crds::DURATION_PATTERN {
        rules.push("a duration: numbers and units (ms, s, m, h), such as 30s, 5m or 1h30m".to_owned());
    } else if let Some(pattern) = schema["pattern"].as_str() {
        rules.push(format!("matches {pattern}"));
    }
    for (key, words) in [
        ("minimum", "at least"),
        ("maximum", "at most"),
        ("minLength", "characters, at least"),
        ("maxLength", "characters, at most"),
        ("minItems", "items, at least"),
        ("maxItems", "items, at most"),
        ("minProperties", "members, at least"),
        ("maxProperties", "members, at most"),
    ] {
        if schema[key].is_number() {
            rules.push(format!("{words}: {}", schema[key]));
        }
    }
    if !schema["default"].is_null() && !schema["default"].is_object() {
        rules.push(format!("default: {}", schema["default"]));
    }
    rules
}

fn fields(schema: &Value, recursive: bool, depth: usize, text: &mut String) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let required = if requires(schema, name) { " -required-" } else { "" };
        let indent = "  ".repeat(depth);
        // Writing to a String can't fail.
        let _ = writeln!(text, "{indent}{name} <{}>{required}", type_of(field));
        if recursive {
            fields(inner(field), true, depth + 1, text);
        } else {
            text.push_str(&wrapped(sentence(field), &"  ".repeat(depth + 2)));
        }
    }
}

/// In lines that fit a terminal.
pub(super) fn wrapped(words: &str, indent: &str) -> String {
    let mut text = String::new();
    let mut line = String::new();
    for word in words.split_whitespace() {
        if !line.is_empty() && indent.len() + line.chars().count() + word.chars().count() + 1 > WIDTH {
            text.push_str(&format_line(indent, &line));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        text.push_str(&format_line(indent, &line));
    }
    text
}

fn format_line(indent: &str, line: &str) -> String {
    format!("{indent}{line}\n")
}
