//! The accounts and roles that Jobs run with.

use k8s_openapi::api::rbac::v1::PolicyRule;
use serde_json::{Value, json};

use crate::Settings;
use crate::actions::ActionKind;

/// For each installed action the account its Jobs run as, and what that account may do: from the table in `actions`.
pub fn manifests(settings: &Settings) -> Vec<Value> {
    settings
        .actions
        .iter()
        .flat_map(|kind| manifests_of(*kind, settings))
        .collect()
}

fn manifests_of(kind: ActionKind, settings: &Settings) -> [Value; 3] {
    let labels = json!({"app.kubernetes.io/part-of": "kubernaut", "app.kubernetes.io/component": "executor"});
    let rules: Vec<PolicyRule> = kind.rules(settings);
    [
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": kind.service_account(), "namespace": settings.executor_namespace, "labels": labels},
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": kind.cluster_role(), "labels": labels},
            "rules": rules,
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": kind.cluster_role(), "labels": labels},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": kind.cluster_role()},
            "subjects": [{"kind": "ServiceAccount", "name": kind.service_account(), "namespace": settings.executor_namespace}],
        }),
    ]
}
