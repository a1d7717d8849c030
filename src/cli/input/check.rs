//! Checking manifests before anything runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kubernaut_machines::Settings;
use kubernaut_machines::plan::plan;
use serde::Deserialize as _;

use super::manifest::{Manifest, Problem};
use super::wording;
use crate::memory::MemoryCluster;

/// Checks every object as the API server would, and every workflow as planning does.
pub(super) fn check(
    cluster: &MemoryCluster,
    files: &[PathBuf],
    manifests: &[Manifest],
    settings: &Settings,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    for manifest in manifests {
        let wrong = check_object(cluster, manifest);
        if wrong.is_empty() && manifest.runs() {
            problems.extend(check_execution(manifest, settings));
        }
        problems.extend(wrong);
    }
    problems.extend(check_twice(manifests));
    if problems.is_empty() && !manifests.iter().any(Manifest::runs) {
        let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        let hold = if names.len() == 1 { "holds" } else { "hold" };
        let reason =
            format!("{hold} neither a WorkflowExecution nor a KubernetesExecution: there is nothing to run");
        problems.push(Problem::of_file(Path::new(&names.join(", ")), None, reason));
    }
    problems
}

/// Checks objects that are not run as the API server would.
pub(super) fn check_objects(cluster: &MemoryCluster, manifests: &[Manifest]) -> Vec<Problem> {
    manifests
        .iter()
        .flat_map(|manifest| check_object(cluster, manifest))
        .collect()
}

fn check_object(cluster: &MemoryCluster, manifest: &Manifest) -> Vec<Problem> {
    let own = manifest.check_values();
    if !own.is_empty() {
        return own;
    }
    wording::of_server(&cluster.validate(&manifest.object))
        .iter()
        .map(|(field, reason)| manifest.problem(field, reason))
        .collect()
}

/// The same workflow a second time would be an update of what runs already.
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
            problems.push(manifest.problem("metadata.name", reason));
        } else {
            seen.insert(key, manifest);
        }
    }
    problems
}

fn check_execution(manifest: &Manifest, settings: &Settings) -> Vec<Problem> {
    if manifest.is_workflow() {
        match kubernaut_crds::WorkflowExecution::deserialize(&manifest.object) {
            Err(error) => vec![manifest.problem("", error.to_string())],
            Ok(mut workflow) => {
                workflow.metadata.uid.get_or_insert_with(String::new);
                let errors = plan(&workflow, settings).err().unwrap_or_default();
                errors
                    .into_iter()
                    .map(|error| manifest.problem(&error.place, error.message))
                    .collect()
            }
        }
    } else {
        match kubernaut_crds::KubernetesExecution::deserialize(&manifest.object) {
            Err(error) => vec![manifest.problem("", error.to_string())],
            Ok(execution) => {
                let mut reasons = kubernaut_machines::parameters::check(&execution, settings)
                    .err()
                    .unwrap_or_default();
                reasons.extend(kubernaut_machines::plan::unsupported_execution(&execution.spec));
                reasons
                    .into_iter()
                    .map(|reason| manifest.problem("spec", reason))
                    .collect()
            }
        }
    }
}
