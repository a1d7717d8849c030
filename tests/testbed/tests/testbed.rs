//! What other tests may rely on: a control plane that refuses and accepts as a real one does, a kubelet that runs
//! kubectl with the rights of a pod's service account, and nothing left behind.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PropagationPolicy};
use kube::{Api, Client, ResourceExt};
use kubernaut_testbed::{
    ControlPlane, ControlPlaneOptions, FakeKubelet, FakeKubeletOptions, KubectlRun, Part, PodScript,
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

struct Bed {
    control_plane: ControlPlane,
    kubelet: FakeKubelet,
}

/// One control plane for the tests that don't disturb each other: each works in a namespace of its own. A pod's
/// annotation `script` says what shall happen to it.
async fn bed() -> &'static Bed {
    static BED: OnceCell<Bed> = OnceCell::const_new();
    let start = async || {
        let options = ControlPlaneOptions {
            audit_log: true,
            ..ControlPlaneOptions::default()
        };
        let begun = Instant::now();
        let control_plane = ControlPlane::start(options).await.expect("a control plane");
        eprintln!("control plane ready after {:?}", begun.elapsed());
        let options = FakeKubeletOptions::default().with_script(script_of);
        let kubelet = FakeKubelet::start(&control_plane, options)
            .await
            .expect("a fake kubelet");
        eprintln!("fake kubelet ready after {:?}", begun.elapsed());
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
    async fn client(&self) -> Client {
        self.control_plane.admin_client().await.expect("a client")
    }

    /// A namespace with a Deployment `web` and a service account `scaler` that may scale Deployments.
    async fn namespace(&self, name: &str) {
        self.control_plane
            .apply_yaml(&SCENE.replace("NAMESPACE", name))
            .await
            .expect("the scene");
    }

    fn runs_of(&self, pods: &[Pod]) -> Vec<KubectlRun> {
        let uids: Vec<_> = pods.iter().filter_map(|pod| pod.metadata.uid.clone()).collect();
        self.kubelet
            .runs()
            .into_iter()
            .filter(|run| uids.contains(&run.pod_uid))
            .collect()
    }
}

const SCENE: &str = "
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
- {apiGroups: [apps], resources: [deployments], verbs: [get]}
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
fn job(name: &str, account: &str, args: &[&str], pod_annotations: &Value) -> Job {
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
async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

struct Namespaced {
    jobs: Api<Job>,
    pods: Api<Pod>,
    deployments: Api<Deployment>,
}

impl Namespaced {
    fn new(client: &Client, namespace: &str) -> Self {
        Self {
            jobs: Api::namespaced(client.clone(), namespace),
            pods: Api::namespaced(client.clone(), namespace),
            deployments: Api::namespaced(client.clone(), namespace),
        }
    }

    async fn create(&self, job: &Job) {
        self.jobs
            .create(&Default::default(), job)
            .await
            .expect("the Job is accepted");
    }

    async fn pods_of(&self, job: &str) -> Vec<Pod> {
        let selector = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
        self.pods.list(&selector).await.expect("a list").items
    }

    /// The Job's condition that says how it ended, and its reason.
    async fn end_of(&self, job: &str) -> (String, String) {
        eventually(&format!("end of Job {job}"), async || {
            let conditions = self.jobs.get(job).await.expect("the Job").status?.conditions?;
            let end = conditions
                .into_iter()
                .find(|c| c.type_ == "Complete" || c.type_ == "Failed")?;
            Some((end.type_, end.reason.unwrap_or_default()))
        })
        .await
    }

    async fn pod_when(&self, job: &str, test: impl Fn(&Pod) -> bool) -> Pod {
        eventually(&format!("pod of {job}"), async || {
            self.pods_of(job).await.into_iter().find(&test)
        })
        .await
    }

    async fn replicas(&self) -> Option<i32> {
        self.deployments
            .get("web")
            .await
            .expect("the Deployment")
            .spec?
            .replicas
    }
}

fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

/// Exit code, reason and message of the only container.
fn terminated(pod: &Pod) -> (i32, String, String) {
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

const SCALE: [&str; 3] = ["scale", "deployment/web", "--replicas=3"];

#[tokio::test]
async fn a_service_account_can_do_only_what_its_role_allows() {
    let bed = bed().await;
    bed.namespace("rbac").await;
    let kubeconfig = bed
        .control_plane
        .kubeconfig_for_service_account("rbac", "scaler", None)
        .await
        .expect("a token");
    let as_scaler = |args: &[&str]| {
        let mut command = Command::new(bed.control_plane.kubectl());
        command
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .args(args)
            .env("KUBECACHEDIR", bed.control_plane.kubectl_cache_dir());
        command.output().expect("kubectl runs")
    };
    assert!(
        as_scaler(&["get", "deployment", "web"]).status.success(),
        "the namespace comes from the kubeconfig"
    );
    let refused = as_scaler(&["get", "pods"]);
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("(Forbidden)"),
        "{refused:?}"
    );
    let audit = std::fs::read_to_string(bed.control_plane.audit_log()).expect("an audit log");
    let mut mine = audit
        .lines()
        .filter(|line| line.contains("system:serviceaccount:rbac:scaler"));
    assert!(
        mine.any(|line| line.contains("\"code\":403")),
        "the refusal is in the audit log"
    );
}

#[tokio::test]
async fn a_custom_resource_is_held_to_its_rules() {
    let bed = bed().await;
    bed.control_plane.apply_yaml(CRD).await.expect("the CRD");
    bed.control_plane
        .run_kubectl(&["wait", "--for=condition=Established", "crd/gadgets.example.test"])
        .await
        .expect("established");
    let gadget = |size: u32| {
        format!(
            "{{apiVersion: example.test/v1, kind: Gadget, metadata: {{name: g, namespace: default}}, spec: {{size: {size}}}}}"
        )
    };
    bed.control_plane
        .apply_yaml(&gadget(1))
        .await
        .expect("a small gadget");
    let error = bed
        .control_plane
        .apply_yaml(&gadget(11))
        .await
        .expect_err("a gadget against the rules");
    assert!(error.to_string().contains("too big"), "{error}");
}

const CRD: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.example.test}
spec:
  group: example.test
  scope: Namespaced
  names: {kind: Gadget, plural: gadgets, singular: gadget}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            x-kubernetes-validations: [{rule: self.size < 10, message: too big}]
            properties: {size: {type: integer}}
";

#[tokio::test]
async fn a_job_of_kubectl_changes_the_cluster_with_the_rights_of_its_account() {
    let bed = bed().await;
    bed.namespace("scale").await;
    let api = Namespaced::new(&bed.client().await, "scale");
    let begun = Instant::now();
    api.create(&job("scale", "scaler", &SCALE, &json!({}))).await;
    assert_eq!(api.end_of("scale").await.0, "Complete");
    eprintln!("Job complete after {:?}", begun.elapsed());
    eventually("three ready replicas", async || {
        let status = api.deployments.get("web").await.expect("the Deployment").status?;
        (status.ready_replicas == Some(3)).then_some(())
    })
    .await;
    let pods = api.pods_of("scale").await;
    assert_eq!(terminated(&pods[0]), (0, "Completed".into(), String::new()));
    let runs = bed.runs_of(&pods);
    assert_eq!(runs.len(), 1);
    assert_eq!(
        runs[0].argv,
        ["kubectl", "scale", "deployment/web", "--replicas=3"]
    );
    assert_eq!(runs[0].exit_code, Some(0));
}

#[tokio::test]
async fn a_missing_right_fails_the_job_and_its_pod_says_why() {
    let bed = bed().await;
    bed.namespace("forbidden").await;
    let api = Namespaced::new(&bed.client().await, "forbidden");
    api.create(&job(
        "delete",
        "scaler",
        &["delete", "deployment/web"],
        &json!({}),
    ))
    .await;
    assert_eq!(
        api.end_of("delete").await,
        ("Failed".into(), "BackoffLimitExceeded".into())
    );
    let (code, reason, message) = terminated(&api.pods_of("delete").await[0]);
    assert_eq!((code, reason.as_str()), (1, "Error"));
    assert!(message.contains("Error from server (Forbidden)"), "{message}");
}

#[tokio::test]
async fn a_payload_travels_as_an_annotation_and_is_read_from_its_mount() {
    let bed = bed().await;
    bed.namespace("payload").await;
    let api = Namespaced::new(&bed.client().await, "payload");
    let args = [
        "patch",
        "deployment/web",
        "--subresource=scale",
        "--type=merge",
        "--patch-file=/payload/patch.json",
    ];
    let payload = json!({"kubernaut.io/payload": "{\"spec\":{\"replicas\":2}}"});
    api.create(&job("patch", "scaler", &args, &payload)).await;
    assert_eq!(api.end_of("patch").await.0, "Complete");
    assert_eq!(api.replicas().await, Some(2));
}

#[tokio::test]
async fn a_hanging_pod_goes_only_after_its_end_is_confirmed() {
    let bed = bed().await;
    bed.namespace("hang").await;
    let api = Namespaced::new(&bed.client().await, "hang");
    api.create(&job("hang", "scaler", &SCALE, &json!({"script": "hang"})))
        .await;
    api.pod_when("hang", |pod| phase(pod) == "Running").await;
    let foreground = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Foreground),
        ..Default::default()
    };
    api.jobs
        .delete("hang", &foreground)
        .await
        .expect("the deletion is accepted");
    eventually("the Job is gone", async || {
        api.jobs
            .get_opt("hang")
            .await
            .expect("an answer")
            .is_none()
            .then_some(())
    })
    .await;
    assert!(
        api.pods_of("hang").await.is_empty(),
        "a foreground deletion ends after the pod's"
    );
    assert_eq!(api.replicas().await, Some(1), "a script that hangs runs nothing");
}

