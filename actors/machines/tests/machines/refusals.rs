//! Calls that are refused for good, and answers that come late.

use std::sync::Arc;

use jiff::SignedDuration;
use kubernaut_crds::{ErrorType, ExecutionPhase};
use kubernaut_machines::announcement::Announcement;
use kubernaut_machines::api_command::{ApiCommand, ApiOutcome, FailureClass, Lane};
use kubernaut_machines::step::{StepCommand, StepEvent, StepMachine};
use serde_json::json;

use crate::step_harness::{Grant, StepHarness, deployment, failure, scale};

fn scaling() -> StepHarness {
    StepHarness::new(scale(3)).with([deployment(1, json!({}), json!({}))])
}

fn refuse_reads(bed: &mut StepHarness, class: FailureClass) {
    bed.fail(move |command| matches!(command, ApiCommand::Read(_)).then(|| failure(class, "no")));
}

#[test]
fn a_read_that_is_refused_for_good_ends_the_step_and_is_not_made_again() {
    for class in [
        FailureClass::Rejected,
        FailureClass::NotFound,
        FailureClass::Forbidden,
    ] {
        let mut bed = scaling();
        refuse_reads(&mut bed, class);
        bed.start();
        assert_eq!(bed.phase(), Some(ExecutionPhase::Failed), "{class:?}");
        assert_eq!(bed.message(), "the check could not be made: no");
        assert_eq!(bed.count("read"), 1, "{class:?}");
        // The same where the lock had to be waited for.
        let mut bed = scaling();
        refuse_reads(&mut bed, class);
        bed.lock = Grant::Busy;
        bed.start();
        bed.event(StepEvent::LockGranted);
        assert_eq!(bed.phase(), Some(ExecutionPhase::Failed), "{class:?}");
        assert_eq!(bed.count("read"), 2, "once without the lock, once under it");
    }
}

#[test]
fn a_status_that_goes_on_to_conflict_is_written_less_and_less_often() {
    let mut bed = scaling();
    bed.fail(|command| {
        matches!(command, ApiCommand::WriteExecutionStatus { .. })
            .then(|| failure(FailureClass::Conflict, "the object has been modified"))
    });
    bed.start();
    let start = bed.now;
    bed.run_until(|bed| bed.now.duration_since(start) >= SignedDuration::from_secs(60));
    let writes = bed.count("write status");
    assert!((3..20).contains(&writes), "{writes} in a minute");
    bed.heal();
    bed.run_until(|bed| !bed.made.is_empty());
}

#[test]
fn the_time_for_validation_begins_with_the_first_call_that_fails() {
    let bed = scaling();
    let execution = Arc::new(bed.execution.clone());
    let mut machine = StepMachine::restore(Arc::new(bed.settings.clone()), execution.clone(), false);
    let commands = machine.on_event(bed.now, StepEvent::Observed(execution));
    let id = commands
        .iter()
        .find_map(|command| match command {
            StepCommand::Api { id, .. } => Some(*id),
            _ => None,
        })
        .expect("rights are asked for");
    // It waited among our own calls for so long, and then the API server was busy.
    let later = bed.now + SignedDuration::from_secs(40);
    let result = Err(failure(FailureClass::Throttled, "slow down"));
    let commands = machine.on_event(later, StepEvent::Finished { id, result });
    assert_eq!(commands, [], "nothing but a pause");
    let (at, _) = machine.next_deadline().expect("it is tried again");
    let commands = machine.on_event(at, StepEvent::Tick);
    let tried = |command: &StepCommand| matches!(command, StepCommand::Api { command, .. } if matches!(command, ApiCommand::CheckRights(_)));
    assert!(commands.iter().any(tried), "{commands:?}");
}

/// A defect of ours, and not of the API server: it must not hide as one more retry.
#[test]
fn an_answer_that_does_not_fit_its_question_is_told_and_the_question_asked_again_after_a_pause() {
    let bed = scaling();
    let execution = Arc::new(bed.execution.clone());
    let mut machine = StepMachine::restore(Arc::new(bed.settings.clone()), execution.clone(), false);
    let asked = |commands: &[StepCommand]| {
        commands.iter().find_map(|command| match command {
            StepCommand::Api { id, command, terms } => {
                assert_eq!(terms.lane, Lane::Validation, "nothing runs yet");
                Some((*id, command.name()))
            }
            _ => None,
        })
    };
    let commands = machine.on_event(bed.now, StepEvent::Observed(execution));
    let (id, name) = asked(&commands).expect("rights are asked for");
    let result = Ok(ApiOutcome::Deleted);
    let commands = machine.on_event(bed.now, StepEvent::Finished { id, result });
    let told = StepCommand::Announce(Announcement::Unfitting {
        asked: "Rights".to_owned(),
        answered: "deleted",
    });
    assert_eq!(commands, [told]);
    let (at, _) = machine.next_deadline().expect("a pause");
    assert!(at > bed.now);
    let commands = machine.on_event(at, StepEvent::Tick);
    assert_eq!(asked(&commands).map(|(_, name)| name), Some(name));
}

