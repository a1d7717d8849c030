//! What is often asked of the objects: their phase, their lineage, and the attempts of an execution.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::{
    Attempt, AttemptOutcome, ExecutionPhase, KubernetesExecution, KubernetesExecutionStatus, StepState,
    StepStatus, TargetRef, UndoState, WorkflowExecution, WorkflowPhase, names,
};

impl WorkflowExecution {
    /// The phase that it is in; `None` before any controller has seen it.
    pub fn phase(&self) -> Option<WorkflowPhase> {
        self.status.as_ref().and_then(|status| status.phase)
    }

    /// It has ended, whichever way.
    pub fn is_terminal(&self) -> bool {
        self.phase().is_some_and(WorkflowPhase::is_terminal)
    }

    /// Who created it, as its annotation says.
    pub fn created_by(&self) -> Option<&str> {
        created_by(&self.metadata)
    }

    /// What logs follow from an alert to the last Job: its annotation, and its uid where it has none.
    pub fn correlation_id(&self) -> &str {
        correlation_id(&self.metadata).unwrap_or_default()
    }
}

impl StepStatus {
    /// What it did was taken back by its own workflow. A step that failed half-done stays failed when it is undone.
    pub fn is_undone(&self) -> bool {
        let undo = self.undo.as_ref();
        self.status == StepState::RolledBack || undo.is_some_and(|undo| undo.status == UndoState::Completed)
    }
}

impl KubernetesExecution {
    /// The phase that it is in; `None` before any controller has seen it.
    pub fn phase(&self) -> Option<ExecutionPhase> {
        self.status.as_ref().and_then(|status| status.phase)
    }

    /// It has ended, whichever way.
    pub fn is_terminal(&self) -> bool {
        self.phase().is_some_and(ExecutionPhase::is_terminal)
    }

    /// Who created it, or the workflow that it is a step of, as its annotation says.
    pub fn created_by(&self) -> Option<&str> {
        created_by(&self.metadata)
    }

    /// Its attempts; none before any controller has seen it.
    pub fn attempts(&self) -> Attempts<'_> {
        Attempts(self.status.as_ref().map_or(&[], |status| &status.attempts))
    }

    /// What logs follow from an alert to the last Job: its annotation; the uid of its workflow, or its own, where it has none.
    pub fn correlation_id(&self) -> &str {
        let workflow = self.spec.workflow_execution_ref.as_ref();
        let annotation = annotation(&self.metadata);
        annotation
            .or_else(|| workflow.and_then(|workflow| workflow.uid.as_deref()))
            .or(self.metadata.uid.as_deref())
            .unwrap_or_default()
    }
}

fn created_by(meta: &ObjectMeta) -> Option<&str> {
    let annotations = meta.annotations.as_ref()?;
    annotations
        .get(names::ANNOTATION_CREATED_BY)
        .map(String::as_str)
        .filter(|name| !name.is_empty())
}

fn annotation(meta: &ObjectMeta) -> Option<&str> {
    let annotations = meta.annotations.as_ref()?;
    annotations
        .get(names::ANNOTATION_CORRELATION_ID)
        .map(String::as_str)
}

fn correlation_id(meta: &ObjectMeta) -> Option<&str> {
    annotation(meta).or(meta.uid.as_deref())
}

impl KubernetesExecutionStatus {
    /// Its attempts.
    pub fn attempts(&self) -> Attempts<'_> {
        Attempts(&self.attempts)
    }
}

impl TargetRef {
    /// Objects that a selector names, in words: they have no name of their own.
    pub fn selected(kind: &str, namespace: &str, selector: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            namespace: Some(namespace.to_owned()),
            name: format!("({selector})"),
        }
    }

    /// Whether what stands in place of a name is a selector. No object's name holds a parenthesis.
    pub fn is_selector(name: &str) -> bool {
        name.starts_with('(')
    }
}

