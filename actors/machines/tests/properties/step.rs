//! Random lives of a step: whatever happens to calls and controllers.

use std::time::Duration;

use kubernaut_crds::{AttemptOutcome, ErrorType, ExecutionPhase};
use kubernaut_machines::api_command::{ApiCommand, FailureClass};
use kubernaut_machines::job_view::view;
use kubernaut_machines::step::{StepCommand, StepEvent};
use proptest::prelude::*;

use crate::step_world::{CallFault, Late, PodOutcome, World, live, start};

/// The reference model: attempts one after the other until one counts as a success or none is left.
fn model(max_retries: i32, fates: &[PodOutcome]) -> (ExecutionPhase, usize) {
    let (mut counted, mut evictions) = (0, 0);
    for attempt in 0.. {
        match fates.get(attempt).copied().unwrap_or(PodOutcome::Succeeds) {
            PodOutcome::Succeeds | PodOutcome::LiesAboutFailure => {
                return (ExecutionPhase::Completed, attempt + 1);
            }
            PodOutcome::Forbidden => return (ExecutionPhase::Failed, attempt + 1),
            PodOutcome::Fails => counted += 1,
            PodOutcome::Evicted if evictions < 3 => evictions += 1,
            PodOutcome::Evicted => counted += 1,
        }
        if counted > max_retries {
            return (ExecutionPhase::Failed, attempt + 1);
        }
    }
    unreachable!("attempts are bounded")
}

fn fate() -> impl Strategy<Value = PodOutcome> {
    prop_oneof![
        Just(PodOutcome::Succeeds),
        Just(PodOutcome::Fails),
        Just(PodOutcome::Fails),
        Just(PodOutcome::Forbidden),
        Just(PodOutcome::LiesAboutFailure),
        Just(PodOutcome::Evicted),
    ]
}

fn luck() -> impl Strategy<Value = CallFault> {
    prop_oneof![
        4 => Just(CallFault::Good),
        1 => Just(CallFault::Throttled),
        1 => Just(CallFault::LostBefore),
        1 => Just(CallFault::LostAfter),
        1 => Just(CallFault::Twice),
        1 => Just(CallFault::CrashBefore),
        1 => Just(CallFault::CrashAfter),
        1 => Just(CallFault::Touched),
        1 => (0..60_u8).prop_map(CallFault::Late),
    ]
}

/// Bad luck for creates above all, and controllers that stay away.
fn bad_luck() -> impl Strategy<Value = CallFault> {
    prop_oneof![
        2 => Just(CallFault::Good),
        2 => Just(CallFault::Throttled),
        2 => (0..60_u8).prop_map(CallFault::Late),
        1 => Just(CallFault::LostAfter),
        1 => (0..200_u8).prop_map(CallFault::Down),
    ]
}

