//! What a Deployment says of its rollout: counts, and the conditions by which clients see whether it goes on.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::state::State;
use crate::api::store::Key;
use crate::api::write::set_or_remove;
use crate::controllers::deployment::{Bounds, Sets, revision};
use crate::controllers::{condition, condition_of, count, set_condition, set_count};

const REVISION: &str = "deployment.kubernetes.io/revision";
/// The way to say that there is no deadline.
const NO_DEADLINE: i64 = i32::MAX as i64;

/// The sums over the ReplicaSets.
struct Counts {
    replicas: usize,
    updated: usize,
    ready: usize,
    available: usize,
    unavailable: usize,
}

impl Counts {
    fn of(sets: &Sets) -> Self {
        let sum = |field: &str| {
            sets.all()
                .map(|(_, set)| count(&set["status"][field]))
                .sum::<usize>()
        };
        let available = sum("availableReplicas");
        let new = sets.new.as_ref();
        Self {
            replicas: sum("replicas"),
            updated: new.map_or(0, |(_, set)| count(&set["status"]["replicas"])),
            ready: sum("readyReplicas"),
            available,
            unavailable: sets.size().saturating_sub(available),
        }
    }

    fn write(&self, status: &mut Value) {
        set_count(status, "replicas", self.replicas);
        set_count(status, "updatedReplicas", self.updated);
        set_count(status, "readyReplicas", self.ready);
        set_count(status, "availableReplicas", self.available);
        set_count(status, "unavailableReplicas", self.unavailable);
    }

    /// Whether nothing is left to do where so many are wanted.
    fn are_all(&self, wanted: usize) -> bool {
        [self.updated, self.replicas, self.available] == [wanted; 3]
    }

    /// Whether anything has come nearer to the end since that status.
    fn are_ahead_of(&self, status: &Value) -> bool {
        let known = |field: &str| count(&status[field]);
        let old = |replicas: usize, updated: usize| replicas.saturating_sub(updated);
        self.updated > known("updatedReplicas")
            || old(self.replicas, self.updated) < old(known("replicas"), known("updatedReplicas"))
            || self.ready > known("readyReplicas")
            || self.available > known("availableReplicas")
    }
}

impl State {
    pub(crate) fn write_deployment_status(&mut self, key: &Key) {
        let Some(deployment) = self.store.get(key).cloned() else {
            return;
        };
        let sets = self.sets_of(&deployment);
        if let Some((_, set)) = &sets.new {
            let revision = revision(set).to_string();
            self.write(key, |deployment| {
                deployment["metadata"]["annotations"][REVISION] = json!(revision);
            });
        }
        let counts = Counts::of(&sets);
        let now = self.now_seconds();
        let enough = counts.available >= Bounds::of(&deployment).fewest();
        let progressing = self.progressing(key, &deployment, &sets, &counts, &now);
        let failure = sets
            .all()
            .find_map(|(_, set)| condition(set, "ReplicaFailure"))
            .cloned();
        self.write_status(key, |status| {
            status["observedGeneration"] = deployment["metadata"]["generation"].clone();
            counts.write(status);
            set_condition(status, &now, &available(enough, &now));
            replace_condition(status, "Progressing", progressing);
            match failure {
                Some(failure) => {
                    let (reason, message) = (text(&failure["reason"]), text(&failure["message"]));
                    set_condition(
                        status,
                        &now,
                        &stamped(&now, "ReplicaFailure", "True", reason, message),
                    );
                }
                None => replace_condition(status, "ReplicaFailure", None),
            }
        });
    }

