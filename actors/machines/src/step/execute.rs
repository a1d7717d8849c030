//! executing: the Job of the recorded attempt is made, looked after, and its end drawn a conclusion from.

use std::time::Duration;

use jiff::Timestamp;
use kubernaut_crds::{Attempt, AttemptOutcome, ErrorType};

use super::StepCommand;
use super::attempts::MIN_LEFT;
use super::machine::{Creates, Flow, Hold, JobKnowledge, Purpose, StepMachine, Wait, later};
use super::status::publish;
use crate::actions::{Payload, unchecked};
use crate::classify::{self, Failure, Retry};
use crate::defect::{Defect, planted};
use crate::job_view::{JobEnd, JobView};
use crate::outcome::{ApiCommand, ApiFailure, FailureClass};
use crate::parameters::Checked;
use crate::problem::Problem;
use crate::render;

/// A create may take effect this long after it was sent: the API server's own request time-out. For as long after the
/// record its Job is made.
pub(super) const CREATE_WINDOW: Duration = Duration::from_secs(60);

/// A create may be under way this long before it is sent or given up.
const CREATE_DEADLINE: Duration = Duration::from_secs(30);

/// How the current attempt ended, before the status says so.
#[derive(Clone, Debug)]
pub(super) enum Ended {
    /// kubectl ended well.
    Success { said: Option<String> },
    /// kubectl failed, or never ran.
    Failure(Failure),
    /// The Job vanished.
    Lost,
}

impl StepMachine {
    pub(super) fn executing(&mut self, now: Timestamp, out: &mut Vec<StepCommand>) -> Flow {
        let checked = match self.check() {
            Ok(checked) => checked,
            Err(problems) => return self.fail(ErrorType::ValidationError, &Problem::joined(&problems), now),
        };
        match &self.lock {
            Hold::None => return self.acquire_lock(out),
            Hold::Asked | Hold::Busy(_) => return Flow::Wait,
            Hold::Held => {}
        }
        if let Some(flow) = self.delete_late_jobs(out) {
            return flow;
        }
        let Some(attempt) = self.current_attempt().cloned() else {
            return self.fail(
                ErrorType::UnknownError,
                "status.attempts is empty while executing: it was edited",
                now,
            );
        };
        if attempt.outcome.is_some() {
            return self.between_attempts(&checked, &attempt, now, out);
        }
        // Its place may be given back already.
        if let Some(ended) = self.ended.clone() {
            return self.conclude(&checked, &attempt, &ended, now, out);
        }
        let view = self.view_of(&attempt).cloned();
        // A Job that is over needs no place: it must not wait for one behind those that have not begun.
        let over = view.as_ref().is_some_and(|view| view.end.is_some() && !view.live);
        if (!over || planted(Defect::QueueWhatHasEnded))
            && let Some(flow) = self.take_slot(out)
        {
            return flow;
        }
        let Some(view) = view else {
            return self.without_job(&checked, &attempt, now, out);
        };
        self.quota_until = None;
        if (!self.is_ours(&view) || view.hash.as_deref() != Some(attempt.job_hash.as_str()))
            && !planted(Defect::AdoptStrangersJob)
        {
            if let Some(flow) = self.without_payload(now, out) {
                return flow;
            }
            let message = format!(
                "a Job {} exists in namespace {} that this attempt did not make; it was left alone",
                view.name, self.settings.executor_namespace
            );
            self.end_attempt(AttemptOutcome::Failed, ErrorType::ResourceConflict, &message, now);
            return self.fail(ErrorType::ResourceConflict, &message, now);
        }
        match &view.end {
            Some(JobEnd::Succeeded { message }) => {
                self.ended = Some(Ended::Success {
                    said: Some(message.clone()).filter(|m| !m.is_empty()),
                });
                Flow::Again
            }
            Some(end) if self.abandon.is_none() => {
                let failure = classify::classify(end, checked.kind);
                self.ended = Some(Ended::Failure(self.redacted(failure)));
                Flow::Again
            }
            _ => self.supervise(&attempt, &view, now, out),
        }
    }

