//! `kubernaut watch` and `kubernaut wait`: until a workflow has ended, however it ends.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use kube::api::DynamicObject;
use kube::core::ApiResource;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kubernaut_crds::{KubernetesExecution, WorkflowExecution, names};

use super::connection::{Connection, Named};
use super::get::{executions, shown};
use super::result::{WorkflowResult, word};
use super::states::{State, refusal, states};
use crate::rehearsal::rehearse::Live;
use crate::terminal::{self, Done, FAILED, Output, Trouble, print, print_result, span};
use kubernaut_machines::duration::parse_go;

/// How often the time that has passed is drawn anew.
const TICK: Duration = Duration::from_secs(1);

/// Follow a workflow until it has ended
///
/// On a terminal its steps are drawn as they go, elsewhere each change is a line. A connection that is lost is made again. Ctrl-C
/// ends the look; the workflow goes on.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Try it: kubernaut watch restart-web\n\nExit codes: 0 it completed with success, 1 it did not, 2 there is no such workflow, 130 Ctrl-C."
)]
pub(crate) struct WatchOptions {
    #[command(flatten)]
    named: Named,
}

/// Wait until a workflow has ended, also when it fails
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Try it: kubernaut wait restart-web --timeout 10m\n\nExit codes: 0 it completed with success, 1 it did not, 2 there is no such workflow, 4 it has not ended in time."
)]
pub(crate) struct WaitOptions {
    /// Longest wait, such as 10m. Default: as long as it takes
    #[arg(long, value_name = "DURATION", value_parser = parse_go)]
    timeout: Option<Duration>,
    /// What is printed at its end
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    named: Named,
}

pub(super) async fn watch(options: &WatchOptions) -> Done {
    let connection = Connection::open(&options.named.connect).await?;
    let workflow = connection.workflow(&options.named.name).await?;
    follow(&connection, workflow).await
}

/// Draws, or prints, what happens to a workflow until its end; the exit code says how it ended.
pub(super) async fn follow(connection: &Connection, workflow: WorkflowExecution) -> Done {
    let result = seen_to_its_end(connection, workflow).await?;
    print(&shown(&result, Timestamp::now(), true))?;
    Ok(code(&result))
}

/// Draws, or prints, what happens to a workflow until its end.
pub(super) async fn seen_to_its_end(
    connection: &Connection,
    workflow: WorkflowExecution,
) -> Result<WorkflowResult, Trouble> {
    let mut view = View::new();
    view.workflow(&workflow);
    for execution in executions(connection, &workflow).await? {
        view.execution(&execution);
    }
    let ended = if workflow.is_terminal() {
        workflow
    } else {
        until_its_end(connection, &workflow, &mut view).await?
    };
    view.leave();
    let executions = executions(connection, &ended).await?;
    Ok(WorkflowResult::new(&ended, &executions))
}

pub(super) async fn wait(options: &WaitOptions) -> Done {
    let result = match options.timeout {
        None => waited(options).await?,
        Some(timeout) => tokio::time::timeout(timeout, waited(options))
            .await
            .map_err(|_| {
                let spelled = humantime::format_duration(timeout);
                Trouble::Late(format!(
                    "workflow {} has not ended within {spelled}; it goes on",
                    options.named.name
                ))
            })??,
    };
    match options.output {
        Output::Json | Output::Yaml => print_result(&result, options.output)?,
        Output::Name => print(&format!("{}\n", result.name))?,
        Output::Table | Output::Wide => print(&shown(&result, Timestamp::now(), true))?,
    }
    Ok(code(&result))
}

async fn waited(options: &WaitOptions) -> Result<WorkflowResult, Trouble> {
    let connection = Connection::open(&options.named.connect).await?;
    let workflow = connection.workflow(&options.named.name).await?;
    let ended = if workflow.is_terminal() {
        workflow
    } else {
        until_its_end(&connection, &workflow, &mut View::nobody()).await?
    };
    let executions = executions(&connection, &ended).await?;
    Ok(WorkflowResult::new(&ended, &executions))
}

fn code(result: &WorkflowResult) -> ExitCode {
    if result.is_success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILED)
    }
}

/// What a watch shows.
enum Seen {
    Workflow(State),
    Execution(Box<KubernetesExecution>),
}

