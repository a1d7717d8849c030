//! What the controller holds: of workflows that wait to be started or approved, and of steps that have ended; and how soon it goes on after it
//! was killed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kubernaut_testbed::{ControlPlane, ControlPlaneOptions, FakeKubelet, FakeKubeletOptions, PodScript};
use serde::Serialize;
use serde_json::json;

use crate::engine::{AT_ONCE, EXECUTION, Engine, NAMESPACE, WORKFLOW, create, object, resource, workflow};
use crate::run::{quiet, to_f64, unused_port, wait_until_done};
use crate::{BenchError, audit, io, processes, shapes};

/// Of the workflows here.
const SHAPE: &str = "dia8";
/// How long what waits is looked at.
const LOOK: Duration = Duration::from_secs(60);
/// How long a controller that was started after a kill is looked at.
const RECOVERY: Duration = Duration::from_secs(40);
/// Workflows whose targets are there, the oldest ones.
const WITH_TARGETS: usize = 200;
/// The user who makes them.
const ADMINISTRATOR: &str = "admin";
/// Where the pods are.
const EXECUTOR: &str = "kubernaut-executor";
/// Longest time until all that wait say so.
const TIMEOUT: Duration = Duration::from_mins(40);

/// What was found with so many workflows or steps.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Held {
    what: String,
    number: usize,
    /// MiB when all is quiet, and at most.
    resident: f64,
    peak: f64,
    /// Of the controller, in a minute in which nothing happens.
    requests_per_second: f64,
    cpu_percent: f64,
    /// Until all is quiet again after the start, or until all that wait have said so.
    seconds: f64,
    recovery: Option<Recovery>,
}

/// After a kill -9: a pod has ended meanwhile, and there is something to write.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Recovery {
    /// From the start of the next controller to the answer of its first write.
    first_write_seconds: f64,
    /// What it wrote until all was quiet, by verb and resource.
    writes: BTreeMap<String, u64>,
}

/// Measures, prints a table, and writes it with the figures as JSON into `output`.
///
/// # Errors
/// The control plane or the controller does not do its part.
pub(crate) async fn run(
    program: &Path,
    waiting: &[usize],
    approvals: &[usize],
    finished: &[usize],
    output: &Path,
) -> Result<(), BenchError> {
    let mut found = Vec::new();
    let any = |number: &&usize| **number > 0;
    for number in waiting.iter().filter(any) {
        found.push(wait(program, *number).await?);
    }
    for number in approvals.iter().filter(any) {
        found.push(ask(program, *number).await?);
    }
    for number in finished.iter().filter(any) {
        found.push(finish(program, *number).await?);
    }
    let mut text = String::from(
        "| what | how many | MiB | at most | requests a second | % of a core | seconds until quiet | killed: seconds to the first write |\n|---|---|---|---|---|---|---|---|\n",
    );
    for held in &found {
        let Held {
            what,
            number,
            resident,
            peak,
            requests_per_second,
            cpu_percent,
            seconds,
            recovery,
        } = held;
        let recovered = recovery.as_ref().map_or("-".to_owned(), |recovery| {
            format!("{:.1}", recovery.first_write_seconds)
        });
        // Writing to a String can't fail.
        let _ = writeln!(
            text,
            "| {what} | {number} | {resident:.1} | {peak:.1} | {requests_per_second:.2} | {cpu_percent:.2} | {seconds:.0} | {recovered} |"
        );
    }
    println!("{text}");
    let failed = |error| io("writing the report", error);
    std::fs::create_dir_all(output).map_err(failed)?;
    std::fs::write(output.join("memory.md"), text).map_err(failed)?;
    std::fs::write(output.join("memory.json"), serde_json::to_vec_pretty(&found)?).map_err(failed)
}

/// An execution has the only slot, and all workflows wait to be started.
async fn wait(program: &Path, number: usize) -> Result<Held, BenchError> {
    let engine = Engine::Ours {
        program: program.to_owned(),
        flags: vec![
            "--max-running-jobs=1".to_owned(),
            "--max-step-timeout=1h".to_owned(),
            // A killed one's lease would be waited for.
            "--leader-elect=false".to_owned(),
        ],
    };
    let steps = shapes::steps(SHAPE).map_err(BenchError::Arguments)?;
    let cluster = control_plane().await?;
    let _kubelet = nodes(&cluster, PodScript::Hang).await?;
    engine.install(&cluster, &[]).await?;
    // Of those that may be started while it is looked at.
    engine.prepare(&cluster, number.min(WITH_TARGETS), &steps).await?;
    let mut running = engine.start(&cluster, unused_port()?).await?;
    quiet(&cluster).await;
    hold_the_slot(&cluster).await?;
    let begun = Instant::now();
    engine.submit(&cluster, 0, number, &steps).await?;
    let seconds = all_say_so(&cluster, "planning", number, begun).await?;
    let what = "workflows that wait to be started";
    let mut held = look(&cluster, &running, what, number, seconds).await?;
    running
        .child
        .kill()
        .await
        .map_err(|error| io("ending the controller", error))?;
    held.recovery = Some(recover(&engine, &cluster).await?);
    Ok(held)
}

