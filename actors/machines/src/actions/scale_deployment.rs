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
use crate::verify::{Postcondition, not_there};

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

    /// With it, a person is warned of an autoscaler that would take the scale back.
    fn optional_right(&self) -> Option<AccessRequest> {
        Some(AccessRequest {
            group: "autoscaling".to_owned(),
            resource: "horizontalpodautoscalers".to_owned(),
            subresource: None,
            verb: "list".to_owned(),
            namespace: Some(self.0.namespace.clone()),
            name: None,
        })
    }

    fn target_version(&self, _: Option<&ParsedManifest>) -> Option<String> {
        Some(workload::VERSION.to_owned())
    }

    fn may_create_its_target(&self) -> bool {
        false
    }

    fn reads_before(&self, scope: Scope) -> Vec<Read> {
        let namespace = Some(self.0.namespace.as_str());
        let autoscalers = Read::list("autoscaling/v2", "HorizontalPodAutoscaler", namespace, None);
        scope.optional.then_some(autoscalers).into_iter().collect()
    }

    fn examine(&self, at: Examination<'_>, preflight: &mut Preflight) -> Result<(), Refusal> {
        let replicas = at.object["spec"]["replicas"].as_i64().unwrap_or(1);
        preflight.state_summary = format!("replicas: {replicas}");
        preflight.impact = format!("Replicas: {replicas} -> {}", self.0.replicas);
        let autoscalers = at
            .facts
            .iter()
            .find(|(read, _)| matches!(read, Read::List { kind, .. } if kind == "HorizontalPodAutoscaler"));
        for autoscaler in autoscalers.map(|(_, found)| found.as_slice()).unwrap_or_default() {
            let scaled = &autoscaler["spec"]["scaleTargetRef"];
            if scaled["kind"] == "Deployment" && scaled["name"] == self.0.deployment.as_str() {
                let name = autoscaler["metadata"]["name"].as_str().unwrap_or_default();
                preflight.warnings.push(format!(
                    "HorizontalPodAutoscaler {name} scales this Deployment too and may change it back"
                ));
            }
        }
        preflight.rollback = reversible(
            "scale-deployment",
            RecordedRollback {
                scale_to_previous: Some(ScaleToPrevious {
                    namespace: self.0.namespace.clone(),
                    deployment: self.0.deployment.clone(),
                    previous_replicas: i32::try_from(replicas).unwrap_or(0),
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

    fn call(&self, _: JobContext<'_>) -> Result<Call, RenderError> {
        Ok(Call::of([
            "scale".to_owned(),
            format!("deployment/{}", self.0.deployment),
            format!("--namespace={}", self.0.namespace),
            format!("--replicas={}", self.0.replicas),
        ]))
    }

    fn reads_after(&self, _: &Attempt, target: Option<&Value>, facts: &ReadResults) -> Vec<Read> {
        rollout::reads(target, facts)
    }

    fn outcome(&self, look: Look<'_>) -> Postcondition {
        let wanted = i64::from(self.0.replicas);
        let replicas = look.object["spec"]["replicas"].as_i64().unwrap_or(1);
        if replicas != wanted {
            return not_there(format!("spec.replicas is {replicas}, not {wanted}"));
        }
        rollout::scaled(look.object, look.attempt)
    }

    fn undo_by_hand(&self, _: Variant, recorded: &RecordedRollback, _: &TargetRef) -> Option<String> {
        let scale = recorded.scale_to_previous.as_ref()?;
        Some(format!(
            "kubectl -n {} scale deployment/{} --replicas={}",
            scale.namespace, scale.deployment, scale.previous_replicas
        ))
    }

    fn subject(&self, _: Variant, _: Option<&ParsedManifest>) -> Subject {
        Subject::Deployment {
            containers: Vec::new(),
        }
    }
}
