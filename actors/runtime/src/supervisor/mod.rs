//! The supervisor: finds or starts the actor of each object that something has to be done for, starts it again when
//! it crashes, and keeps the table of who runs which execution.

mod executions;
mod orphans;
mod rests;
mod starts;
mod ttl;
mod workflows;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kubernaut_machines::defect::{Defect, planted};
use kubernaut_machines::time::later;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use tokio::task::{JoinHandle, JoinSet};

use crate::changes::{Change, Changes};
use crate::claims::RunEnd;
use crate::context::Context;
use crate::ports::version_of;
use crate::step_actor::StepHandle;
use crate::timer::Timer;
use crate::workflow_actor::{WorkflowMessage, WorkflowState};
use executions::{Run, Trouble};
use rests::Rests;
use workflows::WorkflowRun;

/// How long what is under way may take to end when the controller stops: as long as most calls may take. Making a Job may
/// take longer than a pod has for its end; what is cut off the next controller finds out, as after a crash.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);
/// What failed of clearing up is tried again after this long.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// The root of the actors.
pub(crate) struct Supervisor;

/// What the supervisor is told.
pub(crate) enum SupervisorMessage {
    /// By itself: the first message.
    Started,
    /// There are changes to take.
    Changed,
    /// A workflow actor wants to run an execution.
    Claim {
        uid: String,
        workflow: String,
        actor: ActorRef<WorkflowMessage>,
    },
    /// The actor of a claimed execution.
    Running {
        uid: String,
        number: u64,
        handle: StepHandle,
    },
    /// A claim was given back.
    RunEnded { uid: String, number: u64, end: RunEnd },
    /// A pause is over: look at it again.
    Again(Change),
    /// An object's time to live is over and its deletion was tried.
    Expired { uid: String, deleted: bool },
    /// A Job, by its uid, was looked at; false: ask again later.
    Swept {
        job: String,
        execution: String,
        done: bool,
    },
    /// A workflow has waited for its start so long that it is told.
    TellOfWaits,
    /// That was not written.
    NotTold(String),
    /// The timer of this key.
    Tick(u64),
    /// Start nothing new, let what is under way end, then end.
    Drain,
    /// What was under way has ended.
    Drained,
}

/// The way to the running supervisor, the root of the actors.
#[derive(Clone)]
pub struct SupervisorHandle {
    actor: ActorRef<SupervisorMessage>,
}

impl SupervisorHandle {
    /// Starts the supervisor. The store must be complete; `changes` tells what changes from now on. The task ends when
    /// the supervisor has ended.
    pub async fn start(
        context: Arc<Context>,
        changes: Changes,
    ) -> Result<(SupervisorHandle, JoinHandle<()>), SpawnErr> {
        let (actor, task) = Supervisor::spawn(None, Supervisor, (context, changes)).await?;
        Ok((SupervisorHandle { actor }, task))
    }

    /// Asks for an orderly end: nothing new is started, calls under way may end (10 s at most), then the actors stop.
    pub fn drain(&self) {
        // One that has ended is drained.
        let _ = self.actor.cast(SupervisorMessage::Drain);
    }

    /// Ends it and all its actors at once; what is under way is given up.
    pub fn kill(&self) {
        self.actor.kill();
    }
}

pub(crate) struct SupervisorState {
    tasks: JoinSet<()>,
    timer: Timer,
    context: Arc<Context>,
    changes: Changes,
    /// What is to be looked at before the next message.
    agenda: VecDeque<Change>,
    myself: ActorRef<SupervisorMessage>,

    workflows: HashMap<String, WorkflowRun>,
    workflow_actors: HashMap<ActorId, String>,
    /// Versions at which a workflow's machine said that nothing is left to do: the store may lag behind.
    finished_workflows: HashMap<String, u64>,
    rests: Rests,
    /// Workflows that wait for their start since then, and that nobody told so.
    untold: VecDeque<(Timestamp, String)>,
    is_telling: bool,

    /// Who runs which execution.
    runs: HashMap<String, Run>,
    next_claim: u64,
    /// Workflow actors that wait until an execution's actor has ended.
    waiting_claims: HashMap<String, (String, ActorRef<WorkflowMessage>)>,
    /// Step actors that are the supervisor's own children.
    standalone_actors: HashMap<ActorId, String>,
    /// What was known of executions when their actors ended: the store may lag behind.
    ended_executions: HashMap<String, RunEnd>,
    troubles: HashMap<String, Trouble>,
    /// Executions that nobody runs, and whose Jobs have been on their way out since then.
    leaving: HashMap<String, Timestamp>,

