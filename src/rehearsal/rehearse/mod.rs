//! `kubernaut rehearse FILE...`: the workflows of the files in a cluster inside this process, by the real controller.
//! Waiting costs no time: the clock jumps to the next thing that happens.

pub(super) mod advice;
pub(crate) mod changes;
pub(super) mod for_real;
mod live;
pub(super) mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use futures::StreamExt as _;
use jiff::Timestamp;
use kube::Api;
use kube::runtime::watcher;
use kubernaut_actors::TokioClock;
use kubernaut_crds::{
    Attempt, ExecutionPhase, KubernetesExecution, PhaseTransition, WorkflowExecution, WorkflowPhase,
};
use serde_json::{Value, json};

pub(crate) use self::for_real::quoted;
pub(crate) use self::live::Live;
pub(crate) use self::report::mask;

use self::advice::Objects;
use super::input::{Input, InputArguments, Manifest};
use crate::config::{LogFormat, RunOptions, TelemetryOptions};
use crate::http::Readiness;
use crate::rehearsal::simulation::Step;
use crate::telemetry::{Telemetry, start_logging};
use crate::{Environment, manifests as installation};
use embedded_cluster::{EmbeddedCluster, Rbac, User};

/// A workflow that has not ended after this long on the cluster's own clock never will.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// When nothing has changed for so long on the cluster's own clock after the last workflow's end, all is told.
const REST: Duration = Duration::from_millis(100);

/// What happens within so long on the cluster's own clock happens at the same time, to a reader.
const MOMENT: Duration = Duration::from_millis(1);

/// Nothing is logged of what goes well, nor of what the output tells.
const LOG_LEVEL: &str = "warn";

/// Said where nothing says who may do what.
const NO_RIGHTS: &str = "There are no RBAC objects here, so rights are not checked in this rehearsal.";

/// Bad input: nothing was run.
const BAD_INPUT: u8 = 2;

/// Rehearse workflows in a cluster inside this process, without changing any real one
///
/// The controller itself runs them there; waiting costs no time. What they act on stands in the files, or is shown by --world or read
/// with --from-cluster; without any object at all, a small world is made up. It is told what happens, what changed, how each
/// workflow ended and what to do about each failure. Rights are checked when the files hold RBAC objects.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Try it: kubernaut rehearse deploy/samples/scale-and-restart.yaml\n\nExit codes: 0 all workflows completed with success, 1 one did not or could not be run to its end, 2 bad input (nothing was run)."
)]
pub(crate) struct RehearseArguments {
    /// What is printed: what happened in words, or every object in its final state as one List
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// What is logged to standard error: error, warn, info, debug or trace
    #[arg(
        long,
        env = "KUBERNAUT_LOG_LEVEL",
        default_value = LOG_LEVEL,
        value_parser = crate::config::log_level,
        value_name = "LEVEL"
    )]
    log_level: String,
    #[command(flatten)]
    input: InputArguments,
    #[command(flatten)]
    run: RunOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
    Yaml,
}

/// Runs the command; the exit code is its verdict.
pub(crate) fn execute(arguments: &RehearseArguments) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let outcome = match runtime {
        Ok(runtime) => {
            let within = runtime.enter();
            // One clock for the cluster and the controller: tokio's, which is paused and jumps.
            let clock = TokioClock::starting_at(Timestamp::now());
            let input = read(arguments, clock);
            drop(within);
            input.and_then(|input| runtime.block_on(rehearse(arguments, &input, clock)))
        }
        Err(error) => Err(Trouble::Here(format!("the runtime does not start: {error}"))),
    };
    let (problems, code) = match outcome {
        Ok(true) => return ExitCode::SUCCESS,
        Ok(false) => return ExitCode::FAILURE,
        Err(Trouble::Input(problems)) => (problems, ExitCode::from(BAD_INPUT)),
        Err(Trouble::Here(problem)) => (vec![problem], ExitCode::FAILURE),
    };
    for problem in problems {
        complain(&format!("error: {problem}"));
    }
    code
}