    /// The place among the running Jobs; `None` once it is held.
    pub(super) fn take_slot(&mut self, out: &mut Vec<StepCommand>) -> Option<Flow> {
        match &self.slot {
            Hold::None => {
                self.slot = Hold::Asked;
                out.push(StepCommand::AcquireSlot);
                Some(Flow::Wait)
            }
            Hold::Asked => Some(Flow::Wait),
            Hold::Busy(_) => {
                // What was read before a wait is not what is there after it.
                self.before = None;
                Some(self.note_wait(Wait::Slot, "waits: as many Jobs run as --max-running-jobs allows"))
            }
            Hold::Held => None,
        }
    }

    pub(super) fn release_slot(&mut self, out: &mut Vec<StepCommand>) {
        if self.slot != Hold::None {
            self.slot = Hold::None;
            out.push(StepCommand::ReleaseSlot);
        }
    }

    /// A Job of an attempt that has ended: a create that was given up took effect all the same. It is deleted as soon as it is
    /// seen. `None` when there is nothing to do about any.
    fn delete_late_jobs(&mut self, out: &mut Vec<StepCommand>) -> Option<Flow> {
        let told = |job: &&JobView| !job.deleting && !self.late_deleted.contains(&job.name);
        let (name, uid) = self
            .late_jobs()
            .find(told)
            .map(|job| (job.name.clone(), job.uid.clone()))?;
        self.late_deleted.insert(name.clone());
        Some(self.call(Purpose::DeleteLateJob, ApiCommand::DeleteJob { name, uid }, out))
    }

    /// No attempt begins beside the Job of another one; `None` when there is none.
    pub(super) fn without_late_jobs(&mut self, now: Timestamp, out: &mut Vec<StepCommand>) -> Option<Flow> {
        if let Some(flow) = self.delete_late_jobs(out) {
            return Some(flow);
        }
        let deadline = self.current_attempt().map(|attempt| attempt.deadline.0)?;
        (now < deadline && self.late_jobs().next().is_some())
            .then(|| self.wait_until(deadline, "the end of a Job that came late"))
    }

    fn late_jobs(&self) -> impl Iterator<Item = &JobView> {
        let ended = |name: &str| {
            let mut attempts = self.persisted.attempts.iter();
            attempts.any(|attempt| attempt.job_name == name && attempt.outcome.is_some())
        };
        let late =
            move |job: &&JobView| job.live && !job.uid.is_empty() && self.is_ours(job) && ended(&job.name);
        self.jobs.values().filter(late)
    }

    /// The store's view; where the store has not caught up, what a create or a live read gave.
    pub(super) fn view_of(&self, attempt: &Attempt) -> Option<&JobView> {
        // Pods and Jobs come by two watches: a pod may be seen before its Job. That is no Job yet, nor a stranger. And pods
        // outlive a Job that is deleted in the background.
        let is_job = |view: &&JobView| !view.uid.is_empty();
        let stored = self.jobs.get(&attempt.job_name).filter(is_job);
        stored.or(self
            .job
            .found
            .as_ref()
            .filter(|view| view.name == attempt.job_name)
            .filter(is_job))
    }

    /// Whether it was made for this execution; without its Job only a pod of it is left. Labels alone anybody can write.
    pub(super) fn is_ours(&self, view: &JobView) -> bool {
        view.execution_uid == self.execution.metadata.uid
            && (view.is_made_here() || planted(Defect::TrustLabels))
    }

    /// No Job in sight: make it, wait for the store, or find out that it is gone.
    fn without_job(
        &mut self,
        checked: &Checked,
        attempt: &Attempt,
        now: Timestamp,
        out: &mut Vec<StepCommand>,
    ) -> Flow {
        if self.job.creates == Creates::None && !self.job.seen {
            return match self.quota_until {
                Some(until) if now < until.min(attempt.deadline.0) => {
                    self.wait_until(until.min(attempt.deadline.0), "room in a quota")
                }
                // What was refused is recorded anew, so that its window for a late create begins again.
                Some(_) => self.record_again(checked, now, out),
                None => self.make_job(checked, attempt, now, out),
            };
        }
        if self.job.absent.is_none() {
            return self.find_job(attempt, out);
        }
        let stored = self.jobs.get(&attempt.job_name);
        let left = stored
            .filter(|view| view.live)
            .or(self.job.found.as_ref().filter(|view| view.live));
        if let Some(left) = left.cloned() {
            // The Job is gone, a pod of it is not: what it does is not over.
            return self.wait_for_the_end(attempt, &left, now, out);
        }
        if !self.job.seen {
            return self.make_job(checked, attempt, now, out);
        }
        if let Some(flow) = self.wait_for_creates(attempt, now, out) {
            return flow;
        }
        let given_up = self.abandon.clone();
        self.ended = Some(given_up.map_or(Ended::Lost, Ended::Failure));
        Flow::Again
    }