    /// When terminal workflows and executions are to be deleted.
    expiries: BTreeSet<(Timestamp, String)>,
    expiry_of: HashMap<String, Timestamp>,
    expire_not_before: Timestamp,
    /// Uids of the Jobs that are being looked at.
    sweeping: BTreeSet<String>,
    draining: bool,
}

impl Actor for Supervisor {
    type Msg = SupervisorMessage;
    type State = SupervisorState;
    type Arguments = (Arc<Context>, Changes);

    async fn pre_start(
        &self,
        myself: ActorRef<SupervisorMessage>,
        (context, changes): (Arc<Context>, Changes),
    ) -> Result<SupervisorState, ActorProcessingErr> {
        changes.connect(myself.clone());
        myself.cast(SupervisorMessage::Started)?;
        Ok(SupervisorState {
            tasks: JoinSet::new(),
            timer: Timer::new(Arc::clone(&context.clock)),
            context,
            changes,
            agenda: VecDeque::new(),
            myself,
            workflows: HashMap::new(),
            workflow_actors: HashMap::new(),
            finished_workflows: HashMap::new(),
            rests: Rests::default(),
            untold: VecDeque::new(),
            is_telling: false,
            runs: HashMap::new(),
            next_claim: 0,
            waiting_claims: HashMap::new(),
            standalone_actors: HashMap::new(),
            ended_executions: HashMap::new(),
            troubles: HashMap::new(),
            leaving: HashMap::new(),
            expiries: BTreeSet::new(),
            expiry_of: HashMap::new(),
            expire_not_before: Timestamp::MIN,
            sweeping: BTreeSet::new(),
            draining: false,
        })
    }

