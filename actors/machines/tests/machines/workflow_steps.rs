//! Steps of a workflow whose executions can't be made, are lost, or come late.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use jiff::SignedDuration;
use kubernaut_crds::{ErrorType, StepState, WorkflowPhase};
use kubernaut_machines::api_command::{ApiCommand, FailureClass};
use kubernaut_machines::workflow::{WorkflowCommand, WorkflowEvent, WorkflowMachine};
use serde_json::json;

use crate::step_harness::failure;
use crate::workflow_harness::{WorkflowHarness, cordon};

fn critical() -> serde_json::Value {
    json!({"criticalStep": true})
}

/// The create of this step gets this answer.
fn refuse(bed: &mut WorkflowHarness, step: i32, class: FailureClass, words: &'static str) {
    bed.fail(move |command| match command {
        ApiCommand::CreateExecution(execution) if execution.spec.step_number == step => {
            Some(failure(class, words))
        }
        _ => None,
    });
}

#[test]
fn a_workflow_does_not_end_before_its_last_create_can_not_take_effect_any_more() {
    let mut bed = WorkflowHarness::new(&[cordon(1, critical()), cordon(2, json!({}))]);
    refuse(&mut bed, 2, FailureClass::Unknown, "connection reset");
    bed.start();
    bed.run_for(50);
    bed.set_status(1, json!({"phase": "failed", "failureReason": "no"}));
    let last = bed.creates.iter().rfind(|(_, step)| *step == 2).expect("tried").0;
    for _ in 0..500 {
        if bed.stopped || !bed.next() {
            break;
        }
    }
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Failed));
    assert!(
        bed.now.duration_since(last) >= SignedDuration::from_secs(60),
        "{}",
        bed.now.duration_since(last)
    );
    // And it takes no more than that.
    assert!(bed.now.duration_since(last) <= SignedDuration::from_secs(75));
}

#[test]
fn an_execution_that_was_seen_before_its_create_failed_is_no_doubt() {
    let mut bed = WorkflowHarness::new(&[cordon(1, json!({}))]);
    bed.settings.authorization = false;
    let workflow = std::sync::Arc::new(bed.workflow.clone());
    let settings = std::sync::Arc::new(bed.settings.clone());
    let mut machine = WorkflowMachine::restore(settings, workflow.clone());
    let mut pending = Vec::new();
    machine.on_event(bed.now, WorkflowEvent::SlotsKept(1));
    for command in machine.on_event(bed.now, WorkflowEvent::Observed(workflow)) {
        if let WorkflowCommand::Api { id, command, .. } = command {
            pending.push((id, command));
        }
    }
    let execution = bed.planned(1);
    let mut execution = (*bed.put(execution)).clone();
    execution.status = serde_json::from_value(json!({"phase": "completed"})).expect("a status");
    machine.on_event(
        bed.now,
        WorkflowEvent::StepObserved(std::sync::Arc::new(execution)),
    );
    let mut asked = 0;
    while let Some((id, command)) = pending.pop() {
        asked += 1;
        assert!(asked < 10, "asked again and again: {command:?}");
        let result = match &command {
            ApiCommand::CreateExecution(_) => Err(failure(FailureClass::Unknown, "connection reset")),
            _ => Ok(bed.act(command)),
        };
        bed.now += SignedDuration::from_secs(30);
        for command in machine.on_event(bed.now, WorkflowEvent::Finished { id, result }) {
            if let WorkflowCommand::Api { id, command, .. } = command {
                pending.push((id, command));
            }
        }
        for command in machine.on_event(bed.now + SignedDuration::from_secs(1), WorkflowEvent::Tick) {
            if let WorkflowCommand::Api { id, command, .. } = command {
                pending.push((id, command));
            }
        }
    }
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Completed));
}

