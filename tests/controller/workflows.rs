//! Workflows from their creation to their end.

use kube::ResourceExt;
use kube::api::ListParams;
use kubernaut_crds::{ExecutionPhase, Outcome, StepState, WorkflowPhase};

use crate::scene::{Scene, execution, step, workflow};

#[tokio::test(start_paused = true)]
async fn five_steps_run_in_the_order_of_their_dependencies() {
    let scene = Scene::new().await;
    let steps = [
        step(1, &[]),
        step(2, &[1]),
        step(3, &[1]),
        step(4, &[2, 3]),
        step(5, &[4]),
    ];
    scene.submit(workflow("five", &steps)).await;
    let status = scene.finished("five").await.status.unwrap();
    assert_eq!(
        status.phase,
        Some(WorkflowPhase::Completed),
        "{:?}",
        status.failure_reason
    );
    assert_eq!(status.workflow_result.unwrap().outcome, Outcome::Success);
    assert!(
        status
            .step_statuses
            .iter()
            .all(|step| step.status == StepState::Completed)
    );
    for number in 1..=5 {
        assert_eq!(scene.replicas(&format!("web-{number}")).await, 2);
    }
    let jobs = scene.jobs().list(&ListParams::default()).await.unwrap().items;
    let mut made: Vec<(u64, String)> = jobs
        .iter()
        .map(|job| (job.resource_version().unwrap().parse().unwrap(), job.name_any()))
        .collect();
    made.sort();
    assert_eq!(made.len(), 5);
    assert_eq!(scene.actors("workflow"), 0);
    assert_eq!(scene.actors("step"), 0);
    assert_eq!(
        scene.metric("kubernaut_workflow_phase_transitions_total{phase=\"completed\"}"),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn an_execution_made_by_hand_runs_without_a_workflow() {
    let scene = Scene::new().await;
    scene.submit_execution(execution("by-hand", "web-1")).await;
    let status = scene.finished_execution("by-hand").await.status.unwrap();
    assert_eq!(
        status.phase,
        Some(ExecutionPhase::Completed),
        "{:?}",
        status.failure_reason
    );
    assert_eq!(scene.replicas("web-1").await, 2);
    assert_eq!(scene.actors("step"), 0);
}
