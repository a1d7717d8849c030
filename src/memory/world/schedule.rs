//! Which node a pod goes to.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::super::{state::State, store::Key};

impl State {
    /// The node for a pod: `Ok(None)` in a cluster without nodes, an explanation when none fits.
    pub(super) fn choose_node(&self, pod: &Value) -> Result<Option<String>, String> {
        let nodes: Vec<(&Key, &Arc<Value>)> = self.store.list("nodes", "").collect();
        if nodes.is_empty() {
            return Ok(None);
        }
        let mut loads: BTreeMap<&str, usize> = BTreeMap::new();
        for run in self.runs.values() {
            *loads.entry(&run.node).or_default() += 1;
        }
        let (mut cordoned, mut tainted, mut unselected) = (0, 0, 0);
        let mut best: Option<(i64, usize, String)> = None;
        for (key, node) in &nodes {
            if !matches_selector(pod, node) {
                unselected += 1;
            } else if node["spec"]["unschedulable"] == true
                && !tolerates(pod, "node.kubernetes.io/unschedulable", "NoSchedule")
            {
                cordoned += 1;
            } else if untolerated(pod, node) {
                tainted += 1;
            } else {
                let load = loads.get(key.name.as_str()).copied().unwrap_or(0);
                let candidate = (-preference(pod, node), load, key.name.clone());
                if best.as_ref().is_none_or(|b| candidate < *b) {
                    best = Some(candidate);
                }
            }
        }
        best.map(|(_, _, name)| Some(name)).ok_or_else(|| {
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
pub(super) fn matches_selector(pod: &Value, node: &Value) -> bool {
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

fn tolerates(pod: &Value, key: &str, effect: &str) -> bool {
    pod["spec"]["tolerations"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|t| {
            let any = |field: &str| t[field].as_str().is_none_or(str::is_empty);
            let exists = t["operator"] == "Exists";
            let key_ok = (any("key") && exists) || t["key"] == key;
            let value_ok = exists || any("value");
            let effect_ok = any("effect") || t["effect"] == effect;
            key_ok && value_ok && effect_ok
        })
}

fn untolerated(pod: &Value, node: &Value) -> bool {
    node["spec"]["taints"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|taint| {
            let effect = taint["effect"].as_str().unwrap_or("");
            let equal = pod["spec"]["tolerations"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|t| {
                    t["key"] == taint["key"]
                        && t["value"] == taint["value"]
                        && (t["effect"].is_null() || t["effect"] == taint["effect"])
                });
            matches!(effect, "NoSchedule" | "NoExecute")
                && !equal
                && !tolerates(pod, taint["key"].as_str().unwrap_or(""), effect)
        })
}

/// The condition of a pod that waits for a node.
pub(super) fn unschedulable(message: &str) -> Value {
    json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message})
}
