//! `kubernaut plan`: what the workflows of files would do in a cluster, and what they lack for it.

mod looks;
mod report;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use kubernaut_actors::ports::Account;
use kubernaut_crds::{RollbackStrategy, WorkflowExecution, names};
use kubernaut_machines::Settings;
use kubernaut_machines::actions::{AccessRequest, rights_to_undo};
use kubernaut_machines::plan::Plan;

use self::looks::Cluster;
use self::report::{Planned, Plans, StepPlan};
use super::connection::{ConnectArguments, Connection};
use crate::config::RunOptions;
use crate::policy::PolicySet;
use crate::rehearsal::input::{self, Manifest};
use crate::terminal::{BAD_INPUT, Done, MISSING, Output, Trouble, complain, print, print_result};

/// Show what the workflows of files would do in a cluster, and what they lack for it; nothing is changed
///
/// For each step: whether its target is there and may be changed, what would change (asked of the API server as a dry run, with your
/// own rights), and whether it can be taken back. For each workflow: the rights that its account lacks, with the Role that grants
/// them, whether the API server would take it, what would hold it up, and the digest that an approval counts for. Flags of your
/// controller that decide what it takes can be given here, too.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Try it: kubernaut plan restart-web.yaml\n\nExit codes: 0 nothing is missing, 1 the cluster could not be asked, 2 something is wrong with the files, 3 something is missing: a right, a target, or somebody who may ask."
)]
pub(crate) struct PlanOptions {
    /// Manifests, or folders of them; `-` reads standard input
    #[arg(required_unless_present = "filename", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A manifest, as kubectl takes it; can be given several times
    #[arg(short = 'f', long, value_name = "FILE")]
    filename: Vec<PathBuf>,
    /// What is printed
    #[arg(long, short, value_enum, default_value_t = Form::Text)]
    output: Form,
    #[command(flatten)]
    connect: ConnectArguments,
    #[command(flatten)]
    run: RunOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    Text,
    Json,
    Yaml,
    /// What grants the rights that are missing, to apply
    Roles,
}

pub(super) async fn plan(options: &PlanOptions) -> Done {
    let files = [options.files.as_slice(), &options.filename].concat();
    let settings = options.run.settings();
    let checked =
        input::checked(&files, &settings).map_err(|problems| Trouble::Input(problems.join("; ")))?;
    for problem in &checked.problems {
        complain(&format!("error: {problem}"));
    }
    if !checked.problems.is_empty() {
        return Ok(ExitCode::from(BAD_INPUT));
    }
    for warning in &checked.warnings {
        complain(&format!("warning: {warning}"));
    }
    let workflows: Vec<Manifest> = checked
        .manifests
        .into_iter()
        .filter(Manifest::is_workflow)
        .collect();
    if workflows.is_empty() {
        return Err(Trouble::Input("the files hold no WorkflowExecution".to_owned()));
    }
    let policies = options.run.policy_directory().map(|directory| {
        PolicySet::load(directory)
            .map_err(|error| Trouble::Input(format!("--policy-dir={}: {error}", directory.display())))
    });
    let policies = policies.transpose()?;
    let connection = Connection::open(&options.connect).await?;
    // Without an answer to this, there would be none to anything.
    let user = connection.user().await?;
    let cluster = Cluster::open(connection, &settings, policies).await;
    let mut items = Vec::new();
    for manifest in &workflows {
        items.push(planned(&cluster, manifest, &settings, &user).await);
    }
    let plans = Plans::new(cluster.name(), items);
    match options.output {
        Form::Json => print_result(&plans, Output::Json)?,
        Form::Yaml => print_result(&plans, Output::Yaml)?,
        Form::Text => print(&plans.text())?,
        Form::Roles => print(&plans.roles())?,
    }
    Ok(if plans.is_complete() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(MISSING)
    })
}

