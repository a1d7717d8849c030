use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::api::ListParams;
use kubernaut::memory::{PodScript, Rbac};
use kubernaut_crds::WorkflowPhase;

use crate::scene::{Scene, eventually, execution, step, workflow};

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

fn slow_pods(scene: &Scene) {
    scene.cluster.script_pods(Arc::new(|pod| {
        let ours = pod["metadata"]["namespace"] == "kubernaut-executor";
        ours.then(|| PodScript::Run {
            after: Duration::from_secs(10),
        })
    }));
}

#[tokio::test(start_paused = true)]
async fn two_steps_on_one_target_run_one_after_the_other() {
    let scene = Scene::new().await;
    slow_pods(&scene);
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
    slow_pods(&scene);
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
    slow_pods(&scene);
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
