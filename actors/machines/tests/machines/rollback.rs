//! What a workflow changed is taken back: in which order, by what, and what is told of it.

use std::sync::Arc;

use kubernaut_crds::{
    ErrorType, Outcome, RollbackOf, StepState, UndoState, WorkflowExecution, WorkflowPhase, names,
};
use kubernaut_machines::api_command::{ApiCommand, FailureClass};
use kubernaut_machines::plan::Undone;
use kubernaut_machines::workflow::WorkflowEvent;
use serde_json::{Value, json};

use crate::step_harness::failure;
use crate::workflow_harness::{WorkflowHarness, cordon};

const BEGAN: &str = "2027-01-15T08:00:00.000000Z";

/// Its execution changed something at this second, and recorded what takes that back.
fn changed(second: u32, phase: &str) -> Value {
    let attempt =
        json!({"attempt": 1, "jobName": "j", "jobHash": "h", "startTime": BEGAN, "deadline": BEGAN});
    let patch = json!([{"op": "test", "path": "/metadata/uid", "value": "n"},
                       {"op": "test", "path": "/spec/unschedulable", "value": true},
                       {"op": "remove", "path": "/spec/unschedulable"}]);
    json!({"phase": phase, "attempts": [attempt], "errorType": "verification_failed", "failureReason": "not ready",
           "completionTime": format!("2027-01-15T08:01:{second:02}.000000Z"),
           "target": {"kind": "Node", "name": "n"},
           "rollbackInformation": {"available": true, "rollbackAction": "uncordon-node",
               "rollbackParameters": {"uncordonNode": {"node": "n"}},
               "undo": {"apiVersion": "v1", "uid": "n", "patch": patch.to_string()}}})
}

fn done() -> Value {
    json!({"phase": "completed", "message": "as before"})
}

/// Steps 1 and 2, then 3, which is critical.
fn flow(strategy: &str) -> WorkflowHarness {
    let mut bed = WorkflowHarness::new(&[
        cordon(1, json!({})),
        cordon(2, json!({})),
        cordon(3, json!({"dependsOn": [1, 2], "criticalStep": true})),
    ]);
    bed.workflow.spec.execution_strategy.rollback_strategy =
        serde_json::from_value(json!(strategy)).expect("a strategy");
    bed
}

/// Step 2 completed before step 1, and step 3 fails.
fn failing(strategy: &str) -> WorkflowHarness {
    let mut bed = flow(strategy);
    bed.start();
    bed.set_status(2, changed(1, "completed"));
    bed.set_status(1, changed(2, "completed"));
    bed.run_for(2);
    bed.set_status(3, changed(3, "failed"));
    bed.run_for(2);
    bed
}

fn undos(bed: &WorkflowHarness) -> Vec<i32> {
    let made = bed
        .executions
        .iter()
        .filter(|(name, _)| name.contains("-rollback-"));
    made.map(|(_, execution)| execution.spec.step_number).collect()
}

fn undo_of(bed: &WorkflowHarness, step: i32) -> Option<UndoState> {
    let steps = bed.status().step_statuses;
    let step = steps.into_iter().find(|status| status.step_number == step)?;
    step.undo.map(|undo| undo.status)
}

