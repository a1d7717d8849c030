//! What a rehearsal tells: transitions as they happen, then the outcome of each workflow and step.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use kubernaut_crds::names::LAST_APPLIED;
use kubernaut_crds::{
    ErrorType, ExecutionPhase, KubernetesExecution, Outcome, StepState, StepStatus, WorkflowExecution,
    WorkflowExecutionStatus, WorkflowPhase,
};
use kubernaut_machines::classify::cut;
use serde_json::{Value, json};

use super::advice::{Failure, Objects};

/// So much of a message stands in a line of the log, in bytes.
const LINE_MAX: usize = 500;

/// What was last said of each object, by kind and place.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    begun: Option<Timestamp>,
    seen: BTreeMap<String, usize>,
    attempts: BTreeMap<String, usize>,
}

impl Progress {
    /// The line that another attempt is worth; none for the first one, which its phase tells.
    pub(crate) fn attempt(
        &mut self,
        what: &str,
        told: &str,
        attempts: &[(Timestamp, String)],
    ) -> Option<String> {
        let seen = self.attempts.entry(what.to_owned()).or_default();
        let begun = self.begun?;
        let (time, why) = attempts.last().filter(|_| attempts.len() > (*seen).max(1))?;
        *seen = attempts.len();
        let elapsed = time.duration_since(begun).as_secs_f64().max(0.0);
        Some(format!(
            "{elapsed:8.3}s  {told}  attempt {}  {}",
            attempts.len(),
            in_a_line(why)
        ))
    }

    /// The lines that an object's new phases are worth.
    pub(crate) fn lines(
        &mut self,
        what: &str,
        told: &str,
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
            let mut line = format!("{elapsed:8.3}s  {told}  {}", transition.phase);
            if index + 1 == new.len() && !message.is_empty() {
                let _ = write!(line, "  {}", in_a_line(message));
            }
            lines.push(line);
        }
        lines
    }
}

/// The beginning of a message; the end of the output has all of it.
fn in_a_line(message: &str) -> String {
    cut(&message.replace('\n', " "), LINE_MAX)
}

/// How one workflow, or one execution made by hand, ended.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) success: bool,
    text: String,
}

/// The outcome of a workflow; `None` while it runs.
pub(crate) fn of_workflow(workflow: &WorkflowExecution, objects: &Objects<'_>) -> Option<Verdict> {
    let status = workflow.status.as_ref()?;
    let phase = status.phase.filter(|phase| phase.is_terminal())?;
    let outcome = status.workflow_result.as_ref().map(|result| result.outcome);
    let success = phase == WorkflowPhase::Completed && outcome == Some(Outcome::Success);
    let name = namespaced_name(&workflow.metadata);
    let outcome_word = outcome.map(|outcome| word(&json!(outcome)));
    let error_type = status.error_type.as_ref().map(|error| word(&json!(error)));
    // A failed workflow is not told twice that it failed, but why.
    let words = [
        Some(phase.as_str()),
        outcome_word.as_deref(),
        error_type.as_deref(),
    ];
    let mut words: Vec<&str> = words.into_iter().flatten().collect();
    words.dedup();
    let mut text = format!("workflow {name}: {}\n", words.join(", "));
    let partly = if outcome == Some(Outcome::PartialSuccess) {
        "NOT ALL OF IT WAS DONE: "
    } else {
        ""
    };
    let message = headline(status);
    if !message.is_empty() {
        let _ = writeln!(text, "  {partly}{}", indented(&message, 2));
    }
    let full = status.message.as_deref().unwrap_or_default();
    let results = || status.validation_results.iter();
    for error in results()
        .flat_map(|results| &results.validation_errors)
        .filter(|error| !full.contains(error.as_str()))
    {
        let _ = writeln!(text, "  error: {error}");
    }
    for warning in results().flat_map(|results| &results.warnings) {
        let _ = writeln!(text, "  warning: {warning}");
    }
    let tried = results().filter_map(|results| results.dry_run_results.as_ref());
    for issue in tried.flat_map(|tried| &tried.potential_issues) {
        let _ = writeln!(text, "  dry run: {issue}");
    }
    let mut advised = false;
    let names: Vec<&str> = status.step_statuses.iter().map(name_of).collect();
    let width = names.iter().map(|name| name.len()).max().unwrap_or(0);
    for step in &status.step_statuses {
        text.push_str(&of_step(step, width, status.error_type, objects));
        advised |= step.status == StepState::Failed;
    }
    if !success
        && !advised
        && let Some(advice) = (Failure {
            error_type: status.error_type,
            message: full,
            target: "",
            objects,
        })
        .advice()
    {
        let _ = writeln!(text, "  to do: {}", indented(&advice, 4));
    }
    for advice in status
        .workflow_result
        .iter()
        .flat_map(|result| &result.recommended_actions)
    {
        let _ = writeln!(text, "  {advice}");
    }
    Some(Verdict { success, text })
}