#[test]
fn validation_that_gets_no_answer_is_given_up() {
    let mut bed = scaling();
    bed.fail(|command| {
        matches!(command, ApiCommand::CheckRights(_))
            .then(|| failure(FailureClass::Unknown, "connection reset"))
    });
    bed.start();
    let start = bed.now;
    bed.run_to_the_end();
    assert_eq!(bed.status().error_type, Some(ErrorType::Timeout));
    let seconds = bed.now.duration_since(start).as_secs_f64();
    assert!((30.0..45.0).contains(&seconds), "{seconds}");
}

/// Where no policy keeps it from being changed.
#[test]
fn a_spec_that_became_another_one_is_looked_at_as_a_new_one() {
    let mut bed = scaling();
    bed.slot = Grant::Busy;
    bed.start();
    bed.wait(1);
    bed.may = false;
    let mut changed = bed.execution.clone();
    let scale = changed
        .spec
        .parameters
        .scale_deployment
        .as_mut()
        .expect("a scale");
    scale.replicas += 1;
    changed.metadata.resource_version = Some("1000".into());
    bed.execution = changed.clone();
    bed.event(StepEvent::Observed(Arc::new(changed)));
    bed.event(StepEvent::SlotGranted);
    assert_eq!(bed.status().error_type, Some(ErrorType::InsufficientPermissions));
    assert_eq!(bed.made.len(), 0);
}

#[test]
fn a_right_that_was_taken_away_during_a_wait_counts_no_more() {
    let refused = |bed: &StepHarness| {
        assert_eq!(bed.phase(), Some(ExecutionPhase::Failed), "{}", bed.message());
        assert_eq!(bed.status().error_type, Some(ErrorType::InsufficientPermissions));
        assert!(
            bed.message().contains("may not get deployments"),
            "{}",
            bed.message()
        );
        assert!(bed.attempts().iter().all(|attempt| attempt.outcome.is_some()));
    };
    // For the lock, and for a place.
    for (lock, slot) in [(Grant::Busy, Grant::AtOnce), (Grant::AtOnce, Grant::Busy)] {
        let mut bed = scaling();
        (bed.lock, bed.slot) = (lock, slot);
        bed.start();
        bed.may = false;
        bed.wait(3_600);
        bed.event(if lock == Grant::Busy {
            StepEvent::LockGranted
        } else {
            StepEvent::SlotGranted
        });
        refused(&bed);
        assert_eq!(bed.made.len(), 0);
    }
    // For room in a quota, and between attempts.
    let mut bed = scaling();
    bed.fail(|command| {
        matches!(command, ApiCommand::CreateJob { .. })
            .then(|| failure(FailureClass::Quota, "exceeded quota"))
    });
    bed.start();
    bed.may = false;
    bed.run_to_the_end();
    refused(&bed);
    let mut bed = scaling();
    bed.start();
    bed.may = false;
    bed.now += SignedDuration::from_secs(40);
    bed.pod_fails("Error from server (ServiceUnavailable): try again");
    bed.run_to_the_end();
    refused(&bed);
    assert_eq!(bed.made.len(), 1);
}

#[test]
fn rights_that_were_asked_just_now_are_not_asked_again() {
    let mut bed = scaling();
    bed.start();
    bed.pod_fails("Error from server (ServiceUnavailable): try again");
    bed.run_until(|bed| bed.made.len() == 2);
    assert_eq!(bed.count("rights"), 1);
}

#[test]
fn a_wait_is_told_of_also_when_its_note_was_lost_to_somebody_elses_change() {
    let mut bed = scaling();
    bed.lock = Grant::Busy;
    let mut first = true;
    bed.fail(move |command| {
        (matches!(command, ApiCommand::WriteExecutionStatus { .. }) && std::mem::take(&mut first))
            .then(|| failure(FailureClass::Conflict, "the object has been modified"))
    });
    bed.touched_by_others = true;
    bed.start();
    assert_eq!(bed.message(), "waits: the target is held by shop/other-step-1");
}

#[test]
fn a_job_that_nobody_can_reach_keeps_the_lock_and_not_its_place() {
    let mut bed = scaling();
    bed.deletes_slowly = true;
    bed.start();
    bed.pod_runs();
    bed.run_to_the_end();
    assert!(
        bed.message().contains("could not be confirmed stopped"),
        "{}",
        bed.message()
    );
    assert!(bed.slot_released);
    assert!(!bed.stopped, "the lock is held for as long as the Job lives");
}

