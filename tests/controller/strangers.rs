//! Objects of others that have our names or labels, or can't be read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use embedded_cluster::{Fault, FaultFunction, PodScript, Rbac};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DynamicObject, ListParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, ResourceExt};
use kubernaut_crds::{ErrorType, ExecutionPhase, WorkflowPhase};
use kubernaut_machines::render::job_name;
use serde_json::{Value, json};

use crate::scene::{CONTROLLER, Scene, eventually, execution, step, workflow};

#[tokio::test(start_paused = true)]
async fn an_object_that_can_t_be_read_is_told_so_and_changes_nothing_for_others() {
    let scene = Scene::with_open_schemas().await;
    let kind = GroupVersionKind::gvk("workflow.kubernaut.io", "v1", "WorkflowExecution");
    let api: Api<DynamicObject> =
        Api::namespaced_with(scene.client.clone(), "shop", &ApiResource::from_gvk(&kind));
    let mut broken = workflow("broken", &[]);
    broken["spec"]["workflowDefinition"] = json!(7);
    let broken: DynamicObject = serde_json::from_value(broken).unwrap();
    api.create(&PostParams::default(), &broken).await.unwrap();
    scene.submit(workflow("good", &[step(1, &[])])).await;
    assert_eq!(
        scene.finished("good").await.status.unwrap().phase,
        Some(WorkflowPhase::Completed)
    );
    let events: Api<Event> = Api::namespaced(scene.client.clone(), "shop");
    let events = events.list(&ListParams::default()).await.unwrap().items;
    let told: Vec<&Event> = events
        .iter()
        .filter(|event| event.reason.as_deref() == Some("Unreadable"))
        .collect();
    assert_eq!(told.len(), 1);
    assert_eq!(
        told[0].regarding.as_ref().unwrap().name.as_deref(),
        Some("broken")
    );
}

#[tokio::test(start_paused = true)]
async fn a_foreign_execution_of_our_name_is_left_alone() {
    let scene = Scene::new().await;
    let foreign = scene.submit_execution(execution("w-step-1", "web-2")).await;
    scene.submit(workflow("w", &[step(1, &[])])).await;
    let status = scene.finished("w").await.status.unwrap();
    assert_eq!(status.phase, Some(WorkflowPhase::Failed));
    assert_eq!(
        status.error_type,
        Some(ErrorType::ResourceConflict),
        "{:?}",
        status.failure_reason
    );
    let found = scene.executions().get("w-step-1").await.unwrap();
    assert_eq!(found.uid(), foreign.uid());
    assert_eq!(found.spec, foreign.spec);
    assert_eq!(scene.replicas("web-1").await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_foreign_job_of_our_name_is_left_alone() {
    let mut scene = Scene::without_controller(Rbac::AllowAll, &[]);
    let by_hand = scene.submit_execution(execution("by-hand", "web-1")).await;
    let name = job_name("by-hand", &by_hand.uid().unwrap(), 1);
    let foreign: Job = serde_json::from_value(foreign_job(&name, &json!({}))).unwrap();
    let foreign = scene
        .jobs()
        .create(&PostParams::default(), &foreign)
        .await
        .unwrap();
    scene.start().await;
    let status = scene.finished_execution("by-hand").await.status.unwrap();
    assert_eq!(status.phase, Some(ExecutionPhase::Failed));
    assert_eq!(
        status.error_type,
        Some(ErrorType::ResourceConflict),
        "{:?}",
        status.failure_reason
    );
    assert_eq!(scene.jobs().get(&name).await.unwrap().uid(), foreign.uid());
    scene.delete_execution("by-hand").await;
    eventually("it is gone", async || {
        scene.executions().get_opt("by-hand").await.unwrap().is_none()
    })
    .await;
    assert_eq!(scene.jobs().get(&name).await.unwrap().uid(), foreign.uid());
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_only_its_label_calls_our_payload_is_not_used() {
    let mut scene = Scene::without_controller(Rbac::AllowAll, &[]);
    let by_hand = scene.submit_secret_update("by-hand").await;
    let uid = by_hand.uid().unwrap();
    let name = job_name("by-hand", &uid, 1);
    let foreign: Secret = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "kubernaut-executor", "labels": {"kubernaut.io/execution-uid": uid}},
        "stringData": {"patch.json": "{\"data\":{\"password\":\"dGhlaXJz\"}}"},
    }))
    .unwrap();
    let secrets: Api<Secret> = Api::namespaced(scene.client.clone(), "kubernaut-executor");
    secrets.create(&PostParams::default(), &foreign).await.unwrap();
    scene.start().await;
    let status = scene.finished_execution("by-hand").await.status.unwrap();
    assert_eq!(status.phase, Some(ExecutionPhase::Failed), "{status:?}");
    let reason = status.failure_reason.unwrap_or_default();
    assert!(
        reason.contains("is not the payload of this execution"),
        "{reason}"
    );
    let jobs = scene.jobs().list(&ListParams::default()).await.unwrap().items;
    assert!(jobs.is_empty(), "{jobs:?}");
}

