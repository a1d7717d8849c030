//! A Job that runs: its deadline, its pod, and giving it up.

use std::time::Duration;

use jiff::Timestamp;
use kubernaut_crds::{Attempt, ErrorType, Retry};

use super::{Assignment, Ended, JobCall, JobRun, Next, Run, Stage, delete, is_job};
use crate::api_command::ApiCommand;
use crate::calls::Alarm;
use crate::classify::{self, Failure};
use crate::defect::{Defect, planted};
use crate::job_view::JobView;
use crate::time::later;

/// A pod may wait this long for its image or its configuration.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// Without a running pod for this long the events are read; then each time that this has doubled, up to the second figure.
const EXPLAIN_AFTER: Duration = Duration::from_secs(10);
const EXPLAIN_AT_MOST: Duration = Duration::from_secs(60);

/// After its deadline the Job controller gets this long to end the Job before we delete it.
const DEADLINE_GRACE: Duration = Duration::from_secs(5);

/// A pod that should have stopped gets this long to be confirmed stopped: one of a Job past its deadline, or told to go.
pub const UNREACHABLE_AFTER: Duration = Duration::from_secs(60);

/// When the API is asked for a Job that the watch does not show, and then how often.
struct Questions {
    first: Duration,
    next: Duration,
}

/// Of one that was deleted: its end is waited for, and there is no more to see of it.
const DELETED: Questions = Questions {
    first: Duration::from_secs(1),
    next: Duration::from_secs(5),
};

/// Of one that runs. A watch that lags says that the API server has much to do: it is not asked in its place.
const UNSEEN: Questions = Questions {
    first: Duration::from_secs(30),
    next: Duration::from_secs(60),
};

impl JobRun {
    /// A Job that runs: its deadline, its pod.
    pub(super) fn supervise(&mut self, view: &JobView, task: &Assignment<'_>, alarm: &mut Alarm) -> Run {
        let (attempt, now) = (task.attempt, task.now);
        let overdue = later(attempt.deadline.0, DEADLINE_GRACE);
        if self.given_up().is_none() {
            match self.hopeless(view, task, overdue) {
                Ok(None) => {}
                Ok(Some(failure)) => self.current.stage = Stage::GivenUp(failure),
                Err(look) => return Run::Running(look),
            }
        }
        if self.given_up().is_some() {
            return self.stop(view, task, alarm);
        }
        if self.shown.get(&attempt.job_name).is_some_and(is_job) {
            self.current.job.ask_at = None;
        } else if let Some(next) = self.ask_again(attempt, &UNSEEN, now, alarm) {
            return Run::Running(next);
        }
        if let Some((_, since)) = view.stuck() {
            alarm.set(later(since, STUCK_AFTER), "a pod that can't start");
        }
        if !view.has_running_pod() {
            let begun = attempt.start_time.0;
            let next = self
                .current
                .explained_at
                .map_or(later(begun, EXPLAIN_AFTER), |last| {
                    let waited = Duration::try_from(last.duration_since(begun)).unwrap_or_default();
                    later(last, waited.clamp(EXPLAIN_AFTER, EXPLAIN_AT_MOST))
                });
            if now >= next {
                let command = ApiCommand::ExplainJob {
                    name: view.name.clone(),
                };
                return Run::Running(Next::call(JobCall::Explain, command));
            }
            alarm.set(next, "a Job without a running pod");
        }
        alarm.set(overdue, "the deadline of a Job");
        Run::Running(Next::Wait)
    }

    /// Why a Job that runs is given up, if it is; `Err` where the API has to be asked first.
    fn hopeless(
        &mut self,
        view: &JobView,
        task: &Assignment<'_>,
        overdue: Timestamp,
    ) -> Result<Option<Failure>, Next> {
        if let Some(why) = task.stopped_by {
            return Ok(Some(Failure {
                error_type: ErrorType::Cancelled,
                message: why.to_owned(),
                retry: Retry::Never,
            }));
        }
        if task.now >= overdue {
            if let Some(look) = self.look_first(task.attempt, overdue) {
                return Err(look);
            }
            return Ok(Some(Failure {
                error_type: ErrorType::Timeout,
                message: format!("the Job did not end within {}", task.limit()),
                retry: Retry::Never,
            }));
        }
        let stuck = view
            .stuck()
            .map(|(reason, since)| (reason, later(since, STUCK_AFTER)))
            .filter(|(_, due)| task.now >= *due);
        let Some((reason, due)) = stuck else {
            return Ok(None);
        };
        if let Some(look) = self.look_first(task.attempt, due) {
            return Err(look);
        }
        Ok(Some(Failure {
            error_type: ErrorType::JobFailed,
            message: format!("its pod can't start: {reason}"),
            retry: Retry::Backoff,
        }))
    }

