//! What machines ask of the API and what comes back.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Secret;
use kubernaut_crds::{ExecutionShutdown, KubernetesExecution, WorkflowExecution};
use serde_json::{Value, json};

use crate::actions::AccessRequest;
use crate::job_view::JobView;
use crate::plan::Undone;
use crate::policy::Verdict;
use crate::reads::{Read, ReadResults};

/// Ties a result to the command that asked for it. A machine drops results that it no longer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommandId(pub u64);

/// A call to the API server that did not give what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiFailure {
    /// What follows from it.
    pub class: FailureClass,
    /// The server's words, or the transport's.
    pub message: String,
}

/// What follows from a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// 404: the object (or its namespace) does not exist.
    NotFound,
    /// 409 on a write that carried a resourceVersion or a uid: look again and decide again.
    Conflict,
    /// 403 because of a quota: it may pass later. Nothing was done.
    Quota,
    /// 403: a right is missing. Nothing was done.
    Forbidden,
    /// Any other 4xx: the request is wrong and stays wrong. Nothing was done.
    Rejected,
    /// 429, or 401 while a token is being replaced: nothing was done; try again.
    Throttled,
    /// 5xx, a broken connection or our own deadline: it may have been done.
    Unknown,
}

impl FailureClass {
    /// As logs spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            FailureClass::NotFound => "not_found",
            FailureClass::Conflict => "conflict",
            FailureClass::Quota => "quota",
            FailureClass::Forbidden => "forbidden",
            FailureClass::Rejected => "rejected",
            FailureClass::Throttled => "throttled",
            FailureClass::Unknown => "unknown",
        }
    }

    /// It is certain that this call did nothing.
    pub fn is_refusal(self) -> bool {
        match self {
            FailureClass::Quota
            | FailureClass::Forbidden
            | FailureClass::Rejected
            | FailureClass::Throttled
            | FailureClass::NotFound => true,
            FailureClass::Conflict | FailureClass::Unknown => false,
        }
    }

    /// A call that failed so may succeed later.
    pub fn is_transient(self) -> bool {
        matches!(self, FailureClass::Throttled | FailureClass::Unknown)
    }
}

/// Under which terms a command is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// With which others it waits for its turn.
    pub lane: Lane,
    /// It is not sent after this time, however long it waits for its turn: the answer is then that it was not sent. `None`
    /// where it is as good later.
    pub not_after: Option<Timestamp>,
}

/// Calls that wait for their turn with each other, so that a flood of one sort leaves room for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Of steps that run, and of workflows.
    Running,
    /// What is checked before anything runs: it comes in hundreds when many workflows begin.
    Validation,
    /// Of what has ended or is being deleted.
    CleanUp,
}

