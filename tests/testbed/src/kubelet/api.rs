//! The fake kubelet's calls to the API server.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::status::PodReport;
use crate::error::TestbedError;

/// A stopped API server never answers; a busy one takes a second or two.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// HTTP/1.1 takes a connection for each request in flight, and two cores serve no more than this at once anyway.
const REQUESTS_AT_ONCE: usize = 16;

pub(super) struct KubeletApi {
    client: Client,
    scheduler: Client,
    slots: Semaphore,
}

impl KubeletApi {
    pub(super) fn new(client: Client, scheduler: Client) -> Self {
        Self {
            client,
            scheduler,
            slots: Semaphore::new(REQUESTS_AT_ONCE),
        }
    }

    /// A client for calls that [`persist`](Self::persist) is given.
    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Makes the node, ready and empty; one that is already there is left alone, cordoned or not.
    pub(super) async fn register_node(&self, name: &str, ip: &str) -> Result<(), TestbedError> {
        let nodes = Api::<Node>::all(self.client());
        let node: Node = serde_json::from_value(node(name, ip)).map_err(kube::Error::SerdeError)?;
        match nodes.create(&PostParams::default(), &node).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        // Admission taints a new node as not ready, and no controller is there to take that away.
        nodes
            .patch(
                name,
                &PatchParams::default(),
                &Patch::Merge(json!({"spec": {"taints": null}})),
            )
            .await?;
        Ok(())
    }

    pub(super) async fn bind(&self, pod: &Pod, node: &str) {
        let name = pod.name_any();
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": name, "namespace": pod.namespace(), "uid": pod.metadata.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let namespace = pod.namespace().unwrap_or_default();
        let pods = Api::<Pod>::namespaced(self.scheduler.clone(), &namespace);
        let params = PostParams::default();
        // Refused when it is gone or already bound; the watch tells of either.
        self.persist("bind", || {
            pods.create_subresource::<_, Value>("binding", &name, &params, &binding)
        })
        .await;
    }

    /// What a scheduler says of a pod that fits nowhere.
    pub(super) async fn report_unschedulable(&self, pod: &Pod) {
        let message = "0 nodes are available that the pod tolerates and may run on";
        let now = Timestamp::now();
        let event: Result<Event, _> = serde_json::from_value(json!({
            "metadata": {"generateName": format!("{}.", pod.name_any()), "namespace": pod.namespace()},
            "involvedObject": {"apiVersion": "v1", "kind": "Pod", "name": pod.name_any(),
                "namespace": pod.namespace(), "uid": pod.metadata.uid},
            "type": "Warning", "reason": "FailedScheduling", "message": message, "action": "Scheduling",
            "eventTime": MicroTime(now),
            "reportingComponent": "fake-kubelet", "reportingInstance": "fake-kubelet",
        }));
        if let (Ok(event), Some(namespace)) = (event, pod.namespace()) {
            let events = Api::<Event>::namespaced(self.client(), &namespace);
            let params = PostParams::default();
            self.persist("report an event", || events.create(&params, &event))
                .await;
        }
        let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": message});
        self.patch_status(
            pod,
            json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}}),
        )
        .await;
    }

    pub(super) async fn report(&self, pod: &Pod, report: &PodReport) {
        self.patch_status(pod, report.to_patch()).await;
    }

    /// The last word on a pod that was asked to go: nothing of it runs any more.
    pub(super) async fn confirm_deletion(&self, pod: &Pod) {
        let (pods, name) = (self.pods(pod), pod.name_any());
        let preconditions = Preconditions {
            uid: pod.metadata.uid.clone(),
            resource_version: None,
        };
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        self.persist("confirm a deletion", || pods.delete(&name, &params))
            .await;
    }

    /// Repeats a call until it succeeds or is definitely refused (`None`): a kubelet outlives its API server.
    pub(super) async fn persist<T, F>(&self, what: &str, mut call: impl FnMut() -> F) -> Option<T>
    where
        F: Future<Output = kube::Result<T>>,
    {
        let mut conflicts = 0;
        let mut pause = Duration::from_millis(100);
        loop {
            let result = {
                let _slot = self.slots.acquire().await.ok()?;
                tokio::time::timeout(REQUEST_TIMEOUT, call()).await
            };
            match result {
                Ok(Ok(value)) => return Some(value),
                Ok(Err(kube::Error::Api(status)))
                    if (400..500).contains(&status.code) && status.code != 429 =>
                {
                    // A patch may lose against others a few times; a uid that doesn't fit is a conflict for ever.
                    conflicts += if status.code == 409 { 1 } else { 5 };
                    if conflicts >= 5 {
                        tracing::debug!(what, %status, "refused");
                        return None;
                    }
                }
                Ok(Err(error)) => tracing::debug!(what, %error, "failed, trying again"),
                Err(_) => tracing::debug!(what, "no answer, trying again"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    async fn patch_status(&self, pod: &Pod, patch: Value) {
        let (pods, name, patch) = (self.pods(pod), pod.name_any(), Patch::Strategic(patch));
        let params = PatchParams::default();
        self.persist("report a status", || pods.patch_status(&name, &params, &patch))
            .await;
    }

    fn pods(&self, pod: &Pod) -> Api<Pod> {
        Api::namespaced(
            self.client(),
            pod.metadata.namespace.as_deref().unwrap_or("default"),
        )
    }
}

fn node(name: &str, ip: &str) -> Value {
    let resources = json!({"cpu": "64", "memory": "256Gi", "pods": "1000", "ephemeral-storage": "100Gi"});
    let now = Time(Timestamp::now());
    let condition = |name: &str, status: &str| json!({"type": name, "status": status, "reason": "Fake", "lastHeartbeatTime": now, "lastTransitionTime": now});
    json!({
        "metadata": {"name": name, "labels": {
            "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}},
        "status": {
            "capacity": resources, "allocatable": resources,
            "addresses": [{"type": "InternalIP", "address": ip}, {"type": "Hostname", "address": name}],
            "conditions": [
                condition("Ready", "True"), condition("MemoryPressure", "False"),
                condition("DiskPressure", "False"), condition("PIDPressure", "False"),
            ],
        },
    })
}