/// What the workflow says, without the words of kubectl that stand at the step, and each right in a line of its own.
fn headline(status: &WorkflowExecutionStatus) -> String {
    let message = status.message.as_deref().unwrap_or_default();
    let of_step = status
        .step_statuses
        .iter()
        .filter_map(|step| step.error_message.as_deref())
        .find(|said| beginning(said) != *said && message.contains(said));
    let message = match of_step {
        Some(said) => message.replace(said, &format!("{} ...", beginning(said))),
        None => message.to_owned(),
    };
    if status.error_type == Some(ErrorType::InsufficientPermissions) {
        message.replace("; nor ", "\n  nor ")
    } else {
        message
    }
}

/// The first line, and not too much of it.
fn beginning(said: &str) -> &str {
    const MOST: usize = 200;
    let line = said.lines().next().unwrap_or_default();
    line.char_indices()
        .nth(MOST)
        .map_or(line, |(end, _)| &line[..end])
}

/// As the workflow calls it.
fn name_of(step: &StepStatus) -> &str {
    step.name.as_deref().unwrap_or(&step.action)
}

/// A step's line, what warned of it, and what to do where it failed.
fn of_step(step: &StepStatus, width: usize, error_type: Option<ErrorType>, objects: &Objects<'_>) -> String {
    let execution = step
        .k8s_execution_ref
        .as_ref()
        .and_then(|owner| objects.execution(owner.namespace.as_deref().unwrap_or_default(), &owner.name));
    let of_execution = execution.map(|execution| &execution["status"]);
    let target = of_execution
        .and_then(|status| status["targetName"].as_str())
        .unwrap_or_default();
    let note = match step.status {
        StepState::Completed => step.result.as_deref(),
        StepState::Pending
        | StepState::Executing
        | StepState::Failed
        | StepState::RolledBack
        | StepState::Skipped => step.error_message.as_deref(),
    };
    let note = note.unwrap_or_default();
    let state = word(&json!(step.status));
    // What the sentence names need not stand before it.
    let target_shown = if note.contains(target) { "" } else { target };
    let words = [target_shown, note];
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    let mut text = format!(
        "  step {:<3} {:<width$}  {state:<9}  ",
        step.step_number,
        name_of(step)
    );
    text.push_str(&indented(&words.join(": "), 12));
    let mut text = format!("{}\n", text.trim_end());
    for warning in of_execution.into_iter().flat_map(warnings) {
        let _ = writeln!(text, "            warning: {warning}");
    }
    if step.status == StepState::Failed {
        let own = of_execution.and_then(|status| serde_json::from_value(status["errorType"].clone()).ok());
        let failure = Failure {
            // A step without an execution of its own failed as its workflow did.
            error_type: own.or(error_type),
            message: step.error_message.as_deref().unwrap_or_default(),
            target,
            objects,
        };
        if let Some(advice) = failure.advice() {
            let _ = writeln!(text, "            to do: {}", indented(&advice, 14));
        }
    }
    text
}

/// What a person should know of an execution that may have gone well.
fn warnings(status: &Value) -> Vec<&str> {
    let places = [
        "/validationResults/dryRunResults/warnings",
        "/executionResults/warnings",
    ];
    let mut all: Vec<&str> = places
        .iter()
        .filter_map(|path| status.pointer(path)?.as_array())
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The outcome of an execution; `None` while it runs.
pub(crate) fn of_execution(execution: &KubernetesExecution, objects: &Objects<'_>) -> Option<Verdict> {
    let status = execution.status.as_ref()?;
    let phase = status.phase.filter(|phase| phase.is_terminal())?;
    let name = namespaced_name(&execution.metadata);
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
        let _ = writeln!(text, "  to do: {}", indented(&advice, 4));
    }
    let all = serde_json::to_value(status).unwrap_or_default();
    for warning in warnings(&all) {
        let _ = writeln!(text, "  warning: {warning}");
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

pub(crate) fn namespaced_name(metadata: &kube::api::ObjectMeta) -> String {
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
