//! Executions that are not what the workflow would have made.

use kubernaut_crds::{ErrorType, StepState, WorkflowPhase};
use kubernaut_machines::api_command::{ApiCommand, FailureClass};
use kubernaut_machines::workflow::WorkflowEvent;
use serde_json::json;

use crate::step_harness::failure;
use crate::workflow_harness::{WorkflowHarness, cordon};

#[test]
fn an_execution_that_the_plan_does_not_name_stands_in_for_no_step() {
    let mut bed = WorkflowHarness::new(&[cordon(1, json!({}))]);
    let mut stranger = bed.planned(1);
    stranger.metadata.name = Some("nothing-to-do-with-it".into());
    stranger.status = serde_json::from_value(json!({"phase": "completed"})).expect("a status");
    bed.put(stranger);
    bed.start();
    assert_eq!(bed.creates.len(), 1, "the step was started all the same");
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Executing));
    bed.complete(1);
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Completed));
}

#[test]
fn an_execution_of_the_right_name_and_another_spec_is_a_conflict_however_it_is_seen() {
    let stranger = |bed: &WorkflowHarness| {
        let mut stranger = bed.planned(1);
        stranger.spec.timeout = "1h".into();
        stranger.status = serde_json::from_value(json!({"phase": "completed"})).expect("a status");
        stranger
    };
    let check = |bed: &WorkflowHarness| {
        assert_eq!(bed.state_of(1), Some(StepState::Failed));
        assert!(
            bed.reason_of(1).contains("another spec; it was left alone"),
            "{}",
            bed.reason_of(1)
        );
        assert_eq!(bed.status().error_type, Some(ErrorType::ResourceConflict));
    };
    // Through the watch, before the workflow itself.
    let mut bed = WorkflowHarness::new(&[cordon(1, json!({}))]);
    let made = stranger(&bed);
    bed.put(made);
    bed.start();
    check(&bed);
    // As the answer to a create.
    let mut bed = WorkflowHarness::new(&[cordon(1, json!({}))]);
    bed.fail(|command| {
        matches!(command, ApiCommand::CreateExecution(_))
            .then(|| failure(FailureClass::Throttled, "slow down"))
    });
    bed.start();
    let made = stranger(&bed);
    bed.put(made);
    bed.heal();
    bed.run_for(5);
    check(&bed);
}

#[test]
fn an_execution_that_the_status_has_recorded_is_adopted_whatever_is_planned_today() {
    let mut bed = WorkflowHarness::new(&[cordon(1, json!({}))]);
    bed.start();
    bed.run_for(2);
    assert_eq!(bed.state_of(1), Some(StepState::Executing));
    // Another version of this program would give it another timeout.
    let execution = bed.executions.get_mut("w-step-1").expect("made");
    execution.spec.timeout = "7m".into();
    bed.start();
    bed.complete(1);
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Completed));
}

#[test]
fn an_execution_that_took_the_place_of_a_deleted_one_does_not_speak_for_it() {
    let mut bed = WorkflowHarness::new(&[cordon(1, json!({}))]);
    bed.start();
    bed.run_for(2);
    let uid = bed.executions["w-step-1"].metadata.uid.clone().expect("a uid");
    let mut another = bed.planned(1);
    another.status = serde_json::from_value(json!({"phase": "completed"})).expect("a status");
    bed.put(another);
    bed.event(WorkflowEvent::StepAbsent { uid });
    bed.run_for(2);
    assert_eq!(bed.state_of(1), Some(StepState::Failed));
    assert_eq!(bed.status().error_type, Some(ErrorType::Cancelled));
}

#[test]
fn an_execution_is_a_step_when_its_whole_owner_reference_says_so() {
    let forged = |change: fn(&mut k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference)| {
        let mut bed = WorkflowHarness::new(&[cordon(1, json!({})), cordon(2, json!({"dependsOn": [1]}))]);
        let mut stranger = bed.planned(2);
        let owners = stranger.metadata.owner_references.as_mut().expect("an owner");
        change(&mut owners[0]);
        stranger.status = serde_json::from_value(json!({"phase": "completed"})).expect("a status");
        bed.put(stranger);
        bed.start();
        bed.run_for(2);
        assert_ne!(bed.state_of(2), Some(StepState::Completed), "before its turn");
        bed.complete(1);
        bed.run_for(600);
        assert_eq!(bed.state_of(2), Some(StepState::Failed));
        assert!(
            bed.reason_of(2).contains("it was left alone"),
            "{}",
            bed.reason_of(2)
        );
    };
    forged(|owner| owner.kind = "Remediation".into());
    forged(|owner| owner.api_version = "example.com/v1".into());
    forged(|owner| owner.api_version = "workflow.kubernaut.io.example.com/v1".into());
    forged(|owner| owner.api_version = "v1".into());
    forged(|owner| owner.name = "x".into());
    forged(|owner| owner.controller = None);
}

/// Where no policy keeps it from being changed.
#[test]
fn a_workflow_whose_steps_became_others_while_it_ran_fails_and_says_why() {
    let mut bed = WorkflowHarness::new(&[cordon(1, json!({})), cordon(2, json!({"dependsOn": [1]}))]);
    bed.start();
    bed.run_for(2);
    let mut changed = bed.workflow.clone();
    changed.spec.workflow_definition.steps.pop();
    changed.metadata.resource_version = Some("1000".into());
    bed.workflow = changed.clone();
    bed.event(WorkflowEvent::Observed(std::sync::Arc::new(changed)));
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Failed));
    let reason = bed.status().failure_reason.unwrap_or_default();
    assert!(reason.contains("spec.workflowDefinition was changed"), "{reason}");
    assert_eq!(bed.creates.len(), 1);
}
