//! The StatefulSet controller: pods with names of their own, one after the other, each with its claims.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::delete::DeleteOptions;
use crate::api::state::State;
use crate::api::store::Key;
use crate::controllers::replica_set::Owned;
use crate::controllers::revisions::{Revision, Revisions};
use crate::controllers::{count, is_deleting, is_ready, is_terminal, set_count, trusted};

/// A pod by its number.
struct Member<'a> {
    ordinal: usize,
    key: &'a Key,
    pod: &'a Value,
}

/// A StatefulSet at one moment.
struct Scene<'a> {
    key: &'a Key,
    set: &'a Value,
    first: usize,
    wanted: usize,
    /// One pod at a time, in order.
    ordered: bool,
    revisions: Revisions,
}

impl Scene<'_> {
    fn holds(&self, ordinal: usize) -> bool {
        (self.first..self.first + self.wanted).contains(&ordinal)
    }

    fn is_rolling(&self) -> bool {
        self.set["spec"]["updateStrategy"]["type"] != "OnDelete"
    }

    /// Pods below this number keep their revision.
    fn partition(&self) -> usize {
        self.first + count(&self.set["spec"]["updateStrategy"]["rollingUpdate"]["partition"])
    }

    /// What the pod of this number is made of when it has to be made.
    fn revision(&self, ordinal: usize) -> &Revision {
        if self.is_rolling() && ordinal < self.partition() {
            &self.revisions.current
        } else {
            &self.revisions.update
        }
    }
}

impl State {
    pub(crate) fn sync_stateful_set(&mut self, key: &Key) {
        let Some(set) = self.store.get(key).cloned() else {
            return;
        };
        if is_deleting(&set) {
            return;
        }
        let pods = self.owned("pods", &set);
        let scene = Scene {
            key,
            set: &set,
            first: count(&set["spec"]["ordinals"]["start"]),
            wanted: count(&set["spec"]["replicas"]),
            ordered: set["spec"]["podManagementPolicy"] != "Parallel",
            revisions: self.revisions(&set, &pods, &format!("{}-", key.name)),
        };
        let mut members: Vec<Member> = pods
            .iter()
            .filter_map(|(pod_key, pod)| {
                let number = pod_key.name.strip_prefix(&key.name)?.strip_prefix('-')?;
                Some(Member {
                    ordinal: number.parse().ok()?,
                    key: pod_key,
                    pod,
                })
            })
            .collect();
        members.sort_by_key(|member| member.ordinal);
        let refused = match self.fill(&scene, &members) {
            Ok(true) => {
                if self.shrink(&scene, &members) {
                    self.update_pods(&scene, &members);
                }
                false
            }
            Ok(false) => false,
            Err(()) => true,
        };
        self.try_again(key, &set, refused);
        self.write_stateful_status(&scene);
    }

