//! How many requests a step costs.

use std::time::Duration;

use kubernaut_crds::WorkflowPhase;

use crate::scene::{CONTROLLER, Scene, step, workflow};

/// The controller's requests for a workflow of four steps, as `verb resource name code`.
async fn requests_of_a_run() -> Vec<String> {
    let scene = Scene::new().await;
    scene.cluster.clear_requests();
    let steps = [step(1, &[]), step(2, &[1]), step(3, &[1]), step(4, &[2, 3])];
    scene.submit(workflow("w", &steps)).await;
    assert_eq!(
        scene.finished("w").await.status.unwrap().phase,
        Some(WorkflowPhase::Completed)
    );
    let requests = scene
        .cluster
        .requests()
        .into_iter()
        .filter(|record| record.request.user.name == CONTROLLER);
    requests
        .map(|record| {
            let request = record.request;
            let resource = match request.subresource.as_str() {
                "" => request.resource,
                subresource => format!("{}/{subresource}", request.resource),
            };
            format!("{} {resource} {} {}", request.verb, request.name, record.code)
        })
        .collect()
}

fn count(requests: &[String], prefix: &str) -> usize {
    requests
        .iter()
        .filter(|request| request.starts_with(prefix))
        .count()
}

#[tokio::test(start_paused = true)]
async fn a_step_costs_four_writes_and_a_workflow_one_for_each_phase_it_stays_in() {
    let requests = requests_of_a_run().await;
    assert_eq!(count(&requests, "create kubernetesexecutions"), 4);
    assert_eq!(count(&requests, "patch kubernetesexecutions/status"), 8);
    assert_eq!(count(&requests, "create jobs"), 4);
    assert_eq!(count(&requests, "patch workflowexecutions/status"), 2);
    let verbs = ["create", "update", "patch", "delete"];
    let writes = requests
        .iter()
        .filter(|request| verbs.iter().any(|verb| request.starts_with(verb)));
    let free = ["create events", "create subjectaccessreviews"];
    let writes = writes.filter(|request| !free.iter().any(|free| request.starts_with(free)));
    assert_eq!(writes.count(), 4 * 4 + 2);
}

#[tokio::test(start_paused = true)]
async fn no_request_of_a_run_in_which_nothing_happens_fails() {
    let requests = requests_of_a_run().await;
    let failed: Vec<&String> = requests
        .iter()
        .filter(|request| !(request.ends_with(" 200") || request.ends_with(" 201")))
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn the_same_run_sends_the_same_requests_in_the_same_order() {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(requests_of_a_run())
    };
    assert_eq!(run(), run());
}

#[tokio::test(start_paused = true)]
async fn a_controller_with_nothing_to_do_asks_for_nothing() {
    let scene = Scene::new().await;
    scene.submit(workflow("w", &[step(1, &[])])).await;
    scene.finished("w").await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    scene.cluster.clear_requests();
    tokio::time::sleep(Duration::from_mins(4)).await;
    let requests = scene.cluster.requests();
    assert!(requests.is_empty(), "{requests:?}");
}
