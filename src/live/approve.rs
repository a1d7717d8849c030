//! `kubernaut approve` and `kubernaut reject`: a person's word on the plan that was shown.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use kube::api::PostParams;
use kubernaut_crds::{
    Approval, ApprovalDecision, ApprovalKind, ApprovalRef, ApprovalSpec, WorkflowExecution,
};

use super::connection::{Connection, Named};
use crate::rehearsal::input::printable;
use crate::rehearsal::rehearse::mask;
use crate::terminal::{Done, FAILED, Trouble, in_a_line, print};

/// The controller answers an Approval within this time, mostly.
const LOOKS: u32 = 6;
const BETWEEN_LOOKS: Duration = Duration::from_millis(300);

/// Approve a workflow that waits for approval
///
/// Its steps and the digest of its plan are shown first, and the approval counts for that plan alone.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Try it: kubernaut approve restart-web --reason 'looked at the dashboards'\n\nExit codes: 0 it is approved, 1 it could not be, or you said no, 2 there is no such workflow, or it waits for nobody."
)]
pub(crate) struct ApproveOptions {
    #[command(flatten)]
    decide: DecideOptions,
}

/// Reject a workflow that waits for approval: it fails, whoever else approves it
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Try it: kubernaut reject restart-web --reason 'the database is migrating'\n\nExit codes: 0 it is rejected, 1 it could not be, or you said no, 2 there is no such workflow, or it waits for nobody."
)]
pub(crate) struct RejectOptions {
    #[command(flatten)]
    decide: DecideOptions,
}

#[derive(Args, Clone, Debug)]
struct DecideOptions {
    /// Why, in your own words; it is recorded
    #[arg(long, short, value_name = "WORDS")]
    reason: Option<String>,
    /// Do not ask before it is sent
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    named: Named,
}

pub(super) async fn approve(options: &ApproveOptions) -> Done {
    decide(&options.decide, ApprovalDecision::Approved).await
}

pub(super) async fn reject(options: &RejectOptions) -> Done {
    decide(&options.decide, ApprovalDecision::Rejected).await
}

