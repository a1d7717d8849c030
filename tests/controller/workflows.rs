//! Workflows from their creation to their end.

use std::sync::Arc;
use std::time::Duration;

use embedded_cluster::PodScript;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
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

/// The Events of the namespace, as `reason kind/name` and what each is related to.
async fn events(scene: &Scene) -> Vec<String> {
    // They are off the critical path.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let events: Api<Event> = Api::namespaced(scene.client.clone(), "shop");
    let mut told: Vec<String> = events
        .list(&ListParams::default())
        .await
        .unwrap()
        .items
        .into_iter()
        .filter(|event| event.reporting_controller.as_deref() == Some("kubernaut.io/controller"))
        .map(|event| {
            let regarding = event.regarding.unwrap();
            let related = event.related.and_then(|related| related.name);
            let related = related.map_or_else(String::new, |name| format!(" ({name})"));
            format!(
                "{} {}/{}{related}",
                event.reason.unwrap(),
                regarding.kind.unwrap(),
                regarding.name.unwrap()
            )
        })
        .collect();
    told.sort();
    told
}

#[tokio::test(start_paused = true)]
async fn what_goes_well_is_told_in_one_event_a_step_and_two_a_workflow() {
    let scene = Scene::new().await;
    scene.submit(workflow("w", &[step(1, &[]), step(2, &[1])])).await;
    scene.finished("w").await;
    scene.submit_execution(execution("by-hand", "web-3")).await;
    scene.finished_execution("by-hand").await;
    assert_eq!(
        events(&scene).await,
        [
            "ExecutionCompleted KubernetesExecution/by-hand",
            "ExecutionStarted KubernetesExecution/by-hand",
            "StepCompleted WorkflowExecution/w (w-step-1)",
            "StepCompleted WorkflowExecution/w (w-step-2)",
            "WorkflowCompleted WorkflowExecution/w",
            "WorkflowStarted WorkflowExecution/w",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_people_must_notice_is_told_on_the_workflow_and_on_the_execution() {
    let scene = Scene::new().await;
    scene.cluster.script_pods(Arc::new(|_| {
        Some(PodScript::ExitWith {
            code: 1,
            message: "Unable to connect to the server: EOF".to_owned(),
        })
    }));
    let mut failing = step(1, &[]);
    failing["maxRetries"] = serde_json::json!(1);
    scene.submit(workflow("w", &[failing, step(2, &[1])])).await;
    scene.finished("w").await;
    assert_eq!(
        events(&scene).await,
        [
            "AttemptFailed KubernetesExecution/w-step-1",
            "AttemptFailed KubernetesExecution/w-step-1",
            "AttemptFailed WorkflowExecution/w (w-step-1)",
            "ExecutionFailed KubernetesExecution/w-step-1",
            "StepFailed WorkflowExecution/w (w-step-1)",
            "StepSkipped WorkflowExecution/w",
            "WorkflowFailed WorkflowExecution/w",
            "WorkflowStarted WorkflowExecution/w",
        ]
    );
}
