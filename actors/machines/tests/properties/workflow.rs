//! Random graphs of steps, in a world where executions end by themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use kubernaut_crds::{KubernetesExecution, StepState, WorkflowExecution, WorkflowPhase};
use kubernaut_machines::Settings;
use kubernaut_machines::api_command::{ApiCommand, ApiFailure, ApiOutcome, FailureClass, RightsAnswer};
use kubernaut_machines::workflow::{WorkflowCommand, WorkflowEvent, WorkflowMachine};
use proptest::prelude::*;
use serde_json::{Value, json};

#[derive(Clone, Debug)]
struct Case {
    /// Step i waits for these, all of them before it.
    waits_for: Vec<BTreeSet<usize>>,
    fails: Vec<bool>,
    critical: Vec<bool>,
    parallel: usize,
    /// All steps are tried before the first one runs.
    tried: bool,
    /// Which calls are lost before (1) or after (2) they took effect, or crash the controller after (3), or are lost after
    /// the watch has shown what they did (4).
    luck: Vec<u8>,
    /// In which order running executions end.
    order: Vec<usize>,
}

fn case() -> impl Strategy<Value = Case> {
    (1..12_usize).prop_flat_map(|count| {
        (
            prop::collection::vec(prop::collection::btree_set(0..count, 0..3), count),
            prop::collection::vec(prop::bool::weighted(0.2), count),
            prop::collection::vec(prop::bool::weighted(0.3), count),
            1..6_usize,
            any::<bool>(),
            prop::collection::vec(
                prop_oneof![5 => Just(0_u8), 1 => Just(1), 1 => Just(2), 1 => Just(3), 1 => Just(4)],
                0..30,
            ),
            prop::collection::vec(0..100_usize, 40),
        )
            .prop_map(|(waits, fails, critical, parallel, tried, luck, order)| Case {
                waits_for: waits
                    .into_iter()
                    .enumerate()
                    .map(|(i, set)| set.into_iter().filter(|j| *j < i).collect())
                    .collect(),
                fails,
                critical,
                parallel,
                tried,
                luck,
                order,
            })
    })
}

struct World {
    now: Timestamp,
    version: u64,
    workflow: WorkflowExecution,
    executions: BTreeMap<String, KubernetesExecution>,
    created: Vec<i32>,
    /// Those of which a dry run was made.
    tried: Vec<i32>,
    /// Every call of this name is answered so, for ever.
    refused: Option<(&'static str, FailureClass)>,
    /// What was sent since the clock moved, or something came from outside.
    sent_at_once: Vec<ApiCommand>,
    /// Calls that were sent again although nothing had changed.
    repeated: Vec<&'static str>,
    most_running: usize,
    too_early: Option<String>,
}

fn number(index: usize) -> i32 {
    i32::try_from(index).expect("few") * 3 + 1
}

impl World {
    fn new(case: &Case) -> Self {
        let steps: Vec<Value> = case
            .waits_for
            .iter()
            .enumerate()
            .map(|(index, waits)| {
                json!({"stepNumber": number(index), "name": format!("s{index}"), "action": "cordon-node",
                       "criticalStep": case.critical[index],
                       "dependsOn": waits.iter().map(|other| number(*other)).collect::<Vec<_>>(),
                       "parameters": {"cordonNode": {"nodeName": format!("n{index}")}}})
            })
            .collect();
        let workflow = serde_json::from_value(json!({
            "apiVersion": "workflow.kubernaut.io/v1", "kind": "WorkflowExecution",
            "metadata": {"name": "w", "namespace": "shop", "uid": "w-uid", "resourceVersion": "1", "generation": 1},
            "spec": {"maxParallelSteps": case.parallel, "executionStrategy": {"rollbackStrategy": "none", "dryRunFirst": case.tried},
                     "workflowDefinition": {"name": "w", "version": "1", "steps": steps}}
        }))
        .expect("a workflow");
        Self {
            now: Timestamp::from_second(1_800_000_000).expect("a time"),
            version: 1,
            workflow,
            executions: BTreeMap::new(),
            created: Vec::new(),
            tried: Vec::new(),
            refused: None,
            sent_at_once: Vec::new(),
            repeated: Vec::new(),
            most_running: 0,
            too_early: None,
        }
    }