async fn planned(cluster: &Cluster, manifest: &Manifest, settings: &Settings, user: &str) -> Planned {
    let namespace = match manifest.metadata("namespace") {
        "" => cluster.namespace().to_owned(),
        namespace => namespace.to_owned(),
    };
    let mut own = manifest.clone();
    own.object["metadata"]["namespace"] = serde_json::json!(namespace);
    let mut result = Planned::new(&namespace, manifest.metadata("name"));
    let (workflow, plan) = match (own.workflow(), own.plan(settings)) {
        (Some(workflow), Some(Ok(plan))) => (workflow, plan),
        (_, Some(Err(errors))) => {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            result.refused = Some(errors.join("; "));
            return result;
        }
        (..) => {
            result.refused = Some("it can't be read as a workflow".to_owned());
            return result;
        }
    };
    let account = Account {
        namespace: namespace.clone(),
        name: workflow.spec.service_account_name.clone(),
    };
    result.account = format!("{namespace}/{}", account.name);
    result.digest.clone_from(&plan.execution_plan.digest);
    if workflow.spec.rollback_of.is_some() {
        result
            .notes
            .push("It takes another workflow back: its steps are planned when it runs.".to_owned());
    }
    rights(cluster, &account, &workflow, &plan, settings, &mut result).await;
    for (number, step) in &plan.steps {
        let made_by = made_before(&plan, *number);
        let after: Vec<i32> = plan.graph.dependencies_of(*number).collect();
        let shown = cluster.step(&step.execution, settings, made_by).await;
        result.steps.push(StepPlan {
            number: *number,
            name: step.name.clone(),
            action: step.execution.spec.action.clone(),
            after,
            ..shown
        });
    }
    match cluster.holders(&plan) {
        Ok(holders) => result.holds.extend(holders),
        Err(why) => result.unread.push(why),
    }
    approval(cluster, &workflow, &namespace, &mut result).await;
    result.refused = cluster.would_take(&own, &namespace, user).await;
    result
}

/// The rights that the account needs and lacks.
async fn rights(
    cluster: &Cluster,
    account: &Account,
    workflow: &WorkflowExecution,
    plan: &Plan,
    settings: &Settings,
    result: &mut Planned,
) {
    if !settings.authorization {
        return;
    }
    let mut needed: BTreeSet<AccessRequest> =
        plan.steps.values().flat_map(|step| step.rights.clone()).collect();
    if workflow.spec.execution_strategy.rollback_strategy == RollbackStrategy::Automatic {
        let steps = plan.steps.values();
        needed.extend(steps.flat_map(|step| rights_to_undo(&step.execution, settings)));
    }
    match cluster.missing(account, &needed).await {
        Ok(missing) => {
            result.missing_rights = missing.iter().map(ToString::to_string).collect();
            result.grant(account, missing);
        }
        Err(why) => {
            result.rights_unknown = Some(why);
            result.grant(account, needed);
        }
    }
    match cluster.account_exists(account).await {
        Ok(true) => {}
        Ok(false) => result.missing_account = true,
        Err(why) => result.unread.push(why),
    }
}

/// An earlier step that makes, or brings back, what this one acts on.
fn made_before(plan: &Plan, number: i32) -> Option<i32> {
    let own = &plan.steps.get(&number)?.target;
    let earlier = plan.graph.all_before(number);
    let mut makers = earlier.into_iter().filter(|other| {
        plan.steps.get(other).is_some_and(|step| {
            step.target == *own && step.kind == kubernaut_machines::actions::ActionKind::ApplyManifest
        })
    });
    makers.next()
}

/// Whether people would be waited for.
async fn approval(cluster: &Cluster, workflow: &WorkflowExecution, namespace: &str, result: &mut Planned) {
    let strategy = &workflow.spec.execution_strategy;
    let required = match cluster.label_of_namespace(namespace, names::LABEL_APPROVAL).await {
        Ok(label) => label.as_deref() == Some(names::APPROVAL_REQUIRED),
        Err(why) => {
            result.unread.push(why);
            false
        }
    };
    if strategy.approval_required || required {
        let count = strategy.required_approvals;
        let people = if count == 1 {
            "person".to_owned()
        } else {
            format!("{count} people")
        };
        let because = if strategy.approval_required {
            "it asks for it itself"
        } else {
            "its namespace requires it"
        };
        let who = if count == 1 { "one " } else { "" };
        result.holds.push(format!(
            "an approval by {who}{people} who may create Approvals in namespace {namespace}, and did not create it: {because}"
        ));
    }
    if strategy.dry_run_first {
        result
            .holds
            .push("a dry run of all steps before the first one runs".to_owned());
    }
}
