//! How workflows end when not everything goes well.

use serde_json::{Value, json};

use crate::bed::bed;
use crate::scene::{CONFIG_MAP, Scene, execution, pretty, step};

/// Sets `value` in the ConfigMap of that name.
fn set(scene: &Scene<'_>, config_map: &str, value: &str) -> Value {
    json!({"updateConfigMap": {"namespace": scene.namespace, "name": config_map, "dataUpdates": {"a": value}}})
}

/// A ConfigMap `one`, `two` ... with `a: old` for each name.
async fn scene_with(namespace: &str, config_maps: &[&str]) -> Scene<'static> {
    let scene = Scene::new(bed().await, namespace).await;
    for name in config_maps {
        scene.config_map(name, json!({"a": "old"})).await;
    }
    scene
}

fn steps_of(workflow: &Value) -> Vec<&str> {
    let steps = workflow["status"]["stepStatuses"].as_array().expect("steps");
    steps
        .iter()
        .map(|step| step["status"].as_str().expect("a state"))
        .collect()
}

fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array().expect("conditions");
    conditions
        .iter()
        .find(|condition| condition["type"] == kind)
        .unwrap_or(&Value::Null)
}

async fn value_of(scene: &Scene<'_>, config_map: &str) -> Value {
    scene.get(CONFIG_MAP, config_map).await["data"]["a"].clone()
}

#[tokio::test]
async fn a_failed_step_skips_what_needs_it_and_the_rest_goes_on() {
    let scene = scene_with("end-partial", &["one", "three", "five"]).await;
    let update = |number: i64, name: &str, more: Value| {
        step(number, "update-configmap", set(&scene, name, "new"), more)
    };
    let steps = json!([
        update(1, "one", json!({})),
        update(2, "missing", json!({})),
        update(3, "three", json!({"dependsOn": [2]})),
        update(4, "three", json!({"dependsOn": [3]})),
        update(5, "five", json!({"dependsOn": [1]})),
    ]);
    scene.start("partial", steps, json!({})).await;
    let ended = scene.ended("partial").await;
    let status = &ended["status"];
    assert_eq!(status["phase"], "completed", "{}", pretty(status));
    assert_eq!(status["workflowResult"]["outcome"], "partial_success");
    assert_eq!(
        steps_of(&ended),
        ["completed", "failed", "skipped", "skipped", "completed"]
    );
    assert_eq!(status["progress"], "2/5");
    let succeeded = condition(&ended, "Succeeded");
    assert_eq!(
        (&succeeded["status"], &succeeded["reason"]),
        (&json!("False"), &json!("PartialSuccess"))
    );
    assert_eq!(value_of(&scene, "three").await, "old");
    assert_eq!(value_of(&scene, "five").await, "new");
    let failed = scene.execution("partial-step-2").await;
    assert_eq!(failed["status"]["errorType"], "resource_not_found");
    let kind = "kubernetesexecution.kubernaut.io/v1/KubernetesExecution";
    assert_eq!(scene.find(kind, "partial-step-3").await, None);
}

#[tokio::test]
async fn a_workflow_of_which_nothing_completed_failed() {
    let scene = scene_with("end-nothing", &[]).await;
    let steps = json!([step(
        1,
        "update-configmap",
        set(&scene, "missing", "new"),
        json!({})
    )]);
    scene.start("nothing", steps, json!({})).await;
    let ended = scene.ended("nothing").await;
    assert_eq!(ended["status"]["phase"], "failed");
    assert_eq!(ended["status"]["failedStep"], 1);
    assert_eq!(ended["status"]["errorType"], "resource_not_found");
}

