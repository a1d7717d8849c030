//! The execution that takes back what a step did: from the step's rollbackSpec, else from what its execution recorded.

use kubernaut_crds::{
    Action, ActionParameters, Attempt, ConfigType, ErrorType, ExecutionPhase, KubernetesExecution,
    KubernetesExecutionStatus, NodeAction, RecordedUndo, RestorePreviousConfig, RestorePreviousDeployment,
    RollbackAction, ScaleDeployment, Undo, UndoTarget, UpdateConfigMap, WorkflowExecution, WorkflowStep,
    names,
};
use serde_json::Value;

use crate::actions::{apply_manifest, kind_of};
use crate::execution_key::{ExecutionKey, Role};
use crate::mapping::{MappingError, execution_for, execution_with, label_value};

/// Why a step can't be undone, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotReversible(pub String);

/// The execution that undoes a step that ended so; `None` where it changed nothing.
///
/// # Errors
/// Why there is no way back.
pub fn undo_execution(
    workflow: &WorkflowExecution,
    step: &WorkflowStep,
    execution: &KubernetesExecution,
) -> Result<Option<KubernetesExecution>, NotReversible> {
    if step.rollback_spec.is_some() && !is_as_recorded(step, execution) {
        let made = rollback_execution(workflow, step)
            .map_err(|problem| NotReversible(format!("its rollbackSpec can't be run: {problem}")))?;
        if made.is_some() {
            return Ok(made);
        }
    }
    let Some((action, parameters)) = recorded_undo(execution)? else {
        return Ok(None);
    };
    Ok(Some(made(workflow, step, action, parameters)))
}

/// The rollbackSpec asks for the state that was recorded: what was recorded tests whether somebody has changed it since, too.
fn is_as_recorded(step: &WorkflowStep, execution: &KubernetesExecution) -> bool {
    let spec = step.rollback_spec.as_ref();
    let wanted = spec.and_then(|spec| RollbackAction::try_from(spec.parameters.clone()).ok());
    let status = execution.status.as_ref();
    let rollback = status.and_then(|status| status.rollback_information.as_ref());
    let rollback = rollback.filter(|rollback| rollback.available && rollback.undo.is_some());
    let recorded = rollback.and_then(|rollback| rollback.rollback_parameters.as_ref());
    let (Some(wanted), Some(recorded)) = (wanted, recorded) else {
        return false;
    };
    match wanted {
        RollbackAction::ScaleToPrevious(scale) => recorded.scale_to_previous == Some(scale),
        RollbackAction::UncordonNode(node) => {
            let name = recorded.uncordon_node.as_ref().map(|node| &node.node);
            name == Some(&node.node_name)
        }
        RollbackAction::RestorePreviousConfig(_)
        | RollbackAction::RestorePreviousDeployment(_)
        | RollbackAction::Custom(_) => false,
    }
}

/// The execution of a step's rollbackSpec; `None` where it asks for what the step itself records.
///
/// # Errors
/// What is wrong with it.
pub fn rollback_execution(
    workflow: &WorkflowExecution,
    step: &WorkflowStep,
) -> Result<Option<KubernetesExecution>, String> {
    let spec = step.rollback_spec.as_ref().ok_or("there is none")?;
    let action = RollbackAction::try_from(spec.parameters.clone()).map_err(|members| members.to_string())?;
    let action = match action {
        RollbackAction::RestorePreviousDeployment(deployment) => {
            return restores_what_it_records(workflow, step, &deployment).map(|()| None);
        }
        RollbackAction::ScaleToPrevious(scale) => Action::ScaleDeployment(ScaleDeployment {
            namespace: scale.namespace,
            deployment: scale.deployment,
            replicas: scale.previous_replicas,
        }),
        RollbackAction::UncordonNode(node) => Action::UncordonNode(NodeAction { node: node.node_name }),
        RollbackAction::RestorePreviousConfig(config) => config_map(config)?,
        RollbackAction::Custom(custom) => {
            let located = |problem: MappingError| format!("custom.{}: {problem}", problem.field());
            Action::ApplyManifest(apply_manifest::from_step(custom).map_err(located)?)
        }
    };
    let name = kind_of(&action).map_or("", |kind| kind.canonical()).to_owned();
    let mut execution = made(workflow, step, name, action.into());
    if let Some(timeout) = &spec.timeout {
        execution.spec.timeout.clone_from(timeout);
    }
    Ok(Some(execution))
}

