//! Who approves does so in the own name, and who created something is known.

use kubernaut_crds::names;
use serde_json::json;

use super::{Policy, asked_by, quoted, requests, with_annotations};

/// Whether the user may create Approvals in the namespace of the request.
pub(super) const MAY_APPROVE: &str = "authorizer.group('workflow.kubernaut.io').resource('approvals')\
    .namespace(request.namespace).check('create').allowed()";

/// `controller`: its user name, in quotes.
pub(super) fn policies(controller: &str) -> Vec<Policy> {
    vec![approvals(controller), rollback()]
}

/// Without this policy, as it is written here, the controller counts no Approval: anybody could make one in another's name, or
/// approve what he made himself.
pub(super) fn approvals(controller: &str) -> Policy {
    let key = quoted(names::ANNOTATION_CREATED_BY);
    let matches = json!({"resourceRules": [
        requests(names::WORKFLOW_GROUP, &["approvals"], &["CREATE", "UPDATE", "DELETE"]),
        requests(names::WORKFLOW_GROUP, &["workflowexecutions"], &["CREATE", "UPDATE"]),
        requests(names::EXECUTION_GROUP, &["kubernetesexecutions"], &["CREATE", "UPDATE"]),
    ]});
    let policy = Policy::new(
        names::APPROVALS_POLICY,
        "An Approval is made and taken back by the person whom it names, and what is approved says truly who created it.",
        matches,
    );
    let created_by = format!(
        "the annotation {} is the name of who creates it",
        names::ANNOTATION_CREATED_BY
    );
    with_annotations(policy)
        .variable("isApproval", "request.resource.resource == 'approvals'")
        .variable("isNew", "request.operation == 'CREATE'")
        .variable("spec", "object == null ? {} : dyn(object).?spec.orValue({})")
        .variable("specBefore", "oldObject == null ? {} : dyn(oldObject).?spec.orValue({})")
        .variable(
            "mustBeApproved",
            format!(
                "(namespaceObject != null && namespaceObject.metadata.?labels[{}].orValue('') == {}) || \
                 (request.resource.resource == 'workflowexecutions' ? \
                 variables.spec.?executionStrategy.?approvalRequired.orValue(false) == true : \
                 variables.spec.?approvalReceived.orValue(false) != true && \
                 variables.spec.?dryRun.orValue(false) != true)",
                quoted(names::LABEL_APPROVAL),
                quoted(names::APPROVAL_REQUIRED)
            ),
        )
        .must_else(
            "!variables.isApproval || !variables.isNew || \
             variables.spec.?approver.orValue('') == request.userInfo.username",
            "'spec.approver must be your own name, ' + request.userInfo.username",
            "spec.approver must be your own name",
        )
        .must(
            "!variables.isApproval || request.operation != 'UPDATE' || variables.spec == variables.specBefore",
            "the spec of an Approval is immutable: create a new one",
        )
        .must_else(
            format!(
                "!variables.isApproval || request.operation != 'DELETE' || \
                 variables.specBefore.?approver.orValue('') == request.userInfo.username || {}",
                asked_by(&["generic-garbage-collector", "namespace-controller"])
            ),
            "'only ' + string(variables.specBefore.?approver.orValue('')) + ' takes this Approval back; to say no, create \
             one with decision Rejected'",
            "only its approver takes an Approval back; to say no, create one with decision Rejected",
        )
        .must_else(
            format!(
                "variables.isApproval || !variables.isNew || !variables.after[?{key}].hasValue() || \
                 variables.after[?{key}].orValue('') == request.userInfo.username || \
                 request.userInfo.username == {controller}"
            ),
            format!("'{created_by}: ' + request.userInfo.username"),
            created_by.clone(),
        )
        .must(
            format!(
                "variables.isApproval || variables.isNew || variables.before[?{key}] == variables.after[?{key}]"
            ),
            format!("the annotation {} never changes", names::ANNOTATION_CREATED_BY),
        )
        .must_else(
            format!(
                "variables.isApproval || !variables.isNew || variables.after[?{key}].hasValue() || \
                 request.userInfo.username == {controller} || !variables.mustBeApproved"
            ),
            format!(
                "'this needs an approval, and must say who creates it, who may not approve it: add to \
                 metadata.annotations the line  {}: \"' + request.userInfo.username + '\"'",
                names::ANNOTATION_CREATED_BY
            ),
            format!(
                "this needs an approval, and must say who creates it: add the annotation {} with your own name",
                names::ANNOTATION_CREATED_BY
            ),
        )
}

/// To undo is to run: what needed an approval is undone by who may give one.
fn rollback() -> Policy {
    let policy = Policy::new(
        "kubernaut-approved-rollback",
        "A workflow that needed an approval is stopped and undone only by who may approve.",
        json!({"resourceRules": [requests(names::WORKFLOW_GROUP, &["workflowexecutions"], &["UPDATE"])]}),
    );
    policy
        .when(
            "asks-for-a-rollback",
            "dyn(object).?spec.?shutdown.orValue('') == 'Rollback' && \
             dyn(oldObject).?spec.?shutdown.orValue('') != 'Rollback'",
        )
        .variable(
            "neededApproval",
            "dyn(oldObject).?status.?approval.hasValue() || \
             dyn(oldObject).?spec.?executionStrategy.?approvalRequired.orValue(false) == true",
        )
        .must_else(
            format!("!variables.neededApproval || {MAY_APPROVE}"),
            "request.userInfo.username + ' may not set shutdown: Rollback on a workflow that needed an approval: create on \
             approvals in namespace ' + request.namespace + ' is needed (ClusterRole kubernaut-approve); shutdown: Cancel \
             stops it'",
            "create on approvals is needed (ClusterRole kubernaut-approve); shutdown: Cancel stops it",
        )
}
