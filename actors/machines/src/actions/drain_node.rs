//! drain-node: moves the pods off a node.

use std::time::Duration;

use k8s_openapi::api::rbac::v1::PolicyRule;
use kubernaut_crds::{Attempt, DrainNode, DrainNodeStep, RecordedRollback, TargetRef, names};
use serde_json::{Value, json};

use super::access::{AccessRequest, Reach, requests, rule};
use super::checks::{bad_grace, bad_name};
use super::{
    Changes, CheckContext, Definition, Examination, JobContext, Look, Payload, Rollout, Spelling, Subject,
    Variant, node,
};
use crate::manifest_kinds::ParsedManifest;
use crate::mapping::{MappingError, grace_seconds};
use crate::preflight::{Preflight, Refusal, Scope};
use crate::problem::Problem;
use crate::reads::{Read, ReadResults};
use crate::render::{Call, RenderError};
use crate::verify::{Postcondition, holds, not_there};

pub(super) const DEFINITION: Definition = Definition {
    spellings: &[Spelling {
        variant: Variant::Plain,
        step_member: "drainNode",
        names: &["drain-node", "drain_node"],
        step_fields: &[("node", "nodeName"), ("gracePeriodSeconds", "gracePeriod")],
    }],
    service_account: "drain-node-sa",
    rules: |_| {
        let mut rules = node::rules();
        rules.extend([
            rule("", "pods", &["get", "list"]),
            rule("", "pods/eviction", &["create"]),
            rule("apps", "daemonsets", &["get"]),
        ]);
        rules
    },
    changes: Changes::SchedulabilityAndPods,
    noun: "node",
    on_node: true,
    acts_on_pods: false,
    rollout: Rollout::None,
    payload: Payload::Annotations,
    least_timeout: Duration::from_secs(30),
    provable_when_lost: true,
    // It cordons before it is refused anything.
    fails_half_done: true,
    records_its_time: false,
    samples: || {
        let drain = json!({"node": "node-1", "gracePeriodSeconds": 30, "ignoreDaemonSets": true,
                           "deleteLocalData": true});
        vec![(Variant::Plain, json!({"drainNode": drain}))]
    },
};

/// How a node is after a drain, in words.
const EMPTY: &str = "cordoned and empty";

/// Seconds that a drained pod gets where the step says nothing (the design document's default).
const GRACE: i64 = 30;

/// From a step that drains a node. It never forces.
pub(crate) fn from_step(step: DrainNodeStep) -> Result<DrainNode, MappingError> {
    Ok(DrainNode {
        grace_period_seconds: grace_seconds(step.grace_period.as_deref())?.unwrap_or(GRACE),
        node: step.node_name,
        force: false,
        ignore_daemon_sets: step.ignore_daemon_sets,
        delete_local_data: step.delete_local_data,
    })
}

/// kubectl drain's own filter: not mirror pods, not finished ones, not those of a DaemonSet where these are ignored; and not the
/// executor's. Where they are not, kubectl touches no pod at all, and the node is as it was.
fn is_evictable(pod: &Value, ignore_daemon_sets: bool) -> bool {
    let metadata = &pod["metadata"];
    let mirror = metadata["annotations"]
        .get("kubernetes.io/config.mirror")
        .is_some();
    let finished = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    let executor = metadata["labels"].get(names::LABEL_EXECUTION_UID).is_some();
    let owners = metadata["ownerReferences"].as_array();
    let daemon = owners
        .into_iter()
        .flatten()
        .any(|owner| owner["controller"] == true && owner["kind"] == "DaemonSet");
    !(mirror || finished || executor || daemon && ignore_daemon_sets)
}

pub(super) struct Operation<'a>(pub(super) &'a DrainNode);

