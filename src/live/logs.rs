//! `kubernaut logs`: what the Jobs of a workflow's steps said.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, Stream};
use futures::{AsyncBufReadExt as _, FutureExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, LogParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kubernaut_crds::{KubernetesExecution, WorkflowExecution, names};

use super::connection::{Connection, JobsArguments, Named};
use super::get::executions;
use super::result::word;
use super::states::{State, refusal, states};
use crate::rehearsal::input::printable;
use crate::terminal::{Done, Trouble, complain, print, print_on};

/// So often a log is asked for again that could not be read at first.
const LOG_TRIES: usize = 5;
const BETWEEN_TRIES: Duration = Duration::from_secs(1);

/// Print what the Jobs of a workflow's steps said
///
/// The last words of each attempt, as its step recorded them, and the logs of pods that are still kept in the namespace of the
/// Jobs. With --follow, those of Jobs that run or are still to come, until the workflow has ended.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Try it: kubernaut logs restart-web 2 --follow\n\nExit codes: 0 they are printed, 1 the cluster could not be asked, 2 there is no such workflow or step, 130 Ctrl-C."
)]
pub(crate) struct LogsOptions {
    #[command(flatten)]
    named: Named,
    /// Number or name of a step. Default: all
    #[arg(value_name = "STEP")]
    step: Option<String>,
    /// Follow the Jobs that run, and those to come, until the workflow has ended
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    jobs: JobsArguments,
}

pub(super) async fn logs(options: &LogsOptions) -> Done {
    let connection = Connection::open(&options.named.connect).await?;
    let workflow = connection.workflow(&options.named.name).await?;
    let step = options
        .step
        .as_deref()
        .map(|step| number_of(&workflow, step))
        .transpose()?;
    let mut all = executions(&connection, &workflow).await?;
    all.retain(|execution| step.is_none_or(|step| execution.spec.step_number == step));
    all.sort_by_key(|execution| (execution.spec.step_number, execution.metadata.name.clone()));
    let logs = Logs {
        connection: &connection,
        pods: Api::namespaced(connection.client.clone(), &options.jobs.executor_namespace),
        followed: Api::namespaced(connection.streams.clone(), &options.jobs.executor_namespace),
        workflow: &workflow,
        step,
    };
    let is_followed = options.follow && !workflow.is_terminal();
    let kept = logs.kept().await;
    if let Err(why) = &kept {
        complain(&format!("note: only recorded words are shown: {why}"));
    }
    let kept = kept.unwrap_or_default();
    let mut is_any = false;
    let mut printed = BTreeSet::new();
    for execution in &all {
        let pods: Vec<&Pod> = kept.iter().filter(|pod| is_of(pod, execution)).collect();
        is_any |= logs
            .print_recorded(execution, &pods, is_followed, &mut printed)
            .await?;
    }
    if is_followed {
        logs.follow(printed).await?;
    } else if !is_any {
        complain(&format!(
            "Nothing was said yet by the Jobs of workflow {}/{}.",
            connection.namespace, options.named.name
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// The number of a step that was named, or numbered.
fn number_of(workflow: &WorkflowExecution, step: &str) -> Result<i32, Trouble> {
    let steps = &workflow.spec.workflow_definition.steps;
    let found = steps
        .iter()
        .find(|known| known.name == step || known.step_number.to_string() == step);
    if let Some(found) = found {
        return Ok(found.step_number);
    }
    // A workflow that undoes another one has steps only in its status.
    let planned = workflow.status.iter().flat_map(|status| &status.step_statuses);
    let mut planned = planned.filter(|known| known.step_number.to_string() == step);
    if let Some(found) = planned.next() {
        return Ok(found.step_number);
    }
    let known: Vec<String> = steps
        .iter()
        .map(|known| format!("{} ({})", known.step_number, known.name))
        .collect();
    Err(Trouble::Input(format!(
        "the workflow has no step {step:?}; there is {}",
        known.join(", ")
    )))
}

/// The value of a label of a pod.
fn label<'a>(pod: &'a Pod, key: &str) -> &'a str {
    let labels = pod.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(key))
        .map(String::as_str)
        .unwrap_or_default()
}

fn is_of(pod: &Pod, execution: &KubernetesExecution) -> bool {
    let uid = execution.metadata.uid.as_deref().unwrap_or_default();
    label(pod, names::LABEL_EXECUTION_UID) == uid
}

/// The containers that have begun, so that there is a log of each, in their order: of several pods all evictions but the last
/// are init containers.
fn begun(pod: &Pod) -> Vec<String> {
    let status = pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_ref());
    let others = status.and_then(|status| status.container_statuses.as_ref());
    let statuses = init.into_iter().chain(others).flatten();
    let begun = statuses.filter(|status| {
        let state = status.state.as_ref();
        state.is_some_and(|state| state.running.is_some() || state.terminated.is_some())
    });
    begun.map(|status| status.name.clone()).collect()
}

