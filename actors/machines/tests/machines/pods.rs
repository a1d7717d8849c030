//! Pods that are deleted by name and evicted by selector.

use kubernaut_crds::{ErrorType, ExecutionPhase, Retry};
use serde_json::{Value, json};

use crate::step_harness::StepHarness;

const NOT_FOUND: &str = "Error from server (NotFound): pods \"web-a\" not found";
const ANOTHER: &str = "Error from server (Conflict): Operation cannot be fulfilled on Pod \"web-a\": the UID in the \
                       precondition (a) does not match the UID in record (x)";
const RESET: &str = "Unable to connect to the server: net/http: request canceled";

fn pod(name: &str, uid: &str) -> Value {
    json!({"kind": "Pod",
           "metadata": {"name": name, "uid": uid, "namespace": "shop", "labels": {"app": "web"},
                        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "rs-uid",
                                             "controller": true}]},
           "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}})
}

fn replica_set(wanted: i64, ready: i64) -> Value {
    json!({"kind": "ReplicaSet", "metadata": {"name": "rs", "uid": "rs-uid"},
           "spec": {"replicas": wanted, "selector": {"matchLabels": {"app": "web"}},
                    "template": {"spec": {"terminationGracePeriodSeconds": 30}}},
           "status": {"readyReplicas": ready}})
}

fn evict() -> StepHarness {
    let mut bed = StepHarness::new(json!({"action": "restart-pods",
        "parameters": {"deletePod": {"namespace": "shop", "labelSelector": "app=web"}}}))
    .with([
        pod("web-a", "a"),
        pod("web-b", "b"),
        pod("web-c", "c"),
        replica_set(3, 3),
    ]);
    bed.start();
    bed
}

fn delete(grace: Option<i64>) -> StepHarness {
    delete_within("5m", grace)
}

fn delete_within(timeout: &str, grace: Option<i64>) -> StepHarness {
    let mut bed = StepHarness::new(json!({"action": "restart-pod", "timeout": timeout,
        "parameters": {"deletePod": {"namespace": "shop", "pod": "web-a", "gracePeriodSeconds": grace}}}))
    .with([
        pod("web-a", "a"),
        pod("web-b", "b"),
        pod("web-c", "c"),
        replica_set(3, 3),
    ]);
    bed.start();
    bed
}

fn replace(bed: &mut StepHarness, old: &str, new: Value) {
    bed.remove("Pod", old);
    bed.set(new);
}

#[test]
fn an_eviction_that_stumbles_over_a_pod_goes_on_with_the_others() {
    for words in [NOT_FOUND, ANOTHER] {
        let mut bed = evict();
        replace(&mut bed, "web-a", pod("web-d", "d"));
        bed.pod_fails(words);
        bed.run_until(|bed| bed.made.len() == 2);
        let names: Vec<String> = bed.attempts()[1]
            .pods
            .iter()
            .map(|pod| pod.name.clone())
            .collect();
        assert_eq!(names, ["web-b", "web-c"], "{words}");
    }
}

#[test]
fn a_pod_that_is_gone_when_it_shall_be_deleted_is_deleted() {
    for (words, name) in [(NOT_FOUND, "web-d"), (ANOTHER, "web-a")] {
        let mut bed = delete(None);
        replace(&mut bed, "web-a", pod(name, "new"));
        bed.pod_fails(words);
        assert_eq!(bed.phase(), Some(ExecutionPhase::Completed), "{}", bed.message());
        assert_eq!(bed.made.len(), 1);
    }
}

#[test]
fn no_job_is_made_when_no_pod_is_left_for_it() {
    let mut bed = evict();
    bed.pod_fails(RESET);
    assert_eq!(
        bed.phase(),
        Some(ExecutionPhase::Executing),
        "all are there: it is tried again"
    );
    // The evictions take effect only now.
    for (old, new) in [("web-a", "d"), ("web-b", "e"), ("web-c", "f")] {
        replace(&mut bed, old, pod(&format!("web-{new}"), new));
    }
    bed.run_to_the_end();
    assert_eq!(bed.phase(), Some(ExecutionPhase::Completed), "{}", bed.message());
    assert_eq!(bed.made.len(), 1);
    // By name, with a pod of that name that is another one.
    let mut bed = delete(None);
    bed.pod_fails(RESET);
    replace(&mut bed, "web-a", pod("web-a", "new"));
    bed.run_to_the_end();
    assert_eq!(bed.phase(), Some(ExecutionPhase::Completed), "{}", bed.message());
    assert_eq!(bed.made.len(), 1);
}