/// Why there is no verdict.
enum Trouble {
    /// What is wrong with the input; nothing was run.
    Input(Vec<String>),
    /// What went wrong while it ran.
    Here(String),
}

impl From<Vec<String>> for Trouble {
    fn from(problems: Vec<String>) -> Self {
        Self::Input(problems)
    }
}

fn read(arguments: &RehearseArguments, clock: TokioClock) -> Result<Input, Trouble> {
    let log = TelemetryOptions {
        log_format: LogFormat::Text,
        log_level: match arguments.log_level.as_str() {
            // What goes wrong with a cluster is told by itself.
            LOG_LEVEL => format!("{LOG_LEVEL},kube_client=off"),
            asked => asked.to_owned(),
        },
    };
    start_logging(&log).map_err(|error| vec![error.to_string()])?;
    Ok(Input::read(&arguments.input, &arguments.run.settings(), clock)?)
}

/// True when everything completed with success.
async fn rehearse(arguments: &RehearseArguments, input: &Input, clock: TokioClock) -> Result<bool, Trouble> {
    let cluster = &input.installed;
    input.load_world(cluster)?;
    let habits = arguments.input.habits();
    cluster.script_pods(Arc::new(move |pod| habits.script(pod)));
    let before = cluster.shared_objects();
    let tell = |line: &str| match arguments.output {
        Output::Text => drop(say(line)),
        // Standard output is the List alone.
        Output::Json | Output::Yaml => complain(line),
    };
    tell(for_real::REHEARSAL);
    if input.rbac == Rbac::AllowAll {
        tell(NO_RIGHTS);
    }
    input.notes.iter().for_each(|note| tell(note));
    let controller = User::service_account(
        installation::CONTROLLER_NAMESPACE,
        installation::CONTROLLER_ACCOUNT,
    );
    let client = cluster.client(controller);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let options = arguments.run.clone();
    let world = Environment::new(
        Arc::new(clock),
        Arc::new(Telemetry::default()),
        Readiness::default(),
    );
    let controller = tokio::spawn(async move {
        crate::run(&options, client, world, async {
            let _ = stopped.await;
        })
        .await
    });
    input.load_runs(cluster)?;
    let followed = tokio::time::timeout(PATIENCE, follow(cluster, input.runs(), arguments)).await;
    let _ = stop.send(());
    let controller = controller.await;
    let ended = match (followed, controller) {
        (Ok(ended), Ok(Ok(()))) => ended,
        (_, Ok(Err(error))) => return Err(Trouble::Here(format!("the controller ended: {error}"))),
        (_, Err(error)) => return Err(Trouble::Here(format!("the controller ended: {error}"))),
        (Err(_), _) => {
            return Err(Trouble::Here(
                "a workflow had not ended after 24 hours of the cluster's clock".to_owned(),
            ));
        }
    };
    let after = cluster.shared_objects();
    for image in unused(arguments.input.habits().bad_images, &after) {
        tell(&format!("No pod was to run the image {image} of --bad-image."));
    }
    let objects = Objects::new(&before, &after);
    let verdicts = ended
        .iter()
        .filter_map(|seen| seen.verdict(&objects))
        .collect::<Vec<_>>();
    let text = match arguments.output {
        Output::Text => {
            let own = [
                installation::CONTROLLER_NAMESPACE,
                &arguments.run.executor_namespace,
            ];
            let changed = changes::changes(&before, &after, &own);
            let changed = if changed.is_empty() {
                "\nNothing in the world has changed.\n".to_owned()
            } else {
                format!(
                    "\nWhat changed:\n{}",
                    changes::coloured(&crate::rehearsal::input::printable(&changed), 0)
                )
            };
            verdicts
                .iter()
                .fold(changed, |text, verdict| text + "\n" + verdict.text())
        }
        Output::Json | Output::Yaml => list(cluster.objects(), arguments.output).map_err(Trouble::Here)?,
    };
    say(text.trim_end()).map_err(|error| Trouble::Here(format!("the result can't be written: {error}")))?;
    tell(&format!("\n{}", for_real::last_line(&arguments.input, input)));
    Ok(verdicts.iter().all(|verdict| verdict.success))
}

