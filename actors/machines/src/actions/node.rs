//! What actions on a node have in common.

use k8s_openapi::api::rbac::v1::PolicyRule;
use kubernaut_crds::{ErrorType, NodeAction, RecordedRollback, TargetRef};
use serde_json::{Value, json};

use super::access::rule;
use super::rollback::{not_reversible, reversible};
use super::{Examination, target_name};
use crate::preflight::{Preflight, Refusal, Scope, refuse};
use crate::reads::Read;
use crate::verify::{Postcondition, holds, not_there};

/// apiVersion of nodes.
pub(super) const VERSION: &str = "v1";

pub(super) fn rules() -> Vec<PolicyRule> {
    vec![rule("", "nodes", &["get", "patch"])]
}

pub(super) fn target(name: &str) -> TargetRef {
    TargetRef {
        kind: "Node".to_owned(),
        namespace: None,
        name: name.to_owned(),
    }
}

/// All nodes, to know whether it is the last one that takes pods: only under the lock.
pub(super) fn reads_of_all(scope: Scope) -> Vec<Read> {
    if scope.locked {
        vec![Read::list("v1", "Node", None, None)]
    } else {
        Vec::new()
    }
}

pub(super) fn words(cordoned: bool) -> &'static str {
    if cordoned { "cordoned" } else { "schedulable" }
}

/// Whether a pod that tolerates nothing may be scheduled there. A node that says nothing of its kubelet is taken for Ready.
pub(crate) fn takes_pods(node: &Value) -> bool {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let keeps_out = |taint: &Value| matches!(taint["effect"].as_str(), Some("NoSchedule" | "NoExecute"));
    let is_not_ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] != "True";
    node["spec"]["unschedulable"] != true
        && !list(&node["spec"]["taints"]).iter().any(keeps_out)
        && !list(&node["status"]["conditions"]).iter().any(is_not_ready)
}

/// Preflight a node is cordoned: there is another one that takes pods, and an uncordon takes it back.
pub(super) fn examine_cordon(
    name: &str,
    at: Examination<'_>,
    preflight: &mut Preflight,
) -> Result<(), Refusal> {
    let cordoned = at.object["spec"]["unschedulable"] == true;
    // Without the lock they are not read, and nothing is decided.
    let nodes = at.facts.get(&Read::list("v1", "Node", None, None));
    let others: Option<Vec<&Value>> = nodes.map(|nodes| {
        let others = nodes.iter().filter(|node| node["metadata"]["name"] != name);
        others.collect()
    });
    if let Some(others) = others
        && takes_pods(at.object)
        && !others.iter().any(|node| takes_pods(node))
    {
        let why = if others.is_empty() {
            "there is no other"
        } else {
            "each of the others is cordoned, not Ready or tainted against pods"
        };
        let message = format!(
            "{} is the last schedulable node: {why}, so nothing could be scheduled any more",
            target_name(&at.checked.target)
        );
        return refuse(ErrorType::ValidationError, message);
    }
    preflight.change(words(cordoned), words(true));
    preflight.impact = format!("Node: {} -> {}", words(cordoned), words(true));
    preflight.rollback = if cordoned {
        not_reversible("the node was cordoned before: there is nothing to take back")
    } else {
        let uncordon_node = Some(NodeAction {
            node: name.to_owned(),
        });
        reversible(
            "uncordon-node",
            RecordedRollback {
                uncordon_node,
                ..RecordedRollback::default()
            },
        )
    };
    Ok(())
}

/// Whether it takes pods, and nothing else of it.
pub(super) fn part(node: &Value) -> Value {
    let cordoned = node["spec"]["unschedulable"] == true;
    json!({"spec": {"unschedulable": cordoned.then_some(true)}})
}

pub(super) fn outcome(node: &Value, wanted: bool) -> Postcondition {
    let cordoned = node["spec"]["unschedulable"] == true;
    if cordoned == wanted {
        holds(words(cordoned))
    } else {
        not_there(format!("the node is {}", words(cordoned)))
    }
}