#[test]
fn a_workflow_that_was_taken_over_waits_for_the_creates_of_the_controller_before() {
    let mut bed = WorkflowHarness::new(&[cordon(1, critical()), cordon(2, json!({}))]);
    refuse(&mut bed, 2, FailureClass::Unknown, "connection reset");
    bed.start();
    bed.run_for(3);
    let execution = bed.executions.get_mut("w-step-1").expect("made");
    execution.status =
        serde_json::from_value(json!({"phase": "failed", "failureReason": "no"})).expect("a status");
    bed.start();
    bed.run_for(30);
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Executing));
    // The create of the dead controller lands: the step is in flight, and is finished.
    let late = bed.planned(2);
    let late = bed.put(late);
    bed.event(WorkflowEvent::StepObserved(late));
    bed.complete(2);
    bed.run_for(11);
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Failed));
    assert_eq!(bed.state_of(2), Some(StepState::Completed));
}

#[test]
fn a_workflow_that_was_taken_over_long_ago_waits_for_nobody() {
    let mut bed = WorkflowHarness::new(&[cordon(1, critical()), cordon(2, json!({}))]);
    refuse(&mut bed, 2, FailureClass::Throttled, "slow down");
    bed.start();
    bed.start();
    bed.run_for(90);
    bed.set_status(1, json!({"phase": "failed", "failureReason": "no"}));
    bed.run_for(11);
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Failed));
}

#[test]
fn a_step_that_waits_for_a_quota_says_so_and_the_others_go_on() {
    let mut bed = WorkflowHarness::new(&[
        cordon(1, json!({})),
        cordon(2, json!({})),
        cordon(3, json!({"dependsOn": [1]})),
    ]);
    refuse(
        &mut bed,
        2,
        FailureClass::Quota,
        "exceeded quota: count/kubernetesexecutions",
    );
    bed.start();
    bed.run_for(2);
    let message = bed.status().message.unwrap_or_default();
    assert_eq!(
        message,
        "running: 1 (s1); step 2 waits for room in a quota: exceeded quota: count/kubernetesexecutions"
    );
    bed.complete(1);
    bed.run_for(1);
    assert!(
        bed.executions.contains_key("w-step-3"),
        "step 3 did not wait for the quota"
    );
    bed.complete(3);
    // It is asked for ever less often, and the status is not written again.
    bed.run_for(100);
    let (creates, writes) = (bed.creates.len(), bed.writes);
    bed.run_for(3_600);
    assert!(
        (100..=130).contains(&(bed.creates.len() - creates)),
        "{}",
        bed.creates.len() - creates
    );
    assert_eq!(bed.writes, writes);
    bed.heal();
    bed.run_for(31);
    bed.complete(2);
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Completed));
}

#[test]
fn an_execution_that_was_seen_completed_and_then_deleted_has_completed() {
    let mut bed = WorkflowHarness::new(&[cordon(1, json!({})), cordon(2, json!({}))]);
    bed.start();
    bed.run_for(2);
    // The write of the workflow's status does not get through while the execution ends and goes.
    bed.fail(|command| {
        matches!(
            command,
            ApiCommand::WriteWorkflowStatus { .. } | ApiCommand::GetWorkflow { .. }
        )
        .then(|| failure(FailureClass::Throttled, "slow down"))
    });
    bed.complete(1);
    let gone = bed.executions.remove("w-step-1").expect("made");
    let uid = gone.metadata.uid.expect("a uid");
    bed.event(WorkflowEvent::StepAbsent { uid: uid.clone() });
    bed.heal();
    bed.run_for(15);
    assert_eq!(
        bed.state_of(1),
        Some(StepState::Completed),
        "{}",
        bed.reason_of(1)
    );
    bed.event(WorkflowEvent::StepGivenUp {
        uid,
        reason: "the controller crashed".into(),
    });
    bed.complete(2);
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Completed));
}

