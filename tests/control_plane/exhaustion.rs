//! What anybody who may write in one namespace can throw at the controllers: none of it costs the lease, or their memory.

use std::time::{Duration, Instant};

use kube::api::ListParams;
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::bed::{Bed, BedOptions, Controller};
use crate::installed::install;
use crate::load::cost_of;
use crate::scene::{EXECUTION, Scene, WORKFLOW, api};

/// The limit of the controller's pod, in MiB.
const POD_LIMIT: f64 = 512.0;

/// One bed for these tests, one after the other: there is one lease in it, with its usual times.
async fn bed() -> (&'static Bed, MutexGuard<'static, ()>) {
    static TURN: Mutex<()> = Mutex::const_new(());
    static BED: OnceCell<Bed> = OnceCell::const_new();
    let turn = TURN.lock().await;
    let options = BedOptions {
        run_flags: &["--apply-manifest-kinds=ConfigMap"],
        ..BedOptions::default()
    };
    let bed = BED.get_or_init(async || Bed::not_started(options).await).await;
    (bed, turn)
}

/// Two controllers, the first of which leads.
async fn pair(scene: &Scene<'_>) -> (Controller, Controller) {
    let first = scene.bed.start_replica(&format!("{}-1", scene.namespace)).await;
    scene
        .eventually("the first leads", async || first.leads().await.then_some(()))
        .await;
    let second = scene.bed.start_replica(&format!("{}-2", scene.namespace)).await;
    (first, second)
}

/// Who holds the lease, and how often it went from one to the other.
async fn lease(scene: &Scene<'_>) -> (Value, Value) {
    let leases = api(&scene.client, "coordination.k8s.io/v1/Lease", "kubernaut-system");
    let spec = leases.get("kubernaut-controller").await.expect("a lease").data["spec"].clone();
    (spec["holderIdentity"].clone(), spec["leaseTransitions"].clone())
}

/// How many of this kind have failed. Their metadata alone is asked for, and what the API server has at hand: all of them
/// together are hundreds of megabytes, which it would else read from etcd each time.
async fn failed(scene: &Scene<'_>, kind: &str) -> usize {
    let failed = ListParams::default().fields("status.phase=failed").match_any();
    let list = scene.api(kind).list_metadata(&failed).await;
    list.expect("a list").items.len()
}

/// All of this kind fail, with never longer than `patience` between one and the next, both controllers live, and the lease
/// stays where it was. How long all of them take is the API server's: each write of a megabyte costs it most of a second.
async fn all_fail(
    scene: &Scene<'_>,
    kind: &str,
    count: usize,
    patience: Duration,
    pair: &(Controller, Controller),
) {
    let before = lease(scene).await;
    let begun = Instant::now();
    let (mut most, mut at) = (0, begun);
    loop {
        let found = failed(scene, kind).await;
        if found == count {
            break;
        }
        if found > most {
            (most, at) = (found, Instant::now());
        }
        assert!(
            at.elapsed() < patience,
            "{found} of {count} {kind} have failed, and no other for {patience:?}\n{}",
            scene.bed.log_about("")
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    println!(
        "{count} of {kind} failed within {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    // As long as a lease takes to be lost.
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(lease(scene).await, before, "the lease went to another");
    assert!(
        pair.0.ended().is_none() && pair.1.ended().is_none(),
        "{}",
        scene.bed.log_about("")
    );
}

fn is_within(pair: &(Controller, Controller), most: f64) {
    for controller in [&pair.0, &pair.1] {
        let (cpu, peak) = cost_of(controller.pid);
        println!("a controller: {cpu:.2} s CPU, peak {peak:.1} MiB");
        assert!(peak < most, "{peak} MiB");
    }
}

/// A kilobyte that stands for 120,000 values.
fn bomb() -> String {
    let keys: Vec<String> = (0..100).map(|number| format!("k{number}: v")).collect();
    let times = |alias: &str, count: usize| vec![alias; count].join(",");
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: mine, namespace: shop}}\na: &a {{{}}}\nb: &b [{}]\nc: [{}]\n",
        keys.join(","),
        times("*a", 35),
        times("*b", 34)
    )
}

#[tokio::test]
async fn alias_bombs_by_the_hundred_end_within_a_minute_and_cost_neither_lease_nor_memory() {
    let (bed, _turn) = bed().await;
    let scene = Scene::new(bed, "bombs").await;
    let pair = pair(&scene).await;
    for number in 0..8 {
        let step = |step: i32| {
            json!({"stepNumber": step, "name": format!("s{step}"), "action": "apply-manifest", "maxRetries": 0,
                   "parameters": {"custom": {"actionType": "apply-manifest", "config": {"manifest": bomb()}}}})
        };
        let steps: Vec<Value> = (1..=100).map(step).collect();
        scene
            .start(&format!("bomb-{number}"), json!(steps), json!({}))
            .await;
    }
    all_fail(&scene, WORKFLOW, 8, Duration::from_mins(1), &pair).await;
    let status = scene.get(WORKFLOW, "bomb-0").await["status"].clone();
    assert_eq!(status["phase"], "failed");
    assert!(
        status.to_string().contains("has an anchor (&) or an alias (*)"),
        "{status}"
    );
    is_within(&pair, 200.0);
}

#[tokio::test]
async fn objects_of_a_megabyte_end_and_cost_neither_lease_nor_memory() {
    let (bed, _turn) = bed().await;
    let scene = Scene::new(bed, "megabytes").await;
    // They are older than the policies that would refuse them.
    let policies = ["delete", "validatingadmissionpolicybindings", "--all"];
    bed.cluster.run_kubectl(&policies).await.expect("deleted");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let keys = (0..7).map(|number| (format!("k{number}"), json!("x".repeat(199_000))));
    let data: serde_json::Map<String, Value> = keys.collect();
    for number in 0..200 {
        scene
            .create(json!({
                "apiVersion": "kubernetesexecution.kubernaut.io/v1", "kind": "KubernetesExecution",
                "metadata": {"name": format!("large-{number}")},
                "spec": {"action": "update-configmap", "approvalReceived": true, "parameters": {"updateConfigMap": {
                    "namespace": "megabytes", "configMap": "flags", "data": data}}},
            }))
            .await;
    }
    // 1.3 MB as JSON, and twenty times that as values of a program.
    let recommendations = json!({"riskFactors": [vec![json!([]); 430_000]]});
    for number in 0..20 {
        let step = json!({"stepNumber": 1, "name": "s", "action": "cordon-node",
                          "parameters": {"cordonNode": {"nodeName": "none"}}});
        scene
            .create(json!({
                "apiVersion": "workflow.kubernaut.io/v1", "kind": "WorkflowExecution",
                "metadata": {"name": format!("free-{number}")},
                "spec": {"workflowDefinition": {"name": "w", "version": "1", "steps": [step],
                                                "aiRecommendations": recommendations}},
            }))
            .await;
    }
    install(&bed.cluster, &["--apply-manifest-kinds=ConfigMap"]).await;

    let pair = pair(&scene).await;
    all_fail(&scene, EXECUTION, 200, Duration::from_mins(2), &pair).await;
    // An API server of two cores takes seconds for each write of one: fewer go at once when answers are late.
    all_fail(&scene, WORKFLOW, 20, Duration::from_mins(2), &pair).await;
    let status = scene.get(EXECUTION, "large-0").await["status"].clone();
    assert_eq!(status["errorType"], "validation_error", "{status}");
    assert!(
        status
            .to_string()
            .contains("bytes as JSON; at most 262144 are allowed"),
        "{status}"
    );
    is_within(&pair, POD_LIMIT);
}
