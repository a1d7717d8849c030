//! The least that could run workflows: it creates each Job when those before it are complete, and keeps nothing.
//!
//! An order is a ConfigMap that says which step waits for which; it is deleted when all have run. No rights, no record, no
//! outcome, no retry: nobody could use it, and nothing that does more can be cheaper. Its Jobs say nothing either, unless it is
//! given one: with a Job of ours it is the least for steps that are guarded and limited as ours are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Container, PodSpec};
use kube::api::{Api, DeleteParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Config, ResourceExt};
use tokio::sync::mpsc;

use crate::engine::NAMESPACE;
use crate::shapes::Steps;
use crate::{BenchError, io};

/// As many calls under way as kubernaut has unless it is told otherwise.
const AT_ONCE: usize = 32;

#[derive(Default)]
struct Workflow {
    steps: Steps,
    started: BTreeSet<usize>,
    done: BTreeSet<usize>,
}

enum Call {
    Start { workflow: String, step: usize },
    Done { workflow: String },
}

/// Runs until it is ended from outside.
///
/// # Errors
/// The cluster can't be reached, or refuses a Job.
pub(crate) async fn run(kubeconfig: &Path, like: Option<&Path>) -> Result<(), BenchError> {
    let like = like.map(template).transpose()?.unwrap_or_else(bare);
    let config =
        Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &KubeConfigOptions::default())
            .await?;
    let client = Client::try_from(config)?;
    let jobs: Api<Job> = Api::namespaced(client.clone(), NAMESPACE);
    let maps: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
    let orders = watcher(maps.clone(), watcher::Config::default().labels("oracle=order")).applied_objects();
    let ended = watcher(jobs.clone(), watcher::Config::default().labels("oracle")).applied_objects();
    let (mut orders, mut ended) = (orders.boxed(), ended.boxed());
    let (sender, receiver) = mpsc::unbounded_channel();
    let calls = tokio::spawn(async move {
        let receiver = stream::unfold(receiver, async |mut receiver: mpsc::UnboundedReceiver<Call>| {
            receiver.recv().await.map(|call| (call, receiver))
        });
        receiver
            .map(async |call| carry_out(&jobs, &maps, &like, call).await)
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await
    });
    let mut workflows = BTreeMap::<String, Workflow>::new();
    loop {
        let changed = tokio::select! {
            order = orders.try_next() => order?.and_then(|order| take(&mut workflows, &order)),
            job = ended.try_next() => job?.and_then(|job| complete(&mut workflows, &job)),
        };
        if let Some((name, workflow)) =
            changed.and_then(|name| workflows.get_mut(&name).map(|found| (name, found)))
        {
            for step in ready(workflow) {
                let _ = sender.send(Call::Start {
                    workflow: name.clone(),
                    step,
                });
            }
            if workflow.done.len() == workflow.steps.len() {
                workflows.remove(&name);
                let _ = sender.send(Call::Done { workflow: name });
            }
        }
        if calls.is_finished() {
            return calls
                .await
                .map_err(|error| BenchError::Engine(error.to_string()))?;
        }
    }
}

fn take(workflows: &mut BTreeMap<String, Workflow>, order: &ConfigMap) -> Option<String> {
    let steps = serde_json::from_str(order.data.as_ref()?.get("steps")?).ok()?;
    let name = order.name_any();
    workflows.entry(name.clone()).or_default().steps = steps;
    Some(name)
}

fn complete(workflows: &mut BTreeMap<String, Workflow>, job: &Job) -> Option<String> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let is_complete = conditions
        .iter()
        .any(|one| one.type_ == "Complete" && one.status == "True");
    let (name, step) = (
        job.labels().get("oracle")?,
        job.labels().get("step")?.parse().ok()?,
    );
    let workflow = workflows.get_mut(name).filter(|_| is_complete)?;
    workflow.done.insert(step);
    Some(name.clone())
}

/// Steps that can begin and have not, which then have.
fn ready(workflow: &mut Workflow) -> Vec<usize> {
    let (done, started) = (&workflow.done, &workflow.started);
    let free = |(step, before): (usize, &Vec<usize>)| {
        (!started.contains(&step) && before.iter().all(|other| done.contains(other))).then_some(step)
    };
    let ready: Vec<usize> = workflow.steps.iter().enumerate().filter_map(free).collect();
    workflow.started.extend(&ready);
    ready
}

async fn carry_out(jobs: &Api<Job>, maps: &Api<ConfigMap>, like: &Job, call: Call) -> Result<(), BenchError> {
    match call {
        Call::Start { workflow, step } => {
            let mut job = like.clone();
            job.metadata.name = Some(format!("{workflow}-step-{}", step + 1));
            let labels = job.metadata.labels.get_or_insert_default();
            labels.insert("oracle".to_owned(), workflow);
            labels.insert("step".to_owned(), step.to_string());
            jobs.create(&PostParams::default(), &job).await?;
        }
        Call::Done { workflow } => drop(maps.delete(&workflow, &DeleteParams::default()).await?),
    }
    Ok(())
}

/// The least that is a Job.
fn bare() -> Job {
    let container = Container {
        name: "kubectl".to_owned(),
        image: Some("registry.example/nothing".to_owned()),
        ..Container::default()
    };
    let pod = PodSpec {
        restart_policy: Some("Never".to_owned()),
        containers: vec![container],
        ..PodSpec::default()
    };
    let mut job = Job::default();
    job.spec.get_or_insert_default().backoff_limit = Some(0);
    job.spec.get_or_insert_default().template.spec = Some(pod);
    job
}

/// A Job as a cluster has one, without what the cluster gave it, and without an account that only its namespace has.
fn template(file: &Path) -> Result<Job, BenchError> {
    let text =
        std::fs::read_to_string(file).map_err(|error| io(&format!("reading {}", file.display()), error))?;
    let found: Job = serde_json::from_str(&text)?;
    let mut job = Job {
        spec: found.spec,
        ..Job::default()
    };
    job.metadata.labels = found.metadata.labels;
    job.metadata.annotations = found.metadata.annotations;
    if let Some(spec) = &mut job.spec {
        (spec.selector, spec.manual_selector) = (None, None);
        let given = |name: &str| name.contains("controller-uid") || name.contains("job-name");
        for labels in spec
            .template
            .metadata
            .iter_mut()
            .filter_map(|m| m.labels.as_mut())
        {
            labels.retain(|name, _| !given(name));
        }
        if let Some(pod) = &mut spec.template.spec {
            (pod.service_account, pod.service_account_name) = (None, None);
        }
    }
    Ok(job)
}