/// Commands that read or write through the API. One is under way at a time for each step; results come back with
/// the command's id.
#[derive(Clone, Debug, PartialEq)]
pub enum ApiCommand {
    /// May the account do all this (a SubjectAccessReview each), do the accounts exist?
    CheckRights(RightsQuestion),
    /// Read objects.
    Read(Vec<Read>),
    /// Merge patch of /status with the resourceVersion it was decided on.
    WriteExecutionStatus {
        /// The object as it was when this was decided.
        execution: Arc<KubernetesExecution>,
        /// The merge patch, `{"metadata": {"resourceVersion": ..}, "status": ..}`.
        patch: Value,
    },
    /// Write the status of a workflow.
    WriteWorkflowStatus {
        /// The object as it was when this was decided.
        workflow: Arc<WorkflowExecution>,
        /// The merge patch.
        patch: Value,
    },
    /// Merge patch of what an execution is asked for, with the resourceVersion it was decided on.
    PatchExecution {
        /// The object as it was when this was decided.
        execution: Arc<KubernetesExecution>,
        /// What is written.
        change: ExecutionChange,
    },
    /// Live read.
    GetExecution {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// Live read.
    GetWorkflow {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// Live read of a workflow and of the executions that its status names.
    GetUndone {
        /// Namespace.
        namespace: String,
        /// Name of the workflow.
        name: String,
    },
    /// Create a step's execution. When one of its name exists, the result is that one.
    CreateExecution(Box<KubernetesExecution>),
    /// Create the Secret (if any), then the Job. When a Job of its name exists, the result is that one.
    CreateJob {
        /// The Job.
        job: Box<Job>,
        /// Payload that must not stand in the Job.
        secret: Option<Box<Secret>>,
    },
    /// Live read of a Job in the executor namespace and of the pods with the execution's uid.
    GetJob {
        /// Name of the Job.
        name: String,
        /// Uid of the execution.
        execution_uid: String,
    },
    /// Delete a Job with propagationPolicy Foreground and a uid precondition. Absence is success.
    DeleteJob {
        /// Name of the Job.
        name: String,
        /// Uid it must have.
        uid: String,
    },
    /// Delete a payload Secret that carries this execution's uid. Absence is success.
    DeleteSecret {
        /// Name of the Secret.
        name: String,
        /// Uid of the execution, which its label must hold.
        execution_uid: String,
    },
    /// Ask the policies about this input. It is no call to the API server.
    Judge(Value),
    /// Read the events FailedCreate of a Job and FailedScheduling of its pods.
    ExplainJob {
        /// Name of the Job.
        name: String,
    },
}

impl ApiCommand {
    /// As logs spell it.
    pub fn name(&self) -> &'static str {
        match self {
            ApiCommand::CheckRights(_) => "check_rights",
            ApiCommand::Read(_) => "read",
            ApiCommand::WriteExecutionStatus { .. } => "write_execution_status",
            ApiCommand::WriteWorkflowStatus { .. } => "write_workflow_status",
            ApiCommand::PatchExecution { .. } => "patch_execution",
            ApiCommand::GetExecution { .. } => "get_execution",
            ApiCommand::GetWorkflow { .. } => "get_workflow",
            ApiCommand::GetUndone { .. } => "get_undone",
            ApiCommand::CreateExecution(_) => "create_execution",
            ApiCommand::CreateJob { .. } => "create_job",
            ApiCommand::GetJob { .. } => "get_job",
            ApiCommand::DeleteJob { .. } => "delete_job",
            ApiCommand::DeleteSecret { .. } => "delete_secret",
            ApiCommand::Judge(_) => "judge",
            ApiCommand::ExplainJob { .. } => "explain_job",
        }
    }
}

/// What is written to an execution outside its status. `None` leaves a field as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExecutionChange {
    /// All finalizers it shall have.
    pub finalizers: Option<Vec<String>>,
    /// Whether the step may run, and who says so.
    pub approval: Option<ApprovalChange>,
    /// Stop it.
    pub shutdown: Option<ExecutionShutdown>,
}

/// spec.approvalReceived and spec.approvedBy, which are written together.
#[derive(Clone, Debug, PartialEq)]
pub struct ApprovalChange {
    /// The step may run.
    pub received: bool,
    /// Who approved it; `None` for an approval by the workflow itself.
    pub by: Option<String>,
}

impl ExecutionChange {
    /// The merge patch for `execution`. A resourceVersion belongs to one object of one uid, so it is the precondition for both.
    pub fn merge_patch(&self, execution: &KubernetesExecution) -> Value {
        let mut patch = json!({"metadata": {"resourceVersion": execution.metadata.resource_version}});
        if let Some(finalizers) = &self.finalizers {
            patch["metadata"]["finalizers"] = json!(finalizers);
        }
        if let Some(approval) = &self.approval {
            patch["spec"]["approvalReceived"] = json!(approval.received);
            patch["spec"]["approvedBy"] = json!(approval.by);
        }
        if let Some(shutdown) = self.shutdown {
            patch["spec"]["shutdown"] = json!(shutdown);
        }
        patch
    }
}

