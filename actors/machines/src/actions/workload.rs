//! What actions on workloads have in common.

use kubernaut_crds::ErrorType;

use super::access::AccessRequest;
use super::{Examination, target_name};
use crate::preflight::{Preflight, Refusal, Scope, refuse};
use crate::reads::Read;

/// apiVersion of Deployments and StatefulSets.
pub(super) const VERSION: &str = "apps/v1";

/// Of one that is paused no pod would change.
pub(super) fn refuse_paused(at: Examination<'_>) -> Result<(), Refusal> {
    if at.object["spec"]["paused"] == true {
        let message = format!(
            "{} is paused, so its pods would not change: resume it first",
            target_name(&at.checked.target)
        );
        return refuse(ErrorType::ValidationError, message);
    }
    Ok(())
}

/// With it, a person is warned of an autoscaler that would take the scale back.
pub(super) fn right_to_list_autoscalers(namespace: &str) -> AccessRequest {
    AccessRequest {
        group: "autoscaling".to_owned(),
        resource: "horizontalpodautoscalers".to_owned(),
        subresource: None,
        verb: "list".to_owned(),
        namespace: Some(namespace.to_owned()),
        name: None,
    }
}

pub(super) fn reads_before_scaling(namespace: &str, scope: Scope) -> Vec<Read> {
    let autoscalers = Read::list("autoscaling/v2", "HorizontalPodAutoscaler", Some(namespace), None);
    scope.optional.then_some(autoscalers).into_iter().collect()
}

/// Takes down how many replicas there are and shall be, and warns of autoscalers; returns how many there are.
pub(super) fn examine_scale(at: Examination<'_>, wanted: i32, preflight: &mut Preflight) -> i32 {
    let replicas = at.object["spec"]["replicas"].as_i64().unwrap_or(1);
    preflight.change(format!("replicas: {replicas}"), format!("replicas: {wanted}"));
    preflight.impact = format!("Replicas: {replicas} -> {wanted}");
    let target = &at.checked.target;
    let autoscalers = at
        .facts
        .iter()
        .find(|(read, _)| matches!(read, Read::List { kind, .. } if kind == "HorizontalPodAutoscaler"));
    for autoscaler in autoscalers.map(|(_, found)| found.as_slice()).unwrap_or_default() {
        let scaled = &autoscaler["spec"]["scaleTargetRef"];
        if scaled["kind"] == target.kind.as_str() && scaled["name"] == target.name.as_str() {
            let name = autoscaler["metadata"]["name"].as_str().unwrap_or_default();
            preflight.warnings.push(format!(
                "HorizontalPodAutoscaler {name} scales this {} too and may change it back",
                target.kind
            ));
        }
    }
    i32::try_from(replicas).unwrap_or(0)
}
