//! The outcome: is it what was wanted?

mod replaced;
mod rollout;

use std::collections::BTreeSet;

use kubernaut_crds::{Action, Attempt, KubernetesExecution, PatchDeployment, names};
use serde_json::Value;

use crate::actions::container_rule;
use crate::applied::{first_dropped, has_applied};
use crate::before::target_read;
use crate::images::{image_of, patched_images};
use crate::parameters::Checked;
use crate::reads::{Facts, Read};

pub use rollout::Waits;

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
    /// The change is made, and what follows from it is under way.
    InProgress {
        /// What is missing.
        why: String,
    },
    /// The change is not made, or not all of it.
    NotThere {
        /// What is missing.
        why: String,
    },
    /// The change is made, and what should follow from it will not.
    Stuck {
        /// What went wrong.
        why: String,
    },
    /// The change can't be made any more.
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
        Action::DeletePod(delete) => replaced::reads(&delete.namespace, attempt, facts),
        Action::DrainNode(drain) => target_read(checked)
            .into_iter()
            .chain([Read::pods_on(&drain.node)])
            .collect(),
        Action::ScaleDeployment(_) | Action::RolloutRestart(_) | Action::PatchDeployment(_) => {
            let more = deployment_in(checked, facts).map(|deployment| rollout::reads(deployment, facts));
            target_read(checked)
                .into_iter()
                .chain(more.into_iter().flatten())
                .collect()
        }
        Action::CordonNode(_)
        | Action::UncordonNode(_)
        | Action::UpdateConfigMap(_)
        | Action::UpdateSecret(_)
        | Action::ApplyManifest(_)
        | Action::Undo(_) => target_read(checked).into_iter().collect(),
    };
    reads.retain(|read| !facts.contains_key(read));
    reads.into_iter().collect()
}

/// What the pods of a rollout wait for, as far as it was read.
pub fn waits(checked: &Checked, facts: &Facts) -> Waits {
    deployment_in(checked, facts).map_or_else(Waits::default, |deployment| rollout::waits(deployment, facts))
}

/// Whether a read only tells more of a rollout: without it the outcome is known all the same.
pub(crate) fn is_detail(checked: &Checked, read: &Read) -> bool {
    checked.target.kind == "Deployment" && matches!(read, Read::List { .. })
}

/// The Deployment that an action changes, when it was read.
fn deployment_in<'a>(checked: &Checked, facts: &'a Facts) -> Option<&'a Value> {
    match &checked.action {
        Action::ScaleDeployment(_) | Action::RolloutRestart(_) | Action::PatchDeployment(_) => {
            facts.get(&target_read(checked)?)?.first()
        }
        Action::DeletePod(_)
        | Action::CordonNode(_)
        | Action::UncordonNode(_)
        | Action::DrainNode(_)
        | Action::UpdateConfigMap(_)
        | Action::UpdateSecret(_)
        | Action::ApplyManifest(_)
        | Action::Undo(_) => None,
    }
}

fn holds(after: impl Into<String>) -> Postcondition {
    Postcondition::Holds { after: after.into() }
}

fn in_progress(why: impl Into<String>) -> Postcondition {
    Postcondition::InProgress { why: why.into() }
}

fn not_there(why: impl Into<String>) -> Postcondition {
    Postcondition::NotThere { why: why.into() }
}

