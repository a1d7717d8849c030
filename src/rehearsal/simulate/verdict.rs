//! How one run ended, and what it left behind.

use std::sync::Arc;
use std::time::Duration;

use kubernaut_crds::names::{ANNOTATION_JOB_HASH, LABEL_EXECUTION_UID, WORKFLOW_KIND};
use serde::Serialize;
use serde_json::Value;

use super::behind::{Behind, Calm};
use super::draw::{Drawn, Trouble};
use super::words;
use crate::rehearsal::simulation::{Outcome, Step};

/// How one run ended.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    /// Each workflow, and each execution made by hand, in the order of the files.
    pub(super) ends: Vec<End>,
    /// How long it took on the cluster's own clock; none when something never ended.
    pub(super) took: Option<Duration>,
    /// What of kubernaut's own is left that should not be.
    pub(super) left: Vec<String>,
    /// What did go wrong, in its order.
    pub(super) wrong: Vec<(Trouble, String)>,
    /// How each step fared, in the order of all steps; none where its workflow is gone.
    pub(super) steps: Vec<Option<StepRun>>,
    /// Until the last workflow's end was written; none when one has none.
    pub(super) lasted: Option<Duration>,
    /// In what state the cluster is left.
    pub(super) behind: Vec<Behind>,
    /// What those say that wait.
    pub(super) waiting: Vec<String>,
}

/// How one step fared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StepRun {
    /// As its status calls it, such as `completed` or `skipped`.
    pub(super) state: String,
    /// Attempts after the first.
    pub(super) retries: i64,
    /// From its start to its end.
    pub(super) took: Option<Duration>,
}

/// A step that did not complete.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct StepEnd {
    number: i64,
    name: String,
    state: String,
}

/// What all runs are seen in the light of.
pub(super) struct Light<'a> {
    /// What was to run.
    pub(super) runs: &'a [Value],
    /// All its steps.
    pub(super) steps: &'a [Step],
    /// Where Jobs live.
    pub(super) executor: &'a str,
    /// Namespaces of kubernaut's own.
    pub(super) own: &'a [&'a str],
    /// The run without faults.
    pub(super) calm: Option<&'a Calm<'a>>,
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
    /// Steps that did not complete, with what became of each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) steps: Vec<StepEnd>,
    /// It did not end, and says what it waits for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) waits: bool,
}

impl Verdict {
    pub(super) fn of(outcome: &Outcome, drawn: &Drawn, light: &Light<'_>) -> Self {
        let of_run = |run: &&Value| find_run(&outcome.objects, run);
        let waits = |object: &&Value| !has_ended(object) && says_why(object);
        let ends: Vec<End> = light
            .runs
            .iter()
            .map(|run| End::of(run, &outcome.objects, light.steps))
            .collect();
        let completed = ends.iter().all(|end| end.phase == "completed");
        let calm = light.calm;
        Self {
            took: outcome.ended,
            left: left(&outcome.objects, light.executor),
            wrong: outcome
                .happened
                .iter()
                .map(|happened| words::happened(drawn, happened, light.steps))
                .collect(),
            steps: light
                .steps
                .iter()
                .map(|step| StepRun::of(step, outcome))
                .collect(),
            lasted: lasted(outcome, light.runs),
            behind: calm.map_or_else(Vec::new, |calm| {
                calm.left_by(outcome, light.steps, completed, light.own)
            }),
            waiting: light
                .runs
                .iter()
                .filter_map(|run| of_run(&run))
                .filter(waits)
                .map(|object| words::shortened(&object["status"]["message"]))
                .collect(),
            ends,
        }
    }

    /// All that was asked for was done.
    pub(super) fn is_success(&self) -> bool {
        self.ends.iter().all(End::is_success)
    }

    /// It ended, and left nothing behind.
    pub(super) fn is_well(&self) -> bool {
        self.left.is_empty() && self.ends.iter().all(End::is_well)
    }
}

impl StepRun {
    fn of(step: &Step, outcome: &Outcome) -> Option<Self> {
        let (namespace, name) = step.run.split_once('/').unwrap_or(("", &step.run));
        let objects = &outcome.objects;
        if step.number == 0 {
            let execution = find(objects, "KubernetesExecution", namespace, name)?;
            let status = &execution["status"];
            return Some(Self {
                state: text(&status["phase"]).to_owned(),
                retries: status["executionResults"]["retriesAttempted"]
                    .as_i64()
                    .unwrap_or(0),
                took: between(&status["startTime"], &status["completionTime"]),
            });
        }
        let workflow = find(objects, WORKFLOW_KIND, namespace, name)?;
        let steps = workflow["status"]["stepStatuses"].as_array()?;
        let status = steps
            .iter()
            .find(|status| status["stepNumber"].as_i64() == Some(step.number))?;
        Some(Self {
            state: text(&status["status"]).to_owned(),
            retries: status["retriesAttempted"].as_i64().unwrap_or(0),
            took: between(&status["startTime"], &status["endTime"]),
        })
    }
}

fn between(begun: &Value, ended: &Value) -> Option<Duration> {
    let time = |value: &Value| text(value).parse::<jiff::Timestamp>().ok();
    Duration::try_from(time(ended)?.duration_since(time(begun)?)).ok()
}

fn find_run<'a>(objects: &'a [Arc<Value>], run: &Value) -> Option<&'a Value> {
    let metadata = &run["metadata"];
    find(
        objects,
        text(&run["kind"]),
        text(&metadata["namespace"]),
        text(&metadata["name"]),
    )
}

fn has_ended(object: &Value) -> bool {
    ["completed", "failed"].contains(&text(&object["status"]["phase"]))
}

/// Until the end of the last one was written, or it was deleted.
fn lasted(outcome: &Outcome, runs: &[Value]) -> Option<Duration> {
    let ends = runs.iter().map(|run| {
        let is_it = |object: &Value| {
            object["kind"] == run["kind"]
                && ["name", "namespace"]
                    .iter()
                    .all(|field| object["metadata"][field] == run["metadata"][field])
        };
        let end = outcome
            .record
            .iter()
            .find(|commit| is_it(&commit.object) && (commit.deleted || has_ended(&commit.object)));
        end.map(|commit| commit.at)
    });
    ends.collect::<Option<Vec<Duration>>>()?.into_iter().max()
}

impl End {
    fn of(run: &Value, objects: &[Arc<Value>], steps: &[Step]) -> Self {
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
        end.waits = !has_ended(object) && says_why(object);
        end.outcome = text(&status["workflowResult"]["outcome"]).to_owned();
        end.error_type = text(&status["errorType"]).to_owned();
        end.steps = status["stepStatuses"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|step| step["status"] != "completed")
            .map(|status| {
                let number = status["stepNumber"].as_i64().unwrap_or_default();
                let run = format!("{namespace}/{name}");
                let step = steps.iter().find(|step| step.number == number && step.run == run);
                StepEnd {
                    number,
                    name: step.map(|step| step.name.clone()).unwrap_or_default(),
                    state: text(&status["status"]).to_owned(),
                }
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
                .map(|step| format!("{} ({}) {}", step.number, step.name, step.state))
                .collect();
            words = format!("{words}: step {}", steps.join(", "));
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
        || message.starts_with("undoing step ")
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
