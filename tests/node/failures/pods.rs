//! Somebody takes the Job's pod away: by an eviction, which is not the action's failure, or by deleting it, which is.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, EvictParams};
use kubernaut_testbed::Part;
use serde_json::json;

use super::{BlockedDrain, completed_after, failed_at_once, outcomes, pod_of};
use crate::bed::bed_alone;
use crate::scene::{CONFIG_MAP, EXECUTOR, Scene, execution, pretty};
use crate::traces::{effects, only_ended_jobs_remain};

fn executor_pods(scene: &Scene<'_>) -> Api<Pod> {
    Api::namespaced(scene.client.clone(), EXECUTOR)
}

async fn evict(scene: &Scene<'_>, pod: &str) {
    executor_pods(scene)
        .evict(pod, &EvictParams::default())
        .await
        .expect("evicted");
}

#[tokio::test]
async fn an_eviction_of_the_jobs_pod_counts_for_no_attempt_whether_it_ran_or_waited() {
    let (bed, _turn) = bed_alone().await;
    let scene = Scene::of_a_cluster_admin(bed, "evicted").await;
    let drain = BlockedDrain::new(&scene, "node-2").await;
    drain.start(&scene, json!({"maxRetries": 0})).await;
    let first = drain.waiting_pod(&scene).await;
    evict(&scene, &first).await;
    let second = drain.waiting_pod_besides(&scene, Some(&first)).await;
    assert_ne!(first, second);
    drain.let_go(&scene).await;
    let completed = scene.execution_ended(BlockedDrain::NAME).await;
    drain.uncordon(&scene).await;
    completed_after(&completed, &["evicted", "succeeded"]);
    assert_eq!(
        effects(&scene).len(),
        1,
        "one pod was evicted, once: {:?}",
        effects(&scene)
    );

    scene.config_map("settings", json!({"a": "old"})).await;
    bed.cluster.pause(Part::Scheduler).await.expect("a signal");
    let update =
        json!({"updateConfigMap": {"namespace": "evicted", "configMap": "settings", "data": {"a": "new"}}});
    scene
        .create(execution(
            "waits",
            "update-configmap",
            update,
            json!({"maxRetries": 0}),
        ))
        .await;
    let pod = pod_of(&scene, "waits", |_| true).await;
    evict(&scene, &pod).await;
    scene
        .eventually("another attempt", async || {
            let execution = scene.execution("waits").await;
            (outcomes(&execution).len() == 2).then_some(())
        })
        .await;
    bed.cluster.resume(Part::Scheduler).await.expect("a signal");
    let completed = scene.execution_ended("waits").await;
    completed_after(&completed, &["evicted", "succeeded"]);
    assert_eq!(effects(&scene)[1..], ["patch configmaps settings"]);
    assert_eq!(scene.get(CONFIG_MAP, "settings").await["data"]["a"], "new");
    only_ended_jobs_remain(&scene).await;
}

#[tokio::test]
async fn a_deleted_pod_of_a_job_fails_its_attempt_and_the_next_one_does_what_is_left() {
    let (bed, _turn) = bed_alone().await;
    let scene = Scene::of_a_cluster_admin(bed, "deleted").await;
    let drain = BlockedDrain::new(&scene, "node-2").await;
    drain.start(&scene, json!({"maxRetries": 0})).await;
    let delete = async |pod: &str| {
        let pods = executor_pods(&scene);
        pods.delete(pod, &DeleteParams::default()).await.expect("deleted");
    };
    delete(&drain.waiting_pod(&scene).await).await;
    let failed = scene.execution_ended(BlockedDrain::NAME).await;
    let cordoned = drain.is_cordoned(&scene).await;
    drain.uncordon(&scene).await;
    // The last words of kubectl were those of the budget.
    failed_at_once(&failed, "resource_conflict", &["disruption budget"]);
    assert!(cordoned, "that much was done");
    assert_eq!(
        failed["status"]["rollbackInformation"]["available"],
        true,
        "{}",
        pretty(&failed)
    );

    scene.delete(crate::scene::EXECUTION, BlockedDrain::NAME).await;
    scene
        .eventually("the failed one is gone", async || {
            scene
                .find(crate::scene::EXECUTION, BlockedDrain::NAME)
                .await
                .is_none()
                .then_some(())
        })
        .await;
    drain.start(&scene, json!({"maxRetries": 1})).await;
    let first = drain.waiting_pod(&scene).await;
    delete(&first).await;
    drain.waiting_pod_besides(&scene, Some(&first)).await;
    drain.let_go(&scene).await;
    let completed = scene.execution_ended(BlockedDrain::NAME).await;
    drain.uncordon(&scene).await;
    completed_after(&completed, &["failed", "succeeded"]);
    assert_eq!(
        effects(&scene).len(),
        1,
        "one pod was evicted, once: {:?}",
        effects(&scene)
    );
    only_ended_jobs_remain(&scene).await;
}
