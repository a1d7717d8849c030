//! The actions on nodes, each on a node that no other test uses.

use serde_json::{Value, json};

use super::undoing::undo;
use crate::bed::bed;
use crate::scene::{NODE, POD, Scene, merge, step};

/// Keeps the pods of all other tests off the node.
pub(super) async fn reserve(scene: &Scene<'_>, node: &str) {
    let taint = json!({"key": "tests", "value": node, "effect": "NoSchedule"});
    scene
        .patch(NODE, node, &json!({"spec": {"taints": [taint]}}))
        .await;
}

async fn run(scene: &Scene<'_>, action: &str, parameters: Value) -> Value {
    scene
        .run(
            &format!("do-{action}"),
            json!([step(1, action, parameters, json!({}))]),
        )
        .await;
    scene.execution(&format!("do-{action}-step-1")).await
}

async fn undo_it(scene: &Scene<'_>, action: &str) {
    let changed = scene.workflow(&format!("do-{action}")).await;
    undo(scene, "back", &changed).await;
    scene.succeeded("back").await;
}

#[tokio::test]
async fn cordon_and_uncordon_change_what_the_node_says_of_itself() {
    let scene = Scene::of_a_cluster_admin(bed().await, "act-cordon").await;
    reserve(&scene, "node-4").await;
    let cordon = run(
        &scene,
        "cordon-node",
        json!({"cordonNode": {"nodeName": "node-4"}}),
    )
    .await;
    assert_eq!(scene.get(NODE, "node-4").await["spec"]["unschedulable"], true);
    let undo = &cordon["status"]["rollbackInformation"]["rollbackParameters"];
    assert_eq!(undo["uncordonNode"]["node"], "node-4");
    let uncordon = run(
        &scene,
        "uncordon-node",
        json!({"uncordonNode": {"nodeName": "node-4"}}),
    )
    .await;
    assert_eq!(
        scene.get(NODE, "node-4").await["spec"]["unschedulable"],
        Value::Null
    );
    let undo = &uncordon["status"]["rollbackInformation"]["rollbackParameters"];
    assert_eq!(undo["cordonNode"]["node"], "node-4");
    undo_it(&scene, "uncordon-node").await;
    assert_eq!(scene.get(NODE, "node-4").await["spec"]["unschedulable"], true);
}

#[tokio::test]
async fn a_drain_moves_the_pods_and_leaves_the_node_cordoned() {
    let scene = Scene::of_a_cluster_admin(bed().await, "act-drain").await;
    reserve(&scene, "node-5").await;
    let mut pods = json!({"tolerations": [{"key": "tests", "operator": "Exists"}]});
    merge(
        &mut pods,
        json!({"terminationGracePeriodSeconds": 1, "affinity": {"nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": {
                "matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-5"]}]}}]}}}),
    );
    scene.deployment_with("web", 2, pods).await;
    let on_node = async || {
        let pods = scene.list(POD, "app=web").await;
        pods.iter()
            .filter(|pod| pod["spec"]["nodeName"] == "node-5")
            .count()
    };
    assert_eq!(on_node().await, 2);
    let drain = json!({"drainNode": {"nodeName": "node-5", "gracePeriod": "1s", "ignoreDaemonSets": true,
                                     "deleteLocalData": true}});
    run(&scene, "drain-node", drain).await;
    assert_eq!(scene.get(NODE, "node-5").await["spec"]["unschedulable"], true);
    assert_eq!(on_node().await, 0);
    undo_it(&scene, "drain-node").await;
    assert_eq!(
        scene.get(NODE, "node-5").await["spec"]["unschedulable"],
        Value::Null
    );
    scene
        .eventually("the pods stand elsewhere", async || {
            let deployment = scene.get("apps/v1/Deployment", "web").await;
            (deployment["status"]["readyReplicas"] == 2).then_some(())
        })
        .await;
}
