//! Which workflow an execution belongs to: the whole owner reference says it, never a part.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kubernaut_crds::{KubernetesExecution, WorkflowExecution, names};

/// The workflow that controls an execution: an owner of our kind and group. Whoever makes an object may write any uid into
/// an owner of a kind that nobody serves, and the garbage collector would leave it there.
pub fn controlling_workflow(execution: &KubernetesExecution) -> Option<&OwnerReference> {
    let owners = execution.metadata.owner_references.as_deref().unwrap_or_default();
    owners.iter().find(|owner| {
        owner.controller == Some(true)
            && owner.kind == names::WORKFLOW_KIND
            && owner.api_version.split_once('/').map(|(group, _)| group) == Some(names::WORKFLOW_GROUP)
    })
}

/// Whether an execution is a step of this workflow: group, kind, name and uid are its own.
pub fn is_controlled_by(execution: &KubernetesExecution, workflow: &WorkflowExecution) -> bool {
    controlling_workflow(execution).is_some_and(|owner| {
        Some(&owner.uid) == workflow.metadata.uid.as_ref()
            && Some(&owner.name) == workflow.metadata.name.as_ref()
    })
}
