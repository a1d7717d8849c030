//! Names that stand in objects of the cluster: groups, labels, annotations, finalizers, limits.

/// API group of `WorkflowExecution`.
pub const WORKFLOW_GROUP: &str = "workflow.kubernaut.io";
/// API group of `KubernetesExecution`.
pub const EXECUTION_GROUP: &str = "kubernetesexecution.kubernaut.io";
/// apiVersion of `WorkflowExecution`, as owner references carry it.
pub const WORKFLOW_API_VERSION: &str = "workflow.kubernaut.io/v1";
/// apiVersion of `KubernetesExecution`.
pub const EXECUTION_API_VERSION: &str = "kubernetesexecution.kubernaut.io/v1";
/// The namespace where the Jobs of steps run, as it is installed.
pub const EXECUTOR_NAMESPACE: &str = "kubernaut-executor";
/// Kind of the workflow resource.
pub const WORKFLOW_KIND: &str = "WorkflowExecution";
/// Kind of the resource that a person approves or rejects with.
pub const APPROVAL_KIND: &str = "Approval";
/// Kind of the step resource.
pub const EXECUTION_KIND: &str = "KubernetesExecution";

/// Holds a `KubernetesExecution` until its Jobs and payloads are gone.
pub const CLEANUP_FINALIZER: &str = "kubernetesexecution.kubernaut.io/kubernetesexecution-cleanup";

/// Label of a `KubernetesExecution` and its Job: name of the workflow.
pub const LABEL_WORKFLOW: &str = "kubernaut.io/workflow";
/// Label of a `KubernetesExecution`: the step's number.
pub const LABEL_STEP_NUMBER: &str = "kubernaut.io/step-number";
/// Label of a `KubernetesExecution` and its Job: the action as it is spelled.
pub const LABEL_ACTION: &str = "kubernaut.io/action";
/// Label of a Job, its pod and its payload Secret: uid of the `KubernetesExecution`.
pub const LABEL_EXECUTION_UID: &str = "kubernaut.io/execution-uid";
/// Label of a Job: name of the `KubernetesExecution`, cut to the length of a label.
pub const LABEL_EXECUTION_NAME: &str = "kubernaut.io/execution-name";
/// Label of a Job: namespace of the `KubernetesExecution`.
pub const LABEL_EXECUTION_NAMESPACE: &str = "kubernaut.io/execution-namespace";
/// Label of a Job: number of the attempt.
pub const LABEL_ATTEMPT: &str = "kubernaut.io/attempt";
/// Label of a `KubernetesExecution` that takes back what another one did.
pub const LABEL_ROLLBACK: &str = "kubernaut.io/rollback";

/// Stands before the name of a step in the name of the step that takes it back, in a workflow made for that.
pub const UNDO_PREFIX: &str = "undo ";

/// Annotation of a workflow or an execution: the user who created it, who can't approve it.
pub const ANNOTATION_CREATED_BY: &str = "kubernaut.io/created-by";
/// Label of a namespace; with the value `required` everything in it needs an approval.
pub const LABEL_APPROVAL: &str = "kubernaut.io/approval";
/// Value of [`LABEL_APPROVAL`].
pub const APPROVAL_REQUIRED: &str = "required";
/// Name of the ValidatingAdmissionPolicy, and of its binding, without which no Approval counts.
pub const APPROVALS_POLICY: &str = "kubernaut-approvals";
/// Annotation that follows a remediation through workflow, step, Job and logs.
pub const ANNOTATION_CORRELATION_ID: &str = "kubernaut.io/correlation-id";
/// Annotation of a Job: hash of what was recorded before it was made.
pub const ANNOTATION_JOB_HASH: &str = "kubernaut.io/job-hash";
/// Annotation of a Job: whole name of the `KubernetesExecution`.
pub const ANNOTATION_EXECUTION_NAME: &str = "kubernaut.io/execution-name";
/// Annotation of a pod template: the payload that is mounted as a file.
pub const ANNOTATION_PAYLOAD: &str = "kubernaut.io/payload";
/// Annotation of a restarted Deployment's pod template: uid of the `KubernetesExecution` that restarted it.
pub const ANNOTATION_RESTARTED_BY: &str = "kubernaut.io/restarted-by";
/// Annotation that kubectl and dashboards use for the time of a restart.
pub const ANNOTATION_RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";
/// Annotation of a `KubernetesExecution`: a person says that the lock on its target may be released.
pub const ANNOTATION_RELEASE_LOCK: &str = "kubernaut.io/release-lock";

/// Annotation that stands in no cluster: the controller keeps nothing of a spec that is longer than it reads, and marks what
/// it keeps of the object with the length in bytes.
pub const ANNOTATION_OVERSIZE: &str = "kubernaut.io/oversize";

/// Longest name of a `WorkflowExecution`: `<name>-step-<n>` and labels made of it then stay within 63.
pub const WORKFLOW_NAME_MAX: usize = 52;
/// Most people who can be asked to approve a workflow.
pub const APPROVERS_MAX: usize = 5;
/// Most steps of a workflow.
pub const STEPS_MAX: usize = 100;
/// Longest spec as JSON, in bytes.
pub const SPEC_MAX_BYTES: usize = 256 * 1024;
/// Longest text in a status field, in characters; longer ones are cut, with a mark.
pub const TEXT_MAX: usize = 4096;

/// Annotation in which `kubectl apply` keeps a copy of what it applied.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
