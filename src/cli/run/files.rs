//! Reading manifests: every problem is reported with its file, line, object and field, and all of them at once.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use kubernaut_crds::names;
use kubernaut_machines::Settings;
use kubernaut_machines::plan::plan;
use serde::Deserialize;
use serde_json::Value;

use super::places::Document;
use super::{wording, world};
use crate::memory::MemoryCluster;

/// An object of a file.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    /// The file as it was named; `-` is standard input.
    pub(crate) file: PathBuf,
    /// The object.
    pub(crate) object: Value,
    document: Arc<Document>,
    /// Where it stands in its document: empty, or `items[0]` of a List.
    within: String,
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

    /// Definitions come first: objects of their kinds are checked against them.
    pub(crate) fn is_definition(&self) -> bool {
        self.is("apiextensions.k8s.io", "CustomResourceDefinition")
    }

    pub(crate) fn is_workflow(&self) -> bool {
        self.is(names::WORKFLOW_GROUP, names::WORKFLOW_KIND)
    }

    pub(crate) fn is_execution(&self) -> bool {
        self.is(names::EXECUTION_GROUP, names::EXECUTION_KIND)
    }

    /// The kind and name that a person knows it by; `None` when it has neither.
    fn title(&self) -> Option<String> {
        let (kind, name, namespace) = (
            self.text("kind"),
            self.metadata("name"),
            self.metadata("namespace"),
        );
        let place = if namespace.is_empty() || name.is_empty() {
            name.to_owned()
        } else {
            format!("{namespace}/{name}")
        };
        let words: Vec<&str> = [kind, place.as_str()]
            .into_iter()
            .filter(|word| !word.is_empty())
            .collect();
        (!words.is_empty()).then(|| words.join(" "))
    }

    fn line_of(&self, field: &str) -> u64 {
        match (self.within.as_str(), field) {
            ("", field) => self.document.line_of(field),
            (within, "") => self.document.line_of(within),
            (within, field) => self.document.line_of(&format!("{within}.{field}")),
        }
    }

    /// Whether it is something to run, and not something to act on.
    pub(crate) fn runs(&self) -> bool {
        self.is_workflow() || self.is_execution()
    }

    pub(crate) fn problem(&self, field: &str, reason: impl Into<String>) -> Problem {
        Problem {
            file: self.file.clone(),
            line: Some(self.line_of(field)),
            object: self.title(),
            field: Some(field.to_owned()).filter(|field| !field.is_empty()),
            reason: reason.into(),
        }
    }

    /// What every object needs.
    fn check_head(&self) -> Vec<Problem> {
        let metadata = &self.object["metadata"];
        let mut problems = Vec::new();
        for (field, value, needed) in [
            ("apiVersion", &self.object["apiVersion"], true),
            ("kind", &self.object["kind"], true),
            ("metadata.name", &metadata["name"], true),
            ("metadata.namespace", &metadata["namespace"], false),
        ] {
            if value.is_number() || value.is_boolean() {
                problems.push(self.problem(field, "must be of type string: put it in quotes"));
            } else if needed && value.as_str().is_none_or(str::is_empty) {
                problems.push(self.problem(field, "is missing: every object needs it"));
            }
        }
        problems
    }

    /// What the server's words would not explain.
    fn check_values(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let namespace = self.metadata("namespace");
        if !namespace.is_empty() && !is_label(namespace) {
            let reason = "is not the name of a namespace: write at most 63 lower case letters, digits and '-', and none at an end";
            problems.push(self.problem("metadata.namespace", reason));
        }
        if self.is("", "Secret") {
            let engine = base64::engine::general_purpose::STANDARD;
            for (key, value) in self.object["data"].as_object().into_iter().flatten() {
                if value.as_str().is_some_and(|text| engine.decode(text).is_err()) {
                    let reason = "is not base64 (plain text goes into stringData)";
                    problems.push(self.problem(&format!("data.{key}"), reason));
                }
            }
        }
        problems
    }
}

fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    text.len() <= 63 && text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-')
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
        if document.lines().all(is_empty) {
            continue;
        }
        let object: Value = match serde_saphyr::from_str(&document) {
            Ok(Value::Null) => continue,
            Ok(object) => object,
            Err(error) => {
                let line = error
                    .location()
                    .map_or(first_line, |place| first_line + place.line().saturating_sub(1));
                let reason = format!("is not YAML: {}", wording::of_yaml(&error.to_string()));
                problems.push(whole_file(file, Some(line), reason));
                continue;
            }
        };
        let document = Arc::new(Document::new(first_line, document));
        let items: Vec<(String, Value)> = match object.get("items").and_then(Value::as_array) {
            Some(items) if object["kind"] == "List" => (0..)
                .zip(items)
                .map(|(index, item): (usize, _)| (format!("items[{index}]"), item.clone()))
                .collect(),
            _ => vec![(String::new(), object)],
        };
        for (within, object) in items {
            let manifest = Manifest {
                file: file.to_owned(),
                object,
                document: Arc::clone(&document),
                within,
            };
            if !manifest.object.is_object() {
                let reason = "is not a Kubernetes object, but a bare value";
                problems.push(whole_file(file, Some(manifest.line_of("")), reason.to_owned()));
                continue;
            }
            problems.extend(manifest.check_head());
            manifests.push(manifest);
        }
    }
}

/// Blank, a comment, or a directive such as `%YAML 1.2`.
fn is_empty(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with(['#', '%'])
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

/// Checks every object as the API server would, and every workflow as planning does.
pub(crate) fn check(
    cluster: &MemoryCluster,
    files: &[PathBuf],
    manifests: &[Manifest],
    settings: &Settings,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    for manifest in manifests {
        let own = manifest.check_values();
        if !own.is_empty() {
            problems.extend(own);
            continue;
        }
        let errors = wording::of_server(&cluster.validate(&manifest.object));
        problems.extend(
            errors
                .iter()
                .map(|(field, reason)| manifest.problem(field, reason)),
        );
        if errors.is_empty() && manifest.runs() {
            problems.extend(check_execution(manifest, settings));
        }
    }
    problems.extend(check_twice(manifests));
    if problems.is_empty() && !manifests.iter().any(Manifest::runs) {
        let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        let hold = if names.len() == 1 { "holds" } else { "hold" };
        let reason =
            format!("{hold} neither a WorkflowExecution nor a KubernetesExecution: there is nothing to run");
        problems.push(whole_file(Path::new(&names.join(", ")), None, reason));
    }
    problems
}

/// The same workflow a second time would be an update of what runs already.
fn check_twice(manifests: &[Manifest]) -> Vec<Problem> {
    let mut seen: BTreeMap<(&str, String, &str), &Manifest> = BTreeMap::new();
    let mut problems = Vec::new();
    for manifest in manifests.iter().filter(|manifest| manifest.runs()) {
        let key = (
            manifest.text("kind"),
            world::namespace_of(manifest),
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
