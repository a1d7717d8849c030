//! Workflows that keep a controller busy for a while, and that their steps took effect once.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::audit::{effects_in, forbidden, jobs_made};
use crate::scene::{CONFIG_MAP, DEPLOYMENT, Scene, pretty, step};

/// Steps of each workflow.
const STEPS: usize = 4;

/// Starts workflows, each with a Deployment and a ConfigMap of its own. Returns their names.
pub(crate) async fn start_workflows(scene: &Scene<'_>, number: usize) -> Vec<String> {
    let names: Vec<String> = (0..number).map(|n| format!("flow-{n}")).collect();
    for name in &names {
        scene.config_map(name, json!({})).await;
        scene.deployment(name, 1).await;
    }
    for name in &names {
        scene.start(name, steps(&scene.namespace, name), json!({})).await;
    }
    names
}

fn steps(namespace: &str, name: &str) -> Value {
    let key = |number: i64| {
        json!({"updateConfigMap": {"namespace": namespace, "name": name,
                                   "dataUpdates": {format!("key-{number}"): "done"}}})
    };
    let scale = json!({"scaleDeployment": {"namespace": namespace, "deployment": name, "replicas": 2}});
    let restart = json!({"restartDeployment": {"namespace": namespace, "deployment": name}});
    json!([
        step(1, "update-configmap", key(1), json!({})),
        step(2, "scale-deployment", scale, json!({"dependsOn": [1]})),
        step(3, "restart-deployment", restart, json!({"dependsOn": [2]})),
        step(4, "update-configmap", key(4), json!({"dependsOn": [3]})),
    ])
}

/// Every workflow succeeds; each step has one attempt, one Job, one pod and one effect.
pub(crate) async fn all_is_done_once(scene: &Scene<'_>, names: &[String]) {
    for name in names {
        scene.succeeded(name).await;
        let data = &scene.get(CONFIG_MAP, name).await["data"];
        assert_eq!(*data, json!({"key-1": "done", "key-4": "done"}), "{name}");
        let deployment = scene.get(DEPLOYMENT, name).await;
        assert_eq!(deployment["spec"]["replicas"], 2, "{}", pretty(&deployment));
        // That of its creation, and that of one restart.
        let sets = scene.list("apps/v1/ReplicaSet", &format!("app={name}")).await;
        assert_eq!(sets.len(), 2, "{name} was restarted once");
        for number in 1..=STEPS {
            let execution = scene.execution(&format!("{name}-step-{number}")).await;
            let attempts = execution["status"]["attempts"].as_array().map(Vec::len);
            assert_eq!(attempts, Some(1), "{}", pretty(&execution));
        }
    }
    let total = names.len() * STEPS;
    let audit = scene.bed.audit();
    let effects = effects_in(&audit, &scene.namespace);
    assert_eq!(effects.len(), total, "one effect for each step: {effects:#?}");
    // A step is done when its pod and its outcome are; the Job says so a moment later.
    let jobs = scene
        .eventually("all Jobs have ended", async || {
            let jobs = scene.jobs().await;
            jobs.iter()
                .all(|job| job["status"]["completionTime"].is_string())
                .then_some(jobs)
        })
        .await;
    assert_eq!(jobs.len(), total, "one Job for each step");
    for job in &jobs {
        let pods = (&job["status"]["succeeded"], &job["status"]["failed"]);
        assert_eq!(pods, (&json!(1), &Value::Null), "{}", pretty(job));
    }
    let made = jobs_made(&audit);
    let distinct: BTreeSet<&String> = made.iter().collect();
    assert_eq!(distinct.len(), made.len(), "a Job was made twice: {made:?}");
    assert_eq!(forbidden(&audit), Vec::<String>::new());
}
