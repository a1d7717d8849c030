//! `kubernaut new`: a workflow to fill in.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use clap_complete::{ArgValueCandidates, CompletionCandidate};
use kubernaut_machines::actions::{ActionKind, StepExample, example_of};
use serde_json::{Map, Value};

use super::explain_field::wrapped;
use super::kinds::{named, sentence};
use crate::rehearsal::input::meant;
use crate::terminal::{Done, Trouble, print};
use crate::yaml::scalar;

/// Print a workflow with these actions to fill in: each field with what it means
///
/// It is sound as it is printed, with made-up names: kubernaut lint finds nothing wrong with it. What can be left out is commented
/// out. The steps run one after the other.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Try it: kubernaut new restart-deployment > restart-web.yaml\n\nExit codes: 0 it is printed, 2 there is no such action."
)]
pub(crate) struct NewOptions {
    /// Actions of the steps, in their order, such as scale-deployment or drain-node
    #[arg(required = true, value_name = "ACTION", add = ArgValueCandidates::new(actions))]
    actions: Vec<String>,
    /// Name of the workflow. Default: that of its first action
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Namespace of the workflow, and of what it acts on
    #[arg(long, short, default_value = "default", value_name = "NAME")]
    namespace: String,
}

fn actions() -> Vec<CompletionCandidate> {
    ActionKind::ALL
        .into_iter()
        .flat_map(ActionKind::spellings)
        .map(CompletionCandidate::new)
        .collect()
}