    /// The condition by which a rollout says that it goes on; none where it has no deadline. Each step of a rollout starts
    /// the deadline anew.
    fn progressing(
        &mut self,
        key: &Key,
        deployment: &Value,
        sets: &Sets,
        counts: &Counts,
        now: &str,
    ) -> Option<Value> {
        let seconds = deployment["spec"]["progressDeadlineSeconds"]
            .as_i64()
            .filter(|seconds| *seconds != NO_DEADLINE)?;
        let known = condition_of(deployment, "Progressing");
        let reason = known.map_or("", |known| text(&known["reason"]));
        let subject = sets.new.as_ref().map_or_else(
            || format!("Deployment \"{}\"", key.name),
            |(key, _)| format!("ReplicaSet \"{}\"", key.name),
        );
        if deployment["spec"]["paused"] == true {
            return match reason {
                "DeploymentPaused" | "ProgressDeadlineExceeded" => known.cloned(),
                _ => Some(stamped_since(
                    known,
                    now,
                    "Unknown",
                    "DeploymentPaused",
                    "Deployment is paused",
                )),
            };
        }
        if counts.are_all(count(&deployment["spec"]["replicas"])) {
            let message = format!("{subject} has successfully progressed.");
            if reason == "NewReplicaSetAvailable" && known.is_some_and(|known| known["message"] == message) {
                return known.cloned();
            }
            return Some(stamped_since(
                known,
                now,
                "True",
                "NewReplicaSetAvailable",
                &message,
            ));
        }
        // A count that is changed after a rollout is none.
        if reason == "NewReplicaSetAvailable" && counts.replicas == counts.updated {
            return known.cloned();
        }
        let of_another = known.is_none_or(|known| !text(&known["message"]).starts_with(&subject));
        let begins = of_another || matches!(reason, "NewReplicaSetAvailable" | "DeploymentPaused");
        let message = format!("{subject} is progressing.");
        if begins || counts.are_ahead_of(&deployment["status"]) {
            self.look_later(key, deployment, whole(seconds));
            return Some(stamped_since(known, now, "True", "ReplicaSetUpdated", &message));
        }
        if reason == "ProgressDeadlineExceeded" {
            return known.cloned();
        }
        let since = known.and_then(|known| text(&known["lastUpdateTime"]).parse::<jiff::Timestamp>().ok());
        let left = since.map_or(seconds, |since| {
            seconds - (self.now().as_second() - since.as_second())
        });
        if left <= 0 {
            let message = format!("{subject} has timed out progressing.");
            return Some(stamped_since(
                known,
                now,
                "False",
                "ProgressDeadlineExceeded",
                &message,
            ));
        }
        self.look_later(key, deployment, whole(left));
        known.cloned()
    }
}

/// Times of objects are whole seconds: it may have to be looked at twice.
fn whole(seconds: i64) -> Duration {
    Duration::from_secs(seconds.max(1).unsigned_abs())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

fn stamped(now: &str, kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({
        "type": kind, "status": status, "reason": reason, "message": message, "lastUpdateTime": now,
    })
}

/// The condition of progress, which keeps the time of its last change of status.
fn stamped_since(known: Option<&Value>, now: &str, status: &str, reason: &str, message: &str) -> Value {
    let mut new = stamped(now, "Progressing", status, reason, message);
    let same = known.filter(|known| known["status"] == status);
    new["lastTransitionTime"] = same.map_or_else(|| json!(now), |known| known["lastTransitionTime"].clone());
    new
}

fn available(enough: bool, now: &str) -> Value {
    let [status, reason, message] = if enough {
        [
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
        ]
    } else {
        [
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        ]
    };
    stamped(now, "Available", status, reason, message)
}

/// Puts a condition in the place of the one of its type, as it is, or takes that one away.
fn replace_condition(status: &mut Value, kind: &str, new: Option<Value>) {
    let mut conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let at = conditions.iter().position(|condition| condition["type"] == kind);
    match (at, new) {
        (Some(at), Some(new)) => conditions[at] = new,
        (Some(at), None) => drop(conditions.remove(at)),
        (None, Some(new)) => conditions.push(new),
        (None, None) => return,
    }
    set_or_remove(status, "conditions", Some(json!(conditions)));
}
