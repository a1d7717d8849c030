//! undo: takes back what another action did. It is made by the controller alone.

use k8s_openapi::api::rbac::v1::PolicyRule;
use kubernaut_crds::{Action, Attempt, ErrorType, RecordedRollback, TargetRef, Undo};
use serde_json::{Value, json};

use super::access::{AccessRequest, Reach, requests};
use super::checks::{bad_name, bad_namespace};
use super::inverse::{Standing, changes_in, standing};
use super::rollback::not_reversible;
use super::{Changes, CheckContext, Examination, JobContext, Look, Subject, Variant, kind_of, target_name};
use crate::manifest_kinds::{ParsedManifest, known_kind};
use crate::preflight::{Preflight, Refusal, Scope, refuse};
use crate::problem::Problem;
use crate::reads::{Read, ReadResults};
use crate::render::{Call, FIELD_MANAGER, PATCH_FILE, PATCH_FLAG, RenderError, dry_options, raw};
use crate::verify::{Postcondition, holds, in_progress, not_there};

/// The API server leaves zero replicas out of a scale, and what is not there is tested by null, and added.
fn of_a_scale(patch: &str) -> String {
    let mut operations: Vec<Value> = serde_json::from_str(patch).unwrap_or_default();
    for operation in &mut operations {
        match operation["op"].as_str() {
            Some("test") if operation["value"] == 0 => operation["value"] = Value::Null,
            Some("replace") => operation["op"] = json!("add"),
            _ => {}
        }
    }
    Value::Array(operations).to_string()
}

pub(super) struct Operation<'a>(pub(super) &'a Undo);

