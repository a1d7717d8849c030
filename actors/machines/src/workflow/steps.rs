//! The executions of a workflow: seen, made, lost, released.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kubernaut_crds::{ErrorType, KubernetesExecution, StepState};

use super::WorkflowCommand;
use super::machine::{Purpose, Waiting, WorkflowMachine};
use super::progress::States;
use crate::defect::{Defect, planted};
use crate::mapping::same_spec;
use crate::outcome::{ApiCommand, ApiFailure, FailureClass};
use crate::owner::{controlling_workflow, is_controlled_by};
use crate::plan::Plan;
use crate::step::{is_newer, later};

/// How long a step waits for an execution of its name that an earlier workflow left behind.
const PREDECESSOR_PATIENCE: Duration = Duration::from_secs(120);

/// How often it looks whether that one is gone.
const PREDECESSOR_INTERVAL: Duration = Duration::from_secs(2);

/// How often a step's execution is tried again that was refused for now: at first, and after a while.
const CREATE_INTERVAL: Duration = Duration::from_secs(1);
const CREATE_INTERVAL_MAX: Duration = Duration::from_secs(30);

/// Said of a step whose execution somebody deleted.
pub(super) const DELETED: &str = "its KubernetesExecution was deleted while it ran";
const LEFT_ALONE: &str = "it was left alone";
const NOT_ALLOWED: &str = "its KubernetesExecution may not be created: ";
const REFUSED: &str = "its KubernetesExecution could not be created: ";

/// The class of a failure that no execution tells of, from its sentence: the status of a step has no field for it, and
/// it has to be known after a restart, too.
pub(super) fn class_of(message: &str) -> ErrorType {
    if message == DELETED {
        ErrorType::Cancelled
    } else if message.starts_with(NOT_ALLOWED) {
        ErrorType::InsufficientPermissions
    } else if message.contains(LEFT_ALONE) {
        ErrorType::ResourceConflict
    } else if message.starts_with(REFUSED) {
        ErrorType::ValidationError
    } else {
        ErrorType::UnknownError
    }
}

impl WorkflowMachine {
    /// Takes in an execution of this workflow. One that the plan does not name is nobody's step: whoever can set an owner
    /// reference could else say what a step has done.
    pub(super) fn observe_step(&mut self, execution: Arc<KubernetesExecution>) {
        if !self.owns(&execution) {
            return;
        }
        self.note_begun();
        let step = execution.spec.step_number;
        if let Some(known) = self.executions.get(&step) {
            let newer = known.metadata.uid == execution.metadata.uid
                && is_newer(
                    known.metadata.resource_version.as_deref(),
                    execution.metadata.resource_version.as_deref(),
                );
            if newer {
                self.executions.insert(step, execution);
            }
            // It may have been seen before its create was answered.
            self.unsure.remove(&step);
            return;
        }
        // What was recorded once was compared then: a later version of this program might plan it differently.
        let recorded = self.persisted.step_statuses.iter().any(|status| {
            status.step_number == step
                && status
                    .k8s_execution_ref
                    .as_ref()
                    .is_some_and(|reference| reference.uid == execution.metadata.uid)
        });
        if !recorded && !planted(Defect::AdoptStrangersExecution) {
            let Ok(plan) = self.plan_once() else { return };
            let Some(wanted) = plan.steps.get(&step).map(|step| &step.execution) else {
                return;
            };
            if wanted.metadata.name != execution.metadata.name {
                return;
            }
            if !same_spec(&wanted.spec, &execution.spec) {
                let what = "carries this workflow's owner reference, but another spec";
                return self.conflict(step, &execution, what);
            }
        }
        self.unsure.remove(&step);
        self.waiting.remove(&step);
        self.executions.insert(step, execution);
    }

    /// The store lost an execution: only the API says whether it is gone.
    pub(super) fn step_absent(&mut self, uid: &str) {
        self.absent.extend(self.step_of(uid));
    }

