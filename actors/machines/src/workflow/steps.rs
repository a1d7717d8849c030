//! The executions of a workflow: seen, made, lost, released.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kubernaut_crds::{ErrorType, KubernetesExecution, StepState, StepStatus, UndoState};

use super::WorkflowCommand;
use super::dry_run::dry_run_of;
use super::machine::{Purpose, Waiting, WorkflowMachine};
use super::progress::States;
use super::starting::is_ready;
use crate::api_command::{ApiCommand, ApiFailure, FailureClass};
use crate::defect::{Defect, planted};
use crate::execution_key::{ExecutionKey, Role};
use crate::mapping::same_spec;
use crate::owner::{controlling_workflow, is_controlled_by};
use crate::plan::Plan;
use crate::status_draft::is_newer;
use crate::time::{CREATE_WINDOW, later};

/// How long a step waits for an execution of its name that an earlier workflow left behind.
const PREDECESSOR_PATIENCE: Duration = Duration::from_secs(120);

/// How often it looks whether that one is gone.
const PREDECESSOR_INTERVAL: Duration = Duration::from_secs(2);

/// How often a step's execution is tried again that was refused for now: at first, and after a while.
const CREATE_INTERVAL: Duration = Duration::from_secs(1);
const CREATE_INTERVAL_MAX: Duration = Duration::from_secs(30);

/// Said of a step whose execution somebody deleted.
pub(super) const DELETED: &str = "its KubernetesExecution was deleted while it ran";
impl WorkflowMachine {
    /// Takes in an execution of this workflow. One that the plan does not name is nobody's step: whoever can set an owner
    /// reference could else say what a step has done.
    pub(super) fn observe_step(&mut self, execution: Arc<KubernetesExecution>) {
        if !self.owns(&execution) {
            return;
        }
        let key = self.workflow.metadata.name.as_deref().and_then(|workflow| {
            let key = ExecutionKey::parse(execution.metadata.name.as_deref()?, workflow)?;
            (key.number == execution.spec.step_number).then_some(key)
        });
        // What only tries a step is no beginning.
        if key.is_none_or(|key| key.role != Role::DryRun) {
            self.note_begun();
        }
        let Some(key) = key else { return };
        if let Some(known) = self.steps.executions.get(&key) {
            let newer = known.metadata.uid == execution.metadata.uid
                && is_newer(
                    known.metadata.resource_version.as_deref(),
                    execution.metadata.resource_version.as_deref(),
                );
            if newer {
                self.steps.executions.insert(key, execution);
            }
            // It may have been seen before its create was answered.
            self.steps.unsure.remove(&key);
            return;
        }
        // What was recorded once was compared then: a later version of this program might plan it differently.
        let recorded = self.status.persisted.step_statuses.iter().any(|status| {
            ExecutionKey::step(status.step_number) == key
                && status
                    .k8s_execution_ref
                    .as_ref()
                    .is_some_and(|reference| reference.uid == execution.metadata.uid)
        });
        if !recorded && !planted(Defect::AdoptStrangersExecution) {
            if key.role == Role::Rollback {
                self.steps.unsure.remove(&key);
                self.steps.waiting.remove(&key);
                // Its step may not have been seen yet: it is looked at when its turn comes.
                self.steps.executions.insert(key, execution);
                return;
            }
            if self.lacks_what_it_undoes() {
                // It is compared once it is known what this workflow does.
                return self.steps.unjudged.push(execution);
            }
            let Ok(plan) = self.plan_once() else { return };
            let Some(wanted) = plan.steps.get(&key.number).map(|step| &step.execution) else {
                return;
            };
            let is_same = match key.role {
                Role::Step => same_spec(&wanted.spec, &execution.spec),
                Role::DryRun if self.wants_dry_runs() => {
                    same_spec(&dry_run_of(wanted, key).spec, &execution.spec)
                }
                Role::DryRun | Role::Rollback => return,
            };
            if !is_same {
                let what = "carries this workflow's owner reference, but another spec";
                return self.conflict(key, &execution, what);
            }
            let must_be_released = (!wanted.spec.approval_received || self.is_approved_by_people())
                && !planted(Defect::RunBeforeTheRecord);
            if must_be_released && execution.spec.approval_received && self.recorded_approval().is_none() {
                let what = "says that it was approved, while the workflow was not";
                return self.conflict(key, &execution, what);
            }
        }
        self.steps.unsure.remove(&key);
        self.steps.waiting.remove(&key);
        self.steps.starts.begun();
        self.steps.executions.insert(key, execution);
    }

