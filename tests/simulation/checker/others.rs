//! What other users and other controllers have to do with it.

use kubernaut::simulation::{CONTROLLER, CallFault, Planned, STRANGER};
use serde_json::Value;

use super::Checker;
use crate::history::{items, lives, owner, text};

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
        for job in lives(&self.outcome.record, "Job").values() {
            let ours = |commit: &&&kubernaut::memory::Committed| commit.author.as_ref() == CONTROLLER;
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
        let ours = |name: &Value| {
            self.jobs
                .values()
                .any(|job| job.born().object["metadata"]["name"] == *name)
        };
        for execution in self.executions.values() {
            let mut attempts = items(&execution.last()["status"]["attempts"]);
            if let Some(adopted) =
                attempts.find(|attempt| attempt["outcome"] == "succeeded" && !ours(&attempt["jobName"]))
            {
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

    /// I15.
    pub(super) fn only_who_leads_writes(&mut self) {
        // What was sent in time and is still on its way, no lease can hold up.
        let underway = |planned: &Planned| {
            matches!(
                planned,
                Planned::Call {
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
