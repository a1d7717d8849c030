//! Executions that are taken away by force: what they leave, and whose turn it is then.

use std::sync::Arc;
use std::time::Duration;

use embedded_cluster::{Fault, PodScript};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::{Api, ResourceExt};
use kubernaut_crds::{ErrorType, ExecutionPhase, WorkflowPhase};
use serde_json::json;

use crate::scene::{CONTROLLER, Scene, eventually, execution, step, workflow};

/// The executions that have a pod that has not ended, each as often as it has one.
async fn at_work(scene: &Scene) -> Vec<String> {
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), "kubernaut-executor");
    let pods = pods.list(&ListParams::default()).await.unwrap().items;
    let live = pods.iter().filter(|pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        !matches!(phase, Some("Succeeded" | "Failed"))
    });
    live.map(|pod| pod.labels()["kubernaut.io/execution-name"].clone())
        .collect()
}

async fn works(scene: &Scene, name: &str) {
    eventually(&format!("{name} is at work"), async || {
        at_work(scene).await.iter().any(|found| found == name)
    })
    .await;
}

/// A person takes the finalizer away and deletes the execution: it is gone at once.
async fn force_away(scene: &Scene, name: &str) {
    let nothing = Patch::Merge(json!({"metadata": {"finalizers": []}}));
    scene
        .executions()
        .patch(name, &PatchParams::default(), &nothing)
        .await
        .unwrap();
    scene.delete_execution(name).await;
}

