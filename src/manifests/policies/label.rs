//! The label of the executor's pods. A drain passes over pods that carry it (its own Job may run on the node that it
//! empties), so it must not be had elsewhere.

use kubernaut_crds::names;
use kubernaut_machines::Settings;
use serde_json::{Value, json};

use super::{Policy, namespaces, requests};

const WRITES: [&str; 2] = ["CREATE", "UPDATE"];

pub(super) fn policies(settings: &Settings) -> Vec<Policy> {
    let executor = settings.executor_namespace.as_str();
    let template = "object.?spec.?template";
    let job_template = "object.?spec.?jobTemplate.?spec.?template";
    let workloads = [
        requests(
            "apps",
            &["deployments", "replicasets", "statefulsets", "daemonsets"],
            &WRITES,
        ),
        requests("batch", &["jobs"], &WRITES),
        requests("", &["replicationcontrollers"], &WRITES),
    ];
    vec![
        pods(executor),
        templates("kubernaut-label-templates", template, &workloads, executor),
        templates(
            "kubernaut-label-cronjobs",
            job_template,
            &[requests("batch", &["cronjobs"], &WRITES)],
            executor,
        ),
    ]
}

fn words(executor: &str) -> String {
    format!(
        "the label {} marks pods of namespace {executor}, which a drain passes over: use another label",
        names::LABEL_EXECUTION_UID
    )
}

/// This is what keeps the label away. Objects without it, nearly all, are passed over before any expression is worked
/// out. One that has it from before can still be changed, and its status written.
fn pods(executor: &str) -> Policy {
    let rules = [
        // Labels of a pod can be changed through its status as well, and come with what binds it to a node.
        requests("", &["pods", "pods/status"], &WRITES),
        requests("", &["pods/binding", "bindings"], &["CREATE"]),
        requests("batch", &["jobs"], &WRITES),
    ];
    let matches = json!({
        "resourceRules": rules,
        "namespaceSelector": namespaces("NotIn", &[executor]),
        "objectSelector": {"matchExpressions": [{"key": names::LABEL_EXECUTION_UID, "operator": "Exists"}]},
    });
    let label = format!("metadata.?labels['{}']", names::LABEL_EXECUTION_UID);
    Policy::new(
        "kubernaut-label-pods",
        "No pod and no Job outside of the executor namespace carries the label that a drain passes over.",
        matches,
    )
    .must(
        format!("!object.{label}.hasValue() || (oldObject != null && object.{label} == oldObject.{label})"),
        words(executor),
    )
}

/// Here it is said early, to the person who writes the template: of its pods only an event would tell.
fn templates(name: &'static str, template: &str, rules: &[Value], executor: &str) -> Policy {
    let matches = json!({
        "resourceRules": rules,
        "namespaceSelector": namespaces("NotIn", &[executor]),
    });
    let label = format!("{template}.?metadata.?labels['{}']", names::LABEL_EXECUTION_UID);
    let before = label.replacen("object", "oldObject", 1);
    Policy::new(
        name,
        "No template of pods outside of the executor namespace carries the label that a drain passes over.",
        matches,
    )
    .must(
        format!("!{label}.hasValue() || (oldObject != null && {label} == {before})"),
        words(executor),
    )
}
