//! One control plane for the tests that don't disturb each other, and what they say in it.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use kubernaut_testbed::{
    ControlPlane, ControlPlaneOptions, FakeKubelet, FakeKubeletOptions, KubectlRun, PodScript,
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

pub(crate) struct Bed {
    pub(crate) control_plane: ControlPlane,
    pub(crate) kubelet: FakeKubelet,
}

/// One control plane for the tests that don't disturb each other: each works in a namespace of its own. A pod's
/// annotation `script` says what shall happen to it.
pub(crate) async fn bed() -> &'static Bed {
    static BED: OnceCell<Bed> = OnceCell::const_new();
    let start = async || {
        let options = ControlPlaneOptions {
            audit_log: true,
            ..ControlPlaneOptions::default()
        };
        let control_plane = ControlPlane::start(options).await.expect("a control plane");
        let options = FakeKubeletOptions {
            nodes: 3,
            ..FakeKubeletOptions::default()
        };
        let kubelet = FakeKubelet::start(&control_plane, options.with_script(script_of)).await;
        let kubelet = kubelet.expect("a fake kubelet");
        // For the test that drains it: no other test's pods come there.
        control_plane
            .run_kubectl(&["cordon", "node-3"])
            .await
            .expect("cordoned");
        Bed {
            control_plane,
            kubelet,
        }
    };
    BED.get_or_init(start).await
}

fn script_of(pod: &Pod) -> Option<PodScript> {
    let text = |text: &str| text.to_owned();
    match pod.annotations().get("script")?.as_str() {
        "image" => Some(PodScript::Waiting {
            reason: text("ErrImagePull"),
            message: text("no such image"),
        }),
        "exit" => Some(PodScript::Exit {
            code: 3,
            message: text("three"),
        }),
        "run then exit" => Some(PodScript::RunThenExit {
            code: 1,
            message: text("lied"),
        }),
        "hang" => Some(PodScript::Hang),
        "evict" => Some(PodScript::Evict { after_run: true }),
        "unreachable" => Some(PodScript::Unreachable { run: true }),
        "delay" => Some(PodScript::RunAfter(Duration::from_secs(1))),
        other => panic!("no script is called {other}"),
    }
}

impl Bed {
    pub(crate) async fn client(&self) -> Client {
        self.control_plane.admin_client().await.expect("a client")
    }

    /// A namespace with a Deployment `web` and a service account `scaler` that may scale Deployments.
    pub(crate) async fn namespace(&self, name: &str) {
        self.control_plane
            .apply_yaml(&SCENE.replace("NAMESPACE", name))
            .await
            .expect("the scene");
    }

    pub(crate) fn runs_of(&self, pods: &[Pod]) -> Vec<KubectlRun> {
        let uids: Vec<_> = pods.iter().filter_map(|pod| pod.metadata.uid.clone()).collect();
        self.kubelet
            .runs()
            .into_iter()
            .filter(|run| uids.contains(&run.pod_uid))
            .collect()
    }
}

pub(crate) const SCENE: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: NAMESPACE}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: scaler, namespace: NAMESPACE}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: scaler, namespace: NAMESPACE}
rules:
- {apiGroups: [apps], resources: [deployments], verbs: [get, list, watch]}
- {apiGroups: [apps], resources: [deployments/scale], verbs: [get, patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: scaler, namespace: NAMESPACE}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: scaler}
subjects: [{kind: ServiceAccount, name: scaler, namespace: NAMESPACE}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: NAMESPACE}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: example.test/web}]}
";

/// A Job as an executor makes them.
pub(crate) fn job(name: &str, account: &str, args: &[&str], pod_annotations: &Value) -> Job {
    let volume = json!({"name": "payload", "downwardAPI": {"items": [
        {"path": "patch.json", "fieldRef": {"fieldPath": "metadata.annotations['kubernaut.io/payload']"}}]}});
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": 60,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": [
                {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]},
            "template": {
                "metadata": {"annotations": pod_annotations},
                "spec": {
                    "restartPolicy": "Never",
                    "serviceAccountName": account,
                    "volumes": [volume],
                    "containers": [{
                        "name": "kubectl",
                        "image": "registry.k8s.io/kubectl:v1.35.4",
                        "args": args,
                        "terminationMessagePolicy": "FallbackToLogsOnError",
                        "volumeMounts": [{"name": "payload", "mountPath": "/payload", "readOnly": true}],
                    }],
                },
            },
        },
    }))
    .expect("a Job")
}

/// Asks again and again until there is an answer.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) struct Namespaced {
    pub(crate) jobs: Api<Job>,
    pub(crate) pods: Api<Pod>,
    pub(crate) deployments: Api<Deployment>,
}

impl Namespaced {
    pub(crate) fn new(client: &Client, namespace: &str) -> Self {
        Self {
            jobs: Api::namespaced(client.clone(), namespace),
            pods: Api::namespaced(client.clone(), namespace),
            deployments: Api::namespaced(client.clone(), namespace),
        }
    }

    pub(crate) async fn create(&self, job: &Job) {
        self.jobs
            .create(&PostParams::default(), job)
            .await
            .expect("the Job is accepted");
    }

    pub(crate) async fn pods_of(&self, job: &str) -> Vec<Pod> {
        let selector = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
        self.pods.list(&selector).await.expect("a list").items
    }

    /// The Job's condition that says how it ended, and its reason.
    pub(crate) async fn end_of(&self, job: &str) -> (String, String) {
        eventually(&format!("end of Job {job}"), async || {
            let conditions = self.jobs.get(job).await.expect("the Job").status?.conditions?;
            let end = conditions
                .into_iter()
                .find(|c| c.type_ == "Complete" || c.type_ == "Failed")?;
            Some((end.type_, end.reason.unwrap_or_default()))
        })
        .await
    }

    pub(crate) async fn pod_when(&self, job: &str, test: impl Fn(&Pod) -> bool) -> Pod {
        eventually(&format!("pod of {job}"), async || {
            self.pods_of(job).await.into_iter().find(&test)
        })
        .await
    }

    pub(crate) async fn replicas(&self) -> Option<i32> {
        self.deployments
            .get("web")
            .await
            .expect("the Deployment")
            .spec?
            .replicas
    }
}

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

/// Exit code, reason and message of the only container.
pub(crate) fn terminated(pod: &Pod) -> (i32, String, String) {
    let status = pod
        .status
        .clone()
        .unwrap_or_default()
        .container_statuses
        .unwrap_or_default()
        .remove(0);
    let state = status
        .state
        .and_then(|state| state.terminated)
        .expect("a terminated container");
    (
        state.exit_code,
        state.reason.unwrap_or_default(),
        state.message.unwrap_or_default(),
    )
}

/// Scales the scene's Deployment from 1 to 3.
pub(crate) const SCALE: [&str; 3] = ["scale", "deployment/web", "--replicas=3"];