/// Those of these images that no pod was to run: a typo, say.
fn unused(images: Vec<String>, objects: &[Arc<Value>]) -> Vec<String> {
    let of_pods = |object: &Arc<Value>| {
        let specs = [&object["spec"], &object["spec"]["template"]["spec"]];
        let containers = specs
            .into_iter()
            .flat_map(|spec| [&spec["containers"], &spec["initContainers"]])
            .filter_map(Value::as_array)
            .flatten();
        containers
            .filter_map(|container| container["image"].as_str())
            .map(ToOwned::to_owned)
            .collect::<Vec<_>>()
    };
    // Of earlier templates ReplicaSets are left.
    let used: BTreeSet<String> = objects.iter().flat_map(of_pods).collect();
    images.into_iter().filter(|image| !used.contains(image)).collect()
}

/// Follows what was started until all of it has ended.
async fn follow(cluster: &EmbeddedCluster, runs: &[Manifest], arguments: &RehearseArguments) -> Vec<Seen> {
    let client = cluster.client(User::admin());
    let workflows = watcher(
        Api::<WorkflowExecution>::all(client.clone()),
        watcher::Config::default(),
    )
    .filter_map(async |event| applied(event.ok()?))
    .map(|workflow| Seen::Workflow(Box::new(workflow)));
    let executions = watcher(
        Api::<KubernetesExecution>::all(client),
        watcher::Config::default(),
    )
    .filter_map(async |event| applied(event.ok()?))
    .map(|execution| Seen::Execution(Box::new(execution)));
    let mut changes = std::pin::pin!(futures::stream::select(workflows, executions));
    let mut waiting: Vec<String> = runs
        .iter()
        .map(|run| key(run.text("kind"), &run.namespace(), run.metadata("name")))
        .collect();
    let mut progress = report::Progress::default();
    let stored: Vec<Value> = runs.iter().map(Manifest::stored).collect();
    let names: BTreeMap<String, String> = Step::all(&stored)
        .into_iter()
        .filter(|step| step.number > 0)
        .map(|step| {
            (
                key("KubernetesExecution", &step.namespace, &step.execution),
                step.name,
            )
        })
        .collect();
    // A log that was asked for is not drawn over.
    let mut live = Some(())
        .filter(|()| arguments.log_level == LOG_LEVEL)
        .and_then(|()| live::Live::for_a_person());
    let seen_live = live.is_some() && std::io::stdout().is_terminal();
    let aloud = arguments.output == Output::Text && !seen_live;
    let mut ended = Vec::new();
    loop {
        let next = changes.next();
        let first = if waiting.is_empty() {
            // What the watches still bring is told as well: the last steps' own ends.
            tokio::time::timeout(REST, next).await.unwrap_or_default()
        } else {
            next.await
        };
        let Some(first) = first else { break };
        // Two watches bring what happened in one moment; it is told in the order in which it was written.
        let mut moment = vec![first];
        while let Ok(Some(seen)) = tokio::time::timeout(MOMENT, changes.next()).await {
            moment.push(seen);
        }
        moment.sort_by_key(Seen::revision);
        for seen in moment {
            let told = seen.told();
            match (&mut live, &seen) {
                (Some(live), Seen::Workflow(workflow)) => live.workflow(workflow),
                (Some(live), Seen::Execution(execution)) => live.execution(execution),
                (None, _) => {}
            }
            let title = match names.get(&told.what) {
                Some(name) => format!("{} {name}", told.what),
                None => told.what.clone(),
            };
            let mut lines = progress.lines(&told.what, &title, &told.transitions, &told.message);
            lines.extend(progress.attempt(&told.what, &title, &told.attempts));
            for line in lines {
                if aloud {
                    // What can't be written now can't be written at the end, where it is told.
                    let _ = say(&line);
                }
            }
            if told.ended
                && let Some(index) = waiting.iter().position(|other| *other == told.what)
            {
                waiting.remove(index);
                ended.push((told.what, seen));
            }
        }
    }
    if let Some(live) = live {
        live.leave();
        // The cursor stands behind the last line.
        complain("");
    }
    ended.sort_by(|(a, _), (b, _)| a.cmp(b));
    ended.into_iter().map(|(_, seen)| seen).collect()
}

