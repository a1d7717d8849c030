//! The autoscaler, which has no metrics here: it takes a count back that is outside of its bounds, and leaves others alone.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::state::State;
use crate::api::store::Key;
use crate::controllers::count;

/// How long it takes until it looks.
const PERIOD: Duration = Duration::from_secs(15);
const RESOURCE: &str = "horizontalpodautoscalers.autoscaling";

impl State {
    /// Lets the autoscalers of a target look at it, where its count is outside of their bounds.
    pub(crate) fn ask_autoscalers(&mut self, target: &Key) {
        let of_target: Vec<Key> = self
            .store
            .list(RESOURCE, &target.namespace)
            .filter(|(_, autoscaler)| target_of(autoscaler).as_ref() == Some(target))
            .map(|(key, _)| key.clone())
            .collect();
        for key in of_target {
            self.ask_autoscaler(&key);
        }
    }

    pub(crate) fn ask_autoscaler(&mut self, key: &Key) {
        if let Some(autoscaler) = self.store.get(key).cloned()
            && self.rescaled(&autoscaler).is_some()
        {
            self.look_later(key, &autoscaler, PERIOD);
        }
    }

    pub(crate) fn sync_autoscaler(&mut self, key: &Key) {
        let Some(autoscaler) = self.store.get(key).cloned() else {
            return;
        };
        let Some((target, replicas, why)) = self.rescaled(&autoscaler) else {
            return;
        };
        self.write(&target, |target| target["spec"]["replicas"] = json!(replicas));
        let text = format!("New size: {replicas}; reason: {why}");
        self.event(&autoscaler, "Normal", "SuccessfulRescale", &text);
    }

    /// The target, the count that it should have and has not, and why.
    fn rescaled(&self, autoscaler: &Value) -> Option<(Key, usize, &'static str)> {
        let target = target_of(autoscaler)?;
        let spec = &autoscaler["spec"];
        let present = count(&self.store.get(&target)?["spec"]["replicas"]);
        let least = spec["minReplicas"]
            .as_u64()
            .map_or(1, |_| count(&spec["minReplicas"]));
        let most = count(&spec["maxReplicas"]);
        // None at all is how one is switched off.
        if present == 0 {
            None
        } else if present > most {
            Some((target, most, "Current number of replicas above Spec.MaxReplicas"))
        } else if present < least {
            Some((target, least, "Current number of replicas below Spec.MinReplicas"))
        } else {
            None
        }
    }
}

fn target_of(autoscaler: &Value) -> Option<Key> {
    let scaled = &autoscaler["spec"]["scaleTargetRef"];
    let resource = match scaled["kind"].as_str()? {
        "Deployment" => "deployments.apps",
        "ReplicaSet" => "replicasets.apps",
        "StatefulSet" => "statefulsets.apps",
        _ => return None,
    };
    let namespace = autoscaler["metadata"]["namespace"].as_str()?;
    Some(Key::new(resource, namespace, scaled["name"].as_str()?))
}
