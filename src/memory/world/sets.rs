//! ReplicaSets, StatefulSets and DaemonSets: pods are brought to their count.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    super::{
        delete::DeleteOptions,
        state::{State, template_hash},
        store::Key,
    },
    is_deleting, is_ready, is_terminal,
    schedule::matches_selector,
    set_count,
    workloads::count,
};

type Owned = Vec<(Key, Arc<Value>)>;

impl State {
    fn live_pods(&self, owner: &Value) -> Owned {
        self.owned("pods", owner)
            .into_iter()
            .filter(|(_, pod)| !is_deleting(pod) && !is_terminal(pod))
            .collect()
    }

    pub(super) fn sync_replica_set(&mut self, key: &Key) {
        let Some(set) = self.store.get(key).cloned() else {
            return;
        };
        if is_deleting(&set) {
            return;
        }
        let wanted = count(&set["spec"]["replicas"]);
        let mut pods = self.live_pods(&set);
        for _ in pods.len()..wanted {
            if !self.make_pod(&set, &set["spec"]["template"], None, None) {
                break;
            }
        }
        if pods.len() > wanted {
            // The least useful go first: not ready, then the youngest.
            pods.sort_by_key(|(key, pod)| {
                let age = pod["metadata"]["creationTimestamp"]
                    .as_str()
                    .unwrap_or("")
                    .to_owned();
                (is_ready(pod), std::cmp::Reverse((age, key.clone())))
            });
            for (pod, _) in &pods[..pods.len() - wanted] {
                self.remove_object(pod, &DeleteOptions::default());
            }
        }
        let pods = self.live_pods(&set);
        let ready = pods.iter().filter(|(_, pod)| is_ready(pod)).count();
        self.write_status(key, |status| {
            status["observedGeneration"] = set["metadata"]["generation"].clone();
            status["replicas"] = json!(pods.len());
            set_count(status, "fullyLabeledReplicas", pods.len());
            set_count(status, "readyReplicas", ready);
            set_count(status, "availableReplicas", ready);
        });
    }

    pub(super) fn sync_stateful_set(&mut self, key: &Key) {
        let Some(set) = self.store.get(key).cloned() else {
            return;
        };
        if is_deleting(&set) {
            return;
        }
        let wanted = count(&set["spec"]["replicas"]);
        let hash = format!("{}-{}", key.name, template_hash(&set["spec"]["template"]));
        let mut template = set["spec"]["template"].clone();
        template["metadata"]["labels"]["controller-revision-hash"] = json!(hash);
        let names: Vec<String> = (0..wanted).map(|i| format!("{}-{i}", key.name)).collect();
        for (pod_key, pod) in self.live_pods(&set) {
            let current = pod["metadata"]["labels"]["controller-revision-hash"] == json!(hash);
            if !names.contains(&pod_key.name) || !current {
                self.remove_object(&pod_key, &DeleteOptions::default());
            }
        }
        for name in &names {
            if self.store.find("pods", &key.namespace, name).is_none()
                && !self.make_pod(&set, &template, Some(name), None)
            {
                break;
            }
        }
        let pods = self.live_pods(&set);
        let ready = pods.iter().filter(|(_, pod)| is_ready(pod)).count();
        self.write_status(key, |status| {
            status["observedGeneration"] = set["metadata"]["generation"].clone();
            status["replicas"] = json!(pods.len());
            set_count(status, "readyReplicas", ready);
            status["availableReplicas"] = json!(ready);
            set_count(status, "currentReplicas", pods.len());
            set_count(status, "updatedReplicas", pods.len());
            status["currentRevision"] = json!(hash);
            status["updateRevision"] = json!(hash);
        });
    }

    pub(super) fn sync_daemon_set(&mut self, key: &Key) {
        let Some(set) = self.store.get(key).cloned() else {
            return;
        };
        if is_deleting(&set) {
            return;
        }
        let hash = template_hash(&set["spec"]["template"]);
        let mut template = set["spec"]["template"].clone();
        template["metadata"]["labels"]["controller-revision-hash"] = json!(hash);
        let nodes: Vec<String> = self
            .store
            .list("nodes", "")
            .filter(|(_, node)| matches_selector(&template, node))
            .map(|(key, _)| key.name.clone())
            .collect();
        let pods = self.live_pods(&set);
        for (pod_key, pod) in &pods {
            let at = pod["spec"]["nodeName"].as_str().unwrap_or("");
            let current = pod["metadata"]["labels"]["controller-revision-hash"] == json!(hash);
            if !nodes.iter().any(|n| n == at) || !current {
                self.remove_object(pod_key, &DeleteOptions::default());
            }
        }
        let held: Vec<Value> = self
            .owned("pods", &set)
            .into_iter()
            .filter(|(_, pod)| !is_terminal(pod))
            .map(|(_, pod)| pod["spec"]["nodeName"].clone())
            .collect();
        for node in &nodes {
            if !held.contains(&json!(node)) {
                self.make_pod(&set, &template, None, Some(node));
            }
        }
        let pods = self.live_pods(&set);
        let ready = pods.iter().filter(|(_, pod)| is_ready(pod)).count();
        self.write_status(key, |status| {
            status["observedGeneration"] = set["metadata"]["generation"].clone();
            status["desiredNumberScheduled"] = json!(nodes.len());
            status["currentNumberScheduled"] = json!(pods.len());
            status["numberMisscheduled"] = json!(0);
            status["numberReady"] = json!(ready);
            set_count(status, "numberAvailable", ready);
            set_count(status, "updatedNumberScheduled", pods.len());
            set_count(status, "numberUnavailable", nodes.len().saturating_sub(ready));
        });
    }
}