#[tokio::test(start_paused = true)]
async fn a_payload_does_not_outlive_the_end_of_its_execution_nor_of_its_controller() {
    let mut scene = Scene::without_controller(Rbac::AllowAll, &[]);
    let by_hand = scene.submit_secret_update("by-hand").await;
    let name = job_name("by-hand", &by_hand.uid().unwrap(), 1);
    let foreign: Job = serde_json::from_value(foreign_job(&name, &json!({}))).unwrap();
    scene
        .jobs()
        .create(&PostParams::default(), &foreign)
        .await
        .unwrap();
    // The controller can't delete the payload as long as it lives.
    let refused = Fault::refused(503);
    scene.cluster.fault(std::sync::Arc::new(move |request| {
        let deletes = request.user.name == CONTROLLER && request.verb == "delete";
        (deletes && request.resource == "secrets").then(|| refused.clone())
    }));
    scene.start().await;
    eventually("the payload is made", async || scene.has_payload().await).await;
    tokio::time::sleep(Duration::from_mins(3)).await;
    scene.stop().await;
    scene.cluster.fault(std::sync::Arc::new(|_| None));
    scene.start().await;
    let status = scene.finished_execution("by-hand").await.status.unwrap();
    assert_eq!(status.error_type, Some(ErrorType::ResourceConflict), "{status:?}");
    assert!(!scene.has_payload().await, "{:?}", scene.remains().await);
}