#[test]
fn a_create_without_an_answer_is_waited_for_also_when_the_next_one_is_refused_for_good() {
    for class in [
        FailureClass::Forbidden,
        FailureClass::NotFound,
        FailureClass::Rejected,
    ] {
        let mut bed = scaling();
        let mut creates = 0;
        bed.fail(move |command| {
            if !matches!(command, ApiCommand::CreateJob { .. }) {
                return None;
            }
            creates += 1;
            Some(if creates == 1 {
                failure(FailureClass::Unknown, "connection reset")
            } else {
                failure(class, "the webhook says no")
            })
        });
        bed.start();
        bed.run_until(|bed| bed.creates.len() == 2);
        let first = bed.creates[0];
        bed.run_to_the_end();
        let seconds = bed.now.duration_since(first).as_secs_f64();
        assert!(seconds >= 60.0, "{class:?}: it ended after {seconds} s");
        assert!(bed.message().contains("the webhook says no"), "{}", bed.message());
        assert_eq!(
            bed.creates.len(),
            2,
            "it is not asked again what was refused for good"
        );
    }
}

#[test]
fn the_job_of_a_create_without_an_answer_is_deleted_when_the_next_one_was_refused() {
    let mut bed = scaling();
    let sent = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let seen = sent.clone();
    bed.fail(move |command| {
        matches!(command, ApiCommand::CreateJob { .. }).then(|| {
            seen.borrow_mut().push(command.clone());
            let class = if seen.borrow().len() == 1 {
                FailureClass::Unknown
            } else {
                FailureClass::Forbidden
            };
            failure(class, "no")
        })
    });
    bed.start();
    bed.run_until(|bed| bed.creates.len() == 2);
    bed.wait(20);
    let late = sent.borrow().first().cloned().expect("a create");
    bed.act(late).expect("made");
    bed.see_jobs();
    bed.run_to_the_end();
    assert_eq!(bed.phase(), Some(ExecutionPhase::Failed));
    assert_eq!(bed.jobs.len(), 0, "its Job was deleted before the step ended");
}

#[test]
fn after_an_upgrade_the_last_controllers_create_is_waited_for() {
    let mut bed = scaling();
    // The record is written; the create is under way when the controller is replaced by one with other flags.
    bed.fail(|command| {
        matches!(command, ApiCommand::CreateJob { .. })
            .then(|| failure(FailureClass::Unknown, "connection reset"))
    });
    bed.start();
    bed.heal();
    bed.settings.kubectl_image = "registry.example/kubectl:other".into();
    bed.start();
    let upgraded = bed.now;
    assert_eq!(bed.attempts()[0].outcome, None, "{}", bed.message());
    bed.run_until(|bed| bed.attempts()[0].outcome.is_some());
    let seconds = bed.now.duration_since(upgraded).as_secs_f64();
    assert!((60.0..70.0).contains(&seconds), "{seconds}");
    assert!(bed.made.is_empty());
}

#[test]
fn a_job_of_an_attempt_that_has_ended_is_deleted_before_another_one_is_made() {
    let mut bed = scaling();
    bed.start();
    let first = bed.jobs.clone();
    bed.pod_fails("Error from server (ServiceUnavailable): try again");
    // What was created twice comes a second time, and its pod has not ended.
    bed.jobs.clone_from(&first);
    bed.deletes_slowly = true;
    bed.see_jobs();
    bed.wait(5);
    assert_eq!(bed.count("delete job"), 1);
    assert_eq!(bed.made.len(), 1, "no second Job beside the first");
    bed.lose_jobs();
    bed.run_until(|bed| bed.made.len() == 2);
}

#[test]
fn the_job_of_a_step_whose_workflow_is_being_deleted_is_stopped() {
    let mut bed = scaling();
    bed.start();
    bed.pod_runs();
    bed.event(StepEvent::WorkflowDeleted);
    assert_eq!(bed.jobs.len(), 0);
    bed.see_jobs();
    bed.run_to_the_end();
    assert_eq!(
        bed.status().error_type,
        Some(ErrorType::Cancelled),
        "{}",
        bed.message()
    );
    assert_eq!(bed.made.len(), 1);
    // Where none runs, none begins.
    for slot in [Grant::Busy, Grant::AtOnce] {
        let mut bed = scaling();
        bed.slot = slot;
        bed.lock = Grant::Busy;
        bed.start();
        bed.event(StepEvent::WorkflowDeleted);
        bed.event(StepEvent::LockGranted);
        assert_eq!(
            bed.status().error_type,
            Some(ErrorType::Cancelled),
            "{}",
            bed.message()
        );
        assert_eq!(bed.made.len(), 0);
    }
}
