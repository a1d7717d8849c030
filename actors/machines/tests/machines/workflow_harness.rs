//! A cluster of nothing but executions around one machine of a workflow.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kubernaut_crds::{KubernetesExecution, StepState, WorkflowExecution, WorkflowExecutionStatus};
use kubernaut_machines::Settings;
use kubernaut_machines::api_command::{ApiCommand, ApiFailure, ApiOutcome, RightsAnswer};
use kubernaut_machines::mapping::execution_for;
use kubernaut_machines::plan::Undone;
use kubernaut_machines::reads::Read;
use kubernaut_machines::workflow::{WorkflowCommand, WorkflowEvent, WorkflowMachine};
use serde_json::{Value, json};

use crate::step_harness::{find, merge};

/// More calls than this without a pause are a loop.
const MANY_CALLS: usize = 60;

type Fault = Box<dyn FnMut(&ApiCommand) -> Option<ApiFailure>>;

pub(crate) struct WorkflowHarness {
    pub(crate) settings: Settings,
    pub(crate) now: Timestamp,
    pub(crate) workflow: WorkflowExecution,
    pub(crate) executions: BTreeMap<String, KubernetesExecution>,
    /// When each create was sent, with its step.
    pub(crate) creates: Vec<(Timestamp, i32)>,
    pub(crate) writes: usize,
    /// What a workflow finds that undoes another one.
    pub(crate) undone: Undone,
    /// Objects that a read of a target finds, by kind and name.
    pub(crate) objects: Vec<Value>,
    pub(crate) reads: usize,
    /// Reasons of the events that were published.
    pub(crate) events: Vec<&'static str>,
    pub(crate) stopped: bool,
    /// As many slots as its steps may have kept, and as they want now.
    pub(crate) free_slots: usize,
    pub(crate) wanted_slots: usize,
    /// All that was read.
    pub(crate) looked_at: Vec<Read>,
    /// Executions whose finalizer may go, by uid.
    pub(crate) let_go: Vec<String>,
    fault: Fault,
    version: u64,
    machine: Option<WorkflowMachine>,
}

/// Cordons node `n<number>`; `more` is merged into it.
#[allow(clippy::needless_pass_by_value, reason = "objects are made in place")]
pub(crate) fn cordon(number: i32, more: Value) -> Value {
    let mut step = json!({"stepNumber": number, "name": format!("s{number}"), "action": "cordon-node",
                          "parameters": {"cordonNode": {"nodeName": format!("n{number}")}}});
    merge(&mut step, &more);
    step
}

impl WorkflowHarness {
    /// A workflow that nobody has looked at yet.
    pub(crate) fn new(steps: &[Value]) -> Self {
        let workflow = json!({
            "apiVersion": "workflow.kubernaut.io/v1", "kind": "WorkflowExecution",
            "metadata": {"name": "w", "namespace": "shop", "uid": "w-uid", "resourceVersion": "1", "generation": 1},
            "spec": {"executionStrategy": {"rollbackStrategy": "none"},
                     "workflowDefinition": {"name": "w", "version": "1", "steps": steps}},
        });
        Self {
            settings: Settings::default(),
            now: Timestamp::from_second(1_800_000_000).expect("a time"),
            workflow: serde_json::from_value(workflow).expect("a workflow"),
            executions: BTreeMap::new(),
            creates: Vec::new(),
            writes: 0,
            undone: Undone::default(),
            objects: Vec::new(),
            reads: 0,
            events: Vec::new(),
            stopped: false,
            free_slots: usize::MAX,
            wanted_slots: 0,
            looked_at: Vec::new(),
            let_go: Vec::new(),
            fault: Box::new(|_| None),
            version: 1,
            machine: None,
        }
    }

    /// From now on this decides which calls fail.
    pub(crate) fn fail(&mut self, fault: impl FnMut(&ApiCommand) -> Option<ApiFailure> + 'static) {
        self.fault = Box::new(fault);
    }

    pub(crate) fn heal(&mut self) {
        self.fault = Box::new(|_| None);
    }

