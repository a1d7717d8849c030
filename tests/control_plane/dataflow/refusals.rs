//! What is refused, and what is left alone: visibly, and before anything ran.

use kube::api::PostParams;
use kubernaut_machines::render::job_name;
use serde_json::{Value, json};

use crate::bed::{CONTROLLER, UNGUARDED, bed};
use crate::scene::{CONFIG_MAP, EXECUTOR, JOB, Scene, api, execution, pretty, step, workflow};

const EXECUTION: &str = "kubernetesexecution.kubernaut.io/v1/KubernetesExecution";

fn update(namespace: &str) -> Value {
    json!({"updateConfigMap": {"namespace": namespace, "name": "settings", "dataUpdates": {"a": "new"}}})
}

async fn scene(namespace: &str) -> Scene<'static> {
    let scene = Scene::new(bed().await, namespace).await;
    scene.config_map("settings", json!({"a": "old"})).await;
    scene
}

/// The workflow failed in planning for this reason, and nothing was made for it.
async fn failed_in_planning(scene: &Scene<'_>, name: &str, words: &[&str]) {
    let ended = scene.ended(name).await;
    let status = &ended["status"];
    assert_eq!(status["phase"], "failed", "{name}: {}", pretty(status));
    assert_eq!(
        status["errorType"],
        "validation_error",
        "{name}: {}",
        pretty(status)
    );
    let errors = status["validationResults"]["validationErrors"].to_string();
    for word in words {
        assert!(errors.contains(word), "{name}: `{word}` is not in: {errors}");
    }
    let made = scene
        .list(EXECUTION, &format!("kubernaut.io/workflow={name}"))
        .await;
    assert_eq!(made, Vec::<Value>::new(), "{name}");
}

#[tokio::test]
async fn a_workflow_that_would_undo_one_that_is_not_there_fails_in_planning() {
    let scene = scene("ref-undo").await;
    let undo = json!({"rollbackOf": {"name": "other", "uid": "0"}, "workflowDefinition": {"steps": []}});
    scene.start("undo", json!([]), undo).await;
    failed_in_planning(
        &scene,
        "undo",
        &["spec.rollbackOf", "there is no WorkflowExecution other"],
    )
    .await;
}

#[tokio::test]
async fn a_check_that_fails_and_is_not_required_is_a_warning() {
    let scene = scene("ref-optional").await;
    let checks = json!({"executionStrategy": {"safetyChecks": [
        {"type": "rbac", "required": true}, {"type": "health"}, {"type": "network", "required": false}]}});
    let mut missing = update("ref-optional");
    missing["updateConfigMap"]["name"] = json!("nobody");
    let steps = json!([
        step(1, "update-configmap", update("ref-optional"), json!({})),
        step(2, "update-configmap", missing, json!({})),
    ]);
    scene.start("optional", steps.clone(), checks).await;
    let ended = scene.ended("optional").await;
    let results = &ended["status"]["validationResults"];
    assert_eq!(
        results["warnings"],
        json!(["safety check health failed: step 2 (step-2): configmap/ref-optional/nobody does not exist"]),
        "{}",
        pretty(&ended["status"])
    );
    assert_eq!(ended["status"]["workflowResult"]["outcome"], "partial_success");
    let required = json!({"executionStrategy": {"safetyChecks": [{"type": "health", "required": true}]}});
    scene.start("required", steps, required).await;
    let ended = scene.ended("required").await;
    let status = &ended["status"];
    assert_eq!(status["errorType"], "resource_not_found", "{}", pretty(status));
    assert_eq!(status["failedStep"], 2);
}

#[tokio::test]
async fn bad_workflows_that_pass_admission_fail_in_planning_and_name_the_place() {
    let scene = scene("ref-planning").await;
    let with = |action: &str, parameters: Value, more: Value| json!([step(1, action, parameters, more)]);
    let after = |number: i64, before: i64| {
        step(
            number,
            "update-configmap",
            update("ref-planning"),
            json!({"dependsOn": [before]}),
        )
    };
    let manifest =
        |text: &str| json!({"custom": {"actionType": "apply-manifest", "config": {"manifest": text}}});
    let in_system = json!({"deletePod": {"namespace": "kube-system", "podName": "dns"}});
    let pod = json!({"restartPod": {"namespace": "ref-planning", "podName": "web"}});
    let cases = [
        (
            "cycle",
            json!([after(2, 3), after(5, 2), after(3, 5)]),
            vec!["2", "5", "3", "->"],
        ),
        (
            "misfit",
            with("cordon-node", update("ref-planning"), json!({})),
            vec!["steps[0].action", "cordon-node", "updateConfigMap"],
        ),
        (
            "no-restart",
            with("delete-pod", pod, json!({})),
            vec!["steps[0].action", "restart-pod"],
        ),
        (
            "too-short",
            with(
                "update-configmap",
                update("ref-planning"),
                json!({"timeout": "10ms"}),
            ),
            vec!["timeout", "10ms"],
        ),
        (
            "too-long",
            with(
                "update-configmap",
                update("ref-planning"),
                json!({"timeout": "16m"}),
            ),
            vec!["timeout", "15m"],
        ),
        (
            "overflow",
            with(
                "update-configmap",
                update("ref-planning"),
                json!({"timeout": "9999999h9999999h"}),
            ),
            vec!["timeout"],
        ),
        (
            "protected",
            with("delete-pod", in_system, json!({})),
            vec!["kube-system"],
        ),
        (
            "no-manifest",
            with("apply-manifest", manifest(": not yaml ["), json!({})),
            vec!["manifest"],
        ),
        (
            "no-type",
            with(
                "custom",
                json!({"custom": {"actionType": "reboot", "config": {"a": "b"}}}),
                json!({}),
            ),
            vec!["reboot", "apply-manifest"],
        ),
    ];
    let mut started = Vec::new();
    for (name, steps, words) in cases {
        // What admission refuses already need not be told twice.
        match scene.try_create(workflow(name, steps, json!({}))).await {
            Ok(_) => started.push((name, words)),
            Err(error) => panic!("{name} is refused at admission: {error}"),
        }
    }
    for (name, words) in started {
        failed_in_planning(&scene, name, &words).await;
    }
    assert_eq!(scene.jobs().await, Vec::<Value>::new());
}

