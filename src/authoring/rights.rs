//! `kubernaut rights`: what the accounts of workflows must be allowed, as YAML to apply.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use kubernaut_actors::ports::Account;
use kubernaut_crds::{KubernetesExecution, RollbackStrategy};
use kubernaut_machines::Settings;
use kubernaut_machines::actions::{AccessRequest, rights_to_undo};
use serde::Deserialize as _;

use crate::config::RunOptions;
use crate::rehearsal::input::{self, Manifest};
use crate::roles::as_yaml;
use crate::terminal::{BAD_INPUT, Done, Trouble, complain, print};

/// Print the Roles that the accounts of workflows need, as YAML to apply
///
/// What each step needs, and what taking it back needs where the workflow rolls back by itself. Nothing of a cluster is asked:
/// kubernaut plan FILE says what of it is missing in one.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Try it: kubernaut rights deploy/samples/scale-and-restart.yaml | kubectl auth reconcile -f -\n\nExit codes: 0 they are printed, 1 they can't be, 2 something is wrong with the files, or with the arguments."
)]
pub(crate) struct RightsOptions {
    /// Manifests, or folders of them; `-` reads standard input
    #[arg(required_unless_present = "filename", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A manifest, as kubectl takes it; can be given several times
    #[arg(short = 'f', long, value_name = "FILE")]
    filename: Vec<PathBuf>,
    /// Also what taking each step back needs, whatever the workflow's strategy is: for kubernaut rollback
    #[arg(long)]
    with_rollback: bool,
    #[command(flatten)]
    run: RunOptions,
}

pub(super) fn rights(options: &RightsOptions) -> Done {
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
    let runs: Vec<&Manifest> = checked
        .manifests
        .iter()
        .filter(|manifest| manifest.runs())
        .collect();
    if runs.is_empty() {
        return Err(Trouble::Input(
            "the files hold neither a WorkflowExecution nor a KubernetesExecution".to_owned(),
        ));
    }
    let mut all: BTreeMap<Account, BTreeSet<AccessRequest>> = BTreeMap::new();
    for run in runs {
        let (account, rights) = needed_by(run, &settings, options.with_rollback);
        all.entry(account).or_default().extend(rights);
    }
    let roles: Vec<String> = all
        .iter()
        .filter(|(_, rights)| !rights.is_empty())
        .map(|(account, rights)| as_yaml(account, rights))
        .collect();
    print(&roles.join("---\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// The account of a workflow, or of an execution, and what it must be allowed.
fn needed_by(run: &Manifest, settings: &Settings, with_rollback: bool) -> (Account, Vec<AccessRequest>) {
    let account = Account {
        namespace: run.namespace(),
        name: match run.object["spec"]["serviceAccountName"].as_str() {
            Some(name) => name.to_owned(),
            None => "default".to_owned(),
        },
    };
    let mut rights = Vec::new();
    if let Some(Ok(plan)) = run.plan(settings) {
        let strategy = run
            .workflow()
            .map(|workflow| workflow.spec.execution_strategy.rollback_strategy);
        let with_rollback = with_rollback || strategy == Some(RollbackStrategy::Automatic);
        for step in plan.steps.into_values() {
            rights.extend(step.rights);
            if with_rollback {
                rights.extend(rights_to_undo(&step.execution, settings));
            }
        }
    } else if let Ok(mut execution) = KubernetesExecution::deserialize(&run.object) {
        execution.metadata.uid.get_or_insert_with(String::new);
        if let Ok(checked) = kubernaut_machines::parameters::check(&execution, settings) {
            rights.extend(checked.rights);
        }
        if with_rollback {
            rights.extend(rights_to_undo(&execution, settings));
        }
    }
    (account, rights)
}
