//! Workflows and steps for which there is no slot yet: they cost nothing, say so, and take their turns.

use std::sync::Arc;
use std::time::Duration;

use embedded_cluster::{Fault, Rbac};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kubernaut_crds::{KubernetesExecution, WorkflowExecution, WorkflowPhase};
use serde_json::{Value, json};

use crate::scene::{CONTROLLER, Scene, eventually, execution, step, workflow};

/// A workflow of so many steps, one after the other, in another namespace.
async fn submit_in_bank(scene: &Scene, steps: u32) -> Api<WorkflowExecution> {
    let objects: Vec<Value> = vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bank"}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "bank"}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {}, "metadata": {"name": "map", "namespace": "bank"}}),
    ];
    scene.cluster.load(objects).unwrap();
    let steps: Vec<Value> = (1..=steps)
        .map(|number| {
            let before: Vec<u32> = (1..number).collect();
            let mut step = step(number, &before);
            step["action"] = json!("update-configmap");
            step["parameters"] = json!({"updateConfigMap":
                {"namespace": "bank", "name": "map", "dataUpdates": {"key": "value"}}});
            step
        })
        .collect();
    let mut single = workflow("single", &steps);
    single["metadata"]["namespace"] = json!("bank");
    let bank: Api<WorkflowExecution> = Api::namespaced(scene.client.clone(), "bank");
    let single = serde_json::from_value(single).unwrap();
    bank.create(&PostParams::default(), &single).await.unwrap();
    bank
}

async fn message_of(scene: &Scene, workflow: &str) -> String {
    let status = scene.workflows().get(workflow).await.unwrap().status;
    status.and_then(|status| status.message).unwrap_or_default()
}

