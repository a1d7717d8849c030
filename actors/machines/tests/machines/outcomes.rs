//! The wait for an outcome: how long it is, what is said of it, and when no more waiting helps.

use kubernaut_crds::{ErrorType, ExecutionPhase};
use kubernaut_machines::api_command::{ApiCommand, FailureClass};
use kubernaut_machines::reads::Read;
use serde_json::{Value, json};

use crate::step_harness::{StepHarness, deployment, failure, merge, restart, scale};

/// Deployment `web` of three, restarted by our step; so many of its new pods are there.
fn rolling(updated: i64) -> Value {
    let mut web = deployment(
        2,
        json!({"replicas": 3, "selector": {"matchLabels": {"app": "web"}},
               "template": {"metadata": {"annotations": {"kubernaut.io/restarted-by": "uid-1"}}}}),
        json!({"replicas": 3 + updated, "updatedReplicas": updated, "readyReplicas": 3}),
    );
    web["metadata"]["uid"] = json!("d");
    web
}

fn new_set() -> Value {
    json!({"kind": "ReplicaSet",
           "metadata": {"name": "web-2", "namespace": "shop", "labels": {"app": "web"},
                        "annotations": {"deployment.kubernetes.io/revision": "2"},
                        "ownerReferences": [{"kind": "Deployment", "uid": "d", "controller": true}]},
           "spec": {"selector": {"matchLabels": {"app": "web", "new": "yes"}}}, "status": {}})
}

fn new_pod(status: &Value) -> Value {
    let mut pod = json!({"kind": "Pod", "metadata": {"name": "web-2-a", "uid": "p", "namespace": "shop",
                                                     "labels": {"app": "web", "new": "yes"}},
                         "status": {"phase": "Pending"}});
    merge(&mut pod["status"], status);
    pod
}

fn waits_for(reason: &str) -> Value {
    new_pod(
        &json!({"containerStatuses": [{"name": "app", "state": {"waiting": {
        "reason": reason, "message": "Back-off pulling image \"web:9\""}}}]}),
    )
}

fn unschedulable() -> Value {
    new_pod(
        &json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                                    "message": "0/3 nodes are available"}]}),
    )
}

/// A restart whose Job succeeds after so many seconds; then a new pod is there.
fn restarted(timeout: &str, job: i64, pod: Value) -> StepHarness {
    let mut spec = restart();
    spec["timeout"] = json!(timeout);
    let mut bed =
        StepHarness::new(spec).with([deployment(1, json!({"replicas": 3}), json!({"replicas": 3}))]);
    bed.start();
    bed.pod_runs();
    bed.wait(job);
    for object in [rolling(1), new_set(), pod] {
        bed.set(object);
    }
    bed.pod_succeeds("deployment.apps/web patched");
    assert_eq!(
        bed.phase(),
        Some(ExecutionPhase::RollbackReady),
        "{}",
        bed.message()
    );
    bed
}

/// Seconds from now to the end.
fn seconds_to_the_end(bed: &mut StepHarness) -> i64 {
    let start = bed.now;
    bed.run_to_the_end();
    bed.now.duration_since(start).as_secs()
}

#[test]
fn the_timeout_bounds_the_whole_step_and_its_end_says_that_it_was_too_short() {
    let mut bed = restarted("2m", 20, waits_for("ContainerCreating"));
    assert_eq!(
        bed.message(),
        "the Job succeeded; waits for the outcome: 0 of 3 new pods are ready; 3 old ones still serve"
    );
    assert_eq!(seconds_to_the_end(&mut bed), 100);
    assert_eq!(bed.status().error_type, Some(ErrorType::VerificationFailed));
    for words in [
        "0 of 3 new pods are ready",
        "timeout of 2m is over",
        "needs a longer timeout",
    ] {
        assert!(bed.message().contains(words), "{words}: {}", bed.message());
    }
}

#[test]
fn an_outcome_gets_half_a_minute_however_late_its_job_ended() {
    let mut bed = restarted("1m", 55, waits_for("ContainerCreating"));
    assert_eq!(seconds_to_the_end(&mut bed), 30);
    // Also by the next controller.
    let mut bed = restarted("1m", 55, waits_for("ContainerCreating"));
    bed.wait(20);
    bed.start();
    assert_eq!(seconds_to_the_end(&mut bed), 10);
}

#[test]
fn a_deployment_without_a_progress_deadline_is_waited_for_no_longer_than_the_timeout() {
    let mut bed = restarted("2m", 0, waits_for("ContainerCreating"));
    let mut web = rolling(1);
    web["spec"]["progressDeadlineSeconds"] = json!(i32::MAX);
    bed.set(web);
    assert_eq!(seconds_to_the_end(&mut bed), 120);
}

