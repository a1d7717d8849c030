//! The ReplicaSet controller: as many pods as are asked for, and of too many the least useful go.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::api::delete::DeleteOptions;
use crate::api::state::State;
use crate::api::store::Key;
use crate::controllers::{
    Timer, condition, count, is_deleting, is_ready, is_terminal, set_condition, set_count,
};

const COST: &str = "controller.kubernetes.io/pod-deletion-cost";

pub(crate) type Owned = Vec<(Key, Arc<Value>)>;

impl State {
    /// Pods of a controller that neither ended nor are on their way out.
    pub(crate) fn live_pods(&self, owner: &Value) -> Owned {
        let mut pods = self.owned("pods", owner);
        pods.retain(|(_, pod)| !is_deleting(pod) && !is_terminal(pod));
        pods
    }

    pub(crate) fn sync_replica_set(&mut self, key: &Key) {
        let Some(set) = self.store.get(key).cloned() else {
            return;
        };
        if is_deleting(&set) {
            return;
        }
        let wanted = count(&set["spec"]["replicas"]);
        let pods = self.live_pods(&set);
        let mut refused = None;
        for _ in pods.len()..wanted {
            if let Err(why) = self.make_pod(&set, &set["spec"]["template"], None, None) {
                refused = Some(why);
                break;
            }
        }
        if pods.len() > wanted {
            for key in least_useful(pods, wanted) {
                self.remove_object(&key, &DeleteOptions::default());
            }
        }
        self.try_again(key, &set, refused.is_some());
        self.write_set_status(key, &set, refused.as_deref());
    }

    fn write_set_status(&mut self, key: &Key, set: &Value, refused: Option<&str>) {
        let pods = self.live_pods(set);
        let ready = pods.iter().filter(|(_, pod)| is_ready(pod)).count();
        let available = self.count_available(key, set, &pods);
        let now = self.now_seconds();
        self.write_status(key, |status| {
            status["observedGeneration"] = set["metadata"]["generation"].clone();
            status["replicas"] = json!(pods.len());
            set_count(status, "fullyLabeledReplicas", pods.len());
            set_count(status, "readyReplicas", ready);
            set_count(status, "availableReplicas", available);
            if let Some(why) = refused {
                // Each refusal names another pod: the first one stays.
                if condition(set, "ReplicaFailure").is_some() {
                    return;
                }
                let failure = json!({
                    "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": why,
                });
                set_condition(status, &now, &failure);
            } else if let Some(conditions) = status.get_mut("conditions").and_then(Value::as_array_mut) {
                conditions.retain(|condition| condition["type"] != "ReplicaFailure");
            }
        });
    }

    /// How many pods have been ready for as long as their controller asks for; looks again when there will be more.
    pub(crate) fn count_available(&mut self, key: &Key, owner: &Value, pods: &Owned) -> usize {
        let waits: Vec<i64> = pods
            .iter()
            .filter_map(|(_, pod)| self.until_available(owner, pod))
            .collect();
        if let Some(wait) = waits.iter().copied().filter(|wait| *wait > 0).min() {
            self.look_later(key, owner, Duration::from_secs(wait.unsigned_abs()));
        }
        waits.iter().filter(|wait| **wait <= 0).count()
    }

    /// Seconds until a ready pod counts as available; none when it is not ready.
    pub(crate) fn until_available(&self, owner: &Value, pod: &Value) -> Option<i64> {
        if !is_ready(pod) {
            return None;
        }
        let pause = owner["spec"]["minReadySeconds"].as_i64().unwrap_or(0);
        if pause == 0 {
            return Some(0);
        }
        let conditions = pod["status"]["conditions"].as_array()?;
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready")?;
        let since = ready["lastTransitionTime"]
            .as_str()?
            .parse::<jiff::Timestamp>()
            .ok()?;
        Some(since.as_second() + pause - self.now().as_second())
    }

    /// What was refused is tried again after a while, and then after twice that.
    pub(crate) fn try_again(&mut self, key: &Key, owner: &Value, refused: bool) {
        let uid = owner["metadata"]["uid"].as_str().unwrap_or("");
        if !refused {
            self.refusals.remove(uid);
            return;
        }
        let before = self.refusals.entry(uid.to_owned()).or_default();
        let pause = Duration::from_millis(5 << (*before).min(17));
        *before += 1;
        self.look_later(key, owner, pause);
    }

    /// Lets a controller look again after a while, unless it will by then.
    pub(crate) fn look_later(&mut self, key: &Key, owner: &Value, pause: Duration) {
        let due = Instant::now() + pause;
        let looks = self
            .timers
            .iter()
            .take_while(|((at, _), _)| *at <= due)
            .any(|(_, timer)| matches!(timer, Timer::Controller(of, _) if of == key));
        if !looks {
            let uid = owner["metadata"]["uid"].as_str().unwrap_or("").to_owned();
            self.after(pause, Timer::Controller(key.clone(), uid));
        }
    }
}

/// The pods that go so that `left` are left: those without a node, those that have not begun, those that are not ready,
/// those that cost least, those that share their node with most others, the youngest.
fn least_useful(pods: Owned, left: usize) -> Vec<Key> {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let node = |pod: &Value| text(&pod["spec"]["nodeName"]);
    let mut together: BTreeMap<String, usize> = BTreeMap::new();
    for (_, pod) in &pods {
        *together.entry(node(pod)).or_default() += 1;
    }
    let go = pods.len() - left;
    let mut ranked: Vec<_> = pods
        .into_iter()
        .map(|(key, pod)| {
            let node = node(&pod);
            let cost = text(&pod["metadata"]["annotations"][COST])
                .parse::<i64>()
                .unwrap_or(0);
            let rank = (
                !node.is_empty(),
                pod["status"]["phase"] == "Running",
                is_ready(&pod),
                cost,
                Reverse(together[&node]),
                Reverse((text(&pod["metadata"]["creationTimestamp"]), key.name.clone())),
            );
            (rank, key)
        })
        .collect();
    ranked.sort();
    ranked.into_iter().take(go).map(|(_, key)| key).collect()
}
