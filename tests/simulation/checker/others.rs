//! What other users and other controllers have to do with it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use embedded_cluster::RequestRecord;
use jiff::{SignedDuration, Timestamp};
use kubernaut::rehearsal::simulation::{CONTROLLER, CallFault, PlannedFault, STRANGER};
use serde_json::Value;

use super::{Checker, EXECUTION};
use crate::history::{items, label, lives, owner, text};

/// Longer than any run is looked at.
const FOR_EVER: Duration = Duration::from_secs(1_000_000);
/// More calls than this for one object within a second go round in circles.
const MOST_NAMED: usize = 20;
/// So often an execution looks at its target.
const LOOKS: usize = 3;
/// So many for lists and creations, whose objects are many.
const MOST_UNNAMED: usize = 80;

impl Checker<'_> {
    /// Whether somebody else made it under a name of ours.
    pub(super) fn is_strangers(&self, object: &Value) -> bool {
        let uid = text(&object["metadata"]["uid"]);
        self.outcome
            .record
            .iter()
            .find(|commit| commit.object["metadata"]["uid"] == uid)
            .is_some_and(|born| born.author.as_ref() == STRANGER)
    }

    /// I11.
    pub(super) fn what_strangers_make_stays_theirs(&mut self) {
        let mut found = Vec::new();
        let jobs = lives(&self.outcome.record, "Job");
        let born_of = |name: &Value, author: &str| {
            jobs.values().any(|job| {
                job.born().object["metadata"]["name"] == *name && job.born().author.as_ref() == author
            })
        };
        for job in jobs.values() {
            let ours = |commit: &&&embedded_cluster::Committed| commit.author.as_ref() == CONTROLLER;
            if job.born().author.as_ref() == STRANGER
                && let Some(touched) = job.states.iter().find(ours)
            {
                found.push(format!(
                    "{} of a stranger was {}",
                    job.name(),
                    if touched.deleted { "deleted" } else { "changed" }
                ));
            }
        }
        for execution in self.executions.values() {
            let mut attempts = items(&execution.last()["status"]["attempts"]);
            if let Some(adopted) = attempts.find(|attempt| {
                let name = &attempt["jobName"];
                attempt["outcome"] == "succeeded" && born_of(name, STRANGER) && !born_of(name, CONTROLLER)
            }) {
                found.push(format!(
                    "{} took {} for its own",
                    execution.name(),
                    adopted["jobName"]
                ));
            }
            if execution.born().author.as_ref() == STRANGER && !owner(execution.last()).is_empty() {
                found.push(format!("{} of a stranger was adopted", execution.name()));
            }
        }
        for workflow in self.workflows.values() {
            for step in items(&workflow.last()["status"]["stepStatuses"]) {
                let of_step = self.executions.get(text(&step["k8sExecutionRef"]["uid"]));
                if of_step.is_some_and(|execution| execution.born().author.as_ref() == STRANGER) {
                    found.push(format!(
                        "{} took a stranger's execution for its own",
                        workflow.name()
                    ));
                }
            }
        }
        for what in found {
            self.wrong("I11", &what);
        }
    }

    /// Whether something is refused that never will be answered.
    pub(super) fn is_refused_for_ever(&self) -> bool {
        let endless = |planned: &PlannedFault| matches!(planned, PlannedFault::Outage { lasts: None, .. });
        self.plan.iter().any(endless)
    }

    /// Whether something is answered "try again" for ever: whoever asks has to go on, and can't say more than that.
    pub(super) fn is_refused_for_now(&self) -> bool {
        let endless = |planned: &PlannedFault| {
            matches!(
                planned,
                PlannedFault::Outage {
                    lasts: None,
                    code: 409 | 429 | 500 | 503,
                    ..
                }
            )
        };
        self.plan.iter().any(endless)
    }

    /// Whether what was given up may take effect later than a controller thinks: one that measures a minute by a clock that is
    /// set forward measures less.
    pub(super) fn outruns_what_is_under_way(&self) -> bool {
        let forward =
            |planned: &PlannedFault| matches!(planned, PlannedFault::ClockJump { by, .. } if *by > 0);
        let late = |planned: &PlannedFault| {
            matches!(
                planned,
                PlannedFault::LateCalls { .. }
                    | PlannedFault::Call {
                        fault: CallFault::Underway(_),
                        ..
                    }
            )
        };
        self.plan.iter().any(forward) && self.plan.iter().any(late)
    }

    /// No call goes round in circles: nothing is asked of one object more often than this within a second.
    pub(super) fn calls_are_few(&mut self) {
        let mut asked: BTreeMap<String, VecDeque<Timestamp>> = BTreeMap::new();
        let mut found = BTreeSet::new();
        for RequestRecord { request, at, .. } in &self.outcome.requests {
            // What happened is told of when its turn comes, all at once after a slow time.
            if request.user.name != CONTROLLER || request.verb == "watch" || request.resource == "events" {
                continue;
            }
            let most = if request.name.is_empty() {
                MOST_UNNAMED
            } else {
                // Steps that follow each other at one target look at it before and after.
                MOST_NAMED.max(self.executions_at(&request.name) * LOOKS)
            };
            let request_line = format!(
                "{} {}/{} {}",
                request.verb, request.resource, request.subresource, request.name
            );
            let times = asked.entry(request_line.clone()).or_default();
            times.push_back(*at);
            while times
                .front()
                .is_some_and(|first| at.duration_since(*first) > SignedDuration::from_secs(1))
            {
                times.pop_front();
            }
            if times.len() > most {
                found.insert(format!(
                    "{request_line} was asked more than {most} times within a second"
                ));
            }
        }
        for what in found {
            self.wrong("I18", &what);
        }
    }

    /// How many executions act on a target of this name.
    fn executions_at(&self, name: &str) -> usize {
        let all = self.executions.values();
        all.filter(|life| life.last()["status"]["target"]["name"] == name)
            .count()
    }

    /// How long all that goes wrong can keep a controller from seeing or doing something.
    pub(super) fn blind_time(&self) -> Duration {
        let blind = |planned: &PlannedFault| match planned {
            PlannedFault::Crash { down, .. } => *down,
            PlannedFault::LaggingWatch { lag, .. } => *lag,
            PlannedFault::Call {
                fault: CallFault::Late(delay) | CallFault::Underway(delay),
                ..
            } => *delay,
            PlannedFault::Partition { lasts, .. }
            | PlannedFault::Quota { lasts, .. }
            | PlannedFault::Slowness { lasts, .. }
            | PlannedFault::LateCalls { lasts, .. }
            | PlannedFault::Outage {
                lasts: Some(lasts), ..
            } => *lasts,
            PlannedFault::Outage { lasts: None, .. } => FOR_EVER,
            PlannedFault::Call { .. }
            | PlannedFault::CutWatches { .. }
            | PlannedFault::Pod { .. }
            | PlannedFault::ClockJump { .. }
            | PlannedFault::Upgrade
            | PlannedFault::Stranger { .. } => Duration::ZERO,
        };
        self.plan.iter().map(blind).sum()
    }

    /// I17: the attempt of a Job that somebody deleted has ended a minute after nothing is left of it; each controller that
    /// begins meanwhile waits a minute of its own for what the one before it may have sent.
    pub(super) fn what_is_gone_is_noticed(&mut self) {
        let begins_anew = |planned: &&PlannedFault| {
            matches!(
                planned,
                PlannedFault::Crash { .. } | PlannedFault::Partition { .. }
            )
        };
        let begun = self.plan.iter().filter(begins_anew).count();
        let minutes = 1 + u32::try_from(begun).unwrap_or(u32::MAX);
        let patience = Duration::from_secs(60) * minutes + self.blind_time();
        let mut found = Vec::new();
        for (uid, job) in &self.jobs {
            let Some(gone) = job.gone().filter(|gone| gone.author.as_ref() == STRANGER) else {
                continue;
            };
            let mut pods = self.pods.values().filter(|pod| owner(&pod.born().object) == *uid);
            let last = pods.try_fold(gone.at, |last, pod| Some(last.max(pod.gone()?.at)));
            let execution = self.executions.get(label(&job.born().object, EXECUTION));
            let (Some(last), Some(execution)) = (last, execution) else {
                continue;
            };
            // Who never saw it may have made it once more.
            let mut later = self
                .jobs
                .values()
                .filter(|other| other.born().revision > gone.revision);
            if later.any(|other| other.name() == job.name() && self.may_be_made_again(job, other)) {
                continue;
            }
            let ended = execution.first(|object| {
                let is_this = |attempt: &&Value| attempt["jobName"] == job.born().object["metadata"]["name"];
                items(&object["status"]["attempts"])
                    .find(is_this)
                    .is_some_and(|attempt| !attempt["outcome"].is_null())
            });
            let done = ended.or(execution.gone()).map(|state| state.at);
            if done.is_none_or(|done| done > last + patience) {
                found.push(format!(
                    "{} was gone, and {} did not notice",
                    job.name(),
                    execution.name()
                ));
            }
        }
        for what in found {
            self.wrong("I17", &what);
        }
    }

    /// I15.
    pub(super) fn only_who_leads_writes(&mut self) {
        // What was sent in time and is still on its way, no lease can hold up.
        let underway = |planned: &PlannedFault| {
            matches!(
                planned,
                PlannedFault::LateCalls { .. }
                    | PlannedFault::Call {
                        fault: CallFault::Underway(_),
                        ..
                    }
            )
        };
        if self.plan.iter().any(underway) {
            return;
        }
        let mut leader = None;
        let mut found = Vec::new();
        for commit in &self.outcome.record {
            let kind = text(&commit.object["kind"]);
            if kind == "Lease" {
                leader = Some(text(&commit.object["spec"]["holderIdentity"]));
            } else if commit.author.as_ref() == CONTROLLER
                && kind != "Event"
                && leader.is_some_and(|leader| leader != &*commit.session)
            {
                found.push(format!(
                    "{} wrote {kind} {} while {} led",
                    commit.session,
                    commit.object["metadata"]["name"],
                    leader.unwrap_or_default()
                ));
            }
        }
        for what in found {
            self.wrong("I15", &what);
        }
    }
}
