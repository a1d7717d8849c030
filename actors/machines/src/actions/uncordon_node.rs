//! uncordon-node: lets new pods onto a node again.

use k8s_openapi::api::rbac::v1::PolicyRule;
use kubernaut_crds::{Attempt, NodeAction, RecordedRollback, TargetRef};
use serde_json::{Value, json};

use super::access::{AccessRequest, Reach, requests};
use super::checks::{LEAST_TIMEOUT, bad_name};
use super::rollback::{not_reversible, reversible};
use super::{
    Changes, CheckContext, Definition, Examination, JobContext, Look, Payload, Rollout, Spelling, Subject,
    Variant, node,
};
use crate::manifest_kinds::ParsedManifest;
use crate::preflight::{Preflight, Refusal, Scope};
use crate::problem::Problem;
use crate::reads::{Read, ReadResults};
use crate::render::{Call, RenderError};
use crate::verify::Postcondition;

pub(super) const DEFINITION: Definition = Definition {
    spellings: &[Spelling {
        variant: Variant::Plain,
        step_member: "uncordonNode",
        names: &["uncordon-node", "uncordon_node"],
        step_fields: &[("node", "nodeName")],
    }],
    service_account: "uncordon-node-sa",
    rules: |_| node::rules(),
    changes: Changes::Schedulability,
    noun: "node",
    on_node: true,
    acts_on_pods: false,
    rollout: Rollout::None,
    payload: Payload::Annotations,
    least_timeout: LEAST_TIMEOUT,
    provable_when_lost: true,
    fails_half_done: false,
    records_its_time: false,
    samples: || vec![(Variant::Plain, json!({"uncordonNode": {"node": "node-1"}}))],
};

pub(super) struct Operation<'a>(pub(super) &'a NodeAction);

impl super::Operation for Operation<'_> {
    fn target(&self, _: Option<&ParsedManifest>) -> TargetRef {
        node::target(&self.0.node)
    }

    fn manifest(&self) -> Option<&str> {
        None
    }

    fn problems(&self, _: CheckContext<'_>) -> Vec<Problem> {
        bad_name("node", &self.0.node).into_iter().collect()
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
        requests(rules, target, |_, _, _| Some(Reach::Target))
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

    fn reads_before(&self, _: Scope) -> Vec<Read> {
        Vec::new()
    }

    fn examine(&self, at: Examination<'_>, preflight: &mut Preflight) -> Result<(), Refusal> {
        let cordoned = at.object["spec"]["unschedulable"] == true;
        preflight.change(node::words(cordoned), node::words(false));
        preflight.impact = format!("Node: {} -> {}", node::words(cordoned), node::words(false));
        preflight.rollback = if cordoned {
            let cordon_node = Some(self.0.clone());
            reversible(
                "cordon-node",
                RecordedRollback {
                    cordon_node,
                    ..RecordedRollback::default()
                },
            )
        } else {
            not_reversible("the node was schedulable before: there is nothing to take back")
        };
        Ok(())
    }

    fn keeps_first_generation(&self) -> bool {
        false
    }

    fn avoids_node(&self) -> Option<&str> {
        None
    }

    fn call(&self, job: JobContext<'_>) -> Result<Call, RenderError> {
        Ok(Call::of(["uncordon".to_owned(), self.0.node.clone()]).dry(job.dry_run))
    }

    fn reads_after(&self, _: &Attempt, _: Option<&Value>, _: &ReadResults) -> Vec<Read> {
        Vec::new()
    }

    fn outcome(&self, look: Look<'_>) -> Postcondition {
        node::outcome(look.object, false)
    }

    fn part(&self, object: &Value, _: Option<&ParsedManifest>) -> Option<Value> {
        Some(node::part(object))
    }

    fn undo_by_hand(&self, _: Variant, recorded: &RecordedRollback, _: &TargetRef) -> Option<String> {
        let node = recorded.cordon_node.as_ref()?;
        Some(format!("kubectl cordon {}", node.node))
    }

    fn subject(&self, _: Variant, _: Option<&ParsedManifest>) -> Subject {
        Subject::Node {
            cordoned: true,
            emptied: false,
        }
    }
}
