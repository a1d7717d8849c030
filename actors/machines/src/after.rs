//! The outcome: is it what was wanted?

use std::collections::BTreeSet;
use std::time::Duration;

use kubernaut_crds::{Action, Attempt, KubernetesExecution, names};
use serde_json::Value;

use crate::actions::container_rule;
use crate::applied::has_applied;
use crate::before::{image_of, patched_images, target_read};
use crate::parameters::Checked;
use crate::reads::{Facts, Read};

/// What came before the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterWhat {
    /// kubectl ended well.
    Success,
    /// kubectl failed, or never ran.
    Failure,
    /// The Job vanished.
    Lost,
}

/// Whether the outcome is what was wanted (the executor's specification, 6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Postcondition {
    /// It is.
    Holds {
        /// The part that changed, in words.
        after: String,
    },
    /// It is not, and may become so.
    NotYet {
        /// What is missing.
        why: String,
    },
    /// It is not, and will not become so.
    Never {
        /// What went wrong.
        why: String,
    },
    /// Nothing that may be read shows it.
    Unprovable {
        /// Why not.
        why: String,
    },
}

/// What still has to be read for [`postcondition`], given what was read; empty when nothing.
pub fn reads_after(checked: &Checked, attempt: &Attempt, facts: &Facts) -> Vec<Read> {
    let mut reads: BTreeSet<Read> = match &checked.action {
        Action::DeletePod(delete) => {
            let pods = attempt
                .pods
                .iter()
                .map(|pod| Read::get("v1", "Pod", Some(&delete.namespace), &pod.name));
            let controllers = attempt.pods.iter().filter_map(controller_read);
            pods.chain(controllers).collect()
        }
        Action::DrainNode(drain) => target_read(checked)
            .into_iter()
            .chain([Read::pods_on(&drain.node)])
            .collect(),
        Action::ScaleDeployment(_)
        | Action::RolloutRestart(_)
        | Action::PatchDeployment(_)
        | Action::CordonNode(_)
        | Action::UncordonNode(_)
        | Action::UpdateConfigMap(_)
        | Action::UpdateSecret(_)
        | Action::ApplyManifest(_)
        | Action::Undo(_) => target_read(checked).into_iter().collect(),
    };
    reads.retain(|read| !facts.contains_key(read));
    reads.into_iter().collect()
}

fn controller_read(pod: &kubernaut_crds::PodRef) -> Option<Read> {
    let controller = pod.controller.as_ref()?;
    let (api_version, kind) = (controller.api_version.as_deref()?, controller.kind.as_deref()?);
    // Other controllers say nothing of a wanted count.
    matches!(
        kind,
        "ReplicaSet" | "StatefulSet" | "DaemonSet" | "ReplicationController"
    )
    .then(|| {
        Read::get(
            api_version,
            kind,
            controller.namespace.as_deref(),
            &controller.name,
        )
    })
}

/// How long a rollout may take by its own deadline, where a Deployment was read: progressDeadlineSeconds + 30 s.
pub fn rollout_patience(facts: &Facts) -> Option<Duration> {
    let deployment = facts
        .iter()
        .find(|(read, _)| matches!(read, Read::Get { kind, .. } if kind == "Deployment"))
        .and_then(|(_, found)| found.first())?;
    let seconds = deployment["spec"]["progressDeadlineSeconds"]
        .as_u64()
        .unwrap_or(600)
        .min(24 * 3600);
    Some(Duration::from_secs(seconds + 30))
}

fn holds(after: impl Into<String>) -> Postcondition {
    Postcondition::Holds { after: after.into() }
}

fn not_yet(why: impl Into<String>) -> Postcondition {
    Postcondition::NotYet { why: why.into() }
}

