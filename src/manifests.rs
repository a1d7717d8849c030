//! What an installation consists of, in the order it is applied: the custom resources, the namespaces, the accounts
//! and roles of the actions (from the one table in code), the controller's own account and rights, the roles of people,
//! and the admission policies that hold people to them.
//!
//! deploy/base is written from here and compared in a test; `run` loads the same objects.

mod people;
mod policies;
mod policy;

use kubernaut_machines::Settings;
use kubernaut_machines::manifest_kinds::allowed_kinds;
use kubernaut_machines::rbac;
use serde_json::{Value, json};

use crate::lease::LEASE_NAME;

/// Namespace of the controller.
pub const CONTROLLER_NAMESPACE: &str = "kubernaut-system";
/// The controller's ServiceAccount.
pub const CONTROLLER_ACCOUNT: &str = "kubernaut-controller";

/// A file of deploy/base and what stands in it.
#[derive(Clone, Debug)]
pub struct File {
    /// Its name.
    pub name: &'static str,
    /// Its objects.
    pub objects: Vec<Value>,
}

/// The files of deploy/base.
///
/// # Errors
/// When a manifest can't be serialized, which happens for none that is made here.
pub fn files(settings: &Settings) -> Result<Vec<File>, serde_json::Error> {
    let crds = [kubernaut_crds::workflow_crd(), kubernaut_crds::execution_crd()];
    Ok(vec![
        File {
            name: "crds.yaml",
            objects: crds.iter().map(serde_json::to_value).collect::<Result<_, _>>()?,
        },
        File {
            name: "namespaces.yaml",
            objects: namespaces(settings),
        },
        File {
            name: "executor-rbac.yaml",
            objects: rbac::manifests(settings),
        },
        File {
            name: "controller-rbac.yaml",
            objects: controller(settings),
        },
        File {
            name: "people-rbac.yaml",
            objects: people::roles(),
        },
        File {
            name: "admission-policies.yaml",
            objects: policies::manifests(settings),
        },
    ])
}

/// All objects of an installation.
///
/// # Errors
/// As [`files`].
pub fn objects(settings: &Settings) -> Result<Vec<Value>, serde_json::Error> {
    Ok(files(settings)?
        .into_iter()
        .flat_map(|file| file.objects)
        .collect())
}

/// A file's text: what makes it, then one document an object.
///
/// # Errors
/// As [`files`].
pub fn text(file: &File) -> Result<String, String> {
    let mut text = "# Made by `kubernaut manifests` from the code: run ./dev fix.\n".to_owned();
    for object in &file.objects {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(object).map_err(|error| error.to_string())?);
    }
    Ok(text)
}

fn labels(component: &str) -> Value {
    json!({"app.kubernetes.io/part-of": "kubernaut", "app.kubernetes.io/component": component})
}

fn namespaces(settings: &Settings) -> Vec<Value> {
    let mut executor = labels("executor");
    // Jobs are made for the strictest profile; nothing else belongs there.
    for mode in ["enforce", "audit", "warn"] {
        executor[format!("pod-security.kubernetes.io/{mode}")] = json!("restricted");
    }
    let namespace = |name: &str, labels: Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    vec![
        namespace(CONTROLLER_NAMESPACE, labels("controller")),
        namespace(&settings.executor_namespace, executor),
    ]
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
}

/// Nothing that the controller does not call: it writes its own resources and its Jobs, and reads targets.
fn controller(settings: &Settings) -> Vec<Value> {
    let mut everywhere = vec![
        rule(
            "workflow.kubernaut.io",
            &["workflowexecutions"],
            &["get", "list", "watch", "delete"],
        ),
        rule(
            "workflow.kubernaut.io",
            &["workflowexecutions/status"],
            &["patch"],
        ),
        // Clusters that enforce owner references ask for it when a blocking one is set.
        rule(
            "workflow.kubernaut.io",
            &["workflowexecutions/finalizers"],
            &["update"],
        ),
        rule(
            "kubernetesexecution.kubernaut.io",
            &["kubernetesexecutions"],
            &["get", "list", "watch", "create", "patch"],
        ),
        rule(
            "kubernetesexecution.kubernaut.io",
            &["kubernetesexecutions/status"],
            &["patch"],
        ),
        rule("authorization.k8s.io", &["subjectaccessreviews"], &["create"]),
        rule("events.k8s.io", &["events"], &["create"]),
        rule("", &["serviceaccounts"], &["get"]),
        // Targets, and what their state depends on.
        rule("", &["pods", "nodes"], &["get", "list"]),
        rule("", &["configmaps", "replicationcontrollers"], &["get"]),
        rule(
            "apps",
            &["deployments", "replicasets", "statefulsets", "daemonsets"],
            &["get"],
        ),
        rule("autoscaling", &["horizontalpodautoscalers"], &["list"]),
    ];
    everywhere.extend(
        allowed_kinds(settings)
            .iter()
            .map(|kind| rule(kind.group, &[kind.plural], &["get"])),
    );
    let executor = vec![
        rule("batch", &["jobs"], &["get", "list", "watch", "create", "delete"]),
        rule("", &["pods"], &["list", "watch"]),
        rule("", &["secrets"], &["get", "create", "delete"]),
        rule("", &["events"], &["list"]),
    ];
    // Rights for one object can be given by its name, the right to make it can't.
    let mut lease = rule("coordination.k8s.io", &["leases"], &["get", "watch", "update"]);
    lease["resourceNames"] = json!([LEASE_NAME]);
    let home = vec![rule("coordination.k8s.io", &["leases"], &["create"]), lease];
    let subject =
        json!([{"kind": "ServiceAccount", "name": CONTROLLER_ACCOUNT, "namespace": CONTROLLER_NAMESPACE}]);
    let labels = labels("controller");
    let group = "rbac.authorization.k8s.io";
    let api_version = "rbac.authorization.k8s.io/v1";
    let in_executor =
        json!({"name": CONTROLLER_ACCOUNT, "namespace": settings.executor_namespace, "labels": labels});
    let at_home = json!({"name": CONTROLLER_ACCOUNT, "namespace": CONTROLLER_NAMESPACE, "labels": labels});
    vec![
        json!({"apiVersion": "v1", "kind": "ServiceAccount",
               "metadata": {"name": CONTROLLER_ACCOUNT, "namespace": CONTROLLER_NAMESPACE, "labels": labels}}),
        json!({"apiVersion": api_version, "kind": "ClusterRole",
               "metadata": {"name": CONTROLLER_ACCOUNT, "labels": labels}, "rules": everywhere}),
        json!({"apiVersion": api_version, "kind": "ClusterRoleBinding",
               "metadata": {"name": CONTROLLER_ACCOUNT, "labels": labels}, "subjects": subject,
               "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": CONTROLLER_ACCOUNT}}),
        json!({"apiVersion": api_version, "kind": "Role", "metadata": in_executor, "rules": executor}),
        json!({"apiVersion": api_version, "kind": "RoleBinding", "metadata": in_executor, "subjects": subject,
               "roleRef": {"apiGroup": group, "kind": "Role", "name": CONTROLLER_ACCOUNT}}),
        json!({"apiVersion": api_version, "kind": "Role", "metadata": at_home, "rules": home}),
        json!({"apiVersion": api_version, "kind": "RoleBinding", "metadata": at_home, "subjects": subject,
               "roleRef": {"apiGroup": group, "kind": "Role", "name": CONTROLLER_ACCOUNT}}),
    ]
}
