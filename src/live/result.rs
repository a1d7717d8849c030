//! A workflow as the command line tells it: what became of it and of its steps, and what was changed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kubernaut_crds::{
    KubernetesExecution, Outcome, StepState, StepStatus, WorkflowApproval, WorkflowExecution, WorkflowPhase,
};
use kubernaut_machines::graph::Graph;
use serde::Serialize;
use serde_json::Value;

use crate::terminal::RESULT_VERSION;

/// One workflow.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WorkflowResult {
    api_version: &'static str,
    kind: &'static str,
    pub(super) namespace: String,
    pub(super) name: String,
    uid: String,
    pub(super) phase: WorkflowPhase,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) outcome: Option<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error_type: Option<String>,
    pub(super) completed_steps: usize,
    pub(super) total_steps: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) created_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) approved_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) plan_digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) created: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ended: Option<Timestamp>,
    pub(super) steps: Vec<StepResult>,
    pub(super) changes: Vec<Change>,
}

/// One step of a workflow.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StepResult {
    pub(super) number: i32,
    pub(super) name: String,
    pub(super) action: String,
    pub(super) depends_on: Vec<i32>,
    pub(super) status: StepState,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) attempt: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) started: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ended: Option<Timestamp>,
    /// How undoing it went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) undo: Option<String>,
}

/// What an execution changed.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Change {
    step: i32,
    execution: String,
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
}

/// Several workflows.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WorkflowResultList {
    api_version: &'static str,
    kind: &'static str,
    pub(super) items: Vec<WorkflowResult>,
}

impl WorkflowResultList {
    pub(super) fn new(items: Vec<WorkflowResult>) -> Self {
        Self {
            api_version: RESULT_VERSION,
            kind: "WorkflowResultList",
            items,
        }
    }
}

impl WorkflowResult {
    /// Of a workflow, and of the executions of its steps where these were read.
    pub(super) fn new(workflow: &WorkflowExecution, executions: &[KubernetesExecution]) -> Self {
        let metadata = &workflow.metadata;
        let status = workflow.status.clone().unwrap_or_default();
        let by_number: BTreeMap<i32, &KubernetesExecution> = executions
            .iter()
            .filter(|execution| execution.spec.dry_run != Some(true))
            .filter(|execution| Some(execution.spec.step_number) == step_of(workflow, execution))
            .map(|execution| (execution.spec.step_number, execution))
            .collect();
        let known: BTreeMap<i32, &StepStatus> = status
            .step_statuses
            .iter()
            .map(|step| (step.step_number, step))
            .collect();
        let definition = &workflow.spec.workflow_definition.steps;
        let dependencies = workflow.spec.workflow_definition.dependencies.as_ref();
        let graph = Graph::new(definition, dependencies).ok();
        let mut steps: Vec<StepResult> = definition
            .iter()
            .map(|step| {
                let number = step.step_number;
                let depends_on = match &graph {
                    Some(graph) => graph.dependencies_of(number).collect(),
                    None => step.depends_on.clone().unwrap_or_default(),
                };
                let mut result = StepResult::pending(number, &step.name, &step.action, depends_on);
                result.fill(known.get(&number).copied(), by_number.get(&number).copied());
                result
            })
            .collect();
        // A workflow that undoes another one says nothing of its steps: they are planned.
        let is_planned =
            |step: &&StepStatus| definition.iter().all(|own| own.step_number != step.step_number);
        steps.extend(
            status
                .step_statuses
                .iter()
                .filter(is_planned)
                .map(StepResult::planned),
        );
        let completed = steps
            .iter()
            .filter(|step| step.status == StepState::Completed)
            .count();
        Self {
            api_version: RESULT_VERSION,
            kind: "WorkflowResult",
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            phase: status.phase.unwrap_or(WorkflowPhase::Planning),
            outcome: status.workflow_result.as_ref().map(|result| result.outcome),
            error_type: status.error_type.map(word),
            completed_steps: completed,
            total_steps: steps.len(),
            message: status.message.clone(),
            created_by: workflow.created_by().map(str::to_owned),
            approved_by: status.approval.as_ref().map(WorkflowApproval::names),
            plan_digest: status
                .execution_plan
                .as_ref()
                .and_then(|plan| plan.digest.clone()),
            created: metadata.creation_timestamp.as_ref().map(|time| time.0),
            ended: status.completion_time.as_ref().map(|time| time.0),
            steps,
            changes: executions.iter().flat_map(changes).collect(),
        }
    }

