use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kubernaut_crds::{
    ErrorType, ExecutionPhase, KubernetesExecution, StepState, WorkflowExecution, WorkflowExecutionStatus, WorkflowPhase,
};

use super::{WorkflowCommand, WorkflowEvent};
use crate::Settings;
use crate::mapping::same_spec;
use crate::outcome::{ApiCommand, ApiFailure, ApiOutcome, CommandId, FailureClass, RightsQuestion};
use crate::plan::{Plan, PlanError, plan};
use crate::step::{api_backoff, is_newer, later, micros, refusal_of};

/// Step progress is written at most this often; a phase change at once (the executor's specification, 7).
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// How long a step waits for an execution of its name that an earlier workflow left behind.
const PREDECESSOR_PATIENCE: Duration = Duration::from_secs(120);
/// A create whose answer was lost may take effect this much later: the API server's own request time-out.
const CREATE_WINDOW: Duration = Duration::from_secs(60);
/// How often it looks whether that one is gone.
const PREDECESSOR_INTERVAL: Duration = Duration::from_secs(2);

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
    inflight: BTreeMap<CommandId, Purpose>,
    refetch: bool,
    transient_failures: u32,
    pause_until: Option<Timestamp>,
    last_write: Option<Timestamp>,
    next_check: Option<(Timestamp, &'static str)>,

    plan: Option<Result<Arc<Plan>, Vec<PlanError>>>,
    rights: Option<Result<(), String>>,
    /// The executions of this workflow by step, as last seen.
    pub(super) executions: BTreeMap<i32, Arc<KubernetesExecution>>,
    /// What a step failed of that its execution can't say.
    pub(super) lost: BTreeMap<i32, (ErrorType, String)>,
    /// Steps whose create must wait: until when, and since when they do.
    waiting: BTreeMap<i32, Waiting>,
    /// Steps whose create may have taken effect although its answer was lost, and when that was.
    unsure: BTreeMap<i32, Timestamp>,
    released: BTreeSet<String>,
    pub(super) published: BTreeMap<i32, StepState>,
}

#[derive(Clone, Debug)]
struct Waiting {
    since: Timestamp,
    until: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
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
    let ttl = u64::try_from(workflow.spec.ttl_seconds_after_finished).ok().filter(|ttl| *ttl > 0)?;
    status.phase.filter(|phase| phase.is_terminal())?;
    Some(later(status.completion_time.as_ref()?.0, Duration::from_secs(ttl)))
}

impl WorkflowMachine {
    /// A machine for a workflow as it is in the cluster: new, or left behind by a controller that ended.
    pub fn restore(settings: Arc<Settings>, workflow: Arc<WorkflowExecution>) -> Self {
        let persisted = workflow.status.clone().unwrap_or_default();
        let published = persisted.step_statuses.iter().map(|step| (step.step_number, step.status)).collect();
        Self {
            settings,
            workflow,
            announced: persisted.phase_transitions.len(),
            draft: persisted.clone(),
            persisted,
            gone: false,
            fed: false,
            stopped: false,
            give_up: None,
            next_id: 0,
            inflight: BTreeMap::new(),
            refetch: false,
            transient_failures: 0,
            pause_until: None,
            last_write: None,
            next_check: None,
            plan: None,
            rights: None,
            executions: BTreeMap::new(),
            lost: BTreeMap::new(),
            waiting: BTreeMap::new(),
            unsure: BTreeMap::new(),
            released: BTreeSet::new(),
            published,
        }
    }

