//! The node lifecycle controller, as far as nobody loses a node here: taints come and go with cordons and conditions.

use serde_json::{Value, json};

use crate::api::state::State;
use crate::api::store::Key;
use crate::api::write::set_or_remove;
use crate::controllers::scheduler::unschedulable_taint;

/// The taints that follow from a node's conditions.
const BY_CONDITION: [(&str, &str, &str); 6] = [
    ("Ready", "False", "node.kubernetes.io/not-ready"),
    ("Ready", "Unknown", "node.kubernetes.io/unreachable"),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    (
        "NetworkUnavailable",
        "True",
        "node.kubernetes.io/network-unavailable",
    ),
];

impl State {
    pub(crate) fn sync_node(&mut self, key: &Key) {
        let Some(node) = self.store.get(key).cloned() else {
            return;
        };
        let wanted = wanted(&node);
        let taints: Vec<Value> = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
        let mut new: Vec<Value> = taints
            .iter()
            .filter(|taint| !is_ours(taint) || wanted.iter().any(|wanted| is_same(wanted, taint)))
            .cloned()
            .collect();
        let now = self.now_seconds();
        for mut taint in wanted {
            if !new.iter().any(|known| is_same(known, &taint)) {
                taint["timeAdded"] = json!(now);
                new.push(taint);
            }
        }
        if new != taints {
            self.write(key, |node| {
                if !node["spec"].is_object() {
                    node["spec"] = json!({});
                }
                set_or_remove(&mut node["spec"], "taints", (!new.is_empty()).then(|| json!(new)));
            });
        }
    }
}

fn wanted(node: &Value) -> Vec<Value> {
    let conditions = node["status"]["conditions"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let has = |kind: &str, status: &str| {
        let mut conditions = conditions.iter();
        conditions.any(|condition| condition["type"] == kind && condition["status"] == status)
    };
    let by_condition = BY_CONDITION
        .iter()
        .filter(|(kind, status, _)| has(kind, status))
        .map(|(_, _, key)| json!({"key": key, "effect": "NoSchedule"}));
    let cordoned = node["spec"]["unschedulable"] == true;
    by_condition.chain(cordoned.then(unschedulable_taint)).collect()
}

/// Whether a taint comes and goes with the node's state.
fn is_ours(taint: &Value) -> bool {
    let key = &taint["key"];
    taint["effect"] == "NoSchedule"
        && (*key == unschedulable_taint()["key"] || BY_CONDITION.iter().any(|(_, _, ours)| *key == *ours))
}

fn is_same(taint: &Value, other: &Value) -> bool {
    taint["key"] == other["key"] && taint["effect"] == other["effect"]
}
