//! What one write of each of our objects costs the API server, by size.
//!
//! A controller runs one workflow of a shape while all that it writes is recorded. Then it is ended, the controllers of the
//! control plane are paused, and the same writes are made again and again, one kind after the other, each on a new object.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::runtime::watcher;
use kube::{Client, Config, ResourceExt};
use kubernaut_testbed::{
    ControlPlane, ControlPlaneOptions, FakeKubelet, FakeKubeletOptions, Part, PodScript,
};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::engine::{Engine, NAMESPACE, object};
use crate::run::{Profile, profiling, quiet, take, to_f64, unused_port, wait_until_done};
use crate::{BenchError, io, processes, shapes};

/// Who our Events are from.
const REPORTER: &str = "kubernaut.io/controller";
/// Writes under way at once: enough to keep the API server busy, too few for it to queue.
const AT_ONCE: usize = 4;
/// A profile says something when the write is made for as long: with as many writes as take that time.
const PROFILE_SECONDS: u64 = 5;
/// Longest time for the workflow that is recorded.
const TIMEOUT: Duration = Duration::from_mins(3);

/// One kind of write.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Cost {
    shape: String,
    write: String,
    /// Bytes of the object in JSON after the write, and those of its managedFields.
    bytes: usize,
    managed_fields: usize,
    /// Milliseconds of CPU for one write.
    api_server: f64,
    etcd: f64,
}

/// All versions of the first object of a kind, in their order.
struct Recorded {
    resource: ApiResource,
    versions: Vec<DynamicObject>,
}

/// Measures, prints a table, and writes it with the figures as JSON into `output`, and with each write an object as it left it.
///
/// # Errors
/// The control plane or the controller does not do its part, or a write is refused.
pub(crate) async fn run(
    program: &Path,
    shapes: &[String],
    writes: usize,
    without: &[String],
    profiled: Option<&str>,
    output: &Path,
) -> Result<(), BenchError> {
    let failed = |error| io("writing the report", error);
    std::fs::create_dir_all(output).map_err(failed)?;
    let mut costs = Vec::new();
    for shape in shapes {
        costs.extend(measure(program, shape, writes, without, profiled, output).await?);
    }
    let text = markdown(&costs);
    println!("{text}");
    std::fs::write(output.join("writes.md"), text).map_err(failed)?;
    std::fs::write(output.join("writes.json"), serde_json::to_vec_pretty(&costs)?).map_err(failed)
}

async fn measure(
    program: &Path,
    shape: &str,
    writes: usize,
    without: &[String],
    profiled: Option<&str>,
    output: &Path,
) -> Result<Vec<Cost>, BenchError> {
    let steps = shapes::steps(shape).map_err(BenchError::Arguments)?;
    let engine = Engine::Ours {
        program: program.to_owned(),
        flags: Vec::new(),
    };
    let cluster = ControlPlane::start(ControlPlaneOptions {
        apiserver_args: profiling(profiled.is_some()),
        ..ControlPlaneOptions::default()
    })
    .await?;
    let nodes = FakeKubeletOptions {
        nodes: 2,
        ..FakeKubeletOptions::default()
    };
    let at_once = PodScript::Succeed {
        after: Duration::ZERO,
    };
    let kubelet = FakeKubelet::start(&cluster, nodes.with_script(move |_: &_| Some(at_once.clone()))).await?;
    engine.install(&cluster, without).await?;
    engine.prepare(&cluster, 2, &steps).await?;
    let mut running = engine.start(&cluster, unused_port()?).await?;
    // The first workflow finds caches cold, and rights not asked for.
    engine.submit(&cluster, 0, 1, &steps).await?;
    wait_until_done(&engine, &cluster, TIMEOUT).await?;
    let recorders: Vec<_> = resources()
        .into_iter()
        .map(|resource| async { record(&cluster, resource).await })
        .map(Box::pin)
        .collect();
    let recorders = futures::future::join_all(recorders).await;
    engine.submit(&cluster, 1, 1, &steps).await?;
    wait_until_done(&engine, &cluster, TIMEOUT).await?;
    quiet(&cluster).await;
    running
        .child
        .kill()
        .await
        .map_err(|error| io("ending the controller", error))?;
    kubelet.stop();
    cluster.pause(Part::ControllerManager).await?;

    let config = Kubeconfig::read_from(engine.kubeconfig(&cluster).await?)?;
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    let scene = Scene {
        cluster: &cluster,
        client: Client::try_from(config)?,
        shape,
        writes,
        profiled,
        output,
    };
    let mut costs = scene.reference().await?;
    for recorder in recorders {
        costs.extend(scene.write_again(&recorder?.end().await?).await?);
    }
    Ok(costs)
}

