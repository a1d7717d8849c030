//! The shell of one workflow: store, machine, commands.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use kubernaut_crds::{KubernetesExecution, WorkflowExecution};
use kubernaut_machines::api_command::{ApiCommand, ApiFailure, ApiOutcome, CommandId};
use kubernaut_machines::approval::Seen;
use kubernaut_machines::defect::{Defect, planted};
use kubernaut_machines::step::StepEvent;
use kubernaut_machines::time::later;
use kubernaut_machines::workflow::{WorkflowCommand, WorkflowEvent, WorkflowMachine, waits_for_people};
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::task::JoinSet;

use crate::changes::Dirty;
use crate::claims::{Claim, RunEnd, Sent};
use crate::context::{ActiveWorkflow, Context};
use crate::effects::Call;
use crate::ports::{ActorKind, Subject, uid_of, version_of};
use crate::restarts::Restarts;
use crate::slots::Progress;
use crate::step_actor::{Alive, StepHandle, StepState};
use crate::supervisor::SupervisorMessage;
use crate::timer::Timer;

/// Runs one `WorkflowExecution`: feeds its machine, and is the parent of the step actors of its executions.
pub(crate) struct WorkflowActor;

/// What a workflow actor is told.
pub(crate) enum WorkflowMessage {
    /// By itself: the first message.
    Started,
    /// Something in the store has changed: the workflow, or one of its executions.
    Poke,
    /// An API command ended.
    Finished {
        id: CommandId,
        result: Result<ApiOutcome, ApiFailure>,
    },
    /// What a step actor knows of its execution, before the store does.
    Reported(Arc<KubernetesExecution>),
    /// This actor may run the execution of this uid.
    Claimed { uid: String, claim: Claim },
    /// The pause after a crash of this execution's actor is over.
    Rested(String),
    /// One more slot is kept for the steps that are made next.
    SlotsKept,
    /// The timer of this key.
    Tick(u64),
}

/// What a workflow actor starts with.
pub(crate) struct WorkflowArguments {
    pub(crate) context: Arc<Context>,
    pub(crate) workflow: Arc<WorkflowExecution>,
    pub(crate) supervisor: ActorRef<SupervisorMessage>,
    /// Why the workflow is given up, when it is: then this is the first that the machine hears.
    pub(crate) give_up: Option<String>,
    pub(crate) dirty: Dirty,
}

/// Order of the fields is order of their drop: what is under way ends first.
pub(crate) struct WorkflowState {
    tasks: JoinSet<()>,
    /// Writes of the status, as in a step's actor.
    writes: JoinSet<()>,
    timer: Timer,
    machine: WorkflowMachine,
    context: Arc<Context>,
    subject: Arc<Subject>,
    supervisor: ActorRef<SupervisorMessage>,
    give_up: Option<String>,
    dirty: Dirty,
    /// The store has shown the workflow: only then does its absence mean anything.
    seen: bool,
    /// Versions of the executions that the store has shown.
    versions: BTreeMap<String, u64>,
    /// Executions that the store has shown once: only of these its silence says that they are gone.
    shown: BTreeSet<String>,
    /// Executions that have an actor, or shall have one.
    steps: BTreeMap<String, Step>,
    by_actor: HashMap<ActorId, String>,
    /// Versions of the executions whose machine said that nothing is left to do.
    ended: BTreeMap<String, u64>,
    released: BTreeSet<String>,
    finished_at: Option<u64>,
    rest: Option<Rest>,
    /// What its approval depends on, as the machine knows it.
    approvals: Option<Arc<Seen>>,
    _alive: Alive,
    /// None while it waits for people.
    active: Option<ActiveWorkflow>,
}

/// Nothing is to be done for a workflow before something changes: its actor ends meanwhile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rest {
    /// The workflow as it was then.
    pub(crate) version: u64,
    /// It is looked at again at this time at the latest.
    pub(crate) until: Timestamp,
}

struct Step {
    execution: Arc<KubernetesExecution>,
    run: Run,
    restarts: Restarts,
}

