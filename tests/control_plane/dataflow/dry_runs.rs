//! What is only tried: by a real kubectl, on a real API server.

use serde_json::json;

use super::nodes::reserve;
use crate::bed::bed;
use crate::scene::{CONFIG_MAP, EXECUTION, Scene, pretty, step};
use crate::tried::each_action_changes_nothing;

#[tokio::test]
async fn a_dry_run_of_each_action_leaves_every_object_as_it_is() {
    let scene = Scene::of_a_cluster_admin(bed().await, "tried").await;
    reserve(&scene, "node-6").await;
    each_action_changes_nothing(&scene, "node-6").await;
}

#[tokio::test]
async fn a_workflow_tries_its_steps_first_and_says_what_it_found() {
    let scene = Scene::new(bed().await, "tried-first").await;
    scene.deployment("web", 1).await;
    scene.config_map("settings", json!({"a": "old"})).await;
    let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"},
                          "metadata": {"name": "made", "namespace": "tried-first"}});
    let set = |name: &str| json!({"updateConfigMap": {"namespace": "tried-first", "name": name, "dataUpdates": {"a": "new"}}});
    let steps = json!([
        step(
            1,
            "scale-deployment",
            json!({"scaleDeployment": {"namespace": "tried-first", "deployment": "web", "replicas": 2}}),
            json!({})
        ),
        step(
            2,
            "apply-manifest",
            json!({"custom": {"actionType": "apply-manifest", "config": {"manifest": manifest.to_string()}}}),
            json!({})
        ),
        step(3, "update-configmap", set("made"), json!({"dependsOn": [2]})),
    ]);
    let first = json!({"executionStrategy": {"dryRunFirst": true, "safetyChecks": [
        {"type": "health", "required": true}, {"type": "network", "required": true}, {"type": "capacity"}]}});
    scene.start("first", steps, first).await;
    let ended = scene.succeeded("first").await;
    let validation = &ended["status"]["validationResults"];
    assert_eq!(validation["dryRunPerformed"], true);
    assert_eq!(validation["safetyChecksPassed"], true);
    let results = &validation["dryRunResults"];
    assert_eq!(
        results["resourceChanges"],
        json!([
            "deployment/tried-first/web: Replicas: 1 -> 2",
            "configmap/tried-first/made: Object: does not exist -> exists"
        ]),
        "{}",
        pretty(results)
    );
    let issues = results["potentialIssues"].as_array().expect("issues");
    assert_eq!(issues.len(), 1, "{}", pretty(results));
    let issue = issues[0].as_str().expect("a text");
    assert!(
        issue.starts_with("step 3 (step-3) can't be tried now; it runs after 2 (step-2)")
            && issue.contains("does not exist"),
        "{issue}"
    );
    assert_eq!(scene.get(CONFIG_MAP, "made").await["data"]["a"], "new");
    let made = scene.list(EXECUTION, "kubernaut.io/workflow=first").await;
    assert_eq!(made.len(), 6, "three that tried, and three that did it");
}
