//! Two controllers and one lease: whatever becomes of the one that leads, the other takes over, and nothing is done twice.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::audit::{forbidden, is_write, took_effect};
use crate::bed::{Bed, BedOptions, CONTROLLER, Controller};
use crate::crash::{chain, slowly};
use crate::scene::{CONFIG_MAP, Scene, api};

const LEASE: &str = "coordination.k8s.io/v1/Lease";
const LEASE_DURATION: Duration = Duration::from_secs(3);
const WORKFLOWS: usize = 5;
const STEPS: i64 = 4;

/// One bed for these tests, one after the other: there is one lease in it.
async fn bed() -> (&'static Bed, MutexGuard<'static, ()>) {
    static TURN: Mutex<()> = Mutex::const_new(());
    static BED: OnceCell<Bed> = OnceCell::const_new();
    let turn = TURN.lock().await;
    let options = BedOptions {
        controller_flags: &[
            "--lease-duration=3s",
            "--lease-renew-deadline=2s",
            "--lease-retry-period=500ms",
        ],
        script: slowly,
        ..BedOptions::default()
    };
    let bed = BED.get_or_init(async || Bed::not_started(options).await).await;
    (bed, turn)
}

/// Two controllers, the first of which leads, and workflows that keep them busy for a while.
async fn busy_pair<'a>(bed: &'a Bed, namespace: &str) -> (Controller, Controller, Scene<'a>, Vec<String>) {
    let scene = Scene::new(bed, namespace).await;
    let first = bed.start_replica(&format!("{namespace}-1")).await;
    scene
        .eventually("the first leads", async || first.leads().await.then_some(()))
        .await;
    let second = bed.start_replica(&format!("{namespace}-2")).await;
    let names: Vec<String> = (0..WORKFLOWS).map(|n| format!("{namespace}-{n}")).collect();
    for name in &names {
        scene.config_map(name, json!({})).await;
    }
    for name in &names {
        scene.start(name, chain(namespace, name, STEPS), json!({})).await;
    }
    scene
        .eventually("Jobs", async || (!scene.jobs().await.is_empty()).then_some(()))
        .await;
    (first, second, scene, names)
}

async fn holder(scene: &Scene<'_>) -> String {
    let leases = api(&scene.client, LEASE, "kubernaut-system");
    let lease = leases.get_opt("kubernaut-controller").await.expect("an answer");
    let holder = lease.and_then(|lease| lease.data["spec"]["holderIdentity"].as_str().map(str::to_owned));
    holder.unwrap_or_default()
}

