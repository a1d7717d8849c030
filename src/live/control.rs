//! `kubernaut suspend`, `resume`, `cancel`, `rollback` and `delete`: what a person wants of a workflow that is there.

use std::process::ExitCode;

use clap::Args;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::DynamicObject;
use kubernaut_crds::{Shutdown, WorkflowExecution, names};
use serde_json::{Value, json};

use super::connection::{Connection, Named};
use super::wait::follow;
use crate::terminal::{Done, FAILED, Trouble, print};

/// Pause a workflow: no new step starts, what runs goes on
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Try it: kubernaut suspend restart-web\n\nExit codes: 0 it is, 1 it could not be, 2 there is no such workflow, or it has ended."
)]
pub(crate) struct SuspendOptions {
    #[command(flatten)]
    named: Named,
}

/// Let a paused workflow go on
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Try it: kubernaut resume restart-web\n\nExit codes: 0 it does, 1 it could not be told, 2 there is no such workflow, or it has ended."
)]
pub(crate) struct ResumeOptions {
    #[command(flatten)]
    named: Named,
}

/// Stop a workflow: no new step starts, what runs is ended, what was done stays
///
/// Steps marked `always` still clean up. To take back what was done: kubernaut rollback.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Try it: kubernaut cancel restart-web --watch\n\nExit codes: 0 it was told, 1 it could not be told (with --watch: it did not complete with success), 2 there is no such workflow, or it has ended."
)]
pub(crate) struct CancelOptions {
    #[command(flatten)]
    named: Named,
    /// Follow it until it has ended
    #[arg(long, short)]
    watch: bool,
}

/// Take back what a workflow did
///
/// One that runs is stopped first, and what it did is taken back. For one that has ended another workflow is made, which takes it
/// back, the last change first; it needs the rights for that, and an approval where its namespace requires one.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Try it: kubernaut rollback restart-web --watch\n\nExit codes: 0 it was told (with --watch: all was taken back), 1 it was not, 2 there is no such workflow."
)]
pub(crate) struct RollbackOptions {
    #[command(flatten)]
    named: Named,
    /// Follow it until it has ended
    #[arg(long, short)]
    watch: bool,
}

/// Delete a workflow; one that runs is stopped, and what it did stays
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Try it: kubernaut delete restart-web\n\nExit codes: 0 it is being deleted, 1 it could not be, 2 there is no such workflow."
)]
pub(crate) struct DeleteOptions {
    #[command(flatten)]
    named: Named,
}

pub(super) async fn suspend(options: &SuspendOptions) -> Done {
    pause(&options.named, true).await
}

pub(super) async fn resume(options: &ResumeOptions) -> Done {
    pause(&options.named, false).await
}

async fn pause(named: &Named, suspend: bool) -> Done {
    let connection = Connection::open(&named.connect).await?;
    let workflow = running(&connection, &named.name).await?;
    let (done, wanted) = if suspend {
        ("is paused", "is paused already")
    } else {
        ("goes on", "is not paused")
    };
    if workflow.spec.suspend.unwrap_or(false) == suspend {
        return say(&workflow, wanted);
    }
    patch(&connection, &workflow, json!({"suspend": suspend})).await?;
    say(&workflow, done)
}

