//! Paths of kinds that are read by name. No discovery: the kinds are built in, and their plurals regular.

use http::Request as HttpRequest;
use kube::Resource;
use kube::api::{GetParams, ListParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind, Request};

/// Plurals for metrics; whatever else is read counts as `other`.
const NAMES: [(&str, &str); 20] = [
    ("ConfigMap", "configmaps"),
    ("CronJob", "cronjobs"),
    ("DaemonSet", "daemonsets"),
    ("Deployment", "deployments"),
    ("HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    ("Ingress", "ingresses"),
    ("Job", "jobs"),
    ("LimitRange", "limitranges"),
    ("Namespace", "namespaces"),
    ("NetworkPolicy", "networkpolicies"),
    ("Node", "nodes"),
    ("PersistentVolumeClaim", "persistentvolumeclaims"),
    ("Pod", "pods"),
    ("PodDisruptionBudget", "poddisruptionbudgets"),
    ("ReplicaSet", "replicasets"),
    ("ReplicationController", "replicationcontrollers"),
    ("ResourceQuota", "resourcequotas"),
    ("Service", "services"),
    ("ServiceAccount", "serviceaccounts"),
    ("StatefulSet", "statefulsets"),
];

/// Name of the kind's resource in metrics.
pub(super) fn resource_name(kind: &str) -> &'static str {
    NAMES
        .iter()
        .find(|(known, _)| *known == kind)
        .map_or("other", |(_, plural)| plural)
}

/// GET of one object.
pub(super) fn get(
    api_version: &str,
    kind: &str,
    namespace: Option<&str>,
    name: &str,
) -> Result<HttpRequest<Vec<u8>>, String> {
    let request = Request::new(path(api_version, kind, namespace));
    request
        .get(name, &GetParams::default())
        .map_err(|error| error.to_string())
}

/// GET of all objects that the parameters select.
pub(super) fn list(
    api_version: &str,
    kind: &str,
    namespace: Option<&str>,
    parameters: &ListParams,
) -> Result<HttpRequest<Vec<u8>>, String> {
    Request::new(path(api_version, kind, namespace))
        .list(parameters)
        .map_err(|error| error.to_string())
}

fn path(api_version: &str, kind: &str, namespace: Option<&str>) -> String {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let kind = GroupVersionKind::gvk(group, version, kind);
    let mut resource = ApiResource::from_gvk(&kind);
    if let Some((_, plural)) = NAMES.iter().find(|(known, _)| *known == kind.kind) {
        (*plural).clone_into(&mut resource.plural);
    }
    DynamicObject::url_path(&resource, namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api_server() {
        assert_eq!(path("v1", "Node", None), "/api/v1/nodes");
        assert_eq!(
            path("apps/v1", "Deployment", Some("shop")),
            "/apis/apps/v1/namespaces/shop/deployments"
        );
        assert_eq!(
            path("networking.k8s.io/v1", "NetworkPolicy", Some("shop")),
            "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies"
        );
        assert_eq!(
            path("example.com/v1", "Widget", Some("shop")),
            "/apis/example.com/v1/namespaces/shop/widgets"
        );
    }
}