#[test]
fn what_was_changed_is_undone_last_change_first_and_one_at_a_time() {
    for restarts in [false, true] {
        let mut bed = failing("automatic");
        assert_eq!(bed.status().phase, Some(WorkflowPhase::RollingBack));
        for (number, undone) in [(3, vec![3]), (1, vec![1, 3]), (2, vec![1, 2, 3])] {
            assert_eq!(undos(&bed), undone);
            bed.run_for(60);
            assert_eq!(undos(&bed), undone, "the next one has to wait");
            if restarts {
                bed.start();
            }
            bed.set_status_of(&format!("w-rollback-{number}"), done());
            bed.run_for(2);
        }
        let status = bed.status();
        assert_eq!(
            (status.phase, status.failed_step),
            (Some(WorkflowPhase::Failed), Some(3))
        );
        assert_eq!(status.error_type, Some(ErrorType::VerificationFailed));
        assert_eq!(
            status.failure_reason.as_deref(),
            Some("critical step 3 (s3) failed: not ready. undone: 1 (s1), 2 (s2), 3 (s3)")
        );
        assert_eq!(
            status.rollback_reason.as_deref(),
            Some("critical step 3 (s3) failed: not ready")
        );
        assert_eq!(
            [1, 2, 3].map(|step| bed.state_of(step)),
            [
                Some(StepState::RolledBack),
                Some(StepState::RolledBack),
                Some(StepState::Failed)
            ]
        );
        let rolled_back = status
            .conditions
            .iter()
            .find(|condition| condition.r#type == "RolledBack");
        assert_eq!(
            rolled_back.map(|condition| condition.status.as_str()),
            Some("True")
        );
        assert_eq!(
            status
                .execution_metrics
                .map(|metrics| metrics.rollbacks_performed),
            Some(3)
        );
        assert_eq!(
            status.workflow_result.map(|result| result.outcome),
            Some(Outcome::Failed)
        );
    }
}

#[test]
fn an_undo_is_an_execution_of_the_workflow_that_tests_what_was_set() {
    let bed = failing("automatic");
    let undo = &bed.executions["w-rollback-3"];
    assert_eq!(
        undo.metadata
            .labels
            .as_ref()
            .map(|labels| labels[names::LABEL_ROLLBACK].as_str()),
        Some("true")
    );
    assert_eq!(
        (undo.spec.action.as_str(), undo.spec.approval_received),
        ("undo", true)
    );
    let parameters = serde_json::to_value(&undo.spec.parameters).expect("JSON");
    assert_eq!(parameters["undo"]["of"], "cordon-node");
    assert_eq!(
        parameters["undo"]["target"],
        json!({"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "n"})
    );
    assert!(
        parameters["undo"]["patch"]
            .as_str()
            .is_some_and(|patch| patch.contains("test"))
    );
}

#[test]
fn with_another_strategy_nothing_is_undone() {
    for (strategy, hints) in [("manual", true), ("none", false)] {
        let bed = failing(strategy);
        let status = bed.status();
        assert_eq!(
            (status.phase, undos(&bed)),
            (Some(WorkflowPhase::Failed), vec![]),
            "{strategy}"
        );
        let reason = status.failure_reason.unwrap_or_default();
        assert_eq!(reason.ends_with("Nothing was undone."), hints, "{reason}");
        let actions = status
            .workflow_result
            .map(|result| result.recommended_actions)
            .unwrap_or_default();
        assert_eq!(!actions.is_empty(), hints, "{actions:?}");
    }
}

#[test]
fn a_failed_undo_is_told_and_the_others_go_on() {
    let mut bed = failing("automatic");
    let conflict =
        json!({"phase": "failed", "errorType": "resource_conflict", "failureReason": "changed since"});
    bed.set_status_of("w-rollback-3", conflict);
    bed.run_for(2);
    bed.set_status_of("w-rollback-1", done());
    bed.run_for(2);
    bed.set_status_of("w-rollback-2", done());
    bed.run_for(2);
    let status = bed.status();
    assert_eq!(undo_of(&bed, 3), Some(UndoState::Failed));
    let reason = status.failure_reason.unwrap_or_default();
    assert!(
        reason.ends_with("undone: 1 (s1), 2 (s2); not undone: 3 (s3) (changed since)"),
        "{reason}"
    );
    let rolled_back = status
        .conditions
        .iter()
        .find(|condition| condition.r#type == "RolledBack");
    assert_eq!(
        rolled_back.map(|condition| condition.status.as_str()),
        Some("False")
    );
    assert!(
        bed.events.contains(&"RollbackFailed") && bed.events.contains(&"RollbackStarted"),
        "{:?}",
        bed.events
    );
}

#[test]
fn what_has_no_way_back_is_named_and_passed_over_and_what_changed_nothing_needs_none() {
    let mut bed = flow("automatic");
    bed.start();
    let mut irreversible = changed(1, "completed");
    irreversible["rollbackInformation"] =
        json!({"available": false, "reason": "a restart can't be taken back"});
    bed.set_status(1, irreversible);
    let mut unchanged = changed(2, "completed");
    unchanged["rollbackInformation"]["undo"]["patch"] = json!("[]");
    bed.set_status(2, unchanged);
    bed.run_for(2);
    // The API server refused it: it changed nothing.
    let mut refused = changed(3, "failed");
    refused["errorType"] = json!("insufficient_permissions");
    bed.set_status(3, refused);
    bed.run_for(5);
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Failed));
    assert!(undos(&bed).is_empty());
    assert_eq!(
        [1, 2, 3].map(|step| undo_of(&bed, step)),
        [Some(UndoState::NotReversible), Some(UndoState::Completed), None]
    );
    let reason = bed.status().failure_reason.unwrap_or_default();
    assert!(
        reason.contains("undone: 2 (s2); not reversible: 1 (s1) (a restart can't be taken back)"),
        "{reason}"
    );
}

#[test]
fn a_rollback_spec_of_the_step_comes_before_what_was_recorded() {
    let mut bed = flow("automatic");
    let steps = &mut bed.workflow.spec.workflow_definition.steps;
    let spec = json!({"action": "scale-deployment", "timeout": "2m",
        "parameters": {"scaleToPrevious": {"namespace": "shop", "deployment": "web", "previousReplicas": 4}}});
    steps[1].rollback_spec = Some(serde_json::from_value(spec).expect("a spec"));
    bed.start();
    bed.set_status(1, changed(1, "completed"));
    bed.set_status(2, changed(2, "completed"));
    bed.run_for(2);
    bed.set_status(
        3,
        json!({"phase": "failed", "errorType": "validation_error", "failureReason": "no"}),
    );
    bed.run_for(2);
    let undo = &bed.executions["w-rollback-2"];
    assert_eq!(
        (undo.spec.action.as_str(), undo.spec.timeout.as_str()),
        ("scale-deployment", "2m")
    );
    let parameters = serde_json::to_value(&undo.spec.parameters).expect("JSON");
    assert_eq!(parameters["scaleDeployment"]["replicas"], 4);
}

#[test]
fn shutdown_rollback_stops_what_runs_and_then_undoes() {
    let mut bed = flow("none");
    bed.start();
    bed.set_status(1, changed(1, "completed"));
    bed.ask(json!({"shutdown": "Rollback"}));
    assert_eq!(bed.cancelled(), ["w-step-2"]);
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Executing));
    // Its Job was stopped, and may have changed something.
    let mut stopped = changed(2, "failed");
    stopped["errorType"] = json!("cancelled");
    bed.set_status(2, stopped);
    bed.run_for(2);
    assert_eq!(
        (bed.status().phase, undos(&bed)),
        (Some(WorkflowPhase::RollingBack), vec![2])
    );
    assert!(bed.cancelled().iter().all(|name| !name.contains("rollback")));
    bed.set_status_of("w-rollback-2", done());
    bed.run_for(2);
    bed.set_status_of("w-rollback-1", done());
    bed.run_for(2);
    let status = bed.status();
    assert_eq!(
        (status.phase, status.error_type),
        (Some(WorkflowPhase::Failed), Some(ErrorType::Cancelled))
    );
    assert_eq!(
        status.workflow_result.map(|result| result.outcome),
        Some(Outcome::Cancelled)
    );
    let reason = status.failure_reason.unwrap_or_default();
    assert_eq!(
        reason,
        "cancelled by spec.shutdown: Rollback. undone: 1 (s1), 2 (s2)"
    );
}

