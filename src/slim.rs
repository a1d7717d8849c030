//! What is kept of workflows and executions: what is read of them, and no spec that nobody would run.
//!
//! Whoever may make objects in one namespace could else fill the memory of every replica, again at each start.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kubernaut_crds::{
    KubernetesExecution, KubernetesExecutionSpec, KubernetesExecutionStatus, WorkflowExecution,
    WorkflowExecutionSpec, WorkflowExecutionStatus, WorkflowPhase, names,
};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Error as _};
use serde_json::value::RawValue;

use crate::guard::Decode;
use crate::metadata::Metadata;

/// Longest text of a spec that is kept, in bytes. One that is longer than [`names::SPEC_MAX_BYTES`] is refused with that
/// number; free-form fields and the execution's own fields are not part of that count.
const SPEC_KEPT: usize = names::SPEC_MAX_BYTES + 32 * 1024;
/// Longest labels and annotations that are kept, in bytes; ours are a few hundred.
const METADATA_KEPT: usize = 16 * 1024;
/// Longest finalizers with which an object is read, in bytes: they have to be kept whole to take ours away.
const FINALIZERS_MAX: usize = 64 * 1024;
/// Labels and annotations that are read.
const OURS: &str = "kubernaut.io/";
/// How much of a state before is kept once its execution has ended, in bytes: as much as a hint to a person holds.
const PREVIOUS_KEPT: usize = 1000;

/// An object whose spec may be too large to be kept.
pub(crate) trait Slim: Sized {
    type Spec: DeserializeOwned;
    type Status: DeserializeOwned;
    fn of(metadata: ObjectMeta, spec: Self::Spec, status: Option<Self::Status>) -> Self;
    fn metadata(&mut self) -> &mut ObjectMeta;
    /// Something was begun by it: then it was looked at before, and is needed whole.
    fn is_begun(&self) -> bool;
    /// Nothing will be begun by it.
    fn is_ended(&self) -> bool;
    /// Drops what the spec is long of.
    fn empty(&mut self);
    /// Drops what only running it needs; it has ended.
    fn settle(&mut self);
    /// Drops what only the workflow that it is a step of needs; that has ended, too.
    fn forget(&mut self) {
        self.settle();
    }
}

/// An object as it is read.
#[derive(Deserialize)]
struct Whole<S, T> {
    metadata: Metadata,
    spec: S,
    status: Option<T>,
}

/// How long the spec is.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    spec: Option<&'a RawValue>,
}

fn decode<K: Slim>(text: &str) -> serde_json::Result<K> {
    let whole: Whole<K::Spec, K::Status> = serde_json::from_str(text)?;
    let mut object = K::of(whole.metadata.into(), whole.spec, whole.status);
    slim(object.metadata()).map_err(serde_json::Error::custom)?;
    if text.len() > SPEC_KEPT && !object.is_begun() {
        let head: Head<'_> = serde_json::from_str(text)?;
        let length = head.spec.map_or(0, |spec| spec.get().len());
        if length > SPEC_KEPT {
            object.empty();
            let annotations = object.metadata().annotations.get_or_insert_default();
            annotations.insert(names::ANNOTATION_OVERSIZE.to_owned(), length.to_string());
        }
    }
    Ok(object)
}

/// Drops what nobody reads of metadata.
///
/// # Errors
/// In words, when what has to be kept is too large.
fn slim(metadata: &mut ObjectMeta) -> Result<(), String> {
    for map in [&mut metadata.annotations, &mut metadata.labels] {
        *map = map.take().map(ours).filter(|map| !map.is_empty());
    }
    if let Some(owners) = &mut metadata.owner_references {
        // There is at most one.
        owners.retain(|owner| owner.controller == Some(true));
    }
    let finalizers = metadata
        .finalizers
        .iter()
        .flatten()
        .map(String::len)
        .sum::<usize>();
    if finalizers > FINALIZERS_MAX {
        return Err(format!(
            "its finalizers have {finalizers} bytes; at most {FINALIZERS_MAX} are read"
        ));
    }
    Ok(())
}

fn ours(map: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut left = METADATA_KEPT;
    map.into_iter()
        .filter(|(key, _)| key.starts_with(OURS) && key != names::ANNOTATION_OVERSIZE)
        .filter(|(key, value)| {
            let size = key.len() + value.len();
            let fits = size <= left;
            left = left.saturating_sub(size);
            fits
        })
        .collect()
}

impl Decode for WorkflowExecution {
    fn decode(text: &str) -> serde_json::Result<Self> {
        let mut workflow: Self = decode(text)?;
        // Free-form, and never changes what runs.
        workflow.spec.workflow_definition.ai_recommendations = None;
        Ok(workflow)
    }
}

