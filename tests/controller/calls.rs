//! Calls that fail, hang or wait, and who waits for them.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use embedded_cluster::{Fault, RequestInfo};
use kubernaut_crds::ExecutionPhase;
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing_subscriber::fmt::MakeWriter;

use crate::scene::{CONTROLLER, Scene, execution, workflow};

/// A call to the API server takes this long.
const CALL: Duration = Duration::from_millis(20);

fn is_call(request: &RequestInfo) -> bool {
    request.user.name == CONTROLLER && ["create", "patch", "get", "delete"].contains(&request.verb.as_str())
}

/// A cluster in which each call takes a while, with the ConfigMaps of so many workflows.
async fn slow_scene(workflows: usize, steps: usize) -> Scene {
    let scene = Scene::new().await;
    let names = (0..workflows).flat_map(|number| (1..=steps).map(move |step| config_map(number, step)));
    let objects = names.map(|name| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "shop"}, "data": {}})
    });
    scene.cluster.load(objects.collect()).unwrap();
    scene
        .cluster
        .fault(Arc::new(|request| is_call(request).then(|| Fault::delayed(CALL))));
    scene
}

fn config_map(workflow: usize, step: usize) -> String {
    format!("w-{workflow}-{step}")
}

/// Its steps run one after the other, and each has rights of its own.
fn chain(number: usize, steps: usize) -> Value {
    let steps: Vec<Value> = (1..=steps)
        .map(|step| {
            let before: Vec<usize> = (1..step).rev().take(1).collect();
            json!({
                "stepNumber": step, "name": format!("step-{step}"), "action": "update-configmap", "dependsOn": before,
                "parameters": {"updateConfigMap": {
                    "namespace": "shop", "name": config_map(number, step), "dataUpdates": {"key": "value"},
                }},
            })
        })
        .collect();
    workflow(&format!("w-{number}"), &steps)
}

#[tokio::test(start_paused = true)]
async fn a_workflow_that_runs_does_not_wait_for_the_rights_of_many_that_begin() {
    let mut times = Vec::new();
    for others in [0, 150] {
        let scene = slow_scene(others + 1, 10).await;
        let start = Instant::now();
        scene.submit(chain(0, 2)).await;
        tokio::time::sleep(5 * CALL).await;
        for number in 1..=others {
            scene.submit(chain(number, 10)).await;
        }
        scene.finished("w-0").await;
        times.push(start.elapsed());
    }
    assert!(
        times[1] < times[0] + Duration::from_secs(1),
        "alone and beside many: {times:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_many_workflows_ask_at_once_about_one_account_is_asked_a_few_times() {
    let scene = slow_scene(100, 1).await;
    scene.cluster.clear_requests();
    for number in 0..100 {
        scene.submit(chain(number, 1)).await;
    }
    for number in 0..100 {
        scene.finished(&format!("w-{number}")).await;
    }
    let requests = scene.cluster.requests();
    let questions = requests
        .iter()
        .filter(|record| is_call(&record.request) && record.request.resource == "serviceaccounts")
        .count();
    // Half of the 32 places for calls, for each of the two accounts.
    assert!(questions <= 2 * 16, "{questions}");
}

/// What is logged, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Log;

    fn make_writer(&'a self) -> Log {
        self.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_leaves_a_line_in_the_log_that_names_the_execution_and_why() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(log.clone())
        .with_ansi(false)
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    for (code, class) in [
        (401, "throttled"),
        (403, "forbidden"),
        (422, "rejected"),
        (503, "unknown"),
    ] {
        let scene = Scene::new().await;
        scene.cluster.fault(Arc::new(move |request| {
            let made = is_call(request) && request.verb == "create" && request.resource == "jobs";
            made.then(|| Fault::refused(code))
        }));
        scene.submit_execution(execution("by-hand", "web-1")).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let refused = matches!(code, 403 | 422);
        let failed = scene.execution_phase("by-hand").await == Some(ExecutionPhase::Failed);
        assert_eq!(failed, refused, "{code}");
        let text = log.text();
        let found = text.lines().find(|line| line.contains(class));
        let line = found.unwrap_or_else(|| panic!("no line on {code} in: {text}"));
        for word in ["WARN", "by-hand", "create_job", "failure="] {
            assert!(line.contains(word), "{line}");
        }
    }
}
