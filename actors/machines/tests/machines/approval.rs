//! Workflows and executions that wait for people.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kubernaut_crds::{
    Approval, ApprovalSource, ErrorType, ExecutionPhase, KubernetesExecution, WorkflowPhase,
};
use kubernaut_machines::api_command::{ApiCommand, FailureClass};
use kubernaut_machines::approval::{Requirement, Seen};
use kubernaut_machines::step::StepEvent;
use kubernaut_machines::workflow::WorkflowEvent;
use serde_json::{Value, json};

use crate::step_harness::{Grant, StepHarness, deployment, failure, merge, scale};
use crate::workflow_harness::{WorkflowHarness, cordon};

fn approval(by: &str, object_ref: &Value, made: Timestamp, more: &Value) -> Arc<Approval> {
    let mut object = json!({
        "apiVersion": "workflow.kubernaut.io/v1", "kind": "Approval",
        "metadata": {"name": format!("by-{by}"), "namespace": "shop", "creationTimestamp": made.to_string()},
        "spec": {"objectRef": object_ref, "decision": "Approved", "approver": by},
    });
    merge(&mut object, more);
    Arc::new(serde_json::from_value(object).expect("an Approval"))
}

fn seen(requirement: Requirement, approvals: Vec<Arc<Approval>>) -> Arc<Seen> {
    Arc::new(Seen {
        requirement,
        guard: Ok(Timestamp::UNIX_EPOCH),
        approvals,
    })
}

/// Of the workflow, made now.
fn of_the_workflow(bed: &WorkflowHarness, by: &str, more: &Value) -> Arc<Approval> {
    let object_ref = json!({"kind": "WorkflowExecution", "name": "w", "uid": "w-uid"});
    approval(by, &object_ref, bed.now, more)
}

fn tell(bed: &mut WorkflowHarness, requirement: Requirement, approvals: Vec<Arc<Approval>>) {
    bed.event(WorkflowEvent::ApprovalsSeen(seen(requirement, approvals)));
}

/// A workflow of two steps by eve that needs an approval.
fn asking() -> WorkflowHarness {
    let mut bed = WorkflowHarness::new(&[cordon(1, json!({})), cordon(2, json!({}))]);
    bed.workflow.spec.execution_strategy.approval_required = true;
    bed.workflow.metadata.annotations =
        Some([("kubernaut.io/created-by".to_owned(), "eve".to_owned())].into());
    bed
}

/// It waits, as the watches show it.
fn waiting() -> WorkflowHarness {
    let mut bed = asking();
    bed.start();
    tell(&mut bed, Requirement::None, Vec::new());
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Validating));
    assert!(bed.creates.is_empty());
    bed
}

