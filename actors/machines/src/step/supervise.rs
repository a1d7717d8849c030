//! A Job that runs: its deadline, its pod, and giving it up.

use std::time::Duration;

use jiff::Timestamp;
use kubernaut_crds::{Attempt, AttemptOutcome, ErrorType};

use super::StepCommand;
use super::execute::Ended;
use super::machine::{Flow, Purpose, StepMachine, later};
use super::validate::WORKFLOW_DELETED;
use crate::classify::{self, Failure, Retry};
use crate::defect::{Defect, planted};
use crate::job_view::JobView;
use crate::outcome::ApiCommand;

/// A pod may wait this long for its image or its configuration.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// Without a running pod for this long the events are read.
const EXPLAIN_AFTER: Duration = Duration::from_secs(10);

/// After its deadline the Job controller gets this long to end the Job before we delete it.
const DEADLINE_GRACE: Duration = Duration::from_secs(5);

/// After its deadline a pod gets this long to be confirmed stopped.
const UNREACHABLE_AFTER: Duration = Duration::from_secs(60);

/// A Job that was deleted, and that the watch does not show, is asked for after this long.
const FIRST_QUESTION: Duration = Duration::from_secs(1);
/// Any that the watch does not show is asked for this often.
const NEXT_QUESTION: Duration = Duration::from_secs(5);

impl StepMachine {
    /// A Job that runs: its deadline, its pod.
    pub(super) fn supervise(
        &mut self,
        attempt: &Attempt,
        view: &JobView,
        now: Timestamp,
        out: &mut Vec<StepCommand>,
    ) -> Flow {
        let overdue = later(attempt.deadline.0, DEADLINE_GRACE);
        if self.abandon.is_none() {
            if self.workflow_deleted {
                self.abandon = Some(Failure {
                    error_type: ErrorType::Cancelled,
                    message: WORKFLOW_DELETED.to_owned(),
                    retry: Retry::Never,
                });
            } else if now >= overdue {
                if let Some(flow) = self.look_first(attempt, overdue, out) {
                    return flow;
                }
                self.abandon = Some(Failure {
                    error_type: ErrorType::Timeout,
                    message: format!(
                        "the Job did not end within the timeout of {}",
                        self.execution.spec.timeout
                    ),
                    retry: Retry::Never,
                });
            } else if let Some((reason, since)) = view.stuck()
                && now >= later(since, STUCK_AFTER)
            {
                if let Some(flow) = self.look_first(attempt, later(since, STUCK_AFTER), out) {
                    return flow;
                }
                self.abandon = Some(Failure {
                    error_type: ErrorType::JobFailed,
                    message: format!("its pod can't start: {reason}"),
                    retry: Retry::Backoff,
                });
            }
        }
        if self.abandon.is_some() {
            return self.stop_job(attempt, view, now, out);
        }
        let is_shown = self
            .jobs
            .get(&attempt.job_name)
            .is_some_and(|job| !job.uid.is_empty());
        if is_shown {
            self.job.ask_at = None;
        } else if let Some(flow) = self.ask_again(attempt, NEXT_QUESTION, now, out) {
            return flow;
        }
        if let Some((_, since)) = view.stuck() {
            self.wait_until(later(since, STUCK_AFTER), "a pod that can't start");
        }
        if !view.has_running_pod() {
            let next = later(self.explained_at.unwrap_or(attempt.start_time.0), EXPLAIN_AFTER);
            if now >= next {
                return self.call(
                    Purpose::Explain,
                    ApiCommand::ExplainJob {
                        name: view.name.clone(),
                    },
                    out,
                );
            }
            self.wait_until(next, "a Job without a running pod");
        }
        self.wait_until(overdue, "the deadline of a Job")
    }

    /// What the events say of a Job without a running pod.
    pub(super) fn explained(&mut self, now: Timestamp, notes: &[String]) {
        self.explained_at = Some(now);
        let Some(last) = notes.last() else { return };
        let message = format!("the Job has no running pod: {last}");
        // A pod that is there was admitted, whatever somebody says in an event.
        let attempt = self.current_attempt().map(|attempt| attempt.job_name.clone());
        let view = attempt.and_then(|name| self.jobs.get(&name));
        let no_pod = view.is_none_or(|view| view.pods.is_empty());
        if let Some(error_type) = classify::hopeless(last).filter(|_| no_pod) {
            self.abandon = Some(Failure {
                error_type,
                message,
                retry: Retry::Never,
            });
        } else if self.draft.message.as_deref() != Some(&message) {
            self.draft.message = Some(message);
            self.dirty = true;
        }
    }

