//! What strangers, the API server and the network do at certain times.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use kube::Client;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::runtime::watcher;
use kubernaut_crds::names::{self, EXECUTION_API_VERSION};
use kubernaut_machines::render::job_name;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::controllers::Controllers;
use super::happened::{Cause, Met, Notes};
use super::{Disturbance, PlannedFault, STRANGER, api_of, create};
use embedded_cluster::SeededRng;
use embedded_cluster::{EmbeddedCluster, User};

const QUOTA: &str = "simulated";
/// So long somebody waits for an execution to make a Job for.
const SQUATTERS_PATIENCE: Duration = Duration::from_secs(5);

/// One thing that is done at its time.
enum Act {
    Do(usize, PlannedFault),
    EndQuota,
}

/// Does what the plan says, each at its time.
pub(super) async fn meddle(
    cluster: EmbeddedCluster,
    controllers: Controllers,
    plan: Vec<PlannedFault>,
    executor: String,
    notes: Notes,
    began: Instant,
) {
    let client = cluster.client(User {
        name: STRANGER.to_owned(),
        ..User::admin()
    });
    let mut acts: Vec<(Duration, Act)> = Vec::new();
    for (index, planned) in plan.into_iter().enumerate() {
        match planned {
            PlannedFault::Quota { at, lasts, .. } => {
                acts.push((at, Act::Do(index, planned)));
                acts.push((at + lasts, Act::EndQuota));
            }
            PlannedFault::CutWatches { at, .. }
            | PlannedFault::Stranger { at, .. }
            | PlannedFault::Partition { at, .. } => {
                acts.push((at, Act::Do(index, planned)));
            }
            _ => {}
        }
    }
    acts.sort_by_key(|(at, _)| *at);
    let mut squatters = JoinSet::new();
    for (at, act) in acts {
        tokio::time::sleep_until(began + at).await;
        match act {
            Act::EndQuota => {
                let quota = quota(&executor, "pods");
                let _ = api_of(&client, &quota)
                    .delete(QUOTA, &DeleteParams::default())
                    .await;
            }
            Act::Do(index, PlannedFault::CutWatches { compacted, .. }) => {
                notes.note(Cause::PlannedFault(index), || Met::Everything);
                if compacted {
                    cluster.compact();
                }
                cluster.drop_watches();
            }
            Act::Do(index, PlannedFault::Quota { resource, .. }) => {
                if create(&client, &quota(&executor, resource)).await.is_ok() {
                    notes.note(Cause::PlannedFault(index), || Met::Everything);
                }
            }
            Act::Do(index, PlannedFault::Partition { lasts, .. }) => {
                controllers.cut_off(lasts);
                notes.note(Cause::PlannedFault(index), || Met::Everything);
            }
            // These take their time.
            Act::Do(
                index,
                PlannedFault::Stranger {
                    disturbance:
                        disturbance @ (Disturbance::TakeNameJob
                        | Disturbance::KeepDeletedWorkflow
                        | Disturbance::Pause),
                    choice,
                    ..
                },
            ) => {
                let (cluster, client) = (cluster.clone(), client.clone());
                let done = match disturbance {
                    Disturbance::TakeNameJob => squat(client, choice, executor.clone()).boxed(),
                    Disturbance::Pause => pause(cluster, client, choice).boxed(),
                    _ => keep_deleted(cluster, client, choice).boxed(),
                };
                let notes = notes.clone();
                squatters.spawn(async move {
                    if let Some(object) = done.await {
                        notes.note(Cause::PlannedFault(index), || Met::object(&object));
                    }
                });
            }
            Act::Do(
                index,
                PlannedFault::Stranger {
                    disturbance, choice, ..
                },
            ) => {
                if let Some(object) = do_it(&cluster, &client, disturbance, choice).await {
                    notes.note(Cause::PlannedFault(index), || Met::object(&object));
                }
            }
            Act::Do(..) => {}
        }
    }
    squatters.join_all().await;
}

fn quota(namespace: &str, resource: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": QUOTA, "namespace": namespace},
           "spec": {"hard": {resource: "0"}}})
}

/// What the disturbance is done to.
fn kind_of(disturbance: Disturbance) -> &'static str {
    match disturbance {
        Disturbance::DeleteExecution
        | Disturbance::TakeNameJob
        | Disturbance::AnnotateExecution
        | Disturbance::StripFinalizer => "KubernetesExecution",
        Disturbance::DeleteWorkflow
        | Disturbance::TakeNameExecution
        | Disturbance::DeleteNamespace
        | Disturbance::Pause
        | Disturbance::Decide
        | Disturbance::Cancel
        | Disturbance::RollBack
        | Disturbance::KeepDeletedWorkflow => "WorkflowExecution",
        Disturbance::Withdraw => "Approval",
        Disturbance::DeleteJob => "Job",
        Disturbance::DeletePod => "Pod",
        Disturbance::EditTarget | Disturbance::ScaleTarget | Disturbance::DeleteTarget => "Deployment",
    }
}