/// Compares what was read with what was wanted. `said` are kubectl's words, where they are known.
pub fn postcondition(
    execution: &KubernetesExecution,
    checked: &Checked,
    attempt: &Attempt,
    facts: &Facts,
    what: AfterWhat,
    said: Option<&str>,
) -> Postcondition {
    let none = Value::Null;
    let object = target_read(checked)
        .and_then(|read| facts.get(&read))
        .and_then(|found| found.first());
    let missing = object.is_none();
    let object = object.unwrap_or(&none);
    let gone = || Postcondition::Never {
        why: "the target does not exist any more".to_owned(),
    };
    match &checked.action {
        Action::UpdateSecret(_) if what == AfterWhat::Success => holds("kubectl's success is the proof"),
        Action::UpdateSecret(_) => Postcondition::Unprovable {
            why: "nobody here may read Secrets".to_owned(),
        },
        Action::DeletePod(delete) => deleted(&delete.namespace, attempt, facts),
        _ if missing => gone(),
        Action::ScaleDeployment(scale) => {
            let wanted = i64::from(scale.replicas);
            let replicas = object["spec"]["replicas"].as_i64().unwrap_or(1);
            if replicas != wanted {
                return not_yet(format!("spec.replicas is {replicas}, not {wanted}"));
            }
            if let Some(failed) = stuck_rollout(object) {
                return failed;
            }
            let ready = object["status"]["readyReplicas"].as_i64().unwrap_or(0);
            let total = object["status"]["replicas"].as_i64().unwrap_or(0);
            if !is_observed(object) {
                return not_yet("the controller of the Deployment has not seen the change");
            }
            if ready != wanted || total != wanted {
                return not_yet(format!("{ready} of {wanted} replicas are ready; {total} exist"));
            }
            holds(format!("replicas: {wanted}"))
        }
        Action::RolloutRestart(_) => {
            let by = object
                .pointer("/spec/template/metadata/annotations")
                .map(|map| &map[names::ANNOTATION_RESTARTED_BY]);
            if by.and_then(Value::as_str) != execution.metadata.uid.as_deref() {
                return not_yet("the pod template does not carry this restart");
            }
            rolled_out(object, "restarted")
        }
        Action::PatchDeployment(patch) => {
            if container_rule(&execution.spec.action) {
                for (container, image) in patched_images(&patch.patch) {
                    let now = image_of(object, &container).unwrap_or("(no such container)");
                    if now != image {
                        return not_yet(format!("the image of {container} is {now}"));
                    }
                }
                let images: Vec<String> = patched_images(&patch.patch)
                    .iter()
                    .map(|(c, image)| format!("image of {c}: {image}"))
                    .collect();
                return rolled_out(object, &images.join(", "));
            }
            if what != AfterWhat::Success {
                return Postcondition::Unprovable {
                    why: "nothing shows that a patch took effect".to_owned(),
                };
            }
            let generation = object["metadata"]["generation"].as_i64();
            let grew = generation > attempt.target_generation;
            // Where kubectl's words are lost, its exit code is the proof.
            let unchanged = said.is_none_or(|said| said.contains("(no change)") || said.contains("patched"));
            if !grew && !unchanged {
                return not_yet("the Deployment did not change");
            }
            rolled_out(object, "patched")
        }
        Action::CordonNode(_) => unschedulable(object, true),
        Action::UncordonNode(_) => unschedulable(object, false),
        Action::DrainNode(drain) => {
            if object["spec"]["unschedulable"] != true {
                return not_yet("the node is schedulable");
            }
            let pods = facts
                .get(&Read::pods_on(&drain.node))
                .map(Vec::as_slice)
                .unwrap_or_default();
            let left: Vec<&str> = pods
                .iter()
                .filter(|pod| is_evictable(pod))
                .filter_map(|pod| pod["metadata"]["name"].as_str())
                .collect();
            match left.first() {
                None => holds("cordoned and empty"),
                Some(first) => not_yet(format!("{} pods are left, such as {first}", left.len())),
            }
        }
        Action::UpdateConfigMap(update) => {
            match update
                .data
                .iter()
                .find(|(key, value)| object["data"][key.as_str()] != value.as_str())
            {
                Some((key, _)) => not_yet(format!("key {key} has another value")),
                None => holds(format!(
                    "keys set: {}",
                    update.data.keys().cloned().collect::<Vec<_>>().join(", ")
                )),
            }
        }
        Action::ApplyManifest(_) => match &checked.manifest {
            Some(manifest) if has_applied(object, &manifest.object, what == AfterWhat::Success) => {
                holds("applied")
            }
            Some(_) | None => not_yet("the object does not have all that was applied"),
        },
        Action::Undo(_) if what == AfterWhat::Success => holds("kubectl's success is the proof"),
        Action::Undo(_) => Postcondition::Unprovable {
            why: "nothing shows that the undo took effect".to_owned(),
        },
    }
}