fn approved(bed: &WorkflowHarness) -> (String, String) {
    let conditions = bed.status().conditions;
    let found = conditions
        .into_iter()
        .find(|condition| condition.r#type == "Approved");
    found.map_or_else(Default::default, |condition| (condition.status, condition.reason))
}

fn stands(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

#[test]
fn a_workflow_waits_for_its_approval_with_no_slot_and_one_timer() {
    let mut bed = waiting();
    assert_eq!(approved(&bed), stands("False", "ApprovalRequired"));
    let message = bed.status().message.expect("a message");
    assert!(
        message.contains("(0 of 1)") && message.contains("w-uid"),
        "{message}"
    );
    assert_eq!(bed.events, ["ApprovalRequired"]);
    assert_eq!(bed.wanted_slots, 0);
    let writes = bed.writes;
    // Whatever is seen again is no news.
    tell(&mut bed, Requirement::None, Vec::new());
    let from = bed.now;
    bed.run_for(3599);
    assert_eq!(bed.now, from + SignedDuration::from_secs(3599));
    assert_eq!(bed.writes, writes);
    bed.run_for(1);
    assert_eq!(bed.status().error_type, Some(ErrorType::ApprovalTimeout));
    assert_eq!(approved(&bed), stands("False", "ApprovalTimeout"));
    assert!(bed.creates.is_empty());
}

#[test]
fn a_deadline_is_that_of_the_first_wait_whatever_controllers_do() {
    let mut bed = waiting();
    bed.run_for(3000);
    bed.start();
    tell(&mut bed, Requirement::None, Vec::new());
    bed.run_for(601);
    assert_eq!(bed.status().error_type, Some(ErrorType::ApprovalTimeout));
}

#[test]
fn an_approved_workflow_records_who_approved_and_then_releases_each_step() {
    let mut bed = waiting();
    let ana = of_the_workflow(&bed, "ana", &json!({"spec": {"reason": "seen"}}));
    tell(&mut bed, Requirement::None, vec![ana]);
    let status = bed.status();
    assert_eq!(status.phase, Some(WorkflowPhase::Executing));
    let approvers = status.approval.expect("an approval").approvers;
    assert_eq!(approvers.len(), 1);
    assert_eq!(
        (approvers[0].name.as_str(), approvers[0].approval.as_str()),
        ("ana", "by-ana")
    );
    let results = status.validation_results.expect("results");
    assert!(results.approval_received && results.approval_timestamp.is_some());
    assert_eq!(results.approved_by.as_deref(), Some("ana"));
    assert_eq!(approved(&bed), stands("True", "Approved"));
    assert_eq!(bed.events, ["ApprovalRequired", "Approved", "WorkflowStarted"]);
    for step in [1, 2] {
        let spec = &bed.executions[&format!("w-step-{step}")].spec;
        assert!(spec.approval_received, "step {step}");
        assert_eq!(spec.approved_by.as_deref(), Some("ana"));
        bed.complete(step);
    }
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Completed));
}

#[test]
fn an_execution_is_made_unreleased_and_only_after_the_approval_is_recorded() {
    let mut bed = waiting();
    let records = Rc::new(Cell::new(0));
    let (count, recorded) = (Rc::clone(&records), Rc::new(Cell::new(false)));
    bed.fail(move |command| {
        match command {
            ApiCommand::WriteWorkflowStatus { patch, .. } if !patch["status"]["approval"].is_null() => {
                count.set(count.get() + 1);
                if count.get() == 1 {
                    return Some(failure(FailureClass::Unknown, "lost"));
                }
                recorded.set(true);
            }
            ApiCommand::CreateExecution(execution) => {
                assert!(recorded.get(), "made before the approval was recorded");
                assert!(!execution.spec.approval_received && execution.spec.approved_by.is_none());
            }
            _ => {}
        }
        None
    });
    let ana = of_the_workflow(&bed, "ana", &json!({}));
    tell(&mut bed, Requirement::None, vec![ana]);
    assert!(bed.creates.is_empty());
    bed.run_for(30);
    assert_eq!((records.get(), bed.creates.len()), (2, 2));
}

#[test]
fn a_release_that_conflicts_or_is_lost_is_made_again() {
    for class in [
        FailureClass::Conflict,
        FailureClass::Unknown,
        FailureClass::Forbidden,
    ] {
        let mut bed = waiting();
        let tries = Rc::new(Cell::new(0));
        let count = Rc::clone(&tries);
        bed.fail(move |command| {
            let is_release = matches!(command, ApiCommand::PatchExecution { .. });
            count.set(count.get() + usize::from(is_release));
            (is_release && count.get() <= 2).then(|| failure(class, "not now"))
        });
        let ana = of_the_workflow(&bed, "ana", &json!({}));
        tell(&mut bed, Requirement::None, vec![ana]);
        bed.run_for(30);
        assert!(tries.get() > 2, "{class:?}");
        for execution in bed.executions.values() {
            assert_eq!(execution.spec.approved_by.as_deref(), Some("ana"), "{class:?}");
        }
    }
}

