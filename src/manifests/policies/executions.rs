//! What of a workflow and an execution is the controller's alone.

use kubernaut_crds::names;
use serde_json::json;

use super::approvals::MAY_APPROVE;
use super::{Policy, asked_by, both_kinds, but_the_controllers, list, quoted, requests, with_annotations};

const WRITES: [&str; 2] = ["CREATE", "UPDATE"];

/// `controller`: its user name, in quotes.
pub(super) fn policies(controller: &str) -> Vec<Policy> {
    vec![
        fields(controller),
        approval(controller),
        correlation(controller),
        statuses(controller),
    ]
}

fn of_executions(name: &'static str, description: &str) -> Policy {
    let matches = json!({"resourceRules": [
        requests(names::EXECUTION_GROUP, &["kubernetesexecutions"], &WRITES),
    ]});
    Policy::new(name, description, matches)
}

/// The fields of an execution by which the controller knows its own.
fn fields(controller: &str) -> Policy {
    // By group or by kind: the kind alone is enough to be taken for a workflow of that name.
    let of_a_workflow = format!(
        "(owner.apiVersion.startsWith('{}/') || owner.kind == '{}')",
        names::WORKFLOW_GROUP,
        names::WORKFLOW_KIND
    );
    // Whatever its kind: the controller knows its own by who controls it.
    let binding = format!("(owner.?controller.orValue(false) || {of_a_workflow})");
    // blockOwnerDeletion is left out: the garbage collector sets it to false when it unblocks a deletion.
    let same = ["uid", "apiVersion", "kind", "name"]
        .map(|field| format!("other.{field} == owner.{field}"))
        .join(" && ");
    let same = format!("{same} && other.?controller.orValue(false) == owner.?controller.orValue(false)");
    let kept =
        |these: &str, those: &str| format!("{these}.all(owner, !{binding} || {those}.exists(other, {same}))");
    let garbage_collector = asked_by(&["generic-garbage-collector"]);
    let finalizer = quoted(names::CLEANUP_FINALIZER);
    let labels = [
        names::LABEL_ROLLBACK,
        names::LABEL_WORKFLOW,
        names::LABEL_STEP_NUMBER,
        names::LABEL_ACTION,
    ];
    let policy = of_executions(
        "kubernaut-execution-fields",
        "Only the controller makes an execution a step of a workflow, an undo or approved by somebody, and only it lets \
         an execution go while its Job may run.",
    );
    but_the_controllers(policy, controller)
    .variable("owners", "object.metadata.?ownerReferences.orValue([])")
    .variable(
        "ownersBefore",
        "oldObject == null ? [] : oldObject.metadata.?ownerReferences.orValue([])",
    )
    .must(
        kept("variables.owners", "variables.ownersBefore"),
        "only the controller makes an execution a step of a workflow: leave an owner reference to a WorkflowExecution, and \
         controller: true in any other, out, or put the step into a workflow",
    )
    // It takes the reference off when a workflow is deleted with --cascade=orphan, or is gone already.
    .must(
        format!(
            "{} || {garbage_collector}",
            kept("variables.ownersBefore", "variables.owners")
        ),
        "an execution stays a step of its workflow: only the garbage collector takes the owner reference off",
    )
    // It says in logs whose step this is.
    .must(
        "oldObject != null || !object.?spec.?workflowExecutionRef.hasValue()",
        "spec.workflowExecutionRef is set by the controller alone, on the steps of a workflow: leave it out",
    )
    // They are also part of the Job that is made of the execution.
    .must(
        format!(
            "{}.all(key, object.metadata.?labels[key] == (oldObject == null ? optional.none() : \
             oldObject.metadata.?labels[key]))",
            list(labels)
        ),
        format!("the labels {} of an execution are set by the controller alone", labels.join(", ")),
    )
    .must(
        "oldObject != null || !object.?spec.?parameters.?undo.hasValue()",
        "parameters.undo is made by the controller alone, from what it recorded: use the action that sets the state that \
         you want",
    )
    .must(
        "object.?spec.?approvedBy == (oldObject == null ? optional.none() : oldObject.?spec.?approvedBy)",
        "spec.approvedBy is set by the controller alone, from the approval of the workflow: to approve an execution, create an \
         Approval of it",
    )
    .must(
        format!(
            "({finalizer} in object.metadata.?finalizers.orValue([])) == (oldObject != null && {finalizer} in \
             oldObject.metadata.?finalizers.orValue([]))"
        ),
        format!(
            "the finalizer {} is set and removed by the controller alone, which stops the Job first; if no controller runs \
             any more, delete ValidatingAdmissionPolicyBinding kubernaut-execution-fields, see that no Job of this \
             execution runs, and remove it",
            names::CLEANUP_FINALIZER
        ),
    )
}

