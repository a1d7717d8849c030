//! What an installation consists of, in the order it is applied: the custom resources, the namespaces, the accounts
//! and roles of the actions (from the one table in code), the controller's own account and rights, the roles of people,
//! the admission policies that hold people to them, and the controller's pods.
//!
//! deploy/base is written from here and compared in a test; `run` loads the same objects, the pods left out.

pub mod chart;
mod deployment;
mod people;
mod policies;
mod policy;

use kubernaut_crds::names;
use kubernaut_machines::Settings;
use kubernaut_machines::manifest_kinds::allowed_kinds;
use kubernaut_machines::rbac;
use serde_json::{Value, json};

use crate::lease::LEASE_NAME;

/// Usual namespace of the controller.
pub const CONTROLLER_NAMESPACE: &str = "kubernaut-system";
/// The controller's ServiceAccount, its Deployment and all else that is the controller's alone.
pub const CONTROLLER_ACCOUNT: &str = "kubernaut-controller";
/// Label that says what made an object.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The controller's image, as `./dev image` and the Dockerfile name it.
pub const IMAGE: &str = concat!("kubernaut:v", env!("CARGO_PKG_VERSION"));

/// Where the controller's pods have their policies in Rego.
pub const POLICY_DIRECTORY: &str = "/etc/kubernaut/policy";
/// Name of the volume with them.
const POLICY_VOLUME: &str = "policy";

/// What is installed.
#[derive(Clone, Debug)]
pub struct Installation {
    /// What the controller will decide by: names of namespaces, and kinds for which there have to be rights.
    pub settings: Settings,
    /// Where the controller is, with its lease.
    pub controller_namespace: String,
    /// Image of the controller's pods. None: it runs elsewhere, and has its account here.
    pub image: Option<String>,
    /// What follows `kubernaut controller` in its pods.
    pub flags: Vec<String>,
    /// ConfigMap of the controller's namespace with policies in Rego, mounted at [`POLICY_DIRECTORY`]; the flag has to say so, too.
    pub policy_config_map: Option<String>,
}

impl Installation {
    /// For a controller that runs elsewhere, with an account in the usual namespace.
    pub fn without_pods(settings: Settings) -> Self {
        Self {
            settings,
            image: None,
            ..Self::default()
        }
    }
}

impl Default for Installation {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            controller_namespace: CONTROLLER_NAMESPACE.to_owned(),
            image: Some(IMAGE.to_owned()),
            flags: Vec::new(),
            policy_config_map: None,
        }
    }
}

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
pub fn files(installation: &Installation) -> Result<Vec<File>, serde_json::Error> {
    let settings = &installation.settings;
    let crds = kubernaut_crds::crds();
    let mut files = vec![
        File {
            name: "crds.yaml",
            objects: crds.iter().map(serde_json::to_value).collect::<Result<_, _>>()?,
        },
        File {
            name: "namespaces.yaml",
            objects: namespaces(installation),
        },
        File {
            name: "executor-rbac.yaml",
            objects: rbac::manifests(settings),
        },
        File {
            name: "controller-rbac.yaml",
            objects: controller(installation),
        },
        File {
            name: "people-rbac.yaml",
            objects: people::roles(),
        },
        File {
            name: "admission-policies.yaml",
            objects: policies::manifests(installation),
        },
        File {
            name: "network-policies.yaml",
            objects: deployment::network_policies(installation),
        },
    ];
    if let Some(image) = &installation.image {
        files.push(File {
            name: "controller.yaml",
            objects: deployment::pods(installation, image),
        });
    }
    for object in files.iter_mut().flat_map(|file| &mut file.objects) {
        mark(object);
    }
    Ok(files)
}

/// All objects of an installation.
///
/// # Errors
/// As [`files`].
pub fn objects(installation: &Installation) -> Result<Vec<Value>, serde_json::Error> {
    Ok(files(installation)?
        .into_iter()
        .flat_map(|file| file.objects)
        .collect())
}

/// A file's text: what makes it, then one document an object.
///
/// # Errors
/// As [`files`].
pub fn text(file: &File) -> Result<String, String> {
    let version = env!("CARGO_PKG_VERSION");
    let mut text = format!(
        "# kubernaut v{version}, {}, as `kubernaut manifests` writes it.\n",
        file.name
    );
    for object in &file.objects {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(object).map_err(|error| error.to_string())?);
    }
    Ok(text)
}

