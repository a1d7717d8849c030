//! A workflow whose steps are all tried before the first one runs.

use jiff::SignedDuration;
use kubernaut_crds::{ErrorType, KubernetesExecution, StepState, WorkflowPhase};
use kubernaut_machines::api_command::{ApiCommand, FailureClass};
use kubernaut_machines::workflow::WorkflowEvent;
use serde_json::{Value, json};

use crate::step_harness::failure;
use crate::workflow_harness::{WorkflowHarness, cordon};

fn tried_first(steps: &[Value]) -> WorkflowHarness {
    let mut bed = WorkflowHarness::new(steps);
    bed.workflow.spec.execution_strategy.dry_run_first = true;
    bed
}

/// As an executor ends a dry run that went well.
fn well() -> Value {
    json!({"phase": "completed", "startTime": "2027-01-15T08:00:00.000000Z", "validationResults": {"dryRunResults": {
        "performed": true, "success": true,
        "estimatedImpact": {"resourcesAffected": 1, "description": "Node n: schedulable -> cordoned"}}}})
}

fn badly(class: &str) -> Value {
    json!({"phase": "failed", "errorType": class, "failureReason": "the dry run failed: no such node",
           "validationResults": {"dryRunResults": {"performed": true, "errors": ["no such node"]}}})
}

fn names(bed: &WorkflowHarness) -> Vec<&str> {
    bed.executions.keys().map(String::as_str).collect()
}

fn pass(bed: &mut WorkflowHarness, step: i32) {
    bed.set_status_of(&format!("w-dryrun-{step}"), well());
}

#[test]
fn every_step_is_tried_by_an_execution_of_its_own_before_one_runs() {
    let mut bed = tried_first(&[cordon(1, json!({})), cordon(2, json!({"dependsOn": [1]}))]);
    bed.start();
    assert_eq!(names(&bed), ["w-dryrun-1", "w-dryrun-2"]);
    let tried = &bed.executions["w-dryrun-2"];
    assert_eq!(tried.spec.dry_run, Some(true));
    let step = bed.planned(2);
    assert_eq!(tried.spec.parameters, step.spec.parameters);
    assert_eq!(tried.metadata.owner_references, step.metadata.owner_references);
    assert_eq!(tried.metadata.finalizers, step.metadata.finalizers);
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Validating));
    let message = bed.status().message.unwrap_or_default();
    assert!(
        message.starts_with("dry run: 0 of 2 steps were tried"),
        "{message}"
    );
    pass(&mut bed, 1);
    assert_eq!(names(&bed), ["w-dryrun-1", "w-dryrun-2"]);
    pass(&mut bed, 2);
    assert_eq!(names(&bed), ["w-dryrun-1", "w-dryrun-2", "w-step-1"]);
    let status = bed.status();
    assert_eq!(status.phase, Some(WorkflowPhase::Executing));
    bed.run_for(3);
    assert_eq!(
        (bed.state_of(1), bed.state_of(2)),
        (Some(StepState::Executing), Some(StepState::Pending))
    );
    let validation = status.validation_results.expect("results");
    assert!(validation.dry_run_performed);
    let results = validation.dry_run_results.expect("results");
    assert!(results.overall_success && results.steps_simulated == 2);
    assert_eq!(
        results.step_results,
        [
            "step 1 (s1): Node n: schedulable -> cordoned",
            "step 2 (s2): Node n: schedulable -> cordoned"
        ]
    );
    assert_eq!(
        results.resource_changes[0],
        "node/n1: Node n: schedulable -> cordoned"
    );
    assert!(results.potential_issues.is_empty() && results.execution_time.is_some());
    bed.complete(1);
    bed.complete(2);
    bed.run_for(5);
    let status = bed.status();
    assert_eq!(status.phase, Some(WorkflowPhase::Completed));
    assert_eq!(
        status.execution_metrics.map(|metrics| metrics.resources_affected),
        Some(0)
    );
}