    /// When no create can take effect any more that was sent for this attempt; `None` when none can now.
    pub(super) fn certain_at(&self, attempt: &Attempt) -> Option<Timestamp> {
        match self.job.creates {
            Creates::None => None,
            Creates::Uncertain { until } => Some(until),
            Creates::Unknown => {
                // The controller before this one sent creates for as long as it might, and until it ended.
                let (_, sending_ends) = window(attempt);
                let since_record = later(sending_ends, CREATE_DEADLINE + CREATE_WINDOW);
                let since_start = self.started.map(|started| later(started, CREATE_WINDOW));
                Some(since_start.map_or(since_record, |at| at.min(since_record)))
            }
        }
    }

    /// Until when the attempt's Job may still be made by a create that was sent; `None` also when that is past.
    pub(super) fn may_be_made_until(&self, attempt: &Attempt, now: Timestamp) -> Option<Timestamp> {
        self.certain_at(attempt).filter(|certain| now < *certain)
    }

    /// Waits until no create can take effect any more, and then looks once more; `None` when that was done.
    fn wait_for_creates(
        &mut self,
        attempt: &Attempt,
        now: Timestamp,
        out: &mut Vec<StepCommand>,
    ) -> Option<Flow> {
        let certain = self.certain_at(attempt)?;
        if now < certain {
            self.wait_until(certain, "a Job that may still be made");
            let message = format!("waits until Job {} can't be made any more", attempt.job_name);
            return Some(self.note_wait(Wait::Job, &message));
        }
        let looked = self.job.absent.is_some_and(|at| at >= certain);
        (!looked).then(|| self.find_job(attempt, out))
    }

    /// The watches may be blind for minutes: what is decided against a Job is decided on a live read that was made when it was
    /// due. `None` once it was made.
    pub(super) fn look_first(
        &mut self,
        attempt: &Attempt,
        due: Timestamp,
        out: &mut Vec<StepCommand>,
    ) -> Option<Flow> {
        let looked = self.job.looked.is_some_and(|at| at >= due);
        (!looked).then(|| self.find_job(attempt, out))
    }

    pub(super) fn find_job(&mut self, attempt: &Attempt, out: &mut Vec<StepCommand>) -> Flow {
        self.job.shown_since = false;
        let command = ApiCommand::GetJob {
            name: attempt.job_name.clone(),
            execution_uid: self.uid(),
        };
        self.call(Purpose::FindJob, command, out)
    }

    /// There is no Job and none was seen: it is made while there is time, and is lost only when it can't come any more.
    fn make_job(
        &mut self,
        checked: &Checked,
        attempt: &Attempt,
        now: Timestamp,
        out: &mut Vec<StepCommand>,
    ) -> Flow {
        if let Some(why) = self.stopped_by()
            && self.abandon.is_none()
        {
            self.refused_for_good(Failure {
                error_type: ErrorType::Cancelled,
                message: why.to_owned(),
                retry: Retry::Never,
            });
            return Flow::Again;
        }
        let (too_late, sending_ends) = window(attempt);
        if now < sending_ends && self.quota_until.is_none() && self.abandon.is_none() {
            return self.create_job(checked, attempt, now, out);
        }
        if let Some(flow) = self.wait_for_creates(attempt, now, out) {
            return flow;
        }
        if let Some(failure) = self.abandon.clone() {
            self.ended = Some(Ended::Failure(failure));
        } else if now >= too_late {
            let words = self.job.refusal.as_deref().unwrap_or("it was never seen");
            self.ended = Some(Ended::Failure(Failure {
                error_type: ErrorType::Timeout,
                message: format!(
                    "the Job could not be made within the timeout of {}: {words}",
                    self.execution.spec.timeout
                ),
                retry: Retry::Never,
            }));
        } else if self.job.creates == Creates::None || self.quota_until.is_some() {
            self.job.creates = Creates::None;
            self.quota_until.get_or_insert(now);
        } else {
            self.ended = Some(Ended::Lost);
        }
        Flow::Again
    }

