//! Paths of kinds that are read by name. No discovery: the kinds are built in, and their plurals regular.
//!
//! Much of what is read is named by texts of objects that anybody may have written. This is the last place where such a
//! text can become another request than the one that was meant, so it lets nothing through that is more than a name.

use http::Request as HttpRequest;
use kube::Resource;
use kube::api::{GetParams, ListParams};
use kube::core::{ApiResource, DynamicObject, Request};
use serde_json::{Value, json};

/// The kinds that are read, and their plurals, which metrics name, too.
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
///
/// # Errors
/// A text that can be no part of a path, in words.
pub(crate) fn get(
    api_version: &str,
    kind: &str,
    namespace: Option<&str>,
    name: &str,
) -> Result<HttpRequest<Vec<u8>>, String> {
    let request = Request::new(path(api_version, kind, namespace)?);
    request
        .get(segment("the name", name)?, &GetParams::default())
        .map_err(|error| error.to_string())
}

/// GET of all objects that the parameters select.
///
/// # Errors
/// A text that can be no part of a path, in words.
pub(crate) fn list(
    api_version: &str,
    kind: &str,
    namespace: Option<&str>,
    parameters: &ListParams,
) -> Result<HttpRequest<Vec<u8>>, String> {
    Request::new(path(api_version, kind, namespace)?)
        .list(parameters)
        .map_err(|error| error.to_string())
}

/// Where objects of a kind are served. Each part is checked by itself, whoever checked it before.
fn path(api_version: &str, kind: &str, namespace: Option<&str>) -> Result<String, String> {
    let (group, version) = match api_version.split_once('/') {
        Some((group, version)) => (segment("the API group", group)?, version),
        None => ("", api_version),
    };
    let version = segment("the API version", version)?;
    let Some((_, plural)) = NAMES.iter().find(|(known, _)| *known == kind) else {
        return Err(format!(
            "kind {kind:?} can't stand in the path of a request: it is not known here"
        ));
    };
    let resource = ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        plural: (*plural).to_owned(),
    };
    let namespace = namespace
        .map(|namespace| segment("the namespace", namespace))
        .transpose()?;
    Ok(DynamicObject::url_path(&resource, namespace))
}

/// One segment of a path, and nothing that means more: no slash, question mark, escape, nor a way up.
fn segment<'a>(what: &str, text: &'a str) -> Result<&'a str, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    if text.is_empty() || text.contains("..") || text == "." || !text.chars().all(plain) {
        return Err(format!("{what} {text:?} can't stand in the path of a request"));
    }
    Ok(text)
}

/// Whether this is the object that was asked for: an answer that is another one says nothing of it.
///
/// # Errors
/// What came instead, in words.
pub(super) fn check_answer(
    found: &Value,
    api_version: &str,
    kind: &str,
    namespace: Option<&str>,
    name: &str,
) -> Result<(), String> {
    let metadata = &found["metadata"];
    let is_asked_for = found["apiVersion"] == api_version
        && found["kind"] == kind
        && metadata["namespace"].as_str() == namespace
        && metadata["name"] == name;
    if is_asked_for {
        return Ok(());
    }
    Err(format!(
        "asked for {kind} {} of {api_version}, the API server answered with {} {} of {}",
        [namespace, Some(name)]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("/"),
        found["kind"],
        metadata["name"],
        found["apiVersion"],
    ))
}

