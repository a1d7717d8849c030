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
    /// metadata.generation that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// For a person: what it waits for, or how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What is acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetRef>,
    /// The same in a word, `deployment/production/web`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_name: Option<String>,
    /// Number of the current or last attempt; 0 before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i32>,
    /// Who released it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// What the checks before the first Job found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_results: Option<ValidationResults>,
    /// What running it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_results: Option<ExecutionResults>,
    /// How it can be taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_information: Option<RollbackInformation>,
    /// Name of the last attempt's Job.
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
    /// When its first validation began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<MicroTime>,
    /// When it became completed or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<MicroTime>,
    /// For `kubectl wait`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Every phase it was in, in order: the first 16 and the last 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub phase_transitions: Vec<PhaseTransition>,
}

/// Phase of a `KubernetesExecution`.
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

/// What is acted on.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetRef {
    /// Kind of the object.
    pub kind: String,
    /// Namespace; absent for a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name, or a selector in parentheses.
    pub name: String,
}

/// Who released an execution.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// Where the approval came from.
    pub source: ApprovalSource,
    /// The person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
    /// When.
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
    /// The parameters are sound.
    #[serde(default)]
    pub parameter_validation: bool,
    /// The ServiceAccount may do what the action does.
    #[serde(default)]
    pub rbac_validation: bool,
    /// The target exists.
    #[serde(default)]
    pub resource_exists: bool,
    /// When the checks ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_time: Option<MicroTime>,
    /// What the policy said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_validation: Option<PolicyValidation>,
    /// What the dry run said; its warnings also hold those of the other checks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run_results: Option<ExecutionDryRunResults>,
}

/// What the policy said.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyValidation {
    /// Name of the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_name: Option<String>,
    /// It may run.
    #[serde(default)]
    pub allowed: bool,
    /// A person must approve it first.
    #[serde(default)]
    pub required_approval: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub violations: Vec<String>,
}

/// What a dry run said.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionDryRunResults {
    /// There was one.
    #[serde(default)]
    pub performed: bool,
    /// It went well.
    #[serde(default)]
    pub success: bool,
    /// What would change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_impact: Option<EstimatedImpact>,
    /// What a person should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}

/// What would change.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EstimatedImpact {
    /// Number of objects.
    #[serde(default)]
    pub resources_affected: i32,
    /// Such as `Replicas: 3 -> 5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// What running it did.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionResults {
    /// The outcome is what was wanted.
    #[serde(default)]
    pub success: bool,
    /// Name of the last Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_name: Option<String>,
    /// Attempts after the first.
    #[serde(default)]
    pub retries_attempted: i32,
    /// When the first attempt was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<MicroTime>,
    /// When the last attempt ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<MicroTime>,
    /// Go duration between the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// What was changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub resources_affected: Vec<AffectedResource>,
    /// The last 4 KiB of kubectl's words, redacted; says when it was cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_logs: Option<String>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
}

/// An object that was changed.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AffectedResource {
    /// Kind.
    pub kind: String,
    /// Namespace; absent for a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// Canonical name of what was done.
    pub action: String,
    /// The changed part before, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// The changed part after, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// How an execution can be taken back.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RollbackInformation {
    /// It can be.
    #[serde(default)]
    pub available: bool,
    /// Why it can't be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Canonical name of what would be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_action: Option<String>,
    /// The state before, in the form that restores it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_parameters: Option<RecordedRollback>,
    /// Go duration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_duration: Option<String>,
}

/// The state before, in the form that restores it: exactly one member.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedRollback {
    /// Replicas before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_to_previous: Option<crate::parameters::ScaleToPrevious>,
    /// The changed object before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_previous_config: Option<RecordedConfig>,
    /// The node was schedulable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncordon_node: Option<crate::action::NodeAction>,
    /// Addition. The node was cordoned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cordon_node: Option<crate::action::NodeAction>,
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<RecordedCustom>,
}

/// The changed part of an object before.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedConfig {
    /// Kind of the object.
    pub resource_kind: String,
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// The part that the action changes, as JSON.
    #[schemars(length(max = 262_144))]
    pub previous_spec: String,
}

/// Something else to take back.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedCustom {
    /// In words.
    pub description: String,
    /// What it needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::action::data_schema")]
    pub parameters: Option<std::collections::BTreeMap<String, String>>,
}

/// One attempt: whatever rendering its Job needs stands here before the Job is made.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// 0 is a dry run, the first real one is 1.
    pub attempt: i32,
    /// Name of its Job.
    pub job_name: String,
    /// Hash of the rendered Job.
    pub job_hash: String,
    /// metadata.generation of the target when it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_generation: Option<i64>,
    /// When it was recorded.
    pub start_time: MicroTime,
    /// When its Job must have ended.
    pub deadline: MicroTime,
    /// The pods it acts on.
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
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<MicroTime>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<AttemptOutcome>,
    /// Class of its failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_type: Option<ErrorType>,
    /// kubectl's words, or ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
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
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
    /// Addition. The controller that brings a replacement: after the deletion nothing else tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<crate::workflow::ObjectRef>,
}
