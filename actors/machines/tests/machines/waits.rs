//! Waits for the lock, for a place, and for other flags; and what the status says of them.

use std::sync::Arc;
use std::time::Duration;

use kubernaut_crds::{ErrorType, ExecutionPhase, KubernetesExecutionStatus};
use kubernaut_machines::api_command::{ApiCommand, FailureClass};
use kubernaut_machines::step::{StepCommand, StepEvent, StepMachine};
use serde_json::{Value, json};

use crate::step_harness::{Grant, StepHarness, deployment, failure, restart, scale};

fn node(name: &str, cordoned: bool) -> Value {
    json!({"kind": "Node", "metadata": {"name": name}, "spec": {"unschedulable": cordoned}})
}

fn scaling() -> StepHarness {
    StepHarness::new(scale(3)).with([deployment(1, json!({}), json!({}))])
}

#[test]
fn a_refusal_that_was_read_without_the_lock_is_no_refusal_yet() {
    let restarting = || {
        let mut bed = StepHarness::new(restart()).with([deployment(1, json!({"paused": true}), json!({}))]);
        bed.lock = Grant::Busy;
        bed.start();
        assert_eq!(bed.phase(), Some(ExecutionPhase::Validating), "{}", bed.message());
        assert_eq!(
            bed.message(),
            "waits: the target is held by shop/other-step-1; as things are, it would then be refused: \
             deployment/shop/web is paused, so its pods would not change: resume it first"
        );
        bed
    };
    let mut bed = restarting();
    bed.set(deployment(2, json!({}), json!({})));
    bed.wait(600);
    bed.event(StepEvent::LockGranted);
    assert_eq!(bed.made.len(), 1, "{}", bed.message());
    // It counts when it is read under the lock.
    let mut bed = restarting();
    bed.event(StepEvent::LockGranted);
    assert_eq!(bed.status().error_type, Some(ErrorType::ValidationError));
    assert!(
        bed.message().starts_with("deployment/shop/web is paused"),
        "{}",
        bed.message()
    );
}

#[test]
fn whether_a_node_is_the_last_one_is_asked_once_and_under_the_lock() {
    let cordon = json!({"action": "cordon-node", "parameters": {"cordonNode": {"node": "n2"}}});
    let mut bed = StepHarness::new(cordon).with([node("n1", true), node("n2", false)]);
    bed.lock = Grant::Busy;
    bed.start();
    assert_eq!(bed.phase(), Some(ExecutionPhase::Validated), "{}", bed.message());
    assert_eq!(bed.message(), "waits: the target is held by shop/other-step-1");
    bed.event(StepEvent::LockGranted);
    assert!(
        bed.message().starts_with("node/n2 is the last schedulable node"),
        "{}",
        bed.message()
    );
}