/// Whose rights, and which.
#[derive(Clone, Debug, PartialEq)]
pub struct RightsQuestion {
    /// Namespace of the workflow's ServiceAccount.
    pub namespace: String,
    /// Its name.
    pub service_account: String,
    /// Everything that must be allowed.
    pub requests: Vec<AccessRequest>,
    /// Accounts that must exist in the executor namespace.
    pub executor_accounts: Vec<String>,
}

/// The answer to a [`RightsQuestion`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RightsAnswer {
    /// The workflow's ServiceAccount does not exist.
    pub account_missing: bool,
    /// These accounts do not exist in the executor namespace.
    pub executor_accounts_missing: Vec<String>,
    /// What is not allowed.
    pub denied: Vec<AccessRequest>,
}

/// What came of an [`ApiCommand`].
#[derive(Clone, Debug, PartialEq)]
pub enum ApiOutcome {
    /// Of CheckRights.
    Rights(RightsAnswer),
    /// Of Read: each read that was asked for has its entry.
    ReadResults(ReadResults),
    /// Of WriteExecutionStatus, PatchExecution: the object as it now is.
    Execution(Arc<KubernetesExecution>),
    /// Of GetExecution: `None` when there is none.
    FoundExecution(Option<Arc<KubernetesExecution>>),
    /// Of WriteWorkflowStatus.
    Workflow(Arc<WorkflowExecution>),
    /// Of GetWorkflow.
    FoundWorkflow(Option<Arc<WorkflowExecution>>),
    /// Of GetUndone.
    Undone(Arc<Undone>),
    /// Of CreateExecution: ours, or the one that was there.
    Created {
        /// The object in the cluster.
        execution: Arc<KubernetesExecution>,
        /// True when this call made it.
        fresh: bool,
    },
    /// Of CreateJob: ours, or the one that was there.
    JobCreated(Box<JobView>),
    /// Of GetJob.
    FoundJob(Option<Box<JobView>>),
    /// Of DeleteJob and DeleteSecret: the request was taken, or there was nothing.
    Deleted,
    /// Of Judge.
    Judged(Verdict),
    /// Of ExplainJob: the events' messages, oldest first.
    Explained(Vec<String>),
}

impl ApiOutcome {
    /// As logs spell it.
    pub fn name(&self) -> &'static str {
        match self {
            ApiOutcome::Rights(_) => "rights",
            ApiOutcome::ReadResults(_) => "facts",
            ApiOutcome::Execution(_) => "execution",
            ApiOutcome::FoundExecution(_) => "found_execution",
            ApiOutcome::Workflow(_) => "workflow",
            ApiOutcome::FoundWorkflow(_) => "found_workflow",
            ApiOutcome::Undone(_) => "undone",
            ApiOutcome::Created { .. } => "created",
            ApiOutcome::JobCreated(_) => "job_created",
            ApiOutcome::FoundJob(_) => "found_job",
            ApiOutcome::Deleted => "deleted",
            ApiOutcome::Judged(_) => "judged",
            ApiOutcome::Explained(_) => "explained",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_writes_what_it_says_and_nothing_else() {
        let execution = KubernetesExecution {
            metadata: serde_json::from_value(json!({"resourceVersion": "7"})).expect("metadata"),
            spec: serde_json::from_value(json!({"action": "cordon-node", "parameters": {}})).expect("a spec"),
            status: None,
        };
        let patch = |change: ExecutionChange| change.merge_patch(&execution);
        assert_eq!(
            patch(ExecutionChange {
                finalizers: Some(Vec::new()),
                ..ExecutionChange::default()
            }),
            json!({"metadata": {"resourceVersion": "7", "finalizers": []}})
        );
        assert_eq!(
            patch(ExecutionChange {
                approval: Some(ApprovalChange {
                    received: true,
                    by: Some("ana".to_owned()),
                }),
                shutdown: Some(ExecutionShutdown::Cancel),
                ..ExecutionChange::default()
            }),
            json!({
                "metadata": {"resourceVersion": "7"},
                "spec": {"approvalReceived": true, "approvedBy": "ana", "shutdown": "Cancel"},
            })
        );
    }
}