#[tokio::test(start_paused = true)]
async fn a_job_of_an_execution_that_is_gone_is_deleted() {
    let mut scene = Scene::without_controller(Rbac::AllowAll, &[]);
    let labels = json!({
        "kubernaut.io/execution-uid": "gone", "kubernaut.io/execution-name": "gone", "kubernaut.io/execution-namespace": "shop",
    });
    let jobs = scene.jobs();
    let make = async |name: &str| {
        let mut stray = foreign_job(name, &labels);
        // As each of ours has it.
        stray["metadata"]["annotations"] = json!({"kubernaut.io/job-hash": "0123"});
        let stray: Job = serde_json::from_value(stray).unwrap();
        jobs.create(&PostParams::default(), &stray).await.unwrap();
    };
    make("before").await;
    scene.start().await;
    make("after").await;
    scene.is_clean().await;
    assert_eq!(scene.metric("kubernaut_stray_jobs_deleted_total"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_job_of_an_execution_that_is_gone_is_deleted_also_when_it_was_changed_just_then() {
    let mut scene = Scene::without_controller(Rbac::AllowAll, &[]);
    let mut stray = foreign_job(
        "stray",
        &json!({"kubernaut.io/execution-uid": "gone", "kubernaut.io/execution-name": "gone",
                "kubernaut.io/execution-namespace": "shop"}),
    );
    stray["metadata"]["annotations"] = json!({"kubernaut.io/job-hash": "0123"});
    stray["spec"]["backoffLimit"] = json!(0);
    let stray: Job = serde_json::from_value(stray).unwrap();
    scene.jobs().create(&PostParams::default(), &stray).await.unwrap();
    // It ends, so that nothing else draws attention to it.
    tokio::time::sleep(Duration::from_mins(1)).await;
    scene.cluster.fault(the_first_deletions_conflict());
    scene.start().await;
    tokio::time::sleep(Duration::from_mins(4)).await;
    assert_eq!(scene.remains().await, Vec::<String>::new());
    assert_eq!(scene.metric("kubernaut_stray_jobs_deleted_total"), 1);
}

/// The first deletions that the controller asks for are answered with a conflict, as if the object had just been changed.
pub(crate) fn the_first_deletions_conflict() -> FaultFunction {
    let met = AtomicUsize::new(0);
    Arc::new(move |request| {
        let ours = request.user.name == CONTROLLER && request.verb == "delete";
        (ours && met.fetch_add(1, Ordering::Relaxed) < 6).then(|| Fault::refused(409))
    })
}

#[tokio::test(start_paused = true)]
async fn a_job_that_only_its_labels_call_ours_is_left_alone() {
    let mut scene = Scene::without_controller(Rbac::AllowAll, &[]);
    let labels = json!({
        "kubernaut.io/execution-uid": "gone", "kubernaut.io/execution-name": "gone", "kubernaut.io/execution-namespace": "shop",
    });
    let jobs = scene.jobs();
    let foreign: Job = serde_json::from_value(foreign_job("foreign", &labels)).unwrap();
    let before = jobs.create(&PostParams::default(), &foreign).await.unwrap();
    scene.start().await;
    tokio::time::sleep(Duration::from_mins(5)).await;
    let after = jobs.get("foreign").await.unwrap();
    assert_eq!(after.metadata.uid, before.metadata.uid);
    assert_eq!(after.metadata.deletion_timestamp, None);
    assert_eq!(scene.metric("kubernaut_stray_jobs_deleted_total"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_only_its_labels_call_an_executions_holds_no_lock() {
    let scene = Scene::with(Rbac::AllowAll, &[]).await;
    scene.cluster.script_pods(std::sync::Arc::new(
        |pod| match pod["metadata"]["ownerReferences"][0]["name"].as_str() {
            Some("foreign") => Some(PodScript::Hang),
            _ => (pod["spec"]["restartPolicy"] == "Never").then_some(PodScript::Run {
                after: Duration::from_secs(5),
            }),
        },
    ));
    let first = scene.submit_execution(execution("first", "web-1")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let uid = first.metadata.uid.unwrap();
    let labels = json!({"kubernaut.io/execution-uid": uid, "kubernaut.io/attempt": "2"});
    let foreign: Job = serde_json::from_value(foreign_job("foreign", &labels)).unwrap();
    scene
        .jobs()
        .create(&PostParams::default(), &foreign)
        .await
        .unwrap();
    for name in ["first", "second"] {
        if name == "second" {
            scene.submit_execution(execution("second", "web-1")).await;
        }
        let status = scene.finished_execution(name).await.status.unwrap();
        assert_eq!(
            status.phase,
            Some(ExecutionPhase::Completed),
            "{name}: {:?}",
            status.message
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_workflow_without_rights_fails_and_names_them() {
    let scene = Scene::with(Rbac::Evaluate, &[]).await;
    scene.submit(workflow("w", &[step(1, &[])])).await;
    let status = scene.finished("w").await.status.unwrap();
    assert_eq!(status.phase, Some(WorkflowPhase::Failed));
    assert_eq!(status.error_type, Some(ErrorType::InsufficientPermissions));
    assert!(status.failure_reason.unwrap().contains("deployments"));
    scene.submit_execution(execution("by-hand", "web-1")).await;
    let status = scene.finished_execution("by-hand").await.status.unwrap();
    assert_eq!(status.error_type, Some(ErrorType::InsufficientPermissions));
    assert_eq!(scene.replicas("web-1").await, 1);
}

fn foreign_job(name: &str, labels: &Value) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": name, "namespace": "kubernaut-executor", "labels": labels},
        "spec": {"template": {"metadata": {"labels": labels}, "spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "kubectl", "image": "registry.k8s.io/kubectl:v1.35.4", "args": ["version"]}],
        }}},
    })
}
