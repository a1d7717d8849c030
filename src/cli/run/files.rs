//! Reading manifests: every problem is reported with its file, line, object and field, and all of them at once.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use kubernaut_crds::names;
use kubernaut_machines::Settings;
use kubernaut_machines::plan::plan;
use serde::Deserialize;
use serde_json::Value;

use crate::memory::MemoryCluster;

/// An object of a file.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    /// The file as it was named; `-` is standard input.
    pub(crate) file: PathBuf,
    /// Line where its document begins, from 1.
    pub(crate) line: u64,
    /// The object.
    pub(crate) object: Value,
}

/// Something that is wrong with the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    file: PathBuf,
    line: Option<u64>,
    object: Option<String>,
    field: Option<String>,
    reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(object) = &self.object {
            write!(f, ": {object}")?;
        }
        if let Some(field) = &self.field {
            write!(f, ": {field}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

impl Manifest {
    pub(crate) fn text(&self, field: &str) -> &str {
        self.object[field].as_str().unwrap_or_default()
    }

    pub(crate) fn metadata(&self, field: &str) -> &str {
        self.object["metadata"][field].as_str().unwrap_or_default()
    }

    pub(crate) fn is(&self, group: &str, kind: &str) -> bool {
        let api_version = self.text("apiVersion");
        self.text("kind") == kind && api_version.split_once('/').map_or("", |(group, _)| group) == group
    }

    pub(crate) fn is_workflow(&self) -> bool {
        self.is(names::WORKFLOW_GROUP, names::WORKFLOW_KIND)
    }

    pub(crate) fn is_execution(&self) -> bool {
        self.is(names::EXECUTION_GROUP, names::EXECUTION_KIND)
    }

    pub(crate) fn problem(&self, field: &str, reason: impl Into<String>) -> Problem {
        let name = self.metadata("name");
        let namespace = self.metadata("namespace");
        let place = if namespace.is_empty() {
            name.to_owned()
        } else {
            format!("{namespace}/{name}")
        };
        Problem {
            file: self.file.clone(),
            line: Some(self.line),
            object: Some(format!("{} {place}", self.text("kind"))),
            field: Some(field.to_owned()).filter(|field| !field.is_empty()),
            reason: reason.into(),
        }
    }
}

/// Reads every object of the files; a List counts as its items. All problems are found before any is returned.
pub(crate) fn read(files: &[PathBuf]) -> Result<Vec<Manifest>, Vec<Problem>> {
    let mut manifests = Vec::new();
    let mut problems = Vec::new();
    for file in files {
        match read_text(file) {
            Ok(text) => read_documents(file, &text, &mut manifests, &mut problems),
            Err(error) => problems.push(whole_file(file, None, format!("can't be read: {error}"))),
        }
    }
    let runs = manifests
        .iter()
        .any(|manifest| manifest.is_workflow() || manifest.is_execution());
    if problems.is_empty() && !runs {
        let file = files.first().map_or_else(PathBuf::new, Clone::clone);
        let reason = "holds neither a WorkflowExecution nor a KubernetesExecution: there is nothing to run";
        problems.push(whole_file(&file, None, reason.to_owned()));
    }
    if problems.is_empty() {
        Ok(manifests)
    } else {
        Err(problems)
    }
}

fn read_text(file: &Path) -> std::io::Result<String> {
    if file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(file)
}

fn whole_file(file: &Path, line: Option<u64>, reason: String) -> Problem {
    Problem {
        file: file.to_owned(),
        line,
        object: None,
        field: None,
        reason,
    }
}

fn read_documents(file: &Path, text: &str, manifests: &mut Vec<Manifest>, problems: &mut Vec<Problem>) {
    // Document by document, so that each has its line and a bad one does not hide the others.
    for (first_line, document) in documents(text) {
        if document
            .lines()
            .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
        {
            continue;
        }
        let object: Value = match serde_saphyr::from_str(&document) {
            Ok(Value::Null) => continue,
            Ok(object) => object,
            Err(error) => {
                let line = error
                    .location()
                    .map_or(first_line, |place| first_line + place.line().saturating_sub(1));
                let reason = error.to_string();
                let first = reason.lines().next().unwrap_or_default();
                problems.push(whole_file(file, Some(line), format!("is not YAML: {first}")));
                continue;
            }
        };
        let items = match object.get("items").and_then(Value::as_array) {
            Some(items) if object["kind"] == "List" => items.clone(),
            _ => vec![object],
        };
        for object in items {
            let line = first_line + leading_lines(&document);
            let manifest = Manifest {
                file: file.to_owned(),
                line,
                object,
            };
            if !manifest.object.is_object() {
                problems.push(whole_file(
                    file,
                    Some(line),
                    "is not a Kubernetes object, but a bare value".to_owned(),
                ));
                continue;
            }
            for field in ["apiVersion", "kind"] {
                if manifest.text(field).is_empty() {
                    problems.push(manifest.problem(field, "is missing: every object needs it"));
                }
            }
            if manifest.metadata("name").is_empty() {
                problems.push(manifest.problem("metadata.name", "is missing: every object needs it"));
            }
            manifests.push(manifest);
        }
    }
}

/// The documents of a file with the number of their first line.
fn documents(text: &str) -> Vec<(u64, String)> {
    let mut documents = vec![(1, String::new())];
    for (number, line) in (1u64..).zip(text.split_inclusive('\n')) {
        let bare = line.trim_end();
        if bare == "---" || bare.starts_with("--- ") {
            documents.push((number + 1, String::new()));
        } else if let Some((_, document)) = documents.last_mut() {
            document.push_str(line);
        }
    }
    documents
}

fn leading_lines(document: &str) -> u64 {
    let blank = |line: &&str| line.trim().is_empty() || line.trim_start().starts_with('#');
    u64::try_from(document.lines().take_while(blank).count()).unwrap_or(0)
}

/// Checks every object as the API server would, and every workflow as planning does.
pub(crate) fn check(cluster: &MemoryCluster, manifests: &[Manifest], settings: &Settings) -> Vec<Problem> {
    let mut problems = Vec::new();
    for manifest in manifests {
        let errors = cluster.validate(&manifest.object);
        problems.extend(
            errors
                .iter()
                .map(|error| manifest.problem(&error.field, error.message.clone())),
        );
        if !errors.is_empty() || !manifest.is_workflow() && !manifest.is_execution() {
            continue;
        }
        problems.extend(check_execution(manifest, settings));
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