#[tokio::test]
async fn a_failed_critical_step_starts_nothing_more_and_lets_finish_what_runs() {
    let scene = scene_with("end-critical", &["one", "three"]).await;
    let steps = json!([
        step(1, "update-configmap", set(&scene, "one", "new"), json!({})),
        step(
            2,
            "update-configmap",
            set(&scene, "missing", "new"),
            json!({"criticalStep": true})
        ),
        step(
            3,
            "update-configmap",
            set(&scene, "three", "new"),
            json!({"dependsOn": [1]})
        ),
    ]);
    for (name, strategy) in [("slow-manual", "manual"), ("slow-automatic", "automatic")] {
        scene
            .patch(CONFIG_MAP, "one", &json!({"data": {"a": "old"}}))
            .await;
        let more = json!({"executionStrategy": {"rollbackStrategy": strategy}});
        scene.start(name, steps.clone(), more).await;
        let ended = scene.ended(name).await;
        let status = &ended["status"];
        assert_eq!(status["phase"], "failed", "{}", pretty(status));
        assert_eq!(
            steps_of(&ended),
            [
                if strategy == "automatic" {
                    "rolled_back"
                } else {
                    "completed"
                },
                "failed",
                "skipped"
            ],
            "{}",
            pretty(&status["stepStatuses"])
        );
        assert_eq!(
            (&status["failedStep"], &status["failedAction"]),
            (&json!(2), &json!("update-configmap"))
        );
        assert_eq!(value_of(&scene, "three").await, "old");
        let reason = status["failureReason"].as_str().expect("a reason");
        if strategy == "automatic" {
            assert_eq!(value_of(&scene, "one").await, "old");
            assert!(reason.ends_with("undone: 1 (step-1)"), "{reason}");
            continue;
        }
        assert_eq!(value_of(&scene, "one").await, "new");
        assert!(reason.ends_with("Nothing was undone."), "{reason}");
        let hints = status["workflowResult"]["recommendedActions"].to_string();
        assert!(
            hints.contains("patch configmap/one --type=merge"),
            "what could be undone: {hints}"
        );
    }
}

#[tokio::test]
async fn a_workflow_that_is_suspended_waits_and_one_that_is_shut_down_stops_what_runs() {
    let scene = scene_with("end-later", &["one", "two", "three", "four"]).await;
    let start = async |name: &str, first: &str, second: &str| {
        let steps = json!([
            step(1, "update-configmap", set(&scene, first, "new"), json!({})),
            step(
                2,
                "update-configmap",
                set(&scene, second, "new"),
                json!({"dependsOn": [1]})
            ),
        ]);
        scene.start(name, steps, json!({})).await;
    };
    start("slow-suspended", "one", "two").await;
    start("slow-shut-down", "three", "four").await;
    for (name, change) in [
        ("slow-suspended", json!({"spec": {"suspend": true}})),
        ("slow-shut-down", json!({"spec": {"shutdown": "Cancel"}})),
    ] {
        scene
            .eventually("a step in flight", async || {
                let workflow = scene.workflow(name).await;
                (workflow["status"]["stepStatuses"][0]["status"] == "executing").then_some(())
            })
            .await;
        let kind = "workflow.kubernaut.io/v1/WorkflowExecution";
        scene.patch(kind, name, &change).await;
    }
    let ended = scene.ended("slow-shut-down").await;
    let status = &ended["status"];
    assert_eq!(status["phase"], "failed", "{}", pretty(status));
    assert_eq!(status["workflowResult"]["outcome"], "cancelled");
    assert_eq!(steps_of(&ended), ["failed", "skipped"]);
    for name in ["three", "four"] {
        assert_eq!(value_of(&scene, name).await, "old", "its Job was stopped");
    }
    let paused = scene
        .eventually("the first step ends while the workflow is paused", async || {
            let workflow = scene.workflow("slow-suspended").await;
            (workflow["status"]["stepStatuses"][0]["status"] == "completed").then_some(workflow)
        })
        .await;
    assert_eq!(
        paused["status"]["phase"],
        "paused",
        "{}",
        pretty(&paused["status"])
    );
    assert_eq!(value_of(&scene, "two").await, "old");
    let kind = "workflow.kubernaut.io/v1/WorkflowExecution";
    let resume = json!({"spec": {"suspend": false}});
    scene.patch(kind, "slow-suspended", &resume).await;
    scene.succeeded("slow-suspended").await;
    assert_eq!(value_of(&scene, "two").await, "new");
}