impl Decode for KubernetesExecution {
    fn decode(text: &str) -> serde_json::Result<Self> {
        decode(text)
    }
}

impl Slim for WorkflowExecution {
    type Spec = WorkflowExecutionSpec;
    type Status = WorkflowExecutionStatus;

    fn of(
        metadata: ObjectMeta,
        spec: WorkflowExecutionSpec,
        status: Option<WorkflowExecutionStatus>,
    ) -> Self {
        Self {
            metadata,
            spec,
            status,
        }
    }

    fn metadata(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }

    fn is_begun(&self) -> bool {
        let phase = self.status.as_ref().and_then(|status| status.phase);
        !self.is_ended()
            && !matches!(
                phase,
                None | Some(WorkflowPhase::Planning | WorkflowPhase::Validating)
            )
    }

    fn is_ended(&self) -> bool {
        let phase = self.status.as_ref().and_then(|status| status.phase);
        phase.is_some_and(WorkflowPhase::is_terminal)
    }

    fn empty(&mut self) {
        self.spec.workflow_definition.steps = Vec::new();
        self.spec.workflow_definition.dependencies = None;
    }

    /// Its phase and its end are all that counts until it is deleted.
    fn settle(&mut self) {
        self.empty();
        if let Some(status) = self.status.take() {
            self.status = Some(WorkflowExecutionStatus {
                phase: status.phase,
                completion_time: status.completion_time,
                observed_generation: status.observed_generation,
                ..WorkflowExecutionStatus::default()
            });
        }
    }
}

impl Slim for KubernetesExecution {
    type Spec = KubernetesExecutionSpec;
    type Status = KubernetesExecutionStatus;

    fn of(
        metadata: ObjectMeta,
        spec: KubernetesExecutionSpec,
        status: Option<KubernetesExecutionStatus>,
    ) -> Self {
        Self {
            metadata,
            spec,
            status,
        }
    }

    fn metadata(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }

    fn is_begun(&self) -> bool {
        !self.is_ended() && self.status.iter().any(|status| !status.attempts.is_empty())
    }

    fn is_ended(&self) -> bool {
        let phase = self.status.as_ref().and_then(|status| status.phase);
        phase.is_some_and(kubernaut_crds::ExecutionPhase::is_terminal)
    }

    fn empty(&mut self) {
        empty_parameters(&mut self.spec);
    }

    /// That it has ended counts until it is deleted, and the names of its Jobs: they are looked for once more then.
    fn forget(&mut self) {
        self.empty();
        if let Some(status) = self.status.take() {
            self.status = Some(KubernetesExecutionStatus {
                phase: status.phase,
                completion_time: status.completion_time,
                observed_generation: status.observed_generation,
                attempt: status.attempt,
                attempts: status.attempts,
                job_name: status.job_name,
                target: status.target,
                ..KubernetesExecutionStatus::default()
            });
        }
    }

    /// How it ended counts until it is deleted, and the names of its Jobs. The spec is left to a workflow that may still
    /// compare it.
    fn settle(&mut self) {
        let Some(status) = &mut self.status else { return };
        let recorded = status
            .rollback_information
            .as_mut()
            .and_then(|rollback| rollback.rollback_parameters.as_mut());
        if let Some(recorded) = recorded
            && let Some(config) = &mut recorded.restore_previous_config
        {
            let length = config.previous_spec.floor_char_boundary(PREVIOUS_KEPT);
            config.previous_spec.truncate(length);
            config.previous_spec.shrink_to_fit();
        }
        if let Some(results) = &mut status.execution_results {
            results.pod_logs = None;
        }
        for attempt in &mut status.attempts {
            attempt.message = None;
        }
    }
}

