//! What is looked at before the first step, where a workflow asks for it.

use jiff::SignedDuration;
use kubernaut_crds::{ErrorType, WorkflowPhase};
use kubernaut_machines::api_command::{ApiCommand, FailureClass};
use kubernaut_machines::reads::Read;
use serde_json::{Value, json};

use crate::step_harness::{deployment, failure, merge};
use crate::workflow_harness::{WorkflowHarness, cordon};

#[allow(clippy::needless_pass_by_value, reason = "objects are made in place")]
fn checked(steps: &[Value], checks: Value) -> WorkflowHarness {
    let mut bed = WorkflowHarness::new(steps);
    let strategy = json!({"rollbackStrategy": "none", "safetyChecks": checks});
    bed.workflow.spec.execution_strategy = serde_json::from_value(strategy).expect("a strategy");
    bed
}

fn required(kind: &str) -> Value {
    json!([{"type": kind, "required": true, "description": "as agreed"}])
}

fn optional(kind: &str) -> Value {
    json!([{"type": kind}])
}

#[allow(clippy::needless_pass_by_value, reason = "objects are made in place")]
fn scale(number: i32, replicas: i32, more: Value) -> Value {
    let mut step = json!({"stepNumber": number, "name": format!("s{number}"), "action": "scale-deployment",
        "parameters": {"scaleDeployment": {"namespace": "shop", "deployment": "web", "replicas": replicas}}});
    merge(&mut step, &more);
    step
}

fn web(replicas: i32, available: i32) -> Value {
    let pod = json!({"template": {"spec": {"containers": [
        {"name": "app", "image": "app:1", "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}}]}}});
    let mut object = deployment(
        1,
        json!({"replicas": replicas}),
        json!({"availableReplicas": available}),
    );
    merge(&mut object["spec"], &pod);
    object
}

#[allow(clippy::needless_pass_by_value, reason = "objects are made in place")]
fn node(name: &str, cpu: &str, more: Value) -> Value {
    let mut node = json!({"kind": "Node", "metadata": {"name": name}, "spec": {},
        "status": {"allocatable": {"cpu": cpu, "memory": "64Gi", "pods": "110"},
                   "conditions": [{"type": "Ready", "status": "True"}]}});
    merge(&mut node, &more);
    node
}

fn warnings(bed: &WorkflowHarness) -> Vec<String> {
    bed.status()
        .validation_results
        .map(|results| results.warnings)
        .unwrap_or_default()
}

#[test]
fn a_target_that_is_not_there_fails_a_required_check_of_health_and_warns_in_another() {
    let mut bed = checked(&[scale(1, 3, json!({}))], required("health"));
    bed.start();
    let status = bed.status();
    assert_eq!(status.phase, Some(WorkflowPhase::Failed));
    assert_eq!(status.error_type, Some(ErrorType::ResourceNotFound));
    assert_eq!(
        (status.failed_step, status.failed_action.as_deref()),
        (Some(1), Some("scale-deployment"))
    );
    let words = "safety check health (as agreed) failed: step 1 (s1): deployment/shop/web does not exist";
    assert_eq!(status.failure_reason.as_deref(), Some(words));
    let results = status.validation_results.expect("results");
    assert!(!results.safety_checks_passed);
    assert_eq!(results.validation_errors, [words]);
    let validated = status
        .conditions
        .iter()
        .find(|c| c.r#type == "Validated")
        .expect("told");
    assert_eq!(validated.reason, "SafetyCheckFailed");

    let mut bed = checked(&[scale(1, 3, json!({}))], optional("health"));
    bed.start();
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Executing));
    assert_eq!(
        warnings(&bed),
        ["safety check health failed: step 1 (s1): deployment/shop/web does not exist"]
    );
    assert!(
        bed.status()
            .validation_results
            .expect("results")
            .safety_checks_passed
    );
}

#[test]
fn a_target_that_is_degraded_already_fails_the_check_of_health() {
    let sick = [
        (scale(1, 3, json!({})), web(3, 1), "1 of 3 replicas are available"),
        (
            cordon(1, json!({})),
            node(
                "n1",
                "4",
                json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}),
            ),
            "it is not Ready",
        ),
    ];
    for (step, object, words) in sick {
        let mut bed = checked(&[step], required("health"));
        bed.objects = vec![object];
        bed.start();
        let reason = bed.status().failure_reason.unwrap_or_default();
        assert!(
            reason.contains("is degraded: ") && reason.ends_with(words),
            "{reason}"
        );
        assert_eq!(bed.status().error_type, Some(ErrorType::ValidationError));
    }
    let mut bed = checked(&[scale(1, 3, json!({}))], required("health"));
    bed.objects = vec![web(3, 3)];
    bed.start();
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Executing));
}

#[test]
fn a_target_that_an_earlier_step_makes_is_no_failure() {
    let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap",
                          "metadata": {"name": "flags", "namespace": "shop"}, "data": {"a": "b"}});
    let made = json!({"stepNumber": 1, "name": "make", "action": "apply-manifest", "parameters": {"custom": {
        "actionType": "apply-manifest", "config": {"manifest": manifest.to_string()}}}});
    let set = |depends: Value| {
        json!({"stepNumber": 2, "name": "set", "action": "update-configmap", "dependsOn": depends,
               "parameters": {"updateConfigMap": {"namespace": "shop", "name": "flags", "dataUpdates": {"a": "c"}}}})
    };
    for (depends, phase) in [
        (json!([1]), WorkflowPhase::Executing),
        (json!([]), WorkflowPhase::Failed),
    ] {
        let mut bed = checked(&[made.clone(), set(depends)], required("health"));
        bed.settings.apply_manifest_kinds = vec!["ConfigMap".to_owned()];
        bed.start();
        assert_eq!(bed.status().phase, Some(phase), "{:?}", bed.status().message);
    }
}

