use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kube::api::ListParams;
use kubernaut::memory::{Fault, FaultFunction};
use kubernaut_crds::Outcome;

use crate::scene::{CONTROLLER, Scene, step, workflow};

/// Writes of a workflow of two steps, and some more for what is done again.
const WRITES: usize = 14;

/// The controller's write of this number meets this fault.
fn at_write(number: usize, fault: Fault) -> FaultFunction {
    let seen = AtomicUsize::new(0);
    Arc::new(move |request| {
        let ours = request.user.name == CONTROLLER;
        let writes = matches!(request.verb.as_str(), "create" | "update" | "patch" | "delete");
        let counted =
            ours && writes && !["events", "subjectaccessreviews"].contains(&request.resource.as_str());
        (counted && seen.fetch_add(1, Ordering::Relaxed) == number).then(|| fault.clone())
    })
}

async fn survives(name: &str, fault: Fault) {
    for number in 0..WRITES {
        let scene = Scene::new().await;
        scene.cluster.fault(at_write(number, fault.clone()));
        scene.submit(workflow("w", &[step(1, &[]), step(2, &[1])])).await;
        let status = scene.finished("w").await.status.unwrap();
        let what = format!("{name} at write {number}: {:?}", status.step_statuses);
        let outcome = status.workflow_result.map(|result| result.outcome);
        assert_eq!(outcome, Some(Outcome::Success), "{what}");
        let jobs = scene.jobs().list(&ListParams::default()).await.unwrap().items;
        assert_eq!(jobs.len(), 2, "{what}");
        assert_eq!(
            scene.metric("kubernaut_actor_restarts_total{kind=\"step\"}"),
            0,
            "{what}"
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(scene.holds(), (0, 0), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_refused_for_now_is_made_again() {
    for code in [401, 429, 500, 503] {
        survives(&format!("code {code}"), Fault::refused(code)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_is_lost_is_not_made_twice() {
    survives("dropped before", Fault::dropped(false)).await;
    survives("dropped after", Fault::dropped(true)).await;
    survives("504 after", Fault::after_commit(504)).await;
    survives("late", Fault::delayed(Duration::from_secs(20))).await;
}

#[tokio::test(start_paused = true)]
async fn lost_watches_and_a_compacted_history_change_nothing() {
    for moment in [1, 5, 20, 60, 900, 1200] {
        let scene = Scene::new().await;
        scene.submit(workflow("w", &[step(1, &[]), step(2, &[1])])).await;
        tokio::time::sleep(Duration::from_millis(moment)).await;
        scene.cluster.compact();
        scene.cluster.drop_watches();
        let status = scene.finished("w").await.status.unwrap();
        let outcome = status.workflow_result.map(|result| result.outcome);
        assert_eq!(
            outcome,
            Some(Outcome::Success),
            "{moment} ms: {:?}",
            status.step_statuses
        );
        let jobs = scene.jobs().list(&ListParams::default()).await.unwrap().items;
        assert_eq!(jobs.len(), 2);
    }
}