    fn create_job(
        &mut self,
        checked: &Checked,
        attempt: &Attempt,
        now: Timestamp,
        out: &mut Vec<StepCommand>,
    ) -> Flow {
        let rendered = match render::render(&self.execution, checked, attempt, &self.settings) {
            Ok(rendered) if rendered.hash == attempt.job_hash => rendered,
            // The controller was upgraded or configured anew between record and Job. The one before it may have sent a create.
            Ok(_) | Err(_) => {
                if !planted(Defect::IgnoreCreatesUnderWay)
                    && let Some(flow) = self.wait_for_creates(attempt, now, out)
                {
                    return flow;
                }
                self.ended = Some(Ended::Lost);
                return Flow::Again;
            }
        };
        self.job.shown_since = false;
        self.secret_deleted = false;
        let command = ApiCommand::CreateJob {
            job: Box::new(rendered.job),
            secret: rendered.secret.map(Box::new),
            not_after: window(attempt).1,
        };
        self.call(Purpose::CreateJob, command, out)
    }

    pub(super) fn job_created(
        &mut self,
        now: Timestamp,
        view: JobView,
        fresh: bool,
        out: &mut Vec<StepCommand>,
    ) {
        if fresh {
            out.push(publish(
                "JobCreated",
                false,
                "Execute",
                &format!("Job {} made", view.name),
            ));
        }
        if std::mem::take(&mut self.quota_waits) > 0
            && let Some(Ok(before)) = &self.before
        {
            // The wait is over, and the status says so.
            self.draft.message = Some(before.impact.clone());
            self.dirty = true;
        }
        self.job_found(now, Some(view));
    }

    /// A live read, or a create, found this.
    pub(super) fn job_found(&mut self, now: Timestamp, found: Option<JobView>) {
        // What was seen once and is gone later has vanished: it is never made again. Its pods show it, too.
        self.job.seen |= found.is_some();
        let is_job = |view: &JobView| !view.uid.is_empty();
        let name = self.current_attempt().map(|attempt| attempt.job_name.clone());
        let shown = name.as_ref().and_then(|name| self.jobs.get(name));
        let is_shown = shown.is_some_and(is_job);
        if found.as_ref().is_some_and(is_job) && self.job.shown_since && !is_shown {
            // The store has shown more of it since, perhaps its end: which of both is older only another read tells.
            self.job.found = None;
            self.job.absent = None;
            return;
        }
        self.job.absent = (!found.as_ref().is_some_and(is_job)).then_some(now);
        self.job.looked = Some(now);
        if let Some(name) = name
            && !self.job.shown_since
            && self.jobs.contains_key(&name)
        {
            // It is newer than what the store has shown.
            self.jobs.remove(&name);
            self.jobs.extend(found.clone().map(|view| (name, view)));
        }
        // The store will show its end, too.
        self.job.found = found.filter(|_| !is_shown);
    }

    /// The create was answered with an error.
    pub(super) fn job_refused(&mut self, now: Timestamp, failure: &ApiFailure) {
        let failed = |error_type, retry| Failure {
            error_type,
            message: failure.message.clone(),
            retry,
        };
        self.job.refusal = Some(failure.message.clone());
        match failure.class {
            // It may have been made: look.
            FailureClass::Unknown | FailureClass::Conflict => {
                self.job = JobKnowledge {
                    creates: Creates::Uncertain {
                        until: later(now, CREATE_WINDOW),
                    },
                    refusal: self.job.refusal.take(),
                    ..JobKnowledge::default()
                };
                self.pause(now);
            }
            FailureClass::Throttled => self.pause(now),
            FailureClass::Quota => {
                self.quota_waits += 1;
                self.quota_until = Some(later(now, classify::backoff(self.quota_waits + 2)));
                self.before = None;
                self.draft.message = Some(format!("waits for quota: {}", failure.message));
                self.dirty = self.quota_waits == 1;
            }
            FailureClass::Forbidden => {
                self.refused_for_good(failed(ErrorType::InsufficientPermissions, Retry::Never));
            }
            FailureClass::NotFound => {
                self.refused_for_good(failed(ErrorType::ResourceNotFound, Retry::Never));
            }
            FailureClass::Rejected => self.refused_for_good(failed(ErrorType::JobFailed, Retry::Never)),
        }
    }