impl Operation<'_> {
    /// The group and the plural name of the target's kind.
    fn resource(&self) -> (&str, String) {
        let target = &self.0.target;
        let group = target.api_version.split_once('/').map_or("", |(group, _)| group);
        let plural = known_kind(group, &target.kind).map_or_else(
            || format!("{}s", target.kind.to_lowercase()),
            |kind| kind.plural.to_owned(),
        );
        (group, plural)
    }
}

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
        let unheld = (is_deletion && self.0.target.uid.is_none()).then(|| {
            Problem::new(
                "target.uid",
                "is needed where the target is deleted: it may be another one by now",
            )
        });
        let wrong = self
            .0
            .patch
            .as_deref()
            .and_then(|patch| standing(&Value::Null, patch).err());
        let problems = [
            one_of_two,
            unheld,
            wrong.map(|problem| Problem::new("patch", problem)),
            bad_name("target.name", &self.0.target.name),
            namespace.and_then(|namespace| bad_namespace("namespace", namespace)),
        ];
        problems.into_iter().flatten().collect()
    }

    fn problem_of_variant(&self, _: CheckContext<'_>) -> Option<Problem> {
        None
    }

    fn payload_size(&self, _: Option<&ParsedManifest>) -> Option<(&'static str, usize)> {
        Some(("patch", self.0.patch.as_ref()?.len()))
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
        let (group, plural) = self.resource();
        // The rules are those for the whole action, of which an undo does one part.
        let mut rights = requests(rules, target, |of, resource, _| {
            (of == group && resource == plural).then_some(Reach::Target)
        });
        let verb = if self.0.delete == Some(true) {
            "delete"
        } else {
            "patch"
        };
        rights.retain(|right| right.verb == "get" || right.verb == verb);
        rights
    }

    fn optional_right(&self) -> Option<AccessRequest> {
        None
    }

    fn target_version(&self, _: Option<&ParsedManifest>) -> Option<String> {
        Some(self.0.target.api_version.clone())
    }

    fn may_create_its_target(&self) -> bool {
        // One that is to be deleted may be gone.
        self.0.delete == Some(true)
    }

    fn reads_before(&self, _: Scope) -> Vec<Read> {
        Vec::new()
    }

    fn examine(&self, at: Examination<'_>, preflight: &mut Preflight) -> Result<(), Refusal> {
        let name = target_name(&at.checked.target);
        preflight.rollback = not_reversible("an undo is never itself undone");
        let Some(patch) = &self.0.patch else {
            let uid = self.0.target.uid.as_deref();
            preflight.impact = format!("delete {name}, which the action created");
            preflight.is_done = at.object.is_null() || at.object["metadata"]["uid"].as_str() != uid;
            return Ok(());
        };
        preflight.impact = changes_in(patch);
        match standing(at.object, patch) {
            Ok(Standing::AsSet) => Ok(()),
            Ok(Standing::AsBefore) => {
                preflight.is_done = true;
                Ok(())
            }
            Ok(Standing::Changed(how)) => refuse(
                ErrorType::ResourceConflict,
                format!("{name} was changed since, and is left as it is: {how}"),
            ),
            Err(problem) => refuse(ErrorType::ValidationError, format!("patch: {problem}")),
        }
    }

    fn keeps_first_generation(&self) -> bool {
        false
    }

    fn avoids_node(&self) -> Option<&str> {
        None
    }

    fn call(&self, job: JobContext<'_>) -> Result<Call, RenderError> {
        let target = &self.0.target;
        if let Some(patch) = &self.0.patch {
            let object = format!("{}/{}", target.kind.to_lowercase(), target.name);
            let namespace = target.namespace.as_ref();
            let scale = kind_of(&Action::Undo(self.0.clone()))
                .is_some_and(|kind| kind.definition().changes == Changes::Scale)
                .then(|| "--subresource=scale".to_owned());
            let fixed = [
                "--type=json".to_owned(),
                FIELD_MANAGER.to_owned(),
                PATCH_FLAG.to_owned(),
            ];
            let call = Call::of(
                ["patch".to_owned(), object]
                    .into_iter()
                    .chain(namespace.map(|namespace| format!("--namespace={namespace}")))
                    .chain(scale.clone())
                    .chain(fixed),
            );
            let content = if scale.is_some() {
                of_a_scale(patch)
            } else {
                patch.clone()
            };
            return Ok(call.dry(job.dry_run).with_file(PATCH_FILE, content));
        }
        let root = if target.api_version.contains('/') {
            format!("/apis/{}", target.api_version)
        } else {
            "/api/v1".to_owned()
        };
        let (group, plural) = self.resource();
        if known_kind(group, &target.kind).is_none() {
            return Err(RenderError::UnknownKind(target.kind.clone()));
        }
        let namespace = target.namespace.as_ref();
        let place = namespace.map_or_else(String::new, |namespace| format!("/namespaces/{namespace}"));
        let mut options =
            json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": target.uid}});
        dry_options(&mut options, job.dry_run);
        let call = Call::of([
            "delete".to_owned(),
            raw(&format!("{root}{place}/{plural}/{}", target.name), job.dry_run),
            "--filename=/payload/options.json".to_owned(),
        ]);
        Ok(call.with_file("options.json", options.to_string()))
    }

    fn reads_after(&self, _: &Attempt, _: Option<&Value>, _: &ReadResults) -> Vec<Read> {
        Vec::new()
    }

    fn outcome(&self, look: Look<'_>) -> Postcondition {
        let Some(patch) = &self.0.patch else {
            let is_there = look.object["metadata"]["uid"].as_str() == self.0.target.uid.as_deref();
            return if look.object.is_null() || !is_there {
                holds("deleted")
            } else if look.object["metadata"]["deletionTimestamp"].is_null() {
                not_there("it is still there")
            } else {
                in_progress("it is on its way out")
            };
        };
        match standing(look.object, patch) {
            Ok(Standing::AsBefore) => holds("as before"),
            Ok(Standing::AsSet) => not_there("it is as the action had set it"),
            Ok(Standing::Changed(how)) => not_there(how),
            Err(problem) => not_there(format!("patch: {problem}")),
        }
    }

    fn part(&self, _: &Value, _: Option<&ParsedManifest>) -> Option<Value> {
        None
    }

    fn undo_by_hand(&self, _: Variant, _: &RecordedRollback, _: &TargetRef) -> Option<String> {
        None
    }

    fn subject(&self, _: Variant, _: Option<&ParsedManifest>) -> Subject {
        Subject::Any { api_version: None }
    }
}
