//! The Deployment controller. A rollout is as fast as its pods: ready at once unless a script says otherwise.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{
    super::{
        delete::DeleteOptions,
        state::{State, template_hash},
        store::Key,
    },
    Timer, is_deleting, owner_reference, set_condition, set_count, trusted,
};

const REVISION: &str = "deployment.kubernetes.io/revision";
const HASH: &str = "pod-template-hash";

type Owned = Vec<(Key, Arc<Value>)>;

impl State {
    pub(super) fn sync_deployment(&mut self, key: &Key) {
        let Some(deployment) = self.store.get(key).cloned() else {
            return;
        };
        if is_deleting(&deployment) {
            return;
        }
        let mut sets = self.owned("replicasets.apps", &deployment);
        let wanted = count(&deployment["spec"]["replicas"]);
        let paused = deployment["spec"]["paused"] == true;
        let mut current = newest_matching(&deployment, &sets);
        if current.is_none() && !paused {
            self.make_replica_set(&deployment, &sets, wanted);
            sets = self.owned("replicasets.apps", &deployment);
            current = newest_matching(&deployment, &sets);
        }
        if let Some((set_key, set)) = &current {
            if !paused {
                self.make_newest(&sets, set_key, set);
            }
            if count(&set["spec"]["replicas"]) != wanted && (!paused || running(&sets) <= 1) {
                self.scale_set(set_key, wanted);
            }
        }
        let ready = current
            .as_ref()
            .and_then(|(key, _)| self.store.get(key))
            .map_or(0, |set| count(&set["status"]["readyReplicas"]));
        for (set_key, set) in &sets {
            let is_current = current.as_ref().is_some_and(|(key, _)| key == set_key);
            if is_current || count(&set["spec"]["replicas"]) == 0 {
                continue;
            }
            if !paused && ready >= wanted {
                self.scale_set(set_key, 0);
            } else if paused && current.is_none() && running(&sets) == 1 {
                // A paused Deployment still scales.
                self.scale_set(set_key, wanted);
            }
        }
        self.forget_old_sets(&deployment, current.as_ref().map(|(key, _)| key));
        self.write_deployment_status(key, current.as_ref().map(|(key, _)| key));
    }