#[test]
fn who_may_not_list_autoscalers_is_not_told_of_them_and_may_scale_all_the_same() {
    let hpa = json!({"kind": "HorizontalPodAutoscaler", "metadata": {"name": "web-hpa"},
                     "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}}});
    for may in [true, false] {
        let mut bed = StepHarness::new(scale(3)).with([deployment(1, json!({}), json!({})), hpa.clone()]);
        if !may {
            bed.withheld = Some("horizontalpodautoscalers");
        }
        bed.start();
        assert_eq!(bed.made.len(), 1, "{}", bed.message());
        let results = bed.status().validation_results.expect("results").dry_run_results;
        let warnings = results.map_or_else(Vec::new, |results| results.warnings);
        assert_eq!(warnings.len(), usize::from(may), "{warnings:?}");
    }
}

#[test]
fn the_time_for_validation_begins_when_the_lock_is_held() {
    let mut bed = StepHarness::new(scale(3));
    bed.lock = Grant::Busy;
    bed.start();
    bed.wait(600);
    let mut first = true;
    bed.fail(move |command| {
        (matches!(command, ApiCommand::Read(_)) && std::mem::take(&mut first))
            .then(|| failure(FailureClass::Unknown, "connection reset"))
    });
    bed.set(deployment(1, json!({}), json!({})));
    bed.event(StepEvent::LockGranted);
    bed.run_until(|bed| !bed.made.is_empty());
}

#[test]
fn the_state_before_is_read_after_the_wait_for_a_place() {
    let mut bed = scaling();
    bed.slot = Grant::Busy;
    bed.start();
    assert!(bed.message().contains("--max-running-jobs"), "{}", bed.message());
    bed.set(deployment(5, json!({"replicas": 2}), json!({})));
    bed.wait(600);
    bed.event(StepEvent::SlotGranted);
    assert_eq!(bed.attempts()[0].target_generation, Some(5));
    let rollback = bed
        .status()
        .rollback_information
        .and_then(|r| r.rollback_parameters);
    let previous = rollback
        .and_then(|parameters| parameters.scale_to_previous)
        .expect("replicas before");
    assert_eq!(previous.previous_replicas, 2);
}

#[test]
fn what_is_refused_gives_the_target_back_however_long_its_end_takes_to_be_recorded() {
    let mut bed = StepHarness::new(scale(3));
    bed.fail(|command| {
        matches!(command, ApiCommand::WriteExecutionStatus { .. })
            .then(|| failure(FailureClass::Unknown, "connection reset"))
    });
    bed.start();
    assert_eq!((bed.lock_released, bed.phase()), (true, None));
    bed.heal();
    bed.run_to_the_end();
    assert_eq!(bed.status().error_type, Some(ErrorType::ResourceNotFound));
}

#[test]
fn what_runs_keeps_the_target_until_its_end() {
    let mut bed = scaling();
    bed.start();
    bed.pod_fails("Error from server (NotFound): deployments.apps \"web\" not found");
    bed.run_to_the_end();
    assert_eq!(
        (bed.lock_released, bed.phase()),
        (false, Some(ExecutionPhase::Failed))
    );
}

#[test]
fn in_the_good_case_the_target_is_read_once_before_and_the_status_written_twice() {
    let mut bed = scaling();
    bed.start();
    bed.set(deployment(
        2,
        json!({"replicas": 3}),
        json!({"replicas": 3, "readyReplicas": 3}),
    ));
    bed.pod_succeeds("deployment.apps/web scaled");
    assert_eq!(bed.phase(), Some(ExecutionPhase::Completed));
    assert_eq!(
        bed.take_calls(),
        [
            "rights",
            "read",
            "write status",
            "create job",
            "read",
            "write status"
        ]
    );
}

#[test]
fn each_wait_names_what_it_is_for() {
    let mut bed = scaling();
    bed.lock = Grant::Busy;
    bed.slot = Grant::Busy;
    bed.start();
    assert_eq!(bed.message(), "waits: the target is held by shop/other-step-1");
    let writes = bed.count("write status");
    bed.event(StepEvent::LockGranted);
    let place = "waits: as many Jobs run as --max-running-jobs allows";
    assert_eq!(bed.message(), place);
    bed.wait(5);
    assert_eq!(bed.count("write status"), writes + 1, "a wait is written once");
    bed.event(StepEvent::SlotGranted);
    assert_eq!(bed.message(), "Replicas: 1 -> 3");
    // Between two attempts the place is asked for again.
    bed.pod_fails("Error from server (ServiceUnavailable): try again");
    bed.wait(2);
    assert_eq!(bed.message(), place);
    bed.event(StepEvent::SlotGranted);
    assert_eq!(
        (bed.made.len(), bed.message().as_str()),
        (2, "attempt 2: Replicas: 1 -> 3")
    );
}

#[test]
fn stricter_flags_end_nothing_that_runs_or_has_run() {
    let strict = |bed: &mut StepHarness| {
        bed.settings.max_step_timeout = Duration::from_secs(60);
        bed.settings.protected_namespaces.insert("shop".into());
        bed.settings.cluster_name = Some("other".into());
        bed.start();
    };
    let mut bed = scaling();
    bed.start();
    bed.pod_runs();
    strict(&mut bed);
    assert_eq!(bed.phase(), Some(ExecutionPhase::Executing), "{}", bed.message());
    bed.set(deployment(2, json!({"replicas": 3}), json!({"replicas": 3})));
    bed.pod_succeeds("scaled");
    strict(&mut bed);
    assert_eq!(
        bed.phase(),
        Some(ExecutionPhase::RollbackReady),
        "{}",
        bed.message()
    );
    bed.set(deployment(
        2,
        json!({"replicas": 3}),
        json!({"replicas": 3, "readyReplicas": 3}),
    ));
    bed.run_to_the_end();
    assert_eq!(bed.phase(), Some(ExecutionPhase::Completed));
    // What does not run yet is refused: one that has not begun, and the next attempt.
    let mut bed = scaling();
    strict(&mut bed);
    assert_eq!(bed.status().error_type, Some(ErrorType::ValidationError));
    let mut bed = scaling();
    bed.start();
    bed.pod_runs();
    strict(&mut bed);
    bed.pod_fails("Error from server (ServiceUnavailable): try again");
    bed.run_to_the_end();
    assert_eq!(
        (bed.made.len(), bed.status().error_type),
        (1, Some(ErrorType::ValidationError))
    );
}

#[test]
fn a_status_holds_no_text_that_is_longer_than_the_api_takes() {
    let data: serde_json::Map<String, Value> = (0..100)
        .map(|i| {
            (
                format!("SPRING_DATASOURCE_HIKARI_MAXIMUM_POOL_SIZE_{i}"),
                json!("v"),
            )
        })
        .collect();
    let long = "x".repeat(100_000);
    let spec = json!({"action": "update-configmap",
        "parameters": {"updateConfigMap": {"namespace": "shop", "configMap": "flags", "data": data}}});
    let old: serde_json::Map<String, Value> = data
        .keys()
        .map(|key| (key.clone(), json!("o".repeat(100))))
        .collect();
    let mut bed = StepHarness::new(spec)
        .with([json!({"kind": "ConfigMap", "metadata": {"name": "flags"}, "data": old})]);
    bed.start();
    let status = bed.status();
    let before = status.execution_results.expect("results").resources_affected[0]
        .before
        .clone();
    assert!(before.is_some_and(|before| before.len() <= 4096 && before.ends_with("(cut)")));
    // The state before is whole.
    let rollback = status
        .rollback_information
        .and_then(|r| r.rollback_parameters)
        .expect("a way back");
    let previous = rollback.restore_previous_config.expect("the keys").previous_spec;
    assert!(previous.len() > 4096 && serde_json::from_str::<Value>(&previous).is_ok());
    bed.pod_fails(&format!("Error from server (ServiceUnavailable): {long}"));
    assert!(bed.message().len() <= 4096);
}

#[test]
fn a_status_that_the_api_refuses_becomes_a_short_one_that_says_so() {
    let mut bed = scaling();
    bed.fail(|command| match command {
        ApiCommand::WriteExecutionStatus { patch, .. } if patch["status"]["executionResults"].is_object() => {
            Some(failure(
                FailureClass::Rejected,
                "status.executionResults: Too long",
            ))
        }
        _ => None,
    });
    bed.start();
    assert_eq!(bed.phase(), Some(ExecutionPhase::Failed));
    assert_eq!(
        bed.message(),
        "the API server refused the status of this execution: status.executionResults: Too long"
    );
    let phases: Vec<String> = bed
        .status()
        .phase_transitions
        .iter()
        .map(|t| t.phase.clone())
        .collect();
    assert_eq!(phases, ["validating", "failed"]);
    assert!(bed.stopped && bed.made.is_empty());
    // One that is refused whatever it says is tried with pauses.
    let mut bed = scaling();
    bed.fail(|command| {
        matches!(command, ApiCommand::WriteExecutionStatus { .. })
            .then(|| failure(FailureClass::Rejected, "no"))
    });
    bed.start();
    let start = bed.now;
    bed.run_until(|bed| bed.now.duration_since(start).as_secs() > 60);
    assert!(bed.count("write status") < 20);
    bed.heal();
    bed.run_to_the_end();
    assert_eq!(bed.phase(), Some(ExecutionPhase::Failed));
}

#[test]
fn a_job_that_ended_while_no_controller_ran_is_concluded_without_a_place() {
    let mut bed = StepHarness::new(scale(2)).with([deployment(1, json!({}), json!({}))]);
    bed.start();
    assert_eq!(bed.phase(), Some(ExecutionPhase::Executing));
    bed.set(deployment(
        2,
        json!({"replicas": 2}),
        json!({"replicas": 2, "readyReplicas": 2, "updatedReplicas": 2}),
    ));
    bed.pod_succeeds("scaled");
    // The next controller gives all its places to others.
    bed.slot = Grant::Busy;
    bed.execution.status = Some(executing(&bed));
    bed.start();
    assert_eq!(bed.phase(), Some(ExecutionPhase::Completed), "{}", bed.message());
}

/// The status as it was when the Job ran.
fn executing(bed: &StepHarness) -> KubernetesExecutionStatus {
    let mut status = bed.status();
    status.phase = Some(ExecutionPhase::Executing);
    status.completion_time = None;
    for attempt in &mut status.attempts {
        (attempt.outcome, attempt.end_time) = (None, None);
    }
    status
}

#[test]
fn a_step_that_waits_gives_the_slot_back_that_it_came_with_unless_its_job_may_run() {
    let releases = |status: Value| {
        let mut bed = StepHarness::new(json!({
            "action": "cordon-node", "parameters": {"cordonNode": {"node": "n"}}}));
        bed.execution.status = serde_json::from_value(status).expect("a status");
        let execution = Arc::new(bed.execution.clone());
        let settings = Arc::new(bed.settings.clone());
        let mut machine = StepMachine::restore(settings, execution.clone(), true);
        let mut commands = machine.on_event(bed.now, StepEvent::Observed(execution));
        let reason = "the target is held by shop/other-step-1".to_owned();
        commands.extend(machine.on_event(bed.now, StepEvent::LockBusy { reason }));
        commands.contains(&StepCommand::ReleaseSlot)
    };
    assert!(releases(json!(null)));
    let attempt = json!({"attempt": 1, "jobName": "fix-step-1-0000000000-1", "jobHash": "h",
        "startTime": "2027-01-15T08:00:00.000000Z", "deadline": "2027-01-15T08:05:00.000000Z"});
    // After a restart: the slot is that of the Job.
    assert!(!releases(
        json!({"phase": "executing", "attempt": 1, "attempts": [attempt]})
    ));
}