#[test]
fn a_rollout_whose_new_pod_does_not_start_fails_after_a_minute_and_names_it() {
    for (pod, words) in [
        (
            waits_for("ImagePullBackOff"),
            "ImagePullBackOff: Back-off pulling image \"web:9\"",
        ),
        (
            waits_for("CreateContainerConfigError"),
            "CreateContainerConfigError",
        ),
        (unschedulable(), "Unschedulable: 0/3 nodes are available"),
    ] {
        let mut bed = restarted("10m", 0, pod);
        let seconds = seconds_to_the_end(&mut bed);
        assert!((60..=65).contains(&seconds), "{seconds} s");
        assert_eq!(bed.status().error_type, Some(ErrorType::VerificationFailed));
        for words in [
            "0 of 3 new pods are ready; 3 old ones still serve",
            "Pod web-2-a",
            words,
        ] {
            assert!(bed.message().contains(words), "{words}: {}", bed.message());
        }
    }
}

#[test]
fn a_pull_that_fails_and_the_pause_before_the_next_one_are_one_obstacle() {
    let mut bed = restarted("10m", 0, waits_for("ErrImagePull"));
    let start = bed.now;
    let mut flips = ["ImagePullBackOff", "ErrImagePull"].into_iter().cycle();
    while bed.phase() == Some(ExecutionPhase::RollbackReady) {
        bed.set(waits_for(flips.next().expect("a reason")));
        assert!(bed.next());
    }
    assert!(bed.now.duration_since(start).as_secs() <= 65, "{}", bed.message());
}

