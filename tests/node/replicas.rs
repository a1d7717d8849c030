//! The controller as it is installed: two pods of its own image.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::audit::took_effect;
use crate::bed::{Bed, BedOptions};
use crate::controller::kubernaut;
use crate::scene::{POD, Scene, api};
use crate::work::{all_is_done_once, start_workflows};

const HOME: &str = "kubernaut-system";
const WORKFLOWS: usize = 3;
/// Short, so that the tests need not wait long for it.
const LEASE: &str = "--lease-duration=4s";
const LEASE_DURATION: Duration = Duration::from_secs(4);
const FLAGS: [&str; 3] = [LEASE, "--lease-renew-deadline=2s", "--lease-retry-period=500ms"];

/// The controller's image, as `./dev image` packs it.
fn image() -> PathBuf {
    let file = std::env::var_os("KUBERNAUT_TEST_IMAGE");
    file.expect("KUBERNAUT_TEST_IMAGE is unset: ./dev test node makes the image and names it")
        .into()
}

/// Installs the controller's pods, and returns when both are ready.
async fn bed_with_pods() -> Bed {
    let bed = Bed::not_started(BedOptions::default()).await;
    bed.cluster
        .load_image(&image())
        .await
        .expect("the image is taken");
    let manifests = Command::new(kubernaut())
        .arg("manifests")
        .args(BedOptions::default().run_flags)
        .args(FLAGS)
        .output()
        .expect("kubernaut runs");
    let manifests = String::from_utf8(manifests.stdout).expect("text");
    bed.cluster.apply_yaml(&manifests).await.expect("accepted");
    let wait = [
        "rollout",
        "status",
        "deployment/kubernaut-controller",
        "--namespace",
        HOME,
        "--timeout=90s",
    ];
    bed.cluster.run_kubectl(&wait).await.expect("two pods are ready");
    bed
}

/// Who holds the lease: a process of a pod.
async fn holder(scene: &Scene<'_>) -> String {
    let lease = api(&scene.client, "coordination.k8s.io/v1/Lease", HOME);
    let lease = lease.get("kubernaut-controller").await.expect("a lease");
    let holder = lease.data["spec"]["holderIdentity"].as_str();
    holder.unwrap_or_default().to_owned()
}

/// Name of the pod of a holder.
fn pod_of(holder: &str) -> &str {
    holder.split('_').next().unwrap_or_default()
}

/// How long it takes until another process than this one leads: that of the other pod, or the next one of the same.
async fn taken_from(scene: &Scene<'_>, old: &str) -> Duration {
    let begun = Instant::now();
    scene
        .eventually("another leader", async || {
            let holder = holder(scene).await;
            (!holder.is_empty() && holder != old).then_some(())
        })
        .await;
    begun.elapsed()
}

/// Returns when the container of a pod has been started again after it ended with this code.
async fn ended_with(scene: &Scene<'_>, pod: &str, code: i64) {
    let pods = api(&scene.client, POD, HOME);
    let told = std::sync::Mutex::new(Value::Null);
    scene
        .eventually("the container is started again", async || {
            let pod = pods.get(pod).await.expect("a pod");
            let status = pod.data["status"]["containerStatuses"][0].clone();
            let ended = status["lastState"]["terminated"]["exitCode"] == code;
            let mut told = told.lock().expect("no panic");
            if *told != status {
                println!("its container: {status}");
                *told = status;
            }
            ended.then_some(())
        })
        .await;
}

/// The pod that asked.
fn asked_by(entry: &Value) -> &str {
    let names = &entry["user"]["extra"]["authentication.kubernetes.io/pod-name"];
    names[0].as_str().unwrap_or_default()
}

fn answered_at(entry: &Value) -> &str {
    entry["stageTimestamp"].as_str().expect("a time")
}

/// What a pod wrote after another one had taken the lease from it, events apart, until it took the lease itself again: on a machine that
/// has much to do it may.
fn written_without_the_lease(bed: &Bed, pod: &str, frozen: &str) -> Vec<String> {
    let audit = bed.audit();
    let of_the_lease = |entry: &&Value| took_effect(entry) && entry["objectRef"]["resource"] == "leases";
    let taken = audit
        .iter()
        .filter(of_the_lease)
        .filter(|entry| asked_by(entry) != pod && answered_at(entry) > frozen)
        .map(answered_at)
        .min()
        .expect("another pod took the lease");
    let again = audit
        .iter()
        .filter(of_the_lease)
        .filter(|entry| asked_by(entry) == pod && answered_at(entry) > taken)
        .map(answered_at)
        .min();
    audit
        .iter()
        .filter(|entry| asked_by(entry) == pod && took_effect(entry))
        .filter(|entry| answered_at(entry) > taken && again.is_none_or(|again| answered_at(entry) < again))
        .filter(|entry| entry["objectRef"]["resource"] != "events")
        .map(|entry| format!("{} {}", entry["verb"], entry["requestURI"]))
        .collect()
}

#[tokio::test]
async fn of_two_pods_one_takes_over_from_the_other_and_nothing_is_done_twice() {
    let bed = bed_with_pods().await;

    // Killed behind the kubelet's back, which starts it again.
    let scene = Scene::new(&bed, "killed").await;
    let names = start_workflows(&scene, WORKFLOWS).await;
    let first = holder(&scene).await;
    let process = bed
        .cluster
        .container_process(HOME, pod_of(&first), "controller")
        .await;
    process.expect("a process").kill().await.expect("SIGKILL");
    let took = taken_from(&scene, &first).await;
    println!("kill -9: another process took the lease of {LEASE_DURATION:?} after {took:?}");
    assert!(took < LEASE_DURATION + Duration::from_secs(2), "{took:?}");
    ended_with(&scene, pod_of(&first), 137).await;
    all_is_done_once(&scene, &names).await;

    // Frozen until long after its lease has run out, and continued.
    let scene = Scene::new(&bed, "frozen").await;
    let names = start_workflows(&scene, WORKFLOWS).await;
    let second = holder(&scene).await;
    let process = bed
        .cluster
        .container_process(HOME, pod_of(&second), "controller")
        .await;
    let process = process.expect("a process");
    let frozen = format!("{:.6}", jiff::Timestamp::now());
    process.pause().await.expect("SIGSTOP");
    let took = taken_from(&scene, &second).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    process.resume().await.expect("SIGCONT");
    println!("SIGSTOP: another pod took the lease of {LEASE_DURATION:?} after {took:?}");
    assert!(took < LEASE_DURATION + Duration::from_secs(2), "{took:?}");
    // It says so, and the kubelet starts it again.
    ended_with(&scene, pod_of(&second), 1).await;
    all_is_done_once(&scene, &names).await;
    assert_eq!(
        written_without_the_lease(&bed, pod_of(&second), &frozen),
        Vec::<String>::new()
    );
}
