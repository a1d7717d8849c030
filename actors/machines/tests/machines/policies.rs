//! When the policies are asked, and what follows from their verdict.

use std::sync::Arc;

use jiff::Timestamp;
use kubernaut_crds::{ErrorType, ExecutionPhase};
use kubernaut_machines::api_command::{ApiCommand, FailureClass};
use kubernaut_machines::approval::{Requirement, Seen};
use kubernaut_machines::policy::Verdict;
use kubernaut_machines::step::StepEvent;
use serde_json::{Value, json};

use crate::step_harness::{Grant, StepHarness, deployment, failure, scale};

const POLICY: &str = "kubernaut.execution@1";

fn scaling(verdict: Verdict) -> StepHarness {
    scaling_as(&json!({}), verdict)
}

fn scaling_as(spec: &Value, verdict: Verdict) -> StepHarness {
    let mut all = scale(3);
    for (name, value) in spec.as_object().into_iter().flatten() {
        all[name] = value.clone();
    }
    let mut bed =
        StepHarness::new(all).with([deployment(1, json!({"replicas": 2}), json!({"readyReplicas": 2}))]);
    bed.settings.policy = true;
    bed.verdict = verdict;
    bed
}

fn allowed() -> Verdict {
    Verdict {
        policy: POLICY.to_owned(),
        ..Verdict::default()
    }
}

fn denied() -> Verdict {
    Verdict {
        violations: vec!["not on Fridays".to_owned()],
        ..Verdict::denied(POLICY, "its rule allow (a.rego) is false")
    }
}

fn asked(bed: &StepHarness) -> usize {
    bed.count("judge")
}