/// An object of a list without what no decision looks at and what makes it large: the images of a node, the containers of a pod
/// but for what they ask for, the template of a ReplicaSet.
pub(super) fn without_weight(kind: &str, mut object: Value) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    match kind {
        "Node" => {
            let mut status = object["status"].take();
            let (conditions, allocatable) = (status["conditions"].take(), status["allocatable"].take());
            object["status"] = json!({"conditions": conditions, "allocatable": allocatable});
        }
        "Pod" => {
            let mut spec = object["spec"].take();
            let containers = spec["containers"].as_array_mut().into_iter().flatten();
            let requests = containers.map(|container| container["resources"]["requests"].take());
            let requests = requests.filter(|requests| !requests.is_null());
            let containers: Vec<Value> = requests
                .map(|requests| json!({"resources": {"requests": requests}}))
                .collect();
            object["spec"] = json!({"nodeName": spec["nodeName"].take(), "containers": containers});
        }
        "ReplicaSet" => {
            if let Some(spec) = object["spec"].as_object_mut() {
                spec.remove("template");
            }
        }
        _ => {}
    }
    object
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_are_those_of_the_api_server() {
        let good = |api_version, kind, namespace| path(api_version, kind, namespace).expect("a path");
        assert_eq!(good("v1", "Node", None), "/api/v1/nodes");
        assert_eq!(
            good("apps/v1", "Deployment", Some("shop")),
            "/apis/apps/v1/namespaces/shop/deployments"
        );
        assert_eq!(
            good("networking.k8s.io/v1", "NetworkPolicy", Some("shop")),
            "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies"
        );
    }

    #[test]
    fn no_text_of_an_object_leads_elsewhere() {
        for api_version in [
            "",
            "/v1",
            "/v1/namespaces/victim/configmaps/private?x=",
            "apps/v1/namespaces/victim/deployments/x?y=",
            "v1%2Fpods",
            "v1%2Fpods?x=",
            "v1?x",
            "v1#",
            "v1\nfoo",
            "../v1",
            "apps/..",
            "v 1",
        ] {
            let problem = get(api_version, "ConfigMap", Some("shop"), "mine").expect_err(api_version);
            assert!(problem.contains("can't stand in the path"), "{problem}");
        }
        get("v1", "Config/Map", Some("shop"), "mine").expect_err("a slash in the kind");
        get("v1", "ConfigMap", Some("shop/pods"), "mine").expect_err("a slash in the namespace");
        for name in ["", "..", ".", "../x", "x/log", "x?watch=1", "x%2Flog"] {
            get("v1", "ConfigMap", Some("shop"), name).expect_err(name);
        }
    }

    proptest! {
        #[test]
        fn a_path_is_refused_or_has_just_the_segments_that_were_asked_for(
            api_version in "[a-z0-9/.?%#\\\\ ]{0,12}",
            kind in prop_oneof!["[A-Za-z/.%?]{0,8}", Just("ConfigMap".to_owned())],
            namespace in "[a-z./?%]{0,8}",
            name in "[a-z./?%#]{0,8}",
        ) {
            if let Ok(request) = get(&api_version, &kind, Some(&namespace), &name) {
                let uri = request.uri();
                prop_assert_eq!(uri.query().unwrap_or_default(), "");
                let segments: Vec<&str> = uri.path().split('/').collect();
                let plural = segments[segments.len() - 2];
                let expected = match api_version.split_once('/') {
                    Some((group, version)) => format!("/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}"),
                    None => format!("/api/{api_version}/namespaces/{namespace}/{plural}/{name}"),
                };
                prop_assert_eq!(uri.path(), expected);
                prop_assert!(!segments.contains(&".."));
            }
        }
    }

    #[test]
    fn an_answer_that_is_not_the_object_asked_for_is_told() {
        let found = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "shop", "name": "mine"}});
        assert_eq!(
            check_answer(&found, "v1", "ConfigMap", Some("shop"), "mine"),
            Ok(())
        );
        let other = check_answer(&found, "v1", "ConfigMap", Some("shop"), "other").expect_err("another name");
        assert!(
            other.contains("shop/other") && other.contains("\"mine\""),
            "{other}"
        );
        check_answer(&found, "v1", "ConfigMap", Some("victim"), "mine").expect_err("another namespace");
        check_answer(&found, "v1", "Secret", Some("shop"), "mine").expect_err("another kind");
        let list = json!({"apiVersion": "v1", "kind": "NodeList", "metadata": {}, "items": []});
        check_answer(&list, "v1", "ConfigMap", Some("shop"), "mine").expect_err("a list");
    }

    #[test]
    fn of_a_listed_object_what_is_large_is_dropped_and_what_decides_is_kept() {
        let metadata = json!({"name": "a", "labels": {"x": "y"}, "managedFields": [{}]});
        let slim = |kind: &str, spec: Value, status: Value| {
            let mut object = without_weight(
                kind,
                json!({"metadata": metadata, "spec": spec, "status": status}),
            );
            assert_eq!(
                object["metadata"].take(),
                json!({"name": "a", "labels": {"x": "y"}})
            );
            (object["spec"].take(), object["status"].take())
        };
        let taints = json!({"unschedulable": true, "taints": [{"key": "k", "effect": "NoSchedule"}]});
        assert_eq!(
            slim(
                "Node",
                taints.clone(),
                json!({"conditions": [{"type": "Ready"}], "allocatable": {"cpu": "4"}, "images": [{}]})
            ),
            (
                taints,
                json!({"conditions": [{"type": "Ready"}], "allocatable": {"cpu": "4"}})
            )
        );
        let requests = json!({"resources": {"requests": {"cpu": "1"}}});
        let status = json!({"phase": "Running"});
        assert_eq!(
            slim(
                "Pod",
                json!({"nodeName": "n1", "containers": [{}, {"image": "a", "resources": requests["resources"]}]}),
                status.clone()
            ),
            (json!({"nodeName": "n1", "containers": [requests]}), status)
        );
        let selector = json!({"selector": {"matchLabels": {"a": "b"}}});
        let mut spec = selector.clone();
        spec["template"] = json!({"spec": {}});
        assert_eq!(
            slim("ReplicaSet", spec, json!({"readyReplicas": 1})),
            (selector, json!({"readyReplicas": 1}))
        );
    }
}