pub(super) async fn cancel(options: &CancelOptions) -> Done {
    let Named { name, connect } = &options.named;
    let connection = Connection::open(connect).await?;
    let workflow = running(&connection, name).await?;
    if workflow.spec.shutdown.is_none() {
        patch(&connection, &workflow, json!({"shutdown": Shutdown::Cancel})).await?;
        say(&workflow, "was told to stop")?;
    } else {
        say(&workflow, "was told to stop before")?;
    }
    if options.watch {
        return follow(&connection, workflow).await;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn rollback(options: &RollbackOptions) -> Done {
    let Named { name, connect } = &options.named;
    let connection = Connection::open(connect).await?;
    let workflow = connection.workflow(name).await?;
    if !workflow.is_terminal() {
        if workflow.spec.shutdown != Some(Shutdown::Rollback) {
            patch(&connection, &workflow, json!({"shutdown": Shutdown::Rollback})).await?;
        }
        say(&workflow, "was told to stop, and to take back what it did")?;
        if options.watch {
            follow(&connection, workflow.clone()).await?;
            let ended = connection.workflow(name).await?;
            return Ok(taken_back(&ended));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let undo = undoing(&connection, &workflow).await?;
    let created = connection.workflows().create(&PostParams::default(), &undo).await;
    let created =
        created.map_err(|error| connection.trouble("creating the workflow that undoes it", &error))?;
    let created: WorkflowExecution = connection.typed(created)?;
    let undoes = created.metadata.name.as_deref().unwrap_or_default();
    say(
        &workflow,
        &format!("has ended; workflow {undoes} takes back what it did"),
    )?;
    if options.watch {
        return follow(&connection, created).await;
    }
    print(&format!(
        "Follow it: kubernaut watch -n {} {undoes}{}\n",
        connection.namespace, connection.flags
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn taken_back(ended: &WorkflowExecution) -> ExitCode {
    let conditions = ended.status.iter().flat_map(|status| &status.conditions);
    let is_done = conditions
        .into_iter()
        .any(|condition| condition.r#type == "RolledBack" && condition.status == "True");
    if is_done {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILED)
    }
}

/// The workflow that undoes another one.
async fn undoing(connection: &Connection, workflow: &WorkflowExecution) -> Result<DynamicObject, Trouble> {
    let user = connection.user().await?;
    let metadata = &workflow.metadata;
    let name = metadata.name.as_deref().unwrap_or_default();
    let definition = &workflow.spec.workflow_definition;
    let undo = json!({
        "apiVersion": names::WORKFLOW_API_VERSION,
        "kind": names::WORKFLOW_KIND,
        "metadata": {
            "generateName": format!("{}-undo-", super::stem(name, 40)),
            "namespace": connection.namespace,
            "annotations": {names::ANNOTATION_CREATED_BY: user},
        },
        "spec": {
            "workflowDefinition": {"name": definition.name, "version": definition.version, "steps": []},
            "rollbackOf": {"name": name, "uid": metadata.uid},
            "serviceAccountName": workflow.spec.service_account_name,
        },
    });
    serde_json::from_value(undo).map_err(|error| Trouble::Here(error.to_string()))
}

pub(super) async fn delete(options: &DeleteOptions) -> Done {
    let Named { name, connect } = &options.named;
    let connection = Connection::open(connect).await?;
    let workflow = connection.workflow(name).await?;
    let parameters = DeleteParams {
        preconditions: Some(Preconditions {
            uid: workflow.metadata.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    let deleted = connection.workflows().delete(name, &parameters).await;
    deleted.map_err(|error| connection.trouble("deleting it", &error))?;
    say(&workflow, "is being deleted")
}

/// A workflow that has not ended.
async fn running(connection: &Connection, name: &str) -> Result<WorkflowExecution, Trouble> {
    let workflow = connection.workflow(name).await?;
    if workflow.is_terminal() {
        let words = workflow.status.as_ref().and_then(|status| status.message.clone());
        return Err(Trouble::Input(format!(
            "workflow {name} has ended ({}): nothing of it runs; to take back what it did: kubernaut rollback -n {} {name}{}",
            words.unwrap_or_default(),
            connection.namespace,
            connection.flags
        )));
    }
    Ok(workflow)
}

/// Changes what a person may change of a workflow's spec, and of that one alone.
async fn patch(connection: &Connection, workflow: &WorkflowExecution, spec: Value) -> Result<(), Trouble> {
    let name = workflow.metadata.name.as_deref().unwrap_or_default();
    let change = Patch::Merge(json!({"metadata": {"uid": workflow.metadata.uid}, "spec": spec}));
    let patched = connection
        .workflows()
        .patch(name, &PatchParams::default(), &change)
        .await;
    patched
        .map(|_| ())
        .map_err(|error| connection.trouble("changing the workflow", &error))
}

fn say(workflow: &WorkflowExecution, words: &str) -> Done {
    let metadata = &workflow.metadata;
    print(&format!(
        "workflow {}/{} {words}\n",
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default()
    ))?;
    Ok(ExitCode::SUCCESS)
}
