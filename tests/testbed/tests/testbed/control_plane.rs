//! What the API server refuses, and that nothing of it stays behind.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kubernaut_testbed::{ControlPlane, ControlPlaneOptions, Part};

use crate::scene::{bed, eventually};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_control_planes_do_not_meet_and_a_dropped_one_leaves_nothing() {
    let start = || async {
        ControlPlane::start(ControlPlaneOptions::default())
            .await
            .expect("a control plane")
    };
    let (first, second) = tokio::join!(start(), start());
    assert_ne!(first.api_server_url(), second.api_server_url());
    first
        .run_kubectl(&["create", "namespace", "mine"])
        .await
        .expect("a namespace");
    let namespaces = Api::<Namespace>::all(second.admin_client().await.expect("a client"));
    assert_eq!(namespaces.get_opt("mine").await.expect("an answer"), None);

    let (pids, dir) = (pids_of(&first), first.state_dir().to_owned());
    assert!(pids.iter().all(|pid| Path::new(pid).exists()));
    let panicking = std::thread::spawn(move || {
        let _owned = first;
        panic!("a test that fails");
    });
    assert!(panicking.join().is_err());
    assert_eq!(pids.iter().filter(|pid| Path::new(pid).exists()).count(), 0);
    assert!(!dir.exists());
    namespaces
        .get("default")
        .await
        .expect("the other one still answers");

    // The other one may be stopped, killed and started again.
    second
        .run_kubectl(&["create", "namespace", "kept"])
        .await
        .expect("a namespace");
    second.pause(Part::ApiServer).await.expect("a signal");
    let answer = tokio::time::timeout(Duration::from_millis(500), namespaces.get("kept")).await;
    assert!(answer.is_err(), "a paused API server answers nothing");
    second.resume(Part::ApiServer).await.expect("a signal");
    namespaces.get("kept").await.expect("it answers again");
    second.kill_part(Part::ApiServer).await.expect("a signal");
    namespaces.get("kept").await.expect_err("nobody listens");
    second.start_part(Part::ApiServer).await.expect("a start");
    namespaces.get("kept").await.expect("its data survived");
}

#[tokio::test]
async fn a_killed_owner_leaves_nothing() {
    let scratch = tempfile::tempdir().expect("a directory");
    let state = scratch.path().join("state");
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubernaut-testbed"));
    let mut owner = command
        .arg("up")
        .arg("--state")
        .arg(&state)
        .stdout(Stdio::null())
        .spawn()
        .expect("the binary");
    let begun = Instant::now();
    while !state.join("ready").exists() {
        assert!(matches!(owner.try_wait(), Ok(None)), "the owner ended");
        assert!(begun.elapsed() < Duration::from_mins(1), "not ready");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let pids: Vec<_> = PARTS
        .iter()
        .map(|part| process(&std::fs::read_to_string(state.join("pid").join(part)).expect("a pid")))
        .collect();
    assert!(pids.iter().all(|pid| pid.exists()));
    owner.kill().expect("SIGKILL");
    owner.wait().expect("its end");
    let begun = Instant::now();
    eventually("nothing is left", async || {
        (pids.iter().all(|pid| !pid.exists()) && !state.exists()).then_some(())
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(5));
}

const PARTS: [&str; 3] = ["etcd", "kube-apiserver", "kube-controller-manager"];

fn process(pid: &str) -> PathBuf {
    Path::new("/proc").join(pid.trim())
}

fn pids_of(control_plane: &ControlPlane) -> Vec<PathBuf> {
    Part::CONTROL_PLANE
        .map(|part| process(&control_plane.pid(part).expect("it runs").to_string()))
        .into()
}
