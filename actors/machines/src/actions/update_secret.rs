//! update-secret: sets keys of a Secret; the others stay. Nobody here may read Secrets.

use std::collections::BTreeMap;

use base64::Engine as _;
use k8s_openapi::api::rbac::v1::PolicyRule;
use kubernaut_crds::{Attempt, RecordedRollback, Sensitive, TargetRef, UpdateSecret, UpdateSecretStep};
use serde_json::{Value, json};

use super::access::{AccessRequest, Reach, requests, rule};
use super::checks::{LEAST_TIMEOUT, bad_keys, bad_name, bad_namespace};
use super::rollback::not_reversible;
use super::{
    Changes, CheckContext, Definition, Examination, JobContext, Look, Payload, Rollout, Spelling, Subject,
    Variant, namespaced,
};
use crate::manifest_kinds::ParsedManifest;
use crate::mapping::MappingError;
use crate::preflight::{Preflight, Refusal, Scope};
use crate::problem::Problem;
use crate::reads::{Read, ReadResults};
use crate::render::{Call, FIELD_MANAGER, PATCH_FILE, PATCH_FLAG, RenderError};
use crate::verify::{JobResult, Postcondition, holds};

pub(super) const DEFINITION: Definition = Definition {
    spellings: &[Spelling {
        variant: Variant::Plain,
        step_member: "updateSecret",
        names: &["update-secret", "update_secret", "patch-secret"],
        step_fields: &[("secret", "name"), ("data", "dataUpdates")],
    }],
    service_account: "update-secret-sa",
    rules: |_| vec![rule("", "secrets", &["get", "patch"])],
    changes: Changes::Data,
    noun: "Secret",
    on_node: false,
    acts_on_pods: false,
    rollout: Rollout::None,
    payload: Payload::Secret,
    least_timeout: LEAST_TIMEOUT,
    provable_when_lost: true,
    fails_half_done: false,
    records_its_time: false,
    samples: || {
        let update = json!({"namespace": "shop", "secret": "keys", "data": {"password": "bmV3"}});
        vec![(Variant::Plain, json!({"updateSecret": update}))]
    },
};

/// From a step's own terms.
pub(crate) fn from_step(step: UpdateSecretStep) -> Result<UpdateSecret, MappingError> {
    if let Some(key) = not_base64(&step.data_updates) {
        return Err(MappingError::NotBase64(key.clone()));
    }
    Ok(UpdateSecret {
        namespace: step.namespace,
        secret: step.name,
        data: step.data_updates,
    })
}

/// The first key whose value is not strict base64. The value may well be the secret itself: nobody gets to see it.
fn not_base64(data: &BTreeMap<String, Sensitive>) -> Option<&String> {
    let engine = base64::engine::general_purpose::STANDARD;
    // The API server reads over line breaks.
    let plain = |value: &Sensitive| value.expose().replace(['\r', '\n'], "");
    let (key, _) = data
        .iter()
        .find(|(_, value)| engine.decode(plain(value)).is_err())?;
    Some(key)
}

pub(super) struct Operation<'a>(pub(super) &'a UpdateSecret);

impl Operation<'_> {
    fn patch(&self) -> String {
        json!({"data": self.0.data}).to_string()
    }
}

impl super::Operation for Operation<'_> {
    fn target(&self, _: Option<&ParsedManifest>) -> TargetRef {
        namespaced("Secret", &self.0.namespace, &self.0.secret)
    }

    fn manifest(&self) -> Option<&str> {
        None
    }

    fn problems(&self, _: CheckContext<'_>) -> Vec<Problem> {
        let names = [
            bad_name("secret", &self.0.secret),
            bad_namespace("namespace", &self.0.namespace),
        ];
        let encoding = not_base64(&self.0.data)
            .map(|key| Problem::new(format!("data.{key}"), "is not base64 (standard alphabet, padded)"));
        let keys = bad_keys(self.0.data.keys());
        names.into_iter().flatten().chain(keys).chain(encoding).collect()
    }

    fn problem_of_variant(&self, _: CheckContext<'_>) -> Option<Problem> {
        None
    }

    fn payload_size(&self, _: Option<&ParsedManifest>) -> Option<(&'static str, usize)> {
        Some(("data", self.patch().len()))
    }

    fn secrets(&self) -> Vec<&str> {
        self.0.data.values().map(Sensitive::expose).collect()
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
        None
    }

    fn may_create_its_target(&self) -> bool {
        false
    }

    fn reads_before(&self, _: Scope) -> Vec<Read> {
        Vec::new()
    }

    fn examine(&self, _: Examination<'_>, preflight: &mut Preflight) -> Result<(), Refusal> {
        let keys: Vec<&str> = self.0.data.keys().map(String::as_str).collect();
        preflight.wanted = format!("keys set: {}", keys.join(", "));
        preflight.impact = format!("Keys set: {}", keys.join(", "));
        preflight.rollback =
            not_reversible("the controller may not read Secrets, so the state before is not known");
        Ok(())
    }

    fn keeps_first_generation(&self) -> bool {
        false
    }

    fn avoids_node(&self) -> Option<&str> {
        None
    }

    fn call(&self, job: JobContext<'_>) -> Result<Call, RenderError> {
        let call = Call::of([
            "patch".to_owned(),
            format!("secret/{}", self.0.secret),
            format!("--namespace={}", self.0.namespace),
            "--type=merge".to_owned(),
            FIELD_MANAGER.to_owned(),
            PATCH_FLAG.to_owned(),
        ]);
        Ok(call.dry(job.dry_run).with_file(PATCH_FILE, self.patch()))
    }

    fn reads_after(&self, _: &Attempt, _: Option<&Value>, _: &ReadResults) -> Vec<Read> {
        Vec::new()
    }

    /// kubectl's success is the proof.
    fn outcome(&self, look: Look<'_>) -> Postcondition {
        if look.what == JobResult::Success {
            return holds("set (not read back: nothing here may read Secrets)");
        }
        Postcondition::Unprovable {
            why: "nobody here may read Secrets".to_owned(),
        }
    }

    fn part(&self, _: &Value, _: Option<&ParsedManifest>) -> Option<Value> {
        None
    }

    fn undo_by_hand(&self, _: Variant, _: &RecordedRollback, _: &TargetRef) -> Option<String> {
        None
    }

    fn subject(&self, _: Variant, _: Option<&ParsedManifest>) -> Subject {
        Subject::Secret {
            keys: self.0.data.keys().cloned().collect(),
        }
    }
}
