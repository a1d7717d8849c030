//! A cluster of one Deployment around one machine of a step, and what may happen to its calls.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kubernaut_crds::KubernetesExecution;
use kubernaut_machines::Settings;
use kubernaut_machines::api_command::{
    ApiCommand, ApiFailure, ApiOutcome, CommandId, FailureClass, RightsAnswer,
};
use kubernaut_machines::job_view::view;
use kubernaut_machines::reads::{Read, ReadResults};
use kubernaut_machines::step::{StepCommand, StepEvent, StepMachine};
use serde_json::{Value, json};

/// What becomes of the pod of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PodOutcome {
    Succeeds,
    /// kubectl fails in a way that another attempt may mend.
    Fails,
    /// kubectl fails for good.
    Forbidden,
    /// kubectl does its work, and then reports a failure.
    LiesAboutFailure,
    Evicted,
}

/// What becomes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallFault {
    Good,
    /// Refused before anything was done.
    Throttled,
    /// The connection breaks before the call takes effect.
    LostBefore,
    /// The connection breaks after the call took effect.
    LostAfter,
    /// The answer comes twice.
    Twice,
    /// The controller dies before the call takes effect.
    CrashBefore,
    /// The controller dies after the call took effect.
    CrashAfter,
    /// Somebody touches the object first: the write conflicts.
    Touched,
    /// The connection breaks, and what was to be made is made so many seconds later.
    Late(u8),
    /// The controller dies after the call took effect, and the next one starts so many seconds later.
    Down(u8),
    /// Refused as the world refuses all calls of this name.
    Refused(FailureClass),
}

/// What is made late.
#[derive(Clone, Debug)]
pub(crate) enum Late {
    Job(Box<Job>),
    Payload(String),
}

pub(crate) struct World {
    pub(crate) now: Timestamp,
    pub(crate) version: u64,
    pub(crate) execution: KubernetesExecution,
    /// Job, attempt and whether its pod has ended.
    pub(crate) jobs: BTreeMap<String, (Job, Option<Pod>)>,
    pub(crate) made: Vec<String>,
    pub(crate) fates: Vec<PodOutcome>,
    pub(crate) replicas: i64,
    pub(crate) effects: usize,
    pub(crate) phases: Vec<String>,
    /// Secrets with payloads.
    pub(crate) payloads: BTreeSet<String>,
    /// What is under way to the API server, and when it comes.
    pub(crate) late: Vec<(Timestamp, Late)>,
    /// Every call of this name is answered so, for ever.
    pub(crate) refused: Option<(&'static str, FailureClass)>,
    /// What was sent since the clock moved, or something came from outside.
    sent_at_once: Vec<ApiCommand>,
    /// The version that the controller was shown last.
    seen: u64,
    /// How many events the machines were fed.
    pub(crate) events: usize,
    /// After so many events the controller dies, and another one begins where it was.
    pub(crate) dies_after: Option<usize>,
    /// What must never be.
    pub(crate) wrong: Vec<String>,
}

pub(crate) const WANTED: i64 = 5;

fn execution(max_retries: i32) -> KubernetesExecution {
    serde_json::from_value(json!({
        "apiVersion": "kubernetesexecution.kubernaut.io/v1", "kind": "KubernetesExecution",
        "metadata": {"name": "fix-step-1", "namespace": "shop", "uid": "uid-1", "resourceVersion": "1", "generation": 1,
                     "finalizers": ["kubernetesexecution.kubernaut.io/kubernetesexecution-cleanup"]},
        "spec": {"action": "scale-deployment", "approvalReceived": true, "maxRetries": max_retries, "timeout": "5m",
                 "parameters": {"scaleDeployment": {"namespace": "shop", "deployment": "web", "replicas": WANTED}}}
    }))
    .expect("an execution")
}

impl World {
    pub(crate) fn new(max_retries: i32, fates: Vec<PodOutcome>) -> Self {
        Self {
            now: Timestamp::from_second(1_800_000_000).expect("a time"),
            version: 1,
            execution: execution(max_retries),
            jobs: BTreeMap::new(),
            made: Vec::new(),
            fates,
            replicas: 1,
            effects: 0,
            phases: Vec::new(),
            payloads: BTreeSet::new(),
            late: Vec::new(),
            refused: None,
            sent_at_once: Vec::new(),
            seen: 1,
            events: 0,
            dies_after: None,
            wrong: Vec::new(),
        }
    }