#[test]
fn a_scale_up_without_room_is_a_warning_also_where_the_check_is_required() {
    let pod = |node: &str, cpu: &str| {
        json!({"kind": "Pod", "metadata": {"name": "p"}, "status": {"phase": "Running"}, "spec": {
            "nodeName": node, "containers": [{"resources": {"requests": {"cpu": cpu}}}]}})
    };
    let cordoned = node("n2", "64", json!({"spec": {"unschedulable": true}}));
    let roomy = [
        node("n1", "4", json!({})),
        cordoned.clone(),
        pod("n1", "1"),
        pod("n2", "60"),
    ];
    let full = [node("n1", "4", json!({})), cordoned, pod("n1", "3500m")];
    for (objects, is_short) in [(roomy.to_vec(), false), (full.to_vec(), true)] {
        let mut bed = checked(&[scale(1, 5, json!({}))], required("capacity"));
        bed.objects = objects;
        bed.objects.push(web(1, 1));
        bed.start();
        assert_eq!(bed.status().phase, Some(WorkflowPhase::Executing));
        let wanted = "safety check capacity (as agreed) failed: step 1 (s1): 4 more pods of deployment/shop/web ask for \
                      more CPU than the nodes that take pods have left";
        assert_eq!(warnings(&bed), if is_short { vec![wanted] } else { Vec::new() });
    }
}

#[test]
fn nodes_and_pods_are_read_only_where_something_grows() {
    let mut bed = checked(&[cordon(1, json!({}))], optional("capacity"));
    bed.start();
    assert!(
        bed.looked_at.iter().all(|read| matches!(read, Read::Get { .. })),
        "{:?}",
        bed.looked_at
    );
}

#[test]
fn an_api_server_that_takes_longer_than_a_second_three_times_fails_the_check_of_the_network() {
    for (slow, phase) in [(2, WorkflowPhase::Executing), (3, WorkflowPhase::Failed)] {
        let mut bed = checked(&[cordon(1, json!({}))], required("network"));
        let mut left = slow;
        bed.fail(move |command| {
            if left == 0 || !matches!(command, ApiCommand::Read(_)) {
                return None;
            }
            left -= 1;
            Some(failure(FailureClass::Unknown, "no answer within 10s"))
        });
        bed.start();
        bed.run_for(10);
        assert_eq!(bed.status().phase, Some(phase), "{slow}");
        if slow == 3 {
            assert_eq!(bed.status().error_type, Some(ErrorType::Timeout));
            let reason = bed.status().failure_reason.unwrap_or_default();
            assert!(reason.contains("no answer within 1 s"), "{reason}");
        }
    }
}

#[test]
fn a_late_answer_is_none() {
    use kubernaut_machines::workflow::{WorkflowCommand, WorkflowEvent, WorkflowMachine};
    use std::sync::Arc;

    let mut bed = checked(&[cordon(1, json!({}))], required("network"));
    bed.settings.authorization = false;
    let workflow = Arc::new(bed.workflow.clone());
    let mut machine = WorkflowMachine::restore(Arc::new(bed.settings.clone()), workflow.clone());
    let mut now = bed.now;
    let mut commands = machine.on_event(now, WorkflowEvent::Observed(workflow));
    let mut asked = 0;
    while let Some((id, ApiCommand::Read(reads))) = commands.iter().find_map(|command| match command {
        WorkflowCommand::Api { id, command, .. } => Some((*id, command.clone())),
        _ => None,
    }) {
        asked += 1;
        now += SignedDuration::from_millis(1001);
        let facts = reads.into_iter().map(|read| (read, Vec::new())).collect();
        let result = Ok(kubernaut_machines::api_command::ApiOutcome::ReadResults(facts));
        commands = machine.on_event(now, WorkflowEvent::Finished { id, result });
    }
    assert_eq!(asked, 3);
    let written = format!("{commands:?}");
    assert!(
        written.contains("safety check network (as agreed) failed"),
        "{written}"
    );
}

#[test]
fn a_read_that_is_refused_fails_the_check_that_needs_it() {
    let mut bed = checked(&[cordon(1, json!({}))], required("health"));
    bed.fail(|command| {
        matches!(command, ApiCommand::Read(_)).then(|| failure(FailureClass::Forbidden, "may not get nodes"))
    });
    bed.start();
    assert_eq!(bed.status().error_type, Some(ErrorType::InsufficientPermissions));
    let reason = bed.status().failure_reason.unwrap_or_default();
    assert!(
        reason.ends_with("it could not be made: may not get nodes"),
        "{reason}"
    );
}

#[test]
fn nothing_of_a_target_is_read_where_the_rights_fail_or_no_check_asks_for_it() {
    let mut bed = checked(&[cordon(1, json!({}))], required("health"));
    bed.fail(|command| {
        matches!(command, ApiCommand::CheckRights(_)).then(|| failure(FailureClass::Rejected, "no"))
    });
    bed.start();
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Failed));
    assert!(bed.looked_at.is_empty());
    for checks in [json!([]), required("rbac"), optional("rbac")] {
        let mut bed = checked(&[cordon(1, json!({}))], checks);
        bed.start();
        assert_eq!(bed.status().phase, Some(WorkflowPhase::Executing));
        assert!(bed.looked_at.is_empty());
        assert_eq!(bed.writes, 1);
    }
}