#[test]
fn a_shutdown_while_steps_are_undone_changes_nothing_and_a_warning_says_so() {
    for shutdown in ["Cancel", "Rollback"] {
        let mut bed = failing("automatic");
        bed.ask(json!({"shutdown": shutdown, "suspend": true}));
        bed.run_for(10);
        assert_eq!(
            (bed.status().phase, undos(&bed)),
            (Some(WorkflowPhase::RollingBack), vec![3])
        );
        assert!(bed.events.contains(&"ShutdownIgnored"), "{:?}", bed.events);
        assert!(bed.cancelled().is_empty());
        for number in [3, 1, 2] {
            bed.set_status_of(&format!("w-rollback-{number}"), done());
            bed.run_for(2);
        }
        assert_eq!(bed.status().error_type, Some(ErrorType::VerificationFailed));
    }
}

#[test]
fn what_cleans_up_runs_before_anything_is_undone_and_is_not_undone_itself() {
    let mut bed = WorkflowHarness::new(&[
        cordon(1, json!({})),
        cordon(2, json!({"dependsOn": [1], "criticalStep": true})),
        cordon(9, json!({"dependsOn": [2], "always": true})),
    ]);
    bed.workflow.spec.execution_strategy.rollback_strategy = kubernaut_crds::RollbackStrategy::Automatic;
    bed.start();
    bed.set_status(1, changed(1, "completed"));
    bed.run_for(2);
    bed.set_status(2, changed(2, "failed"));
    bed.run_for(5);
    assert_eq!(
        (bed.status().phase, undos(&bed)),
        (Some(WorkflowPhase::Executing), vec![])
    );
    bed.set_status(9, changed(3, "completed"));
    bed.run_for(2);
    bed.set_status_of("w-rollback-2", done());
    bed.run_for(2);
    bed.set_status_of("w-rollback-1", done());
    bed.run_for(2);
    assert_eq!(
        (bed.status().phase, undos(&bed)),
        (Some(WorkflowPhase::Failed), vec![1, 2])
    );
    assert_eq!(bed.state_of(9), Some(StepState::Completed));
}