#[tokio::test]
async fn nothing_is_run_from_a_protected_namespace_although_no_policy_keeps_it_out() {
    let scene = scene(UNGUARDED).await;
    let steps = json!([step(1, "update-configmap", update(UNGUARDED), json!({}))]);
    scene.create(workflow("from-outside", steps, json!({}))).await;
    let parameters =
        json!({"updateConfigMap": {"namespace": UNGUARDED, "configMap": "settings", "data": {"a": "new"}}});
    let made = execution("from-inside", "update-configmap", parameters, json!({}));
    scene.create(made).await;
    for ended in [
        scene.ended("from-outside").await,
        scene.execution_ended("from-inside").await,
    ] {
        let status = &ended["status"];
        let reason = status["failureReason"].as_str().expect("a reason");
        assert!(
            status["phase"] == "failed" && reason.contains("protected"),
            "{}",
            pretty(status)
        );
    }
    assert_eq!(scene.jobs().await, Vec::<Value>::new());
    assert_eq!(scene.get(CONFIG_MAP, "settings").await["data"]["a"], "old");
}

#[tokio::test]
async fn a_foreign_execution_with_our_name_is_left_alone_and_fails_the_step() {
    let scene = scene("ref-foreign").await;
    let parameters = json!({"updateConfigMap": {"namespace": "ref-foreign", "configMap": "settings", "data": {"a": "theirs"}}});
    // It is refused, so that it rests.
    let theirs = execution(
        "clash-step-1",
        "update-configmap",
        parameters,
        json!({"shutdown": "Cancel"}),
    );
    scene.create(theirs).await;
    let before = scene.execution_ended("clash-step-1").await;
    let steps = json!([step(1, "update-configmap", update("ref-foreign"), json!({}))]);
    scene.start("clash", steps, json!({})).await;
    let ended = scene.ended("clash").await;
    let status = &ended["status"];
    assert_eq!(status["phase"], "failed");
    assert_eq!(status["errorType"], "resource_conflict", "{}", pretty(status));
    let reason = status["failureReason"].as_str().expect("a reason");
    assert!(reason.contains("clash-step-1"), "{reason}");
    assert_eq!(scene.execution("clash-step-1").await, before);
    assert_eq!(scene.get(CONFIG_MAP, "settings").await["data"]["a"], "old");
}

#[tokio::test]
async fn a_foreign_job_with_our_name_is_left_alone_and_fails_the_execution() {
    let scene = scene("ref-job").await;
    let parameters =
        json!({"updateConfigMap": {"namespace": "ref-job", "configMap": "settings", "data": {"a": "new"}}});
    let make = async |name: &str| {
        scene
            .create(execution(name, "update-configmap", parameters.clone(), json!({})))
            .await
    };
    // While one holds the target, the other waits: time to take the name of its Job.
    make("slow-holder").await;
    scene
        .eventually("the holder has its Job", async || {
            (scene.jobs().await.len() == 1).then_some(())
        })
        .await;
    let waiting = make("waits").await;
    let name = job_name("waits", waiting["metadata"]["uid"].as_str().expect("a uid"), 1);
    let pod =
        json!({"restartPolicy": "Never", "containers": [{"name": "a", "image": "registry.example/theirs"}]});
    let theirs = json!({"apiVersion": "batch/v1", "kind": "Job",
                        "metadata": {"name": name, "namespace": EXECUTOR},
                        "spec": {"suspend": true, "template": {"spec": pod}}});
    // The policies let nobody else make a Job there; it could be left from another installation.
    let another = scene.bed.cluster.client_as(CONTROLLER, &[]).await;
    let theirs = serde_json::from_value(theirs).expect("an object");
    api(&another.expect("a client"), JOB, EXECUTOR)
        .create(&PostParams::default(), &theirs)
        .await
        .expect("accepted");
    let jobs = api(&scene.client, JOB, EXECUTOR);
    let settled = scene
        .eventually("the Job controller has seen it", async || {
            let job = jobs.get(&name).await.expect("there");
            job.data["status"]["conditions"].is_array().then_some(job)
        })
        .await;
    assert_eq!(
        scene.execution_ended("slow-holder").await["status"]["phase"],
        "completed"
    );
    let ended = scene.execution_ended("waits").await;
    let status = &ended["status"];
    assert_eq!(status["errorType"], "resource_conflict", "{}", pretty(status));
    let reason = status["failureReason"].as_str().expect("a reason");
    assert!(reason.contains(&name), "{reason}");
    assert_eq!(jobs.get(&name).await.expect("still there"), settled);
}
