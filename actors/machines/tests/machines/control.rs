//! What people ask of a workflow that runs: pause, resume, cancel; and the steps that clean up.

use kubernaut_crds::{ErrorType, Outcome, StepState, WorkflowPhase};
use kubernaut_machines::api_command::{ApiCommand, FailureClass};
use serde_json::{Value, json};

use crate::step_harness::failure;
use crate::workflow_harness::{WorkflowHarness, cordon};

/// Step 1, then steps 2 and 3.
fn fork() -> WorkflowHarness {
    WorkflowHarness::new(&[
        cordon(1, json!({})),
        cordon(2, json!({"dependsOn": [1]})),
        cordon(3, json!({"dependsOn": [1]})),
    ])
}

fn begun(attempts: usize, phase: &str) -> Value {
    let attempt = json!({"attempt": 1, "jobName": "j", "jobHash": "h", "startTime": "2027-01-15T08:00:00.000000Z",
                         "deadline": "2027-01-15T08:05:00.000000Z"});
    json!({"phase": phase, "attempts": vec![attempt; attempts], "errorType": "job_failed", "failureReason": "no"})
}

fn outcome(bed: &WorkflowHarness) -> Option<Outcome> {
    bed.status().workflow_result.map(|result| result.outcome)
}

fn phases(bed: &WorkflowHarness) -> Vec<String> {
    bed.status()
        .phase_transitions
        .into_iter()
        .map(|transition| transition.phase)
        .collect()
}

#[test]
fn a_paused_workflow_finishes_what_runs_and_starts_nothing_until_it_is_resumed() {
    let mut bed = fork();
    bed.start();
    bed.ask(json!({"suspend": true}));
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Paused));
    assert!(
        bed.status()
            .message
            .unwrap_or_default()
            .starts_with("paused by spec.suspend")
    );
    bed.complete(1);
    bed.run_for(3600);
    assert_eq!(
        (bed.creates.len(), bed.state_of(1)),
        (1, Some(StepState::Completed))
    );
    assert_eq!(bed.wanted_slots, 0);
    bed.ask(json!({"suspend": false}));
    bed.run_for(2);
    assert_eq!(
        (bed.creates.len(), bed.status().phase),
        (3, Some(WorkflowPhase::Executing))
    );
    bed.complete(2);
    bed.complete(3);
    bed.run_for(2);
    assert_eq!(
        phases(&bed),
        [
            "planning",
            "validating",
            "executing",
            "paused",
            "executing",
            "monitoring",
            "completed"
        ]
    );
}

#[test]
fn a_workflow_that_is_suspended_from_the_start_is_paused_before_its_first_step() {
    let mut bed = fork();
    bed.workflow.spec.suspend = Some(true);
    bed.start();
    bed.run_for(600);
    assert_eq!((bed.creates.len(), bed.writes), (0, 1));
    assert_eq!(phases(&bed), ["planning", "validating", "executing", "paused"]);
    bed.ask(json!({"suspend": null}));
    bed.run_for(2);
    assert_eq!(bed.creates.len(), 1);
}

#[test]
fn a_paused_workflow_of_which_nothing_is_left_to_start_ends() {
    let mut bed = WorkflowHarness::new(&[cordon(1, json!({}))]);
    bed.start();
    bed.ask(json!({"suspend": true}));
    bed.complete(1);
    bed.run_for(2);
    assert_eq!(outcome(&bed), Some(Outcome::Success));
    assert!(
        phases(&bed).ends_with(&["paused", "monitoring", "completed"].map(str::to_owned)),
        "{:?}",
        phases(&bed)
    );
}

#[test]
fn cancel_stops_what_runs_starts_nothing_and_ends_as_cancelled() {
    for restarts in [false, true] {
        let mut bed = fork();
        bed.start();
        bed.complete(1);
        bed.run_for(2);
        bed.ask(json!({"shutdown": "Cancel"}));
        if restarts {
            bed.start();
        }
        assert_eq!(bed.cancelled(), ["w-step-2", "w-step-3"]);
        assert_eq!(bed.status().phase, Some(WorkflowPhase::Executing));
        let stopped = json!({"phase": "failed", "errorType": "cancelled", "failureReason": "stopped"});
        bed.set_status(2, stopped);
        // A Job that has completed meanwhile counts.
        bed.complete(3);
        bed.run_for(90);
        let status = bed.status();
        assert_eq!(
            (status.phase, status.error_type, outcome(&bed), status.failed_step),
            (
                Some(WorkflowPhase::Failed),
                Some(ErrorType::Cancelled),
                Some(Outcome::Cancelled),
                None
            )
        );
        assert_eq!(
            status.failure_reason.as_deref(),
            Some("cancelled by spec.shutdown: Cancel; 2 of 3 steps had completed")
        );
        assert_eq!(bed.creates.len(), 3);
    }
}

