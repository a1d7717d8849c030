//! No Job in sight: it is made, waited for, or found to be gone.

use std::time::Duration;

use jiff::Timestamp;
use kubernaut_crds::{Attempt, ErrorType, Retry};

use super::{Assignment, Creates, Ended, JobCall, JobRun, Knowledge, Next, Run, Stage, Wait, is_job};
use crate::api_command::{ApiCommand, ApiFailure, FailureClass};
use crate::calls::Alarm;
use crate::classify::Failure;
use crate::defect::{Defect, planted};
use crate::job_view::JobView;
use crate::render;
use crate::time::{CREATE_WINDOW, attempt_backoff, later};

/// A create may be under way this long before it is sent or given up.
const CREATE_DEADLINE: Duration = Duration::from_secs(30);

/// An attempt has at least this much left of its timeout when its Job is made.
pub(crate) const MIN_LEFT: jiff::SignedDuration = jiff::SignedDuration::from_secs(1);

/// What follows from a create that was not taken.
pub(crate) enum Refused {
    /// It is tried again, or looked for, after a pause.
    Pause,
    /// A quota leaves no room.
    Quota,
    /// It is not tried again.
    Final,
}

impl JobRun {
    /// No Job in sight: make it, wait for the store, or find out that it is gone.
    pub(super) fn without_job(&mut self, task: &Assignment<'_>, alarm: &mut Alarm) -> Run {
        let job = &self.current.job;
        if job.creates == Creates::None && !job.seen {
            let deadline = task.attempt.deadline.0;
            return match self.current.quota_until.map(|until| until.min(deadline)) {
                Some(until) if task.now < until => {
                    alarm.set(until, "room in a quota");
                    Run::Running(Next::Wait)
                }
                // What was refused is recorded anew, so that its window for a late create begins again.
                Some(_) => Run::Running(Next::Record),
                None => self.make(task, alarm),
            };
        }
        if job.absent.is_none() {
            return Run::Running(self.find(task.attempt));
        }
        let stored = self.shown.get(&task.attempt.job_name);
        let left = stored
            .filter(|view| view.live)
            .or(job.found.as_ref().filter(|view| view.live));
        if let Some(left) = left.cloned() {
            // The Job is gone, a pod of it is not: what it does is not over.
            return self.wait_for_the_end(&left, task, alarm);
        }
        if !job.seen {
            return self.make(task, alarm);
        }
        if let Some(next) = self.wait_for_creates(task, alarm) {
            return Run::Running(next);
        }
        let given_up = self.given_up().cloned();
        self.ended(given_up.map_or(Ended::Lost, Ended::Failure))
    }

    /// When no create can take effect any more that was sent for this attempt; `None` when none can now.
    fn certain_at(&self, attempt: &Attempt) -> Option<Timestamp> {
        match self.current.job.creates {
            Creates::None => None,
            Creates::Uncertain { until } => Some(until),
            Creates::Unknown => {
                // The controller before this one sent creates for as long as it might, and until it ended.
                let (_, sending_ends) = window(attempt);
                let since_record = later(sending_ends, CREATE_DEADLINE + CREATE_WINDOW);
                let since_start = self.since.map(|since| later(since, CREATE_WINDOW));
                Some(since_start.map_or(since_record, |at| at.min(since_record)))
            }
        }
    }

    /// Until when the attempt's Job may still be made by a create that was sent; `None` also when that is past.
    pub(crate) fn may_be_made_until(&self, attempt: &Attempt, now: Timestamp) -> Option<Timestamp> {
        self.certain_at(attempt).filter(|certain| now < *certain)
    }

    /// Waits until no create can take effect any more, and then looks once more; `None` when that was done.
    fn wait_for_creates(&mut self, task: &Assignment<'_>, alarm: &mut Alarm) -> Option<Next> {
        let certain = self.certain_at(task.attempt)?;
        if task.now < certain {
            alarm.set(certain, "a Job that may still be made");
            let told = task.told == Some(Wait::Job);
            let message = || format!("waits until Job {} can't be made any more", task.attempt.job_name);
            return Some(if told {
                Next::Wait
            } else {
                Next::Tell(Wait::Job, message())
            });
        }
        let looked = self.current.job.absent.is_some_and(|at| at >= certain);
        (!looked).then(|| self.find(task.attempt))
    }

    /// The watches may be blind for minutes: what is decided against a Job is decided on a live read that was made when it was
    /// due. `None` once it was made.
    pub(super) fn look_first(&mut self, attempt: &Attempt, due: Timestamp) -> Option<Next> {
        let looked = self.current.job.looked.is_some_and(|at| at >= due);
        (!looked).then(|| self.find(attempt))
    }

    pub(super) fn find(&mut self, attempt: &Attempt) -> Next {
        self.current.job.shown_since = false;
        let command = ApiCommand::GetJob {
            name: attempt.job_name.clone(),
            execution_uid: self.execution_uid.clone().unwrap_or_default(),
        };
        Next::call(JobCall::Find, command)
    }

