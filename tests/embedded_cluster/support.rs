//! What the cases share: clusters, objects, Jobs as the executor makes them.

use std::{sync::Arc, time::Duration};

use embedded_cluster::{EmbeddedCluster, EmbeddedOptions, PodScript, Rbac, User};
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{ConfigMap, Pod},
};
use kube::{
    Api, Client, Error,
    api::{ListParams, PostParams},
    core::{DynamicObject, Status},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub(crate) fn cluster() -> (EmbeddedCluster, Client) {
    let cluster = EmbeddedCluster::new(EmbeddedOptions::default());
    let client = cluster.client(User::admin());
    (cluster, client)
}

pub(crate) fn strict_cluster() -> (EmbeddedCluster, Client) {
    let options = EmbeddedOptions {
        rbac: Rbac::Evaluate,
        ..EmbeddedOptions::default()
    };
    let cluster = EmbeddedCluster::new(options);
    let client = cluster.client(User::admin());
    (cluster, client)
}

pub(crate) fn typed<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("a valid object")
}

pub(crate) fn status<T: std::fmt::Debug>(result: Result<T, Error>) -> Status {
    match result {
        Err(Error::Api(status)) => *status,
        other => panic!("expected a Status, got {other:?}"),
    }
}

pub(crate) fn config_map(name: &str, data: Value) -> ConfigMap {
    typed(json!({"metadata": {"name": name}, "data": data}))
}

pub(crate) fn config_maps(client: &Client) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), "default")
}

pub(crate) fn deployment(name: &str, replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "app", "image": "example/app:1"}]},
            },
        },
    })
}

pub(crate) async fn create_deployment(client: &Client, name: &str, replicas: u32) -> Deployment {
    Api::<Deployment>::namespaced(client.clone(), "default")
        .create(&PostParams::default(), &typed(deployment(name, replicas)))
        .await
        .expect("created")
}

pub(crate) async fn get_deployment(client: &Client, name: &str) -> Deployment {
    Api::<Deployment>::namespaced(client.clone(), "default")
        .get(name)
        .await
        .expect("found")
}

pub(crate) async fn pods(client: &Client, selector: &str) -> Vec<Pod> {
    Api::<Pod>::all(client.clone())
        .list(&ListParams::default().labels(selector))
        .await
        .expect("listed")
        .items
}

pub(crate) fn node(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}})
}

/// A Job as the executor renders it: one kubectl, its payload an annotation.
pub(crate) fn job(name: &str, arguments: &[&str], payload: &str) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": name, "namespace": "executor"},
        "spec": {
            "backoffLimit": 0, "activeDeadlineSeconds": 60, "ttlSecondsAfterFinished": 3600,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": [
                {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            ]},
            "template": {
                "metadata": {
                    "annotations": {"kubernaut.io/payload": payload},
                    "labels": {"kubernaut.io/execution-uid": "u"},
                },
                "spec": {
                    "serviceAccountName": "acting", "restartPolicy": "Never",
                    "containers": [{
                        "name": "kubectl", "image": "registry.k8s.io/kubectl:v1.35.4", "args": arguments,
                        "terminationMessagePolicy": "FallbackToLogsOnError",
                        "volumeMounts": [{"name": "payload", "mountPath": "/payload"}],
                    }],
                    "volumes": [{"name": "payload", "downwardAPI": {"items": [
                        {"path": "patch.json",
                         "fieldRef": {"fieldPath": "metadata.annotations['kubernaut.io/payload']"}},
                    ]}}],
                },
            },
        },
    })
}

/// The namespace and account that Jobs run with; the account may do what the rules say.
pub(crate) fn executor(rules: &Value) -> Vec<Value> {
    vec![
        json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "acting", "namespace": "executor"}}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "acting"}, "rules": rules}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "acting"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "acting"},
            "subjects": [{"kind": "ServiceAccount", "name": "acting", "namespace": "executor"}]}),
    ]
}

pub(crate) fn jobs(client: &Client) -> Api<Job> {
    Api::namespaced(client.clone(), "executor")
}

