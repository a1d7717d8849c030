//! On a terminal: a line for each workflow and each step, which changes in place; of more lines than the terminal has, those
//! around what runs.
//!
//! Nothing waits for it: it shows as much of a rehearsal as the terminal gets to draw.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use console::{Style, StyledObject, Term};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use kubernaut_crds::{
    ExecutionPhase, KubernetesExecution, StepState, WorkflowExecution, WorkflowPhase, WorkflowStep,
};

use kubernaut_machines::duration::parse_go;

use super::report::namespaced_name;
use crate::rehearsal::input::printable;

/// A longer target does not move the columns.
const TARGET_MAX: usize = 40;

/// The lines that are drawn.
pub(crate) struct Live {
    all: MultiProgress,
    bars: Vec<ProgressBar>,
    /// How many lines the terminal has for it.
    height: usize,
    rows: Vec<Row>,
    /// Places of rows, by the place of a workflow or of an execution.
    places: BTreeMap<String, usize>,
    style: ProgressStyle,
    /// Set where time passes by itself, as it does not in a rehearsal.
    now: Option<Timestamp>,
    noted: String,
}

/// One line, as it stands now.
#[derive(Clone, Debug)]
struct Row {
    state: State,
    /// Number and name of a step; none of what has no columns.
    head: Option<String>,
    target: String,
    said: String,
    /// When it began, and how long it may take at most.
    begun: Option<(Timestamp, Option<Duration>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waits,
    Runs,
    Done,
    Failed,
    Skipped,
}

impl Live {
    /// Lines on standard error, when a person looks at it and it can move its cursor.
    pub(crate) fn for_a_person() -> Option<Self> {
        // The terminal says so of itself; it is no setting of ours.
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if is_dumb || !std::io::stderr().is_terminal() {
            return None;
        }
        let (lines, _) = Term::stderr().size();
        // The cursor needs one.
        let height = usize::from(lines).saturating_sub(1).max(3);
        Some(Self::on(ProgressDrawTarget::stderr(), height))
    }

