//! Policies in Rego, with a whole controller: what they allow runs, what they deny does not, and nothing runs without those that
//! were asked for.

use std::fs;
use std::time::Duration;

use embedded_cluster::Rbac;
use kubernaut_crds::{ErrorType, ExecutionPhase, WorkflowPhase};
use tempfile::TempDir;

use crate::scene::{Scene, eventually, execution, step, workflow};

const PACKAGE: &str = "package kubernaut.execution\n";

fn write(directory: &TempDir, rules: &str) {
    fs::write(directory.path().join("a.rego"), format!("{PACKAGE}{rules}")).unwrap();
}

async fn scene(rules: &str) -> (Scene, TempDir) {
    let directory = TempDir::new().unwrap();
    write(&directory, rules);
    let flag = format!("--policy-dir={}", directory.path().display());
    (Scene::with(Rbac::AllowAll, &[&flag]).await, directory)
}

#[tokio::test(start_paused = true)]
async fn what_the_policy_allows_runs_and_what_it_denies_changes_nothing() {
    let rules = "allow if input.target.name == \"web-1\"\n\
                 violations contains sprintf(\"%s has %d replicas\", [input.target.name, input.state.replicas]) if not allow";
    let (scene, _directory) = scene(rules).await;
    scene
        .submit(workflow("fix", &[step(1, &[]), step(2, &[1])]))
        .await;
    let ended = scene.finished("fix").await;
    let status = ended.status.unwrap();
    assert_eq!(status.step_statuses[1].error_type, Some(ErrorType::PolicyDenied));
    assert_eq!(
        (scene.replicas("web-1").await, scene.replicas("web-2").await),
        (2, 1)
    );
    assert_eq!(
        scene
            .jobs()
            .list(&kube::api::ListParams::default())
            .await
            .unwrap()
            .items
            .len(),
        1
    );

    let allowed = scene.finished_execution("fix-step-1").await.status.unwrap();
    assert_eq!(allowed.phase, Some(ExecutionPhase::Completed));
    let policy = allowed.validation_results.unwrap().policy_validation.unwrap();
    assert!(policy.allowed && policy.policy_name.unwrap().starts_with("kubernaut.execution@"));
    let denied = scene.finished_execution("fix-step-2").await.status.unwrap();
    assert_eq!(denied.error_type, Some(ErrorType::PolicyDenied));
    let policy = denied.validation_results.unwrap().policy_validation.unwrap();
    assert_eq!(policy.violations, ["web-2 has 1 replicas"]);
    let message = denied.message.unwrap();
    assert!(
        message.contains("its rule allow (a.rego) is undefined: web-2 has 1 replicas"),
        "{message}"
    );
    let metrics = scene.telemetry.encode();
    for line in [
        "kubernaut_policy_verdicts_total{outcome=\"allowed\"} 1",
        "kubernaut_policy_verdicts_total{outcome=\"denied\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

/// Who holds the lock on another target stands in the input.
#[tokio::test(start_paused = true)]
async fn a_policy_sees_what_else_is_under_way() {
    let rules = "allow if count(input.executing) == 0\nviolations contains other.target.name if some other in input.executing";
    let (scene, _directory) = scene(rules).await;
    scene.hang_pods();
    scene.submit_execution(execution("first", "web-1")).await;
    eventually("the first runs", async || {
        scene.execution_phase("first").await == Some(ExecutionPhase::Executing)
    })
    .await;
    scene.submit_execution(execution("second", "web-2")).await;
    let second = scene.finished_execution("second").await.status.unwrap();
    assert_eq!(second.error_type, Some(ErrorType::PolicyDenied));
    let policy = second.validation_results.unwrap().policy_validation.unwrap();
    assert_eq!(policy.violations, ["web-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_changed_policy_decides_within_seconds_and_a_broken_one_never() {
    let (scene, directory) = scene("allow := true").await;
    scene.submit_execution(execution("before", "web-1")).await;
    let before = scene.finished_execution("before").await;
    assert_eq!(before.phase(), Some(ExecutionPhase::Completed));

    write(&directory, "allow := false");
    tokio::time::sleep(Duration::from_secs(6)).await;
    scene.submit_execution(execution("denied", "web-2")).await;
    let denied = scene.finished_execution("denied").await.status.unwrap();
    assert_eq!(denied.error_type, Some(ErrorType::PolicyDenied));

    write(&directory, "allow := {");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(scene.metric("kubernaut_policy_stale"), 1);
    scene.submit_execution(execution("still-denied", "web-3")).await;
    let denied = scene.finished_execution("still-denied").await.status.unwrap();
    assert_eq!(denied.error_type, Some(ErrorType::PolicyDenied));
    assert_eq!(scene.replicas("web-3").await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_controller_whose_policies_can_not_be_asked_does_not_start() {
    let directory = TempDir::new().unwrap();
    let flag = format!("--policy-dir={}", directory.path().display());
    let scene = Scene::without_controller(Rbac::AllowAll, &[&flag]);
    let error = scene.refuses_to_start().await.to_string();
    assert!(
        error.starts_with("--policy-dir=") && error.contains("has no file NAME.rego"),
        "{error}"
    );
    write(&directory, "allow := {");
    let error = scene.refuses_to_start().await.to_string();
    assert!(
        error.contains("a.rego:") && error.contains("nothing runs without policies"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_directory_everything_is_allowed_and_readyz_says_so() {
    let scene = Scene::new().await;
    scene.submit(workflow("fix", &[step(1, &[])])).await;
    assert_eq!(
        scene.finished("fix").await.phase(),
        Some(WorkflowPhase::Completed)
    );
    let step = scene.finished_execution("fix-step-1").await.status.unwrap();
    assert_eq!(step.validation_results.unwrap().policy_validation, None);
    assert!(
        step.conditions
            .iter()
            .all(|condition| condition.r#type != "PolicyAllowed")
    );
    let told = scene.readiness().report().1;
    assert!(
        told.contains("note: no policies (--policy-dir): everything is allowed that RBAC allows\n"),
        "{told}"
    );
}
