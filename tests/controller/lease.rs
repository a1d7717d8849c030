//! Several controllers, one lease.

use std::sync::Arc;
use std::time::Duration;

use embedded_cluster::{Fault, FaultFunction, PodScript, RequestInfo};
use jiff::SignedDuration;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use kubernaut::RunError;
use kubernaut_crds::{ExecutionPhase, WorkflowPhase};
use tokio::time::Instant;

use crate::scene::{Controller, Scene, eventually, metric, step, workflow};

const LEASE_DURATION: Duration = Duration::from_secs(15);
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
const UPDATES: &str = "kubernaut_api_requests_total{verb=\"update\",resource=\"leases\",code=\"200\"}";

/// Two controllers, the first of which leads.
async fn two(scene: &Scene) -> (Controller, Controller) {
    let first = scene.candidate("first").await;
    eventually("the first leads", async || first.leads()).await;
    let second = scene.candidate("second").await;
    (first, second)
}

fn empty_scene() -> Scene {
    Scene::without_controller(embedded_cluster::Rbac::AllowAll, &[])
}

fn is_write(request: &RequestInfo) -> bool {
    ["create", "update", "patch", "delete"].contains(&request.verb.as_str())
}

/// Writes of a controller, but those of the lease, and access reviews, which change nothing.
fn writes(scene: &Scene, user: &str) -> usize {
    let records = scene.cluster.requests().into_iter();
    let harmless = ["leases", "subjectaccessreviews"];
    let ours = records.filter(|record| record.request.user.name == user);
    ours.filter(|record| is_write(&record.request) && !harmless.contains(&record.request.resource.as_str()))
        .count()
}

/// Pods run for a second.
fn slow_pods(scene: &Scene) {
    scene.cluster.script_pods(Arc::new(|pod| {
        (pod["metadata"]["namespace"] == "kubernaut-executor").then_some(PodScript::Run {
            after: Duration::from_secs(1),
        })
    }));
}

fn leases(scene: &Scene) -> Api<Lease> {
    Api::namespaced(scene.client.clone(), "kubernaut-system")
}

async fn completed_with_one_job_a_step(scene: &Scene, name: &str, steps: usize) {
    let status = scene.finished(name).await.status.unwrap();
    assert_eq!(
        status.phase,
        Some(WorkflowPhase::Completed),
        "{:?}",
        status.failure_reason
    );
    let jobs = scene.jobs().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(jobs.len(), steps, "one Job a step");
}

#[tokio::test(start_paused = true)]
async fn of_two_controllers_one_acts_and_the_other_waits_and_is_ready() {
    let scene = empty_scene();
    let (first, second) = two(&scene).await;
    scene.submit(workflow("w", &[step(1, &[]), step(2, &[1])])).await;
    completed_with_one_job_a_step(&scene, "w", 2).await;
    assert!(writes(&scene, "first") > 0);
    assert_eq!(writes(&scene, "second"), 0);
    assert!(first.leads() && !second.leads());
    let (ready, report) = second.readiness.report();
    assert!(
        ready && report.contains("waits for the lease held by first"),
        "{report}"
    );
    assert!(first.readiness.report().1.contains("holds the lease"));
}