    fn on(target: ProgressDrawTarget, height: usize) -> Self {
        Self {
            all: MultiProgress::with_draw_target(target),
            bars: Vec::new(),
            height,
            rows: Vec::new(),
            places: BTreeMap::new(),
            style: ProgressStyle::with_template("{prefix} {wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
            now: None,
            noted: String::new(),
        }
    }

    /// Draws how long has passed by now.
    pub(crate) fn at(&mut self, now: Timestamp) {
        self.now = Some(now);
        self.draw();
    }

    /// Draws a workflow and its steps as they are now.
    pub(crate) fn workflow(&mut self, workflow: &WorkflowExecution) {
        let name = namespaced_name(&workflow.metadata);
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
        let progress = status.progress.unwrap_or_default();
        let said = status.message.unwrap_or_default();
        self.set(&name, |row| {
            row.state = state;
            row.said = words(&[&name, phase.as_str(), &progress, &said]);
            let plan = status.execution_plan.as_ref();
            let most = plan.and_then(|plan| parse_go(plan.estimated_duration.as_deref()?).ok());
            let begun = status.execution_start_time.as_ref();
            row.begun = begun.map(|begun| (begun.0, most));
        });
        for step in &workflow.spec.workflow_definition.steps {
            let key = format!("{name}-step-{}", step.step_number);
            let known = status
                .step_statuses
                .iter()
                .find(|known| known.step_number == step.step_number);
            let skipped = known.filter(|known| known.status == StepState::Skipped);
            let is_new = !self.places.contains_key(&key);
            self.set(&key, |row| {
                row.head = Some(format!("{:>3} {}", step.step_number, step.name));
                if let Some(skipped) = skipped {
                    row.state = State::Skipped;
                    let why = skipped.error_message.as_deref().unwrap_or_default();
                    row.said = words(&["skipped", why]);
                } else if is_new {
                    // Later its execution says more.
                    row.said = waits_for(step);
                }
            });
        }
        self.draw();
    }

    /// Draws the step of an execution, or the execution itself where it has no workflow.
    pub(crate) fn execution(&mut self, execution: &KubernetesExecution) {
        let name = namespaced_name(&execution.metadata);
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
        let phase = format!("{}{attempts}", phase.as_str());
        let said = status.message.unwrap_or_default();
        let number = execution.spec.step_number;
        let of_workflow = execution.spec.workflow_execution_ref.is_some();
        self.set(&name, |row| {
            row.state = state;
            row.target = status.target_name.unwrap_or_default();
            row.said = words(&[&phase, &said]);
            let most = parse_go(&execution.spec.timeout).ok();
            row.begun = status.start_time.as_ref().map(|begun| (begun.0, most));
            if !of_workflow {
                row.said = words(&[&name, &row.said]);
            } else if row.head.is_none() {
                let action = &execution.spec.action;
                let only = if execution.spec.dry_run == Some(true) {
                    " (dry run)"
                } else {
                    ""
                };
                row.head = Some(format!("{number:>3} {action}{only}"));
            }
        });
        self.draw();
    }

    fn set(&mut self, key: &str, change: impl FnOnce(&mut Row)) {
        let next = self.rows.len();
        let place = *self.places.entry(key.to_owned()).or_insert(next);
        if place == next {
            self.rows.push(Row {
                state: State::Waits,
                head: None,
                target: String::new(),
                said: String::new(),
                begun: None,
            });
        }
        if let Some(row) = self.rows.get_mut(place) {
            change(row);
        }
    }

    /// What there is room for: all, or what is around the first row that runs, below the first row of all, and above a line
    /// that says how much more there is.
    fn shown(&self) -> Vec<(String, String)> {
        let column = |cell: fn(&Row) -> &str| {
            let lengths = self.rows.iter().map(|row| cell(row).chars().count());
            lengths.max().unwrap_or(0)
        };
        let heads = column(|row| row.head.as_deref().unwrap_or_default());
        let targets = column(|row| &row.target).min(TARGET_MAX);
        let line = |row: &Row| {
            let text = match &row.head {
                Some(head) => format!("{head:<heads$}  {:<targets$}  {}", row.target, row.said),
                None => row.said.clone(),
            };
            // A line is one line, whatever kubectl said.
            let text = printable(&text.lines().collect::<Vec<_>>().join(" "));
            let text = format!("{text}{}", self.passed(row));
            (row.state.mark().to_string(), text.trim_end().to_owned())
        };
        if self.rows.len() <= self.height {
            return self.rows.iter().map(line).collect();
        }
        let room = self.height.saturating_sub(2).max(1);
        let runs = |row: &Row| row.head.is_some() && matches!(row.state, State::Runs | State::Waits);
        let here = self.rows.iter().position(runs).unwrap_or(self.rows.len());
        let last_start = self.rows.len() - room;
        let start = here.saturating_sub(room / 3).clamp(1, last_start.max(1));
        let window = self.rows.iter().skip(start).take(room);
        let mut lines: Vec<(String, String)> = self.rows.iter().take(1).chain(window).map(line).collect();
        let below = self.rows.len() - start - room.min(self.rows.len() - start);
        lines.push((
            " ".to_owned(),
            format!("({} more above, {below} more below)", start - 1),
        ));
        lines
    }

    /// How long it has run, and how long it may go on; nothing of what does not run.
    fn passed(&self, row: &Row) -> String {
        let (Some(now), Some((begun, most)), State::Runs) = (self.now, row.begun, row.state) else {
            return String::new();
        };
        let seconds = now.duration_since(begun).as_secs().max(0).unsigned_abs();
        let spelled = |seconds: u64| humantime::format_duration(Duration::from_secs(seconds)).to_string();
        let left = most.map(|most| most.as_secs().saturating_sub(seconds));
        let left = left.map_or_else(String::new, |left| format!(", at most {} left", spelled(left)));
        format!("  ({}{left})", spelled(seconds))
    }

    fn draw(&mut self) {
        let shown = self.shown();
        while self.bars.len() < shown.len() {
            let bar = self.all.add(ProgressBar::no_length());
            bar.set_style(self.style.clone());
            self.bars.push(bar);
        }
        for (bar, (mark, text)) in self.bars.iter().zip(shown) {
            bar.set_prefix(mark);
            bar.set_message(text);
            bar.tick();
        }
    }

    /// Says something above the lines; what was said last is not said again.
    pub(crate) fn note(&mut self, words: &str) {
        if self.noted != words {
            // Where the terminal is gone nobody is told.
            let _ = self.all.println(format!("note: {}", printable(words)));
            words.clone_into(&mut self.noted);
        }
    }

    /// Leaves the lines as they are.
    pub(crate) fn leave(mut self) {
        self.draw();
        for bar in &self.bars {
            bar.abandon();
        }
    }
}

/// Those that say something.
fn words(words: &[&str]) -> String {
    let words: Vec<&str> = words.iter().copied().filter(|word| !word.is_empty()).collect();
    words.join("  ")
}

fn waits_for(step: &WorkflowStep) -> String {
    let before: Vec<String> = step
        .depends_on
        .iter()
        .flatten()
        .map(ToString::to_string)
        .collect();
    if before.is_empty() {
        String::new()
    } else {
        format!("waits for step {}", before.join(", "))
    }
}

impl State {
    /// Coloured where standard error takes colours and `NO_COLOR` is not set.
    fn mark(self) -> StyledObject<&'static str> {
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

#[cfg(test)]
mod tests {
    use indicatif::InMemoryTerm;
    use serde_json::{Value, json};