    /// What the events say of a Job without a running pod; the words for the status, where it goes on.
    pub(crate) fn explained(
        &mut self,
        now: Timestamp,
        attempt: Option<&Attempt>,
        notes: &[String],
    ) -> Option<String> {
        self.current.explained_at = Some(now);
        let last = notes.last()?;
        let message = format!("the Job has no running pod: {last}");
        // A pod that is there was admitted, whatever somebody says in an event.
        let view = attempt.and_then(|attempt| self.shown.get(&attempt.job_name));
        let no_pod = view.is_none_or(|view| view.pods.is_empty());
        let Some(error_type) = classify::hopeless(last).filter(|_| no_pod) else {
            return Some(message);
        };
        self.current.stage = Stage::GivenUp(Failure {
            error_type,
            message,
            retry: Retry::Never,
        });
        None
    }

    /// Deletes the Job, and waits until nothing of it is left.
    pub(super) fn stop(&mut self, view: &JobView, task: &Assignment<'_>, alarm: &mut Alarm) -> Run {
        if view.deleting || self.current.job.delete_sent {
            return self.wait_for_the_end(view, task, alarm);
        }
        // Its name is kept from a create that is still under way: that one would make it again.
        if let Some(certain) = self.may_be_made_until(task.attempt, task.now) {
            alarm.set(certain, "a Job that may still be made again");
            return Run::Running(Next::Wait);
        }
        Run::Running(delete(view))
    }

    /// The Job is on its way out, or only its pods are left.
    pub(super) fn wait_for_the_end(
        &mut self,
        view: &JobView,
        task: &Assignment<'_>,
        alarm: &mut Alarm,
    ) -> Run {
        let given_up = self.given_up().cloned();
        if planted(Defect::NotWaitForThePod)
            && let Some(failure) = given_up
        {
            return self.ended(Ended::Failure(failure));
        }
        let give_up = later(task.attempt.deadline.0, UNREACHABLE_AFTER);
        if task.now >= give_up {
            if let Some(next) = self.look_first(task.attempt, give_up) {
                return Run::Running(next);
            }
            if let Some(failure) = given_up.filter(|_| !view.live) {
                // Its pods have ended: only the object does not go.
                return self.ended(Ended::Failure(failure));
            }
            if let Some(next) = self.without_payload(task, alarm) {
                return Run::Running(next);
            }
            return Run::Unreachable(place_of(view));
        }
        alarm.set(give_up, "a Job that is being deleted");
        if self.shown.contains_key(&task.attempt.job_name) {
            return Run::Running(Next::Wait);
        }
        let next = self.ask_again(task.attempt, &DELETED, task.now, alarm);
        Run::Running(next.unwrap_or(Next::Wait))
    }

    /// The store does not show the Job, and so will not show its end: the API is asked, after a while and again and again.
    fn ask_again(
        &mut self,
        attempt: &Attempt,
        questions: &Questions,
        now: Timestamp,
        alarm: &mut Alarm,
    ) -> Option<Next> {
        let at = *self.current.job.ask_at.get_or_insert(later(now, questions.first));
        if now < at {
            alarm.set(at, "a Job that the watch does not show");
            return None;
        }
        self.current.job.ask_at = Some(later(now, questions.next));
        Some(self.find(attempt))
    }
}

/// The pod that still lives, and where.
pub(crate) fn place_of(view: &JobView) -> String {
    let pod = view.pods.iter().find(|pod| !pod.ended);
    pod.map_or_else(
        || "its pod".to_owned(),
        |pod| match pod.node.as_deref() {
            Some(node) => format!("pod {} on node {node}", pod.name),
            None => format!("pod {}, which has no node,", pod.name),
        },
    )
}