enum Run {
    /// The supervisor was asked for the claim.
    Claiming,
    Running(StepHandle),
    /// It crashed and is started again after a pause.
    Resting,
    /// It crashed too often; a newer version of the object is another chance.
    GivenUp,
}

/// The way to a running workflow actor.
#[derive(Clone)]
pub(crate) struct WorkflowHandle {
    pub(crate) actor: ActorRef<WorkflowMessage>,
    /// Namespace of the workflow.
    pub(crate) namespace: String,
    pub(crate) dirty: Dirty,
}

impl WorkflowHandle {
    /// Starts a workflow actor as a child of the supervisor.
    pub(crate) async fn spawn(
        context: Arc<Context>,
        workflow: Arc<WorkflowExecution>,
        give_up: Option<String>,
        supervisor: ActorRef<SupervisorMessage>,
    ) -> Option<Self> {
        let dirty = Dirty::default();
        let parent = supervisor.get_cell();
        let namespace = workflow.metadata.namespace.clone().unwrap_or_default();
        let arguments = WorkflowArguments {
            context,
            workflow,
            supervisor,
            give_up,
            dirty: dirty.clone(),
        };
        // pre_start does nothing that can fail; a supervisor that is stopping takes no children.
        let (actor, _) = WorkflowActor::spawn_linked(None, WorkflowActor, arguments, parent)
            .await
            .ok()?;
        Some(Self {
            actor,
            namespace,
            dirty,
        })
    }

    /// Says that something in the store has changed.
    pub(crate) fn poke(&self) {
        if self.dirty.set() {
            // An actor that has ended is noticed by the supervisor.
            let _ = self.actor.cast(WorkflowMessage::Poke);
        }
    }
}

