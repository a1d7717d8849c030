//! scale-stateful-set: sets the number of replicas of a StatefulSet.

use k8s_openapi::api::rbac::v1::PolicyRule;
use kubernaut_crds::{Attempt, RecordedRollback, ScaleStatefulSet, TargetRef};
use serde_json::{Value, json};

use super::access::{AccessRequest, Reach, requests, rule};
use super::checks::{LEAST_TIMEOUT, bad_name, bad_namespace, bad_number};
use super::rollback::previous;
use super::{
    Changes, CheckContext, Definition, Examination, JobContext, Look, Payload, Rollout, Spelling, Subject,
    Variant, namespaced, rollout, workload,
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
        step_member: "scaleStatefulSet",
        names: &["scale-stateful-set", "scale_stateful_set", "scale-statefulset"],
        step_fields: &[],
    }],
    service_account: "scale-stateful-set-sa",
    rules: |_| {
        vec![
            rule("apps", "statefulsets", &["get"]),
            rule("apps", "statefulsets/scale", &["get", "patch"]),
        ]
    },
    changes: Changes::Scale,
    noun: "StatefulSet",
    on_node: false,
    acts_on_pods: false,
    rollout: Rollout::Resizes,
    payload: Payload::Annotations,
    least_timeout: LEAST_TIMEOUT,
    provable_when_lost: true,
    fails_half_done: false,
    records_its_time: false,
    samples: || {
        vec![(
            Variant::Plain,
            json!({"scaleStatefulSet": {"namespace": "shop", "name": "db", "replicas": 3}}),
        )]
    },
};

pub(super) struct Operation<'a>(pub(super) &'a ScaleStatefulSet);

impl super::Operation for Operation<'_> {
    fn target(&self, _: Option<&ParsedManifest>) -> TargetRef {
        namespaced("StatefulSet", &self.0.namespace, &self.0.name)
    }

    fn manifest(&self) -> Option<&str> {
        None
    }

    fn problems(&self, _: CheckContext<'_>) -> Vec<Problem> {
        let problems = [
            bad_name("name", &self.0.name),
            bad_namespace("namespace", &self.0.namespace),
            bad_number("replicas", self.0.replicas.into(), 0, 1000),
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
        requests(rules, target, |_, _, _| Some(Reach::Target))
    }

    fn optional_right(&self) -> Option<AccessRequest> {
        Some(workload::right_to_list_autoscalers(&self.0.namespace))
    }

    fn target_version(&self, _: Option<&ParsedManifest>) -> Option<String> {
        Some(workload::VERSION.to_owned())
    }

    fn may_create_its_target(&self) -> bool {
        false
    }

    fn reads_before(&self, scope: Scope) -> Vec<Read> {
        workload::reads_before_scaling(&self.0.namespace, scope)
    }

    fn examine(&self, at: Examination<'_>, preflight: &mut Preflight) -> Result<(), Refusal> {
        let replicas = workload::examine_scale(at, self.0.replicas, preflight);
        preflight.rollback = previous(&at.checked.target, &json!({"replicas": replicas}));
        Ok(())
    }

    fn keeps_first_generation(&self) -> bool {
        false
    }

    fn avoids_node(&self) -> Option<&str> {
        None
    }

    fn call(&self, job: JobContext<'_>) -> Result<Call, RenderError> {
        Ok(Call::of([
            "scale".to_owned(),
            format!("statefulset/{}", self.0.name),
            format!("--namespace={}", self.0.namespace),
            format!("--replicas={}", self.0.replicas),
        ])
        .dry(job.dry_run))
    }

    fn reads_after(&self, _: &Attempt, target: Option<&Value>, facts: &ReadResults) -> Vec<Read> {
        rollout::reads(target, facts)
    }

    fn outcome(&self, look: Look<'_>) -> Postcondition {
        rollout::scaled(look, self.0.replicas)
    }

    fn part(&self, object: &Value, _: Option<&ParsedManifest>) -> Option<Value> {
        Some(json!({"spec": {"replicas": object["spec"]["replicas"]}}))
    }

    fn undo_by_hand(&self, _: Variant, recorded: &RecordedRollback, _: &TargetRef) -> Option<String> {
        let before = recorded.restore_previous_config.as_ref()?;
        let part: Value = serde_json::from_str(&before.previous_spec).ok()?;
        Some(format!(
            "kubectl -n {} scale statefulset/{} --replicas={}",
            before.namespace,
            before.name,
            part["replicas"].as_i64()?
        ))
    }

    fn subject(&self, _: Variant, _: Option<&ParsedManifest>) -> Subject {
        Subject::Workload {
            containers: Vec::new(),
        }
    }
}
