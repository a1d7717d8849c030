//! What waits, for what, and whether it says so.

use std::time::Duration;

use embedded_cluster::Committed;
use jiff::Timestamp;
use kubernaut::rehearsal::simulation::{CONTROLLER, CallFault, PlannedFault};
use serde_json::Value;

use super::{Checker, EXECUTION, HEARSAY};
use crate::history::{Life, items, label, text};

/// A little less than what a validation waits for an API server that does not answer.
const BUDGET: Duration = Duration::from_secs(28);
/// How a step begins to say that it waits for a place.
const NO_PLACE: &str = "waits: as many Jobs";
/// How a workflow says that one of its steps or itself does.
const NO_SLOT: &str = "as many Jobs run as --max-running-jobs allows";

impl Checker<'_> {
    /// I17: who looks at an execution or a workflow sees what becomes of it: soon after its creation it says something, and it
    /// waits for no place that nobody has.
    pub(super) fn everything_says_what_it_waits_for(&mut self) {
        let patience = HEARSAY + Duration::from_secs(60) + self.blind_time();
        let last = self
            .outcome
            .record
            .last()
            .map_or(Duration::ZERO, |commit| commit.at);
        // A run that does not end is looked at for longer than anything may be silent.
        let never = if self.outcome.ended.is_none() {
            Duration::MAX
        } else {
            last
        };
        let mut found = Vec::new();
        let working = |life: &Life<'_>| {
            life.gone().is_none()
                && ["executing", "rollback_ready"].contains(&text(&life.last()["status"]["phase"]))
        };
        let any_works = self.executions.values().any(working);
        let endless = self.is_refused_for_ever();
        let is_silent = |life: &Life<'_>, says: &dyn Fn(&Value) -> bool| {
            let said = life.first(says).or(life.gone()).map_or(never, |state| state.at);
            said > life.born().at + patience && !(endless && said == never)
        };
        for execution in self.executions.values() {
            if is_silent(execution, &|object| !object["status"]["phase"].is_null()) {
                found.push(format!("{} said nothing for too long", execution.name()));
            }
            let waits = text(&execution.last()["status"]["message"]).starts_with(NO_PLACE);
            if execution.gone().is_none() && waits && !any_works && !endless {
                found.push(format!("{} waits for a place that nobody has", execution.name()));
            }
        }
        for workflow in self.workflows.values() {
            // One that is being deleted says so.
            let says = |object: &Value| {
                !object["status"]["phase"].is_null() || !object["metadata"]["deletionTimestamp"].is_null()
            };
            if is_silent(workflow, &says) {
                found.push(format!("{} said nothing for too long", workflow.name()));
            }
            let status = &workflow.last()["status"];
            let waits = text(&status["message"]).contains(NO_SLOT)
                && !["completed", "failed"].contains(&text(&status["phase"]));
            if workflow.gone().is_none() && waits && !any_works && !endless {
                found.push(format!("{} waits for a slot that nobody has", workflow.name()));
            }
        }
        for what in found {
            self.wrong("I17", &what);
        }
    }

    /// What has begun has its place: an attempt that was recorded waits for none until it has ended.
    pub(super) fn what_has_begun_has_its_place(&mut self) {
        let mut found = Vec::new();
        for execution in self.executions.values() {
            let queues = execution.first(|object| {
                let status = &object["status"];
                status["phase"] == "executing"
                    && text(&status["message"]).starts_with(NO_PLACE)
                    && items(&status["attempts"])
                        .last()
                        .is_some_and(|attempt| attempt["outcome"].is_null())
            });
            if queues.is_some() {
                found.push(execution.name());
            }
        }
        for name in found {
            self.wrong("I17", &format!("{name} waited for a place that it had"));
        }
    }

    /// The budget of a validation is for an API server that does not answer, not for the controller's own queue: it begins with
    /// the first call that fails.
    pub(super) fn validation_is_given_up_for_silence_alone(&mut self) {
        // What has no answer stands in no record, and a clock that is set is no measure.
        let unknown = |planned: &PlannedFault| {
            matches!(
                planned,
                PlannedFault::Partition { .. }
                    | PlannedFault::ClockJump { .. }
                    | PlannedFault::Crash { .. }
                    | PlannedFault::LateCalls { .. }
            ) || matches!(planned, PlannedFault::Call { fault, .. } if !matches!(fault, CallFault::Refused(_)))
                || matches!(planned, PlannedFault::Slowness { delay, .. } if *delay > Duration::from_secs(9))
        };
        if self.plan.iter().any(unknown) {
            return;
        }
        let began =
            Timestamp::from_second(kubernaut::rehearsal::simulation::EPOCH).unwrap_or(Timestamp::UNIX_EPOCH);
        let transient = [409, 429, 500, 503, 504];
        let mut failures = self
            .outcome
            .requests
            .iter()
            .filter(|record| record.request.user.name == CONTROLLER && transient.contains(&record.code));
        let first = failures.next().map_or(Duration::MAX, |record| {
            Duration::try_from(record.at.duration_since(began)).unwrap_or_default()
        });
        let gave_up =
            |object: &Value| text(&object["status"]["message"]).starts_with("validation got no answer");
        let too_soon = |life: &&Life<'_>| {
            life.first(gave_up)
                .is_some_and(|state| state.at < first.saturating_add(BUDGET))
        };
        let names: Vec<String> = self
            .executions
            .values()
            .filter(too_soon)
            .map(Life::name)
            .collect();
        for name in names {
            self.wrong(
                "I17",
                &format!("{name} gave its validation up before the API server had been silent for long"),
            );
        }
    }

    /// I2: what was sent and never answered may still take effect: no execution ends before that is out of the question.
    pub(super) fn no_job_comes_after_the_end(&mut self) {
        if self.outruns_what_is_under_way() {
            return;
        }
        let mut found = Vec::new();
        for job in self.jobs.values() {
            let born = job.born();
            let Some(execution) = self.executions.get(label(&born.object, EXECUTION)) else {
                continue;
            };
            let ended = execution.first(|object| {
                let status = &object["status"];
                ["completed", "failed"].contains(&text(&status["phase"]))
                    && !text(&status["message"]).contains("could not be confirmed stopped")
            });
            let over =
                |state: &Committed| state.author.as_ref() == CONTROLLER && state.revision < born.revision;
            if ended.is_some_and(over) {
                found.push(format!(
                    "{} was made after {} had ended",
                    job.name(),
                    execution.name()
                ));
            }
        }
        for what in found {
            self.wrong("I2", &what);
        }
    }
}
