//! People who approve: a workflow, a single execution, and what a namespace requires.

use std::time::Duration;

use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kubernaut::manifests::{Installation, objects};
use kubernaut_crds::{Approval, ApprovalSource, ErrorType, ExecutionPhase, WorkflowPhase, names};
use serde_json::{Value, json};

use crate::scene::{CONTROLLER, Scene, eventually, execution, step, workflow};

/// The policy that makes Approvals true, and its binding.
fn guard() -> Vec<Value> {
    let installed = objects(&Installation::default()).unwrap();
    let mut found = installed.into_iter();
    let is_of_the_guard = |object: &Value| {
        object["kind"]
            .as_str()
            .is_some_and(|kind| kind.starts_with("ValidatingAdmissionPolicy"))
            && object["metadata"]["name"] == names::APPROVALS_POLICY
    };
    let found: Vec<Value> = found.by_ref().filter(is_of_the_guard).collect();
    assert_eq!(found.len(), 2);
    found
}

/// A scene in which Approvals count.
async fn guarded() -> Scene {
    let scene = Scene::new().await;
    scene.cluster.load(guard()).unwrap();
    // An Approval counts that is made a while after the policy.
    tokio::time::sleep(Duration::from_secs(12)).await;
    scene
}

fn by_eve(mut object: Value) -> Value {
    object["metadata"]["annotations"]["kubernaut.io/created-by"] = json!("eve");
    object
}

/// A workflow by eve that needs so many approvals.
fn asking(name: &str, approvals: u32) -> Value {
    let mut asking = by_eve(workflow(name, &[step(1, &[]), step(2, &[1])]));
    asking["spec"]["executionStrategy"] = json!({"approvalRequired": true, "requiredApprovals": approvals});
    asking
}

async fn decide(scene: &Scene, name: &str, by: &str, subject: (&str, &str, &str), decision: &str) {
    let (kind, object, uid) = subject;
    let approval = json!({
        "apiVersion": "workflow.kubernaut.io/v1", "kind": "Approval", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"objectRef": {"kind": kind, "name": object, "uid": uid}, "decision": decision, "approver": by,
                 "reason": "looked at"},
    });
    let api: Api<Approval> = Api::namespaced(scene.client.clone(), "shop");
    let approval = serde_json::from_value(approval).unwrap();
    api.create(&PostParams::default(), &approval).await.unwrap();
}

async fn approve(scene: &Scene, name: &str, by: &str) {
    let uid = scene.workflows().get(name).await.unwrap().metadata.uid.unwrap();
    let subject = (names::WORKFLOW_KIND, name, uid.as_str());
    decide(scene, &format!("{name}-{by}"), by, subject, "Approved").await;
}

async fn waits(scene: &Scene, name: &str) {
    eventually(&format!("{name} waits for approval"), async || {
        message(scene, name).await.starts_with("waits for approval")
    })
    .await;
    assert_eq!(scene.workflow_phase(name).await, Some(WorkflowPhase::Validating));
}

