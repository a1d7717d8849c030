//! An attempt that did not end well, and whose effect is there, or partly there, or not.

use kubernaut_crds::{AttemptOutcome, ErrorType, ExecutionPhase};
use serde_json::{Value, json};

use crate::step_harness::{StepHarness, deployment, patch, restart, scale};

const TIMED_OUT: &str = "Unable to connect to the server: net/http: request canceled (Client.Timeout exceeded while awaiting headers)";

fn rolling_out() -> Value {
    json!({"updatedReplicas": 0})
}

fn restarted() -> Value {
    json!({"template": {"metadata": {"annotations": {"kubernaut.io/restarted-by": "uid-1"}}}})
}

fn started(spec: Value) -> StepHarness {
    let mut bed = StepHarness::new(spec).with([deployment(1, json!({}), json!({}))]);
    bed.start();
    bed.see_jobs();
    bed
}

#[test]
fn a_restart_that_has_begun_is_not_begun_again() {
    for lost in [false, true] {
        let mut bed = started(restart());
        bed.set(deployment(2, restarted(), rolling_out()));
        if lost {
            bed.lose_jobs();
        } else {
            bed.pod_fails(TIMED_OUT);
        }
        assert_eq!(
            bed.phase(),
            Some(ExecutionPhase::RollbackReady),
            "{}",
            bed.message()
        );
        let words = if lost {
            "the Job vanished"
        } else {
            "kubectl failed"
        };
        assert!(bed.message().starts_with(words), "{}", bed.message());
        bed.wait(20);
        bed.set(deployment(2, restarted(), json!({})));
        bed.run_to_the_end();
        assert_eq!(bed.phase(), Some(ExecutionPhase::Completed));
        assert_eq!(bed.made.len(), 1);
        let results = bed.status().validation_results.expect("results");
        let warnings = results.dry_run_results.expect("warnings").warnings;
        assert!(
            warnings.len() == 1 && warnings[0].starts_with(words),
            "{warnings:?}"
        );
    }
}

#[test]
fn an_effect_whose_rollout_is_stuck_is_no_reason_for_another_attempt() {
    let mut bed = started(restart());
    let stuck = json!({"updatedReplicas": 0, "conditions": [
        {"type": "Progressing", "status": "False", "message": "timed out"}]});
    bed.set(deployment(2, restarted(), stuck));
    bed.pod_fails(TIMED_OUT);
    assert_eq!(bed.phase(), Some(ExecutionPhase::Failed));
    assert_eq!(bed.status().error_type, Some(ErrorType::VerificationFailed));
    assert_eq!(bed.made.len(), 1);
}

#[test]
fn a_scale_that_took_effect_does_not_fail_for_want_of_retries() {
    let mut spec = scale(3);
    spec["maxRetries"] = json!(0);
    let mut bed = started(spec);
    bed.set(deployment(2, json!({"replicas": 3}), json!({"replicas": 3})));
    bed.lose_jobs();
    assert_eq!(
        bed.phase(),
        Some(ExecutionPhase::RollbackReady),
        "{}",
        bed.message()
    );
    let ready = json!({"replicas": 3, "readyReplicas": 3, "updatedReplicas": 3});
    bed.set(deployment(2, json!({"replicas": 3}), ready));
    bed.run_to_the_end();
    assert_eq!(bed.phase(), Some(ExecutionPhase::Completed));
}

#[test]
fn an_effect_that_is_not_there_is_tried_again() {
    let mut bed = started(restart());
    bed.pod_fails(TIMED_OUT);
    bed.run_until(|bed| bed.made.len() == 2);
    assert_eq!(bed.attempts()[0].outcome, Some(AttemptOutcome::Failed));
}

#[test]
fn a_restored_machine_waits_for_the_outcome_as_the_one_before() {
    let mut bed = started(restart());
    bed.set(deployment(2, restarted(), rolling_out()));
    bed.pod_fails(TIMED_OUT);
    bed.start();
    bed.set(deployment(2, restarted(), json!({})));
    bed.run_to_the_end();
    assert_eq!(bed.phase(), Some(ExecutionPhase::Completed));
    assert_eq!(bed.made.len(), 1);
}

#[test]
fn a_json_patch_tests_the_generation_that_its_first_attempt_found() {
    let operation = json!([{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "x"}]);
    let payload = |bed: &StepHarness, index: usize| {
        let template = bed.made[index].job.spec.clone().expect("a spec").template;
        let annotations = template
            .metadata
            .and_then(|m| m.annotations)
            .expect("annotations");
        annotations["kubernaut.io/payload"].clone()
    };
    let mut bed = started(patch("json", &operation.to_string()));
    // It took effect, and only the answer was lost.
    bed.set(deployment(2, json!({}), json!({})));
    bed.pod_fails(TIMED_OUT);
    bed.run_until(|bed| bed.made.len() == 2);
    assert_eq!(payload(&bed, 0), payload(&bed, 1));
    bed.pod_fails("The request is invalid: the server rejected our request due to an error in our request");
    assert_eq!(bed.phase(), Some(ExecutionPhase::Failed));
    assert_eq!(bed.status().error_type, Some(ErrorType::ResourceConflict));
    let words = "the Deployment changed since it was read, or a path of the patch does not exist: The request is invalid";
    assert!(bed.message().starts_with(words), "{}", bed.message());
    // Other patches test nothing, and record what was read.
    let mut bed = started(patch("merge", "{}"));
    bed.set(deployment(2, json!({}), json!({})));
    bed.pod_fails(TIMED_OUT);
    bed.run_until(|bed| bed.made.len() == 2);
    assert_eq!(bed.attempts()[1].target_generation, Some(2));
}

#[test]
fn the_last_words_are_those_of_the_last_attempt() {
    let mut bed = started(patch("merge", "{}"));
    bed.set(deployment(2, json!({}), rolling_out()));
    bed.pod_fails(TIMED_OUT);
    bed.run_until(|bed| bed.made.len() == 2);
    // Nothing is left to change, and kubectl says nothing of it.
    bed.pod_succeeds("");
    assert_eq!(
        bed.phase(),
        Some(ExecutionPhase::RollbackReady),
        "{}",
        bed.message()
    );
    bed.set(deployment(2, json!({}), json!({})));
    bed.run_to_the_end();
    assert_eq!(bed.phase(), Some(ExecutionPhase::Completed), "{}", bed.message());
    assert_eq!(bed.status().execution_results.expect("results").pod_logs, None);
}

#[test]
fn what_kubectl_said_is_kept_while_the_outcome_is_waited_for() {
    let mut bed = started(patch("merge", "{}"));
    bed.set(deployment(2, json!({}), rolling_out()));
    bed.pod_succeeds("deployment.apps/web patched");
    bed.set(deployment(2, json!({}), json!({})));
    bed.run_to_the_end();
    let said = bed.status().execution_results.expect("results").pod_logs;
    assert_eq!(said.as_deref(), Some("deployment.apps/web patched"));
}