    /// A call leaves the controller. Nothing has changed since the last one but its own doing: the same call again would be the
    /// first turn of a loop.
    fn leaves(&mut self, command: &ApiCommand) {
        if self.sent_at_once.contains(command) {
            self.wrong
                .push(format!("{} was sent again without a pause", command.name()));
        }
        self.sent_at_once.push(command.clone());
    }

    /// With a step that needs a payload. Whether it took effect nobody can read.
    pub(crate) fn of_a_secret(max_retries: i32, fates: Vec<PodOutcome>) -> Self {
        let mut world = Self::new(max_retries, fates);
        let mut spec = serde_json::to_value(&world.execution.spec).expect("JSON");
        spec["action"] = json!("update-secret");
        spec["parameters"] =
            json!({"updateSecret": {"namespace": "shop", "secret": "keys", "data": {"k": "bmV3"}}});
        world.execution.spec = serde_json::from_value(spec).expect("a spec");
        world
    }

    /// With a step that is only tried.
    pub(crate) fn only_tried(mut self) -> Self {
        self.execution.spec.dry_run = Some(true);
        self
    }

    /// Whether the controller has died by now; it does so once.
    fn is_dead(&mut self) -> bool {
        let is_dead = self.dies_after.is_some_and(|after| self.events > after);
        if is_dead {
            self.dies_after = None;
        }
        is_dead
    }

    fn touch(&mut self) {
        self.version += 1;
        self.execution.metadata.resource_version = Some(self.version.to_string());
    }

    pub(crate) fn views(&self) -> Vec<kubernaut_machines::job_view::JobView> {
        self.jobs
            .iter()
            .filter_map(|(name, (job, pod))| view(name, Some(job), pod))
            .collect()
    }

    fn deployment(&self) -> Value {
        json!({"metadata": {"generation": 1}, "spec": {"replicas": self.replicas},
               "status": {"observedGeneration": 1, "replicas": self.replicas, "readyReplicas": self.replicas}})
    }

    /// Lets every pod that has not ended meet its fate.
    pub(crate) fn run_pods(&mut self) {
        for (name, (job, pod)) in &mut self.jobs {
            if pod.is_some() {
                continue;
            }
            self.sent_at_once.clear();
            let attempt: usize = name
                .rsplit('-')
                .next()
                .and_then(|n| n.parse().ok())
                .expect("an attempt");
            let is_dry = format!("{job:?}").contains("--dry-run=server");
            if is_dry != (attempt == 0) {
                self.wrong.push(format!("attempt {attempt} is dry: {is_dry}"));
            }
            let fate = self
                .fates
                .get(attempt.saturating_sub(1))
                .copied()
                .unwrap_or(PodOutcome::Succeeds);
            let message = match fate {
                PodOutcome::Succeeds | PodOutcome::LiesAboutFailure if is_dry => "deployment.apps/web scaled",
                PodOutcome::Succeeds | PodOutcome::LiesAboutFailure => {
                    self.replicas = WANTED;
                    self.effects += 1;
                    "deployment.apps/web scaled"
                }
                PodOutcome::Fails => "Error from server (ServiceUnavailable): try again",
                PodOutcome::Forbidden => "Error from server (Forbidden): no",
                PodOutcome::Evicted => "evicted",
            };
            let failed = fate != PodOutcome::Succeeds;
            let conditions = if fate == PodOutcome::Evicted {
                json!([{"type": "DisruptionTarget", "status": "True"}])
            } else {
                json!([])
            };
            *pod = serde_json::from_value(json!({
                "metadata": {"name": format!("{name}-pod"), "ownerReferences": [
                    {"apiVersion": "batch/v1", "kind": "Job", "name": name, "controller": true,
                     "uid": job.metadata.uid.clone().expect("a uid")}]},
                "status": {"phase": if failed { "Failed" } else { "Succeeded" }, "conditions": conditions,
                           "containerStatuses": [{"name": "kubectl", "image": "", "imageID": "", "ready": false,
                               "restartCount": 0,
                               "state": {"terminated": {"exitCode": i32::from(failed), "message": message}}}]}
            }))
            .expect("a pod");
        }
    }

