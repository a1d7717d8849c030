//! executing: the run of the recorded attempt's Job, and what its end means.

use jiff::Timestamp;
use kubernaut_crds::{Attempt, AttemptOutcome, ErrorType};

use super::StepCommand;
use super::machine::{Flow, Hold, Slot, StepMachine};
use super::validate::Snapshot;
use crate::api_command::ApiFailure;
use crate::defect::{Defect, planted};
use crate::job_run::{Assignment, Ended, Run, UNREACHABLE_AFTER, Wait};
use crate::job_view::JobView;
use crate::parameters::ValidatedExecution;
use crate::problem::Problem;
use crate::time::later;

impl StepMachine {
    pub(super) fn executing(&mut self, now: Timestamp, out: &mut Vec<StepCommand>) -> Flow {
        let checked = match self.check() {
            Ok(checked) => checked,
            Err(problems) => return self.fail(ErrorType::ValidationError, &Problem::joined(&problems), now),
        };
        match &self.waits.lock {
            Hold::None => return self.acquire_lock(out),
            Hold::Asked | Hold::Busy(_) => return Flow::Wait,
            Hold::Held => {}
        }
        if let Some(next) = self.run.delete_late(&self.status.persisted) {
            return self.follow(next, now, out);
        }
        // A dry run never leads to this phase.
        let current = self.current_attempt().filter(|attempt| !attempt.is_dry_run());
        let Some(attempt) = current.cloned() else {
            return self.fail(
                ErrorType::UnknownError,
                "status.attempts has no attempt while executing: it was edited",
                now,
            );
        };
        if attempt.outcome.is_some() {
            return self.between_attempts(&attempt, now, out);
        }
        match self.run_job(&checked, &attempt, now, out) {
            Ok(ended) => self.look_after(&checked, &attempt, &ended, now, out),
            Err(flow) => flow,
        }
    }

    /// Brings the Job of an open attempt on its way; `Ok` when it has ended.
    pub(super) fn run_job(
        &mut self,
        checked: &ValidatedExecution,
        attempt: &Attempt,
        now: Timestamp,
        out: &mut Vec<StepCommand>,
    ) -> Result<Ended, Flow> {
        if self.run.needs_slot(attempt)
            && let Some(flow) = self.take_slot(out)
        {
            return Err(flow);
        }
        let task = Assignment {
            settings: &self.settings,
            execution: &self.execution,
            checked,
            attempt,
            stopped_by: self.stopped_by(),
            told: self.waits.told,
            now,
        };
        let run = self.run.advance(&task, &mut self.calls.alarm);
        if self.run.frees_slot(attempt) {
            self.release_slot(out);
        }
        Err(match run {
            Run::Running(next) => self.follow(next, now, out),
            Run::Ended(ended) => {
                self.release_slot(out);
                return Ok(ended);
            }
            Run::NotOurs(message) => {
                self.end_attempt(AttemptOutcome::Failed, ErrorType::ResourceConflict, &message, now);
                self.fail(ErrorType::ResourceConflict, &message, now)
            }
            Run::Unreachable(pod) => self.unreachable(&pod, now, out),
        })
    }

    /// The slot among the running Jobs; `None` once it is held.
    pub(super) fn take_slot(&mut self, out: &mut Vec<StepCommand>) -> Option<Flow> {
        match self.waits.slot {
            Slot::None | Slot::Given => {
                self.waits.slot = Slot::Asked;
                out.push(StepCommand::AcquireSlot);
                Some(Flow::Wait)
            }
            Slot::Asked => Some(Flow::Wait),
            Slot::Busy => {
                // What was read before a wait is not what is there after it.
                self.validation.snapshot = Snapshot::Unread;
                Some(self.tell_of(Wait::Slot, "waits: as many Jobs run as --max-running-jobs allows"))
            }
            Slot::Held => None,
        }
    }

    pub(super) fn release_slot(&mut self, out: &mut Vec<StepCommand>) {
        if self.waits.slot != Slot::None {
            self.waits.slot = Slot::None;
            out.push(StepCommand::ReleaseSlot);
        }
    }

