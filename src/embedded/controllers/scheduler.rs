//! Which node a pod goes to.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use crate::api::state::State;
use crate::api::store::Key;

impl State {
    /// The node for a pod: `Ok(None)` in a cluster without nodes, an explanation when none fits.
    pub(crate) fn choose_node(&self, pod: &Value) -> Result<Option<String>, String> {
        let nodes: Vec<(&Key, &Arc<Value>)> = self.store.list("nodes", "").collect();
        if nodes.is_empty() {
            return Ok(None);
        }
        let mut loads: BTreeMap<&str, usize> = BTreeMap::new();
        for run in self.runs.values() {
            *loads.entry(&run.node).or_default() += 1;
        }
        let (mut cordoned, mut tainted, mut unselected) = (0, 0, 0);
        let mut best: Option<((usize, i64, usize), &Key)> = None;
        for (key, node) in &nodes {
            if !matches_selector(pod, node) {
                unselected += 1;
            } else if node["spec"]["unschedulable"] == true && !tolerates(pod, &unschedulable_taint()) {
                cordoned += 1;
            } else if is_kept_out_by(pod, node) || !is_up(node) {
                tainted += 1;
            } else {
                let load = loads.get(key.name.as_str()).copied().unwrap_or(0);
                let rank = (dislikes(pod, node), -preference(pod, node), load);
                if best.is_none_or(|best| (rank, *key) < best) {
                    best = Some((rank, key));
                }
            }
        }
        best.map(|(_, key)| Some(key.name.clone())).ok_or_else(|| {
            let mut parts = Vec::new();
            for (count, why) in [
                (unselected, "node(s) didn't match Pod's node affinity/selector"),
                (tainted, "node(s) had untolerated taint(s)"),
                (cordoned, "node(s) were unschedulable"),
            ] {
                if count > 0 {
                    parts.push(format!("{count} {why}"));
                }
            }
            format!("0/{} nodes are available: {}.", nodes.len(), parts.join(", "))
        })
    }
}

/// Whether a DaemonSet's pod belongs on a node.
pub(crate) fn matches_selector(pod: &Value, node: &Value) -> bool {
    let labels = &node["metadata"]["labels"];
    let selected = pod["spec"]["nodeSelector"]
        .as_object()
        .into_iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    let required = &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let terms = required["nodeSelectorTerms"].as_array();
    selected && terms.is_none_or(|terms| terms.iter().any(|term| matches_term(term, node)))
}

fn matches_term(term: &Value, node: &Value) -> bool {
    let holds = |expression: &Value, value: Option<&str>| {
        let values: Vec<&str> = expression["values"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        match expression["operator"].as_str() {
            Some("In") => value.is_some_and(|v| values.contains(&v)),
            Some("NotIn") => value.is_none_or(|v| !values.contains(&v)),
            Some("Exists") => value.is_some(),
            Some("DoesNotExist") => value.is_none(),
            _ => false,
        }
    };
    let labels = &node["metadata"]["labels"];
    let label = |key: &Value| labels.get(key.as_str().unwrap_or("")).and_then(Value::as_str);
    let mut fields = term["matchFields"].as_array().into_iter().flatten();
    let mut expressions = term["matchExpressions"].as_array().into_iter().flatten();
    fields.all(|e| holds(e, node["metadata"]["name"].as_str()))
        && expressions.all(|e| holds(e, label(&e["key"])))
}

fn preference(pod: &Value, node: &Value) -> i64 {
    pod["spec"]["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|p| matches_term(&p["preference"], node))
        .map(|p| p["weight"].as_i64().unwrap_or(0))
        .sum()
}

/// Whether the kubelet of a node works, as far as its conditions say; a node without any is one that works.
pub(crate) fn is_up(node: &Value) -> bool {
    let mut conditions = node["status"]["conditions"].as_array().into_iter().flatten();
    conditions
        .find(|condition| condition["type"] == "Ready")
        .is_none_or(|ready| ready["status"] == "True")
}

/// Whether a taint of the node keeps a new pod away.
pub(crate) fn is_kept_out_by(pod: &Value, node: &Value) -> bool {
    taints(node).any(|taint| {
        let counts = matches!(taint["effect"].as_str(), Some("NoSchedule" | "NoExecute"));
        counts && !tolerates(pod, taint)
    })
}

/// Whether a taint of the node drives a running pod away.
pub(crate) fn is_evicted_by(pod: &Value, node: &Value) -> bool {
    taints(node).any(|taint| taint["effect"] == "NoExecute" && !tolerates(pod, taint))
}

/// How many taints speak against a node and do not keep the pod away.
fn dislikes(pod: &Value, node: &Value) -> usize {
    taints(node)
        .filter(|taint| taint["effect"] == "PreferNoSchedule" && !tolerates(pod, taint))
        .count()
}

fn taints(node: &Value) -> impl Iterator<Item = &Value> {
    node["spec"]["taints"].as_array().into_iter().flatten()
}

/// That of a cordoned node.
pub(crate) fn unschedulable_taint() -> Value {
    json!({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"})
}

/// Whether one of the pod's tolerations names the taint: without an effect any, without a key and with Exists any, and
/// otherwise by its value, where none is an empty one.
fn tolerates(pod: &Value, taint: &Value) -> bool {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let mut tolerations = pod["spec"]["tolerations"].as_array().into_iter().flatten();
    tolerations.any(|toleration| {
        let (key, effect) = (text(&toleration["key"]), text(&toleration["effect"]));
        let of_effect = effect.is_empty() || effect == text(&taint["effect"]);
        let of_key = key.is_empty() || key == text(&taint["key"]);
        let of_value = match toleration["operator"].as_str() {
            Some("Exists") => true,
            None | Some("" | "Equal") => {
                !key.is_empty() && text(&toleration["value"]) == text(&taint["value"])
            }
            // What the scheduler does not know tolerates nothing.
            Some(_) => false,
        };
        of_effect && of_key && of_value
    })
}

/// The condition of a pod that waits for a node.
pub(crate) fn unschedulable(message: &str) -> Value {
    json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message})
}