#[test]
fn cancel_before_the_first_step_ends_the_workflow_at_once() {
    for suspended in [false, true] {
        let mut bed = fork();
        bed.workflow.spec.suspend = Some(suspended);
        bed.workflow.spec.shutdown = Some(kubernaut_crds::Shutdown::Cancel);
        bed.start();
        assert_eq!((bed.writes, bed.creates.len()), (1, 0));
        assert_eq!(phases(&bed), ["planning", "validating", "failed"]);
        assert_eq!(outcome(&bed), Some(Outcome::Cancelled));
    }
    // While its rights are asked.
    let mut bed = fork();
    bed.fail(|command| {
        matches!(command, ApiCommand::CheckRights(_)).then(|| failure(FailureClass::Unknown, "not now"))
    });
    bed.start();
    bed.ask(json!({"shutdown": "Rollback"}));
    bed.run_for(60);
    assert_eq!((bed.creates.len(), outcome(&bed)), (0, Some(Outcome::Cancelled)));
}

#[test]
fn cancel_when_all_steps_have_completed_is_too_late() {
    let mut bed = WorkflowHarness::new(&[cordon(1, json!({}))]);
    bed.start();
    bed.ask(json!({"shutdown": "Cancel"}));
    bed.complete(1);
    bed.run_for(2);
    assert_eq!(outcome(&bed), Some(Outcome::Success));
}

#[test]
fn cancel_ends_a_pause() {
    let mut bed = fork();
    bed.start();
    bed.ask(json!({"suspend": true}));
    bed.complete(1);
    bed.run_for(2);
    bed.ask(json!({"shutdown": "Cancel"}));
    bed.run_for(2);
    assert_eq!(outcome(&bed), Some(Outcome::Cancelled));
    assert_eq!(bed.creates.len(), 1);
}

#[test]
fn an_execution_that_can_not_be_cancelled_yet_is_told_again_and_the_status_says_so() {
    for (class, again) in [
        (FailureClass::Conflict, 1),
        (FailureClass::Unknown, 30),
        (FailureClass::Forbidden, 60),
    ] {
        let mut bed = WorkflowHarness::new(&[cordon(1, json!({}))]);
        bed.start();
        bed.fail(move |command| {
            matches!(command, ApiCommand::PatchExecution { .. }).then(|| failure(class, "not this time"))
        });
        if class == FailureClass::Conflict {
            // Somebody was faster, once.
            let mut first = true;
            bed.fail(move |command| {
                let fails = first && matches!(command, ApiCommand::PatchExecution { .. });
                first &= !fails;
                fails.then(|| failure(class, "not this time"))
            });
        }
        bed.ask(json!({"shutdown": "Cancel"}));
        bed.run_for(5);
        if class == FailureClass::Forbidden {
            let message = bed.status().message.unwrap_or_default();
            assert!(
                message.contains("step 1 waits to be cancelled: not this time"),
                "{message}"
            );
        }
        if class != FailureClass::Conflict {
            bed.heal();
        }
        bed.run_for(again);
        assert_eq!(bed.cancelled(), ["w-step-1"], "{class:?}");
    }
}

/// Step 1, step 2 which is critical, step 3 after it, and step 9, which cleans up after all of them.
fn with_clean_up() -> WorkflowHarness {
    WorkflowHarness::new(&[
        cordon(1, json!({})),
        cordon(2, json!({"dependsOn": [1], "criticalStep": true})),
        cordon(3, json!({"dependsOn": [2]})),
        cordon(9, json!({"dependsOn": [1, 2, 3], "always": true})),
    ])
}

#[test]
fn a_step_that_cleans_up_runs_after_a_success_a_critical_failure_and_a_cancel() {
    for end in ["success", "failure", "cancel"] {
        let mut bed = with_clean_up();
        bed.start();
        bed.complete(1);
        bed.run_for(2);
        assert_eq!(bed.creates.len(), 2);
        match end {
            "success" => {
                bed.complete(2);
                bed.run_for(2);
                bed.complete(3);
            }
            "failure" => bed.set_status(2, begun(1, "failed")),
            _ => {
                bed.ask(json!({"shutdown": "Cancel"}));
                bed.set_status(
                    2,
                    json!({"phase": "failed", "errorType": "cancelled", "failureReason": "stopped"}),
                );
            }
        }
        bed.run_for(2);
        assert_eq!(bed.creates.last().map(|(_, step)| *step), Some(9), "{end}");
        assert!(!bed.cancelled().contains(&"w-step-9"), "{end}");
        assert!(
            !bed.status().phase.is_some_and(WorkflowPhase::is_terminal),
            "{end}"
        );
        bed.complete(9);
        bed.run_for(2);
        let expected = match end {
            "success" => Outcome::Success,
            "failure" => Outcome::Failed,
            _ => Outcome::Cancelled,
        };
        assert_eq!(outcome(&bed), Some(expected), "{end}");
        assert_eq!(bed.state_of(9), Some(StepState::Completed), "{end}");
    }
}

