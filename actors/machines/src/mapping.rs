//! From a step of a workflow to its execution.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kubernaut_crds::{
    Action, ActionParameters, DEFAULT_MAX_RETRIES, DEFAULT_TIMEOUT, KubernetesExecution,
    KubernetesExecutionSpec, NodeAction, NotOneMember, ObjectRef, StepAction, StepParameters,
    WorkflowExecution, WorkflowStep, names,
};

use crate::actions::{
    apply_manifest, delete_pod, drain_node, patch_deployment, rollout_restart, update_config_map,
    update_secret,
};
use crate::defect::{Defect, planted};
use crate::duration::{DurationError, parse_go};
use crate::execution_key::ExecutionKey;

/// Longest grace period, in seconds.
const GRACE_MAX: u64 = 3600;

/// A step's parameters in the executor's terms.
#[derive(Clone, Debug, PartialEq)]
pub struct Converted {
    /// As they stand in the execution.
    pub parameters: ActionParameters,
    /// What is done, as an enum.
    pub action: Action,
    /// What had nowhere to go.
    pub warnings: Vec<String>,
}

/// Why parameters can't be converted; each with its [field](MappingError::field).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MappingError {
    /// Not exactly one member.
    #[error("{0}")]
    Members(#[from] NotOneMember),
    /// A grace period is no duration.
    #[error("{0}")]
    GracePeriod(#[from] DurationError),
    /// A grace period is too long.
    #[error("{0:?} is longer than an hour")]
    GraceTooLong(String),
    /// A value of a Secret is not base64.
    #[error("is not base64 (standard alphabet, padded)")]
    NotBase64(String),
    /// restartPod with both or neither.
    #[error("exactly one of podName and selector is needed")]
    PodOrSelector,
    /// restartPod of one pod by name, and yet on a node.
    #[error("nodeName goes with selector: a pod that is named is on one node anyway")]
    NodeWithoutSelector,
    /// custom with an unknown type.
    #[error("{0:?} is not supported: apply-manifest is, with config.manifest")]
    CustomType(String),
    /// custom without a manifest.
    #[error("is missing: it holds the one document to apply")]
    CustomManifest,
}

impl MappingError {
    /// The field below the member of the step's parameters; empty where it is no single one.
    pub fn field(&self) -> String {
        match self {
            MappingError::Members(_) | MappingError::PodOrSelector | MappingError::NodeWithoutSelector => {
                String::new()
            }
            MappingError::GracePeriod(_) | MappingError::GraceTooLong(_) => "gracePeriod".to_owned(),
            MappingError::NotBase64(key) => format!("dataUpdates.{key}"),
            MappingError::CustomType(_) => "actionType".to_owned(),
            MappingError::CustomManifest => "config.manifest".to_owned(),
        }
    }
}

/// Converts a step's parameters member by member.
pub fn convert(parameters: &StepParameters) -> Result<Converted, MappingError> {
    let mut warning = None;
    let action = match StepAction::try_from(parameters.clone())? {
        StepAction::ScaleDeployment(step) => Action::ScaleDeployment(step),
        StepAction::ScaleStatefulSet(step) => Action::ScaleStatefulSet(step),
        StepAction::RestartDeployment(step) => {
            let (restart, without_effect) = rollout_restart::from_step(step)?;
            warning = without_effect;
            Action::RolloutRestart(restart)
        }
        StepAction::DeletePod(step) => Action::DeletePod(delete_pod::from_step(step)?),
        StepAction::RestartPod(step) => Action::DeletePod(delete_pod::from_restart_step(step)?),
        StepAction::UpdateConfigMap(step) => Action::UpdateConfigMap(update_config_map::from_step(step)),
        StepAction::UpdateSecret(step) => Action::UpdateSecret(update_secret::from_step(step)?),
        StepAction::CordonNode(step) => Action::CordonNode(NodeAction { node: step.node_name }),
        StepAction::UncordonNode(step) => Action::UncordonNode(NodeAction { node: step.node_name }),
        StepAction::DrainNode(step) => Action::DrainNode(drain_node::from_step(step)?),
        StepAction::UpdateImage(step) => Action::PatchDeployment(patch_deployment::from_image_step(step)),
        StepAction::PatchDeployment(step) => Action::PatchDeployment(step),
        StepAction::Custom(step) => Action::ApplyManifest(apply_manifest::from_step(step)?),
    };
    Ok(Converted {
        parameters: action.clone().into(),
        action,
        warnings: warning.into_iter().collect(),
    })
}

/// Whole seconds, rounded up; absent stays absent.
pub(crate) fn grace_seconds(text: Option<&str>) -> Result<Option<i64>, MappingError> {
    let Some(text) = text else { return Ok(None) };
    let duration = parse_go(text)?;
    let seconds = duration.as_secs() + u64::from(duration > Duration::from_secs(duration.as_secs()));
    if seconds > GRACE_MAX {
        return Err(MappingError::GraceTooLong(text.to_owned()));
    }
    Ok(i64::try_from(seconds).ok())
}

/// The execution of a step: everything it needs, copied (docs/workflows.md); and what of the step had nowhere
/// to go.
pub fn execution_for(
    workflow: &WorkflowExecution,
    step: &WorkflowStep,
) -> Result<(KubernetesExecution, Vec<String>), MappingError> {
    let converted = convert(&step.parameters)?;
    let key = ExecutionKey::step(step.step_number);
    let execution = execution_with(workflow, step, key, converted.parameters);
    Ok((execution, converted.warnings))
}

/// An execution of a step, whatever it is for.
pub(crate) fn execution_with(
    workflow: &WorkflowExecution,
    step: &WorkflowStep,
    key: ExecutionKey,
    parameters: ActionParameters,
) -> KubernetesExecution {
    let name = workflow.metadata.name.clone().unwrap_or_default();
    let namespace = workflow.metadata.namespace.clone();
    let uid = workflow.metadata.uid.clone().unwrap_or_default();
    let strategy = &workflow.spec.execution_strategy;
    let correlation = workflow
        .metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(names::ANNOTATION_CORRELATION_ID).cloned())
        .unwrap_or_else(|| uid.clone());
    let mut annotations = BTreeMap::from([(names::ANNOTATION_CORRELATION_ID.to_owned(), correlation)]);
    // Whoever made the workflow may not approve a step of it either.
    let creator = workflow.created_by().map(str::to_owned);
    annotations.extend(creator.map(|creator| (names::ANNOTATION_CREATED_BY.to_owned(), creator)));
    let labels = BTreeMap::from([
        (names::LABEL_WORKFLOW.to_owned(), label_value(&name)),
        (names::LABEL_STEP_NUMBER.to_owned(), step.step_number.to_string()),
        (names::LABEL_ACTION.to_owned(), label_value(&step.action)),
    ]);
    KubernetesExecution {
        metadata: ObjectMeta {
            name: Some(key.name(&name)),
            namespace: namespace.clone(),
            owner_references: Some(vec![OwnerReference {
                api_version: names::WORKFLOW_API_VERSION.to_owned(),
                kind: names::WORKFLOW_KIND.to_owned(),
                name: name.clone(),
                uid: uid.clone(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            finalizers: (!planted(Defect::ForgetTheFinalizer))
                .then(|| vec![names::CLEANUP_FINALIZER.to_owned()]),
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: KubernetesExecutionSpec {
            workflow_execution_ref: Some(ObjectRef {
                name,
                namespace,
                uid: Some(uid),
                ..ObjectRef::default()
            }),
            step_number: step.step_number,
            action: step.action.clone(),
            parameters,
            target_cluster: step.target_cluster.clone(),
            max_retries: retries_of(workflow, step),
            timeout: step.timeout.clone().unwrap_or_else(|| DEFAULT_TIMEOUT.to_owned()),
            approval_received: !strategy.approval_required,
            approved_by: None,
            dry_run: None,
            service_account_name: workflow.spec.service_account_name.clone(),
            shutdown: None,
        },
        status: None,
    }
}

/// Retries of a step: its own, else the strategy's, else the default.
pub(crate) fn retries_of(workflow: &WorkflowExecution, step: &WorkflowStep) -> i32 {
    step.max_retries
        .or(workflow.spec.execution_strategy.max_retries)
        .unwrap_or(DEFAULT_MAX_RETRIES)
}

/// Whether an execution found in the cluster is the one that would be made: equal but for what may change.
pub fn same_spec(wanted: &KubernetesExecutionSpec, found: &KubernetesExecutionSpec) -> bool {
    let found = KubernetesExecutionSpec {
        approval_received: wanted.approval_received,
        approved_by: wanted.approved_by.clone(),
        shutdown: wanted.shutdown,
        ..found.clone()
    };
    *wanted == found
}

/// A text as the value of a label: at most 63 characters of the allowed ones, alphanumeric at both ends.
pub fn label_value(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let cleaned: String = text.chars().map(|c| if allowed(c) { c } else { '-' }).collect();
    let ends = |c: char| !c.is_ascii_alphanumeric();
    let start = cleaned.trim_start_matches(ends);
    start[..start.len().min(63)].trim_end_matches(ends).to_owned()
}

#[cfg(test)]
mod tests {
    use kubernaut_crds::StepParameters;
    use serde_json::{Value, json};

    use super::*;

    // What is not expected here is a failed test.
    #[allow(clippy::unwrap_in_result)]
    fn converted(step: Value) -> Result<(Value, Vec<String>), String> {
        let parameters: StepParameters = serde_json::from_value(step).expect("parameters");
        let converted = convert(&parameters).map_err(|error| format!("{}: {error}", error.field()))?;
        Ok((
            serde_json::to_value(converted.parameters).expect("JSON"),
            converted.warnings,
        ))
    }

    fn same(step: Value, action: Value) {
        assert_eq!(converted(step), Ok((action, Vec::new())));
    }

    fn refused(step: Value, words: &str) {
        let error = converted(step).expect_err("refused");
        assert!(error.contains(words), "{words:?} is not in {error:?}");
    }

    #[test]
    fn scale_deployment_and_scale_stateful_set_are_copied() {
        for scale in [
            json!({"scaleDeployment": {"namespace": "a", "deployment": "b", "replicas": 3}}),
            json!({"scaleStatefulSet": {"namespace": "a", "name": "b", "replicas": 3}}),
        ] {
            same(scale.clone(), scale);
        }
    }

    #[test]
    fn restart_deployment_becomes_rollout_restart_and_its_grace_period_a_warning() {
        let step = json!({"restartDeployment": {"namespace": "a", "deployment": "b", "gracePeriod": "10s"}});
        let (action, warnings) = converted(step).expect("converted");
        assert_eq!(
            action,
            json!({"rolloutRestart": {"namespace": "a", "deployment": "b"}})
        );
        assert!(
            warnings.len() == 1 && warnings[0].contains("gracePeriod has no effect"),
            "{warnings:?}"
        );
    }

    #[test]
    fn delete_pod_renames_the_pod_and_rounds_its_grace_period_up() {
        same(
            json!({"deletePod": {"namespace": "a", "podName": "b", "gracePeriod": "1500ms"}}),
            json!({"deletePod": {"namespace": "a", "pod": "b", "gracePeriodSeconds": 2}}),
        );
        same(
            json!({"deletePod": {"namespace": "a", "podName": "b"}}),
            json!({"deletePod": {"namespace": "a", "pod": "b"}}),
        );
        refused(
            json!({"deletePod": {"namespace": "a", "podName": "b", "gracePeriod": "soon"}}),
            "gracePeriod: \"soon\"",
        );
        refused(
            json!({"deletePod": {"namespace": "a", "podName": "b", "gracePeriod": "61m"}}),
            "longer than an hour",
        );
    }

    #[test]
    fn update_config_map_renames_name_and_data() {
        same(
            json!({"updateConfigMap": {"namespace": "a", "name": "b", "dataUpdates": {"k": "v"}}}),
            json!({"updateConfigMap": {"namespace": "a", "configMap": "b", "data": {"k": "v"}}}),
        );
    }

    #[test]
    fn update_secret_renames_name_and_data_and_takes_only_base64() {
        same(
            json!({"updateSecret": {"namespace": "a", "name": "b", "dataUpdates": {"k": "aGVsbG8="}}}),
            json!({"updateSecret": {"namespace": "a", "secret": "b", "data": {"k": "aGVsbG8="}}}),
        );
        let error = converted(
            json!({"updateSecret": {"namespace": "a", "name": "b", "dataUpdates": {"k": "topsecret"}}}),
        );
        let error = error.expect_err("refused");
        assert!(
            error.contains("dataUpdates.k") && !error.contains("topsecret"),
            "{error}"
        );
    }

    #[test]
    fn nodes_are_renamed() {
        same(
            json!({"cordonNode": {"nodeName": "n"}}),
            json!({"cordonNode": {"node": "n"}}),
        );
        same(
            json!({"uncordonNode": {"nodeName": "n"}}),
            json!({"uncordonNode": {"node": "n"}}),
        );
    }

    #[test]
    fn drain_node_without_a_grace_period_gives_thirty_seconds_and_never_forces() {
        same(
            json!({"drainNode": {"nodeName": "n", "ignoreDaemonSets": true, "deleteLocalData": false}}),
            json!({"drainNode": {"node": "n", "gracePeriodSeconds": 30, "force": false, "ignoreDaemonSets": true, "deleteLocalData": false}}),
        );
        refused(
            json!({"drainNode": {"nodeName": "n", "gracePeriod": "-5s"}}),
            "\"-5s\" is not a duration",
        );
    }

    #[test]
    fn update_image_becomes_a_strategic_patch_that_names_the_container() {
        let step = json!({"updateImage": {"namespace": "a", "deployment": "b", "container": "c", "newImage": "i:2"}});
        let (action, _) = converted(step).expect("converted");
        let patch = &action["patchDeployment"];
        assert_eq!(patch["patchType"], "strategic");
        let patch: Value = serde_json::from_str(patch["patch"].as_str().expect("text")).expect("JSON");
        assert_eq!(
            patch,
            json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i:2"}]}}}})
        );
    }

    #[test]
    fn custom_is_apply_manifest_and_nothing_else() {
        same(
            json!({"custom": {"actionType": "apply-manifest", "config": {"manifest": "kind: X"}}}),
            json!({"applyManifest": {"manifest": "kind: X"}}),
        );
        refused(
            json!({"custom": {"actionType": "shell", "config": {"run": "rm"}}}),
            "apply-manifest is",
        );
        refused(
            json!({"custom": {"actionType": "apply-manifest", "config": {"file": "x"}}}),
            "config.manifest: is missing",
        );
    }

    #[test]
    fn restart_pod_is_by_name_or_by_selector() {
        same(
            json!({"restartPod": {"namespace": "a", "podName": "b"}}),
            json!({"deletePod": {"namespace": "a", "pod": "b"}}),
        );
        same(
            json!({"restartPod": {"namespace": "a", "selector": "app=b", "gracePeriod": "5s"}}),
            json!({"deletePod": {"namespace": "a", "labelSelector": "app=b", "gracePeriodSeconds": 5}}),
        );
        refused(
            json!({"restartPod": {"namespace": "a"}}),
            "exactly one of podName and selector",
        );
        refused(
            json!({"restartPod": {"namespace": "a", "podName": "b", "selector": "c=d"}}),
            "exactly one of",
        );
    }

    #[test]
    fn restart_pod_by_selector_may_be_for_the_pods_on_one_node() {
        same(
            json!({"restartPod": {"namespace": "a", "selector": "app=b", "nodeName": "n1"}}),
            json!({"deletePod": {"namespace": "a", "labelSelector": "app=b", "nodeName": "n1"}}),
        );
        refused(
            json!({"restartPod": {"namespace": "a", "podName": "b", "nodeName": "n1"}}),
            "nodeName goes with selector",
        );
    }

    #[test]
    fn patch_deployment_is_copied() {
        let patch = json!({"patchDeployment": {"namespace": "a", "deployment": "b", "patchType": "json", "patch": "[]"}});
        same(patch.clone(), patch);
    }

    #[test]
    fn none_or_two_members_are_refused_by_name() {
        refused(json!({}), "no known member");
        refused(
            json!({"cordonNode": {"nodeName": "n"}, "uncordonNode": {"nodeName": "n"}}),
            "cordonNode, uncordonNode",
        );
    }

    /// The design document's own example, step 2 of payment-api-workflow.
    #[test]
    fn the_execution_of_the_designs_example_equals_the_designs_yaml() {
        let workflow: WorkflowExecution = serde_json::from_value(json!({
            "apiVersion": "workflow.kubernaut.io/v1", "kind": "WorkflowExecution",
            "metadata": {"name": "payment-api-workflow", "namespace": "production", "uid": "xyz789"},
            "spec": {"workflowDefinition": {"name": "payment-api", "version": "v1", "steps": [{
                "stepNumber": 2, "name": "scale-deployment", "action": "scale-deployment",
                "targetCluster": "production-cluster",
                "parameters": {"scaleDeployment": {"deployment": "payment-api", "namespace": "production", "replicas": 5}},
                "criticalStep": false, "maxRetries": 3, "timeout": "5m", "dependsOn": [1],
            }]}},
        }))
        .expect("a workflow");
        let step = &workflow.spec.workflow_definition.steps[0];
        let made =
            serde_json::to_value(execution_for(&workflow, step).expect("an execution").0).expect("JSON");
        assert_eq!(made["metadata"]["name"], "payment-api-workflow-step-2");
        assert_eq!(made["metadata"]["namespace"], "production");
        let owner = &made["metadata"]["ownerReferences"][0];
        assert_eq!(owner["apiVersion"], "workflow.kubernaut.io/v1");
        assert_eq!(
            (&owner["kind"], &owner["name"]),
            (&json!("WorkflowExecution"), &json!("payment-api-workflow"))
        );
        assert_eq!(
            (&owner["uid"], &owner["controller"]),
            (&json!("xyz789"), &json!(true))
        );
        let mut spec = made["spec"].clone();
        // Additions of ours.
        spec.as_object_mut()
            .expect("an object")
            .remove("serviceAccountName");
        assert_eq!(
            spec,
            json!({
                "workflowExecutionRef": {"name": "payment-api-workflow", "namespace": "production", "uid": "xyz789"},
                "stepNumber": 2,
                "action": "scale-deployment",
                "parameters": {"scaleDeployment": {"deployment": "payment-api", "namespace": "production", "replicas": 5}},
                "targetCluster": "production-cluster",
                "maxRetries": 3,
                "timeout": "5m",
                "approvalReceived": true,
            })
        );
    }

    #[test]
    fn retries_come_from_the_step_then_from_the_strategy_then_from_the_default_and_zero_means_none() {
        let retries = |step: Value, strategy: Value| {
            let mut object = json!({
                "apiVersion": "workflow.kubernaut.io/v1", "kind": "WorkflowExecution", "metadata": {"name": "w"},
                "spec": {"executionStrategy": strategy, "workflowDefinition": {"name": "w", "version": "1", "steps": [
                    {"stepNumber": 1, "name": "a", "action": "cordon-node", "parameters": {"cordonNode": {"nodeName": "n"}}}]}}
            });
            if !step.is_null() {
                object["spec"]["workflowDefinition"]["steps"][0]["maxRetries"] = step;
            }
            let workflow: WorkflowExecution = serde_json::from_value(object).expect("a workflow");
            execution_for(&workflow, &workflow.spec.workflow_definition.steps[0])
                .expect("made")
                .0
                .spec
                .max_retries
        };
        assert_eq!(retries(Value::Null, json!({})), 2);
        assert_eq!(retries(Value::Null, json!({"maxRetries": 4})), 4);
        assert_eq!(retries(json!(0), json!({"maxRetries": 4})), 0);
    }

    proptest::proptest! {
        #[test]
        fn any_text_makes_a_valid_label_value(text in ".{0,100}") {
            let value = label_value(&text);
            let ok = |c: char| c.is_ascii_alphanumeric();
            proptest::prop_assert!(value.len() <= 63);
            proptest::prop_assert!(value.is_empty() || value.starts_with(ok) && value.ends_with(ok));
        }
    }
}
