//! The actions on nodes. They move what others run there, so each test has its bed for itself.

use serde_json::{Value, json};

use crate::bed::{bed_alone, bed_of_one_node};
use crate::scene::{DEPLOYMENT, NODE, POD, Scene, pretty, step};
use crate::traces::{effects, effects_on_node, only_ended_jobs_remain};
use crate::tried::each_action_changes_nothing;

async fn run(scene: &Scene<'_>, name: &str, action: &str, parameters: Value) -> Value {
    scene
        .run(name, json!([step(1, action, parameters, json!({}))]))
        .await;
    scene.execution(&format!("{name}-step-1")).await
}

fn drain(node: &str) -> Value {
    json!({"drainNode": {"nodeName": node, "gracePeriod": "1s", "ignoreDaemonSets": true, "deleteLocalData": true}})
}

fn uncordon(node: &str) -> Value {
    json!({"uncordonNode": {"nodeName": node}})
}

async fn is_cordoned(scene: &Scene<'_>, node: &str) -> bool {
    scene.get(NODE, node).await["spec"]["unschedulable"] == true
}

/// Pods of `web` that stand on this node.
async fn pods_on(scene: &Scene<'_>, node: &str) -> usize {
    let pods = scene.list(POD, "app=web").await;
    pods.iter().filter(|pod| pod["spec"]["nodeName"] == node).count()
}

#[tokio::test]
async fn cordon_and_uncordon_change_what_the_node_says_of_itself() {
    let (bed, _turn) = bed_alone().await;
    let scene = Scene::of_a_cluster_admin(bed, "cordon").await;
    let earlier = effects_on_node(&scene, "node-2").len();
    let cordon = json!({"cordonNode": {"nodeName": "node-2"}});
    let execution = run(&scene, "close", "cordon-node", cordon).await;
    assert!(is_cordoned(&scene, "node-2").await);
    let undo = &execution["status"]["rollbackInformation"]["rollbackParameters"];
    assert_eq!(undo["uncordonNode"]["node"], "node-2", "{}", pretty(&execution));
    let execution = run(&scene, "open", "uncordon-node", uncordon("node-2")).await;
    assert!(!is_cordoned(&scene, "node-2").await);
    let undo = &execution["status"]["rollbackInformation"]["rollbackParameters"];
    assert_eq!(undo["cordonNode"]["node"], "node-2", "{}", pretty(&execution));
    assert_eq!(
        effects_on_node(&scene, "node-2")[earlier..],
        ["patch nodes node-2"; 2]
    );
    only_ended_jobs_remain(&scene).await;
}

#[tokio::test]
async fn a_drain_moves_the_pods_to_the_other_node_and_leaves_the_node_cordoned() {
    let (bed, _turn) = bed_alone().await;
    let scene = Scene::of_a_cluster_admin(bed, "drain").await;
    scene.deployment("web", 4).await;
    let to_move = pods_on(&scene, "node-2").await;
    assert_ne!(to_move, 0);
    run(&scene, "empty", "drain-node", drain("node-2")).await;
    assert!(is_cordoned(&scene, "node-2").await);
    assert_eq!(pods_on(&scene, "node-2").await, 0);
    scene
        .eventually("all of them run on the other node", async || {
            let deployment = scene.get(DEPLOYMENT, "web").await;
            (deployment["status"]["readyReplicas"] == 4).then_some(())
        })
        .await;
    assert_eq!(pods_on(&scene, "node-1").await, 4);
    let evictions = effects(&scene);
    assert_eq!(evictions.len(), to_move, "{evictions:?}");
    run(&scene, "open", "uncordon-node", uncordon("node-2")).await;
    assert!(!is_cordoned(&scene, "node-2").await);
    only_ended_jobs_remain(&scene).await;
}

#[tokio::test]
async fn a_dry_run_of_each_action_leaves_every_object_as_it_is() {
    let (bed, _turn) = bed_alone().await;
    let scene = Scene::of_a_cluster_admin(bed, "tried").await;
    each_action_changes_nothing(&scene, "node-2").await;
    only_ended_jobs_remain(&scene).await;
}

#[tokio::test]
async fn the_only_node_is_drained_once_a_person_cordoned_it_by_a_job_that_runs_on_it() {
    let (bed, _turn) = bed_of_one_node().await;
    let scene = Scene::of_a_cluster_admin(bed, "only").await;
    scene.deployment("web", 2).await;
    let steps = json!([step(1, "drain-node", drain("node-1"), json!({}))]);
    scene.start("refused", steps, json!({})).await;
    let ended = scene.ended("refused").await;
    let status = &ended["status"];
    assert_eq!(status["errorType"], "validation_error", "{}", pretty(status));
    let reason = status["failureReason"].as_str().expect("a reason");
    assert!(
        reason.contains("node/node-1 is the last schedulable node"),
        "{reason}"
    );
    assert!(!is_cordoned(&scene, "node-1").await);
    assert_eq!(scene.jobs().await, Vec::<Value>::new());

    scene
        .patch(NODE, "node-1", &json!({"spec": {"unschedulable": true}}))
        .await;
    run(&scene, "empty", "drain-node", drain("node-1")).await;
    assert!(is_cordoned(&scene, "node-1").await);
    assert_eq!(
        pods_on(&scene, "node-1").await,
        0,
        "their successors find no node"
    );
    // No other Job would find a node now.
    run(&scene, "open", "uncordon-node", uncordon("node-1")).await;
    scene
        .eventually("the pods are back", async || {
            let deployment = scene.get(DEPLOYMENT, "web").await;
            (deployment["status"]["readyReplicas"] == 2).then_some(())
        })
        .await;
    assert_eq!(effects(&scene).len(), 2, "{:?}", effects(&scene));
    only_ended_jobs_remain(&scene).await;
}
