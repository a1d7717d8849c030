//! Objects of the cases, and the short names of kinds.

use serde_json::{Value, json};

/// A kind by its short name.
pub(super) struct Short {
    word: &'static str,
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    pub(super) kind: &'static str,
    namespaced: bool,
}

impl Short {
    pub(super) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The path of a target.
    pub(super) fn path(&self, target: &str) -> String {
        let root = if self.group.is_empty() { "api" } else { "apis" };
        let place = if self.namespaced { "/namespaces/{ns}" } else { "" };
        let rest = &target[self.word.len()..];
        format!("/{root}/{}{place}/{}{rest}", self.api_version(), self.plural)
    }
}

const fn short(
    word: &'static str,
    group: &'static str,
    plural: &'static str,
    kind: &'static str,
    namespaced: bool,
) -> Short {
    Short {
        word,
        group,
        version: "v1",
        plural,
        kind,
        namespaced,
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";
const NETWORK: &str = "networking.k8s.io";
const ACCESS: &str = "authorization.k8s.io";

const KINDS: &[Short] = &[
    short("quota", "", "resourcequotas", "ResourceQuota", true),
    short("pvc", "", "persistentvolumeclaims", "PersistentVolumeClaim", true),
    short("ns", "", "namespaces", "Namespace", false),
    short("node", "", "nodes", "Node", false),
    short("cm", "", "configmaps", "ConfigMap", true),
    short("secret", "", "secrets", "Secret", true),
    short("sa", "", "serviceaccounts", "ServiceAccount", true),
    short("pod", "", "pods", "Pod", true),
    short("event", "", "events", "Event", true),
    short("svc", "", "services", "Service", true),
    short("newevent", "events.k8s.io", "events", "Event", true),
    short("deploy", "apps", "deployments", "Deployment", true),
    short("rs", "apps", "replicasets", "ReplicaSet", true),
    short("sts", "apps", "statefulsets", "StatefulSet", true),
    short("ds", "apps", "daemonsets", "DaemonSet", true),
    short("job", "batch", "jobs", "Job", true),
    short("lease", "coordination.k8s.io", "leases", "Lease", true),
    short(
        "pdb",
        "policy",
        "poddisruptionbudgets",
        "PodDisruptionBudget",
        true,
    ),
    short("role", RBAC, "roles", "Role", true),
    short("binding", RBAC, "rolebindings", "RoleBinding", true),
    short("clusterrole", RBAC, "clusterroles", "ClusterRole", false),
    short(
        "clusterbinding",
        RBAC,
        "clusterrolebindings",
        "ClusterRoleBinding",
        false,
    ),
    short(
        "review",
        ACCESS,
        "subjectaccessreviews",
        "SubjectAccessReview",
        false,
    ),
    short(
        "selfreview",
        ACCESS,
        "selfsubjectaccessreviews",
        "SelfSubjectAccessReview",
        false,
    ),
    short(
        "crd",
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        false,
    ),
    short("ingress", NETWORK, "ingresses", "Ingress", true),
    short("ingressclass", NETWORK, "ingressclasses", "IngressClass", false),
    short("netpol", NETWORK, "networkpolicies", "NetworkPolicy", true),
    Short {
        word: "hpa",
        group: "autoscaling",
        version: "v2",
        plural: "horizontalpodautoscalers",
        kind: "HorizontalPodAutoscaler",
        namespaced: true,
    },
    short("plan", "conformance.kubernaut.io", "plans", "Plan", true),
    short(
        "wfe",
        "workflow.kubernaut.io",
        "workflowexecutions",
        "WorkflowExecution",
        true,
    ),
    short(
        "ke",
        "kubernetesexecution.kubernaut.io",
        "kubernetesexecutions",
        "KubernetesExecution",
        true,
    ),
];

/// The kind that a target begins with; none for a path.
pub(super) fn kind_of(target: &str) -> Option<&'static Short> {
    let word = target.split(['/', '?']).next()?;
    KINDS.iter().find(|kind| kind.word == word)
}

pub(super) fn named(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

pub(super) fn config(name: &str, data: Value) -> Value {
    json!({"metadata": {"name": name}, "data": data})
}

pub(super) fn pod_spec() -> Value {
    json!({"containers": [{"name": "app", "image": "registry.example/app:1"}]})
}

/// A Deployment and what is like it.
pub(super) fn workload(name: &str, replicas: u32) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod_spec()},
        },
    })
}

/// A pod on a node that has no kubelet.
pub(super) fn pod(name: &str) -> Value {
    let mut spec = pod_spec();
    spec["nodeName"] = json!("nowhere");
    json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": spec})
}