/// What is written again, in this order.
fn resources() -> Vec<ApiResource> {
    let ours = |group: &str, kind: &str, plural: &str| {
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1", kind), plural)
    };
    vec![
        ours("workflow.kubernaut.io", "WorkflowExecution", "workflowexecutions"),
        ours(
            "kubernetesexecution.kubernaut.io",
            "KubernetesExecution",
            "kubernetesexecutions",
        ),
        ApiResource::erase::<Job>(&()),
        ApiResource::erase::<Event>(&()),
    ]
}

/// Keeps what is watched, until it is told to end.
struct Recorder {
    resource: ApiResource,
    task: tokio::task::JoinHandle<Vec<DynamicObject>>,
    end: oneshot::Sender<()>,
}

/// Returns when it sees what there is; what comes later is kept.
async fn record(cluster: &ControlPlane, resource: ApiResource) -> Result<Recorder, BenchError> {
    let api = Api::<DynamicObject>::all_with(cluster.admin_client().await?, &resource);
    let mut events = Box::pin(watcher(api, watcher::Config::default()));
    loop {
        if let Some(watcher::Event::InitDone) = events.try_next().await? {
            break;
        }
    }
    let (end, ended) = oneshot::channel();
    let task = tokio::spawn(async move {
        events
            .take_until(ended)
            .filter_map(async |event| match event {
                Ok(watcher::Event::Apply(object)) if is_ours(&object) => Some(object),
                _ => None,
            })
            .collect()
            .await
    });
    Ok(Recorder { resource, task, end })
}

/// The controllers of the control plane write Events, too.
fn is_ours(object: &DynamicObject) -> bool {
    object
        .data
        .get("reportingController")
        .is_none_or(|controller| controller == REPORTER)
}

impl Recorder {
    async fn end(self) -> Result<Recorded, BenchError> {
        let _ = self.end.send(());
        let kind = &self.resource.kind;
        let all = self
            .task
            .await
            .map_err(|error| BenchError::Engine(format!("recording {kind}: {error}")))?;
        let first = all.first().and_then(ResourceExt::uid);
        let versions: Vec<DynamicObject> = all.into_iter().filter(|object| object.uid() == first).collect();
        if versions.is_empty() {
            return Err(BenchError::Engine(format!(
                "the workflow ended, and no {kind} was written"
            )));
        }
        Ok(Recorded {
            resource: self.resource,
            versions,
        })
    }
}

/// A control plane at rest, and what is done to it.
struct Scene<'a> {
    cluster: &'a ControlPlane,
    /// As the controller.
    client: Client,
    shape: &'a str,
    writes: usize,
    profiled: Option<&'a str>,
    output: &'a Path,
}

impl Scene<'_> {
    /// The least an object costs.
    async fn reference(&self) -> Result<Vec<Cost>, BenchError> {
        let api = Api::<DynamicObject>::namespaced_with(
            self.cluster.admin_client().await?,
            NAMESPACE,
            &ApiResource::erase::<ConfigMap>(&()),
        );
        let map = object(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}, "data": {"key": "value"}}),
        )?;
        let created = self.cost(&api, "ConfigMap: create", Write::Create(&map)).await?;
        let patch = json!({"data": {"key": "other"}});
        let patched = self
            .cost(&api, "ConfigMap: patch", Write::Patch(&patch, "ConfigMap"))
            .await?;
        Ok(vec![created, patched])
    }

    /// Each write that made the versions of a recorded object.
    async fn write_again(&self, recorded: &Recorded) -> Result<Vec<Cost>, BenchError> {
        let Recorded { resource, versions } = recorded;
        let kind = resource.kind.as_str();
        let namespace = versions[0].namespace().unwrap_or_default();
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), &namespace, resource);
        // A person asks for a workflow; the rest is the controller's.
        let person =
            Api::<DynamicObject>::namespaced_with(self.cluster.admin_client().await?, &namespace, resource);
        let creator = if kind == "WorkflowExecution" {
            &person
        } else {
            &api
        };
        let mut costs = vec![
            self.cost(
                creator,
                &format!("{kind}: create"),
                Write::Create(&new(&versions[0])),
            )
            .await?,
        ];
        // The status of a Job is not ours.
        if kind != "Job" {
            let patches: Vec<Value> = versions
                .windows(2)
                .filter_map(|pair| status_patch(&pair[0], &pair[1]))
                .collect();
            for (index, patch) in patches.iter().enumerate() {
                let name = format!("{kind}: status, {} of {}", index + 1, patches.len());
                costs.push(self.cost(&api, &name, Write::Status(patch, kind)).await?);
            }
        }
        Ok(costs)
    }

    /// Makes a write so many times, each on an object of its own.
    async fn cost(&self, api: &Api<DynamicObject>, write: &str, what: Write<'_>) -> Result<Cost, BenchError> {
        quiet(self.cluster).await;
        let name = format!("{}-{}", self.shape, write.replace([':', ' ', ','], "-"));
        let profile = (self.profiled == Some(write)).then(|| Profile {
            seconds: PROFILE_SECONDS,
            file: self.output.join(format!("{name}.pprof")),
        });
        let profile = profile
            .map(|profile| take(self.cluster, &profile, Duration::ZERO))
            .transpose()?;
        let before = self.cpu()?;
        let written: Vec<DynamicObject> = stream::iter(0..self.writes)
            .map(|number| what.make(api, number))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let used: Vec<f64> = self
            .cpu()?
            .iter()
            .zip(before)
            .map(|(after, before)| after - before)
            .collect();
        if let Some(mut profile) = profile {
            profile
                .wait()
                .await
                .map_err(|error| io("waiting for the profile", error))?;
        }
        let bytes = |value: &Value| value.to_string().len();
        let last = json!(written.last());
        std::fs::write(
            self.output.join(format!("{name}.json")),
            serde_json::to_vec_pretty(&last)?,
        )
        .map_err(|error| io("writing an object", error))?;
        Ok(Cost {
            shape: self.shape.to_owned(),
            write: write.to_owned(),
            bytes: bytes(&last),
            managed_fields: bytes(&last["metadata"]["managedFields"]),
            api_server: used[0] * 1000.0 / to_f64(self.writes),
            etcd: used[1] * 1000.0 / to_f64(self.writes),
        })
    }

    fn cpu(&self) -> Result<[f64; 2], BenchError> {
        let used = |part| Ok::<f64, BenchError>(processes::cpu_seconds(&[self.cluster.pid(part)?]));
        Ok([used(Part::ApiServer)?, used(Part::Etcd)?])
    }
}