    /// The store lost an execution: only the API says whether it is gone.
    pub(super) fn step_absent(&mut self, uid: &str) {
        self.steps.absent.extend(self.key_of(uid));
    }

    /// Asks for them until there is an answer.
    pub(super) fn find_absent_steps(&mut self, out: &mut Vec<WorkflowCommand>) {
        let absent = self.steps.absent.iter().copied();
        let absent = absent
            .filter(|key| self.steps.executions.contains_key(key))
            .collect();
        if planted(Defect::AskOnceForTheAbsent) {
            self.steps.absent.clear();
        }
        self.find(absent, out);
    }

    /// A live read found this of an execution that the store lost, or whose create had no answer.
    pub(super) fn found(
        &mut self,
        now: Timestamp,
        key: ExecutionKey,
        found: Option<Arc<KubernetesExecution>>,
    ) {
        self.steps.absent.remove(&key);
        let known = self
            .steps
            .executions
            .get(&key)
            .map(|known| known.metadata.uid.clone());
        let same = |found: &KubernetesExecution| known.as_ref().is_none_or(|uid| *uid == found.metadata.uid);
        if let Some(execution) = found.filter(|found| self.owns(found) && same(found)) {
            return self.observe_step(execution);
        }
        match self.steps.unsure.get(&key) {
            Some(since) if now < later(*since, CREATE_WINDOW) => self.calls.pause(now, Purpose::Find(key)),
            Some(_) => drop(self.steps.unsure.remove(&key)),
            None => self.lose(key, ErrorType::Cancelled, DELETED.to_owned()),
        }
    }

    pub(super) fn key_of(&self, uid: &str) -> Option<ExecutionKey> {
        let mut executions = self.steps.executions.iter();
        executions
            .find(|(_, execution)| execution.metadata.uid.as_deref() == Some(uid))
            .map(|(key, _)| *key)
    }

    pub(super) fn owns(&self, execution: &KubernetesExecution) -> bool {
        planted(Defect::AdoptStrangersExecution) || is_controlled_by(execution, &self.workflow)
    }

    /// An execution of the step's name is there: ours, an earlier workflow's, or somebody else's.
    pub(super) fn created(&mut self, now: Timestamp, key: ExecutionKey, execution: Arc<KubernetesExecution>) {
        if self.owns(&execution) {
            return self.observe_step(execution);
        }
        let predecessor = controlling_workflow(execution.as_ref())
            .is_some_and(|owner| Some(&owner.name) == self.workflow.metadata.name.as_ref());
        if !predecessor {
            return self.conflict(key, &execution, "is not of this workflow");
        }
        let since = self.steps.waiting.get(&key).map_or(now, |waiting| waiting.since);
        let patience = later(since, PREDECESSOR_PATIENCE);
        if now >= patience {
            return self.conflict(
                key,
                &execution,
                "was left by an earlier workflow of this name and does not go",
            );
        }
        let name = execution.metadata.name.clone().unwrap_or_default();
        let waiting = Waiting {
            since,
            until: later(now, PREDECESSOR_INTERVAL),
            why: format!("until {name} of an earlier workflow of this name is gone"),
        };
        self.steps.waiting.insert(key, waiting);
    }

    /// The execution of a step was refused for a reason that passes: it is tried again, less and less often, for as long as it
    /// takes.
    pub(super) fn wait_to_create(&mut self, now: Timestamp, key: ExecutionKey, why: String) {
        let since = self.steps.waiting.get(&key).map_or(now, |waiting| waiting.since);
        let waited = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        let waiting = Waiting {
            since,
            until: later(now, (waited / 2).clamp(CREATE_INTERVAL, CREATE_INTERVAL_MAX)),
            why,
        };
        self.steps.waiting.insert(key, waiting);
    }

    /// The API server will not have the execution of a step.
    pub(super) fn create_refused(&mut self, key: ExecutionKey, failure: &ApiFailure) {
        let (error_type, what) = match failure.class {
            FailureClass::Forbidden => (ErrorType::InsufficientPermissions, "may not be created"),
            FailureClass::NotFound
            | FailureClass::Conflict
            | FailureClass::Quota
            | FailureClass::Rejected
            | FailureClass::Throttled
            | FailureClass::Unknown => (ErrorType::ValidationError, "could not be created"),
        };
        let message = format!("its KubernetesExecution {what}: {}", failure.message);
        self.lose(key, error_type, message);
    }

    /// A step failed of something that its execution can't say.
    pub(super) fn lose(&mut self, key: ExecutionKey, error_type: ErrorType, message: String) {
        self.steps.waiting.remove(&key);
        self.steps.lost.insert(key, (error_type, message));
    }

