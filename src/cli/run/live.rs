//! On a terminal: a line for each workflow and each step, which changes in place.
//!
//! Nothing waits for it: it shows as much of a rehearsal as the terminal gets to draw.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;

use console::{Style, StyledObject};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use kubernaut_crds::{
    ExecutionPhase, KubernetesExecution, StepState, WorkflowExecution, WorkflowPhase, WorkflowStep,
};

use super::report::place;

/// The lines that are drawn.
pub(crate) struct Live {
    all: MultiProgress,
    /// By the place of a workflow or of an execution.
    lines: BTreeMap<String, ProgressBar>,
    style: ProgressStyle,
}

enum State {
    Waits,
    Runs,
    Done,
    Failed,
    Skipped,
}

impl Live {
    /// Lines on standard error, when a person looks at it.
    pub(crate) fn for_a_person() -> Option<Self> {
        std::io::stderr()
            .is_terminal()
            .then(|| Self::on(ProgressDrawTarget::stderr()))
    }

    fn on(target: ProgressDrawTarget) -> Self {
        Self {
            all: MultiProgress::with_draw_target(target),
            lines: BTreeMap::new(),
            style: ProgressStyle::with_template("{prefix} {wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        }
    }

    /// Draws a workflow and its steps as they are now.
    pub(crate) fn workflow(&mut self, workflow: &WorkflowExecution) {
        let name = place(&workflow.metadata);
        let status = workflow.status.clone().unwrap_or_default();
        let phase = status.phase.unwrap_or(WorkflowPhase::Planning);
        let state = match phase {
            WorkflowPhase::Completed => State::Done,
            WorkflowPhase::Failed => State::Failed,
            WorkflowPhase::Planning
            | WorkflowPhase::Validating
            | WorkflowPhase::Executing
            | WorkflowPhase::Paused
            | WorkflowPhase::RollingBack
            | WorkflowPhase::Monitoring => State::Runs,
        };
        let said = status.message.unwrap_or_default();
        self.draw(&name, &state, &format!("{name}  {}  {said}", phase.as_str()));
        for step in &workflow.spec.workflow_definition.steps {
            let key = format!("{name}-step-{}", step.step_number);
            let head = head_of(step);
            let known = status
                .step_statuses
                .iter()
                .find(|known| known.step_number == step.step_number);
            match known.map(|known| known.status) {
                Some(StepState::Skipped) => {
                    let why = known
                        .and_then(|known| known.error_message.clone())
                        .unwrap_or_default();
                    self.draw(&key, &State::Skipped, &format!("{head}  skipped  {why}"));
                }
                // Its execution says more.
                Some(
                    StepState::Pending
                    | StepState::Executing
                    | StepState::Completed
                    | StepState::Failed
                    | StepState::RolledBack,
                )
                | None => {
                    if !self.lines.contains_key(&key) {
                        let waits = match step.depends_on.as_deref() {
                            Some([_, ..]) => {
                                let steps: Vec<String> = step
                                    .depends_on
                                    .iter()
                                    .flatten()
                                    .map(ToString::to_string)
                                    .collect();
                                format!("waits for step {}", steps.join(", "))
                            }
                            Some([]) | None => String::new(),
                        };
                        self.draw(&key, &State::Waits, &format!("{head}  {waits}"));
                    }
                }
            }
        }
    }

    /// Draws the step of an execution, or the execution itself where it has no workflow.
    pub(crate) fn execution(&mut self, execution: &KubernetesExecution) {
        let name = place(&execution.metadata);
        let status = execution.status.clone().unwrap_or_default();
        let phase = status.phase.unwrap_or(ExecutionPhase::Validating);
        let state = match phase {
            ExecutionPhase::Completed => State::Done,
            ExecutionPhase::Failed => State::Failed,
            ExecutionPhase::Validating
            | ExecutionPhase::Validated
            | ExecutionPhase::WaitingApproval
            | ExecutionPhase::Executing
            | ExecutionPhase::RollbackReady => State::Runs,
        };
        let attempts = match status.attempts.len() {
            0 | 1 => String::new(),
            several => format!(", attempt {several}"),
        };
        let head = if execution.spec.workflow_execution_ref.is_some() {
            format!("{:>4}", execution.spec.step_number)
        } else {
            name.clone()
        };
        let target = status.target_name.unwrap_or_default();
        let said = status.message.unwrap_or_default();
        let text = format!(
            "{head} {:<20} {target}  {}{attempts}  {said}",
            execution.spec.action,
            phase.as_str()
        );
        self.draw(&name, &state, &text);
    }

    fn draw(&mut self, key: &str, state: &State, text: &str) {
        let line = self.lines.entry(key.to_owned()).or_insert_with(|| {
            let line = self.all.add(ProgressBar::no_length());
            line.set_style(self.style.clone());
            line
        });
        line.set_prefix(state.mark().to_string());
        // A line is one line, whatever kubectl said.
        line.set_message(text.lines().collect::<Vec<_>>().join(" "));
        line.tick();
    }

    /// Leaves the lines as they are.
    pub(crate) fn leave(self) {
        for line in self.lines.values() {
            line.abandon();
        }
    }
}

impl State {
    /// Coloured where standard error takes colours and `NO_COLOR` is not set.
    fn mark(&self) -> StyledObject<&'static str> {
        let style = Style::new().for_stderr();
        match self {
            State::Waits => style.dim().apply_to("."),
            State::Runs => style.cyan().apply_to(">"),
            State::Done => style.green().apply_to("✓"),
            State::Failed => style.red().apply_to("✗"),
            State::Skipped => style.yellow().apply_to("-"),
        }
    }
}

fn head_of(step: &WorkflowStep) -> String {
    format!("{:>4} {:<20}", step.step_number, step.action)
}

#[cfg(test)]
mod tests {
    use indicatif::InMemoryTerm;
    use serde_json::{Value, json};