#[test]
fn an_undo_whose_name_is_taken_or_that_is_taken_away_has_failed() {
    // Somebody else's execution has its name.
    let mut bed = flow("automatic");
    let mut other = bed.planned(1);
    other.metadata.name = Some("w-rollback-3".to_owned());
    other.metadata.owner_references = None;
    bed.put(other);
    bed.start();
    bed.set_status(1, changed(1, "completed"));
    bed.set_status(2, changed(2, "completed"));
    bed.run_for(2);
    bed.set_status(3, changed(3, "failed"));
    bed.run_for(5);
    assert_eq!(undo_of(&bed, 3), Some(UndoState::Failed));
    // The next one is made, and somebody deletes it.
    let gone = bed.executions.remove("w-rollback-2").expect("made");
    bed.event(WorkflowEvent::StepAbsent {
        uid: gone.metadata.uid.expect("a uid"),
    });
    bed.run_for(5);
    assert_eq!(undo_of(&bed, 2), Some(UndoState::Failed));
    bed.start();
    bed.run_for(5);
    assert!(
        !bed.executions.contains_key("w-rollback-2"),
        "it is not made again"
    );
    assert!(bed.executions.contains_key("w-rollback-1"));
}

#[test]
fn an_undo_that_can_not_be_made_yet_is_waited_for_and_one_that_is_refused_has_failed() {
    for (class, waits) in [(FailureClass::Quota, true), (FailureClass::Forbidden, false)] {
        let mut bed = flow("automatic");
        bed.start();
        bed.set_status(1, changed(1, "completed"));
        bed.set_status(2, changed(2, "completed"));
        bed.run_for(2);
        bed.fail(move |command| {
            matches!(command, ApiCommand::CreateExecution(_)).then(|| failure(class, "no room"))
        });
        bed.set_status(3, changed(3, "failed"));
        bed.run_for(20);
        if waits {
            let message = bed.status().message.unwrap_or_default();
            assert!(
                message.contains("undoing step 3 waits for room in a quota"),
                "{message}"
            );
            bed.heal();
            bed.run_for(30);
            assert_eq!(undos(&bed), [3]);
        } else {
            assert_eq!(bed.status().phase, Some(WorkflowPhase::Failed));
            assert_eq!(undo_of(&bed, 3), Some(UndoState::Failed));
        }
    }
}

