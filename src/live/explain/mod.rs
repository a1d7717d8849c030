//! `kubernaut explain`: what a workflow waits for, or why it failed, and what to do now.

mod failures;
mod looks;
mod waits;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use kubernaut_crds::{
    ErrorType, KubernetesExecution, Shutdown, StepState, UndoState, WorkflowExecution, WorkflowPhase, names,
};
use serde::Serialize;

use self::looks::Looks;
use super::connection::{Connection, JobsArguments, Named};
use super::get::executions;
use super::result::{WorkflowResult, word};
use crate::manifests::CONTROLLER_NAMESPACE;
use crate::rehearsal::input::printable;
use crate::terminal::{Done, Output, RESULT_VERSION, print, print_result, span};

/// What the controller's pods are labelled with, as they are installed.
const CONTROLLER_PODS: &str = "app.kubernetes.io/part-of=kubernaut,app.kubernetes.io/component=controller";

/// Explain why a workflow waits or failed, and what to do now
///
/// From its status, from its steps, and from what else can be read in the cluster: pods that do not start, who may approve, what
/// holds a target. What can't be read is named.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Try it: kubernaut explain restart-web\n\nExit codes: 0 it is explained, 1 the cluster could not be asked, 2 there is no such workflow."
)]
pub(crate) struct ExplainOptions {
    /// What is printed
    #[arg(long, short, value_enum, default_value_t = Form::Text)]
    output: Form,
    /// Namespace of the controller, where it is another one than the default
    #[arg(
        long,
        env = "KUBERNAUT_CONTROLLER_NAMESPACE",
        default_value = CONTROLLER_NAMESPACE,
        value_name = "NAMESPACE",
        help_heading = "Cluster"
    )]
    controller_namespace: String,
    #[command(flatten)]
    jobs: JobsArguments,
    #[command(flatten)]
    named: Named,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    Text,
    Json,
    Yaml,
}

/// What a person needs to know.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Explanation {
    api_version: &'static str,
    kind: &'static str,
    namespace: String,
    name: String,
    phase: WorkflowPhase,
    /// What happened, or happens.
    what: Vec<String>,
    /// Why.
    why: Vec<String>,
    /// What to do, the best first.
    to_do: Vec<ToDo>,
    /// What could not be looked at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unread: Vec<String>,
}

/// Something that a person can do.
#[derive(Clone, Debug, Serialize)]
struct ToDo {
    words: String,
    /// A line, or several, for a shell.
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
}

impl ToDo {
    fn words(words: impl Into<String>) -> Self {
        Self {
            words: words.into(),
            command: None,
        }
    }

    fn run(words: impl Into<String>, command: impl Into<String>) -> Self {
        Self {
            words: words.into(),
            command: Some(command.into()),
        }
    }
}

/// All that an explanation is made from.
struct Case<'a> {
    workflow: &'a WorkflowExecution,
    executions: &'a [KubernetesExecution],
    looks: &'a Looks,
    /// `-n NAMESPACE NAME` and the flags of the cluster, as this program's commands take them.
    named: String,
    /// The flags of the cluster, as kubectl takes them.
    flags: String,
    /// Context and address, for messages.
    cluster: String,
    /// Where the Jobs of steps run.
    executor_namespace: String,
    /// Where the controller runs.
    controller_namespace: String,
    now: Timestamp,
}

impl Case<'_> {
    /// A command of this program for the workflow.
    fn command(&self, verb: &str) -> String {
        format!("kubernaut {verb} {}", self.named)
    }

    /// The command that prints the logs of its Jobs.
    fn logs(&self) -> String {
        let namespace = &self.executor_namespace;
        let elsewhere = if namespace == names::EXECUTOR_NAMESPACE {
            String::new()
        } else {
            format!(" --executor-namespace={namespace}")
        };
        format!("{}{elsewhere}", self.command("logs"))
    }

    /// The flags of the namespace and the cluster, as this program's commands for files take them.
    fn placed(&self) -> String {
        let namespace = self.workflow.metadata.namespace.as_deref().unwrap_or_default();
        format!(" -n {namespace}{}", self.flags)
    }

    /// A command of kubectl in the same cluster.
    fn kubectl(&self, words: &str) -> String {
        format!("kubectl{} {words}", self.flags)
    }

    /// A command that shows what the controller logged of the workflow.
    fn controller_log(&self) -> String {
        let name = self.workflow.metadata.name.as_deref().unwrap_or_default();
        self.kubectl(&format!(
            "-n {} logs -l {CONTROLLER_PODS} --prefix --tail=-1 | grep {name}",
            self.controller_namespace
        ))
    }
}

