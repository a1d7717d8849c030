//! The payload of an attempt: a Secret that goes before its attempt ends, and whose values nobody reads in a message.

use jiff::Timestamp;
use kubernaut_crds::{Attempt, KubernetesExecution, KubernetesExecutionStatus};

use super::{Assignment, JobCall, JobRun, Next, Payload, Wait};
use crate::actions::{self, unchecked};
use crate::api_command::ApiCommand;
use crate::calls::Alarm;
use crate::classify;
use crate::defect::{Defect, planted};

impl JobRun {
    /// The attempt whose payload may be there, as a Secret. Those of ended attempts are gone.
    pub(crate) fn open_payload<'a>(&self, status: &'a KubernetesExecutionStatus) -> Option<&'a Attempt> {
        status.attempts().open().filter(|_| self.may_have_payload())
    }

    fn may_have_payload(&self) -> bool {
        self.has_payload
            && matches!(self.current.payload, Payload::Open { .. })
            && !planted(Defect::LeaveThePayload)
    }

    /// Deletes the payload before the end of its attempt is decided on; `None` when it is gone. The status says what it waits
    /// for.
    pub(super) fn without_payload(&mut self, task: &Assignment<'_>, alarm: &mut Alarm) -> Option<Next> {
        if !self.may_have_payload() {
            return None;
        }
        let wait = if self.may_be_made_until(task.attempt, task.now).is_some() {
            let words = "waits until its payload can't arrive any more";
            Some((Wait::Payload, words.to_owned()))
        } else if let Payload::Open { refused: Some(words) } = &self.current.payload {
            let message = format!("waits: its payload can't be deleted: {words}");
            Some((Wait::PayloadRefused, message))
        } else {
            None
        };
        match wait {
            Some((wait, message)) if task.told != Some(wait) => Some(Next::Tell(wait, message)),
            _ => Some(self.delete_payload(task.attempt, task.now, alarm)),
        }
    }

    /// Deletes the payload once no create can bring it any more, also none that was sent and given up.
    pub(crate) fn delete_payload(&self, attempt: &Attempt, now: Timestamp, alarm: &mut Alarm) -> Next {
        if let Some(certain) = self.may_be_made_until(attempt, now) {
            alarm.set(certain, "a payload that may still be made");
            return Next::Wait;
        }
        let command = ApiCommand::DeleteSecret {
            name: attempt.job_name.clone(),
            execution_uid: self.execution_uid.clone().unwrap_or_default(),
        };
        Next::call(JobCall::DeletePayload, command)
    }

    pub(crate) fn payload_deleted(&mut self) {
        self.current.payload = Payload::Deleted;
    }

    /// Its deletion is refused, in these words.
    pub(crate) fn payload_refused(&mut self, words: &str) {
        self.current.payload = Payload::Open {
            refused: Some(words.to_owned()),
        };
    }
}

pub(super) fn has_payload(execution: &KubernetesExecution) -> bool {
    let members = unchecked(&execution.spec.parameters);
    members
        .iter()
        .any(|(_, payload)| *payload == actions::Payload::Secret)
}

/// A text of kubectl or of the API server without the values that this execution holds.
pub(crate) fn without_secrets(execution: &KubernetesExecution, text: &str) -> String {
    let members = unchecked(&execution.spec.parameters);
    let secrets: Vec<&str> = members
        .iter()
        .flat_map(|(operation, _)| operation.secrets())
        .collect();
    if secrets.is_empty() {
        return text.to_owned();
    }
    classify::redact(text, &secrets)
}
