//! The DaemonSet controller: a pod on each node that takes it, and new ones in the place of old ones, a few at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::api::delete::DeleteOptions;
use crate::api::state::State;
use crate::api::store::Key;
use crate::controllers::replica_set::Owned;
use crate::controllers::revisions::Revision;
use crate::controllers::scheduler::{is_evicted_by, is_kept_out_by, matches_selector};
use crate::controllers::{is_deleting, is_ready, is_terminal, set_count, share};

/// What pods of every DaemonSet put up with: node conditions that they are there to mend, or that are no fault of theirs.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

/// A DaemonSet at one moment.
struct Scene<'a> {
    key: &'a Key,
    set: &'a Value,
    update: Revision,
    /// With what its pods tolerate.
    template: Value,
    /// The nodes that are to have a pod.
    wanted: Vec<String>,
    /// Those whose pod may stay.
    kept: Vec<String>,
}

impl State {
    pub(crate) fn sync_daemon_set(&mut self, key: &Key) {
        let Some(set) = self.store.get(key).cloned() else {
            return;
        };
        if is_deleting(&set) {
            return;
        }
        let pods = self.owned("pods", &set);
        let update = self.revisions(&set, &pods, "").update;
        let template = tolerant(&update);
        let fitting: Vec<Arc<Value>> = self
            .store
            .list("nodes", "")
            .filter(|(_, node)| matches_selector(&template, node))
            .map(|(_, node)| Arc::clone(node))
            .collect();
        let names = |is_kept: fn(&Value, &Value) -> bool| {
            let nodes = fitting.iter().filter(|node| !is_kept(&template, node));
            nodes
                .filter_map(|node| node["metadata"]["name"].as_str().map(str::to_owned))
                .collect()
        };
        let scene = Scene {
            key,
            set: &set,
            wanted: names(is_kept_out_by),
            kept: names(is_evicted_by),
            update,
            template,
        };
        let refused = self.place_daemons(&scene, &pods);
        if set["spec"]["updateStrategy"]["type"] != "OnDelete" {
            self.update_daemons(&scene);
        }
        self.try_again(key, &set, refused);
        self.write_daemon_status(&scene);
    }

    /// One pod on each node that is to have one, and none elsewhere; whether one was refused.
    fn place_daemons(&mut self, scene: &Scene, pods: &Owned) -> bool {
        let surges = share(
            &scene.set["spec"]["updateStrategy"]["rollingUpdate"]["maxSurge"],
            100,
            true,
        )
        .is_some_and(|surge| surge != 0);
        let mut held: BTreeMap<&str, Vec<&(Key, Arc<Value>)>> = BTreeMap::new();
        for entry in pods {
            let at = entry.1["spec"]["nodeName"].as_str().unwrap_or("");
            held.entry(at).or_default().push(entry);
        }
        for (node, pods) in &held {
            let stays = scene.kept.iter().any(|kept| kept == node);
            let mut seen = false;
            for (key, pod) in pods.iter().copied().filter(|(_, pod)| !is_deleting(pod)) {
                // Of several the oldest stays, but for the two of a surge.
                let extra = seen && !surges;
                if !stays || is_terminal(pod) || extra {
                    self.remove_object(key, &DeleteOptions::default());
                } else {
                    seen = true;
                }
            }
        }
        for node in scene
            .wanted
            .iter()
            .filter(|node| !held.contains_key(node.as_str()))
        {
            if self
                .make_pod(scene.set, &scene.template, None, Some(node))
                .is_err()
            {
                return true;
            }
        }
        false
    }

    /// Takes old pods away, as many as may be unavailable at once; with a surge, makes the new one first.
    fn update_daemons(&mut self, scene: &Scene) {
        let rolling = &scene.set["spec"]["updateStrategy"]["rollingUpdate"];
        let number = scene.wanted.len();
        let surge = share(&rolling["maxSurge"], number, true).unwrap_or(0);
        let mut room = if surge > 0 {
            surge
        } else {
            share(&rolling["maxUnavailable"], number, true).unwrap_or(1)
        };
        let pods = self.live_pods(scene.set);
        let (mut useless, mut old_first, mut both) = (Vec::new(), Vec::new(), Vec::new());
        for node in &scene.wanted {
            let mut here = pods
                .iter()
                .filter(|(_, pod)| pod["spec"]["nodeName"] == node.as_str());
            let (new, old) = (
                here.clone().find(|(_, pod)| scene.update.made(pod)),
                here.find(|(_, pod)| !scene.update.made(pod)),
            );
            let serves = |state: &Self, pod: &Value| {
                state
                    .until_available(scene.set, pod)
                    .is_some_and(|wait| wait <= 0)
            };
            match (new, old) {
                (Some((_, new)), Some(old)) if serves(self, new) => both.push(old.clone()),
                (Some((_, new)), None) if serves(self, new) => {}
                (None, Some(old)) if serves(self, &old.1) => old_first.push((node, old.clone())),
                (None, Some(old)) => useless.push((node, old.clone())),
                (Some(_), _) | (None, None) => room = room.saturating_sub(1),
            }
        }
        for (key, _) in both {
            self.remove_object(&key, &DeleteOptions::default());
        }
        for (node, (key, _)) in useless.into_iter().chain(old_first.into_iter().take(room)) {
            if surge == 0 {
                self.remove_object(&key, &DeleteOptions::default());
            } else {
                let _ = self.make_pod(scene.set, &scene.template, None, Some(node));
            }
        }
    }

    fn write_daemon_status(&mut self, scene: &Scene) {
        let pods = self.live_pods(scene.set);
        let at = |pod: &Value| pod["spec"]["nodeName"].as_str().unwrap_or("").to_owned();
        let mut placed: BTreeMap<String, (Key, Arc<Value>)> = BTreeMap::new();
        let mut astray = 0;
        for (key, pod) in pods {
            let node = at(&pod);
            if !scene.wanted.contains(&node) {
                astray += 1;
            } else if !placed
                .get(&node)
                .is_some_and(|(_, known)| scene.update.made(known))
            {
                placed.insert(node, (key, pod));
            }
        }
        let placed: Owned = placed.into_values().collect();
        let ready = placed.iter().filter(|(_, pod)| is_ready(pod)).count();
        let updated = placed.iter().filter(|(_, pod)| scene.update.made(pod)).count();
        let available = self.count_available(scene.key, scene.set, &placed);
        self.write_status(scene.key, |status| {
            status["observedGeneration"] = scene.set["metadata"]["generation"].clone();
            status["desiredNumberScheduled"] = json!(scene.wanted.len());
            status["currentNumberScheduled"] = json!(placed.len());
            status["numberMisscheduled"] = json!(astray);
            status["numberReady"] = json!(ready);
            set_count(status, "numberAvailable", available);
            set_count(status, "updatedNumberScheduled", updated);
            set_count(
                status,
                "numberUnavailable",
                scene.wanted.len().saturating_sub(available),
            );
        });
    }
}

/// A template whose pods put up with what every DaemonSet's do.
fn tolerant(revision: &Revision) -> Value {
    let mut template = revision.labelled();
    let host = template["spec"]["hostNetwork"] == true;
    let network = ("node.kubernetes.io/network-unavailable", "NoSchedule");
    let mut tolerations: Vec<Value> = template["spec"]["tolerations"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    for (key, effect) in TOLERATED.into_iter().chain(host.then_some(network)) {
        let toleration = json!({"key": key, "operator": "Exists", "effect": effect});
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
    template["spec"]["tolerations"] = json!(tolerations);
    template
}
