//! Jobs that are not made, made too late, vanish, or do not go.

use jiff::SignedDuration;
use kubernaut_crds::{AttemptOutcome, ErrorType, ExecutionPhase};
use kubernaut_machines::api_command::{ApiCommand, FailureClass};
use kubernaut_machines::job_view::view;
use kubernaut_machines::step::is_stray;
use serde_json::{Value, json};

use crate::step_harness::{StepHarness, deployment, failure, scale};

fn bed(timeout: &str) -> StepHarness {
    let mut spec = scale(3);
    spec["timeout"] = json!(timeout);
    StepHarness::new(spec).with([deployment(1, json!({}), json!({}))])
}

fn refuse_jobs(bed: &mut StepHarness, class: FailureClass, words: &'static str) {
    bed.fail(move |command| matches!(command, ApiCommand::CreateJob { .. }).then(|| failure(class, words)));
}

fn seconds(from: jiff::Timestamp, to: jiff::Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

#[test]
fn no_job_is_made_after_its_deadline_however_long_creates_are_refused() {
    for class in [
        FailureClass::Throttled,
        FailureClass::Unknown,
        FailureClass::Conflict,
    ] {
        let mut bed = bed("10s");
        refuse_jobs(&mut bed, class, "slow down");
        bed.start();
        let deadline = bed.attempts()[0].deadline.0;
        bed.run_until(|bed| bed.now + SignedDuration::from_secs(1) >= deadline);
        bed.heal();
        bed.run_to_the_end();
        assert_eq!(bed.made_names(), [""; 0], "{class:?}");
        assert_eq!(bed.status().error_type, Some(ErrorType::Timeout));
        let words = "the Job could not be made within the timeout of 10s: slow down";
        assert_eq!(bed.message(), words, "{class:?}");
    }
}

#[test]
fn a_timeout_of_one_second_is_enough_for_a_job() {
    let mut bed = bed("1s");
    bed.start();
    assert_eq!(bed.made.len(), 1);
}

#[test]
fn an_overdue_job_that_was_deleted_is_not_made_again_by_the_next_controller() {
    let mut bed = bed("10s");
    bed.start();
    bed.pod_runs();
    // The Job is deleted for its deadline; the controller dies before it writes a word.
    let mut deleted = false;
    bed.fail(move |command| {
        deleted |= matches!(command, ApiCommand::DeleteJob { .. });
        let asks = matches!(command, ApiCommand::GetJob { .. });
        (deleted && asks).then(|| failure(FailureClass::Unknown, "x"))
    });
    bed.wait(16);
    bed.heal();
    bed.jobs.clear();
    bed.wait(4);
    bed.start();
    assert!(
        bed.message().contains("can't be made any more"),
        "{}",
        bed.message()
    );
    let restart = bed.now;
    bed.run_to_the_end();
    assert_eq!(bed.made.len(), 1);
    assert_eq!(bed.status().error_type, Some(ErrorType::Timeout));
    assert!(seconds(restart, bed.now) <= 60.0, "{}", seconds(restart, bed.now));
}

#[test]
fn the_next_attempt_waits_until_a_create_without_an_answer_can_not_take_effect_any_more() {
    let mut bed = bed("5m");
    refuse_jobs(&mut bed, FailureClass::Unknown, "connection reset");
    bed.start();
    let start = bed.attempts()[0].start_time.0;
    bed.run_until(|bed| bed.attempts()[0].outcome.is_some());
    let last = *bed.creates.last().expect("tried");
    assert!(seconds(start, last) < 60.0);
    assert!(
        seconds(last, bed.now) >= 60.0,
        "lost {} s after",
        seconds(last, bed.now)
    );
    assert!(seconds(start, bed.now) <= 121.0, "{}", seconds(start, bed.now));
    assert_eq!(bed.attempts()[0].outcome, Some(AttemptOutcome::Lost));
}

#[test]
fn a_job_that_comes_late_is_the_attempts_job() {
    let mut bed = bed("5m");
    let creates = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let seen = creates.clone();
    bed.fail(move |command| {
        matches!(command, ApiCommand::CreateJob { .. }).then(|| {
            seen.borrow_mut().push(command.clone());
            failure(FailureClass::Unknown, "connection reset")
        })
    });
    bed.start();
    let start = bed.now;
    bed.run_until(|bed| seconds(start, bed.now) > 45.0);
    bed.heal();
    let late = creates.borrow().last().cloned().expect("a create");
    bed.fail(|command| {
        matches!(command, ApiCommand::CreateJob { .. }).then(|| failure(FailureClass::Throttled, "x"))
    });
    bed.wait(50);
    bed.act(late).expect("made");
    bed.see_jobs();
    bed.set(deployment(
        2,
        json!({"replicas": 3}),
        json!({"replicas": 3, "readyReplicas": 3}),
    ));
    bed.pod_succeeds("scaled");
    assert_eq!(bed.phase(), Some(ExecutionPhase::Completed), "{}", bed.message());
    assert_eq!(bed.attempts().len(), 1);
}

#[test]
fn an_attempt_whose_creates_were_all_refused_is_recorded_anew() {
    let mut bed = bed("5m");
    refuse_jobs(&mut bed, FailureClass::Throttled, "slow down");
    bed.start();
    let first = bed.attempts()[0].start_time.clone();
    bed.run_until(|bed| bed.attempts()[0].start_time != first);
    assert_eq!((bed.attempts().len(), bed.attempts()[0].outcome), (1, None));
    bed.heal();
    bed.run_until(|bed| !bed.made.is_empty());
    assert_eq!(bed.made.len(), 1);
}

#[test]
fn a_job_of_an_attempt_that_has_ended_is_a_stray() {
    let mut bed = bed("5m");
    bed.start();
    bed.pod_runs();
    let (name, ran) = bed.jobs.first_key_value().expect("a Job");
    let mut late = view(name, ran.job.as_ref(), &ran.pod).expect("a view");
    late.execution_uid = Some("uid-1".into());
    assert!(!is_stray(Some(&bed.execution), &late));
    bed.lose_jobs();
    bed.run_until(|bed| bed.made.len() == 2);
    assert!(is_stray(Some(&bed.execution), &late));
    assert!(is_stray(None, &late));
}

#[test]
fn a_job_that_only_says_that_it_is_ours_is_no_stray() {
    let mut bed = bed("5m");
    bed.start();
    bed.pod_runs();
    let (name, ran) = bed.jobs.first_key_value().expect("a Job");
    let mut foreign = view(name, ran.job.as_ref(), &ran.pod).expect("a view");
    foreign.execution_uid = Some("uid-1".into());
    foreign.name = "another".into();
    assert!(is_stray(Some(&bed.execution), &foreign));
    // Each of ours carries the hash of what was recorded.
    foreign.hash = None;
    assert!(!is_stray(Some(&bed.execution), &foreign));
    assert!(!is_stray(None, &foreign));
}

#[test]
fn the_pod_of_a_job_that_was_deleted_in_the_background_is_waited_for() {
    let mut bed = bed("5m");
    bed.start();
    bed.pod_runs();
    for ran in bed.jobs.values_mut() {
        ran.job = None;
    }
    bed.see_jobs();
    assert_eq!(bed.phase(), Some(ExecutionPhase::Executing), "{}", bed.message());
    assert_eq!(bed.attempts()[0].outcome, None);
    bed.lose_jobs();
    assert_eq!(bed.attempts()[0].outcome, Some(AttemptOutcome::Lost));
    bed.run_until(|bed| bed.made.len() == 2);
}

#[test]
fn a_pod_without_its_job_that_only_the_api_shows_is_asked_for_until_it_is_gone() {
    let mut bed = bed("5m");
    bed.start();
    bed.pod_runs();
    for ran in bed.jobs.values_mut() {
        ran.job = None;
    }
    // A controller starts whose watches have shown nothing yet.
    let jobs = std::mem::take(&mut bed.jobs);
    bed.start_unseen(jobs);
    assert_eq!(bed.attempts()[0].outcome, None);
    bed.take_calls();
    bed.wait(30);
    bed.wait(5);
    assert!(
        (1..=3).contains(&bed.count("get job")),
        "{}",
        bed.count("get job")
    );
    bed.jobs.clear();
    bed.run_until(|bed| bed.attempts()[0].outcome.is_some());
    assert_eq!(bed.made.len(), 1);
}

#[test]
fn a_job_in_deletion_that_the_watch_does_not_show_is_asked_for_with_pauses() {
    let mut bed = bed("10s");
    bed.deletes_slowly = true;
    // The watch is cut: only what the create answered is known.
    bed.start();
    bed.take_calls();
    bed.wait(16);
    let start = bed.now;
    bed.run_until(|bed| seconds(start, bed.now) >= 20.0);
    assert_eq!(bed.count("delete job"), 1);
    assert!(
        (3..=6).contains(&bed.count("get job")),
        "{}",
        bed.count("get job")
    );
    bed.jobs.clear();
    bed.run_to_the_end();
    assert_eq!(bed.status().error_type, Some(ErrorType::Timeout));
    assert!(seconds(start, bed.now) < 30.0, "{}", seconds(start, bed.now));
}

#[test]
fn a_job_that_the_watch_does_not_show_is_asked_for_once_a_minute() {
    let mut bed = bed("10m");
    bed.start();
    bed.take_calls();
    let start = bed.now;
    bed.run_until(|bed| seconds(start, bed.now) >= 290.0);
    // After half a minute, and then each minute: a watch that lags says that the API server has much to do.
    assert_eq!(bed.count("get job"), 5);
}

#[test]
fn the_events_of_a_job_without_a_pod_are_read_less_and_less_often() {
    let mut bed = bed("10m");
    bed.start();
    bed.see_jobs();
    bed.take_calls();
    let start = bed.now;
    bed.run_until(|bed| seconds(start, bed.now) >= 259.0);
    // After 10, 20, 40, 80, 140, 200 and 260 s.
    assert_eq!(bed.count("explain job"), 7);
}

#[test]
fn a_delete_that_is_refused_for_another_uid_is_repeated_with_pauses() {
    let mut bed = bed("10s");
    bed.start();
    bed.pod_runs();
    bed.fail(|command| {
        matches!(command, ApiCommand::DeleteJob { .. })
            .then(|| failure(FailureClass::Conflict, "another uid"))
    });
    bed.take_calls();
    bed.wait(16);
    let start = bed.now;
    bed.run_until(|bed| seconds(start, bed.now) >= 30.0);
    assert!(
        (3..=10).contains(&bed.count("delete job")),
        "{}",
        bed.count("delete job")
    );
}

#[test]
fn a_pod_that_is_killed_at_the_deadline_is_a_timeout() {
    let mut bed = bed("10s");
    bed.start();
    bed.wait(11);
    for ran in bed.jobs.values_mut() {
        let job = ran.job.as_mut().expect("the Job");
        job.status = serde_json::from_value(json!({"conditions": [
            {"type": "FailureTarget", "status": "True", "reason": "DeadlineExceeded"}]}))
        .expect("a status");
    }
    bed.pod("Failed", Some(143), "");
    assert_eq!(
        bed.status().error_type,
        Some(ErrorType::Timeout),
        "{}",
        bed.message()
    );
    assert_eq!(bed.made.len(), 1);
}

#[test]
fn a_quota_that_never_has_room_is_named_at_the_end() {
    let mut bed = bed("30s");
    refuse_jobs(&mut bed, FailureClass::Quota, "exceeded quota: team");
    bed.start();
    assert_eq!(bed.message(), "waits for quota: exceeded quota: team");
    bed.run_until(|bed| bed.attempts()[0].start_time.0 > bed.status().start_time.expect("a start").0);
    assert_eq!(
        bed.message(),
        "waits for quota: exceeded quota: team",
        "also when it is recorded anew"
    );
    bed.run_to_the_end();
    assert_eq!(bed.status().error_type, Some(ErrorType::ResourceQuotaExceeded));
    assert_eq!(
        bed.message(),
        "the timeout of 30s is used up; last: waits for quota: exceeded quota: team"
    );
    assert_eq!(bed.attempts()[0].outcome, Some(AttemptOutcome::Failed));
}

#[test]
fn a_quota_that_has_room_again_is_not_named_any_more() {
    let mut bed = bed("5m");
    refuse_jobs(&mut bed, FailureClass::Quota, "exceeded quota: team");
    bed.start();
    bed.wait(1);
    bed.heal();
    bed.run_until(|bed| !bed.made.is_empty());
    assert_eq!(bed.message(), "Replicas: 1 -> 3");
}

#[test]
fn a_quota_does_not_hide_a_create_that_had_no_answer() {
    let mut bed = bed("5m");
    let mut first = true;
    bed.fail(move |command| {
        matches!(command, ApiCommand::CreateJob { .. }).then(|| {
            let class = if std::mem::take(&mut first) {
                FailureClass::Unknown
            } else {
                FailureClass::Quota
            };
            failure(class, "exceeded quota: team")
        })
    });
    bed.start();
    let (start, record) = (bed.now, bed.attempts()[0].clone());
    bed.run_until(|bed| bed.attempts()[0].start_time != record.start_time);
    assert!(
        seconds(start, bed.now) >= 60.0,
        "recorded anew after {} s",
        seconds(start, bed.now)
    );
}

#[test]
fn a_payload_goes_also_when_its_attempt_is_given_up_at_once() {
    let spec = json!({"action": "update-secret", "parameters": {"updateSecret": {
        "namespace": "shop", "secret": "keys", "data": {"k": "aHVudGVyMg=="}}}});
    let mut bed = StepHarness::new(spec);
    refuse_jobs(&mut bed, FailureClass::Throttled, "slow down");
    bed.start();
    // A stranger's Job has the name.
    let name = bed.attempts()[0].job_name.clone();
    let stranger: Value =
        json!({"metadata": {"name": name, "uid": "x"}, "spec": {"template": {"spec": null}}});
    let ran = crate::step_harness::Ran {
        job: serde_json::from_value(stranger).expect("a Job"),
        pod: None,
    };
    bed.jobs.insert(name, ran);
    bed.heal();
    bed.take_calls();
    bed.wait(1);
    assert_eq!(
        bed.status().error_type,
        Some(ErrorType::ResourceConflict),
        "{}",
        bed.message()
    );
    assert!(bed.stopped);
    assert_eq!(bed.count("delete secret"), 1);
}

#[test]
fn a_webhook_that_quotes_a_secret_value_is_quoted_without_it() {
    let said =
        "admission webhook \"audit.example\" denied the request: {\"k\":\"aHVudGVyMg==\"}, which is hunter2";
    for (word, class) in [
        ("create job", FailureClass::Rejected),
        ("create job", FailureClass::Forbidden),
        ("create job", FailureClass::Throttled),
        ("delete secret", FailureClass::Forbidden),
    ] {
        let spec = json!({"action": "update-secret", "timeout": "30s", "parameters": {"updateSecret": {
            "namespace": "shop", "secret": "keys", "data": {"k": "aHVudGVyMg=="}}}});
        let mut bed = StepHarness::new(spec);
        bed.fail(move |command| {
            let meant = match word {
                "create job" => matches!(command, ApiCommand::CreateJob { .. }),
                _ => matches!(command, ApiCommand::DeleteSecret { .. }),
            };
            meant.then(|| failure(class, said))
        });
        bed.start();
        for _ in 0..40 {
            bed.wait(1);
        }
        let status = serde_json::to_string(&bed.status()).expect("JSON");
        for value in ["aHVudGVyMg", "hunter2"] {
            assert!(!status.contains(value), "{word} {class:?}: {status}");
        }
    }
}

/// Its pod ends so, and the watches don't show it.
fn ends_unseen(bed: &mut StepHarness, phase: &str, exit: i32) {
    let ran = bed.jobs.values_mut().next_back().expect("a Job");
    let pod = ran.pod.as_mut().expect("a pod");
    pod.status = serde_json::from_value(json!({"phase": phase, "containerStatuses": [{
        "name": "kubectl", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": exit, "reason": "x", "message": "no such deployment"}}}]}))
    .expect("a status");
}

#[test]
fn a_job_that_ended_well_while_the_watches_were_blind_has_succeeded() {
    let mut bed = bed("10s");
    bed.start();
    bed.pod_runs();
    ends_unseen(&mut bed, "Succeeded", 0);
    bed.set(deployment(
        2,
        json!({"replicas": 3}),
        json!({"replicas": 3, "readyReplicas": 3, "updatedReplicas": 3}),
    ));
    bed.take_calls();
    bed.run_to_the_end();
    assert_eq!(bed.phase(), Some(ExecutionPhase::Completed), "{}", bed.message());
    assert_eq!((bed.count("get job"), bed.count("delete job")), (1, 0));
}

#[test]
fn a_job_that_failed_while_the_watches_were_blind_failed_of_what_it_says() {
    let mut bed = bed("10s");
    bed.start();
    bed.pod_runs();
    ends_unseen(&mut bed, "Failed", 1);
    bed.run_to_the_end();
    assert!(bed.message().contains("no such deployment"), "{}", bed.message());
}

#[test]
fn a_job_is_not_called_unreachable_before_one_more_look() {
    let mut bed = bed("10s");
    bed.deletes_slowly = true;
    bed.start();
    bed.pod_runs();
    let deadline = bed.attempts()[0].deadline.0;
    bed.run_until(|bed| bed.now > deadline);
    bed.see_jobs();
    ends_unseen(&mut bed, "Failed", 1);
    bed.run_to_the_end();
    assert_eq!(bed.status().error_type, Some(ErrorType::Timeout));
    assert!(
        bed.message().contains("did not end within the timeout"),
        "{}",
        bed.message()
    );
}

#[test]
fn an_execution_whose_deletion_waits_for_a_lost_pod_says_so_once_and_goes_when_the_pod_is_gone() {
    let mut bed = bed("5m");
    bed.deletes_slowly = true;
    bed.start();
    bed.pod_runs();
    bed.execution.metadata.deletion_timestamp = Some(serde_json::from_value(json!(bed.now)).expect("a time"));
    bed.start();
    bed.see_jobs();
    let start = bed.now;
    bed.run_until(|bed| bed.message().starts_with("waits: in deletion"));
    assert!(seconds(start, bed.now) >= 59.0, "{}", seconds(start, bed.now));
    let message = bed.message();
    assert!(message.contains("-pod, which has no node,"), "{message}");
    bed.take_calls();
    bed.wait(600);
    assert_eq!(bed.count("write status"), 0);
    bed.jobs.clear();
    bed.lose_jobs();
    bed.run_until(|bed| bed.stopped);
}

#[test]
fn what_an_event_says_ends_an_attempt_only_while_there_is_no_pod() {
    let forged = "pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\"";
    let mut admitted = bed("5m");
    admitted.events = vec![forged.to_owned()];
    admitted.start();
    admitted.pod("Pending", None, "");
    admitted.wait(60);
    admitted.wait(60);
    assert!(admitted.count("explain job") > 0, "it was asked for");
    assert_eq!(admitted.phase(), Some(ExecutionPhase::Executing));
    assert_eq!(admitted.jobs.len(), 1, "its Job was deleted");

    let mut refused = bed("5m");
    refused.events = vec![forged.to_owned()];
    refused.start();
    refused.run_until(|bed| bed.phase() == Some(ExecutionPhase::Failed));
    assert_eq!(refused.status().error_type, Some(ErrorType::ValidationError));
    assert!(
        refused.message().contains("violates PodSecurity"),
        "{}",
        refused.message()
    );
}

#[test]
fn an_event_of_a_failure_says_its_class_and_none_of_kubectls_words() {
    let mut bed = bed("5m");
    bed.execution.spec.max_retries = 0;
    bed.start();
    bed.pod_fails("error: the webhook said: password=hunter2");
    bed.run_to_the_end();
    assert!(bed.message().contains("hunter2"), "{}", bed.message());
    let told = bed.published.join("\n");
    assert!(
        told.contains("failed (job_failed); its status says why"),
        "{told}"
    );
    assert!(!told.contains("hunter2") && !told.contains("webhook"), "{told}");
}
