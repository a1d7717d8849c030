//! Carries out what goes wrong with steps: each begins when the pod of the step's Job starts, before kubectl acts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kubernaut_crds::names::LABEL_EXECUTION_UID;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::happened::{Cause, Met, Notes};
use super::step_faults::{StepFault, StepFaultKind};
use super::steps::{Target, text};
use super::{STRANGER, api_of, create};
use embedded_cluster::{EmbeddedCluster, PodScript, PodScriptFunction, User};

/// What stands in the way for the time of a fault.
const NAME: &str = "simulated";
/// How often a Deployment is looked at until it has been scaled.
const LOOK: Duration = Duration::from_millis(250);
/// So often; a step that has not scaled it by then has failed.
const LOOKS: u32 = 400;

/// The faults of steps in one run.
#[derive(Clone)]
pub(super) struct Night {
    faults: Arc<[StepFault]>,
    notes: Notes,
    /// Which attempts of each execution have begun, by the uids of their pods.
    begun: Arc<Mutex<BTreeMap<usize, Vec<String>>>>,
    /// For each fault.
    signals: Arc<[Notify]>,
}

impl Night {
    pub(super) fn new(faults: &[StepFault], notes: Notes) -> Self {
        Self {
            faults: faults.into(),
            notes,
            begun: Arc::default(),
            signals: faults.iter().map(|_| Notify::new()).collect(),
        }
    }

    /// What becomes of each pod: as the faults say, else as this function does.
    pub(super) fn pods(&self, otherwise: PodScriptFunction) -> PodScriptFunction {
        let night = self.clone();
        Arc::new(move |pod| {
            let script = if is_worker(pod) {
                night.worker(pod)
            } else {
                night.new_pod(pod)
            };
            script.or_else(|| otherwise(pod))
        })
    }

    fn worker(&self, pod: &Value) -> Option<PodScript> {
        let uid = text(&pod["metadata"]["uid"]);
        let mut script = None;
        for (index, fault) in self.faults.iter().enumerate() {
            if !fault.step.made(pod) {
                continue;
            }
            let before = {
                let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
                let attempts = begun.entry(index).or_default();
                if !attempts.iter().any(|known| known == uid) {
                    attempts.push(uid.to_owned());
                }
                attempts.iter().position(|known| known == uid).unwrap_or(0)
            };
            self.signals[index].notify_one();
            if script.is_none() {
                script = fault.of_worker(u64::try_from(before).unwrap_or(u64::MAX));
                if script.is_some() {
                    self.notes.note(Cause::Step(index), || Met::object(pod));
                }
            }
        }
        script
    }

    fn new_pod(&self, pod: &Value) -> Option<PodScript> {
        self.faults.iter().enumerate().find_map(|(index, fault)| {
            let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
            if !begun.contains_key(&index) || !fault.step.target.brings(pod) {
                return None;
            }
            let script = fault.of_new_pods()?;
            self.notes.note(Cause::Step(index), || Met::object(pod));
            Some(script)
        })
    }

    /// Does what has to be done in the cluster itself, each when its step begins.
    pub(super) fn begin(&self, cluster: &EmbeddedCluster) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for index in 0..self.faults.len() {
            let acts = matches!(
                self.faults[index].kind,
                StepFaultKind::BudgetBlocks
                    | StepFaultKind::QuotaFull
                    | StepFaultKind::HpaTakesBack
                    | StepFaultKind::NodeNotReady
                    | StepFaultKind::TargetChanges
            );
            if acts {
                tasks.spawn(self.clone().act(index, cluster.clone()));
            }
        }
        tasks
    }

    async fn act(self, index: usize, cluster: EmbeddedCluster) {
        let client = cluster.client(User {
            name: STRANGER.to_owned(),
            ..User::admin()
        });
        self.signals[index].notified().await;
        let fault = &self.faults[index];
        let done = match (fault.kind, &fault.step.target) {
            (StepFaultKind::BudgetBlocks, _) => self.block(&cluster, &client, fault).await,
            (StepFaultKind::QuotaFull, Target::Deployment { namespace, .. }) => {
                let used = cluster.shared_objects();
                let used = used.iter().filter(|object| {
                    object["kind"] == "Pod" && object["metadata"]["namespace"] == namespace.as_str()
                });
                let hard = used.count().to_string();
                let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota",
                    "metadata": {"name": NAME, "namespace": namespace}, "spec": {"hard": {"pods": hard}}});
                put(&client, quota).await
            }
            (
                StepFaultKind::HpaTakesBack,
                Target::Deployment {
                    namespace,
                    name,
                    replicas,
                },
            ) => take_back(&client, namespace, name, *replicas).await,
            (StepFaultKind::NodeNotReady, Target::Node { name }) => {
                return self.keep_unready(index, &cluster, &client, name).await;
            }
            (StepFaultKind::TargetChanges, Target::Deployment { namespace, name, .. }) => {
                let edited = json!({"annotations": {EDITED: "yes"}});
                let patch = json!({"metadata": edited, "spec": {"template": {"metadata": edited}}});
                merge(&deployment(&client, namespace, name), name, &patch).await
            }
            _ => None,
        };
        let Some(done) = done else { return };
        self.notes.note(Cause::Step(index), || done.met);
        if let (Some(lasts), Some(undo)) = (fault.lasts, done.undo) {
            tokio::time::sleep(lasts).await;
            undo.carry_out(&client).await;
        }
    }

    /// The node does not answer: what was to stop there is not confirmed. Only that is an effect.
    async fn keep_unready(&self, index: usize, cluster: &EmbeddedCluster, client: &Client, node: &str) {
        let lasts = self.faults[index].lasts;
        let begun = Instant::now();
        if !set_ready(client, node, "Unknown").await {
            return;
        }
        let held = || {
            cluster.shared_objects().iter().any(|object| {
                object["kind"] == "Pod"
                    && object["spec"]["nodeName"] == node
                    && object["metadata"]["deletionTimestamp"].is_string()
            })
        };
        let mut before = false;
        for _ in 0..LOOKS {
            tokio::time::sleep(LOOK).await;
            let now = held();
            if now && before {
                self.notes.note(Cause::Step(index), || Met::Object {
                    kind: "Node".to_owned(),
                    namespace: String::new(),
                    name: node.to_owned(),
                });
                break;
            }
            before = now;
            if lasts.is_some_and(|lasts| begun.elapsed() >= lasts) {
                break;
            }
        }
        if let Some(lasts) = lasts {
            tokio::time::sleep_until(begun + lasts).await;
            let _ = set_ready(client, node, "True").await;
        }
    }

    /// No pod that the step evicts may go.
    async fn block(&self, cluster: &EmbeddedCluster, client: &Client, fault: &StepFault) -> Option<Done> {
        let (namespace, labels) = fault.evicts.first()?;
        let objects = cluster.shared_objects();
        // A pod with two budgets can't be evicted at all: the one that is there counts.
        let there = objects.iter().find(|object| {
            let wanted = object["spec"]["selector"]["matchLabels"].as_object();
            object["kind"] == "PodDisruptionBudget"
                && object["metadata"]["namespace"] == namespace.as_str()
                && wanted.is_some_and(|wanted| {
                    wanted
                        .iter()
                        .all(|(key, value)| labels.iter().any(|(k, v)| k == key && value == v))
                })
        });
        let Some(there) = there else {
            let wanted: serde_json::Map<String, Value> = labels
                .iter()
                .map(|(key, value)| (key.clone(), json!(value)))
                .collect();
            let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
                "metadata": {"name": NAME, "namespace": namespace},
                "spec": {"maxUnavailable": 0, "selector": {"matchLabels": wanted}}});
            return put(client, budget).await;
        };
        let api = api_of(client, there);
        let name = text(&there["metadata"]["name"]);
        let spec = json!({"maxUnavailable": 0, "minAvailable": null});
        api.patch(
            name,
            &PatchParams::default(),
            &Patch::Merge(json!({"spec": spec})),
        )
        .await
        .ok()?;
        let before = json!({"maxUnavailable": there["spec"]["maxUnavailable"], "minAvailable": there["spec"]["minAvailable"]});
        Some(Done {
            met: Met::object(there),
            undo: Some(Undo::Patch(Value::clone(there), json!({"spec": before}))),
        })
    }
}

