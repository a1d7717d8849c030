//! What the workflows are going to do, and to what: known before anything runs.

use kubernaut_crds::{KubernetesExecution, TargetRef};
use kubernaut_machines::Settings;
use kubernaut_machines::actions::{Subject, subject_of};
use serde::Deserialize as _;

use super::Manifest;

/// One action of a workflow, or of an execution made by hand.
#[derive(Clone, Debug)]
pub(crate) struct PlannedAction {
    /// What it is done to.
    pub(crate) target: TargetRef,
    /// What has to be there for it.
    pub(crate) subject: Subject,
}

/// Those of all workflows, in the order of their steps. Nothing of what can't be planned.
pub(crate) fn planned_actions(runs: &[Manifest], settings: &Settings) -> Vec<PlannedAction> {
    runs.iter()
        .flat_map(|run| executions(run, settings))
        .filter_map(|execution| {
            let (target, subject) = subject_of(&execution.spec)?;
            Some(PlannedAction { target, subject })
        })
        .collect()
}

fn executions(run: &Manifest, settings: &Settings) -> Vec<KubernetesExecution> {
    if run.is_execution() {
        return KubernetesExecution::deserialize(&run.object)
            .into_iter()
            .collect();
    }
    let plan = run.plan(settings).and_then(Result::ok);
    let steps = plan.into_iter().flat_map(|plan| plan.steps.into_values());
    steps.map(|step| step.execution).collect()
}