#[test]
fn a_step_whose_creation_is_in_conflict_for_a_while_is_created_later() {
    let mut bed = WorkflowHarness::new(&[cordon(1, json!({}))]);
    refuse(
        &mut bed,
        1,
        FailureClass::Conflict,
        "the object has been modified",
    );
    bed.start();
    bed.run_for(5);
    assert_eq!(
        bed.status().message.as_deref(),
        Some("step 1 waits for a conflict to pass: the object has been modified")
    );
    bed.heal();
    bed.run_for(5);
    bed.complete(1);
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Completed));
}

#[test]
fn the_class_of_a_lost_steps_failure_is_known_after_a_restart_too() {
    let cases = BTreeMap::from(
        [
            (FailureClass::Forbidden, ErrorType::InsufficientPermissions),
            (FailureClass::Rejected, ErrorType::ValidationError),
        ]
        .map(|(class, error_type)| (format!("{class:?}"), (class, error_type))),
    );
    for (class, error_type) in cases.into_values() {
        let mut bed = WorkflowHarness::new(&[cordon(1, critical()), cordon(2, json!({}))]);
        refuse(&mut bed, 1, class, "no");
        bed.start();
        bed.run_for(2);
        assert_eq!(bed.state_of(1), Some(StepState::Failed));
        assert_eq!(bed.status().phase, Some(WorkflowPhase::Executing), "step 2 runs");
        // However the version before worded it.
        let status = bed.workflow.status.as_mut().expect("a status");
        status.step_statuses[0].error_message = Some("in other words".to_owned());
        bed.start();
        bed.complete(2);
        bed.run_for(100);
        assert_eq!(bed.status().error_type, Some(error_type), "{class:?}");
    }
    let mut bed = WorkflowHarness::new(&[cordon(1, critical()), cordon(2, json!({}))]);
    bed.start();
    bed.run_for(2);
    let gone = bed.executions.remove("w-step-1").expect("made");
    bed.event(WorkflowEvent::StepAbsent {
        uid: gone.metadata.uid.expect("a uid"),
    });
    bed.run_for(2);
    bed.start();
    bed.complete(2);
    bed.run_for(100);
    assert_eq!(bed.status().error_type, Some(ErrorType::Cancelled));
}

/// As the status of a version that recorded no class of a step.
#[test]
fn the_class_of_a_lost_steps_failure_is_read_from_an_older_status() {
    for (class, error_type) in [
        (FailureClass::Forbidden, ErrorType::InsufficientPermissions),
        (FailureClass::Rejected, ErrorType::ValidationError),
    ] {
        let mut bed = WorkflowHarness::new(&[cordon(1, critical()), cordon(2, json!({}))]);
        refuse(&mut bed, 1, class, "no");
        bed.start();
        bed.run_for(2);
        let status = bed.workflow.status.as_mut().expect("a status");
        assert_eq!(status.step_statuses[0].error_type, Some(error_type));
        status.step_statuses[0].error_type = None;
        bed.start();
        bed.complete(2);
        bed.run_for(100);
        assert_eq!(bed.status().error_type, Some(error_type), "{class:?}");
    }
}

#[test]
fn a_workflow_that_has_begun_goes_on_under_stricter_flags() {
    let mut bed = WorkflowHarness::new(&[
        cordon(1, json!({"timeout": "10m"})),
        cordon(2, json!({"dependsOn": [1]})),
    ]);
    bed.start();
    bed.run_for(2);
    bed.settings.max_step_timeout = std::time::Duration::from_secs(60);
    bed.settings.protected_namespaces.insert("shop".into());
    bed.settings.cluster_name = Some("other".into());
    bed.start();
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Executing));
    bed.complete(1);
    bed.run_for(2);
    assert!(
        bed.executions.contains_key("w-step-2"),
        "its own machine decides whether it may run"
    );
    // One that has not begun is refused.
    let mut bed = WorkflowHarness::new(&[cordon(1, json!({"timeout": "10m"}))]);
    bed.settings.max_step_timeout = std::time::Duration::from_secs(60);
    bed.start();
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Failed));
}

