//! The status of a KubernetesExecution: how far it is, and what came of it.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::MicroTime;
use crate::workflow_status::{Condition, ErrorType, PhaseTransition};

/// Where one action stands. Written by its step actor alone.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesExecutionStatus {
    /// Where it stands; absent before the first write means validating.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<ExecutionPhase>,
    /// The metadata.generation of the object that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// For a person: what it waits for, or how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The object, or the pods of a selector, that are acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetRef>,
    /// What is acted on in a word, such as `deployment/production/web`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_name: Option<String>,
    /// Number of the current or last attempt; 0 before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i32>,
    /// Who released the execution, or that nobody had to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ExecutionApproval>,
    /// What the checks before the first Job found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_results: Option<ValidationResults>,
    /// What running the action did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_results: Option<ExecutionResults>,
    /// Whether and how the change can be taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_information: Option<RollbackInformation>,
    /// The name of the last attempt's Job in the executor namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_name: Option<String>,
    /// Each attempt, recorded before its Job is made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub attempts: Vec<Attempt>,
    /// A sentence that a person can act on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
    /// The class of the failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_type: Option<ErrorType>,
    /// When the first validation of the execution began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<MicroTime>,
    /// When the execution became completed or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<MicroTime>,
    /// Conditions for `kubectl wait`, one of each type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Every phase it was in, in order: the first 16 and the last 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub phase_transitions: Vec<PhaseTransition>,
}

/// The phase of a KubernetesExecution.
#[derive(
    schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum ExecutionPhase {
    /// Parameters, rights, target.
    Validating,
    /// Validated; it may wait for its target or for a free place.
    Validated,
    /// Waits for a person.
    WaitingApproval,
    /// An attempt is recorded; its Job runs.
    Executing,
    /// The Job is done; the outcome is looked at.
    RollbackReady,
    /// Done, and true.
    Completed,
    /// Failed for good.
    Failed,
}

impl ExecutionPhase {
    /// As it is spelled in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            ExecutionPhase::Validating => "validating",
            ExecutionPhase::Validated => "validated",
            ExecutionPhase::WaitingApproval => "waiting_approval",
            ExecutionPhase::Executing => "executing",
            ExecutionPhase::RollbackReady => "rollback_ready",
            ExecutionPhase::Completed => "completed",
            ExecutionPhase::Failed => "failed",
        }
    }

    /// Completed and failed absorb.
    pub fn is_terminal(self) -> bool {
        matches!(self, ExecutionPhase::Completed | ExecutionPhase::Failed)
    }
}

/// The object, or the pods of a selector, that are acted on.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetRef {
    /// The kind of the object, such as `Deployment`.
    pub kind: String,
    /// The namespace of the object; absent for a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The name of the object, or a selector in parentheses.
    pub name: String,
}

/// Who released an execution.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionApproval {
    /// Where the approval came from.
    pub source: ApprovalSource,
    /// The person who approved, as the API server knows that person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1536))]
    pub approved_by: Option<String>,
    /// When the person approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<MicroTime>,
}

/// Where an approval came from.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ApprovalSource {
    /// No approval was asked for.
    Automatic,
    /// The whole workflow was approved.
    Workflow,
    /// This execution was approved.
    Execution,
}

/// What the checks before the first Job found.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ValidationResults {
    /// Whether the parameters are sound.
    #[serde(default)]
    pub parameter_validation: bool,
    /// The ServiceAccount may do what the action does.
    #[serde(default)]
    pub rbac_validation: bool,
    /// Whether the target exists.
    #[serde(default)]
    pub resource_exists: bool,
    /// When the checks ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_time: Option<MicroTime>,
    /// What the policy said of the execution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_validation: Option<PolicyValidation>,
    /// What the dry run said; its warnings also hold those of the other checks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run_results: Option<ExecutionDryRunResults>,
}

/// What the policy said of the execution.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyValidation {
    /// The name of the policy that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_name: Option<String>,
    /// Whether the policy lets it run.
    #[serde(default)]
    pub allowed: bool,
    /// Whether a person must approve it first.
    #[serde(default)]
    pub required_approval: bool,
    /// Why the policy does not let it run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub violations: Vec<String>,
}

/// What a dry run said.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionDryRunResults {
    /// Whether there was a dry run.
    #[serde(default)]
    pub performed: bool,
    /// Whether the dry run went well.
    #[serde(default)]
    pub success: bool,
    /// What would change, as far as the dry run shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_impact: Option<EstimatedImpact>,
    /// What a person should know although it stops nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What went wrong, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}

/// What would change, as far as the dry run shows it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EstimatedImpact {
    /// The number of objects that would change.
    #[serde(default)]
    pub resources_affected: i32,
    /// The change in words, such as `Replicas: 3 -> 5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// What running the action did.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionResults {
    /// Whether the outcome is what was wanted.
    #[serde(default)]
    pub success: bool,
    /// The name of the last attempt's Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_name: Option<String>,
    /// The number of attempts after the first one.
    #[serde(default)]
    pub retries_attempted: i32,
    /// When the first attempt was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<MicroTime>,
    /// When the last attempt ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<MicroTime>,
    /// The time between startTime and endTime, as a duration such as 1m30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// The objects that were changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub resources_affected: Vec<AffectedResource>,
    /// The last 4 KiB of kubectl's words, redacted; says when it was cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_logs: Option<String>,
    /// What went wrong, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
}

