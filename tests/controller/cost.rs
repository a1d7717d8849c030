//! How many requests a step costs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use embedded_cluster::{Fault, PodScript, Rbac, RequestRecord};
use kubernaut_crds::{Outcome, WorkflowPhase};
use serde_json::json;

use crate::scene::{CONTROLLER, Scene, execution, step, workflow};

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

/// What goes before what: 1 step, then 3, then 3, then 1.
const DIA8: [&[u32]; 8] = [&[], &[1], &[1], &[1], &[2], &[3], &[4], &[5, 6, 7]];

/// Requests of the controller for each step of so many workflows that begin at once, by verb and resource, where each takes
/// a while.
async fn requests_a_step(workflows: u32) -> BTreeMap<String, f64> {
    let scene = Scene::new().await;
    scene
        .cluster
        .fault(Arc::new(|_| Some(Fault::delayed(Duration::from_millis(5)))));
    scene.cluster.clear_requests();
    for number in 0..workflows {
        let step = |(index, before): (usize, &&[u32])| {
            let map = format!("map-{number}-{index}");
            let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"key": "value"},
                "metadata": {"name": map, "namespace": "shop"}});
            scene.cluster.load(vec![object]).unwrap();
            json!({"stepNumber": index + 1, "name": format!("s{index}"), "action": "update-configmap",
                "dependsOn": before, "parameters": {"updateConfigMap": {
                    "namespace": "shop", "name": map, "dataUpdates": {"key": "value"}}}})
        };
        let steps: Vec<_> = DIA8.iter().enumerate().map(step).collect();
        scene.submit(workflow(&format!("w{number}"), &steps)).await;
    }
    for number in 0..workflows {
        let result = scene
            .finished(&format!("w{number}"))
            .await
            .status
            .unwrap()
            .workflow_result;
        assert_eq!(result.unwrap().outcome, Outcome::Success);
    }
    // Events are published last.
    tokio::time::sleep(Duration::from_mins(1)).await;
    let steps = f64::from(workflows * 8);
    let mut counts = BTreeMap::new();
    let is_own =
        |record: &RequestRecord| record.request.user.name == CONTROLLER && record.request.verb != "watch";
    for record in scene.cluster.requests().into_iter().filter(is_own) {
        let request = record.request;
        let resource = match request.subresource.as_str() {
            "" => request.resource,
            subresource => format!("{}/{subresource}", request.resource),
        };
        *counts
            .entry(format!("{} {resource}", request.verb))
            .or_insert(0.0) += 1.0 / steps;
    }
    counts
}

#[tokio::test(start_paused = true)]
async fn a_burst_costs_no_more_requests_than_it_did() {
    // Of a step: its execution, its Job, two statuses, one Event, the target before and after. Of a workflow: two statuses and two
    // Events. Of all together: whether the account may, in the whole namespace.
    let budget = BTreeMap::from([
        ("create kubernetesexecutions", 1.0),
        ("create jobs", 1.0),
        ("patch kubernetesexecutions/status", 2.01),
        ("patch workflowexecutions/status", 0.25),
        ("create events", 1.25),
        ("get configmaps", 2.01),
        ("create subjectaccessreviews", 0.1),
        ("get serviceaccounts", 0.05),
    ]);
    let counts = requests_a_step(60).await;
    let above: Vec<_> = counts
        .iter()
        .filter(|(what, count)| **count > budget.get(what.as_str()).copied().unwrap_or(0.05) + 0.001)
        .collect();
    assert!(above.is_empty(), "{above:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_the_watch_shows_before_its_answer_comes_is_let_come_to_its_end() {
    let scene = Scene::new().await;
    scene.cluster.clear_requests();
    scene.cluster.fault(Arc::new(|request| {
        let writes = request.user.name == CONTROLLER && request.subresource == "status";
        writes.then(|| Fault::delayed(Duration::from_millis(200)))
    }));
    scene.submit(workflow("w", &[step(1, &[])])).await;
    scene.finished("w").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    for resource in ["kubernetesexecutions", "workflowexecutions"] {
        let sent = scene.cluster.requests().into_iter().filter(|record| {
            let request = &record.request;
            request.user.name == CONTROLLER && request.subresource == "status" && request.resource == resource
        });
        let answered = scene.metric(&format!(
            "kubernaut_api_requests_total{{verb=\"patch\",resource=\"{resource}/status\",code=\"200\"}}"
        ));
        assert_eq!(usize::try_from(answered).unwrap(), sent.count(), "{resource}");
    }
}

#[tokio::test(start_paused = true)]
async fn why_jobs_have_no_pod_is_asked_twice_a_second_however_many_they_are() {
    let scene = Scene::with(Rbac::AllowAll, &["--max-running-jobs=100"]).await;
    scene.cluster.script_pods(Arc::new(|_| {
        Some(PodScript::NeverStart {
            reason: "ContainerCreating".to_owned(),
            message: String::new(),
        })
    }));
    for number in 0..30 {
        let mut update = execution(&format!("update-{number}"), "web-1");
        update["spec"]["action"] = json!("update-configmap");
        update["spec"]["parameters"] = json!({"updateConfigMap": {
            "namespace": "shop", "configMap": format!("map-{number}"), "data": {"key": "value"}}});
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {},
            "metadata": {"name": format!("map-{number}"), "namespace": "shop"}});
        scene.cluster.load(vec![map]).unwrap();
        scene.submit_execution(update).await;
    }
    scene.cluster.clear_requests();
    tokio::time::sleep(Duration::from_secs(12)).await;
    // Of each Job that is asked about: its own, and its pod's.
    let requests = scene.cluster.requests().into_iter();
    let asked =
        requests.filter(|record| record.request.verb == "list" && record.request.resource == "events");
    let asked = asked.count();
    assert!((2..=2 * 9).contains(&asked), "{asked}");
}
