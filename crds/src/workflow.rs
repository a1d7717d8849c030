//! The kind WorkflowExecution: which steps are to be done, and how.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::parameters::{RollbackParameters, StepParameters};
use crate::workflow_status::WorkflowExecutionStatus;

/// A remediation: steps with typed actions and what they depend on. Immutable but for `suspend` and `shutdown`.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "workflow.kubernaut.io",
    version = "v1",
    kind = "WorkflowExecution",
    namespaced,
    status = "WorkflowExecutionStatus",
    derive = "PartialEq",
    shortname = "wfe",
    category = "kubernaut",
    doc = "A remediation workflow: steps with typed actions, their dependencies and how they are run",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(
        name = "Outcome",
        type_ = "string",
        json_path = ".status.workflowResult.outcome"
    ),
    printcolumn(name = "Progress", type_ = "string", json_path = ".status.progress"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    selectable = ".status.phase"
)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowExecutionSpec {
    /// What asked for this remediation: lineage only, never read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remediation_request_ref: Option<ObjectRef>,
    /// The steps of the workflow, with the name and the version of their definition.
    pub workflow_definition: WorkflowDefinition,
    /// How the steps are run: how many at once, with how many retries, and what a failure starts.
    #[serde(default)]
    pub execution_strategy: ExecutionStrategy,
    /// Accepted and recorded; it never changes what runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adaptive_orchestration: Option<AdaptiveOrchestration>,
    /// Addition. ServiceAccount of this namespace whose rights the workflow may use.
    #[serde(default = "default_service_account")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub service_account_name: String,
    /// Addition. Most steps that run at the same time.
    #[serde(default = "default_max_parallel_steps")]
    #[schemars(range(min = 1, max = 20))]
    pub max_parallel_steps: i32,
    /// Addition. Seconds after its end when the workflow is deleted; 0 keeps it.
    #[serde(default = "default_ttl_seconds")]
    #[schemars(range(min = 0))]
    pub ttl_seconds_after_finished: i32,
    /// Addition. The workflow whose steps this one undoes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_of: Option<RollbackOf>,
    /// Addition, mutable. While it is true no new step starts; what runs goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// Addition, can be set once. Stop now, or stop and undo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shutdown: Option<Shutdown>,
}

fn default_service_account() -> String {
    "default".to_owned()
}

fn default_max_parallel_steps() -> i32 {
    5
}

fn default_ttl_seconds() -> i32 {
    604_800
}

/// A reference that is never followed: lineage.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// The apiVersion of the object, such as `apps/v1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 317))]
    pub api_version: Option<String>,
    /// The kind of the object, such as `Deployment`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub kind: Option<String>,
    /// The name of the object.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The namespace of the object; absent for an object of the whole cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub namespace: Option<String>,
    /// The uid of the object: another object of the same name has another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub uid: Option<String>,
}

/// The steps and how they hang together.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowDefinition {
    /// The name of the definition that the steps were made from.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The version of the definition that the steps were made from.
    #[schemars(length(min = 1, max = 63))]
    pub version: String,
    /// The steps, each with a number of its own.
    #[serde(default)]
    #[schemars(length(max = 100), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["stepNumber"]))]
    pub steps: Vec<WorkflowStep>,
    /// Step name to the names of the steps it waits for; merged with `dependsOn`. Unknown names are found in
    /// planning: as a CEL rule over names this would cost ten times what the API server allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "dependencies_schema")]
    pub dependencies: Option<BTreeMap<String, Vec<String>>>,
    /// What an AI recommended; it is information and never changes what runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ai_recommendations: Option<AiRecommendations>,
}

fn dependencies_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object", "maxProperties": 100,
        "additionalProperties": {"type": "array", "maxItems": 100, "items": {"type": "string", "maxLength": 253}}
    })
}

/// A step is one action on one target.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowStep {
    /// Number of the step, unique in the workflow.
    #[schemars(range(min = 1, max = 1000))]
    pub step_number: i32,
    /// Name of the step, unique in the workflow.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The action, which fits the member of `parameters`: scaleDeployment goes with scale-deployment, and so on.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z]([-_a-z0-9]*[a-z0-9])?$"))]
    pub action: String,
    /// Cluster to act on; empty is the local one.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub target_cluster: String,
    /// What the action needs to know: exactly one member.
    pub parameters: StepParameters,
    /// Whether no new step starts once this one has failed for good.
    #[serde(default)]
    pub critical_step: bool,
    /// Addition. Whether the step also runs when steps of `dependsOn` failed, once all of them have ended and one of them had
    /// begun; it cleans up, and is never undone.
    #[serde(default)]
    pub always: bool,
    /// Retries after the first attempt; an explicit 0 means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 5))]
    pub max_retries: Option<i32>,
    /// Duration such as 90s, 5m, 1h30m: the budget of the step. Absent means 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = *crate::DURATION_PATTERN))]
    pub timeout: Option<String>,
    /// Numbers of the steps that must have completed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub depends_on: Option<Vec<i32>>,
    /// How this step is undone, where the recorded state before does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_spec: Option<RollbackSpec>,
}

