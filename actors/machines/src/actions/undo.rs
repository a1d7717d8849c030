//! undo: takes back what another action did. It is made by the controller alone.

use k8s_openapi::api::rbac::v1::PolicyRule;
use kubernaut_crds::{Attempt, RecordedRollback, TargetRef, Undo};
use serde_json::{Value, json};

use super::access::{AccessRequest, Reach, requests};
use super::checks::{bad_name, bad_namespace};
use super::rollback::not_reversible;
use super::{CheckContext, Examination, JobContext, Look, Subject, Variant};
use crate::manifest_kinds::ParsedManifest;
use crate::preflight::{Preflight, Refusal, Scope};
use crate::problem::Problem;
use crate::reads::{Read, ReadResults};
use crate::render::{Call, FIELD_MANAGER, PATCH_FILE, PATCH_FLAG, RenderError};
use crate::verify::{JobResult, Postcondition, holds};

pub(super) struct Operation<'a>(pub(super) &'a Undo);

impl super::Operation for Operation<'_> {
    fn target(&self, _: Option<&ParsedManifest>) -> TargetRef {
        TargetRef {
            kind: self.0.target.kind.clone(),
            namespace: self.0.target.namespace.clone(),
            name: self.0.target.name.clone(),
        }
    }

    fn manifest(&self) -> Option<&str> {
        None
    }

    fn problems(&self, _: CheckContext<'_>) -> Vec<Problem> {
        let namespace = self.0.target.namespace.as_deref();
        let is_deletion = self.0.delete == Some(true);
        let one_of_two = (self.0.patch.is_some() == is_deletion)
            .then(|| Problem::new("", "exactly one of patch and delete: true is needed"));
        let problems = [
            one_of_two,
            bad_name("target.name", &self.0.target.name),
            namespace.and_then(|namespace| bad_namespace("namespace", namespace)),
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
        None
    }

    fn target_version(&self, _: Option<&ParsedManifest>) -> Option<String> {
        Some(self.0.target.api_version.clone())
    }

    fn may_create_its_target(&self) -> bool {
        false
    }

    fn reads_before(&self, _: Scope) -> Vec<Read> {
        Vec::new()
    }

    fn examine(&self, _: Examination<'_>, preflight: &mut Preflight) -> Result<(), Refusal> {
        preflight.rollback = not_reversible("an undo is never itself undone");
        Ok(())
    }

    fn keeps_first_generation(&self) -> bool {
        false
    }

    fn avoids_node(&self) -> Option<&str> {
        None
    }

    fn call(&self, _: JobContext<'_>) -> Result<Call, RenderError> {
        let target = &self.0.target;
        if let Some(patch) = &self.0.patch {
            let object = format!("{}/{}", target.kind.to_lowercase(), target.name);
            let namespace = target.namespace.as_ref();
            let scale = (self.0.of == "scale-deployment").then(|| "--subresource=scale".to_owned());
            let fixed = [
                "--type=json".to_owned(),
                FIELD_MANAGER.to_owned(),
                PATCH_FLAG.to_owned(),
            ];
            let call = Call::of(
                ["patch".to_owned(), object]
                    .into_iter()
                    .chain(namespace.map(|namespace| format!("--namespace={namespace}")))
                    .chain(scale)
                    .chain(fixed),
            );
            return Ok(call.with_file(PATCH_FILE, patch.clone()));
        }
        let root = if target.api_version.contains('/') {
            format!("/apis/{}", target.api_version)
        } else {
            "/api/v1".to_owned()
        };
        let plural = target.kind.to_lowercase() + "s";
        let namespace = target.namespace.as_ref();
        let place = namespace.map_or_else(String::new, |namespace| format!("/namespaces/{namespace}"));
        let options =
            json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": target.uid}});
        let call = Call::of([
            "delete".to_owned(),
            format!("--raw={root}{place}/{plural}/{}", target.name),
            "--filename=/payload/options.json".to_owned(),
        ]);
        Ok(call.with_file("options.json", options.to_string()))
    }

    fn reads_after(&self, _: &Attempt, _: Option<&Value>, _: &ReadResults) -> Vec<Read> {
        Vec::new()
    }

    fn outcome(&self, look: Look<'_>) -> Postcondition {
        if look.what == JobResult::Success {
            return holds("kubectl's success is the proof");
        }
        Postcondition::Unprovable {
            why: "nothing shows that the undo took effect".to_owned(),
        }
    }

    fn undo_by_hand(&self, _: Variant, _: &RecordedRollback, _: &TargetRef) -> Option<String> {
        None
    }

    fn subject(&self, _: Variant, _: Option<&ParsedManifest>) -> Subject {
        Subject::Any { api_version: None }
    }
}
