//! Who approves, signs with the own name.

use kubernaut_crds::names;

use super::{MAY_APPROVE, Policy, both_kinds, list, quoted, with_annotations};

/// The three annotations are one statement: whoever changes any of them signs it with the own name, and must be one who
/// may approve. That holds for the controller too, which never writes them, and for taking an approval away: the way
/// back is to reject.
///
/// Anything else about the object passes untouched, so that whoever may not approve can still label it, suspend it or
/// shut it down.
pub(super) fn policy() -> Policy {
    let unit = [
        names::ANNOTATION_APPROVAL,
        names::ANNOTATION_APPROVED_BY,
        names::ANNOTATION_APPROVAL_REASON,
    ];
    let by = quoted(names::ANNOTATION_APPROVED_BY);
    let approval = quoted(names::ANNOTATION_APPROVAL);
    with_annotations(Policy::new(
        "kubernaut-approvals",
        "An approval or rejection of a workflow or an execution is signed by the person who gives it, and only by one \
         who has the verb approve on it.",
        both_kinds(&["CREATE", "UPDATE"]),
    ))
    .variable(
        "changed",
        format!("{}.exists(key, variables.before[?key] != variables.after[?key])", list(unit)),
    )
    .must_else(
        format!("!variables.changed || variables.after[?{by}].orValue('') == request.userInfo.username"),
        format!(
            "'whoever sets, changes or removes an approval signs it: {} must be your own name, ' + \
             request.userInfo.username + '; to take an approval back, set {} to rejected'",
            names::ANNOTATION_APPROVED_BY,
            names::ANNOTATION_APPROVAL
        ),
        "whoever changes an approval signs it with the own name",
    )
    .must_else(
        format!("!variables.changed || {MAY_APPROVE}"),
        "request.userInfo.username + ' may not approve: the verb approve on ' + request.resource.resource + \
         ' in namespace ' + request.namespace + ' is needed (ClusterRole kubernaut-approve)'",
        "the verb approve is needed (ClusterRole kubernaut-approve)",
    )
    .must(
        format!("!variables.changed || variables.after[?{approval}].orValue('') in ['approved', 'rejected']"),
        format!("{} must be approved or rejected", names::ANNOTATION_APPROVAL),
    )
}