#[test]
fn no_more_steps_are_tried_at_once_than_may_run_at_once() {
    let steps: Vec<Value> = (1..=5).map(|number| cordon(number, json!({}))).collect();
    let mut bed = tried_first(&steps);
    bed.workflow.spec.max_parallel_steps = 2;
    bed.start();
    for step in 1..=4 {
        let made = names(&bed).len();
        let expected = usize::try_from(step).expect("small") + 1;
        assert_eq!(made, expected.min(5), "{:?}", names(&bed));
        pass(&mut bed, step);
    }
    assert_eq!(names(&bed).len(), 5);
}

#[test]
fn a_dry_run_waits_for_a_slot_as_a_step_does() {
    let mut bed = tried_first(&[cordon(1, json!({})), cordon(2, json!({}))]);
    bed.free_slots = 0;
    bed.start();
    assert!(names(&bed).is_empty() && bed.wanted_slots == 2);
    bed.run_for(10);
    let message = bed.status().message.unwrap_or_default();
    assert!(
        message.contains("waiting for a slot: 1 (s1), 2 (s2)"),
        "{message}"
    );
    bed.event(WorkflowEvent::SlotsKept(1));
    assert_eq!(names(&bed), ["w-dryrun-1"]);
    bed.event(WorkflowEvent::SlotsKept(1));
    assert_eq!(names(&bed), ["w-dryrun-1", "w-dryrun-2"]);
}

#[test]
fn a_step_that_nothing_prepares_and_that_can_not_be_tried_fails_the_workflow() {
    let mut bed = tried_first(&[cordon(1, json!({})), cordon(2, json!({})), cordon(3, json!({}))]);
    bed.workflow.spec.max_parallel_steps = 2;
    bed.start();
    bed.set_status_of("w-dryrun-1", badly("resource_not_found"));
    assert_eq!(names(&bed), ["w-dryrun-1", "w-dryrun-2"], "no other one is begun");
    assert_eq!(
        bed.status().phase,
        Some(WorkflowPhase::Validating),
        "the other one ends first"
    );
    pass(&mut bed, 2);
    let status = bed.status();
    assert_eq!(status.phase, Some(WorkflowPhase::Failed));
    assert_eq!(status.error_type, Some(ErrorType::ResourceNotFound));
    assert_eq!(status.failed_step, Some(1));
    assert_eq!(status.failed_action.as_deref(), Some("cordon-node"));
    let reason = status.failure_reason.unwrap_or_default();
    assert_eq!(
        reason,
        "the dry run of step 1 (s1) failed: the dry run failed: no such node"
    );
    let validated = status
        .conditions
        .iter()
        .find(|c| c.r#type == "Validated")
        .expect("told");
    assert_eq!(
        (validated.status.as_str(), validated.reason.as_str()),
        ("False", "DryRunFailed")
    );
    let results = status
        .validation_results
        .and_then(|v| v.dry_run_results)
        .expect("results");
    assert!(!results.overall_success);
    assert_eq!(results.step_results[2], "step 3 (s3): not tried");
    assert!(bed.stopped);
}

#[test]
fn a_step_whose_target_an_earlier_one_may_make_is_a_potential_issue() {
    let mut bed = tried_first(&[cordon(1, json!({})), cordon(2, json!({"dependsOn": [1]}))]);
    bed.start();
    bed.set_status_of("w-dryrun-2", badly("resource_not_found"));
    pass(&mut bed, 1);
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Executing));
    let results = bed
        .status()
        .validation_results
        .and_then(|v| v.dry_run_results)
        .expect("results");
    assert!(!results.overall_success);
    assert_eq!(
        results.potential_issues,
        [
            "step 2 (s2) can't be tried now; it runs after 1 (s1), which may make what it needs: the dry run failed: no such node"
        ]
    );
}

