//! Deletion: the Jobs of the execution go first, then their payloads, then the finalizer.

use std::time::Duration;

use jiff::Timestamp;
use kubernaut_crds::{KubernetesExecution, names};

use super::StepCommand;
use super::machine::{Flow, Purpose, StepMachine};
use crate::api_command::{ApiCommand, ExecutionChange};
use crate::defect::{Defect, planted};
use crate::job_run::{Wait, place_of};
use crate::job_view::JobView;
use crate::time::later;

/// A Job that is on its way out, and that the watch does not show, is asked for again after this long.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// Longer than pods of ours take to end, whose grace period is 5 s.
const USUAL_END: Duration = Duration::from_secs(60);

impl StepMachine {
    pub(super) fn clean_up(&mut self, now: Timestamp, out: &mut Vec<StepCommand>) -> Flow {
        let finalizers = self.execution.metadata.finalizers.clone().unwrap_or_default();
        if !finalizers.iter().any(|name| name == names::CLEANUP_FINALIZER) {
            return self.stop(out);
        }
        if let Some(at) = self.deletion.look_again {
            if now < at {
                return self.wait_until(at, "a Job that is being deleted");
            }
            self.deletion.look_again = None;
        }
        if !self.deletion.is_reported {
            self.deletion.is_reported = true;
            out.push(StepCommand::Report(self.execution.clone()));
        }
        if self.status.is_due && self.waits.told == Some(Wait::Refused) {
            return self.write(out);
        }
        if let Some(attempt) = self.run.open_payload(&self.status.persisted)
            && let Some(certain) = self.run.may_be_made_until(attempt, now)
        {
            // Its Job, too, is looked for when it can't be made any more.
            return self.wait_until(certain, "a payload that may still be made");
        }
        // An attempt that was decided on but never written has no Job.
        let mut attempts = self.status.persisted.attempts.clone();
        if planted(Defect::LeaveTheJob) {
            attempts.clear();
        }
        for attempt in &attempts {
            if self.deletion.cleaned.contains(&attempt.attempt) {
                continue;
            }
            // The watch shows it on its way out; its absence counts only when the API says so.
            let leaving = self.run.shown(&attempt.job_name);
            if let Some(view) = leaving.filter(|view| view.deleting && self.run.is_ours(view)) {
                let place = place_of(view);
                return self.keep_while_it_lives(&place, now, out);
            }
            let command = ApiCommand::GetJob {
                name: attempt.job_name.clone(),
                execution_uid: self.uid(),
            };
            return self.call(Purpose::CleanFind(attempt.attempt), command, out);
        }
        if let Some(attempt) = self.run.open_payload(&self.status.persisted).cloned() {
            return self.delete_payload(&attempt, now, out);
        }
        if self.workflow.waits || planted(Defect::KeepTheFinalizer) {
            return Flow::Wait;
        }
        let finalizers = finalizers
            .into_iter()
            .filter(|name| name != names::CLEANUP_FINALIZER)
            .collect();
        let execution = self.execution.clone();
        self.call(
            Purpose::Finalizers,
            ApiCommand::PatchExecution {
                execution,
                change: ExecutionChange {
                    finalizers: Some(finalizers),
                    ..ExecutionChange::default()
                },
            },
            out,
        )
    }

    /// Whoever deletes an execution and sees it stay has to find the reason in it.
    fn keep_while_it_lives(&mut self, place: &str, now: Timestamp, out: &mut Vec<StepCommand>) -> Flow {
        self.deletion.leaving.get_or_insert(now);
        let deleted = self.execution.metadata.deletion_timestamp.as_ref();
        let tell_at = later(deleted.map_or(now, |time| time.0), USUAL_END);
        if now < tell_at {
            return self.wait_until(tell_at, "the end of a Job");
        }
        self.free_the_slot_of_a_lost_node_in_time(now, out);
        let message = format!(
            "waits: in deletion, but {place} could not be confirmed stopped; it goes on when the pod object is gone"
        );
        if self.status.persisted.message.as_deref() == Some(message.as_str()) || self.status.refusals > 0 {
            return Flow::Wait;
        }
        // What was decided and never written has no part in a deletion.
        self.status.discard();
        self.status.draft.message = Some(message);
        self.write(out)
    }

    pub(super) fn clean_found(
        &mut self,
        now: Timestamp,
        attempt: i32,
        found: Option<JobView>,
        out: &mut Vec<StepCommand>,
    ) {
        match found.filter(|view| self.run.is_ours(view)) {
            None => {
                self.deletion.cleaned.insert(attempt);
            }
            Some(view) if view.deleting => self.deletion.look_again = Some(later(now, ASK_AGAIN)),
            Some(view) => {
                let command = ApiCommand::DeleteJob {
                    name: view.name,
                    uid: view.uid,
                };
                self.call(Purpose::CleanDelete, command, out);
            }
        }
    }
}

/// Whether a person has said that what holds this execution's lock no longer does anything.
pub fn is_lock_released(execution: &KubernetesExecution) -> bool {
    let annotations = execution.metadata.annotations.as_ref();
    annotations.is_some_and(|annotations| annotations.contains_key(names::ANNOTATION_RELEASE_LOCK))
}

/// Whether a Job has nobody who looks after it: its execution is gone, or terminal, or never recorded it, or is done with
/// its attempt.
///
/// `execution` is a fresh read; a Job that ended is left to its time to live. One without the hash that each of ours carries is
/// somebody else's, whatever its labels say.
pub fn is_stray(execution: Option<&KubernetesExecution>, job: &JobView) -> bool {
    if job.hash.is_none() && !planted(Defect::TrustLabels) {
        return false;
    }
    if !job.live {
        return execution.is_none();
    }
    let Some(execution) = execution.filter(|execution| execution.metadata.uid == job.execution_uid) else {
        return true;
    };
    // One of an attempt that has ended came too late.
    let mut attempts = execution.attempts().all();
    let is_at_work = attempts.any(|attempt| attempt.job_name == job.name && attempt.is_open());
    execution.is_terminal() || !is_at_work
}
