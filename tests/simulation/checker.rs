//! What must hold of every run, read from the record of writes. The numbers are those of the guarantees.

mod approval;
mod control;
mod jobs;
mod limit;
mod others;
mod waits;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use embedded_cluster::Committed;
use kubernaut::rehearsal::simulation::{CONTROLLER, Outcome, PlannedFault, Scenario};
use serde_json::Value;

use self::jobs::is_dry_run;
use crate::history::{Life, Lives, has_condition, items, label, lives, owner, seconds, text};

/// How long a controller may act on what it has not heard of yet: watches lag, and calls are answered late.
const HEARSAY: Duration = Duration::from_secs(60);
/// The label by which a Job names its execution.
const EXECUTION: &str = "kubernaut.io/execution-uid";

pub(crate) struct Checker<'a> {
    outcome: &'a Outcome,
    plan: &'a [PlannedFault],
    max_running_jobs: usize,
    workflows: Lives<'a>,
    executions: Lives<'a>,
    approvals: Lives<'a>,
    jobs: Lives<'a>,
    pods: Lives<'a>,
    found: Vec<String>,
}

/// What did not hold of a scenario's run.
pub(crate) fn check(outcome: &Outcome, scenario: &Scenario) -> Vec<String> {
    let record = &outcome.record;
    let mut checker = Checker {
        outcome,
        plan: &scenario.plan,
        max_running_jobs: scenario.options.max_running_jobs,
        workflows: lives(record, "WorkflowExecution"),
        executions: lives(record, "KubernetesExecution"),
        approvals: lives(record, "Approval"),
        jobs: lives(record, "Job"),
        pods: lives(record, "Pod"),
        found: Vec::new(),
    };
    checker
        .jobs
        .retain(|_, job| job.born().author.as_ref() == CONTROLLER);
    checker.one_job_an_attempt();
    checker.jobs_are_due();
    checker.nothing_works_after_the_end();
    checker.executions_go_their_way();
    checker.one_at_a_target();
    checker.workflows_end_with_reasons();
    checker.nothing_is_left();
    checker.the_end_is_quiet();
    checker.secrets_stay_where_they_are();
    checker.faults_of_calls_change_nothing();
    checker.what_strangers_make_stays_theirs();
    checker.only_who_leads_writes();
    checker.what_is_gone_is_noticed();
    checker.calls_are_few();
    checker.everything_says_what_it_waits_for();
    checker.no_more_jobs_run_than_may();
    checker.what_has_begun_has_its_place();
    checker.validation_is_given_up_for_silence_alone();
    checker.no_job_comes_after_the_end();
    checker.people_are_heard();
    checker.what_cleans_up_runs();
    checker.undoing_is_in_order();
    checker.no_step_is_forgotten();
    checker.all_that_was_undone_is_as_before();
    checker.what_others_changed_stays();
    checker.undos_give_back_what_was_there();
    checker.nothing_runs_unapproved();
    checker.found
}