#[test]
fn a_step_that_cleans_up_after_nothing_does_not_run() {
    let mut bed = WorkflowHarness::new(&[
        cordon(1, json!({})),
        cordon(9, json!({"dependsOn": [1], "always": true})),
    ]);
    bed.start();
    // It failed before its first attempt.
    bed.set_status(1, begun(0, "failed"));
    bed.run_for(2);
    assert_eq!(bed.creates.len(), 1);
    assert_eq!(bed.state_of(9), Some(StepState::Skipped));
    assert!(
        bed.reason_of(9).contains("nothing that it cleans up after"),
        "{}",
        bed.reason_of(9)
    );
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Failed));
}

#[test]
fn what_needs_a_clean_up_needs_all_that_came_before_it() {
    let steps = [
        cordon(1, json!({})),
        cordon(5, json!({"dependsOn": [1], "always": true})),
        cordon(6, json!({"dependsOn": [5]})),
    ];
    let mut bed = WorkflowHarness::new(&steps);
    bed.start();
    bed.set_status(1, begun(1, "failed"));
    bed.run_for(2);
    bed.complete(5);
    bed.run_for(2);
    assert_eq!(bed.state_of(6), Some(StepState::Skipped));
    assert_eq!(bed.reason_of(6), "not run: step 1, which it needs, failed");
    let steps = bed.status().step_statuses;
    let skipped = steps
        .iter()
        .find(|step| step.step_number == 6)
        .and_then(|step| step.error_type);
    assert_eq!(skipped, Some(ErrorType::DependencyFailed));
}

#[test]
fn a_pause_holds_a_step_that_cleans_up() {
    let mut bed = WorkflowHarness::new(&[
        cordon(1, json!({})),
        cordon(9, json!({"dependsOn": [1], "always": true})),
    ]);
    bed.start();
    bed.ask(json!({"suspend": true}));
    bed.complete(1);
    bed.run_for(600);
    assert_eq!(bed.creates.len(), 1);
    bed.ask(json!({"suspend": false}));
    bed.run_for(2);
    assert_eq!(bed.creates.len(), 2);
}

#[test]
fn a_clean_up_waits_for_creates_of_the_controller_before() {
    let mut bed = with_clean_up();
    bed.start();
    bed.complete(1);
    bed.run_for(2);
    bed.ask(json!({"shutdown": "Cancel"}));
    // Another controller: step 2 is there, and has ended; nothing else can have been sent but the clean-up.
    bed.set_status(
        2,
        json!({"phase": "failed", "errorType": "cancelled", "failureReason": "stopped"}),
    );
    bed.start();
    bed.run_for(90);
    assert_eq!(bed.creates.last().map(|(_, step)| *step), Some(9));
}

#[test]
fn a_critical_step_that_fails_while_its_workflow_is_paused_ends_the_pause() {
    for (strategy, expected) in [("automatic", "rolling_back"), ("none", "failed")] {
        let mut bed = WorkflowHarness::new(&[
            cordon(1, json!({"criticalStep": true})),
            cordon(2, json!({"dependsOn": [1]})),
        ]);
        bed.workflow.spec.execution_strategy.rollback_strategy =
            serde_json::from_value(json!(strategy)).expect("a strategy");
        bed.start();
        bed.ask(json!({"suspend": true}));
        bed.set_status(1, begun(1, "failed"));
        bed.run_for(2);
        let phases = phases(&bed);
        let after = phases.iter().skip_while(|phase| *phase != "paused").nth(1);
        assert_eq!(after.map(String::as_str), Some(expected), "{phases:?}");
        assert_eq!(bed.status().phase, Some(WorkflowPhase::Failed));
    }
}

#[test]
fn cancel_after_a_critical_step_has_failed_ends_as_that_and_undoes_nothing() {
    let mut bed = with_clean_up();
    bed.workflow.spec.execution_strategy.rollback_strategy = kubernaut_crds::RollbackStrategy::Automatic;
    bed.start();
    bed.complete(1);
    bed.run_for(2);
    bed.set_status(2, begun(1, "failed"));
    bed.run_for(2);
    bed.ask(json!({"shutdown": "Cancel"}));
    bed.complete(9);
    bed.run_for(2);
    let status = bed.status();
    assert_eq!(
        (status.phase, status.failed_step),
        (Some(WorkflowPhase::Failed), Some(2))
    );
    assert_eq!(status.error_type, Some(ErrorType::JobFailed));
    let reason = status.failure_reason.unwrap_or_default();
    assert!(reason.ends_with("Cancelled: nothing was undone."), "{reason}");
}
