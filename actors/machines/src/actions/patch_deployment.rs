//! patch-deployment: patches a Deployment. As update-image it sets images of containers that are there, and nothing else.

use std::collections::BTreeSet;

use k8s_openapi::api::rbac::v1::PolicyRule;
use kubernaut_crds::{
    Attempt, ErrorType, PatchDeployment, PatchType, RecordedRollback, TargetRef, UpdateImageStep,
};
use serde_json::{Map, Value, json};

use super::access::{AccessRequest, Reach, requests, rule};
use super::applied::first_dropped;
use super::checks::{LEAST_TIMEOUT, bad_name, bad_namespace};
use super::images::{image_of, patch_text, patched_images};
use super::rollback::{not_reversible, previous};
use super::{
    Changes, CheckContext, Definition, Examination, JobContext, Look, Payload, Rollout, Spelling, Subject,
    Variant, namespaced, rollout, target_name, workload,
};
use crate::manifest_kinds::ParsedManifest;
use crate::preflight::{Preflight, Refusal, Scope, refuse};
use crate::problem::Problem;
use crate::reads::{Read, ReadResults};
use crate::render::{Call, FIELD_MANAGER, PATCH_FILE, PATCH_FLAG, RenderError};
use crate::verify::{JobResult, Postcondition, not_there};

pub(super) const DEFINITION: Definition = Definition {
    spellings: &[
        Spelling {
            variant: Variant::Plain,
            step_member: "patchDeployment",
            names: &["patch-deployment", "patch_deployment"],
            step_fields: &[],
        },
        Spelling {
            variant: Variant::UpdateImage,
            step_member: "updateImage",
            names: &["update-image", "update_image"],
            step_fields: &[("patch", "newImage")],
        },
    ],
    service_account: "patch-deployment-sa",
    rules: |_| vec![rule("apps", "deployments", &["get", "patch"])],
    changes: Changes::Anything,
    noun: "Deployment",
    on_node: false,
    acts_on_pods: false,
    rollout: Rollout::Replaces,
    payload: Payload::Annotations,
    least_timeout: LEAST_TIMEOUT,
    // Whoever patches says what a patch does: what is there may have been there before.
    provable_when_lost: false,
    fails_half_done: false,
    records_its_time: false,
    samples: || {
        let sample = |patch: Value| {
            json!({"patchDeployment": {"namespace": "shop", "deployment": "web", "patchType": "strategic",
                                       "patch": patch.to_string()}})
        };
        let image =
            json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "image": "app:2"}]}}}});
        vec![
            (Variant::Plain, sample(json!({"spec": {"minReadySeconds": 5}}))),
            (Variant::UpdateImage, sample(image)),
        ]
    },
};

/// From a step that sets one image.
pub(crate) fn from_image_step(step: UpdateImageStep) -> PatchDeployment {
    let container = json!({"name": step.container, "image": step.new_image});
    PatchDeployment {
        namespace: step.namespace,
        deployment: step.deployment,
        patch_type: PatchType::Strategic,
        patch: json!({"spec": {"template": {"spec": {"containers": [container]}}}}).to_string(),
    }
}

fn bad_patch(patch: &PatchDeployment) -> Option<Problem> {
    let value: Result<Value, _> = serde_json::from_str(&patch.patch);
    let json = patch.patch_type == PatchType::Json;
    let bad = |message: &str| Some(Problem::new("patch", message));
    match value {
        Err(error) => bad(&format!("is not JSON: {error}")),
        Ok(Value::Array(_)) if json => None,
        Ok(_) if json => bad("of patchType json must be an array of operations"),
        Ok(Value::Object(_)) => None,
        Ok(_) => bad("must be a JSON object"),
    }
}