/// Phases that may follow each other (docs/executions.md).
fn is_edge(from: &str, to: &str) -> bool {
    matches!(
        (from, to),
        ("validating", "validated" | "failed")
            | (
                "validated",
                "waiting_approval" | "executing" | "completed" | "failed"
            )
            | ("waiting_approval", "validated" | "executing" | "failed")
            | ("executing", "rollback_ready" | "failed")
            | ("rollback_ready", "completed" | "failed")
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_to_calls_and_controllers_a_step_ends_as_its_model_and_no_job_is_made_twice(
        max_retries in 0..4_i32,
        fates in prop::collection::vec(fate(), 0..6),
        luck in prop::collection::vec(luck(), 0..40),
    ) {
        let world = live("10h", World::new(max_retries, fates.clone()), &luck);
        let status = world.execution.status.clone().unwrap_or_default();
        let (phase, attempts) = model(max_retries, &fates);
        // A streak of bad luck may be longer than the patience of the validation.
        let silent = status.message.as_deref().unwrap_or_default().starts_with("validation got no answer");
        prop_assume!(!silent);
        // So may be one of a minute in which no create was taken; nobody makes its Job after that.
        let unmade = status.attempts.iter().find(|attempt| {
            attempt.outcome == Some(AttemptOutcome::Lost) && !world.made.contains(&attempt.job_name)
        });
        if let Some(attempt) = unmade {
            let end = attempt.end_time.as_ref().expect("an end");
            prop_assert!(end.0.duration_since(attempt.start_time.0).as_secs() >= 60);
        }
        prop_assume!(unmade.is_none());
        prop_assert_eq!(status.phase, Some(phase), "{:?}", status.message);
        prop_assert_eq!(world.made.len(), attempts, "Jobs made: {:?}", world.made);
        let mut names = world.made.clone();
        names.sort();
        names.dedup();
        prop_assert_eq!(names.len(), world.made.len(), "a Job was made twice");
        prop_assert!(world.effects <= 1);
        prop_assert!(world.wrong.is_empty(), "{:?}", world.wrong);
        for pair in world.phases.windows(2) {
            prop_assert!(is_edge(&pair[0], &pair[1]), "{} -> {}", pair[0], pair[1]);
        }
        let times: Vec<_> = status.phase_transitions.iter().map(|transition| transition.time.0).collect();
        prop_assert!(times.is_sorted());
    }

    #[test]
    fn however_late_payloads_and_controllers_are_none_is_there_when_its_step_has_ended(
        timeout in 1..200_u32,
        max_retries in 0..3_i32,
        fates in prop::collection::vec(fate(), 0..4),
        luck in prop::collection::vec(prop_oneof![luck(), bad_luck()], 0..60),
    ) {
        let mut world = live(&format!("{timeout}s"), World::of_a_secret(max_retries, fates), &luck);
        let status = world.execution.status.clone().unwrap_or_default();
        prop_assert!(status.phase.is_some_and(ExecutionPhase::is_terminal), "{:?}", status.message);
        prop_assert!(world.payloads.is_empty(), "{:?}", world.payloads);
        world.go_to(world.now + Duration::from_secs(3_600));
        prop_assert!(world.payloads.is_empty(), "too late: {:?}", world.payloads);
    }

    #[test]
    fn however_late_creates_and_controllers_are_no_two_jobs_live_and_none_is_sent_after_its_deadline(
        timeout in 1..200_u32,
        max_retries in 0..3_i32,
        fates in prop::collection::vec(fate(), 0..4),
        luck in prop::collection::vec(bad_luck(), 0..60),
    ) {
        let world = live(&format!("{timeout}s"), World::new(max_retries, fates), &luck);
        let status = world.execution.status.clone().unwrap_or_default();
        prop_assert!(status.phase.is_some_and(ExecutionPhase::is_terminal), "{:?}", status.message);
        prop_assert!(world.wrong.is_empty(), "{:?}", world.wrong);
        let mut names = world.made.clone();
        names.sort();
        names.dedup();
        prop_assert_eq!(names.len(), world.made.len(), "a Job was made twice: {:?}", world.made);
        // What comes after the end finds its Job there.
        let unmade = world.late.iter().filter(|(_, late)| {
            matches!(late, Late::Job(job) if !names.contains(job.metadata.name.as_ref().expect("a name")))
        });
        prop_assert_eq!(unmade.count(), 0);
    }
}

/// What holds of a dry run, whatever happens.
fn held_of_a_dry_run(world: &mut World) -> Result<(), TestCaseError> {
    let status = world.execution.status.clone().unwrap_or_default();
    prop_assert!(
        status.phase.is_some_and(ExecutionPhase::is_terminal),
        "{:?}",
        status.message
    );
    prop_assert_eq!(world.effects, 0);
    prop_assert!(world.made.len() <= 1, "{:?}", world.made);
    prop_assert!(world.wrong.is_empty(), "{:?}", world.wrong);
    prop_assert!(status.attempts.iter().all(|attempt| attempt.attempt == 0));
    prop_assert!(status.rollback_information.is_none());
    for pair in world.phases.windows(2) {
        prop_assert!(is_edge(&pair[0], &pair[1]), "{} -> {}", pair[0], pair[1]);
    }
    prop_assert!(!world.phases.iter().any(|phase| phase == "executing"));
    let tried = status
        .validation_results
        .and_then(|results| results.dry_run_results);
    if status.phase == Some(ExecutionPhase::Completed) {
        prop_assert!(tried.is_some_and(|tried| tried.performed && tried.success));
    } else {
        prop_assert!(tried.is_none_or(|tried| !tried.success));
    }
    world.go_to(world.now + Duration::from_secs(3_600));
    prop_assert!(world.payloads.is_empty(), "{:?}", world.payloads);
    Ok(())
}

fn tried(secret: bool, fate: PodOutcome) -> World {
    let world = if secret {
        World::of_a_secret(2, vec![fate])
    } else {
        World::new(2, vec![fate])
    };
    world.only_tried()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_a_dry_run_changes_nothing_has_one_job_and_ends_as_that_does(
        fate in fate(),
        secret in any::<bool>(),
        luck in prop::collection::vec(prop_oneof![luck(), bad_luck()], 0..40),
    ) {
        let mut world = live("5m", tried(secret, fate), &luck);
        held_of_a_dry_run(&mut world)?;
        let phase = world.execution.status.and_then(|status| status.phase);
        if fate != PodOutcome::Succeeds {
            prop_assert_eq!(phase, Some(ExecutionPhase::Failed));
        } else if luck.is_empty() {
            prop_assert_eq!(phase, Some(ExecutionPhase::Completed));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_dry_run_that_another_controller_takes_over_after_any_event_ends_as_it_would_have(
        fate in fate(),
        secret in any::<bool>(),
    ) {
        let life = |dies_after| {
            let mut world = tried(secret, fate);
            world.dies_after = dies_after;
            live("5m", world, &[])
        };
        let whole = life(None);
        for after in 0..whole.events {
            let mut restored = life(Some(after));
            prop_assert_eq!(end_of(&restored), end_of(&whole), "restored after event {}", after);
            held_of_a_dry_run(&mut restored)?;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_is_refused_for_ever_is_not_asked_again_without_a_pause(
        refused in (prop::sample::select(&CALLS[..]), prop::sample::select(&CLASSES[..])),
        secret in any::<bool>(),
        fates in prop::collection::vec(fate(), 0..4),
        luck in prop::collection::vec(luck(), 0..30),
    ) {
        let mut world = if secret { World::of_a_secret(2, fates) } else { World::new(2, fates) };
        world.refused = Some(refused);
        let world = live("2m", world, &luck);
        let repeated: Vec<&String> = world.wrong.iter().filter(|words| words.contains("without a pause")).collect();
        prop_assert!(repeated.is_empty(), "{} times, first: {:?}", repeated.len(), repeated.first());
    }
}

/// How a life ended: the phase, the class, and the same of each attempt.
type End = (
    Option<ExecutionPhase>,
    Option<ErrorType>,
    Vec<(Option<AttemptOutcome>, Option<ErrorType>)>,
    usize,
);

fn end_of(world: &World) -> End {
    let status = world.execution.status.clone().unwrap_or_default();
    let attempts = status
        .attempts
        .iter()
        .map(|attempt| (attempt.outcome, attempt.error_type));
    (
        status.phase,
        status.error_type,
        attempts.collect(),
        world.made.len(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_machine_that_is_restored_after_any_event_ends_where_the_one_before_would_and_with_its_class(
        max_retries in 0..3_i32,
        fates in prop::collection::vec(fate(), 0..4),
        secret in any::<bool>(),
        refused in prop::option::of((
            prop::sample::select(&["create_job", "check_rights", "explain_job"][..]),
            prop::sample::select(&CLASSES[..]),
        )),
    ) {
        // Who takes over can't know whether a create that was sent for a minute was ever taken: it says that the Job is lost.
        prop_assume!(refused != Some(("create_job", FailureClass::Throttled)));
        // Long enough for what a controller that takes over waits for.
        let timeout = if refused.is_some() { "10m" } else { "10h" };
        let life = |dies_after| {
            let mut world = if secret {
                World::of_a_secret(max_retries, fates.clone())
            } else {
                World::new(max_retries, fates.clone())
            };
            world.refused = refused;
            world.dies_after = dies_after;
            live(timeout, world, &[])
        };
        let whole = life(None);
        let end = end_of(&whole);
        // Evenly, where there are many.
        for after in (0..whole.events).step_by(whole.events / 80 + 1) {
            let restored = life(Some(after));
            prop_assert_eq!(&end_of(&restored), &end, "restored after event {}", after);
            prop_assert!(restored.wrong.is_empty(), "restored after event {}: {:?}", after, restored.wrong);
        }
    }
}

/// What a step asks of the API server.
const CALLS: [&str; 9] = [
    "check_rights",
    "read",
    "write_execution_status",
    "get_execution",
    "create_job",
    "get_job",
    "delete_job",
    "delete_secret",
    "explain_job",
];

pub(crate) const CLASSES: [FailureClass; 7] = [
    FailureClass::NotFound,
    FailureClass::Conflict,
    FailureClass::Quota,
    FailureClass::Forbidden,
    FailureClass::Rejected,
    FailureClass::Throttled,
    FailureClass::Unknown,
];

#[test]
fn a_good_life_takes_two_status_writes_and_one_job() {
    let mut world = World::new(2, vec![]);
    let (mut machine, mut commands) = start(&world);
    let mut writes = 0;
    for _ in 0..200 {
        let mut next = Vec::new();
        for command in std::mem::take(&mut commands) {
            match command {
                StepCommand::Api { id, command, .. } => {
                    writes += usize::from(matches!(command, ApiCommand::WriteExecutionStatus { .. }));
                    let result = world.call(command);
                    next.extend(machine.on_event(world.now, StepEvent::Finished { id, result }));
                }
                StepCommand::AcquireLock { .. } => {
                    next.extend(machine.on_event(world.now, StepEvent::LockGranted));
                }
                StepCommand::AcquireSlot => next.extend(machine.on_event(world.now, StepEvent::SlotGranted)),
                _ => {}
            }
        }
        world.run_pods();
        next.extend(machine.on_event(world.now, StepEvent::JobsObserved(world.views())));
        commands = next;
    }
    assert_eq!((writes, world.made.len()), (2, 1));
    assert_eq!(
        world.phases,
        [
            "validating",
            "validated",
            "executing",
            "rollback_ready",
            "completed"
        ]
    );
}

#[test]
fn the_timeout_is_one_budget_for_all_attempts() {
    let mut world = World::new(5, vec![PodOutcome::Fails; 6]);
    world.execution.spec.timeout = "3s".into();
    let luck = [];
    // Attempts at 0 s, 1 s and, after 2 s more, at 3 s: too late for a third one.
    let (mut machine, mut commands) = start(&world);
    let mut luck = luck.iter().copied();
    for _ in 0..500 {
        let mut next = Vec::new();
        for command in std::mem::take(&mut commands) {
            match command {
                StepCommand::Api { id, command, .. } => {
                    let _: Option<CallFault> = luck.next();
                    let result = world.call(command);
                    next.extend(machine.on_event(world.now, StepEvent::Finished { id, result }));
                }
                StepCommand::AcquireLock { .. } => {
                    next.extend(machine.on_event(world.now, StepEvent::LockGranted));
                }
                StepCommand::AcquireSlot => next.extend(machine.on_event(world.now, StepEvent::SlotGranted)),
                _ => {}
            }
        }
        commands = next;
        if commands.is_empty() {
            world.run_pods();
            commands = machine.on_event(world.now, StepEvent::JobsObserved(world.views()));
            if commands.is_empty() {
                let Some((at, _)) = machine.next_deadline() else {
                    break;
                };
                world.now = world.now.max(at) + Duration::from_millis(1);
                commands = machine.on_event(world.now, StepEvent::Tick);
            }
        }
    }
    let status = world.execution.status.expect("a status");
    assert_eq!(status.phase, Some(ExecutionPhase::Failed));
    assert_eq!(status.error_type, Some(kubernaut_crds::ErrorType::Timeout));
    assert_eq!(world.made.len(), 2);
}

#[test]
fn a_pod_that_is_seen_before_its_job_is_no_stranger() {
    let mut world = World::new(0, vec![]);
    let (mut machine, mut commands) = start(&world);
    for _ in 0..200 {
        let mut next = Vec::new();
        for command in std::mem::take(&mut commands) {
            match command {
                StepCommand::Api { id, command, .. } => {
                    let result = world.call(command);
                    // The watch of pods is ahead of the watch of Jobs.
                    world.run_pods();
                    let pods_alone = world.jobs.iter().filter_map(|(name, (_, pod))| {
                        let mut pod = pod.clone()?;
                        pod.status = None;
                        view(name, None, &[pod])
                    });
                    let early = StepEvent::JobsObserved(pods_alone.collect());
                    next.extend(machine.on_event(world.now, early));
                    next.extend(machine.on_event(world.now, StepEvent::Finished { id, result }));
                }
                StepCommand::AcquireLock { .. } => {
                    next.extend(machine.on_event(world.now, StepEvent::LockGranted));
                }
                StepCommand::AcquireSlot => next.extend(machine.on_event(world.now, StepEvent::SlotGranted)),
                _ => {}
            }
        }
        if next.is_empty() {
            next = machine.on_event(world.now, StepEvent::JobsObserved(world.views()));
        }
        commands = next;
    }
    let status = world.execution.status.expect("a status");
    assert_eq!(
        status.phase,
        Some(ExecutionPhase::Completed),
        "{:?}",
        status.message
    );
    assert_eq!(world.made.len(), 1);
}
