//! The rollout of a Deployment, or of a StatefulSet: is it complete, and if not, what do its new pods wait for?

use jiff::Timestamp;
use kubernaut_crds::Attempt;
use serde_json::Value;

use super::Look;
use crate::reads::{Read, ReadResults, selector_text};
use crate::verify::{Postcondition, holds, in_progress, not_there};
use crate::waiting::{WaitingPod, waiting};

/// So many new pods are looked at: what keeps one from running mostly keeps all of them.
const SAMPLE: u32 = 20;
/// The Deployment controller numbers its ReplicaSets; the newest one has the highest number.
const REVISION: &str = "deployment.kubernetes.io/revision";

/// Why a rollout is not complete, as far as its pods show it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// New pods that are not ready.
    pub pods: Vec<WaitingPod>,
    /// Why no more of them are made.
    pub refused: Option<String>,
}

impl Waits {
    /// The one that tells most.
    fn worst(&self) -> Option<&WaitingPod> {
        let hindered = self.pods.iter().find(|pod| pod.obstacle.is_some());
        hindered.or_else(|| self.pods.first())
    }

    /// In words, `pod web-a: ImagePullBackOff: ...`.
    pub fn why(&self) -> Option<String> {
        let pod = self.worst().map(|pod| format!("pod {}: {}", pod.name, pod.why));
        self.refused
            .as_ref()
            .map(|why| format!("no new pod can be made: {why}"))
            .or(pod)
    }

    /// Nothing is known to be wrong: it only takes its time.
    pub fn are_healthy(&self) -> bool {
        self.refused.is_none() && self.pods.iter().all(|pod| pod.obstacle.is_none())
    }
}

/// What tells more of a rollout under way: the ReplicaSets of a Deployment, then pods of the newest one; or the pods of a
/// StatefulSet. Who may change a workload may know why its pods do not start.
pub(super) fn reads(workload: Option<&Value>, facts: &ReadResults) -> Vec<Read> {
    let Some(workload) = workload.filter(|workload| is_observed(workload) && !is_complete(workload)) else {
        return Vec::new();
    };
    let sets = sets_read(workload);
    let pods = maker_of_pods(workload, facts).and_then(pods_read);
    sets.into_iter().chain(pods).collect()
}

pub(crate) fn waits(workload: &Value, facts: &ReadResults) -> Waits {
    let pods = maker_of_pods(workload, facts).and_then(pods_read);
    let found = pods.and_then(|read| facts.get(&read)).into_iter().flatten();
    let failure = condition(workload, "ReplicaFailure").filter(|failure| failure["status"] == "True");
    Waits {
        pods: found.filter_map(waiting).collect(),
        refused: failure.and_then(|failure| failure["message"].as_str().map(str::to_owned)),
    }
}

pub(super) fn is_observed(deployment: &Value) -> bool {
    deployment["status"]["observedGeneration"].as_i64().unwrap_or(0)
        >= deployment["metadata"]["generation"].as_i64().unwrap_or(0)
}

fn count(object: &Value, field: &str) -> i64 {
    object["status"][field].as_i64().unwrap_or(0)
}

pub(super) fn wanted(deployment: &Value) -> i64 {
    deployment["spec"]["replicas"].as_i64().unwrap_or(1)
}

fn is_complete(deployment: &Value) -> bool {
    let wanted = wanted(deployment);
    ["replicas", "updatedReplicas", "readyReplicas"]
        .iter()
        .all(|field| count(deployment, field) == wanted)
}

fn condition<'a>(deployment: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = deployment["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)
}

/// Progressing=False is final: the rollout passed its own deadline. One that is older than the attempt tells of an earlier
/// rollout: the Deployment controller keeps it until the first of the new pods is there.
pub(super) fn stuck(deployment: &Value, attempt: &Attempt) -> Option<Postcondition> {
    let progressing = condition(deployment, "Progressing")?;
    let time = progressing["lastUpdateTime"].as_str();
    let since = time.and_then(|time| time.parse::<Timestamp>().ok());
    let ours = since.is_none_or(|since| since.as_second() >= attempt.start_time.0.as_second());
    (ours && is_observed(deployment) && progressing["status"] == "False").then(|| Postcondition::Stuck {
        why: format!(
            "the rollout does not progress: {}",
            progressing["message"].as_str().unwrap_or_default()
        ),
    })
}