    use super::*;

    fn workflow(status: &Value) -> WorkflowExecution {
        let scale = json!({"scaleDeployment": {"namespace": "a", "deployment": "web", "replicas": 1}});
        let step = |number: i32, depends_on: Value| {
            json!({"stepNumber": number, "name": format!("s{number}"), "action": "scale-deployment",
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
        let mut live = Live::on(
            ProgressDrawTarget::term_like_with_hz(Box::new(terminal.clone()), 255),
            19,
        );
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
>   1 s1  deployment/a/web  executing, attempt 2  waits for n1
.   2 s2                    waits for step 1
.   3 s3                    waits for step 1, 2"
        );

        let terminal = InMemoryTerm::new(20, 100);
        let mut live = Live::on(
            ProgressDrawTarget::term_like_with_hz(Box::new(terminal.clone()), 255),
            19,
        );
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
✓   1 s1    completed  replicas: 1
✗   2 s2    failed  no
-   3 s3    skipped  not run"
        );
    }

    #[test]
    fn of_more_steps_than_lines_those_around_what_runs_are_shown_and_the_others_are_counted() {
        let scale = json!({"scaleDeployment": {"namespace": "a", "deployment": "web", "replicas": 1}});
        let steps: Vec<Value> = (1..=30)
            .map(|number| {
                json!({"stepNumber": number, "name": format!("s{number}"), "action": "scale-deployment", "parameters": scale})
            })
            .collect();
        let mut many = workflow(&json!({"phase": "executing", "progress": "19/30"}));
        many.spec.workflow_definition.steps = serde_json::from_value(json!(steps)).expect("steps");
        let terminal = InMemoryTerm::new(9, 60);
        let mut live = Live::on(
            ProgressDrawTarget::term_like_with_hz(Box::new(terminal.clone()), 255),
            8,
        );
        live.workflow(&many);
        for number in 1..=19 {
            live.execution(&execution(number, &json!({"phase": "completed"})));
        }
        live.execution(&execution(20, &json!({"phase": "executing"})));
        live.leave();
        assert_eq!(
            terminal.contents(),
            "> a/fix  executing  19/30
✓  18 s18    completed
✓  19 s19    completed
>  20 s20    executing
.  21 s21
.  22 s22
.  23 s23
  (17 more above, 7 more below)"
        );
    }

    #[test]
    fn a_line_is_not_longer_than_the_terminal_is_wide() {
        let terminal = InMemoryTerm::new(20, 30);
        let mut live = Live::on(
            ProgressDrawTarget::term_like_with_hz(Box::new(terminal.clone()), 255),
            19,
        );
        live.execution(&execution(
            1,
            &json!({"phase": "failed", "message": "word ".repeat(50)}),
        ));
        live.leave();
        assert_eq!(terminal.contents().lines().count(), 1, "{}", terminal.contents());
    }
}