    pub(super) fn conflict(&mut self, key: ExecutionKey, execution: &KubernetesExecution, what: &str) {
        let name = execution.metadata.name.clone().unwrap_or_default();
        let uid = execution.metadata.uid.clone().unwrap_or_default();
        let namespace = self.namespace();
        let message = format!(
            "a KubernetesExecution {namespace}/{name} (uid {uid}) is already there and {what}; it was left alone: delete it \
             (kubectl delete kubernetesexecution {name} -n {namespace}), or give the workflow another name",
        );
        self.lose(key, ErrorType::ResourceConflict, message);
    }

    /// A step that the status calls executing, and of which nothing was seen: only the API says whether it is gone.
    pub(super) fn find_unseen_steps(&mut self, out: &mut Vec<WorkflowCommand>) {
        let steps = &self.steps;
        let unseen =
            |key: &ExecutionKey| !steps.executions.contains_key(key) && !steps.lost.contains_key(key);
        let recorded = self.status.persisted.step_statuses.iter();
        let unseen = recorded
            .filter(|step| step.status == StepState::Executing && step.k8s_execution_ref.is_some())
            .map(|step| ExecutionKey::step(step.step_number))
            .filter(unseen)
            .collect();
        self.find(unseen, out);
    }

    /// A controller before this one may have sent creates whose end nobody knows.
    pub(super) fn doubt_ready_steps(&mut self, plan: &Plan, states: &States, since: Timestamp) {
        for number in plan.steps.keys() {
            let key = ExecutionKey::step(*number);
            if is_ready(plan, states, *number) && !self.steps.waiting.contains_key(&key) {
                self.steps.unsure.entry(key).or_insert(since);
            }
        }
    }

    /// Whether a step may be about to begin, or to have begun, without our knowing, although no new one starts.
    pub(super) fn is_in_doubt(
        &mut self,
        plan: &Plan,
        states: &States,
        now: Timestamp,
        out: &mut Vec<WorkflowCommand>,
    ) -> bool {
        if let Some(since) = self.doubtful_since(now) {
            self.doubt_ready_steps(plan, states, since);
        }
        let is_step = |key: ExecutionKey| !Self::is_always(plan, key.number);
        let creating = self
            .calls
            .count(|purpose| matches!(purpose, Purpose::Create(key) if is_step(key)));
        if !self.steps.unsure.is_empty() {
            self.find_unsure_steps(out);
        }
        creating > 0 || !self.steps.unsure.is_empty()
    }

    /// No new step starts, but one may have been started without our knowing.
    pub(super) fn find_unsure_steps(&mut self, out: &mut Vec<WorkflowCommand>) {
        let unsure = self.steps.unsure.keys().copied();
        let unsure = unsure
            .filter(|key| !self.calls.is_under_way(Purpose::Create(*key)))
            .collect();
        self.find(unsure, out);
    }

    pub(super) fn find(&mut self, keys: Vec<ExecutionKey>, out: &mut Vec<WorkflowCommand>) {
        let workflow = self.workflow.metadata.name.clone().unwrap_or_default();
        for key in keys {
            if self.calls.is_under_way(Purpose::Find(key)) {
                continue;
            }
            let command = ApiCommand::GetExecution {
                namespace: self.namespace(),
                name: key.name(&workflow),
            };
            self.call(Purpose::Find(key), command, out);
        }
    }

    /// Lets go those in deletion whose end is recorded, but for the steps that are kept.
    pub(super) fn release_recorded(&mut self, kept: &[i32], out: &mut Vec<WorkflowCommand>) {
        let done: Vec<String> = self
            .steps
            .executions
            .iter()
            .filter(|(key, execution)| {
                let is_recorded = |status: &StepStatus| {
                    status.step_number == key.number
                        && match key.role {
                            Role::Step => !matches!(status.status, StepState::Pending | StepState::Executing),
                            Role::DryRun => true,
                            Role::Rollback => status
                                .undo
                                .as_ref()
                                .is_some_and(|undo| undo.status != UndoState::Executing),
                        }
                };
                // A dry run that is gone before its end was recorded is made anew: it changes nothing.
                let is_kept = key.role == Role::Step && kept.contains(&key.number);
                execution.metadata.deletion_timestamp.is_some()
                    && !is_kept
                    && (key.role == Role::DryRun
                        || self.status.persisted.step_statuses.iter().any(is_recorded))
            })
            .filter_map(|(_, execution)| execution.metadata.uid.clone())
            .collect();
        for uid in done {
            if self.steps.released.insert(uid.clone()) {
                out.push(WorkflowCommand::ReleaseStep { uid });
            }
        }
    }
}