/// One container of a pod.
type Log = (String, String);

struct Logs<'a> {
    connection: &'a Connection,
    pods: Api<Pod>,
    /// Those by a connection that may be silent.
    followed: Api<Pod>,
    workflow: &'a WorkflowExecution,
    step: Option<i32>,
}

impl Logs<'_> {
    fn labels(&self) -> String {
        let name = self.workflow.metadata.name.as_deref().unwrap_or_default();
        let namespace = &self.connection.namespace;
        format!(
            "{}={name},{}={namespace}",
            names::LABEL_WORKFLOW,
            names::LABEL_EXECUTION_NAMESPACE
        )
    }

    /// The pods that are still there.
    async fn kept(&self) -> Result<Vec<Pod>, String> {
        let listed = self
            .pods
            .list(&ListParams::default().labels(&self.labels()))
            .await;
        listed.map(|list| list.items).map_err(|error| {
            self.connection
                .trouble("listing the pods of its Jobs", &error)
                .words()
        })
    }

    /// What is known of the attempts of a step; whether it was anything.
    async fn print_recorded(
        &self,
        execution: &KubernetesExecution,
        pods: &[&Pod],
        is_followed: bool,
        printed: &mut BTreeSet<Log>,
    ) -> Result<bool, Trouble> {
        let attempts: Vec<_> = execution.attempts().all().collect();
        if attempts.is_empty() {
            return Ok(false);
        }
        print(&format!("{}\n", title(execution)))?;
        for attempt in attempts {
            let outcome = attempt.outcome.map_or_else(|| "runs".to_owned(), word);
            let said = attempt.message.as_deref().unwrap_or_default();
            let kept = pods
                .iter()
                .find(|pod| label(pod, names::LABEL_ATTEMPT) == attempt.attempt.to_string());
            print(&format!(
                "  {}: {outcome}  {}\n",
                attempt_words(attempt.attempt),
                printable(said).replace('\n', "\n    ")
            ))?;
            // That of one that runs comes with what follows.
            let Some(pod) = kept.filter(|_| !is_followed || attempt.outcome.is_some()) else {
                continue;
            };
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            for container in begun(pod) {
                let parameters = LogParams {
                    container: Some(container.clone()),
                    ..LogParams::default()
                };
                match self.pods.logs(name, &parameters).await {
                    Ok(text) => {
                        for line in text.lines() {
                            print_on(&format!("    {}\n", printable(line)))?;
                        }
                        printed.insert((name.to_owned(), container));
                    }
                    Err(error) => self.note_unread(name, &error),
                }
            }
        }
        Ok(true)
    }

    fn note_unread(&self, pod: &str, error: &kube::Error) {
        let doing = format!("reading the log of pod {pod}");
        let words = self.connection.trouble(&doing, error).words();
        complain(&format!("note: {words}"));
    }

    /// The logs of Jobs that run and of those to come, but for those that were printed, until the workflow has ended.
    async fn follow(&self, mut seen: BTreeSet<Log>) -> Result<(), Trouble> {
        let mut ends = std::pin::pin!(self.ends());
        let config = watcher::Config::default().labels(&self.labels());
        let mut changes = std::pin::pin!(watcher(self.followed.clone(), config).default_backoff());
        let mut tails: FuturesUnordered<BoxFuture<'_, Result<(), Trouble>>> = FuturesUnordered::new();
        let mut is_over = false;
        loop {
            tokio::select! {
                ended = ends.next(), if !is_over => {
                    ended.transpose()?;
                    is_over = true;
                    // The news of its last pod may come later than that of its end.
                    for pod in self.kept().await.map_err(Trouble::Here)? {
                        self.tail_what_begun(&pod, &mut seen, &mut tails);
                    }
                }
                event = changes.next() => match event {
                    Some(Ok(Event::Apply(pod) | Event::InitApply(pod))) => {
                        self.tail_what_begun(&pod, &mut seen, &mut tails);
                    }
                    Some(Ok(Event::Delete(_) | Event::Init | Event::InitDone)) => {}
                    Some(Err(error)) => match refusal(&error) {
                        Some(refusal) => return Err(self.connection.trouble("watching the pods of its Jobs", refusal)),
                        None => complain(&format!("note: pods of its Jobs: {error}; they are asked for again")),
                    },
                    None => return Ok(()),
                },
                Some(tail) = tails.next() => tail?,
            }
            if is_over && tails.is_empty() {
                return Ok(());
            }
        }
    }

    /// Begins to print what containers of a pod say that have begun since.
    fn tail_what_begun<'a>(
        &'a self,
        pod: &Pod,
        seen: &mut BTreeSet<Log>,
        tails: &mut FuturesUnordered<BoxFuture<'a, Result<(), Trouble>>>,
    ) {
        let name = pod.metadata.name.clone().unwrap_or_default();
        for container in begun(pod).into_iter().filter(|_| self.is_wanted(pod)) {
            if seen.insert((name.clone(), container.clone())) {
                tails.push(self.tail(pod.clone(), container).boxed());
            }
        }
    }

    /// One item when the workflow has ended, or is gone.
    fn ends(&self) -> impl Stream<Item = Result<(), Trouble>> + '_ {
        states(self.connection, self.workflow).filter_map(async |state| match state {
            Ok(State::Is(workflow)) => workflow.is_terminal().then_some(Ok(())),
            Ok(State::Gone) => Some(Ok(())),
            Ok(State::Lost(_)) => None,
            Err(trouble) => Some(Err(trouble)),
        })
    }

    fn is_wanted(&self, pod: &Pod) -> bool {
        let Some(step) = self.step else { return true };
        let execution = label(pod, names::LABEL_EXECUTION_NAME);
        execution.ends_with(&format!("-{step}"))
    }

    /// Prints the log of a container as it grows.
    async fn tail(&self, pod: Pod, container: String) -> Result<(), Trouble> {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let head = format!(
            "[{} {}]",
            label(&pod, names::LABEL_EXECUTION_NAME),
            attempt_words(label(&pod, names::LABEL_ATTEMPT).parse().unwrap_or_default())
        );
        let parameters = LogParams {
            follow: true,
            container: Some(container),
            ..LogParams::default()
        };
        let mut tries = 0;
        let stream = loop {
            match self.followed.log_stream(&name, &parameters).await {
                Ok(stream) => break stream,
                Err(error) if tries < LOG_TRIES && !is_final(&error) => tries += 1,
                Err(error) => {
                    self.note_unread(&name, &error);
                    return Ok(());
                }
            }
            tokio::time::sleep(BETWEEN_TRIES).await;
        };
        let mut lines = stream.lines();
        while let Some(line) = lines.next().await {
            match line {
                Ok(line) => print_on(&format!("{head} {}\n", printable(&line)))?,
                // Its last words are recorded all the same.
                Err(error) => {
                    complain(&format!("note: the log of pod {name} breaks off: {error}"));
                    break;
                }
            }
        }
        Ok(())
    }
}

/// The API server has answered, and would say it again.
fn is_final(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code < 500 && status.code != 429)
}

fn attempt_words(attempt: i32) -> String {
    if attempt == 0 {
        "dry run".to_owned()
    } else {
        format!("attempt {attempt}")
    }
}

/// The step of an execution, and where it stands.
fn title(execution: &KubernetesExecution) -> String {
    let status = execution.status.clone().unwrap_or_default();
    let name = execution.metadata.name.as_deref().unwrap_or_default();
    let words = [
        name.to_owned(),
        execution.spec.action.clone(),
        status.target_name.unwrap_or_default(),
        status.phase.map(word).unwrap_or_default(),
    ];
    let words: Vec<String> = words.into_iter().filter(|word| !word.is_empty()).collect();
    printable(&words.join("  "))
}