    /// Slots keep too many Jobs from running at once; a pod that nobody can reach is no reason to start none. The start of the
    /// controller may have given it one that this machine knows nothing of.
    pub(super) fn free_the_slot_of_a_lost_node(&mut self, out: &mut Vec<StepCommand>) {
        if !planted(Defect::KeepThePlaceOfADeadNode) {
            self.waits.slot = Slot::Given;
            self.release_slot(out);
        }
    }

    /// A pod that should have stopped gets a minute to be confirmed stopped.
    pub(super) fn free_the_slot_of_a_lost_node_in_time(
        &mut self,
        now: Timestamp,
        out: &mut Vec<StepCommand>,
    ) {
        let give_up = later(*self.deletion.leaving.get_or_insert(now), UNREACHABLE_AFTER);
        if now >= give_up {
            self.free_the_slot_of_a_lost_node(out);
        } else {
            self.calls.alarm.set(give_up, "a Job that does not stop");
        }
    }

    /// A step is made with a slot for its Job; while it waits for something else, others have more use for it. One of which an
    /// attempt is recorded, by a controller before this one, has it for a Job that may run.
    pub(super) fn give_back_a_slot_of_no_use(&mut self, out: &mut Vec<StepCommand>) {
        let is_used = self.status.persisted.attempts().open().is_some();
        if self.waits.slot == Slot::Given && !is_used && !planted(Defect::KeepASlotForNothing) {
            self.release_slot(out);
        }
    }

    /// No attempt begins beside the Job of another one; `None` when there is none.
    pub(super) fn without_late_jobs(&mut self, now: Timestamp, out: &mut Vec<StepCommand>) -> Option<Flow> {
        if let Some(next) = self.run.delete_late(&self.status.persisted) {
            return Some(self.follow(next, now, out));
        }
        let deadline = self.current_attempt().map(|attempt| attempt.deadline.0)?;
        (now < deadline && self.run.has_late(&self.status.persisted))
            .then(|| self.wait_until(deadline, "the end of a Job that came late"))
    }

    pub(super) fn job_created(&mut self, now: Timestamp, view: JobView) {
        let attempt = self.status.draft.attempts.last_mut();
        if let Some(attempt) = attempt.filter(|attempt| attempt.waits_for_quota()) {
            // The wait is over, and the status says so.
            attempt.error_type = None;
            self.status.draft.message = self.validation.impact();
            self.status.is_due = true;
        }
        self.run.created(now, self.status.draft.attempts.last(), view);
    }

    /// The status tells of the wait once, when it begins.
    pub(super) fn quota_leaves_no_room(&mut self, failure: &ApiFailure) {
        self.validation.snapshot = Snapshot::Unread;
        let draft = &mut self.status.draft;
        draft.message = Some(format!("waits for quota: {}", failure.message));
        let Some(attempt) = draft.attempts.last_mut() else {
            return;
        };
        if !attempt.waits_for_quota() {
            attempt.error_type = Some(ErrorType::ResourceQuotaExceeded);
            self.status.is_due = true;
        }
    }

    /// Nobody knows whether its Job still acts, and its time is over.
    fn unreachable(&mut self, pod: &str, now: Timestamp, out: &mut Vec<StepCommand>) -> Flow {
        self.free_the_slot_of_a_lost_node(out);
        let (namespace, name) = self.key();
        let message = format!(
            "timeout: {pod} could not be confirmed stopped: nobody knows whether it still acts, so the target stays locked until \
             the pod object is gone, or until somebody who has looked releases it: kubectl annotate kubernetesexecution {name} \
             -n {namespace} {}=true",
            kubernaut_crds::names::ANNOTATION_RELEASE_LOCK
        );
        self.end_attempt(AttemptOutcome::Failed, ErrorType::Timeout, &message, now);
        self.fail(ErrorType::Timeout, &message, now)
    }
}