#[test]
fn a_controller_that_dies_before_a_release_has_it_made_by_the_next_one() {
    let mut bed = waiting();
    bed.fail(|command| {
        matches!(command, ApiCommand::PatchExecution { .. }).then(|| failure(FailureClass::Unknown, "died"))
    });
    let ana = of_the_workflow(&bed, "ana", &json!({}));
    tell(&mut bed, Requirement::None, vec![ana]);
    assert!(
        bed.executions
            .values()
            .all(|execution| !execution.spec.approval_received)
    );
    bed.heal();
    bed.start();
    // The Approval may be gone by now: what was recorded counts.
    tell(&mut bed, Requirement::None, Vec::new());
    bed.run_for(30);
    assert_eq!(bed.executions.len(), 2);
    assert!(
        bed.executions
            .values()
            .all(|execution| execution.spec.approval_received)
    );
}

#[test]
fn a_rejection_ends_a_workflow_that_waits() {
    let mut bed = waiting();
    let no = json!({"spec": {"decision": "Rejected", "reason": "not on a Friday"}});
    let rejection = of_the_workflow(&bed, "bob", &no);
    tell(&mut bed, Requirement::None, vec![rejection]);
    let status = bed.status();
    assert_eq!(status.error_type, Some(ErrorType::ApprovalRejected));
    assert_eq!(
        status.failure_reason.as_deref(),
        Some("rejected by bob: not on a Friday")
    );
    assert_eq!(bed.events, ["ApprovalRequired", "Rejected", "WorkflowFailed"]);
    assert!(bed.creates.is_empty());
}

#[test]
fn who_created_a_workflow_does_not_approve_it() {
    let mut bed = waiting();
    let own = of_the_workflow(&bed, "eve", &json!({}));
    tell(&mut bed, Requirement::None, vec![own]);
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Validating));
    let message = bed.status().message.expect("a message");
    assert!(message.contains("its approver created the object"), "{message}");
    assert!(bed.creates.is_empty());
}

#[test]
fn a_workflow_in_a_namespace_that_requires_approval_waits_whatever_it_says() {
    let mut bed = asking();
    bed.workflow.spec.execution_strategy.approval_required = false;
    bed.free_slots = 0;
    bed.start();
    // Nothing of it is known when the controller begins to look.
    let mut bed = {
        let mut other = asking();
        other.workflow.spec.execution_strategy.approval_required = false;
        other.fail(|command| {
            matches!(command, ApiCommand::CheckRights(_)).then(|| failure(FailureClass::Unknown, "slow"))
        });
        other.start();
        other
    };
    tell(&mut bed, Requirement::Unknown, Vec::new());
    bed.heal();
    bed.run_for(5);
    assert!(bed.creates.is_empty());
    tell(&mut bed, Requirement::Required, Vec::new());
    assert_eq!(approved(&bed), stands("False", "ApprovalRequired"));
    let ana = of_the_workflow(&bed, "ana", &json!({}));
    tell(&mut bed, Requirement::Required, vec![ana]);
    assert_eq!(bed.executions.len(), 2);
    assert!(
        bed.executions
            .values()
            .all(|ke| ke.spec.approved_by.as_deref() == Some("ana"))
    );
}

#[test]
fn another_plan_than_the_one_that_was_shown_is_asked_for_anew() {
    let mut bed = waiting();
    let status = bed.workflow.status.as_mut().expect("a status");
    status.execution_plan.as_mut().expect("a plan").digest = Some("0".repeat(64));
    bed.run_for(10);
    let ana = of_the_workflow(&bed, "ana", &json!({}));
    bed.run_for(10);
    bed.start();
    tell(&mut bed, Requirement::None, vec![ana.clone()]);
    let message = bed.status().message.expect("a message");
    assert!(message.contains("the plan has changed since"), "{message}");
    bed.start();
    tell(&mut bed, Requirement::None, vec![ana]);
    assert!(bed.creates.is_empty(), "another controller thinks otherwise");
    bed.run_for(10);
    let digest = bed.status().execution_plan.expect("a plan").digest;
    let again = of_the_workflow(&bed, "ana", &json!({"spec": {"planDigest": digest}}));
    tell(&mut bed, Requirement::None, vec![again]);
    assert_eq!(bed.creates.len(), 2);
}

