//! What many steps did on real nodes is taken back when the last one fails.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::bed::{OTHER_WEB, WEB, bed};
use crate::scene::{CONFIG_MAP, DEPLOYMENT, POD, Scene, WORKFLOW, pretty, step};
use crate::traces::only_ended_jobs_remain;

const NAMESPACE: &str = "undone";
const WEBS: [&str; 2] = ["web", "other"];

/// Step 1, then two beside each other, then one, and so on: 19 of them.
fn before(number: i64) -> Vec<i64> {
    match (number, number % 3) {
        (1, _) => vec![],
        (_, 1) => vec![number - 2, number - 1],
        (_, 2) => vec![number - 1],
        (_, _) => vec![number - 2],
    }
}

fn change(number: i64) -> (&'static str, Value) {
    let web = WEBS[usize::try_from(number / 3 % 2).unwrap_or(0)];
    match number % 3 {
        0 => (
            "scale-deployment",
            json!({"scaleDeployment": {"namespace": NAMESPACE, "deployment": web, "replicas": match number {
                3 | 18 => 1,
                6 | 15 => 2,
                _ => 3,
            }}}),
        ),
        1 => (
            "update-configmap",
            json!({"updateConfigMap": {"namespace": NAMESPACE, "name": "settings",
                                       "dataUpdates": {format!("key-{}", number % 4): format!("v{number}")}}}),
        ),
        _ => (
            "update-image",
            json!({"updateImage": {"namespace": NAMESPACE, "deployment": web, "container": "server",
                                   "newImage": if number / 6 % 2 == 0 { OTHER_WEB } else { WEB }}}),
        ),
    }
}

/// What the steps change, and the pods that it leads to: images by Deployment, of those that run and are ready.
async fn state(scene: &Scene<'_>) -> Value {
    let mut webs = BTreeMap::new();
    for web in WEBS {
        let object = scene.get(DEPLOYMENT, web).await;
        let pods = scene.list(POD, &format!("app={web}")).await;
        let mut images: Vec<Value> = pods
            .iter()
            .filter(|pod| {
                pod["metadata"]["deletionTimestamp"].is_null()
                    && pod["status"]["containerStatuses"][0]["ready"] == true
            })
            .map(|pod| pod["spec"]["containers"][0]["image"].clone())
            .collect();
        images.sort_by_key(Value::to_string);
        let image = &object["spec"]["template"]["spec"]["containers"][0]["image"];
        webs.insert(web, json!([object["spec"]["replicas"], image, images]));
    }
    json!([webs, scene.get(CONFIG_MAP, "settings").await["data"]])
}

fn count(workflow: &Value, statuses: &[&str]) -> usize {
    let steps = workflow["status"]["stepStatuses"].as_array();
    let steps = steps.into_iter().flatten();
    steps
        .filter(|step| statuses.iter().any(|status| step["status"] == *status))
        .count()
}

#[tokio::test]
async fn a_diamond_of_diamonds_is_undone_and_its_pods_run_as_before() {
    let scene = Scene::new(bed().await, NAMESPACE).await;
    scene.deployment("web", 1).await;
    scene.deployment("other", 2).await;
    scene.config_map("settings", json!({"key-1": "old"})).await;
    let as_it_was = json!([
        {"web": [1, WEB, [WEB]], "other": [2, WEB, [WEB, WEB]]},
        {"key-1": "old"}
    ]);
    scene
        .eventually("the pods run", async || {
            (state(&scene).await == as_it_was).then_some(())
        })
        .await;

    let mut steps: Vec<Value> = (1..=19)
        .map(|number| {
            let (action, parameters) = change(number);
            step(number, action, parameters, json!({"dependsOn": before(number)}))
        })
        .collect();
    let missing =
        json!({"scaleDeployment": {"namespace": NAMESPACE, "deployment": "nothing", "replicas": 1}});
    steps.push(step(
        20,
        "scale-deployment",
        missing,
        json!({"dependsOn": [19], "criticalStep": true}),
    ));
    let automatic = json!({"executionStrategy": {"rollbackStrategy": "automatic"}});
    scene.start("diamonds", json!(steps), automatic).await;
    // Each wait has its own time.
    for done in [5, 9, 13, 17, 19] {
        scene
            .eventually(&format!("{done} steps are done"), async || {
                let workflow = scene.get(WORKFLOW, "diamonds").await;
                (count(&workflow, &["completed", "rolled_back"]) >= done).then_some(())
            })
            .await;
    }
    for undone in [4, 8, 12, 16, 19] {
        scene
            .eventually(&format!("{undone} steps are undone"), async || {
                let workflow = scene.get(WORKFLOW, "diamonds").await;
                (count(&workflow, &["rolled_back"]) >= undone).then_some(())
            })
            .await;
    }
    let ended = scene.ended("diamonds").await;
    let status = &ended["status"];
    assert_eq!(status["failedStep"], 20, "{}", pretty(status));
    assert_eq!(count(&ended, &["rolled_back"]), 19, "{}", pretty(status));

    // Last change first, and one at a time: each undo began when the one before it had ended.
    let mut undos = Vec::new();
    for number in 1..=19 {
        let step = scene.execution(&format!("diamonds-step-{number}")).await;
        let undo = scene.execution(&format!("diamonds-rollback-{number}")).await;
        let time = |object: &Value, field: &str| object["status"][field].as_str().expect("a time").to_owned();
        undos.push((
            time(&step, "completionTime"),
            time(&undo, "startTime"),
            time(&undo, "completionTime"),
        ));
    }
    undos.sort();
    undos.reverse();
    for pair in undos.windows(2) {
        assert!(pair[1].1 >= pair[0].2, "{pair:?}");
    }

    scene
        .eventually("all is as it was", async || {
            (state(&scene).await == as_it_was).then_some(())
        })
        .await;
    only_ended_jobs_remain(&scene).await;
}