/// How a step is undone.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RollbackSpec {
    /// Spelling of the action that undoes the step.
    #[schemars(length(min = 1, max = 63))]
    pub action: String,
    /// What it needs to know: exactly one member.
    pub parameters: RollbackParameters,
    /// How long undoing the step may take, as a duration such as 90s, 5m or 1h30m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = *crate::DURATION_PATTERN))]
    pub timeout: Option<String>,
}

/// How the workflow is run.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionStrategy {
    /// The whole workflow waits for an approval before its first step.
    #[serde(default)]
    pub approval_required: bool,
    /// Addition. The number of different people who must approve it.
    #[serde(default = "default_required_approvals")]
    #[schemars(range(min = 1, max = 5))]
    pub required_approvals: i32,
    /// All steps are dry-run before the first one runs.
    #[serde(default)]
    pub dry_run_first: bool,
    /// What happens to the completed steps when a critical step fails.
    #[serde(default)]
    pub rollback_strategy: RollbackStrategy,
    /// Retries of each step that sets no `maxRetries` of its own, 0 to 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 5))]
    pub max_retries: Option<i32>,
    /// Checks that are made before the first step runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20))]
    pub safety_checks: Option<Vec<SafetyCheck>>,
}

fn default_required_approvals() -> i32 {
    1
}

impl Default for ExecutionStrategy {
    fn default() -> Self {
        Self {
            approval_required: false,
            required_approvals: default_required_approvals(),
            dry_run_first: false,
            rollback_strategy: RollbackStrategy::default(),
            max_retries: None,
            safety_checks: None,
        }
    }
}

/// What happens to the completed steps when a critical step fails.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RollbackStrategy {
    /// The completed steps are undone.
    #[default]
    Automatic,
    /// The workflow fails and says what could be undone, and how.
    Manual,
    /// The workflow fails.
    None,
}

/// A check that is made before the first step runs.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SafetyCheck {
    /// What the check looks at.
    pub r#type: SafetyCheckType,
    /// What the check is for, in words for people; it decides nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// Whether the workflow fails when it fails; otherwise that is a warning.
    #[serde(default)]
    pub required: bool,
}

/// What a safety check looks at.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SafetyCheckType {
    /// The rights of every step; always checked.
    Rbac,
    /// Room for scale-ups.
    Capacity,
    /// Targets exist and are not degraded.
    Health,
    /// The API server answers in time.
    Network,
}

/// Accepted and recorded; it never changes what runs.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdaptiveOrchestration {
    /// This field is recorded and changes nothing.
    #[serde(default)]
    pub optimization_enabled: bool,
    /// This field is recorded and changes nothing.
    #[serde(default)]
    pub learning_from_history: bool,
    /// This field is recorded and changes nothing.
    #[serde(default)]
    pub dynamic_step_adjustment: bool,
}

/// The workflow whose steps are undone.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackOf {
    /// The name of the workflow that is undone; it is in this namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The uid of that workflow: another one of the same name is not undone.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
}

/// How a workflow that runs is stopped.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shutdown {
    /// Stop now.
    Cancel,
    /// Stop and undo.
    Rollback,
}

/// What an analysis recommended: kept, never followed.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AiRecommendations {
    /// How sure the recommendation is, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overall_confidence: Option<f64>,
    /// Who or what gave the recommendation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recommendation_source: Option<String>,
    /// When the recommendation was given, in RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated_at: Option<String>,
    /// The share of similar workflows that succeeded, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub similar_workflow_success_rate: Option<f64>,
    /// How long the workflow was estimated to take, as a duration such as 90s, 5m or 1h30m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_duration: Option<String>,
    /// Suggestions in any form; they are not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free_form_list")]
    pub step_optimizations: Option<Vec<serde_json::Value>>,
    /// Suggestions in any form; they are not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free_form_list")]
    pub parallel_execution_suggestions: Option<Vec<serde_json::Value>>,
    /// Suggestions in any form; they are not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free_form_list")]
    pub safety_improvements: Option<Vec<serde_json::Value>>,
    /// Suggestions in any form; they are not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free_form_list")]
    pub risk_factors: Option<Vec<serde_json::Value>>,
}

/// The design does not say what the entries are (texts or objects): both are kept as they come.
fn free_form_list(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "array", "maxItems": 100, "items": {"x-kubernetes-preserve-unknown-fields": true}})
}
