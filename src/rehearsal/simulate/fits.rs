//! Which faults of steps could meet something: read off the run without faults.

use std::collections::BTreeSet;

use serde_json::Value;

use super::verdict::text;
use crate::rehearsal::simulation::{Outcome, Step, StepFault, StepFaultKind, Target};

/// What can take effect on a step, as the run without faults shows.
pub(super) fn fits(outcome: &Outcome, step: &Step) -> Vec<StepFault> {
    let Some(begun) = outcome
        .record
        .iter()
        .find(|commit| commit.object["kind"] == "Job" && step.made(&commit.object))
    else {
        return Vec::new();
    };
    let begun = begun.revision;
    StepFaultKind::ALL
        .iter()
        .filter(|(kind, _)| kind.unfit(step).is_none())
        .filter_map(|(kind, _)| {
            let evicts = evicted(outcome, step);
            let meets = match kind {
                StepFaultKind::ImageNeverStarts
                | StepFaultKind::ReadinessSlow
                | StepFaultKind::ReadinessNever => brings_pods(outcome, step, begun),
                StepFaultKind::BudgetBlocks | StepFaultKind::NodeNotReady => !evicts.is_empty(),
                StepFaultKind::QuotaFull => needs_room(outcome, step, begun),
                StepFaultKind::HpaTakesBack => changes_replicas(outcome, step, begun),
                StepFaultKind::WebhookRefuses
                | StepFaultKind::TargetChanges
                | StepFaultKind::PodNeverStarts
                | StepFaultKind::PodFails
                | StepFaultKind::PodFailsAfterWork
                | StepFaultKind::JobDisappears
                | StepFaultKind::PodHangs
                | StepFaultKind::PodEvicted
                | StepFaultKind::PodLost => true,
            };
            meets.then(|| StepFault {
                kind: *kind,
                step: step.clone(),
                attempts: u64::MAX,
                lasts: None,
                evicts,
            })
        })
        .collect()
}

/// The uids of pods that were there before a revision.
fn pods_before(outcome: &Outcome, revision: u64) -> BTreeSet<&str> {
    let before = outcome.record.iter().filter(|commit| commit.revision < revision);
    before
        .filter(|commit| commit.object["kind"] == "Pod")
        .map(|commit| text(&commit.object["metadata"]["uid"]))
        .collect()
}

fn brings_pods(outcome: &Outcome, step: &Step, begun: u64) -> bool {
    let old = pods_before(outcome, begun);
    outcome.record.iter().any(|commit| {
        commit.revision >= begun
            && commit.object["kind"] == "Pod"
            && !old.contains(text(&commit.object["metadata"]["uid"]))
            && step.target.brings(&commit.object)
    })
}

/// Whether there are more pods in the target's namespace at some time than when the step began.
fn needs_room(outcome: &Outcome, step: &Step, begun: u64) -> bool {
    let Target::Deployment { namespace, .. } = &step.target else {
        return false;
    };
    let mut live = BTreeSet::new();
    let mut at_begin = 0;
    let mut most = 0;
    for commit in &outcome.record {
        let object = &commit.object;
        if object["kind"] != "Pod" || object["metadata"]["namespace"] != namespace.as_str() {
            continue;
        }
        let uid = text(&object["metadata"]["uid"]);
        if commit.deleted {
            live.remove(uid);
        } else {
            live.insert(uid);
        }
        if commit.revision < begun {
            at_begin = live.len();
        } else {
            most = most.max(live.len());
        }
    }
    most > at_begin
}

fn changes_replicas(outcome: &Outcome, step: &Step, begun: u64) -> bool {
    let Target::Deployment {
        namespace,
        name,
        replicas,
    } = &step.target
    else {
        return false;
    };
    let before = outcome.record.iter().rev().find(|commit| {
        let metadata = &commit.object["metadata"];
        commit.revision < begun
            && commit.object["kind"] == "Deployment"
            && metadata["namespace"] == namespace.as_str()
            && metadata["name"] == name.as_str()
    });
    before.is_some_and(|before| before.object["spec"]["replicas"].as_i64() != *replicas)
}

/// Namespaces and labels of the pods that a step evicts, one of each namespace.
fn evicted(outcome: &Outcome, step: &Step) -> Vec<(String, Vec<(String, String)>)> {
    /// Set by controllers; a budget does not name them.
    const OF_CONTROLLERS: [&str; 3] = [
        "pod-template-hash",
        "controller-revision-hash",
        "pod-template-generation",
    ];
    let account = if step.action == "drain-node" {
        ":drain-node-sa"
    } else {
        ":delete-pod-sa"
    };
    let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
    for record in &outcome.requests {
        let request = &record.request;
        if request.subresource != "eviction" || !request.user.name.ends_with(account) {
            continue;
        }
        let pod = outcome.record.iter().rev().find(|commit| {
            commit.object["kind"] == "Pod"
                && commit.object["metadata"]["name"] == request.name.as_str()
                && commit.object["metadata"]["namespace"] == request.namespace.as_str()
        });
        let Some(pod) = pod.map(|commit| &commit.object) else {
            continue;
        };
        let is_its_own = match &step.target {
            Target::Node { name } => pod["spec"]["nodeName"] == name.as_str(),
            Target::Pods { .. } => step.target.brings(pod),
            Target::Deployment { .. } | Target::Other => false,
        };
        if !is_its_own || found.iter().any(|(namespace, _)| *namespace == request.namespace) {
            continue;
        }
        let labels: Vec<(String, String)> = pod["metadata"]["labels"]
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, _)| !OF_CONTROLLERS.contains(&key.as_str()))
            .filter_map(|(key, value)| Some((key.clone(), Value::as_str(value)?.to_owned())))
            .collect();
        if !labels.is_empty() {
            found.push((request.namespace.clone(), labels));
        }
    }
    found
}
