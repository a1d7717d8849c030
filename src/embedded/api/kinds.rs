//! The table of kinds: which resources exist, under which path, with which subresources.

use std::{collections::BTreeMap, sync::Arc};

use crate::api::schema::CustomSchema;

/// One resource in one version.
#[expect(clippy::struct_excessive_bools, reason = "as discovery tells it")]
#[derive(Debug)]
#[allow(clippy::struct_field_names, reason = "kind is what Kubernetes calls it")]
pub(crate) struct Kind {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) plural: String,
    pub(crate) kind: String,
    pub(crate) namespaced: bool,
    /// Has a status subresource: writes to the main resource then leave status alone.
    pub(crate) status: bool,
    pub(crate) scale: bool,
    /// Only create is served and nothing is stored (access reviews).
    pub(crate) create_only: bool,
    /// `plural.group`, as errors and RBAC print it.
    pub(crate) resource: String,
    /// Under which name objects are stored: two resources with one value share their objects.
    pub(crate) storage: Arc<str>,
    /// Present for custom resources.
    pub(crate) custom: Option<Arc<CustomSchema>>,
}

impl Kind {
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Whether its objects are stored in the form of another version or group.
    pub(crate) fn is_another_form(&self) -> bool {
        self.group == "events.k8s.io" || self.group == "autoscaling" && self.version == "v1"
    }

    pub(crate) fn is_resource(&self, resource: &str) -> bool {
        self.resource == resource
    }
}

/// Every served resource, by path, by kind and by where its objects are stored.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_field_names, reason = "they are three indexes of the same")]
pub(crate) struct Kinds {
    by_path: BTreeMap<(String, String, String), Arc<Kind>>,
    by_kind: BTreeMap<(String, String), Arc<Kind>>,
    by_storage: BTreeMap<Arc<str>, Arc<Kind>>,
}

const STATUS: u8 = 1;
const SCALE: u8 = 2;
const CLUSTER: u8 = 4;
const CREATE_ONLY: u8 = 8;

/// group, version, plural, kind, flags.
const BUILT_IN: &[(&str, &str, &str, &str, u8)] = &[
    ("", "v1", "namespaces", "Namespace", CLUSTER | STATUS),
    ("", "v1", "nodes", "Node", CLUSTER | STATUS),
    ("", "v1", "pods", "Pod", STATUS),
    ("", "v1", "configmaps", "ConfigMap", 0),
    ("", "v1", "secrets", "Secret", 0),
    ("", "v1", "serviceaccounts", "ServiceAccount", 0),
    ("", "v1", "events", "Event", 0),
    ("", "v1", "services", "Service", STATUS),
    ("", "v1", "endpoints", "Endpoints", 0),
    ("", "v1", "limitranges", "LimitRange", 0),
    ("", "v1", "resourcequotas", "ResourceQuota", STATUS),
    (
        "",
        "v1",
        "persistentvolumeclaims",
        "PersistentVolumeClaim",
        STATUS,
    ),
    (
        "",
        "v1",
        "persistentvolumes",
        "PersistentVolume",
        CLUSTER | STATUS,
    ),
    ("apps", "v1", "deployments", "Deployment", STATUS | SCALE),
    ("apps", "v1", "replicasets", "ReplicaSet", STATUS | SCALE),
    ("apps", "v1", "statefulsets", "StatefulSet", STATUS | SCALE),
    ("apps", "v1", "daemonsets", "DaemonSet", STATUS),
    ("batch", "v1", "jobs", "Job", STATUS),
    ("batch", "v1", "cronjobs", "CronJob", STATUS),
    (
        "policy",
        "v1",
        "poddisruptionbudgets",
        "PodDisruptionBudget",
        STATUS,
    ),
    (
        "autoscaling",
        "v1",
        "horizontalpodautoscalers",
        "HorizontalPodAutoscaler",
        STATUS,
    ),
    (
        "autoscaling",
        "v2",
        "horizontalpodautoscalers",
        "HorizontalPodAutoscaler",
        STATUS,
    ),
    ("rbac.authorization.k8s.io", "v1", "roles", "Role", 0),
    (
        "rbac.authorization.k8s.io",
        "v1",
        "rolebindings",
        "RoleBinding",
        0,
    ),
    (
        "rbac.authorization.k8s.io",
        "v1",
        "clusterroles",
        "ClusterRole",
        CLUSTER,
    ),
    (
        "rbac.authorization.k8s.io",
        "v1",
        "clusterrolebindings",
        "ClusterRoleBinding",
        CLUSTER,
    ),
    (
        "authorization.k8s.io",
        "v1",
        "subjectaccessreviews",
        "SubjectAccessReview",
        CLUSTER | CREATE_ONLY,
    ),
    (
        "authorization.k8s.io",
        "v1",
        "selfsubjectaccessreviews",
        "SelfSubjectAccessReview",
        CLUSTER | CREATE_ONLY,
    ),
    ("coordination.k8s.io", "v1", "leases", "Lease", 0),
    ("events.k8s.io", "v1", "events", "Event", 0),
    (
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        CLUSTER | STATUS,
    ),
    (
        "scheduling.k8s.io",
        "v1",
        "priorityclasses",
        "PriorityClass",
        CLUSTER,
    ),
    ("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", 0),
    ("networking.k8s.io", "v1", "ingresses", "Ingress", STATUS),
    (
        "networking.k8s.io",
        "v1",
        "ingressclasses",
        "IngressClass",
        CLUSTER,
    ),
    ("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", 0),
    ("storage.k8s.io", "v1", "storageclasses", "StorageClass", CLUSTER),
    (
        "admissionregistration.k8s.io",
        "v1",
        "validatingadmissionpolicies",
        "ValidatingAdmissionPolicy",
        CLUSTER | STATUS,
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        "validatingadmissionpolicybindings",
        "ValidatingAdmissionPolicyBinding",
        CLUSTER,
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        "validatingwebhookconfigurations",
        "ValidatingWebhookConfiguration",
        CLUSTER,
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        "mutatingwebhookconfigurations",
        "MutatingWebhookConfiguration",
        CLUSTER,
    ),
];