    /// There is no Job and none was seen: it is made while there is time, and is lost only when it can't come any more.
    fn make(&mut self, task: &Assignment<'_>, alarm: &mut Alarm) -> Run {
        let is_given_up = self.given_up().is_some();
        if let Some(why) = task.stopped_by
            && !is_given_up
        {
            self.give_up_creating(Failure {
                error_type: ErrorType::Cancelled,
                message: why.to_owned(),
                retry: Retry::Never,
            });
            return Run::Running(Next::Again);
        }
        let (too_late, sending_ends) = window(task.attempt);
        let waits_for_quota = self.current.quota_until.is_some();
        if task.now < sending_ends && !waits_for_quota && !is_given_up {
            return self.create(task, alarm);
        }
        if let Some(next) = self.wait_for_creates(task, alarm) {
            return Run::Running(next);
        }
        if let Some(failure) = self.given_up().cloned() {
            return self.ended(Ended::Failure(failure));
        }
        if task.now >= too_late {
            let words = self.current.job.refusal.as_deref().unwrap_or("it was never seen");
            let message = format!("the Job could not be made within {}: {words}", task.limit());
            let waits_for_quota = task.attempt.waits_for_quota();
            return self.ended(Ended::Failure(Failure {
                error_type: if waits_for_quota {
                    ErrorType::ResourceQuotaExceeded
                } else {
                    ErrorType::Timeout
                },
                message,
                retry: Retry::Never,
            }));
        }
        if self.current.job.creates == Creates::None || waits_for_quota {
            self.current.job.creates = Creates::None;
            self.current.quota_until.get_or_insert(task.now);
            return Run::Running(Next::Again);
        }
        self.ended(Ended::Lost)
    }

    fn create(&mut self, task: &Assignment<'_>, alarm: &mut Alarm) -> Run {
        let rendered = match render::render(task.execution, task.checked, task.attempt, task.settings) {
            Ok(rendered) if rendered.hash == task.attempt.job_hash => rendered,
            // The controller was upgraded or configured anew between record and Job. The one before it may have sent a create.
            Ok(_) | Err(_) => {
                if !planted(Defect::IgnoreCreatesUnderWay)
                    && let Some(next) = self.wait_for_creates(task, alarm)
                {
                    return Run::Running(next);
                }
                return self.ended(Ended::Lost);
            }
        };
        self.current.job.shown_since = false;
        self.current.payload = super::Payload::default();
        let command = ApiCommand::CreateJob {
            job: Box::new(rendered.job),
            secret: rendered.secret.map(Box::new),
        };
        Run::Running(Next::Call {
            call: JobCall::Create,
            command,
            not_after: Some(window(task.attempt).1),
        })
    }

    /// A live read, or a create, found this.
    pub(crate) fn found(&mut self, now: Timestamp, attempt: Option<&Attempt>, found: Option<JobView>) {
        let job = &mut self.current.job;
        // What was seen once and is gone later has vanished: it is never made again. Its pods show it, too.
        job.seen |= found.is_some();
        let name = attempt.map(|attempt| attempt.job_name.as_str());
        let is_shown = name.and_then(|name| self.shown.get(name)).is_some_and(is_job);
        let is_found = found.as_ref().is_some_and(is_job);
        if is_found && job.shown_since && !is_shown {
            // The store has shown more of it since, perhaps its end: which of both is older only another read tells.
            job.found = None;
            job.absent = None;
            return;
        }
        job.absent = (!is_found).then_some(now);
        job.looked = Some(now);
        if let Some(name) = name
            && !job.shown_since
            && self.shown.remove(name).is_some()
        {
            // It is newer than what the store has shown.
            self.shown
                .extend(found.clone().map(|view| (name.to_owned(), view)));
        }
        // The store will show its end, too.
        job.found = found.filter(|_| !is_shown);
    }

    /// The Job was made, or was there.
    pub(crate) fn created(&mut self, now: Timestamp, attempt: Option<&Attempt>, view: JobView) {
        self.quota_waits = 0;
        self.found(now, attempt, Some(view));
    }

    /// The create was answered with an error.
    pub(crate) fn create_failed(&mut self, now: Timestamp, failure: &ApiFailure) -> Refused {
        let failed = |error_type| Failure {
            error_type,
            message: failure.message.clone(),
            retry: Retry::Never,
        };
        self.current.job.refusal = Some(failure.message.clone());
        let error_type = match failure.class {
            // It may have been made: look.
            FailureClass::Unknown | FailureClass::Conflict => {
                self.current.job = Knowledge {
                    creates: Creates::Uncertain {
                        until: later(now, CREATE_WINDOW),
                    },
                    refusal: self.current.job.refusal.take(),
                    ..Knowledge::default()
                };
                return Refused::Pause;
            }
            FailureClass::Throttled => return Refused::Pause,
            FailureClass::Quota => {
                self.quota_waits = self.quota_waits.saturating_add(1);
                self.current.quota_until = Some(later(now, attempt_backoff(self.quota_waits + 2)));
                return Refused::Quota;
            }
            FailureClass::Forbidden => ErrorType::InsufficientPermissions,
            FailureClass::NotFound => ErrorType::ResourceNotFound,
            FailureClass::Rejected => ErrorType::JobFailed,
        };
        self.give_up_creating(failed(error_type));
        Refused::Final
    }

    /// No further create is sent; one that was sent before may still take effect.
    fn give_up_creating(&mut self, failure: Failure) {
        let none_under_way = self.current.job.creates == Creates::None;
        self.current.stage = if none_under_way || planted(Defect::IgnoreCreatesUnderWay) {
            Stage::Ended(Ended::Failure(failure))
        } else {
            Stage::GivenUp(failure)
        };
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
