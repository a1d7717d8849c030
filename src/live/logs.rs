//! `kubernaut logs`: what the Jobs of a workflow's steps said.

use std::collections::BTreeSet;
use std::process::ExitCode;

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
use super::states::{State, states};
use crate::rehearsal::input::printable;
use crate::terminal::{Done, Trouble, complain, print};

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
    for execution in &all {
        let pods: Vec<&Pod> = kept.iter().filter(|pod| is_of(pod, execution)).collect();
        is_any |= logs.print_recorded(execution, &pods, is_followed).await?;
    }
    if is_followed {
        logs.follow().await?;
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

/// Whether its container has begun, so that there is a log.
fn has_begun(pod: &Pod) -> bool {
    let statuses = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    statuses
        .filter_map(|status| status.state.as_ref())
        .any(|state| state.running.is_some() || state.terminated.is_some())
}

struct Logs<'a> {
    connection: &'a Connection,
    pods: Api<Pod>,
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
            let Some(pod) = kept.filter(|pod| has_begun(pod)) else {
                continue;
            };
            // That of one that runs comes with what follows.
            if is_followed && attempt.outcome.is_none() {
                continue;
            }
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            match self.pods.logs(name, &LogParams::default()).await {
                Ok(text) => {
                    for line in text.lines() {
                        print(&format!("    {}\n", printable(line)))?;
                    }
                }
                Err(error) => {
                    let doing = format!("reading the log of pod {name}");
                    complain(&format!(
                        "note: {}",
                        self.connection.trouble(&doing, &error).words()
                    ));
                }
            }
        }
        Ok(true)
    }

    /// The logs of Jobs that run and of those to come, until the workflow has ended.
    async fn follow(&self) -> Result<(), Trouble> {
        let mut ends = std::pin::pin!(self.ends());
        let config = watcher::Config::default().labels(&self.labels());
        let mut begun = std::pin::pin!(watcher(self.pods.clone(), config).default_backoff());
        let mut seen = BTreeSet::new();
        let mut tails: FuturesUnordered<BoxFuture<'_, Result<(), Trouble>>> = FuturesUnordered::new();
        let mut is_over = false;
        loop {
            tokio::select! {
                ended = ends.next(), if !is_over => {
                    ended.transpose()?;
                    is_over = true;
                }
                event = begun.next() => match event {
                    Some(Ok(Event::Apply(pod) | Event::InitApply(pod))) => {
                        let pod_name = pod.metadata.name.clone().unwrap_or_default();
                        if has_begun(&pod) && self.is_wanted(&pod) && seen.insert(pod_name) {
                            tails.push(self.tail(pod).boxed());
                        }
                    }
                    Some(Ok(Event::Delete(_) | Event::Init | Event::InitDone)) => {}
                    Some(Err(error)) => complain(&format!("note: pods of its Jobs: {error}; they are asked for again")),
                    None => return Ok(()),
                },
                Some(tail) = tails.next() => tail?,
            }
            if is_over && tails.is_empty() {
                return Ok(());
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

    /// Prints the log of a pod as it grows.
    async fn tail(&self, pod: Pod) -> Result<(), Trouble> {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let head = format!(
            "[{} {}]",
            label(&pod, names::LABEL_EXECUTION_NAME),
            attempt_words(label(&pod, names::LABEL_ATTEMPT).parse().unwrap_or_default())
        );
        let parameters = LogParams {
            follow: true,
            ..LogParams::default()
        };
        let stream = match self.pods.log_stream(&name, &parameters).await {
            Ok(stream) => stream,
            Err(error) => {
                let doing = format!("reading the log of pod {name}");
                complain(&format!(
                    "note: {}",
                    self.connection.trouble(&doing, &error).words()
                ));
                return Ok(());
            }
        };
        let mut lines = stream.lines();
        // A connection that breaks ends it; the words are recorded all the same.
        while let Some(Ok(line)) = lines.next().await {
            print(&format!("{head} {}\n", printable(&line)))?;
        }
        Ok(())
    }
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