    /// A create leaves the controller.
    fn sent(&mut self, job: &Job) {
        let attempts = &self.execution.status.as_ref().expect("a record").attempts;
        let attempt = attempts.last().expect("a record");
        if Some(&attempt.job_name) != job.metadata.name.as_ref() || attempt.outcome.is_some() {
            self.wrong.push(format!("a Job without its record: {attempt:?}"));
        }
        if self.now >= attempt.deadline.0 {
            self.wrong
                .push(format!("a Job after its deadline: {} {attempt:?}", self.now));
        }
    }

    /// A create takes effect; false when the Job is there.
    fn make(&mut self, mut job: Job) {
        let name = job.metadata.name.clone().expect("a name");
        if self.jobs.contains_key(&name) {
            return;
        }
        if let Some((other, _)) = self.jobs.iter().find(|(_, (_, pod))| pod.is_none()) {
            self.wrong.push(format!("{name} was made while {other} lived"));
        }
        self.made.push(name.clone());
        job.metadata.uid = Some(format!("job-{}", self.made.len()));
        self.jobs.insert(name, (job, None));
    }

    /// Time goes on, and what was late comes.
    pub(crate) fn go_to(&mut self, at: Timestamp) {
        if at > self.now {
            self.sent_at_once.clear();
        }
        self.now = self.now.max(at);
        let (due, later) = std::mem::take(&mut self.late)
            .into_iter()
            .partition(|(at, _)| *at <= self.now);
        self.late = later;
        for (_, late) in due {
            match late {
                Late::Job(job) => self.make(*job),
                Late::Payload(name) => drop(self.payloads.insert(name)),
            }
        }
    }

