//! The shell of one step: store, machine, commands.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;
use kubernaut_crds::KubernetesExecution;
use kubernaut_machines::api_command::{ApiCommand, ApiFailure, ApiOutcome, CommandId};
use kubernaut_machines::approval::Seen;
use kubernaut_machines::job_view::JobView;
use kubernaut_machines::policy_input::with_others;
use kubernaut_machines::step::{StepCommand, StepEvent, StepMachine};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::task::JoinSet;

use crate::changes::Dirty;
use crate::claims::{Claim, RunEnd, Sent, UnseenJob};
use crate::context::Context;
use crate::effects::Call;
use crate::locks::{Acquired, Wake};
use crate::ports::{ActorKind, Subject, WaitKind, version_of};
use crate::timer::Timer;
use crate::workflow_actor::WorkflowMessage;

/// Runs one `KubernetesExecution`: feeds its machine and carries out what it asks for.
pub(crate) struct StepActor;

/// What a step actor is told.
pub(crate) enum StepMessage {
    /// By itself: the first message.
    Started,
    /// Something in the store has changed.
    Poke,
    /// An API command ended.
    Finished {
        id: CommandId,
        result: Result<ApiOutcome, ApiFailure>,
    },
    /// The wait number so-and-so is over: it holds what it waited for.
    Granted { kind: WaitKind, wait: u64 },
    /// The workflow has recorded how this step ended.
    Released,
    /// The timer of this key.
    Tick(u64),
}

/// What a step actor starts with.
pub(crate) struct StepArguments {
    pub(crate) context: Arc<Context>,
    pub(crate) execution: Arc<KubernetesExecution>,
    pub(crate) claim: Claim,
    /// The workflow that waits for its outcome.
    pub(crate) workflow: Option<ActorRef<WorkflowMessage>>,
    /// What the machine is told before anything else.
    pub(crate) first: Option<StepEvent>,
    pub(crate) dirty: Dirty,
}

/// Order of the fields is order of their drop: what is under way ends before the claim is given back.
pub(crate) struct StepState {
    tasks: JoinSet<()>,
    /// Writes of the status. The watch may show one before its answer comes, and end this actor: they are let come to their end, since
    /// to take back a request costs its connection.
    writes: JoinSet<()>,
    timer: Timer,
    machine: StepMachine,
    context: Arc<Context>,
    subject: Arc<Subject>,
    workflow: Option<ActorRef<WorkflowMessage>>,
    first: Option<StepEvent>,
    dirty: Dirty,
    jobs: Vec<JobView>,
    /// What its approval depends on, as the machine knows it.
    approvals: Option<Arc<Seen>>,
    /// The last command that asked for a Job.
    creating: Option<CommandId>,
    waits: u64,
    lock: Wait,
    slot: Wait,
    _alive: Alive,
    claim: Claim,
}

/// A wait inside the controller; its number tells a grant from one that came too late.
#[derive(Default)]
struct Wait {
    number: u64,
    since: Option<Timestamp>,
}

/// The way to a running step actor.
#[derive(Clone)]
pub(crate) struct StepHandle {
    pub(crate) actor: ActorRef<StepMessage>,
    /// Namespace of the execution.
    pub(crate) namespace: String,
    dirty: Dirty,
}

impl StepHandle {
    /// Starts a step actor as a child of `parent`.
    pub(crate) async fn spawn(
        context: Arc<Context>,
        execution: Arc<KubernetesExecution>,
        claim: Claim,
        workflow: Option<ActorRef<WorkflowMessage>>,
        first: Option<StepEvent>,
        parent: ractor::ActorCell,
    ) -> Option<Self> {
        let dirty = Dirty::default();
        let namespace = execution.metadata.namespace.clone().unwrap_or_default();
        let arguments = StepArguments {
            context,
            execution,
            claim,
            workflow,
            first,
            dirty: dirty.clone(),
        };
        // pre_start does nothing that can fail; a parent that is stopping takes no children.
        let (actor, _) = StepActor::spawn_linked(None, StepActor, arguments, parent)
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
            // An actor that has ended is noticed by its parent.
            let _ = self.actor.cast(StepMessage::Poke);
        }
    }
}

