//! What people may do: three ClusterRoles, to be bound in the namespaces where they shall hold.

use serde_json::{Value, json};

use super::{labels, rule};

/// Label by which a built-in role takes in the rules of another one.
pub(super) const INTO_EDIT: &str = "rbac.authorization.k8s.io/aggregate-to-edit";

const READ: [&str; 3] = ["get", "list", "watch"];
const WRITE: [&str; 7] = ["get", "list", "watch", "create", "patch", "update", "delete"];
const APPROVE: [&str; 5] = ["get", "list", "watch", "create", "delete"];

/// kubernaut-view, kubernaut-edit and kubernaut-approve. None of them may write a status.
///
/// Whoever has the built-in edit (or admin, which contains it) gets the first two:
/// - reading is not given to the built-in view: the values of updateSecret stand in these objects, and view may not read
///   Secrets, while edit may;
/// - creating a workflow uses a ServiceAccount of the namespace, which edit can do already by creating a pod.
///
/// kubernaut-approve goes to nobody by itself: it is a second person's word, and nothing else.
pub(super) fn roles() -> Vec<Value> {
    vec![
        role("kubernaut-view", &READ, &READ, true),
        role("kubernaut-edit", &WRITE, &READ, true),
        role("kubernaut-approve", &READ, &APPROVE, false),
    ]
}

/// What may be done with workflows and executions, and what with Approvals.
fn role(name: &str, verbs: &[&str], approvals: &[&str], into_edit: bool) -> Value {
    let mut labels = labels("people");
    if into_edit {
        labels[INTO_EDIT] = json!("true");
    }
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": name, "labels": labels},
        "rules": [
            rule("workflow.kubernaut.io", &["workflowexecutions"], verbs),
            rule("kubernetesexecution.kubernaut.io", &["kubernetesexecutions"], verbs),
            rule("workflow.kubernaut.io", &["approvals"], approvals),
        ],
    })
}