impl Actor for WorkflowActor {
    type Msg = WorkflowMessage;
    type State = WorkflowState;
    type Arguments = WorkflowArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<WorkflowMessage>,
        arguments: WorkflowArguments,
    ) -> Result<WorkflowState, ActorProcessingErr> {
        let WorkflowArguments {
            context,
            workflow,
            supervisor,
            give_up,
            dirty,
        } = arguments;
        myself.cast(WorkflowMessage::Started)?;
        Ok(WorkflowState {
            tasks: JoinSet::new(),
            writes: JoinSet::new(),
            timer: Timer::new(Arc::clone(&context.clock)),
            subject: Arc::new(Subject::of_workflow(&workflow)),
            machine: WorkflowMachine::restore(Arc::clone(&context.settings), workflow),
            supervisor,
            give_up,
            dirty,
            seen: false,
            versions: BTreeMap::new(),
            shown: BTreeSet::new(),
            steps: BTreeMap::new(),
            by_actor: HashMap::new(),
            ended: BTreeMap::new(),
            released: BTreeSet::new(),
            finished_at: None,
            rest: None,
            approvals: None,
            _alive: Alive::new(Arc::clone(&context), ActorKind::Workflow),
            active: Some(ActiveWorkflow::new(Arc::clone(&context))),
            context,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<WorkflowMessage>,
        message: WorkflowMessage,
        state: &mut WorkflowState,
    ) -> Result<(), ActorProcessingErr> {
        state.handle(&myself, message).await;
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<WorkflowMessage>,
        event: SupervisionEvent,
        state: &mut WorkflowState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(cell, end, _) => {
                let end = end
                    .and_then(|mut end| end.take::<StepState>().ok())
                    .map(|step| step.end());
                state.step_ended(&myself, &cell, end);
            }
            SupervisionEvent::ActorFailed(cell, error) => state.step_crashed(&myself, &cell, &error),
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}

impl WorkflowState {
    /// Version of the workflow when its machine said that nothing is left to do.
    pub(crate) fn finished_at(&self) -> Option<u64> {
        self.finished_at
    }

    /// Set when it ended because its workflow only waits.
    pub(crate) fn rest(&self) -> Option<Rest> {
        self.rest
    }

    async fn handle(&mut self, myself: &ActorRef<WorkflowMessage>, message: WorkflowMessage) {
        self.context
            .maybe_panic_at(|| format!("workflow {}", self.subject.key));
        if self.finished_at.is_some() || self.rest.is_some() {
            // It only waits for its children to end; a claim that comes now is dropped, and so given back.
            return;
        }
        let ticked = matches!(message, WorkflowMessage::Tick(_));
        let mut events = VecDeque::new();
        match message {
            WorkflowMessage::Started => {
                if let Some(planning) = self.machine.planning().filter(|_| self.give_up.is_none()) {
                    let planned = self.context.desk.work(move || planning.make()).await;
                    self.machine.planned(planned);
                }
                events.extend(
                    self.give_up
                        .clone()
                        .map(|reason| WorkflowEvent::GiveUp { reason }),
                );
                self.look(&mut events);
            }
            WorkflowMessage::Poke => {
                self.dirty.clear();
                self.look(&mut events);
            }
            WorkflowMessage::Finished { id, result } => {
                events.push_back(WorkflowEvent::Finished { id, result });
            }
            WorkflowMessage::Reported(execution) => events.push_back(WorkflowEvent::StepObserved(execution)),
            WorkflowMessage::Claimed { uid, claim } => self.claimed(myself, &uid, claim).await,
            WorkflowMessage::Rested(uid) => self.rested(myself, &uid),
            WorkflowMessage::SlotsKept => {
                let kept = self.context.slots.kept_by(&self.subject.uid);
                events.push_back(WorkflowEvent::SlotsKept(kept));
            }
            WorkflowMessage::Tick(key) => {
                if !self.timer.is_due(key) {
                    return;
                }
                events.push_back(WorkflowEvent::Tick);
            }
        }
        self.feed(myself, events, ticked);
    }

    fn feed(
        &mut self,
        myself: &ActorRef<WorkflowMessage>,
        mut events: VecDeque<WorkflowEvent>,
        ticked: bool,
    ) {
        self.machine
            .write_progress_every(self.context.progress_interval());
        // Some commands are answered at once.
        while !events.is_empty() {
            let now = self.context.clock.now();
            for command in self.machine.on_events(now, std::mem::take(&mut events)) {
                self.carry_out(myself, command, &mut events);
            }
        }
        // What waits for people writes no progress, and shall not make that of others rarer.
        if waits_for_people(self.machine.workflow()) {
            self.active = None;
        } else if self.active.is_none() {
            self.active = Some(ActiveWorkflow::new(Arc::clone(&self.context)));
        }
        let deadline = self.machine.next_deadline().map(|(at, _)| at);
        if let Some(until) = deadline.filter(|_| self.machine.rests() && self.steps.is_empty()) {
            let version = version_of(&self.machine.workflow().metadata);
            self.rest = Some(Rest { version, until });
            myself.stop(None);
            return;
        }
        let actor = myself.clone();
        self.timer.arm(deadline, ticked, move |key| {
            let _ = actor.cast(WorkflowMessage::Tick(key));
        });
    }

    /// Reads the store: the executions first, so that the workflow's status is never judged without them.
    fn look(&mut self, events: &mut VecDeque<WorkflowEvent>) {
        let Subject { uid, key, .. } = &*self.subject;
        // Before anything is decided.
        let seen = self
            .context
            .approvals_seen(&key.namespace, uid, &mut self.approvals);
        events.extend(seen.map(WorkflowEvent::ApprovalsSeen));
        // A machine that crashed on its steps shall say so, and not look at them again.
        if self.give_up.is_none() {
            let mut absent: BTreeSet<String> = self.versions.keys().cloned().collect();
            for (execution_uid, version) in self.context.store.execution_versions_of(uid) {
                absent.remove(&execution_uid);
                if self.versions.get(&execution_uid) == Some(&version) {
                    continue;
                }
                // One that went since is absent the next time.
                if let Some(execution) = self.context.store.execution(&execution_uid) {
                    self.shown.insert(execution_uid.clone());
                    self.versions
                        .insert(execution_uid, version_of(&execution.metadata));
                    events.push_back(WorkflowEvent::StepObserved(execution));
                }
            }
            for uid in absent {
                self.versions.remove(&uid);
                events.push_back(WorkflowEvent::StepAbsent { uid });
            }
        }
        match self.context.store.workflow(uid) {
            Some(workflow) => {
                self.seen = true;
                events.push_back(WorkflowEvent::Observed(workflow));
            }
            None if self.seen => events.push_back(WorkflowEvent::Gone),
            None => {}
        }
    }

    fn carry_out(
        &mut self,
        myself: &ActorRef<WorkflowMessage>,
        command: WorkflowCommand,
        events: &mut VecDeque<WorkflowEvent>,
    ) {
        match command {
            WorkflowCommand::Api { id, command, terms } => {
                let actor = myself.clone();
                let sent = Sent::asked_for(self.context.clock.now());
                let tasks = if matches!(command, ApiCommand::WriteWorkflowStatus { .. }) {
                    &mut self.writes
                } else {
                    &mut self.tasks
                };
                let call = Call { command, terms, sent };
                self.context
                    .effects
                    .start(tasks, &self.subject, call, move |result| {
                        let _ = actor.cast(WorkflowMessage::Finished { id, result });
                    });
            }
            WorkflowCommand::KeepSlots(wanted) => {
                let actor = myself.clone();
                let wake = Arc::new(move || {
                    let _ = actor.cast(WorkflowMessage::SlotsKept);
                });
                let Subject { uid, key, .. } = &*self.subject;
                let slots = &self.context.slots;
                let kept = slots.keep(uid, &key.namespace, wanted, Progress::Begun, wake);
                self.context.gauges();
                events.push_back(WorkflowEvent::SlotsKept(kept));
            }
            WorkflowCommand::EnsureStep(execution) => self.ensure_step(myself, execution),
            WorkflowCommand::ReleaseStep { uid } => {
                if let Some(Step {
                    run: Run::Running(handle),
                    ..
                }) = self.steps.get(&uid)
                {
                    let _ = handle.actor.cast(crate::step_actor::StepMessage::Released);
                }
                self.released.insert(uid);
            }
            WorkflowCommand::Publish(event) => self.context.publisher.publish(&self.subject, event),
            WorkflowCommand::Announce(announcement) => {
                self.context.observer.announce(&self.subject, &announcement);
            }
            WorkflowCommand::Stop => {
                self.writes.detach_all();
                self.context.slots.forget(&self.subject.uid);
                self.finished_at = Some(version_of(&self.machine.workflow().metadata));
                for (uid, step) in &self.steps {
                    // An execution that is gone has nobody else who clears away what its Job was made of.
                    let is_gone = self.shown.contains(uid) && self.context.store.execution(uid).is_none();
                    if let Run::Running(handle) = &step.run
                        && !is_gone
                    {
                        handle.actor.stop(None);
                    }
                }
                self.stop_when_alone(myself);
            }
        }
    }

    fn ensure_step(&mut self, myself: &ActorRef<WorkflowMessage>, execution: Arc<KubernetesExecution>) {
        let uid = uid_of(&execution.metadata).to_owned();
        let version = version_of(&execution.metadata);
        if self.ended.get(&uid).is_some_and(|ended| version <= *ended) {
            return;
        }
        if let Some(step) = self.steps.get_mut(&uid) {
            let newer = version > version_of(&step.execution.metadata);
            if newer {
                step.execution = execution;
            }
            if !(newer && matches!(step.run, Run::GivenUp)) {
                return;
            }
            step.run = Run::Claiming;
            step.restarts = Restarts::default();
        } else {
            self.context.slots.hand_over(&self.subject.uid, &uid);
            let step = Step {
                execution,
                run: Run::Claiming,
                restarts: Restarts::default(),
            };
            self.steps.insert(uid.clone(), step);
        }
        self.claim(myself, uid);
    }

    fn claim(&self, myself: &ActorRef<WorkflowMessage>, uid: String) {
        let workflow = self.subject.uid.clone();
        let claim = SupervisorMessage::Claim {
            uid,
            workflow,
            actor: myself.clone(),
        };
        // Without a supervisor this actor ends, too.
        let _ = self.supervisor.cast(claim);
    }

    async fn claimed(&mut self, myself: &ActorRef<WorkflowMessage>, uid: &str, claim: Claim) {
        let Some(step) = self
            .steps
            .get_mut(uid)
            .filter(|step| matches!(step.run, Run::Claiming))
        else {
            return;
        };
        let number = claim.number();
        let handle = StepHandle::spawn(
            Arc::clone(&self.context),
            Arc::clone(&step.execution),
            claim,
            Some(myself.clone()),
            self.released.contains(uid).then_some(StepEvent::Released),
            myself.get_cell(),
        );
        let Some(handle) = handle.await else {
            return;
        };
        step.restarts.started(self.context.clock.now());
        self.by_actor.insert(handle.actor.get_id(), uid.to_owned());
        step.run = Run::Running(handle.clone());
        let _ = self.supervisor.cast(SupervisorMessage::Running {
            uid: uid.to_owned(),
            number,
            handle,
        });
    }

    fn rested(&mut self, myself: &ActorRef<WorkflowMessage>, uid: &str) {
        let resting = self
            .steps
            .get_mut(uid)
            .filter(|step| matches!(step.run, Run::Resting));
        if let Some(step) = resting {
            step.run = Run::Claiming;
            self.claim(myself, uid.to_owned());
        }
    }

    fn step_ended(&mut self, myself: &ActorRef<WorkflowMessage>, cell: &ActorCell, end: Option<RunEnd>) {
        let Some(uid) = self.by_actor.remove(&cell.get_id()) else {
            return;
        };
        self.steps.remove(&uid);
        if let Some(end) = end.filter(|end| end.finished) {
            self.ended.insert(uid.clone(), end.version);
        }
        if self.finished_at.is_some() {
            self.stop_when_alone(myself);
            return;
        }
        // What changed while it ended: a deletion, say. One that the store never showed may have gone before it could.
        let latest = match self.context.store.execution(&uid) {
            Some(execution) => WorkflowEvent::StepObserved(execution),
            None if planted(Defect::NotAskAfterTheSilent) => return,
            None => WorkflowEvent::StepAbsent { uid },
        };
        self.feed(myself, VecDeque::from([latest]), false);
    }

    fn step_crashed(
        &mut self,
        myself: &ActorRef<WorkflowMessage>,
        cell: &ActorCell,
        error: &ActorProcessingErr,
    ) {
        let Some(uid) = self.by_actor.remove(&cell.get_id()) else {
            return;
        };
        if self.finished_at.is_some() {
            self.steps.remove(&uid);
            self.stop_when_alone(myself);
            return;
        }
        let Some(step) = self.steps.get_mut(&uid) else {
            return;
        };
        let now = self.context.clock.now();
        self.context.observer.restarted(ActorKind::Step);
        let execution = step.execution.metadata.name.clone().unwrap_or_default();
        if let Some(pause) = step.restarts.crashed(now) {
            tracing::error!(namespace = self.subject.key.namespace, execution, %error, pause = %humantime::format_duration(pause), "a step actor crashed and is started again");
            step.run = Run::Resting;
            let actor = myself.clone();
            let sleep = self.context.clock.sleep_until(later(now, pause));
            self.tasks.spawn(async move {
                sleep.await;
                let _ = actor.cast(WorkflowMessage::Rested(uid));
            });
        } else {
            tracing::error!(namespace = self.subject.key.namespace, execution, %error, "a step actor crashed too often and is given up");
            step.run = Run::GivenUp;
            let reason = format!(
                "the controller crashed {} times on this step: {error}",
                crate::restarts::MAX_RESTARTS + 1
            );
            self.feed(myself, [WorkflowEvent::StepGivenUp { uid, reason }].into(), false);
        }
    }

    /// A stopping parent kills its children in the middle of what they do: they go first.
    fn stop_when_alone(&self, myself: &ActorRef<WorkflowMessage>) {
        if self.by_actor.is_empty() {
            myself.stop(None);
        }
    }
}