/// To release an execution, and to release its lock.
fn approval(controller: &str) -> Policy {
    let key = quoted(names::ANNOTATION_RELEASE_LOCK);
    let policy = with_annotations(of_executions(
        "kubernaut-execution-approval",
        "Only the controller releases an execution that waits, and only a person who may approve the lock of one whose Job could \
         not be confirmed stopped.",
    ));
    // It releases the executions of a workflow that was approved.
    but_the_controllers(policy, controller)
    // At creation approvalReceived says that no approval is asked for: that is for whoever creates it to say.
    .variable(
        "released",
        "oldObject != null && object.?spec.?approvalReceived.orValue(false) && \
         !oldObject.?spec.?approvalReceived.orValue(false)",
    )
    .variable(
        "unlocked",
        format!("variables.before[?{key}] != variables.after[?{key}]"),
    )
    .must(
        "!variables.released",
        "approvalReceived is set by the controller alone: to approve this execution, create an Approval of it",
    )
    .must_else(
        format!("!variables.unlocked || {MAY_APPROVE}"),
        format!(
            "request.userInfo.username + ' may not set {}: create on approvals in namespace ' + \
             request.namespace + ' is needed (ClusterRole kubernaut-approve)'",
            names::ANNOTATION_RELEASE_LOCK
        ),
        "create on approvals is needed to release a lock (ClusterRole kubernaut-approve)",
    )
    // Set beforehand it would say that a pod is stopped that does not even exist yet.
    .must(
        "!variables.unlocked || (oldObject != null && \
         oldObject.?status.?phase.orValue('') in ['failed', 'completed'])",
        format!(
            "{} is for an execution that has ended: see first that its pod is stopped",
            names::ANNOTATION_RELEASE_LOCK
        ),
    )
}

/// It stands in logs, Jobs and the environment of kubectl, and in what a Job is compared with.
fn correlation(controller: &str) -> Policy {
    let key = quoted(names::ANNOTATION_CORRELATION_ID);
    let policy = with_annotations(Policy::new(
        "kubernaut-correlation-id",
        "What follows a remediation through logs and objects is a short word, and stays what it was.",
        both_kinds(&WRITES),
    ));
    but_the_controllers(policy, controller)
    .variable(
        "changed",
        format!("variables.before[?{key}] != variables.after[?{key}]"),
    )
    .must(
        "!variables.changed || oldObject == null",
        format!(
            "{} can be set when the object is created, and not changed: Jobs and logs carry it",
            names::ANNOTATION_CORRELATION_ID
        ),
    )
    .must(
        format!(
            "!variables.changed || variables.after[?{key}].orValue('').matches('^[A-Za-z0-9][-A-Za-z0-9._:/]{{0,127}}$')"
        ),
        format!(
            "{} must be 1 to 128 letters, digits and -._:/, beginning with a letter or digit",
            names::ANNOTATION_CORRELATION_ID
        ),
    )
}

/// The controller continues from what a status says: whoever writes one decides what runs, and what ran.
fn statuses(controller: &str) -> Policy {
    let matches = json!({"resourceRules": [
        requests(names::WORKFLOW_GROUP, &["workflowexecutions/status"], &WRITES),
        requests(names::EXECUTION_GROUP, &["kubernetesexecutions/status"], &WRITES),
    ]});
    Policy::new(
        "kubernaut-statuses",
        "Only the controller writes the status of workflows and executions.",
        matches,
    )
    .must(
        format!("request.userInfo.username == {controller}"),
        "only the controller writes a status: approve by annotations, stop by spec.shutdown or by deleting the object",
    )
    .looked_at_once()
}
