//! `kubernaut list`: the workflows there are, and where each stands.

use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::ApiResource;
use kubernaut_crds::WorkflowExecution;

use super::connection::{ConnectArguments, Connection};
use super::result::{WorkflowResult, WorkflowResultList, word};
use crate::terminal::{Done, Output, complain, fitted, in_a_line, print, print_result, span, table};

/// List workflows, the newest first
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Try it: kubernaut list --all-namespaces\n\nExit codes: 0 they are listed, 1 the cluster could not be asked, 2 wrong arguments."
)]
pub(crate) struct ListOptions {
    /// In all namespaces
    #[arg(long, short = 'A')]
    all_namespaces: bool,
    /// Label selector, such as app=web,tier!=test
    #[arg(long, short = 'l', value_name = "SELECTOR")]
    selector: Option<String>,
    /// What is printed
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// No line of column names
    #[arg(long)]
    no_headers: bool,
    #[command(flatten)]
    connect: ConnectArguments,
}

pub(super) async fn list(options: &ListOptions) -> Done {
    let connection = Connection::open(&options.connect).await?;
    let api: Api<DynamicObject> = if options.all_namespaces {
        let resource = ApiResource::erase::<WorkflowExecution>(&());
        Api::all_with(connection.client.clone(), &resource)
    } else {
        connection.workflows()
    };
    let mut found = Vec::new();
    let mut parameters = ListParams::default();
    parameters.label_selector.clone_from(&options.selector);
    let listed = connection.each(&api, parameters, |workflow: WorkflowExecution| {
        found.push(WorkflowResult::new(&workflow, &[]));
    });
    let listed = listed.await;
    listed.map_err(|error| connection.trouble("listing workflows", &error))?;
    found.sort_by(|one, other| {
        (other.created, &one.namespace, &one.name).cmp(&(one.created, &other.namespace, &other.name))
    });
    match options.output {
        Output::Json | Output::Yaml => print_result(&WorkflowResultList::new(found), options.output)?,
        Output::Name => {
            let names: Vec<String> = found.iter().map(|workflow| named(options, workflow)).collect();
            let end = if names.is_empty() { "" } else { "\n" };
            print(&(names.join("\n") + end))?;
        }
        Output::Table | Output::Wide if found.is_empty() => {
            let place = if options.all_namespaces {
                "any namespace".to_owned()
            } else {
                format!("namespace {}", connection.namespace)
            };
            complain(&format!(
                "No workflows in {place} of cluster {}.",
                connection.name
            ));
        }
        Output::Table => print(&fitted(&as_table(options, &found, Timestamp::now())))?,
        Output::Wide => print(&as_table(options, &found, Timestamp::now()))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn named(options: &ListOptions, workflow: &WorkflowResult) -> String {
    if options.all_namespaces {
        format!("{}/{}", workflow.namespace, workflow.name)
    } else {
        workflow.name.clone()
    }
}

fn as_table(options: &ListOptions, found: &[WorkflowResult], now: Timestamp) -> String {
    let is_wide = options.output == Output::Wide;
    let mut heads = Vec::new();
    if options.all_namespaces {
        heads.push("NAMESPACE");
    }
    heads.extend(["NAME", "PHASE", "OUTCOME", "STEPS", "AGE", "DURATION"]);
    if is_wide {
        heads.extend(["CREATED BY", "APPROVED BY", "MESSAGE"]);
    }
    let row = |workflow: &WorkflowResult| {
        let mut row = Vec::new();
        if options.all_namespaces {
            row.push(workflow.namespace.clone());
        }
        let age = workflow
            .created
            .map(|created| span(created, now))
            .unwrap_or_default();
        let lasted = workflow
            .created
            .map(|from| span(from, workflow.ended.unwrap_or(now)));
        row.extend([
            workflow.name.clone(),
            word(workflow.phase),
            workflow.outcome_word(),
            format!("{}/{}", workflow.completed_steps, workflow.total_steps),
            age,
            lasted.unwrap_or_default(),
        ]);
        if is_wide {
            let message = in_a_line(workflow.message.as_deref().unwrap_or_default());
            row.extend([
                in_a_line(workflow.created_by.as_deref().unwrap_or_default()),
                in_a_line(workflow.approved_by.as_deref().unwrap_or_default()),
                message,
            ]);
        }
        row
    };
    let rows: Vec<Vec<String>> = found.iter().map(row).collect();
    let text = table(&heads, &rows);
    if options.no_headers {
        return text
            .split_once('\n')
            .map(|(_, rows)| rows.to_owned())
            .unwrap_or_default();
    }
    text
}
