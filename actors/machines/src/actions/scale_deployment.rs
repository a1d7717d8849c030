//! scale-deployment: sets the number of replicas.

use k8s_openapi::api::rbac::v1::PolicyRule;
use kubernaut_crds::{Attempt, RecordedRollback, ScaleDeployment, ScaleToPrevious, TargetRef};
use serde_json::{Value, json};

use super::access::{AccessRequest, Reach, requests, rule};
use super::checks::{LEAST_TIMEOUT, bad_name, bad_namespace, bad_number};
use super::rollback::reversible;
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
        step_member: "scaleDeployment",
        names: &["scale-deployment", "scale_deployment"],
        step_fields: &[],
    }],
    service_account: "scale-deployment-sa",
    rules: |_| {
        vec![
            rule("apps", "deployments", &["get"]),
            rule("apps", "deployments/scale", &["get", "patch"]),
        ]
    },
    changes: Changes::Scale,
    noun: "Deployment",
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
            json!({"scaleDeployment": {"namespace": "shop", "deployment": "web", "replicas": 3}}),
        )]
    },
};

pub(super) struct Operation<'a>(pub(super) &'a ScaleDeployment);

impl super::Operation for Operation<'_> {
    fn target(&self, _: Option<&ParsedManifest>) -> TargetRef {
        namespaced("Deployment", &self.0.namespace, &self.0.deployment)
    }

    fn manifest(&self) -> Option<&str> {
        None
    }

    fn problems(&self, _: CheckContext<'_>) -> Vec<Problem> {
        let problems = [
            bad_name("deployment", &self.0.deployment),
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
        preflight.rollback = reversible(
            "scale-deployment",
            RecordedRollback {
                scale_to_previous: Some(ScaleToPrevious {
                    namespace: self.0.namespace.clone(),
                    deployment: self.0.deployment.clone(),
                    previous_replicas: replicas,
                }),
                ..RecordedRollback::default()
            },
        );
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
            format!("deployment/{}", self.0.deployment),
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
        let scale = recorded.scale_to_previous.as_ref()?;
        Some(format!(
            "kubectl -n {} scale deployment/{} --replicas={}",
            scale.namespace, scale.deployment, scale.previous_replicas
        ))
    }

    fn subject(&self, _: Variant, _: Option<&ParsedManifest>) -> Subject {
        Subject::Workload {
            containers: Vec::new(),
        }
    }
}
