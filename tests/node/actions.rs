//! Each action on real nodes, with its effect read back from the cluster.

use serde_json::{Value, json};

use crate::bed::{Bed, bed};
use crate::scene::{DEPLOYMENT, Scene, step};

/// One step with this action, run to success.
async fn run_one(scene: &Scene<'_>, action: &str, parameters: Value) -> Value {
    let name = format!("do-{action}");
    scene
        .run(&name, json!([step(1, action, parameters, json!({}))]))
        .await;
    scene.execution(&format!("{name}-step-1")).await
}

#[tokio::test]
async fn scale_deployment_sets_the_replicas_and_waits_for_them() {
    let bed: &Bed = bed().await;
    let scene = Scene::new(bed, "scale").await;
    scene.deployment("web", 1).await;
    let scale = json!({"scaleDeployment": {"namespace": "scale", "deployment": "web", "replicas": 3}});
    run_one(&scene, "scale-deployment", scale).await;
    let deployment = scene.get(DEPLOYMENT, "web").await;
    assert_eq!(deployment["spec"]["replicas"], 3);
    assert_eq!(deployment["status"]["readyReplicas"], 3);
}