/// An object that was changed, with its state before and after.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AffectedResource {
    /// The kind of the object.
    pub kind: String,
    /// The namespace of the object; absent for a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The name of the object.
    pub name: String,
    /// The canonical name of the action, such as scale-deployment.
    pub action: String,
    /// The part that changed as it was before, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// The part that changed as it is after, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// How an execution can be taken back.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RollbackInformation {
    /// Whether the change can be taken back.
    #[serde(default)]
    pub available: bool,
    /// Why the change can't be taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What would be done to take it back: scale-deployment, cordon-node, uncordon-node, restore or delete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_action: Option<String>,
    /// The state before, in the form that restores it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_parameters: Option<RecordedRollback>,
    /// Addition. What takes the change back, made when the outcome was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<RecordedUndo>,
    /// How long taking it back may take, as a duration such as 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_duration: Option<String>,
}

/// What takes a change back: a patch that first tests what is there, or a deletion.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedUndo {
    /// The apiVersion of the target, such as `apps/v1`.
    #[schemars(length(max = 317))]
    pub api_version: String,
    /// The uid of the target: another object of its name is left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub uid: Option<String>,
    /// JSON patch (RFC 6902) as text; an empty list where the action changed nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 200_000))]
    pub patch: Option<String>,
    /// Whether the target is deleted instead: the action created it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete: Option<bool>,
}

/// The state before, in the form that restores it: exactly one member.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedRollback {
    /// The number of replicas to go back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_to_previous: Option<crate::parameters::ScaleToPrevious>,
    /// The changed part of the object as it was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_previous_config: Option<RecordedConfig>,
    /// The node to uncordon, where it was schedulable before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncordon_node: Option<crate::action::NodeAction>,
    /// Addition. The node to cordon again, where it was cordoned before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cordon_node: Option<crate::action::NodeAction>,
    /// Another way to take the change back, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<RecordedCustom>,
}

/// The changed part of an object before.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedConfig {
    /// The kind of the object, such as `Deployment`.
    pub resource_kind: String,
    /// The namespace of the object; absent for an object of the whole cluster.
    pub namespace: String,
    /// The name of the object.
    pub name: String,
    /// The part that the action changes as it was before, as JSON text.
    #[schemars(length(max = 262_144))]
    pub previous_spec: String,
}

/// Something else to take back.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedCustom {
    /// Another way to take the change back, in words.
    pub description: String,
    /// What that way needs to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::action::data_schema")]
    pub parameters: Option<std::collections::BTreeMap<String, String>>,
}

/// One attempt: whatever rendering its Job needs stands here before the Job is made.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// The number of the attempt: 0 is a dry run, the first real one is 1.
    pub attempt: i32,
    /// The name of the attempt's Job in the executor namespace.
    pub job_name: String,
    /// The hash of the Job as it was rendered; the Job carries it as an annotation.
    pub job_hash: String,
    /// The metadata.generation of the target when it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_generation: Option<i64>,
    /// When the attempt was recorded, before its Job was created.
    pub start_time: MicroTime,
    /// When the attempt's Job must have ended.
    pub deadline: MicroTime,
    /// The pods that the attempt acts on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub pods: Vec<PodRef>,
    /// The time that a restart writes into the pod template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub restarted_at: Option<String>,
    /// Of the containers whose image it sets, those that are init containers: their patch goes to another list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(max = 63)))]
    pub init_containers: Vec<String>,
    /// When the attempt ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<MicroTime>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<AttemptOutcome>,
    /// Class of its failure; of an attempt that has not ended, why its Job is not made yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_type: Option<ErrorType>,
    /// Addition. Whether another attempt may follow on its failure, and after which pauses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Why the attempt ended as it did: kubectl's words, or the controller's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Whether another attempt may help, and when.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// It would fail again.
    Never,
    /// After 1, 2, 4 ... 30 s.
    Backoff,
    /// An eviction was refused for a disruption budget: after 10, 20, 30 s.
    Eviction,
    /// Our own pod was evicted: like `Backoff`, and not counted against maxRetries.
    Uncounted,
}

/// How an attempt ended.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// kubectl ended well, or its effect was seen.
    Succeeded,
    /// kubectl failed.
    Failed,
    /// The pod was evicted: not counted against maxRetries.
    Evicted,
    /// The Job vanished, or never was.
    Lost,
}

/// A pod, by uid: a replacement of the same name is another pod.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodRef {
    /// The name of the pod.
    pub name: String,
    /// The uid of the pod.
    pub uid: String,
    /// Addition. The controller that brings a replacement: after the deletion nothing else tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<crate::workflow::ObjectRef>,
}
