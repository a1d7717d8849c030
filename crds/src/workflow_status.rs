//! The status of a WorkflowExecution: how far it is, and what came of it.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::MicroTime;
use crate::workflow::{ObjectRef, RollbackStrategy, SafetyCheck};

/// Where a workflow stands. Written by its workflow actor alone.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowExecutionStatus {
    /// Where it stands; absent before the first write means planning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<WorkflowPhase>,
    /// Addition. The metadata.generation of the object that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Addition. For a person: what it does or waits for, or how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Addition. The number of completed steps of all, such as `2/5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub progress: Option<String>,
    /// Lowest number of a step that runs, else of the next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_step: Option<i32>,
    /// The number of steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_steps: Option<i32>,
    /// Addition. The number of steps that have completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_steps: Option<i32>,
    /// The plan: in which batches the steps run, and how long they may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_plan: Option<ExecutionPlan>,
    /// What planning and validating found, such as errors and warnings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_results: Option<WorkflowValidationResults>,
    /// Where each step stands, in the order of their numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["stepNumber"]))]
    pub step_statuses: Vec<StepStatus>,
    /// Figures of the whole run, written at its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_metrics: Option<ExecutionMetrics>,
    /// What came of the workflow, written at its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow_result: Option<WorkflowResult>,
    /// When the phase planning began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planning_start_time: Option<MicroTime>,
    /// When the phase validating began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_start_time: Option<MicroTime>,
    /// When the phase executing began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_start_time: Option<MicroTime>,
    /// When the phase monitoring began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitoring_start_time: Option<MicroTime>,
    /// When the workflow became completed or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<MicroTime>,
    /// A sentence that a person can act on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
    /// Why the completed steps were undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_reason: Option<String>,
    /// The number of the step that caused the failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_step: Option<i32>,
    /// The action of the step that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub failed_action: Option<String>,
    /// The class of the failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_type: Option<ErrorType>,
    /// Where the workflow stood when it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_snapshot: Option<ExecutionSnapshot>,
    /// Conditions for `kubectl wait`, one of each type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Addition. Who approved the workflow, when and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<WorkflowApproval>,
    /// Addition. Every phase it was in, in order: the first 16 and the last 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub phase_transitions: Vec<PhaseTransition>,
}

/// The phase of a WorkflowExecution.
#[derive(
    schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum WorkflowPhase {
    /// What needs no cluster is checked.
    Planning,
    /// What needs the cluster is checked.
    Validating,
    /// Steps run.
    Executing,
    /// `spec.suspend` while executing.
    Paused,
    /// Completed steps are undone.
    RollingBack,
    /// The outcome is looked at once more.
    Monitoring,
    /// Done.
    Completed,
    /// Failed for good.
    Failed,
}

impl WorkflowPhase {
    /// As it is spelled in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            WorkflowPhase::Planning => "planning",
            WorkflowPhase::Validating => "validating",
            WorkflowPhase::Executing => "executing",
            WorkflowPhase::Paused => "paused",
            WorkflowPhase::RollingBack => "rolling_back",
            WorkflowPhase::Monitoring => "monitoring",
            WorkflowPhase::Completed => "completed",
            WorkflowPhase::Failed => "failed",
        }
    }

    /// Completed and failed absorb.
    pub fn is_terminal(self) -> bool {
        matches!(self, WorkflowPhase::Completed | WorkflowPhase::Failed)
    }
}

/// How a workflow is going to run.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionPlan {
    /// The shape of the graph of steps: sequential, parallel or mixed.
    pub strategy: PlanStrategy,
    /// Go duration: the timeouts along the longest path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub estimated_duration: Option<String>,
    /// Addition. SHA-256 of the steps as they would run: actions, parameters, accounts and order. An approval can name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub digest: Option<String>,
    /// What happens to the completed steps when a critical step fails.
    #[serde(default)]
    pub rollback_strategy: RollbackStrategy,
    /// Checks that are made before the first step runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub safety_checks: Vec<SafetyCheck>,
    /// Addition, for display only: there is no barrier between batches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub batches: Vec<Batch>,
}

/// The shape of a workflow's graph.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlanStrategy {
    /// One after the other.
    Sequential,
    /// No step waits for another.
    Parallel,
    /// Some of both.
    SequentialWithParallel,
}

/// Steps at the same distance from the start.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Batch {
    /// The number of the batch, from 1.
    pub batch_number: i32,
    /// The numbers of the steps in the batch.
    #[schemars(length(max = 100))]
    pub steps: Vec<i32>,
}