    /// A controller starts; the one before it, if any, is dead.
    pub(crate) fn start(&mut self) {
        let workflow = Arc::new(self.workflow.clone());
        self.machine = Some(WorkflowMachine::restore(
            Arc::new(self.settings.clone()),
            workflow.clone(),
        ));
        for execution in self.executions.clone().into_values() {
            self.event(WorkflowEvent::StepObserved(Arc::new(execution)));
        }
        self.event(WorkflowEvent::Observed(workflow));
    }

    pub(crate) fn event(&mut self, event: WorkflowEvent) {
        let mut events = VecDeque::from([event]);
        let mut calls = 0;
        while let Some(event) = events.pop_front() {
            let machine = self.machine.as_mut().expect("a machine was started");
            for command in machine.on_event(self.now, event) {
                match command {
                    WorkflowCommand::Api { id, command, .. } => {
                        calls += 1;
                        assert!(calls < MANY_CALLS, "calls without a pause");
                        let result = self.call(command);
                        events.push_back(WorkflowEvent::Finished { id, result });
                    }
                    WorkflowCommand::KeepSlots(wanted) => {
                        self.wanted_slots = wanted;
                        events.push_back(WorkflowEvent::SlotsKept(wanted.min(self.free_slots)));
                    }
                    WorkflowCommand::Stop => self.stopped = true,
                    WorkflowCommand::Publish(event) => self.events.push(event.reason),
                    WorkflowCommand::ReleaseStep { uid } => self.let_go.push(uid),
                    WorkflowCommand::EnsureStep(_) | WorkflowCommand::Announce(_) => {}
                }
            }
        }
    }

    /// Progress is written this often at most.
    pub(crate) fn write_progress_every(&mut self, interval: Duration) {
        let machine = self.machine.as_mut().expect("a machine was started");
        machine.write_progress_every(interval);
    }

    /// Time goes on to the next timer; false when none is set.
    pub(crate) fn next(&mut self) -> bool {
        let Some((at, _)) = self.machine.as_ref().and_then(WorkflowMachine::next_deadline) else {
            return false;
        };
        self.now = self.now.max(at);
        self.event(WorkflowEvent::Tick);
        true
    }

    /// Timer after timer for so many seconds, or until none is set.
    pub(crate) fn run_for(&mut self, seconds: i64) {
        let end = self.now + SignedDuration::from_secs(seconds);
        for _ in 0..2_000 {
            match self.machine.as_ref().and_then(WorkflowMachine::next_deadline) {
                Some((at, _)) if at <= end => self.next(),
                _ => {
                    self.now = self.now.max(end);
                    return;
                }
            };
        }
        panic!("the timer fires again and again at {}", self.now);
    }

    /// The execution of this step as the machine itself would make it.
    pub(crate) fn planned(&self, step: i32) -> KubernetesExecution {
        let steps = &self.workflow.spec.workflow_definition.steps;
        let step = steps.iter().find(|s| s.step_number == step).expect("a step");
        execution_for(&self.workflow, step).expect("an execution").0
    }

    /// An execution comes into being, by whatever hand.
    pub(crate) fn put(&mut self, mut execution: KubernetesExecution) -> Arc<KubernetesExecution> {
        self.version += 1;
        let name = execution.metadata.name.clone().expect("a name");
        execution.metadata.uid = Some(format!("uid-{}-{name}", self.version));
        execution.metadata.resource_version = Some(self.version.to_string());
        self.executions.insert(name, execution.clone());
        Arc::new(execution)
    }

    /// The step's execution gets this status, and the machine sees it.
    #[allow(clippy::needless_pass_by_value, reason = "objects are made in place")]
    pub(crate) fn set_status(&mut self, step: i32, status: Value) {
        self.set_status_of(&format!("w-step-{step}"), status);
    }

    /// The execution of this name gets this status, and the machine sees it.
    #[allow(clippy::needless_pass_by_value, reason = "objects are made in place")]
    pub(crate) fn set_status_of(&mut self, name: &str, status: Value) {
        self.version += 1;
        let execution = self.executions.get_mut(name).expect("made");
        execution.metadata.resource_version = Some(self.version.to_string());
        execution.status = serde_json::from_value(status).expect("a status");
        let execution = Arc::new(execution.clone());
        self.event(WorkflowEvent::StepObserved(execution));
    }