impl Actor for StepActor {
    type Msg = StepMessage;
    type State = StepState;
    type Arguments = StepArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<StepMessage>,
        arguments: StepArguments,
    ) -> Result<StepState, ActorProcessingErr> {
        let StepArguments {
            context,
            execution,
            claim,
            workflow,
            first,
            dirty,
        } = arguments;
        myself.cast(StepMessage::Started)?;
        Ok(StepState {
            tasks: JoinSet::new(),
            writes: JoinSet::new(),
            timer: Timer::new(Arc::clone(&context.clock)),
            subject: Arc::new(Subject::of_execution(&execution)),
            machine: StepMachine::restore(Arc::clone(&context.settings), execution, workflow.is_some()),
            workflow,
            first,
            dirty,
            jobs: Vec::new(),
            approvals: None,
            creating: None,
            waits: 0,
            lock: Wait::default(),
            slot: Wait::default(),
            _alive: Alive::new(Arc::clone(&context), ActorKind::Step),
            context,
            claim,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<StepMessage>,
        message: StepMessage,
        state: &mut StepState,
    ) -> Result<(), ActorProcessingErr> {
        state.handle(&myself, message).await;
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<StepMessage>,
        _: SupervisionEvent,
        _: &mut StepState,
    ) -> Result<(), ActorProcessingErr> {
        // It has no children; the default would end it.
        Ok(())
    }
}

impl StepState {
    pub(crate) fn end(&self) -> RunEnd {
        self.claim.end()
    }

    async fn handle(&mut self, myself: &ActorRef<StepMessage>, message: StepMessage) {
        self.context
            .maybe_panic_at(|| format!("step {}", self.subject.key));
        let ticked = matches!(message, StepMessage::Tick(_));
        let mut events = VecDeque::new();
        match message {
            StepMessage::Started => {
                if let Some(checking) = self.machine.checking() {
                    let checked = self.context.desk.work(move || checking.make()).await;
                    self.machine.was_checked(checked);
                }
                events.extend(self.first.take());
                self.look(&mut events);
                if !self.claim.is_stored() {
                    events.push_back(StepEvent::Observed(Arc::clone(self.machine.execution())));
                }
            }
            StepMessage::Poke => {
                self.dirty.clear();
                self.look(&mut events);
            }
            StepMessage::Finished { id, result } => {
                if self.creating == Some(id)
                    && result.as_ref().is_err_and(|failure| failure.class.is_refusal())
                {
                    self.claim.refused();
                }
                events.push_back(StepEvent::Finished { id, result });
            }
            StepMessage::Granted { kind, wait } => events.extend(self.granted(kind, wait)),
            StepMessage::Released => events.push_back(StepEvent::Released),
            StepMessage::Tick(key) => {
                if !self.timer.is_due(key) {
                    return;
                }
                events.push_back(StepEvent::Tick);
            }
        }
        while let Some(event) = events.pop_front() {
            for command in self.machine.on_event(self.context.clock.now(), event) {
                self.carry_out(myself, command, &mut events);
            }
        }
        self.claim.seen(version_of(&self.machine.execution().metadata));
        let deadline = self.machine.next_deadline().map(|(at, _)| at);
        let actor = myself.clone();
        self.timer.arm(deadline, ticked, move |key| {
            let _ = actor.cast(StepMessage::Tick(key));
        });
    }

    /// Reads the store. Jobs first: what the status says is then never older than what is known of its Jobs.
    fn look(&mut self, events: &mut VecDeque<StepEvent>) {
        let Subject { uid, key, .. } = &*self.subject;
        let seen = self
            .context
            .approvals_seen(&key.namespace, uid, &mut self.approvals);
        events.extend(seen.map(StepEvent::ApprovalsSeen));
        let jobs = self.context.store.jobs_of(&self.subject.uid);
        if jobs != self.jobs {
            self.jobs.clone_from(&jobs);
            self.claim.shown(&jobs);
            events.push_back(StepEvent::JobsObserved(jobs));
        }
        match self.context.store.execution(&self.subject.uid) {
            Some(execution) => {
                self.claim.stored();
                events.push_back(StepEvent::Observed(execution));
            }
            None if self.claim.is_stored() => events.push_back(StepEvent::Gone),
            None => {}
        }
    }

    fn carry_out(
        &mut self,
        myself: &ActorRef<StepMessage>,
        command: StepCommand,
        events: &mut VecDeque<StepEvent>,
    ) {
        let uid = &self.subject.uid;
        match command {
            StepCommand::Api { id, command, terms } => {
                let command = self.with_others(command);
                let sent = Sent::asked_for(self.context.clock.now());
                if let ApiCommand::CreateJob { job, .. } = &command {
                    let name = job.metadata.name.clone().unwrap_or_default();
                    self.creating = Some(id);
                    self.claim.asked_for(UnseenJob::new(name, sent.clone()));
                }
                let actor = myself.clone();
                let tasks = if matches!(command, ApiCommand::WriteExecutionStatus { .. }) {
                    &mut self.writes
                } else {
                    &mut self.tasks
                };
                let call = Call { command, terms, sent };
                self.context
                    .effects
                    .start(tasks, &self.subject, call, move |result| {
                        let _ = actor.cast(StepMessage::Finished { id, result });
                    });
            }
            StepCommand::AcquireLock { target, nodes } => {
                let (wait, wake) = self.wake(myself, WaitKind::Lock);
                let execution = self.machine.execution();
                events.push_back(
                    match self.context.locks.acquire(execution, &target, nodes, wake) {
                        Acquired::Granted => StepEvent::LockGranted,
                        Acquired::Busy { reason } => {
                            self.lock = wait;
                            StepEvent::LockBusy { reason }
                        }
                    },
                );
                self.context.gauges();
            }
            StepCommand::ReleaseLock => {
                self.lock = Wait::default();
                self.context.locks.release(uid);
                self.context.gauges();
            }
            StepCommand::AcquireSlot => {
                let (wait, wake) = self.wake(myself, WaitKind::Slot);
                let namespace = &self.subject.key.namespace;
                events.push_back(
                    match self.context.slots.acquire(&self.subject.uid, namespace, wake) {
                        Acquired::Granted => StepEvent::SlotGranted,
                        Acquired::Busy { .. } => {
                            self.slot = wait;
                            StepEvent::SlotBusy
                        }
                    },
                );
                self.context.gauges();
            }
            StepCommand::ReleaseSlot => {
                self.slot = Wait::default();
                self.context.slots.release(uid);
                self.context.gauges();
            }
            StepCommand::Report(execution) => {
                if let Some(workflow) = &self.workflow {
                    let _ = workflow.cast(WorkflowMessage::Reported(execution));
                }
            }
            StepCommand::Publish(event) => self.context.publisher.publish(&self.subject, event),
            StepCommand::Announce(announcement) => {
                self.context.observer.announce(&self.subject, &announcement);
            }
            StepCommand::Stop => {
                // Lock and place go back when the claim does.
                self.claim.finish();
                self.writes.detach_all();
                myself.stop(None);
            }
        }
    }

    /// What the machine can't know of a policy's input: what others hold locks for.
    fn with_others(&self, command: ApiCommand) -> ApiCommand {
        let ApiCommand::Judge(input) = command else {
            return command;
        };
        let others = self.context.locks.known_to(&self.subject.uid);
        ApiCommand::Judge(with_others(input, &others))
    }

    fn wake(&mut self, myself: &ActorRef<StepMessage>, kind: WaitKind) -> (Wait, Wake) {
        self.waits += 1;
        let wait = self.waits;
        let actor = myself.clone();
        let wake = Box::new(move || {
            let _ = actor.cast(StepMessage::Granted { kind, wait });
        });
        (
            Wait {
                number: wait,
                since: Some(self.context.clock.now()),
            },
            wake,
        )
    }

    fn granted(&mut self, kind: WaitKind, number: u64) -> Option<StepEvent> {
        let wait = match kind {
            WaitKind::Lock => &mut self.lock,
            WaitKind::Slot => &mut self.slot,
        };
        if wait.number != number {
            return None;
        }
        let since = std::mem::take(wait).since?;
        let waited = self.context.clock.now().duration_since(since);
        self.context.observer.waited(kind, waited.as_secs_f64());
        self.context.gauges();
        Some(match kind {
            WaitKind::Lock => StepEvent::LockGranted,
            WaitKind::Slot => StepEvent::SlotGranted,
        })
    }
}

/// Counts an actor as long as its state lives.
pub(crate) struct Alive(Arc<Context>, ActorKind);

impl Alive {
    pub(crate) fn new(context: Arc<Context>, kind: ActorKind) -> Self {
        context.observer.actors(kind, 1);
        Self(context, kind)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.observer.actors(self.1, -1);
    }
}