/// So that the controller has seen the one before.
async fn submit_after_the_last(scene: &Scene, workflow: Value) {
    scene.submit(workflow).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Names of the executions there are, in the order in which they were begun.
async fn made(scene: &Scene) -> Vec<String> {
    let all: Api<KubernetesExecution> = Api::all(scene.client.clone());
    let mut made = all.list(&ListParams::default()).await.unwrap().items;
    made.sort_by_key(|execution| execution.status.as_ref().unwrap().start_time.as_ref().unwrap().0);
    made.into_iter()
        .map(|execution| execution.metadata.name.unwrap())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_workflow_without_a_slot_has_no_actor_and_says_what_it_waits_for() {
    let scene = Scene::with(Rbac::AllowAll, &["--max-running-jobs=2"]).await;
    scene.pods_take(20);
    for number in 1..=6 {
        submit_after_the_last(&scene, workflow(&format!("w{number}"), &[step(number, &[])])).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((scene.actors("workflow"), scene.actors("step")), (2, 2));
    assert_eq!(scene.metric("kubernaut_job_slots{state=\"waiting\"}"), 4);
    assert_eq!(
        scene.workflow_phase("w3").await,
        None,
        "a short wait is not worth a write"
    );
    tokio::time::sleep(Duration::from_secs(4)).await;
    for waiting in ["w3", "w4", "w5", "w6"] {
        assert_eq!(scene.workflow_phase(waiting).await, Some(WorkflowPhase::Planning));
        assert_eq!(
            message_of(&scene, waiting).await,
            "waits to be started: as many Jobs run as --max-running-jobs allows"
        );
    }
    // It is said once, and then nothing is asked or written for them.
    scene.cluster.clear_requests();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let requests = scene.cluster.requests().into_iter();
    let asked: Vec<_> = requests
        .filter(|record| {
            record.request.user.name == CONTROLLER && ["patch", "get"].contains(&&*record.request.verb)
        })
        .map(|record| format!("{} {}", record.request.verb, record.request.resource))
        .collect();
    assert_eq!(asked, [""; 0], "{asked:?}");
    // One that is deleted while it waits leaves the queue, and one that is changed keeps its place.
    scene.delete_workflow("w3").await;
    let labels = json!({"metadata": {"labels": {"seen": "yes"}}});
    scene
        .workflows()
        .patch("w4", &PatchParams::default(), &Patch::Merge(labels))
        .await
        .unwrap();
    for name in ["w1", "w2", "w4", "w5", "w6"] {
        let status = scene.finished(name).await.status.unwrap();
        assert_eq!(status.phase, Some(WorkflowPhase::Completed));
        assert_eq!(status.message.as_deref(), Some("1 of 1 step completed"));
    }
    let order: Vec<String> = (1..=6)
        .filter(|n| *n != 3)
        .map(|n| format!("w{n}-step-{n}"))
        .collect();
    assert_eq!(made(&scene).await, order);
    assert_eq!(scene.holds(), (0, 0));
    assert_eq!(scene.metric("kubernaut_job_slots{state=\"waiting\"}"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_step_without_a_slot_is_no_execution_yet_and_its_workflow_names_it() {
    let scene = Scene::with(Rbac::AllowAll, &["--max-running-jobs=2"]).await;
    scene.pods_take(10);
    let steps: Vec<_> = (1..=5).map(|number| step(number, &[])).collect();
    scene.submit(workflow("w", &steps)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(made(&scene).await, ["w-step-1", "w-step-2"]);
    assert_eq!(
        message_of(&scene, "w").await,
        "running: 1 (step-1), 2 (step-2); waiting for a slot: 3 (step-3), 4 (step-4), 5 (step-5): as many Jobs run as \
         --max-running-jobs allows"
    );
    scene.finished("w").await;
    assert_eq!(scene.holds(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_has_begun_goes_on_before_another_workflow_begins_and_a_restart_changes_nothing() {
    let mut scene = Scene::with(Rbac::AllowAll, &["--max-running-jobs=1"]).await;
    scene.pods_take(5);
    for number in 1..=3 {
        let steps = [step(number, &[]), step(number + 3, &[])];
        submit_after_the_last(&scene, workflow(&format!("w{number}"), &steps)).await;
    }
    tokio::time::sleep(Duration::from_secs(8)).await;
    scene.stop().await;
    scene.start().await;
    for name in ["w1", "w2", "w3"] {
        assert_eq!(
            scene.finished(name).await.status.unwrap().phase,
            Some(WorkflowPhase::Completed)
        );
    }
    let order = made(&scene).await;
    let expected = [
        "w1-step-1",
        "w1-step-4",
        "w2-step-2",
        "w2-step-5",
        "w3-step-3",
        "w3-step-6",
    ];
    assert_eq!(order, expected);
}

#[tokio::test(start_paused = true)]
async fn a_flood_in_one_namespace_does_not_keep_another_waiting() {
    let scene = Scene::with(Rbac::AllowAll, &["--max-running-jobs=2"]).await;
    scene.pods_take(10);
    let flood = |number: u32| {
        let mut object = workflow(&format!("flood-{number}"), &[step(number % 9 + 1, &[])]);
        object["spec"]["workflowDefinition"]["steps"][0]["action"] = json!("update-configmap");
        object["spec"]["workflowDefinition"]["steps"][0]["parameters"] = json!({"updateConfigMap": {
            "namespace": "shop", "name": format!("map-{number}"), "dataUpdates": {"key": "value"}}});
        object
    };
    for number in 0..100 {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {},
            "metadata": {"name": format!("map-{number}"), "namespace": "shop"}});
        scene.cluster.load(vec![map]).unwrap();
        scene.submit(flood(number)).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let bank = submit_in_bank(&scene, 3).await;
    let began = tokio::time::Instant::now();
    eventually("the single workflow is done", async || {
        let status = bank.get("single").await.unwrap().status;
        status.and_then(|status| status.phase) == Some(WorkflowPhase::Completed)
    })
    .await;
    // Alone it takes 30 s: three steps of 10 s. Each waits for the next slot at most, not for those before it.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(62), "{took:?}");
    assert!(
        made(&scene).await.len() < 20,
        "the others are not made before their time"
    );
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_target_keeps_no_slot_from_those_that_need_none_but_that() {
    let scene = Scene::with(Rbac::AllowAll, &["--max-running-jobs=2"]).await;
    scene.pods_take(30);
    for name in ["a", "b", "c"] {
        scene.submit(workflow(name, &[step(1, &[])])).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    // One runs and two wait for its target: one slot is free, whoever waits.
    scene.submit_execution(execution("other", "web-2")).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(scene.holds(), (2, 2));
    for name in ["a", "b", "c"] {
        scene.finished(name).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_workflow_that_can_t_be_started_gives_its_slot_back() {
    let scene = Scene::with(Rbac::AllowAll, &["--max-running-jobs=1"]).await;
    scene.pods_take(5);
    scene.cluster.fault(Arc::new(|request| {
        let made = request.verb == "create" && request.resource == "kubernetesexecutions";
        (made && request.namespace == "shop").then(|| Fault::refused(503))
    }));
    scene.submit(workflow("stuck", &[step(1, &[])])).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let bank = submit_in_bank(&scene, 2).await;
    eventually("the other workflow is done", async || {
        let status = bank.get("single").await.unwrap().status;
        status.and_then(|status| status.phase) == Some(WorkflowPhase::Completed)
    })
    .await;
    scene.cluster.fault(Arc::new(|_| None));
    let status = scene.finished("stuck").await.status.unwrap();
    assert_eq!(status.phase, Some(WorkflowPhase::Completed));
    assert_eq!(scene.holds(), (0, 0));
}
