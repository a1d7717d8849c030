//! How a person takes back by hand what a failed workflow changed: lines to paste, last step first.

use kubernaut_crds::{
    ErrorType, ExecutionPhase, KubernetesExecution, KubernetesExecutionStatus, RecordedRollback,
};
use serde_json::{Value, json};

use super::machine::WorkflowMachine;
use crate::classify::cut;
use crate::images::patched_images;

/// A longer line is pasted by nobody.
const LINE_MAX: usize = 900;

impl WorkflowMachine {
    /// One line for each step that changed something, or may have.
    pub(super) fn undo_hints(&self) -> Vec<String> {
        self.executions
            .values()
            .rev()
            .filter_map(|execution| self.undo_hint(execution))
            .collect()
    }

    fn undo_hint(&self, execution: &KubernetesExecution) -> Option<String> {
        let status = execution.status.as_ref()?;
        let changed = changed(execution, status)?;
        let rollback = status
            .rollback_information
            .as_ref()
            .filter(|rollback| rollback.available)?;
        let how = command(execution, status, rollback.rollback_parameters.as_ref()?);
        let steps = &self.workflow.spec.workflow_definition.steps;
        let number = execution.spec.step_number;
        let name = steps
            .iter()
            .find(|step| step.step_number == number)
            .map_or("", |step| step.name.as_str());
        let target = status.target_name.as_deref().unwrap_or("its target");
        Some(cut(
            &match changed {
                Changed::Surely => format!("to undo step {number} ({name}): {how}"),
                Changed::Perhaps => {
                    format!("if step {number} ({name}) has changed {target}, to undo it: {how}")
                }
            },
            1000,
        ))
    }
}

/// Whether a step has changed its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Changed {
    Surely,
    Perhaps,
}

/// None where nothing was changed: the Job was never made, or the API server refused what it asked for.
fn changed(execution: &KubernetesExecution, status: &KubernetesExecutionStatus) -> Option<Changed> {
    if status.phase == Some(ExecutionPhase::Completed) {
        return Some(Changed::Surely);
    }
    status.attempts.first()?;
    // It cordons before it is refused anything.
    if execution.spec.parameters.drain_node.is_some() {
        return Some(Changed::Perhaps);
    }
    match status.error_type {
        Some(
            ErrorType::ValidationError
            | ErrorType::InsufficientPermissions
            | ErrorType::ResourceNotFound
            | ErrorType::ResourceConflict
            | ErrorType::ResourceQuotaExceeded
            | ErrorType::PolicyDenied
            | ErrorType::GitopsManaged
            | ErrorType::ApprovalRejected
            | ErrorType::ApprovalTimeout
            | ErrorType::DependencyFailed
            | ErrorType::JobFailed,
        ) => None,
        Some(ErrorType::VerificationFailed) => Some(Changed::Surely),
        Some(ErrorType::Timeout | ErrorType::JobLost | ErrorType::Cancelled | ErrorType::UnknownError)
        | None => Some(Changed::Perhaps),
    }
}

/// For a shell; where kubectl has no command for it, where the state before stands.
fn command(
    execution: &KubernetesExecution,
    status: &KubernetesExecutionStatus,
    recorded: &RecordedRollback,
) -> String {
    let line = shell_line(execution, status, recorded).filter(|line| line.len() <= LINE_MAX);
    line.unwrap_or_else(|| {
        format!(
            "the state before stands in status.rollbackInformation of kubernetesexecution {}",
            execution.metadata.name.as_deref().unwrap_or_default()
        )
    })
}

fn shell_line(
    execution: &KubernetesExecution,
    status: &KubernetesExecutionStatus,
    recorded: &RecordedRollback,
) -> Option<String> {
    if let Some(node) = &recorded.uncordon_node {
        return Some(format!("kubectl uncordon {}", node.node));
    }
    if let Some(node) = &recorded.cordon_node {
        return Some(format!("kubectl cordon {}", node.node));
    }
    if let Some(scale) = &recorded.scale_to_previous {
        return Some(format!(
            "kubectl -n {} scale deployment/{} --replicas={}",
            scale.namespace, scale.deployment, scale.previous_replicas
        ));
    }
    if recorded.custom.is_some() {
        let (kind, rest) = status.target_name.as_deref()?.split_once('/')?;
        return Some(match rest.split_once('/') {
            Some((namespace, name)) => format!("kubectl -n {namespace} delete {kind}/{name}"),
            None => format!("kubectl delete {kind}/{rest}"),
        });
    }
    let config = recorded.restore_previous_config.as_ref()?;
    let before: Value = serde_json::from_str(&config.previous_spec).ok()?;
    let place = format!("kubectl -n {}", config.namespace);
    match config.resource_kind.as_str() {
        "ConfigMap"
            if before["data"].is_object() && execution.spec.parameters.update_config_map.is_some() =>
        {
            let patch = quoted(&json!({"data": before["data"]}).to_string());
            Some(format!(
                "{place} patch configmap/{} --type=merge -p {patch}",
                config.name
            ))
        }
        "Deployment" if execution.spec.parameters.patch_deployment.is_some() => {
            let images = images_before(execution, &before);
            let name = &config.name;
            Some(if images.is_empty() {
                format!("{place} rollout undo deployment/{name} (unless something has rolled it out since)")
            } else {
                format!("{place} set image deployment/{name} {}", images.join(" "))
            })
        }
        _ => None,
    }
}

/// `container=image` for each image that an update-image replaced.
fn images_before(execution: &KubernetesExecution, before: &Value) -> Vec<String> {
    if execution.spec.action != "update-image" {
        return Vec::new();
    }
    let Some(patch) = &execution.spec.parameters.patch_deployment else {
        return Vec::new();
    };
    let old = |name: &str| {
        ["containers", "initContainers"]
            .iter()
            .filter_map(|list| before["template"]["spec"][list].as_array())
            .flatten()
            .find(|container| container["name"] == name)
            .and_then(|container| container["image"].as_str().map(ToOwned::to_owned))
    };
    patched_images(patch)
        .unwrap_or_default()
        .into_iter()
        .filter_map(|(container, _)| Some(format!("{container}={}", old(&container)?)))
        .collect()
}

/// One word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
