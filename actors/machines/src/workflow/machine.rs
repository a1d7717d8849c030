//! The state of one workflow, its turns, and the answers that it takes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kubernaut_crds::{
    ErrorType, KubernetesExecution, StepState, WorkflowExecution, WorkflowExecutionStatus, WorkflowPhase,
};

use super::planning::{Planned, Planning, is_begun};
use super::progress::is_terminal;
use super::steps::DELETED;
use super::{WorkflowCommand, WorkflowEvent};
use crate::Settings;
use crate::defect::{Defect, planted};
use crate::outcome::{
    ApiCommand, ApiFailure, ApiOutcome, CommandId, EventRecord, FailureClass, RightsQuestion,
};
use crate::plan::Plan;
use crate::step::{api_backoff, is_newer, later, micros, refusal_of};

/// Step progress is written at most this often; a phase change at once.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// A create whose answer was lost may take effect this much later: the API server's own request time-out.
const CREATE_WINDOW: Duration = Duration::from_secs(60);

/// Between statuses that the API server refuses: at first, and after a while.
const REFUSED_INTERVAL: Duration = Duration::from_secs(20);
const REFUSED_INTERVAL_MAX: Duration = Duration::from_mins(5);

/// The machine of one `WorkflowExecution`.
///
/// Guarantees: total for any object; the executions are the truth about their steps, the status only follows; what
/// is remembered here can be found out again from the API.
#[derive(Debug)]
pub struct WorkflowMachine {
    pub(super) settings: Arc<Settings>,
    pub(super) workflow: Arc<WorkflowExecution>,
    pub(super) persisted: WorkflowExecutionStatus,
    pub(super) draft: WorkflowExecutionStatus,
    pub(super) announced: usize,
    gone: bool,
    /// The workflow itself was fed: nothing is decided while only some of its executions are known.
    fed: bool,
    stopped: bool,
    give_up: Option<String>,

    next_id: u64,
    /// Commands under way.
    pub(super) inflight: BTreeMap<CommandId, Purpose>,
    refetch: bool,
    transient_failures: u32,
    /// What failed last of what may succeed later.
    failing: Option<Purpose>,
    /// Statuses in a row that the API server refused.
    refusals: u32,
    pause_until: Option<Timestamp>,
    pub(super) last_write: Option<Timestamp>,
    /// The status that was sent last, until it is known to have arrived.
    pub(super) sent: Option<WorkflowExecutionStatus>,
    next_check: Option<(Timestamp, &'static str)>,

    plan: Option<Planned>,
    rights: Option<Result<(), String>>,
    /// The executions of this workflow by step, as last seen.
    pub(super) executions: BTreeMap<i32, Arc<KubernetesExecution>>,
    /// What a step failed of that its execution can't say.
    pub(super) lost: BTreeMap<i32, (ErrorType, String)>,
    /// Steps whose execution the store lost, until the API has said whether it is gone.
    pub(super) absent: BTreeSet<i32>,
    /// Steps whose create must wait: until when, and since when they do.
    pub(super) waiting: BTreeMap<i32, Waiting>,
    /// Steps whose create may have taken effect although its answer was lost, and when the last one was.
    pub(super) unsure: BTreeMap<i32, Timestamp>,
    /// A step of it was made, whatever the status says of it: the first one may be made before the status is written.
    pub(super) has_begun: bool,
    /// It began in the hands of another controller.
    taken_over: bool,
    /// When this machine had its first event.
    started: Option<Timestamp>,
    pub(super) released: BTreeSet<String>,
    pub(super) published: BTreeMap<i32, StepState>,
}

#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) since: Timestamp,
    pub(super) until: Timestamp,
    /// What for, in words.
    pub(super) why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Rights,
    Write,
    Refetch,
    Create(i32),
    /// A live read of a step's execution that the store lost.
    Find(i32),
}

/// When a terminal workflow shall be deleted (spec.ttlSecondsAfterFinished); `None` keeps it.
pub fn expires_at(workflow: &WorkflowExecution) -> Option<Timestamp> {
    let status = workflow.status.as_ref()?;
    let ttl = u64::try_from(workflow.spec.ttl_seconds_after_finished)
        .ok()
        .filter(|ttl| *ttl > 0)?;
    status.phase.filter(|phase| phase.is_terminal())?;
    Some(later(
        status.completion_time.as_ref()?.0,
        Duration::from_secs(ttl),
    ))
}

