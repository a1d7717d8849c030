//! apply-manifest: applies one object, of a kind that --apply-manifest-kinds names.

use k8s_openapi::api::rbac::v1::PolicyRule;
use kubernaut_crds::{ApplyManifest, Attempt, CustomStep, RecordedCustom, RecordedRollback, TargetRef};
use serde_json::{Value, json};

use super::access::{AccessRequest, Reach, requests, rule};
use super::applied::has_applied;
use super::checks::{LEAST_TIMEOUT, bad_name, bad_namespace};

use super::rollback::{previous, reversible};
use super::{
    Changes, CheckContext, Definition, Examination, JobContext, Look, Payload, Rollout, Spelling, Subject,
    Variant, namespaced,
};
use crate::Settings;
use crate::manifest_kinds::{
    ParsedManifest, allowed_kind, allowed_kinds, check_kind, known_kind, known_kinds,
};
use crate::mapping::MappingError;
use crate::preflight::{Preflight, Refusal, Scope};
use crate::problem::Problem;
use crate::reads::{Read, ReadResults};
use crate::render::{Call, FIELD_MANAGER, RenderError};
use crate::verify::{JobResult, Postcondition, holds, not_there};

pub(super) const DEFINITION: Definition = Definition {
    spellings: &[Spelling {
        variant: Variant::Plain,
        step_member: "custom",
        names: &["apply-manifest", "apply_manifest", "custom"],
        // A manifest is one text: whatever is wrong in it is wrong there.
        step_fields: &[("manifest", "config.manifest"), ("namespace", "config.manifest")],
    }],
    service_account: "apply-manifest-sa",
    rules: |settings| {
        allowed_kinds(settings)
            .iter()
            // To take it back is to delete what was not there before.
            .map(|kind| rule(kind.group, kind.plural, &["get", "patch", "create", "delete"]))
            .collect()
    },
    changes: Changes::Anything,
    noun: "object",
    on_node: false,
    acts_on_pods: false,
    rollout: Rollout::None,
    payload: Payload::Annotations,
    least_timeout: LEAST_TIMEOUT,
    // The object may have been so before.
    provable_when_lost: false,
    fails_half_done: false,
    records_its_time: false,
    samples: || {
        let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"},
                              "metadata": {"name": "settings", "namespace": "shop"}});
        vec![(
            Variant::Plain,
            json!({"applyManifest": {"manifest": manifest.to_string()}}),
        )]
    },
};

/// From a step's own terms: the one type of a custom step that there is.
pub(crate) fn from_step(mut step: CustomStep) -> Result<ApplyManifest, MappingError> {
    if step.action_type != "apply-manifest" {
        return Err(MappingError::CustomType(step.action_type));
    }
    let manifest = step.config.remove("manifest");
    Ok(ApplyManifest {
        manifest: manifest.ok_or(MappingError::CustomManifest)?,
    })
}

/// Why a kind may not be applied, and what would allow it, if anything can.
fn not_allowed(manifest: &ParsedManifest) -> String {
    let (kind, entry) = (&manifest.kind, manifest.entry());
    if check_kind(&entry).is_none() {
        format!("kind {kind} is not allowed: allow it with --apply-manifest-kinds={entry}")
    } else {
        let known = known_kinds().join(", ");
        format!(
            "kind {kind:?} of {:?} may never be applied; those that --apply-manifest-kinds can allow are {known}",
            manifest.api_version
        )
    }
}

fn bad_manifest(manifest: &ParsedManifest, settings: &Settings) -> Option<Problem> {
    let names = [
        bad_namespace("metadata.namespace", &manifest.namespace),
        bad_name("metadata.name", &manifest.name),
    ];
    // The manifest is one text: its own fields are part of the message.
    if let Some(problem) = names.into_iter().flatten().next() {
        return Some(Problem::new("manifest", problem.to_string()));
    }
    let Some(kind) = allowed_kind(&manifest.group, &manifest.kind, settings) else {
        return Some(Problem::new("manifest", not_allowed(manifest)));
    };
    // The text becomes a part of URLs: it is one of the table's, to the letter.
    let known = kind.api_versions();
    (!known.contains(&manifest.api_version)).then(|| {
        let message = format!(
            "apiVersion {:?} of kind {} is not known here: write {}",
            manifest.api_version,
            kind.kind,
            known.join(" or ")
        );
        Problem::new("manifest", message)
    })
}

pub(super) struct Operation<'a>(pub(super) &'a ApplyManifest);

