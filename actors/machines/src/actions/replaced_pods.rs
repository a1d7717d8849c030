//! Pods that were deleted: are they gone, and have their controllers brought others?

use kubernaut_crds::{Attempt, ObjectRef, PodRef};
use serde_json::Value;

use crate::reads::{Read, ReadResults, selector_text};
use crate::verify::{Postcondition, holds, in_progress, not_there};

/// The pods and their controllers; then the pods of each controller that says it is at its count: its status may be older
/// than the deletion.
pub(super) fn reads(namespace: &str, attempt: &Attempt, facts: &ReadResults) -> Vec<Read> {
    let pods = attempt.pods.iter().map(|pod| pod_read(namespace, pod));
    let controllers = attempt.pods.iter().filter_map(controller_read);
    let counted = controllers_of(attempt, facts).filter_map(|(_, controller)| {
        let (wanted, ready) = counts(controller);
        (ready >= wanted).then(|| pods_of(namespace, controller))?
    });
    pods.chain(controllers).chain(counted).collect()
}

pub(super) fn outcome(namespace: &str, attempt: &Attempt, facts: &ReadResults) -> Postcondition {
    let there = |pod: &PodRef| {
        let found = facts.get(&pod_read(namespace, pod))?.first()?;
        (found["metadata"]["uid"] == pod.uid.as_str()).then_some(found)
    };
    let left = attempt
        .pods
        .iter()
        .find(|pod| there(pod).is_some_and(|found| !is_ending(found)));
    if let Some(pod) = left {
        return not_there(format!("pod {} is still there", pod.name));
    }
    if let Some(pod) = attempt.pods.iter().find(|pod| there(pod).is_some()) {
        return in_progress(format!("pod {} is on its way out", pod.name));
    }
    for (of, controller) in controllers_of(attempt, facts) {
        let (wanted, mut ready) = counts(controller);
        if ready >= wanted
            && let Some(pods) = pods_of(namespace, controller).and_then(|read| facts.get(&read))
        {
            let counted = pods.iter().filter(|pod| is_ready(pod) && is_of(pod, of)).count();
            ready = i64::try_from(counted).unwrap_or(i64::MAX);
        }
        if ready < wanted {
            return in_progress(format!("{} has {ready} of {wanted} pods ready", of.name));
        }
    }
    let names: Vec<&str> = attempt.pods.iter().map(|pod| pod.name.as_str()).collect();
    holds(format!("deleted: {}", names.join(", ")))
}

fn pod_read(namespace: &str, pod: &PodRef) -> Read {
    Read::get("v1", "Pod", Some(namespace), &pod.name)
}

/// The read of the pod's controller; `None` for one that says nothing of a wanted count. The reference is whatever the maker of
/// the pod wrote: the version is ours, and a kind of the same name in another group is another kind.
fn controller_read(pod: &PodRef) -> Option<Read> {
    let controller = pod.controller.as_ref()?;
    let group = controller
        .api_version
        .as_deref()?
        .split_once('/')
        .map_or("", |(group, _)| group);
    let kind = controller.kind.as_deref()?;
    let api_version = match (group, kind) {
        ("apps", "ReplicaSet" | "StatefulSet" | "DaemonSet") => "apps/v1",
        ("", "ReplicationController") => "v1",
        _ => return None,
    };
    Some(Read::get(
        api_version,
        kind,
        controller.namespace.as_deref(),
        &controller.name,
    ))
}

/// The controllers that are still there. One that is gone, or is another by now, brings nothing back.
fn controllers_of<'a>(
    attempt: &'a Attempt,
    facts: &'a ReadResults,
) -> impl Iterator<Item = (&'a ObjectRef, &'a Value)> {
    attempt.pods.iter().filter_map(|pod| {
        let controller = facts.get(&controller_read(pod)?)?.first()?;
        let owner = pod.controller.as_ref()?;
        (controller["metadata"]["uid"].as_str() == owner.uid.as_deref()).then_some((owner, controller))
    })
}

/// How many pods it shall have, and how many it says are ready.
fn counts(controller: &Value) -> (i64, i64) {
    let (spec, status) = (&controller["spec"], &controller["status"]);
    if controller["kind"] == "DaemonSet" {
        let wanted = status["desiredNumberScheduled"].as_i64().unwrap_or(0);
        return (wanted, status["numberReady"].as_i64().unwrap_or(0));
    }
    let wanted = spec["replicas"].as_i64().unwrap_or(1);
    (wanted, status["readyReplicas"].as_i64().unwrap_or(0))
}

/// The read of its pods; `None` without a selector, which no controller is.
fn pods_of(namespace: &str, controller: &Value) -> Option<Read> {
    let selector = selector_text(&controller["spec"]["selector"])?;
    Some(Read::list("v1", "Pod", Some(namespace), Some(&selector)))
}

fn is_of(pod: &Value, controller: &ObjectRef) -> bool {
    let owners = pod["metadata"]["ownerReferences"].as_array();
    owners
        .into_iter()
        .flatten()
        .any(|owner| owner["controller"] == true && owner["uid"].as_str() == controller.uid.as_deref())
}

fn is_ending(pod: &Value) -> bool {
    !pod["metadata"]["deletionTimestamp"].is_null()
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let ready = conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
    ready && !is_ending(pod)
}