/// Watches it and its executions: nothing is asked again and again.
async fn until_its_end(
    connection: &Connection,
    workflow: &WorkflowExecution,
    view: &mut View,
) -> Result<WorkflowExecution, Trouble> {
    let name = workflow.metadata.name.clone().unwrap_or_default();
    let uid = workflow.metadata.uid.clone().unwrap_or_default();
    let of_executions = watcher::Config::default().labels(&format!("{}={name}", names::LABEL_WORKFLOW));
    let resource = ApiResource::erase::<KubernetesExecution>(&());
    let executions = kube::Api::<DynamicObject>::namespaced_with(
        connection.streams.clone(),
        &connection.namespace,
        &resource,
    );
    let workflows = states(connection, workflow).map(|state| state.map(|state| Some(Seen::Workflow(state))));
    let steps = watcher(executions, of_executions)
        .default_backoff()
        .map(|event| match event {
            Ok(Event::Apply(object) | Event::InitApply(object)) => {
                let owners = object.metadata.owner_references.iter().flatten();
                if owners.into_iter().any(|owner| owner.uid == uid) {
                    let typed = connection.typed::<KubernetesExecution>(object);
                    typed.map(|execution| Some(Seen::Execution(Box::new(execution))))
                } else {
                    // Of an older workflow of this name.
                    Ok(None)
                }
            }
            Ok(Event::Delete(_) | Event::Init | Event::InitDone) => Ok(None),
            Err(error) => match refusal(&error) {
                Some(refusal) => Err(connection.trouble("watching the executions of its steps", refusal)),
                None => Ok(None),
            },
        });
    let mut all = std::pin::pin!(futures::stream::select(workflows, steps));
    // Nothing is asked by it: only the time that has passed is drawn.
    let mut clock = tokio::time::interval(TICK);
    loop {
        let seen = tokio::select! {
            seen = all.try_next() => seen?,
            _ = clock.tick() => {
                view.tick();
                continue;
            }
        };
        let Some(seen) = seen else { break };
        match seen {
            None => {}
            Some(Seen::Execution(execution)) => view.execution(&execution),
            Some(Seen::Workflow(State::Is(found))) => {
                view.workflow(&found);
                if found.is_terminal() {
                    return Ok(*found);
                }
            }
            Some(Seen::Workflow(State::Gone)) => {
                return Err(Trouble::Here(format!("workflow {name} was deleted while it ran")));
            }
            Some(Seen::Workflow(State::Lost(why))) => {
                view.note(&format!("cluster {}: {why}; it is asked again", connection.name));
            }
        }
    }
    Err(Trouble::Here(format!("the watch of workflow {name} ended")))
}

/// Where what happens is told.
enum View {
    Drawn(Box<Live>),
    Lines(Lines),
    /// Nothing but what keeps it from being seen, and what of that was said last.
    Nobody(String),
}

/// What was said last, so that each change is one line.
#[derive(Default)]
struct Lines {
    said: std::collections::BTreeMap<String, String>,
    begun: Option<Timestamp>,
}

impl View {
    fn new() -> Self {
        Live::for_a_person().map_or_else(
            || Self::Lines(Lines::default()),
            |live| Self::Drawn(Box::new(live)),
        )
    }

    fn nobody() -> Self {
        Self::Nobody(String::new())
    }

    fn workflow(&mut self, workflow: &WorkflowExecution) {
        match self {
            Self::Drawn(live) => live.workflow(workflow),
            Self::Lines(lines) => {
                let result = WorkflowResult::new(workflow, &[]);
                lines.begun = lines.begun.or(result.created);
                let message = result.message.as_deref().unwrap_or_default();
                let progress = format!("{}/{}", result.completed_steps, result.total_steps);
                lines.say(
                    &format!("workflow {}", result.name),
                    &format!("{}  {progress}  {message}", word(result.phase)),
                );
            }
            Self::Nobody(_) => {}
        }
    }

    fn execution(&mut self, execution: &KubernetesExecution) {
        match self {
            Self::Drawn(live) => live.execution(execution),
            Self::Lines(lines) => {
                let status = execution.status.clone().unwrap_or_default();
                let message = status.message.unwrap_or_default();
                // Before its actor has seen it there is nothing to say.
                let Some(phase) = status.phase.map(word) else {
                    return;
                };
                let name = execution.metadata.name.clone().unwrap_or_default();
                let target = status.target_name.unwrap_or_default();
                lines.say(&format!("{name}  {target}"), &format!("{phase}  {message}"));
            }
            Self::Nobody(_) => {}
        }
    }

    fn tick(&mut self) {
        if let Self::Drawn(live) = self {
            live.at(Timestamp::now());
        }
    }

    fn note(&mut self, words: &str) {
        match self {
            Self::Lines(lines) => lines.say("note", words),
            Self::Drawn(live) => live.note(words),
            Self::Nobody(said) if said != words => {
                terminal::complain(&format!("note: {words}"));
                words.clone_into(said);
            }
            Self::Nobody(_) => {}
        }
    }

    fn leave(self) {
        if let Self::Drawn(live) = self {
            live.leave();
        }
    }
}

impl Lines {
    fn say(&mut self, what: &str, words: &str) {
        let words = terminal::in_a_line(words);
        if self.said.get(what) == Some(&words) {
            return;
        }
        let now = Timestamp::now();
        let since = self.begun.map(|begun| span(begun, now)).unwrap_or_default();
        terminal::complain(&format!("{since:>8}  {what}  {words}"));
        self.said.insert(what.to_owned(), words);
    }
}
