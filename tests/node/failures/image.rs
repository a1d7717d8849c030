//! kubectl's image is not on the node, and can't be pulled.

use serde_json::json;

use super::{completed_after, failed_at_once, outcomes};
use crate::bed::bed_of_one_node;
use crate::scene::{CONFIG_MAP, Scene, execution};
use crate::traces::{effects, only_ended_jobs_remain};

/// Where the image stays while it has no name that a pod knows.
const KEPT: &str = "kubernaut.test/kubectl:kept";

#[tokio::test]
async fn a_missing_image_fails_the_attempt_after_a_minute_and_the_next_one_succeeds_once_it_is_there() {
    let (bed, _turn) = bed_of_one_node().await;
    let scene = Scene::new(bed, "image").await;
    for name in ["one", "two"] {
        scene.config_map(name, json!({"a": "old"})).await;
    }
    let version = scene
        .client
        .apiserver_version()
        .await
        .expect("a version")
        .git_version;
    let kubectl = format!("registry.k8s.io/kubectl:{version}");
    let images = async |what: &[&str]| {
        let command = [&["ctr", "--namespace=k8s.io", "images"], what].concat();
        bed.cluster.run_on_node(1, &command).await.expect("done")
    };
    images(&["tag", &kubectl, KEPT]).await;
    images(&["rm", "--sync", &kubectl]).await;
    for (name, retries) in [("one", 0), ("two", 1)] {
        let update =
            json!({"updateConfigMap": {"namespace": "image", "configMap": name, "data": {"a": "new"}}});
        scene
            .create(execution(
                name,
                "update-configmap",
                update,
                json!({"maxRetries": retries}),
            ))
            .await;
    }
    let failed = scene.execution_ended("one").await;
    scene
        .eventually("the second attempt of the other", async || {
            (outcomes(&scene.execution("two").await).len() == 2).then_some(())
        })
        .await;
    images(&["tag", KEPT, &kubectl]).await;
    failed_at_once(&failed, "job_failed", &["its pod can't start", "Pull", &kubectl]);
    let completed = scene.execution_ended("two").await;
    completed_after(&completed, &["failed", "succeeded"]);
    assert_eq!(scene.get(CONFIG_MAP, "one").await["data"]["a"], "old");
    assert_eq!(scene.get(CONFIG_MAP, "two").await["data"]["a"], "new");
    assert_eq!(effects(&scene), ["patch configmaps two"]);
    // What could not start was deleted, or it would have started now.
    assert_eq!(scene.jobs().await.len(), 1);
    only_ended_jobs_remain(&scene).await;
}