#[test]
fn an_execution_that_vanished_is_asked_for_until_there_is_an_answer() {
    for class in [
        FailureClass::Unknown,
        FailureClass::Throttled,
        FailureClass::Forbidden,
    ] {
        let mut bed = WorkflowHarness::new(&[cordon(1, json!({}))]);
        bed.start();
        bed.run_for(2);
        let gone = bed.executions.remove("w-step-1").expect("made");
        bed.fail(move |command| {
            matches!(command, ApiCommand::GetExecution { .. }).then(|| failure(class, "not now"))
        });
        bed.event(WorkflowEvent::StepAbsent {
            uid: gone.metadata.uid.expect("a uid"),
        });
        bed.run_for(60);
        assert_eq!(bed.state_of(1), Some(StepState::Executing));
        bed.heal();
        bed.run_for(15);
        assert_eq!(bed.status().error_type, Some(ErrorType::Cancelled), "{class:?}");
    }
}

#[test]
fn a_workflow_whose_first_step_was_made_before_its_status_was_written_has_begun() {
    let mut bed = WorkflowHarness::new(&[cordon(1, json!({})), cordon(2, json!({"dependsOn": [1]}))]);
    let made = bed.planned(1);
    bed.put(made);
    // The controller was killed in between; then somebody asked the workflow to stop, and its account lost its rights.
    bed.workflow.spec.suspend = Some(true);
    bed.settings.protected_namespaces.insert("shop".into());
    bed.fail(|command| {
        matches!(command, ApiCommand::CheckRights(_)).then(|| failure(FailureClass::Forbidden, "no"))
    });
    bed.start();
    bed.run_for(5);
    assert_eq!(
        bed.status().phase,
        Some(WorkflowPhase::Paused),
        "{:?}",
        bed.status().message
    );
    bed.complete(1);
    bed.run_for(120);
    assert_eq!(bed.state_of(1), Some(StepState::Completed));
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Paused));
}

#[test]
fn a_status_that_is_refused_is_tried_less_and_less_often_and_told_of_once() {
    for class in [FailureClass::Forbidden, FailureClass::Rejected] {
        let mut bed = WorkflowHarness::new(&[cordon(1, json!({}))]);
        let tried = Rc::new(Cell::new(0));
        let counted = Rc::clone(&tried);
        bed.fail(move |command| {
            let write = matches!(command, ApiCommand::WriteWorkflowStatus { .. });
            write.then(|| {
                counted.set(counted.get() + 1);
                failure(class, "denied by kubernaut-statuses")
            })
        });
        bed.start();
        bed.run_for(3600);
        assert!(
            (5..20).contains(&tried.get()),
            "{class:?}: {} in an hour",
            tried.get()
        );
        assert_eq!(bed.events, ["StatusRefused"]);
        bed.heal();
        bed.run_for(300);
        assert_eq!(bed.status().phase, Some(WorkflowPhase::Executing));
    }
}

#[test]
fn where_many_are_under_way_progress_is_written_less_often_and_the_end_at_once() {
    for (seconds, interval) in [(1, Duration::ZERO), (10, Duration::from_secs(10))] {
        let steps: Vec<_> = (1..=3).map(|number| cordon(number, json!({}))).collect();
        let mut bed = WorkflowHarness::new(&steps);
        bed.start();
        bed.write_progress_every(interval);
        bed.run_for(60);
        bed.complete(1);
        let writes = bed.writes;
        bed.complete(2);
        bed.run_for(seconds - 1);
        assert_eq!(bed.writes, writes, "every {interval:?}");
        bed.run_for(1);
        assert_eq!(bed.writes, writes + 1, "every {interval:?}");
        bed.complete(3);
        assert_eq!(
            bed.status().phase,
            Some(WorkflowPhase::Completed),
            "every {interval:?}"
        );
    }
}