/// Compares what was read with what was wanted.
pub fn postcondition(
    execution: &KubernetesExecution,
    checked: &Checked,
    attempt: &Attempt,
    facts: &Facts,
    what: AfterWhat,
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
        Action::UpdateSecret(_) if what == AfterWhat::Success => {
            holds("set (not read back: nothing here may read Secrets)")
        }
        Action::UpdateSecret(_) => Postcondition::Unprovable {
            why: "nobody here may read Secrets".to_owned(),
        },
        Action::DeletePod(delete) => replaced::outcome(&delete.namespace, attempt, facts),
        _ if missing => gone(),
        Action::ScaleDeployment(scale) => {
            let wanted = i64::from(scale.replicas);
            let replicas = object["spec"]["replicas"].as_i64().unwrap_or(1);
            if replicas != wanted {
                return not_there(format!("spec.replicas is {replicas}, not {wanted}"));
            }
            rollout::scaled(object, attempt)
        }
        Action::RolloutRestart(_) => {
            let by = object
                .pointer("/spec/template/metadata/annotations")
                .map(|map| &map[names::ANNOTATION_RESTARTED_BY]);
            if by.and_then(Value::as_str) != execution.metadata.uid.as_deref() {
                return not_there("the pod template does not carry this restart");
            }
            rollout::outcome(object, attempt, facts, "restarted")
        }
        Action::PatchDeployment(patch) => {
            if container_rule(&execution.spec.action) {
                // Checked before the first attempt.
                let images = patched_images(patch).unwrap_or_default();
                for (container, image) in &images {
                    let now = image_of(object, container).map_or("(no such container)", |(image, _)| image);
                    if now != image {
                        return not_there(format!("the image of {container} is {now}"));
                    }
                }
                let images: Vec<String> = images
                    .iter()
                    .map(|(container, image)| format!("image of {container}: {image}"))
                    .collect();
                return rollout::outcome(object, attempt, facts, &images.join(", "));
            }
            if what != AfterWhat::Success {
                return Postcondition::Unprovable {
                    why: "nothing shows that a patch took effect".to_owned(),
                };
            }
            // kubectl's exit code is the proof that it was taken.
            rollout::outcome(object, attempt, facts, &patched(object, patch))
        }
        Action::CordonNode(_) => unschedulable(object, true),
        Action::UncordonNode(_) => unschedulable(object, false),
        Action::DrainNode(drain) => {
            if object["spec"]["unschedulable"] != true {
                return not_there("the node is schedulable");
            }
            let pods = facts
                .get(&Read::pods_on(&drain.node))
                .map(Vec::as_slice)
                .unwrap_or_default();
            let left: Vec<&str> = pods
                .iter()
                .filter(|pod| is_evictable(pod, drain.ignore_daemon_sets))
                .filter_map(|pod| pod["metadata"]["name"].as_str())
                .collect();
            match left.first() {
                None => holds("cordoned and empty"),
                Some(first) => not_there(format!("{} pods are left, such as {first}", left.len())),
            }
        }
        Action::UpdateConfigMap(update) => {
            match update
                .data
                .iter()
                .find(|(key, value)| object["data"][key.as_str()] != value.as_str())
            {
                Some((key, _)) => not_there(format!("key {key} has another value")),
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
            Some(_) | None => not_there("the object does not have all that was applied"),
        },
        Action::Undo(_) if what == AfterWhat::Success => holds("kubectl's success is the proof"),
        Action::Undo(_) => Postcondition::Unprovable {
            why: "nothing shows that the undo took effect".to_owned(),
        },
    }
}

/// What a patch did, and what it was hardly meant to leave out.
fn patched(deployment: &Value, patch: &PatchDeployment) -> String {
    // Checked before the first attempt.
    let content: Value = serde_json::from_str(&patch.patch).unwrap_or_default();
    match first_dropped(deployment, &content) {
        Some(field) => format!("patched, but the Deployment has no {field} now: look for a mistyped field"),
        None => "patched".to_owned(),
    }
}

fn unschedulable(node: &Value, wanted: bool) -> Postcondition {
    let is = node["spec"]["unschedulable"] == true;
    let words = if is { "cordoned" } else { "schedulable" };
    if is == wanted {
        holds(words)
    } else {
        not_there(format!("the node is {words}"))
    }
}

/// kubectl drain's own filter: not mirror pods, not finished ones, not those of a DaemonSet where these are ignored; and not the
/// executor's. Where they are not, kubectl touches no pod at all, and the node is as it was.
fn is_evictable(pod: &Value, ignore_daemon_sets: bool) -> bool {
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
    !(mirror || finished || executor || daemon && ignore_daemon_sets)
}

#[cfg(test)]
mod tests;