/// By these a Deployment knows its pods: they are the same in every version.
fn labels(component: &str) -> Value {
    json!({"app.kubernetes.io/part-of": "kubernaut", "app.kubernetes.io/component": component})
}

/// What every object carries besides: what it is, of which version, and what made it.
fn mark(object: &mut Value) {
    let labels = &mut object["metadata"]["labels"];
    labels["app.kubernetes.io/name"] = json!("kubernaut");
    labels["app.kubernetes.io/version"] = json!(concat!("v", env!("CARGO_PKG_VERSION")));
    labels[MANAGED_BY] = json!("kubernaut-manifests");
}

/// Controller and Jobs are made for the strictest profile; nothing else belongs there.
fn namespaces(installation: &Installation) -> Vec<Value> {
    let namespace = |name: &str, component: &str| {
        let mut labels = labels(component);
        for mode in ["enforce", "audit", "warn"] {
            labels[format!("pod-security.kubernetes.io/{mode}")] = json!("restricted");
        }
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    };
    vec![
        namespace(&installation.controller_namespace, "controller"),
        namespace(&installation.settings.executor_namespace, "executor"),
    ]
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
}

/// What a watch asks for.
const FOLLOW: [&str; 2] = ["list", "watch"];

/// The policy without which no Approval counts, and its binding.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    pub(crate) policy: Value,
    pub(crate) binding: Value,
}

/// The policy without which no Approval counts, and its binding, as a controller in this namespace expects them.
pub fn approvals_policy(controller_namespace: &str) -> Expected {
    let [mut policy, mut binding] = policies::of_approvals(controller_namespace);
    Expected {
        policy: policy["spec"].take(),
        binding: binding["spec"].take(),
    }
}

fn the_policy_of_approvals() -> Value {
    let mut read = rule(
        "admissionregistration.k8s.io",
        &["validatingadmissionpolicies", "validatingadmissionpolicybindings"],
        &FOLLOW,
    );
    read["resourceNames"] = json!([names::APPROVALS_POLICY]);
    read
}

/// Nothing that the controller does not call: it writes its own resources and its Jobs, and reads targets.
fn controller(installation: &Installation) -> Vec<Value> {
    let Installation {
        settings,
        controller_namespace,
        ..
    } = installation;
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
            &["get", "list", "watch", "create", "patch", "delete"],
        ),
        rule(
            "kubernetesexecution.kubernaut.io",
            &["kubernetesexecutions/status"],
            &["patch"],
        ),
        rule("authorization.k8s.io", &["subjectaccessreviews"], &["create"]),
        rule("events.k8s.io", &["events"], &["create"]),
        rule("", &["serviceaccounts"], &["get"]),
        // Who approves, and where somebody has to. Nobody who runs workflows says that they are approved: there is no create here.
        rule("workflow.kubernaut.io", &["approvals"], &FOLLOW),
        rule("", &["namespaces"], &FOLLOW),
        the_policy_of_approvals(),
        // Targets, and what their state depends on.
        rule("", &["pods", "nodes"], &["get", "list"]),
        rule("", &["configmaps", "replicationcontrollers"], &["get"]),
        rule(
            "apps",
            &["deployments", "replicasets", "statefulsets", "daemonsets"],
            &["get"],
        ),
        // The newest ReplicaSet of a Deployment, whose pods a rollout waits for, has no name that is known before.
        rule("apps", &["replicasets"], &["list"]),
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
        json!([{"kind": "ServiceAccount", "name": CONTROLLER_ACCOUNT, "namespace": controller_namespace}]);
    let labels = labels("controller");
    let group = "rbac.authorization.k8s.io";
    let api_version = "rbac.authorization.k8s.io/v1";
    let in_executor =
        json!({"name": CONTROLLER_ACCOUNT, "namespace": settings.executor_namespace, "labels": labels});
    let at_home = json!({"name": CONTROLLER_ACCOUNT, "namespace": controller_namespace, "labels": labels});
    vec![
        json!({"apiVersion": "v1", "kind": "ServiceAccount",
               "metadata": {"name": CONTROLLER_ACCOUNT, "namespace": controller_namespace, "labels": labels}}),
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