    /// Asks for them until there is an answer.
    pub(super) fn find_absent_steps(&mut self, out: &mut Vec<WorkflowCommand>) {
        let absent: Vec<(i32, String)> = self
            .absent
            .iter()
            .filter(|step| !self.is_under_way(Purpose::Find(**step)))
            .filter_map(|step| Some((*step, self.executions.get(step)?.metadata.name.clone()?)))
            .collect();
        if planted(Defect::AskOnceForTheAbsent) {
            self.absent.clear();
        }
        self.find(absent, out);
    }

    pub(super) fn step_of(&self, uid: &str) -> Option<i32> {
        self.executions
            .iter()
            .find(|(_, ke)| ke.metadata.uid.as_deref() == Some(uid))
            .map(|(step, _)| *step)
    }

    pub(super) fn owns(&self, execution: &KubernetesExecution) -> bool {
        planted(Defect::AdoptStrangersExecution) || is_controlled_by(execution, &self.workflow)
    }

    /// An execution of the step's name is there: ours, an earlier workflow's, or somebody else's.
    pub(super) fn created(&mut self, now: Timestamp, step: i32, execution: Arc<KubernetesExecution>) {
        if self.owns(&execution) {
            return self.observe_step(execution);
        }
        let predecessor = controlling_workflow(execution.as_ref())
            .is_some_and(|owner| Some(&owner.name) == self.workflow.metadata.name.as_ref());
        if !predecessor {
            return self.conflict(step, &execution, "is not of this workflow");
        }
        let since = self.waiting.get(&step).map_or(now, |waiting| waiting.since);
        let patience = later(since, PREDECESSOR_PATIENCE);
        if now >= patience {
            return self.conflict(
                step,
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
        self.waiting.insert(step, waiting);
    }

    /// The execution of a step was refused for a reason that passes: it is tried again, less and less often, for as long as it
    /// takes.
    pub(super) fn wait_to_create(&mut self, now: Timestamp, step: i32, why: String) {
        let since = self.waiting.get(&step).map_or(now, |waiting| waiting.since);
        let waited = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        let waiting = Waiting {
            since,
            until: later(now, (waited / 2).clamp(CREATE_INTERVAL, CREATE_INTERVAL_MAX)),
            why,
        };
        self.waiting.insert(step, waiting);
    }

    /// The API server will not have the execution of a step.
    pub(super) fn create_refused(&mut self, step: i32, failure: &ApiFailure) {
        let sentence = match failure.class {
            FailureClass::Forbidden => NOT_ALLOWED,
            FailureClass::NotFound
            | FailureClass::Conflict
            | FailureClass::Quota
            | FailureClass::Rejected
            | FailureClass::Throttled
            | FailureClass::Unknown => REFUSED,
        };
        self.lose(step, format!("{sentence}{}", failure.message));
    }

    /// A step failed of something that its execution can't say.
    pub(super) fn lose(&mut self, step: i32, message: String) {
        self.waiting.remove(&step);
        self.lost.insert(step, (class_of(&message), message));
    }

    fn conflict(&mut self, step: i32, execution: &KubernetesExecution, what: &str) {
        let name = execution.metadata.name.clone().unwrap_or_default();
        let uid = execution.metadata.uid.clone().unwrap_or_default();
        let namespace = self.namespace();
        let message = format!(
            "a KubernetesExecution {namespace}/{name} (uid {uid}) is already there and {what}; {LEFT_ALONE}: delete it \
             (kubectl delete kubernetesexecution {name} -n {namespace}), or give the workflow another name",
        );
        self.lose(step, message);
    }

    /// A step that the status calls executing, and of which nothing was seen: only the API says whether it is gone.
    pub(super) fn find_unseen_steps(&mut self, out: &mut Vec<WorkflowCommand>) {
        let unseen: Vec<(i32, String)> = self
            .persisted
            .step_statuses
            .iter()
            .filter(|step| step.status == StepState::Executing)
            .filter(|step| {
                !self.executions.contains_key(&step.step_number) && !self.lost.contains_key(&step.step_number)
            })
            .filter(|step| !self.is_under_way(Purpose::Find(step.step_number)))
            .filter_map(|step| Some((step.step_number, step.k8s_execution_ref.as_ref()?.name.clone())))
            .collect();
        self.find(unseen, out);
    }

    /// A controller before this one may have sent creates whose end nobody knows.
    pub(super) fn doubt_ready_steps(&mut self, plan: &Plan, states: &States, since: Timestamp) {
        for number in plan.steps.keys() {
            if is_ready(plan, states, *number) && !self.waiting.contains_key(number) {
                self.unsure.entry(*number).or_insert(since);
            }
        }
    }

    /// No new step starts, but one may have been started without our knowing.
    pub(super) fn find_unsure_steps(&mut self, out: &mut Vec<WorkflowCommand>) {
        let name = self.workflow.metadata.name.clone().unwrap_or_default();
        let unsure: Vec<(i32, String)> = self
            .unsure
            .keys()
            .filter(|step| {
                !self.is_under_way(Purpose::Find(**step)) && !self.is_under_way(Purpose::Create(**step))
            })
            .map(|step| (*step, format!("{name}-step-{step}")))
            .collect();
        self.find(unsure, out);
    }

    fn find(&mut self, steps: Vec<(i32, String)>, out: &mut Vec<WorkflowCommand>) {
        for (step, name) in steps {
            let command = ApiCommand::GetExecution {
                namespace: self.namespace(),
                name,
            };
            self.call(Purpose::Find(step), command, out);
        }
    }

    /// Creates the executions of the steps whose dependencies have completed, lowest number first.
    pub(super) fn start_ready_steps(&mut self, now: Timestamp, out: &mut Vec<WorkflowCommand>) {
        let Ok(plan) = self.plan_once() else { return };
        let states = self.step_states(&plan);
        if self.halted(&plan, &states).is_some() {
            return;
        }
        let creating = self
            .inflight
            .values()
            .filter(|purpose| matches!(purpose, Purpose::Create(_)))
            .count();
        let running = states
            .values()
            .filter(|(state, _)| *state == StepState::Executing)
            .count();
        let limit = usize::try_from(self.workflow.spec.max_parallel_steps)
            .unwrap_or(1)
            .max(1);
        let mut free = limit.saturating_sub(running + creating);
        for (number, step) in &plan.steps {
            if free == 0 {
                break;
            }
            if !is_ready(&plan, &states, *number) || self.is_under_way(Purpose::Create(*number)) {
                continue;
            }
            if let Some(waiting) = self.waiting.get(number)
                && now < waiting.until
            {
                let until = waiting.until;
                self.wait_until(until, "a step that can't be started yet");
                continue;
            }
            free -= 1;
            let mut execution = step.execution.clone();
            if planted(Defect::CreateUnderAnotherName) {
                let name = execution.metadata.name.unwrap_or_default();
                execution.metadata.name = Some(format!("{name}-{}", now.as_millisecond() % 100_000));
            }
            self.call(
                Purpose::Create(*number),
                ApiCommand::CreateExecution(Box::new(execution)),
                out,
            );
        }
    }

    pub(super) fn release_recorded(&mut self, out: &mut Vec<WorkflowCommand>) {
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
}

/// It has not begun, and all that it needs has completed.
fn is_ready(plan: &Plan, states: &States, number: i32) -> bool {
    let is = |number: i32, wanted: StepState| states.get(&number).is_some_and(|(state, _)| *state == wanted);
    is(number, StepState::Pending)
        && (planted(Defect::IgnoreDependencies)
            || plan
                .graph
                .dependencies_of(number)
                .all(|before| is(before, StepState::Completed)))
}