/// What it was done to; none when nothing of the kind was there.
async fn do_it(
    cluster: &EmbeddedCluster,
    client: &Client,
    disturbance: Disturbance,
    choice: u64,
) -> Option<Value> {
    let kind = kind_of(disturbance);
    let found: Vec<Arc<Value>> = cluster
        .shared_objects()
        .into_iter()
        .filter(|object| object["kind"] == kind)
        .filter(|object| kind != "Pod" || object["metadata"]["ownerReferences"][0]["kind"] == "Job")
        .collect();
    if found.is_empty() {
        return None;
    }
    let mut chance = SeededRng::new(choice);
    let object = chance.pick(&found).clone();
    let api = api_of(client, &object);
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    // That it is gone by now, or there, is as good.
    match disturbance {
        Disturbance::EditTarget => {
            let patch = json!({"metadata": {"annotations": {"example.com/edited": choice.to_string()}},
                               "spec": {"template": {"metadata": {"annotations": {"example.com/edited": choice.to_string()}}}}});
            api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
                .await
                .ok()?;
        }
        Disturbance::ScaleTarget => {
            // As many as no workflow asks for.
            let patch = json!({"spec": {"replicas": 11 + choice % 9}});
            api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
                .await
                .ok()?;
        }
        Disturbance::AnnotateExecution => {
            let patch = json!({"metadata": {"annotations": {"example.com/seen": choice.to_string()}}});
            api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
                .await
                .ok()?;
        }
        Disturbance::StripFinalizer => {
            let _ = api.patch(name, &PatchParams::default(), &finalizers(&[])).await;
            let _ = api.delete(name, &DeleteParams::background()).await;
        }
        Disturbance::DeleteExecution
        | Disturbance::DeleteWorkflow
        | Disturbance::DeleteJob
        | Disturbance::DeletePod
        | Disturbance::Withdraw
        | Disturbance::DeleteTarget => {
            api.delete(name, &DeleteParams::background()).await.ok()?;
        }
        Disturbance::DeleteNamespace => {
            let namespace = &object["metadata"]["namespace"];
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
            let name = namespace["metadata"]["name"].as_str().unwrap_or_default();
            let _ = api_of(client, &namespace)
                .delete(name, &DeleteParams::background())
                .await;
        }
        Disturbance::TakeNameExecution => {
            let there = cluster.shared_objects();
            let steps = object["spec"]["workflowDefinition"]["steps"].as_array();
            let free: Vec<Value> = steps
                .into_iter()
                .flatten()
                .map(|step| squatting_execution(&object, &step["stepNumber"]))
                .filter(|squatter| there.iter().all(|other| !is_of_that_name(other, squatter)))
                .collect();
            if free.is_empty() {
                return None;
            }
            let squatter = chance.pick(&free);
            create(client, squatter).await.ok()?;
            return Some(squatter.clone());
        }
        Disturbance::Decide => {
            let approval = decision(&object, &mut chance);
            create(client, &approval).await.ok()?;
            return Some(approval);
        }
        Disturbance::Cancel | Disturbance::RollBack => {
            let shutdown = if disturbance == Disturbance::Cancel {
                "Cancel"
            } else {
                "Rollback"
            };
            let patch = Patch::Merge(json!({"spec": {"shutdown": shutdown}}));
            api.patch(name, &PatchParams::default(), &patch).await.ok()?;
        }
        Disturbance::TakeNameJob | Disturbance::KeepDeletedWorkflow | Disturbance::Pause => {}
    }
    Some(Value::clone(&object))
}

/// An Approval of a workflow; one of four is of no use, and one of eight is a rejection.
fn decision(workflow: &Value, chance: &mut SeededRng) -> Value {
    let metadata = &workflow["metadata"];
    let creator = metadata["annotations"][names::ANNOTATION_CREATED_BY].clone();
    let approver = json!(*chance.pick(&["ana", "bob", "cem"]));
    let mut spec = json!({
        "objectRef": {"kind": "WorkflowExecution", "name": metadata["name"], "uid": metadata["uid"]},
        "decision": if chance.one_in(8) { "Rejected" } else { "Approved" },
        "approver": approver, "reason": "looked at",
    });
    match chance.below(16) {
        0 | 1 if creator.is_string() => spec["approver"] = creator,
        2 => spec["objectRef"]["uid"] = json!("another"),
        3 => spec["planDigest"] = json!("0".repeat(64)),
        _ => {}
    }
    let name = format!("decision-{}", chance.draw() % 1_000_000);
    json!({"apiVersion": "workflow.kubernaut.io/v1", "kind": "Approval",
           "metadata": {"name": name, "namespace": metadata["namespace"]}, "spec": spec})
}

fn finalizers(names: &[&str]) -> Patch<Value> {
    Patch::Merge(json!({"metadata": {"finalizers": names}}))
}

