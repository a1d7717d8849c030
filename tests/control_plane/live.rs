//! The verbs for workflows in a cluster, by the program, on a real API server with a real controller.

use std::process::Output;

use kubernaut_crds::names;
use serde_json::{Value, json};

use crate::bed::bed;
use crate::scene::{CONFIG_MAP, Scene, merge, step, workflow};

async fn run(scene: &Scene<'_>, user: Option<&str>, arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_kubernaut"));
    command.args(arguments);
    command.args(["--namespace", &scene.namespace]);
    command
        .arg("--kubeconfig")
        .arg(scene.bed.cluster.admin_kubeconfig());
    if let Some(user) = user {
        command.args(["--as", user]);
    }
    command.output().await.expect("the program")
}

/// What it printed, when it ended with this code.
fn said(output: &Output, code: i32) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let all = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{all}");
    all
}

/// An Approval counts that is made a while after the policy that makes it true.
async fn until_approvals_count(scene: &Scene<'_>) {
    scene
        .eventually("Approvals count", async || {
            let installed = crate::scene::api(
                &scene.client,
                "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy",
                "",
            );
            let policy = installed.get(names::APPROVALS_POLICY).await.ok()?;
            let created = policy.metadata.creation_timestamp?.0;
            let age = jiff::Timestamp::now().duration_since(created);
            (age.as_secs() > 12).then_some(())
        })
        .await;
}

fn asking(namespace: &str, name: &str) -> Value {
    let update = |key: &str| json!({"updateConfigMap": {"namespace": namespace, "name": "settings", "dataUpdates": {key: "new"}}});
    let steps = json!([
        step(1, "update-configmap", update("a"), json!({})),
        step(2, "update-configmap", update("b"), json!({"dependsOn": [1]})),
    ]);
    let mut asking = workflow(
        name,
        steps,
        json!({"executionStrategy": {"approvalRequired": true}}),
    );
    merge(
        &mut asking,
        json!({"metadata": {"annotations": {names::ANNOTATION_CREATED_BY: "admin"}, "labels": {"app": "web"}}}),
    );
    asking
}

async fn waits(scene: &Scene<'_>, name: &str) {
    scene
        .eventually("it waits for approval", async || {
            let workflow = scene.workflow(name).await;
            let message = workflow["status"]["message"].as_str().unwrap_or_default();
            message.starts_with("waits for approval").then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_workflow_is_found_approved_followed_and_taken_back_without_kubectl() {
    let scene = Scene::new(bed().await, "by-hand").await;
    let old = json!({"a": "old", "b": "old"});
    scene.config_map("settings", old.clone()).await;
    let nothing = said(&run(&scene, None, &["list"]).await, 0);
    assert!(
        nothing.starts_with("No workflows in namespace by-hand of cluster"),
        "{nothing}"
    );
    scene.create(asking(&scene.namespace, "asks")).await;
    waits(&scene, "asks").await;
    until_approvals_count(&scene).await;

    let listed = said(&run(&scene, None, &["list", "-l", "app=web"]).await, 0);
    let row = listed.lines().nth(1).expect("a row");
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells[..3], ["asks", "validating", "0/2"], "{listed}");
    assert_eq!(
        said(&run(&scene, None, &["list", "-o", "name"]).await, 0),
        "asks\n"
    );
    let misspelt = said(&run(&scene, None, &["get", "ask"]).await, 2);
    assert!(misspelt.contains("did you mean asks?"), "{misspelt}");

    // Who may not is refused by the API server, in its words, and nobody is asked where there is no terminal.
    let unasked = said(&run(&scene, None, &["approve", "asks"]).await, 2);
    assert!(unasked.contains("say --yes"), "{unasked}");
    let refused = said(
        &run(&scene, Some("stranger"), &["approve", "asks", "--yes"]).await,
        1,
    );
    assert!(
        refused.contains("User \"stranger\" cannot get resource"),
        "{refused}"
    );
    let late = said(&run(&scene, None, &["wait", "asks", "--timeout", "1s"]).await, 4);
    assert!(late.contains("has not ended within 1s"), "{late}");

    scene
        .create(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "approvers"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "kubernaut-approve"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ana"}],
        }))
        .await;
    let reason = ["approve", "asks", "--yes", "--reason", "looked at it"];
    let approved = said(&run(&scene, Some("ana"), &reason).await, 0);
    let digest = scene.workflow("asks").await["status"]["executionPlan"]["digest"].clone();
    assert!(
        approved.contains(digest.as_str().expect("a digest")),
        "{approved}"
    );
    assert!(approved.contains("by-hand/asks approved by ana"), "{approved}");

    let result = run(&scene, None, &["wait", "asks", "-o", "json"]).await;
    let result: Value = serde_json::from_str(&said(&result, 0)).expect("JSON");
    assert_eq!(result["apiVersion"], "cli.kubernaut.io/v1");
    assert_eq!(
        (&result["phase"], &result["outcome"]),
        (&json!("completed"), &json!("success"))
    );
    assert_eq!(
        (&result["createdBy"], &result["approvedBy"]),
        (&json!("admin"), &json!("ana"))
    );
    assert_eq!(result["steps"][1]["dependsOn"], json!([1]));
    assert_eq!(result["changes"].as_array().map(Vec::len), Some(2), "{result}");
    let shown = said(&run(&scene, None, &["get", "asks"]).await, 0);
    assert!(shown.contains("✓ 1 step-1"), "{shown}");
    assert!(shown.contains("└─ ✓ 2 step-2"), "{shown}");
    let ended = said(&run(&scene, None, &["cancel", "asks"]).await, 2);
    assert!(ended.contains("kubernaut rollback -n by-hand asks"), "{ended}");

    let back = said(&run(&scene, None, &["rollback", "asks", "--watch"]).await, 0);
    assert!(back.contains("takes back what it did"), "{back}");
    assert_eq!(scene.get(CONFIG_MAP, "settings").await["data"], old);
}

#[tokio::test]
async fn a_workflow_is_paused_resumed_rejected_and_deleted() {
    let scene = Scene::new(bed().await, "held").await;
    scene.config_map("settings", json!({})).await;
    scene.create(asking(&scene.namespace, "held")).await;
    waits(&scene, "held").await;
    until_approvals_count(&scene).await;
    assert!(said(&run(&scene, None, &["resume", "held"]).await, 0).contains("is not paused"));
    said(&run(&scene, None, &["suspend", "held"]).await, 0);
    assert_eq!(scene.workflow("held").await["spec"]["suspend"], true);
    said(&run(&scene, None, &["resume", "held"]).await, 0);
    assert_eq!(scene.workflow("held").await["spec"]["suspend"], false);
    waits(&scene, "held").await;
    said(
        &run(&scene, None, &["reject", "held", "--yes", "--reason", "not now"]).await,
        0,
    );
    let followed = said(&run(&scene, None, &["watch", "held"]).await, 1);
    assert!(followed.contains("approval_rejected"), "{followed}");
    said(&run(&scene, None, &["delete", "held"]).await, 0);
    scene
        .eventually("it is gone", async || {
            let gone = run(&scene, None, &["get", "held"]).await;
            (gone.status.code() == Some(2)).then_some(())
        })
        .await;
}