/// Status and reason of the condition PolicyAllowed; empty where it is not there.
fn condition(bed: &StepHarness) -> String {
    let conditions = bed.status().conditions;
    let found = conditions
        .into_iter()
        .find(|found| found.r#type == "PolicyAllowed");
    found.map_or_else(String::new, |found| format!("{} {}", found.status, found.reason))
}

#[test]
fn without_policies_nobody_is_asked_and_nothing_is_said_of_them() {
    let mut bed = scaling(denied());
    bed.settings.policy = false;
    bed.start();
    assert_eq!(bed.made.len(), 1, "{}", bed.message());
    assert_eq!(asked(&bed), 0);
    assert_eq!(condition(&bed), "");
    let results = bed.status().validation_results.unwrap();
    assert_eq!(results.policy_validation, None);
}

#[test]
fn what_the_policies_allow_runs_and_its_status_says_so() {
    let mut bed = scaling(Verdict {
        warnings: vec!["the last one".to_owned()],
        ..allowed()
    });
    bed.start();
    assert_eq!(bed.made.len(), 1, "{}", bed.message());
    assert_eq!(asked(&bed), 1);
    assert_eq!(condition(&bed), "True Passed");
    let results = bed.status().validation_results.unwrap();
    let policy = results.policy_validation.unwrap();
    assert_eq!(policy.policy_name.as_deref(), Some(POLICY));
    assert!(policy.allowed && !policy.required_approval && policy.violations.is_empty());
    assert_eq!(results.dry_run_results.unwrap().warnings, ["the last one"]);
    let input = &bed.judged[0];
    assert_eq!(input["state"]["readyReplicas"], 2);
    assert_eq!(input["target"]["name"], "web");
}

#[test]
fn what_the_policies_deny_fails_before_any_job_and_says_which_rule_and_why() {
    let mut bed = scaling(denied());
    bed.start();
    assert_eq!(bed.phase(), Some(ExecutionPhase::Failed));
    assert_eq!(bed.status().error_type, Some(ErrorType::PolicyDenied));
    assert_eq!(
        bed.message(),
        "the policy kubernaut.execution@1 does not allow it: its rule allow (a.rego) is false: not on Fridays"
    );
    assert!(bed.made.is_empty() && bed.lock_released && bed.stopped);
    assert_eq!(condition(&bed), "False PolicyDenied");
    let results = bed.status().validation_results.unwrap();
    assert!(results.parameter_validation && results.rbac_validation && results.resource_exists);
    let policy = results.policy_validation.unwrap();
    assert!(!policy.allowed);
    assert_eq!(policy.violations, ["not on Fridays"]);
    let told = "the policy does not allow it (policy_denied); its status says why";
    assert!(
        bed.published.iter().any(|note| note == told),
        "{:?}",
        bed.published
    );
}

/// Whoever holds the lock may be what the policy objects to.
#[test]
fn a_denial_without_the_lock_is_none_yet_and_the_last_verdict_counts() {
    let mut bed = scaling(denied());
    bed.lock = Grant::Busy;
    bed.start();
    assert_eq!(bed.phase(), Some(ExecutionPhase::Validating));
    assert_eq!(
        bed.message(),
        "waits: the target is held by shop/other-step-1; as things are, it would then be refused: the policy \
         kubernaut.execution@1 does not allow it: its rule allow (a.rego) is false: not on Fridays"
    );
    bed.wait(600);
    assert_eq!(asked(&bed), 1, "a wait asks nothing");
    bed.verdict = allowed();
    bed.event(StepEvent::LockGranted);
    assert_eq!(asked(&bed), 2);
    assert_eq!(bed.made.len(), 1, "{}", bed.message());

    let mut bed = scaling(allowed());
    bed.lock = Grant::Busy;
    bed.start();
    assert_eq!(bed.phase(), Some(ExecutionPhase::Validated));
    bed.verdict = denied();
    bed.event(StepEvent::LockGranted);
    assert_eq!(
        bed.status().error_type,
        Some(ErrorType::PolicyDenied),
        "{}",
        bed.message()
    );
    assert_eq!(condition(&bed), "False PolicyDenied");
    assert!(bed.made.is_empty() && bed.lock_released);
}

fn asking() -> Verdict {
    Verdict {
        requires_approval: true,
        ..allowed()
    }
}

fn sees(bed: &mut StepHarness, approver: Option<&str>) {
    let made = bed.now;
    let approval_by = |name: &str| {
        let object = json!({
            "apiVersion": "workflow.kubernaut.io/v1", "kind": "Approval",
            "metadata": {"name": format!("by-{name}"), "namespace": "shop", "creationTimestamp": made.to_string()},
            "spec": {"objectRef": {"kind": "KubernetesExecution", "name": "fix-step-1", "uid": "uid-1"},
                     "decision": "Approved", "approver": name},
        });
        Arc::new(serde_json::from_value(object).expect("an Approval"))
    };
    bed.event(StepEvent::ApprovalsSeen(Arc::new(Seen {
        requirement: Requirement::None,
        guard: Ok(Timestamp::UNIX_EPOCH),
        approvals: approver.map(approval_by).into_iter().collect(),
    })));
}

/// approvalReceived alone is the workflow's own doing. What was asked about under the lock gives it back, and is asked about anew.
#[test]
fn an_approval_that_the_policies_ask_for_is_a_persons() {
    let mut bed = scaling_as(&json!({"approvalReceived": true}), asking());
    bed.execution.metadata.annotations =
        Some([("kubernaut.io/created-by".to_owned(), "eve".to_owned())].into());
    bed.start();
    sees(&mut bed, None);
    assert_eq!(
        bed.phase(),
        Some(ExecutionPhase::WaitingApproval),
        "{}",
        bed.message()
    );
    assert!(
        bed.message()
            .ends_with("; the policy kubernaut.execution@1 asks for it"),
        "{}",
        bed.message()
    );
    assert!(bed.made.is_empty() && bed.lock_released);
    let policy = bed
        .status()
        .validation_results
        .and_then(|results| results.policy_validation);
    assert!(policy.is_some_and(|policy| policy.allowed && policy.required_approval));
    // Whoever takes over finds in the status that it waits.
    let told = asked(&bed);
    bed.start();
    sees(&mut bed, None);
    assert_eq!(
        (bed.phase(), asked(&bed)),
        (Some(ExecutionPhase::WaitingApproval), told)
    );
    sees(&mut bed, Some("eve"));
    assert!(bed.made.is_empty(), "its creator does not approve it");
    sees(&mut bed, Some("ana"));
    assert_eq!(bed.made.len(), 1, "{}", bed.message());
    assert_eq!(asked(&bed), told + 1);
    let approval = bed.status().approval.and_then(|approval| approval.approved_by);
    assert_eq!(approval.as_deref(), Some("ana"));

    let mut bed = scaling_as(&json!({"approvalReceived": true, "approvedBy": "ana"}), asking());
    bed.start();
    assert_eq!(bed.made.len(), 1, "{}", bed.message());
    let policy = bed
        .status()
        .validation_results
        .and_then(|results| results.policy_validation);
    assert!(policy.is_some_and(|policy| policy.required_approval));
}

#[test]
fn an_approval_helps_nobody_whom_the_policies_then_deny() {
    let mut bed = scaling_as(&json!({"approvalReceived": true}), asking());
    bed.settings.approval.allow_self = true;
    bed.start();
    sees(&mut bed, None);
    bed.verdict = denied();
    sees(&mut bed, Some("ana"));
    assert_eq!(
        bed.status().error_type,
        Some(ErrorType::PolicyDenied),
        "{}",
        bed.message()
    );
    assert!(bed.made.is_empty());
}

#[test]
fn a_dry_run_that_the_policies_ask_for_comes_first() {
    let mut bed = scaling(Verdict {
        requires_dry_run: true,
        ..allowed()
    });
    bed.start();
    let numbers = |bed: &StepHarness| {
        bed.attempts()
            .iter()
            .map(|attempt| attempt.attempt)
            .collect::<Vec<_>>()
    };
    assert_eq!(numbers(&bed), [0], "{}", bed.message());
    bed.pod_succeeds("deployment.apps/web scaled (server dry run)");
    assert_eq!(numbers(&bed), [0, 1], "{}", bed.message());
    assert_eq!((bed.made.len(), asked(&bed)), (2, 2));
}

#[test]
fn policies_that_do_not_answer_are_asked_again_and_allow_nothing() {
    let mut bed = scaling(allowed());
    bed.fail(|command| {
        matches!(command, ApiCommand::Judge(_))
            .then(|| failure(FailureClass::Throttled, "not asked: it hangs"))
    });
    bed.start();
    assert!(bed.made.is_empty());
    bed.run_to_the_end();
    assert_eq!(bed.status().error_type, Some(ErrorType::Timeout));
    assert!(bed.message().contains("not asked: it hangs"), "{}", bed.message());
    assert!(bed.made.is_empty());

    let mut bed = scaling(allowed());
    bed.fail(|command| {
        matches!(command, ApiCommand::Judge(_)).then(|| failure(FailureClass::Rejected, "there is no policy"))
    });
    bed.start();
    assert_eq!(bed.status().error_type, Some(ErrorType::PolicyDenied));
    assert!(bed.message().contains("there is no policy"), "{}", bed.message());
    assert!(bed.made.is_empty());
}

/// A controller that took over asks again: what the one before was told stands in no object.
#[test]
fn who_takes_over_before_the_first_attempt_asks_again() {
    let mut bed = scaling(allowed());
    bed.slot = Grant::Busy;
    bed.start();
    assert_eq!(bed.phase(), Some(ExecutionPhase::Validated), "{}", bed.message());
    bed.verdict = denied();
    bed.slot = Grant::AtOnce;
    bed.start();
    assert_eq!(
        bed.status().error_type,
        Some(ErrorType::PolicyDenied),
        "{}",
        bed.message()
    );
    assert!(bed.made.is_empty());
}