/// Which action it is stays known: a payload is looked for by that.
fn empty_parameters(spec: &mut KubernetesExecutionSpec) {
    let parameters = &mut spec.parameters;
    if let Some(patch) = &mut parameters.patch_deployment {
        patch.patch = String::new();
    }
    if let Some(update) = &mut parameters.update_config_map {
        update.data = BTreeMap::new();
    }
    if let Some(update) = &mut parameters.update_secret {
        update.data = BTreeMap::new();
    }
    if let Some(apply) = &mut parameters.apply_manifest {
        apply.manifest = String::new();
    }
    if let Some(undo) = &mut parameters.undo {
        undo.patch = None;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn execution(value: &str, status: &Value) -> Value {
        json!({
            "metadata": {"name": "a", "namespace": "shop", "uid": "u", "managedFields": [{"manager": "kubectl"}]},
            "spec": {"action": "update-configmap", "parameters": {"updateConfigMap": {
                "namespace": "shop", "configMap": "flags", "data": {"key": value}}}},
            "status": status,
        })
    }

    fn decoded(object: &Value) -> KubernetesExecution {
        KubernetesExecution::decode(&object.to_string()).unwrap()
    }

    fn oversize(metadata: &ObjectMeta) -> Option<&str> {
        let annotations = metadata.annotations.as_ref()?;
        annotations.get(names::ANNOTATION_OVERSIZE).map(String::as_str)
    }

    #[test]
    fn of_a_spec_that_is_too_long_its_length_is_kept_and_the_action() {
        let object = execution(&"x".repeat(1_400_000), &json!({}));
        let kept = decoded(&object);
        let length = object["spec"].to_string().len().to_string();
        assert_eq!(oversize(&kept.metadata), Some(length.as_str()));
        assert!(serde_json::to_string(&kept).unwrap().len() < 1000);
        assert!(kept.spec.parameters.update_config_map.is_some());
        let short = decoded(&execution(&"x".repeat(200_000), &json!({})));
        assert_eq!(oversize(&short.metadata), None);
        assert!(serde_json::to_string(&short).unwrap().len() > 200_000);
    }

    #[test]
    fn what_has_begun_is_kept_whole() {
        let attempt = json!({"attempt": 1, "jobName": "j", "jobHash": "h",
                             "startTime": "2026-01-01T00:00:00.000000Z", "deadline": "2026-01-01T00:01:00.000000Z"});
        let object = execution(
            &"x".repeat(400_000),
            &json!({"phase": "executing", "attempts": [attempt]}),
        );
        let kept = decoded(&object);
        assert_eq!(oversize(&kept.metadata), None);
        assert!(serde_json::to_string(&kept).unwrap().len() > 400_000);
    }

    #[test]
    fn a_workflow_that_is_too_long_is_kept_without_its_steps_and_none_with_free_form_fields() {
        let with_value = |value: &str| {
            let step = json!({"stepNumber": 1, "name": "a", "action": "update-configmap", "parameters": {
                "updateConfigMap": {"namespace": "shop", "name": "flags", "dataUpdates": {"key": value}}}});
            let recommendations = json!({"riskFactors": [{"a": [[], [], []]}, "b"]});
            let definition =
                json!({"name": "w", "version": "1", "steps": [step], "aiRecommendations": recommendations});
            let object =
                json!({"metadata": {"name": "a", "uid": "u"}, "spec": {"workflowDefinition": definition}});
            WorkflowExecution::decode(&object.to_string()).unwrap()
        };
        let (short, long) = (with_value("x"), with_value(&"x".repeat(400_000)));
        assert!(short.spec.workflow_definition.ai_recommendations.is_none());
        assert_eq!(
            (
                short.spec.workflow_definition.steps.len(),
                oversize(&short.metadata)
            ),
            (1, None)
        );
        assert!(long.spec.workflow_definition.steps.is_empty() && oversize(&long.metadata).is_some());
    }

    #[test]
    fn of_metadata_what_is_ours_is_kept_and_the_controller() {
        let mut object = execution("x", &json!({}));
        object["metadata"]["annotations"] = json!({
            "kubectl.kubernetes.io/last-applied-configuration": "x".repeat(100_000),
            "kubernaut.io/correlation-id": "alert-7", "kubernaut.io/oversize": "1", "kubernaut.io/z": "x".repeat(100_000),
        });
        object["metadata"]["labels"] = json!({"app": "web", "kubernaut.io/workflow": "w"});
        let owner = |name: &str, controller: bool| json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": name, "controller": controller});
        object["metadata"]["ownerReferences"] = json!([owner("a", false), owner("b", true)]);
        let metadata = decoded(&object).metadata;
        let only = |key: &str, value: &str| Some(BTreeMap::from([(key.to_owned(), value.to_owned())]));
        assert_eq!(
            metadata.annotations,
            only("kubernaut.io/correlation-id", "alert-7")
        );
        assert_eq!(metadata.labels, only("kubernaut.io/workflow", "w"));
        assert_eq!(metadata.managed_fields, None);
        let owners: Vec<String> = metadata
            .owner_references
            .into_iter()
            .flatten()
            .map(|owner| owner.name)
            .collect();
        assert_eq!(owners, ["b"]);
        object["metadata"]["finalizers"] = json!(["x".repeat(70_000)]);
        let error = KubernetesExecution::decode(&object.to_string()).unwrap_err();
        assert!(error.to_string().contains("at most 65536 are read"), "{error}");
    }
}