#[tokio::test(start_paused = true)]
async fn a_lease_costs_one_request_in_four_seconds_and_who_waits_asks_for_nothing() {
    let scene = empty_scene();
    let (_first, _second) = two(&scene).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    scene.cluster.clear_requests();
    tokio::time::sleep(Duration::from_mins(4)).await;
    let requests: Vec<String> = scene
        .cluster
        .requests()
        .into_iter()
        .map(|record| format!("{} {}", record.request.user.name, record.request.verb))
        .collect();
    assert_eq!(requests.len(), 60, "{requests:?}");
    assert!(
        requests.iter().all(|request| request == "first update"),
        "{requests:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_asked_to_end_hands_over_within_a_second() {
    for moment in [0, 3, 8, 34, 200, 1500] {
        let scene = empty_scene();
        slow_pods(&scene);
        let (first, second) = two(&scene).await;
        scene.submit(workflow("w", &[step(1, &[]), step(2, &[1])])).await;
        tokio::time::sleep(Duration::from_millis(moment)).await;
        let asked = Instant::now();
        first.stop().await;
        eventually("the second leads", async || second.leads()).await;
        let took = asked.elapsed();
        assert!(took < Duration::from_secs(1), "{moment} ms: {took:?}");
        completed_with_one_job_a_step(&scene, "w", 2).await;
        assert_eq!(metric(&second.telemetry, "kubernaut_leader_changes_total"), 1);
        let lease = leases(&scene).get("kubernaut-controller").await.unwrap();
        let spec = lease.spec.unwrap();
        assert_eq!(spec.holder_identity.as_deref(), Some("second"));
        assert_eq!(spec.lease_transitions, Some(1));
    }
}

/// From now on all that the first sends for the lease meets this fault.
fn cut_off(scene: &Scene, fault: Fault) {
    let function: FaultFunction = Arc::new(move |request| {
        (request.user.name == "first" && request.resource == "leases" && is_write(request))
            .then(|| fault.clone())
    });
    scene.cluster.fault(function);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_can_not_renew_has_ended_before_the_next_one_begins() {
    for fault in [
        Fault::refused(503),
        Fault::dropped(false),
        Fault::dropped(true),
        Fault::delayed(Duration::from_secs(3600)),
    ] {
        let scene = empty_scene();
        slow_pods(&scene);
        let (first, second) = two(&scene).await;
        let steps: Vec<_> = (1..=9)
            .map(|number| step(number, &(1..number).next_back().into_iter().collect::<Vec<_>>()))
            .collect();
        let renewals = metric(&first.telemetry, UPDATES);
        eventually("a renewal", async || metric(&first.telemetry, UPDATES) > renewals).await;
        let renewed = Instant::now();
        cut_off(&scene, fault);
        // Work for longer than the lease lasts.
        tokio::time::sleep(Duration::from_secs(5)).await;
        scene.submit(workflow("w", &steps)).await;
        let error = first.ended().await;
        let ended = renewed.elapsed();
        assert!(matches!(error, RunError::LeaseLost(_)), "{error}");
        assert!(ended <= RENEW_DEADLINE, "{ended:?}");
        assert!(!second.leads());
        let written = writes(&scene, "first");
        assert!(written > 4);
        eventually("the second leads", async || second.leads()).await;
        let took = renewed.elapsed();
        assert!(took + Duration::from_millis(100) > LEASE_DURATION, "{took:?}");
        completed_with_one_job_a_step(&scene, "w", 9).await;
        assert_eq!(writes(&scene, "first"), written, "it wrote after its end");
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_machine_slept_writes_nothing_before_it_has_renewed_its_lease() {
    let scene = empty_scene();
    let (first, _second) = two(&scene).await;
    let renewals = metric(&first.telemetry, UPDATES);
    eventually("a renewal", async || metric(&first.telemetry, UPDATES) > renewals).await;
    scene.jump(SignedDuration::from_secs(60));
    scene.submit(workflow("w", &[step(1, &[])])).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(writes(&scene, "first"), 0);
    assert!(first.leads());
    completed_with_one_job_a_step(&scene, "w", 1).await;
    assert!(writes(&scene, "first") > 0);
}

#[tokio::test(start_paused = true)]
async fn a_dead_leader_is_missed_when_its_lease_has_run_out() {
    let scene = empty_scene();
    let (first, second) = two(&scene).await;
    // Renewals that are not even sent: as a process that was killed.
    cut_off(&scene, Fault::dropped(false));
    let died = Instant::now();
    first.ended().await;
    eventually("the second leads", async || second.leads()).await;
    let took = died.elapsed();
    assert!(took < LEASE_DURATION + Duration::from_secs(2), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_knows_what_was_done_before_whatever_its_watches_missed() {
    let scene = empty_scene();
    scene.hang_pods();
    let (first, second) = two(&scene).await;
    // Its watches of everything but the lease are dead.
    scene.cluster.fault(Arc::new(|request| {
        (request.user.name == "second" && request.verb == "watch" && request.resource != "leases")
            .then(|| Fault::dropped(false))
    }));
    scene.cluster.drop_watches();
    scene.submit(workflow("w", &[step(1, &[])])).await;
    eventually("the step runs", async || {
        scene.execution_phase("w-step-1").await == Some(ExecutionPhase::Executing)
            && !scene
                .jobs()
                .list(&ListParams::default())
                .await
                .unwrap()
                .items
                .is_empty()
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    first.stop().await;
    eventually("the second leads", async || second.leads()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let actors = |kind| metric(&second.telemetry, &format!("kubernaut_actors{{kind=\"{kind}\"}}"));
    assert_eq!((actors("workflow"), actors("step")), (1, 1));
    assert_eq!(
        metric(&second.telemetry, "kubernaut_job_slots{state=\"used\"}"),
        1
    );
    assert_eq!(writes(&scene, "second"), 0, "there is nothing to do");
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_left_to_run_out_while_a_write_may_be_under_way() {
    let scene = empty_scene();
    let (first, second) = two(&scene).await;
    scene.cluster.fault(Arc::new(|request| {
        (request.verb == "create" && request.resource == "jobs")
            .then(|| Fault::delayed(Duration::from_secs(25)))
    }));
    scene.submit(workflow("w", &[step(1, &[])])).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let asked = Instant::now();
    first.stop().await;
    let stopped = asked.elapsed();
    assert!(
        stopped >= Duration::from_secs(10),
        "the call was waited for: {stopped:?}"
    );
    let released = Instant::now();
    eventually("the second leads", async || second.leads()).await;
    let took = released.elapsed();
    assert!(took > Duration::from_secs(10), "{took:?}");
    completed_with_one_job_a_step(&scene, "w", 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_is_deleted_ends() {
    let scene = empty_scene();
    let (first, second) = two(&scene).await;
    leases(&scene)
        .delete("kubernaut-controller", &DeleteParams::default())
        .await
        .unwrap();
    let error = first.ended().await;
    assert!(matches!(error, RunError::LeaseLost(_)), "{error}");
    eventually("the second leads", async || second.leads()).await;
    scene.submit(workflow("w", &[step(1, &[])])).await;
    completed_with_one_job_a_step(&scene, "w", 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_can_not_be_read_makes_a_controller_not_ready() {
    let scene = empty_scene();
    let (_first, second) = two(&scene).await;
    scene.cluster.fault(Arc::new(|request| {
        (request.user.name == "second" && request.resource == "leases").then(|| Fault::refused(403))
    }));
    scene.cluster.drop_watches();
    eventually("not ready", async || {
        second
            .readiness
            .report()
            .1
            .contains("missing: an answer about the lease")
    })
    .await;
    scene.cluster.fault(Arc::new(|_| None));
    eventually("ready again", async || second.readiness.report().0).await;
    assert!(!second.leads());
}