/// A workflow that has completed, with two steps that changed something and one that can't be undone.
fn ended() -> (WorkflowExecution, Undone) {
    let mut bed = WorkflowHarness::new(&[cordon(1, json!({})), cordon(2, json!({})), cordon(3, json!({}))]);
    bed.workflow.metadata.name = Some("w".to_owned());
    bed.start();
    bed.set_status(2, changed(1, "completed"));
    bed.set_status(1, changed(2, "completed"));
    let mut irreversible = changed(3, "completed");
    irreversible["rollbackInformation"] =
        json!({"available": false, "reason": "a restart can't be taken back"});
    bed.set_status(3, irreversible);
    bed.run_for(2);
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Completed));
    let executions = bed.executions.into_values().map(Arc::new).collect();
    let workflow = Arc::new(bed.workflow.clone());
    let undone = Undone {
        workflow: Some(workflow),
        executions,
    };
    (bed.workflow, undone)
}

/// A workflow `u` that undoes that one.
fn undoing(uid: &str) -> WorkflowHarness {
    let (_, undone) = ended();
    let mut bed = WorkflowHarness::new(&[]);
    bed.workflow.metadata.name = Some("u".to_owned());
    bed.workflow.metadata.uid = Some("u-uid".to_owned());
    bed.workflow.spec.rollback_of = Some(RollbackOf {
        name: "w".to_owned(),
        uid: uid.to_owned(),
    });
    bed.undone = undone;
    bed
}

#[test]
fn a_workflow_that_undoes_another_one_takes_its_steps_back_one_at_a_time_the_last_change_first() {
    for restarts in [false, true] {
        let mut bed = undoing("w-uid");
        bed.start();
        for (turn, name) in [(1, "undo s1"), (2, "undo s2")] {
            let made = bed.executions.len();
            assert_eq!(made, turn, "{:?}", bed.status());
            bed.run_for(60);
            assert_eq!(bed.executions.len(), made, "the next one has to wait");
            if restarts {
                bed.start();
            }
            let execution = &bed.executions[&format!("u-step-{turn}")];
            assert_eq!(execution.spec.action, "undo");
            assert_eq!(
                execution
                    .metadata
                    .labels
                    .as_ref()
                    .map(|labels| labels[names::LABEL_ROLLBACK].as_str()),
                Some("true")
            );
            let steps = bed.status().step_statuses;
            assert_eq!(steps[turn - 1].name.as_deref(), Some(name));
            // A failed one does not stop the next.
            let end = if turn == 1 {
                json!({"phase": "failed", "errorType": "resource_conflict", "failureReason": "changed since"})
            } else {
                done()
            };
            bed.set_status_of(&format!("u-step-{turn}"), end);
            bed.run_for(2);
        }
        let status = bed.status();
        assert_eq!(status.phase, Some(WorkflowPhase::Completed));
        assert_eq!(
            status.workflow_result.map(|result| result.outcome),
            Some(Outcome::PartialSuccess)
        );
        let warnings = status
            .validation_results
            .map(|results| results.warnings)
            .unwrap_or_default();
        assert_eq!(
            warnings,
            ["step 3 (s3) is not reversible: a restart can't be taken back"]
        );
    }
}

#[test]
fn what_can_not_be_undone_by_another_workflow_is_refused_in_planning() {
    let refused = |bed: &mut WorkflowHarness, words: &str| {
        bed.start();
        bed.run_for(2);
        let status = bed.status();
        assert_eq!(status.error_type, Some(ErrorType::ValidationError));
        let reason = status.failure_reason.unwrap_or_default();
        assert!(reason.contains(words), "{reason}");
        assert!(bed.executions.is_empty());
    };
    refused(
        &mut undoing("other-uid"),
        "is another one: its uid is not other-uid",
    );
    let mut gone = undoing("w-uid");
    gone.undone = Undone::default();
    refused(
        &mut gone,
        "there is no WorkflowExecution w in this namespace any more",
    );
    let mut running = undoing("w-uid");
    let mut workflow = running.undone.workflow.as_deref().cloned().expect("there");
    workflow.status.as_mut().expect("a status").phase = Some(WorkflowPhase::Executing);
    running.undone.workflow = Some(Arc::new(workflow));
    refused(&mut running, "has not ended: set spec.shutdown: Rollback");
}