/// The previous state of a Deployment is what the step records of it.
fn restores_what_it_records(
    workflow: &WorkflowExecution,
    step: &WorkflowStep,
    deployment: &RestorePreviousDeployment,
) -> Result<(), String> {
    if deployment.revision != 0 {
        return Err(format!(
            "restorePreviousDeployment.revision {} is not supported by this version: only 0, the state before the step, is",
            deployment.revision
        ));
    }
    let (execution, _) = execution_for(workflow, step).map_err(|problem| problem.to_string())?;
    let action = Action::try_from(execution.spec.parameters).map_err(|members| members.to_string())?;
    let records = match &action {
        Action::ScaleDeployment(scale) => Some((&scale.namespace, &scale.deployment)),
        Action::PatchDeployment(patch) => Some((&patch.namespace, &patch.deployment)),
        Action::ScaleStatefulSet(_)
        | Action::RolloutRestart(_)
        | Action::DeletePod(_)
        | Action::CordonNode(_)
        | Action::UncordonNode(_)
        | Action::DrainNode(_)
        | Action::UpdateConfigMap(_)
        | Action::UpdateSecret(_)
        | Action::ApplyManifest(_)
        | Action::Undo(_) => None,
    };
    if records == Some((&deployment.namespace, &deployment.deployment)) {
        return Ok(());
    }
    Err(format!(
        "restorePreviousDeployment of {}/{}: the step records nothing of it; it can go with a step that scales or patches this \
         Deployment, or sets its image",
        deployment.namespace, deployment.deployment
    ))
}

/// A ConfigMap with the data of a snapshot.
fn config_map(config: RestorePreviousConfig) -> Result<Action, String> {
    if config.r#type == ConfigType::Secret {
        return Err(
            "restorePreviousConfig of a Secret is not possible: updateSecret is not reversible".to_owned(),
        );
    }
    let bad = |what: &str| format!("restorePreviousConfig.snapshot {what}");
    let snapshot: Value =
        serde_json::from_str(&config.snapshot).map_err(|error| bad(&format!("is not JSON: {error}")))?;
    let data = serde_json::from_value(snapshot["data"].clone())
        .map_err(|_| bad("has no data, a map of texts, as a ConfigMap has"))?;
    Ok(Action::UpdateConfigMap(UpdateConfigMap {
        namespace: config.namespace,
        config_map: config.name,
        data,
    }))
}

/// What the execution recorded when its outcome was looked at; `None` where it changed nothing.
fn recorded_undo(
    execution: &KubernetesExecution,
) -> Result<Option<(String, ActionParameters)>, NotReversible> {
    let no = |why: &str| Err(NotReversible(why.to_owned()));
    let status = execution.status.clone().unwrap_or_default();
    let Some(rollback) = status.rollback_information else {
        return no("nothing was recorded of the state before");
    };
    if !rollback.available {
        return no(rollback.reason.as_deref().unwrap_or("there is no way back"));
    }
    let action = Action::try_from(execution.spec.parameters.clone()).ok();
    let kind = action.as_ref().and_then(kind_of);
    let (Some(undo), Some(target), Some(kind)) = (rollback.undo, status.target, kind) else {
        return no("nobody has seen what it changed: its target could not be read, or was not");
    };
    if changes_nothing(&undo) {
        return Ok(None);
    }
    let undo = Undo {
        of: kind.canonical().to_owned(),
        target: UndoTarget {
            api_version: undo.api_version,
            kind: target.kind,
            namespace: target.namespace,
            name: target.name,
            uid: undo.uid,
        },
        patch: undo.patch,
        delete: undo.delete,
    };
    Ok(Some(("undo".to_owned(), Action::Undo(undo).into())))
}

/// What stands there is what stood there before.
pub(crate) fn changes_nothing(undo: &RecordedUndo) -> bool {
    undo.patch.as_deref() == Some("[]")
}

/// An execution of the workflow that undoes this step.
fn made(
    workflow: &WorkflowExecution,
    step: &WorkflowStep,
    action: String,
    parameters: ActionParameters,
) -> KubernetesExecution {
    let key = ExecutionKey {
        role: Role::Rollback,
        number: step.step_number,
    };
    let step = WorkflowStep {
        action,
        ..step.clone()
    };
    let mut execution = execution_with(workflow, &step, key, parameters);
    // Whoever let the workflow run let it be taken back.
    execution.spec.approval_received = true;
    let labels = execution.metadata.labels.get_or_insert_default();
    labels.insert(names::LABEL_ROLLBACK.to_owned(), label_value("true"));
    execution
}

/// Whether a step has changed its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    Surely,
    Perhaps,
}

/// None where nothing was changed: the Job was never made, or the API server refused what it asked for.
pub(crate) fn changed(
    execution: &KubernetesExecution,
    status: &KubernetesExecutionStatus,
) -> Option<Changed> {
    if status.phase == Some(ExecutionPhase::Completed) {
        return Some(Changed::Surely);
    }
    status.attempts().real().next()?;
    let action = Action::try_from(execution.spec.parameters.clone()).ok();
    let kind = action.as_ref().and_then(kind_of);
    if kind.is_some_and(|kind| kind.definition().fails_half_done) {
        return Some(Changed::Perhaps);
    }
    // Where nothing that may be read proves it, a failure that nobody knows says nothing: its answer alone may have been lost.
    let is_unproven = |attempt: &Attempt| {
        matches!(
            attempt.error_type,
            Some(ErrorType::JobFailed | ErrorType::JobLost | ErrorType::Timeout | ErrorType::UnknownError)
                | None
        )
    };
    let is_provable = kind.is_none_or(|kind| kind.definition().provable_when_lost);
    if !is_provable && status.attempts().real().any(is_unproven) {
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
