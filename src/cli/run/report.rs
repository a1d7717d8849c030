//! What a rehearsal tells: transitions as they happen, then the outcome of each workflow and step.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use kubernaut_crds::names::LAST_APPLIED;

use kubernaut_crds::{ExecutionPhase, KubernetesExecution, StepState, WorkflowExecution, WorkflowPhase};
use serde_json::{Value, json};

use super::advice::Failure;

/// What was last said of each object, by kind and place.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    begun: Option<Timestamp>,
    seen: BTreeMap<String, usize>,
}

impl Progress {
    /// The lines that an object's new phases are worth.
    pub(crate) fn lines(
        &mut self,
        what: &str,
        transitions: &[kubernaut_crds::PhaseTransition],
        message: &str,
    ) -> Vec<String> {
        let seen = self.seen.entry(what.to_owned()).or_default();
        let new = transitions.get(*seen..).unwrap_or_default();
        *seen = transitions.len();
        let mut lines = Vec::new();
        for (index, transition) in new.iter().enumerate() {
            let begun = *self.begun.get_or_insert(transition.time.0);
            let elapsed = transition.time.0.duration_since(begun).as_secs_f64().max(0.0);
            let mut line = format!("{elapsed:8.3}s  {what}  {}", transition.phase);
            if index + 1 == new.len() && !message.is_empty() {
                let _ = write!(line, "  {}", message.replace('\n', " "));
            }
            lines.push(line);
        }
        lines
    }
}

/// How one workflow, or one execution made by hand, ended.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) success: bool,
    text: String,
}

/// The outcome of a workflow; `None` while it runs.
pub(crate) fn of_workflow(workflow: &WorkflowExecution, objects: &[Value]) -> Option<Verdict> {
    let status = workflow.status.as_ref()?;
    let phase = status.phase.filter(|phase| phase.is_terminal())?;
    let outcome = status.workflow_result.as_ref().map(|result| result.outcome);
    let success = phase == WorkflowPhase::Completed && outcome == Some(kubernaut_crds::Outcome::Success);
    let name = place(&workflow.metadata);
    let outcome = outcome.map(|outcome| word(&json!(outcome)));
    let error_type = status.error_type.as_ref().map(|error| word(&json!(error)));
    // A failed workflow is not told twice that it failed, but why.
    let words = [Some(phase.as_str()), outcome.as_deref(), error_type.as_deref()];
    let mut words: Vec<&str> = words.into_iter().flatten().collect();
    words.dedup();
    let mut text = format!("workflow {name}: {}\n", words.join(", "));
    let message = status.message.as_deref().unwrap_or_default();
    if !message.is_empty() {
        let _ = writeln!(text, "  {}", indented(message, 2));
    }
    for error in status
        .validation_results
        .iter()
        .flat_map(|results| &results.validation_errors)
        .filter(|error| !message.contains(error.as_str()))
    {
        let _ = writeln!(text, "  error: {error}");
    }
    for warning in status
        .validation_results
        .iter()
        .flat_map(|results| &results.warnings)
    {
        let _ = writeln!(text, "  warning: {warning}");
    }
    let mut advised = false;
    for step in &status.step_statuses {
        let note = match step.status {
            StepState::Completed => step.result.as_deref(),
            StepState::Pending
            | StepState::Executing
            | StepState::Failed
            | StepState::RolledBack
            | StepState::Skipped => step.error_message.as_deref(),
        };
        let _ = writeln!(
            text,
            "  step {:<4} {:<20} {:<10} {}",
            step.step_number,
            step.action,
            word(&json!(step.status)),
            indented(note.unwrap_or_default(), 12)
        );
        if step.status == StepState::Failed {
            let message = step.error_message.as_deref().unwrap_or_default();
            let execution = step.k8s_execution_ref.as_ref().and_then(|of| {
                objects.iter().find(|object| {
                    object["kind"] == "KubernetesExecution" && object["metadata"]["name"] == of.name.as_str()
                })
            });
            let of_step = execution.map(|execution| &execution["status"]);
            let error_type =
                of_step.and_then(|status| serde_json::from_value(status["errorType"].clone()).ok());
            let target = of_step.and_then(|status| status["targetName"].as_str());
            let failure = Failure {
                // A step without an execution of its own failed as its workflow did.
                error_type: error_type.or(status.error_type),
                message,
                target: target.unwrap_or_default(),
                objects,
            };
            if let Some(advice) = failure.advice() {
                let _ = writeln!(text, "            to do: {advice}");
            }
            advised = true;
        }
    }
    if !success
        && !advised
        && let Some(advice) = (Failure {
            error_type: status.error_type,
            message,
            target: "",
            objects,
        })
        .advice()
    {
        let _ = writeln!(text, "  to do: {advice}");
    }
    for advice in status
        .workflow_result
        .iter()
        .flat_map(|result| &result.recommended_actions)
    {
        let _ = writeln!(text, "  advice: {advice}");
    }
    Some(Verdict { success, text })
}

/// The outcome of an execution; `None` while it runs.
pub(crate) fn of_execution(execution: &KubernetesExecution, objects: &[Value]) -> Option<Verdict> {
    let status = execution.status.as_ref()?;
    let phase = status.phase.filter(|phase| phase.is_terminal())?;
    let name = place(&execution.metadata);
    let error_type = status.error_type.as_ref().map(|error| word(&json!(error)));
    let mut text = format!(
        "execution {name}: {}{} {} {}\n",
        phase.as_str(),
        error_type.map_or(String::new(), |error_type| format!(", {error_type}")),
        status.target_name.as_deref().unwrap_or_default(),
        status.message.as_deref().unwrap_or_default()
    );
    let success = phase == ExecutionPhase::Completed;
    let message = status.message.as_deref().unwrap_or_default();
    if !success
        && let Some(advice) = (Failure {
            error_type: status.error_type,
            message,
            target: status.target_name.as_deref().unwrap_or_default(),
            objects,
        })
        .advice()
    {
        let _ = writeln!(text, "  to do: {advice}");
    }
    Some(Verdict { success, text })
}

impl Verdict {
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

/// The further lines of a text stand below its first one.
fn indented(text: &str, spaces: usize) -> String {
    text.trim_end().replace('\n', &format!("\n{:spaces$}", ""))
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

pub(crate) fn place(metadata: &kube::api::ObjectMeta) -> String {
    format!(
        "{}/{}",
        metadata.namespace.as_deref().unwrap_or("default"),
        metadata.name.as_deref().unwrap_or_default()
    )
}

/// Values of Secrets are not printed, wherever they stand.
pub(crate) fn mask(object: &mut Value) {
    const MASKED: &str = "<masked>";
    fn mask_values(map: Option<&mut Value>) {
        for value in map
            .and_then(Value::as_object_mut)
            .into_iter()
            .flat_map(|map| map.values_mut())
        {
            *value = json!(MASKED);
        }
    }
    // kubectl's copy of the object, secret values and all.
    if let Some(annotations) = object
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.remove(LAST_APPLIED);
    }
    if object["kind"] == "Secret" {
        mask_values(object.get_mut("data"));
        mask_values(object.get_mut("stringData"));
    }
    mask_values(object.pointer_mut("/spec/parameters/updateSecret/data"));
    if let Some(steps) = object
        .pointer_mut("/spec/workflowDefinition/steps")
        .and_then(Value::as_array_mut)
    {
        for step in steps {
            mask_values(step.pointer_mut("/parameters/updateSecret/dataUpdates"));
        }
    }
}
