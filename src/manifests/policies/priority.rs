//! The priority of the controller is for the controller alone.

use super::{Policy, namespaces, quoted, requests};
use crate::manifests::deployment::PRIORITY_CLASS;

/// A class of pods belongs to no namespace: with it any tenant's pods would push others' off their nodes. Pods of the executor
/// namespace are the Jobs' of the controller, which name no class.
pub(super) fn policy(controller_namespace: &str, executor: &str) -> Policy {
    let mut matches = serde_json::json!({"resourceRules": [requests("", &["pods"], &["CREATE"])]});
    matches["namespaceSelector"] = namespaces("NotIn", &[controller_namespace, executor]);
    Policy::new(
        "kubernaut-priority",
        "The PriorityClass of the controller is for its own pods.",
        matches,
    )
    // Nearly every pod has another class, or none, and is passed over.
    .when(
        "of-our-class",
        format!("object.?spec.?priorityClassName.orValue('') == {}", quoted(PRIORITY_CLASS)),
    )
    .must(
        "false",
        format!(
            "the PriorityClass {PRIORITY_CLASS} is for the controller's pods in namespace {controller_namespace}: use a \
             class of your own"
        ),
    )
}