#[tokio::test(start_paused = true)]
async fn an_execution_that_is_gone_leaves_no_payload() {
    for without_controller in [false, true] {
        let mut scene = Scene::new().await;
        scene.hang_pods();
        scene.submit_secret_update("a").await;
        eventually("the payload is made", async || scene.has_payload().await).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        if without_controller {
            scene.stop().await;
        }
        force_away(&scene, "a").await;
        if without_controller {
            scene.start().await;
        }
        eventually("nothing is left", async || scene.remains().await.is_empty()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_execution_that_is_gone_leaves_no_payload_when_its_workflow_ends_before_that_can_go() {
    let scene = Scene::new().await;
    scene.cluster.fault(Arc::new(|request| {
        let creates =
            request.user.name == CONTROLLER && request.verb == "create" && request.resource == "jobs";
        creates.then(|| Fault::dropped(false))
    }));
    let secrets: Api<Secret> = Api::namespaced(scene.client.clone(), "shop");
    let target = json!({"metadata": {"name": "db"}, "data": {"password": "b2xk"}});
    let target = serde_json::from_value(target).unwrap();
    secrets.create(&PostParams::default(), &target).await.unwrap();
    let parameters =
        json!({"updateSecret": {"namespace": "shop", "name": "db", "dataUpdates": {"password": "bmV3"}}});
    let mut update = step(1, &[]);
    update["action"] = json!("update-secret");
    update["parameters"] = parameters;
    scene.submit(workflow("fix", &[update])).await;
    eventually("the payload is made", async || scene.has_payload().await).await;
    force_away(&scene, "fix-step-1").await;
    let phase = scene.finished("fix").await.status.unwrap().phase;
    assert_eq!(phase, Some(WorkflowPhase::Failed));
    eventually("nothing is left", async || scene.remains().await.is_empty()).await;
}

/// Never two pods, and the second execution gets its turn.
async fn take_turns(scene: &Scene, second: &str) {
    for _ in 0..6_000 {
        let working = at_work(scene).await;
        assert!(working.len() <= 1, "{working:?}");
        if working == [second] {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{second} never got its turn");
}

#[tokio::test(start_paused = true)]
async fn an_execution_whose_actor_crashes_at_any_of_its_messages_holds_nothing_in_the_end() {
    let mut spared = 0;
    loop {
        let scene = Scene::new().await;
        scene.crash_after("step shop/a", spared, 1);
        scene.submit_execution(execution("a", "web-1")).await;
        let status = scene.finished_execution("a").await.status.unwrap();
        assert_eq!(status.phase, Some(ExecutionPhase::Completed), "{status:?}");
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert_eq!(scene.holds(), (0, 0), "it crashed after {spared} messages");
        if scene.metric("kubernaut_actor_restarts_total{kind=\"step\"}") == 0 {
            break;
        }
        spared += 1;
    }
    assert!(spared > 5, "it had {spared} messages");
}

#[tokio::test(start_paused = true)]
async fn a_target_is_nobody_else_s_while_the_job_of_an_execution_that_is_gone_lives() {
    let scene = Scene::new().await;
    scene.hang_pods();
    scene.submit_execution(execution("a", "web-1")).await;
    works(&scene, "a").await;
    scene.submit_execution(execution("b", "web-1")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    force_away(&scene, "a").await;
    take_turns(&scene, "b").await;
    assert_eq!(scene.holds(), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_target_is_nobody_else_s_while_the_job_of_an_execution_that_is_gone_may_still_come() {
    let scene = Scene::new().await;
    scene.hang_pods();
    scene.cluster.fault(Arc::new(|request| {
        let slow = request.user.name == CONTROLLER && request.verb == "create" && request.resource == "jobs";
        slow.then(|| Fault::delayed(Duration::from_secs(5)))
    }));
    scene.submit_execution(execution("a", "web-1")).await;
    eventually("the first attempt is recorded", async || {
        scene.execution_phase("a").await == Some(ExecutionPhase::Executing)
    })
    .await;
    scene.submit_execution(execution("b", "web-1")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    force_away(&scene, "a").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(scene.holds().0, 1);
    take_turns(&scene, "b").await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_never_came_holds_nothing_for_longer_than_a_minute() {
    let scene = Scene::new().await;
    scene.cluster.fault(Arc::new(|request| {
        let lost = request.user.name == CONTROLLER && request.verb == "create" && request.resource == "jobs";
        lost.then(|| Fault::dropped(false))
    }));
    scene.submit_execution(execution("a", "web-1")).await;
    eventually("the first attempt is recorded", async || {
        scene.execution_phase("a").await == Some(ExecutionPhase::Executing)
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    force_away(&scene, "a").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(scene.holds(), (1, 1));
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(scene.holds(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_outlives_the_end_of_its_step_is_stopped_while_the_workflow_goes_on() {
    let mut scene = Scene::new().await;
    scene.hang_pods();
    scene.submit(workflow("w", &[step(1, &[]), step(2, &[])])).await;
    works(&scene, "w-step-1").await;
    works(&scene, "w-step-2").await;
    scene.stop().await;
    let failed =
        json!({"status": {"phase": "failed", "failureReason": "by hand", "errorType": "unknown_error"}});
    scene
        .executions()
        .patch_status("w-step-1", &PatchParams::default(), &Patch::Merge(failed))
        .await
        .unwrap();
    scene.start().await;
    eventually("its Job is gone", async || at_work(&scene).await == ["w-step-2"]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(scene.workflow_phase("w").await, Some(WorkflowPhase::Executing));
    assert_eq!(scene.holds(), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_a_person_releases_is_free_although_the_job_lives() {
    let mut scene = Scene::new().await;
    scene.hang_pods();
    // Its pod can't be confirmed stopped: nobody deletes the Job either.
    scene.cluster.fault(Arc::new(|request| {
        let deletes =
            request.user.name == CONTROLLER && request.verb == "delete" && request.resource == "jobs";
        deletes.then(|| Fault::refused(503))
    }));
    scene.submit_execution(execution("a", "web-1")).await;
    works(&scene, "a").await;
    scene.stop().await;
    let failed = json!({"status": {"phase": "failed", "failureReason": "by hand", "errorType": "timeout"}});
    scene
        .executions()
        .patch_status("a", &PatchParams::default(), &Patch::Merge(failed))
        .await
        .unwrap();
    scene.start().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(scene.holds(), (1, 1));
    let released = json!({"metadata": {"annotations": {"kubernaut.io/release-lock": "true"}}});
    scene
        .executions()
        .patch("a", &PatchParams::default(), &Patch::Merge(released))
        .await
        .unwrap();
    eventually("nothing is held", async || scene.holds() == (0, 0)).await;
    assert_eq!(at_work(&scene).await, ["a"]);
}

/// The pod of a Job is on a node that nobody reaches, and will not be confirmed stopped.
async fn on_a_lost_node() -> Scene {
    let scene = Scene::new().await;
    scene.cluster.script_pods(Arc::new(|pod| {
        (pod["metadata"]["namespace"] == "kubernaut-executor").then_some(PodScript::Lost)
    }));
    scene.submit_execution(execution("a", "web-1")).await;
    works(&scene, "a").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    scene
}

#[tokio::test(start_paused = true)]
async fn a_job_on_a_lost_node_keeps_its_target_and_no_slot_whatever_becomes_of_its_execution() {
    type Act = for<'a> fn(&'a Scene) -> futures::future::BoxFuture<'a, ()>;
    let acts: [(&str, Act); 3] = [
        ("it ends by itself", |_| Box::pin(async {})),
        ("it is deleted", |scene| Box::pin(scene.delete_execution("a"))),
        ("it is taken away by force", |scene| {
            Box::pin(force_away(scene, "a"))
        }),
    ];
    for (what, act) in acts {
        for restarts in [false, true] {
            let mut scene = on_a_lost_node().await;
            act(&scene).await;
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert_eq!(scene.holds(), (1, 1), "{what}");
            // Its timeout, a minute to be confirmed stopped, and some.
            tokio::time::sleep(Duration::from_mins(8)).await;
            assert_eq!(scene.holds(), (1, 0), "{what}");
            if restarts {
                scene.stop().await;
                scene.start().await;
                tokio::time::sleep(Duration::from_mins(2)).await;
                // What a Job acts on stands in its execution alone.
                let knows = scene.executions().get_opt("a").await.unwrap().is_some();
                let held = (i64::from(knows), 0);
                assert_eq!(scene.holds(), held, "{what}, and there was another controller");
            }
        }
    }
}

/// A workflow that a finalizer of somebody else keeps in deletion, and whose step waited for its target until then.
async fn deleted_while_a_step_waits(policy: DeleteParams) -> Scene {
    let scene = Scene::new().await;
    scene.hang_pods();
    scene.submit_execution(execution("first", "web-1")).await;
    works(&scene, "first").await;
    let mut object = workflow("w", &[step(1, &[])]);
    object["metadata"]["finalizers"] = json!(["example.com/slow"]);
    scene.submit(object).await;
    eventually("the step waits", async || {
        scene.metric("kubernaut_lock_requests{state=\"waiting\"}") == 1
    })
    .await;
    scene.workflows().delete("w", &policy).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    scene.delete_execution("first").await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    scene
}

#[tokio::test(start_paused = true)]
async fn a_step_begins_nothing_after_its_workflow_was_deleted() {
    let scene = deleted_while_a_step_waits(DeleteParams::background()).await;
    let jobs = scene.jobs().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(jobs.len(), 0);
    let status = scene.executions().get("w-step-1").await.unwrap().status.unwrap();
    assert_eq!(
        status.error_type,
        Some(ErrorType::Cancelled),
        "{:?}",
        status.message
    );
    let finalizers = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    scene
        .workflows()
        .patch("w", &PatchParams::default(), &finalizers)
        .await
        .unwrap();
    scene.is_clean().await;
    assert_eq!(scene.holds(), (0, 0));
    assert_eq!(scene.replicas("web-1").await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_step_that_its_deleted_workflow_leaves_behind_on_purpose_goes_on_by_itself() {
    let orphan = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Orphan),
        ..DeleteParams::default()
    };
    let scene = deleted_while_a_step_waits(orphan).await;
    assert_eq!(at_work(&scene).await, ["w-step-1"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_frees_its_target_although_its_end_can_not_be_written() {
    let scene = Scene::new().await;
    let deployments: Api<Deployment> = Api::namespaced(scene.client.clone(), "shop");
    let paused = Patch::Merge(json!({"spec": {"paused": true}}));
    deployments
        .patch("web-1", &PatchParams::default(), &paused)
        .await
        .unwrap();
    scene.cluster.fault(Arc::new(|request| {
        let ends =
            request.user.name == CONTROLLER && request.subresource == "status" && request.name == "refused";
        ends.then(|| Fault::refused(503))
    }));
    let mut restart = execution("refused", "web-1");
    restart["spec"]["action"] = json!("rollout-restart");
    restart["spec"]["parameters"] = json!({"rolloutRestart": {"namespace": "shop", "deployment": "web-1"}});
    scene.submit_execution(restart).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    scene.submit_execution(execution("next", "web-1")).await;
    let next = scene.finished_execution("next").await.status.unwrap();
    assert_eq!(next.phase, Some(ExecutionPhase::Completed), "{next:?}");
    assert_eq!(scene.execution_phase("refused").await, None);
}