pub(crate) async fn create_job(client: &Client, job: Value) -> Job {
    jobs(client)
        .create(&PostParams::default(), &typed(job))
        .await
        .expect("created")
}

pub(crate) async fn create_object(client: &Client, object: Value) -> Result<DynamicObject, Error> {
    let object: DynamicObject = typed(object);
    let types = object.types.clone().expect("typed");
    let gvk = kube::core::GroupVersionKind::try_from(&types).expect("a kind");
    let resource = kube::core::ApiResource::from_gvk(&gvk);
    let api: Api<DynamicObject> = match &object.metadata.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    api.create(&PostParams::default(), &object).await
}

pub(crate) fn condition(job: &Job, kind: &str) -> Option<(String, String)> {
    job.status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|c| c.type_ == kind && c.status == "True")
        .map(|c| {
            (
                c.reason.clone().unwrap_or_default(),
                c.message.clone().unwrap_or_default(),
            )
        })
}

/// Lets a Job run to its end; how it ended and what its pod said.
pub(crate) async fn run_job(client: &Client, object: Value) -> (String, String) {
    let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
    create_job(client, object).await;
    for _ in 0..2000 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let Some(job) = jobs(client).get_opt(&name).await.expect("read") else {
            return ("Gone".to_owned(), String::new());
        };
        for kind in ["Complete", "Failed"] {
            if condition(&job, kind).is_some() {
                return (kind.to_owned(), last_words(client, &name).await);
            }
        }
    }
    panic!("the Job {name} did not end");
}

pub(crate) async fn last_words(client: &Client, job: &str) -> String {
    let pods = pods(client, &format!("batch.kubernetes.io/job-name={job}")).await;
    let Some(status) = pods.first().and_then(|p| p.status.clone()) else {
        return String::new();
    };
    let statuses = status
        .init_container_statuses
        .unwrap_or_default()
        .into_iter()
        .chain(status.container_statuses.unwrap_or_default());
    statuses
        .filter_map(|s| s.state?.terminated?.message)
        .collect::<String>()
}

/// What a GET of this path answers.
pub(crate) async fn get(client: &Client, path: &str) -> Value {
    let request = http::Request::get(path).body(Vec::new()).expect("a request");
    client.request(request).await.expect(path)
}

/// The items of the list at this path.
pub(crate) async fn items(client: &Client, path: &str) -> Vec<Value> {
    get(client, path).await["items"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

/// Changes what is at this path by a merge patch.
pub(crate) async fn merge(client: &Client, path: &str, patch: Value) -> Value {
    let request = http::Request::patch(path)
        .header("content-type", "application/merge-patch+json")
        .body(patch.to_string().into_bytes());
    client.request(request.expect("a request")).await.expect(path)
}

/// Deletes what is at this path.
pub(crate) async fn remove(client: &Client, path: &str) -> Value {
    let request = http::Request::delete(path).body(Vec::new()).expect("a request");
    client.request(request).await.expect(path)
}

pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";

/// Lets this many seconds of the cluster's time pass.
pub(crate) async fn seconds(number: u64) {
    tokio::time::sleep(Duration::from_secs(number)).await;
}

/// Every pod that serves takes so many seconds until it is ready.
pub(crate) fn ready_after(cluster: &EmbeddedCluster, number: u64) {
    cluster.script_pods(Arc::new(move |_| {
        Some(PodScript::Run {
            after: Duration::from_secs(number),
        })
    }));
}

pub(crate) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions
        .filter(|condition| condition["type"] == "Ready")
        .any(|condition| condition["status"] == "True")
}

pub(crate) fn is_leaving(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_string()
}

/// The names of these objects.
pub(crate) fn names(objects: &[Value]) -> Vec<&str> {
    objects
        .iter()
        .filter_map(|object| object["metadata"]["name"].as_str())
        .collect()
}

/// A StatefulSet, or a DaemonSet without replicas.
pub(crate) fn workload(kind: &str, name: &str, more: Value) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "a", "image": "example/a:1"}]},
            },
        },
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        object["spec"][field] = value.clone();
    }
    object
}

/// A patch that gives the pods of a template another image.
pub(crate) fn image(name: &str, image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": name, "image": image}]}}}})
}