/// What planning and validating found, such as errors and warnings.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowValidationResults {
    /// Whether all required checks passed.
    #[serde(default)]
    pub safety_checks_passed: bool,
    /// Whether there was a dry run.
    #[serde(default)]
    pub dry_run_performed: bool,
    /// Whether nobody needs to approve it any more.
    #[serde(default)]
    pub approval_received: bool,
    /// When the workflow was approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_timestamp: Option<MicroTime>,
    /// Addition. The people who approved the workflow, several separated by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1536))]
    pub approved_by: Option<String>,
    /// All errors that were found, each with its field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    pub validation_errors: Vec<String>,
    /// Addition. What a person should know although it stops nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    pub warnings: Vec<String>,
    /// What the dry runs of the steps said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run_results: Option<WorkflowDryRunResults>,
}

/// What the dry runs of all steps said.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowDryRunResults {
    /// Whether the dry run of every step went well.
    #[serde(default)]
    pub overall_success: bool,
    /// How long the dry runs took, as a duration such as 12s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_time: Option<String>,
    /// The number of steps that had a dry run.
    #[serde(default)]
    pub steps_simulated: i32,
    /// What the dry run of each step said, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub step_results: Vec<String>,
    /// What would be changed, each in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resource_changes: Vec<String>,
    /// What may go wrong, each in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub potential_issues: Vec<String>,
}

/// Where one step of a workflow stands.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepStatus {
    /// The number of the step.
    pub step_number: i32,
    /// Addition. Name of the step, as the workflow calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub name: Option<String>,
    /// The action of the step as it is spelled in the workflow.
    #[schemars(length(max = 63))]
    pub action: String,
    /// Where the step stands.
    pub status: StepState,
    /// When the step's execution began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<MicroTime>,
    /// When the step ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<MicroTime>,
    /// The number of attempts after the first one.
    #[serde(default)]
    pub retries_attempted: i32,
    /// Addition. The target of the step in a word, such as `deployment/production/web`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub target: Option<String>,
    /// Addition. The number of the step's current or last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i32>,
    /// What went wrong, or why it was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub error_message: Option<String>,
    /// Addition. Class of what went wrong; `dependency_failed` where it was skipped for a step that it needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_type: Option<ErrorType>,
    /// What the step did, or why it failed or was skipped, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub result: Option<String>,
    /// The KubernetesExecution that was created for the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub k8s_execution_ref: Option<ObjectRef>,
    /// Addition. How undoing the step went; absent where it was not to be undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<StepUndo>,
}

/// How undoing a step went.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepUndo {
    /// Where the undo of the step stands.
    pub status: UndoState,
    /// What was undone, or why it was not, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// The class of what went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_type: Option<ErrorType>,
    /// The KubernetesExecution that undoes the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub k8s_execution_ref: Option<ObjectRef>,
}

/// Where undoing a step stands.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UndoState {
    /// Its `KubernetesExecution` runs.
    Executing,
    /// The target is as it was before the step.
    Completed,
    /// It went wrong; the target may be as the step left it.
    Failed,
    /// The step can't be undone.
    NotReversible,
}

/// Where a step of a workflow stands.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// It waits for others or for a place.
    Pending,
    /// Its `KubernetesExecution` runs.
    Executing,
    /// Done.
    Completed,
    /// Failed for good.
    Failed,
    /// Done and undone.
    RolledBack,
    /// It will not run.
    Skipped,
}

/// Figures of the whole run, written at its end.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionMetrics {
    /// The time from planning to the end, as a duration such as 1m30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub total_duration: Option<String>,
    /// The share of all steps that completed, from 0 to 1.
    #[serde(default)]
    pub step_success_rate: f64,
    /// The number of steps that were undone.
    #[serde(default)]
    pub rollbacks_performed: i32,
    /// The number of objects that were changed.
    #[serde(default)]
    pub resources_affected: i32,
}

/// The outcome of a workflow.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowResult {
    /// The outcome in a word.
    pub outcome: Outcome,
    /// The share of steps that completed, less 0.05 for each retry and 0.10 for each rollback, from 0 to 1.
    #[serde(default)]
    pub effectiveness_score: f64,
    /// How the targets are after the last step.
    pub resource_health: ResourceHealth,
    /// Whether new alerts came up; that is not known here, so it stays absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_alerts_triggered: Option<bool>,
    /// What a person could do now, such as lines that undo a step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub recommended_actions: Vec<String>,
}