impl WorkflowMachine {
    /// A machine for a workflow as it is in the cluster: new, or left behind by a controller that ended.
    pub fn restore(settings: Arc<Settings>, workflow: Arc<WorkflowExecution>) -> Self {
        let persisted = workflow.status.clone().unwrap_or_default();
        let published = persisted
            .step_statuses
            .iter()
            .map(|step| (step.step_number, step.status))
            .collect();
        Self {
            settings,
            workflow,
            announced: persisted.phase_transitions.len(),
            draft: persisted.clone(),
            gone: false,
            fed: false,
            stopped: false,
            give_up: None,
            next_id: 0,
            inflight: BTreeMap::new(),
            refetch: false,
            transient_failures: 0,
            failing: None,
            refusals: 0,
            pause_until: None,
            last_write: None,
            sent: None,
            next_check: None,
            plan: None,
            rights: None,
            executions: BTreeMap::new(),
            lost: BTreeMap::new(),
            absent: BTreeSet::new(),
            waiting: BTreeMap::new(),
            unsure: BTreeMap::new(),
            has_begun: is_begun(persisted.phase),
            taken_over: is_begun(persisted.phase),
            started: None,
            released: BTreeSet::new(),
            published,
            persisted,
        }
    }

    /// Takes in what happened and says what is to be done.
    pub fn on_event(&mut self, now: Timestamp, event: WorkflowEvent) -> Vec<WorkflowCommand> {
        let now = micros(now);
        self.started.get_or_insert(now);
        let mut out = Vec::new();
        match event {
            WorkflowEvent::Observed(workflow) => {
                self.fed = true;
                self.observe(now, workflow, &mut out);
            }
            WorkflowEvent::Gone => {
                self.fed = true;
                self.gone = true;
            }
            WorkflowEvent::StepObserved(execution) => self.observe_step(execution),
            WorkflowEvent::StepAbsent { uid } => self.step_absent(&uid),
            WorkflowEvent::StepGivenUp { uid, reason } => {
                if let Some(step) = self.step_of(&uid) {
                    self.lose(step, reason);
                }
            }
            WorkflowEvent::GiveUp { reason } => self.give_up = Some(reason),
            WorkflowEvent::Finished { id, result } => match self.inflight.remove(&id) {
                Some(purpose) => self.finished(now, purpose, result, &mut out),
                None => return out,
            },
            WorkflowEvent::Tick => {}
        }
        self.advance(now, &mut out);
        out
    }

    /// When the machine wants a `Tick`, and why.
    pub fn next_deadline(&self) -> Option<(Timestamp, &'static str)> {
        if self.stopped {
            return None;
        }
        let pause = self.pause_until.map(|until| (until, "retry of an API call"));
        [pause, self.next_check]
            .into_iter()
            .flatten()
            .min_by_key(|(at, _)| *at)
    }

    /// The workflow as this machine last saw it.
    pub fn workflow(&self) -> &Arc<WorkflowExecution> {
        &self.workflow
    }

    fn observe(&mut self, now: Timestamp, workflow: Arc<WorkflowExecution>, out: &mut Vec<WorkflowCommand>) {
        if workflow.metadata.uid != self.workflow.metadata.uid {
            self.gone = true;
            return;
        }
        let newer = is_newer(
            self.workflow.metadata.resource_version.as_deref(),
            workflow.metadata.resource_version.as_deref(),
        );
        if !newer {
            return;
        }
        self.refetch = false;
        if self.sent.is_some() && self.sent == workflow.status {
            // Our own write, whose answer is late or lost: nothing waits for it any more.
            self.inflight.retain(|_, purpose| *purpose != Purpose::Write);
            return self.written(now, workflow, out);
        }
        self.persisted = workflow.status.clone().unwrap_or_default();
        self.workflow = workflow;
        self.draft = self.persisted.clone();
        self.announced = self.announced.min(self.persisted.phase_transitions.len());
    }

