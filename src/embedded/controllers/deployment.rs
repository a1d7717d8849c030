//! The Deployment controller: new pods come and old ones go within the bounds that the strategy sets, and as fast as
//! pods become available.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::api::delete::DeleteOptions;
use crate::api::state::{State, template_hash};
use crate::api::store::Key;
use crate::controllers::{count, is_deleting, is_terminal, owner_reference, share, trusted};

const REVISION: &str = "deployment.kubernetes.io/revision";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MOST: &str = "deployment.kubernetes.io/max-replicas";
const HASH: &str = "pod-template-hash";

/// A ReplicaSet of a Deployment.
pub(crate) type Set = (Key, Arc<Value>);

/// The ReplicaSets of a Deployment.
pub(crate) struct Sets {
    /// That of the present template.
    pub(crate) new: Option<Set>,
    /// The others, oldest first.
    old: Vec<Set>,
}

impl Sets {
    fn of(deployment: &Value, mut sets: Vec<Set>) -> Self {
        sets.sort_by(|(key, set), (other_key, other)| {
            let born = |set: &Value| {
                set["metadata"]["creationTimestamp"]
                    .as_str()
                    .unwrap_or("")
                    .to_owned()
            };
            (born(set), key).cmp(&(born(other), other_key))
        });
        let template = &deployment["spec"]["template"];
        let at = sets
            .iter()
            .position(|(_, set)| is_same_template(&set["spec"]["template"], template));
        let new = at.map(|at| sets.remove(at));
        Self { new, old: sets }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Set> {
        self.old.iter().chain(&self.new)
    }

    /// The sum of what they are to have.
    pub(crate) fn size(&self) -> usize {
        self.all().map(|(_, set)| size(set)).sum()
    }

    fn newest_revision(&self) -> u64 {
        self.all().map(|(_, set)| revision(set)).max().unwrap_or(0)
    }

    /// Whether the Deployment's own count has changed since its ReplicaSets were given theirs.
    fn are_behind(&self, wanted: usize) -> bool {
        let noted = |set: &Value| {
            set["metadata"]["annotations"][DESIRED]
                .as_str()?
                .parse::<usize>()
                .ok()
        };
        self.all()
            .filter(|(_, set)| size(set) > 0)
            .any(|(_, set)| noted(set).is_some_and(|noted| noted != wanted))
    }
}

/// How many pods more and fewer than wanted a rollout may make of it.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    wanted: usize,
    surge: usize,
    unavailable: usize,
}

impl Bounds {
    pub(crate) fn of(deployment: &Value) -> Self {
        let wanted = size(deployment);
        let strategy = &deployment["spec"]["strategy"];
        if strategy["type"] == "Recreate" {
            return Self {
                wanted,
                surge: 0,
                unavailable: 0,
            };
        }
        let rolling = &strategy["rollingUpdate"];
        let surge = share(&rolling["maxSurge"], wanted, true).unwrap_or(0);
        let unavailable = share(&rolling["maxUnavailable"], wanted, false).unwrap_or(0);
        // With neither, nothing could ever move.
        let unavailable = if surge == 0 {
            unavailable.max(1)
        } else {
            unavailable
        };
        Self {
            wanted,
            surge,
            unavailable: unavailable.min(wanted),
        }
    }

    fn most(self) -> usize {
        self.wanted + self.surge
    }

    pub(crate) fn fewest(self) -> usize {
        self.wanted - self.unavailable
    }
}

impl State {
    pub(crate) fn sync_deployment(&mut self, key: &Key) {
        let Some(deployment) = self.store.get(key).cloned() else {
            return;
        };
        if is_deleting(&deployment) {
            return;
        }
        for (set_key, set) in self.owned("replicasets.apps", &deployment) {
            // Loaded without its counts, it would look as if it had no pods.
            if set["status"]["observedGeneration"].is_null() {
                self.sync_replica_set(&set_key);
            }
        }
        let sets = self.sets_of(&deployment);
        let paused = deployment["spec"]["paused"] == true;
        if paused || sets.are_behind(size(&deployment)) {
            self.scale_sets(&deployment, &sets);
            if paused {
                self.forget_old_sets(&deployment, &sets);
            }
        } else if deployment["spec"]["strategy"]["type"] == "Recreate" {
            self.recreate(&deployment, sets);
        } else {
            self.roll(&deployment, sets);
        }
        self.write_deployment_status(key);
    }

    pub(crate) fn sets_of(&self, deployment: &Value) -> Sets {
        Sets::of(deployment, self.owned("replicasets.apps", deployment))
    }

    /// A step of a rolling update: either new pods are asked for, or old ones are given up.
    fn roll(&mut self, deployment: &Value, sets: Sets) {
        let bounds = Bounds::of(deployment);
        let Some(sets) = self.with_new_set(deployment, sets) else {
            return;
        };
        let Some((new_key, new)) = &sets.new else { return };
        let grown = size(new) + bounds.most().saturating_sub(sets.size());
        let fitting = grown.min(bounds.wanted);
        if fitting != size(new) {
            self.resize(deployment, new_key, fitting);
        } else if !self.shrink_old_sets(deployment, bounds, &sets) && is_complete(deployment) {
            self.forget_old_sets(deployment, &sets);
        }
    }

