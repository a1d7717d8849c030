//! The kind KubernetesExecution: what one step is to do.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::action::ActionParameters;
use crate::execution_status::KubernetesExecutionStatus;
use crate::workflow::ObjectRef;

/// One action on one target: a copy of a step's data, so that nothing else is read to run it. Immutable but for
/// `approvalReceived` (false to true, with `approvedBy`) and `shutdown`.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "kubernetesexecution.kubernaut.io",
    version = "v1",
    kind = "KubernetesExecution",
    namespaced,
    status = "KubernetesExecutionStatus",
    derive = "PartialEq",
    shortname = "ke",
    category = "kubernaut",
    doc = "One action of a remediation on one target, run by one Job per attempt",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Action", type_ = "string", json_path = ".spec.action"),
    printcolumn(name = "Target", type_ = "string", json_path = ".status.targetName"),
    printcolumn(name = "Attempt", type_ = "integer", json_path = ".status.attempt"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    selectable = ".status.phase",
    selectable = ".spec.action"
)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesExecutionSpec {
    /// The workflow that this step belongs to: lineage only, never read. Absent on one made by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow_execution_ref: Option<ObjectRef>,
    /// The number of the step in its workflow; 0 where there is none.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub step_number: i32,
    /// The action, which fits the member of `parameters`: scaleDeployment goes with scale-deployment, and so on.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z]([-_a-z0-9]*[a-z0-9])?$"))]
    pub action: String,
    /// What the action needs to know: exactly one member.
    pub parameters: ActionParameters,
    /// Cluster to act on; empty is the local one.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub target_cluster: String,
    /// The number of retries after the first attempt, 0 to 5.
    #[serde(default = "default_max_retries")]
    #[schemars(range(min = 0, max = 5))]
    pub max_retries: i32,
    /// Duration such as 90s, 5m, 1h30m: the budget of the step. Absent means 5m.
    #[serde(default = "default_timeout")]
    #[schemars(length(max = 32), regex(pattern = *crate::DURATION_PATTERN))]
    pub timeout: String,
    /// Whether nobody needs to approve it any more.
    #[serde(default)]
    pub approval_received: bool,
    /// Addition. Who approved, several separated by commas; absent with `approvalReceived` means an automatic approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1536))]
    pub approved_by: Option<String>,
    /// Addition. True: nothing is changed, the result says what would be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    /// Addition. ServiceAccount of this namespace whose rights the step may use.
    #[serde(default = "default_service_account")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub service_account_name: String,
    /// Addition, can be set once. `Cancel`: no Job starts once it is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shutdown: Option<ExecutionShutdown>,
}

/// How an execution that runs is stopped. What it did is undone by its workflow, or by another execution.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecutionShutdown {
    /// Stop now.
    Cancel,
}

/// Retries where neither step nor strategy say anything (the design document's default).
pub const DEFAULT_MAX_RETRIES: i32 = 2;
/// Timeout where the step says nothing (the design document's default).
pub const DEFAULT_TIMEOUT: &str = "5m";

fn default_max_retries() -> i32 {
    DEFAULT_MAX_RETRIES
}

fn default_timeout() -> String {
    DEFAULT_TIMEOUT.to_owned()
}

fn default_service_account() -> String {
    "default".to_owned()
}