impl Kinds {
    pub(crate) fn built_in() -> Self {
        let mut kinds = Self::default();
        for (group, version, plural, kind, flags) in BUILT_IN {
            let resource = resource_name(plural, group);
            // Both Event APIs serve the same objects; they are stored in the core form.
            let storage: Arc<str> = if *group == "events.k8s.io" {
                Arc::from("events")
            } else {
                Arc::from(resource.as_str())
            };
            kinds.insert(Kind {
                group: (*group).to_owned(),
                version: (*version).to_owned(),
                plural: (*plural).to_owned(),
                kind: (*kind).to_owned(),
                namespaced: flags & CLUSTER == 0,
                status: flags & STATUS != 0,
                scale: flags & SCALE != 0,
                create_only: flags & CREATE_ONLY != 0,
                resource,
                storage,
                custom: None,
            });
        }
        kinds
    }

    pub(crate) fn insert(&mut self, kind: Kind) {
        let kind = Arc::new(kind);
        self.by_path.insert(
            (kind.group.clone(), kind.version.clone(), kind.plural.clone()),
            Arc::clone(&kind),
        );
        self.by_kind
            .insert((kind.api_version(), kind.kind.clone()), Arc::clone(&kind));
        if !kind.is_another_form() {
            self.by_storage.insert(Arc::clone(&kind.storage), kind);
        }
    }

    /// Takes a custom resource out again, in all its versions.
    pub(crate) fn remove(&mut self, resource: &str) {
        self.by_path.retain(|_, k| k.resource != resource);
        self.by_kind.retain(|_, k| k.resource != resource);
        self.by_storage.retain(|_, k| k.resource != resource);
    }

    pub(crate) fn by_path(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        self.by_path
            .get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
    }

    pub(crate) fn by_kind(&self, api_version: &str, kind: &str) -> Option<&Arc<Kind>> {
        self.by_kind.get(&(api_version.to_owned(), kind.to_owned()))
    }

    pub(crate) fn by_storage(&self, storage: &str) -> Option<&Arc<Kind>> {
        self.by_storage.get(storage)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.by_path.values()
    }
}

pub(crate) fn resource_name(plural: &str, group: &str) -> String {
    if group.is_empty() {
        plural.to_owned()
    } else {
        format!("{plural}.{group}")
    }
}

/// Whether the server itself has this kind.
pub(crate) fn is_built_in(api_version: &str, kind: &str) -> bool {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    BUILT_IN
        .iter()
        .any(|(g, v, _, k, _)| *g == group && *v == version && *k == kind)
}