    /// Takes pods away from old ReplicaSets, first those that serve nobody; whether there were any.
    fn shrink_old_sets(&mut self, deployment: &Value, bounds: Bounds, sets: &Sets) -> bool {
        let available = |(_, set): &Set| count(&set["status"]["availableReplicas"]);
        let waiting = sets
            .new
            .as_ref()
            .map_or(0, |new| size(&new.1).saturating_sub(available(new)));
        let mut spare = sets.size().saturating_sub(bounds.fewest() + waiting);
        let mut left: Vec<(&Set, usize)> = sets.old.iter().map(|set| (set, size(&set.1))).collect();
        if spare == 0 || left.iter().all(|(_, size)| *size == 0) {
            return false;
        }
        for (set, left) in &mut left {
            let useless = left.saturating_sub(available(set)).min(spare);
            *left -= useless;
            spare -= useless;
        }
        let serving: usize = sets.all().map(available).sum();
        let mut spare = serving.saturating_sub(bounds.fewest());
        for (_, left) in &mut left {
            let useful = (*left).min(spare);
            *left -= useful;
            spare -= useful;
        }
        let mut any = false;
        for (set, left) in left {
            if left != size(&set.1) {
                any = true;
                self.resize(deployment, &set.0, left);
            }
        }
        any
    }

    /// The old pods first, all of them; the new ones when the last of those is gone.
    fn recreate(&mut self, deployment: &Value, sets: Sets) {
        let running: Vec<&Set> = sets.old.iter().filter(|(_, set)| size(set) > 0).collect();
        for (key, _) in &running {
            self.resize(deployment, key, 0);
        }
        let stopping = |(_, set): &Set| {
            let pods = self.owned("pods", set);
            pods.iter().any(|(_, pod)| !is_terminal(pod))
        };
        if !running.is_empty() || sets.old.iter().any(stopping) {
            return;
        }
        let Some(sets) = self.with_new_set(deployment, sets) else {
            return;
        };
        let Some((new_key, new)) = &sets.new else { return };
        if size(new) != size(deployment) {
            self.resize(deployment, new_key, size(deployment));
        } else if is_complete(deployment) {
            self.forget_old_sets(deployment, &sets);
        }
    }

    /// The new ReplicaSet is made where it is missing, and is of the newest revision: going back to an old template makes
    /// the old ReplicaSet the newest. None when it was made just now.
    fn with_new_set(&mut self, deployment: &Value, sets: Sets) -> Option<Sets> {
        let Some((key, set)) = &sets.new else {
            self.make_replica_set(deployment, &sets);
            return None;
        };
        let newest = sets.newest_revision();
        let behind = revision(set) < newest;
        let pause = &deployment["spec"]["minReadySeconds"];
        if behind || set["spec"]["minReadySeconds"] != *pause {
            self.write(key, |set| {
                if behind {
                    set["metadata"]["annotations"][REVISION] = json!((newest + 1).to_string());
                }
                set["spec"]["minReadySeconds"] = pause.clone();
            });
        }
        Some(sets)
    }

