//! Nobody waits for people in a rehearsal: what needs an approval is taken as approved, and that is told.

use kubernaut_crds::names;
use serde_json::{Value, json};

use super::manifest::Manifest;
use super::some_of;

/// Takes as approved what waits for an approval by itself, and whatever is in a namespace that requires one of everything. In a
/// note what that was.
pub(super) fn take_as_approved(runs: &mut [Manifest], world: &mut [Manifest]) -> Option<String> {
    let required: Vec<String> = world.iter_mut().filter_map(without_the_label).collect();
    let approved = runs.iter_mut().filter_map(|run| {
        let asks = release(run);
        let is_required = required.contains(&run.namespace());
        (asks || is_required).then(|| run.title()).flatten()
    });
    let approved: Vec<String> = approved.collect();
    if approved.is_empty() {
        return None;
    }
    Some(format!(
        "Taken as approved, where in a cluster somebody has to create an Approval first: {}.",
        some_of(approved)
    ))
}

/// True when it would have waited.
fn release(run: &mut Manifest) -> bool {
    let is_workflow = run.is_workflow();
    let spec = &mut run.object["spec"];
    if is_workflow {
        let required = spec.pointer_mut("/executionStrategy/approvalRequired");
        return required.is_some_and(|required| std::mem::replace(required, json!(false)) == json!(true));
    }
    let before = spec
        .as_object_mut()
        .and_then(|spec| spec.insert("approvalReceived".to_owned(), json!(true)));
    before != Some(json!(true))
}

/// The name of the namespace, when it requires approvals.
fn without_the_label(manifest: &mut Manifest) -> Option<String> {
    if manifest.object["kind"] != "Namespace" {
        return None;
    }
    let labels = manifest
        .object
        .pointer_mut("/metadata/labels")
        .and_then(Value::as_object_mut)?;
    let required = labels
        .get(names::LABEL_APPROVAL)
        .is_some_and(|value| value == names::APPROVAL_REQUIRED);
    if required {
        labels.remove(names::LABEL_APPROVAL);
    }
    required.then(|| manifest.metadata("name").to_owned())
}