#[test]
fn a_container_that_crashes_is_not_healed_by_running_in_between() {
    let runs = || {
        new_pod(
            &json!({"phase": "Running", "containerStatuses": [{"name": "app", "ready": false,
            "state": {"running": {}}, "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}}}]}),
        )
    };
    let mut bed = restarted("10m", 0, waits_for("CrashLoopBackOff"));
    let start = bed.now;
    let mut turns = 0;
    while bed.phase() == Some(ExecutionPhase::RollbackReady) {
        turns += 1;
        bed.set(if turns % 3 == 0 {
            waits_for("CrashLoopBackOff")
        } else {
            runs()
        });
        assert!(bed.next());
    }
    let seconds = bed.now.duration_since(start).as_secs();
    assert!((60..=80).contains(&seconds), "{seconds} s");
    assert!(bed.message().contains("CrashLoopBackOff"), "{}", bed.message());
}

#[test]
fn an_obstacle_that_passes_ends_nothing() {
    let mut bed = restarted("10m", 0, waits_for("ErrImagePull"));
    bed.run_until(|bed| bed.now.as_second() > 1_800_000_050);
    bed.set(waits_for("ContainerCreating"));
    bed.run_until(|bed| bed.now.as_second() > 1_800_000_070);
    // Another one begins its own minute.
    bed.set(waits_for("CrashLoopBackOff"));
    bed.run_until(|bed| bed.now.as_second() > 1_800_000_125);
    assert_eq!(
        bed.phase(),
        Some(ExecutionPhase::RollbackReady),
        "{}",
        bed.message()
    );
    let mut done = rolling(3);
    merge(&mut done["status"], &json!({"replicas": 3}));
    bed.set(done);
    bed.run_to_the_end();
    assert_eq!(bed.phase(), Some(ExecutionPhase::Completed), "{}", bed.message());
}

#[test]
fn more_replicas_are_waited_for_while_a_cluster_may_still_grow() {
    let scaled = |pod: Value| {
        let mut bed =
            StepHarness::new(scale(5)).with([deployment(1, json!({"replicas": 3}), json!({"replicas": 3}))]);
        bed.start();
        let mut web = rolling(5);
        merge(&mut web["spec"], &json!({"replicas": 5}));
        merge(&mut web["status"], &json!({"replicas": 5}));
        for object in [web, new_set(), pod] {
            bed.set(object);
        }
        bed.pod_succeeds("deployment.apps/web scaled");
        (seconds_to_the_end(&mut bed), bed.message())
    };
    let (seconds, message) = scaled(unschedulable());
    assert_eq!(seconds, 300, "{message}");
    assert!(message.contains("pod web-2-a: Unschedulable"), "{message}");
    let (seconds, message) = scaled(waits_for("ErrImagePull"));
    assert!(seconds <= 65, "{seconds} s: {message}");
}

#[test]
fn the_status_says_from_ten_seconds_on_why_the_pods_wait_and_is_written_rarely() {
    let mut bed = restarted("10m", 0, waits_for("ContainerCreating"));
    bed.take_calls();
    bed.run_until(|bed| bed.now.as_second() >= 1_800_000_007);
    assert_eq!(bed.count("write status"), 0);
    bed.run_until(|bed| bed.now.as_second() >= 1_800_000_012);
    assert_eq!(
        bed.message(),
        "waits for the outcome: 0 of 3 new pods are ready; 3 old ones still serve (pod web-2-a: ContainerCreating: \
         Back-off pulling image \"web:9\")"
    );
    assert_eq!(bed.count("write status"), 1);
    // However often it changes.
    let mut updated = 0;
    while bed.now.as_second() < 1_800_000_500 {
        updated += 1;
        let mut web = rolling(1);
        merge(&mut web["status"], &json!({"readyReplicas": updated % 3}));
        bed.set(web);
        assert!(bed.next());
    }
    let writes = bed.count("write status");
    assert!((5..=15).contains(&writes), "{writes} writes");
}

#[test]
fn what_only_tells_more_of_a_rollout_is_done_without() {
    for class in [FailureClass::Rejected, FailureClass::Unknown] {
        let mut bed = restarted("5m", 0, waits_for("ContainerCreating"));
        bed.fail(move |command| match command {
            ApiCommand::Read(reads) if reads.iter().any(|read| matches!(read, Read::List { .. })) => {
                Some(failure(class, "replicasets is forbidden"))
            }
            _ => None,
        });
        bed.wait(30);
        assert_eq!(
            bed.phase(),
            Some(ExecutionPhase::RollbackReady),
            "{}",
            bed.message()
        );
        let mut done = rolling(3);
        merge(&mut done["status"], &json!({"replicas": 3}));
        bed.set(done);
        bed.run_to_the_end();
        assert_eq!(
            (bed.phase(), bed.message()),
            (Some(ExecutionPhase::Completed), "restarted".to_owned())
        );
    }
}

#[test]
fn a_read_that_is_never_answered_holds_no_step_for_longer_than_its_time() {
    let mut bed = restarted("2m", 0, waits_for("ContainerCreating"));
    bed.fail(|command| {
        matches!(command, ApiCommand::Read(_)).then(|| failure(FailureClass::Unknown, "no answer"))
    });
    let seconds = seconds_to_the_end(&mut bed);
    assert!((120..=135).contains(&seconds), "{seconds} s");
    let warning = "the outcome could not be read: no answer";
    assert!(bed.message().contains(warning), "{}", bed.message());
}

/// The inverse that is recorded.
fn recorded(bed: &StepHarness) -> Option<String> {
    bed.status().rollback_information?.undo?.patch
}

fn web_of(replicas: i64, ready: i64) -> Value {
    let mut web = deployment(
        replicas,
        json!({"replicas": replicas}),
        json!({"replicas": ready, "updatedReplicas": ready, "readyReplicas": ready}),
    );
    web["apiVersion"] = json!("apps/v1");
    web["metadata"]["uid"] = json!("d");
    web
}

/// Scaled from 1 to 3, and so many are ready when the Job has succeeded.
fn scaled(verification: bool, there: i64) -> StepHarness {
    let mut bed = StepHarness::new(scale(3)).with([web_of(1, 1)]);
    bed.settings.verification = verification;
    bed.start();
    bed.pod_runs();
    bed.set(web_of(there, 1));
    bed.pod_succeeds("deployment.apps/web scaled");
    bed
}

#[test]
fn what_somebody_changes_after_us_is_no_change_of_ours() {
    let ours = r#"[{"op":"test","path":"/metadata/uid","value":"d"},{"op":"test","path":"/spec/replicas","value":3},{"op":"replace","path":"/spec/replicas","value":1}]"#;
    let mut bed = scaled(true, 3);
    assert_eq!(recorded(&bed).as_deref(), Some(ours));
    bed.set(web_of(5, 1));
    bed.run_to_the_end();
    assert_eq!(bed.status().error_type, Some(ErrorType::VerificationFailed));
    assert_eq!(recorded(&bed).as_deref(), Some(ours));

    // Changed before anybody looked: nobody has seen what we set.
    let mut bed = scaled(true, 5);
    bed.run_to_the_end();
    assert_eq!(bed.status().error_type, Some(ErrorType::VerificationFailed));
    assert_eq!(recorded(&bed), None);

    // The Job was stopped before it changed anything, and a person did.
    let mut bed = StepHarness::new(scale(3)).with([web_of(1, 1)]);
    bed.start();
    bed.pod_runs();
    bed.set(web_of(5, 1));
    bed.run_to_the_end();
    assert_eq!(bed.status().error_type, Some(ErrorType::Timeout));
    assert_eq!(recorded(&bed), None);
}

#[test]
fn without_verification_what_was_changed_is_seen_once_all_the_same() {
    let mut bed = scaled(false, 3);
    bed.run_to_the_end();
    assert_eq!(bed.phase(), Some(ExecutionPhase::Completed));
    assert!(recorded(&bed).is_some_and(|patch| patch.contains("\"value\":3")));
}

#[test]
fn the_state_before_is_that_of_the_attempt_and_not_that_of_before_a_wait_for_quota() {
    let mut bed = StepHarness::new(scale(10)).with([web_of(3, 3)]);
    bed.fail(|command| {
        matches!(command, ApiCommand::CreateJob { .. })
            .then(|| failure(FailureClass::Quota, "exceeded quota: jobs"))
    });
    bed.start();
    bed.wait(20);
    bed.set(web_of(6, 6));
    bed.wait(20);
    bed.heal();
    bed.run_until(|bed| !bed.made.is_empty());
    let status = bed.status();
    let rollback = status
        .rollback_information
        .and_then(|rollback| rollback.rollback_parameters);
    let previous = rollback.and_then(|recorded| recorded.scale_to_previous);
    assert_eq!(previous.map(|scale| scale.previous_replicas), Some(6));
    let affected = status.execution_results.expect("results").resources_affected;
    assert_eq!(affected[0].before.as_deref(), Some("replicas: 6"));
}