pub(super) async fn explain(options: &ExplainOptions) -> Done {
    let Named { name, connect } = &options.named;
    let connection = Connection::open(connect).await?;
    let workflow = connection.workflow(name).await?;
    let executions = executions(&connection, &workflow).await?;
    let looks = Looks::at(
        &connection,
        (&options.controller_namespace, &options.jobs.executor_namespace),
        &workflow,
        &executions,
    )
    .await;
    let case = Case {
        workflow: &workflow,
        executions: &executions,
        looks: &looks,
        named: format!("-n {} {name}{}", connection.namespace, connection.flags),
        flags: connection.flags.clone(),
        cluster: connection.name.clone(),
        executor_namespace: options.jobs.executor_namespace.clone(),
        controller_namespace: options.controller_namespace.clone(),
        now: Timestamp::now(),
    };
    let explanation = explained(&case);
    match options.output {
        Form::Json => print_result(&explanation, Output::Json)?,
        Form::Yaml => print_result(&explanation, Output::Yaml)?,
        Form::Text => print(&explanation.text())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn explained(case: &Case<'_>) -> Explanation {
    let result = WorkflowResult::new(case.workflow, case.executions);
    let mut explanation = Explanation {
        api_version: RESULT_VERSION,
        kind: "Explanation",
        namespace: result.namespace.clone(),
        name: result.name.clone(),
        phase: result.phase,
        what: vec![what(case, &result)],
        why: Vec::new(),
        to_do: Vec::new(),
        unread: case.looks.unread.clone(),
    };
    let Explanation { what, why, to_do, .. } = &mut explanation;
    if !case.workflow.is_terminal() {
        waits::explain(case, why, to_do);
    } else if result.is_success() {
        why.extend(result.message.clone());
    } else {
        failures::explain(case, &result, why, to_do);
    }
    what.extend(taken_back(case));
    if case.workflow.is_terminal() {
        to_do.extend(afterwards(case, &result));
    }
    explanation
}

/// Where it stands, in a sentence.
fn what(case: &Case<'_>, result: &WorkflowResult) -> String {
    let mut text = format!("Workflow {}/{} ", result.namespace, result.name);
    let since = result
        .created
        .map(|created| span(created, result.ended.unwrap_or(case.now)));
    let after = since.map(|since| format!(" after {since}")).unwrap_or_default();
    let progress = format!(
        "{} of {} steps completed",
        result.completed_steps, result.total_steps
    );
    // Writing to a String can't fail.
    let _ = match (case.workflow.is_terminal(), result.is_success(), result.phase) {
        (true, true, _) => write!(text, "completed successfully{after}: {progress}."),
        (true, false, WorkflowPhase::Completed) => {
            write!(text, "completed{after}, and not all of it went well: {progress}.")
        }
        (true, false, _) => write!(
            text,
            "failed{after} ({}): {progress}.",
            result.error_type.as_deref().unwrap_or("no class of error")
        ),
        (false, ..) => write!(
            text,
            "is still running{after}: it is {}, {progress}.",
            word(result.phase)
        ),
    };
    text
}

/// What was undone, and what could not be.
fn taken_back(case: &Case<'_>) -> Vec<String> {
    let steps = case
        .workflow
        .status
        .iter()
        .flat_map(|status| &status.step_statuses);
    let undone = steps.filter_map(|step| {
        let undo = step.undo.as_ref()?;
        let name = step.name.as_deref().unwrap_or(&step.action);
        let said = undo.message.as_deref().unwrap_or_default();
        let number = step.step_number;
        Some(match undo.status {
            UndoState::Completed => format!("Step {number} ({name}) was undone. {said}"),
            UndoState::Failed => format!("Step {number} ({name}) could not be undone: {said}"),
            UndoState::NotReversible => {
                format!("Step {number} ({name}) can't be undone: {said}")
            }
            UndoState::Executing => {
                format!("Step {number} ({name}) is being undone. {said}")
            }
        })
    });
    undone.map(|line| line.trim().to_owned()).collect()
}

/// What can be done with every workflow that has ended.
fn afterwards(case: &Case<'_>, result: &WorkflowResult) -> Vec<ToDo> {
    let mut to_do = Vec::new();
    if let Some(undone) = &case.workflow.spec.rollback_of {
        if !result.is_success() {
            let (first, own) = case.named.split_once(' ').unwrap_or(("-n", &case.named));
            let namespace = own.split(' ').next().unwrap_or_default();
            to_do.push(ToDo::run(
                "To try once more to undo what is left:",
                format!(
                    "kubernaut rollback {first} {namespace} {}{}",
                    undone.name, case.flags
                ),
            ));
        }
        return to_do;
    }
    let status = case.workflow.status.as_ref();
    let steps: Vec<_> = status
        .into_iter()
        .flat_map(|status| &status.step_statuses)
        .collect();
    let has_changed = |step: &&&kubernaut_crds::StepStatus| {
        let did = match step.status {
            StepState::Completed => true,
            // It may have taken effect, whatever was seen of it.
            StepState::Failed => matches!(
                step.error_type,
                Some(ErrorType::VerificationFailed | ErrorType::Timeout | ErrorType::JobLost)
            ),
            StepState::Pending | StepState::Executing | StepState::Skipped | StepState::RolledBack => false,
        };
        did && !step.is_undone()
    };
    if !result.is_success() && steps.iter().any(|step| has_changed(&step)) {
        to_do.push(ToDo::run(
            "To undo what it did, the last change first:",
            case.command("rollback"),
        ));
        let recommended = status
            .and_then(|status| status.workflow_result.as_ref())
            .map(|result| result.recommended_actions.clone())
            .unwrap_or_default();
        let by_hand = recommended
            .iter()
            .map(|words| format!("by hand, in cluster {}: {words}", case.cluster));
        to_do.extend(by_hand.map(ToDo::words));
    }
    let done: BTreeSet<i32> = steps
        .iter()
        .filter(|step| step.status == StepState::Completed)
        .map(|step| step.step_number)
        .collect();
    let all = &case.workflow.spec.workflow_definition.steps;
    let is_left = all.iter().any(|step| !done.contains(&step.step_number));
    if is_left && case.workflow.spec.shutdown != Some(Shutdown::Rollback) {
        to_do.push(match status.and_then(|status| status.error_type) {
            // What it says is what is wrong with it, and would be wrong again.
            Some(ErrorType::ValidationError | ErrorType::ResourceNotFound) => ToDo::run(
                "Where the workflow itself is wrong, correct its file, and start it under another name:",
                format!("kubernaut start FILE --name NAME --watch{}", case.placed()),
            ),
            Some(ErrorType::Cancelled) => ToDo::run(
                "To run the remaining steps in a new workflow:",
                case.command("retry"),
            ),
            Some(_) | None => ToDo::run(
                "Once the cause is fixed, to run the steps that did not complete, in a new workflow:",
                case.command("retry"),
            ),
        });
    }
    to_do
}

impl Explanation {
    fn text(&self) -> String {
        let mut text = String::new();
        for line in &self.what {
            text.push_str(line);
            text.push('\n');
        }
        let mut part = |head: &str, lines: Vec<String>| {
            if lines.is_empty() {
                return;
            }
            // Writing to a String can't fail.
            let _ = write!(text, "\n{head}\n");
            for line in lines {
                let _ = writeln!(text, "  {}", line.replace('\n', "\n  "));
            }
        };
        part("Why", self.why.clone());
        let mut part_of_deeds = String::new();
        for to_do in &self.to_do {
            // Writing to a String can't fail.
            let _ = match &to_do.command {
                // A text for standard input ends with a line of its own: none of it may be moved.
                Some(command) if command.contains('\n') => {
                    writeln!(part_of_deeds, "  - {}\n\n{command}\n", to_do.words)
                }
                Some(command) => writeln!(part_of_deeds, "  - {}\n      {command}", to_do.words),
                None => writeln!(part_of_deeds, "  - {}", to_do.words),
            };
        }
        if !part_of_deeds.is_empty() {
            let _ = write!(text, "\nWhat to do\n{part_of_deeds}");
        }
        if !self.unread.is_empty() {
            text.push_str("\nCould not be read\n");
        }
        for unread in &self.unread {
            let _ = writeln!(text, "  - {unread}");
        }
        printable(&text)
    }
}

#[cfg(test)]
mod tests;
