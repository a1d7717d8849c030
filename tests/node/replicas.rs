//! The controller as it is installed: two pods of its own image.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::audit::{is_write, took_effect};
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

/// What a pod had written after a moment, events apart: the time of the answer, and what was asked.
fn written_after(bed: &Bed, pod: &str, moment: &str) -> Vec<String> {
    let audit = bed.audit();
    let of_the_pod = audit.iter().filter(|entry| {
        let names = &entry["user"]["extra"]["authentication.kubernetes.io/pod-name"];
        names[0] == pod && is_write(entry) && took_effect(entry)
    });
    of_the_pod
        .filter(|entry| entry["stageTimestamp"].as_str().expect("a time") > moment)
        .filter(|entry| entry["objectRef"]["resource"] != "events")
        .map(|entry| format!("{} {}", entry["verb"], entry["requestURI"]))
        .collect()
}

/// When this pod took the lease, after a moment.
fn took_it_at(bed: &Bed, pod: &str, moment: &str) -> String {
    let audit = bed.audit();
    let mut of_the_lease = audit.iter().filter(|entry| {
        let names = &entry["user"]["extra"]["authentication.kubernetes.io/pod-name"];
        let late = entry["stageTimestamp"].as_str().expect("a time") > moment;
        late && names[0] == pod && took_effect(entry) && entry["objectRef"]["resource"] == "leases"
    });
    let first = of_the_lease.next().expect("it took the lease");
    first["stageTimestamp"].as_str().expect("a time").to_owned()
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
    let third = holder(&scene).await;
    let taken = took_it_at(&bed, pod_of(&third), &frozen);
    assert_eq!(written_after(&bed, pod_of(&second), &taken), Vec::<String>::new());
}
