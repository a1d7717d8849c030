//! Checking manifests before anything runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kubernaut_machines::Settings;
use kubernaut_machines::manifest_kinds::parse_manifest;
use kubernaut_machines::parameters::ANY_KIND;
use serde::Deserialize as _;
use serde_json::Value;

use super::manifest::{Manifest, Problem, Rule};
use super::messages;
use embedded_cluster::EmbeddedCluster;

/// Checks every object as the API server would, and every workflow as planning does.
pub(super) fn check(cluster: &EmbeddedCluster, manifests: &[Manifest], settings: &Settings) -> Vec<Problem> {
    let mut problems = Vec::new();
    for manifest in manifests {
        let found = check_object(cluster, manifest);
        problems.extend(if manifest.runs() {
            with_planning(found, check_execution(manifest, settings))
        } else {
            found
        });
    }
    problems.extend(check_twice(manifests));
    problems
}

/// That there is something to run.
pub(super) fn check_runs(files: &[PathBuf], manifests: &[Manifest]) -> Option<Problem> {
    if manifests.iter().any(Manifest::runs) {
        return None;
    }
    let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let hold = if names.len() == 1 { "holds" } else { "hold" };
    let reason =
        format!("{hold} neither a WorkflowExecution nor a KubernetesExecution: there is nothing to run");
    Some(Problem::of_file(Path::new(&names.join(", ")), None, reason))
}

/// Checks objects that are not run as the API server would.
pub(super) fn check_objects(cluster: &EmbeddedCluster, manifests: &[Manifest]) -> Vec<Problem> {
    manifests
        .iter()
        .flat_map(|manifest| check_object(cluster, manifest))
        .collect()
}

fn check_object(cluster: &EmbeddedCluster, manifest: &Manifest) -> Vec<Problem> {
    let own = manifest.check_values();
    if !own.is_empty() {
        return own;
    }
    let object = &manifest.object;
    if let Some(why) = cluster.unserved(object) {
        let words = messages::unserved(object, &why);
        return words
            .map(|(field, reason)| manifest.problem(field, reason))
            .into_iter()
            .collect();
    }
    messages::of_server(cluster, object, &cluster.validate(object))
        .iter()
        .map(|(field, reason)| manifest.problem(field, reason))
        .collect()
}

/// What planning finds beside what the server does. Of one field, and of the order of steps, planning says more.
fn with_planning(mut found: Vec<Problem>, planned: Vec<Problem>) -> Vec<Problem> {
    let says_more = |problem: &Problem| {
        let field = problem.field();
        let of_order = field == "spec.workflowDefinition.steps";
        planned.iter().any(|other| {
            let other = other.field();
            other == field || of_order && (other.contains("].dependsOn[") || other.ends_with("].name"))
        })
    };
    found.retain(|problem| !says_more(problem));
    found.extend(planned);
    found
}

/// A workflow that stands there a second time would be an update of what runs already.
fn check_twice(manifests: &[Manifest]) -> Vec<Problem> {
    let mut seen: BTreeMap<(&str, String, &str), &Manifest> = BTreeMap::new();
    let mut problems = Vec::new();
    for manifest in manifests.iter().filter(|manifest| manifest.runs()) {
        let key = (
            manifest.text("kind"),
            manifest.namespace(),
            manifest.metadata("name"),
        );
        if let Some(first) = seen.get(&key) {
            let (file, line) = (first.file.display(), first.line_of(""));
            let reason = format!("is here a second time: the first one is {file}:{line}");
            let problem = manifest.problem("metadata.name", reason);
            problems.push(problem.against(Rule::Duplicate));
        } else {
            seen.insert(key, manifest);
        }
    }
    problems
}

/// What planning finds wrong. What can't be read has been told in the words of the server.
fn check_execution(manifest: &Manifest, settings: &Settings) -> Vec<Problem> {
    if manifest.is_workflow() {
        let planned = manifest.plan(settings);
        let errors = planned.and_then(Result::err).unwrap_or_default();
        return errors
            .into_iter()
            .map(|error| {
                let message = with_the_kind(manifest, &error.field, error.message);
                manifest.problem(&error.field, message).against(Rule::Planning)
            })
            .collect();
    }
    let Ok(execution) = kubernaut_crds::KubernetesExecution::deserialize(&manifest.object) else {
        return Vec::new();
    };
    let problems = kubernaut_machines::parameters::check(&execution, settings)
        .err()
        .unwrap_or_default();
    problems
        .into_iter()
        .map(|problem| {
            let dot = if problem.field.is_empty() { "" } else { "." };
            let field = format!("spec{dot}{}", problem.field);
            let message = with_the_kind(manifest, &field, problem.message);
            manifest.problem(&field, message).against(Rule::Planning)
        })
        .collect()
}

/// Where no kind may be applied, planning reads no manifest; who rehearses one is told what would allow it.
fn with_the_kind(manifest: &Manifest, place: &str, message: String) -> String {
    if !message.contains(ANY_KIND) {
        return message;
    }
    let pointer = format!("/{}", place.replace(['.', '['], "/").replace(']', ""));
    let text = manifest.object.pointer(&pointer).and_then(Value::as_str);
    match text.and_then(|text| parse_manifest(text).ok()) {
        Some(parsed) => message.replace(ANY_KIND, &parsed.entry()),
        None => message,
    }
}