#[test]
fn a_workflow_of_which_nothing_is_left_to_undo_ends_well() {
    let mut bed = undoing("w-uid");
    bed.undone.executions.clear();
    bed.start();
    bed.run_for(2);
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Completed));
    assert!(bed.executions.is_empty());
    let warnings = bed.status().validation_results.map(|results| results.warnings);
    let warnings = warnings.unwrap_or_default();
    assert_eq!(warnings.len(), 3);
    assert!(
        warnings[0].ends_with("its KubernetesExecution is gone, and with it what it recorded"),
        "{warnings:?}"
    );
}

#[test]
fn an_undo_that_can_not_be_made_yet_is_passed_over_by_no_earlier_change() {
    let mut bed = undoing("w-uid");
    bed.fail(|command| match command {
        ApiCommand::CreateExecution(execution) if execution.spec.step_number == 1 => {
            Some(failure(FailureClass::Quota, "no room"))
        }
        _ => None,
    });
    bed.start();
    bed.run_for(60);
    assert!(bed.executions.is_empty(), "{:?}", bed.executions.keys());
    bed.heal();
    bed.run_for(60);
    assert_eq!(bed.executions.keys().collect::<Vec<_>>(), ["u-step-1"]);
}

#[test]
fn what_was_undone_of_a_failed_step_is_not_undone_again() {
    let mut bed = failing("automatic");
    for number in [3, 1, 2] {
        bed.set_status_of(&format!("w-rollback-{number}"), done());
        bed.run_for(2);
    }
    let mut again = undoing("w-uid");
    again.undone = Undone {
        workflow: Some(Arc::new(bed.workflow.clone())),
        executions: bed.executions.into_values().map(Arc::new).collect(),
    };
    again.start();
    again.run_for(2);
    assert_eq!(again.status().phase, Some(WorkflowPhase::Completed));
    assert!(again.executions.is_empty(), "{:?}", again.executions.keys());
}

#[test]
fn clocks_do_not_undo_a_step_before_one_that_needed_it() {
    let mut bed = WorkflowHarness::new(&[
        cordon(1, json!({})),
        cordon(2, json!({"dependsOn": [1]})),
        cordon(3, json!({"dependsOn": [2], "criticalStep": true})),
    ]);
    bed.workflow.spec.execution_strategy.rollback_strategy = kubernaut_crds::RollbackStrategy::Automatic;
    bed.start();
    // Its controller's clock was ahead of that of the next one.
    bed.set_status(1, changed(30, "completed"));
    bed.run_for(2);
    bed.set_status(2, changed(2, "completed"));
    bed.run_for(2);
    bed.set_status(3, changed(1, "failed"));
    bed.run_for(2);
    for made in [vec![3], vec![2, 3], vec![1, 2, 3]] {
        assert_eq!(undos(&bed), made);
        let last = made[0];
        bed.set_status_of(&format!("w-rollback-{last}"), done());
        bed.run_for(2);
    }
}

