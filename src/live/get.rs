//! `kubernaut get`: one workflow, with its steps as a tree.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::ApiResource;
use kubernaut_crds::{KubernetesExecution, WorkflowExecution, names};

use super::connection::{Connection, Named};
use super::result::{WorkflowResult, word};
use super::tree::tree;
use crate::rehearsal::input::printable;
use crate::terminal::{Done, Output, Trouble, complain, fitted, in_a_line, print, print_result, span};

/// Show a workflow: where it stands, and its steps with their targets, attempts and times
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Try it: kubernaut get restart-web\n\nExit codes: 0 it is shown, 1 the cluster could not be asked, 2 there is no such workflow."
)]
pub(crate) struct GetOptions {
    /// What is printed
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    named: Named,
}

pub(super) async fn get(options: &GetOptions) -> Done {
    let connection = Connection::open(&options.named.connect).await?;
    let workflow = connection.workflow(&options.named.name).await?;
    let executions = executions(&connection, &workflow).await?;
    let result = WorkflowResult::new(&workflow, &executions);
    match options.output {
        Output::Json | Output::Yaml => print_result(&result, options.output)?,
        Output::Name => print(&format!("{}\n", result.name))?,
        Output::Table => print(&shown(&result, Timestamp::now(), true))?,
        Output::Wide => print(&shown(&result, Timestamp::now(), false))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The executions that were made for a workflow.
pub(super) async fn executions(
    connection: &Connection,
    workflow: &WorkflowExecution,
) -> Result<Vec<KubernetesExecution>, Trouble> {
    let name = workflow.metadata.name.as_deref().unwrap_or_default();
    let labels = format!("{}={name}", names::LABEL_WORKFLOW);
    let resource = ApiResource::erase::<KubernetesExecution>(&());
    let api =
        Api::<DynamicObject>::namespaced_with(connection.client.clone(), &connection.namespace, &resource);
    let listed = api.list(&ListParams::default().labels(&labels)).await;
    let listed = listed.map_err(|error| connection.trouble("listing the executions of its steps", &error))?;
    let uid = workflow.metadata.uid.as_deref();
    let is_of_it = |execution: &DynamicObject| {
        let owners = execution.metadata.owner_references.iter().flatten();
        owners.into_iter().any(|owner| Some(owner.uid.as_str()) == uid)
    };
    let mut executions = Vec::new();
    // One that a newer version wrote keeps the others from nobody.
    for object in listed.items.into_iter().filter(is_of_it) {
        match connection.typed(object) {
            Ok(execution) => executions.push(execution),
            Err(trouble) => complain(&format!("warning: {}", trouble.words())),
        }
    }
    Ok(executions)
}

/// A workflow for a person, its tree no wider than the terminal where it shall fit.
pub(super) fn shown(result: &WorkflowResult, now: Timestamp, fits: bool) -> String {
    let mut text = String::new();
    // Writing to a String can't fail.
    let _ = write!(
        text,
        "workflow {}/{}: {}",
        result.namespace,
        result.name,
        word(result.phase)
    );
    let outcome = result.outcome_word();
    if !outcome.is_empty() && outcome != word(result.phase) {
        let _ = write!(text, ", {outcome}");
    }
    let _ = write!(
        text,
        ", {} of {} steps completed",
        result.completed_steps, result.total_steps
    );
    if let Some(created) = result.created {
        let by = result
            .created_by
            .as_deref()
            .map(|by| format!(" by {}", in_a_line(by)));
        let _ = write!(
            text,
            "\n  created {} ago{}",
            span(created, now),
            by.unwrap_or_default()
        );
        if let Some(by) = &result.approved_by {
            let _ = write!(text, ", approved by {}", in_a_line(by));
        }
        if let Some(ended) = result.ended {
            let _ = write!(text, ", ended after {}", span(created, ended));
        }
    }
    text.push('\n');
    if let Some(message) = result.message.as_deref().filter(|message| !message.is_empty()) {
        let _ = writeln!(text, "  {}", printable(message).replace('\n', "\n  "));
    }
    if !result.steps.is_empty() {
        text.push('\n');
        let tree = tree(&result.steps, now);
        text.push_str(&if fits { fitted(&tree) } else { tree });
    }
    text
}