    fn make_replica_set(&mut self, deployment: &Value, sets: &Owned, replicas: usize) {
        let Some(kind) = self.kinds.by_storage("replicasets.apps").cloned() else {
            return;
        };
        let hash = template_hash(&deployment["spec"]["template"]);
        let name = deployment["metadata"]["name"].as_str().unwrap_or("");
        let mut template = deployment["spec"]["template"].clone();
        template["metadata"]["labels"][HASH] = json!(hash);
        let mut selector = deployment["spec"]["selector"].clone();
        selector["matchLabels"][HASH] = json!(hash);
        let revision = sets.iter().map(|(_, set)| revision(set)).max().unwrap_or(0) + 1;
        let set = json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {
                "name": format!("{name}-{hash}"),
                "labels": template["metadata"]["labels"],
                "annotations": {
                    "deployment.kubernetes.io/desired-replicas": replicas.to_string(),
                    "deployment.kubernetes.io/max-replicas": (replicas + replicas.div_ceil(4)).to_string(),
                    REVISION: revision.to_string(),
                },
                "ownerReferences": [owner_reference(deployment)],
            },
            "spec": {"replicas": replicas, "selector": selector, "template": template},
        });
        let namespace = deployment["metadata"]["namespace"].as_str().unwrap_or("");
        let _ = self.create(&kind, namespace, set, &trusted());
    }

    /// Going back to an old template makes its ReplicaSet the newest revision.
    fn make_newest(&mut self, sets: &Owned, key: &Key, set: &Value) {
        let newest = sets.iter().map(|(_, set)| revision(set)).max().unwrap_or(0);
        if revision(set) < newest {
            self.write(key, |set| {
                set["metadata"]["annotations"][REVISION] = json!((newest + 1).to_string());
            });
        }
    }

    fn scale_set(&mut self, key: &Key, replicas: usize) {
        self.write(key, |set| set["spec"]["replicas"] = json!(replicas));
    }

    fn forget_old_sets(&mut self, deployment: &Value, current: Option<&Key>) {
        let limit = count(&deployment["spec"]["revisionHistoryLimit"]);
        let mut old: Vec<(u64, Key)> = self
            .owned("replicasets.apps", deployment)
            .into_iter()
            .filter(|(key, set)| {
                Some(key) != current
                    && count(&set["spec"]["replicas"]) == 0
                    && count(&set["status"]["replicas"]) == 0
            })
            .map(|(key, set)| (revision(&set), key))
            .collect();
        old.sort();
        for (_, key) in old.iter().take(old.len().saturating_sub(limit)) {
            self.remove_object(key, &DeleteOptions::background());
        }
    }

    fn write_deployment_status(&mut self, key: &Key, current: Option<&Key>) {
        let Some(deployment) = self.store.get(key).cloned() else {
            return;
        };
        let sets = self.owned("replicasets.apps", &deployment);
        let current = current.and_then(|key| self.store.get(key)).cloned();
        let sum = |field: &str| {
            sets.iter()
                .map(|(_, set)| count(&set["status"][field]))
                .sum::<usize>()
        };
        let (total, ready, available) = (sum("replicas"), sum("readyReplicas"), sum("availableReplicas"));
        let updated = current
            .as_ref()
            .map_or(0, |set| count(&set["status"]["replicas"]));
        let wanted = count(&deployment["spec"]["replicas"]);
        let set_name = current
            .as_ref()
            .and_then(|s| s["metadata"]["name"].as_str())
            .unwrap_or("")
            .to_owned();
        let complete = updated == wanted && total == wanted && available == wanted;
        let now = self.now_seconds();
        let deadline = self.progress_deadline(&deployment, complete);
        let unavailable_allowed = max_unavailable(&deployment, wanted);
        if let Some(set) = &current {
            let revision = revision(set).to_string();
            self.write(key, |d| {
                d["metadata"]["annotations"][REVISION] = json!(revision);
            });
        }
        self.write_status(key, |status| {
            status["observedGeneration"] = deployment["metadata"]["generation"].clone();
            set_count(status, "replicas", total);
            set_count(status, "updatedReplicas", updated);
            set_count(status, "readyReplicas", ready);
            set_count(status, "availableReplicas", available);
            set_count(
                status,
                "unavailableReplicas",
                wanted.max(total).saturating_sub(available),
            );
            let enough = available + unavailable_allowed >= wanted;
            set_condition(
                status,
                &now,
                &if enough {
                    stamped(
                        &now,
                        "Available",
                        "True",
                        "MinimumReplicasAvailable",
                        "Deployment has minimum availability.",
                    )
                } else {
                    stamped(
                        &now,
                        "Available",
                        "False",
                        "MinimumReplicasUnavailable",
                        "Deployment does not have minimum availability.",
                    )
                },
            );
            let progressing = if complete {
                Some((
                    "True",
                    "NewReplicaSetAvailable",
                    format!("ReplicaSet \"{set_name}\" has successfully progressed."),
                ))
            } else if deployment["spec"]["paused"] == true {
                Some(("Unknown", "DeploymentPaused", "Deployment is paused".to_owned()))
            } else if deadline {
                Some((
                    "False",
                    "ProgressDeadlineExceeded",
                    format!("ReplicaSet \"{set_name}\" has timed out progressing."),
                ))
            } else {
                Some((
                    "True",
                    "ReplicaSetUpdated",
                    format!("ReplicaSet \"{set_name}\" is progressing."),
                ))
            };
            if let Some((state, reason, message)) = progressing {
                set_condition(
                    status,
                    &now,
                    &stamped(&now, "Progressing", state, reason, &message),
                );
            }
        });
    }

    /// Whether a rollout has taken longer than it may; looks again when it will have.
    fn progress_deadline(&mut self, deployment: &Value, complete: bool) -> bool {
        let seconds = deployment["spec"]["progressDeadlineSeconds"]
            .as_i64()
            .unwrap_or(600);
        let condition = deployment["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|c| c["type"] == "Progressing");
        if complete || deployment["spec"]["paused"] == true {
            return false;
        }
        let same = deployment["status"]["observedGeneration"] == deployment["metadata"]["generation"];
        // Once missed, a deadline stays missed until something changes.
        if same && condition.is_some_and(|c| c["reason"] == "ProgressDeadlineExceeded") {
            return true;
        }
        let since = condition
            .filter(|c| same && c["reason"] != "NewReplicaSetAvailable")
            .and_then(|c| c["lastUpdateTime"].as_str()?.parse::<jiff::Timestamp>().ok());
        let elapsed = since.map_or(0, |since| self.now().as_second() - since.as_second());
        if since.is_some() && elapsed >= seconds {
            return true;
        }
        let text = |field: &str| deployment["metadata"][field].as_str().unwrap_or("").to_owned();
        let key = Key::new("deployments.apps", &text("namespace"), &text("name"));
        let pending = self
            .timers
            .values()
            .any(|t| matches!(t, Timer::Deployment(k, _) if *k == key));
        if !pending {
            // Times of objects are whole seconds: it may have to look twice.
            let delay = Duration::from_secs((seconds - elapsed).max(1).unsigned_abs());
            self.after(delay, Timer::Deployment(key, text("uid")));
        }
        false
    }
}

fn stamped(now: &str, kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({
        "type": kind, "status": status, "reason": reason, "message": message, "lastUpdateTime": now,
    })
}

fn max_unavailable(deployment: &Value, wanted: usize) -> usize {
    match &deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] {
        Value::Number(n) => n.as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0),
        Value::String(s) => s
            .trim_end_matches('%')
            .parse::<usize>()
            .map_or(0, |percent| wanted * percent / 100),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => wanted,
    }
}

fn running(sets: &Owned) -> usize {
    sets.iter()
        .filter(|(_, set)| count(&set["spec"]["replicas"]) > 0)
        .count()
}

fn newest_matching(deployment: &Value, sets: &Owned) -> Option<(Key, Arc<Value>)> {
    sets.iter()
        .filter(|(_, set)| {
            let mut template = set["spec"]["template"].clone();
            if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
                labels.remove(HASH);
            }
            template == deployment["spec"]["template"]
        })
        .max_by_key(|(_, set)| revision(set))
        .cloned()
}

fn revision(set: &Value) -> u64 {
    set["metadata"]["annotations"][REVISION]
        .as_str()
        .and_then(|r| r.parse().ok())
        .unwrap_or(0)
}

pub(super) fn count(value: &Value) -> usize {
    value.as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0)
}