/// The attempts of an execution, oldest first. Number 0 is a dry run and changes nothing.
#[derive(Clone, Copy, Debug)]
pub struct Attempts<'a>(&'a [Attempt]);

impl<'a> Attempts<'a> {
    /// All of them.
    pub fn all(self) -> impl Iterator<Item = &'a Attempt> {
        self.0.iter()
    }

    /// The one that tried the action without changing anything.
    pub fn dry_run(self) -> Option<&'a Attempt> {
        self.all().find(|attempt| attempt.is_dry_run())
    }

    /// Those that change something.
    pub fn real(self) -> impl DoubleEndedIterator<Item = &'a Attempt> {
        self.0.iter().filter(|attempt| !attempt.is_dry_run())
    }

    /// The one that runs, or ran last.
    pub fn current(self) -> Option<&'a Attempt> {
        self.0.last()
    }

    /// The one that runs.
    pub fn open(self) -> Option<&'a Attempt> {
        self.current().filter(|attempt| attempt.is_open())
    }

    /// The first that changed something, once it has ended: what it found counts for those after it.
    pub fn first_ended(self) -> Option<&'a Attempt> {
        self.real().next().filter(|attempt| !attempt.is_open())
    }

    /// The one whose Job has this name has ended.
    pub fn has_ended(self, job_name: &str) -> bool {
        let mut all = self.all();
        all.any(|attempt| attempt.job_name == job_name && !attempt.is_open())
    }

    /// How many ended so.
    pub fn ended_as(self, outcome: AttemptOutcome) -> usize {
        self.real()
            .filter(|attempt| attempt.outcome == Some(outcome))
            .count()
    }
}

impl Attempt {
    /// It tries the action without changing anything.
    pub fn is_dry_run(&self) -> bool {
        self.attempt == 0
    }

    /// It has not ended.
    pub fn is_open(&self) -> bool {
        self.outcome.is_none()
    }

    /// Its Job was refused because a quota leaves no room, and is tried again.
    pub fn waits_for_quota(&self) -> bool {
        self.is_open() && self.error_type == Some(crate::ErrorType::ResourceQuotaExceeded)
    }

    /// Both are one record: what was found out since, and how it ended, aside.
    pub fn is_same_record(&self, other: &Self) -> bool {
        let record = |attempt: &Self| Self {
            end_time: None,
            outcome: None,
            error_type: None,
            retry: None,
            message: None,
            ..attempt.clone()
        };
        record(self) == record(other)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_dry_run_is_no_real_attempt() {
        let attempt = |number: i32, outcome: Option<&str>| {
            json!({"attempt": number, "jobName": format!("j-{number}"), "jobHash": "", "outcome": outcome,
                   "startTime": "2026-01-01T00:00:00.000000Z", "deadline": "2026-01-01T00:05:00.000000Z"})
        };
        let status = |attempts: &[serde_json::Value]| -> KubernetesExecutionStatus {
            serde_json::from_value(json!({"attempts": attempts})).expect("a status")
        };
        let begun = status(&[attempt(0, Some("succeeded")), attempt(1, None)]);
        let attempts = begun.attempts();
        assert_eq!(attempts.dry_run().map(|attempt| attempt.attempt), Some(0));
        assert_eq!(attempts.open().map(|attempt| attempt.attempt), Some(1));
        assert!(attempts.first_ended().is_none());
        let ended = status(&[
            attempt(0, Some("succeeded")),
            attempt(1, Some("evicted")),
            attempt(2, Some("failed")),
        ]);
        let attempts = ended.attempts();
        assert_eq!(attempts.first_ended().map(|attempt| attempt.attempt), Some(1));
        assert_eq!(attempts.real().count(), 2);
        assert_eq!(attempts.ended_as(AttemptOutcome::Evicted), 1);
        assert!(attempts.open().is_none() && attempts.has_ended("j-2") && !attempts.has_ended("j-3"));
    }
}
