//! An object of a file, and what is wrong with it in a person's words.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use kubernaut_crds::{WorkflowExecution, names};
use kubernaut_machines::Settings;
use kubernaut_machines::plan::{Plan, PlanError, plan};
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::messages::printable;
use super::source_map::Document;
use embedded_cluster::SeededRng;

/// Letters and digits that a server puts behind a generateName.
const ENDINGS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// What is left of the 52 characters of a workflow's name.
const BASE_MAX: usize = 47;

/// An object of a file.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    /// The file as it was named; `-` is standard input.
    pub(crate) file: PathBuf,
    /// The object.
    pub(crate) object: Value,
    pub(super) document: Arc<Document>,
    /// Where it stands in its document: empty, or `items[0]` of a List.
    pub(super) within: String,
    /// Whether it shows the state of a real cluster.
    pub(super) taken: bool,
    /// Whether its name was made up here, since its file leaves that to the server.
    pub(crate) is_name_made_up: bool,
}

/// What a problem goes against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// A file is readable, and holds objects.
    Syntax,
    /// An object is what the API server would take.
    Schema,
    /// A workflow, or an execution, is one that can be run.
    Planning,
    /// Each workflow stands in the files once.
    Duplicate,
    /// Steps that change the same thing wait for each other.
    OpposedSteps,
    /// What planning finds strange, and runs.
    Unusual,
    /// What nothing reads any more, or ever did.
    Unread,
}

/// Something that is wrong with the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) file: PathBuf,
    pub(crate) line: Option<u64>,
    pub(crate) object: Option<String>,
    pub(crate) field: Option<String>,
    pub(crate) reason: String,
    pub(crate) rule: Rule,
}

impl Problem {
    /// One of a whole file, or of several that are named together.
    pub(super) fn of_file(file: &Path, line: Option<u64>, reason: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line,
            object: None,
            field: None,
            reason: reason.into(),
            rule: Rule::Syntax,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        let parts = [self.object.as_ref(), self.field.as_ref(), Some(&self.reason)];
        for part in parts.into_iter().flatten() {
            write!(f, ": {}", printable(part))?;
        }
        Ok(())
    }
}

impl Problem {
    /// This problem, as one against another rule.
    pub(super) fn against(self, rule: Rule) -> Self {
        Self { rule, ..self }
    }

    /// Its file and line, by which problems are told in the order in which a reader mends them.
    pub(super) fn place(&self) -> (&Path, u64) {
        (&self.file, self.line.unwrap_or_default())
    }

    /// The field; empty when it is the whole object.
    pub(super) fn field(&self) -> &str {
        self.field.as_deref().unwrap_or_default()
    }
}

impl Manifest {
    /// An object that stands in no file, but somewhere of this name.
    pub(super) fn of_cluster(name: &str, object: Value) -> Self {
        Self {
            file: PathBuf::from(name),
            object,
            document: Arc::new(Document::new(1, String::new())),
            within: String::new(),
            taken: true,
            is_name_made_up: false,
        }
    }

    pub(crate) fn text(&self, field: &str) -> &str {
        self.object[field].as_str().unwrap_or_default()
    }

    pub(crate) fn metadata(&self, field: &str) -> &str {
        self.object["metadata"][field].as_str().unwrap_or_default()
    }

    pub(crate) fn is_kind(&self, group: &str, kind: &str) -> bool {
        let api_version = self.text("apiVersion");
        self.text("kind") == kind && api_version.split_once('/').map_or("", |(group, _)| group) == group
    }

    /// Definitions come first: objects of their kinds are checked against them.
    pub(crate) fn is_definition(&self) -> bool {
        self.is_kind("apiextensions.k8s.io", "CustomResourceDefinition")
    }

    pub(crate) fn is_workflow(&self) -> bool {
        self.is_kind(names::WORKFLOW_GROUP, names::WORKFLOW_KIND)
    }

    pub(crate) fn is_execution(&self) -> bool {
        self.is_kind(names::EXECUTION_GROUP, names::EXECUTION_KIND)
    }

    /// The kind and name that a person knows it by; `None` when it has neither.
    pub(crate) fn title(&self) -> Option<String> {
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

    pub(super) fn line_of(&self, field: &str) -> u64 {
        match (self.within.as_str(), field) {
            ("", field) => self.document.line_of(field),
            (within, "") => self.document.line_of(within),
            (within, field) => self.document.line_of(&format!("{within}.{field}")),
        }
    }

    /// An object without a namespace goes into `default`, as kubectl puts it.
    pub(crate) fn namespace(&self) -> String {
        match self.metadata("namespace") {
            "" => "default".to_owned(),
            namespace => namespace.to_owned(),
        }
    }

    /// The object as it is stored.
    pub(crate) fn stored(&self) -> Value {
        let mut object = self.object.clone();
        if self.runs() {
            object["metadata"]["namespace"] = json!(self.namespace());
        }
        object
    }

    /// The workflow's plan; none where it is no workflow, or can't be read.
    pub(crate) fn plan(&self, settings: &Settings) -> Option<Result<Plan, Vec<PlanError>>> {
        let mut workflow = self.is_workflow().then(|| self.workflow())??;
        workflow.metadata.uid.get_or_insert_with(String::new);
        Some(plan(&workflow, settings))
    }

    /// The workflow; none where it can't be read as one.
    pub(crate) fn workflow(&self) -> Option<WorkflowExecution> {
        WorkflowExecution::deserialize(&self.object).ok()
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
            rule: Rule::Schema,
        }
    }

    /// Gives an object that leaves its name to the server one that this chance decides.
    pub(super) fn name_it(&mut self, chance: &mut SeededRng) {
        if self.metadata("name").is_empty() {
            let base = self.metadata("generateName").to_owned();
            let ending: String = (0..5).map(|_| char::from(*chance.pick(ENDINGS))).collect();
            self.object["metadata"]["name"] = json!(format!("{base}{ending}"));
            self.is_name_made_up = true;
        }
    }

    /// What every object needs.
    pub(super) fn check_head(&self) -> Vec<Problem> {
        let metadata = &self.object["metadata"];
        let mut problems = Vec::new();
        for (field, value, needed) in [
            ("apiVersion", &self.object["apiVersion"], true),
            ("kind", &self.object["kind"], true),
            (
                "metadata.name",
                &metadata["name"],
                metadata["generateName"].is_null(),
            ),
            ("metadata.generateName", &metadata["generateName"], false),
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
    pub(super) fn check_values(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let base = self.metadata("generateName");
        if self.runs() && base.len() > BASE_MAX {
            let reason = format!(
                "has {} characters: write at most {BASE_MAX}, since five are put behind them and a name here has at most 52",
                base.len()
            );
            problems.push(self.problem("metadata.generateName", reason));
        }
        let namespace = self.metadata("namespace");
        if !namespace.is_empty() && !is_label(namespace) {
            let reason = "is not the name of a namespace: write at most 63 lower case letters, digits and '-', and none at an end";
            problems.push(self.problem("metadata.namespace", reason));
        }
        if self.is_kind("", "Secret") {
            let engine = base64::engine::general_purpose::STANDARD;
            for (key, value) in self.object["data"].as_object().into_iter().flatten() {
                // Line breaks in it are no fault, as for the API server.
                let bytes = value.as_str().map(|text| text.replace(['\r', '\n'], ""));
                if bytes.is_some_and(|text| engine.decode(text).is_err()) {
                    let reason = "is not base64 (plain text goes into stringData)";
                    problems.push(self.problem(&format!("data.{key}"), reason));
                }
            }
        }
        problems
    }
}

pub(super) fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    text.len() <= 63 && text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}