impl Checker<'_> {
    pub(crate) fn wrong(&mut self, invariant: &str, what: &str) {
        self.found.push(format!("{invariant}: {what}"));
    }

    fn must(&mut self, holds: bool, invariant: &str, what: impl FnOnce() -> String) {
        if !holds {
            self.wrong(invariant, &what());
        }
    }

    /// I2 (their number), I7, I8, I19.
    fn executions_go_their_way(&mut self) {
        let mut found = Vec::new();
        for (uid, execution) in &self.executions {
            let name = execution.name();
            let mut before: Vec<String> = Vec::new();
            let mut times: BTreeMap<String, String> = BTreeMap::new();
            for state in &execution.states {
                let status = &state.object["status"];
                let phases: Vec<String> = items(&status["phaseTransitions"])
                    .map(|phase| text(&phase["phase"]).to_owned())
                    .collect();
                if !phases.starts_with(&before) {
                    found.push(("I7", format!("{name} went from {before:?} to {phases:?}")));
                }
                for pair in phases.windows(2) {
                    if !follows(&pair[0], &pair[1]) {
                        found.push(("I7", format!("{name} went from {} to {}", pair[0], pair[1])));
                    }
                }
                if phases.last().map_or("", String::as_str) != text(&status["phase"]) {
                    found.push(("I7", format!("{name} is {} after {phases:?}", status["phase"])));
                }
                before = phases;
                for condition in items(&status["conditions"]) {
                    let time = text(&condition["lastTransitionTime"]).to_owned();
                    let kind = text(&condition["type"]).to_owned();
                    if times.get(&kind).is_some_and(|last| *last > time) {
                        found.push(("I7", format!("{name}: the time of {kind} went back")));
                    }
                    times.insert(kind, time);
                }
            }
            found.extend(self.attempts_are_few(execution));
            found.extend(self.the_end_has_its_cause(uid, execution));
        }
        for workflow in self.workflows.values() {
            let mut before: Vec<String> = Vec::new();
            for state in &workflow.states {
                let phases: Vec<String> = items(&state.object["status"]["phaseTransitions"])
                    .map(|phase| text(&phase["phase"]).to_owned())
                    .collect();
                if !phases.starts_with(&before) {
                    found.push((
                        "I7",
                        format!("{} went from {before:?} to {phases:?}", workflow.name()),
                    ));
                }
                for pair in phases.windows(2) {
                    if !workflow_follows(&pair[0], &pair[1]) {
                        found.push((
                            "I7",
                            format!("{} went from {} to {}", workflow.name(), pair[0], pair[1]),
                        ));
                    }
                }
                before = phases;
            }
        }
        for (invariant, what) in found {
            self.wrong(invariant, &what);
        }
    }

    fn attempts_are_few(&self, execution: &Life<'_>) -> Option<(&'static str, String)> {
        let object = execution.last();
        let attempts: Vec<&Value> = items(&object["status"]["attempts"])
            .filter(|attempt| attempt["attempt"] != 0)
            .collect();
        let free = attempts
            .iter()
            .filter(|attempt| attempt["outcome"] == "evicted")
            .count()
            .min(3);
        let refused = attempts
            .iter()
            .filter(|attempt| text(&attempt["message"]).contains("disruption budget"))
            .count();
        let allowed = 1 + usize::try_from(object["spec"]["maxRetries"].as_u64().unwrap_or(0)).unwrap_or(0);
        let many = attempts.len() > allowed + free + refused;
        let writes = execution
            .states
            .iter()
            .filter(|state| state.author.as_ref() == CONTROLLER)
            .count();
        if many {
            return Some((
                "I2",
                format!(
                    "{} had {} attempts of {allowed}",
                    execution.name(),
                    attempts.len()
                ),
            ));
        }
        let most = 6 + 3 * attempts.len() + 3 * self.plan.len();
        (writes > most).then(|| ("I19", format!("{} was written {writes} times", execution.name())))
    }

    /// I8.
    fn the_end_has_its_cause(&self, uid: &str, execution: &Life<'_>) -> Option<(&'static str, String)> {
        let end =
            execution.first(|object| ["completed", "failed"].contains(&text(&object["status"]["phase"])))?;
        let status = &end.object["status"];
        if status["phase"] == "failed" {
            let said = !text(&status["failureReason"]).is_empty() && !text(&status["errorType"]).is_empty();
            return (!said).then(|| ("I8", format!("{} failed without a reason", execution.name())));
        }
        let mut jobs = self
            .jobs
            .iter()
            .filter(|(_, job)| label(&job.born().object, EXECUTION) == uid);
        let succeeded = jobs.any(|(job_uid, job)| {
            let complete = job
                .at(end.revision)
                .is_some_and(|job| has_condition(job, "Complete"));
            let pod = self.pods.values().any(|pod| {
                owner(&pod.born().object) == *job_uid
                    && pod
                        .first(|pod| pod["status"]["phase"] == "Succeeded")
                        .is_some_and(|state| state.revision < end.revision)
            });
            complete || pod
        });
        if !self.effect_was_there(execution, end.revision) {
            return Some(("I8", format!("{} completed without its effect", execution.name())));
        }
        let verified = has_condition(&end.object, "OutcomeVerified");
        (!(succeeded || verified)).then(|| ("I8", format!("{} completed without a cause", execution.name())))
    }

    /// Whether the target was as wanted at some time until then.
    fn effect_was_there(&self, execution: &Life<'_>, revision: u64) -> bool {
        if is_dry_run(&execution.born().object) {
            return true;
        }
        let wanted = &execution.born().object["spec"]["parameters"];
        let Some((member, wanted)) = wanted.as_object().and_then(|members| members.iter().next()) else {
            return false;
        };
        let (kind, name) = match member.as_str() {
            "scaleDeployment" => ("Deployment", &wanted["deployment"]),
            "updateConfigMap" => ("ConfigMap", &wanted["configMap"]),
            "updateSecret" => ("Secret", &wanted["secret"]),
            "cordonNode" | "uncordonNode" => ("Node", &wanted["node"]),
            _ => return true,
        };
        let written = self
            .outcome
            .record
            .iter()
            .filter(|commit| commit.revision <= revision);
        let states = written.map(|commit| &commit.object).chain(&self.outcome.before);
        states
            .filter(|object| object["kind"] == kind && object["metadata"]["name"] == *name)
            .any(|object| match member.as_str() {
                "scaleDeployment" => object["spec"]["replicas"] == wanted["replicas"],
                "cordonNode" => object["spec"]["unschedulable"] == true,
                "uncordonNode" => object["spec"]["unschedulable"] != true,
                _ => {
                    let mut keys = wanted["data"].as_object().into_iter().flatten();
                    keys.all(|(key, value)| object["data"][key] == *value)
                }
            })
    }

    /// I2: two executions never work on one target.
    fn one_at_a_target(&mut self) {
        let mut working: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut found = Vec::new();
        let executions = self
            .outcome
            .record
            .iter()
            .filter(|commit| commit.object["kind"] == "KubernetesExecution");
        for Committed { object, deleted, .. } in executions {
            let (target, uid) = (
                text(&object["status"]["targetName"]),
                text(&object["metadata"]["uid"]),
            );
            if target.is_empty() {
                continue;
            }
            let holders = working.entry(target.to_owned()).or_default();
            let works =
                !deleted && ["executing", "rollback_ready"].contains(&text(&object["status"]["phase"]));
            if !works {
                holders.remove(uid);
            } else if holders.insert(uid.to_owned()) && holders.len() > 1 {
                found.push(format!("{} executions work on {target}", holders.len()));
            }
        }
        for what in found {
            self.wrong("I2", &what);
        }
    }

    /// I4, I17.
    fn workflows_end_with_reasons(&mut self) {
        // What waits says for what: a target, say, that is locked until a lost pod is gone.
        let says_why = |life: &Life<'_>| {
            let status = &life.last()["status"];
            let waits = ["waits: ", "running: ", "undoing step ", "paused by ", "dry run: "]
                .iter()
                .any(|words| text(&status["message"]).starts_with(words));
            life.gone().is_some() || ["completed", "failed"].contains(&text(&status["phase"])) || waits
        };
        let ended = self.outcome.ended.is_some()
            || self
                .workflows
                .values()
                .chain(self.executions.values())
                .all(says_why)
                && (self.is_refused_for_ever()
                    || self.outcome.objects.iter().any(|object| {
                        text(&object["status"]["message"]).contains("could not be confirmed stopped")
                    })
                    // Its execution may be gone, and then nothing else tells of it.
                    || self.outcome.objects.iter().any(|object| is_lost_pod(object)))
            || self.is_refused_for_now();
        let last: Vec<String> = self
            .workflows
            .values()
            .chain(self.executions.values())
            .filter(|life| life.gone().is_none())
            .map(|life| {
                format!(
                    "{}: {} {}",
                    life.name(),
                    life.last()["status"]["phase"],
                    life.last()["status"]["message"]
                )
            })
            .collect();
        self.must(ended, "I17", || format!("not everything ended: {last:#?}"));
        let mut found = Vec::new();
        for (uid, workflow) in &self.workflows {
            let status = &workflow.last()["status"];
            if status["phase"] == "failed" && text(&status["failureReason"]).is_empty() {
                found.push(format!("{} failed without a reason", workflow.name()));
            }
            if status["phase"] != "completed" {
                continue;
            }
            let critical = |number: &Value| {
                items(&workflow.born().object["spec"]["workflowDefinition"]["steps"])
                    .any(|step| step["stepNumber"] == *number && step["criticalStep"] == true)
            };
            for step in items(&status["stepStatuses"]) {
                if step["status"] == "failed" && critical(&step["stepNumber"]) {
                    found.push(format!(
                        "{} completed although a critical step failed",
                        workflow.name()
                    ));
                }
                let number = &step["stepNumber"];
                let said = !text(&step["errorMessage"]).is_empty()
                    || !text(&step["skipReason"]).is_empty()
                    || !text(&step["reason"]).is_empty();
                match text(&step["status"]) {
                    "completed" => {
                        let done = self.executions.values().any(|execution| {
                            owner(&execution.born().object) == *uid
                                && execution.born().object["spec"]["stepNumber"] == *number
                                && !is_dry_run(&execution.born().object)
                                && execution
                                    .first(|object| object["status"]["phase"] == "completed")
                                    .is_some()
                        });
                        if !done {
                            found.push(format!(
                                "step {number} of {} completed, its execution did not",
                                workflow.name()
                            ));
                        }
                    }
                    "failed" | "skipped" if !said => {
                        found.push(format!("step {number} of {}: {step}", workflow.name()));
                    }
                    "failed" | "skipped" => {}
                    other => found.push(format!("step {number} of {} is {other}", workflow.name())),
                }
            }
        }
        for what in found {
            self.wrong("I4", &what);
        }
    }

    /// I21.
    fn nothing_is_left(&mut self) {
        let mut found = Vec::new();
        let gone: Vec<&str> = self
            .executions
            .iter()
            .filter(|(_, life)| life.gone().is_some())
            .map(|(uid, _)| *uid)
            .collect();
        // What the API server never answers nobody can clear away.
        if self.is_refused_for_ever() {
            return;
        }
        // Of an execution that somebody takes away with its finalizer while no controller looks, nothing says that there was a
        // payload before its Job was made.
        let vanished_unseen = self.strips_finalizers()
            && self.plan.iter().any(|planned| {
                matches!(
                    planned,
                    PlannedFault::Crash { .. } | PlannedFault::Partition { .. }
                )
            });
        for object in &self.outcome.objects {
            let of_gone = gone.contains(&label(object, EXECUTION)) && !self.is_strangers(object);
            // A pod of a lost node is kept by nobody but the node.
            let lost = object["kind"] == "Pod" && !object["metadata"]["deletionTimestamp"].is_null();
            if of_gone && !lost && !(vanished_unseen && object["kind"] == "Secret") {
                let holds_on = self.plan.iter().any(|planned| {
                    matches!(
                        planned,
                        PlannedFault::Pod {
                            script: embedded_cluster::PodScript::Lost,
                            ..
                        }
                    )
                });
                if !holds_on {
                    found.push(format!(
                        "{} {} is left of an execution that is gone",
                        object["kind"], object["metadata"]["name"]
                    ));
                }
            }
            let kind = text(&object["kind"]);
            // What it waits for it has to say.
            let waits = text(&object["status"]["message"]).starts_with("waits: ");
            if ["WorkflowExecution", "KubernetesExecution"].contains(&kind)
                && !object["metadata"]["deletionTimestamp"].is_null()
                && !waits
            {
                found.push(format!(
                    "{kind} {} hangs in its deletion",
                    object["metadata"]["name"]
                ));
            }
            // One that waits for the end of a pod needs it as long.
            let in_use = || {
                self.outcome.objects.iter().any(|other| {
                    other["metadata"]["uid"] == label(object, EXECUTION)
                        && text(&other["status"]["message"]).starts_with("waits: ")
                })
            };
            if kind == "Secret"
                && object["metadata"]["namespace"] == "kubernaut-executor"
                && !in_use()
                && !vanished_unseen
                && !(self.outruns_what_is_under_way() && self.came_after_its_attempt(object))
            {
                found.push(format!("payload {} is left", object["metadata"]["name"]));
            }
        }
        for what in found {
            self.wrong("I21", &what);
        }
    }

    /// Whether a payload was made when the end of its attempt was recorded.
    fn came_after_its_attempt(&self, payload: &Value) -> bool {
        let uid = &payload["metadata"]["uid"];
        let born = self
            .outcome
            .record
            .iter()
            .find(|state| state.object["metadata"]["uid"] == *uid);
        let execution = self.executions.get(label(payload, EXECUTION));
        let ended = execution.and_then(|execution| {
            execution.first(|object| {
                items(&object["status"]["attempts"]).any(|attempt| {
                    attempt["jobName"] == payload["metadata"]["name"] && !attempt["outcome"].is_null()
                })
            })
        });
        born.zip(ended)
            .is_some_and(|(born, ended)| born.revision > ended.revision)
    }

    /// I18.
    fn the_end_is_quiet(&mut self) {
        if self.outcome.ended.is_none() {
            return;
        }
        let late: Vec<String> = self
            .outcome
            .record
            .iter()
            .filter(|commit| {
                commit.revision > self.outcome.quiet_from
                    && commit.author.as_ref() == CONTROLLER
                    && commit.object["kind"] != "Lease"
                    && !self.clears_away(commit)
            })
            .map(|commit| {
                format!(
                    "{} {} at {}",
                    commit.object["kind"],
                    commit.object["metadata"]["name"],
                    seconds(commit.at)
                )
            })
            .collect();
        self.must(late.is_empty(), "I18", || {
            format!("written for no reason: {late:?}")
        });
    }

    /// Whether a controller deletes a Job or its payload whose execution somebody took away while nobody led: as soon as
    /// it may write.
    fn clears_away(&self, commit: &Committed) -> bool {
        let execution = self.executions.get(label(&commit.object, EXECUTION));
        let taken = execution
            .and_then(Life::gone)
            .is_some_and(|gone| gone.author.as_ref() != CONTROLLER && gone.revision < commit.revision);
        let first_write = self
            .outcome
            .record
            .iter()
            .find(|other| other.author.as_ref() == CONTROLLER && other.session == commit.session);
        let is_new = first_write
            .is_some_and(|first| first.revision > self.outcome.quiet_from && commit.at <= first.at + HEARSAY);
        let leaves = commit.deleted || !commit.object["metadata"]["deletionTimestamp"].is_null();
        ["Job", "Secret"].contains(&text(&commit.object["kind"])) && leaves && taken && is_new
    }

    /// I22.
    fn secrets_stay_where_they_are(&mut self) {
        let mut found = BTreeSet::new();
        for commit in &self.outcome.record {
            let kind = text(&commit.object["kind"]);
            let spec_may = ["WorkflowExecution", "KubernetesExecution"].contains(&kind);
            let text = if spec_may {
                commit.object["status"].to_string()
            } else if kind == "Secret" {
                continue;
            } else {
                commit.object.to_string()
            };
            if crate::worlds::PLANTED
                .iter()
                .any(|planted| text.contains(planted))
            {
                found.insert(format!(
                    "{kind} {} shows a secret value",
                    commit.object["metadata"]["name"]
                ));
            }
        }
        for what in found {
            self.wrong("I22", &what);
        }
    }

    /// I24: what only delays or repeats calls leads to the same end and the same effects.
    fn faults_of_calls_change_nothing(&mut self) {
        let only_calls = self.plan.iter().all(|planned| {
            matches!(
                planned,
                PlannedFault::Call { .. }
                    | PlannedFault::Crash { .. }
                    | PlannedFault::CutWatches { .. }
                    | PlannedFault::LaggingWatch { .. }
            )
        });
        // A Job that was not seen for a minute counts as lost, as docs/executions.md wants it.
        let blind = self.blind_time();
        if !only_calls || self.outcome.ended.is_none() || blind > Duration::from_secs(50) {
            return;
        }
        let mut found = Vec::new();
        for workflow in self.workflows.values() {
            let status = &workflow.last()["status"];
            // A dry run has half a minute, whatever keeps its Job from being made.
            let ran_out = text(&status["message"]).contains("s of a dry run");
            let steps = &workflow.born().object["spec"]["workflowDefinition"]["steps"];
            let shall_fail = items(steps).any(|step| step["name"] == "fails");
            if shall_fail {
                continue;
            }
            if status["workflowResult"]["outcome"] != "success" && !ran_out {
                found.push(format!(
                    "{} ended otherwise than without faults: {}",
                    workflow.name(),
                    status["message"]
                ));
            }
        }
        for execution in self.executions.values() {
            let attempts = items(&execution.last()["status"]["attempts"]).count();
            if attempts > 1 {
                found.push(format!("{} took {attempts} attempts", execution.name()));
            }
        }
        for what in found {
            self.wrong("I24", &what);
        }
    }
}

fn follows(before: &str, after: &str) -> bool {
    match before {
        "validating" => ["validated", "failed"].contains(&after),
        "validated" => ["waiting_approval", "executing", "completed", "failed"].contains(&after),
        "waiting_approval" => ["validated", "executing", "failed"].contains(&after),
        "executing" => ["rollback_ready", "failed"].contains(&after),
        "rollback_ready" => ["completed", "failed", "executing"].contains(&after),
        _ => false,
    }
}

fn workflow_follows(before: &str, after: &str) -> bool {
    match before {
        "planning" => ["validating", "failed"].contains(&after),
        "validating" => ["executing", "failed"].contains(&after),
        "executing" => ["monitoring", "rolling_back", "paused", "failed"].contains(&after),
        "paused" => ["executing", "rolling_back", "monitoring", "failed"].contains(&after),
        "rolling_back" => after == "failed",
        "monitoring" => ["completed", "rolling_back"].contains(&after),
        _ => false,
    }
}

/// A pod of the executor that was told to go, and does not.
fn is_lost_pod(object: &Value) -> bool {
    object["kind"] == "Pod"
        && object["metadata"]["namespace"] == "kubernaut-executor"
        && !object["metadata"]["deletionTimestamp"].is_null()
}