pub(super) fn outcome(look: Look<'_>, after: &str) -> Postcondition {
    let (deployment, facts) = (look.object, look.facts);
    if let Some(failed) = stuck(deployment, look.attempt) {
        return failed;
    }
    if !is_observed(deployment) {
        return in_progress("the rollout has not begun");
    }
    if is_complete(deployment) {
        return holds(after);
    }
    let (total, updated) = (
        count(deployment, "replicas"),
        count(deployment, "updatedReplicas"),
    );
    let ready = count(deployment, "readyReplicas");
    let old = (total - updated).max(0);
    // Without the newest ReplicaSet: those that are ready are the old ones first.
    let new_ready = newest_set(deployment, facts).map_or((ready - old).clamp(0, updated.max(0)), |set| {
        count(set, "readyReplicas")
    });
    let serving = (ready - new_ready).clamp(0, old);
    let wanted = wanted(deployment);
    let rest = match (old, serving) {
        (0, _) => String::new(),
        (1, 0) => "; 1 old one is still there".to_owned(),
        (old, 0) => format!("; {old} old ones are still there"),
        (_, 1) => "; 1 old one still serves".to_owned(),
        (_, serving) => format!("; {serving} old ones still serve"),
    };
    in_progress(format!("{new_ready} of {wanted} new pods are ready{rest}"))
}

/// Whether there are as many replicas as are wanted, all of them ready.
pub(super) fn scaled(look: Look<'_>, replicas: i32) -> Postcondition {
    let (workload, desired) = (look.object, i64::from(replicas));
    let found = wanted(workload);
    if found != desired {
        return not_there(format!("spec.replicas is {found}, not {desired}"));
    }
    if let Some(failed) = stuck(workload, look.attempt) {
        return failed;
    }
    if !is_observed(workload) {
        let kind = &look.checked.target.kind;
        return in_progress(format!("the controller of the {kind} has not seen the change"));
    }
    let (ready, total) = (count(workload, "readyReplicas"), count(workload, "replicas"));
    if ready != desired || total != desired {
        return in_progress(format!("{ready} of {desired} pods are ready; {total} exist"));
    }
    holds(format!("replicas: {desired}"))
}

/// What makes the pods: the newest ReplicaSet of a Deployment; a StatefulSet makes its own.
fn maker_of_pods<'a>(workload: &'a Value, facts: &'a ReadResults) -> Option<&'a Value> {
    if is_stateful_set(workload) {
        return Some(workload);
    }
    newest_set(workload, facts)
}

fn is_stateful_set(workload: &Value) -> bool {
    workload["kind"] == "StatefulSet"
}

fn sets_read(deployment: &Value) -> Option<Read> {
    if is_stateful_set(deployment) {
        return None;
    }
    let selector = selector_text(&deployment["spec"]["selector"])?;
    let namespace = deployment["metadata"]["namespace"].as_str();
    Some(Read::list("apps/v1", "ReplicaSet", namespace, Some(&selector)))
}

fn newest_set<'a>(deployment: &Value, facts: &'a ReadResults) -> Option<&'a Value> {
    let uid = &deployment["metadata"]["uid"];
    let is_ours = |set: &&Value| {
        let owners = set["metadata"]["ownerReferences"].as_array();
        let mut owners = owners.into_iter().flatten();
        uid.is_string() && owners.any(|owner| owner["controller"] == true && owner["uid"] == *uid)
    };
    let revision = |set: &&Value| {
        let number = set["metadata"]["annotations"][REVISION].as_str();
        number.and_then(|number| number.parse::<u64>().ok())
    };
    let sets = facts.get(&sets_read(deployment)?)?;
    sets.iter().filter(is_ours).max_by_key(revision)
}

fn pods_read(set: &Value) -> Option<Read> {
    let selector = selector_text(&set["spec"]["selector"])?;
    let namespace = set["metadata"]["namespace"].as_str()?;
    Some(Read::pods_of(namespace, &selector, None, SAMPLE))
}
