//! What a test says in a namespace of its own: targets, workflows, and what becomes of them.

use std::time::{Duration, Instant};

use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::bed::{Bed, server};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) const WORKFLOW: &str = "workflow.kubernaut.io/v1/WorkflowExecution";
pub(crate) const EXECUTION: &str = "kubernetesexecution.kubernaut.io/v1/KubernetesExecution";

/// A namespace in a bed, and a client of the test's own runtime that may do everything.
pub(crate) struct Scene<'a> {
    pub(crate) bed: &'a Bed,
    pub(crate) client: Client,
    pub(crate) namespace: String,
}

impl<'a> Scene<'a> {
    /// A new namespace whose account `default` may do everything in it, and nothing elsewhere.
    pub(crate) async fn new(bed: &'a Bed, namespace: &str) -> Self {
        let scene = Self::bare(bed, namespace).await;
        scene.grant("RoleBinding", "admin", namespace).await;
        scene
    }

    /// A namespace whose account `default` may do everything everywhere: nodes belong to no namespace.
    pub(crate) async fn of_a_cluster_admin(bed: &'a Bed, namespace: &str) -> Self {
        let scene = Self::bare(bed, namespace).await;
        scene
            .grant("ClusterRoleBinding", "cluster-admin", namespace)
            .await;
        scene
    }

    /// A new namespace whose accounts may do nothing.
    pub(crate) async fn bare(bed: &'a Bed, namespace: &str) -> Self {
        let scene = Self {
            bed,
            client: bed.client().await,
            namespace: namespace.to_owned(),
        };
        scene
            .create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}))
            .await;
        scene
            .eventually("the account default", async || {
                scene.find("v1/ServiceAccount", "default").await
            })
            .await;
        scene
    }

    async fn grant(&self, kind: &str, role: &str, namespace: &str) {
        let metadata = match kind {
            "RoleBinding" => json!({"name": "tests", "namespace": namespace}),
            _ => json!({"name": format!("tests-{namespace}")}),
        };
        self.create(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": namespace}],
        }))
        .await;
    }

    /// `kind` is apiVersion/kind; objects of a namespace are looked for in this one.
    pub(crate) fn api(&self, kind: &str) -> Api<DynamicObject> {
        api(&self.client, kind, &self.namespace)
    }

    /// Creates an object, in this namespace when it names none.
    pub(crate) async fn create(&self, object: Value) -> Value {
        self.try_create(object).await.expect("accepted")
    }

    pub(crate) async fn try_create(&self, object: Value) -> Result<Value, kube::Error> {
        let text = |field: &str| object[field].as_str().expect("a text").to_owned();
        let kind = format!("{}/{}", text("apiVersion"), text("kind"));
        let namespace = object["metadata"]["namespace"]
            .as_str()
            .unwrap_or(&self.namespace)
            .to_owned();
        let typed = serde_json::from_value(object).expect("an object");
        let created = api(&self.client, &kind, &namespace)
            .create(&PostParams::default(), &typed)
            .await?;
        Ok(serde_json::to_value(created).expect("JSON"))
    }

    pub(crate) async fn find(&self, kind: &str, name: &str) -> Option<Value> {
        let found = self.api(kind).get_opt(name).await.expect("an answer");
        found.map(|object| serde_json::to_value(object).expect("JSON"))
    }

    pub(crate) async fn get(&self, kind: &str, name: &str) -> Value {
        self.find(kind, name)
            .await
            .unwrap_or_else(|| panic!("{kind} {name} exists"))
    }

    pub(crate) async fn list(&self, kind: &str, labels: &str) -> Vec<Value> {
        let selector = ListParams::default().labels(labels);
        let list = self.api(kind).list(&selector).await.expect("a list");
        let items = list.items.into_iter();
        items
            .map(|object| serde_json::to_value(object).expect("JSON"))
            .collect()
    }

    pub(crate) async fn patch(&self, kind: &str, name: &str, patch: &Value) {
        self.api(kind)
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .expect("patched");
    }

    pub(crate) async fn delete(&self, kind: &str, name: &str) {
        self.api(kind)
            .delete(name, &DeleteParams::default())
            .await
            .expect("deleted");
    }

    /// Asks until there is an answer.
    pub(crate) async fn eventually<T>(&self, what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            assert!(
                Instant::now() < deadline,
                "waited in vain: {what}; the controller says of {}:\n{}",
                self.namespace,
                self.bed.log_about(&self.namespace)
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A Deployment with as many ready pods, labelled `app: NAME`.
    pub(crate) async fn deployment(&self, name: &str, replicas: i32) {
        self.deployment_with(name, replicas, json!({})).await;
    }

    /// A Deployment with more in its pods' spec.
    pub(crate) async fn deployment_with(&self, name: &str, replicas: i32, more: Value) {
        let mut pod = json!({"containers": [server()], "terminationGracePeriodSeconds": 1});
        merge(&mut pod, more);
        self.create(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
            },
        }))
        .await;
        self.eventually("ready pods", async || {
            let deployment = self.get(DEPLOYMENT, name).await;
            (deployment["status"]["readyReplicas"].as_i64().unwrap_or(0) == i64::from(replicas)
                && deployment["status"]["observedGeneration"].is_i64())
            .then_some(())
        })
        .await;
    }

    /// A StatefulSet with ready pods.
    pub(crate) async fn stateful_set(&self, name: &str, replicas: i32) {
        let pod = json!({"containers": [server()], "terminationGracePeriodSeconds": 1});
        self.create(json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name},
            "spec": {
                "replicas": replicas,
                "serviceName": name,
                "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
            },
        }))
        .await;
        self.eventually("ready pods", async || {
            let set = self.get(STATEFUL_SET, name).await;
            (set["status"]["readyReplicas"].as_i64() == Some(replicas.into())).then_some(())
        })
        .await;
    }

    pub(crate) async fn config_map(&self, name: &str, data: Value) {
        self.create(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}),
        )
        .await;
    }

    /// Starts a workflow; `more` is merged into its spec.
    pub(crate) async fn start(&self, name: &str, steps: Value, more: Value) -> Value {
        self.create(workflow(name, steps, more)).await
    }

    /// The workflow when it has ended.
    pub(crate) async fn ended(&self, name: &str) -> Value {
        self.when_ended(WORKFLOW, name).await
    }

    /// The execution when it has ended.
    pub(crate) async fn execution_ended(&self, name: &str) -> Value {
        self.when_ended(EXECUTION, name).await
    }

    async fn when_ended(&self, kind: &str, name: &str) -> Value {
        self.eventually(&format!("the end of {name}"), async || {
            let object = self.get(kind, name).await;
            let phase = object["status"]["phase"].as_str().unwrap_or_default();
            matches!(phase, "completed" | "failed").then_some(object)
        })
        .await
    }

    pub(crate) async fn workflow(&self, name: &str) -> Value {
        self.get(WORKFLOW, name).await
    }

    pub(crate) async fn execution(&self, name: &str) -> Value {
        self.get(EXECUTION, name).await
    }

    /// Runs a workflow to its end, which must be success.
    pub(crate) async fn run(&self, name: &str, steps: Value) -> Value {
        self.start(name, steps, json!({})).await;
        self.succeeded(name).await
    }

    /// The workflow when it has completed with success.
    pub(crate) async fn succeeded(&self, name: &str) -> Value {
        let ended = self.ended(name).await;
        assert_eq!(
            ended["status"]["workflowResult"]["outcome"],
            "success",
            "{}\n{}",
            pretty(&ended["status"]),
            self.bed.log_about(&self.namespace)
        );
        ended
    }

    /// Our Jobs for this namespace's executions.
    pub(crate) async fn jobs(&self) -> Vec<Value> {
        let labels = format!("kubernaut.io/execution-namespace={}", self.namespace);
        let jobs = api(&self.client, JOB, EXECUTOR);
        let list = jobs
            .list(&ListParams::default().labels(&labels))
            .await
            .expect("a list");
        let items = list.items.into_iter();
        items
            .map(|object| serde_json::to_value(object).expect("JSON"))
            .collect()
    }
}

