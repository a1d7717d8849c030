//! The controller as pods: two, one of which leads, and what keeps them running and apart from others.

use serde_json::{Value, json};

use super::{CONTROLLER_ACCOUNT, Installation, POLICY_DIRECTORY, POLICY_VOLUME, labels};
use crate::config::HTTP_PORT;

/// The user of the image, which has no names for numbers.
const USER: u32 = 65_532;
/// Longer than the controller takes to end: its actors, with the calls under way, have 20 s, and its lease 3 s to be given up.
const GRACE_SECONDS: u32 = 45;
/// Name of the class of the controller's pods. Not a system class: those are for what a cluster can't do without.
pub(super) const PRIORITY_CLASS: &str = "kubernaut-controller";
/// Above what is deployed without a class of its own (0), far below the cluster's own classes (2,000,000,000).
const PRIORITY: u32 = 1_000_000;

/// What runs the controller of an image.
pub(super) fn pods(installation: &Installation, image: &str) -> Vec<Value> {
    let namespace = &installation.controller_namespace;
    let labels = labels("controller");
    let metadata = json!({"name": CONTROLLER_ACCOUNT, "namespace": namespace, "labels": labels});
    let mut args = vec!["controller".to_owned()];
    args.extend(installation.flags.iter().cloned());
    let probe = |path: &str, period: u32| json!({"httpGet": {"path": path, "port": "http"}, "periodSeconds": period, "timeoutSeconds": 3});
    let mut container = json!({
        "name": "controller",
        "image": image,
        "args": args,
        "ports": [{"name": "http", "containerPort": HTTP_PORT}],
        "livenessProbe": probe("/livez", 10),
        "readinessProbe": probe("/readyz", 5),
        // Idle it takes 12 MiB, with 200 workflows at once less than 70. No limit for the processor: a controller that
        // is held back renews its lease late.
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
    });
    let mut spec = json!({
        "serviceAccountName": CONTROLLER_ACCOUNT,
        "priorityClassName": PRIORITY_CLASS,
        // A Service named kubernaut-something would otherwise set variables that look like flags.
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [{
            "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": labels},
        }],
        "containers": [],
    });
    if let Some(name) = &installation.policy_config_map {
        // All of it, not single files: only then a change of the ConfigMap is shown in a running pod.
        container["volumeMounts"] =
            json!([{"name": POLICY_VOLUME, "mountPath": POLICY_DIRECTORY, "readOnly": true}]);
        spec["volumes"] = json!([{"name": POLICY_VOLUME, "configMap": {"name": name}}]);
    }
    spec["containers"] = json!([container]);
    vec![
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
               "metadata": {"name": PRIORITY_CLASS, "labels": labels}, "value": PRIORITY,
               "description": "The controller of kubernaut: it has to run when a cluster is full."}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
        "spec": {
            // One leads, the other takes over.
            "replicas": 2,
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        }}),
        // A replica that is not ready protects nothing and must not hold up a drain.
        json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata,
               "spec": {"maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow",
                        "selector": {"matchLabels": labels}}}),
    ]
}

/// Who may talk to whom, where the cluster's network enforces it: controller and Jobs reach name servers and the API
/// server, and only the controller's probes and metrics are reached.
///
/// The API server is no pod and its address is different in each cluster, so its ports stand for it: 443 of its Service,
/// 6443 of most API servers behind it.
pub(super) fn network_policies(installation: &Installation) -> Vec<Value> {
    let port = |protocol: &str, port: u16| json!({"protocol": protocol, "port": port});
    let egress = json!([
        {"ports": [port("UDP", 53), port("TCP", 53)]},
        {"ports": [port("TCP", 443), port("TCP", 6443)]},
    ]);
    let policy = |name: &str, namespace: &str, component: &str, spec: Value| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
               "metadata": {"name": name, "namespace": namespace, "labels": labels(component)}, "spec": spec})
    };
    let executor = policy(
        "kubernaut-executor",
        &installation.settings.executor_namespace,
        "executor",
        // Every pod there: nothing but Jobs runs in that namespace.
        json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "egress": egress}),
    );
    let controller = policy(
        CONTROLLER_ACCOUNT,
        &installation.controller_namespace,
        "controller",
        json!({"podSelector": {"matchLabels": labels("controller")}, "policyTypes": ["Ingress", "Egress"],
               "ingress": [{"ports": [port("TCP", HTTP_PORT)]}], "egress": egress}),
    );
    vec![controller, executor]
}
