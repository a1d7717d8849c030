//! What strangers, the API server and the network do at certain times.

use std::time::Duration;

use kube::Client;
use kube::api::{DeleteParams, Patch, PatchParams};
use kubernaut_machines::render::job_name;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::controllers::Controllers;
use super::{Deed, Planned, STRANGER, api_of, create};
use crate::chance::Chance;
use crate::memory::{MemoryCluster, User};

const QUOTA: &str = "simulated";

/// One thing that is done at its time.
enum Act {
    Do(Planned),
    EndQuota,
}

/// Does what the plan says, each at its time.
pub(super) async fn meddle(
    cluster: MemoryCluster,
    controllers: Controllers,
    plan: Vec<Planned>,
    executor: String,
    began: Instant,
) {
    let client = cluster.client(User {
        name: STRANGER.to_owned(),
        ..User::admin()
    });
    let mut acts: Vec<(Duration, Act)> = Vec::new();
    for planned in plan {
        match planned {
            Planned::Quota { at, lasts, .. } => {
                acts.push((at, Act::Do(planned)));
                acts.push((at + lasts, Act::EndQuota));
            }
            Planned::CutWatches { at, .. } | Planned::Stranger { at, .. } | Planned::Partition { at, .. } => {
                acts.push((at, Act::Do(planned)));
            }
            _ => {}
        }
    }
    acts.sort_by_key(|(at, _)| *at);
    for (at, act) in acts {
        tokio::time::sleep_until(began + at).await;
        match act {
            Act::EndQuota => {
                let quota = quota(&executor, "pods");
                let _ = api_of(&client, &quota)
                    .delete(QUOTA, &DeleteParams::default())
                    .await;
            }
            Act::Do(Planned::CutWatches { compacted, .. }) => {
                if compacted {
                    cluster.compact();
                }
                cluster.drop_watches();
            }
            Act::Do(Planned::Quota { resource, .. }) => {
                let _ = create(&client, &quota(&executor, resource)).await;
            }
            Act::Do(Planned::Partition { lasts, .. }) => controllers.cut_off(lasts),
            Act::Do(Planned::Stranger { deed, choice, .. }) => {
                do_it(&cluster, &client, deed, choice, &executor).await;
            }
            Act::Do(_) => {}
        }
    }
}

fn quota(namespace: &str, resource: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": QUOTA, "namespace": namespace},
           "spec": {"hard": {resource: "0"}}})
}

/// What the deed is done to.
fn kind_of(deed: Deed) -> &'static str {
    match deed {
        Deed::DeleteExecution | Deed::SquatJob => "KubernetesExecution",
        Deed::DeleteWorkflow | Deed::SquatExecution | Deed::DeleteNamespace => "WorkflowExecution",
        Deed::DeleteJob => "Job",
        Deed::DeletePod => "Pod",
        Deed::EditTarget | Deed::DeleteTarget => "Deployment",
    }
}

async fn do_it(cluster: &MemoryCluster, client: &Client, deed: Deed, choice: u64, executor: &str) {
    let kind = kind_of(deed);
    let found: Vec<Value> = cluster
        .objects()
        .into_iter()
        .filter(|object| object["kind"] == kind)
        .filter(|object| kind != "Pod" || object["metadata"]["ownerReferences"][0]["kind"] == "Job")
        .collect();
    if found.is_empty() {
        return;
    }
    let mut chance = Chance::new(choice);
    let object = chance.pick(&found).clone();
    let api = api_of(client, &object);
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    // That it is gone by now, or there, is as good.
    match deed {
        Deed::EditTarget => {
            let patch = json!({"metadata": {"annotations": {"example.com/edited": choice.to_string()}},
                               "spec": {"template": {"metadata": {"annotations": {"example.com/edited": choice.to_string()}}}}});
            let _ = api
                .patch(name, &PatchParams::default(), &Patch::Merge(patch))
                .await;
        }
        Deed::DeleteExecution
        | Deed::DeleteWorkflow
        | Deed::DeleteJob
        | Deed::DeletePod
        | Deed::DeleteTarget => {
            let _ = api.delete(name, &DeleteParams::background()).await;
        }
        Deed::DeleteNamespace => {
            let namespace = &object["metadata"]["namespace"];
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
            let name = namespace["metadata"]["name"].as_str().unwrap_or_default();
            let _ = api_of(client, &namespace)
                .delete(name, &DeleteParams::background())
                .await;
        }
        Deed::SquatExecution => {
            let steps = object["spec"]["workflowDefinition"]["steps"].as_array();
            let number = chance.below(steps.map_or(1, Vec::len) as u64) + 1;
            let _ = create(client, &squatting_execution(&object, number)).await;
        }
        Deed::SquatJob => {
            let _ = create(client, &squatting_job(&object, executor, &mut chance)).await;
        }
    }
}

/// An execution that anybody may make, of the name of a step's.
fn squatting_execution(workflow: &Value, number: u64) -> Value {
    let name = workflow["metadata"]["name"].as_str().unwrap_or_default();
    json!({
        "apiVersion": "kubernetesexecution.kubernaut.io/v1", "kind": "KubernetesExecution",
        "metadata": {"name": format!("{name}-step-{number}"), "namespace": workflow["metadata"]["namespace"]},
        "spec": {"stepNumber": number, "action": "uncordon-node", "maxRetries": 0,
                 "parameters": {"uncordonNode": {"node": "node-2"}}},
    })
}

/// A Job of the name of the execution's next one; half of the time it pretends to be it.
fn squatting_job(execution: &Value, executor: &str, chance: &mut Chance) -> Value {
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