    /// A person changes the workflow's spec, and the machine sees it.
    #[allow(clippy::needless_pass_by_value, reason = "objects are made in place")]
    pub(crate) fn ask(&mut self, spec: Value) {
        self.version += 1;
        let mut object = serde_json::to_value(&self.workflow).expect("JSON");
        merge(&mut object["spec"], &spec);
        self.workflow = serde_json::from_value(object).expect("a workflow");
        self.workflow.metadata.resource_version = Some(self.version.to_string());
        self.event(WorkflowEvent::Observed(Arc::new(self.workflow.clone())));
    }

    /// Names of the executions that were told to stop.
    pub(crate) fn cancelled(&self) -> Vec<&str> {
        let all = self.executions.iter();
        let cancelled = all.filter(|(_, execution)| execution.spec.shutdown.is_some());
        cancelled.map(|(name, _)| name.as_str()).collect()
    }

    pub(crate) fn complete(&mut self, step: i32) {
        self.set_status(step, json!({"phase": "completed", "message": "done"}));
    }

    pub(crate) fn status(&self) -> WorkflowExecutionStatus {
        self.workflow.status.clone().unwrap_or_default()
    }

    pub(crate) fn state_of(&self, step: i32) -> Option<StepState> {
        let steps = self.status().step_statuses;
        steps.iter().find(|s| s.step_number == step).map(|s| s.status)
    }

    pub(crate) fn reason_of(&self, step: i32) -> String {
        let steps = self.status().step_statuses;
        let found = steps.into_iter().find(|s| s.step_number == step);
        found.and_then(|s| s.error_message).unwrap_or_default()
    }

    fn call(&mut self, command: ApiCommand) -> Result<ApiOutcome, ApiFailure> {
        if let ApiCommand::CreateExecution(execution) = &command {
            self.creates.push((self.now, execution.spec.step_number));
        }
        if let Some(failure) = (self.fault)(&command) {
            return Err(failure);
        }
        Ok(self.act(command))
    }

    /// Carries a call out.
    pub(crate) fn act(&mut self, command: ApiCommand) -> ApiOutcome {
        match command {
            ApiCommand::Read(reads) => {
                let found = |read: &Read| find(&self.objects, read);
                let facts = reads.iter().map(|read| (read.clone(), found(read))).collect();
                self.reads += 1;
                self.looked_at.extend(reads);
                ApiOutcome::ReadResults(facts)
            }
            ApiCommand::CheckRights(_) => ApiOutcome::Rights(RightsAnswer::default()),
            ApiCommand::CreateExecution(execution) => {
                let name = execution.metadata.name.clone().expect("a name");
                let there = self.executions.get(&name).cloned().map(Arc::new);
                let fresh = there.is_none();
                let execution = there.unwrap_or_else(|| self.put(*execution));
                ApiOutcome::Created { execution, fresh }
            }
            ApiCommand::WriteWorkflowStatus { patch, .. } => {
                self.writes += 1;
                let mut object = serde_json::to_value(&self.workflow).expect("JSON");
                merge(&mut object["status"], &patch["status"]);
                self.workflow = serde_json::from_value(object).expect("a status of the type");
                self.version += 1;
                self.workflow.metadata.resource_version = Some(self.version.to_string());
                ApiOutcome::Workflow(Arc::new(self.workflow.clone()))
            }
            ApiCommand::PatchExecution { execution, change } => {
                let patch = change.merge_patch(&execution);
                let name = execution.metadata.name.clone().expect("a name");
                let mut object = serde_json::to_value(&self.executions[&name]).expect("JSON");
                merge(&mut object["spec"], &patch["spec"]);
                self.version += 1;
                object["metadata"]["resourceVersion"] = json!(self.version.to_string());
                let patched: KubernetesExecution = serde_json::from_value(object).expect("an execution");
                self.executions.insert(name, patched.clone());
                ApiOutcome::Execution(Arc::new(patched))
            }
            ApiCommand::GetUndone { .. } => ApiOutcome::Undone(Arc::new(self.undone.clone())),
            ApiCommand::GetWorkflow { .. } => {
                ApiOutcome::FoundWorkflow(Some(Arc::new(self.workflow.clone())))
            }
            ApiCommand::GetExecution { name, .. } => {
                ApiOutcome::FoundExecution(self.executions.get(&name).cloned().map(Arc::new))
            }
            other => panic!("a workflow does not ask for {other:?}"),
        }
    }
}