#[tokio::test]
async fn a_failing_job_is_tried_again_as_often_as_the_step_says() {
    let scene = scene_with("end-retries", &["one", "two"]).await;
    let retries = |number: i64, name: &str, retries: i64| {
        step(
            number,
            "update-configmap",
            set(&scene, name, "new"),
            json!({"maxRetries": retries}),
        )
    };
    let steps = json!([retries(1, "one", 1), retries(2, "two", 0)]);
    scene.start("fails-often", steps, json!({})).await;
    let ended = scene.ended("fails-often").await;
    assert_eq!(ended["status"]["phase"], "failed");
    for (step, attempts) in [(1, 2), (2, 1)] {
        let execution = scene.execution(&format!("fails-often-step-{step}")).await;
        let status = &execution["status"];
        assert_eq!(status["errorType"], "job_failed", "{}", pretty(status));
        assert_eq!(
            status["attempts"].as_array().map(Vec::len),
            Some(attempts),
            "{}",
            pretty(status)
        );
        assert_eq!(status["executionResults"]["retriesAttempted"], attempts - 1);
        let reason = status["failureReason"].as_str().expect("a reason");
        assert!(reason.contains("told to fail"), "{reason}");
    }
    assert_eq!(scene.jobs().await.len(), 3);
}

#[tokio::test]
async fn a_failure_that_another_attempt_can_not_heal_is_not_tried_again() {
    let scene = scene_with("end-final", &["one"]).await;
    let steps = json!([step(
        1,
        "update-configmap",
        set(&scene, "one", "new"),
        json!({"maxRetries": 5})
    )]);
    scene.start("invalid-patch", steps, json!({})).await;
    scene.ended("invalid-patch").await;
    let execution = scene.execution("invalid-patch-step-1").await;
    assert_eq!(execution["status"]["errorType"], "validation_error");
    assert_eq!(scene.jobs().await.len(), 1);
}

#[tokio::test]
async fn a_job_that_failed_with_its_effect_in_place_counts_as_done() {
    let scene = scene_with("end-effect", &["one"]).await;
    let steps = json!([step(1, "update-configmap", set(&scene, "one", "old"), json!({}))]);
    scene.start("fails-but-holds", steps, json!({})).await;
    scene.succeeded("fails-but-holds").await;
    let execution = scene.execution("fails-but-holds-step-1").await;
    let text = execution["status"].to_string();
    assert!(text.contains("its effect is there"), "{text}");
}

#[tokio::test]
async fn a_job_that_hangs_ends_with_its_time_and_leaves_no_pod() {
    let scene = scene_with("end-timeout", &["one"]).await;
    let one_try = json!({"timeout": "2s", "maxRetries": 5});
    let parameters =
        json!({"updateConfigMap": {"namespace": "end-timeout", "configMap": "one", "data": {"a": "new"}}});
    scene
        .create(execution(
            "hang-for-ever",
            "update-configmap",
            parameters,
            one_try,
        ))
        .await;
    let ended = scene.execution_ended("hang-for-ever").await;
    assert_eq!(ended["status"]["errorType"], "timeout", "{}", pretty(&ended));
    assert_eq!(ended["status"]["attempts"].as_array().map(Vec::len), Some(1));
    let uid = ended["metadata"]["uid"].as_str().expect("a uid");
    let pods = crate::scene::api(&scene.client, crate::scene::POD, crate::scene::EXECUTOR);
    let ours = kube::api::ListParams::default().labels(&format!("kubernaut.io/execution-uid={uid}"));
    let live = pods.list(&ours).await.expect("a list").items;
    assert_eq!(live.len(), 0, "no execution ends while its pod lives");
}

#[tokio::test]
async fn two_steps_on_one_target_run_one_after_the_other() {
    let scene = scene_with("end-lock", &["one"]).await;
    let steps = json!([
        step(1, "update-configmap", set(&scene, "one", "1"), json!({})),
        step(2, "update-configmap", set(&scene, "one", "2"), json!({})),
    ]);
    scene.run("together", steps).await;
    let mut spans = Vec::new();
    for number in 1..=2 {
        let execution = scene.execution(&format!("together-step-{number}")).await;
        let transitions = execution["status"]["phaseTransitions"].clone();
        let time = |phase: &str| {
            let transitions = transitions.as_array().expect("transitions");
            let found = transitions.iter().find(|transition| transition["phase"] == phase);
            found.expect("the phase")["time"]
                .as_str()
                .expect("a time")
                .to_owned()
        };
        spans.push((time("executing"), time("completed")));
    }
    spans.sort();
    assert!(spans[0].1 <= spans[1].0, "{spans:?}");
    // The oldest is served first, and the first of two made in one second is the one with the lesser uid.
    assert_eq!(scene.jobs().await.len(), 2);
}