async fn decide(options: &DecideOptions, decision: ApprovalDecision) -> Done {
    let connection = Connection::open(&options.named.connect).await?;
    let workflow = connection.workflow(&options.named.name).await?;
    let status = workflow.status.clone().unwrap_or_default();
    let message = status.message.clone().unwrap_or_default();
    if !kubernaut_machines::workflow::waits_for_people(&workflow) {
        return Err(Trouble::Input(format!(
            "workflow {} does not wait for approval: {}",
            options.named.name,
            if message.is_empty() {
                "it was not looked at yet"
            } else {
                &message
            }
        )));
    }
    let digest = status
        .execution_plan
        .as_ref()
        .and_then(|plan| plan.digest.clone());
    print(&plan(&workflow, digest.as_deref(), &message))?;
    let (verb, done) = match decision {
        ApprovalDecision::Approved => ("Approve", "approved"),
        ApprovalDecision::Rejected => ("Reject", "rejected"),
    };
    if !options.yes && !agreed(verb).await? {
        return Ok(ExitCode::from(FAILED));
    }
    let user = connection.user().await?;
    let spec = ApprovalSpec {
        object_ref: ApprovalRef {
            kind: ApprovalKind::WorkflowExecution,
            name: options.named.name.clone(),
            uid: workflow.metadata.uid.clone().unwrap_or_default(),
        },
        decision,
        approver: user.clone(),
        plan_digest: digest,
        reason: options.reason.clone().filter(|reason| !reason.trim().is_empty()),
    };
    let mut approval = Approval::new("", spec);
    approval.metadata.name = None;
    approval.metadata.generate_name = Some(format!("{}-", super::stem(&options.named.name, 200)));
    let created = connection
        .of::<Approval>()
        .create(&PostParams::default(), &approval)
        .await
        .map_err(|error| connection.trouble("creating the Approval", &error))?;
    let approval = created.metadata.name.unwrap_or_default();
    // Where the workflow can't be read any more, the Approval was made all the same.
    let passed_over = passed_over(&connection, &options.named.name, &approval).await;
    if let Some(why) = passed_over.unwrap_or_default() {
        return Err(Trouble::Here(format!(
            "the Approval {approval} was created, and does not count: {why}"
        )));
    }
    print(&format!(
        "workflow {}/{} {done} by {user} (Approval {approval})\n",
        connection.namespace, options.named.name
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Why the controller does not count the Approval; it says so in a moment.
async fn passed_over(connection: &Connection, name: &str, approval: &str) -> Result<Option<String>, Trouble> {
    for _ in 0..LOOKS {
        tokio::time::sleep(BETWEEN_LOOKS).await;
        let workflow = connection.workflow(name).await?;
        if !kubernaut_machines::workflow::waits_for_people(&workflow) {
            break;
        }
        let message = workflow
            .status
            .and_then(|status| status.message)
            .unwrap_or_default();
        if let Some((_, why)) = message.split_once(&format!("{approval} by ")) {
            return Ok(Some(why.to_owned()));
        }
    }
    Ok(None)
}

/// What is approved, in words.
fn plan(workflow: &WorkflowExecution, digest: Option<&str>, message: &str) -> String {
    let metadata = &workflow.metadata;
    let mut text = format!(
        "workflow {}/{}, created by {}, as ServiceAccount {}\n  {}\n",
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
        in_a_line(workflow.created_by().unwrap_or("nobody knows whom")),
        workflow.spec.service_account_name,
        in_a_line(message),
    );
    // Values of Secrets are not shown.
    let mut shown = serde_json::to_value(workflow).unwrap_or_default();
    mask(&mut shown);
    for (index, step) in workflow.spec.workflow_definition.steps.iter().enumerate() {
        let parameters = &shown["spec"]["workflowDefinition"]["steps"][index]["parameters"];
        let after: Vec<String> = step
            .depends_on
            .iter()
            .flatten()
            .map(ToString::to_string)
            .collect();
        let after = if after.is_empty() {
            String::new()
        } else {
            format!(" after {}", after.join(", "))
        };
        // Writing to a String can't fail.
        let _ = writeln!(
            text,
            "  {} {}{after}: {} {parameters}",
            step.step_number,
            in_a_line(&step.name),
            step.action
        );
    }
    let tried = workflow
        .status
        .iter()
        .filter_map(|status| status.validation_results.as_ref()?.dry_run_results.as_ref());
    for change in tried.flat_map(|tried| &tried.resource_changes) {
        let _ = writeln!(text, "  dry run: {}", in_a_line(change));
    }
    let _ = writeln!(text, "  plan {}", digest.unwrap_or("without a digest"));
    // Names and words of others must not draw over what is approved.
    printable(&text)
}

/// Asks a person; where there is none, it has to be said beforehand.
async fn agreed(verb: &str) -> Result<bool, Trouble> {
    if !io::stdin().is_terminal() {
        return Err(Trouble::Input(format!(
            "nobody can be asked here: say --yes to {} what is shown above",
            verb.to_lowercase()
        )));
    }
    let unreadable = |error: io::Error| Trouble::Here(format!("standard input: {error}"));
    let mut terminal = io::stderr();
    write!(terminal, "{verb} it? [y/N] ").map_err(unreadable)?;
    terminal.flush().map_err(unreadable)?;
    // On a thread of its own, so that Ctrl-C is heard meanwhile.
    let answer = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).map(|_| answer)
    });
    let answer = answer.await.map_err(|error| Trouble::Here(error.to_string()))?;
    let answer = answer.map_err(unreadable)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_approved_shows_no_value_of_a_secret_and_does_nothing_to_the_terminal() {
        let workflow: WorkflowExecution = serde_json::from_value(json!({
            "apiVersion": "workflow.kubernaut.io/v1", "kind": "WorkflowExecution",
            "metadata": {"name": "turn", "namespace": "shop", "annotations": {"kubernaut.io/created-by": "eve\u{1b}[2J"}},
            "spec": {"workflowDefinition": {"name": "turn", "version": "1", "steps": [
                {"stepNumber": 1, "name": "keys", "action": "update-secret",
                 "parameters": {"updateSecret": {"namespace": "shop", "name": "keys", "dataUpdates": {"password": "aHVudGVyMg=="}}}},
            ]}},
        }))
        .expect("a workflow");
        let shown = plan(&workflow, Some("abc"), "waits");
        assert!(!shown.contains("aHVudGVyMg"), "{shown}");
        assert!(shown.contains("\"password\":\"<masked>\""), "{shown}");
        assert!(shown.contains("plan abc") && !shown.contains('\u{1b}'), "{shown}");
        let mut forged = workflow;
        forged.spec.workflow_definition.steps[0].name = "keys\n  plan 0000\u{202e}".to_owned();
        let shown = plan(&forged, Some("abc"), "waits");
        assert!(
            !shown.contains("\n  plan 0000") && !shown.contains('\u{202e}'),
            "{shown}"
        );
    }
}