#[test]
fn an_execution_that_is_deleted_keeps_what_it_recorded_until_it_was_undone() {
    let mut bed = failing("automatic");
    let deleted = |bed: &mut WorkflowHarness, name: &str| -> String {
        let mut execution = bed.executions[name].clone();
        let time = serde_json::from_value(json!("2027-01-15T08:02:00Z")).expect("a time");
        execution.metadata.deletion_timestamp = Some(time);
        execution.metadata.resource_version = Some("999".to_owned());
        bed.executions.insert(name.to_owned(), execution.clone());
        bed.event(WorkflowEvent::StepObserved(Arc::new(execution.clone())));
        execution.metadata.uid.expect("a uid")
    };
    let uid = deleted(&mut bed, "w-step-2");
    for number in [3, 1] {
        bed.run_for(5);
        assert!(bed.let_go.is_empty(), "{:?}", bed.let_go);
        bed.set_status_of(&format!("w-rollback-{number}"), done());
        bed.run_for(2);
    }
    bed.set_status_of("w-rollback-2", done());
    bed.run_for(2);
    assert_eq!(bed.let_go, [uid]);
    assert_eq!(undo_of(&bed, 2), Some(UndoState::Completed));
}

#[test]
fn what_is_to_be_undone_is_not_let_go_by_a_controller_that_finds_it_deleted() {
    let mut bed = flow("automatic");
    bed.start();
    bed.set_status(2, changed(1, "completed"));
    bed.set_status(1, changed(2, "completed"));
    bed.run_for(2);
    // The controller dies, a step fails, and somebody deletes the execution of another one.
    let time = serde_json::from_value(json!("2027-01-15T08:02:00Z")).expect("a time");
    let deleted = bed.executions.get_mut("w-step-2").expect("made");
    deleted.metadata.deletion_timestamp = Some(time);
    let failure = json!({"phase": "failed", "errorType": "unknown_error", "failureReason": "no"});
    let failed = bed.executions.get_mut("w-step-3").expect("made");
    failed.status = Some(serde_json::from_value(failure).expect("a status"));
    bed.start();
    bed.run_for(2);
    assert_eq!(bed.let_go, Vec::<String>::new());
}

#[test]
fn a_step_that_failed_and_is_gone_is_named() {
    let mut bed = flow("automatic");
    bed.start();
    bed.set_status(1, changed(1, "completed"));
    bed.run_for(2);
    bed.ask(json!({"shutdown": "Rollback"}));
    let gone = bed.executions.remove("w-step-2").expect("made");
    bed.event(WorkflowEvent::StepAbsent {
        uid: gone.metadata.uid.expect("a uid"),
    });
    // Another controller has never seen it: it may have had a Job.
    bed.start();
    bed.run_for(5);
    bed.set_status_of("w-rollback-1", done());
    bed.run_for(5);
    let reason = bed.status().failure_reason.unwrap_or_default();
    assert!(
        reason.contains("not reversible: 2 (s2) (the KubernetesExecution of step 2 (s2) is gone"),
        "{reason}"
    );
}

/// Steps 2 and 1 complete, a person asks for the undo while step 3 runs, and step 1 is undone.
fn undo_two_of_three(bed: &mut WorkflowHarness) {
    bed.start();
    bed.set_status(2, changed(1, "completed"));
    bed.set_status(1, changed(2, "completed"));
    bed.ask(json!({"shutdown": "Rollback"}));
    bed.set_status(
        3,
        json!({"phase": "failed", "errorType": "cancelled", "failureReason": "stopped"}),
    );
    bed.run_for(2);
    bed.set_status_of("w-rollback-1", done());
    bed.run_for(2);
}

#[test]
fn a_rollback_spec_that_asks_for_what_was_recorded_tests_what_is_there() {
    let mut bed = flow("automatic");
    let steps = &mut bed.workflow.spec.workflow_definition.steps;
    let spec = json!({"action": "uncordon-node", "parameters": {"uncordonNode": {"nodeName": "n"}}});
    steps[1].rollback_spec = Some(serde_json::from_value(spec).expect("a spec"));
    undo_two_of_three(&mut bed);
    assert_eq!(bed.executions["w-rollback-2"].spec.action, "undo");
}