#[test]
fn a_controller_that_starts_anew_goes_on_with_what_was_tried() {
    let steps = [cordon(1, json!({})), cordon(2, json!({}))];
    let mut bed = tried_first(&steps);
    bed.start();
    pass(&mut bed, 1);
    bed.start();
    assert_eq!(bed.creates.len(), 2, "both are there");
    pass(&mut bed, 2);
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Executing));
    assert_eq!(bed.creates.len(), 4);
    // And later, when the first step runs.
    bed.start();
    bed.complete(1);
    bed.complete(2);
    bed.run_for(70);
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Completed));
    assert_eq!(bed.creates.len(), 4);
}

#[test]
fn results_that_are_recorded_are_not_asked_for_again() {
    let mut bed = tried_first(&[cordon(1, json!({}))]);
    bed.start();
    // The write that begins the execution is lost, and the controller with it.
    let mut writes = 0;
    bed.fail(move |command| {
        writes += u32::from(matches!(command, ApiCommand::WriteWorkflowStatus { .. }));
        (writes > 1).then(|| failure(FailureClass::Unknown, "connection reset"))
    });
    pass(&mut bed, 1);
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Validating));
    assert!(
        bed.status()
            .validation_results
            .expect("results")
            .dry_run_performed
    );
    bed.executions.remove("w-dryrun-1");
    bed.heal();
    bed.start();
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Executing));
    assert_eq!(names(&bed), ["w-step-1"]);
}

#[test]
fn a_lost_answer_to_a_create_makes_no_second_dry_run() {
    let mut bed = tried_first(&[cordon(1, json!({}))]);
    let wanted = bed.planned(1);
    let mut first = true;
    bed.fail(move |command| {
        let is_create = matches!(command, ApiCommand::CreateExecution(_));
        (is_create && std::mem::take(&mut first)).then(|| failure(FailureClass::Unknown, "connection reset"))
    });
    bed.start();
    let mut made: KubernetesExecution = wanted;
    made.metadata.name = Some("w-dryrun-1".to_owned());
    made.spec.dry_run = Some(true);
    let made = bed.put(made);
    bed.run_for(5);
    bed.event(WorkflowEvent::StepObserved(made));
    assert_eq!(names(&bed), ["w-dryrun-1"]);
    pass(&mut bed, 1);
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Executing));
}

#[test]
fn a_stranger_under_the_name_of_a_dry_run_is_left_alone() {
    let mut bed = tried_first(&[cordon(1, json!({}))]);
    let mut stranger = bed.planned(1);
    stranger.metadata.name = Some("w-dryrun-1".to_owned());
    // It would really do it.
    stranger.spec.dry_run = None;
    bed.put(stranger);
    bed.start();
    let status = bed.status();
    assert_eq!(status.phase, Some(WorkflowPhase::Failed), "{:?}", status.message);
    assert_eq!(status.error_type, Some(ErrorType::ResourceConflict));
}

#[test]
fn a_dry_run_that_nobody_asked_for_is_no_step_and_begins_nothing() {
    let mut bed = WorkflowHarness::new(&[cordon(1, json!({}))]);
    let mut stranger = bed.planned(1);
    stranger.metadata.name = Some("w-dryrun-1".to_owned());
    stranger.spec.dry_run = Some(true);
    bed.put(stranger);
    bed.start();
    bed.complete(1);
    bed.run_for(5);
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Completed));
}

#[test]
fn a_dry_run_that_somebody_deletes_is_let_go_and_fails_what_depends_on_nothing() {
    let mut bed = tried_first(&[cordon(1, json!({}))]);
    bed.start();
    let execution = bed.executions.get_mut("w-dryrun-1").expect("made");
    execution.metadata.deletion_timestamp =
        serde_json::from_value(json!("2027-01-15T08:00:00Z")).expect("a time");
    let uid = execution.metadata.uid.clone().expect("a uid");
    bed.set_status_of("w-dryrun-1", json!({"phase": "validated"}));
    bed.run_for(5);
    assert_eq!(bed.let_go, [uid]);
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Failed));
    assert_eq!(bed.status().error_type, Some(ErrorType::Cancelled));
}

