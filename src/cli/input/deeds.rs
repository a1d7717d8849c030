//! What the workflows are going to do, and to what: known before anything runs.

use kubernaut_crds::{Action, KubernetesExecution, TargetRef, WorkflowExecution};
use kubernaut_machines::Settings;
use kubernaut_machines::actions::target_of;
use kubernaut_machines::manifest_kinds::{ParsedManifest, parse_manifest};
use kubernaut_machines::plan::plan;
use serde::Deserialize as _;

use super::Manifest;

/// One action of a workflow, or of an execution made by hand.
#[derive(Clone, Debug)]
pub(crate) struct Deed {
    /// What is done.
    pub(crate) action: Action,
    /// The action as it was written, which selects rules of its own.
    pub(crate) spelling: String,
    /// What it is done to.
    pub(crate) target: TargetRef,
    /// The manifest of an applyManifest, where it can be read.
    pub(crate) manifest: Option<ParsedManifest>,
}

/// Those of all workflows, in the order of their steps. Nothing of what can't be planned.
pub(crate) fn deeds(runs: &[Manifest], settings: &Settings) -> Vec<Deed> {
    runs.iter()
        .flat_map(|run| executions(run, settings))
        .filter_map(|execution| {
            let action = Action::try_from(execution.spec.parameters).ok()?;
            let manifest = if let Action::ApplyManifest(apply) = &action {
                parse_manifest(&apply.manifest).ok()
            } else {
                None
            };
            Some(Deed {
                target: target_of(&action, manifest.as_ref()),
                spelling: execution.spec.action,
                action,
                manifest,
            })
        })
        .collect()
}

fn executions(run: &Manifest, settings: &Settings) -> Vec<KubernetesExecution> {
    if run.is_execution() {
        return KubernetesExecution::deserialize(&run.object)
            .into_iter()
            .collect();
    }
    let Ok(mut workflow) = WorkflowExecution::deserialize(&run.object) else {
        return Vec::new();
    };
    workflow.metadata.uid.get_or_insert_with(String::new);
    plan(&workflow, settings).map_or_else(
        |_| Vec::new(),
        |plan| plan.steps.into_values().map(|step| step.execution).collect(),
    )
}
