//! Actors and controllers that crash at any moment.

use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use kubernaut_crds::{ExecutionPhase, StepState, WorkflowPhase};
use serde_json::json;

use crate::scene::{Scene, execution, step, workflow};

const STEP_RESTARTS: &str = "kubernaut_actor_restarts_total{kind=\"step\"}";
const WORKFLOW_RESTARTS: &str = "kubernaut_actor_restarts_total{kind=\"workflow\"}";

#[tokio::test(start_paused = true)]
async fn a_step_actor_that_crashes_at_any_of_its_messages_is_healed_and_harms_nobody() {
    for crashes in 1..=4 {
        let scene = Scene::new().await;
        scene.crash("step shop/bad-step-1", crashes);
        scene
            .submit(workflow("bad", &[step(1, &[]), step(2, &[1])]))
            .await;
        scene.submit(workflow("good", &[step(3, &[])])).await;
        let good = scene.finished("good").await.status.unwrap();
        assert_eq!(good.phase, Some(WorkflowPhase::Completed));
        let bad = scene.finished("bad").await.status.unwrap();
        assert_eq!(
            bad.phase,
            Some(WorkflowPhase::Completed),
            "{:?}",
            bad.failure_reason
        );
        assert_eq!(scene.metric(STEP_RESTARTS), i64::from(crashes));
        let jobs = scene.jobs().list(&ListParams::default()).await.unwrap().items;
        assert_eq!(jobs.len(), 3, "one Job a step");
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_whose_actor_crashes_again_and_again_fails_its_workflow_visibly() {
    let scene = Scene::new().await;
    scene.crash("step shop/bad-step-1", u32::MAX);
    scene.submit(workflow("bad", &[step(1, &[])])).await;
    scene.submit(workflow("good", &[step(2, &[])])).await;
    assert_eq!(
        scene.finished("good").await.status.unwrap().phase,
        Some(WorkflowPhase::Completed)
    );
    let bad = scene.finished("bad").await.status.unwrap();
    assert_eq!(bad.phase, Some(WorkflowPhase::Failed));
    assert_eq!(bad.step_statuses[0].status, StepState::Failed);
    assert!(
        bad.step_statuses[0]
            .error_message
            .as_ref()
            .unwrap()
            .contains("planned panic"),
        "{bad:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_workflow_actor_that_crashes_is_healed_and_its_steps_run_once() {
    for crashes in 1..=4 {
        let scene = Scene::new().await;
        scene
            .submit(workflow("bad", &[step(1, &[]), step(2, &[1])]))
            .await;
        tokio::time::sleep(Duration::from_millis(3)).await;
        scene.crash("workflow shop/bad", crashes);
        let bad = scene.finished("bad").await.status.unwrap();
        assert_eq!(
            bad.phase,
            Some(WorkflowPhase::Completed),
            "{:?}",
            bad.failure_reason
        );
        assert_eq!(scene.metric(WORKFLOW_RESTARTS), i64::from(crashes));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(scene.holds(), (0, 0));
        let jobs = scene.jobs().list(&ListParams::default()).await.unwrap().items;
        assert_eq!(jobs.len(), 2, "one Job a step");
    }
}

#[tokio::test(start_paused = true)]
async fn a_workflow_whose_actor_crashes_again_and_again_fails_visibly() {
    let scene = Scene::new().await;
    scene.crash("workflow shop/bad", 6);
    scene.submit(workflow("bad", &[step(1, &[])])).await;
    let bad = scene.finished("bad").await.status.unwrap();
    assert_eq!(bad.phase, Some(WorkflowPhase::Failed));
    assert!(bad.failure_reason.unwrap().contains("planned panic"));
    assert_eq!(bad.error_type, Some(kubernaut_crds::ErrorType::UnknownError));
}

#[tokio::test(start_paused = true)]
async fn an_execution_by_hand_whose_actor_crashes_too_often_waits_for_a_change_and_says_so() {
    let scene = Scene::new().await;
    scene.crash("step shop/by-hand", 6);
    scene.submit_execution(execution("by-hand", "web-1")).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(scene.execution_phase("by-hand").await, None);
    let events: Api<Event> = Api::namespaced(scene.client.clone(), "shop");
    let events = events.list(&ListParams::default()).await.unwrap().items;
    assert!(
        events
            .iter()
            .any(|event| event.reason.as_deref() == Some("ControllerError"))
    );
    scene.label_execution("by-hand", json!({"try": "again"})).await;
    let status = scene.finished_execution("by-hand").await.status.unwrap();
    assert_eq!(status.phase, Some(ExecutionPhase::Completed));
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_stops_at_any_moment_is_continued_by_the_next_one() {
    for moment in [0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 200, 1500] {
        let mut scene = Scene::new().await;
        scene.submit(workflow("w", &[step(1, &[]), step(2, &[1])])).await;
        tokio::time::sleep(Duration::from_millis(moment)).await;
        scene.stop().await;
        assert_eq!((scene.actors("workflow"), scene.actors("step")), (0, 0));
        tokio::time::sleep(Duration::from_secs(3)).await;
        scene.start().await;
        let status = scene.finished("w").await.status.unwrap();
        assert_eq!(
            status.phase,
            Some(WorkflowPhase::Completed),
            "{:?}",
            status.failure_reason
        );
        let jobs = scene.jobs().list(&ListParams::default()).await.unwrap().items;
        assert_eq!(jobs.len(), 2, "one Job a step");
    }
}