#[tokio::test]
async fn scripts_show_a_job_every_way_to_fail() {
    let bed = bed().await;
    bed.namespace("scripts").await;
    let api = Namespaced::new(&bed.client().await, "scripts");
    for (name, script) in [
        ("image", "image"),
        ("exit", "exit"),
        ("lie", "run then exit"),
        ("evict", "evict"),
        ("unreachable", "unreachable"),
        ("delay", "delay"),
    ] {
        api.create(&job(name, "scaler", &SCALE, &json!({"script": script})))
            .await;
    }

    let waiting = api.pod_when("image", |pod| {
        let statuses = pod
            .status
            .as_ref()
            .and_then(|status| status.container_statuses.clone())
            .unwrap_or_default();
        let reasons = statuses
            .into_iter()
            .filter_map(|status| status.state?.waiting?.reason);
        reasons.collect::<Vec<_>>() == ["ErrImagePull"]
    });
    assert_eq!(phase(&waiting.await), "Pending");

    assert_eq!(
        api.end_of("exit").await,
        ("Failed".into(), "BackoffLimitExceeded".into())
    );
    let pods = api.pods_of("exit").await;
    assert_eq!(terminated(&pods[0]), (3, "Error".into(), "three".into()));
    assert!(bed.runs_of(&pods).is_empty());

    assert_eq!(api.end_of("lie").await.0, "Failed");
    let pods = api.pods_of("lie").await;
    assert_eq!(terminated(&pods[0]), (1, "Error".into(), "lied".into()));
    assert_eq!(
        bed.runs_of(&pods)[0].exit_code,
        Some(0),
        "the effect is there all the same"
    );

    assert_eq!(
        api.end_of("evict").await,
        ("Failed".into(), "PodFailurePolicy".into())
    );
    let pods = api.pods_of("evict").await;
    assert_eq!(
        pods[0]
            .status
            .as_ref()
            .and_then(|status| status.reason.as_deref()),
        Some("Evicted")
    );
    assert_eq!(bed.runs_of(&pods).len(), 1);

    assert_eq!(api.end_of("delay").await.0, "Complete");

    let pod = api.pod_when("unreachable", |pod| phase(pod) == "Running").await;
    eventually("the unreachable node's work", async || {
        (bed.runs_of(std::slice::from_ref(&pod)).first()?.exit_code == Some(0)).then_some(())
    })
    .await;
    api.pods
        .delete(&pod.name_any(), &DeleteParams::default())
        .await
        .expect("the deletion is accepted");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let still_there = api.pods.get(&pod.name_any()).await.expect("the pod stays");
    assert!(still_there.metadata.deletion_timestamp.is_some());
    assert_eq!(phase(&still_there), "Running");
    let force = DeleteParams::default().grace_period(0);
    api.pods
        .delete(&pod.name_any(), &force)
        .await
        .expect("a person can let it go");
}