/// Set on what somebody changes meanwhile.
pub(crate) const EDITED: &str = "example.com/edited";

/// What was done, and how it is taken back.
struct Done {
    met: Met,
    undo: Option<Undo>,
}

enum Undo {
    Delete(Value),
    Patch(Value, Value),
}

impl Undo {
    // What is gone by now needs no undoing.
    async fn carry_out(self, client: &Client) {
        match self {
            Self::Delete(object) => {
                let _ = api_of(client, &object)
                    .delete(text(&object["metadata"]["name"]), &DeleteParams::default())
                    .await;
            }
            Self::Patch(object, patch) => {
                let _ = api_of(client, &object)
                    .patch(
                        text(&object["metadata"]["name"]),
                        &PatchParams::default(),
                        &Patch::Merge(patch),
                    )
                    .await;
            }
        }
    }
}

async fn put(client: &Client, object: Value) -> Option<Done> {
    create(client, &object).await.ok()?;
    Some(Done {
        met: Met::object(&object),
        undo: Some(Undo::Delete(object)),
    })
}

fn deployment(client: &Client, namespace: &str, name: &str) -> Api<DynamicObject> {
    api_of(
        client,
        &json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": namespace, "name": name}}),
    )
}

async fn merge(api: &Api<DynamicObject>, name: &str, patch: &Value) -> Option<Done> {
    let changed = api
        .patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .ok()?;
    let changed = serde_json::to_value(changed).ok()?;
    Some(Done {
        met: Met::object(&changed),
        undo: None,
    })
}

/// Waits until the step has scaled it, and sets the replicas back.
async fn take_back(client: &Client, namespace: &str, name: &str, wanted: Option<i64>) -> Option<Done> {
    let api = deployment(client, namespace, name);
    let replicas = |object: &DynamicObject| object.data["spec"]["replicas"].as_i64();
    let before = replicas(&api.get(name).await.ok()?);
    if before == wanted {
        return None;
    }
    for _ in 0..LOOKS {
        tokio::time::sleep(LOOK).await;
        if replicas(&api.get(name).await.ok()?) == wanted {
            return merge(&api, name, &json!({"spec": {"replicas": before}})).await;
        }
    }
    None
}

/// Whether it could be done.
async fn set_ready(client: &Client, name: &str, status: &str) -> bool {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
    let api = api_of(client, &node);
    let Ok(there) = api.get(name).await else {
        return false;
    };
    let mut conditions = there.data["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    conditions.retain(|condition| condition["type"] != "Ready");
    conditions.push(json!({"type": "Ready", "status": status, "reason": "Simulated", "message": ""}));
    let patch = json!({"status": {"conditions": conditions}});
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .is_ok()
}

/// Whether it is the pod of a step's Job.
pub(super) fn is_worker(pod: &Value) -> bool {
    pod["spec"]["serviceAccountName"].is_string()
        && pod["metadata"]["ownerReferences"][0]["kind"] == "Job"
        && pod["metadata"]["labels"][LABEL_EXECUTION_UID].is_string()
}