    fn finished(
        &mut self,
        now: Timestamp,
        purpose: Purpose,
        result: Result<ApiOutcome, ApiFailure>,
        out: &mut Vec<WorkflowCommand>,
    ) {
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(failure) => return self.failed_call(now, purpose, &failure, out),
        };
        // That another call succeeded, under way at the same time, is no success of what failed.
        if self.failing.is_none_or(|failing| failing == purpose) {
            self.transient_failures = 0;
            self.failing = None;
            self.pause_until = None;
        }
        match (purpose, outcome) {
            (Purpose::Rights, ApiOutcome::Rights(answer)) => {
                let account = format!("{}/{}", self.namespace(), self.workflow.spec.service_account_name);
                self.rights = Some(
                    refusal_of(&answer, &account, &self.settings.executor_namespace).map_or(Ok(()), Err),
                );
            }
            (Purpose::Write, ApiOutcome::Workflow(workflow)) => {
                self.refusals = 0;
                self.written(now, workflow, out);
            }
            (Purpose::Refetch, ApiOutcome::FoundWorkflow(Some(workflow))) => {
                // The write did not arrive, or its answer: what to write is decided again.
                self.refetch = false;
                self.draft = self.persisted.clone();
                let known = self.workflow.metadata.resource_version.clone();
                if !is_newer(known.as_deref(), workflow.metadata.resource_version.as_deref()) {
                    // Nobody was: the same write would have the same answer.
                    self.pause(now, Purpose::Write);
                }
                self.observe(now, workflow, out);
            }
            (Purpose::Refetch, ApiOutcome::FoundWorkflow(None)) => self.gone = true,
            (Purpose::Create(step), ApiOutcome::Created { execution, fresh: _ }) => {
                self.created(now, step, execution);
            }
            (Purpose::Find(step), ApiOutcome::FoundExecution(found)) => {
                self.absent.remove(&step);
                let known = self.executions.get(&step).map(|known| known.metadata.uid.clone());
                let same =
                    |found: &KubernetesExecution| known.as_ref().is_none_or(|uid| *uid == found.metadata.uid);
                match found.filter(|found| self.owns(found) && same(found)) {
                    Some(execution) => self.observe_step(execution),
                    None if self
                        .unsure
                        .get(&step)
                        .is_some_and(|since| now < later(*since, CREATE_WINDOW)) =>
                    {
                        self.pause(now, purpose);
                    }
                    None if self.unsure.remove(&step).is_some() => {}
                    None => self.lose(step, DELETED.to_owned()),
                }
            }
            (_, _) => self.pause(now, purpose),
        }
    }

    fn failed_call(
        &mut self,
        now: Timestamp,
        purpose: Purpose,
        failure: &ApiFailure,
        out: &mut Vec<WorkflowCommand>,
    ) {
        match (purpose, failure.class) {
            (Purpose::Write, FailureClass::Forbidden | FailureClass::Rejected) => {
                self.status_refused(now, failure, out);
            }
            (Purpose::Write, class) => {
                self.refetch = true;
                // Somebody was faster: what they wrote is read, and all is decided again, at once.
                if class != FailureClass::Conflict {
                    self.pause(now, purpose);
                }
            }
            (Purpose::Rights, class) if !class.is_transient() => {
                self.rights = Some(Err(format!(
                    "the rights could not be checked: {}",
                    failure.message
                )));
            }
            (Purpose::Create(step), FailureClass::Quota) => {
                self.wait_to_create(now, step, format!("for room in a quota: {}", failure.message));
            }
            // Not of an object of this name, which is another answer: of what the API server keeps beside it, such as a
            // quota's count.
            (Purpose::Create(step), FailureClass::Conflict) => {
                self.wait_to_create(now, step, format!("for a conflict to pass: {}", failure.message));
            }
            (Purpose::Create(step), class) if !class.is_transient() => self.create_refused(step, failure),
            (Purpose::Create(step), class) => {
                if class == FailureClass::Unknown {
                    // Its time to take effect begins with the last one.
                    self.unsure.insert(step, now);
                }
                self.pause(now, purpose);
            }
            (Purpose::Find(step), _) => {
                if !planted(Defect::AskOnceForTheAbsent) {
                    self.absent.insert(step);
                }
                self.pause(now, purpose);
            }
            (Purpose::Rights | Purpose::Refetch, _) => self.pause(now, purpose),
        }
    }

    /// The API server will not have the status. Most likely it never will: it is asked less and less often, and the
    /// workflow tells of it the only other way there is.
    fn status_refused(&mut self, now: Timestamp, failure: &ApiFailure, out: &mut Vec<WorkflowCommand>) {
        self.refetch = true;
        self.refusals = self.refusals.saturating_add(1);
        self.pause(now, Purpose::Write);
        if self.refusals > 1 {
            let pause = REFUSED_INTERVAL.saturating_mul(1 << (self.refusals - 2).min(5));
            self.pause_until = Some(later(now, pause.min(REFUSED_INTERVAL_MAX)));
        }
        if self.refusals == 2 {
            out.push(WorkflowCommand::Publish(EventRecord {
                reason: "StatusRefused",
                warning: true,
                action: "Record",
                note: format!(
                    "the API server does not take the status of this workflow, which can't go on without it: {}",
                    failure.message
                ),
            }));
        }
    }

    pub(super) fn pause(&mut self, now: Timestamp, purpose: Purpose) {
        self.failing = Some(purpose);
        self.transient_failures = self.transient_failures.saturating_add(1);
        self.pause_until = Some(later(now, api_backoff(self.transient_failures)));
    }

    pub(super) fn call(&mut self, purpose: Purpose, command: ApiCommand, out: &mut Vec<WorkflowCommand>) {
        self.next_id += 1;
        let id = CommandId(self.next_id);
        self.inflight.insert(id, purpose);
        out.push(WorkflowCommand::Api { id, command });
    }

    pub(super) fn is_creating(&self) -> bool {
        self.inflight
            .values()
            .any(|purpose| matches!(purpose, Purpose::Create(_)))
    }

    pub(super) fn is_under_way(&self, purpose: Purpose) -> bool {
        self.inflight.values().any(|other| *other == purpose)
    }

    fn advance(&mut self, now: Timestamp, out: &mut Vec<WorkflowCommand>) {
        if self.stopped || !self.fed {
            return;
        }
        self.next_check = None;
        if self.gone || self.workflow.metadata.deletion_timestamp.is_some() {
            return self.stop(out);
        }
        if let Some(until) = self.pause_until {
            if now < until {
                return;
            }
            self.pause_until = None;
        }
        if self.refetch {
            if !self.is_under_way(Purpose::Refetch) {
                let name = self.workflow.metadata.name.clone().unwrap_or_default();
                let command = ApiCommand::GetWorkflow {
                    namespace: self.namespace(),
                    name,
                };
                self.call(Purpose::Refetch, command, out);
            }
            return;
        }
        if self.is_under_way(Purpose::Write) {
            // Executions may start meanwhile: they do not depend on what the status says.
            if self.draft.phase == Some(WorkflowPhase::Executing) {
                self.start_ready_steps(now, out);
            }
            return;
        }
        match self.persisted.phase {
            Some(WorkflowPhase::Completed | WorkflowPhase::Failed) => self.terminal(out),
            None | Some(WorkflowPhase::Planning | WorkflowPhase::Validating) => {
                self.before_execution(now, out);
            }
            // Phases that this version does not enter are read as executing.
            Some(
                WorkflowPhase::Executing
                | WorkflowPhase::Paused
                | WorkflowPhase::RollingBack
                | WorkflowPhase::Monitoring,
            ) => self.executing(now, out),
        }
    }

    fn terminal(&mut self, out: &mut Vec<WorkflowCommand>) {
        self.release_recorded(out);
        self.stop(out);
    }

    fn stop(&mut self, out: &mut Vec<WorkflowCommand>) {
        self.stopped = true;
        out.push(WorkflowCommand::Stop);
    }

    /// planning and validating: nothing of a target is read before the rights are known.
    fn before_execution(&mut self, now: Timestamp, out: &mut Vec<WorkflowCommand>) {
        self.begin(now);
        if let Some(reason) = self.give_up.clone() {
            self.fail_workflow(ErrorType::UnknownError, None, &reason, now);
            return self.write(now, out);
        }
        let plan = match self.plan_once() {
            Ok(plan) => plan,
            Err(errors) => {
                self.planning_failed(&errors, now);
                return self.write(now, out);
            }
        };
        self.planned_well(&plan, now);
        match &self.rights {
            None if self.settings.authorization && !self.has_begun => {
                if !self.is_under_way(Purpose::Rights) {
                    let question = self.question(&plan);
                    self.call(Purpose::Rights, ApiCommand::CheckRights(question), out);
                }
            }
            Some(Err(message)) if !self.has_begun => {
                let message = message.clone();
                self.validation_failed(&message, now);
                self.write(now, out);
            }
            None | Some(_) => {
                self.begin_execution(&plan, now);
                self.start_ready_steps(now, out);
                self.write(now, out);
            }
        }
    }

    fn executing(&mut self, now: Timestamp, out: &mut Vec<WorkflowCommand>) {
        if let Some(reason) = self.give_up.clone() {
            self.fail_workflow(ErrorType::UnknownError, None, &reason, now);
            return self.write(now, out);
        }
        let plan = match self.plan_once() {
            Ok(plan) => plan,
            // Nothing of it can be read any more.
            Err(errors) => {
                self.planning_failed(&errors, now);
                return self.write(now, out);
            }
        };
        for execution in self.executions.values() {
            if !is_terminal(execution) || execution.metadata.deletion_timestamp.is_some() {
                out.push(WorkflowCommand::EnsureStep(execution.clone()));
            }
        }
        self.find_absent_steps(out);
        self.find_unseen_steps(out);
        let changed = self.update_steps(&plan, now);
        self.start_ready_steps(now, out);
        self.release_recorded(out);
        if self.finish_if_done(&plan, now, out) {
            return self.write(now, out);
        }
        if changed || self.draft != self.persisted {
            let due = self.last_write.map_or(now, |last| later(last, WRITE_INTERVAL));
            if now >= due {
                return self.write(now, out);
            }
            self.wait_until(due, "progress");
        }
    }

    /// Since when a create of the controller before this one can only still take effect; `None` when none can.
    pub(super) fn doubtful_since(&self, now: Timestamp) -> Option<Timestamp> {
        self.started
            .filter(|started| self.taken_over && now < later(*started, CREATE_WINDOW))
    }

    pub(super) fn is_unsure(&self) -> bool {
        !self.unsure.is_empty()
    }

    fn question(&self, plan: &Plan) -> RightsQuestion {
        let requests: BTreeSet<_> = plan
            .steps
            .values()
            .flat_map(|step| step.rights.iter().cloned())
            .collect();
        let accounts: BTreeSet<_> = plan
            .steps
            .values()
            .map(|step| step.kind.service_account().to_owned())
            .collect();
        RightsQuestion {
            namespace: self.namespace(),
            service_account: self.workflow.spec.service_account_name.clone(),
            requests: requests.into_iter().collect(),
            executor_accounts: accounts.into_iter().collect(),
        }
    }

    /// What has to be planned before this machine can decide anything; `None` when nothing is left to plan.
    pub fn planning(&self) -> Option<Planning> {
        let ended = self.persisted.phase.is_some_and(WorkflowPhase::is_terminal);
        let needed = self.plan.is_none() && !ended && self.workflow.metadata.deletion_timestamp.is_none();
        needed.then(|| self.to_plan())
    }

    /// Takes in what came of [`Self::planning`]; without it the machine plans by itself when it has to.
    pub fn planned(&mut self, planned: Planned) {
        self.plan.get_or_insert(planned);
    }

    fn to_plan(&self) -> Planning {
        Planning {
            settings: Arc::clone(&self.settings),
            workflow: Arc::clone(&self.workflow),
            begun: self.has_begun,
        }
    }

    pub(super) fn plan_once(&mut self) -> Planned {
        if let Some(planned) = &self.plan {
            return planned.clone();
        }
        let planned = self.to_plan().make();
        self.plan.insert(planned).clone()
    }

    /// A step of it was seen that the status does not tell of.
    pub(super) fn note_begun(&mut self) {
        if !self.has_begun {
            self.has_begun = true;
            self.plan = None;
        }
    }

    pub(super) fn namespace(&self) -> String {
        self.workflow.metadata.namespace.clone().unwrap_or_default()
    }

    pub(super) fn wait_until(&mut self, at: Timestamp, why: &'static str) {
        if self.next_check.is_none_or(|(before, _)| at < before) {
            self.next_check = Some((at, why));
        }
    }

    fn write(&mut self, now: Timestamp, out: &mut Vec<WorkflowCommand>) {
        let Some(patch) = self.status_patch() else { return };
        self.last_write = Some(now);
        self.sent = Some(self.draft.clone());
        self.call(
            Purpose::Write,
            ApiCommand::WriteWorkflowStatus {
                workflow: self.workflow.clone(),
                patch,
            },
            out,
        );
    }
}