/// Outcome of a workflow.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All steps completed.
    Success,
    /// Some did.
    PartialSuccess,
    /// It failed.
    Failed,
    /// A person stopped it.
    Cancelled,
    /// Not known.
    Unknown,
}

/// How the targets are after the last step.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceHealth {
    /// As wanted.
    Healthy,
    /// Some are not as wanted.
    Degraded,
    /// None is as wanted.
    Unhealthy,
    /// Not known.
    Unknown,
}

/// The class of a failure.
#[derive(
    schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum ErrorType {
    /// The object says something that can't be done.
    ValidationError,
    /// An account lacks a right.
    InsufficientPermissions,
    /// The target does not exist.
    ResourceNotFound,
    /// Something else is in the way.
    ResourceConflict,
    /// A quota is used up.
    ResourceQuotaExceeded,
    /// A policy said no.
    PolicyDenied,
    /// The target belongs to GitOps.
    GitopsManaged,
    /// A person said no.
    ApprovalRejected,
    /// Nobody said yes in time.
    ApprovalTimeout,
    /// It took too long.
    Timeout,
    /// kubectl failed.
    JobFailed,
    /// The Job vanished and nothing proves its effect.
    JobLost,
    /// The Job succeeded, the outcome is not there.
    VerificationFailed,
    /// A step before it failed.
    DependencyFailed,
    /// A person stopped it.
    Cancelled,
    /// None of these.
    UnknownError,
}

impl ErrorType {
    /// As it is spelled in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorType::ValidationError => "validation_error",
            ErrorType::InsufficientPermissions => "insufficient_permissions",
            ErrorType::ResourceNotFound => "resource_not_found",
            ErrorType::ResourceConflict => "resource_conflict",
            ErrorType::ResourceQuotaExceeded => "resource_quota_exceeded",
            ErrorType::PolicyDenied => "policy_denied",
            ErrorType::GitopsManaged => "gitops_managed",
            ErrorType::ApprovalRejected => "approval_rejected",
            ErrorType::ApprovalTimeout => "approval_timeout",
            ErrorType::Timeout => "timeout",
            ErrorType::JobFailed => "job_failed",
            ErrorType::JobLost => "job_lost",
            ErrorType::VerificationFailed => "verification_failed",
            ErrorType::DependencyFailed => "dependency_failed",
            ErrorType::Cancelled => "cancelled",
            ErrorType::UnknownError => "unknown_error",
        }
    }
}

/// Where a workflow stood when it failed.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionSnapshot {
    /// The numbers of the steps that had completed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub completed_steps: Vec<i32>,
    /// The number of the step that ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_step: Option<i32>,
    /// Facts on the cluster at that moment, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cluster_state: BTreeMap<String, String>,
    /// Targets and what was last known of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resource_snapshot: BTreeMap<String, String>,
}

/// A condition as Kubernetes has them: a type, whether it holds, and why.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// The type of the condition: what it speaks of.
    #[schemars(length(max = 63))]
    pub r#type: String,
    /// Whether the condition holds: True, False or Unknown.
    #[schemars(length(max = 16))]
    pub status: String,
    /// Why the condition has its status, in one CamelCase word.
    #[schemars(length(max = 128))]
    pub reason: String,
    /// Why the condition has its status, in a sentence for a person.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub message: String,
    /// When the condition's status last changed.
    pub last_transition_time: MicroTime,
    /// The metadata.generation of the object that the condition speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// Who approved a workflow.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowApproval {
    /// When the last of the approvals that were needed was taken in.
    pub time: MicroTime,
    /// The people who approved, each once.
    #[schemars(length(max = 5))]
    pub approvers: Vec<Approver>,
}

impl WorkflowApproval {
    /// The names of those who approved, `ana, bob`.
    pub fn names(&self) -> String {
        let names: Vec<&str> = self
            .approvers
            .iter()
            .map(|approver| approver.name.as_str())
            .collect();
        names.join(", ")
    }
}

/// A person who approved.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Approver {
    /// The user's name, as the API server knows that user.
    #[schemars(length(max = 253))]
    pub name: String,
    /// When the person approved.
    pub time: MicroTime,
    /// Why it was approved, in the person's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
    /// The name of the Approval.
    #[schemars(length(max = 253))]
    pub approval: String,
}

/// A phase that the object was in, and when that began.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PhaseTransition {
    /// The phase that began.
    #[schemars(length(max = 32))]
    pub phase: String,
    /// When the phase began.
    pub time: MicroTime,
}
