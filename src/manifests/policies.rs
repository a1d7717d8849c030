//! The admission policies: what RBAC can't say. RBAC knows verbs and resources; these know fields.
//!
//! Nobody is exempt for being an administrator, not even system:masters: an approval or a status that an administrator
//! wrote by accident is as wrong as any other. Who is let through is named where it is, with the reason. In an emergency
//! an administrator deletes the binding of a policy: that is one visible step, and the message of a refusal names it.

mod approvals;
mod executions;
mod executor;
mod label;
mod priority;
mod protected_namespaces;
mod reach;
mod sizes;
mod specs;

use kubernaut_crds::names;
use serde_json::{Value, json};

use super::policy::Policy;
use super::{CONTROLLER_ACCOUNT, Installation};

/// Every policy, each followed by its binding.
pub(super) fn manifests(installation: &Installation) -> Vec<Value> {
    let settings = &installation.settings;
    let controller = controller(&installation.controller_namespace);
    let all: Vec<Policy> = [
        approvals::policies(&controller),
        executions::policies(&controller),
        vec![protected_namespaces::policy(settings, &controller)],
        vec![sizes::policy(&controller)],
        specs::policies(&controller),
        executor::policies(settings, &controller),
        reach::policies(settings),
        vec![priority::policy(
            &installation.controller_namespace,
            &settings.executor_namespace,
        )],
        label::policies(settings),
    ]
    .into_iter()
    .flatten()
    .collect();
    all.into_iter().flat_map(Policy::manifests).collect()
}

/// The policy without which no Approval counts, and its binding.
pub(super) fn of_approvals(controller_namespace: &str) -> [Value; 2] {
    approvals::approvals(&controller(controller_namespace)).manifests()
}

/// The controller's user name, in quotes for CEL.
fn controller(namespace: &str) -> String {
    quoted(&format!("system:serviceaccount:{namespace}:{CONTROLLER_ACCOUNT}"))
}

/// Holds when one of these controllers of kube-controller-manager asks. Where it runs without
/// --use-service-account-credentials, all of them ask as one user.
fn asked_by(controllers: &[&str]) -> String {
    let names = controllers
        .iter()
        .map(|name| format!("system:serviceaccount:kube-system:{name}"))
        .chain(["system:kube-controller-manager".to_owned()]);
    format!("request.userInfo.username in {}", list(names))
}

/// What the controller makes it made of what was looked at: it is not looked at again.
fn but_the_controllers(policy: Policy, controller: &str) -> Policy {
    policy.when(
        "not-the-controller",
        format!("request.userInfo.username != {controller}"),
    )
}

/// Text for CEL.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'"))
}

fn list(items: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| quoted(item.as_ref())).collect();
    format!("[{}]", items.join(", "))
}

fn requests(group: &str, resources: &[&str], operations: &[&str]) -> Value {
    json!({"apiGroups": [group], "apiVersions": ["*"], "operations": operations, "resources": resources})
}

/// Writes of workflows and executions, their status apart.
fn both_kinds(operations: &[&str]) -> Value {
    json!({"resourceRules": [
        requests(names::WORKFLOW_GROUP, &["workflowexecutions"], operations),
        requests(names::EXECUTION_GROUP, &["kubernetesexecutions"], operations),
    ]})
}

/// `operator` is In or NotIn. The API server picks by this before any expression is worked out.
fn namespaces(operator: &str, names: &[&str]) -> Value {
    json!({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": operator, "values": names}]})
}

/// The annotations before and after, as `variables.before` and `variables.after`.
fn with_annotations(policy: Policy) -> Policy {
    policy
        .variable(
            "before",
            "oldObject == null ? {} : oldObject.metadata.?annotations.orValue({})",
        )
        .variable(
            "after",
            "object == null ? {} : object.metadata.?annotations.orValue({})",
        )
}