    /// Takes in what happened and says what is to be done.
    pub fn on_event(&mut self, now: Timestamp, event: WorkflowEvent) -> Vec<WorkflowCommand> {
        let now = micros(now);
        let mut out = Vec::new();
        match event {
            WorkflowEvent::Observed(workflow) => {
                self.fed = true;
                self.observe(workflow);
            }
            WorkflowEvent::Gone => {
                self.fed = true;
                self.gone = true;
            }
            WorkflowEvent::StepObserved(execution) => self.observe_step(execution),
            WorkflowEvent::StepAbsent { uid } => self.step_absent(&uid, &mut out),
            WorkflowEvent::StepGivenUp { uid, reason } => {
                if let Some(step) = self.step_of(&uid) {
                    self.lost.insert(step, (ErrorType::UnknownError, reason));
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
        [pause, self.next_check].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// The workflow as this machine last saw it.
    pub fn workflow(&self) -> &Arc<WorkflowExecution> {
        &self.workflow
    }

    fn observe(&mut self, workflow: Arc<WorkflowExecution>) {
        if workflow.metadata.uid != self.workflow.metadata.uid {
            self.gone = true;
            return;
        }
        let newer =
            is_newer(self.workflow.metadata.resource_version.as_deref(), workflow.metadata.resource_version.as_deref());
        if !newer {
            return;
        }
        self.refetch = false;
        self.persisted = workflow.status.clone().unwrap_or_default();
        self.workflow = workflow;
        self.draft = self.persisted.clone();
        self.announced = self.announced.min(self.persisted.phase_transitions.len());
    }

    fn observe_step(&mut self, execution: Arc<KubernetesExecution>) {
        if !self.owns(&execution) {
            return;
        }
        let step = execution.spec.step_number;
        let newer = self.executions.get(&step).is_none_or(|known| {
            known.metadata.uid == execution.metadata.uid
                && is_newer(known.metadata.resource_version.as_deref(), execution.metadata.resource_version.as_deref())
        });
        self.unsure.remove(&step);
        if newer {
            self.executions.insert(step, execution);
        }
    }

    /// The store lost an execution: only the API says whether it is gone.
    fn step_absent(&mut self, uid: &str, out: &mut Vec<WorkflowCommand>) {
        let Some(step) = self.step_of(uid) else { return };
        let Some(execution) = self.executions.get(&step) else { return };
        if self.inflight.values().any(|purpose| *purpose == Purpose::Find(step)) {
            return;
        }
        let metadata = &execution.metadata;
        let command = ApiCommand::GetExecution {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
        };
        self.call(Purpose::Find(step), command, out);
    }

    fn step_of(&self, uid: &str) -> Option<i32> {
        self.executions.iter().find(|(_, ke)| ke.metadata.uid.as_deref() == Some(uid)).map(|(step, _)| *step)
    }

    fn owns(&self, execution: &KubernetesExecution) -> bool {
        execution.metadata.owner_references.iter().flatten().any(|owner| {
            owner.controller == Some(true) && Some(owner.uid.as_str()) == self.workflow.metadata.uid.as_deref()
        })
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
            Err(failure) => return self.failed_call(now, purpose, &failure),
        };
        self.transient_failures = 0;
        self.pause_until = None;
        match (purpose, outcome) {
            (Purpose::Rights, ApiOutcome::Rights(answer)) => {
                let account = format!("{}/{}", self.namespace(), self.workflow.spec.service_account_name);
                self.rights = Some(refusal_of(&answer, &account, &self.settings.executor_namespace).map_or(Ok(()), Err));
            }
            (Purpose::Write, ApiOutcome::Workflow(workflow)) => {
                self.last_write = Some(now);
                self.written(workflow, out);
            }
            (Purpose::Refetch, ApiOutcome::FoundWorkflow(Some(workflow))) => {
                // The write did not arrive, or its answer: what to write is decided again.
                self.refetch = false;
                self.draft = self.persisted.clone();
                self.observe(workflow);
            }
            (Purpose::Refetch, ApiOutcome::FoundWorkflow(None)) => self.gone = true,
            (Purpose::Create(step), ApiOutcome::Created { execution, fresh: _ }) => self.created(now, step, execution),
            (Purpose::Find(step), ApiOutcome::FoundExecution(found)) => {
                match found.filter(|found| self.owns(found)) {
                    Some(execution) => self.observe_step(execution),
                    None if self.unsure.get(&step).is_some_and(|since| now < later(*since, CREATE_WINDOW)) => self.pause(now),
                    None if self.unsure.remove(&step).is_some() => {}
                    None => {
                        let message = "its KubernetesExecution was deleted while it ran".to_owned();
                        self.lost.insert(step, (ErrorType::Cancelled, message));
                    }
                }
            }
            (_, _) => self.pause(now),
        }
    }

    fn failed_call(&mut self, now: Timestamp, purpose: Purpose, failure: &ApiFailure) {
        match (purpose, failure.class) {
            (Purpose::Write, FailureClass::NotFound) => self.gone = true,
            (Purpose::Write, class) => {
                self.refetch = true;
                if class != FailureClass::Conflict {
                    self.pause(now);
                }
            }
            (Purpose::Rights, class) if !class.is_transient() => {
                self.rights = Some(Err(format!("the rights could not be checked: {}", failure.message)));
            }
            (Purpose::Create(step), class) if !class.is_transient() && class != FailureClass::Quota => {
                let error_type = match class {
                    FailureClass::Forbidden => ErrorType::InsufficientPermissions,
                    FailureClass::Conflict => ErrorType::ResourceConflict,
                    FailureClass::NotFound
                    | FailureClass::Quota
                    | FailureClass::Rejected
                    | FailureClass::Throttled
                    | FailureClass::Unknown => ErrorType::ValidationError,
                };
                let message = format!("its KubernetesExecution could not be created: {}", failure.message);
                self.lost.insert(step, (error_type, message));
            }
            (Purpose::Create(step), class) => {
                if class == FailureClass::Unknown {
                    self.unsure.entry(step).or_insert(now);
                }
                self.pause(now);
            }
            (Purpose::Find(_) | Purpose::Rights | Purpose::Refetch, _) => self.pause(now),
        }
    }

    /// An execution of the step's name is there: ours, an earlier workflow's, or somebody else's.
    fn created(&mut self, now: Timestamp, step: i32, execution: Arc<KubernetesExecution>) {
        let wanted = self.planned().and_then(|plan| plan.steps.get(&step).map(|planned| planned.execution.clone()));
        if self.owns(&execution) {
            if wanted.is_some_and(|wanted| same_spec(&wanted.spec, &execution.spec)) {
                self.waiting.remove(&step);
                self.observe_step(execution);
            } else {
                self.conflict(step, &execution, "carries this workflow's owner reference, but another spec");
            }
            return;
        }
        let predecessor = execution.metadata.owner_references.iter().flatten().any(|owner| {
            owner.controller == Some(true)
                && owner.kind == kubernaut_crds::names::WORKFLOW_KIND
                && Some(owner.name.as_str()) == self.workflow.metadata.name.as_deref()
        });
        if !predecessor {
            return self.conflict(step, &execution, "does not belong to this workflow");
        }
        let since = self.waiting.get(&step).map_or(now, |waiting| waiting.since);
        let patience = later(since, PREDECESSOR_PATIENCE);
        if now >= patience {
            return self.conflict(step, &execution, "was left by an earlier workflow of this name and does not go");
        }
        self.waiting.insert(step, Waiting { since, until: later(now, PREDECESSOR_INTERVAL) });
        let name = execution.metadata.name.clone().unwrap_or_default();
        self.draft.message = Some(format!("step {step} waits until {name} of an earlier workflow of this name is gone"));
    }

    fn conflict(&mut self, step: i32, execution: &KubernetesExecution, what: &str) {
        let name = execution.metadata.name.clone().unwrap_or_default();
        let uid = execution.metadata.uid.clone().unwrap_or_default();
        let message =
            format!("KubernetesExecution {}/{name} (uid {uid}) exists and {what}; it was left alone", self.namespace());
        self.lost.insert(step, (ErrorType::ResourceConflict, message));
    }

    fn pause(&mut self, now: Timestamp) {
        self.transient_failures = self.transient_failures.saturating_add(1);
        self.pause_until = Some(later(now, api_backoff(self.transient_failures)));
    }

    fn call(&mut self, purpose: Purpose, command: ApiCommand, out: &mut Vec<WorkflowCommand>) {
        self.next_id += 1;
        let id = CommandId(self.next_id);
        self.inflight.insert(id, purpose);
        out.push(WorkflowCommand::Api { id, command });
    }

    pub(super) fn is_creating(&self) -> bool {
        self.inflight.values().any(|purpose| matches!(purpose, Purpose::Create(_)))
    }

    fn is_under_way(&self, purpose: Purpose) -> bool {
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
                let command = ApiCommand::GetWorkflow { namespace: self.namespace(), name };
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
            None | Some(WorkflowPhase::Planning | WorkflowPhase::Validating) => self.before_execution(now, out),
            // Phases that this version does not enter are read as executing.
            Some(
                WorkflowPhase::Executing | WorkflowPhase::Paused | WorkflowPhase::RollingBack | WorkflowPhase::Monitoring,
            ) => self.executing(now, out),
        }
    }

    fn terminal(&mut self, out: &mut Vec<WorkflowCommand>) {
        self.release_recorded(out);
        self.stop(out)
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
            None if self.settings.authorization => {
                if !self.is_under_way(Purpose::Rights) {
                    let question = self.question(&plan);
                    self.call(Purpose::Rights, ApiCommand::CheckRights(question), out);
                }
            }
            Some(Err(message)) => {
                let message = message.clone();
                self.validation_failed(&message, now);
                self.write(now, out)
            }
            None | Some(Ok(())) => {
                self.begin_execution(&plan, now);
                self.start_ready_steps(now, out);
                self.write(now, out)
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
            // The flags became stricter while it ran.
            Err(errors) => {
                self.planning_failed(&errors, now);
                return self.write(now, out);
            }
        };
        for execution in self.executions.values() {
            let terminal = execution.status.as_ref().and_then(|s| s.phase).is_some_and(ExecutionPhase::is_terminal);
            if !terminal || execution.metadata.deletion_timestamp.is_some() {
                out.push(WorkflowCommand::EnsureStep(execution.clone()));
            }
        }
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

    /// A step that the status calls executing, and of which nothing was seen: only the API says whether it is gone.
    fn find_unseen_steps(&mut self, out: &mut Vec<WorkflowCommand>) {
        let unseen: Vec<(i32, String)> = self
            .persisted
            .step_statuses
            .iter()
            .filter(|step| step.status == StepState::Executing)
            .filter(|step| !self.executions.contains_key(&step.step_number) && !self.lost.contains_key(&step.step_number))
            .filter(|step| !self.is_under_way(Purpose::Find(step.step_number)))
            .filter_map(|step| Some((step.step_number, step.k8s_execution_ref.as_ref()?.name.clone())))
            .collect();
        self.find(unseen, out);
    }

    /// No new step starts, but one may have been started without our knowing.
    pub(super) fn find_unsure_steps(&mut self, out: &mut Vec<WorkflowCommand>) {
        let name = self.workflow.metadata.name.clone().unwrap_or_default();
        let unsure: Vec<(i32, String)> = self
            .unsure
            .keys()
            .filter(|step| !self.is_under_way(Purpose::Find(**step)) && !self.is_under_way(Purpose::Create(**step)))
            .map(|step| (*step, format!("{name}-step-{step}")))
            .collect();
        self.find(unsure, out);
    }

    pub(super) fn is_unsure(&self) -> bool {
        !self.unsure.is_empty()
    }

    fn find(&mut self, steps: Vec<(i32, String)>, out: &mut Vec<WorkflowCommand>) {
        for (step, name) in steps {
            let command = ApiCommand::GetExecution { namespace: self.namespace(), name };
            self.call(Purpose::Find(step), command, out);
        }
    }

    /// Creates the executions of the steps whose dependencies have completed, lowest number first.
    fn start_ready_steps(&mut self, now: Timestamp, out: &mut Vec<WorkflowCommand>) {
        let Ok(plan) = self.plan_once() else { return };
        let states = self.step_states(&plan);
        if self.halted(&plan, &states).is_some() {
            return;
        }
        let creating = self.inflight.values().filter(|purpose| matches!(purpose, Purpose::Create(_))).count();
        let running = states.values().filter(|(state, _)| *state == StepState::Executing).count();
        let limit = usize::try_from(self.workflow.spec.max_parallel_steps).unwrap_or(1).max(1);
        let mut free = limit.saturating_sub(running + creating);
        for (number, step) in &plan.steps {
            if free == 0 {
                break;
            }
            let pending = states.get(number).is_some_and(|(state, _)| *state == StepState::Pending);
            let ready = plan
                .graph
                .dependencies_of(*number)
                .all(|before| states.get(&before).is_some_and(|(state, _)| *state == StepState::Completed));
            if !pending || !ready || self.is_under_way(Purpose::Create(*number)) {
                continue;
            }
            if let Some(waiting) = self.waiting.get(number)
                && now < waiting.until
            {
                let until = waiting.until;
                self.wait_until(until, "an execution of an earlier workflow");
                continue;
            }
            free -= 1;
            self.call(Purpose::Create(*number), ApiCommand::CreateExecution(Box::new(step.execution.clone())), out);
        }
    }

    fn release_recorded(&mut self, out: &mut Vec<WorkflowCommand>) {
        let done: Vec<String> = self
            .executions
            .iter()
            .filter(|(step, execution)| {
                execution.metadata.deletion_timestamp.is_some()
                    && self.persisted.step_statuses.iter().any(|status| {
                        status.step_number == **step
                            && !matches!(status.status, StepState::Pending | StepState::Executing)
                    })
            })
            .filter_map(|(_, execution)| execution.metadata.uid.clone())
            .collect();
        for uid in done {
            if self.released.insert(uid.clone()) {
                out.push(WorkflowCommand::ReleaseStep { uid });
            }
        }
    }

    fn question(&self, plan: &Plan) -> RightsQuestion {
        let requests: BTreeSet<_> = plan.steps.values().flat_map(|step| step.rights.iter().cloned()).collect();
        let accounts: BTreeSet<_> = plan.steps.values().map(|step| step.kind.service_account().to_owned()).collect();
        RightsQuestion {
            namespace: self.namespace(),
            service_account: self.workflow.spec.service_account_name.clone(),
            requests: requests.into_iter().collect(),
            executor_accounts: accounts.into_iter().collect(),
        }
    }

    fn plan_once(&mut self) -> Result<Arc<Plan>, Vec<PlanError>> {
        if self.plan.is_none() {
            self.plan = Some(plan(&self.workflow, &self.settings).map(Arc::new));
        }
        self.plan.clone().unwrap_or_else(|| Err(Vec::new()))
    }

    fn planned(&self) -> Option<&Arc<Plan>> {
        self.plan.as_ref().and_then(|plan| plan.as_ref().ok())
    }

    pub(super) fn namespace(&self) -> String {
        self.workflow.metadata.namespace.clone().unwrap_or_default()
    }

    fn wait_until(&mut self, at: Timestamp, why: &'static str) {
        if self.next_check.is_none_or(|(before, _)| at < before) {
            self.next_check = Some((at, why));
        }
    }

    fn write(&mut self, now: Timestamp, out: &mut Vec<WorkflowCommand>) {
        let Some(patch) = self.status_patch() else { return };
        self.last_write = Some(now);
        self.call(Purpose::Write, ApiCommand::WriteWorkflowStatus { workflow: self.workflow.clone(), patch }, out);
    }
}