/// Each container has to be there: a patch would add one.
fn examine_images(
    patch: &PatchDeployment,
    at: Examination<'_>,
    preflight: &mut Preflight,
) -> Result<(), Refusal> {
    let images = match patched_images(patch) {
        Ok(images) => images,
        Err(problem) => return refuse(ErrorType::ValidationError, format!("patch: {problem}")),
    };
    let (mut old, mut new, mut change) = (Vec::new(), Vec::new(), Vec::new());
    for (container, image) in images {
        let Some((there, is_init)) = image_of(at.object, &container) else {
            let message = format!(
                "{} has no container {container:?}: a patch would add one",
                target_name(&at.checked.target)
            );
            return refuse(ErrorType::ValidationError, message);
        };
        old.push(format!("image of {container}: {there}"));
        new.push(format!("image of {container}: {image}"));
        change.push(format!("Image of {container}: {there} -> {image}"));
        if is_init {
            preflight.init_containers.push(container);
        }
    }
    preflight.change(old.join(", "), new.join(", "));
    preflight.impact = change.join(", ");
    Ok(())
}

/// The members of its spec that a patch changes; `None` where it changes anything else.
fn members_of_spec(patch: &PatchDeployment) -> Option<BTreeSet<String>> {
    let content: Value = serde_json::from_str(&patch.patch).ok()?;
    let members: BTreeSet<String> = match &content {
        Value::Array(operations) => {
            let paths = operations
                .iter()
                .filter(|operation| operation["op"] != "test")
                .flat_map(|operation| [operation["path"].as_str(), operation["from"].as_str()])
                .flatten();
            paths
                .map(|path| Some(path.strip_prefix("/spec/")?.split('/').next()?.to_owned()))
                .collect::<Option<_>>()?
        }
        Value::Object(object) if object.keys().all(|key| key == "spec") => {
            let spec = object.get("spec")?.as_object()?;
            // Words to the API server, which may be for all of it.
            let is_whole = spec.contains_key("$patch") || spec.contains_key("$retainKeys");
            if is_whole {
                return None;
            }
            let named = spec.keys().filter(|key| !key.starts_with('$'));
            named.cloned().collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => return None,
    };
    (!members.is_empty()).then_some(members)
}

/// The fields that a patch names, in the shape of the object; what is no object there stands for all of it.
fn fields_of(patch: &PatchDeployment) -> Option<Value> {
    let content: Value = serde_json::from_str(&patch.patch).ok()?;
    Some(match content {
        Value::Array(operations) => {
            let mut fields = Value::Null;
            let changes = operations.iter().filter(|operation| operation["op"] != "test");
            let paths =
                changes.flat_map(|operation| [operation["path"].as_str(), operation["from"].as_str()]);
            for path in paths.flatten() {
                add_field(&mut fields, path.trim_start_matches('/').split('/'));
            }
            fields
        }
        fields @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => {
            // A merge patch puts its lists in the place of those that are there.
            match patch.patch_type {
                PatchType::Merge => without_lists(fields),
                PatchType::Strategic | PatchType::Json => fields,
            }
        }
    })
}

/// Notes a path of a JSON patch, as far as a list.
fn add_field<'a>(fields: &mut Value, mut path: impl Iterator<Item = &'a str>) {
    let is_of_a_list = |key: &str| key == "-" || key.bytes().all(|byte| byte.is_ascii_digit());
    let Some(key) = path.next().filter(|key| !is_of_a_list(key)) else {
        *fields = Value::Bool(true);
        return;
    };
    if fields.is_null() {
        *fields = Value::Object(Map::new());
    }
    if let Value::Object(fields) = fields {
        let key = key.replace("~1", "/").replace("~0", "~");
        add_field(fields.entry(key).or_insert(Value::Null), path);
    }
}

fn without_lists(fields: Value) -> Value {
    match fields {
        Value::Object(fields) => {
            let fields = fields.into_iter();
            fields
                .map(|(key, value)| (key, without_lists(value)))
                .collect::<Map<String, Value>>()
                .into()
        }
        Value::Array(_) => Value::Bool(true),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => other,
    }
}