async fn message(scene: &Scene, name: &str) -> String {
    let workflow = scene.workflows().get(name).await.unwrap();
    workflow
        .status
        .and_then(|status| status.message)
        .unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_workflow_runs_once_two_people_have_approved_it() {
    let scene = guarded().await;
    scene.submit(asking("w", 2)).await;
    waits(&scene, "w").await;
    approve(&scene, "w", "ana").await;
    eventually("one has approved", async || {
        message(&scene, "w").await.contains("(1 of 2)")
    })
    .await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(scene.remains().await.is_empty());
    approve(&scene, "w", "bob").await;
    let status = scene.finished("w").await.status.unwrap();
    assert_eq!(status.phase, Some(WorkflowPhase::Completed));
    assert_eq!(status.approval.unwrap().names(), "ana, bob");
    for name in ["w-step-1", "w-step-2"] {
        let execution = scene.executions().get(name).await.unwrap();
        assert_eq!(execution.created_by(), Some("eve"));
        let approval = execution.status.unwrap().approval.unwrap();
        assert_eq!(approval.source, ApprovalSource::Workflow, "{name}");
        assert_eq!(approval.approved_by.as_deref(), Some("ana, bob"), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_approval_costs_two_writes_of_the_workflow_and_one_of_each_step() {
    let scene = guarded().await;
    scene.submit(asking("w", 1)).await;
    waits(&scene, "w").await;
    scene.cluster.clear_requests();
    approve(&scene, "w", "ana").await;
    scene.finished("w").await;
    let requests = scene.cluster.requests();
    let count = |resource: &str, subresource: &str| {
        let ours = requests.iter().filter(|record| {
            let request = &record.request;
            request.user.name == CONTROLLER && request.verb == "patch"
        });
        let patches = ours.filter(|record| {
            record.request.resource == resource && record.request.subresource == subresource
        });
        patches.count()
    };
    assert_eq!(count("kubernetesexecutions", ""), 2, "a release each");
    assert_eq!(
        count("kubernetesexecutions", "status"),
        4,
        "as without an approval"
    );
    assert_eq!(count("workflowexecutions", "status"), 2);
}

#[tokio::test(start_paused = true)]
async fn workflows_that_wait_ask_the_api_server_for_nothing_and_hold_no_slot() {
    let scene = guarded().await;
    for number in 0..60 {
        scene.submit(asking(&format!("w{number}"), 1)).await;
    }
    for number in 0..60 {
        waits(&scene, &format!("w{number}")).await;
    }
    assert_eq!(scene.holds(), (0, 0));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(scene.actors("workflow"), 0);
    scene.cluster.clear_requests();
    tokio::time::sleep(Duration::from_mins(20)).await;
    let requests = scene.cluster.requests();
    let ours = requests
        .iter()
        .filter(|record| record.request.user.name == CONTROLLER && record.request.verb != "watch");
    let ours: Vec<String> = ours
        .map(|record| format!("{} {}", record.request.verb, record.request.resource))
        .collect();
    assert!(ours.is_empty(), "{ours:?}");
    // None is in the way of one that needs none.
    scene.submit(workflow("other", &[step(3, &[])])).await;
    let other = scene.finished("other").await.status.unwrap();
    assert_eq!(other.phase, Some(WorkflowPhase::Completed));
}

/// Nobody looks after it while it waits; all that it waits for is noticed.
#[tokio::test(start_paused = true)]
async fn one_that_waits_is_woken_by_whatever_may_end_its_wait() {
    let scene = guarded().await;
    let names = ["approved", "cancelled", "deleted", "tried", "late"];
    for name in names {
        let mut workflow = asking(name, 1);
        workflow["spec"]["executionStrategy"]["dryRunFirst"] = json!(name == "tried");
        scene.submit(workflow).await;
    }
    for name in names {
        waits(&scene, name).await;
    }
    let nobody_looks = async || scene.actors("workflow") + scene.actors("step") == 0;
    eventually("nobody looks after them", &nobody_looks).await;
    let workflows = scene.workflows();
    let shutdown = Patch::Merge(json!({"spec": {"shutdown": "Cancel"}}));
    workflows
        .patch("cancelled", &PatchParams::default(), &shutdown)
        .await
        .unwrap();
    let status = scene.finished("cancelled").await.status.unwrap();
    assert_eq!(status.error_type, Some(ErrorType::Cancelled));

    scene.delete_workflow("deleted").await;
    eventually("it is gone", async || {
        workflows.get_opt("deleted").await.unwrap().is_none()
    })
    .await;

    // Somebody deletes what was tried: it is let go.
    scene.delete_execution("tried-dryrun-1").await;
    let executions = scene.executions();
    eventually("its dry run is gone", async || {
        executions.get_opt("tried-dryrun-1").await.unwrap().is_none()
    })
    .await;
    eventually("nobody looks after them", &nobody_looks).await;
    approve(&scene, "tried", "ana").await;
    approve(&scene, "approved", "ana").await;
    let status = scene.finished("approved").await.status.unwrap();
    assert_eq!(status.phase, Some(WorkflowPhase::Completed));
    let status = scene.finished("tried").await.status.unwrap();
    assert_eq!(status.phase, Some(WorkflowPhase::Completed));
    tokio::time::sleep(Duration::from_mins(61)).await;
    let status = scene.finished("late").await.status.unwrap();
    assert_eq!(status.error_type, Some(ErrorType::ApprovalTimeout));
    assert_eq!(scene.actors("workflow"), 0);
}

/// What a namespace asked for is taken back.
#[tokio::test(start_paused = true)]
async fn what_waits_since_its_namespace_requires_approval_runs_when_it_no_longer_does() {
    let scene = guarded().await;
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(scene.client.clone());
    let ask = async |value: Value| {
        let label = Patch::Merge(json!({"metadata": {"labels": {"kubernaut.io/approval": value}}}));
        let parameters = PatchParams::default();
        namespaces.patch("shop", &parameters, &label).await.unwrap();
    };
    ask(json!("required")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    scene.submit(by_eve(workflow("w", &[step(1, &[])]))).await;
    waits(&scene, "w").await;
    eventually("nobody looks after it", async || scene.actors("workflow") == 0).await;
    ask(Value::Null).await;
    let status = scene.finished("w").await.status.unwrap();
    assert_eq!(status.phase, Some(WorkflowPhase::Completed));
}

#[tokio::test(start_paused = true)]
async fn without_the_policy_nobodys_approval_counts_and_readyz_says_why() {
    let mut scene = Scene::without_controller(embedded_cluster::Rbac::AllowAll, &[]);
    let controller = scene.start_told().await;
    let report = || controller.report().1;
    eventually("it is told", async || {
        report().contains(
            "note: nobody's Approval counts: ValidatingAdmissionPolicy kubernaut-approvals does not exist",
        )
    })
    .await;
    scene.submit(asking("w", 1)).await;
    waits(&scene, "w").await;
    approve(&scene, "w", "ana").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(message(&scene, "w").await.contains("nobody's Approval counts"));
    // Installed later, it says nothing of what was made before.
    scene.cluster.load(guard()).unwrap();
    eventually("the policy is seen", async || {
        report().contains("note: Approvals count that were made after")
    })
    .await;
    eventually("it is asked for", async || {
        message(&scene, "w").await.contains("make another one")
    })
    .await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(scene.workflow_phase("w").await, Some(WorkflowPhase::Validating));
    approve(&scene, "w", "bob").await;
    let status = scene.finished("w").await.status.unwrap();
    assert_eq!(status.approval.unwrap().names(), "bob");
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_was_weakened_for_a_moment_voids_what_was_approved_meanwhile() {
    let scene = guarded().await;
    scene.submit(asking("w", 2)).await;
    waits(&scene, "w").await;
    approve(&scene, "w", "ana").await;
    eventually("one has approved", async || {
        message(&scene, "w").await.contains("(1 of 2)")
    })
    .await;
    let policies: Api<k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy> =
        Api::all(scene.client.clone());
    let set = async |policy: &str| {
        let patch = Patch::Merge(json!({"spec": {"failurePolicy": policy}}));
        policies
            .patch(names::APPROVALS_POLICY, &PatchParams::default(), &patch)
            .await
            .unwrap();
    };
    set("Ignore").await;
    eventually("it is told", async || {
        message(&scene, "w").await.contains("is not what this version")
    })
    .await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    set("Fail").await;
    eventually("ana's approval is void", async || {
        message(&scene, "w").await.contains("(0 of 2)")
    })
    .await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    approve(&scene, "w", "bob").await;
    approve(&scene, "w", "cem").await;
    let status = scene.finished("w").await.status.unwrap();
    assert_eq!(status.approval.unwrap().names(), "bob, cem");
}

#[tokio::test(start_paused = true)]
async fn a_rejection_ends_it_and_one_taken_back_counts_no_more() {
    let scene = guarded().await;
    scene.submit(asking("w", 2)).await;
    waits(&scene, "w").await;
    approve(&scene, "w", "ana").await;
    eventually("one has approved", async || {
        message(&scene, "w").await.contains("(1 of 2)")
    })
    .await;
    let api: Api<Approval> = Api::namespaced(scene.client.clone(), "shop");
    api.delete("w-ana", &DeleteParams::default()).await.unwrap();
    eventually("it was taken back", async || {
        message(&scene, "w").await.contains("(0 of 2)")
    })
    .await;
    let uid = scene.workflows().get("w").await.unwrap().metadata.uid.unwrap();
    let subject = (names::WORKFLOW_KIND, "w", uid.as_str());
    decide(&scene, "no", "bob", subject, "Rejected").await;
    let status = scene.finished("w").await.status.unwrap();
    assert_eq!(status.error_type, Some(ErrorType::ApprovalRejected));
    assert_eq!(
        status.failure_reason.as_deref(),
        Some("rejected by bob: looked at")
    );
    assert!(scene.remains().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn in_a_namespace_that_requires_it_everything_waits_for_approval() {
    let scene = guarded().await;
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(scene.client.clone());
    let label = Patch::Merge(json!({"metadata": {"labels": {"kubernaut.io/approval": "required"}}}));
    namespaces
        .patch("shop", &PatchParams::default(), &label)
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    scene.submit(by_eve(workflow("w", &[step(1, &[])]))).await;
    scene.submit_execution(by_eve(execution("alone", "web-2"))).await;
    waits(&scene, "w").await;
    eventually("the execution waits", async || {
        scene.execution_phase("alone").await == Some(ExecutionPhase::WaitingApproval)
    })
    .await;
    assert!(
        scene
            .jobs()
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    approve(&scene, "w", "ana").await;
    let uid = scene
        .executions()
        .get("alone")
        .await
        .unwrap()
        .metadata
        .uid
        .unwrap();
    let subject = (names::EXECUTION_KIND, "alone", uid.as_str());
    decide(&scene, "of-alone", "ana", subject, "Approved").await;
    let workflow = scene.finished("w").await.status.unwrap();
    assert_eq!(workflow.phase, Some(WorkflowPhase::Completed));
    let execution = scene.finished_execution("alone").await.status.unwrap();
    assert_eq!(execution.phase, Some(ExecutionPhase::Completed));
    let approval = execution.approval.unwrap();
    assert_eq!(approval.source, ApprovalSource::Execution);
    assert_eq!(approval.approved_by.as_deref(), Some("ana"));
}

#[tokio::test(start_paused = true)]
async fn a_wait_outlives_the_controller_and_so_does_its_deadline() {
    let mut scene = guarded().await;
    scene.submit(asking("w", 1)).await;
    scene.submit(asking("late", 1)).await;
    waits(&scene, "w").await;
    waits(&scene, "late").await;
    scene.stop().await;
    approve(&scene, "w", "ana").await;
    tokio::time::sleep(Duration::from_mins(30)).await;
    scene.start().await;
    let status = scene.finished("w").await.status.unwrap();
    assert_eq!(status.phase, Some(WorkflowPhase::Completed));
    tokio::time::sleep(Duration::from_mins(25)).await;
    assert_eq!(
        scene.workflow_phase("late").await,
        Some(WorkflowPhase::Validating)
    );
    tokio::time::sleep(Duration::from_mins(6)).await;
    let late = scene.finished("late").await.status.unwrap();
    assert_eq!(late.error_type, Some(ErrorType::ApprovalTimeout));
}
