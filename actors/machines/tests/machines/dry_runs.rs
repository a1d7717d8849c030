//! An execution that only tries its action: attempt 0, and nothing after it.

use std::cell::Cell;
use std::rc::Rc;

use kubernaut_crds::{AttemptOutcome, ErrorType, ExecutionPhase};
use kubernaut_machines::api_command::{ApiCommand, ApiFailure, FailureClass};
use serde_json::{Value, json};

use crate::step_harness::{StepHarness, deployment, failure, merge, scale};

const SAID: &str = "deployment.apps/web scaled (server dry run)";

fn tried(mut spec: Value) -> StepHarness {
    merge(&mut spec, &json!({"dryRun": true}));
    StepHarness::new(spec).with([deployment(1, json!({}), json!({}))])
}

fn phases(bed: &StepHarness) -> Vec<String> {
    let transitions = bed.status().phase_transitions.into_iter();
    transitions.map(|transition| transition.phase).collect()
}

fn arguments(bed: &StepHarness) -> Vec<String> {
    let job = bed.made.last().expect("a Job").job.clone();
    let pod = job.spec.expect("a spec").template.spec.expect("a pod");
    pod.containers[0].args.clone().expect("arguments")
}

#[test]
fn a_dry_run_is_attempt_0_under_the_lock_and_completes_from_validated() {
    let mut bed = tried(scale(5));
    bed.start();
    assert_eq!(bed.phase(), Some(ExecutionPhase::Validated), "{}", bed.message());
    assert_eq!(bed.message(), "dry run: Replicas: 1 -> 5");
    let attempts = bed.attempts();
    assert_eq!(attempts.iter().map(|a| a.attempt).collect::<Vec<_>>(), [0]);
    let time = attempts[0].deadline.0.duration_since(attempts[0].start_time.0);
    assert_eq!(time.as_secs(), 30);
    assert!(bed.made_names()[0].ends_with("-0"), "{:?}", bed.made_names());
    assert!(arguments(&bed).contains(&"--dry-run=server".to_owned()));
    bed.take_calls();
    bed.pod_succeeds(SAID);
    assert_eq!(phases(&bed), ["validating", "validated", "completed"]);
    assert_eq!(
        bed.take_calls(),
        ["write status"],
        "the outcome of what changed nothing is not looked at"
    );
    let status = bed.status();
    assert!(status.rollback_information.is_none());
    assert_eq!(status.attempts[0].outcome, Some(AttemptOutcome::Succeeded));
    let results = status.validation_results.expect("results");
    let tried = results.dry_run_results.expect("results of the dry run");
    assert!(tried.performed && tried.success && tried.errors.is_empty());
    let impact = tried.estimated_impact.expect("an impact");
    assert_eq!(
        (impact.resources_affected, impact.description.as_deref()),
        (1, Some("Replicas: 1 -> 5"))
    );
    let results = status.execution_results.expect("results");
    let affected = &results.resources_affected[0];
    assert!(results.success && results.retries_attempted == 0);
    assert_eq!(
        (affected.before.as_deref(), affected.after.as_deref()),
        (Some("replicas: 1"), Some("replicas: 5"))
    );
    assert_eq!(results.pod_logs.as_deref(), Some(SAID));
    let succeeded = status.conditions.iter().find(|c| c.r#type == "Succeeded");
    assert_eq!(
        succeeded.map(|c| (c.status.as_str(), c.reason.as_str())),
        Some(("True", "DryRun"))
    );
    assert!(bed.stopped);
}

#[test]
fn a_dry_run_needs_no_approval() {
    let mut spec = scale(5);
    spec["approvalReceived"] = json!(false);
    let mut bed = tried(spec);
    bed.start();
    bed.pod_succeeds(SAID);
    assert_eq!(bed.phase(), Some(ExecutionPhase::Completed), "{}", bed.message());
}

#[test]
fn what_would_change_nothing_affects_nothing() {
    let mut bed = tried(scale(1));
    bed.start();
    bed.pod_succeeds(SAID);
    let results = bed.status().validation_results.expect("results");
    let impact = results.dry_run_results.and_then(|tried| tried.estimated_impact);
    assert_eq!(impact.map(|impact| impact.resources_affected), Some(0));
}

#[test]
fn a_dry_run_that_fails_fails_the_execution_with_kubectls_words_and_is_not_tried_again() {
    for (words, class) in [
        (
            "Error from server (NotFound): deployments.apps \"web\" not found",
            ErrorType::ResourceNotFound,
        ),
        (
            "Error from server (Conflict): the object has been modified",
            ErrorType::ResourceConflict,
        ),
    ] {
        let mut bed = tried(scale(5));
        bed.start();
        bed.pod_fails(words);
        assert_eq!(bed.phase(), Some(ExecutionPhase::Failed));
        let status = bed.status();
        assert_eq!(status.error_type, Some(class));
        assert_eq!(bed.message(), format!("the dry run failed: {words}"));
        let results = status.validation_results.expect("results").dry_run_results;
        let tried = results.expect("results of the dry run");
        assert!(tried.performed && !tried.success && tried.estimated_impact.is_none());
        assert_eq!(tried.errors, [words]);
        let affected = status.execution_results.expect("results").resources_affected;
        assert!(affected.is_empty() && status.rollback_information.is_none());
        assert_eq!(bed.made.len(), 1);
        assert!(bed.stopped);
    }
}

#[test]
fn nothing_is_tried_without_the_right_to_do_it() {
    let mut bed = tried(scale(5));
    bed.may = false;
    bed.start();
    assert_eq!(bed.status().error_type, Some(ErrorType::InsufficientPermissions));
    assert!(bed.made.is_empty());
}

#[test]
fn a_dry_run_that_does_not_end_is_given_up_after_its_own_time() {
    let mut spec = scale(5);
    spec["timeout"] = json!("10m");
    let mut bed = tried(spec);
    bed.start();
    bed.pod_runs();
    let begun = bed.now;
    bed.run_until(|bed| bed.jobs.is_empty());
    bed.see_jobs();
    bed.run_to_the_end();
    assert_eq!(bed.status().error_type, Some(ErrorType::Timeout));
    let message = bed.message();
    assert!(message.contains("within the 30 s of a dry run"), "{message}");
    assert!(bed.now.duration_since(begun).as_secs() < 60);
}

#[test]
fn a_dry_run_is_stopped_by_a_shutdown() {
    let mut bed = tried(scale(5));
    bed.start();
    bed.pod_runs();
    bed.execution.spec.shutdown = serde_json::from_value(json!("Cancel")).expect("a shutdown");
    bed.execution.metadata.resource_version = Some("100".to_owned());
    let execution = std::sync::Arc::new(bed.execution.clone());
    bed.event(kubernaut_machines::step::StepEvent::Observed(execution));
    bed.see_jobs();
    bed.run_to_the_end();
    assert_eq!(
        bed.status().error_type,
        Some(ErrorType::Cancelled),
        "{}",
        bed.message()
    );
    assert!(bed.jobs.is_empty());
}

#[test]
fn a_dry_run_waits_for_room_in_a_quota_and_is_recorded_anew() {
    let mut bed = tried(scale(5));
    let refusals = Rc::new(Cell::new(2_u32));
    let left = Rc::clone(&refusals);
    bed.fail(move |command| {
        let is_create = matches!(command, ApiCommand::CreateJob { .. });
        (is_create && left.replace(left.get().saturating_sub(1)) > 0)
            .then(|| failure(FailureClass::Quota, "exceeded quota: jobs"))
    });
    bed.start();
    assert!(bed.message().starts_with("waits for quota"), "{}", bed.message());
    bed.run_until(|bed| !bed.made.is_empty());
    let first = bed.attempts();
    assert_eq!(first.iter().map(|a| a.attempt).collect::<Vec<_>>(), [0]);
    bed.pod_succeeds(SAID);
    assert_eq!(bed.phase(), Some(ExecutionPhase::Completed), "{}", bed.message());
    assert_eq!(bed.attempts().len(), 1);
}

#[test]
fn a_quota_that_leaves_no_room_in_the_time_of_a_dry_run_fails_it() {
    let mut bed = tried(scale(5));
    bed.fail(|command| {
        matches!(command, ApiCommand::CreateJob { .. })
            .then(|| failure(FailureClass::Quota, "exceeded quota: jobs"))
    });
    bed.start();
    bed.run_to_the_end();
    assert_eq!(bed.status().error_type, Some(ErrorType::ResourceQuotaExceeded));
    assert!(bed.made.is_empty());
}

#[test]
fn the_payload_of_a_dry_run_of_update_secret_is_taken_away() {
    let secret = json!({"action": "update-secret", "dryRun": true, "parameters": {"updateSecret": {
        "namespace": "shop", "secret": "keys", "data": {"password": "SHVudGVyMi1IdW50ZXIy"}}}});
    let mut bed = StepHarness::new(secret);
    bed.start();
    bed.pod_fails("Error from server: bad value Hunter2-Hunter2");
    bed.run_to_the_end();
    assert_eq!(bed.count("delete secret"), 1);
    assert!(!format!("{:?}", bed.status()).contains("Hunter2"));
}

/// The n-th call is answered with an error, whether or not it took effect, and the controller dies on it.
fn dies_at(bed: &mut StepHarness, nth: usize) {
    let count = Cell::new(0);
    bed.fail(move |_| {
        count.set(count.get() + 1);
        let lost: Option<ApiFailure> =
            (count.get() == nth).then(|| failure(FailureClass::Unknown, "connection reset"));
        lost
    });
}

#[test]
fn a_controller_that_dies_at_any_call_leaves_a_dry_run_that_the_next_one_ends() {
    for nth in 1..12 {
        let mut bed = tried(scale(5));
        dies_at(&mut bed, nth);
        bed.start();
        bed.heal();
        bed.start();
        bed.run_until(|bed| !bed.made.is_empty() || bed.stopped);
        bed.start();
        dies_at(&mut bed, nth);
        bed.pod_succeeds(SAID);
        bed.heal();
        bed.start();
        bed.run_to_the_end();
        assert_eq!(
            bed.phase(),
            Some(ExecutionPhase::Completed),
            "call {nth}: {}",
            bed.message()
        );
        assert_eq!(bed.made.len(), 1, "call {nth}");
        assert_eq!(
            phases(&bed),
            ["validating", "validated", "completed"],
            "call {nth}"
        );
        assert_eq!(bed.attempts().len(), 1, "call {nth}");
    }
}

#[test]
fn no_status_makes_a_real_attempt_of_a_dry_run() {
    let mut bed = tried(scale(5));
    bed.start();
    let status = bed.execution.status.as_mut().expect("a status");
    status.phase = Some(ExecutionPhase::Executing);
    bed.start();
    assert_eq!(bed.phase(), Some(ExecutionPhase::Failed));
    assert!(bed.message().contains("it was edited"), "{}", bed.message());
}

/// As a controller left it that had to try the action first: attempt 0 is recorded, and its Job runs.
fn to_be_done_after_its_dry_run() -> StepHarness {
    let mut before = tried(scale(5));
    before.start();
    let mut bed = StepHarness::new(scale(5)).with([deployment(1, json!({}), json!({}))]);
    let mut status = before.status();
    status.execution_results = None;
    bed.execution.status = Some(status);
    bed.jobs.clone_from(&before.jobs);
    bed.made.clone_from(&before.made);
    bed.start();
    bed
}

#[test]
fn what_had_to_be_tried_first_is_done_after_that_and_counts_from_one() {
    let mut bed = to_be_done_after_its_dry_run();
    bed.wait(20);
    bed.take_calls();
    bed.pod_succeeds(SAID);
    assert_eq!(bed.phase(), Some(ExecutionPhase::Executing), "{}", bed.message());
    assert_eq!(
        bed.attempts().iter().map(|a| a.attempt).collect::<Vec<_>>(),
        [0, 1]
    );
    assert!(!arguments(&bed).contains(&"--dry-run=server".to_owned()));
    let status = bed.status();
    assert!(
        status
            .rollback_information
            .is_some_and(|rollback| rollback.available)
    );
    let results = status.execution_results.expect("results");
    assert_eq!(results.retries_attempted, 0);
    let attempt = &bed.attempts()[1];
    assert_eq!(results.start_time, Some(attempt.start_time.clone()));
    let time = attempt.deadline.0.duration_since(attempt.start_time.0);
    assert_eq!(time.as_secs(), 300, "the dry run took nothing of it");
    assert_eq!(bed.count("read"), 1, "the target was read again");
    let tried = status
        .validation_results
        .and_then(|results| results.dry_run_results);
    assert!(tried.is_some_and(|tried| tried.performed && tried.success));
    for _ in 0..3 {
        bed.pod_fails("Error from server (InternalError): no");
        if bed.phase() == Some(ExecutionPhase::Failed) {
            break;
        }
        let made = bed.made.len();
        bed.run_until(|bed| bed.made.len() > made);
    }
    bed.run_to_the_end();
    let numbers: Vec<i32> = bed.attempts().iter().map(|attempt| attempt.attempt).collect();
    assert_eq!(numbers, [0, 1, 2, 3], "two retries, whatever was tried before");
}

#[test]
fn what_had_to_be_tried_first_is_not_done_where_that_fails() {
    let mut bed = to_be_done_after_its_dry_run();
    bed.pod_fails("Error from server (Forbidden): deployments.apps \"web\" is forbidden");
    assert_eq!(bed.phase(), Some(ExecutionPhase::Failed));
    assert_eq!(bed.status().error_type, Some(ErrorType::InsufficientPermissions));
    assert_eq!(bed.made.len(), 1);
}