impl super::Operation for Operation<'_> {
    fn target(&self, manifest: Option<&ParsedManifest>) -> TargetRef {
        match manifest {
            Some(manifest) => namespaced(&manifest.kind, &manifest.namespace, &manifest.name),
            None => namespaced("Manifest", "", ""),
        }
    }

    fn manifest(&self) -> Option<&str> {
        Some(&self.0.manifest)
    }

    fn problems(&self, context: CheckContext<'_>) -> Vec<Problem> {
        let problem = context
            .manifest
            .and_then(|manifest| bad_manifest(manifest, context.settings));
        problem.into_iter().collect()
    }

    fn problem_of_variant(&self, _: CheckContext<'_>) -> Option<Problem> {
        None
    }

    fn payload_size(&self, manifest: Option<&ParsedManifest>) -> Option<(&'static str, usize)> {
        Some(("manifest", manifest?.object.to_string().len()))
    }

    fn secrets(&self) -> Vec<&str> {
        Vec::new()
    }

    fn rights(
        &self,
        rules: &[PolicyRule],
        target: &TargetRef,
        manifest: Option<&ParsedManifest>,
    ) -> Vec<AccessRequest> {
        let Some(manifest) = manifest else {
            return Vec::new();
        };
        let known = known_kind(&manifest.group, &manifest.kind);
        let mut rights = requests(rules, target, |group, resource, _| {
            known
                .is_some_and(|kind| kind.group == group && kind.plural == resource)
                .then_some(Reach::Target)
        });
        rights.retain(|right| right.verb != "delete");
        rights
    }

    fn optional_right(&self) -> Option<AccessRequest> {
        None
    }

    fn target_version(&self, manifest: Option<&ParsedManifest>) -> Option<String> {
        manifest.map(|manifest| manifest.api_version.clone())
    }

    fn may_create_its_target(&self) -> bool {
        true
    }

    fn reads_before(&self, _: Scope) -> Vec<Read> {
        Vec::new()
    }

    fn examine(&self, at: Examination<'_>, preflight: &mut Preflight) -> Result<(), Refusal> {
        if at.object.is_null() {
            preflight.change("does not exist", "exists");
            "Object: does not exist -> exists".clone_into(&mut preflight.impact);
            let custom = Some(RecordedCustom {
                description: "delete the object that was created".to_owned(),
                parameters: None,
            });
            preflight.rollback = reversible(
                "delete",
                RecordedRollback {
                    custom,
                    ..RecordedRollback::default()
                },
            );
            return Ok(());
        }
        let mut old = at.object.clone();
        if let Some(old) = old.as_object_mut() {
            old.remove("status");
        }
        if let Some(metadata) = old["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
        "applied".clone_into(&mut preflight.wanted);
        preflight.rollback = previous(&at.checked.target, &old);
        Ok(())
    }

    fn keeps_first_generation(&self) -> bool {
        false
    }

    fn avoids_node(&self) -> Option<&str> {
        None
    }

    fn call(&self, job: JobContext<'_>) -> Result<Call, RenderError> {
        // What was checked is what is sent: two readers of one YAML text need not agree.
        let manifest = job.checked.manifest.as_ref().ok_or(RenderError::NoManifest)?;
        let call = Call::of([
            "apply".to_owned(),
            "--server-side".to_owned(),
            FIELD_MANAGER.to_owned(),
            "--filename=/payload/manifest.yaml".to_owned(),
        ]);
        Ok(call
            .dry(job.dry_run)
            .with_file("manifest.yaml", manifest.object.to_string()))
    }

    fn reads_after(&self, _: &Attempt, _: Option<&Value>, _: &ReadResults) -> Vec<Read> {
        Vec::new()
    }

    fn outcome(&self, look: Look<'_>) -> Postcondition {
        match &look.checked.manifest {
            Some(manifest) if has_applied(look.object, &manifest.object, look.what == JobResult::Success) => {
                holds("applied")
            }
            Some(_) | None => not_there("the object does not have all that was applied"),
        }
    }

    fn part(&self, object: &Value, _: Option<&ParsedManifest>) -> Option<Value> {
        Some(object.clone())
    }

    fn named(&self, manifest: Option<&ParsedManifest>) -> Option<Value> {
        manifest.map(|manifest| manifest.object.clone())
    }

    fn undo_by_hand(&self, _: Variant, recorded: &RecordedRollback, target: &TargetRef) -> Option<String> {
        recorded.custom.as_ref()?;
        let namespace = target.namespace.as_ref()?;
        let kind = target.kind.to_lowercase();
        Some(format!("kubectl -n {namespace} delete {kind}/{}", target.name))
    }

    fn subject(&self, _: Variant, manifest: Option<&ParsedManifest>) -> Subject {
        Subject::Any {
            api_version: manifest.map(|manifest| manifest.api_version.clone()),
        }
    }
}
