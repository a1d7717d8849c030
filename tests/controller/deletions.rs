//! What is deleted at any moment leaves nothing behind.

use std::time::Duration;

use embedded_cluster::Rbac;
use kube::api::{Patch, PatchParams};
use kubernaut_crds::{ErrorType, WorkflowPhase};
use serde_json::json;

use crate::scene::{Scene, eventually, execution, step, workflow};
use crate::strangers::the_first_deletions_conflict;

/// Moments, in milliseconds after the start, from before the first write to after the end.
const MOMENTS: [u64; 12] = [0, 1, 5, 10, 20, 40, 80, 200, 700, 1100, 2500, 6000];

async fn no_actors(scene: &Scene) {
    eventually("no actor is left", async || {
        scene.actors("workflow") == 0 && scene.actors("step") == 0
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_workflow_that_is_deleted_at_any_moment_leaves_nothing_behind() {
    for moment in MOMENTS {
        let scene = Scene::new().await;
        scene
            .submit(workflow("w", &[step(1, &[]), step(2, &[]), step(3, &[1, 2])]))
            .await;
        tokio::time::sleep(Duration::from_millis(moment)).await;
        scene.delete_workflow("w").await;
        scene.is_clean().await;
        no_actors(&scene).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_that_is_deleted_at_any_moment_ends_its_workflow_and_leaves_nothing_behind() {
    for moment in MOMENTS {
        let scene = Scene::new().await;
        scene.submit(workflow("w", &[step(1, &[]), step(2, &[1])])).await;
        eventually("the step exists", async || {
            scene.executions().get_opt("w-step-1").await.unwrap().is_some()
        })
        .await;
        tokio::time::sleep(Duration::from_millis(moment)).await;
        scene.delete_execution("w-step-1").await;
        let status = scene.finished("w").await.status.unwrap();
        assert!(matches!(
            status.phase,
            Some(WorkflowPhase::Completed | WorkflowPhase::Failed)
        ));
        eventually("the step is gone", async || {
            scene.executions().get_opt("w-step-1").await.unwrap().is_none()
        })
        .await;
        scene.delete_workflow("w").await;
        scene.is_clean().await;
        no_actors(&scene).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_execution_made_by_hand_and_deleted_at_any_moment_leaves_nothing_behind() {
    for moment in MOMENTS {
        let scene = Scene::new().await;
        scene.submit_execution(execution("by-hand", "web-1")).await;
        tokio::time::sleep(Duration::from_millis(moment)).await;
        scene.delete_execution("by-hand").await;
        scene.is_clean().await;
        no_actors(&scene).await;
    }
}

#[tokio::test(start_paused = true)]
async fn steps_outlive_a_workflow_whose_actor_is_gone_until_their_jobs_have_stopped() {
    let scene = Scene::new().await;
    scene.hang_pods();
    scene.submit(workflow("w", &[step(1, &[])])).await;
    eventually("its Job runs", async || {
        scene.remains().await.iter().any(|name| name.starts_with("pod"))
    })
    .await;
    scene.delete_workflow("w").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(scene.actors("workflow"), 0);
    assert_eq!(scene.actors("step"), 1, "{:?}", scene.remains().await);
    scene.is_clean().await;
    no_actors(&scene).await;
}

#[tokio::test(start_paused = true)]
async fn a_terminal_workflow_is_deleted_when_its_time_to_live_is_over() {
    let scene = Scene::new().await;
    for (name, ttl) in [("short", 60), ("kept", 0)] {
        let mut object = workflow(name, &[step(1, &[])]);
        object["spec"]["ttlSecondsAfterFinished"] = json!(ttl);
        scene.submit(object).await;
        scene.finished(name).await;
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(scene.workflow_phase("short").await.is_some());
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert!(scene.workflow_phase("short").await.is_none());
    assert!(scene.workflow_phase("kept").await.is_some());
}

#[tokio::test(start_paused = true)]
async fn what_was_changed_when_its_time_was_over_is_deleted_a_little_later() {
    let scene = Scene::with(Rbac::AllowAll, &["--execution-ttl=1h"]).await;
    let mut object = workflow("short", &[step(1, &[])]);
    object["spec"]["ttlSecondsAfterFinished"] = json!(60);
    scene.submit(object).await;
    scene.finished("short").await;
    scene.cluster.fault(the_first_deletions_conflict());
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert!(scene.workflow_phase("short").await.is_none());
    scene.submit_execution(execution("by-hand", "web-2")).await;
    scene.finished_execution("by-hand").await;
    scene.cluster.fault(the_first_deletions_conflict());
    tokio::time::sleep(Duration::from_mins(65)).await;
    assert!(scene.executions().get_opt("by-hand").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn the_jobs_of_a_workflow_in_deletion_are_stopped_although_somebody_keeps_it() {
    let scene = Scene::new().await;
    scene.hang_pods();
    scene.submit(workflow("w", &[step(1, &[])])).await;
    eventually("its Job runs", async || {
        scene.remains().await.iter().any(|name| name.starts_with("pod"))
    })
    .await;
    let keep = |finalizers: serde_json::Value| Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
    let workflows = scene.workflows();
    let parameters = PatchParams::default();
    workflows
        .patch("w", &parameters, &keep(json!(["example.com/backup"])))
        .await
        .unwrap();
    scene.delete_workflow("w").await;
    eventually("its Job is gone, and its step says why", async || {
        let step = scene.executions().get("w-step-1").await.unwrap();
        let status = step.status.unwrap();
        status.error_type == Some(ErrorType::Cancelled)
            && !scene.remains().await.iter().any(|name| name.starts_with("pod"))
    })
    .await;
    workflows.patch("w", &parameters, &keep(json!([]))).await.unwrap();
    scene.is_clean().await;
    no_actors(&scene).await;
}

#[tokio::test(start_paused = true)]
async fn an_execution_that_a_person_made_goes_some_time_after_its_end_and_a_steps_with_its_workflow() {
    let scene = Scene::with(Rbac::AllowAll, &["--execution-ttl=1h"]).await;
    scene.submit(workflow("w", &[step(1, &[])])).await;
    scene.finished("w").await;
    scene.submit_execution(execution("by-hand", "web-2")).await;
    scene.finished_execution("by-hand").await;
    let there = async |name: &str| scene.executions().get_opt(name).await.unwrap().is_some();
    tokio::time::sleep(Duration::from_secs(3500)).await;
    assert!(there("by-hand").await);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(!there("by-hand").await && there("w-step-1").await);
}

#[tokio::test(start_paused = true)]
async fn an_execution_that_a_person_made_stays_where_its_time_to_live_is_zero() {
    let scene = Scene::with(Rbac::AllowAll, &["--execution-ttl=0s"]).await;
    scene.submit_execution(execution("by-hand", "web-2")).await;
    scene.finished_execution("by-hand").await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(scene.executions().get_opt("by-hand").await.unwrap().is_some());
}