fn is_observed(object: &Value) -> bool {
    object["status"]["observedGeneration"].as_i64().unwrap_or(0)
        >= object["metadata"]["generation"].as_i64().unwrap_or(0)
}

/// Progressing=False is final: the rollout passed its own deadline.
fn stuck_rollout(deployment: &Value) -> Option<Postcondition> {
    let conditions = deployment["status"]["conditions"].as_array()?;
    let progressing = conditions
        .iter()
        .find(|condition| condition["type"] == "Progressing")?;
    (is_observed(deployment) && progressing["status"] == "False").then(|| Postcondition::Never {
        why: format!(
            "the rollout does not progress: {}",
            progressing["message"].as_str().unwrap_or_default()
        ),
    })
}

fn rolled_out(deployment: &Value, after: &str) -> Postcondition {
    if let Some(failed) = stuck_rollout(deployment) {
        return failed;
    }
    let wanted = deployment["spec"]["replicas"].as_i64().unwrap_or(1);
    let count = |field: &str| deployment["status"][field].as_i64().unwrap_or(0);
    if !is_observed(deployment) {
        return not_yet("the rollout has not begun");
    }
    let (total, updated, ready) = (
        count("replicas"),
        count("updatedReplicas"),
        count("readyReplicas"),
    );
    if (total, updated, ready) == (wanted, wanted, wanted) {
        return holds(after);
    }
    not_yet(format!(
        "of {wanted} replicas {updated} are updated and {ready} ready; {total} exist"
    ))
}

fn unschedulable(node: &Value, wanted: bool) -> Postcondition {
    let is = node["spec"]["unschedulable"] == true;
    let words = if is { "cordoned" } else { "schedulable" };
    if is == wanted {
        holds(words)
    } else {
        not_yet(format!("the node is {words}"))
    }
}

fn deleted(namespace: &str, attempt: &Attempt, facts: &Facts) -> Postcondition {
    for pod in &attempt.pods {
        let found = facts
            .get(&Read::get("v1", "Pod", Some(namespace), &pod.name))
            .and_then(|found| found.first());
        if found.is_some_and(|found| found["metadata"]["uid"] == pod.uid.as_str()) {
            return not_yet(format!("pod {} is still there", pod.name));
        }
    }
    for pod in &attempt.pods {
        let Some(read) = controller_read(pod) else {
            continue;
        };
        // A controller that is gone brings nothing back, and nobody waits for it.
        let Some(controller) = facts.get(&read).and_then(|found| found.first()) else {
            continue;
        };
        let status = &controller["status"];
        let daemons = controller["kind"] == "DaemonSet";
        let (wanted, ready) = if daemons {
            (
                status["desiredNumberScheduled"].as_i64().unwrap_or(0),
                status["numberReady"].as_i64().unwrap_or(0),
            )
        } else {
            (
                controller["spec"]["replicas"].as_i64().unwrap_or(1),
                status["readyReplicas"].as_i64().unwrap_or(0),
            )
        };
        if ready < wanted {
            let name = controller["metadata"]["name"].as_str().unwrap_or_default();
            return not_yet(format!("{name} has {ready} of {wanted} pods ready"));
        }
    }
    holds(format!(
        "deleted: {}",
        attempt
            .pods
            .iter()
            .map(|pod| pod.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    ))
}

/// kubectl drain's own filter: not mirror pods, not finished ones, not those of a DaemonSet; and not the executor's.
fn is_evictable(pod: &Value) -> bool {
    let metadata = &pod["metadata"];
    let mirror = metadata["annotations"]
        .get("kubernetes.io/config.mirror")
        .is_some();
    let finished = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    let executor = metadata["labels"].get(names::LABEL_EXECUTION_UID).is_some();
    let owners = metadata["ownerReferences"].as_array();
    let daemon = owners
        .into_iter()
        .flatten()
        .any(|owner| owner["controller"] == true && owner["kind"] == "DaemonSet");
    !mirror && !finished && !executor && !daemon
}

#[cfg(test)]
mod tests;
