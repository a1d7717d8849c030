//! What a policy is asked about: the input of its rules, without values of Secrets.

use jiff::Timestamp;
use kubernaut_crds::{ActionParameters, KubernetesExecution, Sensitive, TargetRef};
use serde::Serialize;
use serde_json::{Value, json};

use crate::actions::ActionKind;
use crate::parameters::ValidatedExecution;
use crate::preflight::Preflight;

/// Stands where a value of a Secret was.
const REMOVED: &str = "(removed)";

/// The input for an execution (docs/executions.md, Policy), but for what others do at the same time: whoever asks adds that with
/// [`with_others`].
pub fn policy_input(
    execution: &KubernetesExecution,
    checked: &ValidatedExecution,
    preflight: &Preflight,
    now: Timestamp,
) -> Value {
    let spec = &execution.spec;
    let workflow = spec.workflow_execution_ref.as_ref().map(|workflow| {
        let namespace = workflow
            .namespace
            .as_ref()
            .or(execution.metadata.namespace.as_ref());
        json!({"name": workflow.name, "namespace": namespace})
    });
    json!({
        "action": checked.kind.canonical(),
        "target": checked.target,
        "state": preflight.state,
        "parameters": without_values(&spec.parameters),
        "executing": [],
        "workflow": workflow,
        "namespace": execution.metadata.namespace,
        "serviceAccountName": spec.service_account_name,
        "stepNumber": spec.step_number,
        "targetCluster": spec.target_cluster,
        "maxRetries": spec.max_retries,
        "timeoutSeconds": checked.timeout.as_secs_f64(),
        "approvalReceived": spec.approval_received,
        "rollback": is_rollback(execution),
        "dryRun": spec.dry_run.unwrap_or(false),
        "now": now.to_string(),
    })
}

/// What another execution does at the same time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Other {
    /// The canonical name of its action.
    pub action: &'static str,
    /// What it acts on.
    pub target: TargetRef,
    /// It takes back what another one did.
    pub rollback: bool,
}

/// The input with what other executions hold locks for.
#[must_use]
pub fn with_others(mut input: Value, others: &[Other]) -> Value {
    if let Some(members) = input.as_object_mut() {
        members.insert("executing".to_owned(), json!(others));
    }
    input
}

/// The canonical name of what an execution does; of one that takes back what another did, that one's.
pub fn action_of(execution: &KubernetesExecution) -> &'static str {
    let undone = execution
        .spec
        .parameters
        .undo
        .as_ref()
        .map(|undo| undo.of.as_str());
    let spelling = undone.unwrap_or(&execution.spec.action);
    ActionKind::ALL
        .into_iter()
        .find(|kind| kind.spellings().any(|known| known == spelling))
        .map_or("unknown", ActionKind::canonical)
}

/// It takes back what another one was seen to do. Admission policies keep these parameters to the controller; what a workflow's
/// rollbackSpec says is an action like any other.
pub fn is_rollback(execution: &KubernetesExecution) -> bool {
    execution.spec.parameters.undo.is_some()
}

/// The parameters as they were written; of a Secret the keys alone.
fn without_values(parameters: &ActionParameters) -> Value {
    let mut parameters = parameters.clone();
    if let Some(update) = &mut parameters.update_secret {
        for value in update.data.values_mut() {
            *value = Sensitive::new(REMOVED.to_owned());
        }
    }
    serde_json::to_value(&parameters).unwrap_or_default()
}

#[cfg(test)]
mod tests;