/// Deletes a workflow that a finalizer keeps for a while.
async fn keep_deleted(cluster: EmbeddedCluster, client: Client, choice: u64) -> Option<Value> {
    let mut chance = SeededRng::new(choice);
    let kind = kind_of(Disturbance::KeepDeletedWorkflow);
    let mut found = cluster.shared_objects();
    found.retain(|object| object["kind"] == kind);
    if found.is_empty() {
        return None;
    }
    let workflow = chance.pick(&found).clone();
    let api = api_of(&client, &workflow);
    let name = workflow["metadata"]["name"].as_str().unwrap_or_default();
    let parameters = PatchParams::default();
    let _ = api
        .patch(name, &parameters, &finalizers(&["example.com/kept"]))
        .await;
    let _ = api.delete(name, &DeleteParams::background()).await;
    tokio::time::sleep(Duration::from_secs(chance.below(20) * chance.below(15))).await;
    let _ = api.patch(name, &parameters, &finalizers(&[])).await;
    Some(Value::clone(&workflow))
}

/// Suspends a workflow, and lets it go on after a while.
async fn pause(cluster: EmbeddedCluster, client: Client, choice: u64) -> Option<Value> {
    let mut chance = SeededRng::new(choice);
    let kind = kind_of(Disturbance::Pause);
    let mut found = cluster.shared_objects();
    found.retain(|object| object["kind"] == kind);
    if found.is_empty() {
        return None;
    }
    let workflow = chance.pick(&found).clone();
    let api = api_of(&client, &workflow);
    let name = workflow["metadata"]["name"].as_str().unwrap_or_default();
    let parameters = PatchParams::default();
    let suspend = |suspend: bool| Patch::Merge(json!({"spec": {"suspend": suspend}}));
    api.patch(name, &parameters, &suspend(true)).await.ok()?;
    tokio::time::sleep(Duration::from_secs(chance.below(20) * chance.below(15))).await;
    // That it is gone by now is as good.
    let _ = api.patch(name, &parameters, &suspend(false)).await;
    Some(Value::clone(&workflow))
}

fn is_of_that_name(object: &Value, other: &Value) -> bool {
    ["name", "namespace"]
        .iter()
        .all(|field| object["metadata"][field] == other["metadata"][field])
        && object["kind"] == other["kind"]
}

/// Makes a Job of the name that an execution's next one will have: as soon as something happens to the execution, for between
/// its creation and its Job there is no time.
async fn squat(client: Client, choice: u64, executor: String) -> Option<Value> {
    let mut chance = SeededRng::new(choice);
    let kind = json!({"apiVersion": EXECUTION_API_VERSION, "kind": "KubernetesExecution"});
    let executions = watcher(api_of(&client, &kind), watcher::Config::default());
    let changes = executions.filter_map(|event| {
        std::future::ready(match event {
            Ok(watcher::Event::Apply(execution) | watcher::Event::InitApply(execution)) => {
                serde_json::to_value(execution).ok()
            }
            _ => None,
        })
    });
    let mut change = std::pin::pin!(changes.skip(usize::try_from(chance.below(6)).unwrap_or(0)));
    let execution = tokio::time::timeout(SQUATTERS_PATIENCE, change.next())
        .await
        .ok()??;
    let job = squatting_job(&execution, &executor, &mut chance);
    create(&client, &job).await.ok()?;
    Some(job)
}

/// An execution that anybody may make, of the name of a step's.
fn squatting_execution(workflow: &Value, number: &Value) -> Value {
    let name = workflow["metadata"]["name"].as_str().unwrap_or_default();
    json!({
        "apiVersion": EXECUTION_API_VERSION, "kind": "KubernetesExecution",
        "metadata": {"name": format!("{name}-step-{number}"), "namespace": workflow["metadata"]["namespace"]},
        "spec": {"stepNumber": number, "action": "uncordon-node", "maxRetries": 0, "approvalReceived": true,
                 "parameters": {"uncordonNode": {"node": "node-2"}}},
    })
}

/// A Job of the name of the execution's next one; half of the time it pretends to be it.
fn squatting_job(execution: &Value, executor: &str, chance: &mut SeededRng) -> Value {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let uid = text(&execution["metadata"]["uid"]);
    let last = execution["status"]["attempts"]
        .as_array()
        .and_then(|attempts| attempts.last())
        .and_then(|attempt| attempt["attempt"].as_i64());
    let next = i32::try_from(last.map_or(0, |last| last + 1)).unwrap_or(0) + i32::from(last.is_none());
    let name = job_name(&text(&execution["metadata"]["name"]), &uid, next);
    let labels = if chance.one_in(2) {
        json!({"kubernaut.io/execution-uid": uid, "kubernaut.io/attempt": next.to_string(),
               "kubernaut.io/action": execution["spec"]["action"]})
    } else {
        json!({})
    };
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": name, "namespace": executor, "labels": labels},
        "spec": {"backoffLimit": 0, "template": {"spec": {"restartPolicy": "Never",
                 "containers": [{"name": "squatter", "image": "example/squatter:1"}]}}},
    })
}