#[test]
fn a_workflow_that_is_shut_down_while_its_steps_are_tried_ends_cancelled() {
    let mut bed = tried_first(&[cordon(1, json!({})), cordon(2, json!({}))]);
    bed.workflow.spec.max_parallel_steps = 1;
    bed.start();
    assert_eq!(names(&bed), ["w-dryrun-1"]);
    bed.workflow.spec.shutdown = serde_json::from_value(json!("Cancel")).expect("a shutdown");
    bed.workflow.metadata.resource_version = Some("500".to_owned());
    bed.event(WorkflowEvent::Observed(std::sync::Arc::new(bed.workflow.clone())));
    let told = bed.executions["w-dryrun-1"].spec.shutdown;
    assert_eq!(told, Some(kubernaut_crds::ExecutionShutdown::Cancel));
    assert_ne!(
        bed.status().phase,
        Some(WorkflowPhase::Failed),
        "what runs ends first"
    );
    bed.now += SignedDuration::from_secs(3);
    pass(&mut bed, 1);
    let status = bed.status();
    assert_eq!(status.phase, Some(WorkflowPhase::Failed));
    assert_eq!(status.error_type, Some(ErrorType::Cancelled));
    assert_eq!(
        status.workflow_result.map(|r| r.outcome),
        Some(kubernaut_crds::Outcome::Cancelled)
    );
    assert_eq!(names(&bed), ["w-dryrun-1"]);
}

#[test]
fn a_workflow_without_dry_runs_makes_and_writes_none_of_it() {
    let mut bed = WorkflowHarness::new(&[cordon(1, json!({}))]);
    bed.start();
    assert_eq!(names(&bed), ["w-step-1"]);
    assert_eq!(bed.writes, 1);
    assert!(bed.looked_at.is_empty());
    let results = bed.status().validation_results.expect("results");
    assert!(!results.dry_run_performed && results.dry_run_results.is_none());
}

#[test]
fn a_workflow_that_is_paused_before_its_dry_runs_says_so() {
    let mut bed = tried_first(&[cordon(1, json!({}))]);
    bed.workflow.spec.suspend = Some(true);
    bed.start();
    bed.run_for(10);
    assert!(bed.executions.is_empty());
    let message = bed.status().message.unwrap_or_default();
    assert!(message.contains("paused by spec.suspend"), "{message}");
}

#[test]
fn a_workflow_that_is_cancelled_waits_for_a_dry_run_that_may_have_been_made() {
    let mut bed = tried_first(&[cordon(1, json!({}))]);
    bed.fail(|command| {
        matches!(command, ApiCommand::CreateExecution(_)).then(|| failure(FailureClass::Unknown, "no answer"))
    });
    bed.start();
    bed.ask(json!({"shutdown": "Cancel"}));
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Validating));
    bed.run_for(120);
    assert_eq!(bed.status().error_type, Some(ErrorType::Cancelled));
}

#[test]
fn when_one_fails_the_others_are_stopped_and_nobody_waits_for_them() {
    let mut bed = tried_first(&[cordon(1, json!({})), cordon(2, json!({})), cordon(3, json!({}))]);
    bed.workflow.spec.max_parallel_steps = 2;
    bed.start();
    assert_eq!(names(&bed), ["w-dryrun-1", "w-dryrun-2"]);
    bed.set_status_of("w-dryrun-1", badly("resource_not_found"));
    assert_eq!(bed.cancelled(), ["w-dryrun-2"]);
    bed.run_for(60);
    bed.set_status_of("w-dryrun-2", badly("cancelled"));
    bed.run_for(5);
    assert_eq!(bed.status().error_type, Some(ErrorType::ResourceNotFound));
    assert_eq!(names(&bed), ["w-dryrun-1", "w-dryrun-2"]);
}