#[test]
fn an_execution_that_says_it_was_approved_is_not_taken_for_the_workflows() {
    let mut bed = waiting();
    let mut forged = bed.planned(1);
    forged.spec.approval_received = true;
    forged.spec.approved_by = Some("ana".to_owned());
    let forged = bed.put(forged);
    bed.event(WorkflowEvent::StepObserved(forged));
    bed.run_for(60);
    assert!(bed.creates.is_empty());
    assert_eq!(bed.status().phase, Some(WorkflowPhase::Validating));
    let ana = of_the_workflow(&bed, "ana", &json!({}));
    tell(&mut bed, Requirement::None, vec![ana]);
    assert!(
        bed.reason_of(1)
            .contains("says that it was approved, while the workflow was not")
    );
}

#[test]
fn a_workflow_that_waits_for_approval_can_be_cancelled() {
    let mut bed = waiting();
    bed.workflow.spec.shutdown = Some(kubernaut_crds::Shutdown::Cancel);
    bed.workflow.metadata.resource_version = Some("900".to_owned());
    let cancelled = Arc::new(bed.workflow.clone());
    bed.event(WorkflowEvent::Observed(cancelled));
    let status = bed.status();
    assert_eq!(status.phase, Some(WorkflowPhase::Failed));
    assert_eq!(status.error_type, Some(ErrorType::Cancelled));
    assert!(bed.creates.is_empty());
}

#[test]
fn what_is_cancelled_is_not_released() {
    let mut bed = waiting();
    bed.fail(|command| {
        let ApiCommand::PatchExecution { change, .. } = command else {
            return None;
        };
        change
            .approval
            .is_some()
            .then(|| failure(FailureClass::Unknown, "slow"))
    });
    let ana = of_the_workflow(&bed, "ana", &json!({}));
    tell(&mut bed, Requirement::None, vec![ana]);
    assert_eq!(bed.executions.len(), 2);
    bed.workflow.spec.shutdown = Some(kubernaut_crds::Shutdown::Cancel);
    bed.workflow.metadata.resource_version = Some("900".to_owned());
    bed.heal();
    let cancelled = Arc::new(bed.workflow.clone());
    bed.event(WorkflowEvent::Observed(cancelled));
    bed.run_for(30);
    for execution in bed.executions.values() {
        assert!(!execution.spec.approval_received && execution.spec.shutdown.is_some());
    }
}

// Executions.

fn of_the_execution(bed: &StepHarness, by: &str, more: &Value) -> Arc<Approval> {
    let object_ref = json!({"kind": "KubernetesExecution", "name": "fix-step-1", "uid": "uid-1"});
    approval(by, &object_ref, bed.now, more)
}

fn told(bed: &mut StepHarness, requirement: Requirement, approvals: Vec<Arc<Approval>>) {
    bed.event(StepEvent::ApprovalsSeen(seen(requirement, approvals)));
}

fn unapproved() -> StepHarness {
    let mut bed = StepHarness::new(scale(3)).with([deployment(1, json!({}), json!({}))]);
    bed.execution.spec.approval_received = false;
    bed.execution.metadata.annotations =
        Some([("kubernaut.io/created-by".to_owned(), "eve".to_owned())].into());
    bed
}

fn held() -> StepHarness {
    let mut bed = unapproved();
    bed.start();
    told(&mut bed, Requirement::None, Vec::new());
    assert_eq!(
        bed.phase(),
        Some(ExecutionPhase::WaitingApproval),
        "{}",
        bed.message()
    );
    bed
}

fn phases(bed: &StepHarness) -> Vec<String> {
    let entered = bed.status().phase_transitions.into_iter();
    entered.map(|entered| entered.phase).collect()
}

