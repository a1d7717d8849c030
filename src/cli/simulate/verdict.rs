//! How one run ended, and what it left behind.

use std::sync::Arc;
use std::time::Duration;

use kubernaut_crds::names::{ANNOTATION_JOB_HASH, LABEL_EXECUTION_UID, WORKFLOW_KIND};
use serde::Serialize;
use serde_json::Value;

use crate::simulation::Outcome;

/// How one run ended.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    /// Each workflow, and each execution made by hand, in the order of the files.
    pub(super) ends: Vec<End>,
    /// How long it took on the cluster's own clock; none when something never ended.
    pub(super) took: Option<Duration>,
    /// What of kubernaut's own is left that should not be.
    pub(super) left: Vec<String>,
}

/// How one workflow ended, or one execution made by hand.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct End {
    /// Such as `workflow shop/fix`.
    pub(super) what: String,
    /// `completed`, `failed`, any other phase when it did not end, or `deleted`.
    pub(super) phase: String,
    /// `success`, `partial_success` ...; empty for an execution.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) outcome: String,
    /// Class of the failure.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) error_type: String,
    /// Steps that did not complete, by number, with what became of each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) steps: Vec<(i64, String)>,
    /// It did not end, and says what it waits for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) waits: bool,
}

impl Verdict {
    pub(super) fn of(outcome: &Outcome, runs: &[Value], executor: &str) -> Self {
        Self {
            ends: runs.iter().map(|run| End::of(run, &outcome.objects)).collect(),
            took: outcome.ended,
            left: left(&outcome.objects, executor),
        }
    }

    /// It ended, and left nothing behind.
    pub(super) fn is_well(&self) -> bool {
        self.left.is_empty() && self.ends.iter().all(End::is_well)
    }
}

impl End {
    fn of(run: &Value, objects: &[Arc<Value>]) -> Self {
        let kind = text(&run["kind"]);
        let short = if kind == WORKFLOW_KIND {
            "workflow"
        } else {
            "execution"
        };
        let (namespace, name) = (
            text(&run["metadata"]["namespace"]),
            text(&run["metadata"]["name"]),
        );
        let mut end = Self {
            what: format!("{short} {namespace}/{name}"),
            phase: "deleted".to_owned(),
            outcome: String::new(),
            error_type: String::new(),
            steps: Vec::new(),
            waits: false,
        };
        let Some(object) = find(objects, kind, namespace, name) else {
            return end;
        };
        let status = &object["status"];
        end.phase = match text(&status["phase"]) {
            "" => "not begun".to_owned(),
            phase => phase.to_owned(),
        };
        end.waits = !["completed", "failed"].contains(&end.phase.as_str()) && says_why(object);
        end.outcome = text(&status["workflowResult"]["outcome"]).to_owned();
        end.error_type = text(&status["errorType"]).to_owned();
        end.steps = status["stepStatuses"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|step| step["status"] != "completed")
            .map(|step| {
                (
                    step["stepNumber"].as_i64().unwrap_or_default(),
                    text(&step["status"]).to_owned(),
                )
            })
            .collect();
        end
    }

    /// It ended, or says what it waits for.
    pub(super) fn is_well(&self) -> bool {
        ["completed", "failed", "deleted"].contains(&self.phase.as_str()) || self.waits
    }

    /// All that was asked for was done.
    pub(super) fn is_success(&self) -> bool {
        self.phase == "completed" && ["", "success"].contains(&self.outcome.as_str())
    }

    /// In one line.
    pub(super) fn words(&self) -> String {
        let mut words = vec![if self.waits {
            format!("{} (waits)", self.phase)
        } else {
            self.phase.clone()
        }];
        for word in [&self.outcome, &self.error_type] {
            if !word.is_empty() && !words.contains(word) {
                words.push(word.clone());
            }
        }
        let mut words = words.join(", ");
        if !self.steps.is_empty() {
            let steps: Vec<String> = self
                .steps
                .iter()
                .map(|(number, state)| format!("{number} {state}"))
                .collect();
            words = format!("{words} (step {})", steps.join(", "));
        }
        words
    }
}

/// What should not be there any more: work that nobody waits for, payloads, objects that hang in their deletion.
fn left(objects: &[Arc<Value>], executor: &str) -> Vec<String> {
    let ended = |object: &Value| {
        let conditions = object["status"]["conditions"].as_array();
        conditions.into_iter().flatten().any(|condition| {
            ["Complete", "Failed"].contains(&text(&condition["type"])) && condition["status"] == "True"
        })
    };
    // What holds on to something says so: a pod on a lost node, say.
    let waits = |uid: &str| {
        objects
            .iter()
            .any(|object| object["metadata"]["uid"] == uid && says_why(object))
    };
    objects
        .iter()
        .filter(|object| {
            let kind = text(&object["kind"]);
            let uid = text(&object["metadata"]["labels"][LABEL_EXECUTION_UID]);
            match kind {
                "Secret" => object["metadata"]["namespace"] == executor && !uid.is_empty() && !waits(uid),
                "Job" => {
                    object["metadata"]["namespace"] == executor
                        && object["metadata"]["annotations"][ANNOTATION_JOB_HASH].is_string()
                        && !ended(object)
                        && !waits(uid)
                }
                "WorkflowExecution" | "KubernetesExecution" => {
                    object["metadata"]["deletionTimestamp"].is_string() && !says_why(object)
                }
                _ => false,
            }
        })
        .map(|object| {
            format!(
                "{} {}/{}",
                text(&object["kind"]),
                text(&object["metadata"]["namespace"]),
                text(&object["metadata"]["name"])
            )
        })
        .collect()
}

/// Whether what has not ended says what it waits for, or what it leaves locked, because a pod on a lost node may still act.
fn says_why(object: &Value) -> bool {
    let message = text(&object["status"]["message"]);
    message.starts_with("waits: ")
        || message.starts_with("running: ")
        || message.contains("could not be confirmed stopped")
}

pub(super) fn find<'a>(
    objects: &'a [Arc<Value>],
    kind: &str,
    namespace: &str,
    name: &str,
) -> Option<&'a Value> {
    let metadata =
        |object: &Value| object["metadata"]["namespace"] == namespace && object["metadata"]["name"] == name;
    let mut objects = objects.iter().map(AsRef::as_ref);
    objects.find(|object| object["kind"] == kind && metadata(object))
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