    /// Carries a call out.
    pub(crate) fn call(&mut self, command: ApiCommand) -> Result<ApiOutcome, ApiFailure> {
        let conflict = || ApiFailure {
            class: FailureClass::Conflict,
            message: "the object has been modified".into(),
        };
        match command {
            ApiCommand::CheckRights(_) => Ok(ApiOutcome::Rights(RightsAnswer::default())),
            ApiCommand::Read(reads) => {
                let found = |read: &Read| match read {
                    Read::Get { kind, .. } if kind == "Deployment" => vec![self.deployment()],
                    Read::Get { .. } | Read::List { .. } => Vec::new(),
                };
                Ok(ApiOutcome::ReadResults(
                    reads
                        .iter()
                        .map(|read| (read.clone(), found(read)))
                        .collect::<ReadResults>(),
                ))
            }
            ApiCommand::WriteExecutionStatus { patch, .. } => {
                if patch["metadata"]["resourceVersion"] != json!(self.execution.metadata.resource_version) {
                    // Somebody was here: everything is decided again.
                    self.sent_at_once.clear();
                    return Err(conflict());
                }
                let mut object = serde_json::to_value(&self.execution).expect("JSON");
                merge(&mut object["status"], &patch["status"]);
                self.execution = serde_json::from_value(object).expect("a status of the type");
                self.touch();
                self.seen = self.version;
                let transitions = &self
                    .execution
                    .status
                    .as_ref()
                    .expect("a status")
                    .phase_transitions;
                self.phases = transitions
                    .iter()
                    .map(|transition| transition.phase.clone())
                    .collect();
                Ok(ApiOutcome::Execution(Arc::new(self.execution.clone())))
            }
            ApiCommand::GetExecution { .. } => {
                if self.seen != self.version {
                    self.sent_at_once.clear();
                }
                self.seen = self.version;
                Ok(ApiOutcome::FoundExecution(Some(Arc::new(self.execution.clone()))))
            }
            ApiCommand::CreateJob { job, secret, .. } => {
                self.sent(&job);
                let name = job.metadata.name.clone().expect("a name");
                self.payloads.extend(secret.map(|_| name.clone()));
                self.make(*job);
                let (job, pod) = &self.jobs[&name];
                let job = view(&name, Some(job), pod).expect("a Job");
                Ok(ApiOutcome::JobCreated(Box::new(job)))
            }
            ApiCommand::GetJob { name, .. } => Ok(ApiOutcome::FoundJob(
                self.views()
                    .into_iter()
                    .find(|job| job.name == name)
                    .map(Box::new),
            )),
            ApiCommand::DeleteJob { name, uid } => {
                if self
                    .jobs
                    .get(&name)
                    .is_some_and(|(job, _)| job.metadata.uid.as_deref() == Some(&uid))
                {
                    self.jobs.remove(&name);
                }
                Ok(ApiOutcome::Deleted)
            }
            ApiCommand::DeleteSecret { name, .. } => {
                self.payloads.remove(&name);
                Ok(ApiOutcome::Deleted)
            }
            ApiCommand::Judge(_) => panic!("there are no policies"),
            ApiCommand::ExplainJob { .. } => Ok(ApiOutcome::Explained(Vec::new())),
            ApiCommand::PatchExecution { change, .. } => {
                self.execution.metadata.finalizers = change.finalizers;
                self.touch();
                Ok(ApiOutcome::Execution(Arc::new(self.execution.clone())))
            }
            ApiCommand::GetWorkflow { .. }
            | ApiCommand::GetUndone { .. }
            | ApiCommand::WriteWorkflowStatus { .. }
            | ApiCommand::CreateExecution(_) => panic!("a step does not ask for this"),
        }
    }
}

pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().expect("an object").remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}

pub(crate) fn start(world: &World) -> (StepMachine, Vec<StepCommand>) {
    let execution = Arc::new(world.execution.clone());
    let settings = Settings {
        max_step_timeout: Duration::from_secs(24 * 3600),
        ..Settings::default()
    };
    let mut machine = StepMachine::restore(Arc::new(settings), execution.clone(), false);
    let mut commands = machine.on_event(world.now, StepEvent::JobsObserved(world.views()));
    commands.extend(machine.on_event(world.now, StepEvent::Observed(execution)));
    (machine, commands)
}

fn feed(world: &mut World, machine: &mut StepMachine, event: StepEvent) -> Vec<StepCommand> {
    world.events += 1;
    machine.on_event(world.now, event)
}