    /// Makes what is missing; true when all that come before the next step are available. An error is a refusal.
    fn fill(&mut self, scene: &Scene, members: &[Member]) -> Result<bool, ()> {
        for ordinal in scene.first..scene.first + scene.wanted {
            let member = members.iter().find(|member| member.ordinal == ordinal);
            let Some(member) = member else {
                self.make_member(scene, ordinal)?;
                if scene.ordered {
                    return Ok(false);
                }
                continue;
            };
            if is_terminal(member.pod) && !is_deleting(member.pod) {
                self.remove_object(member.key, &DeleteOptions::default());
                return Ok(false);
            }
            if scene.ordered && !self.serves(scene, member) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes away those beyond the count, the last one first; true when there is none, or no order.
    fn shrink(&mut self, scene: &Scene, members: &[Member]) -> bool {
        let unhealthy = members.iter().find(|member| !is_healthy(member.pod));
        let first_unhealthy = unhealthy.map(|member| member.ordinal);
        let condemned = members.iter().rev().filter(|member| !scene.holds(member.ordinal));
        for member in condemned {
            if is_deleting(member.pod) {
                if scene.ordered {
                    return false;
                }
                continue;
            }
            let waits = !is_healthy(member.pod) && first_unhealthy != Some(member.ordinal);
            if scene.ordered && waits {
                return false;
            }
            self.remove_object(member.key, &DeleteOptions::default());
            if scene.ordered {
                return false;
            }
        }
        true
    }

    /// Takes away pods of an old revision, the last one first, as many at once as may be unavailable.
    fn update_pods(&mut self, scene: &Scene, members: &[Member]) {
        if !scene.is_rolling() {
            return;
        }
        let bound = &scene.set["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"];
        let mut room = crate::controllers::share(bound, scene.wanted, true)
            .unwrap_or(1)
            .max(1);
        for ordinal in (scene.partition()..scene.first + scene.wanted).rev() {
            if room == 0 {
                return;
            }
            // One that was made just now does not serve yet.
            let member = members.iter().find(|member| member.ordinal == ordinal);
            let old =
                member.filter(|member| !scene.revisions.update.made(member.pod) && !is_deleting(member.pod));
            if let Some(old) = old {
                self.remove_object(old.key, &DeleteOptions::default());
                room -= 1;
            } else if !member.is_some_and(|member| self.serves(scene, member)) {
                room -= 1;
            }
        }
    }

    /// Whether a pod runs, and has been ready for as long as it has to; looks again when it will have been.
    fn serves(&mut self, scene: &Scene, member: &Member) -> bool {
        let wait = self
            .until_available(scene.set, member.pod)
            .filter(|_| is_healthy(member.pod));
        if let Some(wait) = wait.filter(|wait| *wait > 0) {
            self.look_later(scene.key, scene.set, Duration::from_secs(wait.unsigned_abs()));
        }
        wait.is_some_and(|wait| wait <= 0)
    }

    fn make_member(&mut self, scene: &Scene, ordinal: usize) -> Result<(), ()> {
        let name = format!("{}-{ordinal}", scene.key.name);
        let mut template = scene.revision(ordinal).labelled();
        let labels = &mut template["metadata"]["labels"];
        labels["statefulset.kubernetes.io/pod-name"] = json!(name);
        labels["apps.kubernetes.io/pod-index"] = json!(ordinal.to_string());
        template["spec"]["hostname"] = json!(name);
        template["spec"]["subdomain"] = scene.set["spec"]["serviceName"].clone();
        let claims = scene.set["spec"]["volumeClaimTemplates"].as_array();
        for claim in claims.into_iter().flatten() {
            let volume = claim["metadata"]["name"].as_str().unwrap_or("");
            let claim_name = format!("{volume}-{name}");
            self.make_claim(scene, claim, &claim_name)?;
            let mut volumes: Vec<Value> = template["spec"]["volumes"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            volumes.retain(|known| known["name"] != volume);
            volumes.push(json!({"name": volume, "persistentVolumeClaim": {"claimName": claim_name}}));
            template["spec"]["volumes"] = json!(volumes);
        }
        self.make_pod(scene.set, &template, Some(&name), None)
            .map_err(drop)
    }

    /// A claim outlives its pod: the next one of its number gets it.
    fn make_claim(&mut self, scene: &Scene, template: &Value, name: &str) -> Result<(), ()> {
        let namespace = &scene.key.namespace;
        let key = Key::new("persistentvolumeclaims", namespace, name);
        let Some(kind) = self.kinds.by_storage(&key.resource).cloned() else {
            return Ok(());
        };
        if self.store.get(&key).is_some() {
            return Ok(());
        }
        let mut labels = template["metadata"]["labels"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        let selected = scene.set["spec"]["selector"]["matchLabels"].as_object();
        labels.extend(selected.cloned().unwrap_or_default());
        let claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {
                "name": name, "labels": labels, "annotations": template["metadata"]["annotations"],
            },
            "spec": template["spec"],
        });
        if let Err(error) = self.create(&kind, namespace, claim, &trusted()) {
            let text = format!(
                "create Claim {name} for Pod {} in StatefulSet {} failed error: {}",
                name.strip_prefix(template["metadata"]["name"].as_str().unwrap_or(""))
                    .unwrap_or(name)
                    .trim_start_matches('-'),
                scene.key.name,
                error.message()
            );
            self.event(scene.set, "Warning", "FailedCreate", &text);
            return Err(());
        }
        // There is always a volume.
        self.write_status(&key, |status| status["phase"] = json!("Bound"));
        Ok(())
    }

    fn write_stateful_status(&mut self, scene: &Scene) {
        let pods = self.owned("pods", scene.set);
        let ready: Owned = pods.iter().filter(|(_, pod)| is_healthy(pod)).cloned().collect();
        let available = self.count_available(scene.key, scene.set, &ready);
        let made_of = |revision: &Revision| {
            let counts = |pod: &Value| !is_deleting(pod) && revision.made(pod);
            pods.iter().filter(|(_, pod)| counts(pod)).count()
        };
        let Revisions { current, update } = &scene.revisions;
        let updated = made_of(update);
        let done = scene.is_rolling() && [updated, pods.len(), ready.len()] == [scene.wanted; 3];
        if done && current != update {
            let uid = scene.set["metadata"]["uid"].as_str().unwrap_or("");
            if let Some(known) = self.revisions.get_mut(uid) {
                known.current = known.update.clone();
            }
        }
        let current = if done { update } else { current };
        let current_count = made_of(current);
        self.write_status(scene.key, |status| {
            status["observedGeneration"] = scene.set["metadata"]["generation"].clone();
            status["replicas"] = json!(pods.len());
            set_count(status, "readyReplicas", ready.len());
            status["availableReplicas"] = json!(available);
            set_count(status, "currentReplicas", current_count);
            set_count(status, "updatedReplicas", updated);
            status["currentRevision"] = json!(current.name);
            status["updateRevision"] = json!(update.name);
        });
    }
}

fn is_healthy(pod: &Value) -> bool {
    pod["status"]["phase"] == "Running" && is_ready(pod) && !is_deleting(pod)
}