#[test]
fn pods_that_an_earlier_attempt_evicted_must_be_gone_too() {
    let mut bed = evict();
    let mut ending = pod("web-a", "a");
    ending["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    replace(&mut bed, "web-a", ending);
    bed.pod_fails(RESET);
    bed.run_until(|bed| bed.made.len() == 2);
    replace(&mut bed, "web-b", pod("web-e", "e"));
    replace(&mut bed, "web-c", pod("web-f", "f"));
    bed.pod_succeeds("");
    assert_eq!(bed.phase(), Some(ExecutionPhase::RollbackReady));
    assert!(
        bed.message().contains("pod web-a is on its way out"),
        "{}",
        bed.message()
    );
    replace(&mut bed, "web-a", pod("web-d", "d"));
    bed.run_to_the_end();
    assert_eq!(bed.phase(), Some(ExecutionPhase::Completed), "{}", bed.message());
}

#[test]
fn a_deleted_pod_is_waited_for_although_its_controller_does_not_know_yet() {
    let mut bed = delete(None);
    bed.remove("Pod", "web-a");
    bed.pod_succeeds("");
    assert_eq!(bed.phase(), Some(ExecutionPhase::RollbackReady));
    assert!(
        bed.message().contains("rs has 2 of 3 pods ready"),
        "{}",
        bed.message()
    );
    bed.set(pod("web-d", "d"));
    bed.run_to_the_end();
    assert_eq!(bed.phase(), Some(ExecutionPhase::Completed));
}

#[test]
fn a_pod_has_the_timeout_of_its_step_to_go() {
    let mut bed = delete_within("12m", Some(600));
    let mut ending = pod("web-a", "a");
    ending["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    bed.set(ending);
    bed.pod_succeeds("");
    let start = bed.now;
    bed.run_until(|bed| bed.now.duration_since(start).as_secs() > 599);
    assert_eq!(bed.phase(), Some(ExecutionPhase::RollbackReady));
    replace(&mut bed, "web-a", pod("web-d", "d"));
    bed.run_to_the_end();
    assert_eq!(bed.phase(), Some(ExecutionPhase::Completed));
    // One that does not go at all is given up, and not before its time.
    let mut bed = delete(Some(600));
    bed.pod_succeeds("");
    let start = bed.now;
    bed.run_to_the_end();
    assert_eq!(bed.status().error_type, Some(ErrorType::VerificationFailed));
    assert_eq!(bed.now.duration_since(start).as_secs(), 300);
    assert!(
        bed.message().contains("the timeout of 5m is over"),
        "{}",
        bed.message()
    );
}

const REFUSED: &str =
    "Error from server (TooManyRequests): Cannot evict pod as it would violate the pod's disruption budget.";

fn evict_once(more: &Value) -> StepHarness {
    let mut spec = json!({"action": "restart-pods", "maxRetries": 0,
        "parameters": {"deletePod": {"namespace": "shop", "labelSelector": "app=web"}}});
    crate::step_harness::merge(&mut spec, more);
    let mut bed = StepHarness::new(spec).with([pod("web-a", "a"), replica_set(1, 1)]);
    bed.start();
    bed
}

#[test]
fn an_eviction_that_a_disruption_budget_refuses_is_tried_as_long_as_there_is_time_whatever_max_retries_says()
{
    let mut bed = evict_once(&json!({}));
    for made in 2..=5 {
        bed.pod_fails(REFUSED);
        bed.run_until(|bed| bed.made.len() == made);
    }
    let starts: Vec<_> = bed
        .attempts()
        .iter()
        .map(|attempt| attempt.start_time.0)
        .collect();
    let pauses: Vec<f64> = starts
        .windows(2)
        .map(|pair| pair[1].duration_since(pair[0]).as_secs_f64().floor())
        .collect();
    assert_eq!(pauses, [10.0, 20.0, 30.0, 30.0]);
    // Anything else counts.
    bed.pod_fails(RESET);
    bed.run_to_the_end();
    assert_eq!(bed.phase(), Some(ExecutionPhase::Failed));
    assert_eq!(bed.made.len(), 5);

    let mut bed = evict_once(&json!({"timeout": "25s"}));
    while bed.phase() == Some(ExecutionPhase::Executing) {
        bed.pod_fails(REFUSED);
        let made = bed.made.len();
        bed.run_until(|bed| bed.made.len() > made || bed.phase() != Some(ExecutionPhase::Executing));
    }
    assert_eq!(bed.made.len(), 2);
    assert_eq!(bed.status().error_type, Some(ErrorType::Timeout));
    assert!(bed.message().contains("disruption budget"), "{}", bed.message());

    // A status holds no more than sixteen.
    let mut bed = evict_once(&json!({"timeout": "15m"}));
    while bed.phase() == Some(ExecutionPhase::Executing) {
        bed.pod_fails(REFUSED);
        let made = bed.made.len();
        bed.run_until(|bed| bed.made.len() > made || bed.phase() != Some(ExecutionPhase::Executing));
    }
    assert_eq!(bed.attempts().len(), 16, "{}", bed.message());
    assert_eq!(bed.status().error_type, Some(ErrorType::ResourceConflict));
}

#[test]
fn a_drain_that_ended_while_a_budget_refused_counts_and_is_tried_again_after_the_same_pause() {
    let node = |name: &str| {
        json!({"kind": "Node", "metadata": {"name": name, "uid": name}, "spec": {},
                                   "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    };
    // The next controller waits as this one would have: by what was recorded, and of a version that recorded nothing by the words.
    for recorded in [true, false] {
        let mut bed = StepHarness::new(json!({"action": "drain-node", "maxRetries": 1,
        "parameters": {"drainNode": {"node": "n1", "gracePeriodSeconds": 1, "ignoreDaemonSets": true,
                                     "deleteLocalData": true, "force": false}}}))
        .with([node("n1"), node("n2"), pod("web-a", "a"), replica_set(1, 1)]);
        bed.start();
        bed.pod_fails(REFUSED);
        let failed = bed.now;
        let attempt = &mut bed.execution.status.as_mut().expect("a status").attempts[0];
        assert_eq!(attempt.retry, Some(Retry::Eviction));
        if recorded {
            attempt.message = Some("in other words".to_owned());
        } else {
            attempt.retry = None;
        }
        bed.start();
        bed.run_until(|bed| bed.made.len() == 2);
        let pause = bed.attempts()[1].start_time.0.duration_since(failed);
        assert_eq!(pause.as_secs(), 10);
        bed.pod_fails(REFUSED);
        assert_eq!(bed.phase(), Some(ExecutionPhase::Failed), "{}", bed.message());
        assert_eq!(bed.status().error_type, Some(ErrorType::ResourceConflict));
    }
}