/// What a patch did, and what it was hardly meant to leave out.
fn patched(deployment: &Value, patch: &PatchDeployment) -> String {
    // ValidatedExecution before the first attempt.
    let content: Value = serde_json::from_str(&patch.patch).unwrap_or_default();
    match first_dropped(deployment, &content) {
        Some(field) => format!("patched, but the Deployment has no {field} now: look for a mistyped field"),
        None => "patched".to_owned(),
    }
}

/// The containers that a patch speaks of.
fn containers_in(patch: &str) -> Vec<String> {
    let patch: Value = serde_json::from_str(patch).unwrap_or_default();
    let containers = patch["spec"]["template"]["spec"]["containers"].as_array();
    let names = containers
        .into_iter()
        .flatten()
        .filter_map(|container| container["name"].as_str());
    names.map(ToOwned::to_owned).collect()
}

/// `container=image` for each image that was replaced.
fn images_before(patch: &PatchDeployment, before: &Value) -> Vec<String> {
    let images = patched_images(patch).unwrap_or_default();
    let deployment = json!({"spec": before});
    let replaced = images.iter().filter_map(|(container, _)| {
        let (old, _) = image_of(&deployment, container)?;
        Some(format!("{container}={old}"))
    });
    replaced.collect()
}

pub(super) struct Operation<'a>(pub(super) &'a PatchDeployment);

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
            bad_patch(self.0),
        ];
        problems.into_iter().flatten().collect()
    }

    fn problem_of_variant(&self, context: CheckContext<'_>) -> Option<Problem> {
        if context.variant != Variant::UpdateImage || bad_patch(self.0).is_some() {
            return None;
        }
        let problem = patched_images(self.0).err()?;
        let message = format!(
            "{:?} needs a patch that sets images of containers by their names and nothing else ({problem}); others are for \
             patch-deployment",
            context.spelling
        );
        Some(Problem::misfit(message))
    }

    fn payload_size(&self, _: Option<&ParsedManifest>) -> Option<(&'static str, usize)> {
        Some(("patch", self.0.patch.len()))
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
        "patched".clone_into(&mut preflight.wanted);
        if at.checked.variant == Variant::UpdateImage {
            examine_images(self.0, at, preflight)?;
        }
        let recorded = self.part(at.object, None);
        preflight.rollback = match recorded.as_ref().map(|part| &part["spec"]) {
            Some(spec) => previous(&at.checked.target, spec),
            None => not_reversible("the patch is for more than members of spec, and only these are recorded"),
        };
        Ok(())
    }

    /// Should the answer to a JSON patch alone have been lost, the API server refuses to patch twice.
    fn keeps_first_generation(&self) -> bool {
        self.0.patch_type == PatchType::Json
    }

    fn avoids_node(&self) -> Option<&str> {
        None
    }

    fn call(&self, job: JobContext<'_>) -> Result<Call, RenderError> {
        let patch = self.0;
        let content = match (patch.patch_type, job.attempt.target_generation) {
            // What was checked is what is sent: two readers of one JSON text need not agree.
            _ if job.checked.variant == Variant::UpdateImage => {
                let images = patched_images(patch).map_err(RenderError::BadImages)?;
                patch_text(&images, &job.attempt.init_containers)
            }
            (PatchType::Json, Some(generation)) => {
                let bad = |error: serde_json::Error| RenderError::BadPatch(error.to_string());
                let operations: Vec<Value> = serde_json::from_str(&patch.patch).map_err(bad)?;
                let test = json!({"op": "test", "path": "/metadata/generation", "value": generation});
                Value::Array([test].into_iter().chain(operations).collect()).to_string()
            }
            _ => patch.patch.clone(),
        };
        let call = Call::of([
            "patch".to_owned(),
            format!("deployment/{}", patch.deployment),
            format!("--namespace={}", patch.namespace),
            format!("--type={}", patch.patch_type.as_str()),
            FIELD_MANAGER.to_owned(),
            PATCH_FLAG.to_owned(),
        ]);
        Ok(call.dry(job.dry_run).with_file(PATCH_FILE, content))
    }

    fn reads_after(&self, _: &Attempt, target: Option<&Value>, facts: &ReadResults) -> Vec<Read> {
        rollout::reads(target, facts)
    }

    fn outcome(&self, look: Look<'_>) -> Postcondition {
        if look.checked.variant == Variant::UpdateImage {
            // ValidatedExecution before the first attempt.
            let images = patched_images(self.0).unwrap_or_default();
            for (container, image) in &images {
                let now = image_of(look.object, container).map_or("(no such container)", |(image, _)| image);
                if now != image {
                    return not_there(format!("the image of {container} is {now}"));
                }
            }
            let images: Vec<String> = images
                .iter()
                .map(|(container, image)| format!("image of {container}: {image}"))
                .collect();
            return rollout::outcome(look, &images.join(", "));
        }
        if look.what != JobResult::Success {
            return Postcondition::Unprovable {
                why: "nothing shows that a patch took effect".to_owned(),
            };
        }
        // kubectl's exit code is the proof that it was taken.
        rollout::outcome(look, &patched(look.object, self.0))
    }

    /// Members of its spec that the patch speaks of, as they were recorded.
    fn part(&self, object: &Value, _: Option<&ParsedManifest>) -> Option<Value> {
        let spec: Map<String, Value> = members_of_spec(self.0)?
            .into_iter()
            .map(|member| {
                let value = object["spec"][member.as_str()].clone();
                (member, value)
            })
            .collect();
        Some(json!({"spec": spec}))
    }

    fn named(&self, _: Option<&ParsedManifest>) -> Option<Value> {
        fields_of(self.0)
    }

    fn undo_by_hand(&self, variant: Variant, recorded: &RecordedRollback, _: &TargetRef) -> Option<String> {
        let config = recorded.restore_previous_config.as_ref()?;
        let before: Value = serde_json::from_str(&config.previous_spec).ok()?;
        let images = match variant {
            Variant::UpdateImage => images_before(self.0, &before),
            Variant::Plain | Variant::RestartPod => Vec::new(),
        };
        let (namespace, name) = (&config.namespace, &config.name);
        Some(if images.is_empty() {
            format!(
                "kubectl -n {namespace} rollout undo deployment/{name} (unless something has rolled it out since)"
            )
        } else {
            format!(
                "kubectl -n {namespace} set image deployment/{name} {}",
                images.join(" ")
            )
        })
    }

    fn subject(&self, _: Variant, _: Option<&ParsedManifest>) -> Subject {
        Subject::Workload {
            containers: containers_in(&self.0.patch),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(patch_type: PatchType, patch: &Value) -> Option<Value> {
        fields_of(&PatchDeployment {
            namespace: "shop".to_owned(),
            deployment: "web".to_owned(),
            patch_type,
            patch: patch.to_string(),
        })
    }

    #[test]
    fn a_patch_names_fields_and_lists_as_its_type_takes_them() {
        let patch = json!({"spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "app", "image": "2"}]}}}});
        assert_eq!(named(PatchType::Strategic, &patch), Some(patch.clone()));
        let whole_lists = json!({"spec": {"replicas": 2, "template": {"spec": {"containers": true}}}});
        assert_eq!(named(PatchType::Merge, &patch), Some(whole_lists));
        let operations = json!([
            {"op": "test", "path": "/spec/paused", "value": false},
            {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "2"},
            {"op": "add", "path": "/spec/template/metadata/annotations/a~1b", "value": "c"},
            {"op": "move", "from": "/spec/replicas", "path": "/spec/minReadySeconds"},
        ]);
        assert_eq!(
            named(PatchType::Json, &operations),
            Some(json!({"spec": {
                "minReadySeconds": true, "replicas": true,
                "template": {"metadata": {"annotations": {"a/b": true}}, "spec": {"containers": true}},
            }}))
        );
    }
}
