//! update-configmap: sets keys of a ConfigMap; the others stay.

use k8s_openapi::api::rbac::v1::PolicyRule;
use kubernaut_crds::{Attempt, RecordedRollback, TargetRef, UpdateConfigMap, UpdateConfigMapStep};
use serde_json::{Map, Value, json};

use super::access::{AccessRequest, Reach, requests, rule};
use super::checks::{LEAST_TIMEOUT, bad_keys, bad_name, bad_namespace};
use super::rollback::{previous, shell_word};
use super::{
    Changes, CheckContext, Definition, Examination, JobContext, Look, Payload, Rollout, Spelling, Subject,
    Variant, namespaced,
};
use crate::manifest_kinds::ParsedManifest;
use crate::preflight::{Preflight, Refusal, Scope};
use crate::problem::Problem;
use crate::reads::{Read, ReadResults};
use crate::render::{Call, FIELD_MANAGER, PATCH_FILE, PATCH_FLAG, RenderError};
use crate::verify::{Postcondition, holds, not_there};

pub(super) const DEFINITION: Definition = Definition {
    spellings: &[Spelling {
        variant: Variant::Plain,
        step_member: "updateConfigMap",
        names: &[
            "update-configmap",
            "update_configmap",
            "patch-configmap",
            "update-config-map",
        ],
        step_fields: &[("configMap", "name"), ("data", "dataUpdates")],
    }],
    service_account: "update-configmap-sa",
    rules: |_| vec![rule("", "configmaps", &["get", "patch"])],
    changes: Changes::Data,
    noun: "ConfigMap",
    on_node: false,
    acts_on_pods: false,
    rollout: Rollout::None,
    payload: Payload::Annotations,
    least_timeout: LEAST_TIMEOUT,
    provable_when_lost: true,
    fails_half_done: false,
    records_its_time: false,
    samples: || {
        let update = json!({"namespace": "shop", "configMap": "settings", "data": {"timeout": "5s"}});
        vec![(Variant::Plain, json!({"updateConfigMap": update}))]
    },
};

/// From a step's own terms.
pub(crate) fn from_step(step: UpdateConfigMapStep) -> UpdateConfigMap {
    UpdateConfigMap {
        namespace: step.namespace,
        config_map: step.name,
        data: step.data_updates,
    }
}

pub(super) struct Operation<'a>(pub(super) &'a UpdateConfigMap);

impl Operation<'_> {
    fn keys(&self) -> String {
        self.0.data.keys().cloned().collect::<Vec<_>>().join(", ")
    }

    fn patch(&self) -> String {
        json!({"data": self.0.data}).to_string()
    }
}

impl super::Operation for Operation<'_> {
    fn target(&self, _: Option<&ParsedManifest>) -> TargetRef {
        namespaced("ConfigMap", &self.0.namespace, &self.0.config_map)
    }

    fn manifest(&self) -> Option<&str> {
        None
    }

    fn problems(&self, _: CheckContext<'_>) -> Vec<Problem> {
        let names = [
            bad_name("configMap", &self.0.config_map),
            bad_namespace("namespace", &self.0.namespace),
        ];
        let keys = bad_keys(self.0.data.keys());
        names.into_iter().flatten().chain(keys).collect()
    }

    fn problem_of_variant(&self, _: CheckContext<'_>) -> Option<Problem> {
        None
    }

    fn payload_size(&self, _: Option<&ParsedManifest>) -> Option<(&'static str, usize)> {
        Some(("data", self.patch().len()))
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
        Some("v1".to_owned())
    }

    fn may_create_its_target(&self) -> bool {
        false
    }

    fn reads_before(&self, _: Scope) -> Vec<Read> {
        Vec::new()
    }

    fn examine(&self, at: Examination<'_>, preflight: &mut Preflight) -> Result<(), Refusal> {
        let old: Map<String, Value> = self
            .0
            .data
            .keys()
            .map(|key| (key.clone(), at.object["data"][key].clone()))
            .collect();
        let is_new = |(key, value): &(&String, &String)| old.get(*key) != Some(&json!(value));
        let changed: Vec<&str> = self
            .0
            .data
            .iter()
            .filter(is_new)
            .map(|(key, _)| key.as_str())
            .collect();
        let before = format!("keys: {}", self.keys());
        if changed.is_empty() {
            preflight.change(before.clone(), before);
            "Keys set: none, they have these values".clone_into(&mut preflight.impact);
        } else {
            preflight.change(before, format!("keys set: {}", self.keys()));
            preflight.impact = format!("Keys set: {}", changed.join(", "));
        }
        preflight.rollback = previous(&at.checked.target, &json!({"data": old}));
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
            format!("configmap/{}", self.0.config_map),
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

    fn outcome(&self, look: Look<'_>) -> Postcondition {
        let mut data = self.0.data.iter();
        match data.find(|(key, value)| look.object["data"][key.as_str()] != value.as_str()) {
            Some((key, _)) => not_there(format!("key {key} has another value")),
            None => holds(format!("keys set: {}", self.keys())),
        }
    }

    fn part(&self, object: &Value, _: Option<&ParsedManifest>) -> Option<Value> {
        let keys = self.0.data.keys();
        let data: Map<String, Value> = keys
            .map(|key| (key.clone(), object["data"][key.as_str()].clone()))
            .collect();
        Some(json!({"data": data}))
    }

    fn undo_by_hand(&self, _: Variant, recorded: &RecordedRollback, _: &TargetRef) -> Option<String> {
        let config = recorded.restore_previous_config.as_ref()?;
        let before: Value = serde_json::from_str(&config.previous_spec).ok()?;
        let data = before["data"].as_object()?;
        Some(format!(
            "kubectl -n {} patch configmap/{} --type=merge -p {}",
            config.namespace,
            config.name,
            shell_word(&json!({"data": data}).to_string())
        ))
    }

    fn subject(&self, _: Variant, _: Option<&ParsedManifest>) -> Subject {
        Subject::ConfigMap {
            keys: self.0.data.keys().cloned().collect(),
        }
    }
}