#[test]
fn the_previous_deployment_is_what_the_step_recorded() {
    let mut bed = flow("automatic");
    let step = &mut bed.workflow.spec.workflow_definition.steps[1];
    step.action = "scale-deployment".to_owned();
    let web = json!({"namespace": "shop", "deployment": "web"});
    let mut scale = web.clone();
    scale["replicas"] = json!(3);
    step.parameters = serde_json::from_value(json!({"scaleDeployment": scale})).expect("parameters");
    let spec = json!({"action": "restore", "parameters": {"restorePreviousDeployment": web}});
    step.rollback_spec = Some(serde_json::from_value(spec).expect("a spec"));
    undo_two_of_three(&mut bed);
    assert_eq!(bed.executions["w-rollback-2"].spec.action, "undo");
}

#[test]
fn a_patch_whose_answer_was_lost_is_named() {
    let mut bed = flow("automatic");
    bed.workflow.spec.workflow_definition.steps[2].action = "patch-deployment".to_owned();
    bed.workflow.spec.workflow_definition.steps[2].parameters = serde_json::from_value(json!({"patchDeployment": {
        "namespace": "shop", "deployment": "web", "patchType": "merge", "patch": "{\"spec\": {\"replicas\": 3}}"}}))
    .expect("parameters");
    bed.start();
    bed.set_status(1, changed(1, "completed"));
    bed.set_status(2, changed(2, "completed"));
    bed.run_for(2);
    let mut lost = changed(3, "failed");
    lost["errorType"] = json!("job_failed");
    lost["attempts"][0]["errorType"] = json!("job_failed");
    lost["rollbackInformation"]["undo"] = json!(null);
    bed.set_status(3, lost);
    bed.run_for(2);
    assert_eq!(undo_of(&bed, 3), Some(UndoState::NotReversible));
}

#[test]
fn hints_come_in_the_order_in_which_they_are_to_be_followed_and_what_cleaned_up_has_none() {
    let mut bed = WorkflowHarness::new(&[
        cordon(1, json!({"dependsOn": [2]})),
        cordon(2, json!({})),
        cordon(3, json!({"dependsOn": [1], "criticalStep": true})),
        cordon(9, json!({"dependsOn": [2], "always": true})),
    ]);
    bed.workflow.spec.execution_strategy.rollback_strategy = kubernaut_crds::RollbackStrategy::Manual;
    let spec = json!({"action": "scale-deployment",
        "parameters": {"scaleToPrevious": {"namespace": "shop", "deployment": "web", "previousReplicas": 4}}});
    bed.workflow.spec.workflow_definition.steps[0].rollback_spec =
        Some(serde_json::from_value(spec).expect("a spec"));
    bed.start();
    bed.set_status(2, changed(1, "completed"));
    bed.run_for(2);
    bed.set_status(9, changed(2, "completed"));
    bed.set_status(1, changed(3, "completed"));
    bed.run_for(2);
    bed.set_status(3, changed(4, "failed"));
    bed.run_for(2);
    let result = bed.status().workflow_result.expect("a result");
    let hints: Vec<&str> = result.recommended_actions.iter().map(String::as_str).collect();
    assert_eq!(hints.len(), 3, "{hints:?}");
    assert!(hints[0].starts_with("to undo step 3 (s3): "), "{hints:?}");
    let of_rollback_spec = "to undo step 1 (s1): do what its rollbackSpec says (scale-deployment), or create a \
                            WorkflowExecution with spec.rollbackOf {name: w, uid: w-uid}";
    assert_eq!(hints[1], of_rollback_spec);
    assert!(hints[2].starts_with("to undo step 2 (s2): "), "{hints:?}");
}

#[test]
fn the_failed_step_is_the_one_that_failed_first() {
    let mut bed = WorkflowHarness::new(&[
        cordon(3, json!({"criticalStep": true})),
        cordon(7, json!({"criticalStep": true})),
        cordon(1, json!({"dependsOn": [7], "always": true, "criticalStep": true})),
    ]);
    bed.start();
    bed.set_status(7, changed(1, "failed"));
    bed.run_for(2);
    bed.set_status(1, changed(2, "failed"));
    bed.set_status(3, changed(3, "failed"));
    bed.run_for(2);
    assert_eq!(
        bed.status().failed_step,
        Some(7),
        "{:?}",
        bed.status().failure_reason
    );
}
