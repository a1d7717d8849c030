//! The kubelet of the Job's node answers nothing.

use kubernaut_testbed::Part;
use serde_json::json;

use super::{BlockedDrain, failed_at_once, outcomes, pod_of};
use crate::bed::bed_of_one_node;
use crate::scene::{CONFIG_MAP, NODE, Scene, execution, pretty};
use crate::traces::{effects, only_ended_jobs_remain};

#[tokio::test]
async fn a_kubelet_that_stops_for_a_while_delays_a_job_before_and_during_its_run_and_no_more() {
    let (bed, _turn) = bed_of_one_node().await;
    let scene = Scene::of_a_cluster_admin(bed, "stopped").await;
    let kubelet = Part::Kubelet(1);
    scene.config_map("settings", json!({"a": "old"})).await;
    let drain = BlockedDrain::new(&scene, "node-1").await;

    bed.cluster.pause(kubelet).await.expect("a signal");
    let update =
        json!({"updateConfigMap": {"namespace": "stopped", "configMap": "settings", "data": {"a": "new"}}});
    scene
        .create(execution(
            "before",
            "update-configmap",
            update,
            json!({"maxRetries": 0}),
        ))
        .await;
    pod_of(&scene, "before", |pod| pod.data["spec"]["nodeName"] == "node-1").await;
    scene
        .eventually(
            "the status says that no pod runs, or still what is to be done",
            async || {
                let execution = scene.execution("before").await;
                (execution["status"]["phase"] == "executing").then_some(())
            },
        )
        .await;
    bed.cluster.resume(kubelet).await.expect("a signal");
    let completed = scene.execution_ended("before").await;
    assert_eq!(outcomes(&completed), ["succeeded"], "{}", pretty(&completed));

    // No other node is there: a person has to cordon it.
    scene
        .patch(NODE, "node-1", &json!({"spec": {"unschedulable": true}}))
        .await;
    drain.start(&scene, json!({"maxRetries": 0})).await;
    drain.waiting_pod(&scene).await;
    bed.cluster.pause(kubelet).await.expect("a signal");
    drain.let_go(&scene).await;
    scene
        .eventually("the eviction", async || {
            (effects(&scene).len() == 2).then_some(())
        })
        .await;
    assert_eq!(
        scene.execution(BlockedDrain::NAME).await["status"]["phase"],
        "executing"
    );
    bed.cluster.resume(kubelet).await.expect("a signal");
    let completed = scene.execution_ended(BlockedDrain::NAME).await;
    assert_eq!(outcomes(&completed), ["succeeded"], "{}", pretty(&completed));
    drain.uncordon(&scene).await;
    assert_eq!(effects(&scene).len(), 2, "{:?}", effects(&scene));
    only_ended_jobs_remain(&scene).await;
}

#[tokio::test]
async fn a_kubelet_that_never_confirms_the_pods_end_keeps_the_target_locked_until_the_pod_is_gone() {
    let (bed, _turn) = bed_of_one_node().await;
    let scene = Scene::new(bed, "unreachable").await;
    scene.config_map("settings", json!({"a": "old"})).await;
    let update = |value: &str| json!({"updateConfigMap": {"namespace": "unreachable", "configMap": "settings", "data": {"a": value}}});
    bed.cluster.pause(Part::Kubelet(1)).await.expect("a signal");
    let first = json!({"timeout": "5s", "maxRetries": 3});
    scene
        .create(execution("first", "update-configmap", update("first"), first))
        .await;
    let pod = pod_of(&scene, "first", |pod| pod.data["spec"]["nodeName"] == "node-1").await;
    let failed = scene.execution_ended("first").await;
    scene
        .create(execution(
            "second",
            "update-configmap",
            update("second"),
            json!({}),
        ))
        .await;
    let waiting = scene
        .eventually("the second one waits", async || {
            let execution = scene.execution("second").await;
            (execution["status"]["phase"] == "validated").then_some(execution)
        })
        .await;
    bed.cluster.resume(Part::Kubelet(1)).await.expect("a signal");
    failed_at_once(
        &failed,
        "timeout",
        &[
            &pod,
            "node-1",
            "could not be confirmed stopped",
            "kubernaut.io/release-lock",
        ],
    );
    let message = waiting["status"]["message"].as_str().expect("a message");
    assert!(
        message.contains("unreachable/settings") && message.contains("first"),
        "{message}"
    );

    let completed = scene.execution_ended("second").await;
    assert_eq!(outcomes(&completed), ["succeeded"], "{}", pretty(&completed));
    assert_eq!(scene.get(CONFIG_MAP, "settings").await["data"]["a"], "second");
    assert_eq!(
        effects(&scene),
        ["patch configmaps settings"],
        "the first one never ran"
    );
    only_ended_jobs_remain(&scene).await;
}
