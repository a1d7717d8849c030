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
    let scene = Scene::new(bed().await, "by-command").await;
    let old = json!({"a": "old", "b": "old"});
    scene.config_map("settings", old.clone()).await;
    let nothing = said(&run(&scene, None, &["list"]).await, 0);
    assert!(
        nothing.starts_with("No workflows in namespace by-command of cluster"),
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
    assert!(approved.contains("by-command/asks approved by ana"), "{approved}");

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
    assert!(ended.contains("kubernaut rollback -n by-command asks"), "{ended}");

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

/// A file with a workflow of these steps, which runs as the account fixer.
fn file(scene: &Scene<'_>, name: &str, steps: Value) -> tempfile::NamedTempFile {
    let more = json!({"serviceAccountName": "fixer"});
    let mut workflow = workflow(name, steps, more);
    workflow["metadata"]["namespace"] = json!(scene.namespace);
    let file = tempfile::Builder::new()
        .suffix(".json")
        .tempfile()
        .expect("a file");
    std::fs::write(file.path(), workflow.to_string()).expect("written");
    file
}

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().expect("a path")
}

/// A plan asks the policies whose files it is given.
async fn asks_policies(scene: &Scene<'_>, file: &tempfile::NamedTempFile) {
    let directory = tempfile::tempdir().expect("a directory");
    let rule = "package kubernaut.execution\n\nallow if input.action != \"scale-deployment\"\n\nviolations contains \"not on a Tuesday\"\n";
    std::fs::write(directory.path().join("a.rego"), rule).expect("written");
    let policies = format!("--policy-dir={}", directory.path().display());
    let denied = said(&run(scene, None, &["plan", path(file), &policies]).await, 3);
    assert!(
        denied.contains("does not allow it") && denied.contains("not on a Tuesday"),
        "{denied}"
    );
}

#[tokio::test]
async fn what_a_plan_lacks_is_granted_and_what_was_started_is_explained_and_remembered() {
    let scene = Scene::new(bed().await, "by-plan").await;
    scene.deployment("web", 1).await;
    scene
        .create(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "fixer"}}))
        .await;
    let scale = |replicas: i32| json!({"scaleDeployment": {"namespace": scene.namespace, "deployment": "web", "replicas": replicas}});
    let gone = json!({"restartDeployment": {"namespace": scene.namespace, "deployment": "wep"}});
    let good = file(
        &scene,
        "good",
        json!([step(1, "scale-deployment", scale(2), json!({}))]),
    );

    let lacking = said(&run(&scene, None, &["plan", path(&good)]).await, 3);
    for words in [
        "Replicas: 1 -> 2; can be taken back",
        "Missing rights of ServiceAccount by-plan/fixer:\n  get deployments in group apps named web in namespace by-plan",
        "Something is missing",
    ] {
        assert!(lacking.contains(words), "{words}\n{lacking}");
    }
    let untouched = scene.get(crate::scene::DEPLOYMENT, "web").await;
    assert_eq!(untouched["spec"]["replicas"], 1);
    assert!(scene.find(crate::scene::WORKFLOW, "good").await.is_none());
    let plans = run(&scene, None, &["plan", path(&good), "-o", "json"]).await;
    let plans: Value = serde_json::from_str(&said(&plans, 3)).expect("JSON");
    let changes = plans["items"][0]["steps"][0]["changes"].to_string();
    assert!(
        changes.contains("- spec") || changes.contains("replicas: 2"),
        "{changes}"
    );
    // Who may not ask for the rights of others is told so, with all that is needed.
    let stranger = said(&run(&scene, Some("stranger"), &["plan", path(&good)]).await, 3);
    assert!(
        stranger.contains("Whether rights are missing nobody could say"),
        "{stranger}"
    );

    let roles = plans["items"][0]["roles"].as_str().expect("roles");
    for role in roles.split("---\n") {
        scene.create(serde_saphyr::from_str(role).expect("YAML")).await;
    }
    let complete = said(&run(&scene, None, &["plan", path(&good)]).await, 0);
    assert!(complete.contains("Nothing is missing."), "{complete}");

    asks_policies(&scene, &good).await;

    let dry = said(&run(&scene, None, &["start", path(&good), "--dry-run"]).await, 0);
    assert!(dry.contains("would be created"), "{dry}");
    let started = run(&scene, None, &["start", path(&good), "--watch", "-o", "json"]).await;
    assert_eq!(
        started.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&started.stderr)
    );
    let started: Value = serde_json::from_slice(&started.stdout).expect("JSON");
    assert_eq!(started["createdBy"], "admin", "{started}");
    assert_eq!(started["planDigest"], plans["items"][0]["digest"]);
    let again = said(&run(&scene, None, &["start", path(&good)]).await, 1);
    assert!(again.contains("already") && again.contains("--name"), "{again}");
    let well = said(&run(&scene, None, &["explain", "good"]).await, 0);
    assert!(well.contains("completed successfully"), "{well}");

    let steps = json!([
        step(1, "scale-deployment", scale(3), json!({})),
        step(2, "restart-deployment", gone, json!({"dependsOn": [1]})),
    ]);
    let steps = steps.as_array().cloned().expect("steps");
    let bad = file(&scene, "bad", json!(steps));
    let failed = said(&run(&scene, None, &["start", path(&bad), "--watch"]).await, 1);
    assert!(failed.contains("insufficient_permissions"), "{failed}");
    let why = said(&run(&scene, None, &["explain", "bad"]).await, 0);
    for words in [
        "kubectl --kubeconfig",
        "auth reconcile -f - <<'EOF'",
        "resourceNames: [\"wep\"]",
        "kubernaut retry -n by-plan bad",
    ] {
        assert!(why.contains(words), "{words}\n{why}");
    }
    let retried = said(&run(&scene, None, &["retry", "bad"]).await, 0);
    assert!(
        retried.contains("by-plan/bad-again-") && retried.contains("with 2 of the 2 steps"),
        "{retried}"
    );

    let history = said(&run(&scene, None, &["history", "deploy/web"]).await, 0);
    for words in [
        "by-plan/good",
        "scale-deployment",
        "admin",
        "as far back as executions are kept",
    ] {
        assert!(history.contains(words), "{words}\n{history}");
    }
    let logs = said(&run(&scene, None, &["logs", "good", "1"]).await, 0);
    assert!(
        logs.contains("good-step-1  scale-deployment  deployment/by-plan/web  completed"),
        "{logs}"
    );
    assert!(logs.contains("attempt 1: succeeded"), "{logs}");
    let unknown = said(&run(&scene, None, &["logs", "good", "7"]).await, 2);
    assert!(unknown.contains("there is 1 (step-1)"), "{unknown}");
}