/// All workflows wait for somebody who approves them.
async fn ask(program: &Path, number: usize) -> Result<Held, BenchError> {
    let engine = Engine::Ours {
        program: program.to_owned(),
        flags: Vec::new(),
    };
    let steps = shapes::steps(SHAPE).map_err(BenchError::Arguments)?;
    let cluster = control_plane().await?;
    engine.install(&cluster, &[]).await?;
    engine.prepare(&cluster, 1, &steps).await?;
    let running = engine.start(&cluster, unused_port()?).await?;
    quiet(&cluster).await;
    let begun = Instant::now();
    let api = resource(&cluster, &WORKFLOW).await?;
    let workflows = (0..number).map(|number| {
        let mut workflow = workflow(NAMESPACE, number, &steps)?;
        workflow.data["spec"]["executionStrategy"] = json!({"approvalRequired": true});
        let creator = ("kubernaut.io/created-by".to_owned(), ADMINISTRATOR.to_owned());
        workflow.metadata.annotations = Some([creator].into());
        Ok(workflow)
    });
    create(&api, workflows.collect::<Result<_, BenchError>>()?).await?;
    let seconds = all_say_so(&cluster, "validating", number, begun).await?;
    look(
        &cluster,
        &running,
        "workflows that wait for approval",
        number,
        seconds,
    )
    .await
}