pub(super) fn job(name: &str) -> Value {
    let mut spec = pod_spec();
    spec["restartPolicy"] = json!("Never");
    json!({
        "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "suspend": true, "template": {"spec": spec}},
    })
}

pub(super) fn execution(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"action": "cordon-node", "parameters": {"cordonNode": {"node": "n1"}}},
    })
}

pub(super) fn workflow(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"workflowDefinition": {"name": "fix", "version": "v1", "steps": [
            {"stepNumber": 1, "name": "one", "action": "scale-deployment",
             "parameters": {"scaleDeployment": {"namespace": "shop", "deployment": "web", "replicas": 2}}},
            {"stepNumber": 2, "name": "two", "action": "cordon-node", "dependsOn": [1],
             "parameters": {"cordonNode": {"nodeName": "n1"}}},
        ]}},
    })
}

pub(super) fn plan(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": spec})
}

/// An owner reference to what an answer holds.
pub(super) fn owned_by(owner: &super::answer::Answer, blocking: bool) -> Value {
    json!([{
        "apiVersion": owner.at("/apiVersion"), "kind": owner.at("/kind"), "name": owner.at("/metadata/name"),
        "uid": owner.uid(), "blockOwnerDeletion": blocking,
    }])
}

/// Sets a value by its JSON pointer; the last part may be new. `null` removes.
pub(super) fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    let parent = object
        .pointer_mut(parent)
        .unwrap_or_else(|| panic!("{pointer}: no parent"));
    if let Value::Array(items) = parent {
        items[key.parse::<usize>().expect("an index")] = value;
    } else if value.is_null() {
        drop(parent.as_object_mut().expect("an object").remove(key));
    } else {
        parent[key] = value;
    }
    object
}

/// A kind of objects with every sort of rule that schemas have.
pub(crate) fn definition() -> Value {
    let step = json!({
        "type": "object", "required": ["number"],
        "properties": {
            "number": {"type": "integer"},
            "name": {"type": "string"},
            "retry": {"type": "object", "default": {}, "properties": {
                "times": {"type": "integer", "default": 3},
                "pause": {"type": "string", "default": "1s"},
            }},
        },
    });
    let spec = json!({
        "type": "object", "required": ["size"],
        "x-kubernetes-validations": [
            {"rule": "self.size == oldSelf.size", "message": "size is immutable"},
            {"rule": "!has(self.steps) || self.steps.all(s, s.number <= self.size)",
             "message": "a step is beyond the size"},
            {"rule": "!has(self.owner) || self.owner != 'nobody'", "fieldPath": ".owner",
             "reason": "FieldValueForbidden", "message": "nobody owns nothing"},
            {"rule": "!has(self.small) || self.small < self.size",
             "messageExpression": "self.small > 50 ? 'small is large' : 'small must be below the size'"},
        ],
        "properties": {
            "size": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 100},
            "small": {"type": "integer"},
            "ratio": {"type": "number", "minimum": 0, "exclusiveMinimum": true},
            "mode": {"type": "string", "enum": ["fast", "slow"], "default": "fast"},
            "timeout": {"type": "string", "pattern": "^[0-9]+s$", "minLength": 2, "maxLength": 8},
            "owner": {"type": "string"},
            "at": {"type": "string", "format": "date-time"},
            "note": {"type": "string", "nullable": true},
            "on": {"type": "boolean"},
            "port": {"x-kubernetes-int-or-string": true},
            "labels": {"type": "object", "maxProperties": 2, "minProperties": 1,
                "additionalProperties": {"type": "string", "maxLength": 5}},
            "anything": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "tags": {"type": "array", "x-kubernetes-list-type": "set", "minItems": 1,
                "items": {"type": "string"}, "maxItems": 4},
            "steps": {"type": "array", "maxItems": 3, "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["number"], "items": step},
            "one": {
                "type": "object",
                "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
            },
            "any": {
                "type": "object",
                "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
            },
        },
    });
    let status = json!({"type": "object", "properties": {
        "phase": {"type": "string", "enum": ["early", "late"]},
        "count": {"type": "integer"},
    }});
    let version = json!({
        "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
        "selectableFields": [{"jsonPath": ".status.phase"}],
        "schema": {"openAPIV3Schema": {
            "type": "object", "required": ["spec"], "properties": {"spec": spec, "status": status},
        }},
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "plans.conformance.kubernaut.io"},
        "spec": {
            "group": "conformance.kubernaut.io", "scope": "Namespaced",
            "names": {"plural": "plans", "singular": "plan", "kind": "Plan", "listKind": "PlanList"},
            "versions": [version],
        },
    })
}