    async fn handle(
        &self,
        _: ActorRef<SupervisorMessage>,
        message: SupervisorMessage,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        state.handle(message).await;
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<SupervisorMessage>,
        event: SupervisionEvent,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(cell, end, _) => {
                let id = cell.get_id();
                // A step's state is dropped here, and with it its claim: `RunEnded` follows.
                if state.standalone_actors.remove(&id).is_none() {
                    let end = end.and_then(|mut end| end.take::<WorkflowState>().ok());
                    match end.as_ref().and_then(WorkflowState::rest) {
                        Some(rest) => state.workflow_rests(id, rest),
                        None => state.workflow_ended(id, end.and_then(|end| end.finished_at())),
                    }
                }
                state.work_off().await;
            }
            SupervisionEvent::ActorFailed(cell, error) => {
                let id = cell.get_id();
                match state.standalone_actors.remove(&id) {
                    Some(uid) => state.standalone_crashed(uid, &error),
                    None => state.workflow_crashed(id, &error),
                }
                state.work_off().await;
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}

impl SupervisorState {
    async fn handle(&mut self, message: SupervisorMessage) {
        while self.tasks.try_join_next().is_some() {}
        match message {
            SupervisorMessage::Drain => return self.drain(),
            SupervisorMessage::Drained => return self.stop_children(),
            // What is left of a controller that is being drained only ends.
            _ if self.draining => return,
            SupervisorMessage::Started => self.start_up(),
            SupervisorMessage::Changed => self.agenda.extend(self.changes.take()),
            SupervisorMessage::Again(change) => self.rested(change),
            SupervisorMessage::Claim { uid, workflow, actor } => self.claim(uid, workflow, actor),
            SupervisorMessage::Running { uid, number, handle } => self.running(&uid, number, handle),
            SupervisorMessage::RunEnded { uid, number, end } => self.run_ended(uid, number, end),
            SupervisorMessage::Expired { uid, deleted } => self.expired(&uid, deleted),
            SupervisorMessage::Swept { job, execution, done } => self.swept(&job, execution, done),
            SupervisorMessage::TellOfWaits => self.tell_of_waits(),
            SupervisorMessage::NotTold(uid) => self.not_told(uid),
            SupervisorMessage::Tick(key) => {
                if !self.timer.is_due(key) {
                    return;
                }
                self.wake_due();
                self.expire();
            }
        }
        self.work_off().await;
    }

    /// Looks at everything that is to be looked at.
    async fn work_off(&mut self) {
        if self.draining {
            self.stop_when_alone();
            return;
        }
        while let Some(change) = self.agenda.pop_front() {
            match change {
                Change::Workflow(uid) => self.look_at_workflow(uid).await,
                Change::Execution(uid) => self.look_at_execution(uid).await,
                Change::Jobs(uid) => self.look_at_jobs(uid).await,
                Change::Approval(uid) => self.approval_changed(&uid),
                Change::Namespace(name) => self.poke_all(Some(&name)),
                Change::ApprovalsGuard => self.poke_all(None),
            }
        }
        self.arm_timer();
    }

    /// Everything is read once. Locks and places of what is at work are taken before anyone can ask for them.
    fn start_up(&mut self) {
        // What was noted until now is part of what is read.
        self.changes.take();
        let store = Arc::clone(&self.context.store);
        let (workflows, executions) = (store.workflow_uids(), store.execution_uids());
        self.prefill(&executions);
        tracing::info!(
            workflows = workflows.len(),
            executions = executions.len(),
            "the supervisor starts"
        );
        self.agenda.extend(workflows.into_iter().map(Change::Workflow));
        self.agenda.extend(executions.into_iter().map(Change::Execution));
        self.agenda
            .extend(store.uids_with_jobs().into_iter().map(Change::Jobs));
    }

    /// The pause that kept something from being started is over.
    fn rested(&mut self, change: Change) {
        match &change {
            Change::Workflow(uid) => self.workflow_rested(uid),
            Change::Execution(uid) => self.execution_rested(uid),
            Change::Jobs(_) | Change::Approval(_) | Change::Namespace(_) | Change::ApprovalsGuard => {}
        }
        self.agenda.push_back(change);
    }

    /// Whoever runs what an Approval speaks of looks at it. One that nobody runs is looked at when it starts.
    fn approval_changed(&mut self, uid: &str) {
        self.poke_workflow(uid);
        if !planted(Defect::SleepThroughApprovals) {
            self.wake(uid);
        }
        self.poke_step(uid);
    }

    /// Everybody, or everybody in a namespace, looks again.
    fn poke_all(&mut self, namespace: Option<&str>) {
        let is_meant = |found: &str| namespace.is_none_or(|namespace| namespace == found);
        let workflows = self.workflows.values().filter_map(|run| run.handle.as_ref());
        for handle in workflows.filter(|handle| is_meant(&handle.namespace)) {
            handle.poke();
        }
        let steps = self.runs.values().filter_map(Run::handle);
        for handle in steps.filter(|handle| is_meant(&handle.namespace)) {
            handle.poke();
        }
        self.wake_all(namespace);
    }

    /// One timer for all that wait for a time.
    fn arm_timer(&mut self) {
        let next = self.next_expiry().into_iter().chain(self.rests.next()).min();
        let myself = self.myself.clone();
        self.timer.arm(next, false, move |key| {
            let _ = myself.cast(SupervisorMessage::Tick(key));
        });
    }

    fn again_after(&mut self, pause: Duration, change: Change) {
        self.again_at(later(self.context.clock.now(), pause), change);
    }

    fn again_at(&mut self, at: Timestamp, change: Change) {
        let sleep = self.context.clock.sleep_until(at);
        let myself = self.myself.clone();
        self.tasks.spawn(async move {
            sleep.await;
            let _ = myself.cast(SupervisorMessage::Again(change));
        });
    }

    fn drain(&mut self) {
        if self.draining {
            return;
        }
        self.draining = true;
        tracing::info!("the controller stops: calls under way may end");
        let effects = Arc::clone(&self.context.effects);
        let deadline = later(self.context.clock.now(), DRAIN_PATIENCE);
        let myself = self.myself.clone();
        self.tasks.spawn(async move {
            effects.drain(deadline).await;
            let _ = myself.cast(SupervisorMessage::Drained);
        });
    }

    fn stop_children(&mut self) {
        self.myself.get_cell().stop_children(None);
        self.stop_when_alone();
    }

    fn stop_when_alone(&self) {
        if self.draining && self.workflow_actors.is_empty() && self.standalone_actors.is_empty() {
            self.myself.stop(None);
        }
    }
}

/// Whether an object of this metadata is no newer than the version at which its machine had nothing left to do.
fn is_finished(
    finished: &HashMap<String, u64>,
    uid: &str,
    metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
) -> bool {
    finished
        .get(uid)
        .is_some_and(|version| version_of(metadata) <= *version)
}