    fn next_version(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    fn phase_of(&self, index: usize) -> Option<String> {
        let name = format!("w-step-{}", number(index));
        let execution = self.executions.get(&name)?;
        Some(execution.status.as_ref()?.phase?.as_str().to_owned())
    }

    fn running(&self) -> Vec<String> {
        let open = |ke: &KubernetesExecution| ke.status.as_ref().and_then(|status| status.phase).is_none();
        self.executions
            .iter()
            .filter(|(_, ke)| open(ke))
            .map(|(name, _)| name.clone())
            .collect()
    }

    fn call(&mut self, case: &Case, command: ApiCommand) -> Result<ApiOutcome, ApiFailure> {
        match command {
            ApiCommand::CheckRights(_) => Ok(ApiOutcome::Rights(RightsAnswer::default())),
            ApiCommand::CreateExecution(execution) => {
                let name = execution.metadata.name.clone().expect("a name");
                if let Some(there) = self.executions.get(&name) {
                    return Ok(ApiOutcome::Created {
                        execution: Arc::new(there.clone()),
                        fresh: false,
                    });
                }
                let mut execution = *execution;
                execution.metadata.uid = Some(format!("uid-{name}"));
                execution.metadata.resource_version = Some(self.next_version());
                let is_dry = execution.spec.dry_run == Some(true);
                if is_dry {
                    self.tried.push(execution.spec.step_number);
                } else {
                    self.created.push(execution.spec.step_number);
                    let mut dry = self
                        .executions
                        .values()
                        .filter(|ke| ke.spec.dry_run == Some(true));
                    if case.tried
                        && (self.tried.len() < case.fails.len() || dry.any(|ke| ke.status.is_none()))
                    {
                        self.too_early = Some(format!("{name} was made before all were tried"));
                    }
                }
                let index = usize::try_from((execution.spec.step_number - 1) / 3).expect("a step");
                for other in case.waits_for[index].iter().filter(|_| !is_dry) {
                    if self.phase_of(*other).as_deref() != Some("completed") {
                        self.too_early =
                            Some(format!("step {index} began before step {other} had completed"));
                    }
                }
                self.executions.insert(name, execution.clone());
                self.most_running = self.most_running.max(self.running().len());
                Ok(ApiOutcome::Created {
                    execution: Arc::new(execution),
                    fresh: true,
                })
            }
            ApiCommand::WriteWorkflowStatus { patch, .. } => {
                if patch["metadata"]["resourceVersion"] != json!(self.workflow.metadata.resource_version) {
                    return Err(ApiFailure {
                        class: FailureClass::Conflict,
                        message: "modified".into(),
                    });
                }
                let mut object = serde_json::to_value(&self.workflow).expect("JSON");
                crate::step_world::merge(&mut object["status"], &patch["status"]);
                self.workflow = serde_json::from_value(object).expect("a status of the type");
                self.workflow.metadata.resource_version = Some(self.next_version());
                Ok(ApiOutcome::Workflow(Arc::new(self.workflow.clone())))
            }
            ApiCommand::GetWorkflow { .. } => {
                Ok(ApiOutcome::FoundWorkflow(Some(Arc::new(self.workflow.clone()))))
            }
            ApiCommand::GetExecution { name, .. } => Ok(ApiOutcome::FoundExecution(
                self.executions.get(&name).cloned().map(Arc::new),
            )),
            other => panic!("a workflow does not ask for {other:?}"),
        }
    }

    /// Ends one running execution.
    fn end_one(&mut self, case: &Case, pick: usize) -> Option<Arc<KubernetesExecution>> {
        let running = self.running();
        let name = running.get(pick % running.len().max(1))?;
        let version = Some(self.next_version());
        let execution = self.executions.get_mut(name).expect("there");
        let index = usize::try_from((execution.spec.step_number - 1) / 3).expect("a step");
        let fails = case.fails[index] && execution.spec.dry_run.is_none();
        let phase = if fails { "failed" } else { "completed" };
        execution.status = serde_json::from_value(json!({"phase": phase})).expect("a status");
        execution.metadata.resource_version = version;
        Some(Arc::new(execution.clone()))
    }
}

fn start(world: &World) -> (WorkflowMachine, Vec<WorkflowCommand>) {
    let workflow = Arc::new(world.workflow.clone());
    let mut machine = WorkflowMachine::restore(Arc::new(Settings::default()), workflow.clone());
    let mut commands = Vec::new();
    for execution in world.executions.values() {
        commands.extend(machine.on_event(
            world.now,
            WorkflowEvent::StepObserved(Arc::new(execution.clone())),
        ));
    }
    commands.extend(machine.on_event(world.now, WorkflowEvent::Observed(workflow)));
    (machine, commands)
}

fn live(case: &Case, mut world: World) -> World {
    let (mut luck, mut order) = (case.luck.iter().copied(), case.order.iter().copied().cycle());
    let (mut machine, mut commands) = start(&world);
    for _ in 0..2_000 {
        let mut next = Vec::new();
        let (mut crashed, mut stopped) = (false, false);
        for command in std::mem::take(&mut commands) {
            match command {
                WorkflowCommand::Api { id, command, .. } => {
                    let lost = ApiFailure {
                        class: FailureClass::Unknown,
                        message: "connection reset".into(),
                    };
                    if world.sent_at_once.contains(&command) {
                        world.repeated.push(command.name());
                    }
                    world.sent_at_once.push(command.clone());
                    let refused = world.refused.filter(|(name, _)| *name == command.name());
                    let luck = if refused.is_some() {
                        5
                    } else {
                        luck.next().unwrap_or(0)
                    };
                    let result = match luck {
                        5 => Err(ApiFailure {
                            class: refused.map_or(FailureClass::Unknown, |(_, class)| class),
                            message: "no".into(),
                        }),
                        1 => Err(lost),
                        2 => world.call(case, command).and(Err(lost)),
                        4 => {
                            let result = world.call(case, command).and(Err(lost));
                            for execution in world.executions.values() {
                                let event = WorkflowEvent::StepObserved(Arc::new(execution.clone()));
                                next.extend(machine.on_event(world.now, event));
                            }
                            result
                        }
                        3 => {
                            let _ = world.call(case, command);
                            crashed = true;
                            break;
                        }
                        _ => world.call(case, command),
                    };
                    next.extend(machine.on_event(world.now, WorkflowEvent::Finished { id, result }));
                }
                WorkflowCommand::KeepSlots(wanted) => {
                    next.extend(machine.on_event(world.now, WorkflowEvent::SlotsKept(wanted)));
                }
                WorkflowCommand::Stop => stopped = true,
                WorkflowCommand::EnsureStep(_)
                | WorkflowCommand::ReleaseStep { .. }
                | WorkflowCommand::Publish(_)
                | WorkflowCommand::Announce(_) => {}
            }
        }
        if crashed {
            world.sent_at_once.clear();
            (machine, commands) = start(&world);
            continue;
        }
        if stopped {
            break;
        }
        commands = next;
        let idle = !commands
            .iter()
            .any(|command| matches!(command, WorkflowCommand::Api { .. }));
        if idle {
            world.sent_at_once.clear();
            if let Some(ended) = world.end_one(case, order.next().unwrap_or(0)) {
                commands.extend(machine.on_event(world.now, WorkflowEvent::StepObserved(ended)));
            } else if let Some((at, _)) = machine.next_deadline() {
                world.now = world.now.max(at);
                commands.extend(machine.on_event(world.now, WorkflowEvent::Tick));
            } else {
                let observed = Arc::new(world.workflow.clone());
                commands.extend(machine.on_event(world.now, WorkflowEvent::Observed(observed)));
                if commands.is_empty() {
                    break;
                }
            }
        }
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_graph_ends_with_each_step_run_once_in_order_or_skipped_for_a_reason(case in case()) {
        let world = live(&case, World::new(&case));
        let status = world.workflow.status.clone().unwrap_or_default();
        prop_assert!(status.phase.is_some_and(WorkflowPhase::is_terminal), "{:?}", status);
        prop_assert_eq!(&world.too_early, &None);
        prop_assert!(world.most_running <= case.parallel, "{} ran at once", world.most_running);
        let mut once = world.created.clone();
        once.sort_unstable();
        once.dedup();
        prop_assert_eq!(once.len(), world.created.len(), "a step was made twice");
        let mut tried = world.tried.clone();
        tried.sort_unstable();
        let all: Vec<i32> = (0..case.fails.len()).filter(|_| case.tried).map(number).collect();
        prop_assert_eq!(tried, all, "each was tried once");

        let states: BTreeMap<i32, StepState> = status.step_statuses.iter().map(|s| (s.step_number, s.status)).collect();
        prop_assert_eq!(states.len(), case.fails.len());
        let made = |index: usize| world.created.contains(&number(index));
        let critical_failed = (0..case.fails.len()).any(|index| made(index) && case.fails[index] && case.critical[index]);
        for index in 0..case.fails.len() {
            let expected = match (made(index), case.fails[index]) {
                (true, true) => StepState::Failed,
                (true, false) => StepState::Completed,
                (false, _) => StepState::Skipped,
            };
            prop_assert_eq!(states[&number(index)], expected, "step {}", index);
            // Without a critical failure a step is skipped only for what it waits for.
            if !made(index) && !critical_failed {
                let cause = case.waits_for[index].iter().any(|other| states[&number(*other)] != StepState::Completed);
                prop_assert!(cause, "step {} was skipped for no reason", index);
            }
        }
        for step in &status.step_statuses {
            prop_assert!(step.status == StepState::Completed || step.error_message.is_some(), "no reason: {:?}", step);
        }
        let completed = states.values().filter(|state| **state == StepState::Completed).count();
        let expected = if critical_failed || completed == 0 { WorkflowPhase::Failed } else { WorkflowPhase::Completed };
        prop_assert_eq!(status.phase, Some(expected));
        let phases: Vec<&str> = status.phase_transitions.iter().map(|transition| transition.phase.as_str()).collect();
        let wanted: &[&str] = if expected == WorkflowPhase::Completed {
            &["planning", "validating", "executing", "monitoring", "completed"]
        } else {
            &["planning", "validating", "executing", "failed"]
        };
        prop_assert_eq!(phases, wanted);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn what_is_refused_for_ever_is_not_asked_again_without_a_pause(
        case in case(),
        call in prop::sample::select(&["check_rights", "create_execution", "write_workflow_status", "get_workflow", "get_execution"][..]),
        class in prop::sample::select(&crate::step::CLASSES[..]),
    ) {
        let mut world = World::new(&case);
        world.refused = Some((call, class));
        let world = live(&case, world);
        let first = world.repeated.first();
        prop_assert!(world.repeated.is_empty(), "{} times, first: {first:?}", world.repeated.len());
    }
}
