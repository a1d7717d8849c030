//! The executions of a workflow: seen, made, lost, released.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kubernaut_crds::{ErrorType, KubernetesExecution, StepState};

use super::WorkflowCommand;
use super::machine::{Purpose, Waiting, WorkflowMachine};
use crate::mapping::same_spec;
use crate::outcome::ApiCommand;
use crate::step::{is_newer, later};

/// How long a step waits for an execution of its name that an earlier workflow left behind.
const PREDECESSOR_PATIENCE: Duration = Duration::from_secs(120);

/// How often it looks whether that one is gone.
const PREDECESSOR_INTERVAL: Duration = Duration::from_secs(2);

impl WorkflowMachine {
    pub(super) fn observe_step(&mut self, execution: Arc<KubernetesExecution>) {
        if !self.owns(&execution) {
            return;
        }
        let step = execution.spec.step_number;
        let newer = self.executions.get(&step).is_none_or(|known| {
            known.metadata.uid == execution.metadata.uid
                && is_newer(
                    known.metadata.resource_version.as_deref(),
                    execution.metadata.resource_version.as_deref(),
                )
        });
        self.unsure.remove(&step);
        if newer {
            self.executions.insert(step, execution);
        }
    }

    /// The store lost an execution: only the API says whether it is gone.
    pub(super) fn step_absent(&mut self, uid: &str, out: &mut Vec<WorkflowCommand>) {
        let Some(step) = self.step_of(uid) else { return };
        let Some(execution) = self.executions.get(&step) else {
            return;
        };
        if self
            .inflight
            .values()
            .any(|purpose| *purpose == Purpose::Find(step))
        {
            return;
        }
        let metadata = &execution.metadata;
        let command = ApiCommand::GetExecution {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
        };
        self.call(Purpose::Find(step), command, out);
    }

    pub(super) fn step_of(&self, uid: &str) -> Option<i32> {
        self.executions
            .iter()
            .find(|(_, ke)| ke.metadata.uid.as_deref() == Some(uid))
            .map(|(step, _)| *step)
    }

    pub(super) fn owns(&self, execution: &KubernetesExecution) -> bool {
        execution.metadata.owner_references.iter().flatten().any(|owner| {
            owner.controller == Some(true)
                && Some(owner.uid.as_str()) == self.workflow.metadata.uid.as_deref()
        })
    }

    /// An execution of the step's name is there: ours, an earlier workflow's, or somebody else's.
    pub(super) fn created(&mut self, now: Timestamp, step: i32, execution: Arc<KubernetesExecution>) {
        let wanted = self
            .planned()
            .and_then(|plan| plan.steps.get(&step).map(|planned| planned.execution.clone()));
        if self.owns(&execution) {
            if wanted.is_some_and(|wanted| same_spec(&wanted.spec, &execution.spec)) {
                self.waiting.remove(&step);
                self.observe_step(execution);
            } else {
                self.conflict(
                    step,
                    &execution,
                    "carries this workflow's owner reference, but another spec",
                );
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
            return self.conflict(
                step,
                &execution,
                "was left by an earlier workflow of this name and does not go",
            );
        }
        self.waiting.insert(
            step,
            Waiting {
                since,
                until: later(now, PREDECESSOR_INTERVAL),
            },
        );
        let name = execution.metadata.name.clone().unwrap_or_default();
        self.draft.message = Some(format!(
            "step {step} waits until {name} of an earlier workflow of this name is gone"
        ));
    }

    fn conflict(&mut self, step: i32, execution: &KubernetesExecution, what: &str) {
        let name = execution.metadata.name.clone().unwrap_or_default();
        let uid = execution.metadata.uid.clone().unwrap_or_default();
        let message = format!(
            "KubernetesExecution {}/{name} (uid {uid}) exists and {what}; it was left alone",
            self.namespace()
        );
        self.lost.insert(step, (ErrorType::ResourceConflict, message));
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
            let pending = states
                .get(number)
                .is_some_and(|(state, _)| *state == StepState::Pending);
            let ready = plan.graph.dependencies_of(*number).all(|before| {
                states
                    .get(&before)
                    .is_some_and(|(state, _)| *state == StepState::Completed)
            });
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
            self.call(
                Purpose::Create(*number),
                ApiCommand::CreateExecution(Box::new(step.execution.clone())),
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
