//! Writes that are refused, answers that are lost, and watches that are blind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use embedded_cluster::{Fault, FaultAnswer, FaultFunction, PodScript, Rbac};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use kubernaut_crds::{AttemptOutcome, ExecutionPhase, Outcome, WorkflowPhase};
use kubernaut_machines::render::job_name;
use serde_json::json;

use crate::scene::{CONTROLLER, Scene, eventually, execution, step, workflow};

/// Writes of a workflow of two steps, and some more for what is done again.
const WRITES: usize = 14;

/// The controller's write of this number meets this fault.
fn at_write(number: usize, fault: Fault) -> FaultFunction {
    let seen = AtomicUsize::new(0);
    Arc::new(move |request| {
        let ours = request.user.name == CONTROLLER;
        let writes = matches!(request.verb.as_str(), "create" | "update" | "patch" | "delete");
        let counted =
            ours && writes && !["events", "subjectaccessreviews"].contains(&request.resource.as_str());
        (counted && seen.fetch_add(1, Ordering::Relaxed) == number).then(|| fault.clone())
    })
}

async fn survives(name: &str, fault: Fault) {
    for number in 0..WRITES {
        let scene = Scene::new().await;
        scene.cluster.fault(at_write(number, fault.clone()));
        scene.submit(workflow("w", &[step(1, &[]), step(2, &[1])])).await;
        let status = scene.finished("w").await.status.unwrap();
        let what = format!("{name} at write {number}: {:?}", status.step_statuses);
        let outcome = status.workflow_result.map(|result| result.outcome);
        assert_eq!(outcome, Some(Outcome::Success), "{what}");
        let jobs = scene.jobs().list(&ListParams::default()).await.unwrap().items;
        assert_eq!(jobs.len(), 2, "{what}");
        assert_eq!(
            scene.metric("kubernaut_actor_restarts_total{kind=\"step\"}"),
            0,
            "{what}"
        );
        let ends = scene.metric("kubernaut_workflow_phase_transitions_total{phase=\"completed\"}");
        assert_eq!(ends, 1, "{what}");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(scene.holds(), (0, 0), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_refused_for_now_is_made_again() {
    for code in [401, 429, 500, 503] {
        survives(&format!("code {code}"), Fault::refused(code)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_is_lost_is_not_made_twice() {
    survives("dropped before", Fault::dropped(false)).await;
    survives("dropped after", Fault::dropped(true)).await;
    survives("504 after", Fault::after_commit(504)).await;
    survives("late", Fault::delayed(Duration::from_secs(20))).await;
}

#[tokio::test(start_paused = true)]
async fn lost_watches_and_a_compacted_history_change_nothing() {
    for moment in [1, 5, 20, 60, 900, 1200] {
        let scene = Scene::new().await;
        scene.submit(workflow("w", &[step(1, &[]), step(2, &[1])])).await;
        tokio::time::sleep(Duration::from_millis(moment)).await;
        scene.cluster.compact();
        scene.cluster.drop_watches();
        let status = scene.finished("w").await.status.unwrap();
        let outcome = status.workflow_result.map(|result| result.outcome);
        assert_eq!(
            outcome,
            Some(Outcome::Success),
            "{moment} ms: {:?}",
            status.step_statuses
        );
        let jobs = scene.jobs().list(&ListParams::default()).await.unwrap().items;
        assert_eq!(jobs.len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_that_succeeds_while_the_watches_of_jobs_and_pods_are_blind_has_succeeded() {
    let scene = Scene::new().await;
    let blind = Arc::new(AtomicBool::new(false));
    let is_blind = Arc::clone(&blind);
    scene.cluster.fault(Arc::new(move |request| {
        let watched = ["jobs", "pods"].contains(&request.resource.as_str());
        let follows = request.verb == "watch" || (request.resource == "jobs" && request.verb == "list");
        let hit = is_blind.load(Ordering::Relaxed) && request.user.name == CONTROLLER && watched && follows;
        hit.then(|| Fault::refused(503))
    }));
    scene.cluster.script_pods(Arc::new(|pod| {
        let ours = pod["metadata"]["namespace"] == "kubernaut-executor";
        ours.then(|| PodScript::Run {
            after: Duration::from_secs(10),
        })
    }));
    let mut slow = step(1, &[]);
    slow["timeout"] = json!("30s");
    scene.submit(workflow("w", &[slow])).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    blind.store(true, Ordering::Relaxed);
    scene.cluster.drop_watches();
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert_eq!(scene.workflow_phase("w").await, Some(WorkflowPhase::Completed));
    blind.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!(scene.holds(), (0, 0));
    let jobs = scene.jobs().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(jobs.len(), 1, "a Job that is done is left to its time to live");
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_to_a_write_that_the_watch_has_shown_holds_nothing_up() {
    let scene = Scene::new().await;
    scene.cluster.fault(Arc::new(|request| {
        let late =
            request.user.name == CONTROLLER && request.verb == "patch" && request.subresource == "status";
        late.then(|| Fault::delayed(Duration::from_secs(9)))
    }));
    scene.submit(workflow("w", &[step(1, &[]), step(2, &[1])])).await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(scene.workflow_phase("w").await, Some(WorkflowPhase::Completed));
    assert_eq!(scene.holds(), (0, 0));
}

/// That the Job of `by-hand` is gone.
async fn is_noticed_within_a_minute(scene: &Scene) {
    tokio::time::sleep(Duration::from_mins(1)).await;
    let status = scene.executions().get("by-hand").await.unwrap().status.unwrap();
    assert_eq!(
        status.attempts[0].outcome,
        Some(AttemptOutcome::Lost),
        "{status:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_gone_before_its_create_is_answered_is_noticed() {
    let scene = Scene::new().await;
    scene.hang_pods();
    scene.cluster.fault(Arc::new(|request| {
        let creates =
            request.user.name == CONTROLLER && request.verb == "create" && request.resource == "jobs";
        creates.then(|| Fault::delayed(Duration::from_secs(10)))
    }));
    let made = scene.submit_execution(execution("by-hand", "web-1")).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let job = job_name("by-hand", &made.uid().unwrap(), 1);
    let background = DeleteParams::background();
    scene.jobs().delete(&job, &background).await.unwrap();
    is_noticed_within_a_minute(&scene).await;
}

#[tokio::test(start_paused = true)]
async fn a_payload_that_arrives_late_is_deleted_too() {
    let scene = Scene::new().await;
    let first = AtomicBool::new(true);
    scene.cluster.fault(Arc::new(move |request| {
        let creates =
            request.user.name == CONTROLLER && request.verb == "create" && request.resource == "secrets";
        (creates && first.swap(false, Ordering::Relaxed)).then(|| Fault::underway(Duration::from_secs(40)))
    }));
    scene.submit_secret_update("by-hand").await;
    let status = scene.finished_execution("by-hand").await.status.unwrap();
    assert_eq!(status.phase, Some(ExecutionPhase::Completed), "{status:?}");
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert!(!scene.has_payload().await, "{:?}", scene.remains().await);
}

#[tokio::test(start_paused = true)]
async fn a_step_that_has_ended_before_its_watch_shows_it_is_not_run_again() {
    let mut scene = Scene::without_controller(Rbac::AllowAll, &[]);
    scene.cluster.fault(Arc::new(|request| {
        let watches = request.user.name == CONTROLLER && request.verb == "watch";
        (watches && request.resource == "kubernetesexecutions").then(|| Fault {
            answer: FaultAnswer::Lagging(Duration::from_secs(2)),
            ..Fault::delayed(Duration::ZERO)
        })
    }));
    scene.start().await;
    scene.submit(workflow("w", &[step(1, &[])])).await;
    scene.finished("w").await;
    let made = scene.jobs().list(&ListParams::default()).await.unwrap().items;
    let job = made[0].name_any();
    scene
        .jobs()
        .delete(&job, &DeleteParams::background())
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let again = scene.jobs().get_opt(&job).await.unwrap();
    assert!(again.is_none(), "it was made once more");
    assert_eq!(scene.holds(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_gone_before_any_watch_has_shown_it_is_noticed() {
    let scene = Scene::new().await;
    scene.hang_pods();
    // The first lists are there.
    tokio::time::sleep(Duration::from_secs(1)).await;
    scene.cluster.fault(Arc::new(|request| {
        let follows = ["watch", "list"].contains(&request.verb.as_str());
        let blind = request.user.name == CONTROLLER && follows && request.resource == "jobs";
        blind.then(|| Fault::refused(503))
    }));
    scene.cluster.drop_watches();
    let made = scene.submit_execution(execution("by-hand", "web-1")).await;
    let job = job_name("by-hand", &made.uid().unwrap(), 1);
    eventually("its Job is made", async || {
        scene.jobs().get_opt(&job).await.unwrap().is_some()
    })
    .await;
    scene
        .jobs()
        .delete(&job, &DeleteParams::background())
        .await
        .unwrap();
    is_noticed_within_a_minute(&scene).await;
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_lists_nothing_is_asked_less_and_less_often() {
    let scene = Scene::new().await;
    scene.cluster.fault(Arc::new(|request| {
        let follows = ["list", "watch"].contains(&request.verb.as_str());
        (follows && request.user.name == CONTROLLER).then(|| Fault::refused(503))
    }));
    scene.cluster.compact();
    scene.cluster.drop_watches();
    scene.cluster.clear_requests();
    tokio::time::sleep(Duration::from_mins(2)).await;
    let requests = scene.cluster.requests();
    let lists = requests
        .iter()
        .filter(|record| record.request.verb == "list")
        .count();
    // Of eight kinds: after 0.8 s, and then each time after twice as long, up to half a minute.
    assert!((8 * 5..8 * 12).contains(&lists), "{lists} lists");
}