fn is_made_by_the_workflow(bed: &mut StepHarness) {
    let owner = json!([{"apiVersion": "workflow.kubernaut.io/v1", "kind": "WorkflowExecution", "name": "fix",
                        "uid": "w-uid", "controller": true}]);
    bed.execution.metadata.owner_references = serde_json::from_value(owner).expect("owners");
}

fn release(bed: &mut StepHarness, by: Option<&str>, version: &str) {
    let mut released: KubernetesExecution = bed.execution.clone();
    released.spec.approval_received = true;
    released.spec.approved_by = by.map(str::to_owned);
    released.metadata.resource_version = Some(version.to_owned());
    bed.execution = released.clone();
    bed.event(StepEvent::Observed(Arc::new(released)));
}

#[test]
fn an_execution_waits_for_its_approval_without_the_lock_and_is_told_once() {
    let mut bed = held();
    assert!(
        bed.message().contains("spec.objectRef.uid uid-1"),
        "{}",
        bed.message()
    );
    assert!(bed.made.is_empty());
    bed.take_calls();
    told(&mut bed, Requirement::None, Vec::new());
    let own = of_the_execution(&bed, "eve", &json!({}));
    told(&mut bed, Requirement::None, vec![own.clone()]);
    assert!(
        bed.message().contains("its approver created the object"),
        "{}",
        bed.message()
    );
    told(&mut bed, Requirement::None, vec![own]);
    assert_eq!(bed.take_calls(), ["write status"]);
    bed.wait(30);
    let ana = of_the_execution(&bed, "ana", &json!({}));
    told(&mut bed, Requirement::None, vec![ana]);
    assert_eq!(bed.phase(), Some(ExecutionPhase::Executing), "{}", bed.message());
    assert_eq!(
        phases(&bed),
        ["validating", "validated", "waiting_approval", "executing"]
    );
    let approval = bed.status().approval.expect("an approval");
    assert_eq!(
        (approval.source, approval.approved_by.as_deref()),
        (ApprovalSource::Execution, Some("ana"))
    );
    assert_eq!(bed.made.len(), 1);
    assert_eq!(
        bed.published
            .iter()
            .filter(|note| note.contains("approv"))
            .count(),
        2,
        "{:?}",
        bed.published
    );
}

#[test]
fn after_a_long_wait_all_is_checked_again() {
    let mut bed = held();
    bed.wait(90);
    bed.may = false;
    let ana = of_the_execution(&bed, "ana", &json!({}));
    told(&mut bed, Requirement::None, vec![ana]);
    assert_eq!(bed.status().error_type, Some(ErrorType::InsufficientPermissions));
    assert_eq!(
        phases(&bed),
        [
            "validating",
            "validated",
            "waiting_approval",
            "validated",
            "failed"
        ]
    );
    assert!(bed.made.is_empty());
}

#[test]
fn the_lock_is_asked_for_when_the_approval_is_there() {
    let mut bed = unapproved();
    bed.lock = Grant::Busy;
    bed.start();
    told(&mut bed, Requirement::None, Vec::new());
    assert_eq!(
        bed.phase(),
        Some(ExecutionPhase::WaitingApproval),
        "{}",
        bed.message()
    );
    let ana = of_the_execution(&bed, "ana", &json!({}));
    told(&mut bed, Requirement::None, vec![ana]);
    assert_eq!(bed.phase(), Some(ExecutionPhase::Validated));
    assert_eq!(bed.message(), "waits: the target is held by shop/other-step-1");
    // What was approved stays approved, also for the next controller.
    bed.start();
    told(&mut bed, Requirement::None, Vec::new());
    bed.event(StepEvent::LockGranted);
    assert_eq!(bed.made.len(), 1, "{}", bed.message());
}