/// Returns how long it took until so many workflows are in this phase, and all is quiet.
async fn all_say_so(
    cluster: &ControlPlane,
    phase: &str,
    number: usize,
    begun: Instant,
) -> Result<f64, BenchError> {
    let api = resource(cluster, &WORKFLOW).await?;
    while matching(&api, &format!("status.phase={phase}")).await? < number {
        if begun.elapsed() > TIMEOUT {
            return Err(BenchError::Engine(
                "not all that wait say so, within 40 minutes".to_owned(),
            ));
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    quiet(cluster).await;
    Ok(begun.elapsed().as_secs_f64())
}

/// The pod of what runs ends while no controller is there; then one is started.
async fn recover(engine: &Engine, cluster: &ControlPlane) -> Result<Recovery, BenchError> {
    let pods: Api<Pod> = Api::namespaced(cluster.admin_client().await?, EXECUTOR);
    let end = json!({"status": {"phase": "Succeeded"}});
    for pod in pods.list_metadata(&ListParams::default()).await?.items {
        pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(&end))
            .await?;
    }
    quiet(cluster).await;
    let log = cluster.audit_log();
    let from = std::fs::metadata(&log)
        .map_err(|error| io("finding the audit log", error))?
        .len();
    let begun = Timestamp::now();
    let running = engine.start(cluster, unused_port()?).await?;
    tokio::time::sleep(RECOVERY).await;
    let requests = audit::read(&log, from, &running.user, &shapes::Steps::default())
        .map_err(|error| io("reading the audit log", error))?;
    let first = requests
        .first_write
        .ok_or_else(|| BenchError::Engine(format!("nothing was written within {RECOVERY:?} of a start")))?;
    Ok(Recovery {
        first_write_seconds: first.duration_since(begun).as_secs_f64(),
        writes: requests
            .counts
            .into_iter()
            .filter(|(what, _)| !what.starts_with("get") && !what.starts_with("list"))
            .collect(),
    })
}

/// A controller that starts where so many steps have ended.
async fn finish(program: &Path, number: usize) -> Result<Held, BenchError> {
    let engine = Engine::Ours {
        program: program.to_owned(),
        flags: Vec::new(),
    };
    let steps = shapes::steps(SHAPE).map_err(BenchError::Arguments)?;
    let cluster = control_plane().await?;
    let at_once = PodScript::Succeed {
        after: Duration::ZERO,
    };
    let _kubelet = nodes(&cluster, at_once).await?;
    // Copies are made by somebody else than the controller.
    engine.install(&cluster, &["policies".to_owned()]).await?;
    engine.prepare(&cluster, 1, &steps).await?;
    let mut running = engine.start(&cluster, unused_port()?).await?;
    engine.submit(&cluster, 0, 1, &steps).await?;
    wait_until_done(&engine, &cluster, TIMEOUT).await?;
    quiet(&cluster).await;
    let killed = |error| io("ending the controller", error);
    running.child.kill().await.map_err(killed)?;
    let workflows = resource(&cluster, &WORKFLOW).await?;
    let executions = resource(&cluster, &EXECUTION).await?;
    let workflow = workflows.get("w0").await?;
    let made = executions.list(&ListParams::default()).await?.items;
    stream::iter(0..number / steps.len())
        .map(|copy| copy_of(&workflows, &executions, &workflow, &made, copy))
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    quiet(&cluster).await;
    let begun = Instant::now();
    let running = engine.start(&cluster, unused_port()?).await?;
    quiet(&cluster).await;
    let seconds = begun.elapsed().as_secs_f64();
    look(
        &cluster,
        &running,
        "steps that have ended, after a start",
        number,
        seconds,
    )
    .await
}

/// Returns when it runs; it does so for longer than anything here takes.
async fn hold_the_slot(cluster: &ControlPlane) -> Result<(), BenchError> {
    let executions = resource(cluster, &EXECUTION).await?;
    let holder = object(json!({
        "apiVersion": "kubernetesexecution.kubernaut.io/v1", "kind": "KubernetesExecution",
        "metadata": {"name": "holder"},
        "spec": {"action": "update-configmap", "approvalReceived": true, "timeout": "1h", "parameters": {"updateConfigMap": {
            "namespace": NAMESPACE, "configMap": "map-0-0", "data": {"key": "value"}}}},
    }))?;
    executions.create(&PostParams::default(), &holder).await?;
    let begun = Instant::now();
    while executions.get("holder").await?.data["status"]["phase"] != "executing" {
        if begun.elapsed() > Duration::from_mins(1) {
            return Err(BenchError::Engine("no execution runs within a minute".to_owned()));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

async fn control_plane() -> Result<ControlPlane, BenchError> {
    Ok(ControlPlane::start(ControlPlaneOptions {
        audit_log: true,
        ..ControlPlaneOptions::default()
    })
    .await?)
}

async fn nodes(cluster: &ControlPlane, script: PodScript) -> Result<FakeKubelet, BenchError> {
    let options = FakeKubeletOptions {
        nodes: 2,
        ..FakeKubeletOptions::default()
    };
    let kubelet = FakeKubelet::start(cluster, options.with_script(move |_: &_| Some(script.clone())));
    Ok(kubelet.await?)
}

async fn look(
    cluster: &ControlPlane,
    running: &crate::engine::Running,
    what: &str,
    number: usize,
    seconds: f64,
) -> Result<Held, BenchError> {
    let family = processes::family(running.child.id().unwrap_or_default());
    let log = cluster.audit_log();
    let from = std::fs::metadata(&log)
        .map_err(|error| io("finding the audit log", error))?
        .len();
    let before = processes::cpu_seconds(&family);
    tokio::time::sleep(LOOK).await;
    let used = processes::cpu_seconds(&family) - before;
    let requests = audit::read(&log, from, &running.user, &shapes::Steps::default());
    let requests = requests.map_err(|error| io("reading the audit log", error))?;
    let all: u64 = requests.counts.values().sum();
    Ok(Held {
        what: what.to_owned(),
        number,
        resident: processes::resident_mib(&family),
        peak: processes::peak_mib(&family),
        requests_per_second: to_f64(usize::try_from(all).unwrap_or(usize::MAX)) / LOOK.as_secs_f64(),
        cpu_percent: 100.0 * used / LOOK.as_secs_f64(),
        seconds,
        recovery: None,
    })
}

/// The API server does not count what a selector leaves out: all names are read.
async fn matching(api: &Api<DynamicObject>, fields: &str) -> Result<usize, BenchError> {
    let list = api.list_metadata(&ListParams::default().fields(fields)).await?;
    Ok(list.items.len())
}

/// One more workflow that has ended, with its steps.
async fn copy_of(
    workflows: &Api<DynamicObject>,
    executions: &Api<DynamicObject>,
    workflow: &DynamicObject,
    steps: &[DynamicObject],
    number: usize,
) -> Result<(), BenchError> {
    let name = format!("c{number}");
    let owner = put(workflows, workflow, &name, None).await?;
    for (index, step) in steps.iter().enumerate() {
        put(
            executions,
            step,
            &format!("{name}-step-{}", index + 1),
            Some(&owner),
        )
        .await?;
    }
    Ok(())
}

async fn put(
    api: &Api<DynamicObject>,
    of: &DynamicObject,
    name: &str,
    owner: Option<&DynamicObject>,
) -> Result<DynamicObject, BenchError> {
    let (labels, annotations) = (of.labels().clone(), of.annotations().clone());
    let mut copy = object(json!({
        "apiVersion": of.types.as_ref().map(|types| &types.api_version),
        "kind": of.types.as_ref().map(|types| &types.kind),
        "metadata": {"name": name, "labels": labels, "annotations": annotations},
        "spec": of.data.get("spec"),
    }))?;
    copy.metadata.finalizers.clone_from(&of.metadata.finalizers);
    if let Some(owner) = owner {
        let mut references = of.metadata.owner_references.clone().unwrap_or_default();
        for reference in &mut references {
            reference.name = owner.name_any();
            reference.uid = owner.uid().unwrap_or_default();
        }
        copy.metadata.owner_references = Some(references);
    }
    api.create(&PostParams::default(), &copy).await?;
    let status = json!({"status": of.data.get("status")});
    Ok(api
        .patch_status(name, &PatchParams::default(), &Patch::Merge(status))
        .await?)
}
