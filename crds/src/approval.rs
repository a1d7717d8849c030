//! The kind Approval: a person's word on one workflow or one execution.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// A person's yes or no to one workflow or one execution. Immutable: whoever changes his mind makes another one, or deletes it
/// while nothing has started.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "workflow.kubernaut.io",
    version = "v1",
    kind = "Approval",
    namespaced,
    derive = "PartialEq",
    shortname = "wfa",
    category = "kubernaut",
    doc = "A person's yes or no to one WorkflowExecution or KubernetesExecution",
    printcolumn(name = "For", type_ = "string", json_path = ".spec.objectRef.name"),
    printcolumn(name = "Kind", type_ = "string", json_path = ".spec.objectRef.kind"),
    printcolumn(name = "Decision", type_ = "string", json_path = ".spec.decision"),
    printcolumn(name = "Approver", type_ = "string", json_path = ".spec.approver"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = ("self.spec == oldSelf.spec", "spec is immutable: create a new Approval instead")
)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalSpec {
    /// What is approved or rejected; it is in this namespace.
    pub object_ref: ApprovalRef,
    /// Whether the approver says yes or no.
    pub decision: ApprovalDecision,
    /// The name of the user who makes this Approval, as the API server knows that user.
    #[schemars(length(min = 1, max = 253))]
    pub approver: String,
    /// What was looked at: status.executionPlan.digest of the workflow. Where it is given, the approval counts for that plan alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = r"^[0-9a-f]{64}$"))]
    pub plan_digest: Option<String>,
    /// Why, in the approver's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub reason: Option<String>,
}

/// The one object that an Approval speaks of.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalRef {
    /// The kind of the object.
    pub kind: ApprovalKind,
    /// The name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The uid of the object: an approval never counts for another object of the same name.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
}

/// The kinds that can be approved.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ApprovalKind {
    /// A whole workflow.
    WorkflowExecution,
    /// A single execution.
    KubernetesExecution,
}

/// What a person decides.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ApprovalDecision {
    /// It may run.
    Approved,
    /// It must not run, whoever else approves it.
    Rejected,
}
