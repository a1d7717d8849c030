//! The target goes away after it was looked at and before the Job runs: while nothing schedules pods.

use kube::api::DeleteParams;
use kubernaut_testbed::Part;
use serde_json::{Value, json};

use super::{Targets, drain, failed_at_once, outcomes, spare_node, start_all};
use crate::bed::bed_alone;
use crate::scene::{CONFIG_MAP, DEPLOYMENT, NODE, POD, STATEFUL_SET, Scene, pretty};
use crate::traces::{effects, only_ended_jobs_remain};

/// Starts these steps, and does `meanwhile` when all their Jobs are made and none can run. The workflow when it has ended.
async fn with_jobs_held_back(
    scene: &Scene<'_>,
    name: &str,
    actions: &[(&'static str, Value)],
    meanwhile: impl AsyncFnOnce(),
) -> Value {
    let earlier = scene.jobs().await.len();
    scene.bed.cluster.pause(Part::Scheduler).await.expect("a signal");
    start_all(scene, name, actions).await;
    scene
        .eventually("all Jobs", async || {
            (scene.jobs().await.len() == earlier + actions.len()).then_some(())
        })
        .await;
    meanwhile().await;
    scene.bed.cluster.resume(Part::Scheduler).await.expect("a signal");
    scene.ended(name).await
}

#[tokio::test]
async fn a_target_that_goes_before_the_job_runs_fails_the_step_unless_gone_was_what_it_wanted() {
    let (bed, _turn) = bed_alone().await;
    let scene = Scene::of_a_cluster_admin(bed, "gone").await;
    let targets = Targets::make(&scene).await;
    let mut actions = targets.actions(&scene);
    spare_node(&scene, "spare", false).await;
    actions.push(("drain-node", drain("spare")));
    with_jobs_held_back(&scene, "all", &actions, async || {
        for name in ["scaled", "restarted", "imaged", "patched"] {
            scene.delete(DEPLOYMENT, name).await;
        }
        scene.delete(STATEFUL_SET, "stateful").await;
        for app in ["deleted", "evicted"] {
            let pods = scene.list(POD, &format!("app={app}")).await;
            let name = pods[0]["metadata"]["name"].as_str().expect("a name");
            let now = DeleteParams::default().grace_period(0);
            scene.api(POD).delete(name, &now).await.expect("deleted");
        }
        scene.delete(CONFIG_MAP, "settings").await;
        scene.delete("v1/Secret", "login").await;
        scene.delete(CONFIG_MAP, "applied").await;
        scene.delete(NODE, "spare").await;
    })
    .await;
    let missing = [
        (1, r#"deployments.apps "scaled" not found"#),
        (2, r#"deployments.apps "restarted" not found"#),
        (3, r#"deployments.apps "imaged" not found"#),
        (4, r#"deployments.apps "patched" not found"#),
        (7, r#"configmaps "settings" not found"#),
        (8, r#"secrets "login" not found"#),
        (10, r#"statefulsets.apps "stateful" not found"#),
        (11, r#"nodes "spare" not found"#),
    ];
    for (number, words) in missing {
        let failed = scene.execution(&format!("all-step-{number}")).await;
        failed_at_once(&failed, "resource_not_found", &[words]);
    }
    for number in [5, 6] {
        let completed = scene.execution(&format!("all-step-{number}")).await;
        let status = &completed["status"];
        assert_eq!(status["phase"], "completed", "{}", pretty(&completed));
        assert_eq!(
            status["attempts"].as_array().map(Vec::len),
            Some(1),
            "{}",
            pretty(&completed)
        );
        assert!(
            status.to_string().contains("its effect is there"),
            "{}",
            pretty(&completed)
        );
    }
    let applied = scene.execution("all-step-9").await;
    assert_eq!(outcomes(&applied), ["succeeded"], "{}", pretty(&applied));
    assert_eq!(
        scene.get(CONFIG_MAP, "applied").await["data"],
        json!({"a": "new"}),
        "it was made again"
    );
    // Nothing else was done: the pods that came for those that went were left alone.
    assert_eq!(effects(&scene), ["patch configmaps applied"]);
    only_ended_jobs_remain(&scene).await;
}

#[tokio::test]
async fn a_node_that_goes_before_the_job_runs_is_neither_cordoned_nor_uncordoned() {
    let (bed, _turn) = bed_alone().await;
    let scene = Scene::of_a_cluster_admin(bed, "gone-nodes").await;
    for (action, member, cordoned) in [
        ("cordon-node", "cordonNode", false),
        ("uncordon-node", "uncordonNode", true),
    ] {
        spare_node(&scene, "spare", cordoned).await;
        let actions = [(action, json!({member: {"nodeName": "spare"}}))];
        with_jobs_held_back(&scene, action, &actions, async || {
            scene.delete(NODE, "spare").await;
        })
        .await;
        let failed = scene.execution(&format!("{action}-step-1")).await;
        failed_at_once(&failed, "resource_not_found", &[r#"nodes "spare" not found"#]);
    }
    only_ended_jobs_remain(&scene).await;
}
