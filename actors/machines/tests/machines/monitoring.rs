//! The look at the end: after the window each outcome that counts is read once more.

use std::time::Duration;

use kubernaut_crds::{Outcome, ResourceHealth, StepState, WorkflowPhase};
use kubernaut_machines::api_command::{ApiCommand, FailureClass};
use serde_json::{Value, json};

use crate::step_harness::failure;
use crate::workflow_harness::{WorkflowHarness, cordon};

const BEGAN: &str = "2027-01-15T08:00:00.000000Z";

fn completed(second: u32) -> Value {
    let attempt = json!({"attempt": 1, "jobName": "j", "jobHash": "h", "startTime": BEGAN, "deadline": BEGAN, "outcome": "succeeded"});
    json!({"phase": "completed", "attempts": [attempt], "message": "done",
           "completionTime": format!("2027-01-15T08:01:{second:02}.000000Z"), "target": {"kind": "Node", "name": "n"}})
}

fn node(name: &str, cordoned: bool) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": "u"}, "spec": {"unschedulable": cordoned}})
}

/// All steps have completed, and the window has begun.
fn watched(steps: &[Value]) -> WorkflowHarness {
    let mut bed = WorkflowHarness::new(steps);
    bed.settings.monitoring_window = Duration::from_secs(30);
    bed.start();
    for (second, number) in (1..).zip(
        steps
            .iter()
            .map(|step| step["stepNumber"].as_i64().expect("a number")),
    ) {
        let number = i32::try_from(number).expect("small");
        bed.set_status(number, completed(second));
        bed.run_for(2);
    }
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Monitoring));
    bed
}

fn health(bed: &WorkflowHarness) -> (Option<Outcome>, Option<ResourceHealth>) {
    let result = bed.status().workflow_result;
    (
        result.as_ref().map(|result| result.outcome),
        result.as_ref().map(|result| result.resource_health),
    )
}

#[test]
fn after_the_window_all_is_looked_at_once_and_the_workflow_ends() {
    let mut bed = watched(&[cordon(1, json!({})), cordon(2, json!({"dependsOn": [1]}))]);
    bed.objects = vec![node("n1", true), node("n2", true)];
    let writes = bed.writes;
    bed.run_for(20);
    assert_eq!(
        (bed.reads, bed.writes),
        (0, writes),
        "no timer fires before its end"
    );
    bed.run_for(15);
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Completed));
    assert_eq!((bed.reads, bed.writes), (2, writes + 1));
    assert_eq!(
        health(&bed),
        (Some(Outcome::Success), Some(ResourceHealth::Healthy))
    );
}

#[test]
fn what_somebody_has_changed_since_is_told_and_is_no_failure() {
    let mut bed = watched(&[cordon(1, json!({})), cordon(2, json!({}))]);
    bed.objects = vec![node("n1", false), node("n2", true)];
    bed.run_for(40);
    assert_eq!(
        health(&bed),
        (Some(Outcome::Success), Some(ResourceHealth::Unknown))
    );
    let message = bed.status().message.unwrap_or_default();
    assert!(
        message.contains("step 1 (s1): changed since: node/n1: the node is schedulable"),
        "{message}"
    );
}

#[test]
fn a_rollout_that_is_not_well_any_more_leaves_a_success_in_part() {
    let scale = json!({"action": "scale-deployment",
        "parameters": {"cordonNode": null, "scaleDeployment": {"namespace": "shop", "deployment": "web", "replicas": 2}}});
    let mut bed = watched(&[cordon(1, scale)]);
    bed.objects = vec![json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "generation": 1},
        "spec": {"replicas": 2}, "status": {"observedGeneration": 1, "replicas": 2, "readyReplicas": 1}})];
    bed.run_for(40);
    assert_eq!(
        health(&bed),
        (Some(Outcome::PartialSuccess), Some(ResourceHealth::Unhealthy))
    );
    let message = bed.status().message.unwrap_or_default();
    assert!(
        message.contains("step 1 (s1) is not well any more: deployment/shop/web"),
        "{message}"
    );
    assert!(bed.events.contains(&"PartialSuccess"), "{:?}", bed.events);
}