enum Seen {
    Workflow(Box<WorkflowExecution>),
    Execution(Box<KubernetesExecution>),
}

/// What there is to tell of an object's state.
struct Told {
    what: String,
    transitions: Vec<PhaseTransition>,
    /// When each attempt began, and why it had to.
    attempts: Vec<(Timestamp, String)>,
    message: String,
    ended: bool,
}

impl Seen {
    /// The embedded cluster counts all its writes with one counter.
    fn revision(&self) -> u64 {
        let metadata = match self {
            Seen::Workflow(workflow) => &workflow.metadata,
            Seen::Execution(execution) => &execution.metadata,
        };
        let revision = metadata.resource_version.as_deref().unwrap_or_default();
        revision.parse().unwrap_or_default()
    }

    /// How it ended, with what else was there in the end.
    fn verdict(&self, objects: &Objects<'_>) -> Option<report::Verdict> {
        match self {
            Seen::Workflow(workflow) => report::of_workflow(workflow, objects),
            Seen::Execution(execution) => report::of_execution(execution, objects),
        }
    }

    fn told(&self) -> Told {
        match self {
            Seen::Workflow(workflow) => {
                let status = workflow.status.clone().unwrap_or_default();
                Told {
                    what: key(
                        "WorkflowExecution",
                        "",
                        &report::namespaced_name(&workflow.metadata),
                    ),
                    transitions: status.phase_transitions,
                    attempts: Vec::new(),
                    message: status.message.unwrap_or_default(),
                    ended: status.phase.is_some_and(WorkflowPhase::is_terminal),
                }
            }
            Seen::Execution(execution) => {
                let status = execution.status.clone().unwrap_or_default();
                Told {
                    what: key(
                        "KubernetesExecution",
                        "",
                        &report::namespaced_name(&execution.metadata),
                    ),
                    transitions: status.phase_transitions,
                    attempts: attempts(&status.attempts),
                    message: status.message.unwrap_or_default(),
                    ended: status.phase.is_some_and(ExecutionPhase::is_terminal),
                }
            }
        }
    }
}

/// Each attempt, with how the one before it ended.
fn attempts(attempts: &[Attempt]) -> Vec<(Timestamp, String)> {
    let before = attempts
        .iter()
        .map(|attempt| attempt.message.clone().unwrap_or_default());
    let before = std::iter::once(String::new()).chain(before);
    attempts
        .iter()
        .zip(before)
        .map(|(attempt, before)| (attempt.start_time.0, before))
        .collect()
}

fn key(kind: &str, namespace: &str, name: &str) -> String {
    let short = if kind == "WorkflowExecution" {
        "workflow"
    } else {
        "execution"
    };
    if namespace.is_empty() {
        format!("{short} {name}")
    } else {
        format!("{short} {namespace}/{name}")
    }
}

fn applied<K>(event: watcher::Event<K>) -> Option<K> {
    match event {
        watcher::Event::Apply(object) | watcher::Event::InitApply(object) => Some(object),
        watcher::Event::Delete(_) | watcher::Event::Init | watcher::Event::InitDone => None,
    }
}

/// Every object in its final state, as one List.
fn list(mut items: Vec<Value>, output: Output) -> Result<String, String> {
    items.iter_mut().for_each(report::mask);
    let list: Value =
        json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items});
    match output {
        Output::Yaml => serde_saphyr::to_string(&list).map_err(|error| error.to_string()),
        Output::Json | Output::Text => serde_json::to_string_pretty(&list).map_err(|error| error.to_string()),
    }
}

fn complain(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// A reader that went away (`| head`) is no reason to fail; a full disk is.
fn say(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}