pub(super) fn new(options: &NewOptions) -> Done {
    let known = named("WorkflowExecution")?;
    let spec = &known.schema["properties"]["spec"]["properties"];
    let step = &spec["workflowDefinition"]["properties"]["steps"]["items"];
    let name = options
        .name
        .as_deref()
        .or(options.actions.first().map(String::as_str))
        .unwrap_or_default()
        .replace('_', "-");
    let mut text = String::new();
    // Writing to a String can't fail.
    text.push_str(&wrapped(
        "Fill in what is yours, then: kubernaut lint FILE, kubernaut plan FILE, kubernaut start FILE --watch. What a field means \
         and what else there is: kubernaut explain-field.",
        "# ",
    ));
    text.push_str(&format_head(
        &known.api_version,
        &name,
        &scalar(&options.namespace),
    ));
    let account = &spec["serviceAccountName"];
    text.push_str(&wrapped(sentence(account), "  # "));
    let _ = writeln!(text, "  # serviceAccountName: {}", plain(&account["default"]));
    let _ = write!(
        text,
        "  workflowDefinition:\n    name: {}\n    version: v1\n    steps:\n",
        scalar(&name)
    );
    for (number, action) in (1..).zip(&options.actions) {
        let example = example_of(action).ok_or_else(|| unknown(action))?;
        text.push_str(&of_step(step, &example, action, number, &options.namespace));
    }
    text.push_str("  executionStrategy:\n");
    let strategy = &spec["executionStrategy"]["properties"];
    for field in [
        "approvalRequired",
        "dryRunFirst",
        "rollbackStrategy",
        "maxRetries",
    ] {
        text.push_str(&optional(&strategy[field], field, "    "));
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn format_head(api_version: &str, name: &str, namespace: &str) -> String {
    format!(
        "apiVersion: {api_version}\nkind: WorkflowExecution\nmetadata:\n  # A new name each time it is started.\n  generateName: \
         {name}-\n  # Where it lives, with the ServiceAccount whose rights it has.\n  namespace: {namespace}\nspec:\n"
    )
}

fn unknown(action: &str) -> Trouble {
    let known: Vec<&str> = ActionKind::ALL
        .into_iter()
        .flat_map(ActionKind::spellings)
        .collect();
    let hint = meant(action, &known).map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
    let canonical = ActionKind::ALL.map(ActionKind::canonical);
    Trouble::Input(format!(
        "there is no action {action:?}{hint} (there is {})",
        canonical.join(", ")
    ))
}

fn of_step(step: &Value, example: &StepExample, action: &str, number: usize, namespace: &str) -> String {
    let fields = &step["properties"];
    let mut text = format!(
        "    - stepNumber: {number}\n      name: {}\n      action: {action}\n",
        if number == 1 {
            action.replace('_', "-")
        } else {
            format!("{}-{number}", action.replace('_', "-"))
        }
    );
    if number > 1 {
        text.push_str(&wrapped(sentence(&fields["dependsOn"]), "      # "));
        let _ = writeln!(text, "      dependsOn: [{}]", number - 1);
    }
    for field in ["criticalStep", "timeout", "maxRetries", "always"] {
        if fields[field].is_object() {
            text.push_str(&optional(&fields[field], field, "      "));
        }
    }
    let _ = writeln!(text, "      parameters:\n        {}:", example.member);
    let member = &fields["parameters"]["properties"][example.member];
    let required: Vec<&str> = member["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let empty = Map::new();
    let all = member["properties"].as_object().unwrap_or(&empty);
    // What an example names so that there is something to act on; how it is done may be left out.
    let names = |name: &str| {
        example
            .fields
            .get(name)
            .is_some_and(|value| !value.is_boolean() && !value.is_i64())
    };
    let is_given = |name: &str| required.contains(&name) || names(name);
    // What has to be said comes first.
    for (name, schema) in all.iter().filter(|(name, _)| is_given(name)) {
        let value = if name == "namespace" {
            Value::from(namespace)
        } else {
            let own = example.fields.get(name).filter(|own| fits(own, schema));
            own.cloned().unwrap_or_else(|| made_up(name, schema))
        };
        text.push_str(&wrapped(sentence(schema), "          # "));
        let _ = writeln!(text, "          {name}: {}", plain(&value));
    }
    for (name, schema) in all.iter().filter(|(name, _)| !is_given(name)) {
        text.push_str(&optional(schema, name, "          "));
    }
    text
}

/// A field that can be left out, with its default, or a value that it may have.
fn optional(schema: &Value, name: &str, indent: &str) -> String {
    let value = if schema["default"].is_null() {
        made_up(name, schema)
    } else {
        schema["default"].clone()
    };
    format!(
        "{}{indent}# {name}: {}\n",
        wrapped(sentence(schema), &format!("{indent}# ")),
        plain(&value)
    )
}

/// Whether an example of an execution's value is one for the step's field.
fn fits(value: &Value, schema: &Value) -> bool {
    match schema["type"].as_str() {
        Some("string") => value.is_string() && schema["pattern"] != kubernaut_crds::DURATION_PATTERN,
        Some("integer") => value.is_i64(),
        Some("boolean") => value.is_boolean(),
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some(_) | None => true,
    }
}

/// A value that the field may have.
fn made_up(name: &str, schema: &Value) -> Value {
    if let Some(first) = schema["enum"].as_array().and_then(|values| values.first()) {
        return first.clone();
    }
    if schema["pattern"] == kubernaut_crds::DURATION_PATTERN {
        return Value::from("30s");
    }
    match (schema["type"].as_str(), name) {
        (Some("integer"), _) => Value::from(schema["minimum"].as_i64().unwrap_or(1)),
        (Some("boolean"), _) => Value::from(false),
        (Some("object"), _) => serde_json::json!({"key": "value"}),
        (Some("array"), _) => Value::Array(Vec::new()),
        (_, "actionType") => Value::from("apply-manifest"),
        (_, "newImage") => Value::from("registry.example/app:2"),
        (_, "selector" | "labelSelector") => Value::from("app=web"),
        (_, "patch") => Value::from("{\"spec\": {\"minReadySeconds\": 5}}"),
        (_, "patchType") => Value::from("strategic"),
        (_, name) if name.ends_with("Name") => Value::from(format!("my-{}", name.trim_end_matches("Name"))),
        (_, "container") => Value::from("app"),
        (_, name) => Value::from(format!("my-{}", name.to_lowercase())),
    }
}

/// A value in one line of YAML.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            value.to_string()
        }
    }
}