    fn make_replica_set(&mut self, deployment: &Value, sets: &Sets) {
        let Some(kind) = self.kinds.by_storage("replicasets.apps").cloned() else {
            return;
        };
        let bounds = Bounds::of(deployment);
        let replicas = bounds.most().saturating_sub(sets.size()).min(bounds.wanted);
        let hash = template_hash(&deployment["spec"]["template"]);
        let name = deployment["metadata"]["name"].as_str().unwrap_or("");
        let mut template = deployment["spec"]["template"].clone();
        template["metadata"]["labels"][HASH] = json!(hash);
        let mut selector = deployment["spec"]["selector"].clone();
        selector["matchLabels"][HASH] = json!(hash);
        let set = json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {
                "name": format!("{name}-{hash}"),
                "labels": template["metadata"]["labels"],
                "annotations": {
                    DESIRED: bounds.wanted.to_string(), MOST: bounds.most().to_string(),
                    REVISION: (sets.newest_revision() + 1).to_string(),
                },
                "ownerReferences": [owner_reference(deployment)],
            },
            "spec": {
                "replicas": replicas, "selector": selector, "template": template,
                "minReadySeconds": deployment["spec"]["minReadySeconds"],
            },
        });
        let namespace = deployment["metadata"]["namespace"].as_str().unwrap_or("");
        let _ = self.create(&kind, namespace, set, &trusted());
    }

    /// Another count: the one ReplicaSet gets it; of several in a rollout each gets its share.
    fn scale_sets(&mut self, deployment: &Value, sets: &Sets) {
        let bounds = Bounds::of(deployment);
        let active: Vec<&Set> = sets.all().filter(|(_, set)| size(set) > 0).collect();
        let only = match active.as_slice() {
            [] => sets
                .new
                .as_ref()
                .or_else(|| sets.old.iter().max_by_key(|(_, set)| revision(set))),
            [one] => Some(*one),
            _ => None,
        };
        if let Some((key, _)) = only {
            self.resize(deployment, key, bounds.wanted);
        } else if sets
            .new
            .as_ref()
            .is_some_and(|new| is_saturated(new, bounds.wanted))
        {
            for (key, _) in sets.old.iter().filter(|(_, set)| size(set) > 0) {
                self.resize(deployment, key, 0);
            }
        } else if deployment["spec"]["strategy"]["type"] != "Recreate" && !active.is_empty() {
            self.scale_in_proportion(deployment, bounds, active);
        }
    }

    fn scale_in_proportion(&mut self, deployment: &Value, bounds: Bounds, mut active: Vec<&Set>) {
        let allowed = if bounds.wanted > 0 {
            signed(bounds.most())
        } else {
            0
        };
        let present: i64 = active.iter().map(|(_, set)| signed(size(set))).sum();
        let to_add = allowed - present;
        // The largest first; of equal ones the newest when there will be more, the oldest when there will be fewer.
        if to_add > 0 {
            active.reverse();
        }
        active.sort_by_key(|(_, set)| std::cmp::Reverse(size(set)));
        let mut added = 0;
        let mut sizes = Vec::new();
        for (_, set) in &active {
            let most = set["metadata"]["annotations"][MOST]
                .as_str()
                .and_then(|most| most.parse::<i64>().ok())
                .filter(|most| *most > 0)
                .unwrap_or_else(|| signed(count(&deployment["status"]["replicas"])).max(1));
            let size = signed(size(set));
            let fraction = if bounds.wanted == 0 {
                -size
            } else {
                // To the nearest.
                (2 * size * signed(bounds.most()) + most) / (2 * most) - size
            };
            let left = to_add - added;
            let part = if to_add > 0 {
                fraction.min(left)
            } else {
                fraction.max(left)
            };
            added += part;
            sizes.push(size + part);
        }
        if let Some(first) = sizes.first_mut() {
            *first += to_add - added;
        }
        for ((key, _), size) in active.into_iter().zip(sizes) {
            self.resize(deployment, key, usize::try_from(size).unwrap_or(0));
        }
    }

    /// Gives a ReplicaSet its count, and notes for which count of the Deployment that was.
    fn resize(&mut self, deployment: &Value, key: &Key, replicas: usize) {
        let bounds = Bounds::of(deployment);
        let fewer = self.store.get(key).is_some_and(|set| size(set) > replicas);
        self.write(key, |set| {
            set["spec"]["replicas"] = json!(replicas);
            set["metadata"]["annotations"][DESIRED] = json!(bounds.wanted.to_string());
            set["metadata"]["annotations"][MOST] = json!(bounds.most().to_string());
        });
        if fewer {
            // Before another one makes more.
            self.sync_replica_set(key);
        }
    }

    fn forget_old_sets(&mut self, deployment: &Value, sets: &Sets) {
        let limit = count(&deployment["spec"]["revisionHistoryLimit"]);
        let mut empty: Vec<&Set> = sets
            .old
            .iter()
            .filter(|(_, set)| size(set) == 0 && count(&set["status"]["replicas"]) == 0 && !is_deleting(set))
            .collect();
        empty.sort_by_key(|(key, set)| (revision(set), key.clone()));
        for (key, _) in empty.iter().take(empty.len().saturating_sub(limit)) {
            self.remove_object(key, &DeleteOptions::background());
        }
    }
}

/// Whether the new ReplicaSet has all that is wanted, and all of it serves.
fn is_saturated((_, set): &Set, wanted: usize) -> bool {
    let noted = set["metadata"]["annotations"][DESIRED].as_str();
    size(set) == wanted
        && noted == Some(wanted.to_string().as_str())
        && count(&set["status"]["availableReplicas"]) == wanted
}

/// Whether nothing is left to do, as the Deployment's own status says.
fn is_complete(deployment: &Value) -> bool {
    let status = &deployment["status"];
    let wanted = size(deployment);
    ["updatedReplicas", "replicas", "availableReplicas"]
        .iter()
        .all(|field| count(&status[field]) == wanted)
        && status["observedGeneration"].as_i64() >= deployment["metadata"]["generation"].as_i64()
}

/// Whether two templates are the same but for the label that tells ReplicaSets apart.
fn is_same_template(template: &Value, other: &Value) -> bool {
    let [metadata, others] = [template, other].map(|template| &template["metadata"]);
    let labels = |metadata: &Value| {
        let mut labels = metadata["labels"].as_object().cloned().unwrap_or_default();
        labels.remove(HASH);
        labels
    };
    template["spec"] == other["spec"]
        && metadata["annotations"] == others["annotations"]
        && labels(metadata) == labels(others)
}

/// What it is to have.
fn size(object: &Value) -> usize {
    count(&object["spec"]["replicas"])
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(crate) fn revision(set: &Value) -> u64 {
    set["metadata"]["annotations"][REVISION]
        .as_str()
        .and_then(|revision| revision.parse().ok())
        .unwrap_or(0)
}