    /// It ended, and all was done.
    pub(super) fn is_success(&self) -> bool {
        self.phase == WorkflowPhase::Completed && self.outcome == Some(Outcome::Success)
    }

    /// What became of it, in a word or two.
    pub(super) fn outcome_word(&self) -> String {
        let error = self.error_type.clone();
        error.or_else(|| self.outcome.map(word)).unwrap_or_default()
    }
}

/// The number of the step that it was made for; none for one that takes a step back.
fn step_of(workflow: &WorkflowExecution, execution: &KubernetesExecution) -> Option<i32> {
    let number = execution.spec.step_number;
    let own = format!(
        "{}-step-{number}",
        workflow.metadata.name.as_deref().unwrap_or_default()
    );
    (execution.metadata.name.as_deref() == Some(own.as_str())).then_some(number)
}

fn changes(execution: &KubernetesExecution) -> Vec<Change> {
    let results = execution
        .status
        .as_ref()
        .and_then(|status| status.execution_results.as_ref());
    let affected = results
        .into_iter()
        .flat_map(|results| &results.resources_affected);
    affected
        .filter(|_| execution.spec.dry_run != Some(true))
        .map(|resource| Change {
            step: execution.spec.step_number,
            execution: execution.metadata.name.clone().unwrap_or_default(),
            kind: resource.kind.clone(),
            namespace: resource.namespace.clone(),
            name: resource.name.clone(),
            before: resource.before.clone(),
            after: resource.after.clone(),
        })
        .collect()
}

impl StepResult {
    /// One of which nothing is known yet.
    fn pending(number: i32, name: &str, action: &str, depends_on: Vec<i32>) -> Self {
        Self {
            number,
            name: name.to_owned(),
            action: action.to_owned(),
            depends_on,
            status: StepState::Pending,
            target: None,
            attempt: None,
            error_type: None,
            message: None,
            started: None,
            ended: None,
            undo: None,
        }
    }

    /// With what its workflow and its execution say of it.
    fn fill(&mut self, status: Option<&StepStatus>, execution: Option<&KubernetesExecution>) {
        if let Some(status) = status {
            self.take(status);
        }
        // An execution says sooner than its workflow what it does.
        let running = execution.and_then(|execution| execution.status.as_ref());
        if let Some(running) =
            running.filter(|_| matches!(self.status, StepState::Pending | StepState::Executing))
        {
            self.status = StepState::Executing;
            self.target = running.target_name.clone().or_else(|| self.target.take());
            self.attempt = running.attempt.or(self.attempt);
            self.started = running.start_time.as_ref().map(|time| time.0).or(self.started);
            let phase = running.phase.map(word).unwrap_or_default();
            let said = running.message.clone().unwrap_or_default();
            self.message = Some([phase, said].join(" ").trim().to_owned());
        }
    }

    fn planned(status: &StepStatus) -> Self {
        let name = status.name.as_deref().unwrap_or(&status.action);
        let mut this = Self::pending(status.step_number, name, &status.action, Vec::new());
        this.take(status);
        this
    }

    fn take(&mut self, status: &StepStatus) {
        self.status = status.status;
        self.target.clone_from(&status.target);
        self.attempt = status.attempt;
        self.error_type = status.error_type.map(word);
        self.message = status.error_message.clone().or_else(|| status.result.clone());
        self.started = status.start_time.as_ref().map(|time| time.0);
        self.ended = status.end_time.as_ref().map(|time| time.0);
        self.undo = status.undo.as_ref().map(|undo| {
            let said = undo.message.clone().unwrap_or_default();
            format!("{} {said}", word(undo.status)).trim().to_owned()
        });
    }
}

/// A value of an enumeration as the API spells it.
pub(super) fn word(value: impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        Ok(_) | Err(_) => String::new(),
    }
}