impl super::Operation for Operation<'_> {
    fn target(&self, _: Option<&ParsedManifest>) -> TargetRef {
        node::target(&self.0.node)
    }

    fn manifest(&self) -> Option<&str> {
        None
    }

    fn problems(&self, _: CheckContext<'_>) -> Vec<Problem> {
        let problems = [
            bad_name("node", &self.0.node),
            bad_grace(self.0.grace_period_seconds),
        ];
        problems.into_iter().flatten().collect()
    }

    fn problem_of_variant(&self, _: CheckContext<'_>) -> Option<Problem> {
        None
    }

    fn payload_size(&self, _: Option<&ParsedManifest>) -> Option<(&'static str, usize)> {
        None
    }

    fn secrets(&self) -> Vec<&str> {
        Vec::new()
    }

    fn rights(
        &self,
        rules: &[PolicyRule],
        target: &TargetRef,
        _: Option<&ParsedManifest>,
    ) -> Vec<AccessRequest> {
        // The pods of a node are of any namespace.
        requests(rules, target, |_, resource, _| {
            Some(if resource == "nodes" {
                Reach::Target
            } else {
                Reach::Cluster
            })
        })
    }

    fn optional_right(&self) -> Option<AccessRequest> {
        None
    }

    fn target_version(&self, _: Option<&ParsedManifest>) -> Option<String> {
        Some(node::VERSION.to_owned())
    }

    fn may_create_its_target(&self) -> bool {
        false
    }

    fn reads_before(&self, scope: Scope) -> Vec<Read> {
        node::reads_of_all(scope)
    }

    fn examine(&self, at: Examination<'_>, preflight: &mut Preflight) -> Result<(), Refusal> {
        node::examine_cordon(&self.0.node, at, preflight)?;
        EMPTY.clone_into(&mut preflight.wanted);
        preflight.impact = format!("Node: {} -> {EMPTY}", preflight.state_summary);
        Ok(())
    }

    fn keeps_first_generation(&self) -> bool {
        false
    }

    fn avoids_node(&self) -> Option<&str> {
        Some(&self.0.node)
    }

    fn call(&self, job: JobContext<'_>) -> Result<Call, RenderError> {
        let drain = self.0;
        Ok(Call::of([
            "drain".to_owned(),
            drain.node.clone(),
            format!("--grace-period={}", drain.grace_period_seconds),
            format!("--ignore-daemonsets={}", drain.ignore_daemon_sets),
            format!("--delete-emptydir-data={}", drain.delete_local_data),
            format!("--force={}", drain.force),
            format!("--timeout={}s", job.patience),
            // Our own pod may run on that node.
            format!("--pod-selector=!{}", names::LABEL_EXECUTION_UID),
        ])
        .dry(job.dry_run))
    }

    fn reads_after(&self, _: &Attempt, _: Option<&Value>, _: &ReadResults) -> Vec<Read> {
        vec![Read::pods_on(&self.0.node)]
    }

    fn outcome(&self, look: Look<'_>) -> Postcondition {
        if look.object["spec"]["unschedulable"] != true {
            return not_there("the node is schedulable");
        }
        let pods = look.facts.get(&Read::pods_on(&self.0.node));
        let left: Vec<&str> = pods
            .into_iter()
            .flatten()
            .filter(|pod| is_evictable(pod, self.0.ignore_daemon_sets))
            .filter_map(|pod| pod["metadata"]["name"].as_str())
            .collect();
        match left.first() {
            None => holds(EMPTY),
            Some(first) => not_there(format!("{} pods are left, such as {first}", left.len())),
        }
    }

    fn part(&self, object: &Value, _: Option<&ParsedManifest>) -> Option<Value> {
        Some(node::part(object))
    }

    fn undo_by_hand(&self, _: Variant, recorded: &RecordedRollback, _: &TargetRef) -> Option<String> {
        let node = recorded.uncordon_node.as_ref()?;
        Some(format!("kubectl uncordon {}", node.node))
    }

    fn subject(&self, _: Variant, _: Option<&ParsedManifest>) -> Subject {
        Subject::Node {
            cordoned: false,
            emptied: true,
        }
    }
}