    /// No further create is sent; one that was sent before may still take effect.
    fn refused_for_good(&mut self, failure: Failure) {
        if self.job.creates == Creates::None || planted(Defect::IgnoreCreatesUnderWay) {
            self.ended = Some(Ended::Failure(failure));
        } else {
            self.abandon = Some(failure);
        }
    }

    /// The Job is over, or was given up: is it gone, was its effect seen, is there another attempt?
    fn conclude(
        &mut self,
        checked: &Checked,
        attempt: &Attempt,
        ended: &Ended,
        now: Timestamp,
        out: &mut Vec<StepCommand>,
    ) -> Flow {
        let live = self.view_of(attempt).filter(|view| view.live).cloned();
        if live.is_none() {
            self.release_slot(out);
        }
        if let Some(flow) = self.without_payload(now, out) {
            return flow;
        }
        if let (Ended::Failure(_), Some(view)) = (ended, live) {
            return self.stop_job(attempt, &view, now, out);
        }
        self.release_slot(out);
        self.look_after(checked, attempt, ended, now, out)
    }

    /// The attempt whose payload may be there, as a Secret. Those of ended attempts are gone.
    pub(super) fn open_payload(&self) -> Option<Attempt> {
        let members = unchecked(&self.execution.spec.parameters);
        let has_payload = members.iter().any(|(_, payload)| *payload == Payload::Secret)
            && !self.secret_deleted
            && !planted(Defect::LeaveThePayload);
        let last = self.persisted.attempts.last().filter(|_| has_payload);
        last.filter(|attempt| attempt.outcome.is_none()).cloned()
    }

    /// Deletes the payload before the end of its attempt is decided on; `None` when it is gone. The status says what it waits
    /// for.
    pub(super) fn without_payload(&mut self, now: Timestamp, out: &mut Vec<StepCommand>) -> Option<Flow> {
        let attempt = self.open_payload()?;
        let wait = if self.may_be_made_until(&attempt, now).is_some() {
            Some((
                Wait::Payload,
                "waits until its payload can't arrive any more".to_owned(),
            ))
        } else {
            let refused = self.secret_refused.as_ref();
            refused.map(|words| {
                (
                    Wait::PayloadRefused,
                    format!("waits: its payload can't be deleted: {words}"),
                )
            })
        };
        if let Some((wait, message)) = wait
            && self.note_wait(wait, &message) == Flow::Again
        {
            return Some(Flow::Again);
        }
        Some(self.delete_payload(&attempt, now, out))
    }

    /// Deletes the payload once no create can bring it any more, also none that was sent and given up.
    pub(super) fn delete_payload(
        &mut self,
        attempt: &Attempt,
        now: Timestamp,
        out: &mut Vec<StepCommand>,
    ) -> Flow {
        if let Some(certain) = self.may_be_made_until(attempt, now) {
            return self.wait_until(certain, "a payload that may still be made");
        }
        let command = ApiCommand::DeleteSecret {
            name: attempt.job_name.clone(),
            execution_uid: self.uid(),
        };
        self.call(Purpose::DeleteSecret, command, out)
    }

    fn redacted(&self, mut failure: Failure) -> Failure {
        failure.message = self.without_secrets(&failure.message);
        failure
    }

    /// A text of kubectl or of the API server without the values that this execution holds.
    pub(super) fn without_secrets(&self, text: &str) -> String {
        let members = unchecked(&self.execution.spec.parameters);
        let secrets: Vec<&str> = members
            .iter()
            .flat_map(|(operation, _)| operation.secrets())
            .collect();
        if secrets.is_empty() {
            return text.to_owned();
        }
        classify::redact(text, &secrets)
    }
}

/// When it is too late to make the attempt's Job, and when no create is sent any more.
fn window(attempt: &Attempt) -> (Timestamp, Timestamp) {
    let (start, deadline) = (attempt.start_time.0, attempt.deadline.0);
    // One that is made in its last second would outlive its deadline. A timeout of one second is one second all the same.
    let too_late = deadline
        .checked_sub(MIN_LEFT)
        .unwrap_or(deadline)
        .max(later(start, Duration::from_secs(1)));
    (too_late, too_late.min(later(start, CREATE_WINDOW)))
}