/// How long it takes until a process of this host holds the lease.
async fn taken_by(scene: &Scene<'_>, host: &str) -> Duration {
    let begun = Instant::now();
    while !holder(scene).await.starts_with(host) {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{}",
            scene.bed.log_about("lease")
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    begun.elapsed()
}

async fn exit_code(scene: &Scene<'_>, controller: &Controller) -> Option<i32> {
    let status = scene
        .eventually("the end of a controller", async || controller.ended())
        .await;
    status.code()
}

/// Every workflow succeeds, each step by one attempt, one Job and one run of kubectl.
async fn all_is_done_once(scene: &Scene<'_>, names: &[String]) {
    for name in names {
        scene.succeeded(name).await;
        let data = &scene.get(CONFIG_MAP, name).await["data"];
        for number in 1..=STEPS {
            assert_eq!(data[format!("key-{number}")], format!("value-{number}"), "{name}");
            let execution = scene.execution(&format!("{name}-step-{number}")).await;
            let attempts = execution["status"]["attempts"].as_array().map(Vec::len);
            assert_eq!(attempts, Some(1), "{execution}");
        }
    }
    let total = names.len() * usize::try_from(STEPS).expect("few");
    assert_eq!(scene.jobs().await.len(), total, "one Job for each step");
    let of_ours = format!("--namespace={}", scene.namespace);
    let runs = scene.bed.cluster.kubelet.runs();
    let runs: Vec<_> = runs.iter().filter(|run| run.argv.contains(&of_ours)).collect();
    let pods: BTreeSet<_> = runs.iter().map(|run| &run.pod_uid).collect();
    assert_eq!(
        (runs.len(), pods.len()),
        (total, total),
        "kubectl ran once for each Job"
    );
    let audit = scene.bed.audit();
    assert_eq!(forbidden(&audit), Vec::<String>::new());
    let mut made = BTreeSet::new();
    for write in audit
        .iter()
        .filter(|entry| entry["verb"] == "create" && took_effect(entry))
    {
        let object = &write["objectRef"];
        if write["user"]["username"] == CONTROLLER && object["resource"] == "jobs" {
            assert!(made.insert(object["name"].to_string()), "{object} was made twice");
        }
    }
}

struct Write {
    time: String,
    what: String,
    took_effect: bool,
}

/// What a controller asked to be written, in the order of the answers.
fn writes(bed: &Bed, controller: &Controller) -> Vec<Write> {
    let audit = bed.audit();
    let ours = audit.iter().filter(|entry| {
        let ids = &entry["user"]["extra"]["authentication.kubernetes.io/credential-id"];
        ids[0] == controller.credential.as_str() && is_write(entry)
    });
    ours.map(|entry| Write {
        time: entry["stageTimestamp"].as_str().expect("a time").to_owned(),
        what: format!("{} {}", entry["verb"], entry["requestURI"]),
        took_effect: took_effect(entry),
    })
    .collect()
}

/// When a controller took the lease, and when it wrote something else first.
fn first_writes(bed: &Bed, controller: &Controller) -> (String, String) {
    let mut writes = writes(bed, controller);
    writes.retain(|write| write.took_effect);
    let first = |of_lease: bool| {
        let found = writes
            .iter()
            .find(|write| write.what.contains("/leases") == of_lease);
        found.map(|write| write.time.clone()).unwrap_or_default()
    };
    (first(true), first(false))
}

fn seconds_between(earlier: &str, later: &str) -> f64 {
    let time = |text: &str| text.parse::<jiff::Timestamp>().expect("a time");
    time(later).duration_since(time(earlier)).as_secs_f64()
}

#[tokio::test]
async fn a_leader_that_is_killed_is_replaced_when_its_lease_has_run_out() {
    let (bed, _turn) = bed().await;
    let (first, second, scene, names) = busy_pair(bed, "killed").await;
    assert!(!second.leads().await);
    drop(first);
    let took = taken_by(&scene, "killed-2").await;
    all_is_done_once(&scene, &names).await;
    let (lease, other) = first_writes(bed, &second);
    println!(
        "kill -9: the lease of {LEASE_DURATION:?} was taken after {took:?}, first write {:.3} s later",
        seconds_between(&lease, &other)
    );
    assert!(took < LEASE_DURATION + Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn a_leader_that_is_asked_to_end_hands_over_within_a_second_each_time() {
    let (bed, _turn) = bed().await;
    let (mut leader, mut waiting, scene, names) = busy_pair(bed, "asked").await;
    for round in 3..=6 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let host = format!("asked-{}", round - 1);
        leader.signal("TERM");
        let took = taken_by(&scene, &host).await;
        assert_eq!(exit_code(&scene, &leader).await, Some(0));
        println!("SIGTERM: the lease was taken after {took:?}");
        assert!(took < Duration::from_secs(1), "{took:?}");
        leader = std::mem::replace(&mut waiting, bed.start_replica(&format!("asked-{round}")).await);
    }
    all_is_done_once(&scene, &names).await;
}

#[tokio::test]
async fn a_leader_that_was_frozen_past_its_lease_writes_nothing_that_takes_effect() {
    let (bed, _turn) = bed().await;
    let (mut leader, mut waiting, scene, names) = busy_pair(bed, "frozen").await;
    for round in 3..=5 {
        let host = format!("frozen-{}", round - 1);
        leader.signal("STOP");
        let took = taken_by(&scene, &host).await;
        // Something for the new leader to do, and for the old one to find done.
        tokio::time::sleep(Duration::from_millis(500 + 400 * round)).await;
        leader.signal("CONT");
        assert_eq!(exit_code(&scene, &leader).await, Some(1));
        let (taken, _) = first_writes(bed, &waiting);
        let mut late = writes(bed, &leader);
        late.retain(|write| write.time > taken);
        let sent = late.len();
        late.retain(|write| write.took_effect);
        let (events, late): (Vec<_>, Vec<_>) = late
            .iter()
            .map(|write| &write.what)
            .partition(|what| what.contains("/events.k8s.io/"));
        println!(
            "SIGSTOP: the lease was taken after {took:?}; the frozen one sent {sent} writes after that, effective {late:?} and {events:?}"
        );
        assert!(!taken.is_empty() && late.is_empty());
        // An event has no precondition that could refuse it. They go out one by one, so the one that had passed the
        // gate when the process was stopped may still land; it says what was true then, and nobody acts on it.
        assert!(events.len() <= 1, "events after the lease was lost: {events:?}");
        assert!(took < LEASE_DURATION + Duration::from_secs(2), "{took:?}");
        leader = std::mem::replace(&mut waiting, bed.start_replica(&format!("frozen-{round}")).await);
        scene
            .eventually("it leads", async || leader.leads().await.then_some(()))
            .await;
    }
    all_is_done_once(&scene, &names).await;
}

#[tokio::test]
async fn a_lease_that_somebody_edits_never_has_two_that_write() {
    let (bed, _turn) = bed().await;
    let (mut leader, mut waiting, scene, names) = busy_pair(bed, "edited").await;
    let leases = api(&scene.client, LEASE, "kubernaut-system");
    let edits = [
        json!({"spec": {"holderIdentity": ""}}),
        json!({"spec": {"holderIdentity": null, "renewTime": null}}),
        json!({"spec": {"holderIdentity": "a stranger", "leaseDurationSeconds": 1, "renewTime": "2099-01-01T00:00:00.000000Z"}}),
        serde_json::Value::Null,
    ];
    for (round, edit) in (3..).zip(edits) {
        if edit.is_null() {
            leases
                .delete("kubernaut-controller", &kube::api::DeleteParams::default())
                .await
                .expect("deleted");
        } else {
            let patch = kube::api::Patch::Merge(&edit);
            leases
                .patch("kubernaut-controller", &kube::api::PatchParams::default(), &patch)
                .await
                .expect("edited");
        }
        let took = taken_by(&scene, &format!("edited-{}", round - 1)).await;
        assert_eq!(exit_code(&scene, &leader).await, Some(1), "{edit}");
        let (taken, _) = first_writes(bed, &waiting);
        let mut late = writes(bed, &leader);
        late.retain(|write| write.time > taken && write.took_effect);
        let late: Vec<_> = late.iter().map(|write| &write.what).collect();
        println!("{edit}: the lease was taken after {took:?}");
        assert!(!taken.is_empty() && late.is_empty(), "{edit}: {late:?}");
        leader = std::mem::replace(&mut waiting, bed.start_replica(&format!("edited-{round}")).await);
        scene
            .eventually("it leads", async || leader.leads().await.then_some(()))
            .await;
    }
    all_is_done_once(&scene, &names).await;
}