enum Write<'a> {
    Create(&'a DynamicObject),
    /// With the kind, which names the objects.
    Patch(&'a Value, &'a str),
    Status(&'a Value, &'a str),
}

impl Write<'_> {
    async fn make(&self, api: &Api<DynamicObject>, number: usize) -> Result<DynamicObject, BenchError> {
        let name = |kind: &str| format!("again-{}-{number}", kind.to_lowercase());
        let parameters = PatchParams::default();
        Ok(match self {
            Write::Create(object) => {
                let mut object = (*object).clone();
                object.metadata.name = object.types.as_ref().map(|types| name(&types.kind));
                api.create(&PostParams::default(), &object).await?
            }
            Write::Patch(patch, kind) => api.patch(&name(kind), &parameters, &Patch::Merge(patch)).await?,
            Write::Status(patch, kind) => {
                api.patch_status(&name(kind), &parameters, &Patch::Merge(patch))
                    .await?
            }
        })
    }
}

/// What was sent to make the first version of it.
fn new(object: &DynamicObject) -> DynamicObject {
    let mut object = object.clone();
    let metadata = std::mem::take(&mut object.metadata);
    object.metadata = kube::api::ObjectMeta {
        labels: metadata.labels,
        annotations: metadata.annotations,
        finalizers: metadata.finalizers,
        owner_references: metadata.owner_references,
        ..kube::api::ObjectMeta::default()
    };
    if let Some(fields) = object.data.as_object_mut() {
        fields.remove("status");
    }
    // Those that the API server generates for a Job.
    for generated in ["/spec/selector", "/spec/template/metadata/labels"] {
        if let Some(value) = object.data.pointer_mut(generated) {
            value.take();
        }
    }
    object
}

/// A merge patch from one status to the next, if they differ.
fn status_patch(before: &DynamicObject, after: &DynamicObject) -> Option<Value> {
    let patch = difference(&before.data["status"], &after.data["status"])?;
    Some(json!({"status": patch}))
}

/// Objects are merged, everything else is replaced.
fn difference(before: &Value, after: &Value) -> Option<Value> {
    if before == after {
        return None;
    }
    let (Some(old), Some(new)) = (before.as_object(), after.as_object()) else {
        return Some(after.clone());
    };
    let gone = old
        .keys()
        .filter(|key| !new.contains_key(*key))
        .map(|key| (key.clone(), Value::Null));
    let changed = new.iter().filter_map(|(key, value)| {
        let before = old.get(key).unwrap_or(&Value::Null);
        Some((key.clone(), difference(before, value)?))
    });
    Some(gone.chain(changed).collect())
}

fn markdown(costs: &[Cost]) -> String {
    let mut text = "| shape | write | bytes | of these managedFields | API server, ms of CPU | etcd, ms of CPU |\n|---|---|---|---|---|---|\n".to_owned();
    for cost in costs {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {:.2} | {:.2} |",
            cost.shape, cost.write, cost.bytes, cost.managed_fields, cost.api_server, cost.etcd
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_makes_the_next_version_of_the_last() {
        let before = json!({"same": 1, "gone": 2, "list": [1], "inner": {"same": 1, "other": 2}});
        let after = json!({"same": 1, "list": [1, 2], "inner": {"same": 1, "other": 3}, "new": {"a": 1}});
        let patch = json!({"gone": null, "list": [1, 2], "inner": {"other": 3}, "new": {"a": 1}});
        assert_eq!(difference(&before, &after), Some(patch));
        assert_eq!(difference(&after, &after), None);
    }
}