    use super::*;

    fn workflow(status: &Value) -> WorkflowExecution {
        let scale = json!({"scaleDeployment": {"namespace": "a", "deployment": "web", "replicas": 1}});
        let step = |number: i32, depends_on: Value| {
            json!({"stepNumber": number, "name": number.to_string(), "action": "scale-deployment",
                   "dependsOn": depends_on, "parameters": scale})
        };
        serde_json::from_value(json!({
            "apiVersion": "workflow.kubernaut.io/v1", "kind": "WorkflowExecution",
            "metadata": {"name": "fix", "namespace": "a"},
            "spec": {"workflowDefinition": {"name": "fix", "version": "1", "steps": [
                step(1, json!([])), step(2, json!([1])), step(3, json!([1, 2])),
            ]}},
            "status": status,
        }))
        .expect("a workflow")
    }

    fn execution(number: i32, status: &Value) -> KubernetesExecution {
        serde_json::from_value(json!({
            "apiVersion": "kubernetesexecution.kubernaut.io/v1", "kind": "KubernetesExecution",
            "metadata": {"name": format!("fix-step-{number}"), "namespace": "a"},
            "spec": {"action": "scale-deployment", "stepNumber": number, "parameters": {},
                     "workflowExecutionRef": {"name": "fix", "namespace": "a", "uid": "u"}},
            "status": status,
        }))
        .expect("an execution")
    }

    #[test]
    fn each_step_has_one_line_that_follows_what_happens_to_it() {
        let attempt = |number: i32| {
            json!({"attempt": number, "jobName": "x", "jobHash": "y", "startTime": "2026-01-01T00:00:00.000000Z",
                   "deadline": "2026-01-01T00:05:00.000000Z"})
        };
        let terminal = InMemoryTerm::new(20, 100);
        let mut live = Live::on(ProgressDrawTarget::term_like_with_hz(
            Box::new(terminal.clone()),
            255,
        ));
        live.workflow(&workflow(&json!({"phase": "executing"})));
        live.execution(&execution(
            1,
            &json!({"phase": "executing", "targetName": "deployment/a/web", "message": "waits\nfor n1",
                    "attempts": [attempt(1), attempt(2)]}),
        ));
        live.leave();
        assert_eq!(
            terminal.contents(),
            "> a/fix  executing
>    1 scale-deployment     deployment/a/web  executing, attempt 2  waits for n1
.    2 scale-deployment      waits for step 1
.    3 scale-deployment      waits for step 1, 2"
        );

        let terminal = InMemoryTerm::new(20, 100);
        let mut live = Live::on(ProgressDrawTarget::term_like_with_hz(
            Box::new(terminal.clone()),
            255,
        ));
        live.workflow(&workflow(&json!({"phase": "executing"})));
        live.execution(&execution(
            1,
            &json!({"phase": "completed", "message": "replicas: 1"}),
        ));
        live.execution(&execution(2, &json!({"phase": "failed", "message": "no"})));
        live.workflow(&workflow(&json!({"phase": "failed", "message": "2 failed", "stepStatuses": [
            {"stepNumber": 3, "action": "scale-deployment", "status": "skipped", "errorMessage": "not run"},
        ]})));
        live.leave();
        assert_eq!(
            terminal.contents(),
            "✗ a/fix  failed  2 failed
✓    1 scale-deployment       completed  replicas: 1
✗    2 scale-deployment       failed  no
-    3 scale-deployment      skipped  not run"
        );
    }

    #[test]
    fn a_line_is_not_longer_than_the_terminal_is_wide() {
        let terminal = InMemoryTerm::new(20, 30);
        let mut live = Live::on(ProgressDrawTarget::term_like_with_hz(
            Box::new(terminal.clone()),
            255,
        ));
        live.execution(&execution(
            1,
            &json!({"phase": "failed", "message": "word ".repeat(50)}),
        ));
        live.leave();
        assert_eq!(terminal.contents().lines().count(), 1, "{}", terminal.contents());
    }
}
