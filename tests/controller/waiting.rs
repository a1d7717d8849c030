//! Steps that wait for a target or a slot, and what comes first.

use std::sync::Arc;
use std::time::Duration;

use embedded_cluster::{Fault, Rbac, RequestInfo};
use jiff::{SignedDuration, Timestamp};
use kube::api::ListParams;
use kubernaut_crds::{ExecutionPhase, WorkflowPhase};
use serde_json::json;

use crate::scene::{CONTROLLER, Scene, eventually, execution, step, workflow};

/// Start and end of each Job's pod time, in order of the start.
async fn jobs_in_time(scene: &Scene) -> Vec<(Timestamp, Timestamp)> {
    let jobs = scene.jobs().list(&ListParams::default()).await.unwrap().items;
    let span = |job: &k8s_openapi::api::batch::v1::Job| {
        let status = job.status.as_ref()?;
        Some((
            job.metadata.creation_timestamp.as_ref()?.0,
            status.completion_time.as_ref()?.0,
        ))
    };
    let mut spans: Vec<_> = jobs.iter().filter_map(span).collect();
    spans.sort();
    spans
}

#[tokio::test(start_paused = true)]
async fn two_steps_on_one_target_run_one_after_the_other() {
    let scene = Scene::new().await;
    scene.pods_take(10);
    for name in ["a", "b", "c"] {
        scene.submit(workflow(name, &[step(1, &[])])).await;
    }
    eventually("two wait", async || {
        scene.metric("kubernaut_lock_requests{state=\"held\"}") == 1
            && scene.metric("kubernaut_lock_requests{state=\"waiting\"}") == 2
    })
    .await;
    for name in ["a", "b", "c"] {
        assert_eq!(
            scene.finished(name).await.status.unwrap().phase,
            Some(WorkflowPhase::Completed)
        );
    }
    let spans = jobs_in_time(&scene).await;
    assert_eq!(spans.len(), 3);
    assert!(spans.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{spans:?}");
    assert_eq!(scene.metric("kubernaut_lock_requests{state=\"held\"}"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_step_is_not_overtaken_after_a_restart() {
    let mut scene = Scene::new().await;
    scene.pods_take(10);
    scene.submit_execution(execution("first", "web-1")).await;
    eventually("it runs", async || {
        scene.remains().await.iter().any(|name| name.starts_with("pod"))
    })
    .await;
    scene.submit_execution(execution("second", "web-1")).await;
    scene.stop().await;
    scene.start().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(
        scene
            .jobs()
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .len(),
        1
    );
    scene.finished_execution("first").await;
    scene.finished_execution("second").await;
    let spans = jobs_in_time(&scene).await;
    assert!(spans[0].1 <= spans[1].0, "{spans:?}");
}

#[tokio::test(start_paused = true)]
async fn no_more_jobs_run_than_there_are_places() {
    let scene = Scene::with(Rbac::AllowAll, &["--max-running-jobs=2"]).await;
    scene.pods_take(10);
    let steps: Vec<_> = (1..=5).map(|number| step(number, &[])).collect();
    scene.submit(workflow("w", &steps)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(scene.metric("kubernaut_job_slots{state=\"used\"}"), 2);
    assert_eq!(scene.metric("kubernaut_job_slots{state=\"waiting\"}"), 3);
    assert_eq!(
        scene.finished("w").await.status.unwrap().phase,
        Some(WorkflowPhase::Completed)
    );
    let spans = jobs_in_time(&scene).await;
    assert_eq!(spans.len(), 5);
    assert!(
        spans.windows(3).all(|three| three[0].1 <= three[2].0),
        "{spans:?}"
    );
    assert_eq!(scene.metric("kubernaut_job_slots{state=\"used\"}"), 0);
}

fn jobs_are_not_made(scene: &Scene) {
    scene.cluster.fault(Arc::new(|request| {
        let create =
            request.user.name == CONTROLLER && request.verb == "create" && request.resource == "jobs";
        create.then(|| Fault::dropped(false))
    }));
}

/// Two executions that have begun, and three that wait for their places.
async fn two_of_five(scene: &Scene) {
    for name in ["one", "two"] {
        let deployment = if name == "one" { "web-1" } else { "web-2" };
        scene.submit_execution(execution(name, deployment)).await;
    }
    eventually("two have begun", async || {
        scene.execution_phase("one").await == Some(ExecutionPhase::Executing)
            && scene.execution_phase("two").await == Some(ExecutionPhase::Executing)
    })
    .await;
    for (name, deployment) in [("three", "web-3"), ("four", "web-4"), ("five", "web-5")] {
        scene.submit_execution(execution(name, deployment)).await;
    }
    eventually("three wait", async || {
        scene.metric("kubernaut_job_slots{state=\"waiting\"}") == 3
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_what_had_begun_does_not_wait_behind_what_had_not() {
    let mut scene = Scene::with(Rbac::AllowAll, &["--max-running-jobs=2"]).await;
    scene.pods_take(100);
    // Their attempts are recorded, and the controller ends before their Jobs are made.
    jobs_are_not_made(&scene);
    two_of_five(&scene).await;
    scene.stop().await;
    scene.cluster.fault(Arc::new(|_| None));
    // The others are faster.
    scene.crash("step shop/one", 1);
    scene.crash("step shop/two", 1);
    scene.start().await;
    for name in ["one", "two", "three", "four", "five"] {
        let status = scene.finished_execution(name).await.status.unwrap();
        assert_eq!(
            status.phase,
            Some(ExecutionPhase::Completed),
            "{name}: {status:?}"
        );
        assert_eq!(status.attempts.len(), 1, "{name}: {:?}", status.attempts);
    }
    let spans = jobs_in_time(&scene).await;
    assert!(
        spans.windows(3).all(|three| three[0].1 <= three[2].0),
        "{spans:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn jobs_that_ended_while_no_controller_ran_are_concluded_at_once() {
    let mut scene = Scene::with(Rbac::AllowAll, &["--max-running-jobs=2"]).await;
    scene.pods_take(10);
    two_of_five(&scene).await;
    scene.stop().await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    scene.hang_pods();
    scene.crash("step shop/one", 1);
    scene.crash("step shop/two", 1);
    scene.start().await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    for name in ["one", "two"] {
        assert_eq!(
            scene.execution_phase(name).await,
            Some(ExecutionPhase::Completed),
            "{name}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn no_job_is_sent_after_its_deadline_however_long_the_queue_is() {
    const CALL: Duration = Duration::from_secs(3);
    let scene = Scene::with(Rbac::AllowAll, &["--api-concurrency=4", "--authorization=none"]).await;
    let maps = (0..40).map(|number| {
        let metadata = json!({"name": format!("map-{number}"), "namespace": "shop"});
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {}})
    });
    scene.cluster.load(maps.collect()).unwrap();
    let creates_job = |request: &RequestInfo| {
        request.user.name == CONTROLLER && request.verb == "create" && request.resource == "jobs"
    };
    // All come to want their Jobs at once.
    scene.cluster.fault(Arc::new(move |request| {
        creates_job(request).then(|| Fault::refused(429))
    }));
    for number in 0..40 {
        let mut update = execution(&format!("update-{number}"), "web-1");
        update["spec"]["action"] = json!("update-configmap");
        update["spec"]["timeout"] = json!("6s");
        update["spec"]["parameters"] = json!({"updateConfigMap": {
            "namespace": "shop", "configMap": format!("map-{number}"), "data": {"key": "value"}}});
        scene.submit_execution(update).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    scene.cluster.fault(Arc::new(move |request| {
        creates_job(request).then(|| Fault::delayed(CALL))
    }));
    let mut late = 0;
    for number in 0..40 {
        let name = format!("update-{number}");
        let status = scene.finished_execution(&name).await.status.unwrap();
        late += usize::from(status.phase == Some(ExecutionPhase::Failed));
        for attempt in status.attempts {
            if let Some(job) = scene.jobs().get_opt(&attempt.job_name).await.unwrap() {
                let made = job.metadata.creation_timestamp.unwrap().0;
                // It was sent before it was made; the record tells whole seconds.
                let sent = made - SignedDuration::try_from(CALL).unwrap();
                assert!(
                    sent <= attempt.deadline.0,
                    "{name}: sent {sent}, deadline {}",
                    attempt.deadline.0
                );
            }
        }
    }
    assert!(late > 0, "the queue was short");
}