#[test]
fn a_step_whose_target_a_later_one_took_over_is_not_looked_at() {
    let uncordon = json!({"action": "uncordon-node", "dependsOn": [1],
        "parameters": {"cordonNode": null, "uncordonNode": {"nodeName": "n1"}}});
    let mut bed = watched(&[cordon(1, json!({})), cordon(2, uncordon)]);
    bed.objects = vec![node("n1", false)];
    bed.run_for(40);
    assert_eq!(
        (bed.reads, health(&bed)),
        (1, (Some(Outcome::Success), Some(ResourceHealth::Healthy)))
    );
}

#[test]
fn a_target_that_can_not_be_read_leaves_its_health_unknown_and_one_that_is_late_is_asked_again() {
    for (class, expected) in [
        (FailureClass::Forbidden, ResourceHealth::Unknown),
        (FailureClass::Unknown, ResourceHealth::Healthy),
    ] {
        let mut bed = watched(&[cordon(1, json!({}))]);
        bed.objects = vec![node("n1", true)];
        bed.fail(move |command| matches!(command, ApiCommand::Read(_)).then(|| failure(class, "not now")));
        bed.run_for(35);
        bed.heal();
        bed.run_for(60);
        assert_eq!(
            health(&bed),
            (Some(Outcome::Success), Some(expected)),
            "{class:?}"
        );
    }
}

#[test]
fn cancel_ends_the_window_and_rollback_undoes_what_was_done() {
    let mut bed = watched(&[cordon(1, json!({}))]);
    bed.objects = vec![node("n1", true)];
    bed.ask(json!({"shutdown": "Cancel"}));
    assert_eq!(
        health(&bed),
        (Some(Outcome::Success), Some(ResourceHealth::Healthy))
    );
    let mut bed = watched(&[cordon(1, json!({}))]);
    bed.ask(json!({"shutdown": "Rollback"}));
    bed.run_for(5);
    let status = bed.status();
    assert_eq!(status.phase, Some(WorkflowPhase::Failed));
    assert_eq!(
        status.workflow_result.map(|result| result.outcome),
        Some(Outcome::Cancelled)
    );
    assert_eq!(
        bed.state_of(1),
        Some(StepState::Completed),
        "it recorded nothing to undo it by"
    );
    let phases: Vec<_> = bed
        .status()
        .phase_transitions
        .into_iter()
        .map(|transition| transition.phase)
        .collect();
    assert!(
        phases.ends_with(&[
            "monitoring".to_owned(),
            "rolling_back".to_owned(),
            "failed".to_owned()
        ]),
        "{phases:?}"
    );
}

#[test]
fn another_controller_goes_on_with_the_window_where_it_stands() {
    let mut bed = watched(&[cordon(1, json!({}))]);
    bed.objects = vec![node("n1", true)];
    bed.run_for(20);
    bed.start();
    bed.run_for(5);
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Monitoring));
    bed.run_for(10);
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Completed));
}

#[test]
fn a_step_whose_execution_is_gone_is_not_called_well() {
    let mut bed = watched(&[cordon(1, json!({})), cordon(2, json!({}))]);
    bed.objects = vec![node("n1", true), node("n2", true)];
    bed.executions.remove("w-step-2");
    bed.start();
    bed.run_for(60);
    assert_eq!(
        health(&bed),
        (Some(Outcome::Success), Some(ResourceHealth::Unknown))
    );
    let message = bed.status().message.unwrap_or_default();
    assert!(
        message.contains("step 2 (s2) could not be looked at again"),
        "{message}"
    );
}

#[test]
fn a_look_that_gets_no_answer_ends_in_time_and_at_once_when_it_is_cancelled() {
    for cancels in [false, true] {
        let mut bed = watched(&[cordon(1, json!({}))]);
        bed.fail(|command| {
            matches!(command, ApiCommand::Read(_)).then(|| failure(FailureClass::Unknown, "no answer"))
        });
        bed.run_for(40);
        assert_eq!(bed.status().phase, Some(WorkflowPhase::Monitoring));
        if cancels {
            bed.ask(json!({"shutdown": "Cancel"}));
            bed.run_for(15);
        } else {
            bed.run_for(90);
        }
        assert_eq!(bed.status().phase, Some(WorkflowPhase::Completed));
    }
}