/// Lives one life; returns the world at its end.
#[expect(clippy::too_many_lines, reason = "one life")]
pub(crate) fn live(timeout: &str, mut world: World, luck: &[CallFault]) -> World {
    timeout.clone_into(&mut world.execution.spec.timeout);
    let mut luck = luck.iter().copied();
    let (mut machine, mut commands) = start(&world);
    let mut shown = world.views();
    for _ in 0..2_000 {
        if world.is_dead() {
            world.sent_at_once.clear();
            (machine, commands) = start(&world);
            shown = world.views();
        }
        let mut stopped = false;
        let mut next = Vec::new();
        let mut crashed = false;
        for command in std::mem::take(&mut commands) {
            match command {
                StepCommand::Api { id, command, .. } => {
                    world.leaves(&command);
                    let refused = world.refused.filter(|(name, _)| *name == command.name());
                    let luck = match refused {
                        Some((_, class)) => CallFault::Refused(class),
                        None => luck.next().unwrap_or(CallFault::Good),
                    };
                    let lost = |words: &str| ApiFailure {
                        class: FailureClass::Unknown,
                        message: words.into(),
                    };
                    let result = match luck {
                        CallFault::Good | CallFault::Twice => world.call(command),
                        CallFault::Throttled => Err(ApiFailure {
                            class: FailureClass::Throttled,
                            message: "slow down".into(),
                        }),
                        CallFault::LostBefore => Err(lost("connection reset")),
                        CallFault::Late(seconds) => {
                            if let ApiCommand::CreateJob { job, secret, .. } = command {
                                world.sent(&job);
                                let at = world.now + Duration::from_secs(seconds.into());
                                let name = job.metadata.name.clone().expect("a name");
                                // The Job is sent when the payload is there.
                                if secret.is_some() && seconds % 2 == 0 {
                                    world.late.push((at, Late::Payload(name)));
                                } else {
                                    world.payloads.extend(secret.map(|_| name));
                                    world.late.push((at, Late::Job(job)));
                                }
                            }
                            Err(lost("connection reset"))
                        }
                        CallFault::Down(seconds) => {
                            let _ = world.call(command);
                            world.go_to(world.now + Duration::from_secs(seconds.into()));
                            crashed = true;
                            break;
                        }
                        CallFault::LostAfter => world.call(command).and(Err(lost("connection reset"))),
                        CallFault::CrashBefore => {
                            crashed = true;
                            break;
                        }
                        CallFault::CrashAfter => {
                            let _ = world.call(command);
                            crashed = true;
                            break;
                        }
                        CallFault::Touched => {
                            world.touch();
                            world.sent_at_once.clear();
                            world.call(command)
                        }
                        CallFault::Refused(class) => Err(ApiFailure {
                            class,
                            message: "no".into(),
                        }),
                    };
                    if luck == CallFault::Twice {
                        next.extend(feed(
                            &mut world,
                            &mut machine,
                            StepEvent::Finished {
                                id,
                                result: result.clone(),
                            },
                        ));
                    }
                    // A result nobody waits for changes nothing.
                    let stale = feed(
                        &mut world,
                        &mut machine,
                        StepEvent::Finished {
                            id: CommandId(u64::MAX),
                            result: result.clone(),
                        },
                    );
                    assert_eq!(stale, Vec::new());
                    next.extend(feed(&mut world, &mut machine, StepEvent::Finished { id, result }));
                }
                StepCommand::AcquireLock { .. } => {
                    next.extend(feed(&mut world, &mut machine, StepEvent::LockGranted));
                }
                StepCommand::AcquireSlot => {
                    next.extend(feed(&mut world, &mut machine, StepEvent::SlotGranted));
                }
                StepCommand::Stop => stopped = true,
                StepCommand::ReleaseLock
                | StepCommand::ReleaseSlot
                | StepCommand::Report(_)
                | StepCommand::Publish(_)
                | StepCommand::Announce(_) => {}
            }
            if world.is_dead() {
                crashed = true;
                break;
            }
        }
        if crashed {
            world.sent_at_once.clear();
            (machine, commands) = start(&world);
            shown = world.views();
            continue;
        }
        if stopped {
            break;
        }
        commands = next;
        if commands.is_empty() {
            // Nothing is under way: the world moves on, then the clock.
            let before = world.views();
            world.run_pods();
            let observed = Arc::new(world.execution.clone());
            commands.extend(feed(&mut world, &mut machine, StepEvent::Observed(observed)));
            if shown != world.views() {
                shown = world.views();
                world.sent_at_once.clear();
            }
            let jobs = StepEvent::JobsObserved(world.views());
            commands.extend(feed(&mut world, &mut machine, jobs));
            if commands.is_empty() && before == world.views() {
                let late = world.late.iter().map(|(at, _)| *at).min();
                let timer = machine.next_deadline().map(|(at, _)| at);
                let Some(at) = timer.into_iter().chain(late).min() else {
                    break;
                };
                world.go_to(at);
                let jobs = StepEvent::JobsObserved(world.views());
                commands.extend(feed(&mut world, &mut machine, jobs));
                commands.extend(feed(&mut world, &mut machine, StepEvent::Tick));
            }
        }
    }
    world
}
