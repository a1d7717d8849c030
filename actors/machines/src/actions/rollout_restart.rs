//! rollout-restart: starts new pods of a Deployment, by its own strategy.

use k8s_openapi::api::rbac::v1::PolicyRule;
use kubernaut_crds::{Attempt, RecordedRollback, RestartDeployment, RolloutRestart, TargetRef, names};
use serde_json::{Value, json};

use super::access::{AccessRequest, Reach, requests, rule};
use super::checks::{LEAST_TIMEOUT, bad_name, bad_namespace};
use super::rollback::not_reversible;
use super::{
    Changes, CheckContext, Definition, Examination, JobContext, Look, Payload, Rollout, Spelling, Subject,
    Variant, namespaced, rollout, workload,
};
use crate::duration::{DurationError, parse_go};
use crate::manifest_kinds::ParsedManifest;
use crate::preflight::{Preflight, Refusal, Scope};
use crate::problem::Problem;
use crate::reads::{Read, ReadResults};
use crate::render::{Call, FIELD_MANAGER, RenderError};
use crate::verify::{Postcondition, not_there};

pub(super) const DEFINITION: Definition = Definition {
    spellings: &[Spelling {
        variant: Variant::Plain,
        step_member: "restartDeployment",
        names: &[
            "rollout-restart",
            "rollout_restart",
            "restart-deployment",
            "restart_deployment",
        ],
        step_fields: &[],
    }],
    service_account: "rollout-restart-sa",
    rules: |_| vec![rule("apps", "deployments", &["get", "patch"])],
    changes: Changes::RestartAnnotations,
    noun: "Deployment",
    on_node: false,
    acts_on_pods: false,
    rollout: Rollout::Replaces,
    payload: Payload::Annotations,
    least_timeout: LEAST_TIMEOUT,
    provable_when_lost: true,
    fails_half_done: false,
    records_its_time: true,
    samples: || {
        vec![(
            Variant::Plain,
            json!({"rolloutRestart": {"namespace": "shop", "deployment": "web"}}),
        )]
    },
};

/// From a step's own terms, with what had nowhere to go.
pub(crate) fn from_step(step: RestartDeployment) -> Result<(RolloutRestart, Option<String>), DurationError> {
    step.grace_period.as_deref().map(parse_go).transpose()?;
    let words = "restartDeployment.gracePeriod has no effect: the pods' own grace period holds";
    let warning = step.grace_period.map(|_| words.to_owned());
    let restart = RolloutRestart {
        namespace: step.namespace,
        deployment: step.deployment,
    };
    Ok((restart, warning))
}

pub(super) struct Operation<'a>(pub(super) &'a RolloutRestart);

impl super::Operation for Operation<'_> {
    fn target(&self, _: Option<&ParsedManifest>) -> TargetRef {
        namespaced("Deployment", &self.0.namespace, &self.0.deployment)
    }

    fn manifest(&self) -> Option<&str> {
        None
    }

    fn problems(&self, _: CheckContext<'_>) -> Vec<Problem> {
        let names = [
            bad_name("deployment", &self.0.deployment),
            bad_namespace("namespace", &self.0.namespace),
        ];
        names.into_iter().flatten().collect()
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
        Some(workload::VERSION.to_owned())
    }

    fn may_create_its_target(&self) -> bool {
        false
    }

    fn reads_before(&self, _: Scope) -> Vec<Read> {
        Vec::new()
    }

    fn examine(&self, at: Examination<'_>, preflight: &mut Preflight) -> Result<(), Refusal> {
        workload::refuse_paused(at)?;
        "new pods".clone_into(&mut preflight.wanted);
        preflight.rollback = not_reversible("a restart can't be taken back");
        Ok(())
    }

    fn keeps_first_generation(&self) -> bool {
        false
    }

    fn avoids_node(&self) -> Option<&str> {
        None
    }

    fn call(&self, job: JobContext<'_>) -> Result<Call, RenderError> {
        let annotations = json!({
            names::ANNOTATION_RESTARTED_AT: job.attempt.restarted_at,
            names::ANNOTATION_RESTARTED_BY: job.execution.metadata.uid,
        });
        let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
        Ok(Call::of([
            "patch".to_owned(),
            format!("deployment/{}", self.0.deployment),
            format!("--namespace={}", self.0.namespace),
            "--type=strategic".to_owned(),
            FIELD_MANAGER.to_owned(),
            format!("--patch={patch}"),
        ])
        .dry(job.dry_run))
    }

    fn reads_after(&self, _: &Attempt, target: Option<&Value>, facts: &ReadResults) -> Vec<Read> {
        rollout::reads(target, facts)
    }

    fn outcome(&self, look: Look<'_>) -> Postcondition {
        let by = look
            .object
            .pointer("/spec/template/metadata/annotations")
            .map(|map| &map[names::ANNOTATION_RESTARTED_BY]);
        if by.and_then(Value::as_str) != look.execution.metadata.uid.as_deref() {
            return not_there("the pod template does not carry this restart");
        }
        rollout::outcome(look, "restarted")
    }

    fn part(&self, _: &Value, _: Option<&ParsedManifest>) -> Option<Value> {
        None
    }

    fn undo_by_hand(&self, _: Variant, _: &RecordedRollback, _: &TargetRef) -> Option<String> {
        None
    }

    fn subject(&self, _: Variant, _: Option<&ParsedManifest>) -> Subject {
        Subject::Workload {
            containers: Vec::new(),
        }
    }
}