    /// Deletes the Job, and waits until nothing of it is left.
    pub(super) fn stop_job(
        &mut self,
        attempt: &Attempt,
        view: &JobView,
        now: Timestamp,
        out: &mut Vec<StepCommand>,
    ) -> Flow {
        if !view.deleting && !self.job.delete_sent {
            // Its name is kept from a create that is still under way: that one would make it again.
            if let Some(certain) = self.may_be_made_until(attempt, now) {
                return self.wait_until(certain, "a Job that may still be made again");
            }
            let command = ApiCommand::DeleteJob {
                name: view.name.clone(),
                uid: view.uid.clone(),
            };
            return self.call(Purpose::DeleteJob, command, out);
        }
        self.wait_for_the_end(attempt, view, now, out)
    }

    /// The Job is on its way out, or only its pods are left.
    pub(super) fn wait_for_the_end(
        &mut self,
        attempt: &Attempt,
        view: &JobView,
        now: Timestamp,
        out: &mut Vec<StepCommand>,
    ) -> Flow {
        if planted(Defect::NotWaitForThePod)
            && let Some(failure) = self.abandon.clone()
        {
            self.ended = Some(Ended::Failure(failure));
            return Flow::Again;
        }
        let give_up = later(attempt.deadline.0, UNREACHABLE_AFTER);
        if now >= give_up {
            if let Some(flow) = self.look_first(attempt, give_up, out) {
                return flow;
            }
            if let Some(failure) = self.abandon.clone().filter(|_| !view.live) {
                // Its pods have ended: only the object does not go.
                self.ended = Some(Ended::Failure(failure));
                return Flow::Again;
            }
            if let Some(flow) = self.without_payload(now, out) {
                return flow;
            }
            return self.unreachable(view, now, out);
        }
        self.wait_until(give_up, "a Job that is being deleted");
        if self.jobs.contains_key(&attempt.job_name) {
            return Flow::Wait;
        }
        self.ask_again(attempt, FIRST_QUESTION, now, out)
            .unwrap_or(Flow::Wait)
    }

    /// The store does not show the Job, and so will not show its end: the API is asked, after a while and again and again.
    fn ask_again(
        &mut self,
        attempt: &Attempt,
        first: Duration,
        now: Timestamp,
        out: &mut Vec<StepCommand>,
    ) -> Option<Flow> {
        let at = *self.job.ask_at.get_or_insert(later(now, first));
        if now < at {
            self.wait_until(at, "a Job that the watch does not show");
            return None;
        }
        self.job.ask_at = Some(later(now, NEXT_QUESTION));
        Some(self.find_job(attempt, out))
    }

    fn unreachable(&mut self, view: &JobView, now: Timestamp, out: &mut Vec<StepCommand>) -> Flow {
        // Places keep too many Jobs from running at once; a pod that nobody can reach is no reason to start none.
        if !planted(Defect::KeepThePlaceOfADeadNode) {
            self.release_slot(out);
        }
        let place = place_of(view);
        let (namespace, name) = self.key();
        let message = format!(
            "timeout: {place} could not be confirmed stopped: nobody knows whether it still acts, so the target stays locked until \
             the pod object is gone, or until somebody who has looked releases it: kubectl annotate kubernetesexecution {name} \
             -n {namespace} {}=true",
            kubernaut_crds::names::ANNOTATION_RELEASE_LOCK
        );
        self.end_attempt(AttemptOutcome::Failed, ErrorType::Timeout, &message, now);
        self.fail(ErrorType::Timeout, &message, now)
    }
}

/// The pod that still lives, and where.
pub(super) fn place_of(view: &JobView) -> String {
    let pod = view.pods.iter().find(|pod| !pod.ended);
    pod.map_or_else(
        || "its pod".to_owned(),
        |pod| match pod.node.as_deref() {
            Some(node) => format!("pod {} on node {node}", pod.name),
            None => format!("pod {}, which has no node,", pod.name),
        },
    )
}
