//! Choosing a node: the part of a scheduler that the tests need. Resources are not counted.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Taint};

/// The node for a pod: one that it may run on, of those one that it prefers, of those the emptiest.
///
/// `pods_on` counts the unfinished pods on a node.
pub(super) fn choose(
    pod: &Pod,
    nodes: &BTreeMap<String, Node>,
    pods_on: impl Fn(&str) -> usize,
) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let fitting = nodes
        .iter()
        .filter(|(_, node)| tolerates_all(spec, node) && matches_required(spec, node));
    let best = fitting.min_by_key(|(name, node)| (-preference(spec, node), pods_on(name)));
    best.map(|(name, _)| name.clone())
}

fn tolerates_all(spec: &PodSpec, node: &Node) -> bool {
    let node_spec = node.spec.clone().unwrap_or_default();
    // A real cluster adds this taint to a cordoned node a moment later.
    let cordoned = node_spec.unschedulable.unwrap_or(false).then(|| Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        effect: "NoSchedule".into(),
        ..Taint::default()
    });
    let taints = node_spec.taints.unwrap_or_default().into_iter().chain(cordoned);
    let mut repelling = taints.filter(|taint| taint.effect != "PreferNoSchedule");
    repelling.all(|taint| tolerates(spec, &taint))
}

fn tolerates(spec: &PodSpec, taint: &Taint) -> bool {
    spec.tolerations.iter().flatten().any(|toleration| {
        let effect = toleration.effect.as_deref().unwrap_or_default();
        let key = toleration.key.as_deref().unwrap_or_default();
        let exists = toleration.operator.as_deref() == Some("Exists");
        (effect.is_empty() || effect == taint.effect)
            && (key == taint.key || key.is_empty() && exists)
            && (exists
                || toleration.value.as_deref().unwrap_or_default()
                    == taint.value.as_deref().unwrap_or_default())
    })
}

fn matches_required(spec: &PodSpec, node: &Node) -> bool {
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let selected = spec
        .node_selector
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    let affinity = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    selected && required.is_none_or(|r| r.node_selector_terms.iter().any(|term| matches_term(term, node)))
}

fn preference(spec: &PodSpec, node: &Node) -> i32 {
    let affinity = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref());
    let preferred = affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    let met = preferred
        .into_iter()
        .flatten()
        .filter(|term| matches_term(&term.preference, node));
    met.map(|term| term.weight).sum()
}

fn matches_term(term: &NodeSelectorTerm, node: &Node) -> bool {
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let name = node.metadata.name.clone();
    let expressions = term.match_expressions.iter().flatten();
    let fields = term.match_fields.iter().flatten();
    // Kubernetes: a term without any requirement matches nothing.
    let empty = expressions.clone().next().is_none() && fields.clone().next().is_none();
    // metadata.name is the only field that Kubernetes allows here.
    !empty
        && expressions
            .into_iter()
            .all(|r| matches_requirement(r, labels.get(&r.key)))
        && fields.into_iter().all(|r| matches_requirement(r, name.as_ref()))
}

fn matches_requirement(requirement: &NodeSelectorRequirement, value: Option<&String>) -> bool {
    let listed = value.is_some_and(|value| requirement.values.iter().flatten().any(|v| v == value));
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn nodes(cordoned: &[&str]) -> BTreeMap<String, Node> {
        let node = |name: &str| -> Node {
            let labels = json!({"kubernetes.io/hostname": name});
            serde_json::from_value(json!({
                "metadata": {"name": name, "labels": labels},
                "spec": {"unschedulable": cordoned.contains(&name)},
            }))
            .expect("a node")
        };
        ["a", "b", "c"].map(|name| (name.to_owned(), node(name))).into()
    }

    fn pod(spec: serde_json::Value) -> Pod {
        let mut pod: Pod = serde_json::from_value(json!({"spec": {"containers": []}})).expect("a pod");
        pod.spec = Some(serde_json::from_value(merge(json!({"containers": []}), spec)).expect("a pod spec"));
        pod
    }

    fn merge(mut base: serde_json::Value, more: serde_json::Value) -> serde_json::Value {
        if let (Some(base), serde_json::Value::Object(more)) = (base.as_object_mut(), more) {
            base.extend(more);
        }
        base
    }

    #[test]
    fn the_emptiest_node_is_taken() {
        let chosen = choose(&pod(json!({})), &nodes(&[]), |node| usize::from(node != "b"));
        assert_eq!(chosen.as_deref(), Some("b"));
    }

    #[test]
    fn a_cordoned_node_takes_only_pods_that_tolerate_it() {
        let cordoned = nodes(&["a", "b", "c"]);
        assert_eq!(choose(&pod(json!({})), &cordoned, |_| 0), None);
        let toleration = json!({"key": "node.kubernetes.io/unschedulable", "operator": "Exists"});
        assert!(choose(&pod(json!({"tolerations": [toleration]})), &cordoned, |_| 0).is_some());
    }

    #[test]
    fn a_preference_yields_when_no_preferred_node_fits() {
        let preference = json!({"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["a"]}]});
        let affinity = json!({"affinity": {"nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": preference}]}}});
        assert_eq!(
            choose(&pod(affinity.clone()), &nodes(&[]), |_| 0).as_deref(),
            Some("b")
        );
        assert_eq!(
            choose(&pod(affinity), &nodes(&["b", "c"]), |_| 0).as_deref(),
            Some("a")
        );
    }

    #[test]
    fn a_required_node_is_required() {
        let term = json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["c"]}]});
        let affinity = json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}});
        assert_eq!(
            choose(&pod(affinity.clone()), &nodes(&[]), |_| 0).as_deref(),
            Some("c")
        );
        assert_eq!(choose(&pod(affinity), &nodes(&["c"]), |_| 0), None);
    }
}