pub(crate) const EXECUTOR: &str = "kubernaut-executor";
pub(crate) const DEPLOYMENT: &str = "apps/v1/Deployment";
pub(crate) const STATEFUL_SET: &str = "apps/v1/StatefulSet";
pub(crate) const CONFIG_MAP: &str = "v1/ConfigMap";
pub(crate) const POD: &str = "v1/Pod";
pub(crate) const NODE: &str = "v1/Node";
pub(crate) const JOB: &str = "batch/v1/Job";

/// Kinds of objects that belong to no namespace and are used here.
const CLUSTER_WIDE: [&str; 8] = [
    "Namespace",
    "Node",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
];

/// `kind` is apiVersion/kind.
pub(crate) fn api(client: &Client, kind: &str, namespace: &str) -> Api<DynamicObject> {
    let (api_version, kind) = kind.rsplit_once('/').expect("apiVersion/kind");
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    if CLUSTER_WIDE.contains(&kind) {
        Api::all_with(client.clone(), &resource)
    } else {
        Api::namespaced_with(client.clone(), namespace, &resource)
    }
}

pub(crate) fn workflow(name: &str, steps: Value, more: Value) -> Value {
    let mut spec = json!({"workflowDefinition": {"name": name, "version": "v1", "steps": steps}});
    merge(&mut spec, more);
    json!({"apiVersion": "workflow.kubernaut.io/v1", "kind": "WorkflowExecution",
           "metadata": {"name": name}, "spec": spec})
}

/// An execution made by hand, approved.
pub(crate) fn execution(name: &str, action: &str, parameters: Value, more: Value) -> Value {
    let mut spec = json!({"action": action, "parameters": parameters, "approvalReceived": true});
    merge(&mut spec, more);
    json!({"apiVersion": "kubernetesexecution.kubernaut.io/v1", "kind": "KubernetesExecution",
           "metadata": {"name": name}, "spec": spec})
}

/// A step; `more` is merged into it.
pub(crate) fn step(number: i64, action: &str, parameters: Value, more: Value) -> Value {
    let mut step = json!({"stepNumber": number, "name": format!("step-{number}"), "action": action,
                          "parameters": parameters});
    merge(&mut step, more);
    step
}

/// Sets each member of `more`, deep.
pub(crate) fn merge(base: &mut Value, more: Value) {
    match (base, more) {
        (Value::Object(base), Value::Object(more)) => {
            for (key, value) in more {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, more) => *base = more,
    }
}

/// The phases that an object went through.
pub(crate) fn phases(object: &Value) -> Vec<&str> {
    let transitions = object["status"]["phaseTransitions"].as_array();
    let transitions = transitions.into_iter().flatten();
    transitions
        .map(|transition| transition["phase"].as_str().expect("a phase"))
        .collect()
}

pub(crate) fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("JSON")
}

/// A turn for the tests that use the account of update-secret: one of them takes its rights away for a moment.
pub(crate) async fn secret_account() -> tokio::sync::MutexGuard<'static, ()> {
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    TURN.lock().await
}