#[test]
fn a_rejected_execution_and_one_that_nobody_approves_fail() {
    let mut bed = held();
    let no = of_the_execution(&bed, "bob", &json!({"spec": {"decision": "Rejected"}}));
    told(&mut bed, Requirement::None, vec![no]);
    assert_eq!(bed.status().error_type, Some(ErrorType::ApprovalRejected));
    assert_eq!(bed.message(), "rejected by bob: without a reason");
    let mut bed = held();
    let from = bed.now;
    bed.run_to_the_end();
    assert_eq!(bed.status().error_type, Some(ErrorType::ApprovalTimeout));
    assert_eq!(bed.now, from + SignedDuration::from_hours(1));
    assert!(bed.made.is_empty());
}

#[test]
fn one_that_its_workflow_releases_at_once_waits_without_a_word() {
    let mut bed = unapproved();
    is_made_by_the_workflow(&mut bed);
    bed.start();
    assert_eq!(bed.count("write status"), 0);
    release(&mut bed, Some("ana, bob"), "50");
    assert_eq!(bed.made.len(), 1, "{}", bed.message());
    assert_eq!(phases(&bed), ["validating", "validated", "executing"]);
    let approval = bed.status().approval.expect("an approval");
    assert_eq!(
        (approval.source, approval.approved_by.as_deref()),
        (ApprovalSource::Workflow, Some("ana, bob"))
    );
}

#[test]
fn one_that_its_workflow_releases_late_says_that_it_waits_and_gives_its_slot_back() {
    let mut bed = unapproved();
    is_made_by_the_workflow(&mut bed);
    bed.start();
    bed.wait(1);
    assert_eq!(bed.count("write status"), 0);
    bed.wait(1);
    assert_eq!(
        bed.phase(),
        Some(ExecutionPhase::WaitingApproval),
        "{}",
        bed.message()
    );
    assert!(bed.made.is_empty());
    // Whoever created the workflow does not approve its step either; somebody else may.
    let own = of_the_execution(&bed, "eve", &json!({}));
    told(&mut bed, Requirement::None, vec![own]);
    assert!(bed.made.is_empty());
    release(&mut bed, Some("ana"), "50");
    assert_eq!(bed.made.len(), 1, "{}", bed.message());
}

#[test]
fn one_made_by_hand_waits_where_the_namespace_requires_it_and_a_workflows_does_not_wait_twice() {
    let mut bed = unapproved();
    bed.execution.spec.approval_received = true;
    // The namespace is seen before the execution is, as a watch of it that lags shows.
    bed.lock = Grant::Busy;
    bed.start();
    told(&mut bed, Requirement::Required, Vec::new());
    bed.event(StepEvent::LockGranted);
    assert_eq!(
        bed.phase(),
        Some(ExecutionPhase::WaitingApproval),
        "{}",
        bed.message()
    );
    assert!(bed.lock_released && bed.made.is_empty());
    bed.lock = Grant::AtOnce;
    let ana = of_the_execution(&bed, "ana", &json!({}));
    told(&mut bed, Requirement::Required, vec![ana]);
    assert_eq!(bed.made.len(), 1, "{}", bed.message());
    let mut bed = unapproved();
    bed.execution.spec.approval_received = true;
    is_made_by_the_workflow(&mut bed);
    bed.lock = Grant::Busy;
    bed.start();
    told(&mut bed, Requirement::Required, Vec::new());
    bed.event(StepEvent::LockGranted);
    assert_eq!(bed.made.len(), 1, "{}", bed.message());
}

#[test]
fn one_that_waits_is_stopped_by_shutdown() {
    let mut bed = held();
    bed.execution.spec.shutdown = Some(kubernaut_crds::ExecutionShutdown::Cancel);
    bed.execution.metadata.resource_version = Some("60".to_owned());
    let cancelled = Arc::new(bed.execution.clone());
    bed.event(StepEvent::Observed(cancelled));
    assert_eq!(
        bed.status().error_type,
        Some(ErrorType::Cancelled),
        "{}",
        bed.message()
    );
    assert!(bed.made.is_empty());
}
